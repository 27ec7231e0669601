"""The paper's digitised curves, and the comparison of ours with them."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from aevb import _digitised, reference, results

# Read from the printed figures beforehand, independently of the package: nats per datapoint at
# 1e6, 3e6, 1e7, 3e7 and 1e8 samples.
FIGURE_2 = """
mnist 3 aevb test -152.9 -143.7 -138.0 -134.8 -133.4
mnist 3 aevb train -155.3 -144.8 -138.3 -133.7 -130.3
mnist 3 wake-sleep test -155.1 -148.9 -144.8 -141.9 -138.9
mnist 3 wake-sleep train -157.1 -150.1 -146.1 -143.0 -140.2
mnist 5 aevb test -138.9 -129.2 -124.1 -121.1 -119.1
mnist 5 aevb train -141.0 -129.7 -123.7 -119.8 -116.5
mnist 5 wake-sleep test -142.2 -132.0 -127.2 -124.0 -121.9
mnist 5 wake-sleep train -145.6 -133.6 -128.1 -124.7 -122.2
mnist 10 aevb test -128.3 -115.8 -108.5 -105.3 -103.7
mnist 10 aevb train -129.6 -116.0 -107.7 -103.5 -100.7
mnist 10 wake-sleep test -134.9 -121.8 -113.5 -109.7 -107.6
mnist 10 wake-sleep train -137.3 -122.3 -113.7 -109.7 -106.9
mnist 20 aevb test -124.2 -112.4 -104.8 -101.8 -100.2
mnist 20 aevb train -126.3 -112.7 -104.2 -100.6 -98.3
mnist 20 wake-sleep test -130.8 -115.7 -108.3 -106.1 -104.6
mnist 20 wake-sleep train -134.2 -116.3 -108.3 -105.7 -104.1
mnist 200 aevb test -119.9 -108.7 -103.9 -101.6 -100.2
mnist 200 aevb train -121.8 -108.6 -103.4 -100.5 -98.4
mnist 200 wake-sleep test -130.8 -115.3 -109.1 -106.4 -104.6
mnist 200 wake-sleep train -133.5 -115.6 -109.0 -106.0 -104.0
frey-face 2 aevb test 673 775 823 854 872
frey-face 2 aevb train 664 769 835 878 935
frey-face 5 aevb test 761 934 1044 1092 1115
frey-face 5 aevb train 729 936 1076 1158 1234
frey-face 10 aevb test 792 950 1171 1282 1307
frey-face 10 aevb train 758 952 1217 1369 1463
frey-face 20 aevb test 754 973 1200 1285 1312
frey-face 20 aevb train 715 968 1255 1376 1488
"""

# Millions of samples, then the estimated log marginal likelihood there.
FIGURE_3 = """
1000 aevb train 1 -129.1 10 -114.4 30 -110.3 60 -109.1
1000 aevb test 1 -147.2 10 -142.9 30 -143.0 60 -143.2
1000 wake-sleep train 2 -135.8 10 -128.3 30 -127.0 60 -125.5
1000 wake-sleep test 2 -149.7 10 -146.6 30 -146.3 60 -144.8
1000 mcem train 1 -139.3 10 -118.3 30 -111.5 60 -109.2
1000 mcem test 1 -152.3 10 -142.4 30 -141.5 60 -141.6
50000 aevb train 5 -137.7 10 -135.5 30 -132.4 60 -131.1
50000 aevb test 5 -144.0 10 -142.3 30 -139.7 60 -138.1
50000 wake-sleep train 2 -149.4 10 -140.7 30 -137.4 60 -137.1
50000 wake-sleep test 2 -148.5 10 -143.2 30 -140.4 60 -140.8
50000 mcem train 30 -164.1 40 -157.7 50 -152.7 60 -148.8
50000 mcem test 30 -165.6 40 -159.9 50 -154.5 60 -150.4
"""

N_TRAIN = {"mnist": 50_000, "frey-face": 1_600}


def figure_2(dataset: str, latent_dim: int, algorithm: str, split: str) -> reference.Curve:
    return reference.curve(
        "figure-2",
        dataset=dataset,
        n_train=N_TRAIN[dataset],
        latent_dim=latent_dim,
        algorithm=algorithm,
        split=split,
    )


def figure_3(n_train: int, algorithm: str, split: str) -> reference.Curve:
    return reference.curve(
        "figure-3", dataset="mnist", n_train=n_train, latent_dim=3, algorithm=algorithm, split=split
    )


def made_up(
    curves: dict[str, list[float]], *, name: str = "made-up", figure: str = "figure-2", **other: Any
) -> results.Record:
    configuration = {
        "dataset": "mnist",
        "n_train": 50_000,
        "latent_dim": 20,
        "algorithm": "aevb",
        "step_size": 0.01,
        "seed": 0,
        "preset": "paper",
        "samples": 10_000_000,
        "keep_weights": True,
    }
    return results.Record(figure, name, configuration | other, curves, {})


def the_papers_own(split: str = "test", shift: float = 0.0, **other: Any) -> results.Record:
    curve = figure_2("mnist", 20, "aevb", split)
    name = {"test": "test", "train": "train_running"}[split]
    values = [value + shift for value in curve.values]
    return made_up({"samples": list(curve.samples), name: values}, **other)


def at(rows: list[reference.Row], samples: int, **wanted: Any) -> reference.Row:
    wanted = {"dataset": "mnist", "latent_dim": 20, "algorithm": "aevb", "split": "test"} | wanted
    found = [
        row
        for row in rows
        if row.samples == samples
        and all(getattr(row, name) == value for name, value in wanted.items())
    ]
    assert len(found) == 1
    return found[0]


# --- the paper's curves -------------------------------------------------------------------------


@pytest.mark.parametrize("line", FIGURE_2.strip().splitlines())
def test_figure_2_has_the_values_read_from_it(line: str) -> None:
    dataset, latent_dim, algorithm, split, *values = line.split()
    curve = figure_2(dataset, int(latent_dim), algorithm, split)
    # Half a unit of the last digit given, and the interpolation's own uncertainty.
    tolerance = {"mnist": 0.05 + 0.1, "frey-face": 0.5 + 2.0}[dataset]

    for samples, value in zip((1e6, 3e6, 1e7, 3e7, 1e8), values, strict=True):
        assert curve.at(samples) == pytest.approx(float(value), abs=tolerance)


@pytest.mark.parametrize("line", FIGURE_3.strip().splitlines())
def test_figure_3_has_the_values_read_from_it(line: str) -> None:
    n_train, algorithm, split, *pairs = line.split()
    curve = figure_3(int(n_train), algorithm, split)

    for millions, value in zip(pairs[::2], pairs[1::2], strict=True):
        assert curve.at(float(millions) * 1e6) == pytest.approx(float(value), abs=0.15)


@pytest.mark.parametrize("latent_dim", [2, 5, 10, 20])
def test_the_papers_wake_sleep_stays_on_one_plateau_on_frey_face(latent_dim: int) -> None:
    for split, plateau in (("test", 569), ("train", 578)):
        curve = figure_2("frey-face", latent_dim, "wake-sleep", split)
        for samples in (3e6, 1e7, 3e7, 1e8):
            assert curve.at(samples) == pytest.approx(plateau, abs=1.5)


@pytest.mark.parametrize("figure", reference.FIGURES)
def test_the_files_are_whole(figure: str) -> None:
    curves = _digitised.curves(figure)
    unit = {"mnist": 100, "frey-face": 500}

    assert len(curves) == {"figure-2": 36, "figure-3": 12}[figure]
    for key, curve in curves.items():
        assert (np.diff(curve.samples) > 0).all(), key
        assert np.isfinite(curve.values).all(), key
        assert curve.log_x == (figure == "figure-2")
        if figure == "figure-2":
            logged = curve.samples[curve.samples < 2.6e8]  # further right, one ends at the edge
            assert (logged % unit[key[0]] == 0).all(), key
            assert curve.start is not None
            assert curve.start[0] == unit[key[0]]
        elif key[3] == "mcem":
            assert (curve.samples % (15 * key[1]) == 0).all(), key


def test_every_mnist_curve_starts_at_a_coin_toss_a_pixel() -> None:
    for key, curve in _digitised.curves("figure-2").items():
        if key[0] == "mnist":
            assert curve.start == (100, pytest.approx(-784 * np.log(2), abs=0.3))


def test_figure_2_is_interpolated_in_the_logarithm_and_figure_3_is_not() -> None:
    for curve, mean in (
        (figure_2("mnist", 20, "aevb", "test"), lambda a, b: (a * b) ** 0.5),
        (figure_3(1_000, "aevb", "test"), lambda a, b: (a + b) / 2),
    ):
        for i in (0, 3, 20):
            half_way = mean(*curve.samples[i : i + 2])
            assert curve.at(half_way) == pytest.approx(curve.values[i : i + 2].mean(), abs=1e-9)
            assert curve.at(curve.samples[i]) == curve.values[i]


def test_where_the_figure_says_nothing_there_is_no_value() -> None:
    curve = figure_2("mnist", 20, "aevb", "test")
    assert curve.start is not None
    assert curve.samples[0] == 312_900
    assert [curve.at(x) for x in (10, 101, 1e5, 312_800)] == [None] * 4
    assert curve.at(100) == curve.start[1]
    assert curve.at(312_900) == curve.values[0]
    assert curve.at(curve.samples[-1]) == curve.values[-1]
    assert curve.at(curve.samples[-1] + 1) is None

    # Monte Carlo EM leaves the drawing area after its first log and comes back at 26 million.
    assert figure_3(50_000, "mcem", "train").at(20e6) is None
    # The first log of this one lies outside: it begins at 278,400, and has no start.
    assert figure_3(1_000, "aevb", "test").start is None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"figure": "figure-1"}, "figure: expected one of figure-2, figure-3; found 'figure-1'"),
        ({"dataset": "cifar"}, "dataset: expected one of mnist, frey-face; found 'cifar'"),
        ({"n_train": 60_000}, "n_train: expected one of 50000; found 60000"),
        ({"latent_dim": 2}, "latent_dim: expected one of 3, 5, 10, 20, 200; found 2"),
        ({"algorithm": "mcem"}, "algorithm: expected one of wake-sleep, aevb; found 'mcem'"),
        ({"split": "valid"}, "split: expected one of test, train; found 'valid'"),
    ],
)
def test_an_unknown_curve_is_refused_by_name(changed: dict[str, Any], message: str) -> None:
    wanted = {
        "figure": "figure-2",
        "dataset": "mnist",
        "n_train": 50_000,
        "latent_dim": 20,
        "algorithm": "aevb",
        "split": "test",
    } | changed
    with pytest.raises(reference.ReferenceError, match=message):
        reference.curve(wanted.pop("figure"), **wanted)


# --- the comparison -----------------------------------------------------------------------------


def test_without_records_every_curve_of_the_paper_is_there() -> None:
    rows = reference.compare("figure-2", [])

    assert {row.samples for row in rows if row.dataset == "mnist"} == {
        100, *(n * 10**k for k in (5, 6, 7, 8) for n in (1, 3)),
    }  # fmt: skip
    assert len(rows) == 36 * 9
    assert [row.samples for row in rows[:9]] == sorted(row.samples for row in rows[:9])
    assert all(row.ours is None and row.difference is None for row in rows)
    assert at(rows, 10**7).paper == pytest.approx(-104.8, abs=0.1)
    assert at(rows, 10**5).paper is None
    assert at(rows, 3 * 10**8).paper is None

    rows = reference.compare("figure-3", [])
    assert sorted({row.samples // 10**6 for row in rows}) == [1, 2, 5, 10, 20, 30, 40, 50, 60]
    assert len(rows) == 12 * 9


@pytest.mark.parametrize("split", ["test", "train"])
def test_a_record_of_the_papers_own_values_differs_nowhere(split: str) -> None:
    rows = reference.compare("figure-2", [the_papers_own(split)])

    differing = [row for row in rows if row.difference is not None]
    *places, end = [row.samples for row in differing]
    assert places == [10**6, 3 * 10**6, 10**7, 3 * 10**7, 10**8]
    assert end == int(figure_2("mnist", 20, "aevb", split).samples[-1])
    assert {(row.latent_dim, row.algorithm, row.split) for row in differing} == {
        (20, "aevb", split)
    }
    assert [row.difference for row in differing] == [0.0] * 6


def test_the_difference_is_ours_minus_the_papers() -> None:
    row = at(reference.compare("figure-2", [the_papers_own(shift=2.5)]), 10**7)

    assert row.difference == pytest.approx(2.5, abs=1e-9)
    assert row.ours is not None
    assert row.paper is not None
    assert row.difference == pytest.approx(row.ours - row.paper, abs=1e-9)


def test_the_train_curve_is_the_running_mean_in_figure_2_and_not_in_figure_3() -> None:
    curves = {"samples": [10**6, 10**8], "train": [-1.0, -1.0], "train_running": [-2.0, -2.0]}
    rows = reference.compare("figure-2", [made_up(curves)])
    assert at(rows, 10**7, split="train").ours == -2.0
    assert at(rows, 10**7, split="test").ours is None

    ends = {"samples": [10**6, 10**8], "train": [-100.0, -1.0], "train_running": [-2.0, -2.0]}
    record = made_up(ends, figure="figure-3", latent_dim=3, n_train=1_000)
    rows = reference.compare("figure-3", [record])
    # Straight in the samples, as Figure 3 is drawn, and not in their logarithm.
    assert at(rows, 10**7, split="train", latent_dim=3, n_train=1_000).ours == -91.0


def test_ours_is_known_only_where_our_run_has_been() -> None:
    record = made_up({"samples": [10**6, 10**7], "test": [-120.0, -110.0]})
    rows = reference.compare("figure-2", [record])

    assert at(rows, 3 * 10**5).ours is None
    assert at(rows, 10**6).ours == -120.0
    assert at(rows, 3 * 10**6).ours == pytest.approx(-120 + 10 * np.log10(3), abs=5e-4)
    assert at(rows, 10**7).ours == -110.0
    assert at(rows, 3 * 10**7).ours is None
    assert at(rows, 3 * 10**7).paper is not None


def test_the_running_mean_is_that_of_the_samples_since_the_papers_last_log() -> None:
    record = made_up({"samples": [100, 200, 400], "train_running": [1.0, 2.0, 4.0]})
    # A sum of 100 at 100 samples, 300 at 200 and 1100 at 400.
    found = reference.running_mean(record, [200, 300, 400], 200)
    assert found.tolist() == pytest.approx([300 / 200, (700 - 100) / 200, (1100 - 300) / 200])
    assert reference.running_mean(record, [400], 100).tolist() == pytest.approx([4.0])


def test_several_seeds_are_averaged_where_they_have_been() -> None:
    records = [
        made_up({"samples": [10**6, 10**7], "test": [-120.0, -110.0]}, name="seed0"),
        made_up({"samples": [10**6, 10**8], "test": [-121.0, -113.0]}, name="seed1", seed=1),
    ]
    rows = reference.compare("figure-2", records)

    assert at(rows, 10**6)[-4:-2] == (2, -120.5)
    assert at(rows, 10**7)[-4:-2] == (2, -113.5)
    assert at(rows, 10**8)[-4:-2] == (1, -113.0)


def test_the_end_of_the_longest_run_is_a_place() -> None:
    records = [
        made_up({"samples": [10**6, 10**8], "test": [-121.0, -113.0]}, name="seed0"),
        made_up({"samples": [10**6, 2 * 10**8], "test": [-120.0, -110.0]}, name="seed1", seed=1),
    ]
    row = at(reference.compare("figure-2", records), 2 * 10**8)

    assert row[-4:-2] == (1, -110.0)
    assert row.difference == pytest.approx(-110.0 - row.paper, abs=1e-3)  # type: ignore[operator]
    places = [row.samples for row in reference.compare("figure-2", records[:1])]
    assert places.count(10**8) == 36, "the end is not told twice"


def test_a_run_with_other_settings_is_not_averaged_in() -> None:
    curves = {"samples": [10**6, 10**8], "test": [-120.0, -120.0]}
    usual = made_up(curves, name="mnist-aevb-nz20-seed0")
    far = curves | {"test": [-90.0, -90.0]}
    other = made_up(far, name="mnist-aevb-nz20-step-size-0.02-seed0", step_size=0.02)

    earlier = made_up(far, name="mnist-aevb-nz20-hidden-9-seed0", hidden=9)  # in the alphabet

    for records in ([usual, other, earlier], [earlier, other, usual]):
        assert at(reference.compare("figure-2", records), 10**7).ours == -120.0
        assert list(reference.by_curve(records).values()) == [[usual]]
    longer = made_up(curves, name="mnist-aevb-nz20-seed1", seed=1, samples=10, keep_weights=False)
    assert list(reference.by_curve([usual, longer]).values()) == [[usual, longer]]


def test_a_curve_that_the_paper_has_not_comes_last() -> None:
    record = made_up({"samples": [10**6, 10**8], "test": [-150.0, -140.0]}, latent_dim=2)
    rows = reference.compare("figure-2", [record])

    assert rows[-1].latent_dim == 2
    assert at(rows, 10**7, latent_dim=2)[-4:] == (1, -145.0, None, None)


@pytest.mark.parametrize(
    ("other", "preset", "found"),
    [
        ({"preset": "smoke"}, "paper", "figure-2, preset smoke"),
        ({}, "smoke", "figure-2, preset paper"),
        ({"figure": "figure-3"}, "paper", "figure-3, preset paper"),
    ],
)
def test_a_record_of_another_preset_or_figure_is_refused(
    other: dict[str, Any], preset: str, found: str
) -> None:
    record = the_papers_own(name="this-one", **other)
    with pytest.raises(
        reference.ReferenceError,
        match=f"this-one: expected a record of figure-2, preset {preset}; found one of {found}",
    ):
        reference.compare("figure-2", [record], preset=preset)


def test_a_short_run_can_be_compared_when_asked() -> None:
    rows = reference.compare("figure-2", [the_papers_own(preset="smoke")], preset="smoke")
    assert at(rows, 10**7).difference == 0.0


def test_an_unknown_figure_is_refused() -> None:
    with pytest.raises(reference.ReferenceError, match="found 'figure-4'"):
        reference.compare("figure-4", [])


def test_the_summary_is_of_the_absolute_differences_at_the_ends() -> None:
    def row(latent_dim: int, difference: float | None, **other: Any) -> reference.Row:
        same = reference.Row(
            "mnist", 50_000, latent_dim, "aevb", "test", 10**7, 1, 0.0, 0.0, difference
        )
        return same._replace(**other)

    rows = [row(3, 9.0), row(3, -4.0, samples=10**8), row(5, 1.0), row(10, 2.0), row(20, None)]
    assert reference.ends(rows) == rows[1:4]
    assert reference.summary(rows) == (3, 2.0, 4.0)
    assert reference.summary([*rows, row(5, 8.0, split="train")]) == (4, 3.0, 8.0)
    with pytest.raises(reference.ReferenceError, match="where both sides have a value, found none"):
        reference.summary(rows[4:])


def test_the_table_lines_up() -> None:
    rows = reference.compare("figure-2", [the_papers_own(shift=-0.5)])
    lines = reference.table(rows).splitlines()

    first = lines.index("mnist, N_z = 20, 50,000 training images; nats per datapoint")
    header, *panel = lines[first + 1 : lines.index("", first)]
    column = header.index("1e7") + len("1e7")
    cells = {line[:30].strip(): line[:column].split()[-1] for line in panel}
    paper = at(rows, 10**7).paper
    assert paper is not None
    assert cells["aevb test, paper"] == f"{paper:.2f}"
    assert cells["aevb test, ours"] == f"{paper - 0.5:.2f}"
    assert cells["aevb test, difference"] == "-0.50"
    assert "aevb train, ours" not in cells
    assert reference.table([]) == ""


def test_the_json_is_an_array_of_rows_with_null_for_what_is_missing() -> None:
    rows = reference.compare("figure-2", [the_papers_own(shift=1.0)])
    found = json.loads(reference.rows_as_json(rows))

    assert len(found) == len(rows)
    assert {tuple(row) for row in found} == {reference.Row._fields}
    assert [tuple(row.values()) for row in found] == [tuple(row) for row in rows]
    assert {row["difference"] for row in found} == {1.0, None}


def test_a_record_from_before_a_setting_is_of_the_same_curve() -> None:
    (made,) = (r for r in results.find("figure-2") if r.name == "frey-face-aevb-nz20-seed1")
    before = {name: value for name, value in made.configuration.items() if name != "precision"}
    older = replace(made, configuration=before)
    newer = replace(
        older,
        name="x" * len(older.name),
        configuration=older.configuration | {"precision": "float32"},
    )
    rounded = replace(newer, configuration=older.configuration | {"precision": "bfloat16"})
    (curve,) = reference.by_curve([older, newer, rounded]).values()
    assert curve == [older, newer]


def test_the_table_has_a_digit_on_frey_face_and_two_on_mnist() -> None:
    lines = reference.table(reference.compare("figure-2", [])).splitlines()
    paper = {}
    for line in lines:
        if line.endswith("nats per datapoint"):
            block = line.split(",")[0]
        elif "paper" in line:
            paper.setdefault(block, set()).add(len(line.split(".")[-1]))
    assert paper == {"mnist": {2}, "frey-face": {1}}
