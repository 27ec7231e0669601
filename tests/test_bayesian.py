"""Models whose parameters have a distribution, and the one whose evidence is known."""

import math

import pytest
import torch
from known_answers import assert_mean, linear_gaussian
from torch import Tensor, nn
from torch.distributions import Independent, MultivariateNormal, Normal

from aevb import bayesian, full_vb, models, training

VAES = {"Bernoulli": models.bernoulli_vae, "Gaussian": models.gaussian_vae}
both_vaes = pytest.mark.parametrize("build", VAES.values(), ids=VAES)
WEIGHT = torch.tensor([[0.9, -0.3], [-0.4, 1.1], [0.2, 0.7]], dtype=torch.float64)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(1_000 + seed)


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# -- A model with a distribution over its parameters -------------------------------------------


@both_vaes
def test_the_approximate_posterior_starts_at_the_model_with_the_scale_given(build) -> None:
    model = build(7, 5, 2, seeded(), std=0.5)

    q = bayesian.BayesianModel(model, 0.3).approximate_posterior

    theta = torch.cat([p.flatten() for p in model.generative_model.parameters()])
    torch.testing.assert_close(q.mean, theta, rtol=0, atol=0)
    torch.testing.assert_close(q.stddev, torch.full_like(theta, 0.3))
    assert q.event_shape == (size(model.generative_model),)


def test_the_prior_is_the_standard_normal() -> None:
    model = bayesian.BayesianModel(models.bernoulli_vae(7, 5, 2))
    theta = torch.randn(size(model.generative_model), generator=seeded())
    expected = Normal(0.0, 1.0).log_prob(theta).sum()
    torch.testing.assert_close(model.parameter_prior.log_prob(theta), expected)


def test_its_parameters_are_those_of_both_approximate_posteriors_once() -> None:
    plain = models.bernoulli_vae(7, 5, 2)
    model = bayesian.BayesianModel(plain)
    assert size(model) == 2 * size(plain.generative_model) + size(plain.recognition_model)
    assert len(list(model.parameters())) == len({id(p) for p in model.parameters()})


def test_used_as_any_model_it_is_the_one_at_the_mean() -> None:
    plain = models.bernoulli_vae(7, 5, 2, seeded(), std=0.5)
    model, x = bayesian.BayesianModel(plain, 3.0), torch.rand(6, 7)
    bound = training.lower_bound(model, x, seeded())
    assert bound == training.lower_bound(plain, x, seeded())


@both_vaes
def test_the_likelihood_takes_the_parameters_of_each_group(build) -> None:
    # Against a loop that loads each vector into a network of its own.
    model = bayesian.BayesianModel(build(7, 5, 2, seeded(), std=0.5))
    x, z = torch.rand(4, 3, 7), torch.randn(4, 3, 2)
    theta = model.approximate_posterior.mean + torch.randn(4, model.log_scale.numel())

    found = model.log_likelihood(x, z, theta)

    alone = build(7, 5, 2).generative_model
    for group in range(4):
        nn.utils.vector_to_parameters(theta[group], alone.parameters())
        expected = alone(z[group]).log_prob(x[group])
        torch.testing.assert_close(found[group], expected.detach())
    assert (found[0] != model.generative_model(z[0]).log_prob(x[0])).all()


def test_the_likelihood_of_a_model_that_checks_its_arguments() -> None:
    # LinearGaussian's distributions do, by torch's default.
    model = bayesian.BayesianModel(linear_gaussian(4, 2))
    x, z, theta = torch.randn(5, 1, 4), torch.randn(5, 1, 2), torch.randn(5, 12)

    found = model.log_likelihood(x, z, theta)

    weight, bias = theta[:, :8].view(5, 4, 2), theta[:, 8:]
    mean = torch.einsum("sdj,srj->srd", weight, z) + bias[:, None]
    torch.testing.assert_close(found, Normal(mean, 0.7).log_prob(x).sum(-1))


def test_what_requires_no_gradient_is_given_and_not_inferred() -> None:
    plain = linear_gaussian(4, 2)
    plain.generative_model.weight.requires_grad_(False)

    model = bayesian.BayesianModel(plain)

    assert list(model.inferred) == ["bias"]
    assert model.log_scale.shape == (4,)
    x, z, theta = torch.randn(5, 1, 4), torch.randn(5, 1, 2), torch.randn(5, 4)
    mean = z @ plain.generative_model.weight.T + theta[:, None]
    expected = Normal(mean, 0.7).log_prob(x).sum(-1)
    torch.testing.assert_close(model.log_likelihood(x, z, theta), expected)


def test_a_frozen_model_is_evaluated_as_before() -> None:
    model, x = bayesian.BayesianModel(linear_gaussian(4, 2)), torch.randn(6, 4)
    before = full_vb.analytic_bound(model, x, 30, generator=seeded())
    model.requires_grad_(False)
    assert list(model.inferred) == ["weight", "bias"]
    found = full_vb.analytic_bound(model, x, 30, generator=seeded())
    assert torch.equal(found, before)
    assert not found.requires_grad


class Identity(nn.Module):
    def forward(self, z: Tensor) -> Independent:
        return Independent(Normal(z, torch.ones_like(z)), 1)


def test_a_model_without_generative_parameters_is_refused() -> None:
    nothing = models.LatentVariableModel(Identity(), models.mlp.GaussianMLP(2, 3, 2), 2)
    expected = "^generative_model: expected at least 1 parameter, found 0$"
    with pytest.raises(ValueError, match=expected):
        bayesian.BayesianModel(nothing)
    with pytest.raises(ValueError, match=expected):
        bayesian.BayesianModel(linear_gaussian(4, 2).requires_grad_(False))


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
def test_a_scale_that_is_none_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match=f"^scale: expected a positive number, found {scale}$"):
        bayesian.BayesianModel(models.bernoulli_vae(7, 5, 2), scale)


def test_the_precision_is_the_models() -> None:
    model = bayesian.BayesianModel(models.bernoulli_vae(7, 5, 2).float())
    x, z = torch.rand(2, 3, 7).float(), torch.randn(2, 3, 2).float()
    theta = torch.randn(2, model.log_scale.numel()).float()
    assert model.log_scale.dtype == torch.float32
    assert model.log_likelihood(x, z, theta).dtype == torch.float32


# -- The model with an unknown mean ------------------------------------------------------------


def data(rows: int) -> Tensor:
    generator = seeded()
    z = torch.randn(rows, 2, generator=generator)
    noise = 0.6 * torch.randn(rows, 3, generator=generator)
    return torch.tensor([0.5, -1.0, 0.2]) + z @ WEIGHT.T + noise


@pytest.mark.parametrize("rows", [1, 5])
def test_the_evidence_is_that_of_one_large_gaussian(rows: int) -> None:
    # The datapoints are correlated through theta: covariance I between any two, I + C with itself.
    model, x = bayesian.UnknownMean(WEIGHT, 0.6), data(rows)
    own = WEIGHT @ WEIGHT.T + 0.36 * torch.eye(3)
    covariance = torch.kron(torch.ones(rows, rows), torch.eye(3))
    covariance = covariance + torch.kron(torch.eye(rows), own)
    expected = MultivariateNormal(torch.zeros(3 * rows), covariance).log_prob(x.flatten())

    torch.testing.assert_close(model.log_data_evidence(x), expected)


def joint(x: Tensor) -> tuple[Tensor, Tensor]:
    """The precision and the mean of (theta, z of each datapoint) given the data, written out."""
    rows = len(x)
    precision = torch.eye(3 + 2 * rows)
    precision[:3, :3] += rows * torch.eye(3) / 0.36
    linear = [x.sum(0) / 0.36]
    for i in range(rows):
        own = slice(3 + 2 * i, 5 + 2 * i)
        precision[own, own] += WEIGHT.T @ WEIGHT / 0.36
        precision[:3, own] = WEIGHT / 0.36
        precision[own, :3] = WEIGHT.T / 0.36
        linear.append(WEIGHT.T @ x[i] / 0.36)
    return precision, torch.linalg.solve(precision, torch.cat(linear))


def test_the_posterior_of_the_mean_is_the_joint_one_without_z() -> None:
    x = data(5)
    precision, mean = joint(x)
    posterior = bayesian.UnknownMean(WEIGHT, 0.6).parameter_posterior(x)
    torch.testing.assert_close(posterior.mean, mean[:3])
    torch.testing.assert_close(posterior.covariance_matrix, precision.inverse()[:3, :3])


@pytest.mark.parametrize("rows", [1, 5])
def test_the_gap_of_the_mean_field_is_that_of_the_joint_posterior(rows: int) -> None:
    # Of all diagonal Gaussians the nearest has the variances 1 / Lambda_jj.
    precision, _ = joint(data(rows))
    expected = 0.5 * (precision.diagonal().log().sum() - precision.logdet())
    found = bayesian.UnknownMean(WEIGHT, 0.6).mean_field_gap(rows)
    torch.testing.assert_close(found, expected)


def test_without_latent_variables_in_use_the_gap_is_closed() -> None:
    assert bayesian.UnknownMean(0 * WEIGHT, 0.6).mean_field_gap(50).abs() < 1e-12


def test_the_evidence_is_an_average_over_the_prior() -> None:
    model, x = bayesian.UnknownMean(WEIGHT, 0.6), data(1)
    theta = torch.randn(200_000, 3, generator=seeded(1))
    covariance = WEIGHT @ WEIGHT.T + 0.36 * torch.eye(3)
    density = MultivariateNormal(theta, covariance).log_prob(x).exp()
    assert_mean(density, model.log_data_evidence(x).exp().item())


def test_wrong_arguments_are_refused_as_in_the_linear_gaussian_model() -> None:
    with pytest.raises(ValueError, match=r"^weight and bias: expected shapes"):
        bayesian.UnknownMean(torch.zeros(3), 0.6)
    with pytest.raises(ValueError, match=r"^noise_scale: expected a positive number, found 0\.0$"):
        bayesian.UnknownMean(WEIGHT, 0.0)
