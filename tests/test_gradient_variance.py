"""The gradient's variance (sections 2.2 and 2.3): its parts, and where it is known exactly."""

import functools
import math

import pytest
import torch
from known_answers import FreeGaussian, assert_mean, closed_form_bound, linear_gaussian
from torch import Tensor
from torch.distributions import Independent, Normal

from aevb import estimators, gradient_variance, models

NAIVE = estimators.score_function
LEAVE_ONE_OUT = functools.partial(NAIVE, baseline=estimators.leave_one_out)
ESTIMATORS = {
    "A": estimators.sgvb_a,
    "B": estimators.sgvb_b,
    "naive": NAIVE,
    "sticking the landing": estimators.sticking_the_landing,
}
every_estimator = pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=ESTIMATORS)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(3_000 + seed)


def copies(mean: Tensor, scale: Tensor, rows: int) -> Independent:
    return Independent(Normal(mean.expand(rows, -1), scale.expand(rows, -1)), 1)


def assert_variance(draws: Tensor, expected: Tensor | float) -> None:
    assert_mean((draws - draws.mean(0)) ** 2, expected)


# -- The gradient as two vectors --------------------------------------------------------------


def test_the_gradient_is_what_backward_leaves() -> None:
    model, x = models.bernoulli_vae(7, 5, 2, std=0.5), torch.rand(6, 7)

    theta, phi = gradient_variance.gradient(model, estimators.sgvb_b(model, x, 1, seeded()))
    estimators.sgvb_b(model, x, 1, seeded()).mean().backward()

    for found, part in ((theta, model.generative_model), (phi, model.recognition_model)):
        expected = torch.cat([p.grad.flatten() for p in part.parameters()])
        torch.testing.assert_close(found, expected)


def test_measuring_leaves_the_model_as_it_was() -> None:
    # So that a training can be measured on its way.
    model = models.bernoulli_vae(7, 5, 2, std=0.5)
    before = [p.clone() for p in model.parameters()]

    gradient_variance.moments(model, [torch.rand(6, 7), torch.rand(6, 7)], estimators.sgvb_b)

    for parameter, old in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter, old)
        assert parameter.grad is None


# -- The parts of the mean square -------------------------------------------------------------


class Fixed:
    """An estimator whose gradients in (theta, phi) are what a list says, one after the other."""

    def __init__(self, gradients: list[tuple[float, float]]):
        self.gradients, self.asked = iter(gradients), []

    def __call__(self, model, x, samples=1, generator=None) -> Tensor:
        self.asked.append((x, samples))
        theta, phi = next(self.gradients)
        return (theta * model.generative_model.bias + phi * model.recognition_model.mean[0]).sum(1)


def test_the_parts_are_those_of_the_docstring() -> None:
    q = FreeGaussian(torch.zeros(1, 1), torch.ones(1, 1))
    model = linear_gaussian(1, 1, q)
    del q.log_scale  # the fixed gradients have one coordinate each
    model.generative_model.register_parameter("weight", None)
    model.generative_model.bias = torch.nn.Parameter(torch.zeros(1, 1))
    first, second = torch.zeros(1, 1), torch.ones(1, 1)
    # a, a', b, b': a and b belong to the first minibatch.
    estimator = Fixed([(1.0, 2.0), (3.0, -1.0), (5.0, 0.5), (-2.0, 4.0)])

    found = gradient_variance.moments(model, [first, second], estimator, 3)

    a, a_other, b, b_other = torch.tensor([[1.0, 2.0], [3.0, -1.0], [5.0, 0.5], [-2.0, 4.0]])
    torch.testing.assert_close(torch.cat(found.signal), (a * b_other + b * a_other) / 2)
    torch.testing.assert_close(torch.cat(found.datapoints), (a - a_other) * (b - b_other) / 2)
    squares = (a - b) ** 2 + (a_other - b_other) ** 2
    torch.testing.assert_close(torch.cat(found.noise), squares / 4)
    assert [(x is first, samples) for x, samples in estimator.asked] == 2 * [(True, 3), (False, 3)]


def test_the_parts_are_unbiased() -> None:
    # One amortized model, ten datapoints, minibatches of two. The mean gradient of a datapoint is
    # known, and so are the first two parts. The third is measured one datapoint at a time.
    model, population = linear_gaussian(3, 2), torch.randn(10, 3, generator=seeded())
    generator, size, estimator = seeded(1), 2, estimators.sgvb_b
    minibatches = [population[torch.randint(10, (size,), generator=generator)] for _ in range(800)]

    found = gradient_variance.moments(model, minibatches, estimator, 2, generator)

    exact, draws = [], []
    for x in population.split(1):
        q = model.recognition_model(x)
        bound = closed_form_bound(model, x, q.mean, q.stddev)
        exact.append(gradient_variance.gradient(model, bound))
    for n in range(1_500):
        bound = estimator(model, population[n % 10, None], 2, generator)
        draws.append(gradient_variance.gradient(model, bound))
    for name in ("theta", "phi"):
        means = torch.stack([getattr(each, name) for each in exact])
        spread = (means - means.mean(0)).square().sum(1).mean().item()
        assert_mean(getattr(found.signal, name), means.mean(0).square().sum().item())
        assert_mean(getattr(found.datapoints, name), spread / size)
        off = [getattr(each, name) - means[n % 10] for n, each in enumerate(draws)]
        noise = torch.stack(off).square().sum(1) / size
        pooled = getattr(found.noise, name)
        error = math.hypot(noise.std() / len(noise) ** 0.5, pooled.std() / len(pooled) ** 0.5)
        assert abs(noise.mean() - pooled.mean()) < 4 * error


@pytest.mark.parametrize("size", [0, 1, 3])
def test_minibatches_come_two_by_two(size: int) -> None:
    model = models.bernoulli_vae(7, 5, 2)
    with pytest.raises(
        ValueError, match=f"^minibatches: expected an even number, at least 2, found {size}$"
    ):
        gradient_variance.moments(model, size * [torch.rand(6, 7)], estimators.sgvb_b)


# -- The linear-Gaussian model: three matrices ------------------------------------------------


def matrices(model: models.LinearGaussian, scale: Tensor) -> dict[str, Tensor]:
    """The gradient in the mean of q is such a matrix times the noise, plus a constant."""
    weight, noise = model.generative_model.weight.detach(), model.generative_model.noise_scale**2
    precision = torch.eye(len(scale)) + weight.T @ weight / noise
    diagonal = torch.diag(scale)
    return {
        "A": -precision @ diagonal,
        "B": -(precision - torch.eye(len(scale))) @ diagonal,
        "sticking the landing": diagonal.inverse() - precision @ diagonal,
    }


@pytest.mark.parametrize("name", ["A", "B", "sticking the landing"])
def test_the_covariance_of_the_gradient_in_the_mean_is_known(name: str) -> None:
    model, rows = linear_gaussian(4, 3), 100_000
    x, mean, scale = (
        torch.randn(1, 4),
        torch.tensor([0.3, -0.8, 1.0]),
        torch.tensor([0.7, 0.4, 0.2]),
    )

    q = copies(mean, scale, rows)
    found, _ = gradient_variance.local_gradients(
        model, x.expand(rows, -1), q, ESTIMATORS[name], 1, seeded()
    )

    matrix = matrices(model, scale)[name]
    centered = found - found.mean(0)
    assert_mean(centered[:, :, None] * centered[:, None], matrix @ matrix.T)


def near_the_posterior(name: str, c: float, log_evidence: float) -> float:
    """Of one draw's gradient in (m - mean) / sd, where q has the posterior's mean, exactly.

    q = N(m, c^2 v) for the posterior N(m, v): polynomials in the noise. See the page
    gradient_variance of the book. The prior's part of the posterior's precision is v.
    """
    k, f = 0.5 * (1 - c**2), log_evidence + math.log(c)
    return {
        "A": c**2,
        "sticking the landing": (1 / c - c) ** 2,
        "naive": (f**2 + 6 * f * k + 15 * k**2) / c**2,
        "best constant": 6 * k**2 / c**2,
        "leave one out": 6 * k**2 / c**2,  # of two draws together
    }[name]


@pytest.mark.parametrize("c", [0.4, 1.0, 1.5])
@pytest.mark.parametrize(
    "name", ["A", "sticking the landing", "naive", "best constant", "leave one out"]
)
def test_the_variances_near_the_posterior_are_known(name: str, c: float) -> None:
    model = linear_gaussian(4, 1)
    x, rows = torch.tensor([[1.5, -0.4, 0.3, 2.0]]), 200_000
    posterior, log_evidence = model.posterior(x), model.log_evidence(x).item()
    sd = posterior.variance.sqrt()
    best = log_evidence + math.log(c) + 1.5 * (1 - c**2)
    estimator = {
        **ESTIMATORS,
        "best constant": functools.partial(NAIVE, baseline=lambda f: f.new_tensor(best)),
        "leave one out": LEAVE_ONE_OUT,
    }[name]
    samples = 2 if name == "leave one out" else 1

    found, _ = gradient_variance.local_gradients(
        model,
        x.expand(rows, -1),
        copies(posterior.mean, c * sd, rows),
        estimator,
        samples,
        seeded(),
    )

    expected = near_the_posterior(name, c, log_evidence)
    if expected < 1e-20:  # at the posterior three of them do not vary
        torch.testing.assert_close(found, torch.zeros_like(found), rtol=0.0, atol=1e-10)
    else:
        assert_variance(found * sd, expected)


def test_at_the_posterior_sticking_the_landing_has_no_variance() -> None:
    # In any dimension, if q can be the posterior: here the columns of W are orthogonal.
    weight = torch.tensor([[1.0, 2.0], [2.0, -1.0], [0.0, 3.0], [0.5, 0.0]])
    weight[2, 1] = 0.0
    model = models.LinearGaussian(weight, torch.zeros(4), 0.7)
    x = torch.randn(1, 4).expand(1_000, -1)
    posterior = model.posterior(x)
    q = Independent(Normal(posterior.mean, posterior.variance.sqrt()), 1)

    for estimator, samples in ((estimators.sticking_the_landing, 1), (LEAVE_ONE_OUT, 3)):
        for found in gradient_variance.local_gradients(model, x, q, estimator, samples, seeded()):
            torch.testing.assert_close(found, torch.zeros_like(found), rtol=0.0, atol=1e-10)
    for name in ("A", "B", "naive"):
        for found in gradient_variance.local_gradients(model, x, q, ESTIMATORS[name], 1, seeded()):
            assert (found.var(0) > 0.01).all(), name


# -- Thirty against four ----------------------------------------------------------------------


class Square(models.LatentVariableModel):
    r"""A model whose f(z) = log p(x, z) - log q(z) is z^2 at q = N(1, 1)."""

    def log_joint(self, x: Tensor, z: Tensor) -> Tensor:
        return (z**2 + Normal(1.0, 1.0).log_prob(z)).sum(-1)


@pytest.mark.parametrize("latent_dim", [1, 4])
def test_thirty_against_four(latent_dim: int) -> None:
    # f(z) = z^2, z ~ N(1, 1). A further dimension adds noise to every coordinate of the naive
    # gradient and to none of the other: 30 + 22 n + 4 n^2 for n more, 14 + 6 n with the best
    # constant baseline 2 n + 4.
    rows, n = 200_000, latent_dim - 1
    q = FreeGaussian(torch.ones(rows, latent_dim), torch.ones(rows, latent_dim))
    model = Square(torch.nn.Identity(), q, latent_dim)

    def draws(estimator) -> Tensor:
        bounds = estimator(model, torch.zeros(rows, 1), 1, seeded())
        return torch.autograd.grad(bounds.sum(), q.mean)[0]

    best = functools.partial(NAIVE, baseline=lambda f: f.new_tensor(2.0 * n + 4))
    for estimator, variance in (
        (NAIVE, 30 + 22 * n + 4 * n**2),
        (best, 14 + 6 * n),
        (estimators.sticking_the_landing, 4),
    ):
        found = draws(estimator)
        assert_mean(found, 2.0)
        assert_variance(found, variance)


# -- What is measured for each datapoint ------------------------------------------------------


@every_estimator
def test_local_gradients_are_unbiased(estimator) -> None:
    rows, model = 50_000, linear_gaussian(4, 2)
    x = torch.tensor([[1.5, -0.4, 0.3, 2.0]])
    mean, scale = torch.tensor([0.3, -0.8]), torch.tensor([0.7, 0.4])

    found = gradient_variance.local_gradients(
        model, x.expand(rows, -1), copies(mean, scale, rows), estimator, 1, seeded()
    )

    leaves = [mean.requires_grad_(), scale.requires_grad_()]
    exact = torch.autograd.grad(closed_form_bound(model, x, *leaves).sum(), leaves)
    for draws, expected in zip(found, exact, strict=True):
        assert draws.shape == (rows, 2)
        assert_mean(draws, expected)


def test_the_bound_varies_as_its_draws_do() -> None:
    model, x = linear_gaussian(4, 2), torch.randn(3, 4)

    found = gradient_variance.bound_variance(model, x.repeat(4_000, 1), 5, seeded(), batch=7_000)

    with torch.no_grad():
        draws = estimators.sgvb_b(model, x.repeat(50_000, 1), 1, seeded(1)).view(-1, 3)
    squares = (draws - draws.mean(0)) ** 2
    found = found.view(-1, 3)
    error = torch.hypot(squares.std(0) / 50_000**0.5, found.std(0) / 4_000**0.5)
    assert ((found.mean(0) - squares.mean(0)).abs() < 4 * error).all()


def test_a_variance_needs_two_draws() -> None:
    with pytest.raises(ValueError, match=r"^draws: expected at least 2, found 1$"):
        gradient_variance.bound_variance(linear_gaussian(4, 2), torch.zeros(3, 4), 1)
