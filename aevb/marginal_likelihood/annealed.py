r"""Annealed importance sampling of the marginal likelihood (Neal 2001; Wu et al. 2017).

Between a density that can be drawn from and the posterior lie densities that are each near the
next. A chain that follows them arrives near the posterior whatever the recognition model thinks,
and its weight corrects for what it has missed:

.. math::
    \pi_\beta(z) \propto p_0(z)^{1 - \beta} \, p_\theta(x, z)^\beta, \qquad
    \log w = \sum_{t=1}^T \log \frac{\pi_{\beta_t}(z_{t-1})}{\pi_{\beta_{t-1}}(z_{t-1})}

with :math:`z_0 \sim p_0`, and :math:`z_t` from :math:`z_{t-1}` by a move that keeps
:math:`\pi_{\beta_t}`. Then :math:`E[w] = p_\theta(x)`.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Independent

from aevb import hmc, reparameterization, wake_sleep
from aevb.marginal_likelihood._checks import check_datapoints
from aevb.marginal_likelihood._weights import worth
from aevb.models import LatentVariableModel

__all__ = [
    "Annealed",
    "Bidirectional",
    "annealed_importance_sampling",
    "bidirectional",
    "sigmoidal_schedule",
    "simulate",
]

DECODED = 2**21
"""The numbers that the generative model returns at once: about 150 MB with their gradients."""
TARGET = 0.8
"""The acceptance rate that the pilot run aims for."""
PILOTS = 4
"""Chains for each datapoint in the pilot run."""
PILOT_MOVES = 30
"""The least number of moves of the pilot run, over all temperatures."""
RATE = 1.05
"""The pilot run changes a step size by a fifth at most at each move."""
JITTER = 0.5
"""Each move shortens its step by up to a half, so that no trajectory is always a whole period."""


class Annealed(NamedTuple):
    """What one direction returns, one number for each datapoint, shape ``(M,)``."""

    log_likelihood: Tensor
    r"""The estimate of :math:`\log p_\theta(x)`, nats: on average too low if annealed from
    :math:`p_0` to the posterior, on average too high the other way."""
    standard_error: Tensor
    """Of the estimate, nats, from the spread of the chains' weights (delta method); not a number
    with one chain, and too small if the chains started from one point."""
    effective_sample_size: Tensor
    """Of the chains' weights."""
    acceptance_rate: Tensor
    """Of the moves, over all temperatures and chains; not a number if there were none."""


class Bidirectional(NamedTuple):
    r"""Two stochastic bounds of :math:`\log p_\theta(x)`."""

    lower: Annealed
    upper: Annealed


def sigmoidal_schedule(temperatures: int, steepness: float = 4.0) -> Tensor:
    r"""Inverse temperatures that go slowly at both ends (Wu et al. 2017).

    .. math::
        \beta_t = \frac{\tilde\beta_t - \tilde\beta_0}{\tilde\beta_T - \tilde\beta_0}, \qquad
        \tilde\beta_t = \sigma\bigl(\delta (2t/T - 1)\bigr)

    Args:
        temperatures: :math:`T`.
        steepness: :math:`\delta`.

    Returns:
        :math:`\beta_0 = 0, \dots, \beta_T = 1`, shape ``(T + 1,)``, float64.

    Raises:
        ValueError: If there is no temperature, or ``steepness`` is not positive and finite.
    """
    if temperatures < 1:
        raise ValueError(f"temperatures: expected at least 1, found {temperatures}")
    if not 0 < steepness < math.inf:
        raise ValueError(f"steepness: expected a positive number, found {steepness}")
    raw = torch.linspace(-steepness, steepness, temperatures + 1, dtype=torch.float64).sigmoid()
    return (raw - raw[0]) / (raw[-1] - raw[0])


def annealed_importance_sampling(
    model: LatentVariableModel,
    x: Tensor,
    *,
    chains: int = 16,
    temperatures: int | Tensor = 100,
    leapfrog_steps: int = 4,
    start: str = "prior",
    step_size: float = 0.1,
    pilot: bool = True,
    generator: torch.Generator | None = None,
) -> Annealed:
    r"""A stochastic lower bound of :math:`\log p_\theta(x)`, without a recognition model.

    The moves are Hamiltonian Monte Carlo. Their step sizes must not depend on the chains that are
    weighed: a kernel that looks back does not keep :math:`\pi_\beta`. So a *pilot run* of four
    other chains anneals first, adapts a step size for each datapoint and temperature, and is
    forgotten. Given its step sizes, :math:`E[w] = p_\theta(x)` holds exactly.

    Args:
        model: Any model with a continuous latent variable.
        x: Datapoints, shape ``(M, D)``.
        chains: The number of weights to average for each datapoint, :math:`C`.
        temperatures: :math:`T`, for a :func:`sigmoidal_schedule`, or the inverse temperatures
            themselves: increasing, from 0 to 1. With one, this is importance sampling from
            :math:`p_0`.
        leapfrog_steps: The length of each move's trajectory.
        start: :math:`p_0`: the ``prior`` or the ``recognition`` model.
        step_size: Of the leapfrog: where the pilot run begins.
        pilot: Whether there is one. Without, the step size stays as it is.
        generator: The source of randomness.

    Returns:
        The estimates, and what to judge them by.

    Raises:
        ValueError: If an argument is out of its range.
        aevb.hmc.InitialPositionError: If the log joint density is not finite where a chain starts.
    """
    schedule = _checked(x, chains, temperatures, start, step_size)
    parts = []
    for part in _batches(x, chains):
        p0 = _start(model, part, start)
        sizes = _step_sizes(model, part, p0, schedule, leapfrog_steps, step_size, pilot, generator)
        z = reparameterization.sample(p0, chains, generator).detach()
        log_weight, rate = _anneal(model, part, p0, z, schedule, sizes, leapfrog_steps, generator)
        parts.append(_summary(log_weight, rate))
    return _joined(parts)


def bidirectional(
    model: LatentVariableModel,
    x: Tensor,
    z: Tensor,
    *,
    chains: int = 16,
    temperatures: int | Tensor = 100,
    leapfrog_steps: int = 4,
    start: str = "prior",
    step_size: float = 0.1,
    pilot: bool = True,
    generator: torch.Generator | None = None,
) -> Bidirectional:
    r"""Two stochastic bounds, with the truth between them (Grosse et al. 2015).

    The same chain, from an exact draw of the posterior *back* to :math:`p_0`, has a weight with
    :math:`E[w] = 1 / p_\theta(x)`. So minus its logarithm is too high on average. An exact draw is
    had where the data are simulated: :math:`z \sim p(z)`, :math:`x \sim p_\theta(x|z)`, as
    :func:`simulate` does; then :math:`z` is a draw of :math:`p_\theta(z|x)`.

    Args:
        model: Any model with a continuous latent variable.
        x: Datapoints, shape ``(M, D)``.
        z: An exact draw of each one's posterior, shape ``(M, J)``, where all chains back start;
            or one for each chain, ``(C, M, J)``.
        chains: The number of chains in each direction, :math:`C`.
        temperatures: As in :func:`annealed_importance_sampling`, as is all that follows.
        leapfrog_steps: The length of each move's trajectory.
        start: :math:`p_0`.
        step_size: Where the pilot run begins. Both directions use its step sizes.
        pilot: Whether there is one.
        generator: The source of randomness.

    Returns:
        The lower and the upper bound.

    Raises:
        ValueError: If an argument is out of its range.
        aevb.hmc.InitialPositionError: If the log joint density is not finite where a chain starts.
    """
    schedule = _checked(x, chains, temperatures, start, step_size)
    shape = (chains, len(x), model.latent_dim)
    if z.shape not in (shape, shape[1:]):
        raise ValueError(f"z: expected the shape {shape[1:]} or {shape}, found {tuple(z.shape)}")
    lower, upper, done = [], [], 0
    for part in _batches(x, chains):
        p0 = _start(model, part, start)
        sizes = _step_sizes(model, part, p0, schedule, leapfrog_steps, step_size, pilot, generator)
        drawn = reparameterization.sample(p0, chains, generator).detach()
        exact = z.expand(shape)[:, done : done + len(part)]
        done += len(part)
        up = _anneal(model, part, p0, drawn, schedule, sizes, leapfrog_steps, generator)
        back = schedule.flip(0), sizes.flip(0)
        down = _anneal(model, part, p0, exact, *back, leapfrog_steps, generator)
        lower.append(_summary(*up))
        reciprocal = _summary(*down)
        upper.append(reciprocal._replace(log_likelihood=-reciprocal.log_likelihood))
    return Bidirectional(_joined(lower), _joined(upper))


@torch.no_grad()
def simulate(
    model: LatentVariableModel, datapoints: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    r"""Draw :math:`z \sim p(z)` and :math:`x \sim p_\theta(x|z)`.

    Args:
        model: Its generative model has Bernoulli or Gaussian outputs.
        datapoints: How many, :math:`M`.
        generator: The source of randomness.

    Returns:
        :math:`x`, shape ``(M, D)``, and :math:`z`, shape ``(M, J)``, an exact draw of
        :math:`p_\theta(z|x)`.
    """
    z = reparameterization.sample(model.prior, datapoints, generator)
    return wake_sleep.dream(model.generative_model(z), None, generator), z


class _Tempered:
    r"""The log density of :math:`\pi_\beta`, up to a constant."""

    def __init__(self, model: LatentVariableModel, x: Tensor, p0: Independent, beta: float):
        self.model, self.x, self.p0, self.beta = model, x, p0, beta

    def __call__(self, z: Tensor) -> Tensor:
        log_p0, log_joint = self.p0.log_prob(z), self.model.log_joint(self.x, z)
        return (1 - self.beta) * log_p0 + self.beta * log_joint


def _anneal(
    model: LatentVariableModel,
    x: Tensor,
    p0: Independent,
    z: Tensor,
    schedule: Tensor,
    step_sizes: Tensor,
    leapfrog_steps: int,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    """The log weights ``(C, M)`` of chains from ``z`` along the schedule; the acceptance rates."""
    state = hmc.init(z, _Tempered(model, x, p0, schedule[0].item()))
    log_weight, rates = torch.zeros_like(state.log_density), []
    for t, beta in enumerate(schedule[1:].tolist()):
        target = _Tempered(model, x, p0, beta)
        there = hmc.init(state.position, target)
        log_weight = log_weight + there.log_density - state.log_density
        if t < len(step_sizes):  # a move after the last weight would change nothing
            epsilon = _jittered(step_sizes[t], log_weight, generator)
            state, info = hmc.step(there, target, epsilon, leapfrog_steps, generator=generator)
            rates.append(info.acceptance_rate.mean(0))
    return log_weight, torch.stack(rates).mean(0) if rates else log_weight[0] * math.nan


def _step_sizes(
    model: LatentVariableModel,
    x: Tensor,
    p0: Independent,
    schedule: Tensor,
    leapfrog_steps: int,
    step_size: float,
    pilot: bool,
    generator: torch.Generator | None,
) -> Tensor:
    """The step sizes of each move and datapoint, ``(T - 1, M)``, from chains of their own."""
    size = x.new_full((len(x),), step_size)
    inner = schedule[1:-1].tolist()
    if not pilot or not inner:
        return size.expand(len(inner), -1)
    sizes = []
    z = reparameterization.sample(p0, PILOTS, generator).detach()
    for beta in inner:
        target = _Tempered(model, x, p0, beta)
        state = hmc.init(z, target)
        for _ in range(math.ceil(PILOT_MOVES / len(inner))):
            epsilon = _jittered(size, state.log_density, generator)
            state, info = hmc.step(state, target, epsilon, leapfrog_steps, generator=generator)
            size = hmc.adapt(
                size, info.acceptance_rate, target=TARGET, rate=RATE, proportional=True
            )
        z = state.position
        sizes.append(size)
    return torch.stack(sizes)


def _jittered(step_size: Tensor, chains: Tensor, generator: torch.Generator | None) -> Tensor:
    return step_size * (1 - JITTER * torch.rand_like(chains, generator=generator))


def _summary(log_weight: Tensor, acceptance_rate: Tensor) -> Annealed:
    """The logarithm of the mean weight, and its delta-method standard error."""
    chains = len(log_weight)
    total = log_weight.logsumexp(0)
    effective, error = worth(total, (2 * log_weight).logsumexp(0), chains)
    return Annealed(total - math.log(chains), error, effective, acceptance_rate)


def _joined(parts: list[Annealed]) -> Annealed:
    return Annealed(*(torch.cat(field) for field in zip(*parts, strict=True)))


def _start(model: LatentVariableModel, x: Tensor, start: str) -> Independent:
    if start == "prior":
        return model.prior.expand(x.shape[:1])
    with torch.no_grad():
        return model.recognition_model(x)


def _batches(x: Tensor, chains: int) -> Iterator[Tensor]:
    yield from x.split(max(1, DECODED // (chains * x.shape[1])))


def _checked(
    x: Tensor, chains: int, temperatures: int | Tensor, start: str, step_size: float
) -> Tensor:
    """The schedule, once the arguments are known to be in their ranges."""
    check_datapoints(x)
    if chains < 1:
        raise ValueError(f"chains: expected at least 1, found {chains}")
    if start not in ("prior", "recognition"):
        raise ValueError(f"start: expected prior or recognition, found {start!r}")
    if not 0 < step_size < math.inf:
        raise ValueError(f"step_size: expected a positive number, found {step_size}")
    if not isinstance(temperatures, Tensor):
        return sigmoidal_schedule(temperatures)
    rising = temperatures.ndim == 1 and len(temperatures) > 1 and (temperatures.diff() > 0).all()
    if not rising or temperatures[0] != 0 or temperatures[-1] != 1:
        raise ValueError(
            "temperatures: expected a number or a vector that increases from 0 to 1, "
            f"found {temperatures.tolist()}"
        )
    return temperatures
