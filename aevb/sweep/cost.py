r"""What a run costs, from the speeds that ``python -m aevb bench --store`` measured.

On a processor a run is its training samples at the measured rate of its curve, the evaluations of
its curves, and the start. On a GPU many runs share a device, and what is measured is the time of
a step of many at once: a run costs its share.
"""

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from aevb import results
from aevb._evaluation import schedule
from aevb._records import own_or_the_books
from aevb.experiments import Experiment, LowerBound, MarginalLikelihood, grid, specification

__all__ = ["core_seconds", "gpu_seconds", "held_against", "measured", "most_together"]

FORWARD = 1 / 3
"""What an evaluation of the bound costs of a training step: a step's products are one forward and
two backward."""

EVALUATED = {"mnist": 20_000, "frey-face": 1_965}
"""Images of the training and of the test set in one evaluation of the bound."""


def measured(name: str) -> results.Record:
    """The stored measurement ``bench`` (of a processor) or ``gpu``.

    That in :func:`aevb.results.folder` if there is one, else the book's.

    Raises:
        aevb.results.RecordError: If there is none, or it is damaged.
    """
    on_gpu = "--device cuda " if name == "gpu" else ""
    origin = f"`python -m aevb bench {on_gpu}--store` makes it"
    return own_or_the_books(f"speed/{name}", origin)


def core_seconds(experiment: Experiment) -> float:
    """The seconds of one core that a run takes.

    Args:
        experiment: The run, at the sizes of its panel: another number of hidden units, of noise
            samples or of leapfrog steps is not accounted for.

    Raises:
        aevb.results.RecordError: If there is no measurement.
    """
    speeds = measured("bench").configuration
    rate, places = _rate(experiment, speeds), len(schedule(experiment))
    seconds = sum(speeds["start_up"].values()) + experiment.samples / rate
    if isinstance(experiment, MarginalLikelihood):
        points = 2 * experiment.evaluated * places  # of the training and of the test set
        return seconds + points / 1_000 * speeds["likelihood"]["seconds_per_1000_points"]
    return seconds + FORWARD * EVALUATED[experiment.dataset] * places / rate


def _rate(experiment: Experiment, speeds: dict[str, Any]) -> float:
    """Training samples a second of the measured curve that is nearest to the run."""
    rates = speeds["rates"][experiment.figure]

    def distance(curve: Experiment) -> tuple[bool, int, int]:
        other = (curve.dataset, curve.algorithm) != (experiment.dataset, experiment.algorithm)
        images = [getattr(e, "n_train", 0) for e in (curve, experiment)]
        return other, abs(images[0] - images[1]), abs(curve.latent_dim - experiment.latent_dim)

    names = {curve: name for curve, name in _panels(experiment.figure).items() if name in rates}
    return rates[names[min(names, key=distance)]]


@functools.cache
def _panels(figure: str) -> dict[Experiment, str]:
    return {experiment: experiment.name for experiment in grid(figure)}


def gpu_seconds(experiment: Experiment) -> float | None:
    """A run's share of a GPU's seconds, where all runs of its data set train at once.

    Args:
        experiment: The run. How long the evaluations take was not measured: not counted.

    Returns:
        The seconds, or ``None`` for Figure 3, which was not measured on a GPU.

    Raises:
        aevb.results.RecordError: If there is no measurement.
    """
    if not isinstance(experiment, LowerBound):
        return None
    groups = measured("gpu").configuration["groups"]
    group = groups[{"mnist": "MNIST", "frey-face": "Frey Face"}[experiment.dataset]]
    steps = experiment.samples / experiment.per_step
    return group["microseconds"] / group["runs"] / 1e6 * steps


def most_together() -> int:
    """The most runs at once that were measured on one GPU."""
    groups = measured("gpu").configuration["groups"]
    return max(group["runs"] for group in groups.values())


def held_against(records: Sequence[results.Record]) -> dict[str, tuple[float, float]]:
    """The seconds that finished runs were projected to take, and those that they took.

    Args:
        records: Runs of Figures 2 and 3. Those with settings that are not their panel's are left
            out, and those on a GPU or with products by another library than the measured speeds.

    Returns:
        For each run that is left its projected and its real seconds. What else the machine had to
        do is in the second only.
    """
    found = {}
    library = results.multiplied_by(measured("bench"))
    for record in records:
        alike = results.multiplied_by(record) == library
        run = specification(record)
        usual = replace(run, seed=0, samples=10**6, keep_weights=True)
        panels = (replace(e, samples=10**6, keep_weights=True) for e in _panels(record.figure))
        if record.provenance["device"] == "cpu" and alike and usual in panels:
            made = replace(run, samples=int(record.curves["samples"][-1]))
            found[record.name] = core_seconds(made), record.provenance["wall_seconds"]
    return found
