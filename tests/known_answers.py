r"""A model whose bound is known in closed form, and the tolerance of a statistical test.

The formulas are written out from the paper; none of them calls :mod:`aevb`.
"""

import math

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from aevb import models


class FreeGaussian(nn.Module):
    r""":math:`q(z|x) = \mathcal{N}(\mu_i, \operatorname{diag} \sigma_i^2)`, free for each row."""

    def __init__(self, mean: Tensor, scale: Tensor):
        super().__init__()
        self.mean = nn.Parameter(mean.clone())
        self.log_scale = nn.Parameter(scale.log())

    def forward(self, x: Tensor) -> Independent:
        shape = (len(x), self.mean.shape[-1])
        mean, scale = self.mean.expand(shape), self.log_scale.exp().expand(shape)
        return Independent(Normal(mean, scale), 1)


def linear_gaussian(
    data_dim: int, latent_dim: int, recognition_model: nn.Module | None = None
) -> models.LinearGaussian:
    """A linear-Gaussian model with fixed, unremarkable parameters."""
    generator = torch.Generator().manual_seed(10)
    weight = torch.randn(data_dim, latent_dim, generator=generator)
    bias = torch.randn(data_dim, generator=generator)
    return models.LinearGaussian(weight, bias, 0.7, recognition_model)


def closed_form_bound(model: models.LinearGaussian, x: Tensor, mean: Tensor, scale: Tensor):
    r"""The bound of a linear-Gaussian model at a diagonal Gaussian :math:`q` (eq. 3), ``(M,)``."""
    decoder = model.generative_model
    kl = 0.5 * (mean**2 + scale**2 - 1 - 2 * scale.log()).sum(-1)
    return expected_log_likelihood(decoder, x, mean, scale) - kl


def expected_log_likelihood(decoder: nn.Module, x: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    r""":math:`E_q[\log p(x|z)]`: a quadratic in :math:`z`, so two moments are enough."""
    variance = decoder.noise_scale**2
    error = ((x - decoder.bias - mean @ decoder.weight.T) ** 2).sum(-1)
    spread = scale**2 @ (decoder.weight**2).sum(0)
    constant = 0.5 * x.shape[-1] * math.log(2 * math.pi * variance)
    return -constant - (error + spread) / (2 * variance)


def assert_mean(draws: Tensor, expected: Tensor | float) -> None:
    """Whether independent draws (along the first dimension) have this mean, to 4 s.e.

    A false alarm comes once in 16,000 seeds; see the note on random tests in conftest.py.
    """
    standard_error = draws.std(0) / len(draws) ** 0.5
    off = (draws.mean(0) - expected).abs() / standard_error
    assert (off < 4).all(), f"off by {off.max():.1f} s.e.: {draws.mean(0)} expected {expected}"
