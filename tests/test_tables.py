"""The tables of the pages: every cell comes from a record or a comparison."""

import math
from dataclasses import replace

import pytest

from aevb import reference, tables
from aevb.reference import Row
from aevb.results import Record


def record(
    latent_dim: int, dataset: str = "mnist", reached: int = 5_000_000, **changes: object
) -> Record:
    configuration = {
        "dataset": dataset,
        "algorithm": "aevb",
        "latent_dim": latent_dim,
        "hidden": 500,
        "n_train": 50_000,
        "minibatch": 100,
        "noise_samples": 1,
        "estimator": "B",
        "step_size": 0.02,
        "warm_up": 100,
        "initial_std": 0.01,
        "prior": True,
        "samples": 10_000_000,
        "seed": 0,
        "preset": "paper",
    }
    keys = ("device", "processor", "threads", "torch", "python", "date", "commit")
    return Record(
        "figure-2",
        f"nz{latent_dim}",
        configuration | changes,
        {
            "samples": [100, reached],
            "test": [-543.4, -110.0],
            "train": [-543.4, -108.0],
            "train_running": [-543.4, -109.0],
        },
        dict.fromkeys(keys, "x") | {"wall_seconds": 1800.0},
    )


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_markdown_is_a_table() -> None:
    assert tables.markdown(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | ---: |\n| 1 | 2 |"
    assert tables.markdown(["a", "b", "c"], [], words=2) == "| a | b | c |\n| --- | --- | ---: |"


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 2 cells a row, found 1"):
        tables.markdown(["a", "b"], [["1"]])


def test_a_number_has_a_true_minus_sign_and_may_be_missing() -> None:
    values = (-1.25, 2.0, -0.01, 0.01, None)
    shown = [tables.number(value, "+.1f") for value in values]
    assert shown == ["−1.2", "+2.0", "0.0", "0.0", ""]


@pytest.mark.parametrize(
    ("samples", "shown"),
    [(10**7.5, "31.6"), (1e8, "100"), (5e5, "0.5"), (68_250_000, "68.2"), (1.25e9, "1,250")],
)
def test_samples_are_read_in_millions(samples: float, shown: str) -> None:
    assert tables.million(samples) == f"{shown} million"


def test_settings_have_a_column_a_data_set_and_name_the_exceptions() -> None:
    runs = [record(3), record(20, step_size=0.01), record(5), record(2, "frey-face", minibatch=500)]
    header, _, *rows = cells(tables.settings(runs))
    found = {label: values for label, *values in rows}
    assert header == ["setting", "MNIST", "Frey Face"]
    assert found["latent variables, $N_z$"] == ["3, 20, 5", "2"]
    assert found["Adagrad's step size, $\\eta$"] == ["0.02; 0.01 at $N_z = 20$", "0.02"]
    assert found["minibatch, $M$"] == ["100", "500"]
    assert found["SGVB estimator"] == ["B (eq. 7)"] * 2


def test_settings_name_every_seed_of_a_panel() -> None:
    runs = [record(3), record(5), record(10), record(5, seed=1), record(5, seed=2)]
    found = {label: values for label, *values in cells(tables.settings(runs))}
    assert found["latent variables, $N_z$"] == ["3, 5, 10"]
    assert found["seed"] == ["0; 0, 1 and 2 at $N_z = 5$"]


def test_settings_name_the_values_of_a_panel_by_size() -> None:
    runs = [record(3, step_size=size, seed=n) for n, size in enumerate((1.0, 10_000, 0.25, 2_000))]
    found = {label: values for label, *values in cells(tables.settings(runs))}
    assert found["Adagrad's step size, $\\eta$"] == ["0.25, 1, 2,000 and 10,000"]


def test_settings_leave_out_a_data_set_without_runs() -> None:
    assert cells(tables.settings([record(3)]))[0] == ["setting", "MNIST"]


def test_settings_give_the_samples_that_were_reached_not_those_that_were_asked_for() -> None:
    found = {label: values for label, *values in cells(tables.settings([record(3)]))}
    assert found["training samples evaluated"] == ["5,000,000"]


def test_provenance_says_which_preset_how_far_and_how_long() -> None:
    text = tables.provenance([record(3), record(5, seed=1)])
    assert "2 runs of the preset **paper**, seed 0, 1, 5,000,000 samples each" in text
    assert "1.0 hours of training in all" in text


def test_runs_that_shared_a_device_took_their_time_together() -> None:
    alone, *rest = record(3), record(5), record(10), record(20)
    shared = {"commit": "c", "date": "d", "device": "a GPU", "together": 2}
    for run, seconds, which in zip(rest, (600, 900, 300), ("c", "c", "e"), strict=True):
        run.provenance.update(shared, wall_seconds=seconds, commit=which)
    expected = alone.provenance["wall_seconds"] + 900 + 300
    assert tables.training_hours([alone, *rest]) == pytest.approx(expected / 3600)


def row(latent_dim: int, samples: int, ours: float | None, paper: float | None) -> Row:
    difference = None if ours is None or paper is None else ours - paper
    return Row("mnist", 50_000, latent_dim, "aevb", "test", samples, 1, ours, paper, difference)


def test_differences_have_a_row_a_curve_and_a_column_a_place() -> None:
    rows = [
        row(3, 100, -543.4, -543.5),
        row(3, 10**6, -155.0, -153.0),
        row(3, 3 * 10**6, None, -144.0),
        row(20, 10**6, -121.0, -124.25),
    ]
    header, _, *body = cells(tables.differences(rows, "mnist"))
    assert header == ["MNIST, AEVB, $N_z$", "$10^{2}$", "$10^{6}$", "ours", "paper's"]
    assert body == [
        ["3, test", "+0.1", "−2.0", "−155.0", "−153.0"],
        ["20, test", "", "+3.2", "−121.0", "−124.2"],
    ]


def test_differences_are_of_one_data_set() -> None:
    rows = [row(3, 100, -543.4, -543.5), row(5, 100, 1.0, 2.0)._replace(dataset="frey-face")]
    assert "5, test" not in tables.differences(rows, "mnist")
    assert "−1" in tables.differences(rows, "frey-face")


def test_differences_are_of_one_algorithm() -> None:
    rows = [row(3, 100, -543.4, -543.5), row(3, 100, 1.0, 3.0)._replace(algorithm="wake-sleep")]
    header, _, *body = cells(tables.differences(rows, "mnist", "wake-sleep"))
    assert header[0] == "MNIST, wake-sleep, $N_z$"
    assert body == [["3, test", "−2.0", "1.0", "3.0"]]


def test_the_curves_of_figure_3_are_named_by_their_training_images() -> None:
    rows = [row(3, 10**7, -1.0, -2.0)._replace(n_train=n) for n in (1_000, 50_000)]
    header, _, *body = cells(tables.differences(rows, "mnist"))
    assert header[0] == "MNIST, AEVB, $N_\\mathrm{train}$"
    assert [line[0] for line in body] == ["1,000, test", "50,000, test"]


def test_settings_of_figure_3_have_a_column_an_algorithm() -> None:
    def run(algorithm: str, n_train: int, minibatch: int) -> Record:
        made = record(3, algorithm=algorithm, n_train=n_train, minibatch=minibatch, draws=50)
        for name in ("noise_samples", "estimator"):
            del made.configuration[name]
        return made

    runs = [run("aevb", 1_000, 100), run("aevb", 50_000, 100)]
    runs += [run("mcem", 1_000, 1_000), run("mcem", 50_000, 50_000)]
    header, _, *body = cells(tables.settings(runs, "algorithm", "n_train"))
    shown = {line[0]: line[1:] for line in body}
    assert header == ["setting", "AEVB", "MCEM"]
    assert shown["training images, $N$"] == ["1,000, 50,000"] * 2
    assert shown["minibatch, $M$"] == ["100", "1,000; 50,000 at $N_\\mathrm{train} = 50,000$"]
    assert shown["posterior draws of an estimate"] == ["50", "50"]
    assert "SGVB estimator" not in shown


def test_variants_tell_the_algorithms_and_figures_apart() -> None:
    def run(name: str, **changes: object) -> Record:
        made = record(3, reached=20_000_000, **changes)
        return replace(made, name=name)

    two = [run("a", algorithm="wake-sleep"), run("a-seed1", algorithm="wake-sleep", seed=1)]
    assert cells(tables.variants(two))[2][0] == "MNIST, $N_z = 3$, wake-sleep"
    three = [
        replace(run(name, algorithm="mcem", n_train=1_000, step_size=size), figure="figure-3")
        for name, size in (("b", 0.1), ("b-step-size", 0.02))
    ]
    _, _, own, other = cells(tables.variants(three))
    assert own[:2] == ["MCEM, $N_\\mathrm{train} = 1,000$", "the figure's settings, seed: 0"]
    assert other[1] == "Adagrad's step size, $\\eta$: 0.02"
    # Straight in x from -543.4 to -110.0, as Figure 3 is drawn; the paper's -152.3 is read off.
    bound = -543.4 + 433.4 * (1e6 - 100) / (2e7 - 100)
    assert float(own[2].replace("−", "-")) == pytest.approx(bound + 152.3, abs=0.1)


def test_gaps_are_train_minus_test_of_both_sides() -> None:
    (_, _, found) = cells(tables.train_test_gaps([record(3, reached=100_000_000)]))
    # The paper's curves there: -130.3 and -133.4 (one decimal, read off its figure).
    assert found == ["MNIST, $N_z = 3$", "1.0", "3.1", "3.1"]


def test_gaps_are_empty_where_the_paper_says_nothing() -> None:
    (_, _, found) = cells(tables.train_test_gaps([record(3, reached=10_000)]))
    assert found == ["MNIST, $N_z = 3$", "1.0", "", "3.1"]


def test_variants_say_what_changed_and_hold_each_run_against_the_paper() -> None:
    own = record(3, reached=2_000_000)
    other = record(3, reached=20_000_000, step_size=0.01, warm_up=0)
    short = record(3, reached=10_000, seed=1)
    other, short = replace(other, name="nz3-step-size-0.01"), replace(short, name="nz3-seed1")
    alone, unknown = record(5), record(2)  # Figure 2 has no panel of the latter
    header, _, *body = cells(tables.variants([short, alone, other, own, unknown]))

    assert header == [
        "test − the paper's",
        "run",
        "$10^{6}$",
        "$3 \\cdot 10^{6}$",
        "$10^{7}$",
    ]
    assert [row[:2] for row in body] == [
        ["MNIST, $N_z = 3$", "the figure's settings, seed: 0"],
        ["", "seed: 1"],
        ["", "Adagrad's step size, $\\eta$: 0.01, Adagrad's warm-up, steps: 0"],
    ]
    # Straight in log x from -543.4 at 100 to -110.0 at the end; the paper's -152.9 is read off.
    for row, end in ((body[0], 2e6), (body[2], 2e7)):
        bound = -543.4 + 433.4 * math.log(1e4) / math.log(end / 100)
        assert float(row[2].replace("−", "-")) == pytest.approx(bound + 152.9, abs=0.1)
    assert body[0][3:] == ["", ""]
    assert body[1][2:] == ["", "", ""]
    assert all(body[2][3:])


def test_moved_holds_each_other_run_against_the_figures_own() -> None:
    own = record(3, reached=20_000_000)
    other = replace(record(3, reached=2_000_000, step_size=0.01), name="nz3-step-size-0.01")
    longer = replace(record(3, reached=40_000_000, seed=1), name="nz3-seed1")
    short = replace(record(3, reached=300_000, warm_up=0), name="nz3-warm-up-0")
    _, _, seed, size = cells(tables.moved([short, longer, other, own, record(5), record(2)]))

    def line(end: float, at: float, last: float = -110.0) -> float:  # straight in log x
        return -543.4 + (last + 543.4) * math.log(at / 100) / math.log(end / 100)

    assert seed[:3] == ["MNIST, $N_z = 3$", "seed: 1", "20"]
    assert size[:3] == ["", "Adagrad's step size, $\\eta$: 0.01", "2"]
    for row, end, at in ((seed, 4e7, 2e7), (size, 2e6, 2e6)):
        for cell, last in ((row[3], -110.0), (row[4], -108.0)):
            moved = line(end, at, last) - line(2e7, at, last)
            assert float(cell.replace("−", "-")) == pytest.approx(moved, abs=0.1)
    # The paper's test curve at 2e6 is read off its figure.
    theirs = reference.curve(
        "figure-2", dataset="mnist", n_train=50_000, latent_dim=3, algorithm="aevb", split="test"
    ).at(2e6)
    assert float(size[5].replace("−", "-")) == pytest.approx(-110.0 - theirs, abs=0.1)


def test_an_older_record_is_of_float32() -> None:
    newer = record(20, precision="float32", seed=1)
    rounded = record(20, precision="bfloat16")
    assert tables._changes(record(20), newer) == "seed: 1"
    assert tables._changes(record(20), rounded) == "precision of the matrix products: bfloat16"
    table = cells(tables.settings([record(20), newer]))
    assert ["precision of the matrix products", "float32"] in table
    assert "draws of the prior" not in tables.settings([record(20), newer])


def test_the_usual_value_is_that_of_most_panels() -> None:
    runs = [record(3, step_size=0.01), record(5), record(20)]
    found = {label: values for label, *values in cells(tables.settings(runs))}
    assert found["Adagrad's step size, $\\eta$"] == ["0.02; 0.01 at $N_z = 3$"]


def test_moved_leaves_out_runs_of_less_than_400000_samples() -> None:
    others = [
        replace(record(3, reached=reached, seed=n), name=f"nz3-seed{n}")
        for n, reached in enumerate((20_000_000, 399_900, 400_000))
    ]
    others[0] = replace(others[0], name="nz3")
    _, _, *body = cells(tables.moved(others))
    assert [line[1:3] for line in body] == [["seed: 2", "0.4"]]


def test_frey_face_has_no_digit_after_the_point() -> None:
    key = {"dataset": "frey-face", "n_train": 1_600}
    runs = [replace(record(20, seed=n, **key), name=f"nz20-{n}" * (n + 1)) for n in (0, 1)]
    rows = [row(20, 100, 1000.5, 900.0)._replace(**key)]
    texts = (
        tables.differences(rows, "frey-face"),
        tables.variants(runs, (1e6,)),
        tables.moved(runs),
        tables.train_test_gaps(runs),
    )
    for table in texts:
        shown = [cell for line in cells(table)[2:] for cell in line]
        numbers = [cell for cell in shown if cell and not cell.strip("+−.0123456789")]
        assert numbers
        assert not any("." in cell for cell in numbers), table


def test_numbers_of_a_table_have_minus_signs() -> None:
    shown = tables.markdown(["run", "nats"], [["seed-1", "-1.5 to -2"], ["$-1$", "$10^{-3}$"]])
    assert shown.splitlines()[2:] == ["| seed-1 | −1.5 to −2 |", "| $-1$ | $10^{-3}$ |"]
