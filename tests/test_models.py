"""Sections 2.1, 2.2 and 3: the models, and eqs 1 to 3 where everything is known exactly."""

import math

import numpy
import pytest
import torch
from known_answers import FreeGaussian, closed_form_bound, expected_log_likelihood, linear_gaussian
from scipy.integrate import quad
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from aevb import divergence, mlp, models

BUILDERS = {"Bernoulli": models.bernoulli_vae, "Gaussian": models.gaussian_vae}


def random_q(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(shape), torch.rand(shape) + 0.1


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_the_log_joint_is_prior_plus_likelihood(build) -> None:
    model = build(7, 5, 2, std=0.5)
    x, z = torch.rand(6, 7), torch.randn(3, 6, 2)

    prior = -0.5 * (z**2 + math.log(2 * math.pi)).sum(-1)
    likelihood = model.generative_model(z).log_prob(x)

    assert model.log_joint(x, z).shape == (3, 6)
    torch.testing.assert_close(model.log_joint(x, z), prior + likelihood)
    torch.testing.assert_close(model.log_joint(x, z[1]), (prior + likelihood)[1])


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_the_prior_is_a_standard_normal(build) -> None:
    prior = build(7, 5, 2).prior

    assert prior.event_shape == (2,)
    assert prior.batch_shape == ()
    assert torch.equal(prior.mean, torch.zeros(2))
    assert torch.equal(prior.stddev, torch.ones(2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_prior_has_the_dtype_of_the_parameters(dtype: torch.dtype) -> None:
    assert models.bernoulli_vae(7, 5, 2).to(dtype).prior.mean.dtype == dtype


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_a_vae_has_the_shapes_of_the_paper(build) -> None:
    model = build(7, 5, 2)
    q, p = model.recognition_model(torch.rand(6, 7)), model.generative_model(torch.randn(3, 6, 2))

    assert (q.batch_shape, q.event_shape) == ((6,), (2,))
    assert (p.batch_shape, p.event_shape) == ((3, 6), (7,))
    assert model.latent_dim == 2


def test_the_frey_face_model_squashes_the_mean_of_the_pixels_only() -> None:
    model = models.gaussian_vae(7, 5, 2, std=50.0)
    pixels = model.generative_model(torch.randn(100, 2)).mean

    assert ((pixels >= 0) & (pixels <= 1)).all()
    assert model.recognition_model(torch.rand(100, 7)).mean.abs().max() > 1


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_generator_and_std_decide_the_initial_parameters(build) -> None:
    def drawn(seed: int, **std: float) -> torch.Tensor:
        model = build(7, 5, 2, torch.Generator().manual_seed(seed), **std)
        return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])

    assert torch.equal(drawn(0), drawn(0))
    assert not (drawn(0) == drawn(1)).any()
    torch.testing.assert_close(drawn(0, std=0.5), 50 * drawn(0))
    assert abs(drawn(0).std().item() / 0.01 - 1) < 4 / (2 * len(drawn(0))) ** 0.5  # 4 s.e.


@torch.no_grad()
def test_the_evidence_is_that_of_a_gaussian() -> None:
    model, x = linear_gaussian(4, 2), torch.randn(6, 4)
    weight, bias = model.generative_model.weight, model.generative_model.bias

    covariance = numpy.asarray(weight @ weight.T + 0.7**2 * torch.eye(4))
    error = (x - bias).numpy()
    distance = numpy.einsum("md,de,me->m", error, numpy.linalg.inv(covariance), error)
    constant = numpy.linalg.slogdet(2 * math.pi * covariance)[1]

    torch.testing.assert_close(
        model.log_evidence(x), torch.from_numpy(-0.5 * (distance + constant))
    )


@pytest.mark.parametrize("latent_dim", [1, 2])
@torch.no_grad()
def test_evidence_and_posterior_agree_with_quadrature(latent_dim: int) -> None:
    # The trapezoidal rule converges exponentially for an integrand that falls off like this one.
    model, x = linear_gaussian(4, latent_dim), torch.randn(6, 4)
    axis = torch.linspace(-9, 9, 241)
    z = torch.cartesian_prod(*[axis] * latent_dim).reshape(-1, 1, latent_dim)
    cell = float(axis[1] - axis[0]) ** latent_dim

    log_joint = model.log_joint(x, z.expand(-1, 6, -1))
    log_evidence = log_joint.logsumexp(0) + math.log(cell)
    posterior = (log_joint - log_evidence).exp()  # Bayes
    mean = (posterior[..., None] * z).sum(0) * cell
    error = z - mean
    covariance = torch.einsum("gm,gmi,gmj->mij", posterior, error, error) * cell

    torch.testing.assert_close(model.log_evidence(x), log_evidence, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(model.posterior(x).mean, mean, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        model.posterior(x).covariance_matrix.expand(6, -1, -1), covariance, rtol=1e-9, atol=1e-9
    )
    torch.testing.assert_close(
        model.posterior(x).log_prob(z), log_joint - log_evidence, rtol=1e-9, atol=1e-6
    )


@torch.no_grad()
def test_the_evidence_agrees_with_adaptive_quadrature() -> None:
    model, x = linear_gaussian(4, 1), torch.randn(1, 4)

    def joint(z: float) -> float:
        return model.log_joint(x, torch.full((1, 1), z)).exp().item()

    integral, _ = quad(joint, -9, 9, epsabs=0, epsrel=1e-10, limit=200)

    assert model.log_evidence(x).item() == pytest.approx(math.log(integral), rel=1e-9)


@pytest.mark.parametrize("latent_dim", [1, 2, 3])
def test_equation_1_is_exact(latent_dim: int) -> None:
    # log p(x) = KL(q || posterior) + bound, with both terms in closed form.
    model, x = linear_gaussian(4, latent_dim), torch.randn(50, 4)
    mean, scale = random_q(50, latent_dim)

    q = MultivariateNormal(mean, torch.diag_embed(scale**2))
    gap = kl_divergence(q, model.posterior(x))
    bound = closed_form_bound(model, x, mean, scale)

    torch.testing.assert_close(gap + bound, model.log_evidence(x), rtol=1e-10, atol=1e-10)
    assert gap.min() > 1e-3  # no coincidence: these q are not the posterior


def test_equations_2_and_3_agree() -> None:
    # E[-log q + log p(x, z)], term by term, against -KL + E[log p(x|z)].
    model, x = linear_gaussian(4, 2), torch.randn(50, 4)
    mean, scale = random_q(50, 2)
    q = Independent(Normal(mean, scale), 1)

    entropy = 0.5 * (1 + math.log(2 * math.pi) + 2 * scale.log()).sum(-1)
    prior = -0.5 * (math.log(2 * math.pi) + mean**2 + scale**2).sum(-1)
    reconstruction = expected_log_likelihood(model.generative_model, x, mean, scale)

    torch.testing.assert_close(
        entropy + prior + reconstruction,
        reconstruction - divergence.gaussian_kl(q),
        rtol=1e-12,
        atol=1e-12,
    )


def test_the_bound_is_below_the_evidence() -> None:
    # Eq. 2, over wide and narrow q, near and far.
    model, x = linear_gaussian(4, 2), torch.randn(5000, 4)
    mean, scale = 5 * torch.randn(5000, 2), torch.exp(2 * torch.randn(5000, 2))

    assert (closed_form_bound(model, x, mean, scale) < model.log_evidence(x)).all()


def test_the_bound_touches_the_evidence_at_the_posterior_and_nowhere_else() -> None:
    # One latent variable: the posterior is a diagonal Gaussian, so q can be it.
    model, x = linear_gaussian(4, 1), torch.randn(50, 4)
    posterior = model.posterior(x)
    mean, scale = posterior.mean, posterior.variance.sqrt().expand(50, 1)

    at_posterior = closed_form_bound(model, x, mean, scale)
    torch.testing.assert_close(at_posterior, model.log_evidence(x), rtol=1e-12, atol=1e-12)

    for near in [(mean + 1e-2, scale), (mean, 1.01 * scale), (mean, 0.99 * scale)]:
        assert (closed_form_bound(model, x, *near) < at_posterior).all()


def test_the_linear_gaussian_model_serves_as_a_vae() -> None:
    model = linear_gaussian(4, 2, FreeGaussian(torch.zeros(2), torch.ones(2)))
    q = model.recognition_model(torch.randn(6, 4))
    z = torch.randn(3, 6, 2)

    assert (q.batch_shape, q.event_shape) == ((6,), (2,))
    torch.testing.assert_close(
        model.generative_model(z).log_prob(torch.zeros(4)),
        model.log_joint(torch.zeros(6, 4), z) - model.prior.log_prob(z),
    )
    assert isinstance(linear_gaussian(4, 2).recognition_model, mlp.GaussianMLP)


def test_a_linear_gaussian_model_is_of_its_weights_dtype_and_device(device: torch.device) -> None:
    weight = torch.rand(4, 2, dtype=torch.float32, device=device)
    model, x = models.LinearGaussian(weight, weight[:, 0], 0.5), weight.T
    given = [model.recognition_model(x).mean, model.log_evidence(x), model.posterior(x).mean]
    assert {(t.dtype, t.device) for t in given} == {(weight.dtype, weight.device)}


@pytest.mark.parametrize(
    ("weight", "bias"), [((4, 2), (3,)), ((4,), (4,)), ((4, 2), (4, 1))], ids=str
)
def test_shapes_that_do_not_fit_are_refused(weight: tuple, bias: tuple) -> None:
    with pytest.raises(ValueError, match=r"^weight and bias: expected shapes .*, found ") as error:
        models.LinearGaussian(torch.zeros(weight), torch.zeros(bias), 1.0)
    assert f"{weight} and {bias}" in str(error.value)


@pytest.mark.parametrize("noise_scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_noise_that_is_not_positive_is_refused(noise_scale: float) -> None:
    with pytest.raises(ValueError, match=f"^noise_scale: expected .*, found {noise_scale}$"):
        models.LinearGaussian(torch.zeros(4, 2), torch.zeros(4), noise_scale)
