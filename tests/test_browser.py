"""Every built page, opened in a Chromium that can reach nothing but this machine.

Skipped, with the reason, where no Chromium is found or the book is not built.
"""

import pytest
from browsing import *
from playwright.sync_api import Page

PAGES = sorted(path.stem for suffix in ("md", "ipynb") for path in ROOT.glob(f"book/*.{suffix}"))

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
CUT = """() => [...document.querySelectorAll("article div.math mjx-container")]
  .filter(node => node.scrollWidth > node.clientWidth + 8)
  .map(node => node.closest("div.math").id || node.textContent)"""
# One in a line may be wider than its box, if that scrolls.
CUT_LINES = """() => [...document.querySelectorAll("article span.math mjx-math")]
  .filter(node => getComputedStyle(node.closest(".math")).overflowX !== "auto")
  .filter(node => node.getBoundingClientRect().right
    > node.closest(".math").getBoundingClientRect().right + 2)
  .map(node => node.textContent)"""
# Only what scrolls is a stop of the tab key.
STOPS = """() => [...document.querySelectorAll("article :is(.math, figure, mjx-container)")]
  .filter(node => (node.tabIndex === 0) !== (node.scrollWidth > node.clientWidth + 1
    && getComputedStyle(node).overflowX === "auto"))
  .map(node => node.textContent)"""
SEEN = """node => node.checkVisibility({opacityProperty: true, visibilityProperty: true})
  && node.getBoundingClientRect().height > 0"""

pytestmark = pytest.mark.browser


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
        if name != "api":  # there formulas are those of docstrings, and indented
            assert page.evaluate(CUT) == [], f"formulas run under their numbers at {width} pixels"
            assert page.evaluate(CUT_LINES) == [], f"formulas are cut at {width} pixels"
        page.wait_for_function(f"() => ({STOPS})().length === 0", timeout=10_000)

    assert [url for url in log.requests if not url.startswith((origin, "data:"))] == []
    assert log.faults == []


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("reparameterization", "reparameterization"),
        ("wake-sleep", "wake_sleep"),
        ("Hamiltonian", "appendix_e_monte_carlo_em"),
        ("Adagrad", "departures"),
        ("Frey Face", "figure_2_lower_bound"),
    ],
)
def test_the_search_finds_the_papers_words(
    words: str, found: str, address: str, page: Page
) -> None:
    opened(page, f"{address}/search.html?q={words}")
    # The results come one by one.
    page.wait_for_function(
        """end => [...document.querySelectorAll("#search-results li a")]
          .some(link => link.pathname.endsWith(end))""",
        arg=f"/{found}.html",
    )


def test_a_term_says_what_it_means(address: str, page: Page) -> None:
    opened(page, f"{address}/intro.html")
    term = page.locator("article a[href*='term-latent-variable']").first
    assert "nobody observes" in str(term.get_attribute("title"))


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


def test_our_last_rules_apply(address: str, page: Page) -> None:
    opened(page, f"{address}/variational_bound.html")
    box = page.locator(".interactive").first
    assert box.evaluate("node => getComputedStyle(node).borderTopWidth") == "1px"
    sidebar, article = page.locator(".bd-sidebar-primary"), page.locator("article.bd-article")
    words = page.locator(".solution").get_by_text("what was missing in the first place")
    assert sidebar.is_visible()
    assert words.evaluate(SEEN) is False
    page.emulate_media(media="print")
    page.wait_for_timeout(500)  # solutions unfold slowly
    assert not sidebar.is_visible()
    assert article.is_visible()
    assert words.evaluate(SEEN) is True


def test_the_search_finds_a_word(address: str, page: Page) -> None:
    opened(page, f"{address}/search.html?q=variational")
    page.wait_for_selector("#search-results li a", timeout=10_000)
