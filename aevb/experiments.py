r"""The runs behind each figure (paper, section 5).

An experiment is a frozen record of everything that decides a run. ``smoke`` really trains, in
seconds; ``quick`` shows the shape of the curves in minutes; ``paper`` is the paper's budget.
"""

import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from aevb import models, results
from aevb._records import done, lacking, leftovers, specification, stored
from aevb._run import (
    ALGORITHMS,
    available_device,
    dataset_of,
    model_of,
    on_threads,
    run,
    run_together,
    start,
    step_of,
)
from aevb._specification import (
    LATENT_DIMS,
    PAPER_N_TRAIN,
    PRESETS,
    SAMPLES,
    SHOWN,
    Experiment,
    ExperimentError,
    LowerBound,
    MarginalLikelihood,
    one_of,
    paper_samples,
    step_size,
)

__all__ = [
    "FIGURES",
    "LATENT_DIMS",
    "PRESETS",
    "SAMPLES",
    "ALGORITHMS",
    "Experiment",
    "ExperimentError",
    "LowerBound",
    "MarginalLikelihood",
    "available_device",
    "dataset_of",
    "done",
    "figure_2",
    "figure_3",
    "figure_4",
    "figure_5",
    "grid",
    "lacking",
    "leftovers",
    "model_of",
    "on_threads",
    "one_of",
    "paper_samples",
    "reproduce",
    "rerun",
    "run",
    "run_together",
    "select",
    "specification",
    "start",
    "step_of",
    "step_size",
    "stored",
    "trained_model",
]


def figure_2(preset: str = "paper", seed: int = 0) -> list[LowerBound]:
    """The runs of Figure 2: five MNIST panels and four of Frey Face, two algorithms each."""
    return [
        LowerBound(dataset, algorithm, n, seed=seed, preset=preset)
        for algorithm in LowerBound.algorithms
        for dataset, dims in LATENT_DIMS.items()
        for n in dims
    ]


def figure_3(preset: str = "paper", seed: int = 0) -> list[MarginalLikelihood]:
    """The runs of Figure 3: two panels, three algorithms each."""
    return [
        MarginalLikelihood(algorithm=algorithm, n_train=n, seed=seed, preset=preset)
        for n in PAPER_N_TRAIN
        for algorithm in MarginalLikelihood.algorithms
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


FIGURES: dict[str, Callable[..., Sequence[Experiment]]] = {
    "figure-2": figure_2,
    "figure-3": figure_3,
    "figure-4": figure_4,
    "figure-5": figure_5,
}


def grid(figure: str, preset: str = "paper", seed: int = 0) -> Sequence[Experiment]:
    """The experiments of a figure.

    Args:
        figure: ``figure-2``, ``figure-3``, ``figure-4`` or ``figure-5``.
        preset: ``smoke``, ``quick`` or ``paper``.
        seed: The seed of every run.

    Raises:
        ExperimentError: If the figure or the preset is unknown, or the seed is not one.
    """
    one_of("figure", figure, FIGURES)
    return FIGURES[figure](preset, seed)


def select(
    figures: Sequence[str],
    preset: str = "paper",
    seeds: Sequence[int] = (0,),
    choices: Mapping[str, Collection[Any]] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> dict[Experiment, str]:
    """The experiments of several figures, each once, with the first figure that has it.

    Args:
        figures: Their names.
        preset: ``smoke``, ``quick`` or ``paper``.
        seeds: The seeds of the runs.
        choices: For some fields the values to choose, such as ``{"latent_dim": [3, 5]}``.
        settings: Fields to be set otherwise than in the figure.

    Raises:
        ExperimentError: If a name or a value is unknown, or nothing is chosen.
    """
    wanted, given = dict(choices or {}), dict(settings or {})
    panels: dict[Experiment, str] = {}
    for figure in figures:
        for seed in seeds:
            for experiment in grid(figure, preset, seed):
                panels.setdefault(experiment, figure)
    known = [{field.name for field in fields(experiment)} for experiment in panels]
    for names, has in ((wanted, any), (given, all)):
        for name in names:
            if not has(name in fields_of for fields_of in known):
                raise ExperimentError(f"{', '.join(figures)}: it has no setting {name}")
    chosen = {
        experiment: figure
        for experiment, figure in panels.items()
        if all(getattr(experiment, name, None) in values for name, values in wanted.items())
    }
    found = {name: {getattr(e, name, None) for e in chosen} for name in wanted}
    if not chosen or any(set(values) - found[name] for name, values in wanted.items()):
        raise ExperimentError(_not_there(figures, panels, wanted))
    given = {"keep_weights": None, **given}  # it depends on the others
    return {replace(experiment, **given): figure for experiment, figure in chosen.items()}


def _not_there(
    figures: Sequence[str], panels: Collection[Experiment], wanted: Mapping[str, Collection[Any]]
) -> str:
    """Which choice no panel has: by itself, or else together with the other choices."""
    nothing: dict[str, Collection[Any]] = {}
    tries = [(name, nothing) for name in wanted]
    tries += [(name, {n: wanted[n] for n in wanted if n != name}) for name in list(wanted)[::-1]]
    for name, others in tries:
        fitting = [p for p in panels if all(getattr(p, n, None) in v for n, v in others.items())]
        known = dict.fromkeys(getattr(panel, name) for panel in fitting if hasattr(panel, name))
        absent = [value for value in wanted[name] if value not in known]
        if known and absent:
            listed = sorted(known) if all(isinstance(n, int) for n in known) else known
            beside = ", ".join(f"{n} {_either(values)}" for n, values in others.items())
            given = f" with {beside}" if beside else ""
            return f"{name}: expected {_either(listed)}{given}; found {', '.join(map(str, absent))}"
    asked = ", ".join(f"{name} {_either(values)}" for name, values in wanted.items())
    return f"{', '.join(figures)}: expected a run with {asked}, found none"


def _either(values: Collection[Any]) -> str:
    *first, last = map(str, values)
    return f"{', '.join(first)} or {last}" if first else last


def reproduce(
    figure: str,
    preset: str = "paper",
    seed: int = 0,
    path: Path | None = None,
) -> list[results.Record]:
    """The records that a figure draws from.

    Args:
        figure: ``figure-2``, ``figure-3``, ``figure-4`` or ``figure-5``.
        preset: ``paper`` reads the stored records, however far their runs have come.
            ``smoke`` and ``quick`` train what is :func:`lacking`, in ``_build/results``.
        seed: The seed of the runs.
        path: The folder of the records, if another.

    Returns:
        A record for each experiment of :func:`grid`, in its order.

    Raises:
        ExperimentError: If a name is unknown, or a stored record is missing, with the command that
            makes it.
        aevb.results.RecordError: If a record is damaged, or one that was trained cannot be written.
        aevb.data.DataError, aevb.training.DivergenceError, aevb.checkpoint.CheckpointError: What
            :func:`run` raises, where something has to be trained.
    """
    found = []
    for experiment in grid(figure, preset, seed):
        if preset != "paper" and lacking(experiment, path):
            # unless another process makes it meanwhile
            run_together([experiment], path, force=False, progress=False)
        record = stored(experiment, path)
        if record is None:
            raise ExperimentError(
                f"{experiment.name}: no such record. Make it with: python -m aevb run {figure}"
                f" {experiment.selection} --seed {experiment.seed}"
            )
        found.append(record)
    return found


def rerun(
    record: results.Record,
    samples: int,
    *,
    device: str = "cpu",
    progress: bool | None = None,
) -> dict[str, float]:
    """Train the beginning of a record's run again, from the configuration that it stores.

    Args:
        record: A run of Figure 2 or 3.
        samples: How far; at most as far as the record.
        device: Where. Elsewhere than where the record was made the noise is another.
        progress: Whether to show a bar; by default where standard error is a terminal.

    Returns:
        The largest difference in each curve, nats, over the places that both runs evaluated.

    Raises:
        ExperimentError: If the record is of another kind of run, or shorter.
    """
    experiment = replace(specification(record), samples=samples, keep_weights=False)
    last = int(record.curves["samples"][-1])
    if samples > last:
        raise ExperimentError(f"samples: expected at most the record's {last}, found {samples}")
    with tempfile.TemporaryDirectory() as folder:
        again = run(experiment, Path(folder), device=device, progress=progress)
    names = [name for name in again.curves if name != "samples"]
    before, after = (
        {x: [r.curves[n][i] for n in names] for i, x in enumerate(r.curves["samples"])}
        for r in (record, again)
    )
    common = sorted(before.keys() & after.keys())
    return {
        name: max(abs(before[x][n] - after[x][n]) for x in common) for n, name in enumerate(names)
    }


def trained_model(record: results.Record) -> models.VAE:
    """The model of a record, with its stored parameters.

    Raises:
        aevb.results.RecordError: If no weights were kept, or they are damaged.
    """
    weights = results.load_weights(record)
    data_dim = weights["recognition_model.hidden.weight"].shape[1]
    model = model_of(specification(record), data_dim)
    model.load_state_dict(weights)
    return model.train(False).requires_grad_(False)
