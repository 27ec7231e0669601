"""A VAE for an array of one's own."""

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import aevb
from aevb import own_data, training


def bars(n: int = 200) -> torch.Tensor:
    """Synthetic: images of 4 by 4, each with one dark row."""
    rows = torch.arange(n) % 4
    return torch.eye(4)[rows].repeat_interleave(4, dim=1)


SMALL = {"hidden": 20, "minibatch": 20, "samples": 12_000, "step_size": 0.1}


def test_it_learns_what_can_be_known() -> None:
    # Four kinds of rows: no model has a bound above log(1/4), up to the noise, and one that
    # ignores z is at the sum of 16 pixels that are each on once in four.
    model, history = own_data.fit(bars(), test=bars(8), **SMALL)
    blind = 16 * (0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    noise = torch.Generator().manual_seed(1)
    assert blind + 2 < history.curves["test"][-1]
    assert training.lower_bound(model, bars(), noise) < np.log(0.25) + 0.5
    assert history.samples[-1] == 12_000


def test_a_numpy_array_does_as_well_and_the_same_seed_gives_the_same_bits() -> None:
    torch.manual_seed(3)
    first = own_data.fit(bars().numpy(), **SMALL)
    torch.manual_seed(4)
    second = own_data.fit(bars(), **SMALL | {"hidden": np.int64(SMALL["hidden"])})
    other = own_data.fit(bars(), seed=1, **SMALL)
    third = own_data.fit(bars(), seed=np.int64(1), **SMALL)
    assert first.history.curves == second.history.curves
    assert first.history.curves != other.history.curves
    assert third.history.curves == other.history.curves


def test_an_array_that_must_not_be_written_to_is_no_matter(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", bars().numpy())
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch's, of undefined behavior
        own_data.fit(x, test=x[:1], **SMALL | {"samples": 40})


def test_the_global_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    own_data.fit(bars(), **SMALL | {"samples": 40})
    assert torch.equal(torch.get_rng_state(), before)


def test_continuous_values() -> None:
    x = torch.rand(100, 3, generator=torch.Generator().manual_seed(0)) * 0.01 + 0.5
    _, history = own_data.fit(x, likelihood="gaussian", latent_dim=1, **SMALL)
    assert history.curves["train_running"][-1] > history.curves["train_running"][0]


@pytest.mark.parametrize(
    ("x", "complaint"),
    [
        (torch.ones(10, 2, 2), r"x: expected shape \(N, D\), found \(10, 2, 2\)"),
        (torch.ones(10), r"x: expected shape \(N, D\), found \(10,\)"),
        (torch.ones(10, 0), r"x: expected shape \(N, D\), found \(10, 0\)"),
        (torch.ones(1, 4), "x: expected at least 2 rows, found 1"),
        (torch.full((4, 2), 255.0), r"x: expected values in \[0, 1\], found 255 to 255"),
        (torch.tensor([[0.0], [-1.0]]), r"x: expected values in \[0, 1\], found -1 to 0"),
        (torch.tensor([[0.0], [torch.nan]]), "x: expected finite values, found another in row 1"),
        (torch.tensor([[torch.inf], [0.0]]), "x: expected finite values, found another in row 0"),
    ],
)
def test_an_array_that_will_not_do_is_refused(x: torch.Tensor, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        own_data.fit(x)


def test_bytes_are_refused_with_the_remedy() -> None:
    with pytest.raises(TypeError, match=r"found torch\.uint8; of bytes, divide by 255"):
        own_data.fit(np.zeros((10, 4), dtype=np.uint8))


@pytest.mark.parametrize("x", [None, np.array([["a"]]), [[0.0], [0.0, 1.0]]])
def test_what_is_no_array_of_numbers_is_refused(x: object) -> None:
    with pytest.raises(TypeError, match="x: expected an array of numbers in"):
        own_data.fit(x)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"likelihood": "poisson"}, "likelihood: expected one of bernoulli, gaussian"),
        ({"latent_dim": 0}, "latent_dim: expected an integer of at least 1, found 0"),
        ({"minibatch": 10.0}, r"minibatch: expected an integer of at least 1, found 10\.0"),
        ({"hidden": "a"}, "hidden: expected an integer of at least 1, found 'a'"),
        ({"samples": True}, "samples: expected an integer of at least 1, found True"),
        ({"likelihood": ["gaussian"]}, r"likelihood: expected one of .*, found \['gaussian'\]"),
        ({"seed": 0.5}, r"seed: expected an integer from 0 to 4294967295, found 0\.5"),
        ({"seed": 2**70}, f"seed: expected an integer from 0 to 4294967295, found {2**70}"),
        ({"seed": -1}, "seed: expected an integer from 0 to 4294967295, found -1"),
        ({"step_size": "a"}, "step_size: expected a positive number, found 'a'"),
        ({"step_size": -1}, "step_size: expected a positive number, found -1"),
        ({"step_size": np.inf}, "step_size: expected a positive number, found inf"),
        ({"step_size": np.nan}, "step_size: expected a positive number, found nan"),
        ({"samples": 10}, "samples: expected at least one step of 100, found 10"),
        ({"test": torch.ones(0, 16)}, "test: expected at least 1 rows, found 0"),
        ({"test": torch.ones(4, 3)}, "test: expected rows of 16 values, as in x, found 3"),
        ({"test": torch.ones(4, 16) * 2}, "test: expected values in"),
    ],
)
def test_a_setting_that_will_not_do_is_refused(settings: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        own_data.fit(bars(), **settings)


def test_a_module_is_imported_when_it_is_first_used() -> None:
    code = (
        "import sys, aevb\n"
        "assert 'torch' not in sys.modules\n"
        "assert aevb.own_data.fit and 'aevb.own_data' in sys.modules\n"
        "assert aevb.marginal_likelihood.importance.importance_sampling\n"
        "assert aevb.marginal_likelihood.annealed.annealed_importance_sampling\n"
        "assert aevb.marginal_likelihood.quadrature.quadrature\n"
        "assert 'inverse_cdf' in dir(aevb.reparameterization)\n"
        "assert aevb.reparameterization.inverse_cdf.Rayleigh\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = aevb.nothing
    with pytest.raises(AttributeError, match=r"'aevb\.reparameterization' has no attribute 'no'"):
        _ = aevb.reparameterization.no
    assert {"models", "own_data", "__version__"} <= set(dir(aevb))
