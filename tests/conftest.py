r"""What all tests share: precision, seeds, threads and the device.

Every test runs in float64, so that an identity can be checked to rounding, and inside a fork of
the random state, so that no test changes what another draws.

Random tests
------------
A test that compares an estimate with what it estimates

* sets its own seed, by a generator that it makes itself, so that it passes always or never;
* takes its tolerance from the standard error: for a mean of :math:`n` draws whose sample standard
  deviation is :math:`s`, that is :math:`k s / \sqrt{n}`, and never a number found by trying;
* says its :math:`k`. Were the seed free, a test at :math:`k = 4` would fail with correct code once
  in 16,000 times, at :math:`k = 5` once in 1.7 million (two-sided, by the normal law). A test of
  :math:`m` numbers fails up to :math:`m` times as often.

A seed that passes is not chosen: where the first one fails, the code or the tolerance is wrong.
"""

import os

# Before torch: it reads them once. One thread is also what makes sums bit-equal across runs.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ.setdefault("MPLBACKEND", "Agg")

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import torch

torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parent.parent


# Generated examples: some at every run, always the same; with --hypothesis-profile=hunt 10,000 that
# nobody has seen before. Nothing is kept from one run for the next.
hypothesis.settings.register_profile(
    "always",
    max_examples=100,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
hypothesis.settings.register_profile(
    "hunt",
    hypothesis.settings.get_profile("always"),
    max_examples=10_000,
    derandomize=False,
)
hypothesis.settings.load_profile("always")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="where the `device` fixture's tests run")
    parser.addoption("--kills", type=int, default=10, help="how often a run is killed")


def pytest_configure(config: pytest.Config) -> None:
    try:
        torch.zeros(1, device=config.getoption("--device"))
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise pytest.UsageError(f"--device {config.getoption('--device')}: {reason}") from None


@pytest.fixture
def device(request: pytest.FixtureRequest) -> torch.device:
    """The device named on the command line."""
    return torch.device(request.config.getoption("--device"))


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(autouse=True)
def own_random_state() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
