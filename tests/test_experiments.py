"""The runs behind each figure, from their specification to their record."""

import dataclasses
import functools
import json
import math
import shlex
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence

from aevb import (
    __main__,
    _evaluation,
    _options,
    _run,
    checkpoint,
    data,
    experiments,
    monte_carlo_em,
    reference,
    results,
    training,
)
from aevb.experiments import LowerBound, MarginalLikelihood
from aevb.marginal_likelihood import quadrature, reciprocal_importance_sampling
from aevb.results import Record

GRIDS = [(figure, preset) for figure in experiments.FIGURES for preset in experiments.PRESETS]


load = functools.cache(data.load)


def real(name: str) -> data.Dataset:
    """A real data set, or the reason why the test is skipped."""
    try:
        return load(name)
    except data.DataError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module", autouse=True)
def give_the_memory_back() -> Iterator[None]:
    yield
    load.cache_clear()


@pytest.fixture(scope="module", params=["mnist", "frey-face"])
def smoke(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Record:
    """A record of a smoke run on the real data, in a folder of its own."""
    real(request.param)
    experiment = LowerBound(request.param, latent_dim=2, preset="smoke")
    return experiments.run(experiment, tmp_path_factory.mktemp("smoke"), progress=False)


@pytest.fixture
def synthetic(monkeypatch: pytest.MonkeyPatch) -> data.Dataset:
    """What stands in for both data sets where their contents do not matter; named so."""
    generator = torch.Generator().manual_seed(21)
    pixels = torch.rand(250, 20, generator=generator, dtype=torch.float32)
    made = data.Dataset("synthetic", pixels[:200], pixels[200:], (4, 5), "synthetic")
    monkeypatch.setattr(data, "mnist", lambda path=None: made)
    monkeypatch.setattr(data, "frey_face", lambda path=None, split_seed=0: made)
    return made


def small(**settings: Any) -> LowerBound:
    given = {"hidden": 8, "minibatch": 10, "samples": 5_000, "latent_dim": 2, "preset": "smoke"}
    return LowerBound(**given | settings)


# -- The specification -------------------------------------------------------------------------


def test_the_grid_of_figure_2_is_the_papers() -> None:
    panels = [("mnist", n) for n in (3, 5, 10, 20, 200)]
    panels += [("frey-face", n) for n in (2, 5, 10, 20)]
    assert [(e.algorithm, e.dataset, e.latent_dim) for e in experiments.figure_2()] == [
        (algorithm, *panel) for algorithm in ("aevb", "wake-sleep") for panel in panels
    ]
    for experiment in experiments.figure_2():
        assert experiment.samples == 10**8
        assert experiment.noise_samples == 1
        assert experiment.initial_std == 0.01
        assert experiment.prior
        assert experiment.step_size in (0.01, 0.02, 0.1)
        assert (experiment.hidden, experiment.minibatch, experiment.warm_up) == (
            (500, 100, 100) if experiment.dataset == "mnist" else (200, 500, 100)
        )


def test_the_grid_of_figure_3_is_the_papers() -> None:
    grid = experiments.figure_3()
    assert [(e.n_train, e.algorithm) for e in grid] == [
        (n, algorithm) for n in (1_000, 50_000) for algorithm in ("aevb", "wake-sleep", "mcem")
    ]
    for e in grid:
        assert (e.dataset, e.latent_dim, e.hidden, e.samples) == ("mnist", 3, 100, 60_000_000)
        assert (e.evaluated, e.draws, e.leapfrog_steps) == (1_000, 50, 4)
        assert e.step_size == 0.1
        if e.algorithm == "mcem":
            assert (e.minibatch, e.per_step) == (e.n_train, 15 * e.n_train)
        else:
            assert (e.minibatch, e.per_step) == (100, 100)


def test_figures_4_and_5_look_into_models_whose_weights_are_kept() -> None:
    assert {(e.dataset, e.latent_dim) for e in experiments.figure_4()} == {
        ("frey-face", 2),
        ("mnist", 2),
    }
    assert [(e.dataset, e.latent_dim) for e in experiments.figure_5()] == [
        ("mnist", n) for n in (2, 5, 10, 20)
    ]
    for figure in ("figure-4", "figure-5"):
        for preset in experiments.PRESETS:
            assert all(e.keep_weights for e in experiments.grid(figure, preset))


def test_weights_of_another_setting_are_kept_only_if_asked_for() -> None:
    shorter, other, kept = (
        experiments.select(["figure-4"], settings=settings)
        for settings in (
            {"samples": 1_000},
            {"prior": False},
            {"prior": False, "keep_weights": True},
        )
    )
    assert [{e.keep_weights for e in runs} for runs in (shorter, other, kept)] == [
        {True},
        {False},
        {True},
    ]


@pytest.mark.parametrize(("figure", "preset"), GRIDS)
def test_a_grid_hands_on_preset_and_seed(figure: str, preset: str) -> None:
    for experiment in experiments.grid(figure, preset, seed=3):
        assert (experiment.preset, experiment.seed) == (preset, 3)
        assert json.loads(json.dumps(asdict(experiment))) == asdict(experiment)


def test_the_presets_differ_in_their_budget() -> None:
    for dataset in experiments.LATENT_DIMS:
        budgets = [LowerBound(dataset, preset=preset).samples for preset in experiments.PRESETS]
        assert budgets[0] < budgets[1] < budgets[2] == 10**8
        smoke = LowerBound(dataset, preset="smoke")
        assert smoke.warm_up * smoke.minibatch < smoke.samples / 2  # it really trains
    for e in experiments.figure_3("smoke"):
        updates = e.samples // e.per_step * (5 if e.algorithm == "mcem" else 1)
        assert e.warm_up <= updates / 2


@pytest.mark.parametrize("preset", experiments.PRESETS)
def test_names_are_unique_across_the_grids(preset: str) -> None:
    named: dict[str, experiments.Experiment] = {}
    for figure in experiments.FIGURES:
        for seed in (0, 1):
            for experiment in experiments.grid(figure, preset, seed):
                # Figures share models: one name is one experiment.
                assert named.setdefault(experiment.name, experiment) == experiment
    # Nine panels with two algorithms, MNIST with two latent variables, two panels with three.
    assert len(named) == 2 * (18 + 1 + 6)


def test_a_panels_name_is_short() -> None:
    assert LowerBound("mnist", latent_dim=20).name == "mnist-aevb-nz20-seed0"
    assert LowerBound("frey-face", latent_dim=2, seed=1).name == "frey-face-aevb-nz2-seed1"
    assert MarginalLikelihood(algorithm="mcem", n_train=1_000).name == "mcem-n1000-seed0"


CHANGES = {
    "latent_dim": 7,
    "hidden": 400,
    "minibatch": 50,
    "noise_samples": 2,
    "estimator": "A",
    "step_size": 0.1,
    "warm_up": 0,
    "initial_std": 0.1,
    "prior": False,
    "seed": 1,
    "split_seed": 1,
    "precision": "bfloat16",
    "pixels": "drawn",
    "decoder_variance": "floored",
    "dataset": "frey-face",
}


def test_a_name_tells_every_setting_that_is_not_the_panels() -> None:
    usual = LowerBound("mnist", latent_dim=20)
    names = {usual.name}
    for field, value in CHANGES.items():
        dataset = "frey-face" if field == "decoder_variance" else "mnist"
        changed = LowerBound(**{"dataset": dataset, "latent_dim": 20, field: value})
        assert str(value) in changed.name
        names.add(changed.name)
    assert len(names) == 1 + len(CHANGES)
    both = LowerBound(latent_dim=20, step_size=0.1, estimator="A").name
    assert both == "mnist-aevb-nz20-step-size-0.1-estimator-A-seed0"
    told = {"samples", "preset", "keep_weights", "algorithm"}  # by the record, or the folder
    assert CHANGES.keys() | told == {field.name for field in dataclasses.fields(LowerBound)}


def test_a_default_spelled_out_changes_nothing() -> None:
    spelled = LowerBound("mnist", latent_dim=20, hidden=500, minibatch=100, step_size=0.01)
    assert spelled == LowerBound("mnist", latent_dim=20)
    with pytest.raises(dataclasses.FrozenInstanceError):
        spelled.hidden = 400


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"dataset": "cifar"}, "dataset: expected one of mnist, frey-face; found 'cifar'"),
    ({"algorithm": "mcem"}, "algorithm: expected one of aevb, wake-sleep; found 'mcem'"),
    (
        {"algorithm": "wake-sleep", "estimator": "A"},
        "noise_samples, estimator: expected 1 and B, which wake-sleep does not use; found 1 and A",
    ),
    ({"pixels": "round"}, "pixels: expected one of gray, drawn, thresholded; found 'round'"),
    (
        {"dataset": "frey-face", "pixels": "drawn"},
        "pixels: expected gray on frey-face, found 'drawn'",
    ),
    (
        {"dataset": "frey-face", "decoder_variance": "none"},
        "decoder_variance: expected one of network, floored, constant; found 'none'",
    ),
    (
        {"decoder_variance": "constant"},
        "decoder_variance: expected network on mnist, found 'constant'",
    ),
    ({"estimator": "C"}, "estimator: expected one of A, B; found 'C'"),
    ({"preset": "long"}, "preset: expected one of smoke, quick, paper; found 'long'"),
    ({"latent_dim": 0}, "latent_dim: expected an integer of at least 1, found 0"),
    ({"latent_dim": 2.5}, "latent_dim: expected an integer of at least 1, found 2.5"),
    ({"latent_dim": "3"}, "latent_dim: expected an integer of at least 1, found '3'"),
    ({"hidden": -1}, "hidden: expected an integer of at least 1, found -1"),
    ({"minibatch": 0}, "minibatch: expected an integer of at least 1, found 0"),
    ({"noise_samples": 0}, "noise_samples: expected an integer of at least 1, found 0"),
    ({"samples": 1e7}, "samples: expected an integer of at least 1, found 10000000.0"),
    ({"samples": 99}, "samples: expected at least one step of 100, found 99"),
    ({"warm_up": -1}, "warm_up: expected an integer of at least 0, found -1"),
    ({"seed": -1}, "seed: expected an integer of at least 0, found -1"),
    ({"seed": 0.5}, "seed: expected an integer of at least 0, found 0.5"),
    ({"split_seed": -1}, "split_seed: expected an integer of at least 0, found -1"),
    ({"step_size": 0.0}, "step_size: expected a positive number, found 0.0"),
    ({"step_size": -0.1}, "step_size: expected a positive number, found -0.1"),
    ({"step_size": math.nan}, "step_size: expected a positive number, found nan"),
    ({"step_size": math.inf}, "step_size: expected a positive number, found inf"),
    ({"step_size": "0.1"}, "step_size: expected a positive number, found '0.1'"),
    ({"initial_std": -0.1}, "initial_std: expected a number of at least 0, found -0.1"),
    ({"step_size": True}, "step_size: expected a positive number, found True"),
    (
        {"step_size": 10**400},
        f"step_size: expected a positive number, found 1{'0' * 79}... (401 characters)",
    ),
    ({"initial_std": False}, "initial_std: expected a number of at least 0, found False"),
    ({"latent_dim": True}, "latent_dim: expected an integer of at least 1, found True"),
    ({"seed": False}, "seed: expected an integer of at least 0, found False"),
    ({"seed": 2**32}, f"seed: expected an integer of at most {2**32 - 1}, found {2**32}"),
    (
        {"split_seed": 2**32},
        f"split_seed: expected an integer of at most {2**32 - 1}, found {2**32}",
    ),
    ({"warm_up": 2**63}, f"warm_up: expected an integer of at most {2**63 - 1}, found {2**63}"),
    ({"hidden": 10**7}, "hidden: expected an integer of at most 1000000, found 10000000"),
    ({"samples": math.inf}, "samples: expected an integer of at least 1, found inf"),
    ({"dataset": ["mnist"]}, "dataset: expected one of mnist, frey-face; found ['mnist']"),
    ({"preset": None}, "preset: expected one of smoke, quick, paper; found None"),
    ({"prior": "no"}, "prior: expected True or False, found 'no'"),
    ({"keep_weights": 1}, "keep_weights: expected True or False, found 1"),
]


@pytest.mark.parametrize(("settings", "message"), WRONG, ids=[str(wrong) for wrong, _ in WRONG])
def test_a_wrong_setting_is_refused_by_name(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(experiments.ExperimentError) as error:
        LowerBound(**settings)
    assert str(error.value) == message
    with pytest.raises(experiments.ExperimentError):
        replace(LowerBound(), **settings)


def test_a_number_too_long_to_write_is_refused() -> None:
    with pytest.raises(experiments.ExperimentError, match=r"^seed: .* integer of 16610 bits$"):
        LowerBound(seed=10**5_000)


def test_one_run_has_one_name_however_its_numbers_are_written() -> None:
    for whole, written in (({"step_size": 1}, {"step_size": 1.0}), ({}, {"initial_std": 0.01})):
        assert LowerBound(**whole).name == LowerBound(**written).name
    assert LowerBound(initial_std=0).name == LowerBound(initial_std=-0.0).name


def test_a_name_that_no_file_can_have_is_refused() -> None:
    long = {"step_size": 1.2345678901234567e-300, "initial_std": 1.2345678901234567e-300}
    large = {"seed": 2**32 - 1, "split_seed": 2**32 - 1, "warm_up": 2**63 - 1, "prior": False}
    large |= {"hidden": 10**6, "minibatch": 10**6, "noise_samples": 10**6, "pixels": "thresholded"}
    LowerBound(**long)
    with pytest.raises(experiments.ExperimentError, match=r"^name: expected at most 200 char"):
        LowerBound(**long, **large)


def test_an_unknown_figure_or_setting_is_refused() -> None:
    with pytest.raises(
        experiments.ExperimentError,
        match=r"^figure: expected one of figure-2, figure-3, figure-4, figure-5; found 'figure-9'$",
    ):
        experiments.grid("figure-9")
    with pytest.raises(experiments.ExperimentError, match=r"^preset: expected one of smoke"):
        experiments.reproduce("figure-2", "long")
    with pytest.raises(TypeError, match="learning_rate"):
        LowerBound(learning_rate=0.1)


# -- A run -------------------------------------------------------------------------------------


def test_a_smoke_run_on_the_real_data(smoke: Record) -> None:
    name = smoke.configuration["dataset"]
    experiment = LowerBound(name, latent_dim=2, preset="smoke")
    folder = smoke.path.parents[1]

    stem = f"{name}-aevb-nz2-seed0"
    files = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.*"))
    assert files == [f"figure-2/{stem}.json", f"figure-2/{stem}.safetensors"]  # no checkpoint
    assert smoke == results.load(folder / files[0])
    assert smoke.configuration == asdict(experiment) | {"n_train": len(real(name).train)}
    assert smoke.provenance["data_sha256"] == real(name).sha256
    assert smoke.provenance["wall_seconds"] > 0
    assert smoke.provenance["threads"] == 1
    curves = smoke.curves
    assert curves["samples"] == training.schedule(experiment.samples, experiment.minibatch)
    assert {len(curve) for curve in curves.values()} == {len(curves["samples"])}
    assert curves.keys() == {"samples", "test", "train", "train_running"}
    for split in ("test", "train", "train_running"):
        assert curves[split][-1] > curves[split][0] + 100  # it really trained


def test_the_seed_decides_the_record(synthetic: data.Dataset, tmp_path: Path) -> None:
    def run(folder: str, **settings: Any) -> Record:
        return experiments.run(small(**settings), tmp_path / folder, progress=False)

    torch.manual_seed(1)
    first = run("a")
    torch.manual_seed(2)
    torch.set_default_dtype(torch.float32)  # by conftest.py it was float64
    again, other = run("b"), run("a", seed=1)

    assert again.curves == first.curves
    assert again.weights == first.weights
    for split in ("test", "train", "train_running"):
        assert not set(other.curves[split]) & set(first.curves[split])
    assert len(results.find("figure-2", tmp_path / "a")) == 2


@pytest.mark.parametrize("dataset", ["mnist", "frey-face"])
def test_every_setting_changes_the_run(
    synthetic: data.Dataset, tmp_path: Path, dataset: str
) -> None:
    usual = experiments.run(small(dataset=dataset, samples=1_000), tmp_path, progress=False)
    changes = CHANGES | {"hidden": 9, "minibatch": 20}
    for field, value in changes.items():
        elsewhere = {"pixels": "frey-face", "decoder_variance": "mnist"}.get(field) == dataset
        if field in ("split_seed", "dataset") or elsewhere:
            continue  # those decide the data, or have no other value there
        changed = small(**{"dataset": dataset, "samples": 1_000, field: value})
        record = experiments.run(changed, tmp_path, progress=False)
        assert record.curves["test"][-1] != usual.curves["test"][-1], field


def test_the_split_seed_reaches_the_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def frey_face(path: Path | None = None, split_seed: int = 0) -> data.Dataset:
        asked.append(split_seed)
        raise data.DataError("not here")

    monkeypatch.setattr(data, "frey_face", frey_face)
    with pytest.raises(data.DataError, match="not here"):
        experiments.run(small(dataset="frey-face", split_seed=4), tmp_path)
    assert asked == [4]


@pytest.mark.parametrize("seed", [20_260_101, 2**32 - 1])
def test_any_seed_will_do(synthetic: data.Dataset, tmp_path: Path, seed: int) -> None:
    record = experiments.run(small(seed=seed, samples=1_000), tmp_path, progress=False)
    assert record.configuration["seed"] == seed


def test_a_run_is_on_one_thread_and_gives_the_others_back(
    synthetic: data.Dataset, tmp_path: Path
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        record = experiments.run(small(samples=1_000), tmp_path, progress=False)
        assert record.provenance["threads"] == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_weights_are_stored_where_they_are_kept(synthetic: data.Dataset, tmp_path: Path) -> None:
    kept, not_kept = (
        experiments.run(
            small(samples=1_000, keep_weights=keep), tmp_path / str(keep), progress=False
        )
        for keep in (True, False)
    )
    assert kept.weights is not None
    assert not_kept.weights is None
    with pytest.raises(results.RecordError, match=r"nz2.*no weights were kept"):
        experiments.trained_model(not_kept)


def test_runs_together_are_as_each_alone(synthetic: data.Dataset, tmp_path: Path) -> None:
    both = [small(), small(algorithm="wake-sleep"), small(dataset="frey-face")]
    together = experiments.run_together(both, tmp_path / "together", progress=False)
    for experiment, record in zip(both, together, strict=True):
        alone = experiments.run(experiment, tmp_path / "alone", progress=False)
        assert (record.name, record.curves) == (alone.name, alone.curves)
        assert record.provenance["together"] == 3
        assert "together" not in alone.provenance


def test_a_run_that_is_given_twice_is_trained_once(synthetic: data.Dataset, tmp_path: Path) -> None:
    one, other = experiments.run_together([small(), small()], tmp_path, progress=False)
    assert one == other
    assert "together" not in one.provenance


def test_a_run_that_fails_does_not_stop_the_others(
    synthetic: data.Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wild = small(dataset="frey-face", step_size=1e3)
    with pytest.raises(training.DivergenceError):
        experiments.run_together([wild, small()], tmp_path, progress=False)
    assert experiments.stored(small(), tmp_path) is not None
    wilder = replace(wild, latent_dim=3)
    with pytest.raises(ExceptionGroup, match=r"2 runs ended early") as error:
        experiments.run_together([wild, wilder], tmp_path, progress=False)
    assert {str(e).split(":")[0] for e in error.value.exceptions} == {wild.name, wilder.name}


@pytest.mark.parametrize("device", ["abacus", "meta", torch.device("meta"), "", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(
    device: torch.device | str, synthetic: data.Dataset, tmp_path: Path
) -> None:
    with pytest.raises(experiments.ExperimentError, match=r"^device: expected cpu, or cuda for a"):
        experiments.run(small(), tmp_path, device=device)
    assert not list(tmp_path.iterdir()), "nothing may be left behind"


def test_a_diverging_run_stores_nothing(synthetic: data.Dataset, tmp_path: Path) -> None:
    experiment = small(dataset="frey-face", step_size=1e3)
    with pytest.raises(training.DivergenceError) as error:
        experiments.run(experiment, tmp_path, progress=False)
    assert str(error.value).startswith(f"{experiment.name}: the bound is ")
    assert experiments.stored(experiment, tmp_path) is None


def test_a_checkpoint_of_another_specification_is_refused(
    synthetic: data.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*given: Any) -> dict[str, float]:
        if given[-1] > 100:
            raise KeyboardInterrupt
        return {"test": 0.0, "train": 0.0}

    kept, stages = small(keep_weights=True), training.stages
    with monkeypatch.context() as patch:
        patch.setattr(training, "GUARD_INTERVAL", 10)
        patch.setattr(training, "stages", lambda *a, **k: stages(*a, **k, checkpoint_seconds=0))
        patch.setattr(_evaluation, "evaluate", stopped)
        with pytest.raises(KeyboardInterrupt):
            experiments.run(kept, tmp_path, progress=False)

    # The name does not tell the number of samples, so both have the same checkpoint.
    told = (
        "a checkpoint of another run: samples: expected 30000, found 5000; "
        "the earlier command finishes it, deleting the file starts anew"
    )
    with pytest.raises(checkpoint.CheckpointError, match=f"safetensors: {told}$"):
        experiments.run(small(keep_weights=True, samples=30_000), tmp_path, progress=False)
    folder = tmp_path / "figure-2"
    (folder / f"{small().name}.checkpoint.safetensors.123.partial").touch()  # a kill left it
    other = folder / f"{small(seed=1).name}.json.123.partial"
    other.touch()
    record = experiments.run(kept, tmp_path, progress=False)
    assert record.curves["samples"][-1] == 5_000
    used = {record.path, record.path.with_suffix(".safetensors")}
    assert set(folder.iterdir()) == used | {other}


@pytest.mark.parametrize(("prior", "weight"), [(True, 10 / 200), (False, 0.0)])
def test_the_prior_has_a_minibatchs_share_of_the_data(
    synthetic: data.Dataset, prior: bool, weight: float
) -> None:
    state, _ = experiments.start(small(prior=prior), synthetic)
    (group,) = state.optimizer.param_groups
    assert group["weight_decay"] == weight


def test_each_bound_is_of_its_own_images_with_noise_of_its_own(
    synthetic: data.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Tensor, int]] = []

    def noted(model: Any, x: Tensor, generator: torch.Generator) -> float:
        seen.append((x, generator.initial_seed()))
        return float(len(seen))

    monkeypatch.setattr(training, "lower_bound", noted)
    assert _evaluation.BOUND_POINTS == 10_000
    monkeypatch.setattr(_evaluation, "BOUND_POINTS", 30)
    values = _evaluation.evaluate(small(), synthetic, {}, cast(Any, None), 100)
    assert values == {"test": 1.0, "train": 2.0}
    for (x, _), images in zip(seen, (synthetic.test, synthetic.train), strict=True):
        torch.testing.assert_close(x, images[:30], rtol=0, atol=0)
    for run, samples in ((small(), 100), (small(), 200), (small(seed=1), 100)):
        _evaluation.evaluate(run, synthetic, {}, cast(Any, None), samples)
    seeds = [seed for _, seed in seen[::2]]
    assert seeds[1] == seeds[0]
    assert len(set(seeds)) == 3, "another seed, or another place, is other noise"

    _evaluation.evaluate(small(pixels="drawn"), synthetic, {}, cast(Any, None), 100)
    assert all(set(x.unique().tolist()) == {0.0, 1.0} for x, _ in seen[-2:])


def test_pixels_are_thresholded_once_and_drawn_each_time(synthetic: data.Dataset) -> None:
    synthetic.train[:], synthetic.test[:] = 0.3, 0.7
    datasets: dict[str, data.Dataset] = {}
    gray = _run.dataset_of(small(), datasets=datasets)
    binary = _run.dataset_of(small(pixels="thresholded"), datasets=datasets)
    assert gray.train.unique().item() == pytest.approx(0.3)
    assert (binary.train.unique().item(), binary.test.unique().item()) == (0.0, 1.0)
    experiment = small(pixels="drawn")
    _, draw = experiments.start(experiment, _run.dataset_of(experiment, datasets=datasets))
    drawn = torch.cat([next(draw) for _ in range(50)])  # 10,000 pixels
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert drawn.mean().item() == pytest.approx(0.3, abs=0.025)  # five standard errors


# -- Figure 3 ----------------------------------------------------------------------------------


def likelihood(**settings: Any) -> MarginalLikelihood:
    given = {"hidden": 8, "n_train": 60, "latent_dim": 2, "evaluated": 12, "preset": "smoke"}
    length = {"samples": 20 * 15 * 60} if settings.get("algorithm") == "mcem" else {}
    return MarginalLikelihood(
        **given | {"samples": 6_000, "keep_weights": True} | length | settings
    )


@pytest.mark.parametrize("algorithm", MarginalLikelihood.algorithms)
def test_a_run_of_figure_3(synthetic: data.Dataset, tmp_path: Path, algorithm: str) -> None:
    for x in (synthetic.train, synthetic.test):  # something to learn: two kinds of images
        x[::2] *= 0.2
        x[1::2] = 1 - 0.2 * x[1::2]
    experiment = likelihood(algorithm=algorithm)
    record = experiments.run(experiment, tmp_path, progress=False)

    assert record.path == tmp_path / "figure-3" / f"{experiment.name}.json"
    assert record.configuration == asdict(experiment) | {"n_train": 60}
    curves = record.curves
    assert all(samples % experiment.per_step == 0 for samples in curves["samples"])
    assert curves["samples"][-1] == experiment.samples
    for split, x in {"test": synthetic.test, "train": synthetic.train}.items():
        assert curves[split][-1] > curves[split][0] + 0.05  # it trained
        model = experiments.trained_model(record)
        exact = quadrature.quadrature(model, x[:12]).log_likelihood.mean().item()
        assert curves[split][-1] == pytest.approx(exact, abs=0.3)
    assert record.weights is not None


def test_monte_carlo_em_trains_on_the_first_images_alone(
    synthetic: data.Dataset, tmp_path: Path
) -> None:
    def curves(**settings: Any) -> dict[str, list[float]]:
        run = experiments.run(
            likelihood(algorithm="mcem", **settings), tmp_path / str(len(settings)), progress=False
        )
        return run.curves

    first = curves()
    synthetic.train[60:] = 0.5
    assert curves() == first
    synthetic.train[:60] = 0.5
    assert curves(seed=0)["train"][-1] != first["train"][-1]


def test_monte_carlo_em_is_the_papers_and_trains_the_generative_model_alone(
    synthetic: data.Dataset,
) -> None:
    experiment = likelihood(algorithm="mcem")
    state, _ = experiments.start(experiment, synthetic)
    (group,) = state.optimizer.param_groups
    parameters = state.model.generative_model.parameters()
    assert set(map(id, group["params"])) == set(map(id, parameters))
    step = experiments.step_of(experiment)
    assert step.keywords == {"leapfrog_steps": 10, "weight_updates": 5}  # type: ignore[attr-defined]


def test_the_first_leapfrog_step_size_reaches_the_sampler(
    synthetic: data.Dataset, tmp_path: Path
) -> None:
    usual, small_one = (
        likelihood(algorithm="mcem", hmc_step_size=size, samples=9_000) for size in (0.01, 1e-5)
    )
    assert "hmc" not in usual.name
    assert "-hmc-step-size-1e-05-" in small_one.name
    for experiment in (usual, small_one):
        state, _ = experiments.start(experiment, synthetic)
        assert state.step_size.item() == pytest.approx(experiment.hmc_step_size)
    records = [experiments.run(run, tmp_path, progress=False) for run in (usual, small_one)]
    assert records[0].curves["train"][-1] != records[1].curves["train"][-1]
    assert experiments.specification(records[1]) == small_one


def test_a_likelihood_is_estimated_with_the_experiments_settings(
    synthetic: data.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"draws": 13, "burn_in": 7, "leapfrog_steps": 3, "candidates": 99}
    seen: list[tuple[Tensor, dict[str, Any]]] = []

    def noted(model: Any, x: Tensor, *, generator: Any, **settings: Any) -> Any:
        seen.append((x, settings))
        return SimpleNamespace(log_likelihood=torch.tensor([1.0, 2.0]) * len(seen))

    module = _evaluation.marginal_likelihood
    monkeypatch.setattr(module, "reciprocal_importance_sampling", noted)
    values = _evaluation.evaluate(likelihood(**asked), synthetic, {}, cast(Any, None), 100)
    assert values == {"test": 1.5, "train": 3.0}
    for (x, settings), images in zip(seen, (synthetic.test, synthetic.train), strict=True):
        torch.testing.assert_close(x, images[:12], rtol=0, atol=0)
        assert settings == asked | {"start": "resampled"}


@pytest.fixture
def persistent(monkeypatch: pytest.MonkeyPatch) -> MarginalLikelihood:
    """A short run with chains that persist over four estimates."""
    monkeypatch.setattr(_evaluation, "places_of_the_paper", lambda experiment: [2_000, 4_000])
    return likelihood(start="persistent", n_train=1_000, latent_dim=3)


def test_persistent_chains_start_where_the_last_estimate_of_their_images_ended(
    synthetic: data.Dataset,
    tmp_path: Path,
    persistent: MarginalLikelihood,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usual = experiments.run(likelihood(n_train=1_000, latent_dim=3), tmp_path, progress=False)
    module, made = _evaluation.marginal_likelihood, []
    estimate = module.reciprocal_importance_sampling

    def noted(model: Any, x: Tensor, **settings: Any) -> Any:
        begin = [settings[name].clone() for name in ("start", "step_size")]
        found = estimate(model, x, **settings)
        made.append((begin, [found.position, found.step_size]))
        return found

    monkeypatch.setattr(module, "reciprocal_importance_sampling", noted)
    record = experiments.run(persistent, tmp_path, progress=False)
    assert record.curves["samples"] == [100, 2_000, 4_000, 6_000]
    for earlier, later in zip(made, made[2:], strict=False):  # test and train in turn
        for end, begin in zip(earlier[1], later[0], strict=True):
            assert torch.equal(end, begin)
    first = torch.cat([begin[0] for begin, _ in made[:2]])
    assert len(first.unique()) == first.numel() == 2 * 12 * 3
    assert record.weights["sha256"] == usual.weights["sha256"]  # the training is the same


def test_persistent_chains_survive_an_interruption(
    synthetic: data.Dataset,
    tmp_path: Path,
    persistent: MarginalLikelihood,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = experiments.run(persistent, tmp_path / "whole", progress=False)
    stages, evaluate = training.stages, _evaluation.evaluate

    def stopped(*given: Any) -> dict[str, float]:
        if given[-1] == 4_000:
            raise KeyboardInterrupt
        return evaluate(*given)

    monkeypatch.setattr(training, "GUARD_INTERVAL", 10)
    monkeypatch.setattr(training, "stages", lambda *a, **k: stages(*a, **k, checkpoint_seconds=0))
    with monkeypatch.context() as patch:
        patch.setattr(_evaluation, "evaluate", stopped)
        with pytest.raises(KeyboardInterrupt):
            experiments.run(persistent, tmp_path / "parts", progress=False)
    assert list((tmp_path / "parts" / "figure-3").glob("*.checkpoint.safetensors"))
    assert experiments.run(persistent, tmp_path / "parts", progress=False).curves == whole.curves


@pytest.mark.parametrize("n_train", [1_000, 50_000])
def test_persistent_chains_are_read_where_the_papers_curves_have_their_points(n_train: int) -> None:
    run = MarginalLikelihood(n_train=n_train, start="persistent")
    places = _evaluation.schedule(run)
    paper = reference.curve(
        "figure-3", dataset="mnist", n_train=n_train, latent_dim=3, algorithm="aevb", split="test"
    )
    shown = paper.samples[paper.samples <= run.samples]
    assert {100, *shown.astype(int).tolist(), run.samples} <= set(places)
    assert places[1] == shown[0]


def test_where_figure_3_is_evaluated_does_not_change_its_training(
    synthetic: data.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = experiments.run(likelihood(), tmp_path / "a", progress=False)
    monkeypatch.setattr(_evaluation, "LIKELIHOOD_PLACES", [1_000, 2_000, 3_000])
    often = experiments.run(likelihood(), tmp_path / "b", progress=False)
    assert len(often.curves["samples"]) > len(usual.curves["samples"])
    assert often.weights == usual.weights
    assert often.curves["test"][-1] == usual.curves["test"][-1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset": "frey-face"}, "dataset: expected mnist in Figure 3; found 'frey-face'"),
        ({"n_train": 60_000}, "n_train: expected an integer from 1 to 50000, found 60000"),
        ({"n_train": 0}, "n_train: expected an integer from 1 to 50000, found 0"),
        ({"n_train": True}, "n_train: expected an integer from 1 to 50000, found True"),
        ({"latent_dim": 6}, "latent_dim: expected an integer of at most 5 in Figure 3, found 6"),
        ({"draws": 15}, "draws: expected at least 16 for 3 latent variables, found 15"),
        ({"draws": 0}, "draws: expected an integer of at least 1, found 0"),
        ({"start": "prior"}, "start: expected one of resampled, persistent; found 'prior'"),
        (
            {"hmc_step_size": 0.1},
            "hmc_step_size: expected 0.01, which aevb does not use, found 0.1",
        ),
        (
            {"algorithm": "mcem", "hmc_step_size": 0.0},
            "hmc_step_size: expected a positive number that float32 holds, found 0.0",
        ),
        (
            {"algorithm": "mcem", "hmc_step_size": 1e-46},
            "hmc_step_size: expected a positive number that float32 holds, found 1e-46",
        ),
        (
            {"algorithm": "mcem", "hmc_step_size": 1e300},
            "hmc_step_size: expected a positive number that float32 holds, found 1e+300",
        ),
        (
            {"algorithm": "mcem", "hmc_step_size": "small"},
            "hmc_step_size: expected a positive number that float32 holds, found 'small'",
        ),
        (
            {"start": "persistent", "n_train": 2_000},
            "start: expected one of resampled; found 'persistent'",
        ),
        (
            {"start": "persistent", "latent_dim": 2},
            "start: expected one of resampled; found 'persistent'",
        ),
        ({"burn_in": -1}, "burn_in: expected an integer of at least 0, found -1"),
        (
            {"algorithm": "mcem", "n_train": 1_000, "samples": 14_999},
            "samples: expected at least one step of 15000, found 14999",
        ),
        (
            {"algorithm": "mcem", "n_train": 1_000, "minibatch": 100},
            "minibatch: expected n_train, 1000, for mcem, found 100",
        ),
    ],
    ids=str,
)
def test_a_wrong_setting_of_figure_3_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(experiments.ExperimentError) as error:
        MarginalLikelihood(**settings)
    assert str(error.value) == message


# -- Records behind a figure -------------------------------------------------------------------


def test_reproduce_says_how_to_make_a_missing_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiments, "run_together", None)  # it must not train a paper run
    for figure in experiments.FIGURES:
        with pytest.raises(experiments.ExperimentError) as error:
            experiments.reproduce(figure, seed=3, path=tmp_path)
        message = str(error.value)
        first = experiments.grid(figure, "paper", 3)[0]
        assert message.startswith(f"{first.name}: no such record. Make it with: python -m aevb ")
        options = _options.parser().parse_args(shlex.split(message.split("-m aevb ")[1]))
        assert (options.figure, options.seed) == (figure, [range(3, 4)])
        for name in ("algorithm", "n_train" if figure == "figure-3" else "latent_dim"):
            assert getattr(options, name) == [getattr(first, name)]


@pytest.fixture
def small_grid(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[LowerBound]]:
    def grid(preset: str = "paper", seed: int = 0) -> list[LowerBound]:
        return [small(latent_dim=n, preset=preset, seed=seed, samples=1_000) for n in (2, 3)]

    monkeypatch.setitem(experiments.FIGURES, "figure-4", grid)
    return grid


def test_reproduce_trains_what_is_missing_and_no_more(
    synthetic: data.Dataset,
    small_grid: Callable[..., list[LowerBound]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AEVB_RESULTS", str(tmp_path))
    first = experiments.run(small_grid("smoke")[0], progress=False)

    records = experiments.reproduce("figure-4", "smoke")

    assert [record.name for record in records] == [e.name for e in small_grid("smoke")]
    assert records[0] == first
    assert all(record.path.parent == tmp_path / "smoke" / "figure-2" for record in records)

    monkeypatch.setattr(experiments, "run_together", None)
    assert experiments.reproduce("figure-4", "smoke") == records
    with pytest.raises(experiments.ExperimentError, match="no such record"):
        experiments.reproduce("figure-4", "paper")  # a smoke run does not pass for one


def test_reproduce_trains_again_what_is_too_short_or_of_another_configuration(
    synthetic: data.Dataset, small_grid: Callable[..., list[LowerBound]], tmp_path: Path
) -> None:
    first, second = small_grid("smoke")
    experiments.run(replace(first, samples=500), tmp_path, progress=False)
    made = experiments.run(second, tmp_path, progress=False)
    before = replace(made, configuration=made.configuration | {"warm_up": 7})
    results.save(replace(before, path=None), tmp_path)

    records = experiments.reproduce("figure-4", "smoke", path=tmp_path)

    assert records[0].curves["samples"][-1] == 1_000
    assert records[1].configuration == made.configuration


def test_reproduce_takes_the_stored_paper_records_however_far_they_are(
    synthetic: data.Dataset,
    small_grid: Callable[..., list[LowerBound]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shorter = [replace(experiment, samples=500) for experiment in small_grid()]
    stored = [experiments.run(experiment, tmp_path, progress=False) for experiment in shorter]
    monkeypatch.setattr(experiments, "run_together", None)

    assert experiments.reproduce("figure-4", path=tmp_path) == stored
    assert experiments.stored(small_grid()[0], tmp_path) == stored[0]
    stored[1].path.unlink()
    with pytest.raises(experiments.ExperimentError, match=stored[1].name):
        experiments.reproduce("figure-4", path=tmp_path)


def test_a_damaged_record_is_refused_not_replaced(
    synthetic: data.Dataset, small_grid: Callable[..., list[LowerBound]], tmp_path: Path
) -> None:
    damaged = experiments.reproduce("figure-4", "smoke", path=tmp_path)[0].path
    damaged.write_text(damaged.read_text().replace('"samples"', '"sampled"'))
    before = damaged.read_bytes()

    with pytest.raises(results.RecordError, match=f"^{damaged}: damaged"):
        experiments.reproduce("figure-4", "smoke", path=tmp_path)
    assert damaged.read_bytes() == before


@pytest.mark.parametrize("dataset", ["mnist", "frey-face"])
def test_a_trained_model_comes_back_from_its_record(
    synthetic: data.Dataset, tmp_path: Path, dataset: str
) -> None:
    record = experiments.run(small(dataset=dataset, keep_weights=True), tmp_path, progress=False)

    model = experiments.trained_model(record)

    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.latent_dim == 2
    # With the noise of the last evaluation: what is left is the half precision of the weights.
    bounds = _evaluation.evaluate(small(dataset=dataset), synthetic, {}, model, 5_000)
    assert bounds["test"] == pytest.approx(record.curves["test"][-1], abs=0.05)

    record.path.with_suffix(".safetensors").write_bytes(b"")
    with pytest.raises(results.RecordError, match="unusable weights"):
        experiments.trained_model(record)


# -- Against the paper, on the real data -------------------------------------------------------


@pytest.mark.parametrize("latent_dim", [2, 3, 20])
def test_mnist_starts_where_the_papers_curves_do(latent_dim: int) -> None:
    # 784 ln 2: every pixel's probability is a half. That is a standard deviation of 0.01.
    dataset = real("mnist")
    state, _ = experiments.start(LowerBound(latent_dim=latent_dim), dataset)

    bound = training.lower_bound(state.model, dataset.test[:2_000], torch.Generator())

    assert 784 * math.log(2) == pytest.approx(543.43, abs=0.005)
    assert bound == pytest.approx(-543.43, abs=0.3)


@pytest.mark.parametrize("latent_dim", [2, 20])
def test_frey_face_starts_at_a_gaussian_of_unit_variance(latent_dim: int) -> None:
    dataset = real("frey-face")
    state, _ = experiments.start(LowerBound("frey-face", latent_dim=latent_dim), dataset)

    bound = training.lower_bound(state.model, dataset.test, torch.Generator())

    flat = Normal(0.5, 1.0).log_prob(dataset.test.double()).sum(-1).mean().item()
    assert flat == pytest.approx(-526.3, abs=0.3)
    assert bound == pytest.approx(flat, abs=0.5)


def recomputed(weights: dict[str, Tensor], x: Tensor, noise: Tensor) -> Tensor:
    """The bound (eq. 7) from the weights, with torch.distributions and nothing of ``aevb``."""
    w = {name: value.double() for name, value in weights.items()}

    def layer(name: str, given: Tensor) -> Tensor:
        return given @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    h = layer("recognition_model.hidden", x).tanh()
    deviation = (0.5 * layer("recognition_model.log_variance", h)).exp()
    q = Independent(Normal(layer("recognition_model.mean", h), deviation), 1)
    prior = Independent(Normal(torch.zeros_like(deviation), torch.ones_like(deviation)), 1)
    h = layer("generative_model.hidden", q.mean + q.stddev * noise).tanh()
    if "generative_model.logits.weight" in w:
        p = Bernoulli(logits=layer("generative_model.logits", h), validate_args=False)
    else:
        mean = layer("generative_model.mean", h).sigmoid()
        p = Normal(mean, (0.5 * layer("generative_model.log_variance", h)).exp())
    return Independent(p, 1, validate_args=False).log_prob(x) - kl_divergence(q, prior)


KEPT = sorted((results.ROOT / "book" / "results").glob("figure-*/*-seed*.safetensors"))
KEPT = [path for path in KEPT if ".checkpoint" not in path.name]


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_the_bound_of_a_stored_model_can_be_recomputed_from_its_weights(path: Path) -> None:
    record = results.load(path.with_suffix(".json"))
    x = real(record.configuration["dataset"]).test[:500].double()
    model = experiments.trained_model(record).double()

    found = training.lower_bound(model, x, torch.Generator().manual_seed(7))

    shape = (len(x), record.configuration["latent_dim"])
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(7))
    bounds = recomputed(results.load_weights(record), x, noise)
    assert found == pytest.approx(bounds.mean().item(), abs=1e-5)


BOUNDS = [path for path in KEPT if path.parent.name == "figure-2"]
LIKELIHOODS = [
    path for path in KEPT if path.parent.name == "figure-3" and "-step-" not in path.name
]


@pytest.mark.parametrize("path", LIKELIHOODS, ids=lambda path: path.stem)
def test_a_stored_model_of_figure_3_has_the_likelihood_that_its_record_holds(path: Path) -> None:
    record = results.load(path.with_suffix(".json"))
    x = real("mnist").test[: record.configuration["evaluated"]]

    found = reciprocal_importance_sampling(
        experiments.trained_model(record),
        x,
        start="resampled",
        candidates=record.settings["candidates"],
        generator=torch.Generator(),
    )

    # Other draws, and weights in half precision. An image whose chain is on a wrong mode may miss
    # a hundred nats, and there are a few of them in a thousand.
    off = found.log_likelihood.mean().item() - record.curves["test"][-1]
    assert abs(off) < 0.5


@pytest.mark.parametrize("path", BOUNDS, ids=lambda path: path.stem)
def test_a_stored_model_is_the_one_whose_curve_the_record_holds(path: Path) -> None:
    record = results.load(path.with_suffix(".json"))
    test = real(record.configuration["dataset"]).test

    # The noise of the run's last evaluation: what is left is the half precision of the weights.
    seed, samples = record.configuration["seed"], record.curves["samples"][-1]
    noise = torch.Generator().manual_seed((seed << 40) + samples)
    pixels = record.settings["pixels"]
    if pixels == "drawn":
        test = data.black_or_white(test, noise)
    if pixels == "thresholded":
        test = (test > 0.5).to(test.dtype)
    bound = training.lower_bound(experiments.trained_model(record), test, noise)

    # A GPU's noise is another. A test bound's variance is below 0.002 nats squared: k = 5, of two.
    other_noise = record.provenance["device"] != "cpu"
    tolerance = 5 * (2 * 0.002) ** 0.5 if other_noise else 0.05
    assert bound == pytest.approx(record.curves["test"][-1], abs=tolerance)


def test_the_bound_after_a_smoke_run_can_be_recomputed(smoke: Record) -> None:
    x = real(smoke.configuration["dataset"]).test[:300].double()
    model = experiments.trained_model(smoke).double()
    found = training.lower_bound(model, x, torch.Generator().manual_seed(7))

    noise = torch.randn(300, 2, generator=torch.Generator().manual_seed(7))
    expected = recomputed(results.load_weights(smoke), x, noise).mean().item()
    assert found == pytest.approx(expected, abs=1e-5)


# -- A stored run, again -----------------------------------------------------------------------


@pytest.mark.parametrize("experiment", [small(), small(algorithm="wake-sleep"), likelihood()])
def test_the_beginning_of_a_record_is_made_again(
    synthetic: data.Dataset, tmp_path: Path, experiment: experiments.Experiment
) -> None:
    record = experiments.run(experiment, tmp_path, progress=False)
    assert experiments.specification(record) == experiment
    found = experiments.rerun(record, 2_000, progress=False)
    assert found == {name: 0.0 for name in record.curves if name != "samples"}
    assert [path.name for path in tmp_path.iterdir()] == [experiment.figure]


def test_what_a_record_does_not_mention_has_its_usual_value(
    synthetic: data.Dataset, tmp_path: Path
) -> None:
    record = experiments.run(small(), tmp_path, progress=False)
    older = {k: v for k, v in record.configuration.items() if k != "precision"}
    assert experiments.specification(replace(record, configuration=older)) == small()


def test_a_record_from_before_a_setting_is_made_again_as_it_was(
    synthetic: data.Dataset, tmp_path: Path
) -> None:
    record = experiments.run(likelihood(candidates=4_096), tmp_path, progress=False)
    older = {k: v for k, v in record.configuration.items() if k != "candidates"}
    found = experiments.specification(replace(record, configuration=older))
    assert found == likelihood(candidates=4_096) != likelihood()


def test_a_record_that_says_otherwise_is_found_out(
    synthetic: data.Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = experiments.run(small(), tmp_path, progress=False)
    curves = record.curves | {"test": [value + 1 for value in record.curves["test"]]}
    forged = results.save(replace(record, curves=curves), tmp_path / "forged")
    assert __main__.main(["rerun", str(record.path), "--samples", "2e3"]) == 0
    assert "test differs by 0.000000 nats at most, up to 2,000" in capsys.readouterr().out
    assert __main__.main(["rerun", str(forged.path), "--samples", "2e3"]) == 1
    assert "found a difference of 1.0000" in capsys.readouterr().err


def test_only_what_is_there_can_be_made_again(synthetic: data.Dataset, tmp_path: Path) -> None:
    record = experiments.run(small(), tmp_path, progress=False)
    with pytest.raises(
        experiments.ExperimentError, match=r"^samples: expected at most the .* 5000"
    ):
        experiments.rerun(record, 6_000)
    other = replace(record, figure="appendix-f")
    with pytest.raises(experiments.ExperimentError, match=r"figure: expected one of figure-2, fig"):
        experiments.rerun(other, 1_000)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "samples"),
    [
        ("figure-2/mnist-aevb-nz20-seed1", 20_000),
        ("figure-2/mnist-wake-sleep-nz3-seed0", 11_200),
        ("figure-2/frey-face-aevb-nz2-seed1", 20_000),
    ],
)
def test_committed_records_are_made_again(name: str, samples: int) -> None:
    """Other machines, versions and libraries round otherwise, and training spreads it.

    Wake-sleep draws pixels: where rounding turns one, the next step is another. That takes it apart
    while its curve climbs, so it is followed up the first 120 nats of 330.
    """
    record = results.load(results.ROOT / "book" / "results" / f"{name}.json")
    real(record.configuration["dataset"])
    found = experiments.rerun(record, samples, progress=False)
    assert max(found.values()) < 0.05


def test_an_iteration_of_monte_carlo_em_counts_15_times(
    synthetic: data.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, step = [], monte_carlo_em.step

    def counted(*given: Any, **settings: Any) -> Any:
        taken.append(settings)
        return step(*given, **settings)

    monkeypatch.setattr(monte_carlo_em, "step", counted)
    experiments.run(likelihood(algorithm="mcem"), tmp_path, progress=False)
    assert taken == [{"leapfrog_steps": 10, "weight_updates": 5}] * 20
