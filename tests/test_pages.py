"""The built pages as files, and what makes `make book` build them anew.

`make test` builds the book first; run alone, the tests of the pages are skipped without it.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).resolve().parent.parent
HTML = ROOT / "_build" / "html"
PAGES = sorted(path.stem for suffix in ("md", "ipynb") for path in ROOT.glob(f"book/*.{suffix}"))

STYLES = sorted((ROOT / "book").rglob("*.css"))

every_page = pytest.mark.parametrize("name", PAGES)


def parsed(name: str) -> BeautifulSoup:
    path = HTML / f"{name}.html"
    if not HTML.exists():
        pytest.skip("the book is not built: run `make book`")
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@every_page
def test_a_page_loads_nothing_from_elsewhere(name: str) -> None:
    page = parsed(name)
    loaded = [tag.get("src") for tag in page(["script", "img", "iframe", "source", "video"])]
    loaded += [tag.get("href") for tag in page("link")]
    foreign = [a for a in loaded if a and re.match(r"(\w+:)?//", a)]
    # Scripts written into the page, such as a loader's, could name an address too.
    for script in page("script"):
        foreign += re.findall(r"https?://[^\s'\"]+", script.string or "")
    assert foreign == []


def test_no_style_loads_anything_from_elsewhere() -> None:
    parsed("intro")
    for path in HTML.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", text), path


@pytest.mark.parametrize("path", STYLES, ids=lambda path: path.name)
def test_no_rule_of_our_styles_lies_inside_another(path: Path) -> None:
    # A lost brace raises no error: every rule after it then applies to nothing.
    text = re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    around: list[str] = []
    for before, brace in re.findall(r"([^{};]*)([{};])", text):
        if brace == "{":
            assert all(outer.startswith("@") for outer in around), before.strip()
            around.append(before.strip())
        elif brace == "}":
            assert around, f"a brace too many after {before.strip()!r}"
            around.pop()
    assert around == []


@every_page
def test_every_picture_says_what_it_shows(name: str) -> None:
    for picture in parsed(name).select("article img"):
        assert len(picture.get("alt", "").split()) > 2, picture.get("src")
        # The file's name, which stands in where none was given.
        assert not re.search(r"\.(png|svg)$", picture["alt"]), picture["alt"]


@every_page
def test_no_markup_is_left_in_the_text(name: str) -> None:
    article = parsed(name).article
    for code in article(["pre", "code", "script"]):
        code.decompose()
    text = article.get_text()
    assert not re.search(r"\{(eq|ref|numref|glue|cite|py|doc|prf)[:}]", text)
    assert ":::" not in text
    assert "Traceback" not in text


def test_mathjax_lies_beside_the_pages_once() -> None:
    page = parsed("notation")
    (script,) = (tag["src"] for tag in page("script") if "tex-chtml" in tag.get("src", ""))
    assert (HTML / script.partition("?")[0]).resolve() == HTML / "mathjax" / "tex-chtml-full.js"
    assert len(list((HTML / "mathjax").rglob("*.woff"))) == 23
    assert "Apache License" in (HTML / "mathjax" / "LICENSE").read_text()


# ---- What a build notices -------------------------------------------------------------------


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of one notebook, with this one's configuration, Makefile and extensions."""
    root = tmp_path_factory.mktemp("project")
    for name in ("Makefile", "_config.yml", "constraints.txt"):
        shutil.copy(ROOT / name, root)
    for name in ("_ext", "assets"):
        shutil.copytree(ROOT / "book" / name, root / "book" / name)
    (root / "aevb").mkdir()
    (root / "aevb" / "__init__.py").write_text("NUMBER = 101\n")
    (root / "book" / "results").mkdir()
    (root / "book" / "results" / "record.json").write_text("201")
    (root / "book" / "references.bib").write_text("")
    (root / "book" / "_toc.yml").write_text("format: jb-book\nroot: intro\n")
    cells = [
        new_markdown_cell("# Title"),
        new_code_cell("import sys\nsys.path.insert(0, '..')\nimport aevb"),
        new_code_cell("print('number', aevb.NUMBER, open('results/record.json').read())"),
    ]
    nbformat.write(new_notebook(cells=cells), root / "book" / "intro.ipynb")
    return root


def build(root: Path) -> subprocess.CompletedProcess[str]:
    """`make book`, with what is installed here and no data."""
    settings = [
        "-o",
        ".venv/installed",
        "-o",
        "_build/fetched",
        f"BIN={Path(sys.executable).parent}",
    ]
    return subprocess.run(
        ["make", *settings, "book"], cwd=root, capture_output=True, text=True, timeout=300
    )


def shown(root: Path) -> str:
    page = BeautifulSoup((root / "_build" / "html" / "intro.html").read_text(), "html.parser")
    (output,) = page.select(".cell_output pre")
    return output.get_text().strip()


def test_a_changed_package_or_record_changes_the_page_and_nothing_else_runs_twice(
    project: Path,
) -> None:
    first = build(project)
    assert first.returncode == 0, first.stdout + first.stderr
    assert shown(project) == "number 101 201"

    again = build(project)
    assert again.returncode == 0
    assert "Executing notebook" not in again.stdout + again.stderr
    assert "0 added, 0 changed, 0 removed" in again.stdout

    (project / "aevb" / "__init__.py").write_text("NUMBER = 102\n")
    assert build(project).returncode == 0
    assert shown(project) == "number 102 201"

    (project / "book" / "results" / "record.json").write_text("202")
    assert build(project).returncode == 0
    assert shown(project) == "number 102 202"


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="cores: expected two, found one")
def test_notebooks_run_at_once_and_once(project: Path) -> None:
    toc = project / "book" / "_toc.yml"
    alone = toc.read_text()
    toc.write_text(f"{alone}chapters:\n  - file: one\n  - file: other\n")
    for own, awaited in (("one", "other"), ("other", "one")):  # neither ends without the other
        cell = f"""\
import time
from pathlib import Path
Path('{own}.here').touch()
end = time.monotonic() + 60
while not Path('{awaited}.here').exists():
    assert time.monotonic() < end
    time.sleep(0.05)
with Path('{own}.times').open('a') as file: file.write('1')"""
        cells = [new_markdown_cell("# Title"), new_code_cell(cell)]
        nbformat.write(new_notebook(cells=cells), project / "book" / f"{own}.ipynb")
    try:
        done = build(project)
    finally:
        toc.write_text(alone)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Executing notebook" not in done.stdout + done.stderr, "run again when it was read"
    for name in ("one", "other"):
        assert (project / "book" / f"{name}.times").read_text() == "1"


def test_a_faulty_page_breaks_every_build(project: Path) -> None:
    path = project / "book" / "intro.ipynb"
    sound = path.read_text()
    # A build that warns is tried twice: Sphinx warns of a page only when it reads it, and would
    # pass over it the next time. One that raises does not get so far.
    for cell, complaint, times in (
        ("import warnings; warnings.warn('careful')", "stderr was found", 2),
        ("1 / 0", "ZeroDivisionError", 1),
    ):
        book = json.loads(sound)
        book["cells"][-1]["source"] = cell
        path.write_text(json.dumps(book))
        for _ in range(times):
            done = build(project)
            assert done.returncode != 0
            assert complaint in done.stdout + done.stderr
    path.write_text(sound)
