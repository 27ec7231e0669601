r"""The way to torchvision: its mirrors of MNIST, and its Fashion-MNIST.

Beside the CPU build of torch, torchvision needs help to import. Its compiled extension is linked
against CUDA and does not load; the import then stops at ``operator torchvision::nms does not
exist``, because a Python module describes an operator that nobody has defined. Declaring the two
operators lets the import through. They stay unusable, which is no loss: only
:mod:`torchvision.datasets` is used here.
"""

import gzip
import hashlib
import importlib
import sys
from pathlib import Path
from types import ModuleType

import torch

from aevb._files import DataError

__all__ = ["import_datasets", "read_fashion_mnist"]

_declared: torch.library.Library | None = None  # the declarations last as long as this object


def import_datasets() -> ModuleType:
    r"""Import ``torchvision.datasets``.

    Returns:
        The module.

    Raises:
        ImportError: If torchvision is not installed, or does not work with this torch.
    """
    try:
        return importlib.import_module("torchvision.datasets")
    except (RuntimeError, AttributeError):  # AttributeError: an earlier import already failed
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]  # half loaded
    try:
        _declare_operators()
        return importlib.import_module("torchvision.datasets")
    except (RuntimeError, AttributeError) as error:
        raise ImportError(f"torchvision: expected it to import, found: {error}") from error


def _declare_operators() -> None:
    # Only after the import has failed: where the extension does load, this would collide.
    global _declared
    if _declared is None:
        _declared = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            _declared.define(
                f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )


def read_fashion_mnist(root: Path, download: bool) -> dict[Path, bytes]:
    r"""The four files of Fashion-MNIST, checked against torchvision's MD5s and uncompressed.

    Args:
        root: Where ``FashionMNIST/raw/`` is, or is to be.
        download: Whether torchvision fetches what is absent or damaged first.

    Returns:
        Training images, training labels, test images, test labels.

    Raises:
        DataError: If a file is absent, not to be had, or not the original, or there is no
            torchvision.
    """
    try:
        datasets = import_datasets()
    except ImportError as error:
        raise DataError(f"Fashion-MNIST: {error}") from None
    mirror, raw = datasets.FashionMNIST.mirrors[0], root / "FashionMNIST" / "raw"
    contents = {}
    for name, md5 in datasets.FashionMNIST.resources:
        if download:
            try:  # a file that is there and sound is left alone
                datasets.utils.download_url(mirror + name, raw, name, md5)
            except (RuntimeError, OSError) as error:
                reason = " ".join(str(error).split())
                raise DataError(f"{mirror + name}: expected the file, found: {reason}") from None
        contents[raw / name] = _read_compressed(raw / name, md5)
    return contents


def _read_compressed(path: Path, md5: str) -> bytes:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(
            f"{path}: expected the file, found none; download=True fetches it"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: expected a readable file, found: {error.strerror}") from error
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        raise DataError(f"{path}: expected MD5 {md5}, found {found}")
    return gzip.decompress(content)
