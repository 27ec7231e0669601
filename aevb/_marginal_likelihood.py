r"""Figure 3 of the paper: the estimated marginal likelihood against training samples."""

from collections.abc import Iterable

import matplotlib
from matplotlib.axes import Axes
from matplotlib.ticker import MultipleLocator

from aevb import reference
from aevb._curves import draw, handles, note
from aevb._page import SHORT, STYLE, Page, runs_of
from aevb.results import Record

__all__ = ["figure_3"]

ALGORITHMS = ("wake-sleep", "mcem", "aevb")
"""In the order of the legend."""
AXES: dict[int, tuple[float, float, float, float]] = {
    1_000: (0, 60e6, -160, -100),
    50_000: (0, 68e6, -160, -125),
}
"""Figure 3's axes, as printed: samples from and to, nats from and to."""
TICKS = {1_000: 10, 50_000: 5}


@matplotlib.rc_context(STYLE)
def figure_3(records: Iterable[Record]) -> Page:
    """The estimated marginal likelihood of three algorithms (paper, Figure 3).

    Args:
        records: Runs of ``figure-3``, all of one preset. With several seeds the line is the mean
            of those that came farthest, in a band from the lowest to the highest of all.

    Returns:
        Thick lines are ours, thin dark ones the paper's own. The paper's begin at the second
        log that its axes show: before that, the printed figure has a straight stroke.

    Raises:
        ValueError: If the records are of several presets.
    """
    runs = runs_of(list(records))
    page = Page(figsize=(10.5, 4.2), layout="constrained")
    panels = page.subplots(1, len(AXES))
    for axes, n_train in zip(panels, AXES, strict=True):
        _panel(axes, runs, n_train)
    panels[0].set_ylabel("Marginal log-likelihood  (nats per datapoint)")
    page.legend(
        handles=handles(runs, ALGORITHMS, ("train", "test")),
        loc="outside right center",
        fontsize=7.5,
    )
    return page


def _panel(axes: Axes, runs: dict[reference.Key, list[Record]], n_train: int) -> None:
    shown = []
    for algorithm in ALGORITHMS:
        key = reference.Key("mnist", n_train, 3, algorithm)
        found = runs.get(key, [])
        shown += found
        draw(axes, "figure-3", key, found)
    left, right, bottom, top = AXES[n_train]
    short = [record.curves for record in shown if record.curves["samples"][-1] < SHORT]
    if short:
        right = max(curves["samples"][-1] for curves in short)
        bottom = min(min(curves["test"]) for curves in short) - 10
    else:
        axes.xaxis.set_major_locator(MultipleLocator(10e6))
        axes.yaxis.set_major_locator(MultipleLocator(TICKS[n_train]))
    axes.set(xlim=(left, right), ylim=(bottom, top))
    axes.xaxis.set_major_formatter(lambda samples, _: f"{samples / 1e6:g}")
    axes.set_xlabel("# Training samples evaluated (millions)")
    axes.set_title(f"$N_\\mathrm{{train}} = {n_train}$")
    axes.tick_params(direction="in", top=True, right=True, width=0.7)
    note(axes, shown, top=False)
