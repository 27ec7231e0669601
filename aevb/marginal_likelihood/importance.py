r"""Importance sampling of the marginal likelihood (Burda et al. 2016; Rezende et al. 2014).

The recognition model proposes, and the weights correct it:

.. math::
    p_\theta(x) = \int q_\phi(z|x) \, \frac{p_\theta(x, z)}{q_\phi(z|x)} \, dz

The draws are independent and their density is known, which Appendix D's estimator has to do
without; in return a proposal is needed that covers the posterior.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal

from aevb import reparameterization
from aevb.marginal_likelihood._checks import check_datapoints, check_numbers
from aevb.marginal_likelihood._weights import worth
from aevb.models import LatentVariableModel

__all__ = ["Importance", "importance_sampling"]

Gaussian = Independent | MultivariateNormal

DECODED = 2**19
"""The numbers that the generative model returns at once: about 40 MB in all, in float64."""


class Importance(NamedTuple):
    """What :func:`importance_sampling` returns, one number for each datapoint, shape ``(M,)``."""

    log_likelihood: Tensor
    r"""The estimate of :math:`\log p_\theta(x)`, nats: on average a lower bound."""
    effective_sample_size: Tensor
    r""":math:`(\sum_k w_k)^2 / \sum_k w_k^2`, between 1 and :math:`K`. It cannot see what the
    proposal never draws."""
    standard_error: Tensor
    r"""Of the estimate, nats, by the delta method; not a number if :math:`K = 1`."""


@torch.no_grad()
def importance_sampling(
    model: LatentVariableModel,
    x: Tensor,
    samples: int,
    *,
    proposal: str | Gaussian = "recognition",
    generator: torch.Generator | None = None,
) -> Importance:
    r"""The average of importance weights, in the logarithm.

    .. math::
        \log p_\theta(x) \simeq \log \frac1K \sum_{k=1}^K w_k, \qquad
        w_k = \frac{p_\theta(x, z^{(k)})}{q(z^{(k)})}, \quad z^{(k)} \sim q(z)

    The average is unbiased for :math:`p_\theta(x)`, so its logarithm is too low on average, by
    about half the squared standard error. With :math:`q_\phi(z|x)` it is the bound
    :math:`\mathcal{L}_K` of :func:`aevb.estimators.importance_weighted`; with one draw, estimator A
    (eq. 6). Here :math:`K` may be large: draws are made, weighed and forgotten part by part.

    Args:
        model: Any model with a continuous latent variable.
        x: Datapoints, shape ``(M, D)``.
        samples: The number of draws for each datapoint, :math:`K`.
        proposal: :math:`q`: the ``recognition`` model, the ``prior``, or a Gaussian of batch shape
            ``(M,)`` and event shape ``(J,)``: ``Independent(Normal, 1)`` or ``MultivariateNormal``.
        generator: The source of the draws.

    Returns:
        The estimates, and what to judge them by.

    Raises:
        ValueError: If ``samples`` is smaller than one, ``x`` is not a matrix or empty, the proposal
            has another shape, or a weight is not a number.
        TypeError: If the proposal is something else.

    >>> from aevb import models
    >>> model = models.LinearGaussian(torch.ones(3, 1), torch.zeros(3), noise_scale=1.0)
    >>> x = torch.tensor([[1.0, 2.0, 0.0], [-1.0, 0.0, 1.0]])
    >>> generator = torch.Generator().manual_seed(0)
    >>> found = importance_sampling(model, x, 10_000, proposal="prior", generator=generator)
    >>> torch.allclose(found.log_likelihood, model.log_evidence(x), atol=0.1)
    True
    """
    check_datapoints(x)
    if samples < 1:
        raise ValueError(f"samples: expected at least 1, found {samples}")
    rows = max(1, DECODED // x.shape[1])  # draws of a datapoint, times datapoints
    batch = max(1, min(len(x), rows))
    totals, squares = [], []
    for part, q in _proposals(model, x, proposal, batch):
        total, square = _sums(model, part, q, samples, max(1, rows // len(part)), generator)
        totals.append(total)
        squares.append(square)
    total, square = torch.cat(totals), torch.cat(squares)
    check_numbers(total.isnan() | (total == math.inf))
    return Importance(total - math.log(samples), *worth(total, square, samples))


def _sums(
    model: LatentVariableModel,
    x: Tensor,
    q: Gaussian,
    samples: int,
    at_once: int,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    """The logarithms of the weights' sum and of their squares' sum, streamed over the draws."""
    total = square = x.new_full((len(x),), -math.inf)
    for start in range(0, samples, at_once):
        z = _draw(q, min(at_once, samples - start), generator)
        log_weight = model.log_joint(x, z) - q.log_prob(z)  # (k, M)
        total = torch.logaddexp(total, log_weight.logsumexp(0))
        square = torch.logaddexp(square, (2 * log_weight).logsumexp(0))
    return total, square


def _draw(q: Gaussian, samples: int, generator: torch.Generator | None) -> Tensor:
    if isinstance(q, MultivariateNormal):
        shape, loc = (samples, *q.loc.shape), q.loc
        epsilon = torch.randn(shape, generator=generator, dtype=loc.dtype, device=loc.device)
        return loc + (q.scale_tril @ epsilon[..., None])[..., 0]
    return reparameterization.sample(q, samples, generator)


def _proposals(
    model: LatentVariableModel, x: Tensor, proposal: str | Gaussian, batch: int
) -> Iterator[tuple[Tensor, Gaussian]]:
    """The datapoints part by part, each part with its proposal."""
    if isinstance(proposal, str):
        if proposal not in ("recognition", "prior"):
            raise ValueError(
                f"proposal: expected recognition, prior or a distribution, found {proposal!r}"
            )
        for part in x.split(batch):
            prior = model.prior.expand(part.shape[:1])
            yield part, prior if proposal == "prior" else model.recognition_model(part)
        return
    _check_proposal(proposal, (len(x), model.latent_dim))
    for rows in torch.arange(len(x)).split(batch):
        if isinstance(proposal, MultivariateNormal):
            yield (
                x[rows],
                MultivariateNormal(proposal.loc[rows], scale_tril=proposal.scale_tril[rows]),
            )
        else:
            normal = proposal.base_dist
            yield x[rows], Independent(Normal(normal.loc[rows], normal.scale[rows]), 1)


def _check_proposal(proposal: Gaussian, expected: tuple[int, int]) -> None:
    diagonal = isinstance(proposal, Independent) and isinstance(proposal.base_dist, Normal)
    if not (diagonal or isinstance(proposal, MultivariateNormal)):
        raise TypeError(
            "proposal: expected Independent(Normal, 1) or MultivariateNormal, "
            f"found {type(proposal).__name__}"
        )
    batch, event = tuple(proposal.batch_shape), tuple(proposal.event_shape)
    if (batch, event) != (expected[:1], expected[1:]):
        raise ValueError(
            f"proposal: expected the batch shape {expected[:1]} and the event shape {expected[1:]},"
            f" found {batch} and {event}"
        )
