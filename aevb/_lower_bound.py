r"""Figure 2 of the paper: the lower bound against training samples."""

from collections.abc import Iterable

import matplotlib
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MultipleLocator, NullFormatter

from aevb import experiments, reference
from aevb._curves import draw, handles, note
from aevb._page import SHORT, STYLE, Page, runs_of
from aevb.results import Record
from aevb.tables import DATASETS

__all__ = ["figure_2", "figure_2_panel"]

ALGORITHMS = ("wake-sleep", "aevb")
"""In the order of the legend."""
AXES: dict[str, tuple[float, float, float, float]] = {
    "mnist": (1e5, 10**8.4, -150, -95),
    "frey-face": (1e5, 1e8, 0, 1600),
}
"""Figure 2's axes, as printed: samples from and to, nats from and to."""
TICKS = {"mnist": 10, "frey-face": 200}


@matplotlib.rc_context(STYLE)
def figure_2(records: Iterable[Record]) -> Page:
    """The lower bound against training samples, in the paper's arrangement (paper, Figure 2).

    Args:
        records: Runs of ``figure-2``, all of one preset. Panels without a run show the paper's
            curves alone. With several seeds the line is the mean of those that came farthest,
            in a band from the lowest to the highest of all.

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
        handles=handles(runs, ALGORITHMS, ("test", "train")),
        loc="center left",
        bbox_to_anchor=(-0.3, 0.5),
        fontsize=7.5,
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
    axes.legend(
        handles=handles(runs, ALGORITHMS, ("test", "train")),
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        fontsize=8,
    )
    return page


def _panel(
    axes: Axes, runs: dict[reference.Key, list[Record]], dataset: str, latent_dim: int
) -> None:
    left, right, bottom, top = _limits(runs, dataset)
    printed = (left, right, bottom, top) == AXES[dataset]
    shown = []
    for algorithm in ALGORITHMS:
        key = reference.Key(dataset, reference.N_TRAIN[dataset], latent_dim, algorithm)
        found = runs.get(key, [])
        shown += found
        draw(axes, "figure-2", key, found)
    axes.set(xscale="log", xlim=(left, right), ylim=(bottom, top))
    axes.set_title(f"{DATASETS[dataset]}, $N_z = {latent_dim}$")
    axes.xaxis.set_major_locator(LogLocator(numticks=20))
    axes.xaxis.set_minor_formatter(NullFormatter())
    if printed:
        axes.yaxis.set_major_locator(MultipleLocator(TICKS[dataset]))
    axes.tick_params(which="both", direction="in", top=True, right=True, width=0.7)
    ends = [record.curves[name][-1] for record in shown for name in ("test", "train")]
    note(axes, shown, top=printed and max(ends, default=bottom) < (bottom + top) / 2)


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
