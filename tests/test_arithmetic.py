"""Products in bfloat16, everything else as it was."""

import pytest
import torch
from torch import nn

from aevb import estimators, models
from aevb.arithmetic import bfloat16_products


def test_a_layer_multiplies_rounded_numbers_and_adds_its_bias_unrounded() -> None:
    layer, x = nn.Linear(30, 20), torch.rand(7, 30)
    found = bfloat16_products(layer)(x)

    rounded = (x.bfloat16().double() @ layer.weight.bfloat16().double().T).bfloat16().double()
    assert found.dtype == layer.weight.dtype
    # The last rounding is to 8 bits; before it the sum is exact to float32's 24.
    torch.testing.assert_close(found - layer.bias, rounded, rtol=2**-7, atol=1e-12)
    torch.testing.assert_close(found, layer(x), rtol=0, atol=30 * 2**-8)
    assert not torch.equal(found, layer(x))


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
