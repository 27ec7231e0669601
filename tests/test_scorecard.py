"""The rules of the scorecard, on made-up records: each can hold, hold with limits, and fail."""

from dataclasses import replace
from typing import Any

import pytest

from aevb import experiments, scorecard
from aevb.results import Record

PANELS = [("mnist", 3), ("mnist", 200), ("frey-face", 2), ("frey-face", 20)]
AEVB = {1e5: -150.0, 1e6: -120.0, 1e7: -100.0}
WAKE = {1e5: -160.0, 1e6: -140.0, 1e7: -120.0}


def made_up(experiment: experiments.Experiment, curve: dict[float, float], **other: Any) -> Record:
    n_train = getattr(
        experiment, "n_train", {"mnist": 50_000, "frey-face": 1_600}[experiment.dataset]
    )
    configuration = {
        "dataset": experiment.dataset,
        "algorithm": experiment.algorithm,
        "latent_dim": experiment.latent_dim,
        "n_train": n_train,
        "seed": experiment.seed,
    }
    values = list(curve.values())
    curves = {"samples": list(curve), "test": values, "train_running": values} | other
    return Record(experiment.figure, experiment.name, configuration, curves, {})


def second(
    aevb: dict[float, float] = AEVB, wake: dict[float, float] = WAKE, seed: int = 0, **last: Any
) -> list[Record]:
    """Figure 2 of made-up curves: ``last`` replaces AEVB's in the panel MNIST, N_z = 3."""
    records = []
    for dataset, n in PANELS:
        for algorithm, curve in (("aevb", aevb), ("wake-sleep", wake)):
            curve = last.get("first", curve) if (n, algorithm) == (3, "aevb") else curve
            experiment = experiments.LowerBound(dataset, algorithm, n, seed=seed)
            records.append(made_up(experiment, curve))
    return records


def third(mcem: float = -150.0, wake: float = -150.0, seed: int = 0) -> list[Record]:
    ends = {"aevb": -140.0, "wake-sleep": wake, "mcem": mcem}
    return [
        made_up(
            experiments.MarginalLikelihood(algorithm=a, n_train=n, seed=seed),
            {1e5: -200.0, 2e6: end, 1e7: end},
        )
        for n in (1_000, 50_000)
        for a, end in ends.items()
    ]


def test_faster_is_counted_in_samples_to_wake_sleeps_end() -> None:
    claim = scorecard.converges_faster(second())
    assert claim.verdict == "holds"
    assert "Earlier in 4 of 4 pairs of runs (4 panels, one pair a seed)" in claim.evidence
    assert "less in 4; with 10.0 (MNIST, $N_z = 3$) to 10 times" in claim.evidence
    slower = {1e5: -150.0, 1e6: -130.0, 6e6: -120.0, 1e7: -100.0}
    assert scorecard.converges_faster(second(first=slower)).verdict == "holds with limits"
    longer = scorecard.converges_faster(second(aevb=AEVB | {1e8: -90.0}))
    assert "with 10.0 (MNIST, $N_z = 3$) to 10 times" in longer.evidence, "of wake-sleep's samples"
    below = second()
    for record in below:  # the train curve is no evidence
        record.curves["train_running"] = [value + 100 for value in record.curves["test"]]
    assert scorecard.converges_faster(below) == scorecard.converges_faster(second())
    never = {1e5: -150.0, 1e7: -121.0}
    found = scorecard.converges_faster(second(first=never))
    assert found.verdict == "does not hold"
    assert "Earlier in 3 of 4 pairs" in found.evidence


def test_every_seed_counts_and_is_compared_with_its_own() -> None:
    slower = second(first={1e5: -150.0, 1e6: -130.0, 6e6: -120.0, 1e7: -100.0}, seed=1)
    claim = scorecard.converges_faster([*second(), *slower])
    assert claim.verdict == "holds with limits"
    assert "Earlier in 8 of 8 pairs of runs (4 panels, one pair a seed)" in claim.evidence
    assert "less in 7; with 1.7 (MNIST, $N_z = 3$) to 10 times" in claim.evidence
    worse = second(first={1e5: -150.0, 1e7: -121.0}, seed=1)
    claim = scorecard.better_solution([*second(), *worse])
    assert claim.verdict == "holds with limits"
    assert "Higher in 7 of 8 pairs" in claim.evidence
    alone = [run for run in worse if run.configuration["algorithm"] == "aevb"]
    assert scorecard.better_solution([*second(), *alone]) == scorecard.better_solution(second())
    early = second({1e5: -150.0, 1e6: -119.0}, seed=1)
    assert (
        "after 1 million to 10 million" in scorecard.better_solution([*second(), *early]).evidence
    )


def test_better_is_judged_at_the_end_that_both_have() -> None:
    assert scorecard.better_solution(second()).verdict == "holds"
    worse = {1e5: -150.0, 1e7: -121.0}
    claim = scorecard.better_solution(second(first=worse))
    assert claim.verdict == "holds with limits"
    assert (
        "Higher in 3 of 4 pairs of runs (4 panels, one pair a seed), in nats: "
        "MNIST −1.0 to +20.0 after 10 million samples, the least" in claim.evidence
    )
    # A third of them is 0.523 of the last decade: 29 nats in two decades against 20 in one.
    before = -150 + 29 * 1.5229 / 2 - (-140 + 20 * 0.5229)
    least = f"least with $N_z = 3$ after 10 million, where it was {before:+.1f} after a third"
    assert least in claim.evidence
    assert scorecard.better_solution(second(aevb=worse)).verdict == "does not hold"
    longer = AEVB | {1e8: -90.0}
    assert "after 10 million" in scorecard.better_solution(second(aevb=longer)).evidence
    between = [curve | {10**7.5: -90.0} for curve in (AEVB, WAKE)]
    assert "after 31.6 million" in scorecard.better_solution(second(*between)).evidence
    one_longer = second(first=AEVB | {10**7.5: -90.0})
    one_longer[1].curves.update(samples=[1e5, 10**7.5], test=[-160.0, -120.0])
    told = scorecard.better_solution(one_longer).evidence
    assert "after 10 million to 31.6 million samples" in told


def test_figure_3_is_judged_early_and_against_the_better_one() -> None:
    claim = scorecard.faster_in_likelihood(third(mcem=-145.0))
    assert claim.verdict == "holds"
    assert "+5.0 (1,000 images, 1 seed) and +5.0 (50,000 images, 1 seed)" in claim.evidence
    assert scorecard.faster_in_likelihood(third(wake=-139.0)).verdict == "does not hold"
    half = [*third()[:3], *third(mcem=-130.0)[3:]]
    assert scorecard.faster_in_likelihood(half).verdict == "holds with limits"
    two = [*third(mcem=-145.0), *third(mcem=-144.0, seed=1)[:3], *third(mcem=-130.0, seed=2)[3:5]]
    claim = scorecard.faster_in_likelihood(two)  # the third seed lacks an algorithm
    assert claim.verdict == "holds"
    assert "+4.0 to +5.0 (1,000 images, 2 seeds) and +5.0 (50,000" in claim.evidence
    behind = [*third(), *third(wake=-139.0, seed=1)]
    assert scorecard.faster_in_likelihood(behind).verdict == "does not hold"


def test_monte_carlo_em_is_far_behind_or_it_is_not() -> None:
    assert scorecard.em_is_not_on_line(third(mcem=-151.0)).verdict == "holds"
    assert scorecard.em_is_not_on_line(third(mcem=-149.0)).verdict == "does not hold"
    claim = scorecard.em_is_not_on_line([*third(mcem=-151.0), *third(mcem=-149.0, seed=1)])
    assert claim.verdict == "does not hold"
    assert claim.evidence == "−11.0 to −9.0 nats against AEVB's."


@pytest.mark.parametrize(
    ("gaps", "verdict"),
    [
        ((2.0, 1.0, 3.0, 3.5), "holds"),
        ((2.0, 1.0, 3.0, 30.0), "holds with limits"),
        ((2.0, 4.0, 3.0, 3.0), "does not hold"),
        ((2.0, 3.5, 3.0, 3.0), "does not hold"),
        ((9.0, 1.0, 30.0, 3.0), "holds"),  # a gap that shrinks is none that grows
        ((9.0, 1.0, 9.0, 1.0), "holds"),
        ((2.0, 3.0, 3.0, 4.0), "holds"),  # it has to grow by more than a nat
        ((2.0, 3.0, 3.0, 4.1), "holds with limits"),
        ((2.0, 3.1, 3.0, 3.0), "does not hold"),
    ],
)
def test_overfitting_is_a_gap_that_grows(gaps: tuple[float, ...], verdict: str) -> None:
    records = [record for record in second() if record.configuration["algorithm"] == "aevb"]
    with_gaps = [
        replace(r, curves=r.curves | {"train_running": [v + gap for v in r.curves["test"]]})
        for r, gap in zip(records, gaps, strict=True)
    ]
    claim = scorecard.no_overfitting(with_gaps)
    assert claim.verdict == verdict
    assert "176 nats at $10^8$" in claim.evidence  # the paper's own


def test_overfitting_is_that_of_all_seeds_in_whatever_order() -> None:
    def seed(number: int, gap: float) -> list[Record]:
        runs = [r for r in second(seed=number) if r.configuration["algorithm"] == "aevb"]
        last = {max(n for d, n in PANELS if d == dataset) for dataset, _ in PANELS}
        gaps = [gap * (r.configuration["latent_dim"] in last) for r in runs]
        return [
            replace(r, curves=r.curves | {"train_running": [v + g for v in r.curves["test"]]})
            for r, g in zip(runs, gaps, strict=True)
        ]

    runs = [seed(0, 0.5), seed(1, 3.5)]
    claims = [scorecard.no_overfitting([*a, *b]) for a, b in (runs, runs[::-1])]
    assert claims[0] == claims[1]
    assert claims[0].verdict == "does not hold"  # by two nats on the average
    assert "2.0 with" in claims[0].evidence


@pytest.mark.parametrize(
    ("gain", "apart", "verdict"),
    [
        (-2.0, 0.4, "holds"),
        (-0.4, 0.4, "holds"),
        (0.4, 0.4, "was not decided"),
        (1.0, 0.4, "was not decided"),
        (1.2, 0.4, "does not hold"),
    ],
)
def test_one_noise_sample(gain: float, apart: float, verdict: str) -> None:
    def seeds(mean: float) -> list[Record]:
        experiment = experiments.LowerBound("mnist", "aevb", 3)
        ends = (mean - apart / 2, mean + apart / 2)
        return [made_up(experiment, {1e5: -160.0, 1e7: end}) for end in ends]

    claim = scorecard.one_noise_sample_is_enough(seeds(-150.0), seeds(-150.0 + gain))
    assert claim.verdict == verdict
    # The variance of two is half the square of how far they are apart; of two means of two, this.
    error = apart / 2 * 2**0.5
    assert f"gain {gain:+.1f} ± {error:.1f} nats".replace("-", "−") in claim.evidence
    assert "2 seeds with one, 2 with five" in claim.evidence
    short = [made_up(experiments.LowerBound("mnist", "aevb", 3), {1e5: -160.0, 1e6: -150.0})] * 2
    claim = scorecard.one_noise_sample_is_enough(seeds(-150.0), short)
    assert claim.verdict == "was not measured"


@pytest.mark.parametrize(
    ("half", "verdict"),
    [(-155.0, "holds"), (-157.0, "holds with limits"), (-145.0, "does not hold")],
)
def test_the_ranking_with_other_hidden_units(half: float, verdict: str) -> None:
    def run(algorithm: str, end: float) -> Record:
        return made_up(experiments.LowerBound("mnist", algorithm, 3), {1e5: -160.0, 5e5: end})

    pair = (run("aevb", -150.0), run("wake-sleep", -153.0))
    runs = {500: pair, 250: (run("aevb", -150.0), run("wake-sleep", half)), 1_000: pair}
    assert scorecard.ranking_is_insensitive(runs).verdict == verdict


@pytest.mark.parametrize(
    ("wake", "verdict"),
    [(9.5, "holds"), (5.0, "holds"), (4.0, "does not hold")],
)
def test_the_cost_of_a_sample(wake: float, verdict: str) -> None:
    rates = {"mnist-aevb-nz3-seed0": 10.0, "mnist-wake-sleep-nz3-seed0": wake}
    assert scorecard.same_cost(rates, (3,)).verdict == verdict


def test_the_variance_is_judged_by_two_standard_errors() -> None:
    judged = scorecard.variance_below_one
    usual = {("mnist", 3): (0.1, 0.01), ("frey-face", 20): (0.2, 0.1)}
    assert judged(usual | {("frey-face", 2): (0.2, 0.3)}).verdict == "holds"
    assert judged(usual | {("frey-face", 2): (0.9, 0.1)}).verdict == "was not decided"
    assert judged(usual | {("frey-face", 2): (1.1, 0.1)}).verdict == "was not decided"
    claim = judged(usual | {("frey-face", 2): (1.3, 0.1)})
    assert claim.verdict == "does not hold"
    told = "MNIST 0.100 ± 0.010 ($N_z = 3$); Frey Face 1.30 ± 0.10 ($N_z = 2$), 0.200 ± 0.100 ($N_z"
    assert told in claim.evidence
    tiny = judged({("mnist", 3): (0.00178, 0.00002), ("frey-face", 2): (0.2, 0.1)})
    assert "MNIST 0.00178 ± 0.00002 ($N_z" in tiny.evidence


def test_what_was_measured_on_one_data_set_is_not_judged() -> None:
    assert scorecard.variance_below_one({("mnist", 3): (0.1, 0.01)}).verdict == "was not measured"
    assert scorecard.variance_below_one({}).verdict == "was not measured"


def test_a_run_that_ends_before_the_place_was_not_measured() -> None:
    short = [
        replace(run, curves={name: values[:1] for name, values in run.curves.items()})
        for run in third()
    ]
    assert scorecard.faster_in_likelihood(short).verdict == "was not measured"
    assert scorecard.em_is_not_on_line(short).verdict == "was not measured"


def test_appendix_d_and_the_manifold() -> None:
    judged = scorecard.unreliable_in_many_dimensions
    assert judged({2: 0.1, 4: -0.4, 10: 3.0}).verdict == "holds"
    assert judged({2: 0.1, 4: -0.4, 10: 0.3, 20: 3.0}).verdict == "holds with limits"
    assert judged({2: 0.1, 4: -0.4, 10: 0.3}).verdict == "does not hold"
    assert judged({2: 0.1, 4: -0.6, 10: 3.0}).verdict == "does not hold"
    assert judged({2: 0.1, 4: -0.4, 10: -3.0}).verdict == "holds", "in either direction"
    assert judged({2: 0.1, 5: 0.7, 10: 3.0}).verdict == "holds", "five is neither"
    assert judged({2: 0.1, 5: 0.3, 10: 3.0}).verdict == "holds"
    smooth = scorecard.smooth_manifold
    assert smooth({"mnist": 0.2, "frey-face": 0.1}).verdict == "holds"
    assert smooth({"mnist": 0.4, "frey-face": 0.1}).verdict == "holds with limits"
    assert smooth({"mnist": 0.4, "frey-face": 0.3}).verdict == "does not hold"


def test_the_table_links_each_claim_to_its_page() -> None:
    claims = [scorecard.em_is_not_on_line(third()), scorecard.better_solution(second())]
    head, rule, *body = scorecard.table(claims).splitlines()
    assert head.count("|") == rule.count("|") == 3
    for claim, row in zip(claims, body, strict=True):
        assert row.count("|") == 3
        assert f"**It {claim.verdict}.**" in row
        assert f"{{doc}}`{claim.page}`" in row
        assert claim.rule in row


@pytest.mark.parametrize(
    ("samples", "verdict"),
    [
        (5e6, "holds"),
        (5.1e6, "holds with limits"),
        (9.9e6, "holds with limits"),
        (1e7, "does not hold"),
    ],
)
def test_faster_is_by_a_factor_of_two(samples: float, verdict: str) -> None:
    curve = {1e5: -150.0, samples: -120.0, 1.1e7: -100.0}
    assert scorecard.converges_faster(second(first=curve)).verdict == verdict


def test_better_in_half_of_the_panels_is_not_better() -> None:
    usual, worse = second(), second(aevb={1e5: -150.0, 1e7: -121.0})
    for panels, verdict in ((1, "holds with limits"), (2, "does not hold")):
        records = worse[: 2 * panels] + usual[2 * panels :]
        assert scorecard.better_solution(records).verdict == verdict


def likelihoods(**curves: dict[float, float]) -> list[Record]:
    return [
        made_up(experiments.MarginalLikelihood(algorithm=a.replace("_", "-"), n_train=n), curve)
        for n in (1_000, 50_000)
        for a, curve in curves.items()
    ]


def test_figure_3_is_read_at_two_million_samples_along_its_straight_axis() -> None:
    claim = scorecard.faster_in_likelihood(
        likelihoods(
            aevb={1e6: -200.0, 3e6: -100.0, 1e7: -100.0},
            wake_sleep={1e6: -200.0, 1e7: -200.0},
            mcem={1e6: -160.0, 3e6: -160.0, 1e7: -90.0},
        )
    )
    assert claim.verdict == "holds"
    assert "+10.0 (1,000 images, 1 seed) and +10.0 (50,000 images, 1 seed)" in claim.evidence


@pytest.mark.parametrize(("end", "verdict"), [(-110.1, "holds"), (-110.0, "does not hold")])
def test_monte_carlo_em_is_judged_at_ten_million_samples(end: float, verdict: str) -> None:
    records = likelihoods(aevb={2e6: -150.0, 1e7: -100.0}, mcem={2e6: -150.0, 1e7: end})
    assert scorecard.em_is_not_on_line(records).verdict == verdict


@pytest.mark.parametrize(
    ("lead", "verdict"),
    [(-3.0, "holds"), (-6.0, "holds"), (-6.1, "holds with limits"), (3.0, "does not hold")],
)
def test_the_ranking_may_be_the_other_way_round(lead: float, verdict: str) -> None:
    def runs(lead: float) -> tuple[Record, Record]:  # at 5e5; before, wake-sleep is far ahead
        ends = {"aevb": {2e5: -158.0, 5e5: -150.0 + lead}, "wake-sleep": {2e5: -1.0, 5e5: -150.0}}
        return tuple(
            made_up(experiments.LowerBound("mnist", a, 3), {1e5: -160.0} | end)
            for a, end in ends.items()
        )

    claim = scorecard.ranking_is_insensitive({500: runs(-3.0), 250: runs(lead), 1_000: runs(-3.0)})
    assert claim.verdict == verdict


@pytest.mark.parametrize(("rate", "verdict"), [(20.0, "holds"), (20.1, "does not hold")])
def test_the_panel_with_the_dearest_sample_decides(rate: float, verdict: str) -> None:
    rates = {f"mnist-{a}-nz{n}-seed0": 10.0 for a in ("aevb", "wake-sleep") for n in (3, 5, 10)}
    rates["mnist-aevb-nz5-seed0"] = rate
    assert scorecard.same_cost(rates, (3, 5, 10)).verdict == verdict


def test_the_thresholds_of_appendix_d_and_of_the_manifold() -> None:
    judged = scorecard.unreliable_in_many_dimensions
    for at_five in (0.1, 3.0):  # neither fewer than five nor more
        assert judged({4: -0.49, 5: at_five, 10: -0.51}).verdict == "holds"
    assert judged({4: 0.49, 10: 0.49, 20: -0.51}).verdict == "holds with limits"
    assert judged({4: 0.51, 10: 3.0}).verdict == "does not hold"
    smooth = scorecard.smooth_manifold
    assert smooth({"mnist": 0.24, "frey-face": 0.1}).verdict == "holds"
    assert smooth({"mnist": 0.25, "frey-face": 0.1}).verdict == "holds with limits"
    assert smooth({"mnist": 0.25, "frey-face": 0.25}).verdict == "does not hold"
