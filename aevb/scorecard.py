r"""What the paper claims of its experiments, each held against records, by a rule written down.

A verdict is computed, never typed: when a record changes, so may a verdict. Each function takes
what it judges and returns a :class:`Claim`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from aevb import reference, tables
from aevb.reference import Key
from aevb.results import Record

__all__ = [
    "VERDICTS",
    "Claim",
    "better_solution",
    "converges_faster",
    "em_is_not_on_line",
    "faster_in_likelihood",
    "judge",
    "no_overfitting",
    "one_noise_sample_is_enough",
    "ranking_is_insensitive",
    "same_cost",
    "smooth_manifold",
    "table",
    "unreliable_in_many_dimensions",
    "variance_below_one",
]

LIKELIHOOD_PLACE, EM_PLACE, UNITS_PLACE = 2e6, 1e7, 5e5
"""The training samples after which Figure 3's likelihoods, Monte Carlo EM on the full set, and runs
with other hidden units are compared."""
VERDICTS = ("holds", "holds with limits", "does not hold", "was not decided", "was not measured")


@dataclass(frozen=True)
class Claim:
    """One claim of the paper and what our runs say to it."""

    claim: str
    rule: str
    """When it counts as holding, when with limits, and when nothing is decided."""
    evidence: str
    verdict: str
    page: str
    """Where the evidence is laid out: a page of the book."""


def judge(
    measured: Iterable[float], holds: bool, limits: bool = False, *, decided: bool = True
) -> str:
    """The verdict of a rule: ``holds``, ``holds with limits`` or ``does not hold``.

    Where one of the measured numbers is none, ``was not measured``: a run that ends early says
    nothing about what comes after. Where their errors leave it open, ``was not decided``.
    """
    if np.isnan([*measured]).any():
        return VERDICTS[4]
    if not decided:
        return VERDICTS[3]
    return VERDICTS[0] if holds else VERDICTS[1] if limits else VERDICTS[2]


def table(claims: Iterable[Claim]) -> str:
    """The claims as a Markdown table, each linked to its page."""
    head = "| the paper's claim, and the verdict | ours |\n| --- | --- |"
    rows = (
        f"| {c.claim} **It {c.verdict}.** | {c.evidence} *Rule:* {c.rule} {{doc}}`{c.page}` |"
        for c in claims
    )
    return "\n".join([head, *rows])


def _last(record: Record) -> float:
    return float(record.curves["test"][-1])


def _at(record: Record, samples: float) -> float:
    """The test curve at a number of training samples, read along its figure's axis."""
    log_x = record.figure == "figure-2"
    return float(reference.ours([record], "test", [samples], log_x=log_x)[0, 0])


def _signed(value: float, digits: int = 1) -> str:
    return tables.number(value, f"+.{digits}f")


def _span(values: Sequence[float]) -> str:
    """The lowest and the highest, or the one that there is."""
    return " to ".join(dict.fromkeys(_signed(value) for value in (min(values), max(values))))


def _seed(record: Record) -> int:
    return int(record.configuration["seed"])


def _pairs(records: Iterable[Record]) -> list[tuple[Key, Record, Record]]:
    """The AEVB and the wake-sleep run of each panel of Figure 2 and each seed that has both."""
    found = {(reference.key_of(record), _seed(record)): record for record in records}
    pairs = []
    for (key, seed), record in found.items():
        other = found.get((key._replace(algorithm="wake-sleep"), seed))
        if key.algorithm == "aevb" and other is not None:
            pairs.append((key, record, other))
    return pairs


def _counted(ahead: int, pairs: Sequence[tuple[Key, Record, Record]]) -> str:
    panels = len({key for key, _, _ in pairs})
    return f"in {ahead} of {len(pairs)} pairs of runs ({panels} panels, one pair a seed)"


def _at_each_seed(
    records: Iterable[Record], samples: float, algorithms: Sequence[str]
) -> dict[int, list[dict[str, float]]]:
    """The test curves of Figure 3 at a place, of the seeds that have all these algorithms.

    By training images: for each seed the values by algorithm.
    """
    found: dict[int, dict[int, dict[str, float]]] = {}
    for record in records:
        panel = found.setdefault(record.configuration["n_train"], {})
        values = panel.setdefault(_seed(record), {})
        values[record.configuration["algorithm"]] = _at(record, samples)
    return {
        n: [values for values in panel.values() if values.keys() >= {*algorithms}]
        for n, panel in sorted(found.items())
    }


def converges_faster(records: Iterable[Record]) -> Claim:
    """Section 5: AEVB converges considerably faster than wake-sleep in all experiments."""
    pairs, factors = _pairs(records), []
    for _, aevb, wake in pairs:
        samples = np.array(aevb.curves["samples"], dtype=float)
        above = np.array(aevb.curves["test"]) >= _last(wake)
        first = samples[above.argmax()] if above.any() else np.inf
        factors.append(wake.curves["samples"][-1] / first)
    ahead = sum(factor > 1 for factor in factors)
    least = pairs[int(np.argmin(factors))][0]
    return Claim(
        "AEVB converges considerably faster than wake-sleep, in all experiments (Figure 2).",
        "It reaches wake-sleep's last test bound in half the samples or less in every panel, with "
        "every seed; with limits: earlier than wake-sleep.",
        f"Earlier {_counted(ahead, pairs)}, in half the samples or less in "
        f"{sum(factor >= 2 for factor in factors)}; with {min(factors):.1f} "
        f"({tables.DATASETS[least.dataset]}, $N_z = {least.latent_dim}$) to "
        f"{max(factors):.0f} times fewer samples, {np.median(factors):.1f} in the median.",
        judge(factors, min(factors) >= 2, min(factors) > 1),
        "figure_2_lower_bound",
    )


def better_solution(records: Iterable[Record]) -> Claim:
    """Section 5: AEVB reached a better solution in all experiments."""
    pairs, gaps, before, ends = _pairs(records), {}, {}, {}
    for key, aevb, wake in pairs:
        run = (key, _seed(aevb))
        ends[run] = end = float(min(aevb.curves["samples"][-1], wake.curves["samples"][-1]))
        gaps[run], before[run] = (_at(aevb, x) - _at(wake, x) for x in (end, end / 3))
    said = []
    for name in dict.fromkeys(key.dataset for key, _ in gaps):
        own = {run: gap for run, gap in gaps.items() if run[0].dataset == name}
        least = min(own, key=own.__getitem__)
        places = [ends[run] for run in own]
        after = dict.fromkeys(tables.million(place) for place in (min(places), max(places)))
        said.append(
            f"{tables.DATASETS[name]} {_span([*own.values()])} after {' to '.join(after)} samples, "
            f"the least with $N_z = {least[0].latent_dim}$ after {tables.million(ends[least])}, "
            f"where it was {_signed(before[least])} after a third of them"
        )
    ahead = sum(gap > 0 for gap in gaps.values())
    return Claim(
        "AEVB reaches a better solution than wake-sleep, in all experiments (Figure 2).",
        "Its test bound is higher where the shorter of the two runs ends, in every panel with "
        "every seed; with limits: in more than half of them.",
        f"Higher {_counted(ahead, pairs)}, in nats: {'; '.join(said)}.",
        judge(gaps.values(), ahead == len(gaps), ahead > len(gaps) / 2),
        "figure_2_lower_bound",
    )


def faster_in_likelihood(records: Iterable[Record]) -> Claim:
    """Figure 3, which section 5 leaves to speak for itself: whose likelihood rises fastest."""
    algorithms = ("aevb", "wake-sleep", "mcem")
    leads = {
        n: [values["aevb"] - max(values["wake-sleep"], values["mcem"]) for values in seeds]
        for n, seeds in _at_each_seed(records, LIKELIHOOD_PLACE, algorithms).items()
    }
    said = " and ".join(
        f"{_span(found)} ({n:,} images, {len(found)} seed{'s' * (len(found) > 1)})"
        for n, found in leads.items()
    )
    ahead = [min(found) > 0 for found in leads.values()]
    return Claim(
        "AEVB converges faster than wake-sleep and Monte Carlo EM, on a small and a large "
        "training set (Figure 3 shows it; the text only says that it compares).",
        f"After {tables.million(LIKELIHOOD_PLACE)} samples its test likelihood is above both "
        "others' in both panels, with every seed; with limits: in one.",
        f"Ahead of the better one by {said} nats.",
        judge(chain(*leads.values()), all(ahead), any(ahead)),
        "figure_3_marginal_likelihood",
    )


def em_is_not_on_line(records: Iterable[Record]) -> Claim:
    """Caption of Figure 3: Monte Carlo EM cannot be applied efficiently to the full set."""
    seeds = _at_each_seed(records, EM_PLACE, ("aevb", "mcem"))[50_000]
    behind = [values["aevb"] - values["mcem"] for values in seeds]
    return Claim(
        "Monte Carlo EM is not an on-line algorithm, and cannot be applied efficiently to the full "
        "MNIST set (Figure 3).",
        "On 50,000 images it is more than 10 nats behind AEVB after "
        f"{tables.million(EM_PLACE)} samples, with every seed.",
        f"{_span([-value for value in behind])} nats against AEVB's.",
        judge(behind, min(behind) > 10),
        "figure_3_marginal_likelihood",
    )


def no_overfitting(records: Iterable[Record]) -> Claim:
    """Section 5: superfluous latent variables do not bring more overfitting.

    Args:
        records: Runs of Figure 2; of a panel's seeds the mean gap counts.
    """
    each: dict[str, dict[int, list[float]]] = {}
    for record in records:
        key = reference.key_of(record)
        if key.algorithm == "aevb":
            gap = record.curves["train_running"][-1] - _last(record)
            each.setdefault(key.dataset, {}).setdefault(key.latent_dim, []).append(float(gap))
    gaps = {x: {n: float(np.mean(g)) for n, g in found.items()} for x, found in each.items()}
    grows = {name: found[max(found)] - found[min(found)] for name, found in gaps.items()}
    settings: dict[str, Any] = {"dataset": "frey-face", "n_train": 1_600, "latent_dim": 20}
    train, test = (
        reference.curve("figure-2", algorithm="aevb", split=x, **settings).at(1e8)
        for x in ("train", "test")
    )
    paper = tables.number(None if train is None or test is None else train - test, ".0f")
    said = "; ".join(
        f"{tables.DATASETS[name]} {tables.number(found[min(found)], '.1f')} nats with {min(found)} "
        f"latent variables, {tables.number(found[max(found)], '.1f')} with {max(found)}"
        for name, found in gaps.items()
    )
    return Claim(
        "Superfluous latent variables do not result in overfitting.",
        "On neither data set does the gap between train and test bound grow by more than a nat "
        "from the fewest to the most latent variables; with limits: on MNIST it does not.",
        f"The gap: {said}. In the paper's own Frey Face curves with 20 it is "
        f"{paper} nats at $10^8$ samples.",
        judge(grows.values(), max(grows.values()) <= 1, grows["mnist"] <= 1),
        "figure_2_lower_bound",
    )


def one_noise_sample_is_enough(
    one: Sequence[Record], five: Sequence[Record], samples: float = 1e7
) -> Claim:
    """Section 2.3: L can be 1 as long as the minibatch is large enough, e.g. M = 100.

    Args:
        one: Runs with one noise sample a datapoint, two seeds or more.
        five: Runs with five, as many.
        samples: Where the test bounds are compared.
    """
    bounds = [np.array([_at(run, samples) for run in runs]) for runs in (one, five)]
    gain = float(bounds[1].mean() - bounds[0].mean())
    error = float(np.sqrt(sum(values.var(ddof=1) / len(values) for values in bounds)))
    return Claim(
        "One noise sample a datapoint is enough if the minibatch is large enough, such as 100.",
        f"With $M = 100$ five in place of one gain less than half a nat after "
        f"{tables.million(samples)} samples, by two standard errors; it fails if they gain more by "
        "two, and is not decided in between.",
        f"Five gain {_signed(gain)} ± {error:.1f} nats, MNIST with "
        f"{one[0].configuration['latent_dim']} latent variables: {len(one)} seeds with one, "
        f"{len(five)} with five.",
        judge([gain, error], gain < 0.5, decided=abs(gain - 0.5) > 2 * error),
        "sensitivity",
    )


def ranking_is_insensitive(runs: Mapping[int, tuple[Record, Record]]) -> Claim:
    """Section 5: the relative performance was not very sensitive to the hidden units.

    Args:
        runs: By the number of hidden units, the AEVB and the wake-sleep run.
    """
    leads = {
        n: _at(aevb, UNITS_PLACE) - _at(wake, UNITS_PLACE)
        for n, (aevb, wake) in sorted(runs.items())
    }
    latent_dim = runs[min(runs)][0].configuration["latent_dim"]
    said = ", ".join(f"{_signed(lead)} with {n:,}" for n, lead in leads.items())
    same = len({lead > 0 for lead in leads.values()}) == 1
    sizes = [abs(lead) for lead in leads.values()]
    return Claim(
        "The relative performance of the algorithms is not very sensitive to the number of hidden "
        "units.",
        f"AEVB's lead over wake-sleep after {tables.million(UNITS_PLACE)} samples, early in a "
        "run, has the same sign with half, the usual, and twice as many units, and the largest is "
        "at most twice the smallest; with limits: the same sign.",
        f"Its lead, MNIST with {latent_dim} latent variables, in nats: {said} hidden units.",
        judge(sizes, same and max(sizes) <= 2 * min(sizes), same),
        "sensitivity",
    )


def same_cost(rates: Mapping[str, float], dims: Sequence[int]) -> Claim:
    """Section 4: wake-sleep has the same computational complexity per datapoint as AEVB.

    Args:
        rates: Training samples per second of each run of Figure 2 on MNIST, by name.
        dims: Its latent dimensions.
    """
    ratios = [
        rates[f"mnist-aevb-nz{n}-seed0"] / rates[f"mnist-wake-sleep-nz{n}-seed0"] for n in dims
    ]
    return Claim(
        "Wake-sleep has the same computational complexity per datapoint as AEVB.",
        "A sample takes at most twice as long, with few latent variables and with many (MNIST).",
        f"It takes {min(ratios):.2f} to {max(ratios):.2f} times as long.",
        judge(ratios, max(ratios) <= 2),
        "speed",
    )


def variance_below_one(variances: Mapping[tuple[str, int], tuple[float, float]]) -> Claim:
    """Caption of Figure 2: the variance of the bound's estimate was below one, and omitted.

    Args:
        variances: That of the test bound, nats squared, and its standard error, which the choice
            of the test images leaves; by data set and number of latent variables.
    """
    said: list[str] = []
    measured: list[tuple[float, float]] = []
    for name, label in tables.DATASETS.items():
        own = {n: found for (dataset, n), found in sorted(variances.items()) if dataset == name}
        measured += own.values() or [(np.nan, np.nan)]
        cells = (f"{tables.measured(*found)} ($N_z = {n}$)" for n, found in own.items())
        said.append(f"{label} {', '.join(cells)}")
    below = all(value + 2 * error < 1 for value, error in measured)
    above = any(value - 2 * error > 1 for value, error in measured)
    return Claim(
        "The estimator's variance is small, below one, and omitted from Figure 2.",
        "The variance of the test bound is below one in every model that was kept, by two standard "
        "errors; it fails if one is above by two, and is not decided in between.",
        f"Nats squared: {'; '.join(said)}.",
        judge(chain(*measured), below, decided=below or above),
        "figure_2_lower_bound",
    )


def unreliable_in_many_dimensions(bias: Mapping[int, float]) -> Claim:
    """Appendix D: the estimator is good for fewer than five latent dimensions.

    Args:
        bias: The mean error of the estimate from 50 draws of a posterior that is Gaussian, nats,
            by the number of latent variables.
    """
    few = max(abs(value) for dims, value in bias.items() if dims < 5)
    many = [abs(value) for dims, value in bias.items() if dims > 5]
    said = ", ".join(f"{_signed(value, 2)} with {dims}" for dims, value in bias.items())
    return Claim(
        "The estimator of the marginal likelihood is accurate with fewer than five latent "
        "variables, and unreliable with more.",
        "From 50 perfect draws of a Gaussian posterior its mean error is below half a nat with "
        "every number below five that was tried, and above with every one above five; with "
        "limits: with some.",
        f"Mean error in nats: {said} latent variables.",
        judge(bias.values(), few < 0.5 < min(many), few < 0.5 < max(many)),
        "appendix_d_marginal_likelihood",
    )


def smooth_manifold(ratios: Mapping[str, float]) -> Claim:
    """Appendix A and Figure 4 show manifolds; that they are smooth is how we read the figure.

    Args:
        ratios: How much neighbors on the grid of Figure 4 differ, as a share of how much two images
            from anywhere on it do (mean squared difference), by data set.
    """
    said = ", ".join(f"{value:.0%} on {tables.DATASETS[name]}" for name, value in ratios.items())
    return Claim(
        "Two latent variables learn a manifold of images (Figure 4; smooth, as it looks).",
        "Neighbors on its grid differ by less than a quarter of what two of its images differ.",
        f"{said}.",
        judge(ratios.values(), max(ratios.values()) < 0.25, min(ratios.values()) < 0.25),
        "figure_4_manifolds",
    )
