r"""Records and comparisons as tables of a page: the counterpart of :mod:`aevb.figures`.

Each function returns Markdown, as MyST reads it (``$…$`` is mathematics). Numbers are computed
from the records; none is typed.
"""

import contextlib
import functools
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from aevb import reference
from aevb.reference import Row
from aevb.results import Record

__all__ = [
    "differences",
    "markdown",
    "measured",
    "million",
    "moved",
    "number",
    "provenance",
    "settings",
    "train_test_gaps",
    "training_hours",
    "variants",
]

DATASETS = {"mnist": "MNIST", "frey-face": "Frey Face"}
ALGORITHMS = {"aevb": "AEVB", "wake-sleep": "wake-sleep", "mcem": "MCEM"}
LEAST_SAMPLES = 400_000
"""Runs of Figure 2 with fewer training samples say nothing of what a setting moves."""
EDGE = 1e8
"""The right edge of Figure 2."""
_HYPHEN = re.compile(r"(?<![\w${^-])-(?=\d)")
"""Before a number, but not in mathematics, a name or a date."""
PANELS = {"latent_dim": "N_z", "n_train": "N_\\mathrm{train}"}
"""What tells a figure's panels apart, as a symbol."""
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
    "precision": "precision of the matrix products",
    "split_seed": "seed of Frey Face's split",
    "pixels": "MNIST's pixels",
    "decoder_variance": "variance of Frey Face's decoder",
    "samples": "training samples evaluated",
    "evaluated": "datapoints of each set with an estimate",
    "candidates": "draws of the prior for a chain's start",
    "start": "start of an estimate's chains",
    "draws": "posterior draws of an estimate",
    "burn_in": "moves before the first draw",
    "leapfrog_steps": "leapfrog steps of a move",
    "hmc_step_size": "first leapfrog step size of MCEM",
    "seed": "seed",
}
"""The settings shown, in the order of the rows, and how each is called on a page."""


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> str:
    """A table: the columns of words to the left, those of numbers, with minus signs, to the right.

    Args:
        header: The cells of the first row.
        rows: Those of the others.
        words: How many of the first columns hold words.

    Raises:
        ValueError: If a row has not as many cells as the header.
    """
    rows = list(rows)
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"table: expected {len(header)} cells a row, found {len(row)}: {row}")
    rule = [*["---"] * words, *["---:"] * (len(header) - words)]
    rows = [[*row[:words], *(_HYPHEN.sub("−", cell) for cell in row[words:])] for row in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header, rule, *rows])


def settings(records: Sequence[Record], column: str = "dataset", panel: str = "latent_dim") -> str:
    """The configurations of runs: one row a setting, one column a data set or an algorithm.

    A setting that is not the same in all runs of a column is given by its usual value and the
    panels that depart from it.

    Args:
        records: The runs.
        column: ``dataset`` (Figure 2) or ``algorithm`` (Figure 3).
        panel: What tells the panels apart: ``latent_dim`` (Figure 2) or ``n_train`` (Figure 3).
    """
    names = {"dataset": DATASETS, "algorithm": ALGORITHMS}[column]
    groups = {name: [r for r in records if r.configuration[column] == name] for name in names}
    groups = {name: group for name, group in groups.items() if group}
    rows = [
        [label, *(_shared(key, group, panel) for group in groups.values())]
        for key, label in SETTINGS.items()
        if any(key in record.configuration for record in records)
        if all(key in record.settings for record in records)
    ]
    return markdown(["setting", *(names[name] for name in groups)], rows)


def _shared(key: str, records: Sequence[Record], panel: str) -> str:
    found: dict[int, set[Any]] = {}  # of each panel; runs of several seeds share it
    for record in records:
        value = record.settings[key]
        if key == "samples":  # how far the run has come, which is what its curves show
            value = record.curves["samples"][-1]
        found.setdefault(record.configuration[panel], set()).add(value)
    if key == panel:
        return ", ".join(f"{n:,}" for n in found)
    values = {n: _listed([_shown(key, v) for v in sorted(those)]) for n, those in found.items()}
    usual, _ = Counter(values.values()).most_common(1)[0]
    other = [f"{value} at {_at(panel, n)}" for n, value in values.items() if value != usual]
    return "; ".join([usual, *other])


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _shown(key: str, value: Any) -> str:
    if key == "estimator":
        return {"A": "A (eq. 6)", "B": "B (eq. 7)"}[value]
    if key == "prior":
        return "$\\mathcal{N}(0, I)$" if value else "none"
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def provenance(records: Sequence[Record]) -> str:
    """One sentence on where and how the runs were made: preset, length, machine, versions, day."""

    def each(key: str) -> str:
        return ", ".join(sorted({str(record.provenance[key]) for record in records}))

    def configured(key: str) -> str:
        return ", ".join(sorted({str(record.configuration[key]) for record in records}))

    reached = sorted({int(record.curves["samples"][-1]) for record in records})
    samples = " to ".join(f"{n:,}" for n in dict.fromkeys([reached[0], reached[-1]]))
    hours = training_hours(records)
    time = f"{hours:.1f} hours" if hours >= 1 else f"{hours * 60:.1f} minutes"
    made = "1 run" if len(records) == 1 else f"{len(records)} runs"
    return (
        f"*Made by* {made} of the preset **{configured('preset')}**, "
        f"seed {configured('seed')}, {samples} samples each: {time} of training in all "
        f"on {each('device')} ({each('processor')}, threads: {each('threads')}), "
        f"torch {each('torch')}, Python {each('python')}; {each('date')}. "
        "Each record names the commit that made it."
    )


def training_hours(records: Sequence[Record]) -> float:
    """How long the runs took, in hours; those that shared a GPU took their time together."""
    seconds = [r.provenance["wall_seconds"] for r in records if "together" not in r.provenance]
    together: dict[str, float] = {}
    for record in records:
        made = record.provenance
        if "together" in made:
            batch = f"{made['commit']} {made['date']} {made['device']} {made['together']}"
            together[batch] = max(together.get(batch, 0.0), made["wall_seconds"])
    return sum([*seconds, *together.values()]) / 3600


def differences(rows: Iterable[Row], dataset: str, algorithm: str = "aevb") -> str:
    r"""Ours minus the paper's, in nats per datapoint: a row a curve, a column a place.

    Args:
        rows: What :func:`aevb.reference.compare` returned.
        dataset: ``mnist`` or ``frey-face``.
        algorithm: ``aevb``, ``wake-sleep`` or ``mcem``.

    Returns:
        Markdown: the differences wherever both curves have a value, then both values at the
        last such place. The curves of Figure 3 are named by their training images, those of
        Figure 2 by their latent variables.
    """
    wanted = (dataset, algorithm)
    shown = [r for r in rows if (r.dataset, r.algorithm) == wanted and r.difference is not None]
    panel = "n_train" if len({row.n_train for row in shown}) > 1 else "latent_dim"
    form = ".1f" if dataset == "mnist" else ".0f"
    places = sorted({row.samples for row in shown})
    body = []
    for split, n in sorted({(row.split, getattr(row, panel)) for row in shown}):
        found = {r.samples: r for r in shown if (r.split, getattr(r, panel)) == (split, n)}
        gaps = [number(found[x].difference, f"+{form}") if x in found else "" for x in places]
        last = found[max(found)]
        sides = [number(last.ours, form), number(last.paper, form)]
        body.append([f"{n:,}, {split}", *gaps, *sides])
    header = [f"{DATASETS[dataset]}, {ALGORITHMS[algorithm]}, ${PANELS[panel]}$"]
    return markdown([*header, *(_power(x) for x in places), "ours", "paper's"], body)


def variants(records: Iterable[Record], places: Sequence[float] = (1e6, 3e6, 1e7)) -> str:
    """What another setting or seed changes, in the panels that were run with one.

    Args:
        records: Runs of one figure: its own, whose names are the shortest of their panel's, and
            others.
        places: Training samples evaluated.

    Returns:
        Markdown: a row a run, a column a place; the test curve minus the paper's, in nats per
        datapoint, where the run got there.
    """
    body = []
    for own, others, paper in _panels(records):
        form = _form(own)
        for record in [own, *others] if others else []:
            bounds = reference.ours([record], "test", places, log_x=paper.log_x)[0]
            gaps = [
                _minus(None if math.isnan(bound) else float(bound), paper.at(place))
                for bound, place in zip(bounds, places, strict=True)
            ]
            usual = f"the figure's settings, {_changed('seed', own.settings['seed'])}"
            what = _changes(own, record) or usual
            cells = (number(gap, form) for gap in gaps)
            body.append([_panel(own) if record is own else "", what, *cells])
    return markdown(["test − the paper's", "run", *(_power(x) for x in places)], body, words=2)


def moved(records: Iterable[Record]) -> str:
    """How far another setting or seed moves a curve of Figure 2.

    Args:
        records: Runs of Figure 2, as for :func:`variants`. Those with fewer than 400,000 training
            samples are left out.

    Returns:
        Markdown: a row a run that is not the figure's own; at its last place, or the own run's,
        if earlier, the test and the training bound minus those of the own run, and the test bound
        minus the paper's, in nats per datapoint.
    """
    body = []
    for own, others, paper in _panels(records):
        form = _form(own)
        named = False
        for record in others:
            end = min(run.curves["samples"][-1] for run in (own, record))
            if end < LEAST_SAMPLES:
                continue
            here, there = (
                [reference.ours([run], split, [end]).item() for split in ("test", "train")]
                for run in (record, own)
            )
            gaps = [a - b for a, b in zip(here, there, strict=True)]
            cells = (number(gap, form) for gap in (*gaps, _minus(here[0], paper.at(end))))
            panel = "" if named else _panel(own)
            body.append([panel, _changes(own, record), f"{end / 1e6:.3g}", *cells])
            named = True
    header = ["", "run", "million samples", "test", "train", "test − the paper's"]
    return markdown(header, body, words=2)


def _panels(
    records: Iterable[Record],
) -> Iterator[tuple[Record, list[Record], reference.Curve]]:
    """The figure's own run of each panel, the others of it by what they change, and the paper's
    test curve."""
    panels: dict[reference.Key, list[Record]] = {}
    for record in sorted(records, key=lambda record: (len(record.name), record.name)):
        panels.setdefault(reference.key_of(record), []).append(record)
    order = [*DATASETS, *ALGORITHMS]

    def place_of(key: reference.Key) -> tuple[int, ...]:
        return order.index(key.dataset), key.n_train, order.index(key.algorithm), key.latent_dim

    for key in sorted(panels, key=place_of):
        own, *others = panels[key]
        others.sort(key=functools.partial(_order, own))
        with contextlib.suppress(reference.ReferenceError):  # Figures 4 and 5 have no panel
            yield own, others, reference.curve(own.figure, **key._asdict(), split="test")


def _at(panel: str, n: int) -> str:
    return f"${PANELS[panel]} = {n:,}$"


def _panel(record: Record) -> str:
    """What a figure's panel is called, and the algorithm where it is not AEVB in Figure 2."""
    key = reference.key_of(record)
    if record.figure == "figure-3":
        return f"{ALGORITHMS[key.algorithm]}, {_at('n_train', key.n_train)}"
    other = "" if key.algorithm == "aevb" else f", {ALGORITHMS[key.algorithm]}"
    return f"{DATASETS[key.dataset]}, {_at('latent_dim', key.latent_dim)}{other}"


def _form(record: Record) -> str:
    """The digits of a bound's difference: on Frey Face a seed moves tens of nats."""
    return "+.1f" if record.configuration["dataset"] == "mnist" else "+.0f"


def _departures(own: Record, other: Record) -> dict[str, Any]:
    """The settings of one run that are not those of another, but for their lengths."""
    return {
        name: other.settings[name]
        for name in SETTINGS
        if name in own.settings
        if name != "samples" and own.settings[name] != other.settings[name]
    }


def _order(own: Record, other: Record) -> list[tuple[int, Any]]:
    """Where the row of a run stands among those of its panel: by what it changes, seeds first."""
    names = ["seed", *SETTINGS]
    return [(names.index(name), value) for name, value in _departures(own, other).items()]


def _changes(own: Record, other: Record) -> str:
    """What one run changes of another, in words."""
    return ", ".join(_changed(*change) for change in _departures(own, other).items())


def _changed(key: str, value: Any) -> str:
    return f"{SETTINGS[key]}: {_shown(key, value)}"


def train_test_gaps(records: Iterable[Record]) -> str:
    """How far the train curves of Figure 2 lie above the test curves, in nats per datapoint.

    Args:
        records: Runs of ``figure-2``.

    Returns:
        Markdown, a row a run: ours at its last evaluation, the paper's there, and at the right
        edge of its figure, 1e8 samples.
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
        there, later = (_minus(train.at(x), test.at(x)) for x in (reached, EDGE))
        body.append(
            [
                _panel(record),
                *(number(gap, form) for gap in (ours, there, later)),
            ]
        )
    return markdown(
        ["train − test", "ours, last", "paper's, there", f"paper's, {_power(EDGE)}"], body
    )


def _minus(left: float | None, right: float | None) -> float | None:
    return None if left is None or right is None else left - right


def number(value: float | None, form: str) -> str:
    """A number of a page, with a true minus sign (none for zero).

    Args:
        value: The number; of ``None`` nothing is shown.
        form: How it is written: a format specification such as ``+.1f``.
    """
    if value is None:
        return ""
    text = f"{value:{form}}"
    return text.replace("-", "−") if float(text) else text.lstrip("+-")


def measured(value: float, error: float) -> str:
    """Three digits of a positive number, and its error with as many behind the point."""
    behind = max(0, 2 - math.floor(math.log10(value)))
    return f"{value:.{behind}f} ± {error:.{behind}f}"


def million(samples: float) -> str:
    """A number of training samples in millions, to three digits: ``31.6 million``."""
    return f"{float(f'{samples / 1e6:.3g}'):,g} million"


def _power(samples: float) -> str:
    mantissa, exponent = f"{samples:.1e}".replace(".0e", "e").split("e")
    power = f"10^{{{int(exponent)}}}"
    return f"${power}$" if mantissa == "1" else f"${mantissa} \\cdot {power}$"
