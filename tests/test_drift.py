"""The beginning of a stored run in another environment: what stays, what moves, what is stored."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from aevb import data, drift, experiments, results
from aevb.__main__ import main

RUN = "figure-2/mnist-aevb-nz2-hidden-8-seed0"
PIXELS = torch.rand(250, 20, generator=torch.Generator().manual_seed(23), dtype=torch.float32)


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> results.Record:
    synthetic = data.Dataset("synthetic", PIXELS[:200], PIXELS[200:], (4, 5), "synthetic")
    monkeypatch.setattr(data, "mnist", lambda path=None: synthetic)
    monkeypatch.setattr(drift, "RUNS", (RUN,))
    monkeypatch.setenv("AEVB_RESULTS", str(tmp_path))
    monkeypatch.delenv("MKL_CBWR", raising=False)
    experiment = experiments.LowerBound(latent_dim=2, hidden=8, samples=30_000)
    return experiments.run(experiment, tmp_path, progress=False)


def test_here_nothing_moves(stored: results.Record) -> None:
    record = drift.measure(RUN, 20_000)
    common = set(stored.curves["samples"]) & set(record.curves["samples"])
    assert drift.differences(record) == dict.fromkeys(sorted(common), 0.0)
    assert len(common) > 5


def test_a_run_of_other_pixels_is_measured_on_them(stored: results.Record, tmp_path: Path) -> None:
    other = replace(experiments.specification(stored), pixels="thresholded", samples=2_000)
    experiments.run(other, tmp_path, progress=False)
    found = drift.differences(drift.measure(f"figure-2/{other.name}", 2_000))
    assert found == dict.fromkeys(found, 0.0)


def test_one_bit_moves_it_a_little_and_then_more(stored: results.Record) -> None:
    found = drift.differences(drift.measure(RUN, 20_000, nudged=True))
    places = sorted(found)
    assert abs(found[places[0]]) < 1e-5
    assert 0 < abs(found[places[-1]]) < 1.0


def test_rounded_products_move_it(stored: results.Record) -> None:
    found = drift.differences(drift.measure(RUN, 20_000, precision="bfloat16"))
    assert 0 < max(map(abs, found.values())) < 1.0


def test_it_trains_on_as_many_threads_as_asked_for(
    stored: results.Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, seen = torch.get_num_threads(), []
    step_of = experiments.step_of

    def noted(experiment: Any) -> Any:
        seen.append(torch.get_num_threads())
        return step_of(experiment)

    monkeypatch.setattr(experiments, "step_of", noted)
    record = drift.measure(RUN, 1_000, threads=2)
    assert seen == [2]
    assert record.provenance["threads"] == 2
    assert torch.get_num_threads() == before


def test_the_command_says_what_moved_and_stores_one_record_an_environment(
    stored: results.Record, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["drift", "--samples", "2e3"]) == 0
    shown = capsys.readouterr().out
    assert f"PyTorch {torch.__version__}, " in shown
    assert "mnist-aevb-nz2-hidden-8-seed0 differs by 0.000000 nats at most, up to 2,000" in shown
    assert not (tmp_path / "drift").exists()

    assert main(["drift", "--samples", "2e3", "--store"]) == 0
    assert main(["drift", "--samples", "2e3", "--store", "--nudged"]) == 0
    assert main(["drift", "--samples", "2e3", "--store"]) == 0, "in the place of the first"
    records = results.find("drift")
    assert [r.configuration["nudged"] for r in records] == [True, False]
    for record in records:
        assert record.configuration["run"] == RUN
        assert record.provenance["instructions"] == torch.backends.cpu.get_cpu_capability()
        assert record.name.endswith("mnist-aevb-nz2-hidden-8-seed0")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--samples", "4e4"], "samples: expected at most the 30000 of mnist-aevb-nz2-hidden-8"),
        (["--samples", "2e3", "--precision", "half"], "precision: expected one of float32, bf"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    stored: results.Record, given: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["drift", *given]) == 1
    assert message in capsys.readouterr().err


def test_nothing_is_measured_where_one_of_the_runs_cannot_be(
    stored: results.Record, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    short = replace(
        stored,
        name="short",
        curves={name: values[:1] for name, values in stored.curves.items()},
        path=None,
    )
    results.save(short)
    monkeypatch.setattr(drift, "RUNS", (RUN, f"{stored.figure}/short"))
    asked: list[str] = []
    monkeypatch.setattr(drift, "measure", lambda run, *_, **__: asked.append(run))
    last = int(short.curves["samples"][-1])
    assert main(["drift", "--samples", str(last + 1_000)]) == 1
    assert f"expected at most the {last} of short" in capsys.readouterr().err
    assert not asked


def test_a_stored_run_that_is_not_there_or_damaged_is_named(
    stored: results.Record, capsys: pytest.CaptureFixture[str]
) -> None:
    record = drift.measure(RUN, 2_000)
    assert stored.path is not None
    stored.path.write_text(stored.path.read_text().replace("samples", "sample5", 1))
    with pytest.raises(results.RecordError, match="damaged"):
        drift.differences(record)
    stored.path.unlink()
    assert main(["drift"]) == 1
    told = f"{RUN}.json: no such record; it comes with the repository"
    assert told in capsys.readouterr().err


def test_the_books_runs_are_there_where_ones_own_records_are_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AEVB_RESULTS", str(tmp_path))
    run = drift.RUNS[0]
    record = results.load(results.ROOT / "book" / "results" / f"{run}.json")
    measured = replace(record, configuration=record.configuration | {"run": run})
    assert set(drift.differences(measured).values()) == {0.0}


def test_an_environment_is_told_by_what_decides_the_rounding() -> None:
    made = {"torch": "9.9", "processor": "a make", "instructions": "AVX2", "mkl": "", "threads": 1}
    settings = {"precision": "float32", "nudged": False}
    plain = results.Record("drift", "a", settings, {}, made)
    assert drift.environment(plain) == "PyTorch 9.9, a make, AVX2"
    other = replace(
        plain,
        configuration={"precision": "bfloat16", "nudged": True},
        provenance=made | {"mkl": "SSE2", "threads": 2},
    )
    assert drift.environment(other) == (
        "PyTorch 9.9, a make, AVX2, MKL SSE2, 2 threads, bfloat16, one bit changed"
    )


def test_the_committed_runs_are_of_what_is_stored() -> None:
    """Each was measured as the stored run says, but for what makes it another environment."""
    committed = results.ROOT / "book" / "results"
    records = results.find("drift", committed)
    assert records
    free = ("samples", "keep_weights", "precision")
    for record in records:
        base = results.load(committed / f"{record.configuration['run']}.json")
        for name, value in base.configuration.items():
            if name not in free:
                assert record.configuration[name] == value, f"{record.name}: {name}"
