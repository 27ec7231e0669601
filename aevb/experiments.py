r"""The runs behind each figure (paper, section 5).

An experiment is a frozen record of everything that decides a run. ``smoke`` really trains, in
seconds; ``quick`` shows the shape of the curves in minutes; ``paper`` is the paper's budget.
"""

import contextlib
import functools
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aevb import auto_encoding, data, mlp, models, results, training, wake_sleep
from aevb._specification import (
    ESTIMATORS,
    LATENT_DIMS,
    PRESETS,
    SAMPLES,
    SHOWN,
    ExperimentError,
    LowerBound,
    one_of,
    step_size,
)
from aevb.adagrad import Adagrad

__all__ = [
    "FIGURES",
    "LATENT_DIMS",
    "PRESETS",
    "SAMPLES",
    "ExperimentError",
    "LowerBound",
    "figure_2",
    "figure_4",
    "figure_5",
    "grid",
    "reproduce",
    "run",
    "start",
    "step_size",
    "stored",
    "trained_model",
]

MODELS = {"mnist": models.bernoulli_vae, "frey-face": models.gaussian_vae}
ALGORITHMS = {"aevb": auto_encoding, "wake-sleep": wake_sleep}
EVALUATED = 10_000
"""Training points at most in the evaluated train curve."""


def figure_2(preset: str = "paper", seed: int = 0) -> list[LowerBound]:
    """The runs of Figure 2: five MNIST panels and four of Frey Face, two algorithms each."""
    return [
        LowerBound(dataset, algorithm, n, seed=seed, preset=preset)
        for algorithm in LowerBound.algorithms
        for dataset, dims in LATENT_DIMS.items()
        for n in dims
    ]


def figure_4(preset: str = "paper", seed: int = 0) -> list[LowerBound]:
    """The two models with a two-dimensional latent space whose manifolds Figure 4 shows."""
    return [
        LowerBound(dataset, latent_dim=2, seed=seed, preset=preset)
        for dataset in ("frey-face", "mnist")
    ]


def figure_5(preset: str = "paper", seed: int = 0) -> list[LowerBound]:
    """The four MNIST models that Figure 5 draws random samples from."""
    return [LowerBound(latent_dim=n, seed=seed, preset=preset) for n in SHOWN["mnist"]]


FIGURES: dict[str, Callable[..., list[LowerBound]]] = {
    "figure-2": figure_2,
    "figure-4": figure_4,
    "figure-5": figure_5,
}


def grid(figure: str, preset: str = "paper", seed: int = 0) -> list[LowerBound]:
    """The experiments of a figure.

    Raises:
        ExperimentError: If the figure or the preset is unknown.
    """
    one_of("figure", figure, FIGURES)
    return FIGURES[figure](preset, seed)


def run(
    experiment: LowerBound, path: Path | None = None, *, progress: bool | None = None
) -> results.Record:
    """Train, and store the record.

    An interrupted run goes on from its checkpoint when it is started again.

    Args:
        experiment: The whole specification.
        path: The folder of the records; by default :func:`aevb.results.folder` of the preset.
        progress: Whether to show a bar; by default where standard error is a terminal.

    Returns:
        The stored record, in the folder ``figure-2``: Figures 4 and 5 look into models of the
        same experiment, and a model that two figures need is trained once.

    Raises:
        aevb.data.DataError: If the data set cannot be had or is damaged.
        aevb.training.DivergenceError: If the bound stops being a finite number.
        aevb.checkpoint.CheckpointError: If a checkpoint is damaged or of another run.
        aevb.results.RecordError: If the record cannot be written.
    """
    path = path or results.folder(experiment.preset)
    if experiment.dataset == "mnist":
        dataset = data.mnist()
    else:
        dataset = data.frey_face(split_seed=experiment.split_seed)
    checkpoint = path / "figure-2" / f"{experiment.name}.checkpoint.safetensors"
    with _one_thread():
        made = results.provenance(torch.device("cpu"), dataset.sha256)
        state, draw = start(experiment, dataset)
        state, history = training.train(
            _step(experiment),
            state,
            draw,
            functools.partial(_evaluate, dataset, experiment.seed),
            training.schedule(experiment.samples, experiment.minibatch),
            name=experiment.name,
            checkpoint=checkpoint,
            identity=json.dumps(asdict(experiment)),
            progress=progress,
        )
        record = results.Record(
            "figure-2",
            experiment.name,
            asdict(experiment) | {"n_train": len(dataset.train)},
            {"samples": history.samples, **history.curves},
            made | {"wall_seconds": round(history.wall_seconds, 1)},
        )
    weights = state.model.state_dict() if experiment.keep_weights else None
    record = results.save(record, path, weights)
    for used in (checkpoint, *checkpoint.parent.glob(f"{experiment.name}.*.partial")):
        used.unlink(missing_ok=True)  # a kill in the middle of a write leaves a partial file
    return record


def start(experiment: LowerBound, dataset: data.Dataset) -> tuple[Any, Iterator[Tensor]]:
    """The algorithm's state before the first step, and the source of its minibatches.

    One generator, seeded by the experiment, draws the initial parameters, the minibatches and
    the noise, in this order.
    """
    generator = torch.Generator().manual_seed(experiment.seed)
    n_train, data_dim = dataset.train.shape
    model = MODELS[experiment.dataset](data_dim, experiment.hidden, experiment.latent_dim).float()
    mlp.initialize(model, generator, experiment.initial_std)  # drawn as float32, always
    optimizer = Adagrad(
        model.parameters(),
        experiment.step_size,
        prior_weight=experiment.minibatch / n_train if experiment.prior else 0.0,
        warm_up=experiment.warm_up,
    )
    draw = data.minibatches(dataset.train, experiment.minibatch, generator)
    algorithm = ALGORITHMS[experiment.algorithm]
    return algorithm.init(model, optimizer, generator), draw


def _step(experiment: LowerBound) -> Callable[[Any, Tensor], tuple[Any, Any]]:
    """The algorithm's step with the experiment's settings."""
    if experiment.algorithm == "wake-sleep":
        return wake_sleep.step
    return functools.partial(
        auto_encoding.step,
        estimator=ESTIMATORS[experiment.estimator],
        samples=experiment.noise_samples,
    )


def _evaluate(
    dataset: data.Dataset, seed: int, model: models.VAE, samples: int
) -> dict[str, float]:
    """Both bounds, with noise of their own: the schedule must not change the training."""
    noise = torch.Generator().manual_seed(((seed << 40) + samples) % 2**63)
    return {
        "test": training.lower_bound(model, dataset.test, noise),
        "train": training.lower_bound(model, dataset.train[:EVALUATED], noise),
    }


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Train on one thread: at this size two are slower, and one is reproducible."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def stored(experiment: LowerBound, path: Path | None = None) -> results.Record | None:
    """The record of an experiment, whatever the number of samples it has come to, or ``None``.

    Raises:
        aevb.results.RecordError: If it is there but damaged.
    """
    path = path or results.folder(experiment.preset)
    file = path / "figure-2" / f"{experiment.name}.json"
    return results.load(file) if file.exists() else None


def reproduce(
    figure: str,
    preset: str = "paper",
    seed: int = 0,
    path: Path | None = None,
    *,
    progress: bool | None = False,
) -> list[results.Record]:
    """The records that a figure draws from.

    Args:
        figure: ``figure-2``, ``figure-4`` or ``figure-5``.
        preset: ``paper`` reads the stored records, however far their runs have come.
            ``smoke`` and ``quick`` train what is not there yet, in ``_build/results``.
        seed: The seed of the runs.
        path: The folder of the records, if another.
        progress: Whether a bar is shown for what has to be trained.

    Raises:
        ExperimentError: If a stored record is missing, with the command that makes it.
    """
    found = []
    for experiment in grid(figure, preset, seed):
        record = stored(experiment, path)
        if record is None and preset == "paper":
            raise ExperimentError(
                f"{experiment.name}: no such record. Make it with: python -m aevb run {figure}"
                f" --dataset {experiment.dataset} --latent-dim {experiment.latent_dim}"
                f" --seed {experiment.seed}"
            )
        found.append(record or run(experiment, path, progress=progress))
    return found


def trained_model(record: results.Record) -> models.VAE:
    """The model of a record, with its stored parameters.

    Raises:
        aevb.results.RecordError: If no weights were kept, or they are damaged.
    """
    weights = results.load_weights(record)
    settings = record.configuration
    data_dim = weights["recognition_model.hidden.weight"].shape[1]
    model = MODELS[settings["dataset"]](data_dim, settings["hidden"], settings["latent_dim"])
    model = model.float()
    model.load_state_dict(weights)
    return model.train(False).requires_grad_(False)
