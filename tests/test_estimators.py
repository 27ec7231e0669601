"""Sections 2.2, 2.3 and 3: the estimators of the bound and of its gradient, and of minibatches."""

import functools
import itertools
import math

import pytest
import torch
from known_answers import FreeGaussian, assert_mean, closed_form_bound, linear_gaussian
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from aevb import estimators, models

ESTIMATORS = {"A": estimators.sgvb_a, "B": estimators.sgvb_b}
LEAVE_ONE_OUT = functools.partial(estimators.score_function, baseline=estimators.leave_one_out)
OF_THE_BOUND = {
    **ESTIMATORS,
    "naive": estimators.score_function,
    "baseline": functools.partial(
        estimators.score_function, baseline=lambda f: f.new_tensor([-5.0])
    ),
    "leave one out": LEAVE_ONE_OUT,
    "sticking the landing": estimators.sticking_the_landing,
}
EVERY = {**OF_THE_BOUND, "importance weighted": estimators.importance_weighted}
VAES = {"Bernoulli": models.bernoulli_vae, "Gaussian": models.gaussian_vae}
both_estimators = pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=ESTIMATORS)
estimators_of_the_bound = pytest.mark.parametrize(
    "estimator", OF_THE_BOUND.values(), ids=OF_THE_BOUND
)
every_estimator = pytest.mark.parametrize("estimator", EVERY.values(), ids=EVERY)
both_vaes = pytest.mark.parametrize("build", VAES.values(), ids=VAES)

X = torch.tensor([[1.5, -0.4, 0.3, 2.0]], dtype=torch.float64)
MEAN = torch.tensor([0.3, -0.8], dtype=torch.float64)
SCALE = torch.tensor([0.7, 0.4], dtype=torch.float64)


@pytest.mark.parametrize("name", sorted(EVERY.keys() - {"leave one out"}))  # which needs two
def test_one_noise_sample_is_the_usual_as_in_the_papers_experiments(name: str) -> None:
    model, x = linear_gaussian(6, 2), torch.ones(3, 6)
    usual, one = (
        EVERY[name](model, x, *given, generator=torch.Generator().manual_seed(1))
        for given in ((), (1,))
    )
    assert torch.equal(usual, one)


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


@estimators_of_the_bound
def test_the_value_is_unbiased(estimator) -> None:
    model = linear_gaussian(4, 2, FreeGaussian(MEAN, SCALE))

    bounds = estimator(model, X.expand(50_000, -1), 2, seeded()).detach()

    assert_mean(bounds, closed_form_bound(model, X, MEAN, SCALE).item())


@estimators_of_the_bound
def test_the_gradient_in_the_variational_parameters_is_unbiased(estimator) -> None:
    n = 50_000  # every row has parameters of its own, so every row's gradient is a draw
    q = FreeGaussian(MEAN.expand(n, -1), SCALE.expand(n, -1))
    model = linear_gaussian(4, 2, q)

    estimator(model, X.expand(n, -1), 2, seeded()).sum().backward()

    mean, log_scale = MEAN.clone().requires_grad_(), SCALE.log().requires_grad_()
    closed_form_bound(model, X, mean, log_scale.exp()).sum().backward()
    assert_mean(q.mean.grad, mean.grad)
    assert_mean(q.log_scale.grad, log_scale.grad)


@estimators_of_the_bound
def test_the_gradient_in_the_generative_parameters_is_unbiased(estimator) -> None:
    model, generator = linear_gaussian(4, 2, FreeGaussian(MEAN, SCALE)), seeded()
    parameters = list(model.generative_model.parameters())
    draws = [
        torch.autograd.grad(estimator(model, X.expand(50, -1), 2, generator).mean(), parameters)
        for _ in range(500)
    ]

    bound = closed_form_bound(model, X, MEAN, SCALE).sum()
    for found, exact in zip(
        zip(*draws, strict=True), torch.autograd.grad(bound, parameters), strict=True
    ):
        assert_mean(torch.stack(found), exact)


@estimators_of_the_bound
def test_the_gradient_of_an_amortized_model_is_unbiased(estimator) -> None:
    # One set of parameters, theta and phi together, and datapoints that differ.
    model, x, generator = linear_gaussian(4, 2), torch.randn(20, 4), seeded()
    parameters = list(model.parameters())
    draws = [
        torch.autograd.grad(estimator(model, x, 2, generator).sum(), parameters) for _ in range(500)
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


# -- The naive gradient and its baselines (section 2.2), sticking the landing ------------------


def gradients(bounds: Tensor, model: nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(bounds.sum(), list(model.parameters())))


def test_the_score_function_gradient_is_the_printed_one() -> None:
    mean, scale = MEAN.expand(3, -1), SCALE.expand(3, -1)
    model, x = linear_gaussian(4, 2, FreeGaussian(mean, scale)), torch.randn(3, 4)
    epsilon = torch.randn(5, 3, 2, generator=seeded())
    z = mean + scale * epsilon
    f = model.log_joint(x, z) - Normal(mean, scale).log_prob(z).sum(-1)

    for baseline, b in (
        (None, torch.zeros(())),
        (lambda f: f.new_tensor(-7.0), torch.tensor(-7.0)),
        (
            estimators.leave_one_out,
            torch.stack([f[[k for k in range(5) if k != n]].mean(0) for n in range(5)]),
        ),
    ):
        bounds = estimators.score_function(model, x, 5, seeded(), baseline=baseline)
        in_mean, in_log_scale = gradients(bounds, model.recognition_model)
        weight = (f - b)[..., None]
        torch.testing.assert_close(in_mean, (weight * epsilon / scale).mean(0))
        torch.testing.assert_close(in_log_scale, (weight * (epsilon**2 - 1)).mean(0))


def test_the_baseline_sees_the_values_and_nothing_to_differentiate() -> None:
    seen = []

    def baseline(f: Tensor) -> Tensor:
        seen.append(f)
        return f.mean()

    model, x = linear_gaussian(4, 2, FreeGaussian(MEAN, SCALE)), torch.randn(3, 4)
    estimators.score_function(model, x, 5, seeded(), baseline=baseline)

    (f,) = seen
    assert f.shape == (5, 3)
    assert not f.requires_grad
    torch.testing.assert_close(f.mean(0), estimators.sgvb_a(model, x, 5, seeded()).detach())


def test_the_term_that_is_dropped_is_a_baseline_of_one() -> None:
    # f contains phi: its own gradient is minus that of log q, with mean zero (section 2.2).
    model, x = linear_gaussian(4, 2), torch.randn(3, 4)
    phi = model.recognition_model
    dropped = gradients(estimators.score_function(model, x, 5, seeded()), phi)
    one = estimators.score_function(model, x, 5, seeded(), baseline=torch.ones_like)
    kept = gradients(one, phi)

    q = phi(x)
    z = (q.mean + q.stddev * torch.randn(5, 3, 2, generator=seeded())).detach()
    minus_score = gradients(-q.log_prob(z).mean(0), phi)

    for without, with_it, term in zip(dropped, kept, minus_score, strict=True):
        torch.testing.assert_close(with_it, without + term)


def test_the_gradient_of_sticking_the_landing_goes_through_the_draw() -> None:
    mean, scale = MEAN.expand(3, -1), SCALE.expand(3, -1)
    model, x = linear_gaussian(4, 2, FreeGaussian(mean, scale)), torch.randn(3, 4)

    bounds = estimators.sticking_the_landing(model, x, 5, seeded())
    in_mean, in_log_scale = gradients(bounds, model.recognition_model)

    decoder, epsilon = model.generative_model, torch.randn(5, 3, 2, generator=seeded())
    z = mean + scale * epsilon
    error = x - decoder.bias - z @ decoder.weight.T
    slope = -z + error @ decoder.weight / decoder.noise_scale**2 + epsilon / scale
    torch.testing.assert_close(in_mean, slope.mean(0))
    torch.testing.assert_close(in_log_scale, (slope * scale * epsilon).mean(0))


@pytest.mark.parametrize("name", ["naive", "baseline", "leave one out", "sticking the landing"])
@both_vaes
def test_all_but_phi_is_estimator_a(build, name: str) -> None:
    model, x = build(7, 5, 2, std=0.5), torch.rand(6, 7)

    a = estimators.sgvb_a(model, x, 3, seeded())
    bounds = OF_THE_BOUND[name](model, x, 3, seeded())

    torch.testing.assert_close(bounds, a)
    for part, same in ((model.generative_model, True), (model.recognition_model, False)):
        found, expected = (
            torch.autograd.grad(each.sum(), list(part.parameters()), retain_graph=True)
            for each in (bounds, a)
        )
        for one, other in zip(found, expected, strict=True):
            assert torch.allclose(one, other) == same


def test_leaving_one_out() -> None:
    values = torch.tensor([[1.0, -2.0], [4.0, 0.0], [10.0, 8.0]])

    found = estimators.leave_one_out(values)

    torch.testing.assert_close(found, torch.tensor([[7.0, 4.0], [5.5, 3.0], [2.5, -1.0]]))


def test_one_draw_cannot_be_left_out() -> None:
    model = models.bernoulli_vae(7, 5, 2)
    with pytest.raises(
        ValueError, match=r"^samples: expected at least 2 to leave one out, found 1$"
    ):
        LEAVE_ONE_OUT(model, torch.zeros(6, 7), 1)


# -- The importance-weighted bound -------------------------------------------------------------


@both_vaes
def test_with_one_draw_the_importance_weighted_bound_is_estimator_a(build) -> None:
    model, x = build(7, 5, 2, std=0.5), torch.rand(6, 7)

    a = estimators.sgvb_a(model, x, 1, seeded())
    bounds = estimators.importance_weighted(model, x, 1, seeded())

    torch.testing.assert_close(bounds, a)
    for found, expected in zip(gradients(bounds, model), gradients(a, model), strict=True):
        torch.testing.assert_close(found, expected)


@both_vaes
def test_the_importance_weighted_bound_is_the_logarithm_of_an_average(build) -> None:
    model, x = build(7, 5, 2, std=0.5), torch.rand(6, 7)

    bounds = estimators.importance_weighted(model, x, 3, seeded())

    q = model.recognition_model(x)
    z = q.mean + q.stddev * torch.randn(3, 6, 2, generator=seeded())
    weights = torch.exp(model.log_joint(x, z) - Normal(q.mean, q.stddev).log_prob(z).sum(-1))
    assert bounds.shape == (6,)
    torch.testing.assert_close(bounds, weights.mean(0).log())


def test_the_importance_weighted_bound_does_not_underflow() -> None:
    # The evidence of a point so far away is e to the minus many thousands: no float64.
    model = linear_gaussian(4, 2, FreeGaussian(MEAN, SCALE))
    x = 200 * X

    bounds = estimators.importance_weighted(model, x, 10, seeded())

    assert model.log_evidence(x).item() < -10_000
    assert bounds.isfinite().all()
    assert (bounds < model.log_evidence(x)).all()
    assert all(g.isfinite().all() for g in gradients(bounds, model))


@torch.no_grad()
def test_the_importance_weighted_bound_rises_to_the_evidence() -> None:
    # q is wider than the posterior in every direction, so that the weights are bounded.
    model, rows = linear_gaussian(4, 2, FreeGaussian(MEAN, torch.ones(2))), 20_000
    log_evidence = model.log_evidence(X)
    draws = {
        samples: estimators.importance_weighted(model, X.expand(rows, -1), samples, seeded(samples))
        for samples in (1, 2, 5, 20, 100)
    }

    for some, more in itertools.pairwise(draws.values()):
        error = math.hypot(some.std(), more.std()) / rows**0.5
        assert more.mean() - some.mean() > 4 * error
    for bounds in draws.values():
        assert bounds.mean() < log_evidence + 4 * bounds.std() / rows**0.5
        # The average inside the logarithm is an unbiased estimate of the evidence.
        assert_mean((bounds - log_evidence).exp(), 1.0)
    gaps = [(log_evidence - bounds.mean()).item() for bounds in draws.values()]
    assert gaps[-1] < 0.05 * gaps[0]


@pytest.mark.parametrize("name", ["A", "B", "importance weighted"])
def test_reparameterized_gradients_are_finite_differences(name: str) -> None:
    # With common noise the estimate is a smooth function of every parameter.
    model, x, h = models.bernoulli_vae(4, 3, 2, std=0.5), torch.rand(3, 4), 1e-6

    def bound() -> Tensor:
        return EVERY[name](model, x, 5, seeded()).sum()

    for parameter, found in zip(model.parameters(), gradients(bound(), model), strict=True):
        flat = parameter.detach().view(-1)  # moves the parameter itself
        for place in range(len(flat)):
            flat[place] += h
            above = bound().item()
            flat[place] -= 2 * h
            below = bound().item()
            flat[place] += h
            assert found.view(-1)[place].item() == pytest.approx(
                (above - below) / (2 * h), rel=1e-6, abs=1e-7
            )


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


def test_an_empty_minibatch_has_no_estimate() -> None:
    with pytest.raises(ValueError, match=r"^bounds: expected at least one, found none$"):
        estimators.minibatch_estimator(torch.zeros(0), 50)


@pytest.mark.parametrize("shape", [(), (3, 4)], ids=str)
def test_bounds_that_are_no_vector_have_no_estimate(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"^bounds: expected the shape \(M,\), found ") as e:
        estimators.minibatch_estimator(torch.zeros(shape), 50)
    assert str(e.value).endswith(str(shape))


@pytest.mark.parametrize("datapoints", [0, -5])
def test_an_empty_data_set_has_no_estimate(datapoints: int) -> None:
    with pytest.raises(ValueError, match=f"^datapoints: expected at least 1, found {datapoints}$"):
        estimators.minibatch_estimator(torch.zeros(3), datapoints)


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


@every_estimator
@both_vaes
def test_every_parameter_gets_a_gradient(estimator, build) -> None:
    model = build(7, 5, 2, std=0.5)

    estimator(model, torch.rand(6, 7), 2).sum().backward()

    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().min() > 0, name


@every_estimator
def test_the_generator_decides_the_noise(estimator) -> None:
    model, x = models.bernoulli_vae(7, 5, 2, std=0.5), torch.rand(6, 7)
    before = torch.get_rng_state()

    first, same, other = (estimator(model, x, 2, seeded(seed)) for seed in (0, 0, 1))

    assert torch.equal(first, same)
    assert (first != other).all()
    assert torch.equal(torch.get_rng_state(), before)


@every_estimator
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


@every_estimator
@pytest.mark.parametrize("shape", [(7,), (2, 6, 7), ()], ids=str)
def test_what_is_no_minibatch_is_refused(estimator, shape: tuple[int, ...]) -> None:
    model = models.bernoulli_vae(7, 5, 2)
    with pytest.raises(
        ValueError, match=r"^x: expected a minibatch of shape \(M, D\), found "
    ) as e:
        estimator(model, torch.zeros(shape))
    assert str(e.value).endswith(str(shape))


@every_estimator
@pytest.mark.parametrize("samples", [0, -3])
def test_less_than_one_sample_is_refused(estimator, samples: int) -> None:
    model = models.bernoulli_vae(7, 5, 2)
    with pytest.raises(ValueError, match=f"^samples: expected at least 1, found {samples}$"):
        estimator(model, torch.zeros(6, 7), samples)
