"""The buttons to the repository, Binder and Colab, and Colab's cell: of one setting, or none."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import test_book
import yaml
from bs4 import BeautifulSoup
from repository_buttons import INSTALL, tags, write_install_cells
from test_pages import ROOT, build, project

__all__ = ["project"]

EMPTY = 'repository_address: ""'
ADDRESS = "https://github.com/someone/aevb"
COLAB = "https://colab.research.google.com/github/someone/aevb/blob/main/book/intro.ipynb"
BINDER = "https://mybinder.org/v2/gh/someone/aevb/main?urlpath=lab/tree/book/intro.ipynb"


def links(root: Path, name: str) -> set[str]:
    """Where the links above a page lead, on other hosts."""
    page = BeautifulSoup((root / "_build" / "html" / f"{name}.html").read_text(), "html.parser")
    header = page.select_one(".bd-header-article")
    assert header is not None
    found = {str(link.get("href", "")) for link in header("a")}
    return {link for link in found if link.startswith("https://")}


def build_with(project: Path, address: str) -> tuple[int, str]:
    """Build with that setting, and return the exit status and what was printed."""
    path = project / "_config.yml"
    before = path.read_text()
    assert EMPTY in before
    path.write_text(before.replace(EMPTY, f'repository_address: "{address}"'))
    try:
        done = build(project)
    finally:
        path.write_text(before)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("address", "notebook", "prose"),
    [("", set(), set()), (ADDRESS, {ADDRESS, BINDER, COLAB}, {ADDRESS})],
    ids=["none", "github"],
)
def test_the_buttons_are_those_of_the_setting(
    project: Path, address: str, notebook: set[str], prose: set[str]
) -> None:
    (project / "book" / "prose.md").write_text("# Prose\n")
    (project / "book" / "_toc.yml").write_text(
        "format: jb-book\nroot: intro\nchapters:\n  - file: prose\n"
    )
    write_install_cells(project / "book", address)
    status, printed = build_with(project, address)
    assert status == 0, printed
    assert links(project, "intro") == notebook
    assert links(project, "prose") == prose
    # What Colab needs is no concern of the page's reader.
    assert "find_spec" not in (project / "_build" / "html" / "intro.html").read_text()


def test_another_address_is_refused(project: Path) -> None:
    status, printed = build_with(project, "https://example.org/aevb")
    assert status != 0
    assert "repository_address: expected https://github.com/OWNER/NAME" in printed


def test_a_notebook_that_would_fail_in_colab_is_refused(project: Path) -> None:
    write_install_cells(project / "book", "https://github.com/another/aevb")
    status, printed = build_with(project, ADDRESS)
    assert status != 0
    assert "intro.ipynb: expected a cell that installs the package from " + ADDRESS in printed
    write_install_cells(project / "book", "")


def test_the_notebooks_are_as_the_setting_asks(tmp_path: Path) -> None:
    address = yaml.safe_load((ROOT / "_config.yml").read_text())["sphinx"]["config"][
        "repository_address"
    ]
    for path in test_book.NOTEBOOKS:
        (tmp_path / path.name).write_text(path.read_text())
    assert write_install_cells(tmp_path, address) == [], "run `make buttons`"


@test_book.every_notebook
def test_a_notebook_with_the_cell_keeps_the_rules(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / path.name
    copy.write_text(path.read_text())
    write_install_cells(tmp_path, ADDRESS)
    cells = nbformat.read(copy, as_version=4).cells
    assert [INSTALL in tags(cell) for cell in cells[:3]] == [False, True, False]
    assert f'"{ADDRESS}"' in cells[1].source
    for rule in (
        test_book.test_other_cells_store_nothing,
        test_book.test_the_parameters_are_literals_in_the_third_cell,
        test_book.test_a_notebook_is_short,
    ):
        rule(copy)
    write_install_cells(tmp_path, "")
    assert copy.read_text() == path.read_text()


def test_binder_has_the_data() -> None:
    script = ROOT / "postBuild"
    assert os.access(script, os.X_OK)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run([script], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0
    assert "mnist" in done.stdout + done.stderr
