"""One training loop for every algorithm."""

import functools
import itertools
import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from known_answers import FreeGaussian, closed_form_bound, linear_gaussian
from torch import Tensor
from torch.distributions import Bernoulli, Normal, kl_divergence

from aevb import adagrad, auto_encoding, checkpoint, data, estimators, models, training

# -- When to evaluate --------------------------------------------------------------------------

BUDGETS = [(100, 100), (1_000, 100), (12_345, 100), (10**6, 100), (10**8, 100), (10**8, 500)]


@pytest.mark.parametrize(("total", "per_step"), BUDGETS)
def test_the_schedule_starts_with_a_step_and_ends_with_the_run(total: int, per_step: int) -> None:
    due = training.schedule(total, per_step)

    assert due[0] == per_step
    assert due[-1] == total // per_step * per_step
    assert all(samples % per_step == 0 for samples in due)
    assert due == sorted(set(due))
    assert all(type(samples) is int for samples in due)


@pytest.mark.parametrize("per_decade", [4, 20])
def test_the_schedule_is_logarithmic(per_decade: int) -> None:
    due = training.schedule(10**8, 100, per_decade=per_decade)[1:]

    assert due[0] == 10_000
    assert len(due) == 4 * per_decade + 1
    for n, samples in enumerate(due):
        assert abs(samples - 10 ** (4 + n / per_decade)) <= 50  # half a step


def test_a_longer_run_is_evaluated_where_a_shorter_one_was() -> None:
    for shorter, longer in itertools.pairwise([10**5, 3 * 10**5, 10**6, 10**8]):
        ours, theirs = training.schedule(shorter, 100), training.schedule(longer, 100)
        assert set(ours[:-1]) <= set(theirs)


def test_the_schedule_has_every_half_decade() -> None:
    # Where ours and the paper's curves are compared.
    due = training.schedule(10**8, 500)
    for half in range(8, 17):
        assert min(abs(samples / 10 ** (half / 2) - 1) for samples in due) < 0.01


def test_places_become_steps_on_the_way() -> None:
    places = [50, 1_000, 1_040, 2_960, 9_999]
    assert training.at(places, 5_000, 100) == [100, 1_000, 3_000, 5_000]
    assert training.at([], 5_050, 100) == [100, 5_000]  # the last whole step
    with pytest.raises(ValueError, match=r"^samples: expected at least one step of 100, found 99$"):
        training.at(places, 99, 100)


def test_a_budget_below_one_step_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^samples: expected at least one step of 100, found 99$"):
        training.schedule(99, 100)


@pytest.mark.parametrize("per_step", [0, -20])
def test_a_step_has_at_least_one_sample(per_step: int) -> None:
    message = f"^per_step: expected at least 1, found {per_step}$"
    with pytest.raises(ValueError, match=message):
        training.at([1], -10, per_step)
    with pytest.raises(ValueError, match=message):
        training.schedule(1_000, per_step)


@pytest.mark.parametrize("wrong", [{"start": 0}, {"per_decade": 0}], ids=str)
def test_a_schedule_begins_at_a_sample_and_goes_on(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=rf"^{next(iter(wrong))}: expected at least 1, found 0$"):
        training.schedule(1_000, 100, **wrong)


# -- The evaluated bound -----------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 7, 10, 50, 2_000])
def test_the_lower_bound_is_estimator_b_on_every_datapoint_once(batch: int) -> None:
    model, x = models.bernoulli_vae(7, 5, 2, std=0.5), torch.rand(50, 7)

    bound = training.lower_bound(model, x, torch.Generator().manual_seed(3), batch=batch)

    noise = torch.Generator().manual_seed(3)
    rows = [estimators.sgvb_b(model, part, 1, noise) for part in x.split(batch)]
    assert isinstance(bound, float)
    assert bound == pytest.approx(torch.cat(rows).mean().item(), rel=1e-12)


def test_the_lower_bound_is_unbiased() -> None:
    n, scale = 20_000, torch.tensor([0.7, 0.4])
    mean = torch.randn(n, 2)
    model, x = linear_gaussian(4, 2, FreeGaussian(mean, scale.expand(n, -1))), torch.randn(n, 4)

    # Its own seed (see the note on random tests in conftest.py), and not that of `mean`, or the
    # noise would be the means.
    seeded = torch.Generator().manual_seed(11)
    bound = training.lower_bound(model, x, seeded, batch=n)

    with torch.no_grad():
        spread = (estimators.sgvb_b(model, x) - closed_form_bound(model, x, mean, scale)).std()
        expected = closed_form_bound(model, x, mean, scale).mean()
    assert abs(bound - expected) < 4 * spread / n**0.5


def test_the_lower_bound_leaves_no_gradient() -> None:
    model = models.bernoulli_vae(7, 5, 2)
    training.lower_bound(model, torch.rand(50, 7), torch.Generator())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_no_datapoints_have_no_lower_bound() -> None:
    model = models.bernoulli_vae(7, 5, 2)
    with pytest.raises(
        ValueError, match=r"^x: expected at least one datapoint, found .* \(0, 7\)$"
    ):
        training.lower_bound(model, torch.rand(0, 7), torch.Generator())


# -- An algorithm whose every number is known --------------------------------------------------


class Count(NamedTuple):
    model: torch.nn.Module
    steps: Tensor


class Info(NamedTuple):
    bound: Tensor


def counting(bound: Callable[[int], float] = float) -> Callable[[Count, Tensor], Any]:
    """An algorithm whose n-th minibatch has the bound ``bound(n)`` at each of its points."""

    def step(state: Count, minibatch: Tensor) -> tuple[Count, Info]:
        state.steps.add_(1)
        return state, Info(torch.full((len(minibatch),), bound(int(state.steps))))

    return step


def count() -> Count:
    return Count(torch.nn.Linear(1, 1), torch.zeros((), dtype=torch.int64))


def rows(size: int) -> Iterator[Tensor]:
    return itertools.repeat(torch.zeros(size, 1))


def nothing(model: torch.nn.Module, samples: int) -> dict[str, float]:
    return {}


def test_the_history_holds_every_evaluation() -> None:
    due = [10, 20, 50, 100]

    state, history = training.train(
        counting(), count(), rows(10), lambda model, samples: {"test": 2.0 * samples}, due
    )

    assert history.samples == due
    assert history.curves["test"] == [20.0, 40.0, 100.0, 200.0]
    assert int(state.steps) == 10
    assert json.loads(json.dumps(vars(history))) == vars(history)
    assert history.wall_seconds > 0


def test_the_train_curve_is_the_mean_since_the_last_evaluation() -> None:
    _, history = training.train(counting(), count(), rows(10), nothing, [10, 20, 50, 100])
    assert history.curves["train_running"] == [1.0, 2.0, (3 + 4 + 5) / 3, (6 + 7 + 8 + 9 + 10) / 5]


def test_the_train_curve_looks_back_200000_samples_at_most() -> None:
    size = 10_000  # so the window is 20 steps
    due = [10_000, 150_000, 350_000, 360_000, 1_000_000]

    _, history = training.train(counting(), count(), rows(size), nothing, due)

    expected, last = [], 0
    for samples in due:
        first = max(last, samples - 200_000) // size + 1
        steps = range(first, samples // size + 1)
        expected.append(sum(steps) / len(steps))
        last = samples
    assert history.curves["train_running"] == expected
    assert expected[-1] == (81 + 100) / 2


def test_a_step_may_count_more_samples_than_its_minibatch_has() -> None:
    # Monte Carlo EM counts every datapoint fifteen times, say.
    state, history = training.train(
        counting(), count(), rows(10), nothing, [150, 300], per_step=150
    )
    assert history.samples == [150, 300]
    assert int(state.steps) == 2


@pytest.mark.parametrize(("due", "found"), [([], "none"), ([0, 10], r"\[0, 10\]")])
def test_a_schedule_without_places_is_refused(due: list[int], found: str) -> None:
    with pytest.raises(ValueError, match=f"^schedule: expected .* 1 sample on, found {found}$"):
        training.train(counting(), count(), rows(10), nothing, due)


# -- A bound that stops being a number ---------------------------------------------------------


def test_divergence_says_what_where_and_when() -> None:
    bound = lambda n: float("nan") if n > 1_500 else -1.0 * n  # noqa: E731
    with pytest.raises(training.DivergenceError) as error:
        training.train(
            counting(bound), count(), rows(10), nothing, [10, 10_000, 10**6], name="panel-a"
        )
    assert str(error.value) == (
        "panel-a: the bound is nan after 20,000 samples (2,000 steps); last finite bound: "
        "-501.00 nats at 10,000 samples. A smaller step size may help."
    )


def test_divergence_is_seen_at_the_next_evaluation_at_the_latest() -> None:
    bound = lambda n: -math.inf if n == 3 else -1.0  # noqa: E731
    with pytest.raises(training.DivergenceError, match=r"bound is -inf after 50 samples \(5 steps"):
        training.train(counting(bound), count(), rows(10), nothing, [10, 50])


def test_an_evaluation_that_is_no_number_is_divergence() -> None:
    evaluate = lambda model, samples: {"test": math.nan if samples > 10 else 0.0}  # noqa: E731
    with pytest.raises(
        training.DivergenceError,
        match=r"the value of test is nan after 50 .* finite bound: 1\.00 nats at 10",
    ):
        training.train(counting(), count(), rows(10), evaluate, [10, 50])


def test_divergence_in_the_first_step_has_no_bound_before() -> None:
    with pytest.raises(training.DivergenceError, match="last finite bound: none"):
        training.train(counting(lambda n: math.nan), count(), rows(10), nothing, [10])


def test_divergence_names_the_objective() -> None:
    class Joint(NamedTuple):
        log_joint: Tensor

    def step(state: Count, minibatch: Tensor) -> tuple[Count, Joint]:
        return state, Joint(torch.full((len(minibatch),), math.nan))

    with pytest.raises(
        training.DivergenceError, match=r"the log_joint is nan .* last finite log_joint: none"
    ):
        training.train(step, count(), rows(10), nothing, [10], objective="log_joint")


# -- The progress bar --------------------------------------------------------------------------


def test_the_progress_bar_names_the_run_its_unit_and_the_bound(capsys) -> None:
    due = [10, 20_000]
    training.train(
        counting(lambda n: -123.456), count(), rows(10), nothing, due, name="a-b", progress=True
    )
    bar = capsys.readouterr().err.split("\r")[-1]
    assert bar.startswith("a-b: 100%")
    assert "20.0k/20.0k" in bar
    assert "samples/s" in bar
    assert "bound -123.46 nats" in bar


@pytest.mark.parametrize("progress", [False, None])
def test_no_bar_is_drawn_where_nobody_looks(capsys, progress: bool | None) -> None:
    # By default only where standard error is a terminal, and here it is not.
    training.train(counting(), count(), rows(10), nothing, [10, 20], progress=progress)
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out == ""


# -- Algorithm 1 in the loop -------------------------------------------------------------------

DUE = [10, 30, 100, 200, 350]


def start(seed: int = 0) -> tuple[auto_encoding.State, Iterator[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    model = models.bernoulli_vae(7, 5, 2, generator, std=0.5)
    optimizer = adagrad.Adagrad(model.parameters(), 0.1, prior_weight=0.1, warm_up=4)
    x = torch.rand(100, 7, generator=torch.Generator().manual_seed(1))
    return auto_encoding.init(model, optimizer, generator), data.minibatches(x, 10, generator)


def evaluate(model: models.VAE, samples: int) -> dict[str, float]:
    noise = torch.Generator().manual_seed(samples)
    x = torch.rand(30, 7, generator=torch.Generator().manual_seed(2))
    return {"test": training.lower_bound(model, x, noise)}


def train(seed: int = 0, due: list[int] = DUE, step=auto_encoding.step, evaluate=evaluate, **given):
    state, minibatches = start(seed)
    return training.train(step, state, minibatches, evaluate, due, **given)


def end(result: tuple[auto_encoding.State, training.History]) -> list[Any]:
    """Everything that must be bit-equal."""
    state, history = result
    tensors = [*state.model.parameters(), state.generator.get_state()]
    tensors += [state.optimizer.state[p]["sum"] for p in state.model.parameters()]
    return [history.samples, history.curves, [tensor.tolist() for tensor in tensors]]


def test_the_loop_is_steps_in_a_row() -> None:
    state, minibatches = start()
    for _ in range(35):
        state, _ = auto_encoding.step(state, next(minibatches))
    looped, _ = train()
    assert all(map(torch.equal, looped.model.parameters(), state.model.parameters()))


def test_the_schedule_does_not_change_the_training() -> None:
    every, once = train(due=list(range(10, 351, 10))), train(due=[350])

    assert end(every)[2] == end(once)[2]
    assert every[1].curves["test"][-1] == once[1].curves["test"][-1]
    assert [every[1].curves["test"][due // 10 - 1] for due in DUE] == train()[1].curves["test"]


def test_the_seed_decides_the_run() -> None:
    assert end(train()) == end(train())
    assert end(train()) != end(train(seed=1))


class Interruption(BaseException):
    """As a kill would, it passes every ``except Exception``."""


def interrupted_step(at: int) -> Callable[..., Any]:
    done = itertools.count(1)

    def step(state: auto_encoding.State, minibatch: Tensor) -> Any:
        if next(done) == at:
            raise Interruption
        return auto_encoding.step(state, minibatch)

    return step


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Training that keeps a checkpoint every few steps."""

    def bound(every: int) -> Callable[..., Any]:
        monkeypatch.setattr(training, "GUARD_INTERVAL", every)
        monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # no test of the disk
        return functools.partial(train, checkpoint_seconds=0.0, identity="this run")

    return bound


MOMENTS = (1, 2, 3, 4, 10, 11, 16, 21, 34, 35)  # of thirty-five steps


@pytest.mark.parametrize("every", [1, 5])
def test_an_interrupted_run_ends_bit_equal(tmp_path: Path, often, every: int) -> None:
    run, uninterrupted = often(every), end(train())
    for at in MOMENTS:
        path = tmp_path / f"{at}"
        with pytest.raises(Interruption):
            run(step=interrupted_step(at), checkpoint=path)
        assert path.exists() == (at > every)
        # Another seed: nothing of the fresh state is left after the checkpoint.
        again = run(seed=5 if path.exists() else 0, checkpoint=path)
        assert end(again) == uninterrupted, at


@pytest.mark.parametrize("at", DUE)
@pytest.mark.parametrize("every", [1, 5])
def test_a_run_interrupted_in_an_evaluation_ends_bit_equal(
    tmp_path: Path, often, every: int, at: int
) -> None:
    # The checkpoint may be that of the very step after which the evaluation was due.
    def interrupted(model: models.VAE, samples: int) -> dict[str, float]:
        if samples == at:
            raise Interruption
        return evaluate(model, samples)

    run, uninterrupted = often(every), end(train())
    with pytest.raises(Interruption):
        run(evaluate=interrupted, checkpoint=tmp_path / "c")

    assert end(run(checkpoint=tmp_path / "c")) == uninterrupted


def test_a_run_interrupted_again_and_again_ends_bit_equal(tmp_path: Path, often) -> None:
    run, uninterrupted, interruptions = often(3), end(train()), 0
    while True:
        try:
            result = run(step=interrupted_step(5), checkpoint=tmp_path / "c")
        except Interruption:
            interruptions += 1
            continue
        break
    assert interruptions >= 8  # each time three steps are kept, of thirty-five
    assert end(result) == uninterrupted


def test_the_window_of_the_train_curve_survives_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, often
) -> None:
    monkeypatch.setattr(training, "RUNNING_WINDOW", 70)
    run, uninterrupted = often(3), end(train())
    for at in MOMENTS[::2]:
        with pytest.raises(Interruption):
            run(step=interrupted_step(at), checkpoint=tmp_path / f"{at}")
        assert end(run(checkpoint=tmp_path / f"{at}")) == uninterrupted, at


def test_a_finished_runs_checkpoint_ends_the_same(tmp_path: Path, often) -> None:
    # It is there if the record could not be stored.
    run = often(1)
    first = end(run(checkpoint=tmp_path / "c"))
    assert end(run(checkpoint=tmp_path / "c")) == first


def test_the_wall_time_of_the_first_part_counts(tmp_path: Path, often) -> None:
    run = often(5)
    with pytest.raises(Interruption):
        run(step=interrupted_step(30), checkpoint=tmp_path / "c")
    file = checkpoint.load(tmp_path / "c", start()[0], "this run")
    file["history"]["wall_seconds"] = 1_000.0
    checkpoint.store(tmp_path / "c", start()[0], file, "this run")

    _, history = run(checkpoint=tmp_path / "c")

    assert 1_000 < history.wall_seconds < 1_100


def test_divergence_after_an_interruption_counts_every_step(tmp_path: Path, often) -> None:
    def diverged(state: auto_encoding.State, minibatch: Tensor) -> Any:
        state, info = auto_encoding.step(state, minibatch)
        return state, info._replace(bound=info.bound * math.nan)

    run = often(5)
    with pytest.raises(Interruption):
        run(step=interrupted_step(18), checkpoint=tmp_path / "c")  # the last is that of step 15
    with pytest.raises(training.DivergenceError, match=r"after 200 samples \(20 steps\)"):
        run(step=diverged, checkpoint=tmp_path / "c")


def test_checkpoints_are_not_kept_more_often_than_asked(tmp_path: Path, often) -> None:
    often(1)(checkpoint=tmp_path / "c", checkpoint_seconds=3_600)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, often) -> None:
    often(5)(checkpoint=tmp_path / "c")
    before = (tmp_path / "c").read_bytes()

    with pytest.raises(checkpoint.CheckpointError, match="expected that run, found this run"):
        train(checkpoint=tmp_path / "c", identity="that run")

    assert (tmp_path / "c").read_bytes() == before


# -- The bound of a trained model, without this package ----------------------------------------


def test_the_bound_can_be_recomputed_from_the_weights_alone() -> None:
    state, _ = train(due=[2_000])
    x = torch.rand(30, 7)
    found = training.lower_bound(state.model, x, torch.Generator().manual_seed(7))

    w = {name: value.detach() for name, value in state.model.named_parameters()}

    def layer(name: str, given: Tensor) -> Tensor:
        return given @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    h = layer("recognition_model.hidden", x).tanh()
    deviation = (layer("recognition_model.log_variance", h) / 2).exp()
    q = Normal(layer("recognition_model.mean", h), deviation)
    z = q.loc + q.scale * torch.randn(30, 2, generator=torch.Generator().manual_seed(7))
    logits = layer("generative_model.logits", layer("generative_model.hidden", z).tanh())
    likelihood = Bernoulli(logits=logits, validate_args=False).log_prob(x)
    bound = likelihood.sum(-1) - kl_divergence(q, Normal(0.0, 1.0)).sum(-1)

    assert found == pytest.approx(bound.mean().item(), abs=1e-10)


def test_the_train_curve_of_a_step_that_counts_more_is_that_of_its_datapoints() -> None:
    _, history = training.train(counting(), count(), rows(10), nothing, [150, 450], per_step=150)
    assert history.curves["train_running"] == [1.0, (2 + 3) / 2]


def test_a_step_that_counts_more_is_looked_at_each_time() -> None:
    bound = lambda n: math.nan if n == 3 else 0.0  # noqa: E731
    with pytest.raises(training.DivergenceError, match=r"after 450 samples \(3 steps\)"):
        training.train(counting(bound), count(), rows(10), nothing, [150, 15_000], per_step=150)


def test_one_datapoint_is_enough_to_diverge() -> None:
    def step(state: Count, minibatch: Tensor) -> tuple[Count, Info]:
        state.steps.add_(1)
        bounds = torch.zeros(len(minibatch))
        bounds[-1] = math.nan if state.steps > 1_500 else 0.0
        return state, Info(bounds)

    with pytest.raises(training.DivergenceError, match=r"after 20,000 samples \(2,000 steps\)"):
        training.train(step, count(), rows(10), nothing, [10, 10**6])


def test_runs_together_return_in_their_order_however_long_they_take() -> None:
    def run(pauses: int) -> Iterator[None]:
        yield from itertools.repeat(None, pauses)
        return pauses

    assert training.together(map(run, (5, 1, 3))) == [5, 1, 3]
