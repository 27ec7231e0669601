r"""What each data file must be, how it is read and checked, and how any file is stored: whole."""

import contextlib
import hashlib
import os
from pathlib import Path
from typing import NamedTuple

from aevb._formats import DataError, gunzip

__all__ = [
    "FREY_FACE",
    "MNIST",
    "DataError",
    "File",
    "check",
    "read",
    "store",
    "write_atomically",
]


class File(NamedTuple):
    """One file: its place in the data folder, its length in bytes, its SHA-256, its .gz form."""

    path: str
    size: int
    sha256: str
    gz: "File | None" = None


MNIST = (
    File(
        path="mnist/MNIST/raw/train-images-idx3-ubyte",
        size=47_040_016,
        sha256="ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        gz=File(
            path="mnist/MNIST/raw/train-images-idx3-ubyte.gz",
            size=9_912_422,
            sha256="440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
    ),
    File(
        path="mnist/MNIST/raw/train-labels-idx1-ubyte",
        size=60_008,
        sha256="65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        gz=File(
            path="mnist/MNIST/raw/train-labels-idx1-ubyte.gz",
            size=28_881,
            sha256="3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
    ),
    File(
        path="mnist/MNIST/raw/t10k-images-idx3-ubyte",
        size=7_840_016,
        sha256="0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        gz=File(
            path="mnist/MNIST/raw/t10k-images-idx3-ubyte.gz",
            size=1_648_877,
            sha256="8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
    ),
    File(
        path="mnist/MNIST/raw/t10k-labels-idx1-ubyte",
        size=10_008,
        sha256="ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        gz=File(
            path="mnist/MNIST/raw/t10k-labels-idx1-ubyte.gz",
            size=4_542,
            sha256="f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    ),
)
FREY_FACE = (
    File(
        path="frey_face/frey_rawface.mat",
        size=1_100_584,
        sha256="265a83a23adb081755cd3de375509828e690324d1d60f076b8ecebc840d59c64",
    ),
)


def check(content: bytes, file: File, where: object) -> bytes:
    r"""Return the contents if they are what the file must be.

    Args:
        content: What was found.
        file: What is expected.
        where: The path or address of what was found, for the message.

    Raises:
        DataError: If the length or the SHA-256 differs.
    """
    if len(content) != file.size:
        found = f"{len(content):,}" if len(content) < file.size else "more"
        page = ", which look like an HTML page" if content.lstrip()[:1] == b"<" else ""
        raise DataError(f"{where}: expected {file.size:,} bytes, found {found}{page}")
    digest = hashlib.sha256(content).hexdigest()
    if digest != file.sha256:
        raise DataError(f"{where}: expected SHA-256 {file.sha256}, found {digest}")
    return content


def read(folder: Path, file: File) -> bytes:
    r"""The checked, uncompressed contents of a file in the data folder, from either form.

    Raises:
        DataError: If it is absent, unreadable, or not what it must be.
    """
    target = folder / file.path
    try:
        if file.gz is not None and not target.exists() and (folder / file.gz.path).exists():
            # Only a checked file is decompressed: how much comes out is known beforehand.
            return gunzip(read(folder, file.gz), file.size, folder / file.gz.path)
        with target.open("rb") as stream:
            content = stream.read(file.size + 1)  # enough to see that there is more
    except FileNotFoundError:
        either = "" if file.gz is None else ", as it is or with .gz"
        raise DataError(f"{target}: expected the file{either}, found none") from None
    except OSError as error:
        raise DataError(f"{target}: expected a readable file, found: {error.strerror}") from error
    return check(content, file, target)


def store(folder: Path, file: File, content: bytes) -> None:
    r"""Put checked contents in the data folder: the whole file appears, or nothing.

    Raises:
        DataError: If the contents are not what the file must be, or cannot be written.
    """
    target = folder / file.path
    check(content, file, target)
    try:
        write_atomically({target: content})
    except OSError as error:
        raise DataError(f"{target}: expected to write it, found: {error.strerror}") from error


def write_atomically(contents: dict[Path, bytes]) -> None:
    """Write files beside their places, make sure they are on the disk, and rename them.

    No file is renamed before all are written: if the disk is full, every old one is still there.
    The new names are on the disk before this returns, where the file system can say so: what is
    deleted afterwards is not gone before them if the power fails.

    Args:
        contents: What each file is to hold; folders are made.

    Raises:
        OSError: If one cannot be written; it names the file.
    """
    partials = {path: path.with_name(f"{path.name}.{os.getpid()}.partial") for path in contents}
    try:
        for path, content in contents.items():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with open(partials[path], "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                error.filename = error.filename or str(path)  # a full disk does not say whose
                raise
        for path, partial in partials.items():
            os.replace(partial, path)
        for folder in {path.parent for path in contents}:
            _sync(folder)
    finally:
        for partial in partials.values():
            partial.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
