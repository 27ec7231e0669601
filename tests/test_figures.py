"""The figures: what is on them, and where. How they look is for the eye."""

import io
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch, Polygon
from scipy.stats import norm

from aevb import experiments, figures, models, reference, results

PANELS = [(name, n) for name, dims in experiments.LATENT_DIMS.items() for n in dims]


def made_up(
    dataset: str = "mnist", latent_dim: int = 20, *, until: float = 1e8, **other: Any
) -> results.Record:
    """A record that is a straight line on the page, one nat or ten higher per e-fold."""
    settings = experiments.LowerBound(dataset, latent_dim=latent_dim)
    configuration = settings.__dict__ | {"n_train": reference.N_TRAIN[dataset]} | other
    samples = np.unique([*np.geomspace(500, until, 40).round(), until])
    line = {"mnist": -130 + np.log(samples), "frey-face": 10 * np.log(samples)}[dataset]
    line = line + configuration["seed"]
    curves = {"samples": samples, "test": line, "train": line + 1, "train_running": line - 1}
    return results.Record(
        "figure-2",
        f"{dataset}-aevb-nz{latent_dim}-seed{configuration['seed']}",
        configuration,
        {name: list(values) for name, values in curves.items()},
        {},
    )


def with_weights(folder: Path, dataset: str, latent_dim: int, until: float = 1e8) -> results.Record:
    make = {"mnist": models.bernoulli_vae, "frey-face": models.gaussian_vae}[dataset]
    pixels = {"mnist": 784, "frey-face": 560}[dataset]
    generator = torch.Generator().manual_seed(latent_dim)
    model = make(pixels, 7, latent_dim, generator, std=1.0)
    record = made_up(dataset, latent_dim, until=until, hidden=7)
    return results.save(record, folder, model.state_dict())


def drawn(axes: Axes) -> dict[str, Line2D]:
    return {str(line.get_label()): line for line in axes.lines}


def written(axes: Axes) -> str:
    return "\n".join(text.get_text() for text in axes.texts)


# --- Figure 1 -----------------------------------------------------------------------------------


def test_figure_1_is_the_papers_graphical_model() -> None:
    (axes,) = figures.figure_1().axes
    places = {text.get_text(): np.array(text.get_position()) for text in axes.texts}
    nodes = {name: place for name, place in places.items() if name != "$N$"}

    def nearest(point: Any) -> str:
        return min(nodes, key=lambda name: float(np.linalg.norm(nodes[name] - point)))

    shafts = [patch for patch in axes.patches if type(patch) is PathPatch]
    heads = [patch for patch in axes.patches if type(patch) is Polygon]
    found = {
        (nearest(shaft.get_path().vertices[0]), nearest(head.get_xy()[0]), shaft.get_linestyle())
        for shaft, head in zip(shafts, heads, strict=True)
    }
    assert len(shafts) == 5
    assert {(start, end, line == "-") for start, end, line in found} == {
        (r"$\theta$", "$z$", True),
        (r"$\theta$", "$x$", True),
        ("$z$", "$x$", True),
        (r"$\phi$", "$z$", False),
        ("$x$", "$z$", False),
    }

    circles = {
        nearest(patch.center): patch.get_facecolor()[:3]
        for patch in axes.patches
        if isinstance(patch, Circle)
    }
    assert set(circles) == {"$z$", "$x$"}
    assert circles["$z$"] == (1, 1, 1)
    assert 0.5 < circles["$x$"][0] < 0.95

    (plate,) = [patch for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    inside = {name for name, place in places.items() if plate.get_bbox().contains(*place)}
    assert inside == {"$z$", "$x$", "$N$"}
    assert places[r"$\phi$"][0] < places["$z$"][0] < places[r"$\theta$"][0]


# --- Figure 2 -----------------------------------------------------------------------------------


def test_figure_2_has_the_papers_panels_and_axes() -> None:
    axes = figures.figure_2([made_up(*panel) for panel in PANELS]).axes
    assert len(axes) == 10
    panels = [*axes[:5], *axes[6:]]

    titles = [panel.get_title() for panel in panels]
    assert titles[:5] == [f"MNIST, $N_z = {n}$" for n in (3, 5, 10, 20, 200)]
    assert titles[5:] == [f"Frey Face, $N_z = {n}$" for n in (2, 5, 10, 20)]
    assert not axes[5].axison
    assert [text.get_text() for text in axes[5].get_legend().get_texts()] == [
        "ours: AEVB (test)",
        "ours: AEVB (train)",
        "paper: Wake-Sleep (test)",
        "paper: Wake-Sleep (train)",
        "paper: AEVB (test)",
        "paper: AEVB (train)",
    ]
    for place, panel in enumerate(panels):
        assert panel.get_xscale() == "log"
        limits = (*panel.get_xlim(), *panel.get_ylim())
        assert limits == pytest.approx(
            (1e5, 10**8.4, -150, -95) if place < 5 else (1e5, 1e8, 0, 1600)
        )
        ticks = [tick for tick in panel.get_yticks() if limits[2] <= tick <= limits[3]]
        assert ticks == list(range(-150, -95, 10) if place < 5 else range(0, 1601, 200))
    assert [bool(panel.get_xlabel()) for panel in panels] == [True] + [False] * 8
    assert [bool(panel.get_ylabel()) for panel in panels] == [
        True,
        *[False] * 4,
        True,
        *[False] * 3,
    ]


def test_a_panel_shows_our_curves_thick_and_the_papers_thin() -> None:
    record = made_up()
    lines = drawn(figures.figure_2_panel([record], "mnist", 20).axes[0])

    assert set(lines) == {
        "ours aevb test",
        "ours aevb train_running",
        "paper aevb test",
        "paper aevb train",
        "paper wake-sleep test",
        "paper wake-sleep train",
    }
    for label, line in lines.items():
        assert line.is_dashed() == label.endswith("test")
        red, green, _ = to_rgb(line.get_color())
        assert (red > green) == ("aevb" in label)
        assert (line.get_linewidth() > 1) == label.startswith("ours")
    assert to_rgb(lines["ours aevb test"].get_color()) == (1, 0, 0)

    for name in ("test", "train_running"):
        line = lines[f"ours aevb {name}"]
        np.testing.assert_array_equal(line.get_xdata(), record.curves["samples"])
        np.testing.assert_allclose(line.get_ydata(), record.curves[name])
    for algorithm in ("aevb", "wake-sleep"):
        for split in ("test", "train"):
            theirs = reference.curve(
                "figure-2",
                dataset="mnist",
                n_train=50_000,
                latent_dim=20,
                algorithm=algorithm,
                split=split,
            )
            line = lines[f"paper {algorithm} {split}"]
            np.testing.assert_array_equal(line.get_ydata(), theirs.values)
            assert np.min(line.get_xdata()) > 1e5  # without the stroke from the first log


def test_a_wake_sleep_run_of_ours_is_green_and_first_in_the_legend() -> None:
    page = figures.figure_2_panel([made_up(algorithm="wake-sleep")], "mnist", 20)
    line = drawn(page.axes[0])["ours wake-sleep test"]
    assert to_rgb(line.get_color()) == (0, 0.5, 0)
    assert page.axes[0].get_legend().get_texts()[0].get_text() == "ours: Wake-Sleep (test)"


def test_a_run_of_the_papers_length_is_not_remarked_upon() -> None:
    assert written(figures.figure_2_panel([made_up()], "mnist", 20).axes[0]) == ""


@pytest.mark.parametrize(
    ("records", "note"),
    [
        ([], "no run of ours"),
        ([made_up(latent_dim=10)], "no run of ours"),
        ([made_up(until=1e7)], "ours: to\n10 million samples"),
        ([made_up(), made_up(until=1e7, seed=1)], ""),
        ([made_up(until=2e7), made_up(until=1e7, seed=1)], "ours: to\n20 million samples"),
        (
            [made_up(until=2e7), made_up(until=1e7, algorithm="wake-sleep")],
            "ours to (millions)\nAEVB 20\nwake-sleep 10",
        ),
        ([made_up(preset="smoke", until=10_000)], "preset smoke:\n10,000 samples"),
        ([made_up(preset="quick", until=1e8)], "preset quick:\n100,000,000 samples"),
    ],
)
def test_anything_else_is(records: list[results.Record], note: str) -> None:
    assert written(figures.figure_2_panel(records, "mnist", 20).axes[0]) == note


def test_a_run_too_short_for_the_printed_axes_is_shown_on_wider_ones() -> None:
    record = made_up(preset="smoke", until=10_000)
    record.curves["train_running"][0] = -543.4
    panel, other, *_ = reversed(figures.figure_2([record]).axes[:4])

    for axes in (panel, other):
        assert axes.get_xlim() == pytest.approx((500, 10**8.4))
        assert axes.get_ylim() == (-550, -95)
    assert "ours aevb test" in drawn(panel)
    assert written(other) == "no run of ours"


def test_the_longest_of_the_seeds_are_averaged_and_all_are_in_the_band() -> None:
    records = [made_up(), made_up(seed=2, until=1e7)]
    (axes,) = figures.figure_2_panel(records, "mnist", 20).axes
    line, (band, _) = drawn(axes)["ours aevb test"], axes.collections

    samples, shown = np.array(line.get_xdata()), np.array(line.get_ydata())
    first = np.array(records[0].curves["test"])
    np.testing.assert_array_equal(samples, records[0].curves["samples"])
    np.testing.assert_allclose(shown, first)
    edges = band.get_paths()[0].vertices
    both = samples <= 1e7  # where the shorter one ends, and with it the band
    assert edges[:, 0].max() == samples[both].max()
    assert edges[:, 1].min() == pytest.approx(first.min())
    assert edges[:, 1].max() == pytest.approx(first[both].max() + 2)
    at_1e6 = int(np.searchsorted(samples, 1e6))
    heights = edges[np.isclose(edges[:, 0], samples[at_1e6]), 1]
    assert np.ptp(heights) == pytest.approx(2)

    (axes,) = figures.figure_2_panel([made_up(seed=2), *records], "mnist", 20).axes
    shown = np.array(drawn(axes)["ours aevb test"].get_ydata())
    np.testing.assert_allclose(shown, first + 1)

    (axes,) = figures.figure_2_panel(records[:1], "mnist", 20).axes
    assert not axes.collections


def test_presets_are_not_mixed() -> None:
    with pytest.raises(ValueError, match="records: expected one preset, found paper, smoke"):
        figures.figure_2([made_up(), made_up(latent_dim=3, preset="smoke")])


def test_an_unknown_panel_is_refused() -> None:
    with pytest.raises(ValueError, match=r"panel: expected one of mnist 3, .*; found mnist 2"):
        figures.figure_2_panel([], "mnist", 2)


# --- Figure 3 -----------------------------------------------------------------------------------


def likelihoods(algorithm: str, n_train: int, until: float = 6e7, **other: Any) -> results.Record:
    """A record of Figure 3, a straight line that rises one nat in two million samples."""
    settings = experiments.MarginalLikelihood(algorithm=algorithm, n_train=n_train)
    samples = np.linspace(100, until, 20)
    line = -150 + samples / 2e6
    curves = {"samples": samples, "test": line, "train": line + 3, "train_running": line - 99}
    return results.Record(
        "figure-3",
        settings.name,
        settings.__dict__ | other,
        {name: list(values) for name, values in curves.items()},
        {},
    )


SIX = [(a, n) for n in (1_000, 50_000) for a in ("aevb", "wake-sleep", "mcem")]


def test_figure_3_has_the_papers_panels_and_axes() -> None:
    page = figures.figure_3([likelihoods(*curve) for curve in SIX])
    left, right = page.axes
    assert left.get_title() == r"$N_\mathrm{train} = 1000$"
    assert right.get_title() == r"$N_\mathrm{train} = 50000$"
    assert (*left.get_xlim(), *left.get_ylim()) == (0, 60e6, -160, -100)
    assert (*right.get_xlim(), *right.get_ylim()) == (0, 68e6, -160, -125)
    for axes, gap in ((left, 10), (right, 5)):
        assert set(np.diff(axes.get_yticks())) == {gap}
        assert set(np.diff(axes.get_xticks())) == {10e6}
        assert written(axes) == ""
    (legend,) = page.legends
    shown = [text.get_text() for text in legend.get_texts()]
    names = ("Wake-Sleep", "MCEM", "AEVB")
    assert shown == [
        f"{who}: {name} ({split})"
        for who in ("ours", "paper")
        for name in names
        for split in ("train", "test")
    ]


def test_figure_3_draws_what_was_evaluated_in_the_papers_colors() -> None:
    records = [likelihoods(*curve) for curve in SIX]
    lines = drawn(figures.figure_3(records).axes[1])
    assert len(lines) == 12
    colors = {"aevb": (1, 0, 0), "wake-sleep": (0, 0.5, 0), "mcem": (0, 0, 1)}
    for record in records[3:]:
        algorithm = record.configuration["algorithm"]
        for split in ("test", "train"):
            line = lines[f"ours {algorithm} {split}"]
            np.testing.assert_array_equal(line.get_xdata(), record.curves["samples"])
            np.testing.assert_allclose(line.get_ydata(), record.curves[split])
            assert to_rgb(line.get_color()) == colors[algorithm]
            assert line.is_dashed() == (split == "test")
            key = {"dataset": "mnist", "n_train": 50_000, "latent_dim": 3}
            theirs = reference.curve("figure-3", algorithm=algorithm, split=split, **key)
            paper = lines[f"paper {algorithm} {split}"]
            np.testing.assert_array_equal(paper.get_ydata(), theirs.values)
            assert paper.get_linewidth() < 1 < line.get_linewidth()


def test_figure_3_says_how_far_its_runs_came() -> None:
    records = [likelihoods("aevb", 1_000, 1e7), likelihoods("mcem", 1_000, 6e7)]
    left, right = figures.figure_3(records).axes
    assert written(left) == "ours to (millions)\nMCEM 60\nAEVB 10"
    assert written(right) == "no run of ours"


def test_a_smoke_run_of_figure_3_is_shown_on_axes_of_its_own() -> None:
    record = likelihoods("aevb", 1_000, 90_000, preset="smoke")
    record.curves["test"][0] = -543.4
    left, right = figures.figure_3([record]).axes
    assert left.get_xlim() == (0, 90_000)
    assert left.get_ylim() == (-553.4, -100)
    assert written(left) == "preset smoke:\n90,000 samples"
    assert right.get_xlim() == (0, 68e6)


# --- Figures 4 and 5 ----------------------------------------------------------------------------


@pytest.mark.parametrize("side", [1, 10, 20, 21])
def test_the_latent_grid_is_equally_spaced_in_probability(side: int) -> None:
    z = figures.latent_grid(side)
    assert z.shape == (side * side, 2)

    # Row by row from the top left: right is more of the first coordinate, up of the second.
    expected = (np.arange(side) + 0.5) / side
    probability = norm.cdf(z.numpy()).reshape(side, side, 2)
    for k in range(side):
        np.testing.assert_allclose(probability[k, :, 0], expected, atol=1e-6)
        np.testing.assert_allclose(probability[::-1, k, 1], expected, atol=1e-6)

    torch.testing.assert_close(z.flip(0), -z)
    if side % 2:
        assert (z[side * side // 2] == 0).all()  # the median is the middle of the page


def test_tiles_lie_row_by_row_and_upright() -> None:
    images = torch.zeros(6, 2, 3)
    images[4] = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])

    page = figures.tile(images, columns=3)

    assert page.shape == (4, 9)
    expected = torch.zeros(4, 9)
    expected[2:4, 3:6] = images[4]  # second row, second column
    assert torch.equal(page, expected)
    with pytest.raises(ValueError, match="images: expected a multiple of 4, found 6"):
        figures.tile(images, columns=4)


def test_decoding_gives_the_means() -> None:
    model = models.gaussian_vae(560, 7, 2, torch.Generator().manual_seed(0), std=1.0).float()
    z = torch.randn(3, 2)
    means = figures.decode(model, z)
    assert means.shape == (3, 560)
    assert not means.requires_grad
    torch.testing.assert_close(means, model.generative_model(z.float()).mean)


def test_figure_4_shows_the_means_over_the_grid(tmp_path: Path) -> None:
    records = [with_weights(tmp_path, name, 2) for name in ("mnist", "frey-face")]
    frey, mnist = figures.figure_4(records).axes

    for axes, record, side, shape in (
        (frey, records[1], 10, (28, 20)),
        (mnist, records[0], 20, (28, 28)),
    ):
        (image,) = axes.images
        pixels = np.asarray(image.get_array())
        assert pixels.shape == (side * shape[0], side * shape[1])
        assert image.get_clim() == (0, 1)
        means = figures.decode(experiments.trained_model(record), figures.latent_grid(side))
        for row, column in ((0, 0), (0, side - 1), (3, 7), (side - 1, 0)):
            cell = pixels[row * shape[0] :, column * shape[1] :][: shape[0], : shape[1]]
            np.testing.assert_allclose(cell, means[row * side + column].reshape(shape))
    # The polarity of the paper: ink is dark on MNIST, light is light on Frey Face.
    assert mnist.images[0].get_cmap()(1.0)[:3] == (0, 0, 0)
    assert frey.images[0].get_cmap()(1.0)[:3] == (1, 1, 1)
    assert [axes.get_title() for axes in (frey, mnist)] == [
        "(a) Learned Frey Face manifold",
        "(b) Learned MNIST manifold",
    ]


def test_figure_5_shows_samples_of_the_prior_decoded(tmp_path: Path) -> None:
    records = [with_weights(tmp_path, "mnist", n, until=1e6) for n in (20, 10, 5, 2)]
    panels = figures.figure_5(records, seed=3).axes

    assert len(panels) == 4
    for axes, latent_dim, record in zip(panels, (2, 5, 10, 20), reversed(records), strict=True):
        z = torch.randn(100, latent_dim, generator=torch.Generator().manual_seed(3))
        means = figures.decode(experiments.trained_model(record), z).reshape(100, 28, 28)
        pixels = np.asarray(axes.images[0].get_array())
        np.testing.assert_allclose(pixels, figures.tile(means, 10))
        assert axes.images[0].get_cmap()(1.0)[:3] == (0, 0, 0)
        assert f"{latent_dim}-D latent space\nours: to 1 million samples" in axes.get_title()

    other = figures.figure_5(records, seed=4).axes[0].images[0].get_array()
    assert not np.allclose(other, panels[0].images[0].get_array())


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    mnist = with_weights(tmp_path, "mnist", 2)
    with pytest.raises(
        ValueError,
        match="expected one of frey-face with latent_dim 2; found mnist-aevb-nz2-seed0",
    ):
        figures.figure_4([mnist])
    with pytest.raises(ValueError, match="mnist with latent_dim 5"):
        figures.figure_5([mnist])


def test_missing_weights_are_named() -> None:
    records = [made_up("mnist", 2), made_up("frey-face", 2)]
    with pytest.raises(results.RecordError, match="frey-face-aevb-nz2-seed0"):
        figures.figure_4(records)


# --- the page -----------------------------------------------------------------------------------


def test_a_page_is_white_and_black_whatever_the_theme() -> None:
    dark = {
        "figure.facecolor": "black",
        "savefig.facecolor": "black",
        "axes.facecolor": "black",
        "axes.edgecolor": "white",
        "text.color": "white",
        "xtick.color": "white",
        "savefig.dpi": 10,
    }
    plain = figures.figure_2_panel([], "mnist", 20)._repr_png_()
    with matplotlib.rc_context(dark):
        themed = figures.figure_2_panel([], "mnist", 20)._repr_png_()

    pixels = imread(io.BytesIO(plain))
    assert pixels.shape[1] > 1000
    assert (pixels[0, 0, :3] == 1).all()
    np.testing.assert_array_equal(imread(io.BytesIO(themed)), pixels)
