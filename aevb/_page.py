r"""What all figures share: a style, a page that notebooks show, and what is said of short runs."""

import io
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from aevb import experiments, reference
from aevb.results import Record
from aevb.tables import ALGORITHMS, million

__all__ = ["SHORT", "STYLE", "Page", "runs_of", "shortfall"]

SHORT = 1_000_000
"""A run that ends before this many samples cannot be seen on the axes of Figures 2 and 3."""
STYLE: dict[Any, Any] = {
    "figure.facecolor": "white",  # whatever the page's theme
    "figure.dpi": 160,
    "axes.facecolor": "white",
    "axes.linewidth": 0.7,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "text.color": "black",
    "axes.edgecolor": "black",
    "axes.labelcolor": "black",
    "xtick.color": "black",
    "ytick.color": "black",
}


class Page(Figure):
    """A matplotlib figure that a notebook shows as it is, without pyplot and its state."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi="figure", facecolor=self.get_facecolor())
        return buffer.getvalue()


def runs_of(records: Sequence[Record]) -> dict[reference.Key, list[Record]]:
    """The runs of each curve.

    Raises:
        ValueError: If the records are of several presets.
    """
    presets = sorted({record.configuration["preset"] for record in records})
    if len(presets) > 1:
        raise ValueError(f"records: expected one preset, found {', '.join(presets)}")
    return reference.by_curve(records)


def shortfall(records: Sequence[Record]) -> str:
    """What keeps runs from being the paper's: their preset, and how far they came; or nothing.

    Of several seeds the one that came farthest counts: the curve is its.
    """
    farthest: dict[str, Record] = {}
    for record in sorted(records, key=_reached):
        farthest[record.configuration["algorithm"]] = record
    last = min(farthest.values(), key=_reached)
    settings = last.configuration
    if settings["preset"] != "paper":
        return f"preset {settings['preset']}:\n{_reached(last):,.0f} samples"
    full = experiments.paper_samples(last.figure, settings["dataset"])
    if _reached(last) >= full:
        return ""
    came = {name: million(_reached(run)) for name, run in farthest.items()}
    if len(set(came.values())) == 1:
        return f"ours: to\n{came.popitem()[1]} samples"
    told = {ALGORITHMS[name]: n.removesuffix(" million") for name, n in reversed(came.items())}
    return "\n".join(["ours to (millions)", *(f"{name} {n}" for name, n in told.items())])


def _reached(record: Record) -> float:
    return record.curves["samples"][-1]
