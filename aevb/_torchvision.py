r"""Makes torchvision importable beside the CPU build of torch.

torchvision's compiled extension is linked against CUDA. Beside a CPU torch it does not load, and the import
then stops at ``operator torchvision::nms does not exist``: a Python module describes an operator that
nobody has defined. Declaring the two operators lets the import through. The operators themselves stay
unusable, which is no loss here: only :mod:`torchvision.datasets` is used.
"""

import importlib
import sys
from types import ModuleType

import torch

__all__ = ["import_datasets"]

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
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise ImportError(f"torchvision: expected it to import, found: {error}") from error
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]  # half loaded
    _declare_operators()
    try:
        return importlib.import_module("torchvision.datasets")
    except RuntimeError as error:
        raise ImportError(f"torchvision: expected it to import, found: {error}") from error


def _declare_operators() -> None:
    # Only after the import has failed: where the extension does load, a second declaration collides.
    global _declared
    if _declared is None:
        _declared = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            _declared.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
