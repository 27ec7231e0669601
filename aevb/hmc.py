r"""Hamiltonian Monte Carlo, many chains at once (Duane et al. 1987; Neal 2011).

The paper samples the posterior :math:`p_\theta(z|x)` with it in Appendices D and E. A chain is a
position :math:`z` of shape ``(J,)``; all leading dimensions are chains, which never meet. Any log
density will do, up to a constant: its gradient, by autograd, is one call for all chains.
"""

import math
import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "Diagnostics",
    "DivergenceWarning",
    "Info",
    "InitialPositionError",
    "Samples",
    "State",
    "adapt",
    "diagnostics",
    "init",
    "leapfrog",
    "sample",
    "step",
]

LogDensity = Callable[[Tensor], Tensor]
"""Maps positions ``(..., J)`` to log densities ``(...)``, nats, each row on its own."""

DIVERGENCE_THRESHOLD = 1_000.0
"""An energy error above this, in nats, is a trajectory that left the level set for good."""

LARGEST_FACTOR = 1.25
"""One adaptation changes a step size by no more than this factor."""


class InitialPositionError(ValueError):
    """A chain cannot start where its log density or its gradient is not finite."""


class DivergenceWarning(UserWarning):
    """Some proposals diverged. They were rejected, but a part of the space may be missed."""


class State(NamedTuple):
    """Where the chains are. A leapfrog starts from the gradient, so it is kept."""

    position: Tensor
    """:math:`z`, shape ``(..., J)``."""
    log_density: Tensor
    """Nats, shape ``(...)``."""
    gradient: Tensor
    """Of the log density in the position, shape ``(..., J)``."""


class Info(NamedTuple):
    """What a step says about itself; every field has the chains' shape ``(...)``."""

    acceptance_rate: Tensor
    """The chance with which the proposal is accepted, in [0, 1]."""
    accepted: Tensor
    """Whether it was."""
    energy_error: Tensor
    """The energy at the end of the trajectory minus that at its start, nats."""
    divergent: Tensor
    """Whether the trajectory diverged: such a proposal is rejected."""


class Samples(NamedTuple):
    """What :func:`sample` returns."""

    positions: Tensor
    """The draws of every chain, shape ``(S, ..., J)``."""
    info: Info
    """That of each kept step, shapes ``(S, ...)``."""
    state: State
    """Where the chains have arrived."""
    step_size: Tensor
    """The one the draws were made with; with ``jitter`` each move took a random part of it."""


class Diagnostics(NamedTuple):
    """Whether several chains agree, and what their draws are worth."""

    rhat: Tensor
    """Rank-normalized split R-hat of each coordinate, shape ``(J,)``; near one if they agree."""
    ess: Tensor
    """Bulk effective sample size of each coordinate, all chains together, shape ``(J,)``."""


def init(position: Tensor, log_density: LogDensity) -> State:
    """The state of chains that start at ``position``.

    Args:
        position: Shape ``(..., J)``.
        log_density: The log density to sample, up to a constant.

    Raises:
        InitialPositionError: If a chain's log density or gradient is not finite there.
        ValueError: If ``position`` is a scalar or not of floating-point numbers, or
            ``log_density`` returns another shape than the chains', or a constant.
    """
    if position.ndim == 0 or not position.is_floating_point():
        raise ValueError(
            "position: expected floating-point numbers of shape (..., J), "
            f"found {position.dtype} of shape {tuple(position.shape)}"
        )
    position = position.detach()
    value, gradient = _value_and_gradient(log_density, position)
    lost = ~(value.isfinite() & gradient.isfinite().all(-1))
    if lost.any():
        chain = tuple(lost.nonzero()[0].tolist())
        raise InitialPositionError(
            "position: expected a finite log density and gradient in every chain, found "
            f"{value[chain].item()} and a gradient of norm {gradient[chain].norm().item()} "
            f"in chain {chain} ({int(lost.sum()):,} of {lost.numel():,} chains are like that)"
        )
    return State(position, value, gradient)


def leapfrog(
    position: Tensor,
    momentum: Tensor,
    gradient: Tensor,
    log_density: LogDensity,
    step_size: float | Tensor,
    steps: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    r"""Follow Hamilton's equations for a while, one gradient a step.

    .. math::
        & r \leftarrow r + \tfrac{\epsilon}{2} \nabla \log p(z), \\
        & z \leftarrow z + \epsilon \, r, \\
        & r \leftarrow r + \tfrac{\epsilon}{2} \nabla \log p(z)

    Each line shears the space of :math:`(z, r)`, so the map keeps volume; and it is its own
    inverse once the momentum is turned round. Both are needed for the acceptance rule of
    :func:`step`. Two neighboring half steps of the momentum are made as one.

    Args:
        position: :math:`z`, shape ``(..., J)``.
        momentum: :math:`r`, shape ``(..., J)``.
        gradient: :math:`\nabla \log p(z)` at ``position``.
        log_density: :math:`\log p`.
        step_size: :math:`\epsilon`, a number or one for each chain, ``(...)``.
        steps: How many.

    Returns:
        Position and momentum at the end, and the log density and its gradient there.

    Raises:
        ValueError: If ``steps`` is smaller than one.

    >>> def log_density(z):
    ...     return -0.5 * (z**2).sum(-1)
    >>> z, r = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    >>> z, r, _, gradient = leapfrog(z, r, -z, log_density, 0.1, steps=10)
    >>> back, _, _, _ = leapfrog(z, -r, gradient, log_density, 0.1, steps=10)
    >>> torch.allclose(back, torch.tensor([1.0, 0.0]), atol=1e-6)
    True
    """
    if steps < 1:
        raise ValueError(f"leapfrog steps: expected at least 1, found {steps}")
    epsilon = torch.as_tensor(step_size).to(position)[..., None]
    momentum = momentum + 0.5 * epsilon * gradient
    for _ in range(steps - 1):
        position = position + epsilon * momentum
        _, gradient = _value_and_gradient(log_density, position)
        momentum = momentum + epsilon * gradient
    position = position + epsilon * momentum
    value, gradient = _value_and_gradient(log_density, position)
    return position, momentum + 0.5 * epsilon * gradient, value, gradient


def step(
    state: State,
    log_density: LogDensity,
    step_size: float | Tensor,
    leapfrog_steps: int,
    *,
    generator: torch.Generator | None = None,
) -> tuple[State, Info]:
    r"""One proposal for every chain, accepted or not.

    .. math::
        & r \sim \mathcal{N}(0, I), \qquad (z, r) \xrightarrow{\text{leapfrog}} (z', r'), \\
        & H(z, r) = -\log p(z) + \tfrac12 r^\top r, \\
        & \text{accept } z' \text{ with probability } \min(1, e^{H(z, r) - H(z', r')})

    Args:
        state: Where the chains are.
        log_density: :math:`\log p`, the one that ``state`` was made with.
        step_size: :math:`\epsilon`, a number or one for each chain, ``(...)``.
        leapfrog_steps: The length of the trajectory.
        generator: The source of the momenta and of the decisions.

    Returns:
        The next state, and how the step went. A trajectory whose energy error is not finite, or
        above 1,000 nats, has diverged: it is rejected and flagged.

    Raises:
        ValueError: If the step size is not positive or does not fit the chains, or there is no
            leapfrog step.
    """
    position = state.position
    epsilon = _fitted(step_size, state.log_density)
    momentum = torch.randn_like(position, generator=generator)
    end, momentum_end, value, gradient = leapfrog(
        position, momentum, state.gradient, log_density, epsilon, leapfrog_steps
    )
    kinetic = 0.5 * (momentum_end**2 - momentum**2).sum(-1)
    energy_error = kinetic - (value - state.log_density)
    divergent = ~energy_error.isfinite() | (energy_error > DIVERGENCE_THRESHOLD)
    rate = torch.exp(-energy_error).clamp(max=1.0).where(~divergent, 0.0)
    accepted = torch.rand_like(rate, generator=generator) < rate
    chosen = State(
        torch.where(accepted[..., None], end, position),
        torch.where(accepted, value, state.log_density),
        torch.where(accepted[..., None], gradient, state.gradient),
    )
    return chosen, Info(rate, accepted, energy_error, divergent)


def adapt(
    step_size: float | Tensor,
    acceptance_rate: Tensor,
    *,
    target: float = 0.9,
    rate: float = 1.02,
    proportional: bool = False,
) -> Tensor:
    r"""A larger step where proposals are accepted more often than wanted, else a smaller one.

    By default this is the rule of the first author's code of the time: the step size is
    multiplied or divided by :math:`f = \min(1.25, 1.02^C)`, where :math:`C` chains share it.
    With many chains it hovers about the target. With few it balances where their mean is as often
    above the target as below, and that is at a lower acceptance rate.

    The proportional rule has no such bias. It multiplies by
    :math:`f^{(a - \mathrm{target}) / (1 - \mathrm{target})}`, where :math:`a` is the mean
    acceptance rate, and so rests where the average is the target (Robbins and Monro 1951).

    Args:
        step_size: :math:`\epsilon`, for all chains or of a shape that broadcasts to theirs.
        acceptance_rate: That of each chain in the last step, shape ``(...)``.
        target: The acceptance rate to aim for.
        rate: The factor for one chain.
        proportional: Whether the change is proportional to the distance from the target.

    Returns:
        The next step size, a tensor of the step size's shape. It changes by 1.25 at most.

    Raises:
        ValueError: If the step size does not fit the chains, ``target`` is not between 0 and 1,
            or ``rate`` is not above 1.

    >>> adapt(0.1, torch.tensor([1.0, 1.0, 0.5]), target=0.9)  # too few are accepted
    tensor(0.0942)
    """
    if not 0 < target < 1:
        raise ValueError(f"target: expected an acceptance rate between 0 and 1, found {target}")
    if not rate > 1:
        raise ValueError(f"rate: expected a factor above 1, found {rate}")
    step_size = _fitted(step_size, acceptance_rate)
    chains = acceptance_rate.numel() / step_size.numel()  # that share a step size
    above = acceptance_rate.sum_to_size(step_size.shape) / chains - target
    direction = above / (1 - target) if proportional else above.sign()
    largest = math.log(LARGEST_FACTOR)
    change = min(largest, chains * math.log(rate)) * direction
    return step_size * change.clamp(-largest, largest).exp()


def sample(
    state: State,
    log_density: LogDensity,
    step_size: float | Tensor,
    leapfrog_steps: int,
    draws: int,
    *,
    warm_up: int = 0,
    target: float = 0.9,
    rate: float = 1.02,
    jitter: float = 0.0,
    generator: torch.Generator | None = None,
) -> Samples:
    r"""Repeat :func:`step`, and keep the draws.

    Args:
        state: Where the chains start.
        log_density: The log density to sample.
        step_size: :math:`\epsilon`, for all chains or of a shape that broadcasts to theirs.
            Without a warm-up it stays as it is.
        leapfrog_steps: The length of each trajectory.
        draws: How many to keep of each chain, :math:`S`.
        warm_up: Steps before that, not kept, each followed by :func:`adapt` (proportional). The
            draws are made with the geometric mean of the step sizes of its second half.
        target: The acceptance rate to aim for in the warm-up.
        rate: How fast the warm-up adapts; the factor for one chain of :func:`adapt`.
        jitter: By how large a share each move shortens its step size at most, uniformly at
            random. Without it a trajectory may be a whole period of the motion, time and again,
            and end where it began (Neal 2011, section 3.2).
        generator: The source of randomness.

    Returns:
        The draws, how each step went, and where the chains and the step size have arrived.

    Raises:
        ValueError: If ``draws`` is smaller than one, ``warm_up`` is negative, ``jitter`` is not
            in [0, 1), or :func:`step` or :func:`adapt` refuses an argument.

    Warns:
        DivergenceWarning: Once, if kept draws have diverged, with how many.

    >>> def log_density(z):  # a standard Gaussian
    ...     return -0.5 * (z**2).sum(-1)
    >>> generator = torch.Generator().manual_seed(0)
    >>> start = init(torch.zeros(100, 2), log_density)  # 100 chains
    >>> found = sample(start, log_density, 0.5, 3, draws=200, warm_up=50, generator=generator)
    >>> found.positions.shape
    torch.Size([200, 100, 2])
    >>> abs(found.positions.std().item() - 1) < 0.05
    True
    """
    if draws < 1:
        raise ValueError(f"draws: expected at least 1, found {draws}")
    if warm_up < 0:
        raise ValueError(f"warm_up: expected at least 0, found {warm_up}")
    if not 0 <= jitter < 1:
        raise ValueError(f"jitter: expected a share from 0 to below 1, found {jitter}")
    step_size = _fitted(step_size, state.log_density)

    def move(state: State, epsilon: Tensor) -> tuple[State, Info]:
        if jitter:
            epsilon = epsilon * (1 - jitter * torch.rand_like(epsilon, generator=generator))
        return step(state, log_density, epsilon, leapfrog_steps, generator=generator)

    tried = []
    for _ in range(warm_up):
        state, info = move(state, step_size)
        step_size = adapt(
            step_size, info.acceptance_rate, target=target, rate=rate, proportional=True
        )
        tried.append(step_size)
    if tried:
        step_size = torch.stack(tried[warm_up // 2 :]).log().mean(0).exp()
    positions, infos = [], []
    for _ in range(draws):
        state, info = move(state, step_size)
        positions.append(state.position)
        infos.append(info)
    stacked = Info(*(torch.stack(field) for field in zip(*infos, strict=True)))
    if count := int(stacked.divergent.sum()):
        chains = stacked.divergent.any(0)
        warnings.warn(
            f"{count:,} of {stacked.divergent.numel():,} proposals diverged, in "
            f"{int(chains.sum()):,} of {chains.numel():,} chains, and were rejected. "
            "A smaller step size may help.",
            DivergenceWarning,
            stacklevel=2,
        )
    return Samples(torch.stack(positions), stacked, state, step_size)


def diagnostics(positions: Tensor) -> Diagnostics:
    """R-hat and the effective sample size, by ArviZ (Vehtari et al. 2021).

    Args:
        positions: :math:`S` draws of :math:`C` chains with the same target, ``(S, C, J)``.

    Returns:
        Both for each coordinate, shape ``(J,)``.

    Raises:
        ValueError: If ``positions`` has another number of dimensions, or fewer than four draws.
    """
    from arviz_stats.base import array_stats  # here, because it takes a second to import

    if positions.ndim != 3 or len(positions) < 4:
        raise ValueError(
            "positions: expected the shape (S, C, J) with at least 4 draws, "
            f"found {tuple(positions.shape)}"
        )
    draws = positions.detach().double().cpu().numpy()
    rhat = array_stats.rhat(draws, chain_axis=1, draw_axis=0)
    ess = array_stats.ess(draws, chain_axis=1, draw_axis=0)
    return Diagnostics(torch.as_tensor(rhat).to(positions), torch.as_tensor(ess).to(positions))


def _value_and_gradient(log_density: LogDensity, position: Tensor) -> tuple[Tensor, Tensor]:
    """Both at once: the sum's gradient holds every chain's own, because chains never meet."""
    with torch.enable_grad():
        position = position.detach().requires_grad_()
        value = log_density(position)
        if value.shape != position.shape[:-1]:
            raise ValueError(
                f"log_density: expected the shape {tuple(position.shape[:-1])} for positions of "
                f"shape {tuple(position.shape)}, found {tuple(value.shape)}"
            )
        if not value.requires_grad:
            raise ValueError("log_density: expected a differentiable result, found a constant")
        (gradient,) = torch.autograd.grad(value.sum(), position)
    return value.detach(), gradient


def _fitted(step_size: float | Tensor, chains: Tensor) -> Tensor:
    """The step size as a tensor, once it is known to be positive and to fit the chains."""
    fitted = torch.as_tensor(step_size).to(chains)
    if not (fitted > 0).all():
        raise ValueError(f"step_size: expected positive numbers, found {fitted.min().item()}")
    sizes = zip(reversed(fitted.shape), reversed(chains.shape), strict=False)
    if fitted.ndim > chains.ndim or any(n not in (1, m) for n, m in sizes):
        raise ValueError(
            f"step_size: expected one number or the chains' shape {tuple(chains.shape)}, "
            f"found {tuple(fitted.shape)}"
        )
    return fitted
