r"""Stochastic gradient variational Bayes estimators (paper, sections 2.2, 2.3 and 3).

Each takes a model (a ``prior``, a ``generative_model``, a ``recognition_model`` and
``log_joint``; see :mod:`aevb.models`) and a minibatch, and returns one estimate of the
variational bound for each datapoint, in nats, to be maximized. What automatic differentiation
makes of it is the estimate of the bound's gradient. :func:`score_function` and
:func:`sticking_the_landing` have estimator A's values and other gradients.
"""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from aevb import divergence, reparameterization
from aevb._checks import check_matrix
from aevb.models import LatentVariableModel

__all__ = [
    "importance_weighted",
    "leave_one_out",
    "log_prior",
    "minibatch_estimator",
    "score_function",
    "sgvb_a",
    "sgvb_b",
    "sticking_the_landing",
]


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

    >>> from aevb import models
    >>> generator = torch.Generator().manual_seed(0)
    >>> model = models.bernoulli_vae(16, 20, 2, generator)
    >>> x = torch.eye(16)[:5]
    >>> a = sgvb_a(model, x, samples=10_000, generator=generator)
    >>> b = sgvb_b(model, x, samples=10_000, generator=generator)
    >>> a.shape, torch.allclose(a, b, atol=0.1)
    (torch.Size([5]), True)
    """
    check_matrix(x)
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

    >>> from aevb import models
    >>> generator = torch.Generator().manual_seed(0)
    >>> model = models.bernoulli_vae(784, 500, 20, generator)
    >>> x = torch.rand(100, 784, generator=generator)
    >>> sgvb_b(model, x, generator=generator).shape
    torch.Size([100])
    """
    check_matrix(x)
    q = model.recognition_model(x)
    z = reparameterization.sample(q, samples, generator)
    reconstruction = model.generative_model(z).log_prob(x).mean(0)
    return reconstruction - divergence.gaussian_kl(q)


def score_function(
    model: LatentVariableModel,
    x: Tensor,
    samples: int = 1,
    generator: torch.Generator | None = None,
    *,
    baseline: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    r"""The naive estimator, which does not look through the draw (paper, section 2.2).

    .. math::
        \nabla_\phi \mathcal{L} \simeq \frac{1}{L} \sum_{l=1}^{L}
            \bigl(f(z^{(l)}) - b^{(l)}\bigr) \nabla_\phi \log q_\phi(z^{(l)}|x)

    with :math:`f(z) = \log p_\theta(x, z) - \log q_\phi(z|x)`. The paper prints it without a
    baseline :math:`b` and for an :math:`f` without :math:`\phi`. Ours contains :math:`\phi`;
    the further term :math:`-\nabla_\phi \log q_\phi` has mean zero and is dropped. To keep it
    would be to add one to :math:`b`. Also known as REINFORCE (Williams 1992).

    Args:
        model: The generative model and its recognition model.
        x: A minibatch of datapoints, shape ``(M, D)``.
        samples: The number of samples per datapoint, :math:`L`.
        generator: The source of the noise.
        baseline: Maps the values of :math:`f`, ``(L, M)``, to :math:`b`, of a shape that
            broadcasts; none by default. The gradient is unbiased if no :math:`b^{(l)}` depends
            on its own :math:`z^{(l)}`: a constant, or :func:`leave_one_out`.

    Returns:
        Estimator A of the bound, in nats, shape ``(M,)``. Its gradient in :math:`\theta` is
        estimator A's; in :math:`\phi` it is the one above.

    Raises:
        ValueError: If ``samples`` is smaller than one or ``x`` is not a matrix.
    """
    check_matrix(x)
    q = model.recognition_model(x)
    z = reparameterization.sample(q, samples, generator).detach()
    log_joint, log_q = model.log_joint(x, z), q.log_prob(z)
    f = (log_joint - log_q).detach()  # (L, M)
    weight = f if baseline is None else f - baseline(f)
    score = log_q - log_q.detach()  # zero, but for its gradient
    return (log_joint - log_q.detach() + weight * score).mean(0)


def leave_one_out(values: Tensor) -> Tensor:
    r"""The baseline of a draw: the mean over the other draws of its datapoint (Kool et al. 2019).

    .. math::
        b^{(l)} = \frac{1}{L - 1} \sum_{k \neq l} f(z^{(k)})

    Args:
        values: :math:`f` at each draw, shape ``(L, M)``.

    Returns:
        The baselines, shape ``(L, M)``.

    Raises:
        ValueError: If there is only one draw per datapoint.

    >>> leave_one_out(torch.tensor([[1.0], [2.0], [6.0]])).flatten()
    tensor([4.0000, 3.5000, 1.5000])
    """
    samples = len(values)
    if samples < 2:
        raise ValueError(f"samples: expected at least 2 to leave one out, found {samples}")
    return (values.sum(0) - values) / (samples - 1)


def sticking_the_landing(
    model: LatentVariableModel,
    x: Tensor,
    samples: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Estimator A, with the gradient in :math:`\phi` through the draw alone (Roeder et al. 2017).

    .. math::
        \nabla_\phi \mathcal{L} \simeq \frac{1}{L} \sum_{l=1}^{L} \Bigl(
            \frac{\partial z^{(l)}}{\partial \phi} \Bigr)^{\!\top}
            \nabla_z \bigl( \log p_\theta(x, z) - \log q_\phi(z|x) \bigr)
            \Big|_{z = z^{(l)}}

    Estimator A also has the direct derivative :math:`-\nabla_\phi \log q_\phi`, whose mean is
    zero. Without it the gradient in :math:`\phi` is exactly zero where :math:`q` is the posterior.

    Args:
        model: The generative model and its recognition model.
        x: A minibatch of datapoints, shape ``(M, D)``.
        samples: The number of samples per datapoint, :math:`L`.
        generator: The source of the noise.

    Returns:
        Estimator A of the bound, in nats, shape ``(M,)``.

    Raises:
        ValueError: If ``samples`` is smaller than one or ``x`` is not a matrix.
    """
    check_matrix(x)
    q = model.recognition_model(x)
    z = reparameterization.sample(q, samples, generator)
    loc, scale = q.base_dist.loc.detach(), q.base_dist.scale.detach()
    held = Independent(Normal(loc, scale, validate_args=False), 1, validate_args=False)
    return (model.log_joint(x, z) - held.log_prob(z)).mean(0)


def importance_weighted(
    model: LatentVariableModel,
    x: Tensor,
    samples: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""A tighter bound, from several draws together (Burda et al. 2016).

    .. math::
        \mathcal{L}_K = E \Bigl[ \log \frac{1}{K} \sum_{k=1}^{K}
            \frac{p_\theta(x, z^{(k)})}{q_\phi(z^{(k)}|x)} \Bigr],
        \qquad \mathcal{L} = \mathcal{L}_1 \le \mathcal{L}_2 \le \dots \le \log p_\theta(x)

    With one draw it is estimator A, gradient and all.

    Args:
        model: The generative model and its recognition model.
        x: A minibatch of datapoints, shape ``(M, D)``.
        samples: The number of draws per datapoint, :math:`K`. They are averaged inside the
            logarithm, so that this is no number of repetitions but decides what is estimated.
        generator: The source of the noise.

    Returns:
        One estimate of :math:`\mathcal{L}_K` for each datapoint, in nats, shape ``(M,)``.

    Raises:
        ValueError: If ``samples`` is smaller than one or ``x`` is not a matrix.

    >>> from aevb import models
    >>> generator = torch.Generator().manual_seed(0)
    >>> model = models.bernoulli_vae(16, 20, 2, generator)
    >>> x = torch.eye(16)
    >>> bound = sgvb_a(model, x, 1_000, generator.manual_seed(1))
    >>> tighter = importance_weighted(model, x, 1_000, generator.manual_seed(1))
    >>> bool((tighter > bound).all())
    True
    """
    check_matrix(x)
    q = model.recognition_model(x)
    z = reparameterization.sample(q, samples, generator)
    log_weights = model.log_joint(x, z) - q.log_prob(z)  # (K, M)
    return log_weights.logsumexp(0) - math.log(samples)


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

    Raises:
        ValueError: If ``bounds`` is no vector or empty, or ``datapoints`` is smaller than one.

    >>> minibatch_estimator(torch.tensor([-90.0, -110.0]), datapoints=50_000)
    tensor(-5000000.)
    """
    if bounds.ndim != 1:
        raise ValueError(f"bounds: expected the shape (M,), found {tuple(bounds.shape)}")
    if datapoints < 1:
        raise ValueError(f"datapoints: expected at least 1, found {datapoints}")
    if not len(bounds):
        raise ValueError("bounds: expected at least one, found none")
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

    >>> log_prior([torch.zeros(1), torch.ones(1)])
    tensor(-2.3379)
    """
    return -0.5 * sum(((p**2 + math.log(2 * math.pi)).sum() for p in parameters), torch.zeros(()))
