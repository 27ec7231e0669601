r"""How fast many runs at once are on a GPU, against what it can do (``aevb bench --device cuda``).

One run of this size keeps a large GPU busy for a tenth of its time. So what is asked is how long
a whole figure takes.
"""

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import Any

import torch

from aevb import contenders, data, experiments, replay, results, training
from aevb.experiments import Experiment

__all__ = ["bench", "table"]


def bench(device: torch.device | str = "cuda", steps: int = 2_000) -> results.Record:
    """Measure one run, and the runs of Figure 2 together.

    Args:
        device: The GPU.
        steps: The steps of each run that are timed.

    Returns:
        A record that has not been stored. Its configuration holds the measurements: ``products``,
        float32 operations per second of a large matrix product; ``copied``, bytes read and written
        per second of a large copy; and of each group in ``groups`` its ``runs``, the
        ``operations`` of a step of all of them, the ``microseconds`` that such a step takes, the
        two floors under that (``products_floor``, ``bytes_floor``), and the ``seconds`` in which
        the group would reach the paper's budget.

    Raises:
        aevb.experiments.ExperimentError: If there is no such device.
    """
    device = experiments.available_device(device)
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        sets = {name: data.load(name).to(device) for name in data.NAMES}
        made = results.provenance(device, sets["mnist"].sha256)
        began = time.monotonic()
        measured: dict[str, Any] = {"products": _products(device), "copied": _copied(device)}
        measured["groups"] = {
            name: _together(runs, sets, device, steps, measured) for name, runs in _groups().items()
        }
    finally:
        torch.set_default_dtype(dtype)
    made["wall_seconds"] = round(time.monotonic() - began, 1)
    return results.Record("speed", "gpu", measured, {}, made)


def _groups() -> dict[str, Sequence[Experiment]]:
    everything = experiments.figure_2()
    mnist = [e for e in everything if e.dataset == "mnist"]
    return {
        "MNIST, AEVB, N_z = 20": [e for e in mnist if (e.algorithm, e.latent_dim) == ("aevb", 20)],
        "MNIST, AEVB": [e for e in mnist if e.algorithm == "aevb"],
        "MNIST": mnist,
        "Frey Face": [e for e in everything if e.dataset == "frey-face"],
        "Figure 2": everything,
    }


def _together(
    runs: Sequence[Experiment],
    sets: dict[str, data.Dataset],
    device: torch.device,
    steps: int,
    measured: dict[str, Any],
) -> dict[str, float]:
    recordings = training.together([_prepared(e, sets[e.dataset]) for e in runs], device)

    def repeat(times: int) -> float:
        torch.cuda.synchronize(device)
        began = time.perf_counter()
        training.together([_repeated(recording, times) for recording in recordings], device)
        torch.cuda.synchronize(device)
        return time.perf_counter() - began

    repeat(training.TURN)  # the graphs are made
    seconds = repeat(steps) / steps
    # A step reads and writes the parameters, their sums and their gradients, once each.
    parameters = sum(map(_parameters, runs))
    longest = max(e.samples / e.minibatch for e in runs)
    return {
        "runs": len(runs),
        "operations": sum(recording.operations for recording in recordings),
        "microseconds": 1e6 * seconds,
        "products_floor": 1e6 * sum(map(_work, runs)) / measured["products"],
        "bytes_floor": 1e6 * 6 * 4 * parameters / measured["copied"],
        "seconds": longest * seconds,
    }


def _prepared(
    experiment: Experiment, dataset: data.Dataset
) -> Generator[None, None, replay.Recording]:
    state, draw = experiments.start(replace(experiment, warm_up=0), dataset)
    step = experiments.step_of(experiment)
    step(state, next(draw))  # the first reads how far the warm-up is
    yield
    return replay.record(lambda: step(state, next(draw)))


def _repeated(recording: replay.Recording, steps: int) -> Generator[None, None, None]:
    for done in range(0, steps, training.TURN):
        recording.repeat(min(training.TURN, steps - done), silently=True)
        yield


def _layers(experiment: Experiment) -> list[tuple[int, int]]:
    return contenders.layers(experiment, 784 if experiment.dataset == "mnist" else 560)


def _parameters(experiment: Experiment) -> int:
    return sum((inputs + 1) * outputs for inputs, outputs in _layers(experiment))


def _work(experiment: Experiment) -> float:
    """The floating-point operations in the matrix products of a step."""
    products = [inputs * outputs for inputs, outputs in _layers(experiment)]
    first, decoder = products[0], products[3]
    # Forward, the gradient of the weights, and that of the input, but for what is data.
    total = 3 * sum(products) - first
    if experiment.algorithm == "wake-sleep":
        # Each network is applied once more, and no gradient goes back through z.
        total += sum(products) - decoder
    return 2 * experiment.minibatch * total


def _products(device: torch.device) -> float:
    size = 8_192
    a, b = torch.randn(2, size, size, device=device)
    return 2 * size**3 / _seconds(lambda: a @ b)


def _copied(device: torch.device) -> float:
    size = 2**28
    source, target = torch.randn(2, size, device=device)
    return 2 * 4 * size / _seconds(lambda: target.copy_(source))


def _seconds(call: Callable[[], Any], times: int = 5) -> float:
    for warm in (True, False):
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(1 if warm else times):
            call()
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / times


def table(measured: dict[str, Any]) -> str:
    """The measurements of :func:`bench`, to be read."""
    lines = [
        f"float32 products {measured['products'] / 1e12:.1f} TFLOP/s, "
        f"copies {measured['copied'] / 1e12:.2f} TB/s",
        "",
        f"{'at once':<24}{'runs':>5}{'operations':>12}{'us a step':>11}"
        f"{'products':>10}{'bytes':>8}{'s in all':>10}",
    ]
    for name, found in measured["groups"].items():
        lines.append(
            f"{name:<24}{found['runs']:>5}{found['operations']:>12,}{found['microseconds']:>11.0f}"
            f"{found['products_floor']:>10.0f}{found['bytes_floor']:>8.0f}{found['seconds']:>10.0f}"
        )
    return "\n".join(lines)
