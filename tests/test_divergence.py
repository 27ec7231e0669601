"""Appendix B: the Gaussian KL divergence in closed form."""

import pytest
import torch
from known_answers import assert_mean
from scipy.integrate import quad
from torch.autograd import gradcheck
from torch.distributions import Independent, Laplace, LogNormal, Normal, kl_divergence

from aevb import divergence


def gaussian(mean: torch.Tensor, scale: torch.Tensor) -> Independent:
    return Independent(Normal(mean, scale), 1)


def random_gaussian(*shape: int) -> Independent:
    return gaussian(torch.randn(shape), torch.rand(shape) + 0.1)


@pytest.mark.parametrize("shape", [(1,), (5,), (6, 5), (2, 6, 5)])
def test_it_agrees_with_torch(shape: tuple[int, ...]) -> None:
    q = random_gaussian(*shape)
    prior = gaussian(torch.zeros(shape), torch.ones(shape))

    kl = divergence.gaussian_kl(q)

    assert kl.shape == shape[:-1]
    torch.testing.assert_close(kl, kl_divergence(q, prior))


@pytest.mark.parametrize(("mean", "scale"), [(0.0, 1.0), (0.3, 0.2), (-2.0, 1.5), (4.0, 0.01)])
def test_it_agrees_with_quadrature(mean: float, scale: float) -> None:
    q, prior = Normal(mean, scale), Normal(0.0, 1.0)

    def integrand(z: float) -> float:
        at = torch.tensor(z)
        return float(q.log_prob(at).exp() * (q.log_prob(at) - prior.log_prob(at)))

    expected, _ = quad(integrand, mean - 12 * scale, mean + 12 * scale, epsabs=1e-12)

    kl = divergence.gaussian_kl(gaussian(torch.tensor([mean]), torch.tensor([scale])))
    assert float(kl) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_it_agrees_with_monte_carlo() -> None:
    torch.manual_seed(0)  # see the note on random tests in conftest.py
    q = random_gaussian(5)
    z = q.sample((100_000,))
    prior = gaussian(torch.zeros(5), torch.ones(5))

    assert_mean(q.log_prob(z) - prior.log_prob(z), divergence.gaussian_kl(q))


def test_it_is_zero_at_the_prior_and_positive_elsewhere() -> None:
    assert divergence.gaussian_kl(gaussian(torch.zeros(5), torch.ones(5))) == 0
    assert (divergence.gaussian_kl(random_gaussian(1000, 3)) > 0).all()

    nearly = torch.ones(5).clone()
    nearly[2] += 1e-3
    assert divergence.gaussian_kl(gaussian(torch.zeros(5), nearly)) > 0
    assert divergence.gaussian_kl(gaussian(nearly - 1, torch.ones(5))) > 0


def test_its_gradient_is_known() -> None:
    mean, scale = torch.randn(6, 5).requires_grad_(), (torch.rand(6, 5) + 0.1).requires_grad_()

    divergence.gaussian_kl(gaussian(mean, scale)).sum().backward()

    torch.testing.assert_close(mean.grad, mean.detach())
    torch.testing.assert_close(scale.grad, scale.detach() - 1 / scale.detach())
    assert gradcheck(lambda m, s: divergence.gaussian_kl(gaussian(m, s)), (mean, scale))


@pytest.mark.parametrize(
    "q",
    [
        Normal(torch.zeros(2), torch.ones(2)),
        Independent(Laplace(torch.zeros(2), torch.ones(2)), 1),
        Independent(Normal(torch.zeros(3, 2), torch.ones(3, 2)), 2),
        LogNormal(torch.zeros(2), torch.ones(2)),
        torch.zeros(2),
    ],
    ids=["not independent", "Laplace", "two event dimensions", "log-normal", "a tensor"],
)
def test_it_refuses_what_is_no_diagonal_gaussian(q: object) -> None:
    with pytest.raises(TypeError, match=r"^q: expected Independent\(Normal, 1\), found "):
        divergence.gaussian_kl(q)
