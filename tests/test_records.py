"""Whether a record has what is asked for, and that one process at a time makes it."""

import itertools
import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from aevb import _records, _run, auto_encoding, checkpoint, data, experiments, results

EXPERIMENT = experiments.LowerBound(
    latent_dim=2, hidden=8, minibatch=10, samples=1_000, preset="smoke"
)
PIXELS = torch.rand(250, 20, generator=torch.Generator().manual_seed(22), dtype=torch.float32)


def synthetic(path: Path | None = None) -> data.Dataset:
    return data.Dataset("synthetic", PIXELS[:200], PIXELS[200:], (4, 5), "synthetic")


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> results.Record:
    monkeypatch.setattr(data, "mnist", synthetic)
    return experiments.run(EXPERIMENT, tmp_path, progress=False)


def test_a_record_lacks_what_is_asked_for_beyond_it(record: results.Record, tmp_path: Path) -> None:
    def lacking(**changes: Any) -> str:
        return experiments.lacking(replace(EXPERIMENT, **changes), tmp_path)

    assert lacking() == ""
    assert lacking(samples=500) == ""
    assert lacking(samples=1_009) == "", "a run ends with its last whole step"
    assert lacking(samples=1_010) == "1,000 samples of 1,010"
    assert lacking(keep_weights=True) == "its parameters were not kept"
    assert lacking(keep_weights=True, samples=500) == "", "a longer record is not given up for them"
    assert lacking(seed=1) == "missing"
    assert lacking(hidden=9) == "missing"


def test_parameters_that_were_not_kept_are_made_if_they_are_asked_for(
    record: results.Record, tmp_path: Path
) -> None:
    kept = replace(EXPERIMENT, keep_weights=True)
    [made] = experiments.run_together([kept], tmp_path, force=False, progress=False)
    assert made.curves == record.curves
    assert results.load_weights(made)
    assert experiments.done([EXPERIMENT, kept], tmp_path) == {EXPERIMENT: made, kept: made}


def test_a_record_of_another_configuration_is_told_by_what_changed(
    record: results.Record, tmp_path: Path
) -> None:
    # As if the panel's usual step size had been another one when the record was made.
    before = replace(record, configuration=record.configuration | {"step_size": 0.5}, path=None)
    results.save(before, tmp_path)
    assert experiments.lacking(EXPERIMENT, tmp_path) == (
        f"configuration changed: step_size 0.5, now {EXPERIMENT.step_size}"
    )
    old = {k: v for k, v in record.configuration.items() if k != "precision"}
    results.save(replace(record, configuration=old, path=None), tmp_path)
    assert experiments.lacking(EXPERIMENT, tmp_path) == "", "there was no such setting yet"


def test_done_are_the_records_that_lack_nothing_and_each_is_read_once(
    record: results.Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    load = results.load
    monkeypatch.setattr(results, "load", lambda path: read.append(path) or load(path))
    asked = [replace(EXPERIMENT, samples=2_000), EXPERIMENT, replace(EXPERIMENT, seed=1)]
    assert experiments.done(asked[1:], tmp_path) == {EXPERIMENT: record}
    assert read == [record.path]
    assert experiments.done(asked[:1], tmp_path) == {}, "it has come less far"


def test_a_longer_runs_checkpoint_is_not_taken_for_what_a_shorter_one_left(
    record: results.Record, tmp_path: Path
) -> None:
    longer, kept = replace(EXPERIMENT, samples=9_000), _records.checkpoint(EXPERIMENT, tmp_path)
    assert kept == _records.checkpoint(longer, tmp_path), "a name tells no number of samples"
    partial = kept.with_name(f"{kept.name}.123.partial")
    empty = _run.start(EXPERIMENT, synthetic())[0]
    for identity in (_records.identity(longer), "of something else"):
        checkpoint.store(kept, empty, {}, identity)
        partial.touch()
        assert experiments.leftovers(EXPERIMENT, tmp_path) == []
        experiments.run_together([EXPERIMENT], tmp_path, force=False, progress=False)
        assert kept.exists()
        assert partial.exists()
    kept.write_bytes(b"damaged")
    assert experiments.leftovers(EXPERIMENT, tmp_path) == [], "nobody knows whose it is"
    checkpoint.store(kept, empty, {}, _records.identity(EXPERIMENT))
    assert experiments.leftovers(EXPERIMENT, tmp_path) == [kept, partial]
    experiments.run_together([EXPERIMENT], tmp_path, force=False, progress=False)
    assert not kept.exists()
    assert not partial.exists()


def test_a_damaged_record_is_not_replaced(record: results.Record, tmp_path: Path) -> None:
    assert record.path is not None
    record.path.write_text(record.path.read_text().replace("0", "1", 1))
    with pytest.raises(results.RecordError, match="damaged"):
        experiments.lacking(EXPERIMENT, tmp_path)
    with pytest.raises(results.RecordError, match="damaged"):
        experiments.done([EXPERIMENT], tmp_path)


def hold(files: list[Path], seconds: float) -> None:
    with _records.exclusively(files):
        files[0].with_suffix(".held").touch()
        time.sleep(seconds)
        files[0].with_suffix(".held").unlink()  # before the lock is released


def train(folder: Path) -> None:
    """Make the record unless it is there, and leave a file for each training that began."""
    data.mnist = synthetic
    init = auto_encoding.init
    counter = itertools.count()

    def noted(*given: Any) -> Any:
        (folder / f"trained-{os.getpid()}-{next(counter)}").touch()
        time.sleep(1)  # the others arrive meanwhile
        return init(*given)

    auto_encoding.init = noted
    experiments.run_together([EXPERIMENT], folder, force=False, progress=False)


def alone(record: Path) -> None:
    """Fail if another process is in the same place."""
    for _ in range(5):
        with _records.exclusively([record]):
            record.with_suffix(".busy").mkdir()
            time.sleep(0.02)
            record.with_suffix(".busy").rmdir()


@pytest.fixture(scope="module")
def start() -> Callable[..., Any]:
    """Start a function in a process of its own, forked from one that has the imports done."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "torch._dynamo", "aevb.experiments"])

    def started(function: Callable[..., None], *arguments: Any) -> Any:
        process = context.Process(target=function, args=arguments)
        process.start()
        return process

    return started


def wait_for(file: Path) -> None:
    end = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < end, f"{file} did not come"
        time.sleep(0.01)


def test_a_second_process_waits_for_the_first(
    start: Callable[..., Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    record = tmp_path / "figure-2" / "a.json"
    process = start(hold, [record], 3.0)
    wait_for(record.with_suffix(".held"))
    with _records.exclusively([record, tmp_path / "figure-2" / "b.json"]):
        assert not record.with_suffix(".held").exists(), "both are at it"
    process.join()
    assert "a: waits: another process is at it" in capfd.readouterr().err
    assert list(record.parent.iterdir()) == [], "locks stay behind"


def test_nobody_is_let_in_by_a_lock_that_was_taken_away(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    processes = [start(alone, tmp_path / "a.json") for _ in range(6)]
    for process in processes:
        process.join(120)
        assert process.exitcode == 0


def test_a_killed_holder_and_the_file_it_leaves_hold_up_nobody(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    record = tmp_path / "a.json"
    process = start(hold, [record], 600.0)
    wait_for(record.with_suffix(".held"))
    process.kill()
    process.join()
    assert record.with_suffix(".lock").exists()
    began = time.monotonic()
    with _records.exclusively([record]):
        assert time.monotonic() - began < 60
    assert not record.with_suffix(".lock").exists()


def test_of_many_processes_one_trains_and_all_have_the_record(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    processes = [start(train, tmp_path) for _ in range(4)]
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    assert len(list(tmp_path.glob("trained-*"))) == 1
    assert experiments.lacking(EXPERIMENT, tmp_path) == ""
    assert not list(tmp_path.rglob("*.lock"))


def test_a_file_system_without_locks_is_told_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(descriptor: int, how: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with _records.exclusively([tmp_path / "a.json"]):
        pass
    assert "warning: no locks on this file system" in capfd.readouterr().err
