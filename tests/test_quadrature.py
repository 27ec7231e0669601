"""Quadrature of the marginal likelihood."""

import math
import warnings

import pytest
import torch
from known_answers import linear_gaussian
from scipy import integrate
from torch import Tensor, nn
from torch.distributions import Independent, Laplace, Normal

from aevb import models
from aevb.marginal_likelihood import quadrature as module
from aevb.marginal_likelihood.annealed import simulate
from aevb.marginal_likelihood.importance import importance_sampling
from aevb.marginal_likelihood.quadrature import QuadratureWarning, quadrature
from aevb.marginal_likelihood.resampling import pairwise_log_likelihood

ROUNDING = 1e-9


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(9_000 + seed)


def narrow(latent_dim: int, noise_scale: float) -> models.LinearGaussian:
    """A linear-Gaussian model whose posteriors are correlated, and as narrow as its noise."""
    decoder = linear_gaussian(6, latent_dim).generative_model
    return models.LinearGaussian(decoder.weight, decoder.bias, noise_scale)


class Folded(models.LinearGaussian):
    """Sees the size of the first latent variable only: two modes of equal mass."""

    def log_joint(self, x: Tensor, z: Tensor) -> Tensor:
        return super().log_joint(x, self.fold(z))

    @staticmethod
    def fold(z: Tensor) -> Tensor:
        return torch.cat([z[..., :1].abs(), z[..., 1:]], -1)


class FoldedDecoder(nn.Module):
    def __init__(self, decoder: nn.Module):
        super().__init__()
        self.decoder = decoder

    def forward(self, z: Tensor) -> Independent:
        return self.decoder(Folded.fold(z))


def folded(latent_dim: int, noise_scale: float) -> tuple[Folded, models.LinearGaussian]:
    plain = narrow(latent_dim, noise_scale)
    decoder = plain.generative_model
    model = Folded(decoder.weight, decoder.bias, noise_scale)
    model.generative_model = FoldedDecoder(decoder)
    return model, plain


# -- Known answers -----------------------------------------------------------------------------


@pytest.mark.parametrize("noise_scale", [3.0, 0.7, 0.1, 0.01])
@pytest.mark.parametrize("latent_dim", [1, 2, 3])
def test_the_evidence_of_a_linear_gaussian_model(latent_dim: int, noise_scale: float) -> None:
    # From posteriors as wide as the prior to posteriors far narrower than the shared lattice.
    model = narrow(latent_dim, noise_scale)
    x, _ = simulate(model, 4, seeded())
    found = quadrature(model, x)
    off = (found.log_likelihood - model.log_evidence(x)).abs()
    assert (found.error < 1e-3).all()
    assert (off < found.error + ROUNDING).all()
    assert (off < 1e-4).all()


@pytest.mark.parametrize("latent_dim", [1, 2, 3])
def test_two_narrow_modes(latent_dim: int) -> None:
    # In each half, a Gaussian cut off at zero: p(x) = 2 N(x) Phi(m / s), m and s the mean and the
    # standard deviation of z1 under the posterior of the plain model.
    model, plain = folded(latent_dim, 0.05)
    z = torch.cat([torch.full((3, 1), 0.9), torch.randn(3, latent_dim - 1, generator=seeded())], 1)
    x = plain.generative_model(z).mean.detach()
    posterior = plain.posterior(x)
    ratio = posterior.mean[:, 0] / posterior.covariance_matrix[:, 0, 0].sqrt()
    exact = plain.log_evidence(x) + math.log(2) + torch.special.log_ndtr(ratio)

    found = quadrature(model, x)

    off = (found.log_likelihood - exact).abs()
    assert (off < found.error + ROUNDING).all()
    assert (found.error < 1e-3).all()


def test_a_vae_in_one_dimension_against_scipy() -> None:
    model = models.bernoulli_vae(30, 8, 1, seeded(), std=2.0)
    x = torch.rand(3, 30, generator=seeded(1))
    found = quadrature(model, x, tolerance=1e-8)
    for row, result, error in zip(x, found.log_likelihood, found.error, strict=True):

        def density(z: float, row: Tensor = row, shift: float = result.item()) -> float:
            log_joint = model.log_joint(row[None], torch.tensor([[z]]))
            return math.exp(log_joint.item() - shift)

        value, reported = integrate.quad(density, -9, 9, epsabs=1e-10, epsrel=1e-10, limit=500)
        assert abs(math.log(value)) < error + 10 * reported
        assert reported < 1e-8


def test_a_vae_in_two_dimensions_against_scipy() -> None:
    model = models.gaussian_vae(10, 8, 2, seeded(), std=0.7)
    x = torch.rand(1, 10, generator=seeded(1))
    found = quadrature(model, x, tolerance=1e-7)

    def density(b: float, a: float) -> float:
        return (model.log_joint(x, torch.tensor([[a, b]])) - found.log_likelihood).exp().item()

    with torch.no_grad():
        value, reported = integrate.dblquad(density, -7, 7, -7, 7, epsabs=1e-5, epsrel=1e-5)
    assert reported < 1e-4
    assert abs(math.log(value)) < found.error + reported


@pytest.mark.parametrize("latent_dim", [1, 2, 3])
def test_a_vae_against_importance_sampling(latent_dim: int) -> None:
    model = models.bernoulli_vae(30, 8, latent_dim, seeded(2), std=1.0)
    x = torch.rand(5, 30, generator=seeded(3))
    found = quadrature(model, x)
    sampled = importance_sampling(model, x, 100_000, proposal="prior", generator=seeded())
    off = (found.log_likelihood - sampled.log_likelihood).abs()
    assert (sampled.standard_error < 0.05).all()
    assert (off < 4 * sampled.standard_error + found.error).all()


# -- The error estimate and the refinement -----------------------------------------------------


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-7])
def test_the_tolerance_is_met(tolerance: float) -> None:
    model = narrow(2, 0.05)
    x, _ = simulate(model, 4, seeded())
    found = quadrature(model, x, tolerance=tolerance)
    off = (found.log_likelihood - model.log_evidence(x)).abs()
    assert (found.error < tolerance).all()
    assert (off < found.error + ROUNDING).all()


def test_a_wide_posterior_needs_the_shared_lattice_only() -> None:
    model = models.bernoulli_vae(20, 5, 3, seeded())  # untrained: the posterior is the prior
    x = torch.rand(4, 20, generator=seeded(1))
    found = quadrature(model, x)
    assert (found.nodes == 0).all()
    assert (found.error < 1e-6).all()


def test_the_lattices_of_twice_the_spacing_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    # Two dimensions and no refinement: four rules of spacing 1/2 and one of spacing 1/4.
    model = narrow(2, 0.2)
    x, _ = simulate(model, 3, seeded())
    monkeypatch.setattr(module, "SPACINGS", {2: 0.25})
    monkeypatch.setattr(module, "MOST_LEVELS", 0)
    with pytest.warns(QuadratureWarning, match="3 of 3"):
        found = quadrature(model, x, tolerance=1e-12)

    def rule(first: Tensor, second: Tensor, h: float) -> Tensor:
        return model.log_joint(x, torch.cartesian_prod(first, second)[:, None]).logsumexp(
            0
        ) + 2 * math.log(h)

    axis = torch.arange(-8, 8, 0.25) + 0.125
    fine = rule(axis, axis, 0.25)
    coarse = [rule(axis[i::2], axis[j::2], 0.5) for i in (0, 1) for j in (0, 1)]
    torch.testing.assert_close(found.log_likelihood, fine.detach())
    spread = torch.stack([(c - fine).abs() for c in coarse]).amax(0).detach()
    assert (spread > 1e-4).any()
    torch.testing.assert_close(found.error, spread)


def test_each_datapoint_is_refined_on_its_own() -> None:
    model = narrow(2, 0.05)
    x, _ = simulate(model, 5, seeded())
    together = quadrature(model, x)
    alone = [quadrature(model, row[None]) for row in x]
    for n, one in enumerate(alone):
        torch.testing.assert_close(together.log_likelihood[n], one.log_likelihood[0])
        assert together.nodes[n] == one.nodes[0] > 0


def test_parts_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = narrow(2, 0.05)
    x, _ = simulate(model, 5, seeded())
    together = quadrature(model, x)
    monkeypatch.setattr(module, "SHARED", 2 * 256**2)  # two datapoints at once
    monkeypatch.setattr(module, "DECODED", 6 * 100)
    torch.testing.assert_close(quadrature(model, x), together)


def test_what_is_too_much_to_refine_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    model = narrow(2, 0.05)
    x, _ = simulate(model, 5, seeded())
    monkeypatch.setattr(module, "MOST_REFINED", 3)
    with pytest.warns(
        QuadratureWarning, match=r"5 of 5 integrals did not reach .* 0\.001 nats"
    ) as w:
        found = quadrature(model, x)
    assert w[0].filename == __file__
    assert (found.error > 1e-3).all()
    assert (found.nodes == 0).all()


def test_some_are_refined_and_others_are_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    class Counted(models.VAE):
        rows = 0

        def log_joint(self, x: Tensor, z: Tensor) -> Tensor:
            if not z.requires_grad:  # not for the curvature
                Counted.rows += len(z)
            return super().log_joint(x, z)

    vae = models.bernoulli_vae(300, 8, 2, seeded(), std=2.0)
    model = Counted(vae.generative_model, vae.recognition_model, 2)
    x = torch.rand(12, 300, generator=seeded(1)).round()
    free = quadrature(model, x)
    assert (free.error < 1e-3).all()
    assert Counted.rows == free.nodes.sum() > 0
    Counted.rows = 0
    monkeypatch.setattr(module, "MOST_REFINED", int(free.nodes.median()) // 4)
    with pytest.warns(QuadratureWarning):
        found = quadrature(model, x)
    same = found.error < 1e-3
    assert 0 < same.sum() < 12
    torch.testing.assert_close(found.log_likelihood[same], free.log_likelihood[same])
    assert Counted.rows == found.nodes.sum()
    assert found.nodes.sum() < free.nodes.sum()


def test_mass_beyond_the_reach_is_reported() -> None:
    model = linear_gaussian(6, 2)
    x, _ = simulate(model, 4, seeded())
    far = x + 20 * model.generative_model.weight[:, 0].detach()  # the posterior is near z1 = 20
    with pytest.warns(QuadratureWarning, match="4 of 4"):
        found = quadrature(model, far)
    assert (found.error > 0.1).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = quadrature(model, far, reach=30.0)
    off = (found.log_likelihood - model.log_evidence(far)).abs()
    assert (off < found.error + ROUNDING).all()


# -- The shared lattice ------------------------------------------------------------------------


class LaplaceDecoder(nn.Module):
    def forward(self, z: Tensor) -> Independent:
        mean = torch.sin(z @ torch.ones(z.shape[-1], 7))
        return Independent(Laplace(mean, torch.ones_like(mean)), 1)


DECODERS = {
    "Bernoulli": models.bernoulli_vae(7, 5, 2, seeded(), std=1.0).generative_model,
    "Gaussian": models.gaussian_vae(7, 5, 2, seeded(), std=1.0).generative_model,
    "Laplace": LaplaceDecoder(),
}


@pytest.mark.parametrize("decoder", DECODERS.values(), ids=DECODERS)
def test_all_datapoints_under_all_nodes(decoder: nn.Module) -> None:
    decoder = decoder.double()
    x, z = torch.rand(4, 7, generator=seeded()), torch.randn(9, 2, generator=seeded(1))
    p = decoder(z)
    expected = torch.stack([p.log_prob(row) for row in x], 1)
    torch.testing.assert_close(pairwise_log_likelihood(p, x), expected)


def test_a_narrow_gaussian_in_float32_is_as_exact_as_term_by_term() -> None:
    mean, scale = torch.rand(9, 50, generator=seeded()).float(), torch.full((9, 50), 1e-3).float()
    x = mean[:4] + 1e-3 * torch.randn(4, 50, generator=seeded(1)).float()  # near the first four
    exact = Independent(Normal(mean.double(), scale.double()), 1)
    found = pairwise_log_likelihood(Independent(Normal(mean, scale), 1), x)
    assert found.dtype == torch.float32
    expected = torch.stack([exact.log_prob(row.double()) for row in x], 1)
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=0)


def test_a_decoder_of_another_kind() -> None:
    model = models.VAE(LaplaceDecoder(), nn.Identity(), 2)
    x = torch.rand(3, 7, generator=seeded())
    found = quadrature(model, x)
    sampled = importance_sampling(model, x, 100_000, proposal="prior", generator=seeded())
    off = (found.log_likelihood - sampled.log_likelihood).abs()
    assert (off < 4 * sampled.standard_error + found.error).all()


# -- Errors ------------------------------------------------------------------------------------


def test_more_than_three_latent_variables_are_refused_by_name() -> None:
    model = linear_gaussian(6, 4)
    with pytest.raises(ValueError, match=r"at most 3 latent variables .*found 4; importance_sampl"):
        quadrature(model, torch.zeros(2, 6))


def test_arguments_are_checked() -> None:
    model = linear_gaussian(6, 2)
    with pytest.raises(ValueError, match=r"x: expected the shape \(M, D\), found \(6,\)"):
        quadrature(model, torch.zeros(6))
    with pytest.raises(ValueError, match="x: expected at least one datapoint, found the"):
        quadrature(model, torch.zeros(0, 6))
    for name in ("tolerance", "reach"):
        for value in (0, math.inf, math.nan):
            message = f"{name}: expected a positive number, found {value}"
            with pytest.raises(ValueError, match=message):
                quadrature(model, torch.zeros(2, 6), **{name: value})


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_decoder_that_returns_no_number_is_named(value: float) -> None:
    model = models.bernoulli_vae(4, 3, 2, seeded())
    x = torch.rand(9, 4, generator=seeded(1))
    x[2:5, 2] = value
    with pytest.raises(ValueError, match="found another value for 3 of 9 datapoints"):
        quadrature(model, x)


class BrokenDecoder(nn.Module):
    """Returns no numbers where the first latent variable is above one."""

    def __init__(self, decoder: nn.Module):
        super().__init__()
        self.decoder = decoder

    def forward(self, z: Tensor) -> Independent:
        return self.decoder(torch.where(z[..., :1] > 1, math.nan, z))


def test_a_decoder_that_returns_no_number_somewhere_is_named() -> None:
    whole = models.bernoulli_vae(4, 3, 2, seeded())
    model = models.VAE(BrokenDecoder(whole.generative_model), whole.recognition_model, 2)
    with pytest.raises(ValueError, match="found another value for 9 of 9 datapoints"):
        quadrature(model, torch.rand(9, 4, generator=seeded(1)))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_hole_between_the_points_of_the_shared_lattice_is_named(value: float) -> None:
    class Holed(models.LinearGaussian):
        hole = torch.zeros(2)

        def log_joint(self, x: Tensor, z: Tensor) -> Tensor:
            near = (z - self.hole).norm(dim=-1) < 0.01
            return torch.where(near, value, super().log_joint(x, z))

    plain = narrow(2, 0.05)
    decoder = plain.generative_model
    model = Holed(decoder.weight, decoder.bias, decoder.noise_scale)
    x, _ = simulate(plain, 4, seeded())
    model.hole = plain.posterior(x).mean[1].detach()
    with pytest.raises(ValueError, match="found another value for 1 of 4 datapoints"):
        quadrature(model, x)


def test_what_a_cell_may_hide_is_by_the_hessian() -> None:
    weight = torch.tensor([[1.0, -0.5], [0.5, 0.2], [0.3, -1.0]])
    model = models.LinearGaussian(weight, torch.zeros(3), 0.05)
    x, _ = simulate(model, 4, seeded())
    parents = torch.randn(4, 2, generator=seeded(1))
    children = module._children(parents, 0.25).unbind(1)
    values = torch.stack([model.log_joint(x, z) for z in children], 1)
    level = module._Level(torch.arange(4), parents, values, 0.25)

    found = module._hidden(model, x, level, values.amax(1))

    hessian = torch.eye(2) + weight.T @ weight / 0.05**2
    assert hessian[0, 1] < 0
    torch.testing.assert_close(found, (0.25**2 / 8 * hessian.abs().sum()).expand(4))


def test_the_error_has_the_share_that_is_left_out() -> None:
    # Of a Gaussian in the plane a share of exp(-d) has fallen by more than d.
    model = narrow(2, 0.2)
    x, _ = simulate(model, 20, seeded())
    found, tail = quadrature(model, x), 1e-3 * math.exp(-module.DEPTH)
    assert found.error[found.nodes > 0].min().item() == pytest.approx(tail, rel=0.01)
