"""Appendix C: networks that return distributions."""

import math

import pytest
import torch
from torch.autograd import gradcheck
from torch.distributions import Bernoulli, Normal
from torch.func import functional_call

from aevb import mlp

GAUSSIAN = {"plain": False, "sigmoid mean": True}


def networks(inputs: int = 3, hidden: int = 5, outputs: int = 4) -> dict[str, torch.nn.Module]:
    built = {
        "Bernoulli": mlp.BernoulliMLP(inputs, hidden, outputs),
        "Gaussian": mlp.GaussianMLP(inputs, hidden, outputs),
        "Gaussian, sigmoid mean": mlp.GaussianMLP(inputs, hidden, outputs, squash_mean=True),
    }
    for network in built.values():
        mlp.initialize(network, torch.Generator().manual_seed(3), std=0.5)
    return built


NAMES = list(networks())


def test_the_bernoulli_network_is_equation_11() -> None:
    network = networks()["Bernoulli"]
    z, x = torch.randn(6, 3), torch.rand(6, 4)  # real-valued pixels, as in the experiments
    w1, b1, w2, b2 = network.parameters()

    y = 1 / (1 + torch.exp(-(torch.tanh(z @ w1.T + b1) @ w2.T + b2)))
    expected = (x * y.log() + (1 - x) * (1 - y).log()).sum(-1)

    torch.testing.assert_close(network(z).log_prob(x), expected)
    torch.testing.assert_close(network(z).mean, y)


def test_the_bernoulli_network_agrees_with_torch_on_binary_pixels() -> None:
    network = networks()["Bernoulli"]
    z, x = torch.randn(6, 3), torch.randint(2, (6, 4)).double()

    expected = Bernoulli(probs=network(z).mean).log_prob(x).sum(-1)

    torch.testing.assert_close(network(z).log_prob(x), expected)


@pytest.mark.parametrize("squash_mean", GAUSSIAN.values(), ids=GAUSSIAN)
def test_the_gaussian_network_is_equation_12(squash_mean: bool) -> None:
    network = mlp.GaussianMLP(3, 5, 4, squash_mean=squash_mean)
    mlp.initialize(network, std=0.5)
    z, x = torch.randn(6, 3), torch.randn(6, 4)
    w3, b3, w4, b4, w5, b5 = network.parameters()

    h = torch.tanh(z @ w3.T + b3)
    mean, variance = h @ w4.T + b4, torch.exp(h @ w5.T + b5)
    if squash_mean:
        mean = 1 / (1 + torch.exp(-mean))
    terms = -0.5 * (math.log(2 * math.pi) + variance.log() + (x - mean) ** 2 / variance)

    torch.testing.assert_close(network(z).log_prob(x), terms.sum(-1))
    torch.testing.assert_close(
        network(z).log_prob(x), Normal(mean, variance**0.5).log_prob(x).sum(1)
    )
    torch.testing.assert_close(network(z).mean, mean)
    torch.testing.assert_close(network(z).variance, variance)


def test_the_sigmoid_keeps_the_mean_between_0_and_1() -> None:
    network = mlp.GaussianMLP(3, 5, 400, squash_mean=True)
    mlp.initialize(network, std=5.0)
    plain = mlp.GaussianMLP(3, 5, 400)
    plain.load_state_dict(network.state_dict())
    z = torch.randn(50, 3)

    assert ((network(z).mean >= 0) & (network(z).mean <= 1)).all()
    assert ((plain(z).mean < 0) | (plain(z).mean > 1)).any()
    torch.testing.assert_close(network(z).mean, plain(z).mean.sigmoid())


@pytest.mark.parametrize("name", NAMES)
def test_gradients_agree_with_finite_differences(name: str) -> None:
    network = networks()[name]
    given, x = torch.randn(2, 3), torch.rand(2, 4)
    names, values = zip(*network.named_parameters(), strict=True)

    def log_prob(given: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        named = dict(zip(names, parameters, strict=True))
        return functional_call(network, named, given).log_prob(x)

    assert gradcheck(log_prob, (given.requires_grad_(), *values))


@pytest.mark.parametrize("name", NAMES)
def test_shapes(name: str) -> None:
    network = networks()[name]

    for batch in [(), (6,), (2, 6)]:
        distribution = network(torch.randn(*batch, 3))
        assert distribution.batch_shape == batch
        assert distribution.event_shape == (4,)
        assert distribution.log_prob(torch.rand(4)).shape == batch


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    network = networks()[name]

    network(torch.randn(6, 3)).log_prob(torch.rand(6, 4)).sum().backward()

    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().min() > 0, parameter_name


def test_initialize_draws_every_parameter_with_the_standard_deviation() -> None:
    network = mlp.GaussianMLP(100, 200, 300)
    seeded = torch.Generator().manual_seed(0)  # see the note on random tests in conftest.py
    mlp.initialize(network, seeded, std=0.01)

    for name, parameter in network.named_parameters():
        n = parameter.numel()
        assert parameter.mean().abs() < 4 * 0.01 / n**0.5, name
        assert abs(parameter.std() / 0.01 - 1) < 4 / (2 * n) ** 0.5, name  # s.e. of a std


def test_initialize_draws_the_papers_standard_deviation_by_default() -> None:
    network, same = networks()["Bernoulli"], networks()["Bernoulli"]

    mlp.initialize(network, torch.Generator().manual_seed(0))
    mlp.initialize(same, torch.Generator().manual_seed(0), std=0.01)

    for ours, expected in zip(network.parameters(), same.parameters(), strict=True):
        assert torch.equal(ours, expected)


def test_initialize_is_decided_by_the_generator() -> None:
    def drawn(seed: int) -> list[torch.Tensor]:
        network = mlp.BernoulliMLP(3, 5, 4)
        mlp.initialize(network, torch.Generator().manual_seed(seed))
        return list(network.parameters())

    torch.manual_seed(1)
    first = drawn(0)
    torch.manual_seed(2)

    assert all(map(torch.equal, first, drawn(0)))
    assert not any(map(torch.equal, first, drawn(1)))


@pytest.mark.parametrize("std", [-0.01, float("nan"), float("inf")])
def test_initialize_refuses_a_bad_standard_deviation(std: float) -> None:
    network = mlp.BernoulliMLP(3, 5, 4)
    before = [parameter.clone() for parameter in network.parameters()]

    with pytest.raises(ValueError, match=f"^std: expected .*, found {std}$"):
        mlp.initialize(network, std=std)

    assert all(map(torch.equal, network.parameters(), before))


def test_initialize_takes_zero() -> None:
    network = mlp.BernoulliMLP(3, 5, 4)
    mlp.initialize(network, std=0)
    assert all(not parameter.any() for parameter in network.parameters())
