r"""The same tensor operations again, without the Python that chose them.

A training step of this paper's small networks is a hundred tensor operations, and up to a third
of its time goes elsewhere: into Python, automatic differentiation, and asking for memory. All of
that comes out the same at every step. So one step is run as it is written, and each operation is
noted with the memory that it reads and writes; from then on the notes are played back. They are
the same operations on the same numbers in the same order, so the result is equal bit for bit.

It is what a CUDA graph does, on a CPU. On a GPU the notes become CUDA graphs: then neither Python
nor the launch of each operation costs anything, and many runs share the device.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map_only

__all__ = ["Recording", "record"]

TELLING_PYTHON = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)
"""Marks of operations that give Python a tensor's value, or a size that depends on it."""
ASKING_FOR_MEMORY = ("aten::empty", "aten::empty_like", "aten::empty_strided", "aten::new_empty")
ASKING_FOR_A_SHAPE = ("aten::ones_like", "aten::zeros_like", "aten::full_like", "aten::new_zeros")
"""These read a tensor's shape, and not its values."""
ROUNDS = 20
"""Repetitions in the longer of the two CUDA graphs of a step."""
COPYING = ("aten::_to_copy", "aten::clone")
OF_A_NEW_TENSOR = ("dtype", "layout", "device", "pin_memory")
"""What an operation that makes a tensor is told, and one that fills a tensor is not."""


class Recording:
    """A step that can be repeated.

    Attributes:
        result: What the step returned. Each repetition writes its tensors anew.
        obstacle: Why the step cannot be repeated; empty if it can.
        operations: How many a silent repetition does.
    """

    def __init__(self, result: Any, calls: Sequence[Any], looked: Sequence[Any], obstacle: str):
        self.result = result
        self.obstacle = obstacle
        kept, looking = _changing([*calls, *looked]), {id(call) for call in looked}
        silent = [call for call in kept if id(call) not in looking]
        silent = _needed(silent, set())
        self.operations = len(silent)
        self._whole = _played(_needed(kept, {_memory(tensor) for tensor in _tensors(result)}))
        self._silent = _played(silent)

    def repeat(self, times: int = 1, *, silently: bool = False) -> None:
        """Do the step again.

        Args:
            times: How often.
            silently: Do not look, and leave out what only the result needs. Its tensors then
                keep old values.

        Raises:
            RuntimeError: If the step cannot be repeated.
        """
        if self.obstacle:
            raise RuntimeError(f"step: expected one that can be repeated, but {self.obstacle}")
        (self._silent if silently else self._whole)(times)


def record(step: Callable[[], Any], look: Callable[[Any], None] | None = None) -> Recording:
    """Do a step, and note its operations.

    Args:
        step: It changes its state in place, and chooses its operations without looking at the
            values of tensors. What it reads from outside (parameters, a data set, generators)
            is read from the same memory at each repetition.
        look: What is done with the step's result, by tensor operations, unless it is repeated
            silently.

    Returns:
        The recording. The step itself has been done once, whether or not it can be repeated.
    """
    recorder = _Recorder()
    with recorder:
        result = step()
        taken = len(recorder.calls)
        if look is not None:
            look(result)
    return Recording(result, recorder.calls[:taken], recorder.calls[taken:], recorder.obstacle)


class _Call(NamedTuple):
    """One operation, written so that its result lands where it first did."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    reads: frozenset[int]
    writes: frozenset[int]
    in_place: bool
    lasting: bool
    """Whether its effect outlives the step: it moves a generator on, or writes to memory that was
    there before."""


class _Recorder(TorchDispatchMode):
    """Sees each operation, below automatic differentiation."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[_Call] = []
        self.own: set[int] = set()  # the memory that the step itself asked for
        self.seen: list[Any] = []  # kept, so that no memory is given out twice
        self.obstacle = ""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        made = function(*args, **kwargs)
        if any(tag in function.tags for tag in TELLING_PYTHON):
            self.obstacle = self.obstacle or f"{function} shows Python what is in a tensor"
        # Aliases: a second reference to the tensor itself would make automatic differentiation
        # copy a gradient that it can keep.
        args, kwargs, results = tree_map_only(Tensor, Tensor.detach, (args, kwargs, made))
        self.seen.append((args, kwargs, results))
        self._note(function, args, kwargs, _tensors(results))
        return made

    def _note(
        self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], results: list[Tensor]
    ) -> None:
        schema = function._schema
        reads = {_memory(tensor) for tensor in _tensors((args, kwargs))}
        if schema.is_mutable:
            writes = {_memory(tensor) for tensor in _written(schema, args, kwargs)}
            call = function._op, args, kwargs
        else:
            writes = {_memory(tensor) for tensor in results} - reads
            self.own |= writes
            if not writes or schema.name in ASKING_FOR_MEMORY:
                return  # nothing is computed: it shows the same memory again
            call = _into(function, args, kwargs, results)
        if schema.name in ASKING_FOR_A_SHAPE:
            reads = set()
        random = torch.Tag.nondeterministic_seeded in function.tags
        lasting = random or not writes <= self.own
        read, written = frozenset(reads), frozenset(writes)
        self.calls.append(_Call(*call, read, written, schema.is_mutable, lasting))


def _into(
    function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], results: list[Tensor]
) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """The call that writes an operation's results into given tensors."""
    if function._schema.name in COPYING:
        return torch.ops.aten.copy_.default._op, (results[0], args[0]), {}
    inputs = [(a.name, str(a.type)) for a in function._schema.arguments]
    filling = [pair for pair in inputs if pair[0] not in OF_A_NEW_TENSOR]
    packet = function.overloadpacket
    for variant in (getattr(packet, overload) for overload in packet.overloads()):
        outs = [a.name for a in variant._schema.arguments if a.is_out]
        ins = [(a.name, str(a.type)) for a in variant._schema.arguments if not a.is_out]
        if len(outs) == len(results) and ins in (inputs, filling):
            given = {key: value for key, value in kwargs.items() if key in dict(ins)}
            return variant._op, args, given | dict(zip(outs, results, strict=True))

    def copy_one(*args: Any, **kwargs: Any) -> None:
        results[0].copy_(function(*args, **kwargs))

    def copy(*args: Any, **kwargs: Any) -> None:
        for result, value in zip(results, _tensors(function(*args, **kwargs)), strict=True):
            result.copy_(value)

    return copy_one if len(results) == 1 else copy, args, kwargs


def _played(calls: Sequence[_Call]) -> Callable[[int], None]:
    """What makes the calls, a given number of times: by CUDA graphs where they are on a GPU."""

    def play(times: int) -> None:
        for _ in range(times):
            for call in calls:
                call.function(*call.arguments, **call.keywords)

    given = [(call.arguments, call.keywords) for call in calls]
    if not any(tensor.is_cuda for tensor in _tensors(given)):
        return play
    generators = {leaf for leaf in tree_iter(given) if isinstance(leaf, torch.Generator)}
    graphs: dict[int, torch.cuda.CUDAGraph] = {}

    def replay(times: int) -> None:
        for rounds in (ROUNDS, 1):
            often, times = divmod(times, rounds)
            if often and rounds not in graphs:
                graphs[rounds] = torch.cuda.CUDAGraph()
                for generator in generators:
                    graphs[rounds].register_generator_state(generator)
                # On the run's own stream: the workspace of matrix products belongs to a stream.
                with torch.cuda.graph(graphs[rounds], stream=torch.cuda.current_stream()):
                    play(rounds)
            for _ in range(often):
                graphs[rounds].replay()

    return replay


def _changing(calls: Sequence[_Call]) -> list[_Call]:
    """The calls but for those that write the same numbers each time: what they wrote is there."""
    changed = {memory for call in calls if call.in_place or call.lasting for memory in call.writes}
    fixed: set[int] = set()
    kept = []
    for call in calls:
        if call.reads <= fixed and not call.writes & changed:
            fixed |= call.writes
        else:
            kept.append(call)
    return kept


def _needed(calls: Sequence[_Call], shown: set[int]) -> list[_Call]:
    """The calls with a lasting effect, or one on the memory that is shown, and what they need."""
    needed, kept = set(shown), []
    for call in reversed(calls):
        if call.lasting or call.writes & needed:
            needed |= call.reads
            kept.append(call)
    return kept[::-1]


def _written(schema: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """The tensors that an operation changes."""
    names = [argument.name for argument in schema.arguments]
    given = dict(zip(names, args, strict=False)) | kwargs
    return _tensors(
        [
            given.get(argument.name)
            for argument in schema.arguments
            if argument.alias_info is not None and argument.alias_info.is_write
        ]
    )


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_iter(tree) if isinstance(leaf, Tensor)]


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
