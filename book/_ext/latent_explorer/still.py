"""Take the explorer's still picture from the built page: what the README shows.

After ``make book``: ``python book/_ext/latent_explorer/still.py``, with a Chromium on the PATH.
"""

import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[3]
SEVEN = [(0.3, 0.2), (0.7, 0.2), (0.6, 0.4), (0.45, 0.8)]

with sync_playwright() as playwright:
    browser = playwright.chromium.launch(
        executable_path=shutil.which("chromium"), args=["--no-sandbox"]
    )
    page = browser.new_page(viewport={"width": 1280, "height": 1000}, color_scheme="light")
    page.goto((ROOT / "_build" / "html" / "figure_4_manifolds.html").as_uri())
    explorer = page.locator(".latent-explorer")
    explorer.scroll_into_view_if_needed()
    page.wait_for_selector(".latent-explorer[data-ready]")
    box = page.locator(".pad").bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in SEVEN]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=6)
    page.mouse.up()
    page.wait_for_selector(".latent-explorer[data-bound]")
    page.mouse.move(0, 0)
    page.wait_for_timeout(300)
    explorer.screenshot(path=ROOT / "book" / "assets" / "explorer.png")
    browser.close()
