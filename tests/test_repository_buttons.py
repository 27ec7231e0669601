"""The buttons to the repository, Binder and Colab: all from one setting, or none."""

import re
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from test_pages import build, project

__all__ = ["project"]

EMPTY = 'repository_address: ""'


def hosts(root: Path, name: str) -> set[str]:
    """The hosts that the links above a page lead to."""
    page = BeautifulSoup((root / "_build" / "html" / f"{name}.html").read_text(), "html.parser")
    header = page.select_one(".bd-header-article")
    assert header is not None
    links = [str(link.get("href", "")) for link in header("a")]
    return {host for link in links for host in re.findall(r"^https://([^/]+)", link)}


@pytest.mark.parametrize(
    ("address", "notebook", "prose"),
    [
        ("", set(), set()),
        (
            "https://github.com/someone/aevb",
            {"github.com", "mybinder.org", "colab.research.google.com"},
            {"github.com"},
        ),
    ],
    ids=["none", "github"],
)
def test_the_buttons_are_those_of_the_setting(
    project: Path, address: str, notebook: set[str], prose: set[str]
) -> None:
    path = project / "_config.yml"
    before = path.read_text()
    assert EMPTY in before
    path.write_text(before.replace(EMPTY, f'repository_address: "{address}"'))
    (project / "book" / "prose.md").write_text("# Prose\n")
    (project / "book" / "_toc.yml").write_text(
        "format: jb-book\nroot: intro\nchapters:\n  - file: prose\n"
    )
    try:
        done = build(project)
    finally:
        path.write_text(before)
    assert done.returncode == 0, done.stdout + done.stderr
    assert hosts(project, "intro") == notebook
    assert hosts(project, "prose") == prose


def test_another_address_is_refused(project: Path) -> None:
    path = project / "_config.yml"
    before = path.read_text()
    path.write_text(before.replace(EMPTY, 'repository_address: "https://example.org/aevb"'))
    try:
        done = build(project)
    finally:
        path.write_text(before)
    assert done.returncode != 0
    assert "repository_address: expected https://github.com/OWNER/NAME" in done.stdout + done.stderr
