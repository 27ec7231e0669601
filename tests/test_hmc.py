"""Appendices D and E: Hamiltonian Monte Carlo."""

import itertools
import math
import warnings

import emcee
import numpy as np
import pytest
import torch
from arviz_stats.base import array_stats
from known_answers import assert_mean
from torch import Tensor

from aevb import hmc, models

MEAN = torch.tensor([1.0, -2.0], dtype=torch.float64)
COVARIANCE = torch.tensor([[1.0, 0.8], [0.8, 2.0]], dtype=torch.float64)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(1_000 + seed)


def gaussian(z: Tensor) -> Tensor:
    """A correlated Gaussian, with its constant left out."""
    centered = z - MEAN
    return -0.5 * ((centered @ torch.linalg.inv(COVARIANCE)) * centered).sum(-1)


def banana(z: Tensor) -> Tensor:
    """z1 is N(0, 1), and z2 given z1 is N(z1^2 / 2, 1 / 4): neither Gaussian nor symmetric."""
    first, second = z[..., 0], z[..., 1]
    return -0.5 * first**2 - 2 * (second - 0.5 * first**2) ** 2


def banana_draws(count: int, generator: torch.Generator) -> Tensor:
    noise = torch.randn(count, 2, generator=generator)
    return torch.stack([noise[:, 0], 0.5 * noise[:, 0] ** 2 + 0.5 * noise[:, 1]], 1)


def posterior(latent_dim: int = 2):
    """The log joint density of one synthetic datapoint under a small VAE with random weights."""
    model = models.bernoulli_vae(30, 8, latent_dim, seeded(20), std=1.0).double()
    x = torch.rand(1, 30, generator=seeded(21), dtype=torch.float64)

    def log_density(z: Tensor) -> Tensor:
        return model.log_joint(x, z[..., None, :])[..., 0]

    return log_density


TARGETS = {"Gaussian": gaussian, "banana": banana, "VAE posterior": posterior()}
every_target = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)


def travel(target, z: Tensor, r: Tensor, step_size, steps: int):
    return hmc.leapfrog(z, r, hmc.init(z, target).gradient, target, step_size, steps)


def energy(target, z: Tensor, r: Tensor) -> Tensor:
    return -target(z) + 0.5 * (r**2).sum(-1)


# -- The leapfrog: mechanics -------------------------------------------------------------------


def test_free_fall() -> None:
    # A constant force: the leapfrog, exact for parabolas, makes no error at all.
    force = torch.tensor([0.3, -9.8])
    z, r = torch.randn(5, 2, generator=seeded()), torch.randn(5, 2, generator=seeded(1))

    position, momentum, _, _ = travel(lambda z: z @ force, z, r, 0.1, 30)

    torch.testing.assert_close(momentum, r + 3 * force)
    torch.testing.assert_close(position, z + 3 * r + 4.5 * force)


@pytest.mark.parametrize("steps", [1, 2, 57])
def test_the_harmonic_oscillator_of_the_leapfrog(steps: int) -> None:
    # With z'' = -w^2 z the steps are those of an exact rotation, of a frequency slightly off:
    # z_n = z cos(n a) + r sin(n a) / (w c), r_n = r cos(n a) - z w c sin(n a),
    # where cos a = 1 - (e w)^2 / 2 and c^2 = 1 - (e w)^2 / 4.
    w, e = 1.7, 0.3
    a, c = math.acos(1 - (e * w) ** 2 / 2), math.sqrt(1 - (e * w) ** 2 / 4)
    cos, sin = math.cos(steps * a), math.sin(steps * a)
    z, r = torch.randn(5, 1, generator=seeded()), torch.randn(5, 1, generator=seeded(1))

    position, momentum, value, gradient = travel(
        lambda z: -0.5 * w**2 * (z**2).sum(-1), z, r, e, steps
    )

    torch.testing.assert_close(position, z * cos + r * sin / (w * c))
    torch.testing.assert_close(momentum, r * cos - z * w * c * sin)
    torch.testing.assert_close(value, -0.5 * w**2 * position[:, 0] ** 2)
    torch.testing.assert_close(gradient, -(w**2) * position)


def test_the_harmonic_oscillator_of_physics() -> None:
    # Half a period, in ever smaller steps: to the other side, with an error of second order.
    z, r = torch.tensor([[1.0]]), torch.tensor([[0.5]])
    errors = []
    for steps in (100, 200, 400):
        end, momentum, _, _ = travel(lambda z: -0.5 * (z**2).sum(-1), z, r, math.pi / steps, steps)
        errors.append(max((end + z).abs().item(), (momentum + r).abs().item()))

    assert errors[2] < 1e-4
    for coarse, fine in itertools.pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(2, abs=0.01)


@every_target
def test_it_is_reversible(target) -> None:
    z, r = torch.randn(20, 2, generator=seeded()), torch.randn(20, 2, generator=seeded(1))

    end, momentum, _, _ = travel(target, z, r, 0.1, 25)
    back, turned, _, _ = travel(target, end, -momentum, 0.1, 25)

    assert ((end - z).abs() > 0.01).any(1).all()
    torch.testing.assert_close(back, z)
    torch.testing.assert_close(-turned, r)


@every_target
def test_it_keeps_volume(target) -> None:
    # The Jacobian J of (z, r) -> (z', r'), by central differences. It is more than of determinant
    # one: J' S J = S with S = [[0, I], [-I, 0]].
    size, h = 4, 1e-5
    start = torch.randn(size, generator=seeded(2))
    shifts = torch.cat([h * torch.eye(size), -h * torch.eye(size)])

    z, r = (start + shifts).chunk(2, -1)
    position, momentum, _, _ = travel(target, z, r, 0.2, 10)

    ends = torch.cat([position, momentum], -1)
    jacobian = ((ends[:size] - ends[size:]) / (2 * h)).T
    rotation = torch.kron(torch.tensor([[0.0, 1.0], [-1.0, 0.0]]), torch.eye(2))
    torch.testing.assert_close(jacobian.T @ rotation @ jacobian, rotation, atol=1e-6, rtol=0)
    assert torch.linalg.det(jacobian).item() == pytest.approx(1, abs=1e-6)


@every_target
def test_the_energy_error_is_of_second_order(target) -> None:
    z, r = torch.randn(50, 2, generator=seeded()), torch.randn(50, 2, generator=seeded(1))
    before, errors = energy(target, z, r), []
    for steps in (50, 100, 200):  # one unit of time
        end, momentum, _, _ = travel(target, z, r, 1 / steps, steps)
        errors.append((energy(target, end, momentum) - before).square().mean().sqrt().item())

    assert errors[0] > 1e-8
    for coarse, fine in itertools.pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(2, abs=0.05)


@every_target
def test_it_returns_density_and_gradient_of_the_end(target) -> None:
    z, r = torch.randn(3, 2, generator=seeded()), torch.randn(3, 2, generator=seeded(1))

    position, _, value, gradient = travel(target, z, r, 0.1, 7)

    at_the_end = hmc.init(position, target)
    torch.testing.assert_close((value, gradient), (at_the_end.log_density, at_the_end.gradient))


# -- One step ----------------------------------------------------------------------------------


def test_a_step_is_the_algorithm_by_hand() -> None:
    z = torch.randn(40, 2, generator=seeded())
    before = hmc.init(z, gaussian)

    after, info = hmc.step(before, gaussian, 1.3, 8, generator=seeded(1))

    generator = seeded(1)
    r = torch.randn(40, 2, generator=generator)
    end, momentum, _, _ = travel(gaussian, z, r, 1.3, 8)
    error = energy(gaussian, end, momentum) - energy(gaussian, z, r)
    rate = torch.exp(-error).clamp(max=1)
    accepted = torch.rand(40, generator=generator) < rate
    assert 5 < accepted.sum() < 35  # both happen
    torch.testing.assert_close(info.energy_error, error)
    torch.testing.assert_close(info.acceptance_rate, rate)
    assert torch.equal(info.accepted, accepted)
    assert not info.divergent.any()
    assert torch.equal(after.position[~accepted], z[~accepted])
    torch.testing.assert_close(after.position[accepted], end[accepted])
    at_the_end = hmc.init(after.position, gaussian)
    torch.testing.assert_close(after, at_the_end)


@pytest.mark.parametrize("steps", [1, 5])
def test_a_leapfrog_step_costs_one_gradient(steps: int) -> None:
    calls = []

    def counted(z: Tensor) -> Tensor:
        calls.append(z.shape)
        return gaussian(z)

    state = hmc.init(torch.zeros(3, 2), counted)
    assert len(calls) == 1
    hmc.step(state, counted, 0.1, steps)
    assert calls == [(3, 2)] * (1 + steps)  # all chains in one call


def test_chains_do_not_meet() -> None:
    z = torch.randn(6, 2, generator=seeded())
    elsewhere = z.clone()
    elsewhere[:5] += 1

    ends = [
        hmc.sample(hmc.init(start, banana), banana, 0.1, 5, 20, generator=seeded(1)).positions
        for start in (z, elsewhere)
    ]

    assert (ends[0][:, :5] != ends[1][:, :5]).any()
    torch.testing.assert_close(ends[0][:, 5], ends[1][:, 5])


@every_target
def test_many_chains_are_each_one_alone(target) -> None:
    z, r = torch.randn(6, 2, generator=seeded()), torch.randn(6, 2, generator=seeded(1))
    step_sizes = torch.linspace(0.05, 0.2, 6)

    together = travel(target, z, r, step_sizes, 9)

    for chain in range(6):
        alone = travel(target, z[chain], r[chain], step_sizes[chain].item(), 9)
        torch.testing.assert_close(alone, tuple(part[chain] for part in together))


def test_chains_may_have_any_shape() -> None:
    z = torch.randn(24, 2, generator=seeded())
    flat = hmc.step(hmc.init(z, banana), banana, 0.3, 5, generator=seeded(1))
    for shape in ((4, 6), (2, 3, 4)):
        start = z.view(*shape, 2)
        state, info = hmc.step(hmc.init(start, banana), banana, 0.3, 5, generator=seeded(1))
        for found, expected in zip((*state, *info), (*flat[0], *flat[1]), strict=True):
            torch.testing.assert_close(found, expected.view(found.shape))
        assert info.accepted.shape == shape


def test_one_chain_needs_no_leading_dimension() -> None:
    drawn = hmc.sample(hmc.init(torch.zeros(2), gaussian), gaussian, 0.3, 5, 10, warm_up=3)
    assert drawn.positions.shape == (10, 2)
    assert drawn.info.accepted.shape == (10,)
    assert drawn.step_size.shape == ()


def test_steps_draw_from_the_generator_alone() -> None:
    state, before = hmc.init(torch.zeros(4, 2), gaussian), torch.get_rng_state()
    a, b, c = (hmc.step(state, gaussian, 0.3, 5, generator=seeded(n))[0] for n in (0, 0, 1))
    assert torch.equal(a.position, b.position)
    assert not torch.equal(a.position, c.position)
    assert torch.equal(torch.get_rng_state(), before)


def test_no_graph_is_left_behind_and_none_is_needed() -> None:
    model = models.bernoulli_vae(7, 5, 2, seeded(), std=0.5)
    x, z = torch.rand(4, 7), torch.zeros(4, 2, requires_grad=True)
    with torch.no_grad():
        state = hmc.init(z, lambda z: model.log_joint(x, z))
        state, _ = hmc.step(state, lambda z: model.log_joint(x, z), 0.1, 3)
    assert not any(part.requires_grad for part in state)
    assert z.grad is None
    assert all(parameter.grad is None for parameter in model.parameters())


def test_type_and_device_are_those_of_the_position(device: torch.device) -> None:
    def standard(z: Tensor) -> Tensor:
        return -0.5 * (z**2).sum(-1)

    start = torch.zeros(3, 2, dtype=torch.float32, device=device)
    generator = torch.Generator(device).manual_seed(0)
    drawn = hmc.sample(
        hmc.init(start, standard), standard, 0.1, 3, 4, warm_up=2, generator=generator
    )
    for part in (drawn.positions, drawn.info.acceptance_rate, drawn.step_size, *drawn.state):
        assert part.dtype == torch.float32
        assert part.device.type == device.type


# -- The right distribution --------------------------------------------------------------------


def test_a_step_leaves_the_distribution_and_its_balance_unchanged() -> None:
    # From exact draws, so that all 100,000 chains are independent. The steps are coarse: without
    # the acceptance rule these would be far off.
    n, generator = 100_000, seeded(3)
    z = banana_draws(n, generator)

    state, info = hmc.step(hmc.init(z, banana), banana, 0.55, 4, generator=generator)

    moved = state.position
    assert 0.4 < info.acceptance_rate.mean() < 0.9
    # E z1 = 0, E z1^2 = 1, E z2 = 1/2, E z2^2 = 3/4 + 1/4, E z1 z2 = 0, E z1^2 z2 = 3/2
    first, second = moved.T
    moments = torch.stack([first, first**2, second, second**2, first * second, first**2 * second])
    assert_mean(moments.T, torch.tensor([0.0, 1.0, 0.5, 1.0, 0.0, 1.5]))
    # Detailed balance: (z, z') and (z', z) have one distribution.
    forth, back = z[:, 0] * moved[:, 1], moved[:, 0] * z[:, 1]
    order, reverse = z[:, 1] * moved[:, 1] ** 2, moved[:, 1] * z[:, 1] ** 2
    assert_mean(torch.stack([forth - back, order - reverse]).T, 0.0)


def assert_ergodic_mean(draws: Tensor, expected: Tensor | float) -> None:
    """Whether the draws of chains, (S, C, K), have this mean, to 4 Monte Carlo s.e. (ArviZ)."""
    ess = array_stats.ess(draws.numpy(), chain_axis=1, draw_axis=0, method="mean")
    assert (ess > 400).all(), f"too few effective draws: {ess}"
    standard_error = draws.flatten(0, 1).std(0) / torch.as_tensor(ess).sqrt()
    off = (draws.mean((0, 1)) - expected).abs() / standard_error
    assert (off < 4).all(), f"off by {off.max():.1f} s.e.: {draws.mean((0, 1))}, not {expected}"


def test_a_correlated_gaussian() -> None:
    z = 3 * torch.randn(8, 2, generator=seeded(4))

    drawn = hmc.sample(
        hmc.init(z, gaussian), gaussian, 0.2, 6, 2_000, warm_up=200, generator=seeded(5)
    )

    a, b = (drawn.positions - MEAN).unbind(-1)
    assert (hmc.diagnostics(drawn.positions).rhat < 1.01).all()
    assert_ergodic_mean(drawn.positions, MEAN)
    products = torch.stack([a**2, b**2, a * b], -1)
    assert_ergodic_mean(
        products, torch.stack([COVARIANCE[0, 0], COVARIANCE[1, 1], COVARIANCE[0, 1]])
    )


def by_quadrature(target) -> tuple[Tensor, Tensor]:
    """Mean and second moments of a density in the plane, on a grid."""
    axis = torch.linspace(-7, 7, 401)
    z = torch.cartesian_prod(axis, axis)
    weight = torch.softmax(target(z), 0)
    at_the_edge = (z.abs() > 6.9).any(1)
    assert weight[at_the_edge].sum() < 1e-8
    return weight @ z, weight @ torch.stack([z[:, 0] ** 2, z[:, 1] ** 2, z[:, 0] * z[:, 1]], 1)


def test_the_posterior_of_a_vae_is_that_of_quadrature_and_of_emcee() -> None:
    target = TARGETS["VAE posterior"]
    mean, seconds = by_quadrature(target)
    start = torch.randn(20, 2, generator=seeded(6))

    drawn = hmc.sample(
        hmc.init(start, target), target, 0.1, 4, 500, warm_up=100, generator=seeded(7)
    ).positions

    a, b = drawn.unbind(-1)
    assert_ergodic_mean(drawn, mean)
    assert_ergodic_mean(torch.stack([a**2, b**2, a * b], -1), seconds)

    with torch.no_grad():
        sampler = emcee.EnsembleSampler(
            40, 2, lambda z: target(torch.as_tensor(z)).numpy(), vectorize=True
        )
        walkers = np.random.default_rng(8).standard_normal((40, 2))
        sampler.random_state = np.random.RandomState(9).get_state()
        sampler.run_mcmc(walkers, 1_200)
    theirs = torch.as_tensor(sampler.get_chain(discard=200))
    variances = []
    for draws in (drawn, theirs):
        ess = array_stats.ess(draws.numpy(), chain_axis=1, draw_axis=0, method="mean")
        variances.append(draws.flatten(0, 1).var(0) / torch.as_tensor(ess))
    difference = drawn.mean((0, 1)) - theirs.mean((0, 1))
    assert (difference.abs() < 4 * (variances[0] + variances[1]).sqrt()).all()


# -- The step size -----------------------------------------------------------------------------


def test_the_rule_of_the_authors_code() -> None:
    high, low = torch.tensor([0.95, 0.93, 0.91]), torch.tensor([0.95, 0.93, 0.2])
    many = torch.full((50,), 0.95)
    f = 1.02

    assert hmc.adapt(0.1, high).item() == pytest.approx(0.1 * f**3)  # three chains share it
    assert hmc.adapt(0.1, low).item() == pytest.approx(0.1 / f**3)
    assert hmc.adapt(0.1, many).item() == pytest.approx(0.125)  # no more than that
    assert hmc.adapt(0.1, 0.1 * many).item() == pytest.approx(0.08)
    assert hmc.adapt(0.1, low, target=0.6).item() == pytest.approx(0.1 * f**3)
    assert hmc.adapt(0.1, high, rate=1.05).item() == pytest.approx(0.1 * 1.05**3)
    own = hmc.adapt(torch.tensor([0.1, 0.2, 0.3]), low)
    torch.testing.assert_close(own, torch.tensor([0.1 * f, 0.2 * f, 0.3 / f]))
    by_column = hmc.adapt(torch.tensor([0.1, 0.2, 0.3]), torch.stack([high, low]))
    torch.testing.assert_close(by_column, torch.tensor([0.1 * f**2, 0.2 * f**2, 0.3 / f**2]))


def test_the_proportional_rule() -> None:
    rates = torch.tensor([1.0, 0.95, 0.9, 0.8, 0.0])

    steps = hmc.adapt(torch.ones(5), rates, proportional=True)

    torch.testing.assert_close(steps, 1.02 ** torch.tensor([1.0, 0.5, 0.0, -1.0, -9.0]))
    many = torch.full((50,), 0.95)
    assert hmc.adapt(1.0, many, proportional=True).item() == pytest.approx(1.25**0.5)
    assert hmc.adapt(1.0, 0 * many, proportional=True).item() == pytest.approx(0.8)


SCALES = torch.linspace(0.5, 2, 6, dtype=torch.float64)


def scaled(z: Tensor) -> Tensor:
    """A Gaussian of six dimensions and six scales."""
    return -0.5 * ((z / SCALES) ** 2).sum(-1)


def scaled_acceptance(step_size: Tensor) -> Tensor:
    """The mean acceptance rate of one leapfrog step, to some 0.1 percent, from 20,000 exact draws.

    One step, because then a larger step size means a lower rate. Of several, some bring a chain
    of Gaussian coordinates back to where it started.
    """
    z = SCALES * torch.randn(20_000, 6, generator=seeded(11))
    _, info = hmc.step(hmc.init(z, scaled), scaled, step_size, 1, generator=seeded(12))
    return info.acceptance_rate.mean()


@pytest.mark.parametrize("start", [0.01, 10.0])
def test_adaptation_by_the_authors_rule_reaches_90_percent(start: float) -> None:
    # It steps to and fro over the balance point, so that point is within one step of its end.
    z, generator = SCALES * torch.randn(400, 6, generator=seeded(10)), seeded(13)
    state, step_size = hmc.init(z, scaled), start
    for _ in range(60):
        state, info = hmc.step(state, scaled, step_size, 1, generator=generator)
        step_size = hmc.adapt(step_size, info.acceptance_rate)

    assert scaled_acceptance(step_size / 1.25) > 0.9 > scaled_acceptance(step_size * 1.25)


@pytest.mark.parametrize("target", [0.6, 0.9])
@pytest.mark.parametrize("start", [0.02, 10.0])
def test_a_warm_up_reaches_its_target_with_few_chains(start: float, target: float) -> None:
    # The step size with exactly that acceptance rate is within 15 percent of the one found.
    settings = {"warm_up": 600, "target": target, "generator": seeded(14)}
    drawn = hmc.sample(hmc.init(torch.zeros(4, 6), scaled), scaled, start, 1, 1, **settings)

    low, high = scaled_acceptance(drawn.step_size * 1.15), scaled_acceptance(drawn.step_size / 1.15)
    assert low < target < high


def test_a_step_size_for_each_chain_finds_each_chains_unit() -> None:
    units = torch.tensor([0.1, 1.0, 10.0])

    def in_units(z: Tensor) -> Tensor:
        return scaled(z / units[:, None])

    start, settings = torch.full((3,), 0.3), {"warm_up": 1_500, "generator": seeded(15)}
    drawn = hmc.sample(hmc.init(torch.zeros(3, 6), in_units), in_units, start, 1, 1, **settings)

    for step_size in drawn.step_size / units:
        assert scaled_acceptance(step_size / 1.25) > 0.9 > scaled_acceptance(step_size * 1.25)


def test_the_draws_are_made_with_one_step_size() -> None:
    state = hmc.init(torch.zeros(3, 2), gaussian)
    fixed = hmc.sample(state, gaussian, 0.3, 5, 4, generator=seeded())
    assert fixed.step_size.item() == 0.3

    tuned = hmc.sample(state, gaussian, 0.3, 5, 4, warm_up=10, generator=seeded())
    generator, by_hand, step_size, tried = seeded(), state, torch.tensor(0.3), []
    for _ in range(10):
        by_hand, info = hmc.step(by_hand, gaussian, step_size, 5, generator=generator)
        step_size = hmc.adapt(step_size, info.acceptance_rate, proportional=True)
        tried.append(step_size)
    step_size = math.prod(float(size) for size in tried[5:]) ** 0.2
    assert tuned.step_size.item() == pytest.approx(step_size)
    for draw in range(4):
        by_hand, info = hmc.step(by_hand, gaussian, step_size, 5, generator=generator)
        torch.testing.assert_close(tuned.positions[draw], by_hand.position)
        torch.testing.assert_close(tuned.info.energy_error[draw], info.energy_error)
    torch.testing.assert_close(tuned.state, by_hand)


def test_jitter_breaks_a_whole_period() -> None:
    # On a Gaussian a leapfrog step of sqrt(2) is a quarter of a turn, and four are a whole one.
    start = torch.randn(2_000, 1, generator=seeded(1))

    def standard(z: Tensor) -> Tensor:
        return -0.5 * (z**2).sum(-1)

    def moved(jitter: float) -> Tensor:
        drawn = hmc.sample(
            hmc.init(start, standard),
            standard,
            math.sqrt(2),
            4,
            10,
            jitter=jitter,
            generator=seeded(2),
        )
        return drawn.positions[-1]

    torch.testing.assert_close(moved(0.0), start)
    end = moved(0.5)[:, 0]
    assert_mean(end * start[:, 0], 0.0)  # forgotten
    assert_mean(end, 0.0)  # and still from the Gaussian
    assert_mean(end**2, 1.0)


def test_jitter_shortens_by_the_share_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    state, epsilon = hmc.init(torch.zeros(4, 2), gaussian), torch.tensor([0.1, 0.2, 0.3, 0.4])
    tried, step = [], hmc.step

    def spy(state: hmc.State, log_density: object, size: Tensor, *rest: int, **other: object):
        tried.append(size / epsilon)
        return step(state, log_density, size, *rest, **other)

    monkeypatch.setattr(hmc, "step", spy)
    hmc.sample(state, gaussian, epsilon, 1, 500, jitter=0.5, generator=seeded())
    found = torch.stack(tried)
    assert 0.5 <= found.min() < 0.51
    assert 0.99 < found.max() <= 1
    assert_mean(found.flatten(), 0.75)


# -- Divergence --------------------------------------------------------------------------------


def steep(z: Tensor) -> Tensor:
    return -(z**4).sum(-1)


def test_a_trajectory_that_diverges_is_rejected_and_flagged() -> None:
    # Far out the force is too strong for the step: the second chain's energy overflows.
    z = torch.tensor([[0.1, 0.1], [40.0, 40.0], [-0.1, 0.2]])

    state, info = hmc.step(hmc.init(z, steep), steep, 0.1, 10, generator=seeded())

    assert info.divergent.tolist() == [False, True, False]
    assert info.accepted.tolist() == [True, False, True]
    assert info.acceptance_rate[1] == 0
    assert not info.energy_error[1].isfinite()
    assert torch.equal(state.position[1], z[1])
    assert all(part.isfinite().all() for part in state)


def test_a_large_energy_error_is_a_divergence() -> None:
    z, generator = torch.zeros(1, 1), seeded()
    state = hmc.init(z, lambda z: -0.5 * 1e3 * (z**2).sum(-1))
    _, info = hmc.step(state, lambda z: -0.5 * 1e3 * (z**2).sum(-1), 1.0, 2, generator=generator)
    assert info.energy_error.isfinite().all()
    assert info.energy_error > 1_000
    assert info.divergent.all()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_chain_moves_to_where_the_density_is_not_a_number(value: float) -> None:
    def broken(z: Tensor) -> Tensor:
        usual = -0.5 * (z**2).sum(-1)
        return torch.where(z[..., 0] > 0.5, torch.full_like(usual, value), usual)

    with pytest.warns(hmc.DivergenceWarning):
        drawn = hmc.sample(
            hmc.init(torch.zeros(50, 2), broken), broken, 0.4, 3, 20, generator=seeded()
        )

    assert (drawn.positions[..., 0] <= 0.5).all()
    assert drawn.info.divergent.any()
    assert not (drawn.info.accepted & drawn.info.divergent).any()


def test_no_chain_moves_to_where_the_gradient_is_not_a_number() -> None:
    # Beyond 0.3 the density is finite, but its gradient is the slope of a root at zero, times zero.
    def cusp(z: Tensor) -> Tensor:
        below = z[..., 0] < 0.3
        return -0.5 * (z**2).sum(-1) - (below * (0.3 - z[..., 0])).sqrt()

    before = hmc.init(torch.zeros(50, 1), cusp)
    assert cusp(torch.ones(1, 1)).isfinite()
    after, info = hmc.step(before, cusp, 1.0, 1, generator=seeded())

    assert 5 < info.divergent.sum() < 45
    assert torch.equal(after.position[info.divergent], before.position[info.divergent])
    assert (after.position < 0.3).all()
    assert after.gradient.isfinite().all()


def test_divergences_are_reported_once_with_their_number() -> None:
    z = torch.tensor([[0.1, 0.1], [40.0, 40.0], [-0.1, 0.2], [35.0, 0.0]])

    with pytest.warns(hmc.DivergenceWarning, match="10 of 20 proposals .* in 2 of 4") as caught:
        hmc.sample(hmc.init(z, steep), steep, 0.1, 10, 5, generator=seeded())

    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_what_diverges_in_the_warm_up_is_not_reported() -> None:
    state = hmc.init(torch.zeros(3, 2), gaussian)
    assert hmc.step(state, gaussian, 3.0, 20, generator=seeded())[1].divergent.any()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = hmc.sample(state, gaussian, 3.0, 20, 20, warm_up=60, generator=seeded())

    assert not drawn.info.divergent.any()


# -- Errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_chain_cannot_start_where_the_density_is_not_finite(value: float) -> None:
    z = torch.zeros(2, 3, 2)
    z[1, 2] = 5

    def broken(z: Tensor) -> Tensor:
        return torch.where(z[..., 0] > 1, value, -(z**2).sum(-1))

    with pytest.raises(
        hmc.InitialPositionError, match=rf"found {value} .* in chain \(1, 2\) \(1 of 6"
    ):
        hmc.init(z, broken)


def test_a_chain_cannot_start_where_the_gradient_is_not_finite() -> None:
    with pytest.raises(hmc.InitialPositionError, match=r"found 0\.0 and a gradient of norm"):
        hmc.init(torch.zeros(2, 2), lambda z: (z**2).sum(-1).sqrt())


@pytest.mark.parametrize("wrong", [lambda z: z, lambda z: z.sum(), lambda z: gaussian(z)[:, None]])
def test_the_log_density_has_the_chains_shape(wrong) -> None:
    with pytest.raises(ValueError, match=r"log_density: expected the shape \(4,\) for positions"):
        hmc.init(torch.zeros(4, 2), wrong)


def test_the_log_density_is_differentiable() -> None:
    with pytest.raises(ValueError, match="log_density: expected a differentiable result"):
        hmc.init(torch.zeros(4, 2), lambda z: gaussian(z).detach())


@pytest.mark.parametrize("z", [torch.tensor(1.0), torch.zeros(4, 2, dtype=torch.int64)])
def test_positions_are_vectors_of_real_numbers(z: Tensor) -> None:
    with pytest.raises(ValueError, match=r"position: expected floating-point numbers of shape"):
        hmc.init(z, lambda z: z.sum(-1))


BAD_STEP_SIZES = {
    "zero": (0.0, "positive numbers, found 0.0"),
    "negative": (-0.1, "positive numbers, found -0.1"),
    "not a number": (math.nan, "positive numbers, found nan"),
    "one of them": (torch.tensor([0.1, 0.2, -0.3, 0.1]), "positive numbers, found -0.3"),
    "too few": (torch.full((3,), 0.1), r"the chains' shape \(4,\), found \(3,\)"),
    "more dimensions": (torch.full((2, 1), 0.1), r"the chains' shape \(4,\), found \(2, 1\)"),
}


@pytest.mark.parametrize(("step_size", "message"), BAD_STEP_SIZES.values(), ids=BAD_STEP_SIZES)
def test_step_sizes_are_positive_and_fit_the_chains(step_size, message: str) -> None:
    state = hmc.init(torch.zeros(4, 2), gaussian)
    with pytest.raises(ValueError, match=f"step_size: expected .*{message}"):
        hmc.step(state, gaussian, step_size, 3)
    with pytest.raises(ValueError, match=f"step_size: expected .*{message}"):
        hmc.adapt(step_size, torch.ones(4))
    with pytest.raises(ValueError, match=f"step_size: expected .*{message}"):
        hmc.sample(state, gaussian, step_size, 3, 2, warm_up=1)


def test_counts_and_targets_are_checked() -> None:
    state = hmc.init(torch.zeros(4, 2), gaussian)
    with pytest.raises(ValueError, match="leapfrog steps: expected at least 1, found 0"):
        hmc.step(state, gaussian, 0.1, 0)
    with pytest.raises(ValueError, match="draws: expected at least 1, found 0"):
        hmc.sample(state, gaussian, 0.1, 3, 0)
    with pytest.raises(ValueError, match="warm_up: expected at least 0, found -1"):
        hmc.sample(state, gaussian, 0.1, 3, 1, warm_up=-1)
    for jitter in (-0.1, 1.0, math.nan):
        with pytest.raises(ValueError, match=f"jitter: expected a share .* found {jitter}"):
            hmc.sample(state, gaussian, 0.1, 3, 1, jitter=jitter)
    for target in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError, match=f"target: expected .* found {target}"):
            hmc.adapt(0.1, torch.ones(4), target=target)
    with pytest.raises(ValueError, match=r"rate: expected a factor above 1, found 1\.0"):
        hmc.adapt(0.1, torch.ones(4), rate=1.0)


# -- Diagnostics -------------------------------------------------------------------------------


def test_diagnostics_are_arvizs_of_each_coordinate() -> None:
    draws = torch.randn(200, 4, 3, generator=seeded(17)).cumsum(0) * 0.1
    draws[..., 1] = torch.randn(200, 4, generator=seeded(16))

    rhat, ess = hmc.diagnostics(draws)

    for coordinate in range(3):
        chains = draws[..., coordinate].T.numpy()  # (chain, draw), as ArviZ has it
        assert rhat[coordinate].item() == pytest.approx(float(array_stats.rhat(chains)))
        assert ess[coordinate].item() == pytest.approx(float(array_stats.ess(chains)))
    assert rhat[1] < 1.02 < rhat[0]
    assert ess[0] < 100 < ess[1]


def test_diagnostics_say_when_chains_disagree() -> None:
    draws = torch.randn(200, 4, 2, generator=seeded(18))
    draws[:, 0, 1] += 5
    rhat, _ = hmc.diagnostics(draws)
    assert rhat[0] < 1.02
    assert rhat[1] > 1.3


@pytest.mark.parametrize("shape", [(200, 2), (3, 4, 2), (9, 4, 5, 2)])
def test_diagnostics_check_their_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"positions: expected the shape \(S, C, J\)"):
        hmc.diagnostics(torch.zeros(shape))


@pytest.mark.parametrize(("drop", "divergent"), [(999.0, False), (1_001.0, True)])
def test_an_energy_error_above_1000_nats_is_a_divergence(drop: float, divergent: bool) -> None:
    def cliff(z: Tensor) -> Tensor:  # flat around the start, which stands so much higher
        return 0 * z.sum(-1) - drop * (z[..., 0] != 0)

    _, info = hmc.step(hmc.init(torch.zeros(1, 1), cliff), cliff, 0.1, 3, generator=seeded())
    assert info.energy_error.item() == pytest.approx(drop)
    assert info.divergent.item() == divergent


def test_the_warm_up_shortens_its_moves_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    state, tried, step = hmc.init(torch.zeros(4, 2), gaussian), [], hmc.step

    def spy(state: hmc.State, log_density: object, size: Tensor, *rest: int, **other: object):
        tried.append(size)
        return step(state, log_density, size, *rest, **other)

    monkeypatch.setattr(hmc, "step", spy)
    monkeypatch.setattr(hmc, "adapt", lambda size, *given, **settings: size)
    hmc.sample(state, gaussian, 0.1, 1, 1, warm_up=500, jitter=0.5, generator=seeded())
    assert_mean(torch.stack(tried) / 0.1, 0.75)


def test_a_chain_that_diverged_once_is_one_of_those_that_did(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state, step = hmc.init(torch.zeros(3, 2), gaussian), hmc.step
    divergent = iter([[0, 1, 0], [0, 0, 0], [0, 1, 1]])

    def stepped(*given: object, **settings: object) -> tuple[hmc.State, hmc.Info]:
        state, info = step(*given, **settings)
        return state, info._replace(divergent=torch.tensor(next(divergent), dtype=torch.bool))

    monkeypatch.setattr(hmc, "step", stepped)
    with pytest.warns(hmc.DivergenceWarning, match="3 of 9 proposals .* in 2 of 3 chains"):
        hmc.sample(state, gaussian, 0.1, 1, 3, generator=seeded())
