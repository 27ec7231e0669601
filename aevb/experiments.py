r"""The runs behind each figure (paper, section 5).

An experiment is a frozen record of everything that decides a run. ``smoke`` really trains, in
seconds; ``quick`` shows the shape of the curves in minutes; ``paper`` is the paper's budget.
"""

import contextlib
import functools
import json
import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aevb import auto_encoding, data, estimators, mlp, models, results, training
from aevb.adagrad import Adagrad

__all__ = [
    "FIGURES",
    "PRESETS",
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

PRESETS = ("smoke", "quick", "paper")
LATENT_DIMS = {"mnist": (3, 5, 10, 20, 200), "frey-face": (2, 5, 10, 20)}
SHOWN = {"mnist": (2, 5, 10, 20), "frey-face": (2,)}
"""The latent dimensions of the models that Figures 4 and 5 look into."""
HIDDEN = {"mnist": 500, "frey-face": 200}
MINIBATCH = {"mnist": 100, "frey-face": 500}
SAMPLES = {
    "smoke": {"mnist": 10_000, "frey-face": 50_000},
    "quick": {"mnist": 300_000, "frey-face": 1_000_000},
    "paper": {"mnist": 100_000_000, "frey-face": 100_000_000},
}
ESTIMATORS = {"A": estimators.sgvb_a, "B": estimators.sgvb_b}
MODELS = {"mnist": models.bernoulli_vae, "frey-face": models.gaussian_vae}
EVALUATED = 10_000
"""Training points at most in the evaluated train curve."""


_THE_PANELS: Any = None
"""The default of a field whose usual value depends on the panel."""


class ExperimentError(ValueError):
    """A specification that cannot be run, or a result that is not there."""


@dataclass(frozen=True)
class LowerBound:
    """Figure 2: the variational bound against training samples evaluated.

    Fields that are not given take the value of the panel: the paper's for the data set.
    """

    dataset: str = "mnist"
    """``mnist`` or ``frey-face``."""
    algorithm: str = "aevb"
    """``aevb``."""
    latent_dim: int = 20
    """The number of latent variables, N_z."""
    hidden: int = _THE_PANELS
    """The tanh units of each network: 500 on MNIST, 200 on Frey Face."""
    minibatch: int = _THE_PANELS
    """M: 100 on MNIST; 500 on Frey Face, which is what the paper's curves were counted in."""
    noise_samples: int = 1
    """L, the noise samples per datapoint."""
    estimator: str = "B"
    """``A`` (eq. 6) or ``B`` (eq. 7)."""
    step_size: float = _THE_PANELS
    """Adagrad's global step size; by default the panel's, of the paper's 0.01, 0.02, 0.1."""
    warm_up: int = _THE_PANELS
    """Steps that only accumulate squared gradients: 100; 20 in the short smoke runs."""
    initial_std: float = 0.01
    """The standard deviation of the initial parameters."""
    prior: bool = True
    """Whether the parameters have the prior N(0, I) (MAP) or none (maximum likelihood)."""
    samples: int = _THE_PANELS
    """Training samples to evaluate in all; 1e8 in the paper preset."""
    seed: int = 0
    """The seed of everything random but the data's split."""
    split_seed: int = 0
    """The seed of the Frey Face split."""
    preset: str = "paper"
    """``smoke``, ``quick`` or ``paper``."""
    keep_weights: bool = _THE_PANELS
    """Whether the trained parameters are stored: those that Figures 4 and 5 show are."""

    def __post_init__(self) -> None:
        _one_of("dataset", self.dataset, LATENT_DIMS)
        _one_of("algorithm", self.algorithm, ("aevb",))
        _one_of("estimator", self.estimator, ESTIMATORS)
        _one_of("preset", self.preset, PRESETS)
        defaults = {
            "hidden": HIDDEN[self.dataset],
            "minibatch": MINIBATCH[self.dataset],
            "step_size": step_size(self.dataset, self.latent_dim),
            "warm_up": 20 if self.preset == "smoke" else 100,
            "samples": SAMPLES[self.preset][self.dataset],
            "keep_weights": self.latent_dim in SHOWN[self.dataset]
            and (self.seed == 0 or self.preset != "paper"),
        }
        for name, value in defaults.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        for name, least in _LEAST.items():
            value = getattr(self, name)
            fits = isinstance(value, int) and value >= least
            _check(name, value, fits, f"an integer of at least {least}")
        size, std = self.step_size, self.initial_std
        _check("step_size", size, _finite(size) and size > 0, "a positive number")
        _check("initial_std", std, _finite(std) and std >= 0, "a number of at least 0")
        for name in ("prior", "keep_weights"):
            value = getattr(self, name)
            _check(name, value, isinstance(value, bool), "True or False")
        if self.samples < self.minibatch:
            raise ExperimentError(
                f"samples: expected at least one minibatch of {self.minibatch}, "
                f"found {self.samples}"
            )

    @property
    def name(self) -> str:
        """What the run is, readably: the panel, then each setting that is not the panel's."""
        usual = LowerBound(self.dataset, self.algorithm, self.latent_dim, preset=self.preset)
        told = ("dataset", "algorithm", "latent_dim", "seed", "preset", "samples", "keep_weights")
        changed = [
            f"-{field.name.replace('_', '-')}-{getattr(self, field.name)}"
            for field in fields(self)
            if field.name not in told and getattr(self, field.name) != getattr(usual, field.name)
        ]
        panel = f"{self.dataset}-{self.algorithm}-nz{self.latent_dim}"
        return f"{panel}{''.join(changed)}-seed{self.seed}"


_LEAST = {
    **dict.fromkeys(("latent_dim", "hidden", "minibatch", "noise_samples", "samples"), 1),
    **dict.fromkeys(("warm_up", "seed", "split_seed"), 0),
}
"""The least that each integer may be."""


def step_size(dataset: str, latent_dim: int) -> float:
    """Adagrad's step size of a panel of Figure 2.

    The paper chose from 0.01, 0.02 and 0.1 by the first iterations and does not say which won
    where. Its curves do: 0.02 follows them in every panel but MNIST's N_z = 20, which lies
    nearer 0.01.
    """
    return 0.01 if (dataset, latent_dim) == ("mnist", 20) else 0.02


def figure_2(preset: str = "paper", seed: int = 0) -> list[LowerBound]:
    """The AEVB curves of Figure 2: five MNIST panels and four Frey Face panels."""
    return [
        LowerBound(dataset, latent_dim=n, seed=seed, preset=preset)
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
    _one_of("figure", figure, FIGURES)
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
        step = functools.partial(
            auto_encoding.step,
            estimator=ESTIMATORS[experiment.estimator],
            samples=experiment.noise_samples,
        )
        state, history = training.train(
            step,
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


def start(
    experiment: LowerBound, dataset: data.Dataset
) -> tuple[auto_encoding.State, Iterator[Tensor]]:
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
    return auto_encoding.init(model, optimizer, generator), draw


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
    return model.eval().requires_grad_(False)


def _one_of(name: str, value: str, known: Collection[str]) -> None:
    if value not in known:
        raise ExperimentError(f"{name}: expected one of {', '.join(known)}; found {value!r}")


def _check(name: str, value: object, fits: bool, expected: str) -> None:
    if not fits:
        raise ExperimentError(f"{name}: expected {expected}, found {value!r}")


def _finite(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
