r"""Auto-Encoding Variational Bayes (paper, Algorithm 1).

An algorithm of this package is two functions: :func:`init` makes a state, :func:`step` maps a
state and a minibatch to the next state and some information about the step.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from aevb import estimators
from aevb.models import LatentVariableModel

__all__ = ["Estimator", "Info", "State", "init", "step"]


class Estimator(Protocol):
    """An estimator of the bound, such as :func:`aevb.estimators.sgvb_b`."""

    def __call__(
        self,
        model: LatentVariableModel,
        x: Tensor,
        samples: int = 1,
        generator: torch.Generator | None = None,
    ) -> Tensor: ...


class State(NamedTuple):
    """What the next step needs. The parameters and accumulators change in place."""

    model: LatentVariableModel
    optimizer: torch.optim.Optimizer
    generator: torch.Generator


class Info(NamedTuple):
    """What a step says about itself."""

    bound: Tensor
    """The estimated bound of each datapoint before the update, nats, shape ``(M,)``."""


def init(
    model: LatentVariableModel, optimizer: torch.optim.Optimizer, generator: torch.Generator
) -> State:
    r"""The state before the first step.

    Args:
        model: The model with its initial parameters (line 1 of Algorithm 1).
        optimizer: Over the model's parameters; it carries the prior on them
            (see :class:`aevb.adagrad.Adagrad`).
        generator: The source of the noise :math:`\epsilon`.
    """
    return State(model, optimizer, generator)


def step(
    state: State,
    minibatch: Tensor,
    *,
    estimator: Estimator = estimators.sgvb_b,
    samples: int = 1,
) -> tuple[State, Info]:
    r"""One pass through the loop of Algorithm 1.

    .. math::
        g = \nabla_{\theta, \phi} \tilde{\mathcal{L}}^M(\theta, \phi; X^M, \epsilon)

    The loss is minus the sum of the bounds, which is :math:`M/N` times minus eq. 8.

    Args:
        state: The model, its optimizer and the source of noise.
        minibatch: :math:`X^M`, shape ``(M, D)``.
        estimator: Estimator A or B of the bound.
        samples: The number of noise samples per datapoint, :math:`L`.

    Returns:
        The next state, and the bounds of the minibatch before the update.

    Raises:
        ValueError: If ``samples`` is smaller than one or ``minibatch`` is not a matrix.

    >>> from aevb import adagrad, models
    >>> generator = torch.Generator().manual_seed(0)
    >>> model = models.bernoulli_vae(16, 20, 2, generator)
    >>> state = init(model, adagrad.Adagrad(model.parameters(), 0.1), generator)
    >>> x = torch.eye(4).repeat_interleave(4, dim=1)  # four datapoints
    >>> bounds = []
    >>> for _ in range(200):
    ...     state, info = step(state, x)
    ...     bounds.append(info.bound.mean().item())
    >>> bounds[-1] > bounds[0]
    True
    """
    bounds = estimator(state.model, minibatch, samples, state.generator)
    state.optimizer.zero_grad()
    (-bounds.sum()).backward()
    state.optimizer.step()
    return state, Info(bounds.detach())
