r"""How fast it is, against what this machine can do (``python -m aevb bench``).

Speeds of a shared machine drift by tens of percent within minutes. So whatever is compared is
measured in one process, in turns, and the medians are compared. Real speeds are given beside the
ratios for those who plan a run.
"""

import functools
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aevb import data, experiments, hmc, marginal_likelihood, replay, results
from aevb.contenders import STEPS, peers, plain_loop, products
from aevb.experiments import Experiment, LowerBound, MarginalLikelihood

__all__ = ["bench", "interleaved", "steady", "table"]

PAPER = LowerBound("mnist", "aevb", 20)
"""The configuration of the headline: the paper's N_z = 20 on MNIST, 500 hidden units, M = 100."""


def bench(seconds: float = 0.5, rounds: int = 9) -> results.Record:
    """Measure everything, on one thread.

    Args:
        seconds: How long each turn of each candidate lasts.
        rounds: The turns of each candidate; the median counts.

    Returns:
        A record that has not been stored. Its configuration holds the measurements: ``step``,
        the milliseconds of one step done in different ways; ``rates``, the training samples per
        second of each curve of Figures 2 and 3; ``hours``, what follows for each figure at the
        paper's budget; ``likelihood``, ``beside`` and ``start_up``; and in front the two ratios
        that are looked at first.
    """
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with experiments.on_threads(1):
            datasets: dict[str, data.Dataset] = {}
            dataset = experiments.dataset_of(PAPER, datasets=datasets)
            made = results.provenance(torch.device("cpu"), dataset.sha256)
            began = time.monotonic()
            step = interleaved(_ways(dataset), seconds, rounds)
            rates = _rates(seconds / 2, max(1, rounds // 3), datasets)
            measured = {
                "share_of_gemm": step["products"] / step["repeated, silent"],
                "ratio_to_plain_loop": step["plain loop"] / step["repeated, silent"],
                "step": step,
                "rates": rates,
                "hours": _hours(rates),
                "likelihood": _likelihood(dataset),
                "beside": _side_by_side(),
                "start_up": _start_up(),
            }
    finally:
        torch.set_default_dtype(dtype)
    made["wall_seconds"] = round(time.monotonic() - began, 1)
    return results.Record("speed", "bench", measured, {}, made)


def interleaved(
    candidates: Mapping[str, Callable[[], Any]], seconds: float, rounds: int
) -> dict[str, float]:
    """The median time of one step of each candidate, in milliseconds; they take turns.

    Args:
        candidates: By their names. A call is one step, or as many as ``contenders.STEPS`` says.
        seconds: How long each turn lasts.
        rounds: The turns of each candidate.
    """
    times: dict[str, list[float]] = {name: [] for name in candidates}
    calls = {name: _calls_in(candidate, seconds) for name, candidate in candidates.items()}
    for _ in range(rounds):
        for name, candidate in candidates.items():
            began = time.perf_counter()
            for _ in range(calls[name]):
                candidate()
            steps = calls[name] * STEPS.get(name, 1)
            times[name].append((time.perf_counter() - began) / steps * 1e3)
    return {name: statistics.median(found) for name, found in times.items()}


def _calls_in(candidate: Callable[[], Any], seconds: float) -> int:
    candidate()  # the first may be slower
    began = time.perf_counter()
    for _ in range(3):
        candidate()
    return max(1, round(3 * seconds / (time.perf_counter() - began)))


# -- One step, done in different ways ----------------------------------------------------------


def _ways(dataset: data.Dataset) -> dict[str, Callable[[], Any]]:
    rounded = _recorded(replace(PAPER, precision="bfloat16"), dataset)
    ours = _recorded(PAPER, dataset)
    ways: dict[str, Callable[[], Any]] = {
        "products": products(PAPER, dataset.train.shape[1], quick=True),
        "products, PyTorch's": products(PAPER, dataset.train.shape[1]),
        "plain loop": plain_loop(dataset.train),
        "step as written": _written(PAPER, dataset),
        "repeated": ours.repeat,
        "repeated, silent": functools.partial(ours.repeat, silently=True),
        "repeated, silent, bfloat16": functools.partial(rounded.repeat, silently=True),
    }
    return ways | peers(dataset.train)


def _written(experiment: Experiment, dataset: data.Dataset) -> Callable[[], Any]:
    state, draw = experiments.start(experiment, dataset)
    step = experiments.step_of(experiment)
    return lambda: step(state, next(draw))


def _recorded(experiment: Experiment, dataset: data.Dataset) -> replay.Recording:
    step = _written(replace(experiment, warm_up=0), dataset)
    step()  # the first reads how far the warm-up is
    return replay.record(step)


# -- Every curve -------------------------------------------------------------------------------


def _rates(
    seconds: float, rounds: int, datasets: dict[str, data.Dataset]
) -> dict[str, dict[str, float]]:
    """Training samples per second of each curve of Figures 2 and 3."""
    return {
        figure: {
            experiment.name: _rate(experiment, seconds, rounds, datasets)
            for experiment in experiments.grid(figure)
            if not (experiment.algorithm == "mcem" and experiment.minibatch > 1_000)
        }
        for figure in ("figure-2", "figure-3")
    }


def _rate(
    experiment: Experiment, seconds: float, rounds: int, datasets: dict[str, data.Dataset]
) -> float:
    dataset = experiments.dataset_of(experiment, datasets=datasets)
    if experiment.algorithm == "mcem":  # not repeated: its products are large
        step = _written(experiment, dataset)
    else:
        step = functools.partial(_recorded(experiment, dataset).repeat, silently=True)
    took = interleaved({"": step}, seconds, rounds)[""]
    return experiment.per_step / took * 1e3


def _hours(rates: dict[str, dict[str, float]]) -> dict[str, float]:
    """The hours of one core that training each figure takes, at the paper's budget."""
    hours = {}
    for figure, found in rates.items():
        curves = experiments.grid(figure)
        # Monte Carlo EM costs the same per sample on any number of images.
        rate = {e.name: found.get(e.name) or found["mcem-n1000-seed0"] for e in curves}
        hours[figure] = sum(e.samples / rate[e.name] for e in curves) / 3600
    return hours


# -- The rest ----------------------------------------------------------------------------------


def _likelihood(dataset: data.Dataset) -> dict[str, float]:
    """Appendix D as in Figure 3, and the sampler beneath it."""
    experiment = MarginalLikelihood()
    model = experiments.start(experiment, dataset)[0].model
    x = dataset.test[: experiment.evaluated]
    began = time.perf_counter()
    marginal_likelihood.reciprocal_importance_sampling(
        model, x, start="resampled", candidates=experiment.candidates
    )
    seconds = time.perf_counter() - began
    z = torch.zeros(len(x), experiment.latent_dim)

    def log_density(z: Tensor) -> Tensor:
        return model.log_joint(x, z)

    chains = hmc.init(z, log_density)
    move = {"": lambda: hmc.step(chains, log_density, torch.tensor(0.01), 10)}
    gradients = 10 * len(x) / interleaved(move, 0.5, 3)[""] * 1e3
    return {"seconds_per_1000_points": seconds, "gradients_per_second": gradients}


ALONE_SECONDS = 6.0
ALONE = """
import sys
from aevb import benchmark
print(benchmark.steady(float(sys.argv[1])), benchmark.peak_memory())
"""


def peak_memory() -> float:
    """The most memory that this process has had at once, in MiB."""
    status = Path("/proc/self/status")
    if not status.exists():  # elsewhere; what counts the parent's memory too, on Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 2**10


def steady(seconds: float) -> float:
    """Samples per second of the headline's training in this process."""
    torch.set_num_threads(1)
    return _rate(PAPER, seconds, 1, {})


def _side_by_side() -> dict[str, float]:
    """Two runs at once against one, and the memory of a run (MiB)."""

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", ALONE, str(ALONE_SECONDS)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def result(process: subprocess.Popen[str]) -> tuple[float, float]:
        rate, memory = process.communicate()[0].split()
        return float(rate), float(memory)

    alone, memory = result(start())
    pair = [start(), start()]
    together = sum(result(process)[0] for process in pair)
    return {"two_runs_to_one": together / alone, "memory_mib": memory}


def _start_up() -> dict[str, float]:
    """Seconds to import torch, and what aevb adds; the median of five processes."""
    code = "import time; a = time.time(); import torch; b = time.time(); import aevb.experiments"
    code += "; print(b - a, time.time() - b)"
    found = [
        [float(part) for part in subprocess.check_output([sys.executable, "-c", code]).split()]
        for _ in range(5)
    ]
    ours, theirs = (statistics.median(column) for column in list(zip(*found, strict=True))[::-1])
    return {"import_torch": theirs, "import_aevb_above": ours}


def table(measured: Mapping[str, Any]) -> str:
    """The measurements of :func:`bench`, to be read."""
    step = measured["step"]
    lines = [
        f"{'one step of N_z = 20 on MNIST':<34}{'ms':>8}{'samples/s':>12}"
        f"{'products':>10}{'plain':>8}"
    ]
    for name, took in step.items():
        share, ratio = step["products"] / took, step["plain loop"] / took
        lines.append(f"{name:<34}{took:>8.2f}{1e5 / took:>12,.0f}{share:>10.0%}{ratio:>8.2f}")
    for figure, rates in measured["rates"].items():
        hours = measured["hours"][figure]
        lines += ["", f"{figure}: {hours:.0f} hours of one core at the paper's budget; samples/s"]
        lines += [f"  {name:<32}{rate:>20,.0f}" for name, rate in rates.items()]
    for group in ("likelihood", "beside", "start_up"):
        lines.append("")
        lines += [f"{name.replace('_', ' '):<34}{v:>20,.2f}" for name, v in measured[group].items()]
    return "\n".join(lines)
