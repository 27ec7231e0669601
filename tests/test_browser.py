"""Every built page, opened in a Chromium that can reach nothing but this machine.

Skipped, with the reason, where no Chromium is found or the book is not built.
"""

import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
HTML = ROOT / "_build" / "html"
PAGES = sorted(path.stem for suffix in ("md", "ipynb") for path in ROOT.glob(f"book/*.{suffix}"))
WIDTHS = (1280, 390)

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

# TeX and roles that were not turned into anything, outside of code.
LEFT_OVER = r"""() => {
  const article = document.querySelector("article").cloneNode(true);
  article.querySelectorAll("pre, code, script, mjx-container").forEach(node => node.remove());
  return article.textContent.match(/\\\(|\\\[|\\[A-Za-z]{2,}|\$\$|\{[a-z:]+\}`/g) || [];
}"""
# MathJax sets a macro that it does not know in red, and says so only in the hidden MathML.
FAULTY = """() => [...document.querySelectorAll(
  "mjx-merror, mjx-assistive-mml merror, mjx-assistive-mml [mathcolor='red']")]
  .map(node => node.textContent)"""
WIDER = """() => [document.documentElement.scrollWidth, window.innerWidth]"""

pytestmark = pytest.mark.browser


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    if not (HTML / "index.html").exists():
        pytest.skip("the book is not built: run `make book`")
    handler = functools.partial(Handler, directory=HTML)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if found is None:
        pytest.skip(f"no Chromium: none of {', '.join(CHROMIUMS)} is on the PATH")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=found, args=list(FLAGS))
        yield running
        running.close()


class Log:
    """What a page asked for and complained of."""

    def __init__(self, page: Page) -> None:
        self.requests: list[str] = []
        self.faults: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("requestfailed", lambda request: self.faults.append(f"failed: {request.url}"))
        page.on(
            "response",
            lambda response: (
                response.ok or self.faults.append(f"{response.status}: {response.url}")
            ),
        )
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on(
            "console",
            lambda message: message.type == "error" and self.faults.append(message.text),
        )


def opened(page: Page, address: str) -> Log:
    log = Log(page)
    page.goto(address, wait_until="load")
    page.evaluate("() => window.MathJax && MathJax.startup && MathJax.startup.promise")
    return log


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """One for all tests, so that scripts are fetched and compiled once."""
    shared = browser.new_context()
    yield shared
    shared.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    page = context.new_page()
    page.set_viewport_size({"width": WIDTHS[0], "height": 900})
    yield page
    page.close()


@pytest.mark.parametrize("kind", ["http", "file"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole_without_a_network(
    name: str, kind: str, address: str, page: Page, request: pytest.FixtureRequest
) -> None:
    origin = address if kind == "http" else HTML.as_uri()
    if kind == "file":
        page.context.set_offline(True)
        request.addfinalizer(lambda: page.context.set_offline(False))
    log = opened(page, f"{origin}/{name}.html")

    formulas = page.locator("article .math").count()
    drawn = page.locator("article mjx-container").count()
    assert drawn >= formulas
    assert page.evaluate(FAULTY) == []
    assert page.evaluate(LEFT_OVER) == []
    broken = "() => [...document.images].filter(i => !i.naturalWidth).map(i => i.src)"
    assert page.evaluate(broken) == []

    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        wide, window = page.evaluate(WIDER)
        assert wide <= window, f"the page scrolls sideways at {width} pixels"

    assert [url for url in log.requests if not url.startswith((origin, "data:"))] == []
    assert log.faults == []


def test_the_book_has_formulas(address: str, page: Page) -> None:
    opened(page, f"{address}/notation.html")
    assert page.locator("article mjx-container").count() > 10


def test_an_address_elsewhere_would_be_seen(address: str, page: Page) -> None:
    log = opened(page, f"{address}/intro.html")
    page.evaluate("() => fetch('https://elsewhere.example/').catch(() => 0)")
    assert log.requests[-1] == "https://elsewhere.example/"
    assert any("elsewhere.example" in fault for fault in log.faults)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(scheme: str, address: str, page: Page) -> None:
    page.emulate_media(color_scheme=scheme)
    opened(page, f"{address}/intro.html")
    light = """() => {
      const light = colour => colour.match(/[\\d.]+/g).slice(0, 3)
        .reduce((sum, c, i) => sum + [0.2126, 0.7152, 0.0722][i] * c / 255, 0);
      return [light(getComputedStyle(document.querySelector("article p")).color),
              light(getComputedStyle(document.body).backgroundColor)];
    }"""
    text, ground = page.evaluate(light)
    assert abs(text - ground) > 0.6
    assert (ground > text) == (scheme == "light")


def test_the_search_finds_a_word(address: str, page: Page) -> None:
    opened(page, f"{address}/search.html?q=variational")
    page.wait_for_selector("#search-results li a", timeout=10_000)
