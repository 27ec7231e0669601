"""Appendix F: full variational Bayes."""

import functools
import itertools
import math
from pathlib import Path

import pytest
import torch
from known_answers import FreeGaussian, assert_mean
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from aevb import adagrad, auto_encoding, checkpoint, data, estimators, full_vb, models, training
from aevb.bayesian import BayesianModel, UnknownMean

ESTIMATORS = {"eq. 22": full_vb.sampled_bound, "eq. 24": full_vb.analytic_bound}
VAES = {"Bernoulli": models.bernoulli_vae, "Gaussian": models.gaussian_vae}
both_estimators = pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=ESTIMATORS)
both_vaes = pytest.mark.parametrize("build", VAES.values(), ids=VAES)

N = 40
"""The size of the data sets, where it is not another."""
WEIGHT = torch.tensor([[0.9], [-0.4]], dtype=torch.float64)
NOISE = 0.6
MEAN_Z, SCALE_Z = torch.tensor([0.3], dtype=torch.float64), torch.tensor([0.7], dtype=torch.float64)
MEAN = torch.tensor([0.5, -0.8], dtype=torch.float64)
SCALE = torch.tensor([0.3, 0.6], dtype=torch.float64)


def seeded(seed: int = 0) -> torch.Generator:
    # Statistical tests set their own seed: see the note on random tests in conftest.py.
    return torch.Generator().manual_seed(1_000 + seed)


def vae(build=models.bernoulli_vae, scale: float = 0.2) -> BayesianModel:
    return BayesianModel(build(7, 5, 2, seeded(2), std=0.5), scale)


def observed(rows: int = N) -> Tensor:
    generator = seeded(3)
    z = torch.randn(rows, 1, generator=generator)
    return (
        torch.tensor([1.0, -0.5]) + z @ WEIGHT.T + NOISE * torch.randn(rows, 2, generator=generator)
    )


def unknown_mean(recognition_model: nn.Module | None = None) -> BayesianModel:
    """The conjugate model at a q(theta) that is not the posterior."""
    plain = UnknownMean(WEIGHT, NOISE, recognition_model or FreeGaussian(MEAN_Z, SCALE_Z))
    model = BayesianModel(plain)
    with torch.no_grad():
        model.inferred["bias"].copy_(MEAN)
        model.log_scale.copy_(SCALE.log())
    return model


def kl(mean: Tensor, scale: Tensor) -> Tensor:
    return 0.5 * (mean**2 + scale**2 - 1 - 2 * scale.log()).sum(-1)


def closed_form(
    x: Tensor, q_z: Independent, mean: Tensor, scale: Tensor, datapoints: int
) -> Tensor:
    """What each datapoint adds to the bound of the conjugate model, divided by N: ``(M,)``."""
    residual = ((x - mean - q_z.mean @ WEIGHT.T) ** 2).sum(-1)
    spread = (scale**2).sum() + q_z.variance @ (WEIGHT**2).sum(0)
    likelihood = -math.log(2 * math.pi * NOISE**2) - (residual + spread) / (2 * NOISE**2)
    return likelihood - kl(q_z.mean, q_z.stddev) - kl(mean, scale) / datapoints


# -- The formulas, with the same noise ---------------------------------------------------------


def by_hand(model: BayesianModel, x: Tensor, sharing: int, generator: torch.Generator):
    """Datapoint by datapoint, with the weights loaded into the network: z, theta, log p(x|z)."""
    q, posterior = model.recognition_model(x), model.approximate_posterior
    epsilon = torch.randn(len(x), q.event_shape[0], generator=generator)
    zeta = torch.randn(len(x) // sharing, posterior.event_shape[0], generator=generator)
    z = q.mean + q.stddev * epsilon
    theta = (posterior.mean + posterior.stddev * zeta).repeat_interleave(sharing, 0)
    network, likelihood = model.generative_model, []
    before = nn.utils.parameters_to_vector(network.parameters()).clone()
    for row in range(len(x)):
        nn.utils.vector_to_parameters(theta[row], network.parameters())
        likelihood.append(network(z[row]).log_prob(x[row]))
    nn.utils.vector_to_parameters(before, network.parameters())
    return q, z, theta, torch.stack(likelihood)


@both_vaes
@pytest.mark.parametrize("sharing", [1, 2, 6])
@torch.no_grad()
def test_equation_22_term_by_term(build, sharing: int) -> None:
    model, x = vae(build), torch.rand(6, 7)

    bounds = full_vb.sampled_bound(model, x, N, sharing, seeded())

    q, z, theta, likelihood = by_hand(model, x, sharing, seeded())
    posterior = model.approximate_posterior.base_dist
    of_z = Normal(0.0, 1.0).log_prob(z) - Normal(q.mean, q.stddev).log_prob(z)
    of_theta = Normal(0.0, 1.0).log_prob(theta) - posterior.log_prob(theta)
    f = N * (likelihood + of_z.sum(-1)) + of_theta.sum(-1)  # eq. 21
    assert bounds.shape == (6,)
    torch.testing.assert_close(bounds, f / N)


@both_vaes
@pytest.mark.parametrize("sharing", [1, 2, 6])
@torch.no_grad()
def test_equation_24_as_corrected(build, sharing: int) -> None:
    model, x = vae(build), torch.rand(6, 7)

    bounds = full_vb.analytic_bound(model, x, N, sharing, seeded())

    q, _, _, likelihood = by_hand(model, x, sharing, seeded())
    posterior = model.approximate_posterior
    of_z = 0.5 * (1 + torch.log(q.variance) - q.mean**2 - q.variance).sum(-1)
    squares = posterior.mean**2, posterior.variance
    of_theta = 0.5 * (1 + torch.log(squares[1]) - squares[0] - squares[1]).sum()
    assert bounds.shape == (6,)
    torch.testing.assert_close(bounds, (N * (of_z + likelihood) + of_theta) / N)


# -- Each draw has its own weights -------------------------------------------------------------


@torch.no_grad()
def test_each_draw_has_weights_of_its_own() -> None:
    # One image six times, and no noise in z: what differs is theta.
    model, x = vae(), torch.rand(1, 7).expand(6, -1)
    model.recognition_model = FreeGaussian(torch.zeros(2), torch.full((2,), 1e-100))

    own, pairs, one = (full_vb.analytic_bound(model, x, N, n, seeded()) for n in (1, 2, 6))

    assert len(own.unique()) == 6
    assert len(pairs.unique()) == 3
    assert torch.equal(pairs[::2], pairs[1::2])
    assert len(one.unique()) == 1


@pytest.mark.parametrize("sharing", [1, 2])
@torch.no_grad()
def test_datapoints_that_share_weights_vary_together(sharing: int) -> None:
    # log p(x|z) is -(d - sigma zeta)^2 / 2 s^2 and what z adds: the covariance of two datapoints
    # through one zeta is (4 d d' sigma^2 + 2 sigma^4) / 4 s^4 in each coordinate.
    model, x = unknown_mean(), observed(2)

    draws = full_vb.analytic_bound(model, x.repeat(50_000, 1), N, sharing, seeded()).view(-1, 2)

    d = x - MEAN - MEAN_Z @ WEIGHT.T
    covariance = (4 * d[0] * d[1] * SCALE**2 + 2 * SCALE**4).sum() / (4 * NOISE**4)
    products = (draws - draws.mean(0)).prod(1)
    assert_mean(products, 0.0 if sharing == 1 else covariance.item())
    assert covariance.abs() > 1


# -- Unbiasedness ------------------------------------------------------------------------------


@both_estimators
@pytest.mark.parametrize("sharing", [1, 50])
@torch.no_grad()
def test_the_value_is_that_of_the_closed_form(estimator, sharing: int) -> None:
    model, x, generator = unknown_mean(), observed(1).expand(50, -1), seeded()
    expected = closed_form(x[:1], model.recognition_model(x[:1]), MEAN, SCALE, N)

    draws = [estimator(model, x, N, sharing, generator).mean() for _ in range(500)]

    assert_mean(torch.stack(draws), expected.item())


@both_estimators
def test_the_gradients_are_those_of_the_closed_form(estimator) -> None:
    # In every parameter of phi: mu_theta, sigma_theta and the recognition model's.
    model, x, generator = unknown_mean(), observed(5), seeded()
    parameters = [model.inferred["bias"], model.log_scale, *model.recognition_model.parameters()]
    draws = [
        torch.autograd.grad(estimator(model, x.repeat(20, 1), N, 1, generator).mean(), parameters)
        for _ in range(300)
    ]

    q = model.approximate_posterior
    bound = closed_form(x, model.recognition_model(x), q.mean, q.stddev, N).mean()
    for found, exact in zip(
        zip(*draws, strict=True), torch.autograd.grad(bound, parameters), strict=True
    ):
        assert exact.abs().min() > 1e-3
        assert_mean(torch.stack(found), exact)


@both_vaes
@pytest.mark.parametrize("sharing", [1, 100])
@torch.no_grad()
def test_the_two_estimators_have_one_mean(build, sharing: int) -> None:
    model, x = vae(build), torch.rand(1, 7).expand(20_000, -1)

    sampled = full_vb.sampled_bound(model, x, N, sharing, seeded(1)).view(-1, sharing).mean(1)
    analytic = full_vb.analytic_bound(model, x, N, sharing, seeded(2)).view(-1, sharing).mean(1)
    same_noise = full_vb.analytic_bound(model, x, N, sharing, seeded(1)).view(-1, sharing).mean(1)

    assert_mean(sampled - analytic, 0.0)
    assert_mean(sampled - same_noise, 0.0)


@pytest.mark.parametrize("of_theta", [False, True], ids=["z", "theta"])
@torch.no_grad()
def test_the_four_analytic_terms_are_the_means_of_what_is_sampled(of_theta: bool) -> None:
    # App. B's two integrals, for q(z|x) and for q(theta), and the divergence made of them.
    model = vae()
    q = model.approximate_posterior if of_theta else model.recognition_model(torch.rand(1, 7))
    prior = model.parameter_prior if of_theta else model.prior
    mean, variance = q.mean.flatten(), q.variance.flatten()
    draws = q.mean + q.stddev * torch.randn(100_000, len(mean), generator=seeded())

    constant = -0.5 * len(mean) * math.log(2 * math.pi)
    of_prior = constant - 0.5 * (mean**2 + variance).sum()
    of_q = constant - 0.5 * (1 + variance.log()).sum()
    assert_mean(prior.log_prob(draws), of_prior.item())
    assert_mean(q.log_prob(draws), of_q.item())
    divergence = full_vb.divergence.gaussian_kl(q)
    torch.testing.assert_close(-divergence.sum(), of_prior - of_q)


# -- Variance ----------------------------------------------------------------------------------


@both_vaes
@torch.no_grad()
def test_equation_24_varies_less(build) -> None:
    # Not a theorem (estimator B's variance can exceed A's); here, with many uncertain weights and
    # little data, the sampled divergence of theta dominates. Its variance is known, where z is
    # left out: of log p(theta) - log q(theta), a quadratic in zeta for each weight.
    model, x, datapoints = vae(build, scale=0.05), torch.rand(1, 7).expand(20_000, -1), 2
    q = model.approximate_posterior

    sampled = full_vb.sampled_bound(model, x, datapoints, 1, seeded()).var()
    analytic = full_vb.analytic_bound(model, x, datapoints, 1, seeded()).var()

    quadratic = (q.mean * q.stddev) ** 2 + 0.5 * (1 - q.variance) ** 2
    assert sampled - analytic > 0.5 * quadratic.sum() / datapoints**2
    assert sampled > 2 * analytic


@torch.no_grad()
def test_neither_estimator_always_varies_less() -> None:
    # The whole data set with one theta, at the exact posterior, and no z in use:
    # log p(X|theta) + log p(theta) - log q(theta) is log p(X), whatever theta.
    x, unused = observed(), FreeGaussian(torch.zeros(1), torch.ones(1))
    truth = UnknownMean(0 * WEIGHT, NOISE, unused)
    posterior, model = truth.parameter_posterior(x), BayesianModel(truth)
    model.inferred["bias"].copy_(posterior.mean)
    model.log_scale.copy_(posterior.stddev.log())

    sampled, analytic = (
        torch.stack([estimator(model, x, N, N, seeded(n)).sum() for n in range(20)])
        for estimator in (full_vb.sampled_bound, full_vb.analytic_bound)
    )

    torch.testing.assert_close(sampled, truth.log_data_evidence(x).expand(20))
    assert analytic.std() > 0.5


# -- Bound and evidence ------------------------------------------------------------------------


class Affine(nn.Module):
    """q(z|x): a mean that is affine in x, and one scale. The best q has this form."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Linear(2, 1)
        self.log_scale = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Independent:
        mean = self.mean(x)
        return Independent(Normal(mean, self.log_scale.exp().expand_as(mean)), 1)


def exact_bound(model: BayesianModel, x: Tensor) -> float:
    """Of the whole data set, in nats: no noise hides a small change."""
    with torch.no_grad():
        q = model.approximate_posterior
        bounds = closed_form(x, model.recognition_model(x), q.mean, q.stddev, len(x))
        return bounds.sum().item()


def best(x: Tensor) -> BayesianModel:
    """At the nearest factorized posterior: the exact means, and the variances 1 / Lambda_jj."""
    model, truth = unknown_mean(Affine()), UnknownMean(WEIGHT, NOISE)
    theta = truth.parameter_posterior(x).mean
    to_z = torch.linalg.solve(WEIGHT @ WEIGHT.T + NOISE**2 * torch.eye(2), WEIGHT).T
    with torch.no_grad():
        model.inferred["bias"].copy_(theta)
        model.log_scale.fill_(-0.5 * math.log(1 + len(x) / NOISE**2))
        model.recognition_model.mean.weight.copy_(to_z)
        model.recognition_model.mean.bias.copy_(-to_z @ theta)
        model.recognition_model.log_scale.copy_(-0.5 * torch.log(1 + (WEIGHT**2).sum(0) / NOISE**2))
    return model


@pytest.mark.parametrize("rows", [1, 7, N])
def test_the_best_factorized_posterior_leaves_the_known_gap(rows: int) -> None:
    x, truth = observed(rows), UnknownMean(WEIGHT, NOISE)
    evidence, gap = truth.log_data_evidence(x).item(), truth.mean_field_gap(rows).item()
    assert gap > 0.01
    assert exact_bound(best(x), x) == pytest.approx(evidence - gap, abs=1e-9)


def test_the_bound_is_below_the_evidence_wherever_q_is() -> None:
    x, truth, generator = observed(), UnknownMean(WEIGHT, NOISE), seeded()
    highest = truth.log_data_evidence(x).item() - truth.mean_field_gap(N).item()
    for size in (1e-3, 1e-2, 0.1, 1.0):
        for _ in range(50):
            model = best(x)
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.requires_grad:
                        parameter += size * torch.randn(parameter.shape, generator=generator)
            assert exact_bound(model, x) < highest


@both_estimators
@torch.no_grad()
def test_the_estimated_bound_is_below_the_evidence_and_tight_up_to_the_gap(estimator) -> None:
    x, truth = observed(), UnknownMean(WEIGHT, NOISE)
    draws = estimator(best(x), x.repeat(1_000, 1), N, 1, seeded()).view(-1, N).mean(1)
    evidence, gap = truth.log_data_evidence(x).item(), truth.mean_field_gap(N).item()
    assert_mean(N * draws, evidence - gap)
    standard_error = N * draws.std() / len(draws) ** 0.5
    assert N * draws.mean() + 4 * standard_error < evidence


# -- Gradients ---------------------------------------------------------------------------------


@both_estimators
@both_vaes
def test_the_gradient_is_the_finite_difference_with_the_same_noise(estimator, build) -> None:
    model, x, h = vae(build), torch.rand(4, 7), 1e-6

    def bound() -> Tensor:
        return estimator(model, x, N, 1, seeded()).sum()

    bound().backward()

    for name, parameter in model.named_parameters():
        direction = torch.randn(parameter.shape, generator=seeded(4))
        with torch.no_grad():
            parameter += h * direction
            right = bound()
            parameter -= 2 * h * direction
            left = bound()
            parameter += h * direction
        slope = (parameter.grad * direction).sum()
        torch.testing.assert_close((right - left) / (2 * h), slope, rtol=1e-5, atol=1e-6, msg=name)


@both_estimators
@both_vaes
def test_every_parameter_gets_a_gradient(estimator, build) -> None:
    model = vae(build)
    estimator(model, torch.rand(6, 7), N, 1, seeded()).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().min() > 0, name


def test_weights_that_the_data_do_not_need_return_to_the_prior() -> None:
    # The divergence of eq. 24, alone: without a datapoint's pull mu is 0 and sigma is 1.
    model = unknown_mean()
    (full_vb.divergence.gaussian_kl(model.approximate_posterior)).backward()
    torch.testing.assert_close(model.inferred["bias"].grad, MEAN)
    torch.testing.assert_close(model.log_scale.grad, SCALE**2 - 1)


# -- New data ----------------------------------------------------------------------------------


@torch.no_grad()
def test_one_draw_predicts_the_average_bound() -> None:
    model, x, generator = unknown_mean(), observed(3), seeded()
    draws = torch.stack([full_vb.predictive_bound(model, x, 1, generator) for _ in range(1_000)])
    expected = closed_form(x, model.recognition_model(x), MEAN, SCALE, 1) + kl(MEAN, SCALE)
    assert_mean(draws, expected)


@torch.no_grad()
def test_more_draws_rise_to_the_predictive_density() -> None:
    # x = theta + W z + s e with theta from q: a Gaussian.
    model, x, generator = unknown_mean(), observed(3), seeded()
    covariance = torch.diag(SCALE**2) + WEIGHT @ WEIGHT.T + NOISE**2 * torch.eye(2)
    exact = torch.distributions.MultivariateNormal(MEAN, covariance).log_prob(x)

    means, errors = [], []
    for draws in (1, 10, 1_000):
        bounds = torch.stack(
            [full_vb.predictive_bound(model, x, draws, generator) for _ in range(400)]
        )
        means.append(bounds.mean(0))
        errors.append(bounds.std(0) / 200**0.5)
        assert (means[-1] < exact + 4 * errors[-1]).all()

    assert (means[0] < means[1]).all()
    assert (means[1] < means[2]).all()
    assert (exact - means[2] < 0.02 + 4 * errors[2]).all()


# -- Algorithm 2 -------------------------------------------------------------------------------


@both_estimators
@pytest.mark.parametrize("sharing", [1, 2])
def test_a_step_is_the_update_by_hand(estimator, sharing: int) -> None:
    model, twin, generator = vae(), vae(), seeded()
    state = full_vb.init(model, torch.optim.SGD(model.parameters(), lr=0.01), seeded(), N)

    for x in torch.rand(3, 6, 7):  # more than one: nothing is left over from the step before
        before = estimator(model, x, N, sharing, seeded())
        state.generator.manual_seed(1_000)
        state, info = full_vb.step(state, x, estimator=estimator, sharing=sharing)
        assert torch.equal(info.bound, before)
        assert not info.bound.requires_grad

        generator.manual_seed(1_000)
        bounds = estimator(twin, x, N, sharing, generator)
        ascent = torch.autograd.grad(bounds.sum(), list(twin.parameters()))
        with torch.no_grad():
            for w, g in zip(twin.parameters(), ascent, strict=True):
                w += 0.01 * g

    for found, expected in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def test_equation_24_with_weights_of_its_own_for_each_draw_is_the_default() -> None:
    x, bounds = torch.rand(6, 7), []
    for settings in ({}, {"estimator": full_vb.analytic_bound, "sharing": 1}):
        model = vae()
        state = full_vb.init(model, torch.optim.SGD(model.parameters(), lr=0.1), seeded(), N)
        bounds.append(full_vb.step(state, x, **settings)[1].bound)
    assert torch.equal(*bounds)


def test_steps_draw_from_the_states_generator_alone() -> None:
    ends = []
    for seed in (0, 0, 1):
        model, before = vae(), torch.get_rng_state()
        state = full_vb.init(model, torch.optim.SGD(model.parameters(), lr=0.01), seeded(seed), N)
        for x in torch.full((3, 6, 7), 0.4):
            state, _ = full_vb.step(state, x)
        assert torch.equal(torch.get_rng_state(), before)
        ends.append(list(model.parameters()))
    assert all(map(torch.equal, ends[0], ends[1]))
    assert not any(map(torch.equal, ends[0], ends[2]))


@both_estimators
def test_it_climbs_to_the_known_optimum(estimator) -> None:
    # From far away, with minibatches of ten: up to the evidence but for the gap of the family.
    x, truth = observed(), UnknownMean(WEIGHT, NOISE)
    highest = truth.log_data_evidence(x).item() - truth.mean_field_gap(N).item()
    model = unknown_mean(Affine())
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    decay = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.995)
    state = full_vb.init(model, optimizer, seeded(), N)
    draw = data.minibatches(x, 10, state.generator)

    bounds = [exact_bound(model, x)]
    for _ in range(4):
        for minibatch in itertools.islice(draw, 200):
            state, _ = full_vb.step(state, minibatch, estimator=estimator)
            decay.step()
        bounds.append(exact_bound(model, x))

    assert highest - bounds[0] > 20
    assert all(bound < highest for bound in bounds)
    assert highest - bounds[-1] < 0.1  # nats for all forty datapoints together
    q, exact = model.approximate_posterior, truth.parameter_posterior(x)
    assert (q.mean - exact.mean).abs().max() < 0.3 * exact.stddev.min()
    expected = torch.full((2,), (1 + N / NOISE**2) ** -0.5)  # narrower than the exact posterior
    torch.testing.assert_close(q.stddev, expected, rtol=0.1, atol=0)
    assert (expected < 0.9 * exact.stddev).all()


def test_the_training_loop_takes_it_and_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    x, path = torch.rand(N, 7), tmp_path / "run.safetensors"

    def start():
        model = vae()
        state = full_vb.init(
            model, adagrad.Adagrad(model.parameters(), 0.05, warm_up=2), seeded(), N
        )
        return state, data.minibatches(x, 10, state.generator)

    def evaluate(model, samples):
        return {"test": training.lower_bound(model, x, seeded())}

    step = functools.partial(full_vb.step, sharing=2)
    state, draw = start()
    whole, history = training.train(step, state, draw, evaluate, [10, 50, 100, 200], progress=False)

    state, draw = start()
    for minibatch in itertools.islice(draw, 7):
        state, _ = step(state, minibatch)
    checkpoint.store(path, state, {}, "this run")
    state, draw = start()
    checkpoint.load(path, state, "this run")
    for minibatch in itertools.islice(draw, 13):
        state, _ = step(state, minibatch)

    assert history.samples == [10, 50, 100, 200]
    assert set(history.curves) == {"test", "train_running"}
    for part, other in zip(whole.model.parameters(), state.model.parameters(), strict=True):
        assert torch.equal(part, other)
    assert torch.equal(whole.generator.get_state(), state.generator.get_state())
    assert whole.datapoints == state.datapoints == N


def test_map_is_the_limit_of_a_posterior_without_width() -> None:
    # Eq. 24 at sigma_theta -> 0 and sigma_theta's own terms left out: the gradient of section 5.
    model, x = vae(scale=1e-300), torch.rand(6, 7)
    full_vb.analytic_bound(model, x, N, 1, seeded()).sum().backward()
    found = [p.grad.clone() for p in model.generative_model.parameters()]

    plain = models.VAE(model.generative_model, model.recognition_model, 2)
    plain.zero_grad()
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.0)
    auto_encoding.step(auto_encoding.init(plain, optimizer, seeded()), x)
    (6 / N * estimators.log_prior(plain.generative_model.parameters())).neg().backward()

    for gradient, parameter in zip(found, plain.generative_model.parameters(), strict=True):
        torch.testing.assert_close(gradient, -parameter.grad)


# -- Wrong arguments ---------------------------------------------------------------------------


@both_estimators
@pytest.mark.parametrize("shape", [(7,), (2, 6, 7), ()], ids=str)
def test_what_is_no_minibatch_is_refused(estimator, shape: tuple[int, ...]) -> None:
    expected = r"^x: expected a minibatch of shape \(M, D\), found "
    with pytest.raises(ValueError, match=expected) as e:
        estimator(vae(), torch.zeros(shape), N)
    assert str(e.value).endswith(str(shape))


@both_estimators
@pytest.mark.parametrize("datapoints", [0, -3])
def test_a_data_set_without_datapoints_is_refused(estimator, datapoints: int) -> None:
    model = vae()
    expected = f"^datapoints: expected at least 1, found {datapoints}$"
    with pytest.raises(ValueError, match=expected):
        estimator(model, torch.zeros(6, 7), datapoints)
    with pytest.raises(ValueError, match=expected):
        full_vb.init(model, torch.optim.SGD(model.parameters(), lr=0.1), seeded(), datapoints)


@both_estimators
@pytest.mark.parametrize("sharing", [0, -1, 4, 7])
def test_groups_that_do_not_fill_the_minibatch_are_refused(estimator, sharing: int) -> None:
    expected = f"^sharing: expected a divisor of 6 datapoints, found {sharing}$"
    with pytest.raises(ValueError, match=expected):
        estimator(vae(), torch.zeros(6, 7), N, sharing)


def test_predictions_from_no_draw_or_for_no_matrix_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^draws: expected at least 1, found 0$"):
        full_vb.predictive_bound(vae(), torch.zeros(6, 7), 0)
    with pytest.raises(ValueError, match=r"^x: expected a minibatch of shape \(M, D\), found "):
        full_vb.predictive_bound(vae(), torch.zeros(7), 1)


def test_a_prior_in_the_optimizer_as_well_is_refused() -> None:
    model = vae()
    twice = adagrad.Adagrad(model.parameters(), 0.1, prior_weight=0.5)
    with pytest.raises(ValueError, match=r"^optimizer: expected no weight decay .*, found 0\.5$"):
        full_vb.init(model, twice, seeded(), N)
    groups = [
        {"params": [*model.generative_model.parameters(), model.log_scale]},
        {"params": model.recognition_model.parameters(), "weight_decay": 0.5},
    ]
    assert full_vb.init(model, torch.optim.SGD(groups, lr=0.1), seeded(), N).datapoints == N


@pytest.mark.parametrize("which", ["weights", "scales"])
def test_a_prior_on_a_part_of_theta_is_refused(which: str) -> None:
    model = vae()
    parts = {"weights": [*model.inferred.values()], "scales": [model.log_scale]}
    groups = [
        {"params": part, "weight_decay": 0.5 * (name == which)} for name, part in parts.items()
    ]
    with pytest.raises(ValueError, match=r"^optimizer: expected no weight decay on theta"):
        full_vb.init(model, torch.optim.SGD(groups, lr=0.1), seeded(), N)
