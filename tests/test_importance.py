"""Importance sampling of the marginal likelihood."""

import math

import pytest
import torch
from known_answers import FreeGaussian, assert_mean, linear_gaussian
from torch import Tensor
from torch.distributions import Independent, Laplace, LogNormal, MultivariateNormal, Normal

from aevb import estimators, models
from aevb.marginal_likelihood import importance
from aevb.marginal_likelihood._checks import EstimateError
from aevb.marginal_likelihood.importance import importance_sampling


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(7_000 + seed)


def bench(latent_dim: int, datapoints: int = 5) -> tuple[models.LinearGaussian, Tensor]:
    """A linear-Gaussian model, data of its own, and an encoder that is off but covers it all."""
    model = linear_gaussian(6, latent_dim)
    z = torch.randn(datapoints, latent_dim, generator=seeded(1))
    x = model.generative_model(z).mean + 0.7 * torch.randn(datapoints, 6, generator=seeded(2))
    posterior = model.posterior(x)
    scale = 1.5 * posterior.covariance_matrix.diagonal(dim1=1, dim2=2).sqrt()
    model.recognition_model = FreeGaussian(posterior.mean + 0.1, scale)
    return model, x


class Recorded(models.LatentVariableModel):
    """Keeps the log weights, and counts what is decoded."""

    def __init__(self, model: models.LatentVariableModel):
        super().__init__(model.generative_model, model.recognition_model, model.latent_dim)
        self.log_weights: list[Tensor] = []
        self.decoded: list[int] = []

    def log_joint(self, x: Tensor, z: Tensor) -> Tensor:
        value = super().log_joint(x, z)
        self.decoded.append(value.numel() * x.shape[-1])
        self.log_weights.append((value - self.recognition_model(x).log_prob(z)).detach())
        return value


# -- Identities --------------------------------------------------------------------------------


@pytest.mark.parametrize("latent_dim", [1, 2, 3])
def test_the_posterior_as_proposal_is_exact(latent_dim: int) -> None:
    model, x = bench(latent_dim)
    found = importance_sampling(model, x, 7, proposal=model.posterior(x), generator=seeded())
    torch.testing.assert_close(found.log_likelihood, model.log_evidence(x).detach())
    torch.testing.assert_close(found.effective_sample_size, torch.full((5,), 7.0))
    assert (found.standard_error < 1e-6).all()


def test_one_draw_is_estimator_a() -> None:
    model, x = bench(2)
    found = importance_sampling(model, x, 1, generator=seeded())
    expected = estimators.sgvb_a(model, x, 1, seeded())
    torch.testing.assert_close(found.log_likelihood, expected.detach())
    assert (found.effective_sample_size == 1).all()
    assert found.standard_error.isnan().all()


@pytest.mark.parametrize("samples", [2, 50])
def test_more_draws_are_the_importance_weighted_bound(samples: int) -> None:
    model, x = bench(2)
    found = importance_sampling(model, x, samples, generator=seeded())
    expected = estimators.importance_weighted(model, x, samples, seeded())
    torch.testing.assert_close(found.log_likelihood, expected.detach())


@pytest.mark.parametrize("decoded", [1, 6 * 5 * 13, 6 * 5 * 500])
def test_parts_add_up_and_none_is_large(decoded: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # The summary by hand, from all weights together.
    monkeypatch.setattr(importance, "DECODED", decoded)
    model, x = bench(2)
    recorded = Recorded(model)
    if decoded < 6 * 5:  # datapoint by datapoint, draw by draw
        x, recorded.recognition_model = x[:1], model.recognition_model
        mean, scale = model.recognition_model.mean[:1], model.recognition_model.log_scale[:1].exp()
        recorded.recognition_model = FreeGaussian(mean, scale)

    found = importance_sampling(recorded, x, 101, generator=seeded())

    weights = torch.cat(recorded.log_weights).exp()
    assert weights.shape == (101, len(x))
    assert max(recorded.decoded) <= max(decoded, 6)
    torch.testing.assert_close(found.log_likelihood, weights.mean(0).log())
    effective = weights.sum(0) ** 2 / (weights**2).sum(0)
    torch.testing.assert_close(found.effective_sample_size, effective)
    relative = weights.std(0) / weights.mean(0) / math.sqrt(101)
    torch.testing.assert_close(found.standard_error, relative)


@pytest.mark.parametrize("kind", ["prior", "diagonal", "full"])
def test_datapoints_in_parts_keep_their_proposals(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importance, "DECODED", 2 * 6)  # two datapoints at once
    model, x = bench(1)
    posterior = model.posterior(x)
    proposals = {
        "prior": "prior",
        "diagonal": Independent(Normal(posterior.mean, posterior.variance.sqrt()), 1),
        "full": posterior,
    }
    found = importance_sampling(model, x, 400, proposal=proposals[kind], generator=seeded())
    off = (found.log_likelihood - model.log_evidence(x)).abs()
    if kind == "prior":
        assert (off < 4 * found.standard_error).all()
    else:  # exact, but only with the right one
        assert (off < 1e-9).all()


def test_huge_weights_do_not_overflow() -> None:
    model, x = bench(2)
    far = x + 1e4  # log densities near -1e8
    found = importance_sampling(model, far, 9, proposal=model.posterior(far), generator=seeded())
    torch.testing.assert_close(found.log_likelihood, model.log_evidence(far).detach())
    assert found.effective_sample_size.isfinite().all()


# -- Known answers -----------------------------------------------------------------------------


@pytest.mark.parametrize("proposal", ["recognition", "prior"])
@pytest.mark.parametrize("latent_dim", [1, 2, 3])
def test_it_finds_the_evidence(latent_dim: int, proposal: str) -> None:
    model, x = bench(latent_dim)
    found = importance_sampling(model, x, 20_000, proposal=proposal, generator=seeded())
    off = (found.log_likelihood - model.log_evidence(x)).abs() / found.standard_error
    assert (found.standard_error < 0.1).all()
    assert (off < 4).all(), off
    assert (found.effective_sample_size > 100).all()


def test_a_correlated_proposal_is_drawn_from() -> None:
    model, x = bench(3)
    posterior = model.posterior(x)
    wide = MultivariateNormal(posterior.mean + 0.1, 2 * posterior.covariance_matrix)
    found = importance_sampling(model, x, 20_000, proposal=wide, generator=seeded())
    off = (found.log_likelihood - model.log_evidence(x)).abs() / found.standard_error
    assert (found.standard_error < 0.01).all()
    assert (off < 4).all(), off


def test_the_average_is_unbiased_and_its_logarithm_low() -> None:
    model, x = bench(2, 1)
    many = x.expand(20_000, -1)
    found = importance_sampling(model, many, 3, generator=seeded())
    error = found.log_likelihood - model.log_evidence(x).detach()
    assert_mean(error.exp(), 1.0)
    assert error.mean() < -4 * error.std() / len(error) ** 0.5


def test_the_standard_error_is_that_of_repetitions() -> None:
    model, x = bench(2, 1)
    found = importance_sampling(model, x.expand(2_000, -1), 500, generator=seeded())
    spread = found.log_likelihood.std()
    assert 0.01 < spread < 0.2
    # The sample standard deviation of 2,000 has a relative standard error of 1 / sqrt(4,000); the
    # next order of the delta method is 1 / K.
    assert found.standard_error.mean() == pytest.approx(spread.item(), rel=4 / 4_000**0.5 + 0.01)


# -- Errors ------------------------------------------------------------------------------------


def test_arguments_are_checked() -> None:
    model, x = bench(2)
    for samples in (0, -3):
        with pytest.raises(ValueError, match=f"samples: expected at least 1, found {samples}"):
            importance_sampling(model, x, samples)
    with pytest.raises(ValueError, match=r"x: expected the shape \(M, D\), found \(6,\)"):
        importance_sampling(model, x[0], 3)
    with pytest.raises(ValueError, match="x: expected at least one datapoint, found the"):
        importance_sampling(model, x[:0], 3)
    with pytest.raises(
        ValueError, match=r"proposal: expected recognition, prior or .* 'posterior'"
    ):
        importance_sampling(model, x, 3, proposal="posterior")
    laplace = Independent(Laplace(torch.zeros(5, 2), torch.ones(5, 2)), 1)
    log_normal = LogNormal(torch.zeros(5, 2), torch.ones(5, 2))
    for proposal in (laplace, log_normal):
        with pytest.raises(
            TypeError, match=r"proposal: expected Independent\(Normal, 1\) or Multi"
        ):
            importance_sampling(model, x, 3, proposal=proposal)


WRONG_SHAPES = {
    "other datapoints": MultivariateNormal(torch.zeros(4, 2), torch.eye(2)),
    "other dimensions": MultivariateNormal(torch.zeros(5, 3), torch.eye(3)),
    "no datapoints": MultivariateNormal(torch.zeros(2), torch.eye(2)),
    "not independent": Independent(Normal(torch.zeros(5, 2), torch.ones(5, 2)), 0),
}


@pytest.mark.parametrize("proposal", WRONG_SHAPES.values(), ids=WRONG_SHAPES)
def test_a_proposal_fits_the_datapoints(proposal: Independent) -> None:
    model, x = bench(2)
    with pytest.raises(ValueError, match=r"proposal: expected the batch shape \(5,\) and the eve"):
        importance_sampling(model, x, 3, proposal=proposal)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_decoder_that_returns_no_number_is_named(value: float) -> None:
    model = models.bernoulli_vae(4, 3, 2, seeded())
    x = torch.rand(1_200, 4, generator=seeded(1))
    x[7:1_018, 2] = value
    assert issubclass(EstimateError, ValueError)
    with pytest.raises(EstimateError, match=r"found another value for 1,011 of 1,200 datapoints"):
        importance_sampling(model, x, 3, proposal="prior", generator=seeded())


def test_no_gradient_and_no_global_randomness() -> None:
    model, x = bench(2)
    before = torch.get_rng_state()
    one, two = (importance_sampling(model, x, 5, generator=seeded()) for _ in range(2))
    assert not one.log_likelihood.requires_grad
    assert torch.equal(one.log_likelihood, two.log_likelihood)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_draws_of_a_correlated_proposal_have_its_covariance() -> None:
    covariance = torch.tensor([[[4.0, 1.8], [1.8, 1.0]], [[1.0, -0.3], [-0.3, 0.1]]])
    q = MultivariateNormal(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), covariance)
    z = importance._draw(q, 20_000, seeded()) - q.loc
    assert_mean((z[..., :, None] * z[..., None, :]), covariance)


def test_each_part_has_its_own_covariances(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importance, "DECODED", 2 * 6)  # two datapoints at once
    model, x = bench(2)
    scales = torch.diag_embed(torch.arange(1.0, 11.0).view(5, 2))
    proposal = MultivariateNormal(torch.zeros(5, 2), scale_tril=scales)
    parts = list(importance._proposals(model, x, proposal, 2))
    assert torch.equal(torch.cat([rows for rows, _ in parts]), x)
    assert torch.equal(torch.cat([q.scale_tril for _, q in parts]), scales)
