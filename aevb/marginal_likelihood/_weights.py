"""What a sample of importance weights is worth."""

import math

from torch import Tensor

__all__ = ["worth"]


def worth(total: Tensor, square: Tensor, count: int) -> tuple[Tensor, Tensor]:
    r"""The effective sample size, and the standard error of the log of the mean weight.

    .. math::
        K_e = \frac{(\sum_k w_k)^2}{\sum_k w_k^2}, \qquad
        \operatorname{se} = \sqrt{\frac{K / K_e - 1}{K - 1}}

    Args:
        total: The logarithm of the weights' sum: of logarithms neither sum can overflow.
        square: The logarithm of their squares' sum, of the same shape.
        count: The number of weights, :math:`K`.

    Returns:
        Both, of that shape: the size, between 1 and :math:`K`, and the error by the delta method,
        not a number if :math:`K = 1`.
    """
    effective = (2 * total - square).exp().clamp(1, count)
    variance = (count / effective - 1) / (count - 1) if count > 1 else total * math.nan
    return effective, variance.sqrt()
