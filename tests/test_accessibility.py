"""Every built page, read by axe-core as a screen reader would: nothing serious is amiss."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import *
from playwright.sync_api import Page

PAGES = sorted(path.stem for suffix in ("md", "ipynb") for path in ROOT.glob(f"book/*.{suffix}"))
PAGES += ["genindex", "search"]
GRAVE = ("serious", "critical")
# What is drawn of a formula is hidden from screen readers, which read the MathML beside it; its
# color is that of the text around. And contrast is looked up element by element, for minutes on a
# long page: the modules that follow the first eight of the package look like those.
DRAWN = "() => document.querySelectorAll('mjx-math').forEach(node => node.remove())"
FURTHER = """() => document.querySelectorAll("article section section:nth-of-type(n+9)")
  .forEach(node => node.remove())"""

pytestmark = pytest.mark.browser


def found(page: Page, **options: object) -> list[str]:
    """What axe-core finds of serious or critical impact, a line an element."""
    options["resultTypes"] = ["violations"]
    return [
        f"{violation['id']}: {node['target']}: {node['failureSummary']}"
        for violation in Axe().run(page, options=options).response["violations"]
        if violation["impact"] in GRAVE
        for node in violation["nodes"]
    ]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_no_serious_fault(name: str, address: str, page: Page) -> None:
    page.emulate_media(color_scheme="light")
    opened(page, f"{address}/{name}.html")
    page.evaluate(DRAWN)
    assert found(page, rules={"color-contrast": {"enabled": False}}) == []
    page.evaluate(FURTHER)
    assert found(page, runOnly=["color-contrast"]) == []
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("() => document.documentElement.dataset.theme === 'dark'")
    page.wait_for_timeout(300)  # the colors come in slowly
    assert found(page, runOnly=["color-contrast"]) == []


def test_a_fault_would_be_found(address: str, page: Page) -> None:
    opened(page, f"{address}/intro.html")
    page.evaluate(
        """() => document.querySelector("article").insertAdjacentHTML("beforeend",
          "<p style='color: #ccc; background: #ddd'>pale</p><img src='favicon.svg'>")"""
    )
    assert {line.partition(":")[0] for line in found(page)} == {"color-contrast", "image-alt"}
