r"""SciPy's counterparts of the laws of section 2.4, and the gradients that follow from them.

A vector law is looked at through its last coordinate, whose law SciPy has.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from aevb.reparameterization.catalogue import Entry

COUNTERPARTS: dict[str, Callable[..., Any]] = {
    "Exponential": lambda rate: stats.expon(scale=1 / rate),
    "Cauchy": stats.cauchy,
    "Logistic": stats.logistic,
    "Rayleigh": lambda scale: stats.rayleigh(scale=scale),
    "Pareto": lambda scale, alpha: stats.pareto(alpha, scale=scale),
    "Weibull": lambda scale, concentration: stats.weibull_min(concentration, scale=scale),
    "Reciprocal": lambda low, high: stats.loguniform(low, high),
    "Gompertz": lambda concentration, rate: stats.gompertz(concentration, scale=1 / rate),
    "Gumbel": stats.gumbel_r,
    "Erlang": lambda concentration, rate: stats.gamma(concentration, scale=1 / rate),
    "Laplace": stats.laplace,
    "Elliptical": lambda df, loc, scale_tril: stats.t(
        df, loc[-1], np.linalg.norm(np.asarray(scale_tril)[-1])
    ),
    "Student's t": stats.t,
    "Uniform": lambda low, high: stats.uniform(low, high - low),
    "Triangular": lambda low, high, peak: stats.triang(peak, low, high - low),
    "Gaussian": stats.norm,
    "Log-Normal": lambda loc, scale: stats.lognorm(scale, scale=np.exp(loc)),
    "Gamma": lambda concentration, rate: stats.gamma(concentration, scale=1 / rate),
    "Dirichlet": lambda concentration: stats.beta(concentration[-1], sum(concentration[:-1])),
    "Beta": lambda concentration1, concentration0: stats.beta(concentration1, concentration0),
    "Chi-Squared": stats.chi2,
    "F": lambda df1, df2: stats.f(df1, df2),
}
DEPTH, PANELS, NODES = 60.0, 120, 8  # of the quadrature in the logarithm of a tail's mass
STEP = 1e-4  # of the central difference, relative where the parameter is not small


class GradientCheck(NamedTuple):
    """One entry of one parameter: the estimate, its standard error, and what it estimates."""

    parameter: str
    pathwise: float
    standard_error: float
    exact: float

    @property
    def off(self) -> float:
        """The difference, in standard errors."""
        return (self.pathwise - self.exact) / self.standard_error


def counterpart(entry: Entry, **changes: Any) -> Any:
    """SciPy's frozen law at the entry's example; of the last coordinate for a vector law."""
    return COUNTERPARTS[entry.name](**{**entry.example, **changes})


def coordinate(entry: Entry, z: Tensor) -> Tensor:
    """The draws themselves, or the last coordinate of a vector law's."""
    return z[..., -1] if entry.member().event_shape else z


def expectation(frozen: Any, f: Callable[[Tensor], Tensor]) -> float:
    r""":math:`E f(z)` by quadrature over the quantiles, for an ``f`` that grows slowly.

    Each half of :math:`\int_0^1 f(F^{-1}(u)) \, du` is written as an integral over
    :math:`s = -\log(2u)`, or of :math:`1 - u`, which reaches far into the tails.
    """
    x, w = np.polynomial.legendre.leggauss(NODES)
    width = DEPTH / PANELS
    s = (width * (np.arange(PANELS)[:, None] + (x + 1) / 2)).ravel()
    weight = np.tile(w * width / 2, PANELS) * 0.5 * np.exp(-s)
    tail = 0.5 * np.exp(-s)
    values = f(torch.as_tensor(np.stack([frozen.ppf(tail), frozen.isf(tail)]))).numpy()
    return float((values @ weight).sum())


def gradient_checks(
    entry: Entry,
    f: Callable[[Tensor], Tensor],
    samples: int,
    generator: torch.Generator | None = None,
) -> list[GradientCheck]:
    r"""The pathwise gradient of :math:`E f(z)` in each parameter that has one, and the exact one.

    The exact one is a central difference of :func:`expectation`, which never passes through
    ``g``.

    Args:
        entry: The law, looked at near its example.
        f: A smooth function that grows slowly, so that both sides exist for heavy tails.
        samples: The number of draws.
        generator: The source of the noise.
    """
    found = []
    for name in entry.example:
        if name in entry.law.constants:
            continue
        value = torch.tensor(entry.example[name], dtype=torch.float64)
        each = value.expand(samples, *value.shape).clone().requires_grad_()
        z = entry.member(**{name: each}).rsample((), generator)
        (by_draw,) = torch.autograd.grad(f(coordinate(entry, z)).sum(), each)
        for place, label in _places(name, value):
            index: Any = (slice(None), *place)
            drawn = by_draw[index]
            step = STEP * max(1.0, abs(float(value[place])))
            ends = [_moved(value, place, sign * step).tolist() for sign in (1, -1)]
            upper, lower = (expectation(counterpart(entry, **{name: end}), f) for end in ends)
            error = drawn.std().item() / samples**0.5
            exact = (upper - lower) / (2 * step)
            found.append(GradientCheck(label, drawn.mean().item(), error, exact))
    return found


def _places(name: str, value: Tensor) -> Iterator[tuple[tuple[int, ...], str]]:
    """The entries of a parameter that the last coordinate depends on, and their labels."""
    if value.dim() == 0:
        yield (), name
    elif value.dim() == 1:
        yield (len(value) - 1,), f"{name}[{len(value) - 1}]"
    else:
        last = len(value) - 1
        for column in range(last + 1):
            yield (last, column), f"{name}[{last}, {column}]"


def _moved(value: Tensor, place: tuple[int, ...], by: float) -> Tensor:
    moved = value.clone()
    moved[place] += by
    return moved
