r"""The paper's own curves (Figures 2 and 3), and ours against them.

The curves were read from the vector graphics of the paper's PDF; ``digitised/README.md``, in the
package, says how, and how far to trust them. Everything is in nats per datapoint.
"""

import json
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aevb._digitised import (
    FIGURES,
    N_TRAIN,
    Curve,
    Key,
    ReferenceError,
    curve,
    curves,
    interpolate,
)
from aevb.results import Record

__all__ = [
    "FIGURES",
    "N_TRAIN",
    "Curve",
    "Key",
    "ReferenceError",
    "Row",
    "Summary",
    "by_curve",
    "compare",
    "curve",
    "ends",
    "key_of",
    "ours",
    "rows_as_json",
    "running_mean",
    "summary",
    "table",
]

PLACES = {
    "figure-2": [10**k * n for k in range(5, 9) for n in (1, 3)],
    "figure-3": [10**6 * n for n in (1, 2, 5, 10, 20, 30, 40, 50, 60)],
}
"""The training samples at which curves are compared: half decades, and every ten million."""
CURVES = {
    "figure-2": {"test": "test", "train": "train_running"},
    "figure-3": {"test": "test", "train": "train"},
}
"""The curve of a record that each of the paper's is held against. In Figure 2 the paper's train
curve is the running mean of the minibatches' bounds."""
_NOT_SETTINGS = ("seed", "samples", "keep_weights")
"""What may differ between the runs of one curve: no setting of the training itself."""
_SIDES = ("ours", "paper", "difference")


class Row(NamedTuple):
    """One place of one curve. Bounds in nats per datapoint; ``None`` where a side has none."""

    dataset: str
    n_train: int
    latent_dim: int
    algorithm: str
    split: str
    samples: int
    runs: int
    """Over how many of our runs, one a seed, ``ours`` is the mean."""
    ours: float | None
    paper: float | None
    difference: float | None
    """``ours - paper``: positive where our bound is the higher, that is the better, one."""


class Summary(NamedTuple):
    """Absolute differences of a figure's curves, nats per datapoint."""

    curves: int
    median: float
    largest: float


def compare(figure: str, records: Iterable[Record], *, preset: str = "paper") -> list[Row]:
    """Our curves and the paper's at the same numbers of training samples.

    The places are the half decades, the first log and the end of our longest run (Figure 2), or
    every ten million (Figure 3). With several seeds ``ours`` is the mean over those that got there.

    Args:
        figure: ``figure-2`` or ``figure-3``.
        records: Our runs. They need not be complete, nor in any order.
        preset: The preset that all of them have to be of: a short run is not to pass for one
            of the paper's length.

    Returns:
        For every curve of the paper, then for every curve that we have and the paper has not, a
        row for each place.

    Raises:
        ReferenceError: If the figure is unknown, or a record is of another figure or preset.
    """
    paper, records, log_x = curves(figure), list(records), figure == "figure-2"
    for record in records:
        made = record.configuration["preset"]
        if (record.figure, made) != (figure, preset):
            raise ReferenceError(
                f"{record.name}: expected a record of {figure}, preset {preset}; "
                f"found one of {record.figure}, preset {made}"
            )
    found = by_curve(records)
    rows = []
    for key in dict.fromkeys([Key(*key[:4]) for key in paper] + sorted(found)):
        for split, name in CURVES[figure].items():
            theirs = paper.get((*key, split))
            runs, places = found.get(key, []), list(PLACES[figure])
            if log_x and theirs and theirs.start:
                places.append(round(theirs.start[0]))
            if log_x and runs:
                places.append(int(max(run.curves["samples"][-1] for run in runs)))
            places = sorted(set(places))
            values = ours(runs, name, places, log_x=log_x)
            for place, column in zip(places, values.T, strict=True):
                reached = column[~np.isnan(column)]
                mine = round(float(reached.mean()), 3) if len(reached) else None
                value = theirs.at(place) if theirs else None
                value = None if value is None else round(value, 3)
                known = mine is not None and value is not None
                difference = round(mine - value, 3) if known else None  # type: ignore[operator]
                rows.append(Row(*key, split, place, len(reached), mine, value, difference))
    return rows


def by_curve(records: Iterable[Record]) -> dict[Key, list[Record]]:
    """The runs of each curve: one a seed.

    Runs of one curve with different settings are never averaged. Those with the shortest name
    count, because a run's name tells each setting that is not the figure's.
    """
    groups: dict[Key, dict[str, list[Record]]] = {}
    for record in sorted(records, key=lambda record: (len(record.name), record.name)):
        settings = record.settings
        key = key_of(record)
        same = {name: settings[name] for name in settings if name not in _NOT_SETTINGS}
        signature = json.dumps(same, sort_keys=True)
        groups.setdefault(key, {}).setdefault(signature, []).append(record)
    return {key: next(iter(variants.values())) for key, variants in groups.items()}


def key_of(record: Record) -> Key:
    """The curve that a run is of, whatever its seed and other settings."""
    return Key(*(record.configuration[name] for name in Key._fields))


def ours(
    records: Sequence[Record], name: str, samples: Iterable[float], *, log_x: bool = True
) -> NDArray[np.float64]:
    """The values of our own curves at given numbers of training samples.

    Args:
        records: The runs of one curve.
        name: The curve's name in a record, such as ``train_running``.
        samples: Where.
        log_x: Whether to interpolate linearly in the logarithm of the samples.

    Returns:
        Nats per datapoint, shape ``(runs, places)``; NaN outside a run's range.
    """
    places = np.array(list(samples), dtype=float)
    values = np.full((len(records), len(places)), np.nan)
    for row, record in zip(values, records, strict=True):
        if name in record.curves:
            known = np.array(record.curves["samples"], dtype=float)
            row[:] = interpolate(places, known, np.array(record.curves[name]), log_x)
    return values


def running_mean(record: Record, samples: Iterable[float], interval: float) -> NDArray[np.float64]:
    """The train curve of a record as a log every so many samples would show it.

    That is the mean of the minibatches' bounds since the log before. A record evaluates more
    often than the paper logged; each value of its ``train_running`` stands here for all the
    samples since the one before it.

    Args:
        record: A run of Figure 2.
        samples: Where, within the run and at least ``interval``.
        interval: The training samples between two logs.

    Returns:
        Nats per datapoint, shape ``(places,)``.
    """
    places = np.array(list(samples), dtype=float)
    known = np.array(record.curves["samples"], dtype=float)
    summed = np.cumsum(np.diff(known, prepend=0) * record.curves["train_running"])
    known, summed = np.insert(known, 0, 0), np.insert(summed, 0, 0)
    before, now = (np.interp(x, known, summed) for x in (places - interval, places))
    return (now - before) / interval


def ends(rows: Iterable[Row]) -> list[Row]:
    """Of each curve the last row where both sides have a value, rows being in order of samples."""
    return list({row[:5]: row for row in rows if row.difference is not None}.values())


def summary(rows: Iterable[Row]) -> Summary:
    """The median and the largest absolute difference of curves, each at its end (:func:`ends`).

    Raises:
        ReferenceError: If no row has a difference.
    """
    found = [abs(row.difference) for row in ends(rows) if row.difference is not None]
    if not found:
        raise ReferenceError("rows: expected one where both sides have a value, found none")
    return Summary(len(found), float(np.median(found)), max(found))


def table(rows: Iterable[Row]) -> str:
    """The rows as text: a block a panel, a line a curve and side, a column a place."""
    lines: list[str] = []
    panels = groupby(rows, key=lambda row: (row.dataset, row.n_train, row.latent_dim))
    for (dataset, n_train, latent_dim), panel in panels:
        found = list(panel)
        places = sorted({row.samples for row in found})
        digits = 1 if dataset == "frey-face" else 2
        lines += [
            f"{dataset}, N_z = {latent_dim}, {n_train:,} training images; nats per datapoint",
            _line("", [f"{place:.2g}".replace("e+0", "e") for place in places]),
        ]
        for (algorithm, split), group in groupby(found, key=lambda r: (r.algorithm, r.split)):
            cells = {row.samples: row for row in group}
            for side in _SIDES:
                values = [getattr(cells.get(place), side, None) for place in places]
                sign = "+" if side == "difference" else ""
                shown = ["" if v is None else f"{v:{sign}.{digits}f}" for v in values]
                if any(shown):
                    lines.append(_line(f"  {algorithm} {split}, {side}", shown))
        lines.append("")
    return "\n".join(lines[:-1])


def _line(label: str, cells: Sequence[str]) -> str:
    return (f"{label:<30}" + "".join(f"{cell:>9}" for cell in cells)).rstrip()


def rows_as_json(rows: Iterable[Row]) -> str:
    """The rows as a JSON array of objects; ``null`` where a side has no value."""
    return json.dumps([row._asdict() for row in rows], allow_nan=False)
