"""What the GPU's benchmark counts; what it measures needs a GPU."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from aevb import data, experiments, gpu_benchmark, training


@pytest.mark.parametrize("latent_dim", [3, 20])
@pytest.mark.parametrize("algorithm", ["aevb", "wake-sleep"])
@pytest.mark.parametrize(("dataset", "pixels"), [("mnist", 784), ("frey-face", 560)])
def test_the_floor_counts_the_operations_of_a_step(
    dataset: str, pixels: int, algorithm: str, latent_dim: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)  # whose products are not counted
    experiment = experiments.LowerBound(dataset, algorithm, latent_dim, warm_up=0)
    x = torch.rand(600, pixels, dtype=torch.float32)
    synthetic = data.Dataset("synthetic", x, x, (28, pixels // 28), "synthetic")
    torch.set_default_dtype(torch.float32)
    state, draw = experiments.start(experiment, synthetic)
    with FlopCounterMode(display=False) as counter:
        experiments.step_of(experiment)(state, next(draw))
    assert counter.get_total_flops() == gpu_benchmark._work(experiment)


@pytest.mark.parametrize(("dataset", "pixels"), [("mnist", 784), ("frey-face", 560)])
def test_the_parameters_are_those_of_the_model(dataset: str, pixels: int) -> None:
    experiment = experiments.LowerBound(dataset, latent_dim=3)
    model = experiments.model_of(experiment, pixels)
    assert gpu_benchmark._parameters(experiment) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("steps", [training.TURN - 1, training.TURN, training.TURN + 10])
def test_the_steps_that_are_timed_are_those_asked_for(steps: int) -> None:
    done: list[int] = []
    recording: Any = SimpleNamespace(repeat=lambda times, silently: done.append(times))
    list(gpu_benchmark._repeated(recording, steps))
    assert sum(done) == steps
    assert max(done) <= training.TURN


def test_the_table_has_a_line_a_group() -> None:
    group = {
        "runs": 10,
        "operations": 665,
        "microseconds": 1126.2,
        "products_floor": 100.3,
        "bytes_floor": 68.6,
        "seconds": 1126.2,
    }
    measured = {"products": 5.1e13, "copied": 3e12, "groups": {"MNIST": group}}
    *_, line = gpu_benchmark.table(measured).splitlines()
    assert line.split() == ["MNIST", "10", "665", "1126", "100", "69", "1126"]
