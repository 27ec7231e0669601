r"""What a data file must be, and how a checked copy of it is stored."""

import hashlib
from pathlib import Path
from typing import NamedTuple

__all__ = ["DataError", "File", "check"]


class DataError(RuntimeError):
    """A data file is absent, damaged, or cannot be had. The message names it."""


class File(NamedTuple):
    """What one file must be: its place in the data folder, its length in bytes, its SHA-256."""

    path: str
    size: int
    sha256: str


def check(content: bytes | None, file: File, where: object, size: int) -> bytes:
    """Returns the contents if they are the file's; else raises DataError."""
    if content is None or size != file.size:
        raise DataError(f"{where}: expected {file.size:,} bytes, found {size:,}")
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise DataError(f"{where}: expected SHA-256 {file.sha256}, found {found}")
    return content
