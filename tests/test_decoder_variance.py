"""The study's two other variances: what they keep of eq. 12, and what they change."""

import copy
import math

import pytest
import torch
from torch.distributions import Normal

from aevb import data, decoder_variance, experiments, mlp, models, replay
from aevb.decoder_variance import GRAY_LEVEL, ConstantVariance, FlooredVariance

KINDS = {"floored": FlooredVariance, "constant": ConstantVariance}


def drawn(kind: type[mlp.GaussianMLP], std: float = 0.7) -> mlp.GaussianMLP:
    network = kind(3, 5, 4, squash_mean=True)
    mlp.initialize(network, torch.Generator().manual_seed(0), std)
    return network


def test_a_floored_variance_is_that_of_eq_12_and_a_gray_levels() -> None:
    z = torch.randn(6, 3)
    usual, floored = drawn(mlp.GaussianMLP)(z), drawn(FlooredVariance)(z)
    torch.testing.assert_close(floored.variance, usual.variance + GRAY_LEVEL**2)
    assert torch.equal(floored.mean, usual.mean)


def test_a_floored_variance_bounds_the_density() -> None:
    network = drawn(FlooredVariance)
    torch.nn.init.constant_(network.log_variance.bias, -1e3)
    pixels = network(torch.randn(1, 3))
    most = -4 * math.log(GRAY_LEVEL * math.sqrt(2 * math.pi))
    assert pixels.log_prob(pixels.mean).item() == pytest.approx(most)


def test_a_constant_variance_is_the_same_for_every_z() -> None:
    network = drawn(ConstantVariance)
    pixels = network(torch.randn(2, 6, 3))
    assert pixels.batch_shape == (2, 6)
    assert torch.equal(pixels.variance, pixels.variance[:1, :1].expand(2, 6, 4))
    torch.testing.assert_close(pixels.stddev[0, 0], (network.log_variance.bias / 2).exp())
    assert len(set(pixels.mean.flatten().tolist())) == 48


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_the_density_is_that_of_its_mean_and_variance(kind: type[mlp.GaussianMLP]) -> None:
    pixels = drawn(kind)(torch.randn(6, 3))
    x = torch.rand(6, 4)
    expected = Normal(pixels.mean, pixels.variance.sqrt()).log_prob(x).sum(-1)
    torch.testing.assert_close(pixels.log_prob(x), expected)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_parameter_has_the_right_gradient(kind: type[mlp.GaussianMLP]) -> None:
    network, z, x = drawn(kind), torch.randn(6, 3), torch.rand(6, 4)
    parameters = dict(network.named_parameters())

    def density(*values: torch.Tensor) -> torch.Tensor:
        given = dict(zip(parameters, values, strict=True))
        return torch.func.functional_call(network, given, (z,)).log_prob(x)

    assert torch.autograd.gradcheck(density, tuple(parameters.values()))


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("algorithm", ["aevb", "wake-sleep"])
def test_an_experiment_trains_with_it_and_is_repeated_from_its_recording(
    algorithm: str, name: str
) -> None:
    experiment = experiments.LowerBound(
        "frey-face", algorithm, 2, hidden=7, minibatch=8, warm_up=1, decoder_variance=name
    )
    x = torch.rand(60, 12, dtype=torch.float32)
    synthetic = data.Dataset("synthetic", x, x, (4, 3), "synthetic")
    state, draw = experiments.start(experiment, synthetic)
    assert type(state.model.generative_model) is KINDS[name]
    step = experiments.step_of(experiment)
    for _ in range(3):
        step(state, next(draw))
    other, same = experiments.start(experiment, synthetic)
    for _ in range(3):
        step(other, next(same))
    recording, _ = replay.record(lambda: step(state, next(draw))[1]), step(other, next(same))
    assert recording.obstacle == ""
    before = copy.deepcopy(state.model.state_dict())
    recording.repeat()
    step(other, next(same))
    for key, value in state.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[key])
        assert not torch.equal(value, before[key])


def test_eq_12_is_the_usual_one() -> None:
    usual = experiments.model_of(experiments.LowerBound("frey-face", latent_dim=2), 12)
    assert type(usual.generative_model) is mlp.GaussianMLP
    assert isinstance(models.gaussian_vae(7, 5, 2).generative_model, mlp.GaussianMLP)
    assert decoder_variance.GRAY_LEVEL == 1 / 256
