r"""The record of an experiment: whether it is there, and that one process at a time makes it."""

import contextlib
import errno
import fcntl
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from aevb import checkpoint as checkpoints
from aevb import results
from aevb._specification import Experiment, LowerBound, MarginalLikelihood, one_of

__all__ = [
    "checkpoint",
    "done",
    "exclusively",
    "identity",
    "lacking",
    "leftovers",
    "own_or_the_books",
    "place",
    "specification",
    "stored",
]

WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)
"""What a file system without locks says; the last two are one number on Linux, not on macOS."""
FREE = ("samples", "keep_weights")
"""Fields that do not decide a curve: how long it is, and what is kept beside it."""


def place(experiment: Experiment, path: Path | None = None) -> Path:
    """The file of an experiment's record, whether or not it is there."""
    path = path or results.folder(experiment.preset)
    return path / experiment.figure / f"{experiment.name}.json"


def checkpoint(experiment: Experiment, path: Path | None = None) -> Path:
    """The file of an experiment's way back after an interruption, whether or not it is there."""
    return place(experiment, path).with_suffix(".checkpoint.safetensors")


def identity(experiment: Experiment) -> str:
    """Whose a checkpoint is. It tells more than the name: also how far the run is to come."""
    return json.dumps(asdict(experiment))


def leftovers(experiment: Experiment, path: Path | None = None) -> list[Path]:
    """What a run has no more use for once its record is stored, as far as it is there.

    A kill just after the record was stored leaves the checkpoint, one in the middle of a write a
    partial file. Neither is this run's where the checkpoint is that of another run of this name,
    such as a longer one, which may be under way.
    """
    kept = checkpoint(experiment, path)
    if kept.exists() and checkpoints.identity_of(kept) != identity(experiment):
        return []
    partial = kept.parent.glob(f"{experiment.name}.*.partial")
    return [file for file in (kept, *partial) if file.exists()]


def stored(experiment: Experiment, path: Path | None = None) -> results.Record | None:
    """The record of an experiment, whatever the number of samples it has come to, or ``None``.

    Raises:
        aevb.results.RecordError: If it is there but damaged.
    """
    file = place(experiment, path)
    return results.load(file) if file.exists() else None


def own_or_the_books(name: str, origin: str) -> results.Record:
    """A record that something is measured against: one's own if there is one, else the book's.

    Args:
        name: Its folder, such as ``speed``, and its name.
        origin: Where it comes from, in words, for those who have neither.

    Raises:
        aevb.results.RecordError: If there is none, or it is damaged.
    """
    own, the_books = (
        folder / f"{name}.json" for folder in (results.folder(), results.ROOT / "book" / "results")
    )
    if not own.exists() and not the_books.exists():
        raise results.RecordError(f"{own}: no such record; {origin}")
    return results.load(own if own.exists() else the_books)


def specification(record: results.Record) -> Experiment:
    """The experiment that a record is of. What it does not mention is as it was at its time.

    Raises:
        ExperimentError: If the record is of another kind of run.
    """
    kinds: dict[str, type[Experiment]] = {k.figure: k for k in (LowerBound, MarginalLikelihood)}
    kinds["devices"] = LowerBound  # the same runs, made on another device as well
    one_of(f"{record.name}: figure", record.figure, kinds)
    kind = kinds[record.figure]
    known = {field.name for field in fields(kind)}
    return kind(**{k: v for k, v in record.settings.items() if k in known})


def lacking(experiment: Experiment, path: Path | None = None) -> str:
    """Why an experiment has to be run; empty where its record has all that is asked for.

    There is no record, it is of another configuration (the usual value of a setting was another
    one when it was made), it has come less far, or just as far without the parameters that are to
    be kept: a longer record is not given up for these.

    Raises:
        aevb.results.RecordError: If the record is there but damaged.
    """
    record = stored(experiment, path)
    return "missing" if record is None else _lacks(experiment, record)


def _lacks(experiment: Experiment, record: results.Record) -> str:
    found, wanted = asdict(specification(record)), asdict(experiment)
    changed = [k for k in wanted if k not in FREE and found[k] != wanted[k]]
    if changed:
        told = ", ".join(f"{name} {found[name]}, now {wanted[name]}" for name in changed)
        return f"configuration changed: {told}"
    whole = experiment.samples // experiment.per_step * experiment.per_step
    reached = int(record.curves["samples"][-1])
    if reached < whole:
        return f"{reached:,} samples of {whole:,}"
    unkept = experiment.keep_weights and record.weights is None
    return "its parameters were not kept" if unkept and reached == whole else ""


def done(
    experiments: Sequence[Experiment], path: Path | None = None
) -> dict[Experiment, results.Record]:
    """The records that need not be made, those of the experiments that lack nothing.

    Raises:
        aevb.results.RecordError: If a record is there but damaged.
    """
    records = ((e, stored(e, path)) for e in experiments)
    return {e: record for e, record in records if record is not None and not _lacks(e, record)}


@contextlib.contextmanager
def exclusively(files: Sequence[Path]) -> Iterator[None]:
    """Be the only process that makes these records; wait for whoever makes one of them now.

    A lock is an empty file beside the record, which goes with it. The system releases it when its
    holder ends in whatever way, so that one that is left behind by a kill locks nothing. On a file
    system that has no locks there is a warning and no waiting: the same run, made twice at once,
    has the same curve.

    Args:
        files: The records' files. Their folders are made.

    Raises:
        OSError: If a lock cannot be made.
    """
    with contextlib.ExitStack() as held:
        for file in sorted(set(files)):  # everyone in the same order: nobody waits in a circle
            held.enter_context(_locked(file.with_suffix(".lock")))
        yield


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    file.parent.mkdir(parents=True, exist_ok=True)
    told = False
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not told:
                    print(f"{file.stem}: waits: another process is at it", file=sys.stderr)
                told = True
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                os.close(descriptor)
                raise
            print(f"{file}: warning: no locks on this file system: {error}", file=sys.stderr)
        if _is(file, descriptor):
            break
        os.close(descriptor)  # its last holder took it away
    try:
        yield
    finally:
        file.unlink(missing_ok=True)  # before it is released: whoever waits sees that it is gone
        os.close(descriptor)


def _is(file: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(file), os.fstat(descriptor))
    except FileNotFoundError:
        return False
