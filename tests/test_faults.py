"""A run that is killed, or that the disk refuses, is picked up and ends as if nothing had happened.

Each fault is a real one, of a real process that runs the command line: a ``kill -9``, a limit of
the system on how far a file may grow, a second process at the same run. The data are synthetic, so
that a run is short, and are named so. `pytest --kills 100 -s tests/test_faults.py` tries each
oftener and says how it went.
"""

import functools
import itertools
import multiprocessing
import os
import random
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from aevb import auto_encoding, data, experiments, replay, results, training
from aevb.__main__ import main

EXPERIMENT = experiments.LowerBound(
    latent_dim=5, hidden=8, minibatch=10, samples=4_000, preset="smoke", keep_weights=True
)
COMMAND = (
    "run figure-2 --preset smoke --dataset mnist --algorithm aevb --latent-dim 5 "
    "--hidden 8 --minibatch 10 --samples 4e3 --keep-weights True"
)
STEPS = 400
FOLDER = Path("smoke") / "figure-2"
CHECKPOINT = FOLDER / f"{EXPERIMENT.name}.checkpoint.safetensors"


def run(
    folder: Path, room: int | None = None, clock_jumps: bool = False, told: str = "steps"
) -> None:
    """What each process does: the command line, with a checkpoint at every tenth step.

    ``room`` is how many bytes a file may grow to, ``told`` the file with the number of steps.
    """
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
    if clock_jumps:
        clock, year = time.time, 365.0 * 24 * 3600
        time.time = lambda: clock() + random.uniform(-9, 9) * year
    if room is not None:
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, most))

    os.environ["AEVB_RESULTS"] = str(folder)
    status = main(COMMAND.split())
    if status == 0:
        (folder / told).write_text(str(next(counter)))
    sys.exit(status)


Start = Callable[..., Any]


@pytest.fixture(scope="module")
def start() -> Start:
    """Start :func:`run` in a process of its own, forked from one that has the imports done."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "torch._dynamo", "aevb.__main__"])

    def started(folder: Path, **fault: Any) -> Any:
        process = context.Process(target=run, args=(folder,), kwargs=fault)
        process.start()
        return process

    return started


def finish(process: Any, status: int = 0) -> None:
    process.join(120.0)
    assert process.exitcode == status


def first_checkpoint(folder: Path, process: Any) -> None:
    """Wait for it, or for the end of the process."""
    while process.is_alive() and not (folder / CHECKPOINT).exists():
        time.sleep(0.001)


class Uninterrupted(NamedTuple):
    record: results.Record
    seconds: float
    """From the first checkpoint to the end."""
    checkpoint_bytes: int

    def ends_so(self, folder: Path) -> None:
        """Whether a run that was picked up has the same curves and weights, and left nothing."""
        (record,) = results.find("figure-2", folder / "smoke")
        assert record.curves == self.record.curves
        assert record.weights == self.record.weights
        assert results.load_weights(record).keys() == results.load_weights(self.record).keys()
        name = EXPERIMENT.name
        left = sorted(file.name for file in (folder / FOLDER).iterdir())
        assert left == [f"{name}.json", f"{name}.safetensors"]


@pytest.fixture(scope="module")
def uninterrupted(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Uninterrupted:
    folder = tmp_path_factory.mktemp("uninterrupted")
    process = start(folder)
    first_checkpoint(folder, process)
    began, size = time.monotonic(), (folder / CHECKPOINT).stat().st_size
    finish(process)
    (record,) = results.find("figure-2", folder / "smoke")
    assert (folder / "steps").read_text() == str(STEPS)
    return Uninterrupted(record, time.monotonic() - began, size)


def test_a_killed_run_ends_bit_equal(
    start: Start, uninterrupted: Uninterrupted, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    kills: int = request.config.getoption("--kills")
    moments = random.Random()  # any moment will do: no seed
    picked_up = stored = 0
    killed = attempts = 0
    while killed < kills:
        attempts += 1
        assert attempts < 4 * kills, "the runs end before they can be killed"
        folder = tmp_path / f"{attempts}"
        process = start(folder)
        if killed % 10:  # the others are killed while they start
            first_checkpoint(folder, process)
        moment = moments.uniform(0, uninterrupted.seconds)
        time.sleep(moment)
        process.kill()
        process.join()
        if process.exitcode == 0:
            continue
        killed += 1
        found = results.find("figure-2", folder / "smoke")  # none, or a whole one
        took = {"wall_seconds": uninterrupted.record.provenance["wall_seconds"]}  # may be another
        alike = [replace(record, provenance=record.provenance | took) for record in found]
        assert alike in ([], [uninterrupted.record]), moment
        there = (folder / CHECKPOINT).exists()

        finish(start(folder))

        if found:  # killed after all was done: it is left alone
            assert results.find("figure-2", folder / "smoke") == found
            assert not (folder / CHECKPOINT).exists()
            stored += 1
            continue
        uninterrupted.ends_so(folder)
        steps = int((folder / "steps").read_text())
        assert (steps < STEPS) == there, "it goes on from the checkpoint, if there is one"
        picked_up += there
    print(f"{kills} kills, {picked_up} picked up from a checkpoint, {stored} at the end; lost: 0")
    assert picked_up >= 0.6 * kills


def test_a_kill_just_after_the_record_was_stored_leaves_a_checkpoint_for_one_more_run(
    start: Start, uninterrupted: Uninterrupted, tmp_path: Path
) -> None:
    process = start(tmp_path)
    first_checkpoint(tmp_path, process)
    kept = (tmp_path / CHECKPOINT).read_bytes()
    finish(process)
    (tmp_path / CHECKPOINT).write_bytes(kept)
    (tmp_path / CHECKPOINT).with_name(f"{EXPERIMENT.name}.x.partial").write_bytes(kept[:9])
    finish(start(tmp_path))
    assert (tmp_path / "steps").read_text() == "0", "nothing is trained"
    uninterrupted.ends_so(tmp_path)


def test_a_run_that_the_disk_refuses_says_so_and_ends_bit_equal(
    start: Start, uninterrupted: Uninterrupted, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    times: int = max(3, request.config.getoption("--kills") // 2)
    rooms, refused = random.Random(), 0
    for number in range(times):
        # An early checkpoint is a little shorter than the last, and has to be refused as well.
        room = rooms.randrange(uninterrupted.checkpoint_bytes * 3 // 4)
        folder = tmp_path / f"{number}"
        if number % 2:  # a run under way, whose disk fills up
            process = start(folder)
            first_checkpoint(folder, process)
            process.kill()
            process.join()
        whole = (folder / CHECKPOINT).exists()

        finish(start(folder, room=room), status=1)

        refused += 1
        assert results.find("figure-2", folder / "smoke") == []
        assert (folder / CHECKPOINT).exists() == whole, "the old checkpoint is still there"
        finish(start(folder))
        uninterrupted.ends_so(folder)
    print(f"{refused} writes refused by the disk; lost: 0")


def test_a_clock_that_jumps_changes_nothing(
    start: Start, uninterrupted: Uninterrupted, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    times: int = max(1, request.config.getoption("--kills") // 10)
    for number in range(times):
        folder = tmp_path / f"{number}"
        process = start(folder, clock_jumps=True)
        first_checkpoint(folder, process)
        process.kill()
        process.join()
        finish(start(folder, clock_jumps=True))
        uninterrupted.ends_so(folder)
    print(f"{times} runs whose clock jumped by years, each killed once; lost: 0")


def test_two_at_once_make_one_run_between_them(
    start: Start, uninterrupted: Uninterrupted, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The second starts at once, or at a random moment; of every other pair one is killed."""
    times: int = max(4, request.config.getoption("--kills") // 2)
    at_once = 0
    for number in range(times):
        folder = tmp_path / f"{number}"
        pair = [start(folder, told="first")]
        first_checkpoint(folder, pair[0])
        if number % 4 > 1:  # the first may be done by then; the other half is surely at once
            time.sleep(random.uniform(0, uninterrupted.seconds))
        at_once += pair[0].is_alive()
        pair.append(start(folder, told="second"))
        if number % 2:
            time.sleep(random.uniform(0, uninterrupted.seconds))
            victim = pair.pop(random.randrange(2))
            victim.kill()
            victim.join()
        for process in pair:
            finish(process)
        if number % 2:  # its lock may stay, and locks nothing
            finish(start(folder))
            (folder / CHECKPOINT).with_name(f"{EXPERIMENT.name}.lock").unlink(missing_ok=True)
        else:
            steps = [int((folder / told).read_text()) for told in ("first", "second")]
            assert sum(steps) == STEPS, "one of them trained, or each a part"
        uninterrupted.ends_so(folder)
    print(f"{times} pairs, {at_once} of them at once, every other with a kill; lost: 0")
    assert at_once >= 0.5 * times
