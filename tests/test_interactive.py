"""The interactive figures: their numbers are the package's, and a reader can move them."""

import pytest
import torch
from browsing import *
from playwright.sync_api import Browser, Page
from torch.distributions import Normal, kl_divergence

from aevb import models

pytestmark = pytest.mark.browser

BOUND = ".interactive[data-figure='bound-and-gap']"


def numbers(page: Page) -> dict[str, float]:
    return {
        k: float(v)
        for k, v in page.evaluate(
            f'() => ({{...document.querySelector("{BOUND}").dataset}})'
        ).items()
        if k != "figure"
    }


def bound_page(page: Page, origin: str) -> None:
    opened(page, f"{origin}/variational_bound.html")
    page.locator(BOUND).scroll_into_view_if_needed()


@pytest.mark.parametrize(("mean", "std"), [(-1.0, 1.2), (0.0, 1.0), (1.5, 0.3), (-3.0, 2.5)])
def test_bound_and_gap_are_exact_and_add_up(
    address: str, page: Page, mean: float, std: float
) -> None:
    bound_page(page, address)
    page.get_by_label("mean of q").fill(str(mean))
    page.get_by_label("standard deviation of q").fill(str(std))
    x = torch.tensor([[1.6]])
    model = models.LinearGaussian(torch.ones(1, 1), torch.zeros(1), noise_scale=0.6)
    model.requires_grad_(False)
    posterior, evidence = model.posterior(x), model.log_evidence(x).item()
    exact = Normal(posterior.mean.squeeze(), posterior.variance.sqrt().squeeze())
    gap = kl_divergence(Normal(torch.tensor(mean), torch.tensor(std)), exact).item()
    found = numbers(page)
    assert found["evidence"] == pytest.approx(evidence, abs=1e-9)
    assert found["kl"] == pytest.approx(gap, abs=1e-9)
    assert found["bound"] == pytest.approx(evidence - gap, abs=1e-9)
    text = page.locator(f"{BOUND} p").inner_text().replace("−", "-")
    assert f"bound {evidence - gap:.2f} + divergence {gap:.2f} = log p(x) {evidence:.2f}" in text


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_climbing_ends_at_the_posterior(address: str, page: Page, motion: str) -> None:
    page.emulate_media(reduced_motion=motion)
    bound_page(page, address)
    before = numbers(page)
    assert before["kl"] > 1
    page.get_by_role("button", name="Climb the bound").press("Enter")
    page.wait_for_function(f'() => +document.querySelector("{BOUND}").dataset.kl < 1e-5')
    assert numbers(page)["bound"] == pytest.approx(before["evidence"], abs=1e-5)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_needs_no_network(scheme: str, page: Page) -> None:
    if not (HTML / "index.html").exists():
        pytest.skip("the book is not built: run `make book`")
    page.emulate_media(color_scheme=scheme)
    log = opened(page, (HTML / "variational_bound.html").as_uri())
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        box = page.locator(f"{BOUND} svg").bounding_box()
        assert 250 < box["width"] <= min(width, 640)
    assert log.faults == []


def test_without_javascript_a_sentence_is_left(address: str, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}/variational_bound.html")
    assert "add up to the evidence" in page.locator(f"{BOUND} + noscript").inner_text()
    context.close()
