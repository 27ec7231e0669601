r"""The KL divergence of a diagonal Gaussian from the standard one (paper, Appendix B)."""

from torch import Tensor
from torch.distributions import Independent, Normal

__all__ = ["gaussian_kl"]


def gaussian_kl(q: Independent) -> Tensor:
    r"""The divergence of :math:`q` from the prior :math:`\mathcal{N}(0, I)` (paper, App. B).

    .. math::
        D_{KL}(\mathcal{N}(\mu, \operatorname{diag} \sigma^2) \,\|\, \mathcal{N}(0, I))
        = -\frac{1}{2} \sum_{j=1}^{J} \bigl(1 + \log \sigma_j^2 - \mu_j^2 - \sigma_j^2\bigr)

    Args:
        q: A diagonal Gaussian, ``Independent(Normal(mu, sigma), 1)``, event shape ``(J,)``.

    Returns:
        The divergence in nats, of ``q``'s batch shape; zero only where ``q`` is the prior. In
        float32 infinite below a scale of 2.6e-23, whose square underflows.

    Raises:
        TypeError: If ``q`` is not a diagonal Gaussian.

    >>> import torch
    >>> mean, scale = torch.tensor([[0.0, 0.0], [1.0, 2.0]]), torch.ones(2, 2)
    >>> gaussian_kl(Independent(Normal(mean, scale), 1)).abs()
    tensor([0.0000, 2.5000])
    """
    diagonal = isinstance(q, Independent) and isinstance(q.base_dist, Normal)
    if not diagonal or q.reinterpreted_batch_ndims != 1:
        raise TypeError(f"q: expected Independent(Normal, 1), found {q}")
    normal = q.base_dist
    variance = normal.scale**2
    return -0.5 * (1 + variance.log() - normal.loc**2 - variance).sum(-1)
