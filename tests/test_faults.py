"""A run that is killed at any moment is picked up, and ends as if nothing had happened.

The kill is a real ``kill -9`` of a real process in a real run. The data are synthetic, so that a
run is short, and are named so.
"""

import functools
import itertools
import multiprocessing
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from aevb import auto_encoding, data, experiments, replay, results, training

EXPERIMENT = experiments.LowerBound(
    latent_dim=2, hidden=8, minibatch=10, samples=4_000, preset="smoke"
)
STEPS = 400
KILLS = 10


def run(folder: Path) -> None:
    """What each process does: a run that keeps a checkpoint at every tenth step."""
    pixels = torch.rand(250, 20, generator=torch.Generator().manual_seed(21))
    synthetic = data.Dataset("synthetic", pixels[:200], pixels[200:], (4, 5), "synthetic")
    data.mnist = lambda path=None: synthetic
    training.GUARD_INTERVAL = 10
    training.stages = functools.partial(training.stages, checkpoint_seconds=0.0)
    counter, step = itertools.count(), auto_encoding.step
    repeat = replay.Recording.repeat

    def counted(recording: replay.Recording, times: int = 1, *, silently: bool = False) -> None:
        for _ in range(times):
            next(counter)
            repeat(recording, silently=silently)

    auto_encoding.step = lambda *given, **settings: (next(counter), step(*given, **settings))[1]
    replay.Recording.repeat = counted

    experiments.run(EXPERIMENT, folder, progress=False)

    (folder / "steps").write_text(str(next(counter)))


@pytest.fixture(scope="module")
def start() -> Callable[[Path], Any]:
    """Start :func:`run` in a process of its own, forked from one that has the imports done."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "torch._dynamo", "aevb.experiments"])

    def started(folder: Path) -> Any:
        process = context.Process(target=run, args=(folder,))
        process.start()
        return process

    return started


def finish(process: Any, seconds: float = 120.0) -> None:
    process.join(seconds)
    assert process.exitcode == 0


def test_a_killed_run_ends_bit_equal(start: Callable[[Path], Any], tmp_path: Path) -> None:
    name = EXPERIMENT.name
    checkpoint = Path("figure-2") / f"{name}.checkpoint.safetensors"

    def first_checkpoint(folder: Path, process: Any) -> None:
        while process.is_alive() and not (folder / checkpoint).exists():
            time.sleep(0.001)

    process = start(tmp_path / "uninterrupted")
    first_checkpoint(tmp_path / "uninterrupted", process)
    began = time.monotonic()
    finish(process)
    duration = time.monotonic() - began
    (expected,) = results.find("figure-2", tmp_path / "uninterrupted")
    assert (tmp_path / "uninterrupted" / "steps").read_text() == str(STEPS)

    moments, picked_up = random.Random(), 0  # any moment will do: no seed
    killed = attempts = 0
    while killed < KILLS:
        attempts += 1
        assert attempts < 3 * KILLS, "the runs end before they can be killed"
        folder = tmp_path / f"{attempts}"
        process = start(folder)
        if killed:  # the first is killed while it starts
            first_checkpoint(folder, process)
        moment = moments.uniform(0, 0.7 * duration)
        time.sleep(moment)
        process.kill()
        process.join()
        if process.exitcode == 0:
            continue
        killed += 1
        found = results.find("figure-2", folder)  # none, or a whole one
        assert found in ([], [expected]), moment
        there = (folder / checkpoint).exists()

        finish(start(folder))

        (record,) = results.find("figure-2", folder)
        assert record.curves == expected.curves, moment
        assert record.weights == expected.weights, moment
        assert results.load_weights(record).keys() == results.load_weights(expected).keys()
        steps = int((folder / "steps").read_text())
        assert (steps < STEPS) == there, "it goes on from the checkpoint, if there is one"
        picked_up += there
        assert sorted(file.name for file in (folder / "figure-2").iterdir()) == [
            f"{name}.json",
            f"{name}.safetensors",
        ], moment

    assert picked_up >= KILLS - 2
