"""The book as one PDF: a bookmark for each page, and links that lead within it."""

from collections.abc import Iterator
from pathlib import Path

import print_book
import pytest
from browsing import HTML, ROOT, executable
from pypdf import PdfReader

CONTENTS = ROOT / "book" / "_toc.yml"
PAGES = sorted(path.stem for suffix in ("md", "ipynb") for path in ROOT.glob(f"book/*.{suffix}"))
SHORT = """
root: intro
parts:
  - caption: The method
    chapters:
      - file: variational_bound
  - caption: Reference
    chapters:
      - file: references
"""


def titles(outline: list[object], depth: int = 0) -> Iterator[tuple[int, str]]:
    for item in outline:
        if isinstance(item, list):
            yield from titles(item, depth + 1)
        else:
            yield depth, item.title


def test_every_page_of_the_contents_is_printed() -> None:
    found = list(print_book.chapters(CONTENTS.read_text()))
    assert sorted(chapter.name for chapter in found) == PAGES
    assert found[0] == ("intro", None)
    assert ("sgvb", "The method") in found


def test_without_a_browser_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="cannot be printed: no Chromium: none of chromium, "):
        print_book.main(HTML, CONTENTS, tmp_path / "book.pdf")


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> PdfReader:
    if not (HTML / "index.html").exists():
        pytest.skip("the book is not built: run `make book`")
    executable()
    folder = tmp_path_factory.mktemp("print")
    (folder / "_toc.yml").write_text(SHORT)
    print_book.main(HTML, folder / "_toc.yml", folder / "book.pdf")
    return PdfReader(folder / "book.pdf")


@pytest.mark.browser
def test_each_page_has_a_bookmark_below_its_part(book: PdfReader) -> None:
    assert list(titles(book.outline)) == [
        (0, "Auto-Encoding Variational Bayes, reproduced"),
        (0, "The method"),
        (1, "2. The variational bound"),
        (0, "Reference"),
        (1, "References"),
    ]
    first = book.get_destination_page_number(book.outline[2][0])
    assert "The variational bound" in book.pages[first].extract_text()
    assert not any("Search the book" in page.extract_text() for page in book.pages)


@pytest.mark.browser
def test_pages_are_counted_throughout(book: PdfReader) -> None:
    numbers = [page.extract_text().split()[0] for page in book.pages]
    assert numbers == [str(number + 1) for number in range(len(book.pages))]


@pytest.mark.browser
def test_links_lead_within_the_book_or_to_the_network(book: PdfReader) -> None:
    numbers = {page.indirect_reference.idnum: n for n, page in enumerate(book.pages)}
    within, elsewhere = [], []
    for number, page in enumerate(book.pages):
        for reference in page.get("/Annots", []):
            link = reference.get_object()
            if "/Dest" in link:
                within.append((number, numbers[link["/Dest"][0].idnum]))
            else:
                elsewhere.append(link["/A"]["/URI"])
    assert any(target > number + 5 for number, target in within)  # from chapter to references
    assert elsewhere
    assert not [address for address in elsewhere if "127.0.0.1" in address]
