r"""Laws that are functions of several simpler draws (paper, section 2.4, case 3).

Sums and ratios are no bijections: several noises give one draw. What counts is that :math:`g`
carries the law of the noise to that of the draw. As sums have a whole number of terms, all shapes
are integers here, and there is no gradient in them; a batch may mix them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, distributions
from torch.distributions import constraints

from aevb.reparameterization import location_scale
from aevb.reparameterization.inverse_cdf import Erlang
from aevb.reparameterization.law import NormalNoise, UniformNoise, WholeShapes

__all__ = ["LogNormal", "Gamma", "Dirichlet", "Beta", "ChiSquared", "F", "Sums", "most", "sums"]

WHOLE = constraints.positive_integer


class LogNormal(NormalNoise, distributions.LogNormal):
    r""":math:`p(z) = e^{-(\log z - \mu)^2 / 2\sigma^2} / z\sigma\sqrt{2\pi}`, :math:`z > 0`;
    :math:`g(\epsilon) = \exp(\mu + \sigma\epsilon)`.
    """

    def __init__(
        self, loc: Tensor | float, scale: Tensor | float, validate_args: bool | None = None
    ):
        super().__init__(**self._accept(validate_args, loc=loc, scale=scale))

    def _map(self, noise: Tensor) -> Tensor:
        return location_scale(noise, self.loc, self.scale).exp()


class Sums(WholeShapes):
    """Laws whose noise is a vector of terms, some of which :func:`sums` adds up."""

    @property
    def _counts(self) -> list[Tensor]:
        """How many terms each sum has."""
        return [self.parameters[name] for name in self.constants]

    @property
    def _noise_shape(self) -> torch.Size:
        return torch.Size([sum(most(count) for count in self._counts)])


class Gamma(Sums, Erlang):
    r""":math:`p(z) = \lambda^k z^{k-1} e^{-\lambda z} / (k - 1)!`, :math:`z \ge 0`;
    :math:`g(u) = -\tfrac1\lambda \sum_{i=1}^k \log u_i`, a sum of :math:`k` exponential draws.

    :math:`k` is the ``concentration``. The ``rate`` is one over the scale that the noise is
    multiplied with. The law is Erlang's, by another map.
    """

    def _map(self, noise: Tensor) -> Tensor:
        (total,) = sums(-noise.log(), self._counts)
        return total / self.rate


class Dirichlet(WholeShapes, UniformNoise, distributions.Dirichlet):
    r""":math:`p(\mathbf z) \propto \prod_j z_j^{\alpha_j - 1}`, :math:`\sum_j z_j = 1`;
    :math:`g(u) = \gamma / \sum_j \gamma_j` with
    :math:`\gamma_j = -\sum_{i=1}^{\alpha_j} \log u_{ji}`.

    The paper calls it a weighted sum of Gamma variates; it is their normalization.
    """

    arg_constraints = {"concentration": constraints.independent(WHOLE, 1)}  # noqa: RUF012
    constants = ("concentration",)

    def __init__(self, concentration: Tensor, validate_args: bool | None = None):
        super().__init__(**self._accept(validate_args, concentration=concentration))

    @property
    def _noise_shape(self) -> torch.Size:
        return torch.Size([*self.event_shape, most(self.concentration)])

    @property
    def _inside(self) -> Tensor:
        return torch.full_like(self.concentration, 1 / self.event_shape[0])

    def _map(self, noise: Tensor) -> Tensor:
        (gammas,) = sums(-noise.log(), [self.concentration])
        return gammas / gammas.sum(-1, keepdim=True)


class Beta(Sums, UniformNoise, distributions.Beta):
    r""":math:`p(z) \propto z^{a-1} (1 - z)^{b-1}`, :math:`0 \le z \le 1`;
    :math:`g(u) = \gamma_a / (\gamma_a + \gamma_b)`, two sums of exponential draws.

    :math:`a` is ``concentration1`` and :math:`b` is ``concentration0``, as in PyTorch.
    """

    arg_constraints = {"concentration1": WHOLE, "concentration0": WHOLE}  # noqa: RUF012
    constants = ("concentration1", "concentration0")

    def __init__(
        self,
        concentration1: Tensor | float,
        concentration0: Tensor | float,
        validate_args: bool | None = None,
    ):
        super().__init__(
            **self._accept(
                validate_args, concentration1=concentration1, concentration0=concentration0
            )
        )

    @property
    def _inside(self) -> Tensor:
        return torch.full_like(self._first, 0.5)

    def _map(self, noise: Tensor) -> Tensor:
        a, b = sums(-noise.log(), self._counts)
        return a / (a + b)


class ChiSquared(Sums, NormalNoise, distributions.Chi2):
    r""":math:`p(z) \propto z^{k/2-1} e^{-z/2}`, :math:`z \ge 0`;
    :math:`g(\epsilon) = \sum_{i=1}^k \epsilon_i^2`, with :math:`k` the ``df``.
    """

    arg_constraints = {"df": WHOLE}  # noqa: RUF012
    constants = ("df",)

    def __init__(self, df: Tensor | float, validate_args: bool | None = None):
        super().__init__(**self._accept(validate_args, df=df))

    def _map(self, noise: Tensor) -> Tensor:
        (total,) = sums(noise.square(), self._counts)
        return total


class F(Sums, NormalNoise, distributions.FisherSnedecor):
    r""":math:`p(z) \propto z^{d_1/2-1} (1 + d_1 z / d_2)^{-(d_1+d_2)/2}`, :math:`z > 0`;
    :math:`g(\epsilon) = (\chi^2_{d_1} / d_1) / (\chi^2_{d_2} / d_2)`, two sums of squares.
    """

    arg_constraints = {"df1": WHOLE, "df2": WHOLE}  # noqa: RUF012
    constants = ("df1", "df2")

    def __init__(self, df1: Tensor | float, df2: Tensor | float, validate_args: bool | None = None):
        super().__init__(**self._accept(validate_args, df1=df1, df2=df2))

    def _map(self, noise: Tensor) -> Tensor:
        upper, lower = sums(noise.square(), self._counts)
        return (upper / self.df1) / (lower / self.df2)


def most(count: Tensor) -> int:
    """The largest of some counts, zero if there is none."""
    return int(count.max()) if count.numel() else 0


def sums(terms: Tensor, counts: Sequence[Tensor]) -> list[Tensor]:
    """Sums of the first, the next, ... terms along the last dimension.

    Args:
        terms: Shape ``(..., most(counts[0]) + most(counts[1]) + ...)``.
        counts: How many terms each sum takes; broadcasts with the ``...``. Where a batch mixes
            counts the terms beyond them are not used.

    Returns:
        For each of the counts its sum, of the shape ``...``.
    """
    found = []
    for part, count in zip(terms.split([most(c) for c in counts], -1), counts, strict=True):
        place = torch.arange(part.shape[-1], device=part.device)
        used = place < count.detach().unsqueeze(-1)
        found.append(torch.where(used, part, 0.0).sum(-1))
    return found
