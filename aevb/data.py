r"""MNIST and Frey Face, the data sets of section 5: read, checked, split, drawn in minibatches.

The files lie in one folder, in torchvision's layout for MNIST (:func:`folder` says which)::

    mnist/MNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte    each as it is or with .gz
    frey_face/frey_rawface.mat

Every file's SHA-256 is checked each time it is read, before its contents are used. Nothing is
downloaded unasked: :func:`fetch` does that, ``python -m aevb data`` calls it.
"""

import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from aevb import _download, _files, _formats, _torchvision
from aevb._files import DataError

__all__ = [
    "NAMES",
    "DataError",
    "Dataset",
    "folder",
    "repository",
    "mnist",
    "mnist_held_out",
    "frey_face",
    "fashion_mnist",
    "load",
    "minibatches",
    "black_or_white",
    "fetch",
    "verify",
]

NAMES = ("mnist", "frey-face")
"""The names of the data sets."""
ROOT = Path(__file__).resolve().parents[1]
"""The folder that the package lies in."""

_FILES = {"mnist": _files.MNIST, "frey-face": _files.FREY_FACE}
_SOURCES = {"mnist": _download.mnist_sources, "frey-face": _download.frey_face_sources}


class Dataset(NamedTuple):
    r"""A data set, split.

    Attributes:
        name: ``"mnist"``, ``"frey-face"`` or ``"fashion-mnist"``.
        train: Training images, (N, D), float32 in [0, 1].
        test: Test images, (N_test, D), float32 in [0, 1].
        image_shape: Rows and columns of one image; their product is D.
        sha256: SHA-256 of what was read: of the one file, or of the files' own sums, joined.
        train_labels: Classes of the training images, (N,), int64, or None.
        test_labels: Classes of the test images, (N_test,), int64, or None.
    """

    name: str
    train: Tensor
    test: Tensor
    image_shape: tuple[int, int]
    sha256: str
    train_labels: Tensor | None = None
    test_labels: Tensor | None = None

    def to(self, device: torch.device | str) -> "Dataset":
        """The same, with the images on a device."""
        return self._replace(train=self.train.to(device), test=self.test.to(device))


def folder() -> Path:
    r"""The data folder: ``AEVB_DATA``, else ``data/`` in the repository.

    For a package that was installed without its repository, ``data/`` in the working folder.
    """
    if os.environ.get("AEVB_DATA"):
        return Path(os.environ["AEVB_DATA"])
    return (repository() or Path.cwd()) / "data"


def repository() -> Path | None:
    """The project's repository, if that is what the package lies in: not once it is installed."""
    return ROOT if (ROOT / "pyproject.toml").exists() else None


def mnist(path: Path | None = None) -> Dataset:
    r"""MNIST: the first 50,000 training images and the 10,000 test images; pixels / 255.

    The last 10,000 training images are left out: Figure 3 of the paper gives N_train = 50,000.

    Args:
        path: The data folder; by default :func:`folder`.

    Returns:
        The data set, D = 784, with labels.

    Raises:
        DataError: If a file is absent, unreadable or not the original.
    """
    path = folder() if path is None else path
    sums = [file.sha256 for file in _files.MNIST]
    train, train_labels, test, test_labels = _mnist_tensors(path)
    return Dataset(
        name="mnist",
        train=train[:50_000].reshape(-1, 784).float().div_(255),
        test=test.reshape(-1, 784).float().div_(255),
        image_shape=(28, 28),
        sha256=hashlib.sha256("".join(sums).encode()).hexdigest(),
        train_labels=train_labels[:50_000],
        test_labels=test_labels,
    )


def mnist_held_out(path: Path | None = None) -> Tensor:
    r"""The last 10,000 training images of MNIST, which :func:`mnist` leaves out.

    In the first author's loader of the time they are the validation set.

    Args:
        path: The data folder; by default :func:`folder`.

    Returns:
        (10000, 784), float32 in [0, 1].

    Raises:
        DataError: If a file is absent, unreadable or not the original.
    """
    images, *_ = _mnist_tensors(folder() if path is None else path)
    return images[50_000:].reshape(-1, 784).float().div_(255)


def frey_face(path: Path | None = None, split_seed: int = 0) -> Dataset:
    r"""Frey Face: 1,965 frames, shuffled, 1,600 to train on and 365 to test on; pixels / 256.

    The paper states neither split nor scale. Both follow from its wake-sleep curves, which level
    off at the likelihood of one Gaussian a pixel, fitted to 1,600 shuffled frames scaled by 1/256.

    Args:
        path: The data folder; by default :func:`folder`.
        split_seed: Seed of the shuffle, which has a generator of its own.

    Returns:
        The data set, D = 560 (28 rows of 20 pixels), without labels.

    Raises:
        DataError: If the file is absent, unreadable or not the original.
    """
    path = folder() if path is None else path
    (file,) = _files.FREY_FACE
    content = _files.read(path, file)
    # (560, 1965): one image a column
    columns = _formats.matlab_matrix(content, "ff", path / file.path)
    images = torch.from_numpy(columns.T.copy()).float().div_(256)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(split_seed))
    return Dataset(
        name="frey-face",
        train=images[order[:1_600]],
        test=images[order[1_600:]],
        image_shape=(28, 20),
        sha256=file.sha256,
    )


def fashion_mnist(path: Path | None = None, *, download: bool = False) -> Dataset:
    r"""Fashion-MNIST, which the paper does not have: 60,000 and 10,000 images; pixels / 255.

    The files are those of torchvision, in ``fashion_mnist/FashionMNIST/raw/``, and compressed. Each
    is checked against torchvision's own MD5 every time it is read.

    Args:
        path: The data folder; by default :func:`folder`.
        download: Whether torchvision fetches what is absent or damaged first.

    Returns:
        The data set, D = 784, with labels.

    Raises:
        DataError: If a file is absent, not to be had, or not the original, or there is no
            torchvision.
    """
    path = folder() if path is None else path
    contents = _torchvision.read_fashion_mnist(path / "fashion_mnist", download)
    train, train_labels, test, test_labels = (
        _idx_tensor(content, where) for where, content in contents.items()
    )
    return Dataset(
        name="fashion-mnist",
        train=train.reshape(len(train), -1).float().div_(255),
        test=test.reshape(len(test), -1).float().div_(255),
        image_shape=(28, 28),
        sha256=hashlib.sha256(b"".join(contents.values())).hexdigest(),
        train_labels=train_labels,
        test_labels=test_labels,
    )


def load(name: str, path: Path | None = None) -> Dataset:
    r"""The data set of that name, one of :data:`NAMES`.

    Args:
        name: ``"mnist"`` or ``"frey-face"``.
        path: The data folder; by default :func:`folder`.

    Returns:
        What :func:`mnist` or :func:`frey_face` returns.

    Raises:
        DataError: If there is no such data set, or a file is absent, unreadable or not the
            original.
    """
    _files_of(name)  # refuses an unknown name
    return mnist(path) if name == "mnist" else frey_face(path)


def minibatches(train: Tensor, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    r"""Minibatches X^M of Algorithm 1: endless, each of points drawn uniformly *with* replacement.

    Args:
        train: (N, D).
        size: M.
        generator: Draws the indices, one call a minibatch.

    Yields:
        (M, D).

    Raises:
        ValueError: If M is below 1, or there is nothing to draw from.

    >>> batches = minibatches(torch.rand(50, 3), 8, torch.Generator().manual_seed(0))
    >>> next(batches).shape
    torch.Size([8, 3])
    """
    if size < 1 or len(train) < 1:
        raise ValueError(
            f"minibatches: expected M >= 1 of N >= 1 points, found {size} of {len(train)}"
        )

    def indices() -> Tensor:
        return torch.randint(len(train), (size,), generator=generator, device=generator.device).to(
            train.device
        )

    return (train.index_select(0, indices()) for _ in itertools.count())


def black_or_white(x: Tensor, generator: torch.Generator) -> Tensor:
    r"""Pixels that are 1 with their gray value as probability, and else 0.

    Args:
        x: Gray values in [0, 1], of any shape.
        generator: Draws a number for each pixel.

    Returns:
        A tensor like x. Its mean over many draws is x.

    Raises:
        TypeError: If x holds no floating-point numbers.

    >>> black_or_white(torch.tensor([0.0, 1.0]), torch.Generator())
    tensor([0., 1.])
    """
    if not x.is_floating_point():
        raise TypeError(f"x: expected floating-point gray values, found {x.dtype}")
    noise = torch.rand(x.shape, generator=generator, dtype=x.dtype, device=x.device)
    return (noise < x).to(x.dtype)


def fetch(
    path: Path | None = None, *, names: Iterable[str] = NAMES, progress: bool = True
) -> list[str]:
    r"""Put what is missing or damaged into the data folder.

    The sources are tried in turn until each file is there. A file that is there and sound is left
    alone; a damaged one is replaced once a sound one has been had. MNIST is stored uncompressed,
    so that ``torchvision.datasets.MNIST(folder() / "mnist")`` reads it too.

    Args:
        path: The data folder; by default :func:`folder`.
        names: The data sets.
        progress: Whether to show a progress bar, if stderr is a terminal.

    Returns:
        The report: a line for each file, what was wrong with it, and why each source failed.

    Raises:
        DataError: If something could not be had, or a file cannot be written. In the first case
            the message holds the whole report, and says how to put the files in place by hand.
    """
    path = folder() if path is None else path
    report, failed = [], False
    for name in names:
        wanted = []
        for file in _files_of(name):
            try:
                _files.read(path, file)
                report.append(f"{name}: {file.path}: there already")
            except DataError as error:
                report.append(f"{name}: {error}")
                wanted.append(file)
        for source in _SOURCES[name](progress) if wanted else []:
            for file in list(wanted):
                try:
                    content = _files.check(source.get(file), file, source.name)
                except DataError as error:
                    report.append(f"{name}: {error}")
                    break  # the next source has its turn
                _files.store(path, file, content)
                report.append(f"{name}: {file.path}: from {source.name}")
                wanted.remove(file)
        if wanted:
            files = "; ".join(f"{file.path} (SHA-256 {file.sha256})" for file in wanted)
            report.append(f"{name}: not to be had; by hand, put into {path}: {files}")
            failed = True
    if failed:
        raise DataError("\n".join(report))
    return report


def verify(path: Path | None = None, *, names: Iterable[str] = NAMES) -> list[str]:
    r"""Check the files of the data folder.

    Args:
        path: The data folder; by default :func:`folder`.
        names: The data sets.

    Returns:
        A line for each file.

    Raises:
        DataError: If some file is absent or damaged; the message has a line for each such file.
    """
    path = folder() if path is None else path
    report, wrong = [], []
    for name in names:
        for file in _files_of(name):
            try:
                _files.read(path, file)
                report.append(f"{name}: {file.path}: sound")
            except DataError as error:
                wrong.append(f"{name}: {error}")
    if wrong:
        raise DataError("\n".join(wrong))
    return report


def _files_of(name: str) -> tuple[_files.File, ...]:
    if not isinstance(name, str) or name not in _FILES:
        raise DataError(f"data set: expected one of {', '.join(NAMES)}, found {name!r}")
    return _FILES[name]


def _mnist_tensors(path: Path) -> list[Tensor]:
    """Training images, training labels, test images, test labels."""
    return [_idx_tensor(_files.read(path, file), path / file.path) for file in _files.MNIST]


def _idx_tensor(content: bytes, where: Path) -> Tensor:
    """What an IDX file holds; labels as whole numbers of torch's own kind."""
    tensor = torch.from_numpy(_formats.idx(content, where).copy())
    return tensor if tensor.ndim > 1 else tensor.long()
