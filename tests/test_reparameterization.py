"""Section 2.4: noise and a differentiable map instead of a draw."""

import math

import pytest
import torch
from known_answers import assert_mean
from torch.distributions import Independent, Laplace, LogNormal, Normal

from aevb import reparameterization


def gaussian(mean: torch.Tensor, scale: torch.Tensor) -> Independent:
    return Independent(Normal(mean, scale), 1)


def test_location_scale_is_the_papers_example() -> None:
    epsilon, loc, scale = torch.randn(7, 6, 5), torch.randn(6, 5), torch.rand(6, 5)

    z = reparameterization.location_scale(epsilon, loc, scale)

    assert torch.equal(z, loc + scale * epsilon)
    torch.testing.assert_close((z - loc) / scale, epsilon)  # it can be inverted


def test_location_scale_broadcasts() -> None:
    z = reparameterization.location_scale(torch.zeros(7, 1, 5), torch.ones(6, 1), torch.ones(5))
    assert z.shape == (7, 6, 5)


@pytest.mark.parametrize(("samples", "batch"), [(1, (6,)), (4, (6,)), (4, ()), (3, (2, 6))])
def test_shapes(samples: int, batch: tuple[int, ...]) -> None:
    q = gaussian(torch.zeros(*batch, 5), torch.ones(*batch, 5))
    assert reparameterization.sample(q, samples).shape == (samples, *batch, 5)


def test_a_draw_is_the_map_of_the_generators_noise() -> None:
    q = gaussian(torch.randn(6, 5), torch.rand(6, 5))

    z = reparameterization.sample(q, 3, torch.Generator().manual_seed(8))

    epsilon = torch.randn(3, 6, 5, generator=torch.Generator().manual_seed(8))
    torch.testing.assert_close(z, q.mean + q.stddev * epsilon)


def test_the_draws_have_the_moments_of_q() -> None:
    mean, scale = torch.tensor([[0.5, -2.0], [3.0, 0.0]]), torch.tensor([[1.0, 0.1], [2.0, 0.5]])

    z = reparameterization.sample(
        gaussian(mean, scale), 100_000, torch.Generator().manual_seed(0)
    )  # see the note on random tests in conftest.py

    epsilon = (z - mean) / scale
    for power, moment in enumerate([0.0, 1.0, 0.0, 3.0], start=1):
        assert_mean(epsilon**power, moment)
    flat = epsilon.flatten(1)  # independent across datapoints and across latent variables
    for i in range(4):
        for j in range(i):
            assert_mean(flat[:, i] * flat[:, j], 0.0)


@pytest.mark.parametrize(
    ("f", "expected"),
    [
        (lambda z: z**2, lambda m, s: m**2 + s**2),
        (torch.exp, lambda m, s: math.exp(m + s**2 / 2)),
        (torch.cos, lambda m, s: math.cos(m) * math.exp(-(s**2) / 2)),
        (lambda z: (z > 0).double(), lambda m, s: 0.5 * math.erfc(-m / s / 2**0.5)),
    ],
    ids=["square", "exponential", "cosine", "indicator"],
)
def test_expectations_are_averages_over_the_noise(f, expected) -> None:
    # Eq. 5.
    mean, scale = 0.4, 0.8
    q = gaussian(torch.tensor([mean]), torch.tensor([scale]))

    z = reparameterization.sample(q, 100_000, torch.Generator().manual_seed(0))

    assert_mean(f(z).squeeze(-1), expected(mean, scale))


def test_pathwise_gradients_are_unbiased() -> None:
    # E[z + z^2] = mu + mu^2 + sigma^2, and E[cos z] = cos(mu) exp(-sigma^2 / 2).
    n, mean, scale = 100_000, 0.4, 0.8
    exact = {
        "polynomial": (lambda z: z + z**2, 1 + 2 * mean, 2 * scale),
        "cosine": (
            torch.cos,
            -math.sin(mean) * math.exp(-(scale**2) / 2),
            -scale * math.cos(mean) * math.exp(-(scale**2) / 2),
        ),
    }
    for f, by_mean, by_scale in exact.values():
        mu = torch.full((n, 1), mean, requires_grad=True)
        sigma = torch.full((n, 1), scale, requires_grad=True)
        z = reparameterization.sample(gaussian(mu, sigma), 1, torch.Generator().manual_seed(0))

        f(z).sum().backward()

        assert_mean(mu.grad.squeeze(), by_mean)
        assert_mean(sigma.grad.squeeze(), by_scale)


def test_pathwise_gradients_are_those_of_the_map() -> None:
    mu, sigma = torch.randn(6, 5).requires_grad_(), torch.rand(6, 5).requires_grad_()
    z = reparameterization.sample(gaussian(mu, sigma), 3, torch.Generator().manual_seed(0))

    z.sum().backward()

    epsilon = torch.randn(3, 6, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(mu.grad, torch.full_like(mu, 3.0))
    torch.testing.assert_close(sigma.grad, epsilon.sum(0))


def test_the_generator_decides_the_draws() -> None:
    q = gaussian(torch.zeros(6, 5), torch.ones(6, 5))

    def drawn(seed: int) -> torch.Tensor:
        return reparameterization.sample(q, 2, torch.Generator().manual_seed(seed))

    generator = torch.Generator().manual_seed(0)
    first = reparameterization.sample(q, 2, generator)
    second = reparameterization.sample(q, 2, generator)

    assert torch.equal(first, drawn(0))
    assert not torch.equal(first, drawn(1))
    assert not torch.equal(first, second)


def test_the_global_seed_is_left_alone() -> None:
    before = torch.get_rng_state()
    reparameterization.sample(gaussian(torch.zeros(2), torch.ones(2)), 3, torch.Generator())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_draws_have_the_dtype_of_q(dtype: torch.dtype) -> None:
    q = gaussian(torch.zeros(2, dtype=dtype), torch.ones(2, dtype=dtype))
    assert reparameterization.sample(q).dtype == dtype


@pytest.mark.parametrize(
    "q",
    [
        Normal(torch.zeros(2), torch.ones(2)),
        Independent(Laplace(torch.zeros(2), torch.ones(2)), 1),
        LogNormal(torch.zeros(2), torch.ones(2)),  # it has a base_dist, a Normal
        torch.zeros(2),
    ],
    ids=["not independent", "Laplace", "log-normal", "a tensor"],
)
def test_it_refuses_what_is_no_diagonal_gaussian(q: object) -> None:
    with pytest.raises(TypeError, match=r"^q: expected Independent\(Normal, 1\), found "):
        reparameterization.sample(q)


@pytest.mark.parametrize("samples", [0, -1])
def test_it_refuses_less_than_one_sample(samples: int) -> None:
    q = gaussian(torch.zeros(2), torch.ones(2))
    with pytest.raises(ValueError, match=f"^samples: expected at least 1, found {samples}$"):
        reparameterization.sample(q, samples)
