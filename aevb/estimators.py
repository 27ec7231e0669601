r"""Stochastic gradient variational Bayes estimators (paper, sections 2.2, 2.3 and 3).

Each takes a model (a ``prior``, a ``generative_model``, a ``recognition_model`` and
``log_joint``; see :mod:`aevb.models`) and a minibatch, and returns one estimate of the
variational bound for each datapoint, in nats, to be maximized.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from aevb import divergence, reparameterization
from aevb.models import LatentVariableModel

__all__ = ["log_prior", "minibatch_estimator", "sgvb_a", "sgvb_b"]


def sgvb_a(
    model: LatentVariableModel,
    x: Tensor,
    samples: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""The first SGVB estimator of the variational bound (paper, eq. 6).

    .. math::
        \tilde{\mathcal{L}}^A(\theta, \phi; x) = \frac{1}{L} \sum_{l=1}^{L}
            \log p_\theta(x, z^{(l)}) - \log q_\phi(z^{(l)}|x)

    Args:
        model: The generative model and its recognition model.
        x: A minibatch of datapoints, shape ``(M, D)``.
        samples: The number of samples per datapoint, :math:`L`.
        generator: The source of the noise.

    Returns:
        The bound of each datapoint, in nats, shape ``(M,)``.

    Raises:
        ValueError: If ``samples`` is smaller than one or ``x`` is not a matrix.
    """
    _check_minibatch(x)
    q = model.recognition_model(x)
    z = reparameterization.sample(q, samples, generator)
    return (model.log_joint(x, z) - q.log_prob(z)).mean(0)


def sgvb_b(
    model: LatentVariableModel,
    x: Tensor,
    samples: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""The second SGVB estimator: the KL divergence in closed form (paper, eqs 7 and 10).

    .. math::
        \tilde{\mathcal{L}}^B(\theta, \phi; x) = -D_{KL}(q_\phi(z|x) \,\|\, p(z))
            + \frac{1}{L} \sum_{l=1}^{L} \log p_\theta(x|z^{(l)})

    Args:
        model: The generative model and its recognition model.
        x: A minibatch of datapoints, shape ``(M, D)``.
        samples: The number of samples per datapoint, :math:`L`.
        generator: The source of the noise.

    Returns:
        The bound of each datapoint, in nats, shape ``(M,)``.

    Raises:
        ValueError: If ``samples`` is smaller than one or ``x`` is not a matrix.
    """
    _check_minibatch(x)
    q = model.recognition_model(x)
    z = reparameterization.sample(q, samples, generator)
    reconstruction = model.generative_model(z).log_prob(x).mean(0)
    return reconstruction - divergence.gaussian_kl(q)


def minibatch_estimator(bounds: Tensor, datapoints: int) -> Tensor:
    r"""The estimate of the full data set's bound from one minibatch (paper, eq. 8).

    .. math::
        \tilde{\mathcal{L}}^M(\theta, \phi; X^M) = \frac{N}{M} \sum_{i=1}^{M}
            \tilde{\mathcal{L}}(\theta, \phi; x^{(i)})

    Args:
        bounds: The bound of each datapoint of the minibatch, shape ``(M,)``.
        datapoints: The size of the full data set, :math:`N`.

    Returns:
        A scalar, in nats for the whole data set.
    """
    return datapoints / len(bounds) * bounds.sum()


def log_prior(parameters: Iterable[Tensor]) -> Tensor:
    r"""The log density of the prior on the parameters (paper, section 5).

    .. math::
        \log p(\theta) = \log \mathcal{N}(\theta; 0, I)
            = -\frac{1}{2} \sum_k \bigl(\theta_k^2 + \log 2\pi\bigr)

    Added to eq. 8 it turns maximum likelihood into the paper's MAP estimate; its gradient,
    :math:`-\theta`, is what :class:`aevb.adagrad.Adagrad` adds as a weight decay.

    Args:
        parameters: The parameters, of any shapes.

    Returns:
        A scalar, in nats.
    """
    return -0.5 * sum(((p**2 + math.log(2 * math.pi)).sum() for p in parameters), torch.zeros(()))


def _check_minibatch(x: Tensor) -> None:
    if x.ndim != 2:
        raise ValueError(f"x: expected a minibatch of shape (M, D), found {tuple(x.shape)}")
