r"""Figure 2 of the paper: the lower bound against training samples."""

from collections.abc import Iterable
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MultipleLocator, NullFormatter

from aevb import experiments, reference
from aevb._page import STYLE, TITLES, Page, runs_of, shortfall
from aevb.results import Record

COLORS = {"wake-sleep": (0.0, 0.5, 0.0), "aevb": (1.0, 0.0, 0.0)}
PAPER_COLORS = {"wake-sleep": (0.1, 0.3, 0.1), "aevb": (0.4, 0.08, 0.08)}
"""The paper's own curves: the same hue, darker."""
OURS, PAPER = 2.0, 0.8
"""Line widths, in points."""
LABELS = {"wake-sleep": "Wake-Sleep", "aevb": "AEVB"}
AXES: dict[str, tuple[float, float, float, float]] = {
    "mnist": (1e5, 10**8.4, -150, -95),
    "frey-face": (1e5, 1e8, 0, 1600),
}
"""Figure 2's axes, as printed: samples from and to, nats from and to."""
TICKS = {"mnist": 10, "frey-face": 200}
SHORT = 1_000_000
"""A run that ends before this many samples cannot be seen on the printed axes."""


@matplotlib.rc_context(STYLE)
def figure_2(records: Iterable[Record]) -> Page:
    """The lower bound against training samples, in the paper's arrangement (paper, Figure 2).

    Args:
        records: Runs of ``figure-2``, all of one preset. Panels without a run show the paper's
            curves alone. With several seeds the line is their mean, in a band from the lowest
            to the highest.

    Returns:
        Thick lines are ours, thin dark ones the paper's own. The paper's begin at the second
        log: from the first to it, the printed figure has a straight stroke.

    Raises:
        ValueError: If the records are of several presets.
    """
    records = list(records)
    runs = runs_of(records)
    page = Page(figsize=(10.5, 4.7))
    page.subplots_adjust(left=0.065, right=0.985, top=0.94, bottom=0.06, wspace=0.27, hspace=0.36)
    grid = page.subplots(2, 5)
    for row, (dataset, dims) in zip(grid, experiments.LATENT_DIMS.items(), strict=True):
        for axes, latent_dim in zip(row[-len(dims) :], dims, strict=True):
            _panel(axes, runs, dataset, latent_dim)
    grid[0][0].set_xlabel("# Training samples evaluated")
    for first in (grid[0][0], grid[1][1]):
        first.set_ylabel(r"$\mathcal{L}$", fontsize=13, rotation=0, labelpad=7)
    grid[1][0].axis("off")
    grid[1][0].legend(
        handles=_handles(runs), loc="center left", bbox_to_anchor=(-0.3, 0.5), fontsize=7.5
    )
    return page


@matplotlib.rc_context(STYLE)
def figure_2_panel(records: Iterable[Record], dataset: str, latent_dim: int) -> Page:
    """One panel of Figure 2, large.

    Args:
        records: As in :func:`figure_2`.
        dataset: ``mnist`` or ``frey-face``.
        latent_dim: The number of latent variables, N_z.

    Raises:
        ValueError: If the figure has no such panel, or the records are of several presets.
    """
    panels = [(name, n) for name, dims in experiments.LATENT_DIMS.items() for n in dims]
    if (dataset, latent_dim) not in panels:
        known = ", ".join(f"{name} {n}" for name, n in panels)
        raise ValueError(f"panel: expected one of {known}; found {dataset} {latent_dim}")
    runs = runs_of(list(records))
    page = Page(figsize=(8.4, 4.4), layout="constrained")
    axes = page.subplots()
    _panel(axes, runs, dataset, latent_dim)
    axes.set_xlabel("# Training samples evaluated")
    axes.set_ylabel(r"$\mathcal{L}$  (nats per datapoint)")
    axes.legend(handles=_handles(runs), loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8)
    return page


def _key(dataset: str, latent_dim: int, algorithm: str) -> reference.Key:
    return reference.Key(dataset, reference.N_TRAIN[dataset], latent_dim, algorithm)


def _dashes(split: str, width: float) -> Any:
    """Solid for training; for the test set six points on and six off, whatever the width."""
    return (0, (6 / width, 6 / width)) if split == "test" else "-"


def _panel(
    axes: Axes, runs: dict[reference.Key, list[Record]], dataset: str, latent_dim: int
) -> None:
    left, right, bottom, top = _limits(runs, dataset)
    printed = (left, right, bottom, top) == AXES[dataset]
    shown = []
    for algorithm in COLORS:
        key = _key(dataset, latent_dim, algorithm)
        found = runs.get(key, [])
        shown += found
        for split, name in reference.CURVES["figure-2"].items():
            theirs = reference.curve("figure-2", **key._asdict(), split=split)
            if found:
                _draw_ours(axes, found, name, COLORS[algorithm], _dashes(split, OURS))
            axes.plot(
                theirs.samples,
                theirs.values,
                color=PAPER_COLORS[algorithm],
                linewidth=PAPER,
                linestyle=_dashes(split, PAPER),
                zorder=3,
                label=f"paper {algorithm} {split}",
            )
    axes.set(xscale="log", xlim=(left, right), ylim=(bottom, top))
    axes.set_title(f"{TITLES[dataset]}, $N_z = {latent_dim}$")
    axes.xaxis.set_major_locator(LogLocator(numticks=20))
    axes.xaxis.set_minor_formatter(NullFormatter())
    if printed:
        axes.yaxis.set_major_locator(MultipleLocator(TICKS[dataset]))
    axes.tick_params(which="both", direction="in", top=True, right=True, width=0.7)
    axes.annotate(
        shortfall(shown) if shown else "no run of ours",
        xy=(0, 1) if printed else (1, 0),  # where no curve is
        xycoords="axes fraction",
        xytext=(4, -4) if printed else (-4, 4),
        textcoords="offset points",
        ha="left" if printed else "right",
        va="top" if printed else "bottom",
        fontsize=7.5,
        color="0.25",
        zorder=4,
    )


def _limits(
    runs: dict[reference.Key, list[Record]], dataset: str
) -> tuple[float, float, float, float]:
    """The printed axes, or wider ones where a run is too short to be seen on them."""
    left, right, bottom, top = AXES[dataset]
    records = [record for key in runs if key.dataset == dataset for record in runs[key]]
    for curves in (record.curves for record in records):
        if curves["samples"][-1] < SHORT:
            left = min(left, curves["samples"][0])
            lowest = min(min(curves[name]) for name in reference.CURVES["figure-2"].values())
            bottom = min(bottom, 50 * (lowest // 50))
    return left, right, bottom, top


def _draw_ours(axes: Axes, runs: list[Record], name: str, color: Any, dashes: Any) -> None:
    samples = max((record.curves["samples"] for record in runs), key=lambda known: known[-1])
    values = reference.ours(runs, name, samples)
    mean = np.nanmean(values, axis=0)
    label = f"ours {runs[0].configuration['algorithm']} {name}"
    axes.plot(samples, mean, color=color, linewidth=OURS, linestyle=dashes, label=label)
    if len(runs) > 1:
        low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
        axes.fill_between(samples, low, high, color=color, alpha=0.25, linewidth=0)


def _handles(runs: dict[reference.Key, list[Record]]) -> list[Line2D]:
    """The legend in the paper's order: what of ours is there, then the paper's own."""
    own = [name for name in COLORS if any(key.algorithm == name for key in runs)]
    lines = []
    for names, colors, width, who in (
        (own, COLORS, OURS, "ours"),
        (list(COLORS), PAPER_COLORS, PAPER, "paper"),
    ):
        for name in names:
            for split in reference.CURVES["figure-2"]:
                line = Line2D([], [], color=colors[name], linewidth=width)
                line.set_linestyle(_dashes(split, width))
                line.set_label(f"{who}: {LABELS[name]} ({split})")
                lines.append(line)
    return lines
