r"""Records and comparisons as tables of a page: the counterpart of :mod:`aevb.figures`.

Each function returns Markdown, as MyST reads it (``$…$`` is mathematics). Numbers are computed
from the records; none is typed.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from aevb import reference
from aevb.reference import Row
from aevb.results import Record

__all__ = ["differences", "markdown", "provenance", "settings", "step_sizes", "train_test_gaps"]

DATASETS = {"mnist": "MNIST", "frey-face": "Frey Face"}
SETTINGS = {
    "latent_dim": "latent variables, $N_z$",
    "hidden": "tanh units of each network",
    "n_train": "training images, $N$",
    "minibatch": "minibatch, $M$",
    "noise_samples": "noise samples a datapoint, $L$",
    "estimator": "SGVB estimator",
    "step_size": "Adagrad's step size, $\\eta$",
    "warm_up": "Adagrad's warm-up, steps",
    "initial_std": "initial parameters, standard deviation",
    "prior": "prior on all parameters",
    "samples": "training samples evaluated",
    "seed": "seed",
}
"""The settings shown, in the order of the rows, and how each is called on a page."""


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table: the first column to the left, the others to the right.

    Raises:
        ValueError: If a row has not as many cells as the header.
    """
    rows = list(rows)
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"table: expected {len(header)} cells a row, found {len(row)}: {row}")
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header, rule, *rows])


def settings(records: Sequence[Record]) -> str:
    """The configurations of runs: one row a setting, one column a data set.

    A setting that is not the same in all runs of a data set is given by its usual value and
    the latent dimensions that depart from it.
    """
    groups = {name: [r for r in records if r.configuration["dataset"] == name] for name in DATASETS}
    groups = {name: group for name, group in groups.items() if group}
    rows = [
        [label, *(_shared(key, group) for group in groups.values())]
        for key, label in SETTINGS.items()
    ]
    return markdown(["setting", *(DATASETS[name] for name in groups)], rows)


def _shared(key: str, records: Sequence[Record]) -> str:
    if key == "latent_dim":
        return ", ".join(str(record.configuration["latent_dim"]) for record in records)
    values = {record.configuration["latent_dim"]: _shown(key, record) for record in records}
    usual, _ = Counter(values.values()).most_common(1)[0]
    other = [f"{value} at $N_z = {n}$" for n, value in values.items() if value != usual]
    return "; ".join([usual, *other])


def _shown(key: str, record: Record) -> str:
    value = record.configuration[key]
    if key == "samples":  # how far the run has come, which is what its curves show
        value = record.curves["samples"][-1]
    if key == "estimator":
        return {"A": "A (eq. 6)", "B": "B (eq. 7)"}[value]
    if key == "prior":
        return "$\\mathcal{N}(0, I)$" if value else "none"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def provenance(records: Sequence[Record]) -> str:
    """One sentence on where and how the runs were made: preset, length, machine, versions, day."""

    def each(key: str) -> str:
        return ", ".join(sorted({str(record.provenance[key]) for record in records}))

    def configured(key: str) -> str:
        return ", ".join(sorted({str(record.configuration[key]) for record in records}))

    reached = sorted({int(record.curves["samples"][-1]) for record in records})
    samples = " to ".join(f"{n:,}" for n in dict.fromkeys([reached[0], reached[-1]]))
    hours = sum(record.provenance["wall_seconds"] for record in records) / 3600
    time = f"{hours:.1f} hours" if hours >= 1 else f"{hours * 60:.1f} minutes"
    return (
        f"*Made by* {len(records)} runs of the preset **{configured('preset')}**, "
        f"seed {configured('seed')}, {samples} samples each: {time} of training in all "
        f"on {each('device')} ({each('processor')}, threads: {each('threads')}), "
        f"torch {each('torch')}, Python {each('python')}; {each('date')}, "
        f"commit {each('commit')}."
    )


def differences(rows: Iterable[Row], dataset: str) -> str:
    r"""Ours minus the paper's, in nats per datapoint: a row a curve, a column a place.

    Args:
        rows: What :func:`aevb.reference.compare` returned.
        dataset: ``mnist`` or ``frey-face``.

    Returns:
        Markdown: the differences wherever both curves have a value, then both bounds at the
        last such place.
    """
    shown = [row for row in rows if row.dataset == dataset and row.difference is not None]
    form = ".1f" if dataset == "mnist" else ".0f"
    places = sorted({row.samples for row in shown})
    body = []
    for split, latent_dim in sorted({(row.split, row.latent_dim) for row in shown}):
        found = {r.samples: r for r in shown if (r.split, r.latent_dim) == (split, latent_dim)}
        gaps = [_number(found[x].difference, f"+{form}") if x in found else "" for x in places]
        last = found[max(found)]
        sides = [_number(last.ours, form), _number(last.paper, form)]
        body.append([f"$N_z = {latent_dim}$, {split}", *gaps, *sides])
    header = [DATASETS[dataset], *(_power(x) for x in places), "ours, last", "paper's, last"]
    return markdown(header, body)


def step_sizes(records: Iterable[Record], places: Sequence[float] = (1e6, 1e7)) -> str:
    """Our test bound minus the paper's, in nats per datapoint, for each step size that was run.

    Args:
        records: Runs of ``figure-2`` of one seed that differ in nothing but the panel, the step
            size and their length.
        places: Training samples evaluated.

    Returns:
        Markdown, a row a panel, a column a place and step size; empty where no run got there.
    """
    gaps: dict[tuple[str, int], dict[tuple[float, float], str]] = {}
    for record in records:
        settings = record.configuration
        panel = (settings["dataset"], settings["latent_dim"])
        key = {name: settings[name] for name in reference.Key._fields}
        try:
            theirs = reference.curve("figure-2", **key, split="test")
        except reference.ReferenceError:  # a model of Figures 4 and 5, which has no panel
            continue
        found = gaps.setdefault(panel, {})
        for place, (ours,) in zip(places, reference.ours([record], "test", places).T, strict=True):
            gap = None if math.isnan(ours) else _minus(float(ours), theirs.at(place))
            form = "+.1f" if panel[0] == "mnist" else "+.0f"
            found[place, settings["step_size"]] = _number(gap, form)
    columns = sorted({column for found in gaps.values() for column in found})
    columns = [c for c in columns if any(found.get(c) for found in gaps.values())]
    header = ["test bound", *(f"{_power(x)}, $\\eta = {eta:g}$" for x, eta in columns)]
    order = list(DATASETS)
    body = [
        [f"{DATASETS[panel[0]]}, $N_z = {panel[1]}$", *(gaps[panel].get(c, "") for c in columns)]
        for panel in sorted(gaps, key=lambda panel: (order.index(panel[0]), panel[1]))
    ]
    return markdown(header, body)


def train_test_gaps(records: Iterable[Record], edge: float = 1e8) -> str:
    """How far the train curves of Figure 2 lie above the test curves, in nats per datapoint.

    Args:
        records: Runs of ``figure-2``.
        edge: Where to look at the paper's curves once more, far to the right.

    Returns:
        Markdown, a row a run: ours at its last evaluation, the paper's there, and at ``edge``.
    """
    body = []
    for record in records:
        settings = record.configuration
        form = ".1f" if settings["dataset"] == "mnist" else ".0f"
        reached = record.curves["samples"][-1]
        train, test = (
            reference.curve(
                "figure-2", **{key: settings[key] for key in reference.Key._fields}, split=split
            )
            for split in ("train", "test")
        )
        ours = record.curves["train_running"][-1] - record.curves["test"][-1]
        there, later = (_minus(train.at(x), test.at(x)) for x in (reached, edge))
        body.append(
            [
                f"{DATASETS[settings['dataset']]}, $N_z = {settings['latent_dim']}$",
                *(_number(gap, form) for gap in (ours, there, later)),
            ]
        )
    return markdown(
        ["train − test", "ours, last", "paper's, there", f"paper's, {_power(edge)}"], body
    )


def _minus(left: float | None, right: float | None) -> float | None:
    return None if left is None or right is None else left - right


def _number(value: float | None, form: str) -> str:
    return "" if value is None else f"{value:{form}}".replace("-", "−")


def _power(samples: float) -> str:
    mantissa, exponent = f"{samples:.1e}".split("e")
    power = f"10^{{{int(exponent)}}}"
    return f"${power}$" if mantissa == "1.0" else f"${mantissa} \\cdot {power}$"
