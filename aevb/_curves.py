r"""What Figures 2 and 3 share: the paper's colors and dashes, our curves and the paper's own."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from aevb import reference
from aevb._page import shortfall
from aevb.results import Record

__all__ = ["draw", "handles", "note"]

COLORS = {"wake-sleep": (0.0, 0.5, 0.0), "mcem": (0.0, 0.0, 1.0), "aevb": (1.0, 0.0, 0.0)}
PAPER_COLORS = {
    "wake-sleep": (0.1, 0.3, 0.1),
    "mcem": (0.1, 0.1, 0.45),
    "aevb": (0.4, 0.08, 0.08),
}
"""The paper's own curves: the same hue, darker."""
LABELS = {"wake-sleep": "Wake-Sleep", "mcem": "MCEM", "aevb": "AEVB"}
OURS, PAPER = 2.0, 0.8
"""Line widths, in points."""


def _dashes(split: str, width: float) -> Any:
    """Solid for training; for the test set six points on and six off, whatever the width."""
    return (0, (6 / width, 6 / width)) if split == "test" else "-"


def draw(axes: Axes, figure: str, key: reference.Key, runs: Sequence[Record]) -> None:
    """The curves of one algorithm: ours, where there are runs, and the paper's over them.

    With several seeds ours is the mean of those that came farthest, so that it has no step where
    another ends, in a band from the lowest to the highest of all.
    """
    for split, name in reference.CURVES[figure].items():
        theirs = reference.curve(figure, **key._asdict(), split=split)
        if runs:
            _draw_ours(axes, runs, name, COLORS[key.algorithm], _dashes(split, OURS), theirs.log_x)
        axes.plot(
            theirs.samples,
            theirs.values,
            color=PAPER_COLORS[key.algorithm],
            linewidth=PAPER,
            linestyle=_dashes(split, PAPER),
            zorder=3,
            label=f"paper {key.algorithm} {split}",
        )


def _draw_ours(
    axes: Axes, runs: Sequence[Record], name: str, color: Any, style: Any, log_x: bool
) -> None:
    samples = max((record.curves["samples"] for record in runs), key=lambda known: known[-1])
    values = reference.ours(runs, name, samples, log_x=log_x)
    mean = values[~np.isnan(values[:, -1])].mean(axis=0)  # of those that came to the end
    label = f"ours {runs[0].configuration['algorithm']} {name}"
    axes.plot(samples, mean, color=color, linewidth=OURS, linestyle=style, label=label)
    if len(runs) > 1:
        low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
        several = (~np.isnan(values)).sum(axis=0) > 1  # the band ends where all but one have
        axes.fill_between(samples, low, high, several, color=color, alpha=0.25, linewidth=0)


def note(axes: Axes, runs: Sequence[Record], *, top: bool) -> None:
    """Say how far our runs came, at the top left or, where curves are there, the bottom right."""
    axes.annotate(
        shortfall(runs) if runs else "no run of ours",
        xy=(0, 1) if top else (1, 0),
        xycoords="axes fraction",
        xytext=(4, -4) if top else (-4, 4),
        textcoords="offset points",
        ha="left" if top else "right",
        va="top" if top else "bottom",
        fontsize=7.5,
        color="0.25",
        zorder=4,
    )


def handles(
    runs: dict[reference.Key, list[Record]], algorithms: Sequence[str], splits: Sequence[str]
) -> list[Line2D]:
    """The legend in the paper's order: what of ours is there, then the paper's own."""
    own = [name for name in algorithms if any(key.algorithm == name for key in runs)]
    lines = []
    for names, colors, width, who in (
        (own, COLORS, OURS, "ours"),
        (algorithms, PAPER_COLORS, PAPER, "paper"),
    ):
        for name in names:
            for split in splits:
                line = Line2D([], [], color=colors[name], linewidth=width)
                line.set_linestyle(_dashes(split, width))
                line.set_label(f"{who}: {LABELS[name]} ({split})")
                lines.append(line)
    return lines
