"""Files that were changed at random: each is read to what it was, or refused by its name.

Every reader gets 1,000 changed files, the same ones each time, in a process of its own whose
memory and time are limited: a crash, a hang and a wild allocation fail the test too.
"""

import collections
import dataclasses
import gzip
import hashlib
import io
import multiprocessing
import random
import re
import resource
import struct
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy
import pytest
import scipy.io
import torch
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from aevb import _formats, adagrad, checkpoint, data, results

ROOT = Path(__file__).resolve().parent.parent
FILES = 1_000
MEMORY = 300_000_000  # bytes more than the process has when it starts
SECONDS = 120


def changed(content: bytes, generator: random.Random) -> bytes:
    """The contents after one to three changes, half of them near the beginning."""
    result = bytearray(content)
    for _ in range(generator.randint(1, 3)):
        end = len(result) if generator.random() < 0.5 else min(200, len(result))
        place, length = generator.randrange(end + 1), generator.randint(1, 40)
        kind = generator.randrange(7)
        if kind == 0 and place < len(result):  # a bit flipped
            result[place] ^= 1 << generator.randrange(8)
        elif kind == 1:  # cut off
            del result[place:]
        elif kind == 2:  # a stretch lost
            del result[place : place + length]
        elif kind == 3:  # random bytes put in
            result[place:place] = generator.randbytes(length)
        elif kind == 4:  # a stretch of it written over another
            other = generator.randrange(len(result) + 1)
            result[place : place + length] = result[other : other + length]
        elif kind == 5:  # a length or a type made another, in either order of bytes
            number = generator.choice([0, 1, 15, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1])
            result[place : place + 4] = struct.pack(generator.choice("<>") + "I", number)
        else:  # a digit made a number
            digits = [i for i, byte in enumerate(result) if chr(byte).isdigit()]
            at = generator.choice(digits or [len(result)])
            number = generator.choice([b"-1", b"1e999", b"NaN", b"null", b"9" * 30, b"[", b'"'])
            result[at : at + 1] = number
    return bytes(result)


# -- The readers -------------------------------------------------------------------------------

IMAGES = numpy.random.default_rng(0).integers(0, 256, (3, 7, 5), dtype=numpy.uint8)
IDX = bytes([0, 0, 8, 3]) + struct.pack(">3I", *IMAGES.shape) + IMAGES.tobytes()
RECORD = results.Record(
    "figure-2",
    "mnist-aevb-nz20-seed0",
    {"dataset": "mnist", "latent_dim": 20, "step_size": 0.01, "prior": True},
    {"samples": [100, 10_000], "test": [-543.4, 1 / 3], "train": [-1e-17, 0.1 + 0.2]},
    {"torch": "2", "commit": None, "wall_seconds": 3.5},
)
WEIGHTS = {"a.weight": torch.linspace(-1, 1, 12).reshape(3, 4), "a.bias": torch.ones(3)}


class State(NamedTuple):
    model: nn.Module
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    position: Tensor


def state(seed: int) -> State:
    generator = torch.Generator().manual_seed(seed)
    model = nn.Linear(3, 2, dtype=torch.float32)
    nn.init.normal_(model.weight, generator=generator)
    optimizer = adagrad.Adagrad(model.parameters(), 0.1)
    return State(model, optimizer, generator, torch.randn(2, 2, generator=generator))


def contents(state: State) -> list[Tensor]:
    return [state.model.weight, state.generator.get_state(), state.position]


def matlab() -> bytes:
    file = io.BytesIO()
    scipy.io.savemat(file, {"ff": IMAGES[0]})
    return file.getvalue()


def bytes_array(array: numpy.ndarray) -> None:
    assert array.dtype == numpy.uint8
    assert array.size < 10_000


def read_record(path: Path) -> None:
    assert results.load(path) == RECORD


def read_weights(path: Path) -> None:
    """Also behind a right checksum, the file is read strictly."""
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    beside = {"file": path.name, "sha256": sha256}
    found = results.load_weights(dataclasses.replace(RECORD, path=path, weights=beside))
    for value in found.values():
        assert value.dtype == torch.float32
        assert value.isfinite().all()


def read_checkpoint(path: Path) -> None:
    found = state(seed=1)
    before = [value.clone() for value in contents(found)]
    try:
        progress = checkpoint.load(path, found, "run A")
    except checkpoint.CheckpointError:
        assert all(map(torch.equal, contents(found), before)), "half-read"
        raise
    assert progress == {"samples": 300}
    assert all(map(torch.equal, contents(found), contents(state(seed=0))))


def stored_record(path: Path) -> None:
    stored = results.save(RECORD, path.parent / "records")
    path.write_bytes(stored.path.read_bytes())


def stored_checkpoint(path: Path) -> None:
    checkpoint.store(path, state(seed=0), {"samples": 300}, "run A")


HALVES = {key: value.half() for key, value in WEIGHTS.items()}
READERS: dict[str, tuple[Callable[[Path], Any], Callable[[Path], None], type[Exception]]] = {
    "record": (stored_record, read_record, results.RecordError),
    "weights": (
        lambda path: path.write_bytes(save_tensors(HALVES)),
        read_weights,
        results.RecordError,
    ),
    "checkpoint": (stored_checkpoint, read_checkpoint, checkpoint.CheckpointError),
    "idx": (
        lambda path: path.write_bytes(IDX),
        lambda path: bytes_array(_formats.idx(path.read_bytes(), path)),
        data.DataError,
    ),
    "idx.gz": (
        lambda path: path.write_bytes(gzip.compress(IDX, mtime=0)),
        lambda path: bytes_array(
            _formats.idx(_formats.gunzip(path.read_bytes(), len(IDX), path), path)
        ),
        data.DataError,
    ),
    "mat": (
        lambda path: path.write_bytes(matlab()),
        lambda path: bytes_array(_formats.matlab_matrix(path.read_bytes(), "ff", path)),
        data.DataError,
    ),
}


# -- A process of its own ----------------------------------------------------------------------


def read_changed_files(name: str, folder: Path, answer: Any) -> None:
    """Read them all, and answer with how many were read and refused, or with what went wrong."""
    store, read, error = READERS[name]
    path = folder / f"changed.{name}"
    store(path)
    read(path)  # unchanged
    content = path.read_bytes()
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    generator, counts = random.Random(name), collections.Counter[str]()
    for number in range(FILES):
        path.write_bytes(changed(content, generator))
        try:
            read(path)
            counts["read"] += 1
        except error as refusal:
            message = str(refusal)
            if not message.startswith(f"{path}: ") or "\n" in message:
                answer.send(f"file {number}: the message is {message!r}")
                return
            counts["refused"] += 1
        except BaseException:
            answer.send(f"file {number}: {path.read_bytes()[:300]!r}\n{traceback.format_exc()}")
            return
    answer.send(counts)


@pytest.mark.parametrize("name", READERS)
def test_a_changed_file_is_read_or_refused_by_name(name: str, tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")  # a fork of this process may hang
    context.set_forkserver_preload(["pytest", "scipy.io", "aevb.results"])
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=read_changed_files, args=(name, tmp_path, there))
    process.start()
    there.close()
    assert here.poll(SECONDS) or process.kill(), "it hangs"
    try:
        counts = here.recv()
    except EOFError:
        process.join()
        counts = f"the process ended with {process.exitcode}"
    process.join()
    assert isinstance(counts, collections.Counter), counts
    print(name, dict(counts))
    assert counts.total() == FILES
    assert counts["refused"] > FILES / 2


# -- Formats that can run code -----------------------------------------------------------------


def test_nothing_is_read_in_a_format_that_can_run_code() -> None:
    sources = [*ROOT.glob("aevb/**/*.py"), *ROOT.glob("book/**/*.py"), *ROOT.glob("book/*.ipynb")]
    assert len(sources) > 80
    unsafe = r"\b(pickle|torch\.load|torch\.save|loadmat|joblib|dill|shelve|marshal|allow_pickle)\b"
    for path in sources:
        assert not re.search(unsafe, path.read_text()), path
