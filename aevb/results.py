r"""Records of finished runs.

A record is one JSON file: the configuration, the curves, where and how they were made, and a
digest of it all. Where a figure needs the trained model, a safetensors file lies beside it.
Loading verifies both; a damaged record is refused by name, never half-read.
"""

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

import aevb
from aevb import arithmetic, data
from aevb.checkpoint import write_atomically

__all__ = [
    "Record",
    "RecordError",
    "elsewhere",
    "find",
    "folder",
    "load",
    "load_weights",
    "multiplied_by",
    "provenance",
    "save",
]

SCHEMA = 1
MOST_BYTES = 100_000_000
"""A longer file is no record; the longest that is stored has some 8,000 bytes."""
MOST_WEIGHT_BYTES = 4_000_000_000
"""A longer file holds no stored weights."""
BEFORE = {
    "precision": "float32",
    "candidates": 4_096,
    "pixels": "gray",
    "decoder_variance": "network",
    "start": "resampled",
    "hmc_step_size": 0.01,
}
"""What a run did before there was a setting for it: such a record does not mention it."""
ROOT = data.ROOT


class RecordError(RuntimeError):
    """A record that is damaged, or not a record."""


@dataclass(frozen=True)
class Record:
    """One finished run."""

    figure: str
    """The figure that the run is for, such as ``figure-2``: its folder."""
    name: str
    """What the run is, readably: its file name."""
    configuration: dict[str, Any]
    """Every field of the experiment (see :mod:`aevb.experiments`)."""
    curves: dict[str, Sequence[float]]
    """``samples``, and at each the ``test``, ``train`` and ``train_running`` bound in nats."""
    provenance: dict[str, Any]
    """Versions, device, commit, date and wall time."""
    weights: dict[str, str] | None = None
    """File name and SHA-256 of the trained parameters, where they were kept."""
    path: Path | None = field(default=None, compare=False)
    """Where the record was read from."""

    @property
    def settings(self) -> dict[str, Any]:
        """The configuration, with what the run did where there was no setting for it yet."""
        return BEFORE | self.configuration


def folder(preset: str = "paper") -> Path:
    """The folder of a preset's records.

    The paper's are kept with the book, in ``book/results``; those of the shorter presets are
    build products, in ``_build/results/<preset>``, so that neither can pass for the other.
    ``AEVB_RESULTS`` replaces ``book/results`` and, with the preset's name, ``_build/results``. So
    does ``results`` in the working folder, if the package was installed without its repository.
    """
    base = elsewhere()
    if preset == "paper":
        return base or ROOT / "book" / "results"
    return (base or ROOT / "_build" / "results") / preset


def elsewhere() -> Path | None:
    """What replaces the repository's folders of records, if anything does (see :func:`folder`)."""
    if os.environ.get("AEVB_RESULTS"):
        return Path(os.environ["AEVB_RESULTS"])
    return None if data.repository() else Path.cwd() / "results"


def save(
    record: Record, path: Path | None = None, weights: dict[str, Tensor] | None = None
) -> Record:
    """Write a record, atomically, to ``<path>/<figure>/<name>.json``.

    Args:
        record: The finished run.
        path: The folder of the records; by default :func:`folder`.
        weights: The trained parameters to keep beside it, stored in half precision; without, none
            are kept, nor those of an earlier record.

    Returns:
        The record as stored: with its path and its weights' checksum.

    Raises:
        RecordError: If the disk refuses, the space is used up, a value is not finite, or the
            record is not as :func:`load` expects it. What was there before is then still there.
    """
    for part in (record.figure, record.name):
        if not _file_name(part):
            found = repr(part) if isinstance(part, str) else f"a {type(part).__name__}"
            raise RecordError(f"record: expected a name without a folder, found {found}")
    target = (path or folder()) / record.figure / f"{record.name}.json"
    content = asdict(record) | {"schema": SCHEMA, "weights": None}
    del content["path"]
    files = {}
    try:
        if weights is not None:
            halves = {k: v.detach().cpu().half() for k, v in weights.items()}
            _require_finite(halves)
            kept = save_tensors(halves)
            beside = target.with_suffix(".safetensors")
            content["weights"] = {"file": beside.name, "sha256": hashlib.sha256(kept).hexdigest()}
            files[beside] = kept
        _require_record(content)
        content["digest"] = _digest(content)
        text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False)
        write_atomically({**files, target: f"{text}\n".encode()})
        if weights is None:  # those of an earlier record of the run
            target.with_suffix(".safetensors").unlink(missing_ok=True)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise RecordError(f"{target}: the record could not be written: {error}") from error
    return load(target)


def load(path: Path) -> Record:
    """Read a record and verify it.

    Raises:
        RecordError: If the file is absent, is no record, is of an unknown schema, does not match
            its digest, or holds something else than a record does.
    """
    try:
        content = json.loads(_read(path, MOST_BYTES).decode(), parse_constant=_no_number)
        schema, digest = content.pop("schema"), content.pop("digest")
        found = _digest(content | {"schema": schema})
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise RecordError(f"{path}: not a readable record: {_why(error)}") from error
    if type(schema) is not int or schema != SCHEMA:
        raise RecordError(f"{path}: expected a record of schema {SCHEMA}, found {schema!r}")
    if found != digest:
        raise RecordError(f"{path}: damaged: expected digest {digest}, found {found}")
    try:
        _require_record(content | {"schema": schema})
    except ValueError as error:
        raise RecordError(f"{path}: not a record: {error}") from None
    return Record(**content, path=path)


def load_weights(record: Record) -> dict[str, Tensor]:
    """Read a record's trained parameters, as float32, and verify them.

    Raises:
        RecordError: If none were kept, or the file is absent or does not match its checksum.
    """
    if record.weights is None or record.path is None:
        raise RecordError(f"{record.figure}/{record.name}: no weights were kept with this record")
    path = record.path.with_name(record.weights["file"])
    try:
        content = _read(path, MOST_WEIGHT_BYTES)
        found = hashlib.sha256(content).hexdigest()
        if found != record.weights["sha256"]:
            raise ValueError(f"expected SHA-256 {record.weights['sha256']}, found {found}")
        halves = load_tensors(content)
        for key, value in halves.items():
            _require(value.dtype == torch.half, f"the weights {key}", torch.half, value.dtype)
        _require_finite(halves)
        return {key: value.float() for key, value in halves.items()}
    except (OSError, ValueError, SafetensorError) as error:
        raise RecordError(f"{path}: unusable weights: {error}") from error


def find(figure: str, path: Path | None = None) -> list[Record]:
    """Every record of a figure.

    Args:
        figure: The figure that the runs are for, such as ``figure-2``.
        path: The folder of the records; by default :func:`folder`.

    Returns:
        The records, in the order of their names; none where there is no such folder.

    Raises:
        RecordError: If one of them is damaged.
    """
    return [load(file) for file in sorted(((path or folder()) / figure).glob("*.json"))]


def provenance(device: torch.device, data_sha256: str) -> dict[str, Any]:
    """Where and how a run is made: versions, machine, commit, day, data.

    Ask before the run: the code that trains is the one that is there when it starts.

    Args:
        device: Where the run trains.
        data_sha256: The checksum of its data, :attr:`aevb.data.Dataset.sha256`.

    Returns:
        What a record keeps of it; JSON values.
    """
    here = device.type == "cpu"
    return {
        "aevb": aevb.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "platform": platform.platform(),
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "products": "oneDNN" if here and arithmetic.onednn_is_quick() else "PyTorch",
        "device": str(device) if here else torch.cuda.get_device_name(device),
        "threads": torch.get_num_threads(),
        "commit": _commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "data_sha256": data_sha256,
    }


def multiplied_by(record: Record) -> str:
    """The library of a run's matrix products; before it was noted, all were PyTorch's own."""
    return record.provenance.get("products", "PyTorch")


def _require_record(content: dict[str, Any]) -> None:
    """Whether every field of a record is there, is of its type and holds what can be used.

    Raises:
        ValueError: It names the field, what was expected and what was found.
    """
    fields = {"figure", "name", "configuration", "curves", "provenance", "weights", "schema"}
    _require(content.keys() == fields, "the fields", sorted(fields), sorted(map(str, content)))
    for key in ("figure", "name"):
        _require(_file_name(content[key]), key, "a name without a folder", content[key])
    for key in ("configuration", "curves", "provenance"):
        fits = isinstance(content[key], dict) and all(isinstance(k, str) for k in content[key])
        _require(fits, key, "an object", type(content[key]).__name__)
    curves = content["curves"]
    for key, values in curves.items():
        numbers = isinstance(values, list | tuple) and all(map(_number, values))
        _require(numbers, f"the curve {key}", "a list of finite numbers", values)
    if curves:
        _require("samples" in curves, "the curves", "samples", sorted(curves))
        length = len(curves["samples"])
        _require(length > 0, "the curve samples", "a number", "none")
        for key, values in curves.items():
            _require(len(values) == length, f"the curve {key}", f"{length} numbers", len(values))
    weights = content["weights"]
    if weights is not None:
        file = f"{content['name']}.safetensors"
        fits = isinstance(weights, dict) and weights.keys() == {"file", "sha256"}
        fits = fits and weights["file"] == file and _is_sha256(weights["sha256"])
        _require(fits, "weights", f"the file {file} and its SHA-256", weights)


def _require(fits: bool, what: str, expected: object, found: object) -> None:
    if not fits:
        raise ValueError(f"{what}: expected {expected}, found {str(found)[:100]!r}")


def _file_name(value: object) -> bool:
    """Whether it names a file in a folder, and cannot lead out of that folder."""
    return (
        isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", value) is not None
    )


def _number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max  # neither infinite nor no number


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None


def _require_finite(tensors: dict[str, Tensor]) -> None:
    for key, value in tensors.items():
        _require(bool(value.isfinite().all()), f"the weights {key}", "finite numbers", "others")


def _read(path: Path, most: int) -> bytes:
    """The contents of a file, if it is not longer than what can be expected."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        _require(size <= most, "the file", f"at most {most:,} bytes", f"{size:,}")
        return file.read(size)


def _why(error: Exception) -> str:
    """Why a file cannot be read as a record, in words."""
    if isinstance(error, json.JSONDecodeError):
        return f"no JSON at line {error.lineno}, column {error.colno}"
    if isinstance(error, UnicodeDecodeError):
        return "no JSON"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, RecursionError):
        return "nested too deep"
    if isinstance(error, KeyError):
        return f"expected the field {error.args[0]}, found none"
    return str(error) if isinstance(error, ValueError) else "expected an object"


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _digest(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor()


def _commit() -> str | None:
    """The commit, or what ``AEVB_COMMIT`` says it is where the code came without its repository."""
    if os.environ.get("AEVB_COMMIT"):
        return os.environ["AEVB_COMMIT"]
    if not (ROOT / ".git").exists():
        return None  # git would look further up, and find somebody else's repository
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
