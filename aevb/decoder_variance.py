r"""Other variances for Frey Face's decoder than the paper's eq. 12: a study of sensitivity.

In eq. 12 a network computes the variance of each pixel from :math:`z`, and nothing keeps it from
going to zero. Both networks here have the rest of :class:`aevb.mlp.GaussianMLP`.
"""

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from aevb.mlp import GaussianMLP

__all__ = ["GRAY_LEVEL", "ConstantVariance", "FlooredVariance"]

GRAY_LEVEL = 1 / 256
"""The distance of two gray values: pixels are known no better than to it."""


class FlooredVariance(GaussianMLP):
    r"""A variance of :math:`\sigma^2 + 1/256^2`, where :math:`\sigma^2` is that of eq. 12."""

    def forward(self, given: Tensor) -> Independent:
        """The distribution given ``(..., inputs)``: batch shape ``(...)``, event ``(outputs,)``."""
        pixels = super().forward(given).base_dist
        scale = torch.sqrt(pixels.scale**2 + GRAY_LEVEL**2)
        return Independent(Normal(pixels.loc, scale, validate_args=False), 1, validate_args=False)


class ConstantVariance(GaussianMLP):
    r"""A variance of each pixel that is learned and does not depend on :math:`z`."""

    def __init__(self, inputs: int, hidden: int, outputs: int, *, squash_mean: bool = False):
        super().__init__(inputs, hidden, outputs, squash_mean=squash_mean)
        self.log_variance = Bias(outputs)


class Bias(nn.Module):
    """What is left of a linear layer without its weights: the same vector for every input."""

    def __init__(self, outputs: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, given: Tensor) -> Tensor:
        """The vector, once for each input: ``(..., n)`` to ``(..., outputs)``."""
        return self.bias.expand(*given.shape[:-1], -1)
