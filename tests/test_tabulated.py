"""Section 2.4: the approximate inverse CDF, on laws whose exact one SciPy or algebra knows."""

import itertools
import math
import re

import pytest
import torch
from known_answers import assert_mean
from scipy import special, stats
from torch import Tensor

from aevb.reparameterization.approximate import Tabulated

CIRCLE = (-math.pi, math.pi)


def von_mises(z: Tensor, loc: Tensor, concentration: Tensor) -> Tensor:
    return concentration * torch.cos(z - loc)


def tabulated(panels: int = 256, loc: object = 0.5, concentration: object = 2.0) -> Tabulated:
    given = {"loc": loc, "concentration": concentration}
    return Tabulated(von_mises, CIRCLE, given, panels=panels)


def exact(z: Tensor) -> Tensor:
    law = stats.vonmises(2.0, loc=0.5)
    return torch.as_tensor(law.cdf(z.numpy()) - law.cdf(-math.pi))


@pytest.mark.parametrize("panels", [16, 64, 256])
def test_the_stated_error_is_the_error(panels: int) -> None:
    q = tabulated(panels)
    u = torch.linspace(1e-4, 1 - 1e-4, 20_001)
    found = (exact(q.g(u)) - u).abs().max().item()
    assert found == pytest.approx(q.error, rel=0.2)


def test_the_error_falls_with_the_fourth_power() -> None:
    errors = [tabulated(panels).error for panels in (64, 128, 256)]
    for coarse, fine in itertools.pairwise(errors):
        assert coarse / fine == pytest.approx(16, rel=0.1)
    assert errors[-1] < 1e-8


def test_a_uniform_density_is_inverted_exactly() -> None:
    q = Tabulated(lambda z, height: 0 * z + height, (-1.0, 3.0), {"height": 5.0}, panels=7)
    u = torch.tensor([1e-9, 0.2, 0.5, 1 - 1e-9])
    torch.testing.assert_close(q.g(u), 4 * u - 1, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(q.log_prob(u).exp(), torch.full((4,), 0.25))
    assert q.error < 1e-14


def test_the_density_is_normalized() -> None:
    z = torch.tensor([-3.0, 0.0, 2.0, 4.0])
    expected = torch.tensor(stats.vonmises(2.0, loc=0.5).logpdf(z))
    torch.testing.assert_close(tabulated().log_prob(z)[:3], expected[:3])
    assert tabulated().log_prob(z)[3] == -math.inf


def test_the_distribution_function_has_a_table_that_ends_at_0_and_1() -> None:
    ends = tabulated().cdf(torch.tensor(CIRCLE))
    torch.testing.assert_close(ends, torch.tensor([0.0, 1.0]))


def test_outside_of_the_support_it_is_0_and_1() -> None:
    outside = torch.tensor([-1e3, -4.0, 4.0, 1e3])
    torch.testing.assert_close(
        tabulated().cdf(outside), torch.tensor([0.0, 0.0, 1.0, 1.0]), rtol=0, atol=1e-15
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("end", [1.0, 8.0, 20.0])
def test_every_draw_is_a_number_inside_the_support(end: float, dtype: torch.dtype) -> None:
    scale = torch.ones((), dtype=dtype, requires_grad=True)
    q = Tabulated(lambda z, scale: -0.5 * (z / scale) ** 2, (-end, end), {"scale": scale})
    eps = torch.finfo(dtype).eps
    u = torch.tensor([eps / 4, eps / 2, 0.3, 1 - 1e-6, 1 - eps, 1 - eps / 2], dtype=dtype)
    z = q.g(u)
    assert ((z >= -end) & (z <= end)).all()
    assert (z.diff() >= 0).all()
    assert q.log_prob(z).isfinite().all()
    (gradient,) = torch.autograd.grad(z.sum(), scale)
    assert gradient.isfinite()
    torch.testing.assert_close(q.cdf(z), u, rtol=0, atol=2 * eps)


@pytest.mark.parametrize("name", ["loc", "concentration"])
def test_the_gradient_of_a_draw_keeps_u_fixed(name: str) -> None:
    # Against a difference of two inversions, each to rounding.
    u = torch.tensor([0.01, 0.3, 0.6, 0.98])
    start = {"loc": 0.5, "concentration": 2.0}
    value = torch.tensor(start[name], requires_grad=True)
    z = tabulated(**{**start, name: value}).g(u)
    gradient = torch.stack([torch.autograd.grad(each, value, retain_graph=True)[0] for each in z])
    upper, lower = (tabulated(**{**start, name: start[name] + h}).g(u) for h in (1e-5, -1e-5))
    torch.testing.assert_close(gradient, (upper - lower) / 2e-5, rtol=1e-5, atol=1e-7)


def test_pathwise_gradients_are_those_of_the_expectation() -> None:
    # E[cos z] = A(k) cos(loc), E[sin z] = A(k) sin(loc), A = I_1 / I_0.
    n, loc, k = 20_000, 0.5, 2.0
    ratio = special.iv(1, k) / special.iv(0, k)
    slope = 1 - ratio / k - ratio**2
    where = {"loc": torch.tensor(loc), "concentration": torch.tensor(k)}
    q = tabulated(**{name: value.requires_grad_() for name, value in where.items()})
    z = q.rsample((n,), torch.Generator().manual_seed(0))

    def by_draw(f, name: str) -> Tensor:
        # The implicit formula, written out: -(dF / d phi) / p.
        (tangent,) = torch.autograd.functional.jvp(
            lambda value: tabulated(**{**where, name: value}).cdf(z.detach()),
            where[name].detach(),
            torch.tensor(1.0),
        )[1:]
        at = z.detach().requires_grad_()
        (outer,) = torch.autograd.grad(f(at).sum(), at)
        return -outer * tangent / q.log_prob(z).exp().detach()

    exact_slopes = {
        "loc": (-ratio * math.sin(loc), ratio * math.cos(loc)),
        "concentration": (slope * math.cos(loc), slope * math.sin(loc)),
    }
    for name, slopes in exact_slopes.items():
        for f, expected in zip((torch.cos, torch.sin), slopes, strict=True):
            assert_mean(by_draw(f, name), expected)
            (found,) = torch.autograd.grad(f(z).mean(), where[name], retain_graph=True)
            torch.testing.assert_close(found, by_draw(f, name).mean())


def test_shapes_dtype_and_generator() -> None:
    q = tabulated(loc=torch.tensor(0.5, dtype=torch.float32))
    z = q.rsample((3, 2), torch.Generator().manual_seed(1))
    assert z.shape == q.log_prob(z).shape == (3, 2)
    assert z.dtype == torch.float32
    assert torch.equal(z, q.rsample((3, 2), torch.Generator().manual_seed(1)))
    assert q.error < 1e-6


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Tabulated(von_mises, (1.0, -1.0), {"loc": 0.0, "concentration": 1.0}),
            "interval: expected finite ends, in order, found (1.0, -1.0)",
        ),
        (
            lambda: Tabulated(von_mises, (0.0, math.inf), {"loc": 0.0, "concentration": 1.0}),
            "interval: expected finite ends, in order, found (0.0, inf)",
        ),
        (
            lambda: Tabulated(lambda z: -z, (0.0, 1.0), {}),
            "parameters: expected at least one, found none",
        ),
        (lambda: tabulated(panels=0), "panels: expected at least 1, found 0"),
        (
            lambda: tabulated(concentration=torch.ones(2)),
            "concentration: expected a single number, found (2,)",
        ),
        (lambda: tabulated(loc=math.nan), "loc: expected a finite number, found nan"),
        (
            lambda: Tabulated(lambda z, scale: scale * z.log(), (-1.0, 1.0), {"scale": 1.0}),
            "log_density: expected finite numbers on the whole interval",
        ),
    ],
)
def test_it_refuses_by_name(make, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_it_refuses_a_batch() -> None:
    with pytest.raises(NotImplementedError, match=r"^Tabulated: a table holds one law"):
        tabulated().expand((3,))
