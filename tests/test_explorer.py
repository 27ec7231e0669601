"""The latent explorer: its networks are the package's, and a reader can use it."""

import base64
import json
import re

import numpy as np
import pytest
import torch
from browsing import *
from playwright.sync_api import Browser, Locator, Page

from aevb import divergence, estimators, experiments, results
from aevb.models import VAE

pytestmark = pytest.mark.browser

MODELS = {
    "mnist-aevb-nz2-seed0": "Digits, 2-D",
    "frey-face-aevb-nz2-seed0": "Faces, 2-D",
    "mnist-aevb-nz5-seed0": "Digits, 5-D",
    "mnist-aevb-nz10-seed0": "Digits, 10-D",
}
EXPLORER = "document.querySelector('.latent-explorer').explorer"


def trained(name: str) -> VAE:
    path = results.ROOT / "book" / "results" / "figure-2" / f"{name}.json"
    return experiments.trained_model(results.load(path)).double()


@pytest.fixture
def explorer(address: str, page: Page) -> Locator:
    opened(page, f"{address}/figure_4_manifolds.html")
    found = page.locator(".latent-explorer")
    found.scroll_into_view_if_needed()
    page.wait_for_selector(".latent-explorer[data-ready]")
    return found


def choose(page: Page, name: str) -> None:
    page.get_by_role("button", name=MODELS[name], exact=True).click()
    page.wait_for_selector(f".latent-explorer[data-ready='{name}']")


def draw(page: Page, places: list[tuple[float, float]]) -> None:
    box = page.locator(".pad").bounding_box()
    moves = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in places]
    page.mouse.move(*moves[0])
    page.mouse.down()
    for move in moves[1:]:
        page.mouse.move(*move, steps=5)
    page.mouse.up()
    page.wait_for_selector(".latent-explorer[data-bound]")


@pytest.mark.parametrize("name", MODELS)
def test_it_decodes_and_encodes_as_the_package_does(
    explorer: Locator,
    page: Page,
    name: str,
) -> None:
    choose(page, name)
    model, generator = trained(name), torch.Generator().manual_seed(11)
    z = 1.5 * torch.randn(8, model.latent_dim, generator=generator)
    x = torch.rand(4, model.recognition_model.hidden.in_features, generator=generator)

    decode = f"zs => zs.map(z => [...latentExplorer.decode({EXPLORER}.model, z)])"
    found = torch.tensor(page.evaluate(decode, z.tolist()))
    torch.testing.assert_close(found, model.generative_model(z).mean, rtol=0, atol=1e-3)

    page.evaluate(f"() => {EXPLORER}.fetch({EXPLORER}.choice, 'recognition_model')")
    encode = f"""xs => xs.map(x => {{
      const q = latentExplorer.encode({EXPLORER}.model, x);
      return [[...q.mean], [...q.std]];
    }})"""
    found = torch.tensor(page.evaluate(encode, x.tolist()))
    q = model.recognition_model(x).base_dist
    torch.testing.assert_close(found[:, 0], q.loc, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found[:, 1], q.scale, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["mnist-aevb-nz2-seed0", "mnist-aevb-nz10-seed0"])
def test_a_drawing_is_encoded_and_its_bound_is_the_packages(
    explorer: Locator,
    page: Page,
    name: str,
) -> None:
    choose(page, name)
    draw(page, [(0.3, 0.2), (0.7, 0.2), (0.6, 0.4), (0.45, 0.8)])
    x = torch.tensor([page.evaluate(f"() => [...{EXPLORER}.latestImage]")])
    model = trained(name)
    q = model.recognition_model(x)
    kl = float(explorer.get_attribute("data-kl"))
    assert kl == pytest.approx(divergence.gaussian_kl(q).item(), abs=1e-2)

    draws = torch.stack(
        [estimators.sgvb_b(model, x, 1, torch.Generator().manual_seed(n)) for n in range(256)]
    )
    spread = draws.std().item() * (1 / 256 + 1 / 64) ** 0.5
    bound = float(explorer.get_attribute("data-bound"))
    assert abs(bound - draws.mean().item()) < 4 * spread
    verdict = page.locator(".verdict").inner_text()
    assert f"Bound −{-bound:.1f} nats" in verdict
    assert f"of which the divergence from the prior takes {kl:.1f}." in verdict


def test_a_drawing_is_laid_out_as_mnist_is(explorer: Locator, page: Page) -> None:
    draw(page, [(0.1, 0.1), (0.3, 0.1), (0.3, 0.5)])  # small, and in a corner
    image = np.array(page.evaluate(f"() => [...{EXPLORER}.latestImage]")).reshape(28, 28)
    rows, columns = (np.flatnonzero(image.max(axis) > 0.02) for axis in (1, 0))
    assert max(np.ptp(rows), np.ptp(columns)) + 1 in (20, 21)  # 20, laid between pixels
    places = np.arange(28) + 0.5
    for axis in (0, 1):
        center = (image.sum(axis) * places).sum() / image.sum()
        assert center == pytest.approx(14, abs=0.25)


def test_a_test_image_can_be_chosen_instead(explorer: Locator, page: Page) -> None:
    if not page.evaluate(f"() => {EXPLORER}.model.images.classes.length"):
        pytest.skip("MNIST was not there when the page was built")
    page.get_by_role("button", name="Test image of a 3").click()
    page.wait_for_selector(".latent-explorer[data-bound]")
    assert -300 < float(explorer.get_attribute("data-bound")) < -50
    page.get_by_role("button", name="Clear").click()
    assert "Draw a digit" in page.locator(".verdict").inner_text()


def test_keys_move_the_point(explorer: Locator, page: Page) -> None:
    plane = page.get_by_role("application")
    plane.focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    assert page.evaluate(f"() => {EXPLORER}.z") == pytest.approx([0.1, -0.5])
    assert "z = (0.10, −0.50)" in explorer.locator("p[aria-live]").last.inner_text()
    for _ in range(20):
        page.keyboard.press("Shift+ArrowUp")
    assert page.evaluate(f"() => {EXPLORER}.z[1]") == 3.5  # and no farther


def test_the_pointer_moves_the_point_and_the_image(explorer: Locator, page: Page) -> None:
    shown = f"() => {EXPLORER}.image.toDataURL()"
    before = page.evaluate(shown)
    box = page.get_by_role("application").bounding_box()
    page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 0.25 * box["height"])
    page.wait_for_function(f"before => {EXPLORER}.image.toDataURL() !== before", arg=before)
    assert page.evaluate(f"() => {EXPLORER}.z") == pytest.approx([1.75, 1.75], abs=0.03)


def test_sliders_stand_for_more_than_two(explorer: Locator, page: Page) -> None:
    choose(page, "mnist-aevb-nz5-seed0")
    assert page.get_by_role("application").count() == 0
    page.get_by_label("z3").fill("1.5")
    assert page.evaluate(f"() => {EXPLORER}.z[2]") == 1.5
    page.wait_for_function("() => document.querySelectorAll('output')[2].textContent === '1.50'")
    tracks = [slider.bounding_box() for slider in page.locator(".sliders input").all()]
    assert len({(track["x"], track["width"]) for track in tracks}) == 1
    choose(page, "frey-face-aevb-nz2-seed0")
    assert not page.locator(".pad").is_visible()  # faces are not drawn


def test_a_drawing_is_kept_for_the_next_model(explorer: Locator, page: Page) -> None:
    draw(page, [(0.3, 0.2), (0.7, 0.2), (0.6, 0.4), (0.45, 0.8)])
    pad = f"() => {EXPLORER}.pad.toDataURL()"
    drawn, bounds = page.evaluate(pad), {explorer.get_attribute("data-bound")}
    for name in ("mnist-aevb-nz5-seed0", "frey-face-aevb-nz2-seed0", "mnist-aevb-nz10-seed0"):
        choose(page, name)
        if name.startswith("mnist"):
            page.locator(".verdict", has_text="Bound").wait_for()
            assert page.evaluate(pad) == drawn
            bounds.add(explorer.get_attribute("data-bound"))
    assert len(bounds) == 3
    page.get_by_role("button", name="Clear").click()
    choose(page, "mnist-aevb-nz5-seed0")
    assert "Draw a digit" in page.locator(".verdict").inner_text()
    assert page.evaluate(pad) != drawn


def test_what_could_not_be_read_is_said_and_asked_for_again(explorer: Locator, page: Page) -> None:
    name = "mnist-aevb-nz5-seed0"
    generative, recognition = (f"{name}.{p}_model.js" for p in ("generative", "recognition"))

    def said(place: str, file: str) -> None:
        told = page.locator(f".latent-explorer {place}", has_text=f"{file}: could not be read; try")
        told.wait_for()

    page.route(f"**/{generative}", lambda route: route.abort())
    for _ in range(2):
        page.get_by_role("button", name=MODELS[name], exact=True).click()
        said(".source", generative)
    page.unroute(f"**/{generative}")
    choose(page, name)
    assert f"record {name}" in explorer.locator(".source").inner_text()

    page.route(f"**/{recognition}", lambda route: route.abort())
    page.locator(".pad").click()
    said(".verdict", recognition)
    page.unroute(f"**/{recognition}")
    draw(page, [(0.5, 0.2), (0.5, 0.8)])


def test_touch(address: str, browser: Browser) -> None:
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True
    )
    page = context.new_page()
    opened(page, f"{address}/figure_4_manifolds.html")
    page.locator(".latent-explorer").scroll_into_view_if_needed()
    page.wait_for_selector(".latent-explorer[data-ready]")
    page.locator(".latent canvas").scroll_into_view_if_needed()
    box = page.locator(".latent canvas").bounding_box()
    page.touchscreen.tap(box["x"] + 0.25 * box["width"], box["y"] + 0.5 * box["height"])
    assert page.evaluate(f"() => {EXPLORER}.z") == pytest.approx([-1.75, 0], abs=0.03)
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["intro", "figure_4_manifolds"])
def test_it_runs_from_a_file_without_a_network(name: str, scheme: str, page: Page) -> None:
    if not (HTML / "index.html").exists():
        pytest.skip("the book is not built: run `make book`")
    page.emulate_media(color_scheme=scheme)
    log = opened(page, (HTML / f"{name}.html").as_uri())
    page.locator(".latent-explorer").scroll_into_view_if_needed()
    page.wait_for_selector(".latent-explorer[data-ready]")
    draw(page, [(0.5, 0.2), (0.5, 0.8)])
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    assert all(url.startswith((HTML.as_uri(), "data:")) for url in log.requests)
    assert log.faults == []
    fetched = {url for url in log.requests if "/latent_explorer/" in url}
    size = sum((HTML / "latent_explorer" / url.rsplit("/", 1)[1]).stat().st_size for url in fetched)
    assert size < 2_500_000  # what a page fetches until another model is asked for


def test_each_model_says_which_record_it_is(explorer: Locator, page: Page) -> None:
    for name in MODELS:
        choose(page, name)
        record = results.load(results.ROOT / "book/results/figure-2" / f"{name}.json")
        said = page.locator(".latent-explorer .source").inner_text()
        assert name in said
        assert f"{record.curves['samples'][-1]:,.0f} samples" in said


def test_the_weights_are_those_of_the_record() -> None:
    script = HTML / "latent_explorer" / "mnist-aevb-nz2-seed0.generative_model.js"
    if not script.exists():
        pytest.skip("the book is not built: run `make book`")
    content = json.loads(re.search(r"\{.*\}", script.read_text())[0])
    weight = np.frombuffer(base64.b64decode(content["hidden.weight"]), np.float16)
    expected = trained("mnist-aevb-nz2-seed0").generative_model.hidden.weight
    assert np.array_equal(weight, expected.detach().numpy().astype(np.float16).ravel())
