"""Stacked models. The data are synthetic."""

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from one_step import ALGORITHMS, MODELS
from torch import Tensor

from aevb import (
    _run,
    adagrad,
    data,
    estimators,
    experiments,
    models,
    results,
    training,
)
from aevb.stack import Stack

CPU = torch.device("cpu")
LATENT_DIMS = (2, 5, 3)


class Noise:
    """Every draw of the stack, and of each member the part that is its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.draws: dict[int | None, list[Tensor]] = {None: []}
        self.member: int | None = None
        for name in ("rand", "randn"):
            monkeypatch.setattr(torch, name, self._drawing(getattr(torch, name)))

    def _drawing(self, draw: Any) -> Any:
        def drawn(shape: tuple[int, ...], **settings: Any) -> Tensor:
            if self.member is None:
                self.draws[None].append(draw(shape, **settings))
                return self.draws[None][-1]
            whole = self.draws[None][len(self.draws.setdefault(self.member, []))]
            own = whole.select(-3, self.member)[..., : shape[-1]].clone()
            assert own.shape == torch.Size(shape)
            self.draws[self.member].append(own)
            return own

        return drawn


def made(likelihood: str, latent_dims: tuple[int, ...] = LATENT_DIMS) -> list[models.VAE]:
    generator = torch.Generator().manual_seed(3)
    return [MODELS[likelihood](12, 9, n, generator, 0.3) for n in latent_dims]


def state_of(algorithm: str, model: Any) -> Any:
    optimizer = adagrad.Adagrad(model.parameters(), 0.05, prior_weight=0.1, warm_up=2)
    return ALGORITHMS[algorithm].init(model, optimizer, torch.Generator().manual_seed(4))


@pytest.mark.parametrize("likelihood", MODELS)
@pytest.mark.parametrize(
    ("algorithm", "settings"),
    [
        ("aevb", {}),
        ("aevb", {"samples": 3}),
        ("aevb", {"estimator": estimators.sgvb_a}),
        ("wake-sleep", {}),
    ],
    ids=str,
)
def test_a_step_of_a_stack_is_a_step_of_each_member(
    algorithm: str, settings: dict[str, Any], likelihood: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = state_of(algorithm, Stack(made(likelihood)))
    alone = [state_of(algorithm, model) for model in made(likelihood)]
    noise = Noise(monkeypatch)
    step = ALGORITHMS[algorithm].step
    for n in range(8):
        x = torch.empty(len(alone), 6, 12).uniform_(generator=torch.Generator().manual_seed(n))
        noise.draws, noise.member = {None: []}, None
        _, info = step(stack, x, **settings)
        for k, state in enumerate(alone):
            noise.member = k
            _, expected = step(state, x[k], **settings)
            torch.testing.assert_close(info.bound[k], expected.bound, rtol=1e-10, atol=1e-10)
    for member, state in zip(stack.model.members, alone, strict=True):
        for (name, found), expected in zip(
            member.named_parameters(), state.model.parameters(), strict=True
        ):
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12, msg=name)


def test_the_parameters_are_the_members_own() -> None:
    members = made("gaussian")
    stack = Stack(members)
    assert stack.latent_dim == 5
    assert stack.members == tuple(members)
    own = {id(p) for member in members for p in member.parameters()}
    assert {id(p) for p in stack.parameters()} == own


def test_a_latent_variable_that_a_member_lacks_changes_nothing() -> None:
    stack = Stack(made("bernoulli"))
    q = stack.recognition_model(torch.rand(3, 6, 12)).base_dist
    assert not q.loc[0, :, 2:].any()
    assert (q.scale[0, :, 2:] == 1).all()
    z = torch.randn(1, 3, 6, 5)
    other = z.clone()
    other[:, 0, :, 2:] += 1
    one, same = (stack.generative_model(at).base_dist.logits[:, 0] for at in (z, other))
    assert torch.equal(one, same)


def test_models_that_are_not_alike_are_refused() -> None:
    one, other = models.bernoulli_vae(12, 9, 2), models.bernoulli_vae(12, 8, 2)
    with pytest.raises(ValueError, match=r"of the shape \(9, 2\) but for .* \(8, 2\) at 1$"):
        Stack([one, other])
    with pytest.raises(
        ValueError, match=r"expected the parameters .* found .*log_variance.* at 1$"
    ):
        Stack([one, models.gaussian_vae(12, 9, 2)])
    with pytest.raises(ValueError, match="expected at least one, found none"):
        Stack([])


def runs() -> list[experiments.LowerBound]:
    small = {"hidden": 8, "minibatch": 10, "samples": 20_000, "preset": "smoke"}
    return [
        experiments.LowerBound("mnist", "aevb", n, seed=seed, keep_weights=n == 5, **small)
        for n, seed in ((3, 0), (5, 0), (3, 1))
    ]


@pytest.fixture
def synthetic(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = torch.empty(250, 20, dtype=torch.float32).uniform_(generator=torch.Generator())
    images = data.Dataset("synthetic", pixels[:200], pixels[200:], (4, 5), "synthetic")
    monkeypatch.setattr(data, "mnist", lambda path=None: images)


def trained(path: Path) -> list[results.Record]:
    (records,) = training.together([_run._stored(runs(), path, CPU, {}, {}, False)])
    return records


def test_each_run_of_a_stack_has_its_record(synthetic: None, tmp_path: Path) -> None:
    records = trained(tmp_path / "stacked")
    for experiment, record in zip(runs(), records, strict=True):
        alone = experiments.run(experiment, tmp_path / "alone")
        assert results.load(record.path) == record
        assert experiments.specification(record) == experiment
        assert record.provenance["stacked"] == [e.name for e in runs()]
        assert record.curves.keys() == alone.curves.keys()
        assert record.curves["samples"] == alone.curves["samples"]
        for curve in ("test", "train", "train_running"):
            assert record.curves[curve][-1] == pytest.approx(alone.curves[curve][-1], abs=0.1)
        assert (record.weights is None) == (experiment.latent_dim == 3)
    assert records[0].curves["test"] != records[2].curves["test"]
    model = experiments.trained_model(records[1])
    bound = training.lower_bound(model, data.mnist().test, torch.Generator())
    assert bound == pytest.approx(records[1].curves["test"][-1], abs=0.5)


def test_an_interrupted_stack_ends_bit_equal(
    synthetic: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(tmp_path / "whole")

    def stopped(store: Any, *given: Any) -> None:
        store(*given)
        if given[2]["samples"] > 11_000:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        often = functools.partial(training.stages, checkpoint_seconds=0.0)
        patch.setattr(training, "stages", often)
        store = functools.partial(stopped, training.checkpoints.store)
        patch.setattr(training.checkpoints, "store", store)
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "again")
    assert list(tmp_path.glob("again/*/*.checkpoint.safetensors"))
    assert [r.curves for r in trained(tmp_path / "again")] == [r.curves for r in whole]
    assert not list(tmp_path.glob("again/*/*.checkpoint.safetensors"))


def test_runs_alike_differ_in_latent_variables_and_seed_alone() -> None:
    everything = [
        *experiments.figure_2(),
        *experiments.figure_2(seed=1),
        *experiments.figure_3(),
        experiments.LowerBound(precision="bfloat16"),
    ]
    groups = experiments.alike(everything)
    assert sorted(e.name for group in groups for e in group) == sorted(e.name for e in everything)
    sizes = {(g[0].figure, g[0].dataset, g[0].algorithm, g[0].step_size): len(g) for g in groups}
    assert sizes["figure-2", "mnist", "aevb", 0.02] == 8  # N_z = 20 has a step size of its own
    assert sizes["figure-2", "frey-face", "wake-sleep", 0.02] == 8
    assert all(len(g) == 1 for g in groups if g[0].figure == "figure-3")
