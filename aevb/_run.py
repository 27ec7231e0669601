r"""How an experiment is run: the training behind ``experiments``."""

import contextlib
import functools
import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aevb import (
    _evaluation,
    _records,
    auto_encoding,
    data,
    mlp,
    models,
    monte_carlo_em,
    results,
    training,
    wake_sleep,
)
from aevb._specification import (
    EM_LEAPFROG_STEPS,
    EM_UPDATES,
    ESTIMATORS,
    Experiment,
    ExperimentError,
    LowerBound,
    MarginalLikelihood,
)
from aevb.adagrad import Adagrad
from aevb.arithmetic import bfloat16_products, float32_products
from aevb.decoder_variance import ConstantVariance, FlooredVariance

__all__ = [
    "ALGORITHMS",
    "available_device",
    "dataset_of",
    "model_of",
    "on_threads",
    "run",
    "run_together",
    "start",
    "step_of",
]

DECODERS = {"network": mlp.GaussianMLP, "floored": FlooredVariance, "constant": ConstantVariance}
ALGORITHMS: dict[str, Any] = {
    "aevb": auto_encoding,
    "wake-sleep": wake_sleep,
    "mcem": monte_carlo_em,
}
PRODUCTS = {"float32": float32_products, "bfloat16": bfloat16_products}


def run(
    experiment: Experiment,
    path: Path | None = None,
    *,
    device: torch.device | str = "cpu",
    progress: bool | None = None,
) -> results.Record:
    """Train, and store the record.

    An interrupted run goes on from its checkpoint when it is started again.

    Args:
        experiment: The whole specification.
        path: The folder of the records; by default :func:`aevb.results.folder` of the preset.
        device: Where it trains; see :func:`run_together`.
        progress: Whether to show a bar; by default where standard error is a terminal.

    Returns:
        The stored record, in the folder of the experiment's figure: Figures 4 and 5 look into
        models of Figure 2, and a model that two figures need is trained once.

    Raises:
        aevb.data.DataError: If the data set cannot be had or is damaged.
        aevb.training.DivergenceError: If the bound stops being a finite number.
        aevb.checkpoint.CheckpointError: If a checkpoint is damaged or of another run.
        aevb.results.RecordError: If the record cannot be written.
        aevb.experiments.ExperimentError: If there is no such device.
    """
    return run_together([experiment], path, device=device, progress=progress)[0]


def run_together(
    experiments: Sequence[Experiment],
    path: Path | None = None,
    *,
    device: torch.device | str = "cpu",
    force: bool = True,
    progress: bool | None = None,
) -> list[results.Record]:
    """Train several experiments at once, on one device, and store the record of each.

    Args:
        experiments: The specifications.
        path: As for :func:`run`.
        device: ``cpu``, or ``cuda`` for a GPU. There a run has the same initial parameters and
            other minibatches and noise: another curve, as of another seed.
        force: Whether to train also what is stored already, just as it is asked for. Another
            process may have stored it meanwhile: this one waits for whoever trains the same run.
        progress: As for :func:`run`.

    Returns:
        The stored records, in their order.

    Raises:
        Exception: What :func:`run` raises, once the other runs have ended.
    """
    device = available_device(device)
    datasets: dict[str, data.Dataset] = {}
    chosen = list(dict.fromkeys(experiments))  # one that is given twice is trained once
    with _records.exclusively([_records.place(e, path) for e in chosen]):
        there = {} if force else _records.done(chosen, path)
        for experiment in there:
            _clear(experiment, path)
        missing = [e for e in chosen if e not in there]
        shared = {"together": len(missing)} if len(missing) > 1 else {}
        runs = [
            _stored(e, path or results.folder(e.preset), device, datasets, shared, progress)
            for e in missing
        ]
        with on_threads(1):
            made = dict(zip(missing, training.together(runs, device), strict=True))
    return [(there | made)[e] for e in experiments]


def _stored(
    experiment: Experiment,
    path: Path,
    device: torch.device,
    datasets: dict[str, data.Dataset],
    shared: dict[str, int],
    progress: bool | None,
) -> Generator[None, None, results.Record]:
    """The stages of a run, the last of which stores its record."""
    em = experiment.algorithm == "mcem"
    dataset = dataset_of(experiment, device, datasets)
    made = results.provenance(device, dataset.sha256) | shared
    state, draw = start(experiment, dataset)
    chains = _evaluation.chains(experiment, dataset)
    state, history = yield from training.stages(
        step_of(experiment),
        state,
        draw,
        float32_products(functools.partial(_evaluation.evaluate, experiment, dataset, chains)),
        _evaluation.schedule(experiment),
        name=experiment.name,
        per_step=experiment.per_step if em else None,
        objective="log_joint" if em else "bound",
        repeat=not em,
        beside=chains,
        checkpoint=_records.checkpoint(experiment, path),
        identity=_records.identity(experiment),
        progress=progress,
    )
    record = results.Record(
        experiment.figure,
        experiment.name,
        asdict(experiment) | {"n_train": len(dataset.train)},
        {"samples": history.samples, **history.curves},
        made | {"wall_seconds": round(history.wall_seconds, 1)},
    )
    weights = state.model.state_dict() if experiment.keep_weights else None
    record = results.save(record, path, weights)
    _clear(experiment, path)
    return record


def _clear(experiment: Experiment, path: Path | None) -> None:
    for file in _records.leftovers(experiment, path):
        file.unlink(missing_ok=True)


def available_device(name: torch.device | str) -> torch.device:
    """A processor or a GPU by its name, such as ``cpu``, ``cuda`` or ``cuda:1``.

    Raises:
        ExperimentError: If it is neither, or not there.
    """
    try:
        device = torch.zeros((), device=name).device
    except (RuntimeError, AssertionError, ImportError) as error:  # without CUDA the second
        reason = str(error).partition("\n")[0]
        raise ExperimentError(f"device: expected cpu, or cuda for a GPU; {reason}") from error
    if device.type not in ("cpu", "cuda"):
        raise ExperimentError(f"device: expected cpu, or cuda for a GPU; found '{name}'")
    return device


def dataset_of(
    experiment: Experiment,
    device: torch.device | str = "cpu",
    datasets: dict[str, data.Dataset] | None = None,
) -> data.Dataset:
    """The data set of an experiment: its split, its pixels, the images that it trains on.

    Args:
        experiment: The specification.
        device: Where the images are to be.
        datasets: What was read for other experiments, which is not read again.

    Raises:
        aevb.data.DataError: If the data set cannot be had or is damaged.
    """
    datasets = {} if datasets is None else datasets
    split_seed, pixels = 0, "gray"
    if isinstance(experiment, LowerBound):
        split_seed, pixels = experiment.split_seed, experiment.pixels
    key = f"{experiment.dataset} {split_seed} {pixels}"
    if key not in datasets:
        frey_face = experiment.dataset == "frey-face"
        whole = data.frey_face(split_seed=split_seed) if frey_face else data.mnist()
        if pixels == "thresholded":
            binary = [(x > 0.5).to(x.dtype) for x in (whole.train, whole.test)]
            whole = whole._replace(train=binary[0], test=binary[1])
        datasets[key] = whole.to(device)
    whole = datasets[key]
    if isinstance(experiment, MarginalLikelihood):
        return whole._replace(train=whole.train[: experiment.n_train])
    return whole


def start(experiment: Experiment, dataset: data.Dataset) -> tuple[Any, Iterator[Tensor]]:
    """The algorithm's state before the first step, and the source of its minibatches.

    One generator, seeded by the experiment, draws the initial parameters, the minibatches and
    the noise, in this order. Where the data set is on a GPU, one of its own draws the latter two.
    """
    generator = torch.Generator().manual_seed(experiment.seed)
    n_train, data_dim = dataset.train.shape
    model = model_of(experiment, data_dim)
    mlp.initialize(model, generator, experiment.initial_std)  # drawn as float32, always
    if dataset.train.device != generator.device:
        model.to(dataset.train.device)
        generator = torch.Generator(dataset.train.device).manual_seed(experiment.seed)
    em = experiment.algorithm == "mcem"
    optimizer = Adagrad(
        (model.generative_model if em else model).parameters(),
        experiment.step_size,
        prior_weight=experiment.minibatch / n_train if experiment.prior else 0.0,
        warm_up=experiment.warm_up,
    )
    if em and isinstance(experiment, MarginalLikelihood):
        begin = experiment.hmc_step_size
        state = monte_carlo_em.init(model, optimizer, generator, dataset.train, step_size=begin)
        return state, itertools.repeat(dataset.train)
    draw = data.minibatches(dataset.train, experiment.minibatch, generator)
    if isinstance(experiment, LowerBound) and experiment.pixels == "drawn":
        draw = (data.black_or_white(x, generator) for x in draw)
    return ALGORITHMS[experiment.algorithm].init(model, optimizer, generator), draw


def model_of(experiment: Experiment, data_dim: int) -> models.VAE:
    """The experiment's model of datapoints with ``data_dim`` pixels, in float32."""
    sizes = data_dim, experiment.hidden, experiment.latent_dim
    if isinstance(experiment, LowerBound) and experiment.dataset == "frey-face":
        return models.gaussian_vae(*sizes, decoder=DECODERS[experiment.decoder_variance]).float()
    return models.bernoulli_vae(*sizes).float()


def step_of(experiment: Experiment) -> Callable[[Any, Tensor], tuple[Any, Any]]:
    """The algorithm's step with the experiment's settings."""
    step = PRODUCTS[experiment.precision](ALGORITHMS[experiment.algorithm].step)
    if isinstance(experiment, LowerBound) and experiment.algorithm == "aevb":
        estimator = ESTIMATORS[experiment.estimator]
        return functools.partial(step, estimator=estimator, samples=experiment.noise_samples)
    if experiment.algorithm == "mcem":  # what its steps count
        return functools.partial(step, leapfrog_steps=EM_LEAPFROG_STEPS, weight_updates=EM_UPDATES)
    return step


@contextlib.contextmanager
def on_threads(number: int) -> Iterator[None]:
    """Train on so many threads: at this size two are slower than one, and one is reproducible."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
