"""Every link of the built site that stays within it arrives, and at its anchor.

All pages are read, those that Sphinx adds (index, search, sources of the modules) too, and of each
page all of it: sidebars, buttons, pictures, scripts and styles. What leads elsewhere is asked for
by `make links`, because it needs a network.
"""

import functools
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parent.parent
HTML = ROOT / "_build" / "html"


class Reader(HTMLParser):
    """Collects what a page leads to and what can be led to in it."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.twice: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and name in ("href", "src"):
                self.links.append(value)
            elif value and name == "id":
                if value in self.anchors:
                    self.twice.append(value)
                self.anchors.add(value)


@functools.cache
def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader


def lost(page: Path, root: Path) -> list[str]:
    """The links of a page that lead nowhere in the site below a folder."""
    found = []
    for link in read(page).links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        if not target.is_relative_to(root) or not target.is_file():
            found.append(link)
        elif parts.fragment and target.suffix == ".html":
            anchor = unquote(parts.fragment)
            if anchor not in read(target).anchors:
                found.append(link)
    return found


def test_every_link_within_the_site_arrives() -> None:
    if not HTML.exists():
        pytest.skip("the book is not built: run `make book`")
    pages = [path for path in sorted(HTML.rglob("*.html")) if "_static" not in path.parts]
    sources = list(ROOT.glob("book/*.md")) + list(ROOT.glob("book/*.ipynb"))
    assert len(pages) > len(sources)
    assert sum(len(read(page).links) for page in pages) > 1_000
    faults = {str(page.relative_to(HTML)): lost(page, HTML) for page in pages}
    assert {page: links for page, links in faults.items() if links} == {}


def test_no_page_has_an_anchor_twice() -> None:
    if not HTML.exists():
        pytest.skip("the book is not built: run `make book`")
    faults = {page.name: read(page).twice for page in sorted(HTML.glob("*.html"))}
    assert {page: anchors for page, anchors in faults.items() if anchors} == {}


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(
        '<a id="here" href="#here">1</a><a href="#there">2</a><a href="page.html#here">3</a>'
        '<a href="other.html">4</a><img src="../outside.png"><a href="https://elsewhere.example">'
        '<a href="page.html?q=1#%68ere">5</a><a href="page.html#gone">6</a>'
    )
    (tmp_path.parent / "outside.png").touch()
    assert lost(page, tmp_path) == ["#there", "other.html", "../outside.png", "page.html#gone"]


def test_links_elsewhere_are_asked_for_by_the_week() -> None:
    workflow = (ROOT / ".github" / "workflows" / "weekly.yml").read_text()
    assert re.search(r"cron: ['\"]", workflow)
    assert "make links" in workflow
