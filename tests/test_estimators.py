"""Sections 2.2, 2.3 and 3: the SGVB estimators and the minibatch estimator."""

import itertools
import math

import pytest
import torch
from known_answers import FreeGaussian, assert_mean, closed_form_bound, linear_gaussian
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from aevb import estimators, models

ESTIMATORS = {"A": estimators.sgvb_a, "B": estimators.sgvb_b}
VAES = {"Bernoulli": models.bernoulli_vae, "Gaussian": models.gaussian_vae}
both_estimators = pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=ESTIMATORS)
both_vaes = pytest.mark.parametrize("build", VAES.values(), ids=VAES)

X = torch.tensor([[1.5, -0.4, 0.3, 2.0]], dtype=torch.float64)
MEAN = torch.tensor([0.3, -0.8], dtype=torch.float64)
SCALE = torch.tensor([0.7, 0.4], dtype=torch.float64)


def seeded(seed: int = 0) -> torch.Generator:
    # Statistical tests set their own seed: see the note on random tests in conftest.py. None is
    # conftest's, or the noise would be the data.
    return torch.Generator().manual_seed(1_000 + seed)


# -- The formulas, with the same noise --------------------------------------------------------


@both_vaes
def test_estimator_b_is_equation_10(build) -> None:
    model, x = build(7, 5, 2, std=0.5), torch.rand(6, 7)

    bounds = estimators.sgvb_b(model, x, 3, seeded())

    q = model.recognition_model(x)
    mean, scale = q.mean, q.stddev
    epsilon = torch.randn(3, 6, 2, generator=seeded())
    kl_part = 0.5 * (1 + torch.log(scale**2) - mean**2 - scale**2).sum(-1)
    likelihood = sum(model.generative_model(mean + scale * e).log_prob(x) for e in epsilon) / 3

    assert bounds.shape == (6,)
    torch.testing.assert_close(bounds, kl_part + likelihood)


@both_vaes
def test_estimator_a_is_equation_6(build) -> None:
    model, x = build(7, 5, 2, std=0.5), torch.rand(6, 7)

    bounds = estimators.sgvb_a(model, x, 3, seeded())

    q = model.recognition_model(x)
    epsilon = torch.randn(3, 6, 2, generator=seeded())
    terms = []
    for z in q.mean + q.stddev * epsilon:
        prior = Normal(0.0, 1.0).log_prob(z).sum(-1)
        log_q = Normal(q.mean, q.stddev).log_prob(z).sum(-1)
        terms.append(prior + model.generative_model(z).log_prob(x) - log_q)

    assert bounds.shape == (6,)
    torch.testing.assert_close(bounds, sum(terms) / 3)


# -- Unbiasedness ------------------------------------------------------------------------------


@both_estimators
def test_the_value_is_unbiased(estimator) -> None:
    model = linear_gaussian(4, 2, FreeGaussian(MEAN, SCALE))

    bounds = estimator(model, X.expand(50_000, -1), 1, seeded()).detach()

    assert_mean(bounds, closed_form_bound(model, X, MEAN, SCALE).item())


@both_estimators
def test_the_gradient_in_the_variational_parameters_is_unbiased(estimator) -> None:
    n = 50_000  # every row has parameters of its own, so every row's gradient is a draw
    q = FreeGaussian(MEAN.expand(n, -1), SCALE.expand(n, -1))
    model = linear_gaussian(4, 2, q)

    estimator(model, X.expand(n, -1), 1, seeded()).sum().backward()

    mean, log_scale = MEAN.clone().requires_grad_(), SCALE.log().requires_grad_()
    closed_form_bound(model, X, mean, log_scale.exp()).sum().backward()
    assert_mean(q.mean.grad, mean.grad)
    assert_mean(q.log_scale.grad, log_scale.grad)


@both_estimators
def test_the_gradient_in_the_generative_parameters_is_unbiased(estimator) -> None:
    model, generator = linear_gaussian(4, 2, FreeGaussian(MEAN, SCALE)), seeded()
    parameters = list(model.generative_model.parameters())
    draws = [
        torch.autograd.grad(estimator(model, X.expand(50, -1), 1, generator).mean(), parameters)
        for _ in range(500)
    ]

    bound = closed_form_bound(model, X, MEAN, SCALE).sum()
    for found, exact in zip(
        zip(*draws, strict=True), torch.autograd.grad(bound, parameters), strict=True
    ):
        assert_mean(torch.stack(found), exact)


@both_estimators
def test_the_gradient_of_an_amortized_model_is_unbiased(estimator) -> None:
    # One set of parameters, theta and phi together, and datapoints that differ.
    model, x, generator = linear_gaussian(4, 2), torch.randn(20, 4), seeded()
    parameters = list(model.parameters())
    draws = [
        torch.autograd.grad(estimator(model, x, 1, generator).sum(), parameters) for _ in range(500)
    ]

    q = model.recognition_model(x)
    bound = closed_form_bound(model, x, q.mean, q.stddev).sum()
    for found, exact in zip(
        zip(*draws, strict=True), torch.autograd.grad(bound, parameters), strict=True
    ):
        assert_mean(torch.stack(found), exact)


@both_vaes
def test_the_two_estimators_have_one_mean(build) -> None:
    model, x = build(7, 5, 2, std=0.5), torch.rand(1, 7).expand(50_000, -1)

    with torch.no_grad():
        a = estimators.sgvb_a(model, x, 1, seeded(1))
        b = estimators.sgvb_b(model, x, 1, seeded(2))
        same_noise = estimators.sgvb_b(model, x, 1, seeded(1))

    assert_mean(a - b, 0.0)
    assert_mean(a - same_noise, 0.0)


# -- Variance ----------------------------------------------------------------------------------


def variances(mean: float, scale: float) -> dict[str, float]:
    """Of both estimators, exactly, where z is one number: quadratics in the noise."""
    model = linear_gaussian(4, 1)
    weight, bias = model.generative_model.weight.detach(), model.generative_model.bias.detach()
    noise = model.generative_model.noise_scale**2
    error = X[0] - bias - weight[:, 0] * mean
    slope = (error @ weight[:, 0]).item() * scale / noise
    curvature = -0.5 * (weight**2).sum().item() * scale**2 / noise
    # log p(z) - log q(z), which B replaces by its mean, has slope -mean * scale and
    # curvature (1 - scale^2) / 2. Var(a eps + b eps^2) = a^2 + 2 b^2.
    return {
        "A": (slope - mean * scale) ** 2 + 2 * (curvature + 0.5 * (1 - scale**2)) ** 2,
        "B": slope**2 + 2 * curvature**2,
    }


def assert_variance(draws: Tensor, expected: float) -> None:
    squared = (draws - draws.mean()) ** 2
    assert_mean(squared, expected)


@both_estimators
@pytest.mark.parametrize(("mean", "scale"), [(0.3, 0.7), (3.0, 1.0), (-2.0, 0.2)])
def test_the_variance_is_known(estimator, mean: float, scale: float) -> None:
    q = FreeGaussian(torch.tensor([mean]), torch.tensor([scale]))
    model = linear_gaussian(4, 1, q)

    with torch.no_grad():
        draws = estimator(model, X.expand(100_000, -1), 1, seeded())

    name = next(key for key, value in ESTIMATORS.items() if value is estimator)
    assert_variance(draws, variances(mean, scale)[name])


def test_neither_estimator_always_has_the_lower_variance() -> None:
    # "Typically" B has (section 2.3). At the posterior it is A, whose variance is then zero:
    # log p(x, z) - log q(z|x) = log p(x), whatever z.
    model = linear_gaussian(4, 1)
    posterior = model.posterior(X)
    mean, scale = posterior.mean.item(), posterior.variance.sqrt().item()
    model.recognition_model = FreeGaussian(torch.tensor([mean]), torch.tensor([scale]))

    with torch.no_grad():
        a = estimators.sgvb_a(model, X.expand(1000, -1), 1, seeded())
    torch.testing.assert_close(a, model.log_evidence(X).expand(1000))

    assert variances(mean, scale)["A"] == pytest.approx(0.0, abs=1e-12)
    assert variances(mean, scale)["B"] > 0.1

    # Where prior and likelihood pull z the same way, B is lower: it keeps one of two terms.
    far = mean + 10 * math.copysign(scale, mean)
    assert variances(far, scale)["B"] < variances(far, scale)["A"]

    # Where q is the prior, the term that B replaces is zero for every z: they are the same.
    model.recognition_model = FreeGaussian(torch.zeros(1), torch.ones(1))
    with torch.no_grad():
        a = estimators.sgvb_a(model, X, 5, seeded())
        b = estimators.sgvb_b(model, X, 5, seeded())
    torch.testing.assert_close(a, b)


@both_estimators
def test_averaging_over_l_samples_divides_the_variance_by_l(estimator) -> None:
    q = FreeGaussian(torch.tensor([-0.5]), torch.tensor([0.6]))
    model = linear_gaussian(4, 1, q)
    name = next(key for key, value in ESTIMATORS.items() if value is estimator)

    for samples in (2, 10):
        with torch.no_grad():
            draws = estimator(model, X.expand(50_000, -1), samples, seeded())
        assert_variance(draws, variances(-0.5, 0.6)[name] / samples)


# -- Minibatches (eq. 8) and the prior on the parameters ---------------------------------------


@pytest.mark.parametrize("size", [1, 2, 5, 6])
def test_the_minibatch_estimator_is_unbiased(size: int) -> None:
    # Exactly: the average over all minibatches, drawn with and without replacement.
    bounds = torch.randn(6)
    for draw in (
        itertools.product(range(6), repeat=min(size, 4)),
        itertools.combinations(range(6), size),
    ):
        estimates = [estimators.minibatch_estimator(bounds[list(rows)], 6) for rows in draw]
        torch.testing.assert_close(torch.stack(estimates).mean(), bounds.sum())


def test_the_minibatch_estimator_is_equation_8() -> None:
    bounds = torch.randn(4)

    estimate = estimators.minibatch_estimator(bounds, 50)

    assert estimate.shape == ()
    torch.testing.assert_close(estimate, 50 / 4 * (bounds[0] + bounds[1] + bounds[2] + bounds[3]))
    assert estimators.minibatch_estimator(bounds, 4) == bounds.sum()


class OneGaussian(nn.Module):
    r""":math:`q(z|x) = \mathcal{N}(\mu, s^2)`: one :math:`\mu` for every datapoint."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.tensor([0.3]))

    def forward(self, x: Tensor) -> Independent:
        mean = self.mean.expand(len(x), 1)
        return Independent(Normal(mean, torch.full_like(mean, 0.7)), 1)


@both_estimators
@pytest.mark.parametrize("size", [1, 2], ids=["one of two points", "both points"])
def test_subsampled_gradients_are_those_of_the_full_data(estimator, size: int) -> None:
    # p(z) = N(0, 1), p(x|z) = N(z, 1), q(z) = N(mu, s^2): the bound's gradient in mu is
    # x - 2 mu for each point. That holds the N/M factor, the average and the sign.
    q = OneGaussian()
    model = models.LinearGaussian(torch.ones(1, 1), torch.zeros(1), 1.0, q)
    x, generator, draws = torch.tensor([[1.5], [-0.2]]), seeded(), []

    for _ in range(1_000):
        rows = torch.randperm(2, generator=generator)[:size]
        bounds = estimator(model, x[rows], 1, generator)
        (gradient,) = torch.autograd.grad(estimators.minibatch_estimator(bounds, 2), q.mean)
        draws.append(gradient)

    assert_mean(torch.stack(draws), 1.5 - 0.2 - 4 * 0.3)


def test_the_log_prior_is_a_standard_normal() -> None:
    parameters = [torch.randn(3, 4), torch.randn(5), torch.randn(())]

    found = estimators.log_prior(parameters)

    assert found.shape == ()
    torch.testing.assert_close(found, sum(Normal(0.0, 1.0).log_prob(p).sum() for p in parameters))


def test_the_gradient_of_the_log_prior_is_minus_the_parameter() -> None:
    model = models.bernoulli_vae(7, 5, 2, std=1.0)

    estimators.log_prior(model.parameters()).backward()

    for parameter in model.parameters():
        torch.testing.assert_close(parameter.grad, -parameter.detach())


# -- Every model, every parameter, every wrong argument ----------------------------------------


@both_estimators
@both_vaes
def test_every_parameter_gets_a_gradient(estimator, build) -> None:
    model = build(7, 5, 2, std=0.5)

    estimator(model, torch.rand(6, 7)).sum().backward()

    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().min() > 0, name


@both_estimators
def test_the_generator_decides_the_noise(estimator) -> None:
    model, x = models.bernoulli_vae(7, 5, 2, std=0.5), torch.rand(6, 7)
    before = torch.get_rng_state()

    first, same, other = (estimator(model, x, 2, seeded(seed)) for seed in (0, 0, 1))

    assert torch.equal(first, same)
    assert (first != other).all()
    assert torch.equal(torch.get_rng_state(), before)


@both_estimators
def test_datapoints_do_not_mix(estimator) -> None:
    # A row's bound depends on that row alone, and on its own noise.
    model, x = models.bernoulli_vae(7, 5, 2, std=0.5), torch.rand(6, 7)
    changed = x.clone()
    changed[2] = torch.rand(7)

    moved = estimator(model, x, 2, seeded()) != estimator(model, changed, 2, seeded())

    assert moved.tolist() == [row == 2 for row in range(6)]


@torch.no_grad()
def test_the_bound_is_below_the_evidence_of_every_binary_image() -> None:
    # A Bernoulli VAE has no closed form, but two latent variables can be summed over a grid.
    model = models.bernoulli_vae(5, 4, 2, seeded(), std=2.0)
    x = torch.tensor(list(itertools.product([0.0, 1.0], repeat=5)))
    axis = torch.linspace(-8, 8, 161)
    grid = torch.cartesian_prod(axis, axis)[:, None]
    log_joint = model.log_joint(x, grid.expand(-1, 32, -1))
    log_evidence = log_joint.logsumexp(0) + 2 * math.log(float(axis[1] - axis[0]))

    draws = torch.stack([estimators.sgvb_b(model, x, 1, seeded(n)) for n in range(2_000)])
    bound, standard_error = draws.mean(0), draws.std(0) / len(draws) ** 0.5

    assert log_evidence.exp().sum().item() == pytest.approx(1.0, abs=1e-6)
    assert (bound < log_evidence + 4 * standard_error).all()
    assert bound.exp().sum() < 1


@both_estimators
@pytest.mark.parametrize("shape", [(7,), (2, 6, 7), ()], ids=str)
def test_what_is_no_minibatch_is_refused(estimator, shape: tuple[int, ...]) -> None:
    model = models.bernoulli_vae(7, 5, 2)
    with pytest.raises(
        ValueError, match=r"^x: expected a minibatch of shape \(M, D\), found "
    ) as e:
        estimator(model, torch.zeros(shape))
    assert str(e.value).endswith(str(shape))


@both_estimators
@pytest.mark.parametrize("samples", [0, -3])
def test_less_than_one_sample_is_refused(estimator, samples: int) -> None:
    model = models.bernoulli_vae(7, 5, 2)
    with pytest.raises(ValueError, match=f"^samples: expected at least 1, found {samples}$"):
        estimator(model, torch.zeros(6, 7), samples)
