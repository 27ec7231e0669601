"""Algorithm 1."""

import copy
import functools

import pytest
import torch
from known_answers import closed_form_bound, linear_gaussian
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, kl_divergence

from aevb import adagrad, auto_encoding, estimators, models

ESTIMATORS = {"A": estimators.sgvb_a, "B": estimators.sgvb_b}
both_estimators = pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=ESTIMATORS)


def small_vae() -> models.VAE:
    return models.bernoulli_vae(7, 5, 2, torch.Generator().manual_seed(2), std=0.5)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def minibatches(count: int) -> list[Tensor]:
    return list(torch.rand(count, 10, 7, generator=seeded(1)))


def test_init_holds_what_a_step_needs() -> None:
    model, generator = small_vae(), seeded()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    state = auto_encoding.init(model, optimizer, generator)

    assert state == (model, optimizer, generator)
    assert state._fields == ("model", "optimizer", "generator")


@both_estimators
@pytest.mark.parametrize("samples", [1, 3])
def test_a_step_is_the_update_by_hand(estimator, samples: int) -> None:
    model, by_hand, generator = small_vae(), small_vae(), seeded()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    state = auto_encoding.init(model, optimizer, seeded())

    for x in minibatches(3):  # more than one: nothing is left over from the step before
        state, _ = auto_encoding.step(state, x, estimator=estimator, samples=samples)

        bounds = estimator(by_hand, x, samples, generator)
        ascent = torch.autograd.grad(bounds.sum(), list(by_hand.parameters()))
        with torch.no_grad():
            for w, g in zip(by_hand.parameters(), ascent, strict=True):
                w += 0.01 * g

    for found, expected in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    for found, before in zip(model.parameters(), small_vae().parameters(), strict=True):
        assert (found != before).all()


def test_a_step_with_adagrad_is_the_update_by_hand() -> None:
    model, by_hand, generator = small_vae(), small_vae(), seeded()
    optimizer = adagrad.Adagrad(model.parameters(), 0.1, prior_weight=0.02, warm_up=2)
    state = auto_encoding.init(model, optimizer, seeded())
    accumulated = [torch.zeros_like(w) for w in by_hand.parameters()]

    for n, x in enumerate(minibatches(5)):
        state, _ = auto_encoding.step(state, x)

        objective = estimators.sgvb_b(by_hand, x, 1, generator).sum()
        ascent = torch.autograd.grad(objective, list(by_hand.parameters()))
        with torch.no_grad():
            for w, g, square in zip(by_hand.parameters(), ascent, accumulated, strict=True):
                g = g - 0.02 * w
                square += g**2
                w += 0.1 * (n >= 2) * g / (square + 1e-8).sqrt()

    for found, expected in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@both_estimators
def test_the_bound_is_that_before_the_update(estimator) -> None:
    model = small_vae()
    before = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    (x,) = minibatches(1)

    state = auto_encoding.init(model, optimizer, seeded())
    _, info = auto_encoding.step(state, x, estimator=estimator, samples=2)

    assert info.bound.shape == (10,)
    assert not info.bound.requires_grad
    assert torch.equal(info.bound, estimator(before, x, 2, seeded()))
    assert (info.bound != estimator(model, x, 2, seeded())).all()


def test_estimator_b_with_one_sample_is_the_default() -> None:
    (x,) = minibatches(1)
    bounds = []
    for settings in ({}, {"estimator": estimators.sgvb_b, "samples": 1}):
        model = small_vae()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        state = auto_encoding.init(model, optimizer, seeded())
        bounds.append(auto_encoding.step(state, x, **settings)[1].bound)
    assert torch.equal(*bounds)


def test_steps_draw_from_the_states_generator_alone() -> None:
    ends = []
    for seed in (0, 0, 1):
        model = small_vae()
        before = torch.get_rng_state()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        state = auto_encoding.init(model, optimizer, seeded(seed))
        for x in minibatches(3):
            state, _ = auto_encoding.step(state, x)
        assert torch.equal(torch.get_rng_state(), before)
        ends.append(list(model.parameters()))

    assert all(map(torch.equal, ends[0], ends[1]))
    assert not any(map(torch.equal, ends[0], ends[2]))


def linear_gaussian_data(n: int) -> Tensor:
    decoder = linear_gaussian(4, 1).generative_model
    z = torch.randn(n, 1, generator=seeded(6))
    noise = decoder.noise_scale * torch.randn(n, 4, generator=seeded(7))
    return (z @ decoder.weight.T + decoder.bias + noise).detach()


def average_bound(model: models.LinearGaussian, x: Tensor) -> float:
    """Exactly: no noise hides a small change."""
    with torch.no_grad():
        q = model.recognition_model(x)
        return closed_form_bound(model, x, q.mean, q.stddev).mean().item()


@both_estimators
def test_learning_to_recognize_raises_the_bound_to_the_evidence(estimator) -> None:
    # theta is the truth and stays; phi is learnt. The posterior can be represented.
    torch.manual_seed(0)
    model, x = linear_gaussian(4, 1), linear_gaussian_data(500)
    evidence = model.log_evidence(x).mean().item()
    optimizer = adagrad.Adagrad(model.recognition_model.parameters(), 0.1, warm_up=10)
    state = auto_encoding.init(model, optimizer, seeded())
    step = functools.partial(auto_encoding.step, estimator=estimator)

    bounds = [average_bound(model, x)]
    for n in range(1, 1501):
        rows = torch.randint(500, (100,), generator=state.generator)
        state, _ = step(state, x[rows])
        if n % 500 == 0:
            bounds.append(average_bound(model, x))

    assert all(bound < evidence for bound in bounds)
    assert bounds == sorted(bounds)
    assert evidence - bounds[0] > 1.0
    assert evidence - bounds[-1] < 0.05
    q = model.recognition_model(x)
    posterior = model.posterior(x)
    gap = kl_divergence(diagonal(q.mean, q.stddev), posterior).mean().item()
    assert gap == pytest.approx(evidence - bounds[-1], rel=1e-6)  # eq. 1


def diagonal(mean: Tensor, scale: Tensor) -> MultivariateNormal:
    return MultivariateNormal(mean, torch.diag_embed(scale**2))


@both_estimators
def test_learning_everything_finds_the_data_distribution(estimator) -> None:
    # From a wrong theta: the evidence of the data rises nearly to the truth's, with the bound.
    torch.manual_seed(0)
    x = linear_gaussian_data(500)
    truth = linear_gaussian(4, 1).log_evidence(x).mean().item()
    model = models.LinearGaussian(0.1 * torch.ones(4, 1), torch.zeros(4), 0.7)
    start = model.log_evidence(x).mean().item()
    optimizer = adagrad.Adagrad(model.parameters(), 0.1, prior_weight=100 / 500, warm_up=10)
    state = auto_encoding.init(model, optimizer, seeded())

    for _ in range(1500):
        rows = torch.randint(500, (100,), generator=state.generator)
        state, _ = auto_encoding.step(state, x[rows], estimator=estimator)

    evidence = model.log_evidence(x).mean().item()
    assert average_bound(model, x) < evidence
    assert start < truth - 1
    assert abs(evidence - truth) < 0.1  # nine parameters fitted to 500 points gain about 0.01
    assert truth - average_bound(model, x) < 0.15


def test_a_model_of_ones_own_can_be_trained() -> None:
    # All that a step asks of a model is what the estimators ask of it.
    encoder = nn.Sequential(nn.Linear(4, 6), models.mlp.GaussianMLP(6, 5, 1))
    model, x = linear_gaussian(4, 1, encoder), linear_gaussian_data(100)
    state = auto_encoding.init(model, torch.optim.Adam(model.parameters(), 0.01), seeded())
    before = average_bound(model, x)
    for _ in range(50):
        state, _ = auto_encoding.step(state, x)
    assert average_bound(model, x) > before
