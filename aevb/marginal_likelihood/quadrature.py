r"""Quadrature of the marginal likelihood, in up to three latent dimensions.

.. math::
    p_\theta(x) = \int p_\theta(x, z) \, dz \simeq h^J \sum_i p_\theta(x, z_i)

The points :math:`z_i` are a lattice of spacing :math:`h`. For a smooth integrand that vanishes
towards the rim this plain sum converges exponentially fast (Trefethen and Weideman 2014). For a
Gaussian of standard deviation :math:`\sigma` its relative error is about
:math:`2 e^{-2 \pi^2 \sigma^2 / h^2}` in each dimension, and that is :math:`5 \cdot 10^{-9}` at
:math:`h = \sigma`. So all that is to be done is to make :math:`h` small where the posterior is.
"""

import itertools
import math
import warnings
from typing import NamedTuple

import torch
from torch import Tensor

from aevb.marginal_likelihood._checks import check_datapoints, check_numbers
from aevb.marginal_likelihood.resampling import pairwise_log_likelihood
from aevb.models import LatentVariableModel

__all__ = ["Quadrature", "QuadratureWarning", "quadrature"]

SPACINGS = {1: 1 / 64, 2: 1 / 16, 3: 1 / 4}
"""Of the lattice that all datapoints share, for each number of latent dimensions."""
DEPTH = 6.0
"""A cell is left out if all of it lies this many nats, and minus the logarithm of the tolerance,
below the highest point."""
SLACK = 2.0
"""Times the curvature at the highest point: other modes may be narrower."""
MOST_LEVELS = 20
MOST_REFINED = 2**16
"""Points of one datapoint that are refined at one level."""
DECODED = 2**19
"""The numbers that the generative model returns at once."""
SHARED = 2**24
"""The values kept of the shared lattice: points times datapoints."""


class Quadrature(NamedTuple):
    """What :func:`quadrature` returns, one number for each datapoint, shape ``(M,)``."""

    log_likelihood: Tensor
    r"""The value of :math:`\log p_\theta(x)`, nats."""
    error: Tensor
    """Nats: how far the lattices of twice the spacing lie from it, at most (the lattice itself is
    far nearer), what share of it lies at the rim, and what share of a Gaussian is left out."""
    nodes: Tensor
    """Evaluations of the log joint density, beyond those of the shared lattice."""


class QuadratureWarning(UserWarning):
    """Some integrals did not reach the tolerance."""


@torch.no_grad()
def quadrature(
    model: LatentVariableModel,
    x: Tensor,
    *,
    tolerance: float = 1e-3,
    reach: float = 8.0,
) -> Quadrature:
    r"""The marginal likelihood of each datapoint, deterministically.

    First a lattice over the prior, decoded once for all datapoints. Where that is too coarse for a
    posterior, its cells are halved in each dimension, and halved again: only those that hold
    mass. The points of one level are :math:`2^J` interleaved lattices of twice the spacing. Each of
    them is a rule of its own, and how far they lie apart is the error estimate.

    Args:
        model: Any model with up to three continuous latent variables.
        x: Datapoints, shape ``(M, D)``.
        tolerance: The error to aim for, nats.
        reach: The lattice covers :math:`[-\text{reach}, \text{reach}]^J`.

    Returns:
        The values, and their errors.

    Raises:
        ValueError: If the model has more than three latent variables, ``x`` is not a matrix or
            empty, ``tolerance`` or ``reach`` is not positive and finite, or a log joint density is
            not a number.

    Warns:
        QuadratureWarning: If the tolerance was not reached, with the number of datapoints.

    >>> from aevb import models
    >>> model = models.LinearGaussian(torch.ones(3, 1), torch.zeros(3), noise_scale=1.0)
    >>> x = torch.tensor([[1.0, 2.0, 0.0], [-1.0, 0.0, 1.0]])
    >>> torch.allclose(quadrature(model, x).log_likelihood, model.log_evidence(x), atol=1e-3)
    True
    """
    dims = model.latent_dim
    if dims not in SPACINGS:
        raise ValueError(
            f"model: expected at most {max(SPACINGS)} latent variables for quadrature, "
            f"found {dims}; importance_sampling and annealed_importance_sampling take any number"
        )
    check_datapoints(x)
    for name, value in (("tolerance", tolerance), ("reach", reach)):
        if not 0 < value < math.inf:
            raise ValueError(f"{name}: expected a positive number, found {value}")
    half = max(1, round(reach / SPACINGS[dims]))  # as many pairs of points in each dimension
    axis = (torch.arange(half, dtype=x.dtype, device=x.device) + 0.5) * (2 * reach / half) - reach
    parents = torch.cartesian_prod(*[axis] * dims).view(-1, dims)
    batch = max(1, SHARED // (len(parents) * 2**dims))
    parts = [_integrate(model, part, parents, reach / half, tolerance) for part in x.split(batch)]
    found = Quadrature(*(torch.cat(field) for field in zip(*parts, strict=True)))
    late = int((found.error > tolerance).sum())
    if late:
        warnings.warn(
            f"{late:,} of {len(x):,} integrals did not reach an error of {tolerance:g} nats: "
            f"the largest is {found.error.max().item():.2g} nats",
            QuadratureWarning,
            stacklevel=3,
        )
    return found


class _Level(NamedTuple):
    """Points of spacing ``h``; a row is the children of one parent, for one datapoint."""

    owner: Tensor  # which datapoint, (R,)
    parents: Tensor  # (R, J)
    values: Tensor  # the log joint density at the children, nats, (R, 2^J)
    h: float


def _integrate(
    model: LatentVariableModel, x: Tensor, parents: Tensor, h: float, tolerance: float
) -> Quadrature:
    """From the shared lattice down, until every datapoint's error is small or it is given up."""
    rows, dims = parents.shape
    owner = torch.arange(len(x), device=x.device).repeat_interleave(rows)
    values = _shared(model, x, _children(parents, h))
    level = _Level(owner, parents.repeat(len(x), 1), values, h)
    result, error, top = _sum(level, len(x))
    at_rim = (parents.abs() > parents.abs().max() - h).any(1)
    weight = (values.view(len(x), rows, -1) - result[:, None, None]).exp() * h**dims
    rim = weight[:, at_rim].sum((1, 2)).clamp(max=1.0)
    depth = DEPTH - math.log(min(tolerance, 1.0))
    tail = torch.special.gammaincc(x.new_tensor(dims / 2), x.new_tensor(depth))
    nodes = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    for _ in range(MOST_LEVELS):
        open_ = error > tolerance
        # A Gaussian that falls by d at a cell's nearest corner falls by this at its center.
        floor = top - (math.sqrt(depth) + (SLACK * _hidden(model, x, level, top)).sqrt()) ** 2
        high = (level.values > floor[level.owner, None]) & open_[level.owner, None]
        number = torch.zeros_like(nodes).index_add(0, level.owner, high.sum(1))
        open_ &= (number > 0) & (number <= MOST_REFINED)
        if not open_.any():
            break
        high &= open_[level.owner, None]
        level = _refined(model, x, level, high)
        finer, error_finer, top_finer = _sum(level, len(x))
        result = torch.where(open_, finer, result)
        error = torch.where(open_, error_finer + tail, error)
        top = torch.where(open_, top_finer, top)
        nodes = nodes + torch.where(open_, number * level.values.shape[1], 0)
    return Quadrature(result, error + rim, nodes)


def _children(parents: Tensor, h: float) -> Tensor:
    """The centers of the :math:`2^J` cells of width ``h`` in each parent's, ``(R, 2^J, J)``."""
    corners = itertools.product((-0.5, 0.5), repeat=parents.shape[1])
    return parents[:, None] + h * torch.tensor(list(corners)).to(parents)


def _shared(model: LatentVariableModel, x: Tensor, nodes: Tensor) -> Tensor:
    """The log joint density of all datapoints at all nodes, ``(M R, 2^J)``."""
    flat, parts = nodes.flatten(0, 1), []
    for z in flat.split(max(1, DECODED // x.shape[1])):
        log_likelihood = pairwise_log_likelihood(model.generative_model(z), x)  # (g, M)
        parts.append((model.prior.log_prob(z)[:, None] + log_likelihood).T)
    values = torch.cat(parts, 1)
    check_numbers(values.isnan().any(1) | (values == math.inf).any(1))
    return values.view(-1, nodes.shape[1])


def _refined(model: LatentVariableModel, x: Tensor, level: _Level, high: Tensor) -> _Level:
    """The level below, under the points that are high."""
    row, child = high.nonzero(as_tuple=True)
    owner, h = level.owner[row], level.h / 2
    parents = _children(level.parents, level.h)[row, child]
    nodes = _children(parents, h)
    owners = owner.repeat_interleave(nodes.shape[1])
    at_once = max(1, DECODED // x.shape[1])
    values = torch.cat(
        [
            model.log_joint(x[i], z)
            for i, z in zip(owners.split(at_once), nodes.flatten(0, 1).split(at_once), strict=True)
        ]
    )
    lost = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    lost[owners[values.isnan() | (values == math.inf)]] = True
    check_numbers(lost)
    return _Level(owner, parents, values.view(nodes.shape[:2]), h)


def _sum(level: _Level, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The integrals, how far off the lattices of twice the spacing are, and the highest values."""
    rules, dims = level.values.shape[1], level.parents.shape[1]
    parts = _log_sum(level.owner, level.values, count) + dims * math.log(level.h)
    result = parts.logsumexp(1)
    off = (parts + math.log(rules) - result[:, None]).abs().amax(1)
    return result, off, _maximum(level.owner, level.values, count).amax(1)


def _hidden(model: LatentVariableModel, x: Tensor, level: _Level, top: Tensor) -> Tensor:
    r"""How far a Gaussian falls from its maximum to the corner of a cell around it, ``(M,)``.

    At most :math:`h^2 \sum_{ij} |H_{ij}| / 8`, :math:`H` being the Hessian at the highest point.
    """
    row, child = (level.values == top[level.owner, None]).nonzero(as_tuple=True)
    best = x.new_zeros(len(x), level.parents.shape[1])
    best[level.owner[row]] = _children(level.parents[row], level.h)[torch.arange(len(row)), child]
    with torch.enable_grad():
        z = best.requires_grad_()
        (slope,) = torch.autograd.grad(model.log_joint(x, z).sum(), z, create_graph=True)
        curvature = [torch.autograd.grad(s.sum(), z, retain_graph=True)[0] for s in slope.unbind(1)]
    return level.h**2 / 8 * torch.stack(curvature).abs().sum((0, 2))


def _maximum(owner: Tensor, values: Tensor, count: int) -> Tensor:
    """The largest of each column and datapoint, ``(M, K)``."""
    lowest = values.new_full((count, values.shape[1]), -math.inf)
    return lowest.scatter_reduce(0, owner[:, None].expand_as(values), values, "amax")


def _log_sum(owner: Tensor, values: Tensor, count: int) -> Tensor:
    """The logarithm of the sum of exponentials of each column and datapoint, ``(M, K)``."""
    shift = _maximum(owner, values, count)
    shift = torch.where(shift.isfinite(), shift, 0.0)
    sums = torch.zeros_like(shift).index_add(0, owner, (values - shift[owner]).exp())
    return shift + sums.log()
