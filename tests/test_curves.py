"""The interactive curves: those of the records, and a reader can ask them for their values."""

import re

import pytest
from browsing import *
from playwright.sync_api import Locator, Page

from aevb import reference, results

pytestmark = pytest.mark.browser

PAGES = {"figure-2": "figure_2_lower_bound", "figure-3": "figure_3_marginal_likelihood"}
PLOT = "document.querySelector('.curve-explorer .plot')"


def explored(page: Page, address: str, figure: str) -> Locator:
    opened(page, f"{address}/{PAGES[figure]}.html")
    page.get_by_role("button", name="Explore these curves").press("Enter")
    page.wait_for_selector(".curve-explorer[data-ready]")
    return page.locator(".curve-explorer")


def traces(page: Page) -> dict[str, dict[str, list[float]]]:
    found = page.evaluate(f"() => {PLOT}.data.map(t => [t.name + ' ' + t.hovertemplate, t.x, t.y])")
    return {name: {"x": list(x), "y": list(y)} for name, x, y in found}


@pytest.mark.parametrize("figure", PAGES)
def test_every_run_and_every_curve_of_the_paper_is_there(
    address: str, page: Page, figure: str
) -> None:
    explorer = explored(page, address, figure)
    panel = explorer.get_by_role("combobox")
    size = "latent_dim" if figure == "figure-2" else "n_train"
    groups = reference.by_curve(results.find(figure))
    names = {"mnist": "MNIST", "frey-face": "Frey Face"}
    titles = {"latent_dim": "N_z = {:,}", "n_train": "{:,} training images"}
    shown = [option.inner_text() for option in panel.locator("option").all()]
    for title in shown:
        panel.select_option(title)
        page.wait_for_selector(f".curve-explorer[data-ready='{title}']")
        found = traces(page)
        for key, runs in groups.items():
            if title != f"{names[key.dataset]}, {titles[size].format(getattr(key, size))}":
                continue
            for run in runs:
                (own,) = (t for n, t in found.items() if run.name in n and ", test " in n)
                assert own["x"] == run.curves["samples"]
                assert own["y"] == pytest.approx(run.curves["test"], abs=1e-3)
        papers = [name for name in found if name.startswith("paper: ")]
        assert len(papers) == (4 if figure == "figure-2" else 6)
    assert len(shown) == (9 if figure == "figure-2" else 2)


def test_a_pointer_asks_a_curve_for_its_value(address: str, page: Page) -> None:
    explorer = explored(page, address, "figure-2")
    explorer.get_by_label("The paper's curves").uncheck()
    explorer.get_by_role("combobox").select_option("MNIST, N_z = 200")
    page.wait_for_selector(".curve-explorer[data-ready='MNIST, N_z = 200']")
    page.wait_for_timeout(300)
    record = next(r for r in results.find("figure-2") if r.name == "mnist-aevb-nz200-seed0")
    place = f"""() => {{
      const plot = {PLOT}, {{ xaxis, yaxis }} = plot._fullLayout;
      const n = plot.data.findIndex(t => t.name === "AEVB, test"), i = plot.data[n].x.length - 3;
      const box = plot.querySelector(".nsewdrag").getBoundingClientRect();
      return [box.left + xaxis.d2p(plot.data[n].x[i]), box.top + yaxis.d2p(plot.data[n].y[i])];
    }}"""
    page.locator(".curve-explorer .plot").scroll_into_view_if_needed()
    page.mouse.move(*page.evaluate(place))
    label = page.locator(".hoverlayer .hovertext").first
    label.wait_for()
    told = label.text_content()
    nats = float(re.search(r"(-\d+\.\d\d) nats", told.replace("−", "-"))[1])
    assert nats == pytest.approx(record.curves["test"][-3], abs=0.0055)  # rounded twice: to 3, to 2
    assert f"{record.curves['samples'][-3]:,} samples" in told
    assert "seed 0, mnist-aevb-nz200-seed0" in told


def test_what_could_not_be_read_is_said_and_asked_for_again(address: str, page: Page) -> None:
    opened(page, f"{address}/{PAGES['figure-2']}.html")
    page.route("**/plotly.min.js", lambda route: route.abort())
    button = page.get_by_role("button", name="Explore these curves")
    for _ in range(2):
        button.click()
        said = page.locator(".curve-explorer").get_by_role("alert")
        said.wait_for()
        assert re.fullmatch(r".*plotly\.min\.js: could not be read; try again", said.inner_text())
    page.unroute("**/plotly.min.js")
    button.click()
    page.wait_for_selector(".curve-explorer[data-ready]")
    assert said.count() == 0


def test_curves_can_be_taken_away(address: str, page: Page) -> None:
    explorer = explored(page, address, "figure-2")
    before = len(traces(page))
    explorer.get_by_label("The paper's curves").uncheck()
    assert len(traces(page)) == before - 4
    page.locator(".legendtoggle").first.click()
    page.wait_for_function(f"() => {PLOT}.data[0].visible === 'legendonly'")


def test_the_axis_can_be_linear(address: str, page: Page) -> None:
    explorer = explored(page, address, "figure-2")
    assert page.evaluate(f"() => {PLOT}._fullLayout.xaxis.type") == "log"
    explorer.get_by_label("Logarithmic samples").uncheck()
    assert page.evaluate(f"() => {PLOT}._fullLayout.xaxis.type") == "linear"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("figure", PAGES)
def test_it_runs_from_a_file_without_a_network(figure: str, scheme: str, page: Page) -> None:
    if not (HTML / "index.html").exists():
        pytest.skip("the book is not built: run `make book`")
    page.emulate_media(color_scheme=scheme)
    log = opened(page, (HTML / f"{PAGES[figure]}.html").as_uri())
    assert not any("plotly" in url for url in log.requests)  # until the reader asks
    for width in WIDTHS[::-1]:
        page.set_viewport_size({"width": width, "height": 900})
        if width == WIDTHS[-1]:
            page.get_by_role("button", name="Explore these curves").click()
            page.wait_for_selector(".curve-explorer[data-ready]")
        # The plot is drawn anew some time after the window has changed.
        page.wait_for_function("() => document.documentElement.scrollWidth <= innerWidth")
    assert all(url.startswith((HTML.as_uri(), "data:", "blob:")) for url in log.requests)
    assert log.faults == []


@pytest.mark.parametrize("figure", PAGES)
def test_nothing_is_offered_to_a_third_party(address: str, page: Page, figure: str) -> None:
    explored(page, address, figure)
    assert page.locator(".modebar-btn").count() > 0
    assert page.locator(".modebar-btn[data-title^='Share']").count() == 0
    assert page.evaluate(f"() => {PLOT}._context.plotlyServerURL") == ""


@pytest.mark.parametrize("figure", PAGES)
def test_every_curve_ends_on_the_plot_and_is_named_once(
    address: str, page: Page, figure: str
) -> None:
    panel = explored(page, address, figure).get_by_role("combobox")
    for title in [option.inner_text() for option in panel.locator("option").all()]:
        panel.select_option(title)
        page.wait_for_selector(f".curve-explorer[data-ready='{title}']")
        low, high = page.evaluate(f"() => {PLOT}._fullLayout.yaxis.range")
        assert all(low < curve["y"][-1] < high for curve in traces(page).values())
        names = [name.text_content() for name in page.locator(".legendtext").all()]
        assert len(names) == len(set(names)) == (8 if figure == "figure-2" else 12)


def test_the_plot_is_large_on_a_phone(address: str, page: Page) -> None:
    page.set_viewport_size({"width": WIDTHS[-1], "height": 900})
    explored(page, address, "figure-3")
    assert page.locator(".legendtext").count() == 12
    assert page.locator(".nsewdrag").bounding_box()["height"] > 280
