"""Appendix D: the marginal likelihood from draws of the posterior."""

import inspect
import math

import numpy as np
import pytest
import torch
from known_answers import assert_mean, linear_gaussian
from scipy.stats import gaussian_kde
from torch import Tensor, nn
from torch.distributions import Independent, MultivariateNormal, Normal

from aevb import hmc, models, reparameterization
from aevb.marginal_likelihood import reciprocal
from aevb.marginal_likelihood._checks import EstimateError
from aevb.marginal_likelihood._weights import worth
from aevb.marginal_likelihood.reciprocal import (
    DENSITIES,
    MULTIPLES,
    reciprocal_importance_sampling,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(2_000 + seed)


def drawn(model: models.LinearGaussian, count: int, generator: torch.Generator) -> Tensor:
    """Datapoints of a linear-Gaussian model."""
    z = torch.randn(count, model.latent_dim, generator=generator)
    x = model.generative_model(z).base_dist
    return (x.mean + x.stddev * torch.randn(x.mean.shape, generator=generator)).detach()


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("latent_dim", [1, 2, 3])
def test_the_reciprocal_is_unbiased(latent_dim: int, density: str) -> None:
    # E[1 / estimate] = 1 / p(x): the ratio p(x) / estimate has the mean one for every datapoint.
    model = linear_gaussian(6, latent_dim)
    x = drawn(model, 400, seeded(latent_dim))
    found = reciprocal_importance_sampling(
        model, x, draws=100, density=density, generator=seeded(10 + latent_dim)
    )
    assert_mean((model.log_evidence(x) - found.log_likelihood).exp(), 1.0)


def test_the_usual_settings_are_the_papers() -> None:
    usual = inspect.signature(reciprocal_importance_sampling).parameters
    assert usual["draws"].default == 50
    assert usual["leapfrog_steps"].default == 4


@pytest.mark.parametrize("start", ["prior", "recognition", "resampled"])
def test_chains_start_where_they_are_told_to(start: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls = linear_gaussian(6, 2), []
    x = drawn(model, 4, seeded())
    q = model.prior.expand((4,)) if start == "prior" else model.recognition_model(x)
    expected = reparameterization.sample(q, 1, seeded())[0]

    def resample(*given: object, generator: torch.Generator) -> Tensor:
        calls.append(given)
        return torch.zeros(4, 2)

    monkeypatch.setattr(reciprocal, "resample", resample)
    z = reciprocal._start(model, x, start, 99, seeded())
    assert calls == ([(model, x, 99)] if start == "resampled" else [])
    torch.testing.assert_close(z, torch.zeros(4, 2) if calls else expected, rtol=0, atol=0)


@pytest.mark.parametrize("density", DENSITIES)
def test_more_draws_come_nearer(density: str) -> None:
    model = linear_gaussian(6, 2)
    x = drawn(model, 100, seeded())
    errors = []
    for draws in (50, 200):
        found = reciprocal_importance_sampling(
            model, x, draws=draws, density=density, generator=seeded(1)
        )
        errors.append((found.log_likelihood - model.log_evidence(x)).square().mean().sqrt())
    assert errors[1] < errors[0] < 0.5


def test_it_is_exact_where_q_is_the_posterior(monkeypatch: pytest.MonkeyPatch) -> None:
    model = linear_gaussian(6, 3)
    x = drawn(model, 5, seeded())
    monkeypatch.setattr(
        reciprocal, "_log_density", lambda fitted, z, density: model.posterior(x).log_prob(z)
    )
    found = reciprocal_importance_sampling(model, x, generator=seeded())
    torch.testing.assert_close(found.log_likelihood, model.log_evidence(x))
    torch.testing.assert_close(found.effective_sample_size, torch.full((5,), 25.0))


def test_chains_may_start_at_the_prior() -> None:
    model = linear_gaussian(6, 2)
    x = drawn(model, 300, seeded())
    found = reciprocal_importance_sampling(
        model, x, draws=200, density="gaussian", start="prior", generator=seeded(4)
    )
    assert_mean((model.log_evidence(x) - found.log_likelihood).exp(), 1.0)


def test_each_chain_finds_its_own_step_size() -> None:
    # Two posteriors whose widths differ by a factor of 50, in one batch.
    class Decoder(nn.Module):
        def forward(self, z: Tensor) -> Independent:
            return Independent(Normal(torch.cat([z, z], -1), torch.tensor([0.02, 1e6])), 1)

    class Joint(models.LatentVariableModel):
        def log_joint(self, x: Tensor, z: Tensor) -> Tensor:
            width = torch.where(x[:, 0] > 0, 1.0, 0.02)
            return Normal(torch.zeros(()), width).log_prob(z[..., 0])  # p(x) is one

    model = Joint(Decoder(), nn.Identity(), 1)
    x = torch.tensor([[1.0], [-1.0]]).repeat(100, 1)
    found = reciprocal_importance_sampling(
        model, x, draws=200, density="gaussian", start="prior", burn_in=100, generator=seeded()
    )
    for which in (slice(0, None, 2), slice(1, None, 2)):
        assert_mean((-found.log_likelihood[which]).exp(), 1.0)
        assert 0.8 < found.acceptance_rate[which].mean() < 0.95


@pytest.mark.parametrize("multiple", [0.4, 1.0, 2.0])
def test_the_kernels_are_scipys(monkeypatch: pytest.MonkeyPatch, multiple: float) -> None:
    generator = seeded()
    centers, z = torch.randn(12, 1, 2, generator=generator), torch.randn(9, 1, 2)
    centers = centers @ torch.tensor([[1.0, 0.5], [0.0, 0.3]])
    monkeypatch.setattr(reciprocal, "MULTIPLES", (multiple,))
    ours = reciprocal._log_density(centers, z, "kde")
    theirs = gaussian_kde(centers[:, 0].T.numpy())
    theirs.set_bandwidth(theirs.scotts_factor() * multiple)
    np.testing.assert_allclose(ours[:, 0].exp(), theirs(z[:, 0].T.numpy()))


def test_every_density_is_normalized() -> None:
    fitted = torch.randn(20, 1, 1, generator=seeded())
    z = torch.linspace(-15, 15, 20_001)[:, None, None]
    for density in DENSITIES:
        q = reciprocal._log_density(fitted, z, density).exp()
        torch.testing.assert_close(torch.trapezoid(q[:, 0], z[:, 0, 0]), torch.tensor(1.0))


def test_the_bandwidth_is_the_one_that_explains_one_half_from_the_other() -> None:
    # Two clusters far apart want narrow kernels, one cluster wide ones. Both at once, so that each
    # datapoint has to find its own.
    one = torch.randn(40, 1, 1, generator=seeded())
    two = 0.02 * one + torch.tensor([-5.0, 5.0]).repeat(20)[:, None, None]

    def kernels(centers: torch.Tensor, z: torch.Tensor, multiple: float) -> torch.Tensor:
        width = multiple * len(centers) ** (-1 / 5)
        q = MultivariateNormal(centers, covariance * width**2)
        return q.log_prob(z[:, None]).logsumexp(1) - math.log(len(centers))

    found = reciprocal._log_density(*[torch.cat([two, one], 1)] * 2, "kde")
    for column, (draws, narrow) in enumerate(((two[:, 0], True), (one[:, 0], False))):
        covariance, (first, second) = draws.T.cov().view(1, 1), draws.tensor_split(2)
        scores = [
            (kernels(first, second, m).sum() + kernels(second, first, m).sum()).item()
            for m in MULTIPLES
        ]
        best = MULTIPLES[int(np.argmax(scores))]
        assert best == MULTIPLES[0] if narrow else 0.3 < best < 2.0
        torch.testing.assert_close(found[:, column], kernels(draws, draws, best))


def test_batches_leave_no_datapoint_out_and_seeds_decide() -> None:
    model = linear_gaussian(4, 1)
    x = drawn(model, 7, seeded())
    first, again, other = (
        reciprocal_importance_sampling(model, x, batch=3, generator=seeded(seed))
        for seed in (1, 1, 2)
    )
    assert {len(field) for field in first} == {7}
    assert torch.equal(first.log_likelihood, again.log_likelihood)
    assert not torch.equal(first.log_likelihood, other.log_likelihood)
    assert (first.effective_sample_size >= 1).all()
    assert (first.effective_sample_size <= 25.001).all()


def test_the_gaussian_serves_in_six_dimensions_and_the_kernels_do_not() -> None:
    model = linear_gaussian(8, 6)
    x = drawn(model, 4, seeded())
    with pytest.raises(ValueError, match=r"gaussian or diagonal .* more than 5 .* found kde for 6"):
        reciprocal_importance_sampling(model, x)
    found = reciprocal_importance_sampling(model, x, density="gaussian", generator=seeded())
    assert found.log_likelihood.isfinite().all()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"density": "histogram"}, "density: expected one of kde, gaussian, diagonal"),
        (
            {"start": "posterior"},
            "start: expected one of recognition, prior, resampled; found 'posterior'",
        ),
        ({"draws": 11}, "draws: expected at least 12 .* kde of 2 .*, found 11"),
        ({"draws": 7, "density": "gaussian"}, "draws: expected at least 8 .* gaussian"),
        ({"draws": 0, "density": "diagonal"}, "draws: expected at least 6 .* found 0"),
        ({"burn_in": -1}, "burn_in: expected at least 0, found -1"),
        ({"batch": 0}, "batch: expected at least 1, found 0"),
        ({"leapfrog_steps": 0}, "leapfrog steps: expected at least 1, found 0"),
        ({"step_size": -0.1}, "step_size: expected positive numbers"),
        ({"step_size": torch.ones(2)}, r"step_size: .* or the shape \(3,\), found \(2,\)"),
        ({"start": torch.zeros(3, 1)}, r"start: .* shape \(3, 2\), found \(3, 1\)"),
    ],
)
def test_wrong_arguments_are_named(changed: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        reciprocal_importance_sampling(linear_gaussian(4, 2), torch.zeros(3, 4), **changed)


def test_the_datapoints_are_a_matrix() -> None:
    with pytest.raises(ValueError, match=r"x: expected the shape \(M, D\), found \(4,\)"):
        reciprocal_importance_sampling(linear_gaussian(4, 2), torch.zeros(4))
    with pytest.raises(ValueError, match="x: expected at least one datapoint, found the"):
        reciprocal_importance_sampling(linear_gaussian(4, 2), torch.zeros(0, 4))


def test_a_decoder_that_returns_nan_is_an_error() -> None:
    model = models.bernoulli_vae(4, 5, 2, seeded())
    with torch.no_grad():
        model.generative_model.hidden.bias[0] = torch.nan
    with pytest.raises(hmc.InitialPositionError, match="3 of 3 chains"):
        reciprocal_importance_sampling(model, torch.zeros(3, 4))


@pytest.mark.parametrize("density", DENSITIES)
def test_chains_that_never_move_are_an_error(density: str) -> None:
    model = linear_gaussian(4, 2)
    with (
        pytest.warns(hmc.DivergenceWarning),
        pytest.raises(EstimateError, match="found 3 of 3 that do not") as error,
    ):
        reciprocal_importance_sampling(
            model, torch.zeros(3, 4), density=density, burn_in=0, step_size=1e6
        )
    assert isinstance(error.value, RuntimeError)


def test_start_positions_take_the_models_precision() -> None:
    model, x = linear_gaussian(4, 2).float(), torch.zeros(3, 4, dtype=torch.float32)
    start = torch.randn(3, 2, dtype=torch.float64, generator=seeded())
    one, two = (
        reciprocal_importance_sampling(model, x, start=given, generator=seeded(1))
        for given in (start, start.float())
    )
    assert one.position.dtype == one.log_likelihood.dtype == torch.float32
    assert torch.equal(one.log_likelihood, two.log_likelihood)


def test_the_effective_sample_size_is_at_most_the_number_of_draws() -> None:
    # Equal weights, where the quotient may round to more.
    count = 25
    log_weight = torch.full((count, 1_000), 0.1) * torch.arange(1_000)
    total, square = log_weight.logsumexp(0), (2 * log_weight).logsumexp(0)
    assert ((2 * total - square).exp() > count).any()
    effective, error = worth(total, square, count)
    torch.testing.assert_close(effective, torch.full((1_000,), 1.0 * count))
    assert (effective <= count).all()
    assert (error < 1e-6).all()


def test_a_chain_that_got_stuck_goes_on_with_smaller_steps() -> None:
    model = linear_gaussian(4, 2)
    x = torch.randn(6, 4, generator=seeded(7))
    with pytest.warns(hmc.DivergenceWarning):  # the first steps are far too large
        found = reciprocal_importance_sampling(
            model, x, draws=400, density="gaussian", burn_in=0, step_size=60.0, generator=seeded(8)
        )
    assert (found.acceptance_rate > 0.3).all()
    assert (found.step_size < 60 / 9).all()  # a later estimate does not get stuck again
    torch.testing.assert_close(found.log_likelihood, model.log_evidence(x), rtol=0, atol=0.2)


def test_chains_go_on_where_an_earlier_estimate_ended() -> None:
    model, generator = linear_gaussian(4, 2), seeded(1)
    x = torch.randn(6, 4, generator=seeded())
    step_size = torch.linspace(0.05, 0.3, 6)
    settings = {"burn_in": 0, "batch": 6}
    whole = reciprocal_importance_sampling(
        model, x, draws=100, start="prior", step_size=step_size, generator=seeded(1), **settings
    )
    first = reciprocal_importance_sampling(
        model, x, start="prior", step_size=step_size, generator=generator, **settings
    )
    then = {"start": first.position, "step_size": first.step_size, "generator": generator}
    second = reciprocal_importance_sampling(model, x, **then, **settings)
    assert torch.equal(first.step_size, step_size)
    assert torch.equal(second.position, whole.position)
    assert not torch.equal(second.position, first.position)


def test_a_step_size_is_as_exact_as_the_model() -> None:
    x, settings = torch.zeros(2, 4, dtype=torch.float64), {"burn_in": 0, "generator": seeded()}
    before = torch.get_default_dtype()
    model = linear_gaussian(4, 2).double()
    try:
        torch.set_default_dtype(torch.float32)
        found = reciprocal_importance_sampling(model, x, step_size=0.1, **settings)
    finally:
        torch.set_default_dtype(before)
    assert found.step_size.tolist() == [0.1, 0.1]


def test_each_part_starts_at_its_own_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = linear_gaussian(4, 2), torch.zeros(5, 4)
    given, sample = [], hmc.sample

    def noted(state: hmc.State, density: object, step_size: Tensor, *rest: int, **settings: object):
        given.append((state.position, step_size))
        return sample(state, density, step_size, *rest, **settings)

    monkeypatch.setattr(hmc, "sample", noted)
    start, step_size = torch.randn(5, 2, generator=seeded()), torch.linspace(0.05, 0.3, 5)
    found = reciprocal_importance_sampling(
        model, x, start=start, step_size=step_size, batch=2, generator=seeded(1)
    )
    positions, sizes = (torch.cat(field) for field in zip(*given, strict=True))
    assert torch.equal(positions, start)
    assert torch.equal(sizes, step_size)
    assert found.position.shape == (5, 2)
    assert found.step_size.shape == (5,)


def test_the_first_half_is_fitted_and_the_second_averaged(monkeypatch) -> None:
    # An odd number of draws: the second half is the longer one.
    model, given = linear_gaussian(6, 2), []
    x, density, sample = drawn(model, 3, seeded()), reciprocal._log_density, hmc.sample

    def sampled(*arguments: object, **settings: object) -> hmc.Samples:
        given.append(sample(*arguments, **settings))
        return given[0]

    def noted(fitted: Tensor, z: Tensor, kind: str) -> Tensor:
        given.extend([fitted, z, density(fitted, z, kind)])
        return given[-1]

    monkeypatch.setattr(hmc, "sample", sampled)
    monkeypatch.setattr(reciprocal, "_log_density", noted)
    found = reciprocal_importance_sampling(model, x, draws=51, generator=seeded(1))

    chains, fitted, averaged, log_q = given
    assert torch.equal(fitted, chains.positions[:25])
    assert torch.equal(averaged, chains.positions[25:])
    mean = (log_q - model.log_joint(x, averaged)).exp().mean(0)
    torch.testing.assert_close(found.log_likelihood, -mean.log())


def test_the_halves_are_explained_from_each_other() -> None:
    # A narrow one and a wide one: either direction alone would choose another bandwidth.
    draws = torch.randn(40, 1, 1, generator=seeded())
    draws[:20] *= 0.1
    found, swapped = (reciprocal._log_density(d, draws, "kde") for d in (draws, draws.roll(20, 0)))
    torch.testing.assert_close(found, swapped)
