"""What the benchmark compares is comparable. How fast it is, no test asserts."""

import itertools
import json
import math
import time

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from aevb import auto_encoding, benchmark, contenders, data, experiments, results
from aevb.__main__ import main
from aevb.experiments import LowerBound


def flops(step: object) -> int:
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


@pytest.fixture
def synthetic(monkeypatch: pytest.MonkeyPatch) -> data.Dataset:
    pixels = torch.rand(400, 784, generator=torch.Generator().manual_seed(5)).float()
    made = data.Dataset("synthetic", pixels[:300], pixels[300:], (28, 28), "synthetic")
    monkeypatch.setattr(data, "mnist", lambda path=None: made)
    return made


@pytest.mark.parametrize("latent_dim", [3, 20])
def test_the_products_are_those_of_a_step(synthetic: data.Dataset, latent_dim: int) -> None:
    experiment = LowerBound("mnist", "aevb", latent_dim)
    state, draw = experiments.start(experiment, synthetic)
    expected = flops(lambda: auto_encoding.step(state, next(draw)))
    assert flops(contenders.products(experiment, 784)) == expected
    assert flops(contenders.plain_loop(synthetic.train, latent=latent_dim)) == expected


def test_the_products_of_a_gaussian_decoder() -> None:
    experiment = LowerBound("frey-face", "aevb", 2, minibatch=10)
    pixels = torch.rand(40, 560).float()
    faces = data.Dataset("synthetic", pixels, pixels, (28, 20), "synthetic")
    state, draw = experiments.start(experiment, faces)
    expected = flops(lambda: auto_encoding.step(state, next(draw)))
    assert flops(contenders.products(experiment, 560)) == expected


def test_the_plain_loop_trains(synthetic: data.Dataset) -> None:
    step = contenders.plain_loop(synthetic.train[:, :30], hidden=20, latent=2)
    losses = [step() for _ in range(200)]
    assert sum(losses[-20:]) < sum(losses[:20])


def test_candidates_take_turns_and_the_median_counts() -> None:
    turns = []

    def candidate(name: str, seconds: float) -> object:
        return lambda: (turns.append(name), time.sleep(seconds))

    slow, fast = candidate("slow", 0.004), candidate("fast", 0.001)
    found = benchmark.interleaved({"slow": slow, "fast": fast}, 0.004, 3)
    assert found["slow"] >= 4.0  # a sleep is never shorter than asked for
    assert found["fast"] >= 1.0
    measured = "".join(name[0] for name in turns[8:])  # after the calls that find out how many
    assert measured.startswith("s")
    assert measured.endswith("f")
    assert sum(a != b for a, b in itertools.pairwise(measured)) == 5


def test_a_loop_that_is_compiled_as_a_whole_is_timed_by_the_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(benchmark, "STEPS", {"loop": 10})
    sleeps = dict.fromkeys(("loop", "step"), lambda: time.sleep(0.02))
    found = benchmark.interleaved(sleeps, 0.02, 1)
    assert found["loop"] >= 2.0
    assert found["loop"] < found["step"] / 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "module"), [("Pyro", "pyro"), ("pythae", "pythae"), ("NumPyro", "numpyro")]
)
def test_another_library_trains(name: str, module: str, synthetic: data.Dataset) -> None:
    pytest.importorskip(module, reason="in the extra `peers`")
    torch.set_default_dtype(torch.float32)
    step = contenders.peers(synthetic.train)[name]
    losses = [torch.as_tensor(step()).sum().item() for _ in range(3)]
    assert all(map(math.isfinite, losses))


MEASURED = {
    "share_of_gemm": 0.8,
    "ratio_to_plain_loop": 1.5,
    "step": {"products": 4.0, "plain loop": 7.5, "repeated, silent": 5.0},
    "rates": {"figure-2": {"a-curve": 20_000.0}},
    "hours": {"figure-2": 12.0},
    "likelihood": {"seconds_per_1000_points": 4.5},
    "beside": {"two_runs_to_one": 1.9},
    "start_up": {"import_torch": 1.0},
}


def test_the_table_says_what_was_measured() -> None:
    text = benchmark.table(MEASURED)
    line = next(line for line in text.splitlines() if line.startswith("repeated, silent"))
    assert line.split()[-4:] == ["5.00", "20,000", "80%", "1.50"]
    assert "figure-2: 12 hours" in text
    assert "20,000" in next(line for line in text.splitlines() if "a-curve" in line)
    assert "seconds per 1000 points" in text


def test_bench_prints_json_and_keeps_a_record(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AEVB_RESULTS", str(tmp_path))
    record = results.Record("speed", "bench", MEASURED, {}, {"device": "cpu"})
    monkeypatch.setattr(benchmark, "bench", lambda: record)
    assert main(["bench", "--json", "--store"]) == 0
    assert json.loads(capsys.readouterr().out) == MEASURED
    assert results.find("speed")[0].configuration == MEASURED


@pytest.mark.slow
def test_everything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        data.mnist()
        data.frey_face()
    except data.DataError as error:
        pytest.skip(f"the data are not there: {error}")
    monkeypatch.setattr(benchmark, "_side_by_side", lambda: {"two_runs_to_one": 2.0})
    measured = benchmark.bench(seconds=0.01, rounds=1).configuration
    curves = {e.name for e in experiments.grid("figure-2")}
    assert measured["rates"]["figure-2"].keys() == curves
    assert measured["share_of_gemm"] > 0
    assert measured["hours"]["figure-2"] > measured["hours"]["figure-3"] > 0
    assert benchmark.table(measured)


def test_a_library_that_is_not_there_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(train: object) -> object:
        raise ImportError("no such library")

    monkeypatch.setattr(
        contenders, "_PEERS", {"absent": absent, "there": lambda train: nn.Identity}
    )
    assert list(contenders.peers(torch.rand(3, 4))) == ["there"]
