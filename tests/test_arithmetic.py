"""Quicker arithmetic against PyTorch's own, and both against twice as many digits."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from aevb import arithmetic, estimators, full_vb, models
from aevb.arithmetic import bfloat16_products, float32_products
from aevb.bayesian import BayesianModel

onednn = pytest.mark.skipif(
    not arithmetic.onednn_is_quick(), reason="a processor without AVX-512, or no oneDNN"
)


def layer_and_rows(*shape: int) -> tuple[nn.Linear, Tensor]:
    """A layer large enough for oneDNN, and what it is given."""
    layer = nn.Linear(200, 180).float()
    x = torch.rand(*shape, 200, generator=torch.Generator().manual_seed(1)).float()
    return layer, x.requires_grad_()


def value_and_gradients(
    function: Callable[[Tensor], Tensor], layer: nn.Linear, x: Tensor
) -> list[Tensor]:
    y = function(x)
    weights = torch.rand(y.shape, generator=torch.Generator().manual_seed(2)).to(y)
    return [y, *torch.autograd.grad((weights * y).sum(), [x, *layer.parameters()])]


@pytest.mark.parametrize("shape", [(50,), (3, 40), (1,), ()], ids=str)
def test_a_layer_and_its_gradients_are_as_exact_as_pytorchs(shape: tuple[int, ...]) -> None:
    layer, x = layer_and_rows(*shape)

    def hidden(x: Tensor) -> Tensor:
        return torch.tanh(layer(x))

    theirs = value_and_gradients(hidden, layer, x)
    ours = value_and_gradients(float32_products(hidden), layer, x)
    layer.double()
    exact = value_and_gradients(hidden, layer, x.detach().double().requires_grad_())
    for our, their, value in zip(ours, theirs, exact, strict=True):
        assert our.dtype == torch.float32
        assert our.shape == their.shape
        error, usual = ((found - value).abs().max().item() for found in (our, their))
        assert error < 2 * usual + 3e-7 * value.abs().max().item()


@onednn
def test_it_is_onednn_that_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = layer_and_rows(50)
    quick, usual = float32_products(layer)(x), layer(x)
    assert torch.equal(quick, arithmetic.multiply(x, layer.weight, layer.bias))
    assert quick.grad_fn.name() != usual.grad_fn.name()
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    assert torch.equal(float32_products(layer)(x), usual)


@onednn
def test_who_asks_for_one_gradient_gets_only_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hamiltonian Monte Carlo asks for that of z alone."""
    products = []
    multiply = arithmetic.multiply

    def counted(*factors: Tensor | None) -> Tensor:
        products.append(multiply(*factors))
        return products[-1]

    monkeypatch.setattr(arithmetic, "multiply", counted)
    layer, x = layer_and_rows(50)
    (gradient,) = torch.autograd.grad(float32_products(layer)(x).sum(), x)
    assert len(products) == 2
    torch.testing.assert_close(gradient, layer.weight.sum(0).expand(50, 200))
    float32_products(layer)(x.detach()).sum().backward()
    assert len(products) == 4
    assert x.grad is None


def test_what_it_is_not_for_is_left_alone() -> None:
    small, x = nn.Linear(20, 3).float(), torch.rand(7, 20).float()
    assert torch.equal(float32_products(small)(x), small(x))
    double, x = nn.Linear(300, 200).double(), torch.rand(7, 300).double()
    assert torch.equal(float32_products(double)(x), double(x))
    assert torch.equal(float32_products(torch.tanh)(x), torch.tanh(x))


def test_second_derivatives_are_refused() -> None:
    x = torch.rand(5).float().requires_grad_()
    y = float32_products(torch.tanh)(x) ** 2
    (gradient,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize("extreme", [0.0, -1e-30, 1e-8, 40.0, -200.0, float("inf"), float("nan")])
def test_tanh_at_its_ends(extreme: float) -> None:
    x = torch.tensor([extreme]).float()
    torch.testing.assert_close(
        float32_products(torch.tanh)(x), torch.tanh(x), rtol=0, atol=2e-7, equal_nan=True
    )


def test_tanh_everywhere() -> None:
    x = torch.linspace(-12, 12, 400_001).float()
    error = float32_products(torch.tanh)(x) - torch.tanh(x.double())
    assert error.abs().max() < 2e-7


def test_a_layer_multiplies_rounded_numbers_and_adds_its_bias_unrounded() -> None:
    layer, x = nn.Linear(30, 20), torch.rand(7, 30)
    found = bfloat16_products(layer)(x)

    rounded = (x.bfloat16().double() @ layer.weight.bfloat16().double().T).bfloat16().double()
    assert found.dtype == layer.weight.dtype
    # The last rounding is to 8 bits; before it the sum is exact to float32's 24.
    torch.testing.assert_close(found - layer.bias, rounded, rtol=2**-7, atol=1e-12)
    torch.testing.assert_close(found, layer(x), rtol=0, atol=2**-6)
    assert not torch.equal(found, layer(x))


@pytest.mark.parametrize(
    ("products", "error"), [(float32_products, 1e-5), (bfloat16_products, 2**-6)]
)
def test_a_layer_without_a_bias(
    products: Callable[..., Callable[[Tensor], Tensor]], error: float
) -> None:
    layer, x = nn.Linear(200, 180, bias=False).float(), torch.rand(7, 200).float()
    exact = x.double() @ layer.weight.double().T
    torch.testing.assert_close(products(layer)(x).double(), exact, rtol=0, atol=error)


@pytest.mark.parametrize("products", [float32_products, bfloat16_products])
def test_arguments_by_name_and_a_place_for_the_result(products: Callable) -> None:
    layer, x = layer_and_rows(5)
    x, place = x.detach(), torch.zeros(5, 200, dtype=torch.float32)
    torch.testing.assert_close(products(torch.tanh)(input=x), torch.tanh(x))
    assert products(torch.tanh)(x, out=place) is place
    assert torch.equal(place, torch.tanh(x))
    linear = products(functional.linear)
    named = linear(input=x, weight=layer.weight, bias=layer.bias)
    assert torch.equal(named, linear(x, layer.weight, layer.bias))


def test_no_datapoints_have_gradients_of_zero() -> None:
    layer, x = layer_and_rows(0)
    value, *gradients = value_and_gradients(float32_products(layer), layer, x)
    assert value.shape == (0, 180)
    assert [g.shape for g in gradients] == [(0, 200), (180, 200), (180,)]
    assert not any(g.any() for g in gradients)


def test_inside_a_transform_float32_arithmetic_is_pytorchs() -> None:
    layer, x = layer_and_rows(50)
    hidden = torch.vmap(lambda row: torch.tanh(layer(row)))
    usual, rounded = hidden(x), bfloat16_products(hidden)(x)
    assert torch.equal(float32_products(hidden)(x), usual)
    assert not torch.equal(rounded, usual)
    torch.testing.assert_close(rounded, usual, rtol=0, atol=2**-6)


@pytest.mark.parametrize("products", [float32_products, bfloat16_products])
def test_full_variational_bayes_which_maps_over_its_weights(products: Callable) -> None:
    x = torch.rand(4, 7, generator=torch.Generator().manual_seed(1)).float()
    bounds = []
    for step in (full_vb.step, products(full_vb.step)):
        generator = torch.Generator().manual_seed(2)
        model = BayesianModel(models.bernoulli_vae(7, 5, 2, generator, 0.5).float(), 0.1)
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        bounds.append(step(full_vb.init(model, optimizer, generator, 40), x)[1].bound)
    torch.testing.assert_close(*bounds, rtol=1e-2, atol=0)


def test_nothing_is_rounded_afterwards() -> None:
    layer, x = nn.Linear(5, 4), torch.rand(3, 5)
    before = layer(x)
    bfloat16_products(layer)(x)
    assert torch.equal(layer(x), before)


@pytest.mark.parametrize("vae", [models.bernoulli_vae, models.gaussian_vae])
def test_the_bound_and_its_gradient_are_nearly_the_same(vae: type) -> None:
    model = vae(40, 30, 3, torch.Generator().manual_seed(1), 0.1)
    x = torch.rand(50, 40, generator=torch.Generator().manual_seed(2))

    def gradient(estimator: object) -> tuple[float, torch.Tensor]:
        model.zero_grad()
        bound = estimator(model, x, 1, torch.Generator().manual_seed(3)).mean()
        bound.backward()
        return bound.item(), torch.cat([p.grad.flatten() for p in model.parameters()])

    (exact, one), (rounded, two) = map(
        gradient, (estimators.sgvb_b, bfloat16_products(estimators.sgvb_b))
    )
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=1e-3)
    assert torch.cosine_similarity(one, two, dim=0) > 0.999
    assert two.dtype == one.dtype
