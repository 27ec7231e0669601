"""Annealed importance sampling of the marginal likelihood, forth and back."""

import math

import pytest
import torch
from known_answers import FreeGaussian, assert_mean, linear_gaussian
from torch import Tensor

from aevb import hmc, models
from aevb.marginal_likelihood import annealed
from aevb.marginal_likelihood.annealed import (
    annealed_importance_sampling,
    bidirectional,
    sigmoidal_schedule,
    simulate,
)
from aevb.marginal_likelihood.importance import importance_sampling


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(8_000 + seed)


def bench(latent_dim: int, datapoints: int) -> tuple[models.LinearGaussian, Tensor, Tensor]:
    """A model, data of its own with their latent vectors, and an encoder that is off."""
    model = linear_gaussian(6, latent_dim)
    x, z = simulate(model, datapoints, seeded(1))
    posterior = model.posterior(x)
    scale = 1.3 * posterior.covariance_matrix.diagonal(dim1=1, dim2=2).sqrt()
    model.recognition_model = FreeGaussian(posterior.mean + 0.2, scale)
    return model, x, z


# -- The schedule ------------------------------------------------------------------------------


def test_the_schedule_by_hand() -> None:
    # T = 4: the logistic function at -4, -2, 0, 2, 4, shifted and scaled.
    raw = [1 / (1 + math.exp(-u)) for u in (-4, -2, 0, 2, 4)]
    expected = [(r - raw[0]) / (raw[4] - raw[0]) for r in raw]
    assert sigmoidal_schedule(4).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("temperatures", [1, 2, 7, 1_000])
def test_the_schedule_goes_from_zero_to_one(temperatures: int) -> None:
    schedule = sigmoidal_schedule(temperatures, 6.0)
    assert schedule.shape == (temperatures + 1,)
    assert (schedule[0], schedule[-1]) == (0, 1)
    assert (schedule.diff() > 0).all()
    torch.testing.assert_close(schedule + schedule.flip(0), torch.ones_like(schedule))


# -- Identities --------------------------------------------------------------------------------


@pytest.mark.parametrize(("start", "proposal"), [("prior", "prior"), ("recognition",) * 2])
def test_one_temperature_is_importance_sampling(start: str, proposal: str) -> None:
    model, x, _ = bench(2, 5)
    found = annealed_importance_sampling(
        model, x, chains=50, temperatures=1, start=start, generator=seeded()
    )
    expected = importance_sampling(model, x, 50, proposal=proposal, generator=seeded())
    torch.testing.assert_close(found.log_likelihood, expected.log_likelihood)
    torch.testing.assert_close(found.standard_error, expected.standard_error)
    torch.testing.assert_close(found.effective_sample_size, expected.effective_sample_size)
    assert found.acceptance_rate.isnan().all()


@pytest.mark.parametrize("decoded", [1, 7 * 6 * 2, 2**21])  # datapoints in parts, or all at once
def test_one_temperature_back_is_appendix_d(decoded: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(annealed, "DECODED", decoded)
    model, x, _ = bench(2, 5)
    z = torch.randn(7, 5, 2, generator=seeded(3))
    upper = bidirectional(model, x, z, chains=7, temperatures=1).upper
    log_weight = model.prior.log_prob(z) - model.log_joint(x, z)
    expected = -(log_weight.logsumexp(0) - math.log(7))
    torch.testing.assert_close(upper.log_likelihood, expected.detach())
    weight = log_weight.exp()
    relative = weight.std(0) / weight.mean(0) / math.sqrt(7)
    torch.testing.assert_close(upper.standard_error, relative.detach())


def test_a_start_at_the_posterior_has_nothing_to_correct() -> None:
    model, x, z = bench(1, 5)
    posterior = model.posterior(x)
    model.recognition_model = FreeGaussian(posterior.mean, posterior.variance.sqrt())
    found = bidirectional(
        model, x, z, chains=3, temperatures=6, start="recognition", generator=seeded()
    )
    for bound in found:
        torch.testing.assert_close(bound.log_likelihood, model.log_evidence(x).detach())
        assert (bound.standard_error < 1e-6).all()


def test_a_schedule_of_ones_own() -> None:
    model, x, _ = bench(2, 5)
    options = {"chains": 7, "generator": seeded()}
    found = annealed_importance_sampling(model, x, temperatures=sigmoidal_schedule(8), **options)
    options["generator"] = seeded()
    expected = annealed_importance_sampling(model, x, temperatures=8, **options)
    torch.testing.assert_close(found, expected)


def test_one_chain_has_no_standard_error() -> None:
    model, x, _ = bench(2, 5)
    found = annealed_importance_sampling(model, x, chains=1, temperatures=3, generator=seeded())
    assert found.standard_error.isnan().all()
    assert (found.effective_sample_size == 1).all()
    assert found.log_likelihood.isfinite().all()


# -- Known answers -----------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["prior", "recognition"])
@pytest.mark.parametrize("latent_dim", [1, 2, 3])
def test_the_weight_is_unbiased(latent_dim: int, start: str) -> None:
    # Many copies of one datapoint; few temperatures, short trajectories, some of them rejected.
    model, x, _ = bench(latent_dim, 1)
    found = annealed_importance_sampling(
        model,
        x.expand(4_000, -1),
        chains=1,
        temperatures=20,
        leapfrog_steps=2,
        start=start,
        step_size=0.5 if start == "prior" else 0.35,
        pilot=False,
        generator=seeded(),
    )
    assert 0.4 < found.acceptance_rate.mean() < 0.97
    assert_mean((found.log_likelihood - model.log_evidence(x)).exp().detach(), 1.0)


@pytest.mark.parametrize("start", ["prior", "recognition"])
@pytest.mark.parametrize("latent_dim", [1, 2, 3])
def test_the_weight_back_is_unbiased_for_the_reciprocal(latent_dim: int, start: str) -> None:
    model, x, _ = bench(latent_dim, 1)
    count = 4_000
    mean, covariance = model.posterior(x).mean, model.posterior(x).covariance_matrix[0]
    noise = torch.randn(count, latent_dim, generator=seeded(2))
    z = (mean + noise @ torch.linalg.cholesky(covariance).T).detach()
    found = bidirectional(
        model,
        x.expand(count, -1),
        z,
        chains=1,
        temperatures=20,
        leapfrog_steps=2,
        start=start,
        step_size=0.5 if start == "prior" else 0.35,
        pilot=False,
        generator=seeded(),
    )
    assert 0.4 < found.upper.acceptance_rate.mean() < 0.97
    assert_mean((model.log_evidence(x) - found.upper.log_likelihood).exp().detach(), 1.0)


@pytest.mark.parametrize("latent_dim", [1, 2, 3])
def test_the_truth_lies_between_the_bounds(latent_dim: int) -> None:
    model, x, z = bench(latent_dim, 20)
    exact = model.log_evidence(x).detach()

    found = bidirectional(model, x, z, chains=80, temperatures=150, generator=seeded())

    for bound in found:
        assert (bound.standard_error < 0.3).all()
        assert ((bound.log_likelihood - exact).abs() < 4 * bound.standard_error).all()
        assert (bound.acceptance_rate > 0.6).all()
        assert (bound.effective_sample_size > 16).all()


def test_single_chains_are_bounds_on_average_and_more_temperatures_tighten_them() -> None:
    model, x, z = bench(2, 1_000)
    exact, gaps = model.log_evidence(x).detach(), []
    for temperatures in (4, 16):
        lower, upper = bidirectional(
            model, x, z, chains=1, temperatures=temperatures, generator=seeded()
        )
        below, above = exact - lower.log_likelihood, upper.log_likelihood - exact
        for gap in (below, above):
            assert gap.mean() > 4 * gap.std() / len(gap) ** 0.5
        gaps.append((below + above).mean())
    assert gaps[1] < 0.5 * gaps[0]


def test_it_finds_both_modes_where_the_recognition_model_sees_one() -> None:
    # x = |z| + noise: the posterior is the same on both sides of zero.
    class Folded(models.LinearGaussian):
        def log_joint(self, x: Tensor, z: Tensor) -> Tensor:
            return super().log_joint(x, z.abs())

    w = torch.full((4, 1), 1.0)
    plain = models.LinearGaussian(w, torch.zeros(4), 0.5)
    x = torch.full((3, 4), 2.0)
    posterior = plain.posterior(x)
    folded = Folded(w, torch.zeros(4), 0.5, FreeGaussian(posterior.mean, posterior.variance.sqrt()))
    above = torch.special.log_ndtr(posterior.mean / posterior.variance.sqrt())[:, 0]
    exact = (plain.log_evidence(x) + above + math.log(2)).detach()

    found = annealed_importance_sampling(folded, x, chains=200, generator=seeded())
    blind = importance_sampling(folded, x, 200, generator=seeded())

    assert ((found.log_likelihood - exact).abs() < 4 * found.standard_error).all()
    assert (found.standard_error < 0.1).all()
    torch.testing.assert_close(
        blind.log_likelihood, exact - math.log(2), atol=0.01, rtol=0
    )  # half of it is missing, and the standard error does not say so
    assert (blind.standard_error < 0.01).all()


# -- The pilot run -----------------------------------------------------------------------------


def test_the_pilot_run_fits_each_posterior() -> None:
    # One call, posteriors of very different widths: the step sizes differ as they have to.
    model, x, _ = bench(2, 2)

    class Sharper(models.LinearGaussian):
        def log_joint(self, x: Tensor, z: Tensor) -> Tensor:
            factor = torch.tensor([1.0, 400.0])
            return self.prior.log_prob(z) + factor * self.generative_model(z).log_prob(x)

    decoder = model.generative_model
    sharper = Sharper(decoder.weight, decoder.bias, decoder.noise_scale)
    found = annealed_importance_sampling(
        sharper, x, chains=20, temperatures=100, step_size=0.5, generator=seeded()
    )
    assert ((found.acceptance_rate > 0.65) & (found.acceptance_rate < 0.95)).all()
    fixed = annealed_importance_sampling(
        sharper, x, chains=20, temperatures=100, step_size=0.5, pilot=False, generator=seeded()
    )
    assert fixed.acceptance_rate[1] < 0.5


def test_no_step_size_depends_on_a_chain_that_is_weighed(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, z = bench(2, 3)
    events: list[str] = []
    step, adapt = hmc.step, hmc.adapt

    def stepped(state: hmc.State, *args, **kwargs):
        events.append("pilot" if len(state.position) == annealed.PILOTS else "weighed")
        return step(state, *args, **kwargs)

    def adapted(*args, **kwargs):
        events.append("adapted")
        return adapt(*args, **kwargs)

    monkeypatch.setattr(hmc, "step", stepped)
    monkeypatch.setattr(hmc, "adapt", adapted)
    bidirectional(model, x, z, chains=9, temperatures=150, generator=seeded())

    assert events == ["pilot", "adapted"] * 149 + ["weighed"] * 149 * 2


def test_both_directions_move_with_the_same_step_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, z = bench(2, 3)
    monkeypatch.setattr(annealed, "JITTER", 0.0)
    sizes: list[tuple[float, Tensor]] = []
    step = hmc.step

    def stepped(state: hmc.State, target, step_size: Tensor, *args, **kwargs):
        if len(state.position) == 9:
            sizes.append((target.beta, step_size))
        return step(state, target, step_size, *args, **kwargs)

    monkeypatch.setattr(hmc, "step", stepped)
    bidirectional(model, x, z, chains=9, temperatures=5, generator=seeded())

    assert [beta for beta, _ in sizes[:4]] == sigmoidal_schedule(5)[1:-1].tolist()
    for (beta, size), (beta_back, size_back) in zip(sizes[:4], reversed(sizes[4:]), strict=True):
        assert beta == beta_back
        assert torch.equal(size, size_back)
    assert not torch.equal(sizes[0][1], sizes[3][1])


# -- Parts, randomness, simulation -------------------------------------------------------------


def test_datapoints_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, _ = bench(2, 11)
    posterior = model.posterior(x)  # an exact draw for each chain
    noise = torch.randn(30, 11, 2, 1, generator=seeded(2))
    z = (posterior.mean + (posterior.scale_tril @ noise)[..., 0]).detach()
    monkeypatch.setattr(annealed, "DECODED", 30 * 6 * 4)  # four datapoints at once
    found = bidirectional(model, x, z, chains=30, temperatures=60, generator=seeded())
    for bound in found:
        assert all(field.shape == (11,) for field in bound)
        off = (bound.log_likelihood - model.log_evidence(x)).abs()
        assert (bound.standard_error < 0.5).all()
        assert (off < 4 * bound.standard_error).all()


def test_no_graph_and_no_global_randomness() -> None:
    model, x, _ = bench(2, 3)
    before = torch.get_rng_state()
    one, two = (
        annealed_importance_sampling(
            model, x, chains=3, temperatures=4, start="recognition", generator=seeded()
        )
        for _ in range(2)
    )
    assert not any(field.requires_grad for field in one)
    assert torch.equal(one.log_likelihood, two.log_likelihood)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_simulated_data_have_the_models_moments() -> None:
    model = linear_gaussian(3, 2)
    x, z = simulate(model, 20_000, seeded())
    decoder = model.generative_model
    assert_mean(z, 0.0)
    assert_mean(x, decoder.bias.detach())
    cross = (x - decoder.bias).detach()[:, :, None] * z[:, None]
    assert_mean(cross.flatten(1), decoder.weight.detach().flatten())


def test_simulated_pixels_are_zero_or_one() -> None:
    x, z = simulate(models.bernoulli_vae(5, 3, 2, seeded()), 30, seeded())
    assert x.shape == (30, 5)
    assert z.shape == (30, 2)
    assert set(x.unique().tolist()) == {0.0, 1.0}


# -- Errors ------------------------------------------------------------------------------------

BAD_SCHEDULES = [[0.0], [0.0, 0.5], [0.1, 1.0], [0.0, 0.6, 0.5, 1.0], [0.0, 0.5, 0.5, 1.0]]


@pytest.mark.parametrize("values", BAD_SCHEDULES)
def test_a_schedule_increases_from_zero_to_one(values: list[float]) -> None:
    model, x, _ = bench(2, 3)
    with pytest.raises(ValueError, match=r"temperatures: expected .* that increases from 0 to 1"):
        annealed_importance_sampling(model, x, temperatures=torch.tensor(values))


def test_arguments_are_checked() -> None:
    model, x, z = bench(2, 3)
    with pytest.raises(ValueError, match=r"x: expected the shape \(M, D\), found \(6,\)"):
        annealed_importance_sampling(model, x[0])
    with pytest.raises(ValueError, match="x: expected at least one datapoint, found the"):
        annealed_importance_sampling(model, x[:0])
    with pytest.raises(ValueError, match="chains: expected at least 1, found 0"):
        annealed_importance_sampling(model, x, chains=0)
    with pytest.raises(ValueError, match="temperatures: expected at least 1, found 0"):
        annealed_importance_sampling(model, x, temperatures=0)
    for steepness in (0, math.inf):
        message = f"steepness: expected a positive number, found {steepness}"
        with pytest.raises(ValueError, match=message):
            sigmoidal_schedule(3, steepness)
    with pytest.raises(ValueError, match="start: expected prior or recognition, found 'posterior'"):
        annealed_importance_sampling(model, x, start="posterior")
    with pytest.raises(ValueError, match="leapfrog steps: expected at least 1, found 0"):
        annealed_importance_sampling(model, x, leapfrog_steps=0)
    for step_size in (-0.1, math.inf):
        message = f"step_size: expected a positive number, found {step_size}"
        with pytest.raises(ValueError, match=message):
            annealed_importance_sampling(model, x, step_size=step_size)
    for wrong in (z[:2], z[None], z.expand(4, 3, 2)):
        with pytest.raises(ValueError, match=r"z: expected the shape \(3, 2\) or \(16, 3, 2\)"):
            bidirectional(model, x, wrong)


def test_a_decoder_that_returns_no_number_is_refused() -> None:
    model = models.bernoulli_vae(4, 3, 2, seeded())
    x = torch.rand(3, 4, generator=seeded(1))
    x[1] = math.nan
    with pytest.raises(hmc.InitialPositionError, match="found nan"):
        annealed_importance_sampling(model, x, chains=2, temperatures=3)


def test_the_acceptance_rate_is_a_chance_and_no_count() -> None:
    model, x, _ = bench(2, 50)  # one move of one chain, which is accepted or not
    found = annealed_importance_sampling(
        model, x, chains=1, temperatures=2, step_size=0.3, pilot=False, generator=seeded()
    )
    assert ((found.acceptance_rate > 0) & (found.acceptance_rate < 1)).any()
