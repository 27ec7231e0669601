"""The examples in the docstrings run, and the package's table of modules is true.

The examples run in the precision that a reader has: float32.
"""

import ast
import doctest
import importlib
import re
from pathlib import Path

import pytest
import torch

import aevb

PACKAGE = Path(aevb.__path__[0])
MODULES = sorted(
    ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for file in PACKAGE.rglob("*.py")
    if ">>> " in file.read_text(encoding="utf-8")
)
"""Those with an example."""


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name: str) -> None:
    torch.set_default_dtype(torch.float32)  # the fixture of all tests sets it back
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert tried > 0
    assert failed == 0


ROWS = re.findall(r"^``(\w+)``", aevb.__doc__ or "", flags=re.MULTILINE)
FACES = {
    **dict.fromkeys(("_specification", "_records", "_evaluation", "_run"), "experiments"),
    **dict.fromkeys(("_lower_bound", "_marginal_likelihood", "_curves", "_page"), "figures"),
    **dict.fromkeys(("_files", "_formats", "_download", "_torchvision"), "data"),
    "_digitised": "reference",
}
"""The row that a private module belongs to."""


def imported(file: Path) -> set[str]:
    """The rows that a file imports from."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        match node:
            case ast.ImportFrom(module="aevb", names=names):
                found |= {alias.name for alias in names}
            case ast.ImportFrom(module=str(name)) if name.startswith("aevb."):
                found.add(name.split(".")[1])
    return {FACES.get(name, name) for name in found}


def test_every_module_is_in_the_table_and_imports_only_from_rows_above_its_own() -> None:
    assert sorted(ROWS) == sorted(name for name in dir(aevb) if name != "__version__")
    for file in PACKAGE.rglob("*.py"):
        module = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        row = FACES.get(module, module)
        if row in ROWS:
            below = (imported(file) - {row}) & set(ROWS[ROWS.index(row) :])
            assert not below, f"{file} imports from {', '.join(below)}, whose row comes later"
