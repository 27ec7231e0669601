"""Section 2.4: every law that the paper names, against SciPy and against quadrature."""

import math

import pytest
import scipy_laws
import torch
from scipy import integrate, stats
from torch import Tensor, distributions
from torch.distributions import kl_divergence

from aevb import reparameterization
from aevb.reparameterization import (
    composition,
    elliptical,
    inverse_cdf,
    law,
    loc_scale,
)
from aevb.reparameterization.catalogue import FAMILIES, LAWS, Entry

DRAWS = 100_000
# Correct draws fail a Kolmogorov-Smirnov test at this level once in a million seeds, and one of
# the 23 once in 40,000.
LEVEL = 1e-6

WHOLE = ["Erlang", "Gamma", "Dirichlet", "Beta", "Chi-Squared", "F"]


def named(name: str, family: str | None = None) -> Entry:
    return next(e for e in LAWS if e.name == name and family in (None, e.family))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def p_value(entry: Entry, z: Tensor) -> float:
    drawn = scipy_laws.coordinate(entry, z).numpy()
    return stats.kstest(drawn, scipy_laws.counterpart(entry).cdf).pvalue


def slow(z: Tensor) -> Tensor:
    """A function without symmetry that grows so slowly that even a Cauchy law has its mean."""
    return torch.log1p(z**2) + torch.atan(z)


every_law = pytest.mark.parametrize("entry", LAWS, ids=lambda e: f"{e.name}, {e.family}")
with_a_gradient = pytest.mark.parametrize(
    "entry",
    [e for e in LAWS if set(e.example) - set(e.law.constants)],
    ids=lambda e: f"{e.name}, {e.family}",
)
one_dimensional = pytest.mark.parametrize(
    "entry",
    [e for e in LAWS if e.name not in ("Elliptical", "Dirichlet")],
    ids=lambda e: f"{e.name}, {e.family}",
)


def test_the_catalogue_has_the_papers_lists() -> None:
    names = {family: [e.name for e in LAWS if e.family == family] for family in FAMILIES}
    assert list(names.values()) == [
        [
            *("Exponential", "Cauchy", "Logistic", "Rayleigh", "Pareto"),
            *("Weibull", "Reciprocal", "Gompertz", "Gumbel", "Erlang"),
        ],
        ["Laplace", "Elliptical", "Student's t", "Logistic", "Uniform", "Triangular", "Gaussian"],
        ["Log-Normal", "Gamma", "Dirichlet", "Beta", "Chi-Squared", "F"],
    ]


# ---- The law of the draws -----------------------------------------------------------------------


@every_law
def test_the_draws_have_scipys_distribution(entry: Entry) -> None:
    assert p_value(entry, entry.member().rsample((DRAWS,), seeded())) > LEVEL


@every_law
def test_the_distribution_test_can_fail(entry: Entry) -> None:
    # A slightly longer draw: one part in ten, far below what a wrong formula does.
    z = 1.1 * entry.member().rsample((DRAWS,), seeded())
    assert p_value(entry, z) < LEVEL


@every_law
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_noise_gives_finite_draws(entry: Entry, dtype: torch.dtype) -> None:
    q = entry.member(**{n: torch.tensor(v, dtype=dtype) for n, v in entry.example.items()})
    noise = q.noise((4,), seeded())
    if noise.min() > 0 and noise.max() < 1:
        eps = torch.finfo(dtype).eps
        noise[0], noise[1] = eps / 4, 1 - eps / 2  # the ends of what `law.uniform` may return
    z = q.g(noise)

    assert z.dtype == dtype
    assert z.isfinite().all()
    assert q.log_prob(z).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_uniform_noise_lies_in_the_open_interval(dtype: torch.dtype, monkeypatch) -> None:
    eps = torch.finfo(dtype).eps
    monkeypatch.setattr(torch, "rand", lambda *_, **__: torch.tensor([0.0, 1 - eps / 2]).to(dtype))
    u = law.uniform((2,), torch.zeros((), dtype=dtype))
    assert u[0] > 0
    assert u[1] < 1


@every_law
def test_draws_are_the_map_of_the_noise(entry: Entry) -> None:
    q = entry.member()
    assert torch.equal(q.rsample((7,), seeded()), q.g(q.noise((7,), seeded())))
    assert torch.equal(q.rsample((7,), seeded()), q.sample((7,), seeded()))


@pytest.mark.parametrize("entry", LAWS[:10], ids=lambda e: e.name)
def test_the_map_inverts_the_distribution_function(entry: Entry) -> None:
    # Down to what float64 can hold at both ends: SciPy's tails know nothing of ours.
    u = torch.tensor([1e-12, 1e-3, 0.2, 0.5, 0.8, 0.999, 1 - 1e-12])
    z = entry.member().g(u)
    frozen = scipy_laws.counterpart(entry)
    torch.testing.assert_close(torch.tensor(frozen.cdf(z)), u, rtol=1e-9, atol=1e-15)
    upper = torch.tensor(frozen.sf(z))
    torch.testing.assert_close(upper, 1 - u, rtol=1e-9, atol=2e-16)


def test_both_logistic_maps_give_the_same_draws() -> None:
    first, second = (named("Logistic", family).member() for family in FAMILIES[:2])
    torch.testing.assert_close(first.rsample((9,), seeded()), second.rsample((9,), seeded()))


def test_erlang_and_gamma_are_one_law_by_two_maps() -> None:
    erlang, gamma = inverse_cdf.Erlang(4, 1.7), composition.Gamma(4, 1.7)
    z = erlang.rsample((1_000,), seeded())
    torch.testing.assert_close(erlang.log_prob(z), gamma.log_prob(z))
    assert stats.kstest(z.numpy(), gamma.rsample((1_000,), seeded(1)).numpy()).pvalue > LEVEL


@pytest.mark.parametrize("df", [3.0, math.inf], ids=["t", "Gaussian"])
def test_elliptical_draws_have_the_right_radii_and_directions(df: float) -> None:
    loc, tril = torch.tensor([1.0, -2.0, 0.5]), torch.eye(3) + torch.ones(3, 3).tril(-1)
    if df == math.inf:
        q, radius = elliptical.MultivariateGaussian(loc, tril), stats.chi2(3)
    else:
        q, radius = elliptical.MultivariateStudentT(df, loc, tril), stats.f(3, df, scale=3)
    white = torch.linalg.solve(tril, (q.rsample((DRAWS,), seeded()) - loc).mT.contiguous())
    squares = white.square().sum(0)
    # In three dimensions each coordinate of a uniform direction is uniform.
    first = white[0] / squares.sqrt()

    assert stats.kstest(squares.numpy(), radius.cdf).pvalue > LEVEL
    assert stats.kstest(first.numpy(), stats.uniform(-1, 2).cdf).pvalue > LEVEL


def test_a_batch_may_mix_shapes() -> None:
    q = composition.Beta(torch.tensor([1, 5, 2]), torch.tensor([4, 1, 2]))
    z = q.rsample((DRAWS,), seeded())
    for column, (a, b) in enumerate([(1, 4), (5, 1), (2, 2)]):
        assert stats.kstest(z[:, column].numpy(), stats.beta(a, b).cdf).pvalue > LEVEL


# ---- The density --------------------------------------------------------------------------------


@one_dimensional
def test_the_density_is_scipys(entry: Entry) -> None:
    q, frozen = entry.member(), scipy_laws.counterpart(entry)
    z = torch.tensor([-40.0, -3.3, -0.6, -0.2, 0.1, 0.45, 0.6, 0.95, 1.2, 1.6, 2.9, 3.3, 40.0])

    torch.testing.assert_close(q.log_prob(z), torch.tensor(frozen.logpdf(z)), rtol=1e-9, atol=1e-9)
    if not math.isinf(frozen.support()[0]):
        assert q.log_prob(z)[0] == -math.inf


@pytest.mark.parametrize(
    ("entry", "z", "density"),
    [  # as the paper's sources print them, without SciPy
        (named("Rayleigh"), 0.9, 0.9 / 1.44 * math.exp(-0.81 / 2.88)),
        (named("Pareto"), 1.1, 2.5 * 0.8**2.5 * 1.1**-3.5),
        (named("Reciprocal"), 2.0, 1 / (2.0 * math.log(6))),
        (named("Gompertz"), 0.5, 0.77 * math.exp(0.55 - 0.7 * (math.exp(0.55) - 1))),
        (named("Erlang"), 2.0, 1.4**3 * 4 * math.exp(-2.8) / 2),
        (named("Triangular"), 0.0, 2 * (0.5 / 2 / 0.3) / 2),
        (named("Triangular"), 1.0, 2 * (0.5 / 2 / 0.7) / 2),
        (named("Chi-Squared"), 2.0, math.sqrt(2) * math.exp(-1) / (2**1.5 * math.gamma(1.5))),
    ],
)
def test_the_density_is_the_formulas(entry: Entry, z: float, density: float) -> None:
    assert entry.member().log_prob(torch.tensor(z)).exp().item() == pytest.approx(density)


def test_the_density_of_vector_laws() -> None:
    loc, tril = torch.tensor([0.5, -0.3]), torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    z = torch.randn(50, 2, generator=seeded()) * 3
    t, gaussian = named("Elliptical").member(), elliptical.MultivariateGaussian(loc, tril)
    shape = (tril @ tril.mT).numpy()

    expected = torch.tensor(stats.multivariate_t(loc.numpy(), shape, 9).logpdf(z.numpy()))
    torch.testing.assert_close(t.log_prob(z), expected)
    expected = torch.tensor(stats.multivariate_normal(loc.numpy(), shape).logpdf(z.numpy()))
    torch.testing.assert_close(gaussian.log_prob(z), expected)

    dirichlet = named("Dirichlet").member()
    inside = dirichlet.sample((20,), seeded())
    expected = torch.tensor(stats.dirichlet([2, 3, 1]).logpdf(inside.numpy().T))
    torch.testing.assert_close(dirichlet.log_prob(inside), expected)
    assert dirichlet.log_prob(torch.tensor([0.5, 0.7, -0.2])) == -math.inf
    assert dirichlet.log_prob(torch.tensor([0.5, 0.3, 0.3])) == -math.inf


@pytest.mark.parametrize("name", ["Gompertz", "Triangular", "Reciprocal", "Rayleigh", "Logistic"])
def test_mean_and_variance(name: str) -> None:
    entry = named(name)
    q, frozen = entry.member(), scipy_laws.counterpart(entry)
    if name == "Gompertz":
        z = torch.tensor([-1.0, 0.3, 2.0])
        torch.testing.assert_close(q.cdf(z), torch.tensor(frozen.cdf(z)))
    else:
        assert q.mean.item() == pytest.approx(frozen.mean())
        assert q.variance.item() == pytest.approx(frozen.var())


@with_a_gradient
def test_the_density_has_no_nan_gradient_outside(entry: Entry) -> None:
    name = next(n for n in entry.example if n not in entry.law.constants)
    value = torch.tensor(entry.example[name], requires_grad=True)
    q = entry.member(**{name: value})
    z = torch.full((2, *q.event_shape), 0.9)
    z[0] = -7.0
    density = q.log_prob(z)
    torch.where(density.isfinite(), density, 0.0).sum().backward()
    assert value.grad.isfinite().all()


@pytest.mark.parametrize("peak", [0.0, 1.0])
def test_a_triangle_may_have_its_peak_at_an_end(peak: float) -> None:
    c = torch.tensor(peak, requires_grad=True)
    q = loc_scale.Triangular(-0.5, 1.5, c)
    z = q.rsample((DRAWS,), seeded())
    z.sum().backward()
    frozen = stats.triang(peak, -0.5, 2)
    assert stats.kstest(z.detach().numpy(), frozen.cdf).pvalue > LEVEL
    torch.testing.assert_close(q.log_prob(z[:9]), torch.tensor(frozen.logpdf(z[:9].detach())))
    assert c.grad.isfinite()
    assert q.log_prob(torch.tensor([-0.5, 1.5])).isfinite().any()  # the peak itself


# ---- The gradient -------------------------------------------------------------------------------


@with_a_gradient
def test_pathwise_gradients_are_those_of_the_expectation(entry: Entry) -> None:
    checks = scipy_laws.gradient_checks(entry, slow, 50_000, seeded(1))
    parameters = {check.parameter.partition("[")[0] for check in checks}
    assert parameters == set(entry.example) - set(entry.law.constants)
    for check in checks:  # 36 numbers at 4.5 s.e.: a false alarm once in 4,000 seeds
        assert abs(check.off) < 4.5, check
        assert check.standard_error < 0.1 * max(abs(check.exact), 0.1), check  # it has power


@pytest.mark.parametrize("name", ["Cauchy", "Uniform", "Weibull"])
def test_the_quadrature_agrees_with_scipys(name: str) -> None:
    frozen = scipy_laws.counterpart(named(name))
    expected = integrate.quad(lambda z: frozen.pdf(z) * math.atan(z), *frozen.support())[0]
    assert scipy_laws.expectation(frozen, torch.atan) == pytest.approx(expected, abs=1e-7)


def test_the_quadrature_knows_a_closed_form() -> None:
    # E log(1 + z^2) = 2 log(1 + gamma) for a Cauchy law around zero.
    found = scipy_laws.expectation(stats.cauchy(scale=1.7), lambda z: torch.log1p(z**2))
    assert found == pytest.approx(2 * math.log(2.7), abs=1e-9)


def test_full_matrices_get_their_gradient() -> None:
    # E[z' C z] = mu' C mu + tr(C A A') nu / (nu - 2).
    C, n = torch.tensor([[1.0, 0.4], [0.4, -0.5]]), 50_000
    for df in (12.0, math.inf):
        loc = torch.tensor([0.5, -0.3], requires_grad=True)
        tril = torch.tensor([[1.0, 0.0], [0.6, 0.8]], requires_grad=True)
        factor = 1.0 if df == math.inf else df / (df - 2)
        exact = loc @ C @ loc + factor * torch.trace(C @ tril @ tril.mT)
        exact_gradients = torch.autograd.grad(exact, [loc, tril])

        rows = [loc.detach().expand(n, 2), tril.detach().expand(n, 2, 2)]
        rows = [row.clone().requires_grad_() for row in rows]
        if df == math.inf:
            q = elliptical.MultivariateGaussian(*rows)
        else:
            q = elliptical.MultivariateStudentT(df, *rows)
        z = q.rsample((), seeded())
        gradients = torch.autograd.grad(torch.einsum("ni,ij,nj->", z, C, z), rows)
        for drawn, wanted in zip(gradients, exact_gradients, strict=True):
            error = drawn.std(0) / n**0.5
            lower = slice(None) if wanted.dim() == 1 else torch.ones(2, 2).tril().bool()
            assert ((drawn.mean(0) - wanted).abs() < 4.5 * error)[lower].all()


def test_the_erlang_gradient_is_exact_draw_by_draw() -> None:
    rate = torch.full((50,), 1.4, requires_grad=True)
    z = inverse_cdf.Erlang(3, rate).rsample((), seeded())
    z.sum().backward()
    torch.testing.assert_close(rate.grad, -z.detach() / 1.4)


@pytest.mark.parametrize("name", ["Student's t", "Elliptical", *WHOLE])
def test_it_refuses_a_gradient_that_the_map_does_not_have(name: str) -> None:
    entry = named(name)
    constant = entry.law.constants[0]
    value = torch.tensor(entry.example[constant], dtype=torch.float64, requires_grad=True)
    q = entry.member(**{constant: value})
    with pytest.raises(ValueError, match=rf"^{constant}: expected a constant, found .* gradient"):
        q.rsample((), seeded())
    assert not q.sample((), seeded()).requires_grad


# ---- A torch distribution -----------------------------------------------------------------------


@every_law
@pytest.mark.parametrize("sample_shape", [(), (7,), (2, 3)])
def test_shapes(entry: Entry, sample_shape: tuple[int, ...]) -> None:
    q = entry.member()
    event = q.event_shape
    for batch, found in (((), q), ((4,), q.expand((4,))), ((5, 4), q.expand((4,)).expand((5, 4)))):
        assert isinstance(found, distributions.Distribution)
        assert found.batch_shape == batch
        assert found.event_shape == event
        z = found.rsample(sample_shape, generator=seeded())
        assert z.shape == sample_shape + batch + event
        assert found.log_prob(z).shape == sample_shape + batch
        torch.testing.assert_close(found.log_prob(z), q.log_prob(z))


@every_law
def test_a_batch_of_parameters(entry: Entry) -> None:
    name = next(iter(entry.example))
    value = torch.tensor(entry.example[name])
    q = entry.member(**{name: torch.stack([value, value, value]).unsqueeze(1)})  # (3, 1)
    assert q.batch_shape == (3, 1)
    z = q.rsample((2,), seeded())
    assert z.shape == (2, 3, 1, *q.event_shape)
    torch.testing.assert_close(q.log_prob(z), entry.member().log_prob(z))


@every_law
def test_expand_shares_the_parameters(entry: Entry) -> None:
    name = next(iter(entry.example))
    value = torch.tensor(entry.example[name], dtype=torch.float64, requires_grad=True)
    q = entry.member(**{name: value}).expand((3,))
    z = q.sample((), seeded())
    (gradient,) = torch.autograd.grad(q.log_prob(z).sum(), value)
    assert gradient.shape == value.shape


@every_law
def test_the_generator_decides_the_draws(entry: Entry) -> None:
    q = entry.member()
    before = torch.get_rng_state()
    generator = seeded(3)
    first, second = q.rsample((5,), generator), q.rsample((5,), generator)
    assert torch.equal(first, q.rsample((5,), seeded(3)))
    assert not torch.equal(first, second)
    assert not torch.equal(first, q.rsample((5,), seeded(4)))
    assert torch.equal(torch.get_rng_state(), before)
    q.rsample((5,))
    assert not torch.equal(torch.get_rng_state(), before)


def test_pytorchs_divergences_and_classes_know_them() -> None:
    ours, theirs = loc_scale.Gaussian(0.3, 2.0), distributions.Normal(0.0, 1.0)
    plain = distributions.Normal(torch.tensor(0.3), torch.tensor(2.0))
    torch.testing.assert_close(kl_divergence(ours, theirs), kl_divergence(plain, theirs))
    q = distributions.Independent(loc_scale.Gaussian(torch.zeros(4), 1.0), 1)
    assert reparameterization.sample(q, 3).shape == (3, 4)
    assert repr(ours) == "Gaussian(loc: 0.3, scale: 2)"
    assert repr(ours.expand((2,))) == "Gaussian(loc: shape (2), scale: shape (2))"


def test_numbers_take_the_dtype_of_the_tensors_beside_them() -> None:
    q = loc_scale.Gaussian(torch.zeros(2, dtype=torch.float32), 1)
    assert q.rsample().dtype == torch.float32
    assert loc_scale.Gaussian(0, 1).rsample().dtype == torch.float64


# ---- Refusals -----------------------------------------------------------------------------------


@every_law
def test_it_refuses_parameters_out_of_range_by_name(entry: Entry) -> None:
    for name, value in entry.example.items():
        if isinstance(value, list):
            continue
        for bad in (math.nan, math.inf):
            with pytest.raises(ValueError, match=rf"^{name}: expected .*, found {bad}"):
                entry.member(**{name: bad})
        with pytest.raises(TypeError, match=rf"^{name}: expected a number or a tensor, found 'a'$"):
            entry.member(**{name: "a"})
        if name not in ("loc", "low", "high", "peak"):
            for bad in (0.0, -1.0):
                with pytest.raises(ValueError, match=rf"^{name}: expected a positive .*{bad}"):
                    entry.member(**{name: torch.tensor([1.0, bad])})


@pytest.mark.parametrize("name", WHOLE)
def test_it_refuses_shapes_that_are_no_integers(name: str) -> None:
    entry = named(name)
    for constant in entry.law.constants:
        value = torch.tensor(entry.example[constant], dtype=torch.float64) + 0.5
        with pytest.raises(ValueError, match=rf"^{constant}: expected a positive integer") as found:
            entry.member(**{constant: value})
        for words in ("needs an integer", "torch.distributions.Gamma", "Figurnov et al., 2018"):
            assert words in str(found.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: loc_scale.Uniform(2.0, 1.0), "high: expected more than low, 2, found 1"),
        (lambda: inverse_cdf.Reciprocal(2.0, 2.0), "high: expected more than low, 2, found 2"),
        (lambda: loc_scale.Triangular(2.0, 1.0), "high: expected more than low, 2, found 1"),
        (
            lambda: loc_scale.Triangular(0.0, 1.0, 1.5),
            "peak: expected a number between 0 and 1, found 1.5",
        ),
        (
            lambda: inverse_cdf.Cauchy(torch.zeros(2), torch.ones(3)),
            "loc, scale: expected batch shapes that broadcast, found (2), (3)",
        ),
        (
            lambda: composition.Dirichlet(torch.tensor(1.0)),
            "concentration: expected at least 1 dimension(s), found shape ()",
        ),
        (
            lambda: elliptical.MultivariateGaussian(torch.zeros(3), torch.eye(2)),
            "scale_tril: expected the shape (..., 3, 3), as loc has 3 entries, found shape (2, 2)",
        ),
        (
            lambda: elliptical.MultivariateStudentT(3.0, torch.zeros(1), -torch.eye(1)),
            "scale_tril: expected a lower-triangular matrix with a positive diagonal, "
            "found [[-1.0]]",
        ),
        (
            lambda: composition.Gamma(3, 1.0).g(torch.rand(4, 2)),
            "noise: expected shape (..., 3), found shape (4, 2)",
        ),
        (
            lambda: loc_scale.Gaussian(torch.zeros(2), 1.0).log_prob(torch.zeros(3)),
            "value: expected a shape that broadcasts with (2), found shape (3)",
        ),
        (
            lambda: named("Dirichlet").member().log_prob(torch.zeros(5, 1)),
            "value: expected a shape that broadcasts with (3), found shape (5, 1)",
        ),
        (
            lambda: named("Gamma").member().log_prob(torch.tensor(math.nan)),
            "value: expected numbers, found nan",
        ),
    ],
)
def test_it_refuses_by_name(make, message: str) -> None:
    with pytest.raises(ValueError) as found:  # noqa: PT011, the whole message is compared
        make()
    assert str(found.value) == message


@pytest.mark.parametrize("value", [1.0, torch.tensor(1)])
def test_it_refuses_what_is_no_draw(value: object) -> None:
    with pytest.raises(TypeError, match=r"^value: expected a tensor of real numbers, found "):
        loc_scale.Gaussian(0.0, 1.0).log_prob(value)


@pytest.mark.parametrize("shape", [3, (-1,), ("a",), (2.0,)])
def test_it_refuses_what_is_no_sample_shape(shape: object) -> None:
    with pytest.raises(TypeError, match=r"^sample_shape: expected a tuple of sizes, found "):
        loc_scale.Gaussian(0.0, 1.0).rsample(shape)


def test_checks_can_be_switched_off() -> None:
    assert inverse_cdf.Exponential(-1.0, validate_args=False).rate == -1
