"""The command line: what it prints, what it refuses, how it ends."""

import argparse
import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from aevb import benchmark, data, experiments, results, sweep
from aevb.__main__ import COMMANDS, main

TINY = [
    "run",
    "figure-2",
    "--preset=smoke",
    "--dataset=frey-face",
    "--algorithm=aevb",
    "--latent-dim=2",
    "--samples=5e3",
    "--hidden=5",
]
DIMS = "error: latent_dim: expected 2, 3, 5, 10, 20 or 200"


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AEVB_RESULTS", str(tmp_path))
    return tmp_path


@pytest.fixture
def frey_face() -> None:
    try:
        data.frey_face()
    except data.DataError as error:
        pytest.skip(f"Frey Face is not there: {error}")


def test_run_trains_once_and_names_the_record(
    records: Path, frey_face: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(TINY) == 0
    first = capsys.readouterr().out
    [path] = (records / "smoke" / "figure-2").glob("*.json")
    record = results.load(path)
    assert first.startswith(f"{path}: test {record.curves['test'][-1]:.2f} nats")
    assert record.configuration["samples"] == 5_000
    assert record.configuration["hidden"] == 5

    before = path.read_bytes()
    assert main(TINY) == 0
    assert "there already" in capsys.readouterr().out
    assert path.read_bytes() == before

    assert main([*TINY, "--force"]) == 0
    again = results.load(path)
    assert again.curves == record.curves


def test_list_tells_what_is_stored(
    records: Path, frey_face: None, capsys: pytest.CaptureFixture[str]
) -> None:
    run = [option for option in TINY if not option.startswith("--hidden")]
    assert main(run) == 0
    capsys.readouterr()
    assert main(["list", "--preset=smoke"]) == 0
    lines = capsys.readouterr().out.splitlines()
    [found] = {line for line in lines if "frey-face-aevb-nz2-" in line}
    assert "5,000 samples" in found
    assert "nats" in found
    assert any("mnist-aevb-nz20-" in line and "no record" in line for line in lines)


@pytest.mark.parametrize("figure", ["figure-2", "figure-3"])
def test_compare_prints_the_rows_that_the_table_shows(
    figure: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", figure, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    keys = "dataset n_train latent_dim algorithm split samples runs ours paper difference"
    assert {tuple(row) for row in rows} == {tuple(keys.split())}
    both = [row for row in rows if row["difference"] is not None and row["dataset"] == "mnist"]
    assert both
    assert all(abs(r["ours"] - r["paper"] - r["difference"]) < 2e-3 for r in both)

    assert main(["compare", figure]) == 0
    assert f"{both[-1]['difference']:+.2f}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["run", "figure-2", "--latent-dim", "7"], f"{DIMS}; found 7\n"),
        (["run", "figure-2", "--latent-dim", "-3"], f"{DIMS}; found -3\n"),
        (
            ["run", "figure-2", "--algorithm", "mcem"],
            "error: algorithm: expected aevb or wake-sleep; found mcem\n",
        ),
        (
            ["run", "figure-2", "--dataset", "frey-face", "--latent-dim", "200"],
            "latent_dim: expected 2, 5, 10 or 20 with dataset frey-face; found 200\n",
        ),
        (
            ["sweep", "--dataset", "frey-face", "--algorithm", "mcem", "--latent-dim", "200"],
            "expected a run with dataset frey-face, algorithm mcem, latent_dim 200, found none\n",
        ),
        (
            ["run", "figure-2", "--dataset", "mnist", "--decoder-variance", "constant"],
            "decoder_variance: expected network on mnist, found 'constant'\n",
        ),
        (
            ["run", "figure-2", "--dataset", "frey-face", "--pixels", "drawn"],
            "pixels: expected gray on frey-face, found 'drawn'\n",
        ),
        (
            ["sweep", "--profile", "nowhere"],
            "profile: expected local, slurm, kubernetes or a folder with a config.yaml; found",
        ),
        (["run", "figure-2", "--estimator", "C"], "found 'C'"),
        (["run", "figure-2", "--step-size", "-1"], "step_size: expected a positive number"),
        (["run", "figure-2", "--samples", "50"], "samples"),
        (["run", "figure-2", "--n-train", "1000"], "figure-2: it has no setting n_train"),
        (["run", "figure-3", "--noise-samples", "2"], "figure-3: it has no setting noise_samples"),
        (
            ["run", "figure-3", "--algorithm", "mcem", "--n-train", "2000"],
            "error: n_train: expected 1000 or 50000; found 2000\n",
        ),
    ],
)
def test_a_wrong_setting_is_refused_by_name_in_one_line(
    arguments: list[str], named: str, records: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert message.startswith("aevb: error: ")
    assert named in message
    assert not list(records.rglob("*.*")), "nothing may be left behind"


@pytest.mark.parametrize("command", [["run", "figure-2"], ["rerun", "x.json"], ["bench"]])
@pytest.mark.parametrize("device", ["abacus", "meta", "", "cuda:99", "hpu", "tpu"])
def test_a_device_that_is_not_there_is_refused(
    command: list[str], device: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([*command, "--device", device])
    message = capsys.readouterr().err.splitlines()[-1]
    there = device.startswith("cuda")
    expected = "cpu, or cuda for a GPU; " if there else f"cpu or cuda, found {device!r}"
    assert f"argument --device: expected {expected}" in message
    assert "privateuseone" not in message, "PyTorch's list of what it knows"


def test_a_processor_by_its_number_is_measured_as_a_processor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record = results.Record("speed", "bench", {"measured": True}, {}, {})
    monkeypatch.setattr(benchmark, "bench", lambda: record)
    assert main(["bench", "--device", "cpu:0", "--json"]) == 0


@pytest.mark.parametrize("text", ["inf", "nan", "1e400", "1.5", "many", ""])
def test_a_number_that_is_not_whole_is_refused(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["run", "figure-2", "--samples", text])
    assert f"argument --samples: expected a whole number, found {text!r}" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["5-3", "-1", "1-x", "one", "0-9-20", ""])
def test_what_is_no_seed_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["list", f"--seed={text}"])
    shown = capsys.readouterr()
    assert f"--seed: expected a seed, or a range such as 0-9; found {text!r}" in shown.err
    assert not shown.out


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["drift", "--threads", "0"], "--threads: expected at least 1, found '0'"),
        (["sweep", "--jobs", "few"], "--jobs: expected a whole number, found 'few'"),
        (["rerun", "x", "--tolerance", "-1"], "--tolerance: expected a number of at least 0, fou"),
        (["rerun", "x", "--tolerance", "nan"], "--tolerance: expected a number of at least 0, fou"),
        (["sweep", "--device", "gpu"], "--device: invalid choice: 'gpu'"),
    ],
)
def test_a_wrong_option_is_refused_by_what_it_expects(
    given: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(given)
    assert message in capsys.readouterr().err


def test_a_sweep_with_a_wrong_profile_is_refused_when_nothing_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sweep, "missing", lambda chosen: [])
    assert main(["sweep", "--profile", "nowhere"]) == 1
    shown = capsys.readouterr()
    assert "profile: expected local, slurm, kubernetes" in shown.err
    assert not shown.out


def test_what_is_no_record_is_not_trained_again(capsys: pytest.CaptureFixture[str]) -> None:
    readme = results.ROOT / "README.md"
    assert main(["rerun", str(readme)]) == 1
    message = capsys.readouterr().err
    assert message == (
        f"aevb: error: {readme}: not a readable record: no JSON at line 1, column 1\n"
    )


@pytest.mark.parametrize("figure", ["figure-2", "figure-3"])
def test_compare_without_runs_says_so_and_how_to_make_them(
    figure: str, records: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", figure, "--preset", "smoke"]) == 0
    shown = capsys.readouterr()
    assert shown.err == (f"aevb: no smoke runs: python -m aevb run {figure} --preset smoke\n")
    assert "mnist" in shown.out, "the paper's rows are printed all the same"


def test_compare_with_runs_says_nothing_beside_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "figure-2"]) == 0
    assert not capsys.readouterr().err


def test_a_record_of_another_kind_is_not_trained_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rerun", str(results.ROOT / "book" / "results" / "speed" / "bench.json")]) == 1
    message = capsys.readouterr().err
    assert (
        message == "aevb: error: bench: figure: expected one of figure-2, figure-3, devices; "
        "found 'speed'\n"
    )


@pytest.mark.parametrize(
    ("name", "samples"),
    [("aevb-n1000", 100_000), ("mcem-n1000", 100_000), ("mcem-n50000", 15 * 50_000)],
)
def test_at_least_one_step_of_a_run_is_made_again(
    name: str, samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def noted(record: results.Record, samples: int, **settings: str) -> dict[str, float]:
        asked.append(samples)
        return {"test": 0.0}

    monkeypatch.setattr(experiments, "rerun", noted)
    record = results.ROOT / "book" / "results" / "figure-3" / f"{name}-seed0.json"
    assert main(["rerun", str(record)]) == 0
    assert asked == [samples]


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["drift"], "aevb: interrupted\n"),
        (["list"], "aevb: interrupted\n"),
        (["run", "figure-2"], "interrupted; the same command goes on from the checkpoint\n"),
        (["sweep"], "interrupted; the same command goes on from the checkpoint\n"),
    ],
)
def test_an_interruption_promises_no_more_than_there_is(
    command: list[str],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(options: argparse.Namespace) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(COMMANDS, command[0], interrupted)
    assert main(command) == 130
    assert capsys.readouterr().err.endswith(told)


def test_who_has_read_enough_of_a_list_is_told_nothing() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "aevb", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.communicate()[1] == b""


@pytest.mark.parametrize("arguments", [[], ["run"], ["run", "figure-9"], ["frobnicate"]])
def test_a_wrong_command_ends_with_status_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "usage: aevb" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("--hmc-step-size 1e-46", "hmc_step_size: expected a positive number that float32 holds"),
        ("--initial-std 1e300", "position: expected a finite log density and gradient"),
        ("--step-size 1e30 --warm-up 0", "model: expected a log joint density that is a number"),
    ],
)
def test_monte_carlo_em_that_cannot_go_on_is_one_line_and_status_1(
    given: str,
    told: str,
    records: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    x = torch.rand(1_000, 20, dtype=torch.float32, generator=torch.Generator().manual_seed(0))
    synthetic = data.Dataset("synthetic", x, x, (4, 5), "synthetic")
    monkeypatch.setattr(data, "mnist", lambda: synthetic)
    torch.set_default_dtype(torch.float32)
    panel = "--preset smoke --algorithm mcem --n-train 1000 --samples 30000"
    small = "--hidden 5 --evaluated 5 --candidates 64"
    assert main(["run", "figure-3", *f"{panel} {small} {given}".split()]) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith(f"aevb: error: {told}")


def test_a_damaged_record_is_one_line_and_status_1(
    records: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = results.find("figure-2", results.ROOT / "book" / "results")[0]
    target = records / "figure-2" / stored.path.name
    target.parent.mkdir(parents=True)
    target.write_bytes(stored.path.read_bytes().replace(b"0", b"1", 1))
    assert main(["compare", "figure-2"]) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert str(target) in message


def test_absent_data_is_one_line_and_status_1(tmp_path: Path) -> None:
    environment = {"AEVB_DATA": str(tmp_path / "none"), "AEVB_RESULTS": str(tmp_path / "records")}
    done = subprocess.run(
        [sys.executable, "-m", "aevb", *TINY],
        env={"PATH": "/usr/bin", **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "frey_rawface.mat" in done.stderr


def test_a_full_disk_is_one_line_and_leaves_the_old_record(
    records: Path,
    frey_face: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(TINY) == 0
    [path] = (records / "smoke" / "figure-2").glob("*.json")
    before = path.read_bytes()
    capsys.readouterr()

    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    assert main([*TINY, "--force"]) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "No space left on device" in message
    assert path.read_bytes() == before
    assert not list(records.rglob("*.partial"))


@pytest.mark.parametrize("command", ["data", "list", "run", "sweep", "compare"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    assert len(capsys.readouterr().out.splitlines()) > 4


def test_the_help_says_what_each_setting_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit, match="0"):
        main(["run", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for line in (
        "--samples N training samples to evaluate in all, such as 1e7",
        "--step-size X Adagrad's step size",
        "--estimator {A,B} of the lower bound: A (eq. 6) or B (eq. 7)",
        "--prior {True,False} whether the parameters have a prior",
        "--precision {float32,bfloat16} of the matrix products",
        "--pixels {gray,drawn,thresholded} MNIST: what its gray values become",
        "--decoder-variance {network,floored,constant} Frey Face: the decoder's variance",
        "--start {resampled,persistent} Figure 3: how an estimate's chains start",
    ):
        assert line in shown
    with pytest.raises(SystemExit, match="0"):
        main(["compare", "--help"])
    assert "whose runs (default paper)" in capsys.readouterr().out


def test_the_console_script_is_the_module() -> None:
    script = shutil.which("aevb", path=str(Path(sys.executable).parent))
    assert script is not None
    shown = subprocess.run([script, "--help"], capture_output=True, text=True, check=True).stdout
    for name in ("data", "list", "run", "sweep", "compare"):
        assert f"\n    {name}" in shown


def test_data_without_frey_face_warns_and_succeeds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fetch(path: Path | None = None, *, names: list[str], progress: bool = True) -> list[str]:
        if "frey-face" in names:
            raise data.DataError("frey_rawface.mat: no source has it")
        return ["mnist: there already"]

    monkeypatch.setattr(data, "fetch", fetch)
    assert main(["data"]) == 0
    shown = capsys.readouterr()
    assert "mnist: there already" in shown.out
    assert "frey_rawface.mat" in shown.err
    assert "warning" in shown.err

    def fail(path: Path | None = None, *, names: list[str], progress: bool = True) -> list[str]:
        raise data.DataError("train-images: no source has it")

    monkeypatch.setattr(data, "fetch", fail)
    assert main(["data"]) == 1
    assert "train-images" in capsys.readouterr().err


def test_only_the_named_runs_are_trained(
    records: Path, frey_face: None, capsys: pytest.CaptureFixture[str]
) -> None:
    several = [option for option in TINY if not option.startswith("--latent-dim")]
    names = [f"frey-face-aevb-nz{n}-hidden-5-seed{seed}" for n, seed in ((2, 4), (5, 3))]
    assert main([*several, "--latent-dim", "2", "5", "--seed", "3-4", "--only", *names]) == 0
    capsys.readouterr()
    assert sorted(file.stem for file in records.rglob("*.json")) == names
    assert main([*several, "--latent-dim=2", "--only", "nz7"]) == 1
    assert "figure-2: only: expected one of frey-face-aevb-nz2-hid" in capsys.readouterr().err


def test_a_record_of_another_configuration_is_trained_again(
    records: Path, frey_face: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(TINY) == 0
    [path] = records.rglob("*.json")
    before = results.load(path)
    other = dataclasses.replace(before, configuration=before.configuration | {"warm_up": 3})
    results.save(dataclasses.replace(other, path=None), records / "smoke")
    assert main(TINY) == 0
    assert results.load(path).configuration == before.configuration
