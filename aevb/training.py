r"""One training loop for every algorithm.

It repeats an algorithm's ``step``, evaluates on a fixed schedule of *training samples
evaluated* (the paper's horizontal axis), and keeps the history of what it saw.
"""

import contextlib
import math
import time
from collections import namedtuple
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_iter
from tqdm import tqdm

from aevb import checkpoint as checkpoints
from aevb import estimators, replay
from aevb.models import LatentVariableModel

__all__ = [
    "DivergenceError",
    "History",
    "at",
    "lower_bound",
    "schedule",
    "stages",
    "together",
    "train",
]

RUNNING_WINDOW = 200_000
"""Samples in the running mean of the train curve at most: the paper logged about this often."""

GUARD_INTERVAL = 1_000
"""Steps between two checks that the bound is still a number."""

TURN = 2 * replay.ROUNDS
"""Steps between two pauses. A GPU's queue is short: who adds more waits, and so do the others."""


class DivergenceError(RuntimeError):
    """The bound, or what else is maximized, is no longer a finite number."""


@dataclass
class History:
    """What training saw: the samples evaluated so far, and each curve's value there (nats)."""

    samples: list[int] = field(default_factory=list)
    curves: dict[str, list[float]] = field(default_factory=dict)
    wall_seconds: float = 0.0

    def append(self, samples: int, values: dict[str, float]) -> None:
        """Add one evaluation."""
        self.samples.append(samples)
        for name, value in values.items():
            self.curves.setdefault(name, []).append(value)


def schedule(total: int, per_step: int, *, start: int = 10_000, per_decade: int = 20) -> list[int]:
    r"""When to evaluate: after the first step, then at :math:`10^{k/\text{per\_decade}}` samples.

    Args:
        total: The samples of the whole run; the last evaluation.
        per_step: The samples of one step; every entry is a multiple of it.
        start: Where the logarithmic spacing begins. Nothing moves before the warm-up ends.
        per_decade: Evaluations per decade of samples.

    Returns:
        Increasing multiples of ``per_step``.

    Raises:
        ValueError: If ``total`` is smaller than ``per_step``, or ``per_step``, ``start`` or
            ``per_decade`` than one.
    """
    for name, value in (("start", start), ("per_decade", per_decade)):
        if value < 1:
            raise ValueError(f"{name}: expected at least 1, found {value}")
    first = math.ceil(per_decade * math.log10(start) - 1e-9)
    last = math.floor(per_decade * math.log10(max(total, 1)))
    return at([10 ** (k / per_decade) for k in range(first, last + 1)], total, per_step)


def at(places: Sequence[float], total: int, per_step: int) -> list[int]:
    """When to evaluate: after the first step, at the places on the way, and at the end.

    Args:
        places: Training samples evaluated; those beyond ``total`` are left out.
        total: The samples of the whole run.
        per_step: The samples of one step; every entry is a multiple of it.

    Returns:
        Increasing multiples of ``per_step``.

    Raises:
        ValueError: If ``total`` is smaller than ``per_step``, or that than one.
    """
    if per_step < 1:
        raise ValueError(f"per_step: expected at least 1, found {per_step}")
    if total < per_step:
        raise ValueError(f"samples: expected at least one step of {per_step}, found {total}")
    steps = {round(place / per_step) for place in places} | {1, total // per_step}
    return sorted(n * per_step for n in steps if 1 <= n <= total // per_step)


@torch.no_grad()
def lower_bound(
    model: LatentVariableModel, x: Tensor, generator: torch.Generator, *, batch: int = 2_000
) -> float:
    r"""The average of the variational bound over a data set, one noise sample a datapoint.

    Args:
        model: The model and its recognition model.
        x: Datapoints, shape ``(N, D)``.
        generator: The source of the noise.
        batch: How many datapoints go through the networks at once.

    Returns:
        Estimator B (paper, eq. 7) with :math:`L = 1`, in nats per datapoint.

    Raises:
        ValueError: If ``x`` is no matrix, or an empty one.
    """
    if not len(x):
        raise ValueError(f"x: expected at least one datapoint, found the shape {tuple(x.shape)}")
    total = torch.zeros((), dtype=torch.float64, device=x.device)
    for rows in x.split(batch):
        total += estimators.sgvb_b(model, rows, 1, generator).sum(dtype=torch.float64)
    return total.item() / len(x)


def stages(
    step: Callable[[Any, Tensor], tuple[Any, Any]],
    state: Any,
    minibatches: Iterator[Tensor],
    evaluate: Callable[[Any, int], dict[str, float]],
    schedule: list[int],
    *,
    name: str = "training",
    per_step: int | None = None,
    objective: str = "bound",
    repeat: bool = False,
    beside: Mapping[str, Tensor] | None = None,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 60.0,
    identity: str = "",
    progress: bool | None = None,
) -> Generator[None, None, tuple[Any, History]]:
    r"""Repeat ``step`` over minibatches, evaluating on the schedule; pause again and again.

    What a pause is for is :func:`together`; :func:`train` goes on at once.

    Args:
        step: Maps (state, minibatch) to (state, info). Settings are bound with
            :func:`functools.partial`.
        state: What the algorithm's ``init`` returned. Every source of randomness that
            ``minibatches`` uses must be in it, or a resumed run would differ.
        minibatches: An endless source of minibatches, shape ``(M, D)``.
        evaluate: Maps the model and the samples evaluated so far to named values. It must not
            draw from the state's generator, so that the schedule does not change the run.
        schedule: The samples at which to evaluate, increasing (see :func:`schedule`). Where one is
            no whole number of steps, the step that passes it is still taken.
        name: What the run is called in messages.
        per_step: The samples that one step counts; by default the minibatch's size.
        objective: The field of ``info`` that says how well the step's datapoints are
            explained, nats, shape ``(M,)``: ``train_running`` is its mean.
        repeat: Whether the step may be recorded once and then repeated without Python (see
            :mod:`aevb.replay`): faster, and bit-equal. It has to change its state in place, and
            ``minibatches`` has to draw with tensor operations from the same tensor each time, as
            :func:`aevb.data.minibatches` does. Steps are taken as they are written until one
            could be recorded: an optimizer's first steps often differ.
        beside: Tensors that ``evaluate`` goes on from each time and changes in place, by name: a
            checkpoint holds them, too. The steps must not depend on them.
        checkpoint: Where to keep the way back after an interruption. If the file is there,
            the run goes on from it, and ends bit-equal to one that was never stopped. It is
            removed by whoever stores the result.
        checkpoint_seconds: The time between checkpoints.
        identity: What the run is, in words; a checkpoint of another run is refused.
        progress: Whether to show a bar; by default where standard error is a terminal.

    Yields:
        Nothing, at each pause: some steps are done, or, on a GPU, on their way.

    Returns:
        The last state and the history. Its curve ``train_running`` is the mean of the
        minibatches' objective since the last evaluation (over the last 200,000 samples at most):
        how the paper's train curves were made.

    Raises:
        ValueError: If the schedule is empty, or begins below one sample; if ``repeat`` is asked
            for and the step replaces a part of its state.
        DivergenceError: If the objective, or an evaluated value, is no finite number; the
            message says which.
        aevb.checkpoint.CheckpointError: If the checkpoint is damaged or of another run.
    """
    if not schedule or schedule[0] < 1:
        raise ValueError(f"schedule: expected places from 1 sample on, found {schedule or 'none'}")

    def whole() -> Any:
        """What a checkpoint holds: the algorithm's state, and what is kept beside it."""
        names = [*state._fields, *(beside or {})]
        return namedtuple("Whole", names)(*state, *(beside or {}).values())

    history, samples, steps, counts = History(), 0, 0, per_step or 0
    running, counted = torch.zeros((), dtype=torch.float64, device=_device(state)), 0
    if checkpoint is not None and checkpoint.exists():
        saved = checkpoints.load(checkpoint, whole(), identity)
        history = History(**saved["history"])
        samples, steps, counted = saved["samples"], saved["steps"], saved["counted"]
        running.fill_(saved["running"])
    started = saved_at = time.monotonic()
    earlier = history.wall_seconds
    interval = GUARD_INTERVAL if per_step is None else 1  # such a step is many passes, and slow

    def so_far() -> dict[str, Any]:
        history.wall_seconds = earlier + time.monotonic() - started
        return {
            "history": vars(history),
            "samples": samples,
            "steps": steps,
            "counted": counted,
            "running": running.item(),
        }

    def guard(what: str, value: float) -> None:
        if not math.isfinite(value):
            before = history.curves.get("train_running", [])
            last = f"{before[-1]:.2f} nats at {history.samples[-1]:,} samples" if before else "none"
            raise DivergenceError(
                f"{name}: the {what} is {value} after {samples:,} samples ({steps:,} steps); "
                f"last finite {objective}: {last}. A smaller step size may help."
            )

    recording: replay.Recording | None = None

    def tally(info: Any) -> None:
        running.add_(getattr(info, objective).sum(dtype=torch.float64))

    def take(times: int, shown: bool) -> Any:
        """What the last step says about itself; out of date if it need not be shown."""
        nonlocal state, recording
        if recording is not None:
            recording.repeat(times, silently=not shown)
            return recording.result[1]
        if not repeat:
            state, info = step(state, next(minibatches))
            tally(info)
            return info
        before = _kept(state)
        noted = replay.record(
            lambda: step(state, next(minibatches)), lambda result: tally(result[1])
        )
        _check_in_place(state, noted.result[0])
        same = list(map(id, before)) == list(map(id, _kept(state)))
        recording = noted if same and not noted.obstacle else None
        return noted.result[1]

    bar = tqdm(
        total=schedule[-1],
        initial=samples,
        desc=name,
        unit=" samples",
        unit_scale=True,
        smoothing=0.05,
        mininterval=0.5,
        disable=None if progress is None else not progress,
    )
    with bar:
        for due in schedule:
            if history.samples and due <= history.samples[-1]:
                continue
            window = max(samples, due - RUNNING_WINDOW) if history.samples else 0
            while samples < due:
                counting, ahead = samples + counts > window, interval - steps % interval
                guarded, times = ahead == 1, 1
                if recording is not None and not guarded:
                    left = ((due if counting else window) - samples) // counts
                    times = max(1, min(ahead - 1, left, TURN))
                before = running if counting else running.clone()
                explained = getattr(take(times, counting or guarded), objective)
                counts = per_step or len(explained)
                samples, steps = samples + times * counts, steps + times
                if samples > window:
                    counted += times * len(explained)
                else:
                    running.copy_(before)
                bar.update(times * counts)
                if guarded:
                    guard(objective, float(explained.mean()))
                    if checkpoint and time.monotonic() - saved_at > checkpoint_seconds:
                        checkpoints.store(checkpoint, whole(), so_far(), identity)
                        saved_at = time.monotonic()
                yield
            average = running.item() / counted
            guard(objective, average)
            values = evaluate(state.model, samples)
            for curve, value in values.items():
                guard(f"value of {curve}", value)
            history.append(samples, {**values, "train_running": average})
            running.zero_()
            counted = 0
            bar.set_postfix_str(f"bound {average:.2f} nats")
    history.wall_seconds = earlier + time.monotonic() - started
    return state, history


def train(
    step: Callable[[Any, Tensor], tuple[Any, Any]],
    state: Any,
    minibatches: Iterator[Tensor],
    evaluate: Callable[[Any, int], dict[str, float]],
    schedule: list[int],
    **settings: Any,
) -> tuple[Any, History]:
    r"""Repeat ``step`` over minibatches, evaluating on the schedule.

    Args:
        step: Maps (state, minibatch) to (state, info).
        state: What the algorithm's ``init`` returned.
        minibatches: An endless source of minibatches, shape ``(M, D)``.
        evaluate: Maps the model and the samples evaluated so far to named values.
        schedule: The samples at which to evaluate, increasing (see :func:`schedule`).
        settings: The other arguments of :func:`stages`, which says more of these as well.

    Returns:
        The last state and the history.

    Raises:
        ValueError, DivergenceError, aevb.checkpoint.CheckpointError: As :func:`stages` does.
    """
    run = stages(step, state, minibatches, evaluate, schedule, **settings)
    return together([run], _device(state))[0]


def together(
    runs: Iterable[Generator[None, None, Any]], device: torch.device | str = "cpu"
) -> list[Any]:
    """Do several runs at once, a few steps of each in turn.

    On a GPU, which one run of this size would leave almost idle, each has a stream of its own:
    while the host prepares the next run's steps, those of the others are at work.

    Args:
        runs: Such as :func:`stages` makes.
        device: Where their states are.

    Returns:
        What each returned, in their order.

    Raises:
        Exception: What ended a run. The others go on to their end before it is raised; the errors
            of several come as one :class:`ExceptionGroup`.
    """
    pending = [(place, run, _stream(device)) for place, run in enumerate(runs)]
    results: dict[int, Any] = {}
    errors: list[Exception] = []
    while pending:
        for turn in list(pending):
            place, run, stream = turn
            try:
                with stream:
                    next(run)
            except StopIteration as end:
                results[place] = end.value
                pending.remove(turn)
            except Exception as error:
                errors.append(error)
                pending.remove(turn)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise ExceptionGroup(f"{len(errors)} runs ended early", errors)
    return [results[place] for place in sorted(results)]


def _stream(device: torch.device | str) -> contextlib.AbstractContextManager[Any]:
    if torch.device(device).type != "cuda":
        return contextlib.nullcontext()
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    return torch.cuda.stream(stream)


def _device(state: Any) -> torch.device:
    """Where the parameters of an algorithm's state are."""
    modules = [part for part in state if isinstance(part, nn.Module)]
    parameters = (p for module in modules for p in module.parameters())
    return next((p.device for p in parameters), torch.device("cpu"))


def _kept(state: Any) -> list[Any]:
    """What the optimizers keep. A step that makes some of it, as a first one may, is not repeated:
    it would make it again."""
    optimizers = [part for part in state if isinstance(part, torch.optim.Optimizer)]
    return [leaf for made in optimizers for leaf in tree_iter(list(made.state.values()))]


def _check_in_place(before: Any, after: Any) -> None:
    for name, old, new in zip(before._fields, before, after, strict=True):
        if old is not new:
            raise ValueError(
                f"repeat: expected a step that changes its state in place, found a new {name}"
            )
