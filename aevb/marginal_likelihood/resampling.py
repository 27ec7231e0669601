r"""Sampling importance resampling: near the posterior without a recognition model (Rubin 1988).

Of many draws of the prior, each datapoint takes one at random, in proportion to its likelihood.
With few latent variables it then stands on one of the posterior's modes, and on a larger one more
often; a chain that starts there need not cross from mode to mode.
"""

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent, Normal
from torch.nn.functional import softplus

from aevb import reparameterization
from aevb.marginal_likelihood._checks import check_datapoints, check_numbers
from aevb.models import LatentVariableModel

__all__ = ["pairwise_log_likelihood", "resample"]


@torch.no_grad()
def resample(
    model: LatentVariableModel,
    x: Tensor,
    candidates: int = 4_096,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""One of many draws of the prior for each datapoint, :math:`\Pr(k) \propto p_\theta(x|z_k)`.

    The candidates are decoded once, and are the same for all datapoints.

    Args:
        model: Any model with a continuous latent variable.
        x: Datapoints, shape ``(M, D)``.
        candidates: The number of draws, :math:`K`.
        generator: The source of randomness.

    Returns:
        Latent vectors, shape ``(M, J)``: draws of the posterior in the limit of many candidates.

    Raises:
        ValueError: If ``x`` is not a matrix or empty, ``candidates`` is smaller than one, or a
            likelihood is not a number.
    """
    check_datapoints(x)
    if candidates < 1:
        raise ValueError(f"candidates: expected at least 1, found {candidates}")
    z = reparameterization.sample(model.prior, candidates, generator)
    log_weight = pairwise_log_likelihood(model.generative_model(z), x)
    check_numbers(log_weight.isnan().any(0))
    uniform = torch.rand(log_weight.shape, generator=generator, dtype=z.dtype, device=z.device)
    gumbel = -(-uniform.clamp(min=torch.finfo(z.dtype).tiny).log()).log()
    return z[(log_weight + gumbel).argmax(0)]


def pairwise_log_likelihood(p: Distribution, x: Tensor) -> Tensor:
    """Every datapoint under every distribution: as a matrix product, if it is one.

    Args:
        p: Batch shape ``(K,)``, event shape ``(D,)``.
        x: Datapoints, shape ``(M, D)``.

    Returns:
        Nats, shape ``(K, M)``.
    """
    pixels = p.base_dist if isinstance(p, Independent) else None
    if isinstance(pixels, Bernoulli):
        logits = pixels.logits
        return logits @ x.T - softplus(logits).sum(1, keepdim=True)
    if isinstance(pixels, Normal):
        # Three large terms that cancel where a variance is small: in float32 nothing would be left.
        loc, precision = pixels.loc.double(), pixels.variance.double().reciprocal()
        constant = p.log_prob(pixels.loc) - 0.5 * (loc**2 * precision).sum(1)
        x = x.double()
        nats = constant[:, None] + (loc * precision) @ x.T - 0.5 * precision @ (x**2).T
        return nats.to(pixels.loc.dtype)
    return torch.stack([p.log_prob(row) for row in x], 1)
