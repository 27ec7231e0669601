"""Buttons to the repository, Binder and Colab, where the setting ``repository_address`` is given.

The theme makes them, on the pages that are notebooks. Without an address, which is the default,
there are none, and the pages name no other host. Colab has the notebook and nothing else, so each
notebook needs a cell that installs the package. Run as a script, this writes that cell into every
notebook, or takes it out where there is no address; the build refuses notebooks without it.
"""

import re
from pathlib import Path

import nbformat
import yaml
from nbformat import NotebookNode
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ConfigError

BINDER = "https://mybinder.org"
COLAB = "https://colab.research.google.com"
INSTALL = "install"
ROOT = Path(__file__).resolve().parents[2]

SOURCE = """\
# Where the package is not installed, as in Colab: fetch the repository, install it, fetch the data.
import importlib.util
import os
import subprocess
import sys

if importlib.util.find_spec("aevb") is None:
    python = [sys.executable, "-m"]
    if not os.path.exists("aevb-book"):
        clone = ["git", "clone", "--quiet", "--depth", "1", "{address}", "aevb-book"]
        subprocess.run(clone, check=True)
    subprocess.run([*python, "pip", "install", "--quiet", "-e", "aevb-book", "myst-nb"], check=True)
    subprocess.run([*python, "aevb", "data"])  # goes on without what cannot be had
    sys.path.insert(0, os.path.abspath("aevb-book"))"""


def tags(cell: NotebookNode) -> list[str]:
    return list(cell.metadata.get("tags", []))


def with_install_cell(notebook: NotebookNode, address: str) -> NotebookNode:
    """The notebook, with that cell after its title; without an address, without it."""
    cells = [cell for cell in notebook.cells if INSTALL not in tags(cell)]
    if address:
        cell = nbformat.v4.new_code_cell(
            SOURCE.format(address=address), id=INSTALL, metadata={"tags": [INSTALL, "remove-cell"]}
        )
        cells.insert(1, cell)
    return nbformat.from_dict({**notebook, "cells": cells})


def write_install_cells(book: Path, address: str) -> list[Path]:
    """Write every notebook of a folder that is not as the address asks, and return which."""
    written = []
    for path in sorted(book.glob("*.ipynb")):
        before = path.read_text(encoding="utf-8")
        after = nbformat.writes(with_install_cell(nbformat.reads(before, 4), address)) + "\n"
        if after != before:
            path.write_text(after, encoding="utf-8")
            written.append(path)
    return written


def add_buttons(app: Sphinx, config: Config) -> None:
    address = config.repository_address.rstrip("/")
    if not address:
        return
    if not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", address):
        raise ConfigError(
            "repository_address: expected https://github.com/OWNER/NAME (Colab opens no other) "
            f"or nothing, found {address}"
        )
    for path in sorted(Path(app.srcdir).glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        if notebook != with_install_cell(notebook, address):
            raise ConfigError(
                f"{path.name}: expected a cell that installs the package from {address}, for "
                "Colab; found none, or another: run `make buttons`"
            )
    launchers = {"binderhub_url": BINDER, "colab_url": COLAB, "notebook_interface": "jupyterlab"}
    config.html_theme_options.update(
        repository_url=address,
        repository_branch="main",
        use_repository_button=True,
        launch_buttons=launchers,
    )


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_config_value("repository_address", "", "html", [str])
    app.connect("config-inited", add_buttons, priority=400)  # before the theme reads them
    return {"parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    settings = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    address = settings["sphinx"]["config"]["repository_address"].rstrip("/")
    for path in write_install_cells(ROOT / "book", address):
        print(path.relative_to(ROOT))
