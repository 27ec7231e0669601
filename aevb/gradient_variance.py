r"""How much a gradient estimate varies, and why (paper, sections 2.2 and 2.3).

The gradient :math:`g` of a minibatch's average bound depends on which datapoints were drawn,
:math:`x`, and on the noise. Its mean square has three parts (the law of total variance):

.. math::
    E \|g\|^2 = \underbrace{\|E\,g\|^2}_{\text{signal}}
        + \underbrace{\operatorname{tr} \operatorname{Var}_x E[g|x]}_{\text{datapoints}}
        + \underbrace{E_x \operatorname{tr} \operatorname{Var}[g|x]}_{\text{noise}}

With :math:`M` datapoints of :math:`L` noise samples each the second part is proportional to
:math:`1/M` and the third to :math:`1/(LM)`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from aevb import estimators
from aevb.auto_encoding import Estimator
from aevb.models import LatentVariableModel

__all__ = [
    "Moments",
    "Parameters",
    "bound_variance",
    "gradient",
    "local_gradients",
    "moments",
]


class Parameters(NamedTuple):
    r"""Something for the generative and for the recognition model's parameters."""

    theta: Tensor
    phi: Tensor


class Moments(NamedTuple):
    """The three parts of a gradient's mean square, each ``(S,)``.

    In (nats per datapoint)² per squared unit of a parameter. The entries are independent and
    unbiased, so that their spread gives a standard error. Each of them may be negative where the
    part is small.
    """

    signal: Parameters
    datapoints: Parameters
    noise: Parameters


def gradient(model: LatentVariableModel, bounds: Tensor) -> Parameters:
    r"""The gradient of the minibatch's average bound, :math:`\tilde{\mathcal{L}}^M / N` (eq. 8).

    Args:
        model: The model that the bounds were computed with.
        bounds: What an estimator returned, nats, shape ``(M,)``.

    Returns:
        All partial derivatives as one vector each for :math:`\theta` and :math:`\phi`.
    """
    theta, phi = (
        list(part.parameters()) for part in (model.generative_model, model.recognition_model)
    )
    found = [g.flatten() for g in torch.autograd.grad(bounds.mean(), [*theta, *phi])]
    return Parameters(torch.cat(found[: len(theta)]), torch.cat(found[len(theta) :]))


def moments(
    model: LatentVariableModel,
    minibatches: Sequence[Tensor],
    estimator: Estimator,
    samples: int = 1,
    generator: torch.Generator | None = None,
) -> Moments:
    r"""The parts of the mean square of an estimator's gradient, each without bias.

    From two minibatches :math:`x, x'` with two independent noises each come four gradients,
    :math:`a, b` of the one and :math:`a', b'` of the other, and from these

    .. math::
        \text{signal} &\simeq \tfrac12 (a \cdot b' + b \cdot a'), \\
        \text{datapoints} &\simeq \tfrac12 (a - a') \cdot (b - b'), \\
        \text{noise} &\simeq \tfrac14 \bigl(\|a - b\|^2 + \|a' - b'\|^2\bigr)

    Args:
        model: The model, all of whose parameters require a gradient.
        minibatches: Independent ones, :math:`2S` of them, each ``(M, D)``; two by two they
            give one entry.
        estimator: What is differentiated, such as :func:`aevb.estimators.sgvb_b`.
        samples: The number of noise samples per datapoint, :math:`L`.
        generator: The source of the noise.

    Returns:
        The three parts, for :math:`\theta` and :math:`\phi`, each of shape ``(S,)``.

    Raises:
        ValueError: If the number of minibatches is not even or zero.
    """
    if not minibatches or len(minibatches) % 2:
        raise ValueError(
            f"minibatches: expected an even number, at least 2, found {len(minibatches)}"
        )
    rows = []
    for pair in zip(minibatches[::2], minibatches[1::2], strict=True):
        draws = (gradient(model, estimator(model, x, samples, generator)) for x in pair * 2)
        rows.append([_parts(*each) for each in zip(*draws, strict=True)])
    table = torch.tensor(rows, dtype=torch.float64)  # (S, theta and phi, parts)
    return Moments(*(Parameters(*part.T) for part in table.unbind(-1)))


def _parts(a: Tensor, a_other: Tensor, b: Tensor, b_other: Tensor) -> list[float]:
    signal = (a @ b_other + b @ a_other) / 2
    datapoints = (a - a_other) @ (b - b_other) / 2
    noise = ((a - b).square().sum() + (a_other - b_other).square().sum()) / 4
    return [float(part) for part in (signal, datapoints, noise)]


def local_gradients(
    model: LatentVariableModel,
    x: Tensor,
    q: Independent,
    estimator: Estimator,
    samples: int = 1,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    r"""The gradient of each datapoint's bound in the mean and scale of its own :math:`q`.

    It is what an estimator hands on to a recognition network. Many copies of one datapoint give
    as many independent draws of it in one pass.

    Args:
        model: The generative model; its recognition model is not used.
        x: Datapoints, shape ``(M, D)``.
        q: A diagonal Gaussian, batch shape ``(M,)``, event shape ``(J,)``.
        estimator: What is differentiated, such as :func:`aevb.estimators.sgvb_b`.
        samples: The number of noise samples per datapoint, :math:`L`.
        generator: The source of the noise.

    Returns:
        The derivatives in :math:`\mu` and in :math:`\sigma`, each ``(M, J)``.
    """
    free = _FreeGaussian(q.mean, q.stddev)
    unamortized = LatentVariableModel(model.generative_model, free, model.latent_dim)
    bounds = estimator(unamortized, x, samples, generator)
    in_mean, in_scale = torch.autograd.grad(bounds.sum(), [free.mean, free.scale])
    return in_mean, in_scale


class _FreeGaussian(nn.Module):
    """A recognition model without amortization: each row has a mean and scale of its own."""

    def __init__(self, mean: Tensor, scale: Tensor):
        super().__init__()
        self.mean = nn.Parameter(mean.detach().clone())
        self.scale = nn.Parameter(scale.detach().clone())

    def forward(self, x: Tensor) -> Independent:
        return Independent(Normal(self.mean, self.scale, validate_args=False), 1)


@torch.no_grad()
def bound_variance(
    model: LatentVariableModel,
    x: Tensor,
    draws: int,
    generator: torch.Generator | None = None,
    *,
    batch: int = 2_000,
) -> Tensor:
    r"""The variance of one draw of estimator B (eq. 7, :math:`L = 1`), datapoint by datapoint.

    The average of the bound over :math:`N` datapoints, which Figure 2 plots, has the sum of
    these divided by :math:`N^2` as its variance.

    Args:
        model: The model and its recognition model.
        x: Datapoints, shape ``(N, D)``.
        draws: How many draws each variance is measured from.
        generator: The source of the noise.
        batch: How many datapoints go through the networks at once.

    Returns:
        Unbiased estimates of the variances, nats², shape ``(N,)``.

    Raises:
        ValueError: If ``draws`` is smaller than two.
    """
    if draws < 2:
        raise ValueError(f"draws: expected at least 2, found {draws}")
    variances = [
        torch.stack([estimators.sgvb_b(model, rows, 1, generator) for _ in range(draws)]).var(0)
        for rows in x.split(batch)
    ]
    return torch.cat(variances)
