r"""Location--scale laws, :math:`z = \mathrm{location} + \mathrm{scale} \cdot \epsilon` (paper,
section 2.4, case 2).

The noise :math:`\epsilon` is the family's standard member, with location 0 and scale 1. The
elliptical laws, which do this with a vector and a matrix, are in
:mod:`~aevb.reparameterization.elliptical`.
"""

import math
from typing import Any

import torch
from torch import Tensor, distributions
from torch.distributions import constraints

from aevb.reparameterization import inverse_cdf, location_scale
from aevb.reparameterization.law import Law, NormalNoise, UniformNoise, normal, uniform

__all__ = [
    "LocationScale",
    "Laplace",
    "StudentT",
    "Logistic",
    "Uniform",
    "Triangular",
    "Gaussian",
    "student_t_noise",
]


class LocationScale(Law):
    """A law whose map is :func:`~aevb.reparameterization.location_scale`."""

    loc: Tensor
    scale: Tensor

    def _map(self, noise: Tensor) -> Tensor:
        return location_scale(noise, self.loc, self.scale)


class Laplace(LocationScale, distributions.Laplace):
    r""":math:`p(z) = e^{-|t|} / 2b`, :math:`t = (z - a) / b`; :math:`g(\epsilon) = a + b\epsilon`.
    The noise is :math:`\epsilon = -\operatorname{sgn}(v) \log(1 - 2|v|)`,
    :math:`v \sim U(-\tfrac12, \tfrac12)`.
    """

    def __init__(
        self, loc: Tensor | float, scale: Tensor | float, validate_args: bool | None = None
    ):
        super().__init__(**self._accept(validate_args, loc=loc, scale=scale))

    def _draw(self, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
        w = 2 * uniform(shape, self.loc, generator)  # 1 - 2|v| is w to the left, 2 - w to the right
        return torch.where(w < 1, w.log(), -(2 - w).log())


class StudentT(LocationScale, distributions.StudentT):
    r""":math:`p(z) \propto (1 + t^2 / \nu)^{-(\nu + 1)/2}`, :math:`t = (z - \mu) / \sigma`;
    :math:`g(\epsilon) = \mu + \sigma\epsilon`. The noise contains :math:`\nu`, the ``df``, so there
    is no gradient in it: asking for one is an error.
    """

    constants = ("df",)

    def __init__(
        self,
        df: Tensor | float,
        loc: Tensor | float = 0.0,
        scale: Tensor | float = 1.0,
        validate_args: bool | None = None,
    ):
        super().__init__(**self._accept(validate_args, df=df, loc=loc, scale=scale))

    def _draw(self, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
        gaussian = normal(shape, self.loc, generator)
        return student_t_noise(gaussian, self.df.expand(shape), generator)


class Logistic(LocationScale, inverse_cdf.Logistic):
    r"""The law of :class:`inverse_cdf.Logistic <aevb.reparameterization.inverse_cdf.Logistic>`, by
    its other map: :math:`g(\epsilon) = \mu + s\epsilon`, with :math:`\epsilon` standard logistic.
    """

    def _draw(self, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
        return torch.logit(uniform(shape, self.loc, generator))


class Uniform(UniformNoise, distributions.Uniform):
    r""":math:`p(z) = 1 / (b - a)`, :math:`a \le z \le b`;
    :math:`g(\epsilon) = a + (b - a)\epsilon`. The support moves with both parameters.
    """

    arg_constraints = {"low": constraints.real, "high": constraints.real}  # noqa: RUF012

    def __init__(
        self, low: Tensor | float, high: Tensor | float, validate_args: bool | None = None
    ):
        super().__init__(**self._accept(validate_args, low=low, high=high))
        self._ordered(validate_args)

    @property
    def _inside(self) -> Tensor:
        return self.mean

    def _log_density(self, value: Tensor) -> Tensor:
        return -(self.high - self.low).log().expand_as(value + self.low)  # at both ends, too

    def _map(self, noise: Tensor) -> Tensor:
        return location_scale(noise, self.low, self.high - self.low)


class Triangular(UniformNoise):
    r""":math:`p(z)` rises from zero at :math:`a` and falls to zero at :math:`b`, along straight
    lines; :math:`g(u) = a + (b - a) \, T_c^{-1}(u)`.

    The ``peak`` :math:`c` is where the top lies between :math:`a` and :math:`b`, as a fraction. The
    standard member's inverse CDF :math:`T_c^{-1}(u)` is :math:`\sqrt{uc}` for :math:`u < c` and
    :math:`1 - \sqrt{(1 - u)(1 - c)}` beyond, and passes a gradient to :math:`c` as well. With
    :math:`c = \tfrac12` it has the law of the mean of two uniform draws.
    """

    arg_constraints = {  # noqa: RUF012
        "low": constraints.real,
        "high": constraints.real,
        "peak": constraints.unit_interval,
    }

    def __init__(
        self,
        low: Tensor | float,
        high: Tensor | float,
        peak: Tensor | float = 0.5,
        validate_args: bool | None = None,
    ):
        self._accept(validate_args, low=low, high=high, peak=peak)
        self.low, self.high, self.peak = self.parameters.values()
        self._ordered(validate_args)
        super().__init__(self.low.shape, validate_args=False)

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:
        return constraints.interval(self.low, self.high)

    @property
    def mean(self) -> Tensor:
        return location_scale((1 + self.peak) / 3, self.low, self.high - self.low)

    @property
    def variance(self) -> Tensor:
        return (self.high - self.low) ** 2 * (1 - self.peak + self.peak**2) / 18

    @property
    def _inside(self) -> Tensor:
        return self.mean

    def _log_density(self, value: Tensor) -> Tensor:
        t = (value - self.low) / (self.high - self.low)
        rising = (t < self.peak) | (self.peak == 1)
        height = torch.where(rising, t, 1 - t) / torch.where(rising, self.peak, 1 - self.peak)
        return math.log(2) + height.log() - (self.high - self.low).log()

    def _map(self, noise: Tensor) -> Tensor:
        rising = noise < self.peak  # the branch not taken must have a finite slope, too
        left = torch.where(rising, noise * self.peak, 1.0).sqrt()
        right = 1 - torch.where(rising, 1.0, (1 - noise) * (1 - self.peak)).sqrt()
        return location_scale(torch.where(rising, left, right), self.low, self.high - self.low)


class Gaussian(LocationScale, NormalNoise, distributions.Normal):
    r""":math:`p(z) = e^{-t^2/2} / \sigma\sqrt{2\pi}`, :math:`t = (z - \mu) / \sigma`;
    :math:`g(\epsilon) = \mu + \sigma\epsilon`. The paper's example.
    """

    def __init__(
        self, loc: Tensor | float, scale: Tensor | float, validate_args: bool | None = None
    ):
        super().__init__(**self._accept(validate_args, loc=loc, scale=scale))


def student_t_noise(gaussian: Tensor, df: Tensor, generator: torch.Generator | None) -> Tensor:
    r""":math:`\epsilon / \sqrt{\chi^2_\nu / \nu}` for Gaussian draws :math:`\epsilon`.

    Args:
        gaussian: Standard Gaussian draws. What has a common divisor is a last dimension beyond
            those of ``df``.
        df: The degrees of freedom, for each divisor.
        generator: The source of the divisors' noise.
    """
    half = df.detach() / 2
    ratio = torch._standard_gamma(half.contiguous(), generator=generator) / half
    root = ratio.clamp_min(torch.finfo(ratio.dtype).tiny).sqrt()
    return gaussian / root.reshape(root.shape + (1,) * (gaussian.dim() - root.dim()))
