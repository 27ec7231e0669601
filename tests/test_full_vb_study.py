"""The study of Appendix F: what a run measures, on images that stand in for MNIST."""

import dataclasses
from typing import Any

import pytest
import torch
from known_answers import assert_mean

from aevb import bayesian, data, full_vb_study, mlp, models, results, training
from aevb.divergence import gaussian_kl
from aevb.experiments import ExperimentError
from aevb.full_vb_study import WeightUncertainty, grid, measure


@pytest.fixture(autouse=True)
def synthetic(monkeypatch: pytest.MonkeyPatch) -> data.Dataset:
    generator = torch.Generator().manual_seed(21)
    pixels = torch.rand(250, 20, generator=generator, dtype=torch.float32)
    made = data.Dataset("synthetic", pixels[:200], pixels[200:], (4, 5), "synthetic")
    monkeypatch.setattr(data, "mnist", lambda: made)
    return made


def small(algorithm: str = "full-vb", **changed) -> WeightUncertainty:
    usual = {"n_train": 120, "hidden": 4, "latent_dim": 2, "preset": "smoke"}
    return WeightUncertainty(algorithm, **usual | changed)


OF_BOTH = {"samples", "train_mean", "test_mean", "test_average", "test_predictive", "train_running"}
OF_THE_POSTERIOR = {"evidence", "divergence", "in_use"} | {"units_in_use", "input_in_use"}
OF_THE_POSTERIOR |= {"input_idle", "test_mean_predictive"} | {
    f"in_use: {layer}.{kind}" for layer in ("hidden", "logits") for kind in ("weight", "bias")
}


@pytest.mark.parametrize("algorithm", ["map", "full-vb"])
def test_a_run_is_a_record(algorithm: str, tmp_path, monkeypatch) -> None:
    settings = small(algorithm)
    monkeypatch.setenv("AEVB_RESULTS", str(tmp_path))
    with pytest.raises(results.RecordError):
        full_vb_study.stored(settings)

    curves = measure(settings)

    more = OF_THE_POSTERIOR if algorithm == "full-vb" else set()
    assert set(curves) == OF_BOTH | more
    assert len({len(curve) for curve in curves.values()}) == 1
    assert curves["samples"][0] == 100
    assert curves["samples"][-1] == 2_000
    assert curves["train_mean"][-1] > curves["train_mean"][0]
    record = results.Record(
        settings.figure, settings.name, dataclasses.asdict(settings), curves, {}
    )
    results.save(record, results.folder("smoke"))
    assert full_vb_study.stored(settings).curves == curves


def test_the_seed_decides_the_run() -> None:
    assert measure(small()) == measure(small())
    assert measure(small()) != measure(small(seed=1))


def test_looking_does_not_change_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    often = measure(small())
    monkeypatch.setattr(training, "schedule", lambda total, per_step, **_: [per_step, total])
    seldom = measure(small())
    for name in ("train_mean", "test_predictive", "divergence"):
        assert often[name][-1] == seldom[name][-1]


def test_both_algorithms_start_with_the_same_weights() -> None:
    settings, train = small(), data.mnist().train
    starts = [
        full_vb_study.ALGORITHMS[name](settings, train, torch.Generator().manual_seed(0))[1].model
        for name in ("map", "full-vb")
    ]
    for name, tensor in starts[0].named_parameters():
        assert torch.equal(tensor, dict(starts[1].named_parameters())[name])


def test_both_give_the_recognition_model_the_same_prior() -> None:
    for name, decayed in (("map", 10), ("full-vb", 6)):
        _, state = full_vb_study.ALGORITHMS[name](
            small(), data.mnist().train[:120], torch.Generator()
        )
        groups = [g for g in state.optimizer.param_groups if g["weight_decay"]]
        assert [g["weight_decay"] for g in groups] == [100 / 120]
        assert sum(len(g["params"]) for g in groups) == decayed


def evaluated(model: models.LatentVariableModel) -> dict[str, float]:
    images = data.mnist()
    return full_vb_study._evaluate(0, images.train[:50], images.test, 120, model, 100)


def vae() -> models.VAE:
    model = models.bernoulli_vae(20, 4, 2).float()
    mlp.initialize(model, torch.Generator().manual_seed(0), 0.5)
    return model


def test_a_point_estimate_has_no_width() -> None:
    # Float32: what is added to a weight vanishes, and the average over theta is the bound at it.
    model = vae()
    wide = bayesian.BayesianModel(model, 0.5)
    theta = wide.approximate_posterior.mean
    narrow = bayesian.BayesianModel(model, full_vb_study.NO_WIDTH).approximate_posterior
    assert torch.equal(narrow.sample(), theta)
    point, spread = evaluated(model), evaluated(wide)
    assert point["test_mean"] == spread["test_mean"]
    assert point["test_average"] > spread["test_average"] + 0.5
    assert point["test_average"] == pytest.approx(point["test_mean"], abs=0.5)
    assert point["test_predictive"] > point["test_average"]
    assert spread["test_mean_predictive"] == pytest.approx(point["test_predictive"], abs=0.5)
    assert spread["test_mean_predictive"] > spread["test_predictive"]


def test_the_weights_in_use_are_counted() -> None:
    model = bayesian.BayesianModel(vae(), 1.0)
    with torch.no_grad():
        for tensor in model.inferred.values():
            tensor.zero_()
    assert evaluated(model)["in_use"] == 0
    assert evaluated(model)["divergence"] == 0
    with torch.no_grad():
        model.inferred["logits.weight"][:, 0] = 0.15  # 0.011 nats for 20 of the 80
        model.inferred["hidden.bias"][:2] = 0.14  # 0.0098 nats: not enough

    values = evaluated(model)

    assert values["in_use: logits.weight"] == pytest.approx(0.25)
    assert values["in_use: hidden.bias"] == 0
    assert values["in_use"] == pytest.approx(20 / model.log_scale.numel())
    kl = gaussian_kl(model.approximate_posterior).item() / 120
    assert values["divergence"] == pytest.approx(kl, rel=1e-5)


def test_the_units_in_use_and_what_they_receive() -> None:
    model = bayesian.BayesianModel(vae(), 1.0)
    with torch.no_grad():
        for tensor in model.inferred.values():
            tensor.zero_()
        model.inferred["logits.weight"][:11, 0] = 1.0  # unit 0: eleven of its twenty
        model.inferred["logits.weight"][:10, 1] = 1.0  # unit 1: not most
        model.log_scale[: 4 * 2 + 4] = -20.0  # what enters the units
        model.inferred["hidden.weight"][0] = torch.tensor([3.0, 0.0])
        model.inferred["hidden.bias"][0] = 4.0
        model.inferred["hidden.bias"][1] = 3.0

    values = evaluated(model)

    assert values["units_in_use"] == 1
    assert values["input_in_use"] == pytest.approx(5.0)  # 3^2 + 4^2
    assert values["input_idle"] == pytest.approx(3**0.5)  # the mean of 9, 0 and 0
    z = torch.randn(100_000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    received = z @ model.inferred["hidden.weight"].T + model.inferred["hidden.bias"]
    assert_mean(received[:, 0].detach().square(), 25.0)
    with torch.no_grad():
        model.inferred["logits.weight"].fill_(1.0)
    assert evaluated(model)["input_idle"] == 0


def test_the_evidence_is_the_average_bound_less_the_divergence() -> None:
    images = data.mnist()
    values = evaluated(bayesian.BayesianModel(vae(), 0.05))
    again = full_vb_study._evaluate(
        0, images.train[:50], images.train[:50], 120, bayesian.BayesianModel(vae(), 0.05), 100
    )
    expected = again["test_average"] - values["divergence"]
    assert values["evidence"] == pytest.approx(expected, abs=0.5)  # the noise differs


def test_the_grid_has_every_run_once_and_each_a_name_of_its_own() -> None:
    for preset in full_vb_study.SAMPLES:
        names = [settings.name for settings in grid(preset)]
        assert len(set(names)) == len(names) == 10
    assert grid()[0].name == "map-n100-seed0"
    assert WeightUncertainty(initial_scale=1.0, seed=2).name == (
        "full-vb-n1000-initial-scale-1.0-seed2"
    )


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"algorithm": "mle"}, "^algorithm: expected one of full-vb, map; found 'mle'$"),
        ({"optimizer": "sgd"}, "^optimizer: expected one of adam, adagrad; found 'sgd'$"),
        ({"preset": "slow"}, "^preset: expected one of smoke, quick, paper; found 'slow'$"),
        ({"algorithm": ["map"]}, "^algorithm: expected one of full-vb, map; found"),
        ({"n_train": 0}, "^n_train: expected an integer from 1 to 50000, found 0$"),
        ({"n_train": 1.5}, "^n_train: expected an integer from 1 to 50000, found 1.5$"),
        ({"n_train": 60_000}, "^n_train: expected an integer from 1 to 50000, found 60000$"),
        ({"latent_dim": True}, "^latent_dim: expected an integer of at least 1, found True$"),
        ({"hidden": 10**7}, "^hidden: expected an integer of at most 1000000, found 10000000$"),
        ({"sharing": 0}, "^sharing: expected an integer of at least 1, found 0$"),
        ({"sharing": 7}, "^sharing: expected a divisor of the minibatch, 100, found 7$"),
        ({"samples": -5}, "^samples: expected an integer of at least 0, found -5$"),
        ({"samples": 10}, "^samples: expected at least one step of 100, found 10$"),
        ({"seed": -1}, "^seed: expected an integer of at least 0, found -1$"),
        ({"seed": 2**32}, "^seed: expected an integer of at most 4294967295, found 4294967296$"),
        ({"step_size": -1}, "^step_size: expected a positive number, found -1$"),
        ({"initial_scale": 0.0}, "^initial_scale: expected a positive number, found 0.0$"),
    ],
)
def test_what_cannot_be_run_is_refused(wrong: dict[str, Any], expected: str) -> None:
    with pytest.raises(ExperimentError, match=expected):
        WeightUncertainty(**wrong)


def test_what_is_not_used_is_not_refused() -> None:
    assert small("map", minibatch=25).sharing == 10  # shares no draws
    assert small(step_size=1).name == small(step_size=1.0).name
    assert measure(small(seed=2**32 - 1, samples=100))["samples"] == [100]


def test_a_grid_of_no_preset_is_refused() -> None:
    with pytest.raises(
        ExperimentError, match=r"^preset: expected one of smoke, quick, paper; found 'pa"
    ):
        grid("papr")
