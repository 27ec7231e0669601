r"""The wake-sleep algorithm (Hinton et al. 1995; the paper's baseline, sections 4 and 5).

It trains the same two networks as AEVB, each towards an objective of its own. *Wake*: the
recognition model explains a datapoint, and the generative model learns to produce it.
*Sleep*: the generative model dreams, and the recognition model learns to explain the dream.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Independent, Normal

from aevb import reparameterization
from aevb._checks import check_matrix
from aevb.models import LatentVariableModel

__all__ = ["Info", "State", "dream", "init", "step"]


class State(NamedTuple):
    """What the next step needs. The parameters and accumulators change in place."""

    model: LatentVariableModel
    optimizer: torch.optim.Optimizer
    generator: torch.Generator


class Info(NamedTuple):
    """What a step says about itself."""

    bound: Tensor
    """Estimator A (eq. 6) of each datapoint's bound before the update, nats, shape ``(M,)``."""
    sleep: Tensor
    r""":math:`\log q_\phi(z|x)` of each dream before the update, nats, shape ``(M,)``."""


def init(
    model: LatentVariableModel, optimizer: torch.optim.Optimizer, generator: torch.Generator
) -> State:
    """The state before the first step.

    Args:
        model: The model with its initial parameters.
        optimizer: Over the parameters of both networks. It must keep what it accumulates
            parameter by parameter, as Adagrad does: then it is two optimizers, one a phase.
        generator: The source of the noise and of the dreams.
    """
    return State(model, optimizer, generator)


def step(
    state: State, minibatch: Tensor, *, limits: tuple[float, float] | None = (0.0, 1.0)
) -> tuple[State, Info]:
    r"""Both phases, with as many dreams as there are datapoints.

    .. math::
        & \text{wake:} && \nabla_\theta \log p_\theta(x, z), & z &\sim q_\phi(z|x) \\
        & \text{sleep:} && \nabla_\phi \log q_\phi(z|x), & z, x &\sim p_\theta(z) \, p_\theta(x|z)

    No gradient passes through a draw, so latent variables may be discrete; and no single
    function is maximized by both phases.

    Args:
        state: The model, its optimizer and the source of noise.
        minibatch: Shape ``(M, D)``.
        limits: Where the data lie. A Gaussian dream outside is moved to the nearest limit;
            with ``None`` it stays.

    Returns:
        The next state, and the bounds of the minibatch before the update.

    Raises:
        ValueError: If ``minibatch`` is not a matrix.
    """
    check_matrix(minibatch, "minibatch", "the shape (M, D)")
    model = state.model
    with torch.no_grad():
        q = model.recognition_model(minibatch)
        z = reparameterization.sample(q, 1, state.generator)[0]
        log_q = q.log_prob(z)
        dreamed = reparameterization.sample(
            model.prior.expand(minibatch.shape[:1]), 1, state.generator
        )[0]
        dreams = dream(model.generative_model(dreamed), limits, state.generator)
    wake = model.log_joint(minibatch, z)
    sleep = model.recognition_model(dreams).log_prob(dreamed)
    state.optimizer.zero_grad()
    (-wake.sum() - sleep.sum()).backward()  # the first depends on theta only, the second on phi
    state.optimizer.step()
    return state, Info(wake.detach() - log_q, sleep.detach())


def dream(
    p: Independent,
    limits: tuple[float, float] | None = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Draw :math:`x \sim p_\theta(x|z)`; the mean would be another, easier, lesson.

    Args:
        p: ``Independent(Bernoulli, 1)`` or ``Independent(Normal, 1)``, batch shape ``(M,)``.
        limits: Where the data lie; see :func:`step`.
        generator: The source of randomness.

    Returns:
        One draw a row, shape ``(M, D)``.

    Raises:
        TypeError: If ``p`` is neither of the two.
    """
    pixels = p.base_dist if isinstance(p, Independent) else None
    if isinstance(pixels, Bernoulli):
        probs = pixels.probs  # compared with uniform noise: three times faster than bernoulli()
        noise = torch.rand(probs.shape, generator=generator, dtype=probs.dtype, device=probs.device)
        return (noise < probs).to(probs.dtype)
    if isinstance(pixels, Normal):
        x = reparameterization.sample(p, 1, generator)[0].detach()
        return x if limits is None else x.clamp(*limits)
    raise TypeError(f"p: expected Independent(Bernoulli or Normal, 1), found {p}")
