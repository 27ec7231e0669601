r"""The paper's estimator of the marginal likelihood (Appendix D).

Bayes' rule, multiplied by any normalized density :math:`q(z)` and integrated, is an average over
the posterior:

.. math::
    \frac{1}{p_\theta(x)} = \int \frac{q(z)}{p_\theta(x)} \, dz
    = \int p_\theta(z|x) \, \frac{q(z)}{p_\theta(x, z)} \, dz

This is reciprocal importance sampling (Gelfand and Dey 1994). It needs no encoder, but draws of
the posterior and a :math:`q` near it, whose tails are not much heavier: lighter ones are safe.
"""

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal

from aevb import hmc, reparameterization
from aevb.marginal_likelihood._checks import EstimateError, check_datapoints
from aevb.marginal_likelihood._weights import worth
from aevb.marginal_likelihood.resampling import resample
from aevb.models import LatentVariableModel

__all__ = ["DENSITIES", "Reciprocal", "reciprocal_importance_sampling"]

DENSITIES = ("kde", "gaussian", "diagonal")
STARTS = ("recognition", "prior", "resampled")
MOST_DIMS = 5
"""A kernel density estimate from some tens of draws is no use in more dimensions."""
MULTIPLES = tuple(0.2 * n for n in range(1, 11))
"""Of Scott's rule, among which the bandwidth is chosen."""
STEP_SIZE = 0.1
"""Where the tuning of the leapfrog's step sizes begins."""
ADAPTATION_RATE = 1.1
"""Each chain tunes a step size of its own: slower, and the burn-in would be over too soon; faster,
and one chain's chance would decide."""
EXACT = "donot_use_mm_for_euclid_dist"
"""Distances as differences: the faster way through products cancels digits."""
RETRIES = 3
SMALLER = 10
"""A chain that got stuck goes on with a step size that much smaller, so many times at most."""
JITTER = 0.5
"""Four leapfrog steps tuned to 90 % acceptance are near a whole period in one dimension."""


class Reciprocal(NamedTuple):
    """What :func:`reciprocal_importance_sampling` returns."""

    log_likelihood: Tensor
    r"""The estimate of :math:`\log p_\theta(x)`, nats, shape ``(M,)``."""
    effective_sample_size: Tensor
    """Of the weights that were averaged, as if the draws were independent, shape ``(M,)``. It
    cannot see a mode of the posterior where the chain has not been."""
    acceptance_rate: Tensor
    """Of the chain that drew from the posterior, shape ``(M,)``."""
    position: Tensor
    """Where each chain ended, shape ``(M, J)``: a later estimate can go on from there."""
    step_size: Tensor
    """With which leapfrog steps each chain ended, shape ``(M,)``."""


def reciprocal_importance_sampling(
    model: LatentVariableModel,
    x: Tensor,
    *,
    draws: int = 50,
    burn_in: int = 50,
    leapfrog_steps: int = 4,
    density: str = "kde",
    start: str | Tensor = "recognition",
    candidates: int = 4_096,
    step_size: float | Tensor = STEP_SIZE,
    batch: int = 500,
    generator: torch.Generator | None = None,
) -> Reciprocal:
    r"""Appendix D, in its three stages.

    1. Draw :math:`z^{(1)}, \dots, z^{(S)}` from the posterior by Hamiltonian Monte Carlo, a chain
       for each datapoint.
    2. Fit :math:`q(z)` to the first half of them.
    3. Average over the second half:

    .. math::
        p_\theta(x) \simeq \biggl( \frac1L \sum_{l=1}^L
        \frac{q(z^{(l)})}{p_\theta(z^{(l)}) \, p_\theta(x|z^{(l)})} \biggr)^{-1}

    The average is unbiased for :math:`1/p_\theta(x)` if the draws are exact. Then the estimate of
    :math:`\log p_\theta(x)` is too high, on average.

    Args:
        model: Any model with a continuous latent variable.
        x: Datapoints, shape ``(M, D)``.
        draws: :math:`S`, for both halves together.
        burn_in: Moves of each chain before that, in which its step size is tuned.
        leapfrog_steps: The length of each move's trajectory.
        density: ``kde``, Gaussian kernels whose bandwidth is the multiple of Scott's rule that
            explains best one half of the fitted draws from the other; ``gaussian``, with all
            covariances; or ``diagonal``.
        start: Where the chains begin: at a draw of the ``recognition`` model, of the ``prior``, or
            ``resampled`` from many draws of the prior
            (:func:`~aevb.marginal_likelihood.resampling.resample`); or the positions themselves,
            shape ``(M, J)``, such as those at which the chains of an earlier estimate ended.
        candidates: How many draws of the prior, for a ``resampled`` start.
        step_size: Where the tuning of the leapfrog's step size begins, for all chains or of shape
            ``(M,)``.
        batch: How many datapoints are handled at once: memory, not the quality of the result.
        generator: The source of randomness.

    Returns:
        The estimates, and what to judge them by.

    Raises:
        ValueError: If an argument is out of its range, the draws are too few for the density, or
            ``kde`` is asked for with more than five latent variables.
        aevb.hmc.InitialPositionError: If the log joint density is not finite at the start.
        RuntimeError: If a chain did not move enough for a density to be fitted.

    Warns:
        aevb.hmc.DivergenceWarning: If proposals diverged, with how many.

    >>> from aevb import models
    >>> model = models.LinearGaussian(torch.ones(3, 1), torch.zeros(3), noise_scale=1.0)
    >>> x = torch.tensor([[1.0, 2.0, 0.0], [-1.0, 0.0, 1.0]])
    >>> generator = torch.Generator().manual_seed(0)
    >>> found = reciprocal_importance_sampling(model, x, start="prior", generator=generator)
    >>> (found.log_likelihood - model.log_evidence(x)).abs() < 0.5
    tensor([True, True])
    """
    _check(model, x, draws, burn_in, density, start, step_size, batch)
    starts = start.split(batch) if isinstance(start, Tensor) else itertools.repeat(start)
    step_sizes = torch.as_tensor(step_size, dtype=torch.float64).expand(len(x)).split(batch)
    parts = [
        _estimate(
            model,
            part,
            _start(model, part, begin, candidates, generator),
            draws,
            burn_in,
            leapfrog_steps,
            density,
            sizes,
            generator,
        )
        for part, begin, sizes in zip(x.split(batch), starts, step_sizes, strict=False)
    ]
    return Reciprocal(*(torch.cat(field) for field in zip(*parts, strict=True)))


@torch.no_grad()
def _start(
    model: LatentVariableModel,
    x: Tensor,
    start: str | Tensor,
    candidates: int,
    generator: torch.Generator | None,
) -> Tensor:
    if isinstance(start, Tensor):
        return start.to(x)
    if start == "resampled":
        return resample(model, x, candidates, generator=generator)
    q = model.prior.expand(x.shape[:1]) if start == "prior" else model.recognition_model(x)
    return reparameterization.sample(q, 1, generator)[0]


def _estimate(
    model: LatentVariableModel,
    x: Tensor,
    z: Tensor,
    draws: int,
    burn_in: int,
    leapfrog_steps: int,
    density: str,
    step_size: Tensor,
    generator: torch.Generator | None,
) -> Reciprocal:
    def draw(x: Tensor, z: Tensor, step_size: Tensor) -> hmc.Samples:
        def log_density(z: Tensor) -> Tensor:
            return model.log_joint(x, z)

        return hmc.sample(
            hmc.init(z, log_density),
            log_density,
            step_size,
            leapfrog_steps,
            draws,
            warm_up=burn_in,
            rate=ADAPTATION_RATE,
            jitter=JITTER,
            generator=generator,
        )

    least = 1 if density == "diagonal" else model.latent_dim
    rows = torch.arange(len(x), device=x.device)
    chains = draw(x, z, step_size.to(z))
    positions, acceptance_rate = chains.positions, chains.info.acceptance_rate.mean(0)
    step_size = chains.step_size.clone()
    for _ in range(RETRIES):
        stuck = _moves(positions[: draws // 2, rows]) < least
        if not stuck.any():
            break
        rows = rows[stuck]
        chains = draw(x[rows], chains.state.position[stuck], chains.step_size[stuck] / SMALLER)
        positions[:, rows], step_size[rows] = chains.positions, chains.step_size
        acceptance_rate[rows] = chains.info.acceptance_rate.mean(0)
    fitted, averaged = positions.tensor_split([draws // 2])
    with torch.no_grad():
        log_q = _log_density(fitted, averaged, density)
        log_weight = log_q - model.log_joint(x, averaged)
    total = log_weight.logsumexp(0)
    return Reciprocal(
        math.log(len(averaged)) - total,
        worth(total, (2 * log_weight).logsumexp(0), len(averaged))[0],
        acceptance_rate,
        positions[-1],
        step_size,
    )


def _log_density(fitted: Tensor, z: Tensor, density: str) -> Tensor:
    """The logarithm of a density fitted to draws ``(L, M, J)``, at ``z`` ``(R, M, J)``."""
    dims = z.shape[-1]
    if density == "diagonal":
        scale = fitted.std(0)
        _check_moved(_moves(fitted) > 0)
        return Independent(Normal(fitted.mean(0), scale), 1).log_prob(z)
    if density == "gaussian":
        return MultivariateNormal(fitted.mean(0), scale_tril=_scale(fitted)).log_prob(z)
    scale = _scale(fitted)
    centers, points = (
        torch.linalg.solve_triangular(scale, part.movedim(0, -1), upper=False).mT
        for part in (fitted, z)
    )  # (M, L, J) and (M, R, J), in units in which the fitted draws have covariance I
    one, other = centers.tensor_split(2, 1)
    across = torch.cdist(one, other, compute_mode=EXACT).square()
    scores = [
        _kernels(across, factor, dims).mean(1) + _kernels(across.mT, factor, dims).mean(1)
        for factor in MULTIPLES
    ]
    multiple = torch.as_tensor(MULTIPLES).to(z)[torch.stack(scores).argmax(0)]
    apart = torch.cdist(points, centers, compute_mode=EXACT).square().mT
    volume = scale.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return (_kernels(apart, multiple[:, None], dims) - volume[:, None]).T


def _kernels(squared: Tensor, multiple: float | Tensor, dims: int) -> Tensor:
    """The log of the mean of Gaussian kernels, as wide as a multiple of Scott's rule (1992).

    Args:
        squared: The squared distances of centers and points, ``(M, L, R)``.
        multiple: For all datapoints, or of shape ``(M, 1)``.
        dims: The number of latent variables.

    Returns:
        Shape ``(M, R)``.
    """
    count = squared.shape[1]
    width = torch.as_tensor(multiple).to(squared) * count ** (-1 / (dims + 4))
    exponents = -0.5 * squared / width[..., None].square()
    constant = math.log(count) + dims * (width.log() + 0.5 * math.log(2 * math.pi))
    return exponents.logsumexp(1) - constant


def _scale(draws: Tensor) -> Tensor:
    """The Cholesky factor of the draws' covariance, shape ``(M, J, J)``."""
    centered = draws - draws.mean(0)
    covariance = torch.einsum("lmi,lmj->mij", centered, centered) / (len(draws) - 1)
    factor, failed = torch.linalg.cholesky_ex(covariance)
    _check_moved((failed == 0) & (_moves(draws) >= draws.shape[-1]))
    return factor


def _moves(draws: Tensor) -> Tensor:
    """How often each chain moved, shape ``(M,)``: less often than it has dimensions, and its draws
    have no covariance but the rounding of their mean."""
    return (draws.diff(dim=0) != 0).any(-1).sum(0)


def _check_moved(moved: Tensor) -> None:
    if not moved.all():
        raise EstimateError(
            "draws: expected chains that move in all latent dimensions, found "
            f"{int((~moved).sum()):,} of {len(moved):,} that do not. More burn-in moves, or a "
            "smaller step size to begin with, may help."
        )


def _check(
    model: LatentVariableModel,
    x: Tensor,
    draws: int,
    burn_in: int,
    density: str,
    start: str | Tensor,
    step_size: float | Tensor,
    batch: int,
) -> None:
    check_datapoints(x)
    if density not in DENSITIES:
        raise ValueError(f"density: expected one of {', '.join(DENSITIES)}; found {density!r}")
    if isinstance(start, Tensor):
        if start.shape != (len(x), model.latent_dim):
            raise ValueError(
                f"start: expected positions of the shape {(len(x), model.latent_dim)}, "
                f"found {tuple(start.shape)}"
            )
    elif start not in STARTS:
        raise ValueError(f"start: expected one of {', '.join(STARTS)}; found {start!r}")
    sizes = tuple(torch.as_tensor(step_size).shape)
    if sizes not in ((), (len(x),)):
        raise ValueError(f"step_size: expected a number or the shape {(len(x),)}, found {sizes}")
    dims = model.latent_dim
    if density == "kde" and dims > MOST_DIMS:
        raise ValueError(
            f"density: expected gaussian or diagonal for more than {MOST_DIMS} latent variables, "
            f"found kde for {dims}"
        )
    least = {"kde": 4 * (dims + 1), "gaussian": 2 * (dims + 2), "diagonal": 6}[density]
    if draws < least:
        raise ValueError(
            f"draws: expected at least {least} to fit and average the density {density} of {dims} "
            f"latent variables, found {draws}"
        )
    for name, value, smallest in (("burn_in", burn_in, 0), ("batch", batch, 1)):
        if value < smallest:
            raise ValueError(f"{name}: expected at least {smallest}, found {value}")
