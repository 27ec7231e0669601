r"""MNIST and Frey Face, the data sets of section 5: read, checked, split, drawn in minibatches.

The files lie in one folder, in torchvision's layout for MNIST (:func:`folder` says which)::

    mnist/MNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte    each as it is or with .gz
    frey_face/frey_rawface.mat

Every file's SHA-256 is checked each time it is read, before its contents are used.
"""

import gzip
import hashlib
import io
import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from aevb import _torchvision
from aevb._download import DataError, File, check

__all__ = ["DataError", "Dataset", "folder", "frey_face", "load", "minibatches", "mnist"]

_RAW = "mnist/MNIST/raw/"

# Each MNIST file in two forms: as it is, and as the mirrors hold it.
MNIST_FILES = (
    (
        File(
            f"{_RAW}train-images-idx3-ubyte",
            47_040_016,
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        File(
            f"{_RAW}train-images-idx3-ubyte.gz",
            9_912_422,
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
    ),
    (
        File(
            f"{_RAW}train-labels-idx1-ubyte",
            60_008,
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
        File(
            f"{_RAW}train-labels-idx1-ubyte.gz",
            28_881,
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
    ),
    (
        File(
            f"{_RAW}t10k-images-idx3-ubyte",
            7_840_016,
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        File(
            f"{_RAW}t10k-images-idx3-ubyte.gz",
            1_648_877,
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
    ),
    (
        File(
            f"{_RAW}t10k-labels-idx1-ubyte",
            10_008,
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
        File(
            f"{_RAW}t10k-labels-idx1-ubyte.gz",
            4_542,
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    ),
)
FREY_FACE_FILE = File(
    "frey_face/frey_rawface.mat",
    1_100_584,
    "265a83a23adb081755cd3de375509828e690324d1d60f076b8ecebc840d59c64",
)


class Dataset(NamedTuple):
    r"""A data set, split.

    Attributes:
        name: ``"mnist"`` or ``"frey-face"``.
        train: training images, (N, D), float32 in [0, 1].
        test: test images, (N_test, D), float32 in [0, 1].
        image_shape: rows and columns of one image; their product is D.
        sha256: SHA-256 of what was read: of the one file, or of the files' own sums, joined.
        train_labels: classes of the training images, (N,), int64, or None.
        test_labels: classes of the test images, (N_test,), int64, or None.
    """

    name: str
    train: Tensor
    test: Tensor
    image_shape: tuple[int, int]
    sha256: str
    train_labels: Tensor | None = None
    test_labels: Tensor | None = None


def folder() -> Path:
    r"""The folder that holds the data: ``AEVB_DATA``, else ``data/`` in the repository, else in the working folder."""
    if os.environ.get("AEVB_DATA"):
        return Path(os.environ["AEVB_DATA"])
    repository = Path(__file__).resolve().parent.parent
    return (repository if (repository / "pyproject.toml").exists() else Path.cwd()) / "data"


def mnist(path: Path | None = None) -> Dataset:
    r"""MNIST (LeCun et al., 1998): the first 50,000 images to train on, the 10,000 test images; pixels / 255.

    The last 10,000 training images are left out: Figure 3 of the paper gives N_train = 50,000.

    Args:
        path: the data folder; by default :func:`folder`.

    Returns:
        The data set, D = 784, with labels.

    Raises:
        DataError: a file is absent, unreadable or not the original.
    """
    path = folder() if path is None else path
    contents = {Path(raw.path).name: _mnist_contents(path, raw, gz) for raw, gz in MNIST_FILES}
    train, train_labels, test, test_labels = _mnist_tensors(contents)
    return Dataset(
        name="mnist",
        train=train[:50_000].reshape(-1, 784).float().div_(255),
        test=test.reshape(-1, 784).float().div_(255),
        image_shape=(28, 28),
        sha256=hashlib.sha256("".join(raw.sha256 for raw, _ in MNIST_FILES).encode()).hexdigest(),
        train_labels=train_labels[:50_000],
        test_labels=test_labels,
    )


def frey_face(path: Path | None = None, split_seed: int = 0) -> Dataset:
    r"""Frey Face: 1,965 frames of one face, shuffled, 1,600 to train on, 365 to test on; pixels / 256.

    The paper states neither split nor scale. Its wake-sleep curves sit on the bound of a Gaussian per
    pixel, which fixes both: 1,600 shuffled frames and a scale of 1/256.

    Args:
        path: the data folder; by default :func:`folder`.
        split_seed: seed of the shuffle, which has a generator of its own.

    Returns:
        The data set, D = 560 (28 rows of 20 pixels), without labels.

    Raises:
        DataError: the file is absent, unreadable or not the original.
    """
    import scipy.io

    path = folder() if path is None else path
    content = _read(path, FREY_FACE_FILE)
    columns = scipy.io.loadmat(io.BytesIO(content))["ff"]  # (560, 1965): one image a column
    images = torch.from_numpy(columns.T.copy()).float().div_(256)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(split_seed))
    return Dataset(
        name="frey-face",
        train=images[order[:1_600]],
        test=images[order[1_600:]],
        image_shape=(28, 20),
        sha256=FREY_FACE_FILE.sha256,
    )


def load(name: str, path: Path | None = None) -> Dataset:
    r"""The data set of that name, ``"mnist"`` or ``"frey-face"``."""
    if name == "mnist":
        return mnist(path)
    if name == "frey-face":
        return frey_face(path)
    raise DataError(f"data set: expected 'mnist' or 'frey-face', found {name!r}")


def minibatches(train: Tensor, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    r"""Minibatches X^M of Algorithm 1: endless, each of points drawn uniformly *with* replacement.

    Args:
        train: (N, D).
        size: M.
        generator: draws the indices, one call a minibatch.

    Yields:
        (M, D).

    Raises:
        ValueError: M is below 1, or there is nothing to draw from.
    """
    if size < 1 or len(train) < 1:
        raise ValueError(
            f"minibatches: expected M >= 1 of N >= 1 points, found {size} of {len(train)}"
        )

    def indices() -> Tensor:
        return torch.randint(
            len(train), (size,), generator=generator, device=generator.device
        ).to(train.device)

    return (train[indices()] for _ in itertools.count())


def _read(path: Path, file: File) -> bytes:
    """The contents of one file, checked."""
    target = path / file.path
    try:
        size = target.stat().st_size
        # A file of the wrong length is not read: it may be of any size.
        return check(target.read_bytes() if size == file.size else None, file, target, size)
    except FileNotFoundError:
        raise DataError(f"{target}: expected the file, found none") from None
    except OSError as error:
        raise DataError(f"{target}: expected a readable file, found: {error.strerror}") from error


def _mnist_contents(path: Path, raw: File, gz: File) -> bytes:
    """The uncompressed contents of one MNIST file, from whichever form is there."""
    if (path / gz.path).exists() and not (path / raw.path).exists():
        return gzip.decompress(_read(path, gz))  # the sum is right, so the length is known
    return _read(path, raw)


def _mnist_tensors(contents: dict[str, bytes]) -> list[Tensor]:
    """Training images, training labels, test images, test labels, as torchvision reads them."""
    try:
        datasets = _torchvision.import_datasets()
    except ImportError:
        return [_idx_tensor(content) for content in contents.values()]
    # torchvision reads files, uncompressed, from its own layout. It is given checked copies.
    with tempfile.TemporaryDirectory(prefix="aevb-mnist-") as root:
        raw_folder = Path(root, "MNIST", "raw")
        raw_folder.mkdir(parents=True)
        for name, content in contents.items():
            (raw_folder / name).write_bytes(content)
        train, test = (datasets.MNIST(root, train=part, download=False) for part in (True, False))
    return [train.data, train.targets, test.data, test.targets]


def _idx_tensor(content: bytes) -> Tensor:
    """The tensor in an IDX file of bytes: two zeros, type 8, rank, then each size in four bytes."""
    rank = content[3]
    shape = [int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(rank)]
    values = torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=4 + 4 * rank)
    return values.reshape(shape) if rank > 1 else values.long()
