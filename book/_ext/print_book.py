"""Print the built book to one PDF, ``_build/book.pdf``, with a bookmark for each page.

After ``make book``: ``python book/_ext/print_book.py``, with a Chromium on the PATH. The browser
prints each page as its own print button would, in the order of the contents. A link from one page
to another then leads there within the PDF.
"""

import functools
import http.server
import io
import re
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import yaml
from playwright.sync_api import Page, sync_playwright
from pypdf import PdfReader, PdfWriter
from pypdf.generic import ArrayObject, DictionaryObject, NameObject, NullObject

ROOT = Path(__file__).resolve().parents[2]
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--no-sandbox",  # Chromium refuses to start as root with it
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)

READY = """async () => {
  await (window.MathJax && MathJax.startup && MathJax.startup.promise);
  for (const image of document.images) image.loading = "eager";
  await Promise.all([...document.images].map(image => image.decode()));
  // What moves is drawn once it is seen.
  for (const figure of document.querySelectorAll(".interactive, .latent-explorer")) {
    figure.scrollIntoView();
    await new Promise(done => setTimeout(done, 500));
  }
}"""
# A place gets into the PDF only where a link of the same page leads to it: these do, unseen.
MARK = """names => {
  const style = "font-size: 1px; color: transparent; text-decoration: none";
  const marks = names.map(name => Object.assign(document.createElement("a"),
    {href: "#" + name, textContent: "\\u00a0", style}));
  document.querySelector("article").append(...marks);
}"""
MARKS_SIZE = 2  # points: no link that can be read is as small


class Chapter(NamedTuple):
    """A page of the book: the name of its file, and the part of the contents that it is in."""

    name: str
    part: str | None


def chapters(contents: str) -> Iterator[Chapter]:
    """The pages in the order of ``_toc.yml``."""
    toc = yaml.safe_load(contents)
    yield Chapter(toc["root"], None)
    for part in toc.get("parts", []):
        for entry in part["chapters"]:
            yield Chapter(entry["file"], part["caption"])


def led_to(html: Path) -> dict[str, list[str]]:
    """The anchors of each page that another page leads to."""
    found: dict[str, set[str]] = {}
    for path in html.glob("*.html"):
        for name, anchor in re.findall(r'href="(\w+)\.html#([^"]+)"', path.read_text()):
            found.setdefault(name, set()).add(unquote(anchor))
    return {name: sorted(anchors) for name, anchors in found.items()}


def chromium() -> str:
    """Where a Chromium is."""
    found = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if found is None:
        raise FileNotFoundError(f"no Chromium: none of {', '.join(CHROMIUMS)} is on the PATH")
    return found


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a folder, as long as it is needed."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def printed(page: Page, address: str, anchors: list[str], first: int) -> tuple[str, PdfReader]:
    """A page's title, and the page as a PDF whose pages are counted from a number on."""
    page.goto(address)
    page.evaluate(READY)
    page.evaluate(MARK, anchors)
    page.add_style_tag(content=f"html {{ counter-reset: page {first - 1}; }}")
    title = page.evaluate(
        """() => {
          const heading = document.querySelector("article h1").cloneNode(true);
          heading.querySelectorAll(".headerlink, mjx-container").forEach(node => node.remove());
          return heading.textContent.trim();
        }"""
    )
    pdf = page.pdf(prefer_css_page_size=True, print_background=True, tagged=True)
    return title, PdfReader(io.BytesIO(pdf))


class Joined:
    """Chapters behind one another, and where in them a link may lead."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.writer = PdfWriter()
        self.starts: dict[str, tuple[int, int]] = {}
        self.places: dict[tuple[str, str], ArrayObject] = {}
        self.parts: dict[str, object] = {}

    def add(self, chapter: Chapter, title: str, pdf: PdfReader) -> None:
        first = len(self.writer.pages)
        for page in pdf.pages:
            self.writer.add_page(page)
        self.starts[chapter.name] = (first, len(self.writer.pages))
        for name, place in pdf.named_destinations.items():
            number = pdf.get_destination_page_number(place)
            if number is not None:
                self.places[chapter.name, name.removeprefix("/")] = self.place(
                    first + number, place.left, place.top
                )
        parent = None
        if chapter.part is not None:
            if chapter.part not in self.parts:
                self.parts[chapter.part] = self.writer.add_outline_item(
                    title=chapter.part, page_number=first
                )
            parent = self.parts[chapter.part]
        self.writer.add_outline_item(title=title, page_number=first, parent=parent)

    def place(self, number: int, left: object, top: object) -> ArrayObject:
        page = self.writer.pages[number].indirect_reference
        return ArrayObject([page, NameObject("/XYZ"), left, top, NullObject()])

    def target(self, link: DictionaryObject, home: str) -> ArrayObject | None:
        """Where a link of a chapter leads to in this file, if it does."""
        if "/Dest" in link:
            return self.places.get((home, str(link["/Dest"]).removeprefix("/")))
        parts = urlsplit(link["/A"]["/URI"].removeprefix(self.origin))
        name = parts.path.strip("/").removesuffix(".html")
        if name not in self.starts:
            return None
        start = self.place(self.starts[name][0], NullObject(), NullObject())
        return self.places.get((name, unquote(parts.fragment)), start)

    def connect(self) -> None:
        """Make every link lead within the file. One to what is not in it becomes plain text."""
        for home, (first, end) in self.starts.items():
            for page in self.writer.pages[first:end]:
                kept = ArrayObject()
                for reference in page.get("/Annots", []):
                    link = reference.get_object()
                    left, bottom, right, top = link["/Rect"]
                    if right - left < MARKS_SIZE and top - bottom < MARKS_SIZE:
                        continue
                    if "/Dest" not in link and not link["/A"]["/URI"].startswith(self.origin):
                        kept.append(reference)
                    elif (target := self.target(link, home)) is not None:
                        link.pop("/A", None)
                        link[NameObject("/Dest")] = target
                        kept.append(reference)
                page[NameObject("/Annots")] = kept


def main(html: Path, contents: Path, pdf: Path) -> None:
    """Print the pages that the contents list."""
    try:
        found = chromium()
    except FileNotFoundError as error:
        sys.exit(f"the PDF cannot be printed: {error}")
    anchors = led_to(html)
    with served(html) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(FLAGS))
        page = browser.new_page(color_scheme="light", viewport={"width": 1280, "height": 900})
        joined = Joined(address)
        for chapter in chapters(contents.read_text(encoding="utf-8")):
            title, part = printed(
                page,
                f"{address}/{chapter.name}.html",
                anchors.get(chapter.name, []),
                len(joined.writer.pages) + 1,
            )
            joined.add(chapter, title, part)
            print(f"{len(joined.writer.pages):4} pages: {title}")
        browser.close()
    joined.connect()
    joined.writer.add_metadata({"/Title": "Auto-Encoding Variational Bayes, reproduced"})
    joined.writer.compress_identical_objects()
    joined.writer.write(pdf)
    print(pdf)


if __name__ == "__main__":
    build = ROOT / "_build"
    main(build / "html", ROOT / "book" / "_toc.yml", build / "book.pdf")
