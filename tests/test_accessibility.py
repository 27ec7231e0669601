"""Every built page, read by axe-core as a person with a screen reader or weak eyes would.

Skipped, with the reason, where no Chromium is found or the book is not built.
"""

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import *
from playwright.sync_api import Page

PAGES = sorted(path.stem for suffix in ("md", "ipynb") for path in ROOT.glob(f"book/*.{suffix}"))
THEME = """mode => Object.assign(document.documentElement.dataset, {mode: mode, theme: mode})"""

pytestmark = pytest.mark.browser


def violations(page: Page, **options: object) -> list[str]:
    """What axe calls serious or critical, with where it is."""
    found = Axe().run(page, options={"resultTypes": ["violations"], **options}).response
    return [
        f"{violation['id']}: {node['target']} {node['html'][:120]}"
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]


@pytest.mark.parametrize("name", PAGES)
def test_nothing_serious_is_in_the_way(name: str, address: str, page: Page) -> None:
    opened(page, f"{address}/{name}.html")
    assert violations(page) == []
    page.evaluate(THEME, "dark")
    page.wait_for_timeout(300)  # colors fade from one theme to the other
    assert violations(page, runOnly=["color-contrast"]) == []


def test_what_is_in_the_way_would_be_seen(page: Page) -> None:
    page.set_content("<html lang='en'><title>x</title><p style='color:#ccc'>faint</p><img src=''>")
    found = " ".join(violations(page))
    assert "color-contrast" in found
    assert "image-alt" in found
