r"""The way to torchvision: its MNIST mirrors and its MNIST reader.

Beside the CPU build of torch, torchvision needs help to import. Its compiled extension is linked
against CUDA and does not load; the import then stops at ``operator torchvision::nms does not
exist``, because a Python module describes an operator that nobody has defined. Declaring the two
operators lets the import through. They stay unusable, which is no loss: only
:mod:`torchvision.datasets` is used here.
"""

import importlib
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

__all__ = ["import_datasets", "read_mnist"]

_declared: torch.library.Library | None = None  # the declarations last as long as this object


def import_datasets() -> ModuleType:
    r"""Imports ``torchvision.datasets``.

    Returns:
        The module.

    Raises:
        ImportError: torchvision is not installed, or does not work with this torch.
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


def read_mnist(contents: dict[str, bytes]) -> list[Tensor]:
    r"""MNIST as ``torchvision.datasets.MNIST`` reads it.

    torchvision reads uncompressed files from a folder and does not check them, so it is given a
    folder of copies that were checked.

    Args:
        contents: file name to contents, uncompressed.

    Returns:
        Training images (60000, 28, 28), uint8, and labels (60000,), int64; the same for the test.

    Raises:
        ImportError: torchvision does not import.
        OSError: there is no room for the copies.
    """
    datasets = import_datasets()
    with tempfile.TemporaryDirectory(prefix="aevb-mnist-") as root:
        raw = Path(root, "MNIST", "raw")
        raw.mkdir(parents=True)
        for name, content in contents.items():
            (raw / name).write_bytes(content)
        train = datasets.MNIST(root, train=True, download=False)
        test = datasets.MNIST(root, train=False, download=False)
    return [train.data, train.targets, test.data, test.targets]
