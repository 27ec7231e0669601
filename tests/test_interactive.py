"""The interactive figures: their numbers are the package's, and a reader can move them."""

import re

import pytest
import torch
from browsing import *
from playwright.sync_api import Browser, Locator, Page
from torch.distributions import Normal, kl_divergence

from aevb import models
from aevb.reparameterization import inverse_cdf

pytestmark = pytest.mark.browser

PAGES = {
    "bound-and-gap": "variational_bound",
    "gradient-noise": "gradient_variance",
    "inverse-cdf": "reparameterization",
}


def selector(figure: str) -> str:
    return f".interactive[data-figure='{figure}']"


def element(figure: str) -> str:
    return f'document.querySelector("{selector(figure)}")'


def shown(page: Page, address: str, figure: str) -> Locator:
    opened(page, f"{address}/{PAGES[figure]}.html")
    root = page.locator(selector(figure))
    root.scroll_into_view_if_needed()
    return root


def numbers(page: Page, figure: str) -> dict[str, float]:
    """What the figure says of itself, but for its words."""
    found = page.evaluate(f"() => ({{...{element(figure)}.dataset}})")
    words = {"figure", "law", "parameter", "counts"}
    return {name: float(value) for name, value in found.items() if name not in words}


def told(value: float) -> str:
    """At most four digits that count, and two after the point."""
    rounded = float(f"{value:.4g}")
    return (f"{rounded:.2f}" if abs(value) < 100 else f"{rounded:,g}").replace("-", "−")


@pytest.mark.parametrize(("mean", "std"), [(-1.0, 1.2), (0.0, 1.0), (1.5, 0.3), (-3.0, 2.5)])
def test_bound_and_gap_are_exact_and_add_up(
    address: str, page: Page, mean: float, std: float
) -> None:
    root = shown(page, address, "bound-and-gap")
    root.get_by_label("mean of q").fill(str(mean))
    root.get_by_label("standard deviation of q").fill(str(std))
    x = torch.tensor([[1.6]])
    model = models.LinearGaussian(torch.ones(1, 1), torch.zeros(1), noise_scale=0.6)
    model.requires_grad_(False)
    posterior, evidence = model.posterior(x), model.log_evidence(x).item()
    exact = Normal(posterior.mean.squeeze(), posterior.variance.sqrt().squeeze())
    gap = kl_divergence(Normal(torch.tensor(mean), torch.tensor(std)), exact).item()
    found = numbers(page, "bound-and-gap")
    assert found["evidence"] == pytest.approx(evidence, abs=1e-9)
    assert found["kl"] == pytest.approx(gap, abs=1e-9)
    assert found["bound"] == pytest.approx(evidence - gap, abs=1e-9)
    text = root.locator("p").inner_text().replace("−", "-")
    assert f"bound {evidence - gap:.2f} + divergence {gap:.2f} = log p(x) {evidence:.2f}" in text


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_climbing_ends_at_the_posterior(address: str, page: Page, motion: str) -> None:
    page.emulate_media(reduced_motion=motion)
    root = shown(page, address, "bound-and-gap")
    before = numbers(page, "bound-and-gap")
    assert before["kl"] > 1
    root.get_by_role("button", name="Climb the bound").press("Enter")
    page.wait_for_function(f"() => +{element('bound-and-gap')}.dataset.kl < 1e-5")
    assert numbers(page, "bound-and-gap")["bound"] == pytest.approx(before["evidence"], abs=1e-5)


@pytest.mark.parametrize(
    ("mean", "dim", "samples"), [(1, 1, 1), (0, 1, 1), (1.5, 5, 4), (1, 20, 1), (3, 20, 1)]
)
def test_two_estimates_of_a_gradient_vary_as_derived(
    address: str, page: Page, mean: float, dim: int, samples: int
) -> None:
    root = shown(page, address, "gradient-noise")
    root.get_by_label("mean μ").fill(str(mean))
    root.get_by_label("latent variables").fill(str(dim))
    root.get_by_label("draws L").fill(str(samples))
    found = numbers(page, "gradient-noise")
    assert found["truth"] == pytest.approx(2 * mean)
    generator = torch.Generator().manual_seed(0)
    rows, size = 20_000, found["count"]
    loc = torch.full((rows, samples, dim), float(mean), dtype=torch.float64, requires_grad=True)
    noise = torch.randn(loc.shape, generator=generator, dtype=torch.float64)
    z, fixed = loc + noise, (loc + noise).detach()
    score = fixed.square().sum(-1) * Normal(loc, 1.0).log_prob(fixed).sum(-1)
    values = {"naive": score, "reparameterized": z.square().sum(-1)}
    for kind, value in values.items():
        (slopes,) = torch.autograd.grad(value.mean(1).sum(), loc, retain_graph=True)
        one = slopes[..., 0].sum(1)
        squares = (one - one.mean()).square()
        variance, spread = squares.mean().item(), squares.std().item()
        derived = found[f"{kind}Derived"]
        assert derived == pytest.approx(variance, abs=4 * spread / rows**0.5)
        assert found[f"{kind}Mean"] == pytest.approx(2 * mean, abs=4 * (derived / size) ** 0.5)
        assert found[f"{kind}Variance"] == pytest.approx(derived, abs=4 * spread / size**0.5)
    row = root.get_by_role("row", name="naive").inner_text().split()
    assert row[1:] == [told(found[name]) for name in ("naiveMean", "naiveVariance", "naiveDerived")]
    assert 3 <= root.locator("svg g text").count() <= 9


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_the_estimates_are_drawn_again(address: str, page: Page, motion: str) -> None:
    page.emulate_media(reduced_motion=motion)
    root = shown(page, address, "gradient-noise")
    before = numbers(page, "gradient-noise")
    root.get_by_role("button").press("Enter")
    page.wait_for_function(
        f"count => +{element('gradient-noise')}.dataset.count === count", arg=1000
    )
    after = numbers(page, "gradient-noise")
    assert after["naiveMean"] != before["naiveMean"]
    assert after["naiveDerived"] == before["naiveDerived"]


@pytest.mark.parametrize("name", inverse_cdf.__all__)
def test_draws_and_slopes_are_the_laws_own(address: str, page: Page, name: str) -> None:
    root = shown(page, address, "inverse-cdf")
    root.get_by_label("law").select_option(name)
    sliders = {
        label.inner_text(): label.locator("input")
        for label in root.locator(".controls").nth(1).locator("label").all()
    }
    random = torch.Generator().manual_seed(0)
    for parameter in [*sliders, *sliders]:
        values = {}
        for each in sorted(sliders, key=lambda text: text == parameter):  # the one asked for last
            low, high, step = (
                float(sliders[each].get_attribute(k)) for k in ("min", "max", "step")
            )
            part = torch.rand((), generator=random).item()
            values[each] = round(low + round(part * (high - low) / step) * step, 2)
            sliders[each].fill(f"{values[each]:g}")
        u = torch.randint(1, 1000, (), generator=random).item() / 1000
        root.get_by_label("noise u").fill(str(u))
        leaves = {k: torch.tensor(v, dtype=torch.float64) for k, v in values.items()}
        law_type = getattr(inverse_cdf, name)
        constant = parameter in getattr(law_type, "constants", ())
        leaves[parameter].requires_grad_(not constant)
        z = law_type(**leaves).g(torch.tensor(u, dtype=torch.float64))
        found = page.evaluate(f"() => ({{...{element('inverse-cdf')}.dataset}})")
        assert float(found["z"]) == pytest.approx(z.item(), rel=1e-6, abs=1e-9)
        assert found["parameter"] == parameter
        if constant:
            assert found["slope"] == ""
            continue
        (slope,) = torch.autograd.grad(z, leaves[parameter])
        assert float(found["slope"]) == pytest.approx(slope.item(), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_draws_fill_the_density(address: str, page: Page, motion: str) -> None:
    page.emulate_media(reduced_motion=motion)
    root = shown(page, address, "inverse-cdf")
    root.get_by_role("button").press("Enter")
    page.wait_for_function(f"() => +{element('inverse-cdf')}.dataset.draws === 200")
    counts = page.evaluate(f"() => {element('inverse-cdf')}.dataset.counts").split()
    found = torch.tensor([float(count) for count in counts]).cumsum(0) / 200
    exact = inverse_cdf.Exponential(1.0).cdf(torch.arange(1, 41) * 5 / 40)
    assert (found - exact).abs().max() < 1.95 / 200**0.5  # Kolmogorov and Smirnov's, at 0.1%
    u = float(root.get_by_label("noise u").input_value())
    root.get_by_label("noise u").press("ArrowLeft")
    assert numbers(page, "inverse-cdf")["u"] == pytest.approx(u - 0.001)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("figure", PAGES)
def test_it_fits_and_needs_no_network(figure: str, scheme: str, page: Page) -> None:
    if not (HTML / "index.html").exists():
        pytest.skip("the book is not built: run `make book`")
    page.emulate_media(color_scheme=scheme)
    log = opened(page, (HTML / f"{PAGES[figure]}.html").as_uri())
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        box = page.locator(f"{selector(figure)} > svg").bounding_box()
        assert 250 < box["width"] <= min(width, 640)
        assert page.evaluate(
            f"() => {element(figure)}.scrollWidth <= {element(figure)}.clientWidth"
        )
    assert all(url.startswith((HTML.as_uri(), "data:")) for url in log.requests)
    own = {url.rsplit("/", 1)[1] for url in log.requests if "/interactive/" in url}
    assert own == {"interactive.css", "drawing.js", f"{figure}.js"}
    assert log.faults == []


@pytest.mark.parametrize("figure", PAGES)
def test_without_javascript_a_sentence_is_left(figure: str, address: str, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}/{PAGES[figure]}.html")
    sentence = page.locator(f"{selector(figure)} + noscript").inner_text()
    assert sentence.startswith("This figure moves with JavaScript: ")
    context.close()


@pytest.mark.parametrize(
    ("mean", "names"),
    [("-0.3", ["bound", "divergence"]), ("-3", ["divergence"]), ("1.17", ["bound"])],
)
def test_a_part_is_named_where_there_is_room(
    address: str, page: Page, mean: str, names: list[str]
) -> None:
    root = shown(page, address, "bound-and-gap")
    root.get_by_label("standard deviation of q").fill("1" if len(names) > 1 else "0.5")
    root.get_by_label("mean of q").fill(mean)
    parts = root.locator("text").filter(has_text=re.compile("^(bound|divergence)$"))
    assert [part.text_content() for part in parts.all() if part.is_visible()] == names


def test_draws_are_added_and_can_be_stopped(address: str, page: Page) -> None:
    root = shown(page, address, "inverse-cdf")
    draws = f"+{element('inverse-cdf')}.dataset.draws"
    drop, said = root.get_by_role("button"), root.locator("p[aria-live]")
    drop.press("Enter")
    drop.press("Enter")
    assert said.get_attribute("aria-live") == "off"
    page.wait_for_function(f"() => {draws} === 400")
    assert said.get_attribute("aria-live") == "polite"
    drop.press("Enter")
    page.wait_for_function(f"() => {draws} > 400")
    root.get_by_label("noise u").fill("0.5")
    stopped = numbers(page, "inverse-cdf")["draws"]
    assert stopped < 600
    assert said.get_attribute("aria-live") == "polite"
    drop.press("Enter")
    page.wait_for_function(f"end => {draws} === end", arg=stopped + 200)
    root.get_by_label("law").select_option("Cauchy")
    assert numbers(page, "inverse-cdf")["draws"] == 0


@pytest.mark.parametrize(("u", "inside"), [(0.001, False), (0.5, True), (0.999, False)])
def test_a_draw_outside_the_window_is_not_drawn_in_it(
    address: str, page: Page, u: float, inside: bool
) -> None:
    root = shown(page, address, "inverse-cdf")
    root.get_by_label("law").select_option("Cauchy")
    root.get_by_label("noise u").fill(str(u))
    assert root.locator(".point").is_visible() == inside
    assert ("V" in root.locator(".way").first.get_attribute("d")) == inside
    assert bool(root.locator(".beyond").get_attribute("d")) != inside
