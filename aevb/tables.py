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

__all__ = [
    "differences",
    "markdown",
    "number",
    "provenance",
    "settings",
    "train_test_gaps",
    "variants",
]

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
    found: dict[int, list[str]] = {}  # of each latent dimension; runs of several seeds share it
    for record in records:
        found.setdefault(record.configuration["latent_dim"], []).append(_shown(key, record))
    if key == "latent_dim":
        return ", ".join(str(latent_dim) for latent_dim in found)
    values = {n: _listed(sorted(set(shown))) for n, shown in found.items()}
    usual, _ = Counter(values.values()).most_common(1)[0]
    other = [f"{value} at $N_z = {n}$" for n, value in values.items() if value != usual]
    return "; ".join([usual, *other])


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


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
        f"torch {each('torch')}, Python {each('python')}; {each('date')}. "
        "Each record names the commit that made it."
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
        gaps = [number(found[x].difference, f"+{form}") if x in found else "" for x in places]
        last = found[max(found)]
        sides = [number(last.ours, form), number(last.paper, form)]
        body.append([f"{latent_dim}, {split}", *gaps, *sides])
    header = [f"{DATASETS[dataset]}, $N_z$", *(_power(x) for x in places), "ours", "paper's"]
    return markdown(header, body)


def variants(records: Iterable[Record], places: Sequence[float] = (1e6, 3e6, 1e7)) -> str:
    """What another setting or seed changes, in the panels that were run with one.

    Args:
        records: Runs of ``figure-2``: the figure's own, whose names are the shortest of their
            panel's, and others.
        places: Training samples evaluated.

    Returns:
        Markdown: a row a run, a column a place; the test bound minus the paper's, in nats per
        datapoint, where the run got there.
    """
    panels: dict[reference.Key, list[Record]] = {}
    for record in sorted(records, key=lambda record: (len(record.name), record.name)):
        panels.setdefault(reference.key_of(record), []).append(record)
    order, body = list(DATASETS), []
    for key in sorted(panels, key=lambda key: (order.index(key.dataset), key.latent_dim)):
        own, *others = panels[key]
        try:
            paper = reference.curve("figure-2", **key._asdict(), split="test")
        except reference.ReferenceError:  # a model of Figures 4 and 5, which has no panel
            continue
        form = "+.1f" if key.dataset == "mnist" else "+.0f"
        for record in [own, *others] if others else []:
            bounds = reference.ours([record], "test", places)[0]
            gaps = [
                _minus(None if math.isnan(bound) else float(bound), paper.at(place))
                for bound, place in zip(bounds, places, strict=True)
            ]
            panel = f"{DATASETS[key.dataset]}, $N_z = {key.latent_dim}$" if record is own else ""
            what = _changes(own, record) or f"the figure's settings, {_changed('seed', own)}"
            body.append([panel, what, *(number(gap, form) for gap in gaps)])
    return markdown(["test bound − the paper's", "run", *(_power(x) for x in places)], body)


def _changes(own: Record, other: Record) -> str:
    """The settings of one run that are not those of another, but for their lengths."""
    return ", ".join(
        _changed(key, other)
        for key in SETTINGS
        if key != "samples" and own.configuration[key] != other.configuration[key]
    )


def _changed(key: str, record: Record) -> str:
    return f"{SETTINGS[key]}: {_shown(key, record)}"


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
        key = reference.key_of(record)._asdict()
        train, test = (
            reference.curve("figure-2", **key, split=split) for split in ("train", "test")
        )
        ours = record.curves["train_running"][-1] - record.curves["test"][-1]
        there, later = (_minus(train.at(x), test.at(x)) for x in (reached, edge))
        body.append(
            [
                f"{DATASETS[settings['dataset']]}, $N_z = {settings['latent_dim']}$",
                *(number(gap, form) for gap in (ours, there, later)),
            ]
        )
    return markdown(
        ["train − test", "ours, last", "paper's, there", f"paper's, {_power(edge)}"], body
    )


def _minus(left: float | None, right: float | None) -> float | None:
    return None if left is None or right is None else left - right


def number(value: float | None, form: str) -> str:
    """A number of a page, with a true minus sign (none for zero); nothing for ``None``."""
    if value is None:
        return ""
    text = f"{value:{form}}"
    return text.replace("-", "−") if float(text) else text.lstrip("+-")


def _power(samples: float) -> str:
    mantissa, exponent = f"{samples:.1e}".replace(".0e", "e").split("e")
    power = f"10^{{{int(exponent)}}}"
    return f"${power}$" if mantissa == "1" else f"${mantissa} \\cdot {power}$"
