"""Running a notebook with other parameters, storing its outputs, and every figure at `smoke`."""

import errno
import os
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from aevb import data, experiments, notebooks

BOOK = Path(__file__).resolve().parent.parent / "book"
FIGURES = sorted(BOOK.glob("figure_*.ipynb"))


def write(path: Path, *cells: str, checked: tuple[int, ...] = ()) -> Path:
    """A notebook of a title, these code cells, and the second of them tagged `parameters`."""
    book = new_notebook(cells=[new_markdown_cell("# Title"), *map(new_code_cell, cells)])
    if len(cells) > 1:
        book.cells[2].metadata["tags"] = ["parameters"]
    for place in checked:
        book.cells[place].metadata["tags"] = ["nbval-check-output"]
    nbformat.write(book, path)
    return path


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    return write(
        tmp_path / "toy.ipynb",
        "import os",
        'preset = "paper"\nrate = 0.5  # a=b\nloud = False',
        "print(preset, rate, loud, os.path.basename(os.getcwd()))",
        "print('not kept')",
        checked=(3,),
    )


def printed(path: Path) -> list[str]:
    return [
        output.text
        for cell in nbformat.read(path, as_version=4).cells
        for output in cell.get("outputs", [])
    ]


def test_parameters_are_read_from_the_cell(notebook: Path) -> None:
    assert notebooks.parameters(notebook) == {"preset": "paper", "rate": 0.5, "loud": False}


def test_run_replaces_the_parameters_in_the_notebook_s_own_folder(
    notebook: Path, tmp_path: Path
) -> None:
    output = notebooks.run(notebook, tmp_path / "new" / "out.ipynb", preset="smoke", rate=1)
    assert printed(output)[0] == f"smoke 1 False {tmp_path.name}\n"
    assert printed(notebook) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"presset": "smoke"}, "no parameter 'presset'; it has: preset, rate, loud"),
        ({"preset": 1}, "parameter 'preset' is of type str (default 'paper'), found 1"),
        ({"rate": "fast"}, "parameter 'rate' is of type float (default 0.5), found 'fast'"),
        ({"rate": True}, "parameter 'rate' is of type float (default 0.5), found True"),
        ({"loud": 1}, "parameter 'loud' is of type bool (default False), found 1"),
    ],
)
def test_a_wrong_parameter_is_refused_by_name_and_nothing_runs(
    notebook: Path, tmp_path: Path, values: dict[str, object], message: str
) -> None:
    output = tmp_path / "out.ipynb"
    with pytest.raises(notebooks.NotebookError) as refusal:
        notebooks.run(notebook, output, **values)
    assert str(refusal.value) == f"{notebook}: {message}"
    assert not output.exists()


def test_a_computed_parameter_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "toy.ipynb", "pass", "a = 1\nb = 2 * a")
    with pytest.raises(notebooks.NotebookError, match=r"only `name = literal`, found `b = 2 \* a`"):
        notebooks.parameters(path)


def test_a_failing_cell_is_an_error_and_its_output_is_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "toy.ipynb", "pass", "a = 1", "print(a)", "1 / (a - 1)")
    with pytest.raises(notebooks.NotebookError, match="failed: ZeroDivisionError: division by"):
        notebooks.run(path, tmp_path / "out.ipynb")
    assert "ZeroDivisionError" in (tmp_path / "out.ipynb").read_text()


def test_a_kernel_that_dies_or_takes_too_long_is_named(tmp_path: Path) -> None:
    dead = write(tmp_path / "dead.ipynb", "import os; os._exit(1)")
    late = write(tmp_path / "late.ipynb", "import time; time.sleep(60)")
    with pytest.raises(notebooks.NotebookError, match=r"dead\.ipynb: Kernel died"):
        notebooks.run(dead, tmp_path / "out.ipynb")
    with pytest.raises(notebooks.NotebookError, match=r"dead\.ipynb: Kernel died"):
        notebooks.store(dead)
    with pytest.raises(notebooks.NotebookError, match=r"late\.ipynb: A cell timed out"):
        notebooks.store(late, timeout=1)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such notebook"), ("{", "not a notebook: Notebook does not appear to be JSON")],
)
def test_what_is_no_notebook_is_named(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "toy.ipynb"
    if content is not None:
        path.write_text(content)
    with pytest.raises(notebooks.NotebookError, match=message) as error:
        notebooks.run(path, tmp_path / "out.ipynb")
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_store_keeps_the_checked_outputs_and_no_others(notebook: Path, tmp_path: Path) -> None:
    assert notebooks.store(notebook)
    stored = notebook.read_text()
    assert printed(notebook) == [f"paper 0.5 False {tmp_path.name}\n"]
    cells = nbformat.read(notebook, as_version=4).cells
    assert [bool(cell.get("execution_count")) for cell in cells] == [False] * 3 + [True, False]
    assert not notebooks.store(notebook)
    assert notebook.read_text() == stored


def test_a_full_disk_leaves_the_old_notebook_and_nothing_else(
    notebook: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = notebook.read_text()
    monkeypatch.setattr(os, "fsync", full)
    assert notebooks.main(["store", str(notebook)]) == 1
    assert f"No space left on device: '{notebook}'" in capsys.readouterr().err
    assert notebook.read_text() == before
    assert [file.name for file in notebook.parent.iterdir()] == [notebook.name]


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("import sys; print('careful', file=sys.stderr)", "prints to stderr: careful"),
        ("from IPython.display import Image; Image(b'\\x89PNG')", r"shows an image \(image/png\)"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_store_refuses_what_must_not_be_stored(tmp_path: Path, cell: str, message: str) -> None:
    path = write(tmp_path / "toy.ipynb", cell, checked=(1,))
    before = path.read_text()
    with pytest.raises(notebooks.NotebookError, match=message):
        notebooks.store(path)
    assert path.read_text() == before


def test_the_command_line_says_it_in_one_line(
    notebook: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", str(notebook), "-o", str(tmp_path / "out.ipynb"), "-p"]
    assert notebooks.main([*command, "rate", "2.5", "-p", "preset", "smoke"]) == 0
    assert printed(tmp_path / "out.ipynb")[0].startswith("smoke 2.5 False")
    assert notebooks.main([*command, "presset", "smoke"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_relative_folders_mean_the_same_in_a_notebook_as_where_it_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "book").mkdir()
    shown = "print(*(data.folder(), results.folder()))"
    imports = "from aevb import data, results"
    path = write(tmp_path / "book" / "toy.ipynb", imports, shown, checked=(2,))
    monkeypatch.setenv("AEVB_DATA", "images")
    monkeypatch.setenv("AEVB_RESULTS", "../records")
    monkeypatch.chdir(tmp_path)
    assert notebooks.main(["store", str(path)]) == 0
    assert printed(path) == [f"{tmp_path}/images {tmp_path.parent}/records\n"]


def test_there_are_figures() -> None:
    assert FIGURES


@pytest.mark.parametrize("path", FIGURES, ids=lambda path: path.stem)
def test_a_figure_s_notebook_runs_at_smoke_from_nothing(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = "-".join(path.stem.split("_")[:2])
    try:
        data.verify(names={run.dataset for run in experiments.grid(figure, "smoke")})
    except data.DataError as error:
        pytest.skip(f"the data is not there: {error}")
    monkeypatch.setenv("AEVB_RESULTS", str(tmp_path / "results"))
    output = notebooks.run(path, tmp_path / "out.ipynb", preset="smoke")
    pictures = [
        kind
        for cell in nbformat.read(output, as_version=4).cells
        for one in cell.get("outputs", [])
        for kind in one.get("data", {})
    ]
    assert "image/png" in pictures
    # It really trained: records of this run, and of no other preset.
    assert sorted(os.listdir(tmp_path / "results")) == ["smoke"]
    assert list((tmp_path / "results").rglob("*.json"))


@pytest.mark.parametrize("path", FIGURES, ids=lambda path: path.stem)
def test_a_figure_s_notebook_refuses_a_misspelled_parameter(path: Path, tmp_path: Path) -> None:
    with pytest.raises(notebooks.NotebookError, match="no parameter 'presset'; it has: preset"):
        notebooks.run(path, tmp_path / "out.ipynb", presset="smoke")
