r"""An approximate inverse CDF, where the three recipes fail (paper, section 2.4).

The density is integrated once, panel by panel, into a table of :math:`F`. Between two entries
:math:`F` is a cubic with the right values and slopes at both. A draw inverts it by Newton steps.
One more step, of which only the numerator is differentiated,

.. math::
    z - \frac{F_\phi(z) - u}{p_\phi(z)}, \qquad
    \frac{\partial z}{\partial \phi} = -\frac{\partial F_\phi(z) / \partial \phi}{p_\phi(z)},

leaves the value where it is and has the derivative that follows from :math:`F_\phi(z) = u`.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import constraints

from aevb.reparameterization.law import UniformNoise

__all__ = ["Tabulated"]

NEWTON_STEPS = 6


class Tabulated(UniformNoise):
    r"""A law on an interval, known by its log density up to a constant.

    Args:
        log_density: :math:`\log p_\phi(z)` up to a constant, called with draws and the parameters
            by name. It must be smooth, and finite on the whole interval.
        interval: The two ends of the support, finite.
        parameters: The parameters by name, at least one; each a number or a tensor without
            dimensions.
        panels: How many panels the table has. The error falls with their fourth power.
        nodes: Gauss--Legendre nodes in a panel, by which the density is integrated.

    Attributes:
        error: An estimate of the largest error of the tabulated :math:`F`, from the middle of every
            panel, where a cubic is farthest off. A draw has the law :math:`F` with this error.

    Raises:
        ValueError: If an argument is not as described; the message names it.
    """

    arg_constraints: Any = {}  # noqa: RUF012
    error: float

    def __init__(
        self,
        log_density: Callable[..., Tensor],
        interval: tuple[float, float],
        parameters: Mapping[str, Any],
        panels: int = 256,
        nodes: int = 6,
    ):
        low, high = interval
        if not -math.inf < low < high < math.inf:
            raise ValueError(f"interval: expected finite ends, in order, found {interval}")
        if not parameters:
            raise ValueError("parameters: expected at least one, found none")
        if panels < 1:
            raise ValueError(f"panels: expected at least 1, found {panels}")
        self.arg_constraints = dict.fromkeys(parameters, constraints.real)
        for name, value in parameters.items():
            if isinstance(value, Tensor) and value.dim():
                raise ValueError(f"{name}: expected a single number, found {tuple(value.shape)}")
        self._accept(**parameters)
        super().__init__(validate_args=False)
        self.low, self.high, self._log_unnormalized = low, high, log_density

        self._width = (high - low) / panels
        like = self._first.detach()
        self._edges = torch.linspace(low, high, panels + 1, dtype=like.dtype, device=like.device)
        x, w = (torch.as_tensor(a).to(like) / 2 for a in np.polynomial.legendre.leggauss(nodes))
        x = x + 0.5  # on (0, 1)
        log_p = self._unnormalized(self._edges[:-1, None] + self._width * x)
        if not log_p.isfinite().all():
            raise ValueError("log_density: expected finite numbers on the whole interval")
        shift = log_p.detach().max()
        masses = ((log_p - shift).exp() * w).sum(1) * self._width
        self._log_constant = shift + masses.sum().log()
        total = masses.cumsum(0)
        self._F = torch.cat([like.new_zeros(1), total / total[-1]])  # to 1, and not nearly
        self._p = self._log_density(self._edges).exp()

        with torch.no_grad():
            middle = self._edges[:-1] + self._width / 2
            halves = self._log_density(self._edges[:-1, None] + self._width / 2 * x).exp() @ w
            exact = self._F[:-1] + halves * self._width / 2
            self.error = (self.cdf(middle) - exact).abs().max().item()

    def cdf(self, value: Tensor) -> Tensor:
        r""":math:`F_\phi(z)` by the table, differentiable in the parameters."""
        value = value.clamp(self.low, self.high)
        panel = ((value.detach() - self.low) / self._width).long().clamp(0, len(self._edges) - 2)
        return self._cubic(value, panel)

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:
        return constraints.interval(self.low, self.high)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        raise NotImplementedError("Tabulated: a table holds one law, without a batch shape")

    @property
    def _inside(self) -> Tensor:
        return self._edges[len(self._edges) // 2]

    def _unnormalized(self, value: Tensor) -> Tensor:
        return self._log_unnormalized(value, **self.parameters)

    def _log_density(self, value: Tensor) -> Tensor:
        return self._unnormalized(value) - self._log_constant

    def _density(self, value: Tensor) -> Tensor:
        """To divide by: far out, where it is less than any number, the smallest."""
        return self._log_density(value).exp().clamp_min(torch.finfo(value.dtype).tiny)

    def _cubic(self, value: Tensor, panel: Tensor) -> Tensor:
        """The Hermite cubic of a panel, written around its left end."""
        t = (value - self._edges[panel]) / self._width
        rise = self._F[panel + 1] - self._F[panel]
        left, right = self._width * self._p[panel], self._width * self._p[panel + 1]
        curve = (3 * rise - 2 * left - right) + t * (left + right - 2 * rise)
        return self._F[panel] + t * (left + t * curve)

    def _map(self, noise: Tensor) -> Tensor:
        with torch.no_grad():
            panel = torch.searchsorted(self._F, noise.contiguous()).sub(1)
            panel = panel.clamp(0, len(self._edges) - 2)
            start, end = self._edges[panel], self._edges[panel + 1]
            share = (noise - self._F[panel]) / (self._F[panel + 1] - self._F[panel])
            z = start + share * self._width
            for _ in range(NEWTON_STEPS):
                step = (self._cubic(z, panel) - noise) / self._density(z)
                z = torch.clamp(z - step, start, end)
        off = (self._cubic(z, panel) - noise) / self._density(z).detach()
        return z - (off - off.detach())  # z to the bit, and so inside the support
