"""Appendix E: Monte Carlo EM."""

import copy
import math
import re

import pytest
import torch
from known_answers import assert_mean, linear_gaussian
from torch import Tensor, nn

from aevb import checkpoint, hmc, models, monte_carlo_em
from aevb.adagrad import Adagrad


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(2_000 + seed)


def small_vae() -> models.VAE:
    return models.bernoulli_vae(7, 5, 2, seeded(1), std=0.5)


def data(count: int = 12, seed: int = 2) -> Tensor:
    return torch.rand(count, 7, generator=seeded(seed))


def start(model: models.LatentVariableModel, x: Tensor, lr: float = 0.01, seed: int = 0):
    optimizer = torch.optim.SGD(model.generative_model.parameters(), lr=lr)
    return monte_carlo_em.init(model, optimizer, seeded(seed), x)


# -- The state ---------------------------------------------------------------------------------


def test_init_draws_every_latent_vector_from_the_prior() -> None:
    model, before = linear_gaussian(4, 3), torch.get_rng_state()

    state = start(model, torch.zeros(20_000, 4))

    assert state._fields == ("model", "optimizer", "generator", "latents", "step_size")
    assert state.model is model
    assert state.latents.shape == (20_000, 3)
    assert not state.latents.requires_grad
    assert_mean(state.latents, 0.0)
    assert_mean(state.latents**2, 1.0)
    assert state.step_size == 0.01
    assert torch.equal(torch.get_rng_state(), before)


def test_a_step_is_the_algorithm_by_hand() -> None:
    model, by_hand, x = small_vae(), small_vae(), data()
    state = start(model, x)

    generator = seeded()
    z, step_size = torch.randn(12, 2, generator=generator), torch.tensor(0.01)
    for _ in range(3):  # more than one: the latent vectors and the step size are kept
        state, info = monte_carlo_em.step(state, x)

        prior, likelihood = by_hand.prior, by_hand.generative_model

        def log_posterior(z: Tensor, prior=prior, likelihood=likelihood) -> Tensor:
            return prior.log_prob(z) + likelihood(z).log_prob(x)

        chains = hmc.init(z, log_posterior)
        chains, moved = hmc.step(chains, log_posterior, step_size, 10, generator=generator)
        z, step_size = chains.position, hmc.adapt(step_size, moved.acceptance_rate, target=0.9)
        torch.testing.assert_close(info.log_joint, log_posterior(z).detach())
        for _ in range(5):
            objective = by_hand.log_joint(x, z).sum()
            ascent = torch.autograd.grad(objective, list(likelihood.parameters()))
            with torch.no_grad():
                for w, g in zip(likelihood.parameters(), ascent, strict=True):
                    w += 0.01 * g
        torch.testing.assert_close(info.acceptance_rate, moved.acceptance_rate)
        assert torch.equal(info.divergent, moved.divergent)

    torch.testing.assert_close(state.latents, z)
    torch.testing.assert_close(state.step_size, step_size)
    for found, expected in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(found, expected)
    for found, before in zip(
        model.generative_model.parameters(), small_vae().generative_model.parameters(), strict=True
    ):
        assert (found != before).all()


def test_the_log_joint_is_that_of_the_acquired_latents_before_the_updates() -> None:
    model, x = small_vae(), data()
    before, state = copy.deepcopy(model), start(model, x)

    after, info = monte_carlo_em.step(state, x)

    assert info.log_joint.shape == info.acceptance_rate.shape == info.divergent.shape == (12,)
    assert not info.log_joint.requires_grad
    assert (after.latents != state.latents).all()
    torch.testing.assert_close(info.log_joint, before.log_joint(x, after.latents).detach())
    assert (info.log_joint != model.log_joint(x, after.latents)).all()


def test_the_recognition_model_is_not_used() -> None:
    class Untouchable(nn.Module):
        def forward(self, x: Tensor) -> None:
            raise AssertionError("the recognition model was asked")

    model = linear_gaussian(4, 2, Untouchable())
    x = torch.randn(6, 4)
    monte_carlo_em.step(start(model, x), x)

    vae, x = small_vae(), data()
    monte_carlo_em.step(start(vae, x), x)
    for found, before in zip(
        vae.recognition_model.parameters(), small_vae().recognition_model.parameters(), strict=True
    ):
        assert torch.equal(found, before)
        assert found.grad is None


def test_an_iteration_counts_15_samples_a_datapoint() -> None:
    model, x, passes, updates = small_vae(), data(), [], []
    log_joint = model.log_joint

    def counted(x: Tensor, z: Tensor) -> Tensor:
        passes.append((len(x), z.requires_grad))
        return log_joint(x, z)

    model.log_joint = counted
    state = start(model, x)
    step = state.optimizer.step
    state.optimizer.step = lambda: (updates.append(1), step())

    monte_carlo_em.step(state, x, batch=5)

    rows_e = sum(rows for rows, e_step in passes if e_step)
    rows_m = sum(rows for rows, e_step in passes if not e_step)
    assert rows_e == 12 * (1 + 10)  # once where it stands, because the weights have changed
    assert rows_m == 12 * 5
    assert len(updates) == 5


# -- The E-step --------------------------------------------------------------------------------


def test_the_gradient_of_the_posterior_is_that_of_prior_and_likelihood() -> None:
    # grad log N(z; 0, I) = -z, grad log N(x; Wz + b, s^2 I) = W'(x - b - Wz) / s^2
    model, x, z = linear_gaussian(4, 2), torch.randn(6, 4), torch.randn(6, 2)
    decoder = model.generative_model
    error = x - decoder.bias - z @ decoder.weight.T
    expected = -z + error @ decoder.weight / decoder.noise_scale**2

    for batch in (1, 4, 100):
        state = hmc.init(z, lambda z, n=batch: monte_carlo_em._LogJoint.apply(z, x, model, n))
        torch.testing.assert_close(state.gradient, expected.detach())
        torch.testing.assert_close(state.log_density, model.log_joint(x, z).detach())


def test_moves_arrive_at_the_posterior() -> None:
    # The same datapoint 5,000 times: independent draws of one posterior, known in closed form.
    model = linear_gaussian(4, 2)
    x = torch.tensor([[1.5, -0.4, 0.3, 2.0]])
    state = start(model, x.expand(5_000, -1))

    for _ in range(60):
        state, info = monte_carlo_em.step(state, x.expand(5_000, -1), weight_updates=0)

    posterior = model.posterior(x)
    centered = state.latents - posterior.mean.detach()
    assert_mean(centered, 0.0)
    products = centered[:, :, None] * centered[:, None, :]
    assert_mean(products, posterior.covariance_matrix.detach().squeeze())
    assert not info.divergent.any()


@pytest.mark.parametrize("settings", [{}, {"target": 0.6}], ids=["90 percent", "60 percent"])
def test_the_step_size_is_tuned_to_its_target(settings: dict[str, float]) -> None:
    # The balance point is within one step of the rule, a factor of 1.25, of where it ends. A
    # single leapfrog step, because then a larger step size means a lower acceptance rate.
    model = linear_gaussian(4, 2)
    x = torch.randn(2_000, 4, generator=seeded(3))
    one = {"leapfrog_steps": 1, "weight_updates": 0, **settings}
    for first in (0.001, 5.0):
        state = start(model, x)._replace(step_size=torch.tensor(first))
        for _ in range(80):
            state, _ = monte_carlo_em.step(state, x, **one)
        rates = []
        for factor in (1 / 1.25, 1.25):
            moved = state._replace(step_size=state.step_size * factor)
            rates.append(monte_carlo_em.step(moved, x, **one)[1].acceptance_rate.mean())
        assert rates[0] > settings.get("target", 0.9) > rates[1]


# -- The M-step --------------------------------------------------------------------------------


def test_the_gradient_of_the_m_step_is_that_of_the_evidence() -> None:
    # Fisher's identity: at draws of the posterior, the mean of grad log p(x, z) is
    # grad log p(x). One datapoint, 50,000 draws; the E-step leaves their distribution unchanged.
    model, n = linear_gaussian(4, 2), 50_000
    x = torch.tensor([[1.5, -0.4, 0.3, 2.0]])
    state = start(model, x.expand(n, -1), lr=0.0)
    z = model.posterior(x).mean + (
        torch.randn(n, 2, generator=seeded(4))
        @ torch.linalg.cholesky(model.posterior(x).covariance_matrix[0]).T
    )
    state = state._replace(latents=z.detach(), step_size=torch.tensor(0.3))

    state, info = monte_carlo_em.step(state, x.expand(n, -1), weight_updates=1)

    assert info.acceptance_rate.mean() > 0.5
    decoder = model.generative_model
    with torch.no_grad():
        error = (x - decoder.bias - state.latents @ decoder.weight.T) / decoder.noise_scale**2
        rows = {"weight": error[:, :, None] * state.latents[:, None, :], "bias": error}
    parameters = dict(decoder.named_parameters())
    evidence = torch.autograd.grad(model.log_evidence(x).sum(), list(parameters.values()))
    for (name, parameter), exact in zip(parameters.items(), evidence, strict=True):
        torch.testing.assert_close(-parameter.grad / n, rows[name].mean(0))
        assert_mean(rows[name], exact)


def test_em_raises_the_evidence_to_that_of_maximum_likelihood() -> None:
    # Given the noise s, the likelihood is highest at the sample's mean and the W with
    # W W' + s^2 I = its covariance, the smallest eigenvalues replaced by s^2 (probabilistic PCA).
    truth, n = linear_gaussian(4, 2), 1_000
    with torch.no_grad():
        z = torch.randn(n, 2, generator=seeded(5))
        x = truth.generative_model(z).mean + 0.7 * torch.randn(n, 4, generator=seeded(6))
    values, vectors = torch.linalg.eigh((x - x.mean(0)).T @ (x - x.mean(0)) / n)
    weight = vectors[:, 2:] * (values[2:] - 0.7**2).sqrt()
    best = models.LinearGaussian(weight, x.mean(0), 0.7).log_evidence(x).mean().item()
    model = models.LinearGaussian(0.1 * torch.randn(4, 2, generator=seeded(7)), torch.zeros(4), 0.7)
    optimizer = Adagrad(model.generative_model.parameters(), 0.1, warm_up=0)
    state = monte_carlo_em.init(model, optimizer, seeded(), x)

    evidence = [model.log_evidence(x).mean().item()]
    for _ in range(4):
        for _ in range(50):
            state, _ = monte_carlo_em.step(state, x)
        evidence.append(model.log_evidence(x).mean().item())

    gaps = [best - value for value in evidence]
    assert evidence[1] > evidence[0]
    assert gaps[-1] < 0.01 * gaps[0]
    assert min(gaps) > 0


# -- How it is computed ------------------------------------------------------------------------


def test_how_many_go_through_the_network_at_once_changes_nothing() -> None:
    ends = []
    for batch in (1_000, 12, 5, 1):
        model, x = small_vae(), data()
        state = start(model, x)
        for _ in range(4):
            state, info = monte_carlo_em.step(state, x, batch=batch)
        ends.append([state.latents, state.step_size, *info, *model.parameters()])
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0])


def test_it_stops_and_resumes_bit_for_bit(tmp_path) -> None:
    def make(seed: int):
        model, x = models.bernoulli_vae(7, 5, 2, seeded(seed), std=0.5), data()
        optimizer = Adagrad(model.generative_model.parameters(), 0.1, prior_weight=1.0, warm_up=7)
        return monte_carlo_em.init(model, optimizer, seeded(seed), x), x

    def advance(state, x: Tensor, steps: int):
        for _ in range(steps):
            state, info = monte_carlo_em.step(state, x)
        return state, [state.latents, state.step_size, *info, *state.model.parameters()]

    state, x = make(0)
    state, _ = advance(state, x, 3)
    checkpoint.store(tmp_path / "state", state, {})
    _, uninterrupted = advance(state, x, 3)

    fresh, x = make(1)
    checkpoint.load(tmp_path / "state", fresh)
    _, resumed = advance(fresh, x, 3)

    for found, expected in zip(resumed, uninterrupted, strict=True):
        assert torch.equal(found, expected)


def test_a_step_leaves_the_latents_of_its_state_as_they_are() -> None:
    model, x = small_vae(), data()
    state = start(model, x)
    before = state.latents.clone()
    for rows in (None, torch.arange(12)):
        monte_carlo_em.step(state, x, rows=rows)
    assert torch.equal(state.latents, before)


def test_steps_draw_from_the_states_generator_alone() -> None:
    ends, x, states = [], data(), [start(small_vae(), data(), seed=seed) for seed in (0, 0, 1)]
    before = torch.get_rng_state()
    for state in states:
        ends.append(monte_carlo_em.step(state, x)[0].latents)
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])
    assert torch.equal(torch.get_rng_state(), before)


# -- Minibatches -------------------------------------------------------------------------------


def test_a_minibatch_moves_its_own_latents_only() -> None:
    model, x = small_vae(), data()
    state, rows = start(model, x), torch.tensor([7, 2, 11])

    after, info = monte_carlo_em.step(state, x[rows], rows=rows)

    others = torch.ones(12, dtype=torch.bool).index_fill(0, rows, False)
    assert torch.equal(after.latents[others], state.latents[others])
    assert (after.latents[rows] != state.latents[rows]).all()
    assert info.log_joint.shape == (3,)


def test_a_minibatch_keeps_datapoints_and_latents_together() -> None:
    # Datapoints far apart, in a new order each time: a latent vector that met another's datapoint
    # would be far from the posterior mean of its own.
    model = models.LinearGaussian(torch.eye(2), torch.zeros(2), 0.01)
    x = 10 * torch.randn(9, 2, generator=seeded(8))
    state, generator = start(model, x), seeded(9)
    for _ in range(200):
        rows = torch.randperm(9, generator=generator)[:4]
        state, _ = monte_carlo_em.step(state, x[rows], rows=rows, weight_updates=0)

    off = (state.latents - model.posterior(x).mean) / model.posterior(x).stddev
    assert (off.abs() < 5).all()


def test_all_rows_are_the_whole_set() -> None:
    ends = []
    for rows in (None, torch.arange(12)):
        x = data()
        state, info = monte_carlo_em.step(start(small_vae(), x), x, rows=rows)
        ends.append([state.latents, *info, *state.model.parameters()])
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=0)


# -- Errors ------------------------------------------------------------------------------------


def test_the_arguments_are_checked() -> None:
    model, x = small_vae(), data()
    state, optimizer = start(model, x), torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"x: expected the training set, .* found \(7,\)"):
        monte_carlo_em.init(model, optimizer, seeded(), x[0])
    for wrong in (0.0, -1.0, math.inf, math.nan, 1e-330):  # the last is zero in float64
        with pytest.raises(
            ValueError, match=f"step_size: expected a positive number, found {wrong}"
        ):
            monte_carlo_em.init(model, optimizer, seeded(), x, step_size=wrong)
    with pytest.raises(ValueError, match="step_size: expected a positive number, found 1e-46"):
        monte_carlo_em.init(small_vae().float(), optimizer, seeded(), x, step_size=1e-46)
    for wrong in (x[:5], x[0], x[None]):
        with pytest.raises(ValueError, match=r"minibatch: expected the shape \(12, D\)"):
            monte_carlo_em.step(state, wrong)
    with pytest.raises(ValueError, match=r"minibatch: expected the shape \(2, D\)"):
        monte_carlo_em.step(state, x[:3], rows=torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="weight_updates: expected at least 0, found -1"):
        monte_carlo_em.step(state, x, weight_updates=-1)
    with pytest.raises(ValueError, match="batch: expected at least 1, found 0"):
        monte_carlo_em.step(state, x, batch=0)
    with pytest.raises(ValueError, match="leapfrog steps: expected at least 1, found 0"):
        monte_carlo_em.step(state, x, leapfrog_steps=0)


@pytest.mark.parametrize(
    "rows", [[0, 1, 0], [3, -1], [12], [[0, 1]], [0.0, 1.0], [True] * 12], ids=str
)
def test_rows_that_are_none_are_refused_before_anything_moves(rows: list) -> None:
    model, x, given = small_vae(), data(), torch.tensor(rows)
    state = start(model, x)
    noise = state.generator.get_state()
    message = f"rows: expected different indices from 0 to 11, found {given.tolist()}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        monte_carlo_em.step(state, x[: len(rows)], rows=given)
    assert torch.equal(state.generator.get_state(), noise)
    assert all(map(torch.equal, model.parameters(), small_vae().parameters()))


def test_weights_that_are_no_numbers_are_an_error() -> None:
    model, x = small_vae(), data()
    state = start(model, x)
    with torch.no_grad():
        next(model.generative_model.parameters())[0, 0] = torch.nan
    with pytest.raises(hmc.InitialPositionError, match="position: expected a finite log density"):
        monte_carlo_em.step(state, x)
