"""What the tests of the built pages share: a server, a Chromium, and what a page complains of.

A test module imports the fixtures with ``from browsing import *``.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from print_book import FLAGS, chromium, served

__all__ = ["HTML", "ROOT", "WIDTHS", "address", "browser", "context", "opened", "page"]

ROOT = Path(__file__).resolve().parent.parent
HTML = ROOT / "_build" / "html"
WIDTHS = (1280, 390)


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


def executable() -> str:
    """Where a Chromium is; without one the test is skipped."""
    try:
        return chromium()
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    if not (HTML / "index.html").exists():
        pytest.skip("the book is not built: run `make book`")
    with served(HTML) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = executable()
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=found, args=list(FLAGS))
        yield running
        running.close()


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
