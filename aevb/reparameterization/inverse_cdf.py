r"""Laws with a tractable inverse CDF, :math:`z = F^{-1}(u)` (paper, section 2.4, case 1).

The noise is :math:`u \sim U(0, 1)` for all ten. If :math:`F` is the distribution function,
:math:`P(F^{-1}(u) \le z) = P(u \le F(z)) = F(z)`. Each class gives its density and its map.
"""

import math
from typing import Any

import scipy.special
import torch
from torch import Tensor, distributions
from torch.distributions import AffineTransform, ExpTransform, SigmoidTransform, constraints

from aevb.reparameterization.law import UniformNoise, WholeShapes

__all__ = [
    "Exponential",
    "Cauchy",
    "Logistic",
    "Rayleigh",
    "Pareto",
    "Weibull",
    "Reciprocal",
    "Gompertz",
    "Gumbel",
    "Erlang",
]


class Exponential(UniformNoise, distributions.Exponential):
    r""":math:`p(z) = \lambda e^{-\lambda z}`, :math:`z \ge 0`;
    :math:`g(u) = -\log(1 - u) / \lambda`.
    """

    def __init__(self, rate: Tensor | float, validate_args: bool | None = None):
        super().__init__(**self._accept(validate_args, rate=rate))

    def _map(self, noise: Tensor) -> Tensor:
        return -torch.log1p(-noise) / self.rate


class Cauchy(UniformNoise, distributions.Cauchy):
    r""":math:`p(z) = 1 / \bigl(\pi\gamma(1 + t^2)\bigr)`, :math:`t = (z - a) / \gamma`;
    :math:`g(u) = a + \gamma \tan\bigl(\pi(u - \tfrac12)\bigr)`. It has no mean.
    """

    def __init__(
        self, loc: Tensor | float, scale: Tensor | float, validate_args: bool | None = None
    ):
        super().__init__(**self._accept(validate_args, loc=loc, scale=scale))

    def _map(self, noise: Tensor) -> Tensor:
        near = torch.minimum(noise, 1 - noise)  # tan(pi (u - 1/2)) = -cot(pi u), sharp in the tails
        tangent = torch.where(noise < 0.5, -1, 1) / torch.tan(math.pi * near)
        return self.loc + self.scale * tangent


class Logistic(UniformNoise, distributions.TransformedDistribution):
    r""":math:`p(z) = e^{-t} / \bigl(s (1 + e^{-t})^2\bigr)`, :math:`t = (z - \mu) / s`;
    :math:`g(u) = \mu + s \log\bigl(u / (1 - u)\bigr)`.
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}  # noqa: RUF012
    support = constraints.real

    def __init__(
        self, loc: Tensor | float, scale: Tensor | float, validate_args: bool | None = None
    ):
        self._accept(validate_args, loc=loc, scale=scale)
        self.loc, self.scale = self.parameters.values()
        unit = distributions.Uniform(torch.zeros_like(self.loc), 1.0, validate_args=False)
        transforms = [SigmoidTransform().inv, AffineTransform(self.loc, self.scale)]
        super().__init__(unit, transforms, validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return (math.pi * self.scale) ** 2 / 3

    def _map(self, noise: Tensor) -> Tensor:
        return self.loc + self.scale * torch.logit(noise)


class Rayleigh(UniformNoise, distributions.TransformedDistribution):
    r""":math:`p(z) = (z / \sigma^2) \, e^{-z^2 / 2\sigma^2}`, :math:`z > 0`;
    :math:`g(u) = \sigma \sqrt{-2 \log(1 - u)}`. It is the Weibull law with exponent 2.
    """

    arg_constraints = {"scale": constraints.positive}  # noqa: RUF012
    support = constraints.positive

    def __init__(self, scale: Tensor | float, validate_args: bool | None = None):
        self._accept(validate_args, scale=scale)
        (self.scale,) = self.parameters.values()
        weibull = distributions.Weibull(
            math.sqrt(2) * self.scale, torch.full_like(self.scale, 2.0), validate_args=False
        )
        super().__init__(weibull, [], validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.base_dist.mean

    @property
    def variance(self) -> Tensor:
        return self.base_dist.variance

    def _map(self, noise: Tensor) -> Tensor:
        return self.scale * torch.sqrt(-2 * torch.log1p(-noise))


class Pareto(UniformNoise, distributions.Pareto):
    r""":math:`p(z) = \alpha x_m^\alpha z^{-\alpha - 1}`, :math:`z \ge x_m`;
    :math:`g(u) = x_m (1 - u)^{-1/\alpha}`. The support moves with :math:`x_m`, the ``scale``.
    """

    def __init__(
        self, scale: Tensor | float, alpha: Tensor | float, validate_args: bool | None = None
    ):
        super().__init__(**self._accept(validate_args, scale=scale, alpha=alpha))

    @property
    def _inside(self) -> Tensor:
        return 2 * self.scale

    def _map(self, noise: Tensor) -> Tensor:
        return self.scale * torch.exp(-torch.log1p(-noise) / self.alpha)


class Weibull(UniformNoise, distributions.Weibull):
    r""":math:`p(z) = \tfrac k\lambda (z/\lambda)^{k-1} e^{-(z/\lambda)^k}`, :math:`z > 0`;
    :math:`g(u) = \lambda \bigl(-\log(1 - u)\bigr)^{1/k}`, with :math:`k` the ``concentration``.
    """

    def __init__(
        self,
        scale: Tensor | float,
        concentration: Tensor | float,
        validate_args: bool | None = None,
    ):
        super().__init__(**self._accept(validate_args, scale=scale, concentration=concentration))

    def _map(self, noise: Tensor) -> Tensor:
        return self.scale * (-torch.log1p(-noise)) ** (1 / self.concentration)


class Reciprocal(UniformNoise, distributions.TransformedDistribution):
    r""":math:`p(z) = 1 / \bigl(z \log(b/a)\bigr)`, :math:`a \le z \le b`;
    :math:`g(u) = a (b/a)^u`. The logarithm is uniform, and both ends of the support move.
    """

    arg_constraints = {"low": constraints.positive, "high": constraints.positive}  # noqa: RUF012

    def __init__(
        self, low: Tensor | float, high: Tensor | float, validate_args: bool | None = None
    ):
        self._accept(validate_args, low=low, high=high)
        self.low, self.high = self.parameters.values()
        self._ordered(validate_args)
        logarithm = distributions.Uniform(self.low.log(), self.high.log(), validate_args=False)
        super().__init__(logarithm, [ExpTransform()], validate_args=False)

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:
        return constraints.interval(self.low, self.high)

    @property
    def mean(self) -> Tensor:
        return (self.high - self.low) / (self.high / self.low).log()

    @property
    def variance(self) -> Tensor:
        return (self.high**2 - self.low**2) / (2 * (self.high / self.low).log()) - self.mean**2

    @property
    def _inside(self) -> Tensor:
        return (self.low * self.high).sqrt()

    def _log_density(self, value: Tensor) -> Tensor:
        return -value.log() - (self.high / self.low).log().log()  # at both ends, too

    def _map(self, noise: Tensor) -> Tensor:
        return self.low * torch.exp(noise * (self.high / self.low).log())


class Gompertz(UniformNoise):
    r""":math:`p(z) = b \eta \exp\bigl(bz - \eta (e^{bz} - 1)\bigr)`, :math:`z \ge 0`;
    :math:`g(u) = \tfrac1b \log\bigl(1 - \log(1 - u) / \eta\bigr)`; :math:`\eta` is the
    ``concentration`` and :math:`b` the ``rate``.
    """

    arg_constraints = {  # noqa: RUF012
        "concentration": constraints.positive,
        "rate": constraints.positive,
    }
    support = constraints.nonnegative

    def __init__(
        self,
        concentration: Tensor | float,
        rate: Tensor | float,
        validate_args: bool | None = None,
    ):
        self._accept(validate_args, concentration=concentration, rate=rate)
        self.concentration, self.rate = self.parameters.values()
        super().__init__(self.rate.shape, validate_args=False)

    def cdf(self, value: Tensor) -> Tensor:
        hazard = self.concentration * torch.expm1(self.rate * value.clamp_min(0))
        return -torch.expm1(-hazard)

    def _log_density(self, value: Tensor) -> Tensor:
        t = self.rate * value
        return (self.rate * self.concentration).log() + t - self.concentration * torch.expm1(t)

    def _map(self, noise: Tensor) -> Tensor:
        return torch.log1p(-torch.log1p(-noise) / self.concentration) / self.rate


class Gumbel(UniformNoise, distributions.Gumbel):
    r""":math:`p(z) = \tfrac1\beta e^{-(t + e^{-t})}`, :math:`t = (z - \mu) / \beta`;
    :math:`g(u) = \mu - \beta \log(-\log u)`.
    """

    def __init__(
        self, loc: Tensor | float, scale: Tensor | float, validate_args: bool | None = None
    ):
        super().__init__(**self._accept(validate_args, loc=loc, scale=scale))

    def _map(self, noise: Tensor) -> Tensor:
        return self.loc - self.scale * torch.log(-torch.log(noise))


class Erlang(WholeShapes, UniformNoise, distributions.Gamma):
    r""":math:`p(z) = \lambda^k z^{k-1} e^{-\lambda z} / (k - 1)!`, :math:`z \ge 0`;
    :math:`g(u) = P^{-1}(k, u) / \lambda` with :math:`P` the regularized incomplete gamma function.

    :math:`F` is a finite sum, its inverse is computed numerically. It depends on the integer
    :math:`k` alone, so :math:`\partial z / \partial \lambda = -z / \lambda` is exact.
    :class:`~aevb.reparameterization.composition.Gamma` draws the same law without an inverse.
    """

    arg_constraints = {  # noqa: RUF012
        "concentration": constraints.positive_integer,
        "rate": constraints.positive,
    }
    constants = ("concentration",)

    def __init__(
        self,
        concentration: Tensor | float,
        rate: Tensor | float,
        validate_args: bool | None = None,
    ):
        super().__init__(**self._accept(validate_args, concentration=concentration, rate=rate))

    def _map(self, noise: Tensor) -> Tensor:
        k, u = (t.detach().cpu().double() for t in (self.concentration, noise))
        unit = torch.as_tensor(scipy.special.gammaincinv(k.numpy(), u.numpy()))
        return unit.to(noise) / self.rate
