r"""How far a curve moves where rounding is another (``python -m aevb drift``).

The beginning of stored runs is trained again with the same initial parameters, minibatches and
noise. What is another is the environment: the version of PyTorch, the processor's instructions,
the number of threads. Sums are then rounded otherwise, and every later step starts a little off.
"""

import os
import re
from dataclasses import asdict, replace

import torch

from aevb import experiments, results, training
from aevb._records import own_or_the_books

__all__ = ["RUNS", "SAMPLES", "beginning", "between", "differences", "environment", "measure"]

RUNS = (
    "devices/mnist-aevb-nz20-seed0",
    "devices/mnist-wake-sleep-nz20-seed0",
    "devices/frey-face-aevb-nz20-seed0",
)
"""The stored runs, all made on one make of processor with one version of PyTorch."""
SAMPLES = 100_000


def beginning(
    run: str, samples: int = SAMPLES, *, threads: int = 1, precision: str = "float32"
) -> experiments.Experiment:
    """What :func:`measure` trains, or why it cannot: nothing is trained yet.

    Raises:
        aevb.results.RecordError: If the stored record is missing or damaged.
        aevb.experiments.ExperimentError: If it is shorter, or a setting is not as described.
    """
    stored = _stored(run)
    last = int(stored.curves["samples"][-1])
    if samples > last:
        raise experiments.ExperimentError(
            f"samples: expected at most the {last} of {stored.name}, found {samples}"
        )
    if threads < 1:
        raise experiments.ExperimentError(f"threads: expected at least 1, found {threads}")
    return replace(
        experiments.specification(stored), samples=samples, precision=precision, keep_weights=False
    )


def measure(
    run: str,
    samples: int = SAMPLES,
    *,
    threads: int = 1,
    precision: str = "float32",
    nudged: bool = False,
) -> results.Record:
    """Train the beginning of a stored run again, here, without its evaluations.

    Args:
        run: The folder and the name of its record; one of :data:`RUNS`, or another of Figure 2.
        samples: How far; at most as far as the record.
        threads: How many share each operation.
        precision: Of the matrix products, ``float32`` or ``bfloat16``.
        nudged: Whether the last bit of one initial parameter is another: the smallest change
            that there is.

    Returns:
        A record that has not been stored. It has the curve that training leaves by itself,
        ``train_running``, and says in its provenance what decides the rounding.

    Raises:
        aevb.results.RecordError: If the stored record is missing or damaged.
        aevb.experiments.ExperimentError: If it is shorter, or a setting is not as described.
        aevb.data.DataError: If the data set cannot be had.
    """
    experiment = beginning(run, samples, threads=threads, precision=precision)
    dataset = experiments.dataset_of(experiment)
    with experiments.on_threads(threads):
        made = results.provenance(torch.device("cpu"), dataset.sha256)
        made["mkl"] = os.environ.get("MKL_CBWR", "")
        state, draw = experiments.start(experiment, dataset)
        if nudged:
            bias = state.model.recognition_model.hidden.bias.data
            bias[0] = torch.nextafter(bias[0], bias[0] + 1)
        _, history = training.train(
            experiments.step_of(experiment),
            state,
            draw,
            lambda model, seen: {},
            training.schedule(samples, experiment.minibatch),
            name=experiment.name,
            repeat=True,
        )
    record = results.Record(
        "drift",
        experiment.name,
        asdict(experiment) | {"n_train": len(dataset.train), "run": run, "nudged": nudged},
        {"samples": history.samples, **history.curves},
        made | {"wall_seconds": round(history.wall_seconds, 1)},
    )
    place = re.sub(r"[^A-Za-z0-9.+]+", "-", environment(record))
    return replace(record, name=f"{place}.{run.rpartition('/')[2]}")


def environment(record: results.Record) -> str:
    """What decides the rounding of a measured run, in words."""
    made, settings = record.provenance, record.configuration
    words = [f"PyTorch {made['torch']}", made["processor"], made["instructions"]]
    if made["mkl"]:
        words.append(f"MKL {made['mkl']}")
    if results.multiplied_by(record) != "PyTorch":
        words.append(results.multiplied_by(record))
    if made["threads"] > 1:
        words.append(f"{made['threads']} threads")
    if settings["precision"] != "float32":
        words.append(settings["precision"])
    if settings["nudged"]:
        words.append("one bit changed")
    return ", ".join(words)


def differences(record: results.Record) -> dict[int, float]:
    """A measured run minus the stored one, nats, at each number of samples that both have.

    Raises:
        aevb.results.RecordError: If the stored record is missing or damaged.
    """
    return between(record, _stored(record.configuration["run"]))


def between(record: results.Record, other: results.Record) -> dict[int, float]:
    """The running bound of a run minus another's, nats, at each number of samples of both."""
    one, two = (
        dict(zip(found.curves["samples"], found.curves["train_running"], strict=True))
        for found in (record, other)
    )
    return {int(x): one[x] - two[x] for x in one if x in two}


def _stored(run: str) -> results.Record:
    return own_or_the_books(run, "it comes with the repository")
