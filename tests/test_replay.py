"""A step that is repeated from its recording is the step, bit for bit."""

import copy
import functools
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from one_step import ALGORITHMS, MODELS, made
from torch import Tensor, nn

from aevb import auto_encoding, data, estimators, replay, training


def everything(state: Any) -> list[Tensor]:
    slots = [state.optimizer.state[p] for p in state.model.parameters()]
    return [
        *state.model.parameters(),
        *(value for slot in slots for value in slot.values()),
        state.generator.get_state(),
    ]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("likelihood", MODELS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_repetition_is_the_step(algorithm: str, likelihood: str, dtype: torch.dtype) -> None:
    (state, step), (other, same) = (made(algorithm, likelihood, dtype) for _ in range(2))
    for _ in range(3):  # the warm-up, which reads how far it is
        step(), same()
    recording, info = replay.record(step), same()
    assert recording.obstacle == ""

    for silently in (False, True, True, False):
        recording.repeat(silently=silently)
        info = same()
        assert all(map(torch.equal, everything(state), everything(other)))
    assert torch.equal(recording.result.bound, info.bound)


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("estimator", [estimators.sgvb_a, estimators.score_function])
def test_another_estimator_is_repeated_as_well(estimator: Any, samples: int) -> None:
    results = []
    for recorded in (False, True):
        state, _ = made()
        generator = state.generator
        draw = data.minibatches(torch.rand(60, 12, generator=generator), 8, generator)

        def step(state: Any = state, draw: Any = draw) -> Any:
            return auto_encoding.step(state, next(draw), estimator=estimator, samples=samples)[1]

        for _ in range(3):
            step()
        repeat = replay.record(step).repeat if recorded else step
        if not recorded:
            step()
        for _ in range(3):
            repeat()
        results.append(everything(state))
    assert all(map(torch.equal, *results))


def test_a_silent_repetition_leaves_out_what_only_the_result_needs() -> None:
    _, step = made()
    for _ in range(3):
        step()
    recording = replay.record(step)
    before = recording.result.bound.clone()
    recording.repeat(silently=True)
    assert torch.equal(recording.result.bound, before)
    recording.repeat()
    assert not torch.equal(recording.result.bound, before)


def test_what_reads_a_value_cannot_be_repeated() -> None:
    state, step = made()
    recording = replay.record(step)  # in the warm-up
    assert "_local_scalar_dense" in recording.obstacle
    after = copy.deepcopy(everything(state)[:-1])
    with pytest.raises(RuntimeError, match=r"^step: expected one that can be repeated, but aten"):
        recording.repeat()
    assert all(map(torch.equal, everything(state), after))
    assert state.optimizer.state[next(state.model.parameters())]["step"] == 1  # done once


def test_views_constants_and_writes_into_the_middle_of_a_tensor() -> None:
    memory, source = torch.zeros(4, 3), torch.arange(3.0)

    def step() -> Tensor:
        scratch = torch.zeros(2, 3)
        scratch[0] += source * torch.ones_like(source)
        scratch[1].copy_(2 * scratch[0])
        memory[1:3].add_(scratch)
        source.add_(1)
        return memory.sum(1)

    recording = replay.record(step)
    for _ in range(2):
        recording.repeat()
    total = torch.tensor([0.0, 1, 2]) + torch.tensor([1.0, 2, 3]) + torch.tensor([2.0, 3, 4])
    assert torch.equal(memory[1:3], torch.stack([total, 2 * total]))
    assert torch.equal(recording.result, memory.sum(1))


def test_an_operation_that_cannot_write_into_a_given_tensor() -> None:
    x, kept = torch.eye(3) * 4, torch.zeros(3, 3)

    def step() -> None:
        kept.add_(torch.linalg.cholesky(x) @ torch.nn.functional.softplus(x).roll(1, 0))
        x.mul_(2)

    recording = replay.record(step)
    recording.repeat()
    once, twice = torch.eye(3) * 4, torch.eye(3) * 8
    expected = sum(
        torch.linalg.cholesky(y) @ torch.nn.functional.softplus(y).roll(1, 0) for y in (once, twice)
    )
    assert torch.equal(kept, expected)


# -- In the training loop ----------------------------------------------------------------------


def trained(repeat: bool, schedule: list[int]) -> tuple[Any, training.History]:
    state, _ = made()
    generator = state.generator
    draw = data.minibatches(torch.rand(60, 12, generator=generator), 8, generator)
    return training.train(
        auto_encoding.step,
        state,
        draw,
        lambda model, samples: {"first": next(model.parameters())[0, 0].item()},
        schedule,
        repeat=repeat,
        progress=False,
    )


def test_training_by_repetition_is_the_same_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "RUNNING_WINDOW", 80)  # so that some steps are silent
    monkeypatch.setattr(training, "GUARD_INTERVAL", 7)
    (one, plain), (two, repeated) = (trained(repeat, [8, 160, 800]) for repeat in (False, True))
    assert plain.samples == repeated.samples
    assert plain.curves == repeated.curves
    assert all(map(torch.equal, everything(one), everything(two)))


OPTIMIZERS = {
    "momentum": functools.partial(torch.optim.SGD, lr=1e-3, momentum=0.9),
    "RMSprop": functools.partial(torch.optim.RMSprop, lr=1e-3),
    "fused Adam": functools.partial(torch.optim.Adam, lr=1e-3, fused=True),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_what_an_optimizer_makes_in_its_first_step_is_not_made_again(
    optimizer: Callable[..., torch.optim.Optimizer],
) -> None:
    results, taken = [], []

    def step(state: Any, minibatch: Tensor) -> Any:
        taken.append(len(minibatch))
        return auto_encoding.step(state, minibatch)

    for repeat in (False, True):
        taken.clear()
        state, _ = made()
        state = state._replace(optimizer=optimizer(state.model.parameters()))
        generator = state.generator
        draw = data.minibatches(torch.rand(60, 12, generator=generator), 8, generator)
        state, _ = training.train(
            step, state, draw, lambda *_: {}, [8, 160], repeat=repeat, progress=False
        )
        results.append(everything(state))
    assert all(map(torch.equal, *results))
    assert len(taken) == 2  # the one that makes it, and the recorded one


def test_most_steps_of_training_are_repetitions(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []

    def step(state: Any, minibatch: Tensor) -> Any:
        taken.append(len(minibatch))
        return auto_encoding.step(state, minibatch)

    monkeypatch.setattr(auto_encoding, "step", auto_encoding.step)
    state, _ = made()
    generator = state.generator
    draw = data.minibatches(torch.rand(60, 12, generator=generator), 8, generator)
    training.train(step, state, draw, lambda *_: {}, [800], repeat=True, progress=False)
    assert len(taken) == 4  # three to the end of the warm-up, and the recorded one


def test_a_place_between_two_steps_is_passed_as_without_repetition() -> None:
    seen: dict[bool, list[tuple[int, float]]] = {False: [], True: []}
    for repeat, places in seen.items():
        state, _ = made()
        generator = state.generator
        draw = data.minibatches(torch.rand(60, 12, generator=generator), 8, generator)

        def evaluate(model: nn.Module, samples: int, places: Any = places) -> dict[str, float]:
            places.append((samples, next(model.parameters())[0, 0].item()))
            return {}

        run = training.stages(
            auto_encoding.step, state, draw, evaluate, [8, 100, 803], repeat=repeat, progress=False
        )
        assert len(list(itertools.islice(run, 200))) < 200  # it ends
    assert [samples for samples, _ in seen[True]] == [8, 104, 808]
    assert seen[True] == seen[False]


def test_a_step_that_replaces_its_state_is_refused() -> None:
    state, _ = made()
    generator = state.generator

    def step(state: Any, minibatch: Tensor) -> Any:
        after, info = auto_encoding.step(state, minibatch)
        return after._replace(model=nn.Identity()), info

    draw = data.minibatches(torch.rand(60, 12, generator=generator), 8, generator)
    with pytest.raises(ValueError, match=r"^repeat: expected .* in place, found a new model$"):
        training.train(step, state, draw, lambda *_: {}, [80], repeat=True, progress=False)


def test_what_has_a_size_that_depends_on_values_cannot_be_repeated() -> None:
    x = torch.tensor([0.0, 1.0])
    assert "nonzero" in replay.record(lambda: x.nonzero().sum()).obstacle


def test_a_silent_repetition_does_not_look() -> None:
    state, seen = torch.zeros(()), torch.zeros(())
    recording = replay.record(lambda: state.add_(1), lambda result: seen.add_(result))
    recording.repeat(2, silently=True)
    assert (state, seen) == (3, 1)
    recording.repeat()
    assert (state, seen) == (4, 1 + 4)
