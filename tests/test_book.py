"""The rules of the book's sources: what a notebook may hold and store, and what the contents list.

These need no build and run nothing, so `make lint` runs them too.
"""

import ast
import re
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat import NotebookNode

from aevb import notebooks

BOOK = Path(__file__).resolve().parent.parent / "book"
NOTEBOOKS = sorted(BOOK.glob("*.ipynb"))

CHECKED = "nbval-check-output"
MOST_CELLS = 30
WITHOUT_EXERCISES = ("speed", "drift", "scorecard", "findings", "sweep", "your_own_data")
MOST_LINES = 30  # of a code cell
MOST_STATEMENTS = 3  # of a function or a class defined in a cell


def written(path: Path) -> list[NotebookNode]:
    """The cells, but for the one that installs the package in Colab."""
    cells = nbformat.read(path, as_version=4).cells
    return [cell for cell in cells if "install" not in cell.metadata.get("tags", [])]


def code(path: Path) -> list[NotebookNode]:
    return [cell for cell in written(path) if cell.cell_type == "code"]


def checked(cell: NotebookNode) -> bool:
    return CHECKED in cell.metadata.get("tags", [])


every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@every_notebook
def test_checked_cells_hold_a_reference(path: Path) -> None:
    # Where nothing is stored nbval compares nothing, and passes.
    cells = [cell for cell in code(path) if checked(cell)]
    assert cells, "a chapter without a checked claim"
    for cell in cells:
        assert cell.outputs, f"run `make outputs`:\n{cell.source}"
        assert cell.execution_count, f"run `make outputs`:\n{cell.source}"


@every_notebook
def test_other_cells_store_nothing(path: Path) -> None:
    for cell in code(path):
        if not checked(cell):
            assert not cell.outputs, f"run `make outputs`:\n{cell.source}"
            assert not cell.execution_count, f"run `make outputs`:\n{cell.source}"


@every_notebook
def test_stored_outputs_are_text(path: Path) -> None:
    for cell in code(path):
        assert notebooks.stored_faults(cell) == []
        for output in cell.outputs:
            # A carriage return is a progress bar's; an address changes from run to run.
            assert "\r" not in str(output), cell.source
            assert " at 0x" not in str(output), cell.source


@every_notebook
def test_metadata_is_that_of_every_machine(path: Path) -> None:
    assert nbformat.read(path, as_version=4).metadata == notebooks.METADATA, "run `make outputs`"


@every_notebook
def test_the_parameters_are_literals_in_the_third_cell(path: Path) -> None:
    places = [
        place
        for place, cell in enumerate(written(path))
        if "parameters" in cell.metadata.get("tags", [])
    ]
    if path.name.startswith("figure_"):
        assert places == [2]
        assert "preset" in notebooks.parameters(path)
    else:
        assert places in ([], [2])
        notebooks.parameters(path)  # raises where one is no literal


@every_notebook
def test_a_notebook_is_short(path: Path) -> None:
    assert len(written(path)) <= MOST_CELLS
    for cell in code(path):
        assert len(cell.source.splitlines()) <= MOST_LINES, cell.source


@every_notebook
def test_a_checked_cell_glues_nothing(path: Path) -> None:
    """What is glued is compared to the last digit, which another processor rounds otherwise."""
    for cell in code(path):
        if "nbval-check-output" in cell.metadata.get("tags", []):
            assert "glue(" not in cell.source


@every_notebook
def test_cells_define_nothing_that_a_test_should_cover(path: Path) -> None:
    for cell in code(path):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                assert len(node.body) <= MOST_STATEMENTS, f"move {node.name} to the package"


def listed(entry: object) -> list[str]:
    """The files that a table of contents names."""
    if isinstance(entry, list):
        return [name for part in entry for name in listed(part)]
    if isinstance(entry, dict):
        return [
            name
            for key, value in entry.items()
            for name in ([value] if key in ("file", "root") else listed(value))
        ]
    return []


def test_the_contents_list_every_page_once() -> None:
    contents = yaml.safe_load((BOOK / "_toc.yml").read_text())
    pages = {path.stem for suffix in ("md", "ipynb") for path in BOOK.glob(f"*.{suffix}")}
    assert sorted(listed(contents)) == sorted(pages)


@every_notebook
def test_every_exercise_has_a_folded_solution(path: Path) -> None:
    source = "\n".join(
        cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type != "code"
    )
    exercises = re.findall(r"`{3,}\{exercise\} \S.*\n:label: (ex-[a-z0-9-]+)\n", source)
    solutions = re.findall(r"`{3,}\{solution\} (ex-[a-z0-9-]+)\n:class: dropdown\n", source)
    assert solutions == exercises
    assert exercises or path.stem in WITHOUT_EXERCISES, "a chapter without an exercise"


@every_notebook
def test_what_a_cell_writes_is_read_as_the_pages_are(path: Path) -> None:
    """Without this a table stays a row of bars, and a role is shown as it is written."""
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code" and re.search(r"^Markdown\(", cell.source, re.MULTILINE):
            assert cell.metadata.get("mystnb", {}).get("markdown_format") == "myst", cell.source
