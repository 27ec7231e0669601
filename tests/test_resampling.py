"""Draws of the prior, chosen by their likelihood."""

import pytest
import torch
from known_answers import assert_mean
from torch import nn
from torch.distributions import Independent

from aevb import models
from aevb.marginal_likelihood import resample


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear_gaussian(dims: int) -> models.LinearGaussian:
    weight = torch.randn(4, dims, generator=seeded(3))
    return models.LinearGaussian(weight, torch.zeros(4), 0.8)


@pytest.mark.parametrize("dims", [1, 2])
def test_with_many_candidates_they_are_draws_of_the_posterior(dims: int) -> None:
    model, x = linear_gaussian(dims), torch.randn(1, 4, generator=seeded(1))
    posterior = model.posterior(x)
    z = torch.cat([resample(model, x, 1_000, generator=seeded(seed)) for seed in range(2_000)])
    scaled = (z - posterior.mean) / posterior.variance.sqrt()
    for j in range(dims):
        assert_mean(scaled[:, j], 0.0)
        assert_mean(scaled[:, j] ** 2, 1.0)


def test_one_candidate_is_a_draw_of_the_prior() -> None:
    z = resample(linear_gaussian(2), torch.zeros(3, 4), 1, generator=seeded())
    assert z.shape == (3, 2)
    assert torch.equal(z[0], z[1])  # the only one there is


def test_a_mode_is_taken_as_often_as_it_is_large() -> None:
    # Two posteriors' worth of mass, at z and at -z.
    model = linear_gaussian(1)
    plain = model.generative_model

    class Folded(nn.Module):
        def forward(self, z: torch.Tensor) -> Independent:
            return plain(z.abs())

    model.generative_model = Folded()
    x = plain(torch.tensor([[1.5]])).mean.detach()
    right = torch.cat(
        [resample(model, x, 500, generator=seeded(seed)) > 0 for seed in range(2_000)]
    )
    assert_mean(right.double().squeeze(), 0.5)


def test_the_generator_decides_the_draws() -> None:
    model, x = linear_gaussian(2), torch.randn(7, 4, generator=seeded(1))
    before = torch.get_rng_state()
    first = resample(model, x, generator=seeded(4))
    assert torch.equal(first, resample(model, x, generator=seeded(4)))
    assert not torch.equal(first, resample(model, x, generator=seeded(5)))
    assert torch.equal(torch.get_rng_state(), before)


def test_what_cannot_be_weighed_is_refused() -> None:
    model = linear_gaussian(2)
    with pytest.raises(ValueError, match=r"^x: expected the shape \(M, D\), found \(4,\)$"):
        resample(model, torch.zeros(4))
    with pytest.raises(ValueError, match="x: expected at least one datapoint, found the"):
        resample(model, torch.zeros(0, 4))
    with pytest.raises(ValueError, match=r"^candidates: expected at least 1, found 0$"):
        resample(model, torch.zeros(1, 4), 0)
    x = torch.zeros(3, 4)
    x[1, 2] = torch.nan
    with pytest.raises(ValueError, match=r"found another value for 1 of 3 datapoints$"):
        resample(model, x)


def test_a_decoder_that_returns_no_number_for_some_candidates_is_refused() -> None:
    model = models.bernoulli_vae(4, 3, 1)
    plain = model.generative_model.forward
    model.generative_model.forward = lambda z: plain(torch.where(z > 1, torch.nan, z))
    with pytest.raises(ValueError, match=r"found another value for 3 of 3 datapoints$"):
        resample(model, torch.zeros(3, 4), 50, generator=seeded())
