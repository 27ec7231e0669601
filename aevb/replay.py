r"""The same tensor operations again, without the Python that chose them.

A training step of this paper's small networks is a hundred tensor operations, and up to a third
of its time goes elsewhere: into Python, automatic differentiation, and asking for memory. All of
that comes out the same at every step. So one step is run as it is written, and each operation is
noted with the memory that it reads and writes; from then on the notes are played back. They are
the same operations on the same numbers in the same order, so the result is equal bit for bit.

It is what a CUDA graph does, on a CPU. On a GPU the notes become CUDA graphs: then neither Python
nor the launch of each operation costs anything, and what does not depend on each other is done at
the same time.
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
LANES = 16
"""How many operations of a CUDA graph may be done at the same time."""
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


class _Place(NamedTuple):
    """Bytes of some memory."""

    memory: int
    begin: int
    end: int


class _Call(NamedTuple):
    """One operation, written so that its result lands where it first did."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    read_from: tuple[_Place, ...]
    written_to: tuple[_Place, ...]
    reads: frozenset[int]
    """The memory that the operation reads, and not its shape alone."""
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
        inputs = _tensors((args, kwargs))
        reads = {_memory(tensor) for tensor in inputs}
        if schema.is_mutable:
            outputs = _written(schema, args, kwargs)
            call = function._op, args, kwargs
        else:
            outputs = [tensor for tensor in results if _memory(tensor) not in reads]
            self.own |= {_memory(tensor) for tensor in outputs}
            if not outputs or schema.name in ASKING_FOR_MEMORY:
                return  # nothing is computed: it shows the same memory again
            call = _into(function, args, kwargs, results)
        if schema.name in ASKING_FOR_A_SHAPE:
            inputs, reads = [], set()
        writes = {_memory(tensor) for tensor in outputs}
        random = torch.Tag.nondeterministic_seeded in function.tags
        lasting = random or not writes <= self.own
        places = tuple(map(_place, inputs)), tuple(map(_place, outputs))
        memory = frozenset(reads), frozenset(writes)
        self.calls.append(_Call(*call, *places, *memory, schema.is_mutable, lasting))


def _into(
    function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], results: list[Tensor]
) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """The call that writes an operation's results into given tensors."""
    if function._schema.name in COPYING:
        return torch.ops.aten.copy_.default._op, (results[0], args[0]), {}
    inputs = [(a.name, str(a.type)) for a in function._schema.arguments]
    filling = [pair for pair in inputs if pair[0] not in OF_A_NEW_TENSOR]
    packet = getattr(torch.ops.aten, function._schema.name.removeprefix("aten::"))
    for variant in (getattr(packet, overload) for overload in packet.overloads()):
        outs = [a.name for a in variant._schema.arguments if a.is_out]
        ins = [(a.name, str(a.type)) for a in variant._schema.arguments if not a.is_out]
        if len(outs) == len(results) and ins in (inputs, filling):
            given = {key: value for key, value in kwargs.items() if key in dict(ins)}
            return variant._op, args, given | dict(zip(outs, results, strict=True))

    def copy(*args: Any, **kwargs: Any) -> None:
        for result, value in zip(results, _tensors(function(*args, **kwargs)), strict=True):
            result.copy_(value)

    return copy, args, kwargs


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
                graphs[rounds] = _graph(calls, rounds, generators)
            for _ in range(often):
                graphs[rounds].replay()

    return replay


def _graph(
    calls: Sequence[_Call], rounds: int, generators: set[torch.Generator]
) -> torch.cuda.CUDAGraph:
    """The calls, so many times, on several streams."""
    graph, repeated = torch.cuda.CUDAGraph(), [*calls] * rounds
    for generator in generators:
        graph.register_generator_state(generator)
    # The workspace of matrix products belongs to a stream, and streams are shared by all runs.
    torch._C._cuda_clearCublasWorkspaces()
    first = torch.cuda.current_stream()
    streams = [first, *(torch.cuda.Stream() for _ in range(LANES - 1))]
    with torch.cuda.graph(graph, stream=first):
        for stream in streams[1:]:
            stream.wait_stream(first)
        done: list[torch.cuda.Event] = []
        for call, (lane, earlier) in zip(repeated, _lanes(repeated), strict=True):
            with torch.cuda.stream(streams[lane]):
                for place in earlier:
                    streams[lane].wait_event(done[place])
                call.function(*call.arguments, **call.keywords)
                done.append(streams[lane].record_event())
        for stream in streams[1:]:
            first.wait_stream(stream)
    torch._C._cuda_clearCublasWorkspaces()  # they are the graph's from now on
    return graph


def _lanes(calls: Sequence[_Call]) -> list[tuple[int, list[int]]]:
    """For each call its lane, and the calls on other lanes that it has to wait for.

    It has to come after those that wrote what it reads or writes, and those that read what it
    writes. Calls on one lane are done one after the other.
    """
    plan: list[tuple[int, list[int]]] = []
    last = [-1] * LANES  # the latest call on each lane
    over: list[list[int]] = []  # for each call, the latest on each lane that ended before it began
    uses: dict[int, list[tuple[_Place, int, bool]]] = {}
    for number, call in enumerate(calls):
        touched = [(place, False) for place in call.read_from]
        touched += [(place, True) for place in call.written_to]
        earlier = {
            user
            for place, writing in touched
            for used, user, written in uses.get(place.memory, [])
            if (writing or written) and used.begin < place.end and place.begin < used.end
        }
        following = [lane for lane in range(LANES) if last[lane] in earlier]
        lane = max(following, key=last.__getitem__, default=last.index(min(last)))
        ended, waits = [-1] * LANES, []
        for user in sorted(earlier | {last[lane]} - {-1}, reverse=True):
            where = plan[user][0]
            if ended[where] < user:  # else another one that it waits for came after this
                ended = list(map(max, ended, over[user]))
                ended[where] = user
                waits += [user] if where != lane else []
        plan.append((lane, waits))
        over.append(ended)
        last[lane] = number
        for place, writing in touched:
            before = uses.setdefault(place.memory, [])
            if writing:  # who waits for this call waits for all that it waited for
                before[:] = [use for use in before if not _within(use[0], place)]
            before.append((place, number, writing))
    return plan


def _within(inner: _Place, outer: _Place) -> bool:
    return outer.begin <= inner.begin and inner.end <= outer.end


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


def _place(tensor: Tensor) -> _Place:
    """From a tensor's first byte to its last."""
    begin, end = int(tensor.storage_offset()), int(tensor.storage_offset())
    if tensor.numel():
        steps = zip(tensor.shape, tensor.stride(), strict=True)
        end += 1 + sum((size - 1) * stride for size, stride in steps)
    return _Place(_memory(tensor), begin * tensor.element_size(), end * tensor.element_size())
