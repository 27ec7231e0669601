"""The same on a GPU: ``pytest --device cuda tests/test_gpu.py``.

The data are synthetic.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from one_step import ALGORITHMS, MODELS, made
from torch import Tensor

from aevb import (
    adagrad,
    data,
    experiments,
    mlp,
    models,
    monte_carlo_em,
    replay,
    results,
    training,
)
from aevb.marginal_likelihood import reciprocal_importance_sampling
from aevb.marginal_likelihood.annealed import annealed_importance_sampling
from aevb.marginal_likelihood.importance import importance_sampling
from aevb.marginal_likelihood.quadrature import quadrature


@pytest.fixture
def gpu(device: torch.device) -> torch.device:
    if device.type == "cpu":
        pytest.skip("needs a GPU: pytest --device cuda tests/test_gpu.py")
    return device


@pytest.fixture
def noise_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every draw is made on the CPU, and then sent to where it is wanted."""

    def drawn(draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def elsewhere(*given: Any, device: Any = None, **settings: Any) -> Tensor:
            return draw(*given, **settings).to(device or "cpu")

        return elsewhere

    for name in ("rand", "randn", "randint"):
        monkeypatch.setattr(torch, name, drawn(getattr(torch, name)))


def everything(state: Any) -> list[Tensor]:
    slots = [state.optimizer.state[p] for p in state.model.parameters()]
    return [
        *(p.detach().cpu() for p in state.model.parameters()),
        *(slot["sum"].cpu() for slot in slots),
        *(slot["step"].cpu().double() for slot in slots),
    ]


@pytest.mark.parametrize("likelihood", MODELS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_same_noise_makes_the_same_steps(
    gpu: torch.device,
    noise_of_the_cpu: None,
    algorithm: str,
    likelihood: str,
) -> None:
    (there, step), (here, same) = (
        made(algorithm, likelihood, device=place) for place in (gpu, "cpu")
    )
    for _ in range(20):
        bound, expected = step().bound, same().bound
        torch.testing.assert_close(bound.cpu(), expected, rtol=1e-9, atol=1e-9)
    for one, other in zip(everything(there), everything(here), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("likelihood", MODELS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_graphs_are_the_step_bit_for_bit(
    gpu: torch.device,
    algorithm: str,
    likelihood: str,
    dtype: torch.dtype,
) -> None:
    (state, step), (other, same) = (
        made(algorithm, likelihood, dtype, gpu, own_generator=True) for _ in range(2)
    )
    for _ in range(3):  # the warm-up, which reads how far it is
        step(), same()
    total = torch.zeros((), device=gpu)
    with torch.cuda.stream(torch.cuda.Stream()):
        recording = replay.record(step, lambda info: total.add_(info.bound.sum()))
        expected = same().bound.sum()
        for times, silently in ((1, False), (3, True), (replay.ROUNDS + 2, True), (25, False)):
            recording.repeat(times, silently=silently)
            for _ in range(times):
                info = same()
                expected = expected if silently else expected + info.bound.sum()
    torch.cuda.synchronize()
    assert recording.obstacle == ""
    assert all(map(torch.equal, everything(state), everything(other)))
    assert torch.equal(recording.result.bound, info.bound)
    torch.testing.assert_close(total.double(), expected.double(), rtol=1e-5, atol=0)


@pytest.fixture
def synthetic(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(21)
    pixels = torch.rand(250, 20, generator=generator, dtype=torch.float32)
    images = data.Dataset("synthetic", pixels[:200], pixels[200:], (4, 5), "synthetic")
    monkeypatch.setattr(training, "RUNNING_WINDOW", 2_000)  # most steps are silent
    monkeypatch.setattr(data, "mnist", lambda path=None: images)
    monkeypatch.setattr(data, "frey_face", lambda path=None, split_seed=0: images)


def several() -> list[experiments.Experiment]:
    small = {"hidden": 8, "minibatch": 10, "preset": "smoke"}
    return [
        experiments.LowerBound("mnist", "aevb", 3, samples=20_000, **small),
        experiments.LowerBound("mnist", "wake-sleep", 3, samples=20_000, **small),
        experiments.LowerBound("frey-face", "aevb", 2, samples=12_000, **small),
        experiments.LowerBound("frey-face", "wake-sleep", 2, samples=12_000, **small),
    ]


def test_several_runs_at_once_are_as_each_alone(
    gpu: torch.device, synthetic: None, tmp_path: Path
) -> None:
    together = experiments.run_together(several(), tmp_path / "together", device=gpu)
    for experiment, record in zip(several(), together, strict=True):
        alone = experiments.run(experiment, tmp_path / "alone", device=gpu)
        assert alone.curves == record.curves
        assert record.provenance["device"] == torch.cuda.get_device_name(gpu)
        assert record.provenance["together"] == 4
        assert results.load(record.path) == record


def test_the_curves_are_those_of_the_cpu(
    gpu: torch.device, synthetic: None, tmp_path: Path
) -> None:
    for experiment in several():
        there = experiments.run(experiment, tmp_path / "there", device=gpu).curves
        seeds = [
            experiments.run(dataclasses.replace(experiment, seed=n), tmp_path / "here").curves
            for n in range(3)
        ]
        assert there["samples"] == seeds[0]["samples"]
        assert there["test"][0] == pytest.approx(seeds[0]["test"][0], abs=0.05)
        last = [curves["train"][-1] for curves in seeds]
        spread = max(last) - min(last)
        assert min(last) - 3 * spread < there["train"][-1] < max(last) + 3 * spread


def test_an_interrupted_run_ends_bit_equal(
    gpu: torch.device, synthetic: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = experiments.run_together(several(), tmp_path / "whole", device=gpu)

    def stopped(save: Callable[..., None], *given: Any, **settings: Any) -> None:
        save(*given, **settings)
        if given[2]["samples"] > 11_000:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        checkpoints = training.checkpoints
        patch.setattr(
            training,
            "stages",
            functools.partial(training.stages, checkpoint_seconds=0.0),
        )
        patch.setattr(checkpoints, "store", functools.partial(stopped, checkpoints.store))
        with pytest.raises(KeyboardInterrupt):
            experiments.run_together(several(), tmp_path / "again", device=gpu)
    again = experiments.run_together(several(), tmp_path / "again", device=gpu)
    assert [r.curves for r in again] == [r.curves for r in whole]


def test_monte_carlo_em(gpu: torch.device) -> None:
    generator = torch.Generator().manual_seed(3)
    model = models.bernoulli_vae(12, 9, 2, generator, 0.3).to(gpu)
    x = torch.rand(40, 12, generator=generator).to(gpu)
    optimizer = adagrad.Adagrad(model.generative_model.parameters(), 0.05, warm_up=5)
    generator = torch.Generator(gpu).manual_seed(4)
    state = monte_carlo_em.init(model, optimizer, generator, x)
    found = []
    for _ in range(300):
        state, info = monte_carlo_em.step(state, x, leapfrog_steps=10, weight_updates=5)
        found.append(float(info.log_joint.mean()))
    assert found[-1] > found[0] + 0.2


@pytest.mark.parametrize("name", ["reciprocal", "importance", "annealed"])
def test_the_marginal_likelihood(gpu: torch.device, name: str) -> None:
    generator = torch.Generator().manual_seed(5)
    model = models.bernoulli_vae(12, 9, 2, generator, 0.3)
    x = torch.rand(30, 12, generator=generator).round()
    exact = quadrature(model, x).log_likelihood
    model, x, generator = model.to(gpu), x.to(gpu), torch.Generator(gpu).manual_seed(6)
    estimate = {
        "reciprocal": functools.partial(
            reciprocal_importance_sampling, draws=400, start="resampled"
        ),
        "importance": functools.partial(importance_sampling, samples=2_000),
        "annealed": annealed_importance_sampling,
    }[name]
    found = estimate(model, x, generator=generator).log_likelihood.cpu()
    torch.testing.assert_close(found.mean(), exact.mean(), rtol=0, atol=0.1)


def test_the_initial_parameters_are_the_same(gpu: torch.device) -> None:
    pixels = torch.rand(50, 20, dtype=torch.float32)
    here = data.Dataset("synthetic", pixels, pixels, (4, 5), "synthetic")
    there = here._replace(train=pixels.to(gpu), test=pixels.to(gpu))
    experiment = experiments.LowerBound(latent_dim=2, hidden=8)
    one, other = (experiments.start(experiment, place)[0].model for place in (here, there))
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b.cpu())


def test_a_distribution_is_where_its_parameters_are(gpu: torch.device) -> None:
    q = mlp.GaussianMLP(4, 5, 2).to(gpu)(torch.rand(3, 4, device=gpu))
    assert q.mean.device.type == gpu.type
