r"""Monte Carlo EM (paper, Appendix E; Wei and Tanner 1990).

There is no recognition model. Each datapoint keeps a latent vector of its own, which moves
towards the posterior by Hamiltonian Monte Carlo (E-step); the generative model then learns from
the pairs (M-step). The latent vectors stay where they are until their next move.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from aevb import hmc, reparameterization
from aevb._checks import check_matrix
from aevb.models import LatentVariableModel

__all__ = ["Info", "State", "init", "step"]


class State(NamedTuple):
    """What the next step needs. The parameters and accumulators change in place."""

    model: LatentVariableModel
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    latents: Tensor
    """One latent vector for each datapoint of the training set, shape ``(N, J)``."""
    step_size: Tensor
    """That of the leapfrog, one for all, shape ``()``."""


class Info(NamedTuple):
    """What a step says about itself."""

    log_joint: Tensor
    r""":math:`\log p_\theta(x, z)` at the acquired latent vectors, before the weight updates,
    nats, shape ``(M,)``. No bound, and not comparable with one: the entropy is missing."""
    acceptance_rate: Tensor
    """Of each datapoint's proposal, in [0, 1], shape ``(M,)``."""
    divergent: Tensor
    """Whether the trajectory diverged and so the proposal was rejected, shape ``(M,)``."""


def init(
    model: LatentVariableModel,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    x: Tensor,
    *,
    step_size: float = 0.01,
) -> State:
    r"""The state before the first step: every latent vector is a draw of the prior.

    Args:
        model: The model with its initial parameters. Its recognition model is not used.
        optimizer: Over the parameters of the generative model.
        generator: The source of all randomness.
        x: The training set, shape ``(N, D)``.
        step_size: Where the tuning of the leapfrog's step size begins.

    Raises:
        ValueError: If ``x`` is not a matrix, or ``step_size`` is not positive and finite in the
            model's precision.
    """
    check_matrix(x, expected="the training set, shape (N, D)")
    latents = reparameterization.sample(model.prior.expand(x.shape[:1]), 1, generator)[0]
    size = latents.new_tensor(step_size)
    if not 0 < size < math.inf:
        raise ValueError(f"step_size: expected a positive number, found {step_size}")
    return State(model, optimizer, generator, latents, size)


def step(
    state: State,
    minibatch: Tensor,
    *,
    rows: Tensor | None = None,
    leapfrog_steps: int = 10,
    weight_updates: int = 5,
    target: float = 0.9,
    batch: int = 1_000,
) -> tuple[State, Info]:
    r"""One move of the latent vectors and some updates of the weights.

    .. math::
        & \text{E:} && z \sim \text{HMC step on } p_\theta(z|x), \quad
            \nabla_z \log p_\theta(z|x) = \nabla_z \log p(z) + \nabla_z \log p_\theta(x|z) \\
        & \text{M:} && \nabla_\theta \log p_\theta(x, z) \text{, at that } z
            \text{, several times}

    The paper counts a sample for each leapfrog step and each weight update: 15 a datapoint.

    Args:
        state: The model, its optimizer, the latent vectors and the source of randomness.
        minibatch: The whole training set in its order, ``(N, D)``, as in the paper; or some of it.
        rows: Where the datapoints of ``minibatch`` stand in the training set, all different,
            shape ``(M,)``. Other latent vectors stay as they are. By default the whole set.
        leapfrog_steps: The length of the trajectory of the one proposal.
        weight_updates: How often the optimizer steps.
        target: The acceptance rate that the step size is tuned to (see :func:`aevb.hmc.adapt`).
        batch: How many datapoints go through the network at once: memory, not the result.

    Returns:
        The next state, and the log joint density before the weight updates.

    Raises:
        ValueError: If ``minibatch`` has not a row for each latent vector, ``rows`` repeats one
            or has an index that is none, or a count is too small.
        aevb.hmc.InitialPositionError: If the log joint density is not finite somewhere.
    """
    if weight_updates < 0:
        raise ValueError(f"weight_updates: expected at least 0, found {weight_updates}")
    if batch < 1:
        raise ValueError(f"batch: expected at least 1, found {batch}")
    model, latents = state.model, state.latents
    if rows is not None:
        _check_rows(rows, len(latents))
    z = latents if rows is None else latents[rows]
    if minibatch.ndim != 2 or len(minibatch) != len(z):
        raise ValueError(
            f"minibatch: expected the shape ({len(z)}, D), a datapoint for each latent vector, "
            f"found {tuple(minibatch.shape)}"
        )

    def log_density(codes: Tensor) -> Tensor:
        return _LogJoint.apply(codes, minibatch, model, batch)

    # The weights have changed since the last move, and with them density and gradient.
    chains, moved = hmc.step(
        hmc.init(z, log_density),
        log_density,
        state.step_size,
        leapfrog_steps,
        generator=state.generator,
    )
    z = chains.position
    for _ in range(weight_updates):
        state.optimizer.zero_grad()
        for points, codes in _split(minibatch, z, batch):
            (-model.log_joint(points, codes).sum()).backward()
        state.optimizer.step()
    state = state._replace(
        latents=z if rows is None else latents.index_copy(0, rows, z),
        step_size=hmc.adapt(state.step_size, moved.acceptance_rate, target=target),
    )
    return state, Info(chains.log_density, moved.acceptance_rate, moved.divergent)


def _check_rows(rows: Tensor, datapoints: int) -> None:
    indices = rows.unique() if rows.ndim == 1 and rows.dtype == torch.int64 else rows.new_empty(0)
    if len(indices) < rows.numel() or ((indices < 0) | (indices >= datapoints)).any():
        raise ValueError(
            f"rows: expected different indices from 0 to {datapoints - 1}, found {rows.tolist()}"
        )


class _LogJoint(torch.autograd.Function):
    """The log joint density and, in the same pass, its gradient in the latent vectors.

    The datapoints go through the network a few at a time. Left alone, autograd would keep every
    layer's output for all of them.
    """

    @staticmethod
    def forward(
        context: Any, z: Tensor, x: Tensor, model: LatentVariableModel, batch: int
    ) -> Tensor:
        values: list[Tensor] = []
        gradients: list[Tensor] = []
        for points, codes in _split(x, z, batch):
            with torch.enable_grad():
                codes = codes.detach().requires_grad_()
                value = model.log_joint(points, codes)
                gradients += torch.autograd.grad(value.sum(), codes)
            values.append(value.detach())
        context.save_for_backward(torch.cat(gradients))
        return torch.cat(values)

    @staticmethod
    def backward(context: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = context.saved_tensors
        return upstream[:, None] * gradient, None, None, None


def _split(x: Tensor, z: Tensor, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(x.split(batch), z.split(batch), strict=True)
