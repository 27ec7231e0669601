"""Wake-sleep: two phases, each with an objective of its own."""

import functools
import math

import pytest
import torch
from known_answers import FreeGaussian, assert_mean, closed_form_bound, linear_gaussian
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, LogNormal, Normal

from aevb import adagrad, estimators, mlp, models, reparameterization, wake_sleep


def small_vae() -> models.VAE:
    return models.bernoulli_vae(7, 5, 2, torch.Generator().manual_seed(2), std=0.5)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def data(rows: int = 10, columns: int = 7) -> Tensor:
    return torch.rand(rows, columns, generator=seeded(1))


def frozen(model: nn.Module) -> torch.optim.Optimizer:
    """An optimizer that leaves the gradients to be looked at, and the parameters as they are."""
    return torch.optim.SGD(model.parameters(), lr=0.0)


def gradients(model: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def test_a_step_is_both_phases_by_hand() -> None:
    model, by_hand, generator = small_vae(), small_vae(), seeded()
    state = wake_sleep.init(model, torch.optim.SGD(model.parameters(), lr=0.01), seeded())
    theta, phi = by_hand.generative_model, by_hand.recognition_model

    for x in (data(), 1 - data()):  # more than one: nothing is left over from the step before
        state, info = wake_sleep.step(state, x)

        q = phi(x)
        z = reparameterization.sample(q, 1, generator)[0].detach()
        dreamed = torch.randn(10, 2, generator=generator)
        dreams = wake_sleep.dream(theta(dreamed), None, generator)
        wake, sleep = by_hand.log_joint(x, z), phi(dreams).log_prob(dreamed)
        torch.testing.assert_close(info.bound, wake - q.log_prob(z), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(info.sleep, sleep, rtol=1e-12, atol=1e-12)
        assert not info.bound.requires_grad
        for network, objective in ((theta, wake), (phi, sleep)):
            ascent = torch.autograd.grad(objective.sum(), list(network.parameters()))
            with torch.no_grad():
                for w, g in zip(network.parameters(), ascent, strict=True):
                    w += 0.01 * g

    for found, expected in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    for found, before in zip(model.parameters(), small_vae().parameters(), strict=True):
        assert (found != before).all()


def test_one_adagrad_is_one_a_phase() -> None:
    # What a parameter accumulates is its own, so two optimizers would do the same.
    model, twin = small_vae(), small_vae()
    state = wake_sleep.init(model, adagrad.Adagrad(model.parameters(), 0.1, warm_up=1), seeded())
    for _ in range(3):
        state, _ = wake_sleep.step(state, data())

    generator = seeded()
    phases = [
        adagrad.Adagrad(network.parameters(), 0.1, warm_up=1)
        for network in (twin.generative_model, twin.recognition_model)
    ]
    for _ in range(3):
        with torch.no_grad():
            z = reparameterization.sample(twin.recognition_model(data()), 1, generator)[0]
            dreamed = torch.randn(10, 2, generator=generator)
            dreams = wake_sleep.dream(twin.generative_model(dreamed), None, generator)
        twin.zero_grad()
        (-twin.log_joint(data(), z).sum()).backward()
        phases[0].step()
        twin.zero_grad()
        (-twin.recognition_model(dreams).log_prob(dreamed).sum()).backward()
        phases[1].step()

    for found, expected in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_the_wake_gradient_is_that_of_the_bound_in_theta() -> None:
    # Given q, the bound's gradient in theta is the average of the log joint's.
    mean, scale = torch.tensor([0.3, -0.2]), torch.tensor([0.8, 0.5])
    model = linear_gaussian(3, 2, FreeGaussian(mean, scale))
    x = data(4, 3)
    state = wake_sleep.init(model, frozen(model), seeded())
    exact = torch.autograd.grad(
        closed_form_bound(model, x, mean, scale).sum(), list(model.generative_model.parameters())
    )

    draws = []
    for _ in range(2_000):
        wake_sleep.step(state, x, limits=None)
        draws.append(gradients(model.generative_model))

    assert_mean(-torch.stack(draws), torch.cat([g.flatten() for g in exact]))


class Posterior(nn.Module):
    """The true posterior of a linear-Gaussian model with one latent variable, plus an error."""

    def __init__(self, error: float):
        super().__init__()
        self.shift = nn.Parameter(torch.tensor([error]))
        self.log_scale = nn.Parameter(torch.tensor([error]))
        true = linear_gaussian(3, 1).posterior(torch.cat([torch.zeros(1, 3), torch.eye(3)]))
        self.mean, self.scale = true.mean.detach(), true.variance[0].detach().sqrt()

    def forward(self, x: Tensor) -> Independent:
        mean = self.mean[0] + x @ (self.mean[1:] - self.mean[0])  # it is linear in x
        scale = self.scale * self.log_scale.exp()
        return Independent(Normal(mean + self.shift, scale), 1)


@pytest.mark.parametrize("error", [0.0, 0.3])
def test_the_sleep_gradient_vanishes_at_the_posterior_of_the_dreams(error: float) -> None:
    model = linear_gaussian(3, 1, Posterior(error))
    state = wake_sleep.init(model, frozen(model), seeded())
    draws = []
    for _ in range(2_000):
        wake_sleep.step(state, torch.zeros(1, 3), limits=None)
        draws.append(-gradients(model.recognition_model))

    # E[(z - m - shift) / s'^2] and E[(z - m - shift)^2 / s'^2 - 1], with s' = s exp(error).
    s = linear_gaussian(3, 1).posterior(torch.zeros(1, 3)).variance.sqrt().item()
    scale = s * math.exp(error)
    expected = torch.tensor([-error / scale**2, (s**2 + error**2) / scale**2 - 1])
    assert_mean(torch.stack(draws), expected)


def test_the_bound_of_a_step_is_estimator_a() -> None:
    mean, scale = torch.tensor([0.3]), torch.tensor([0.8])
    model = linear_gaussian(3, 1, FreeGaussian(mean, scale))
    x = data(1, 3).expand(5_000, 3)
    _, info = wake_sleep.step(wake_sleep.init(model, frozen(model), seeded()), x, limits=None)
    assert_mean(info.bound, closed_form_bound(model, x[:1], mean, scale).item())
    draws = estimators.sgvb_a(model, x, 1, seeded())
    torch.testing.assert_close(info.bound, draws.detach(), rtol=1e-12, atol=1e-12)


# -- Dreams ------------------------------------------------------------------------------------


def test_bernoulli_dreams_are_black_and_white() -> None:
    network = mlp.BernoulliMLP(2, 3, 4)
    p = network(torch.ones(20_000, 2))
    dreams = wake_sleep.dream(p, generator=seeded())
    assert dreams.shape == (20_000, 4)
    assert set(dreams.unique().tolist()) == {0.0, 1.0}
    assert_mean(dreams, p.mean[0].detach())


def test_gaussian_dreams_are_sampled_and_moved_into_the_limits() -> None:
    mean = torch.tensor([0.5, 0.98])
    p = Independent(Normal(mean.expand(50_000, 2), 0.1), 1)
    free, kept = (wake_sleep.dream(p, limits, seeded()) for limits in (None, (0.0, 1.0)))
    assert_mean(free, mean)
    assert_mean((free - mean) ** 2, torch.full((2,), 0.01))
    assert free.max() > 1
    assert torch.equal(kept, free.clamp(0, 1))
    assert kept.max() == 1


@pytest.mark.parametrize(
    ("given", "meant"), [({}, (0.0, 1.0)), ({"limits": (0.2, 0.4)}, (0.2, 0.4))]
)
def test_a_step_dreams_within_its_limits(
    given: dict[str, tuple[float, float]], meant: tuple[float, float]
) -> None:
    shown: list[Tensor] = []
    model = models.gaussian_vae(7, 5, 2, seeded(2), std=0.5)
    model.recognition_model.register_forward_pre_hook(lambda _, inputs: shown.extend(inputs))
    wake_sleep.step(wake_sleep.init(model, frozen(model), seeded()), data(50), **given)
    _, dreams = shown  # first the datapoints
    assert (dreams.min().item(), dreams.max().item()) == pytest.approx(meant)


def test_a_dream_has_no_gradient() -> None:
    for network in (mlp.GaussianMLP(2, 3, 4), mlp.BernoulliMLP(2, 3, 4)):
        assert not wake_sleep.dream(network(torch.ones(5, 2))).requires_grad


def test_there_are_as_many_dreams_as_datapoints() -> None:
    model = small_vae()
    _, info = wake_sleep.step(wake_sleep.init(model, frozen(model), seeded()), data(13))
    assert info.bound.shape == info.sleep.shape == (13,)


# -- Learning ----------------------------------------------------------------------------------


def test_it_finds_the_data_distribution_where_the_posterior_can_be_represented() -> None:
    torch.manual_seed(0)
    truth = linear_gaussian(4, 1)
    z = torch.randn(500, 1, generator=seeded(6))
    noise = 0.7 * torch.randn(500, 4, generator=seeded(7))
    x = (truth.generative_model(z).mean + noise).detach()
    model = models.LinearGaussian(0.1 * torch.ones(4, 1), torch.zeros(4), 0.7)
    optimizer = adagrad.Adagrad(model.parameters(), 0.1, prior_weight=100 / 500, warm_up=10)
    state = wake_sleep.init(model, optimizer, seeded())
    step = functools.partial(wake_sleep.step, limits=None)
    before = model.log_evidence(x).mean().item()

    for _ in range(2_000):
        rows = torch.randint(500, (100,), generator=state.generator)
        state, _ = step(state, x[rows])

    after, best = model.log_evidence(x).mean().item(), truth.log_evidence(x).mean().item()
    assert before < best - 1
    assert abs(after - best) < 0.1


def test_steps_draw_from_the_states_generator_alone() -> None:
    ends = []
    for seed in (0, 0, 1):
        model = small_vae()
        before = torch.get_rng_state()
        state = wake_sleep.init(model, torch.optim.SGD(model.parameters(), lr=0.01), seeded(seed))
        for _ in range(3):
            state, _ = wake_sleep.step(state, data())
        assert torch.equal(torch.get_rng_state(), before)
        ends.append(list(model.parameters()))

    assert all(map(torch.equal, ends[0], ends[1]))
    assert not any(map(torch.equal, ends[0], ends[2]))


def test_wrong_arguments_are_refused_by_name() -> None:
    model = small_vae()
    state = wake_sleep.init(model, frozen(model), seeded())
    with pytest.raises(ValueError, match=r"^minibatch: expected the shape \(M, D\), found \(7,\)$"):
        wake_sleep.step(state, torch.zeros(7))
    with pytest.raises(TypeError, match=r"^p: expected Independent\(Bernoulli or Normal, 1\)"):
        wake_sleep.dream(Categorical(torch.ones(3)))
    with pytest.raises(TypeError, match=r"^p: expected Independent\(Bernoulli or Normal, 1\)"):
        wake_sleep.dream(LogNormal(torch.zeros(3, 7), 1.0))
