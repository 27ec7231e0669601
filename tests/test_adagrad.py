"""Adagrad as the experiments use it (section 5)."""

import copy

import numpy
import pytest
import torch
from torch import Tensor, nn

from aevb import adagrad, estimators, models


def start() -> list[Tensor]:
    generator = torch.Generator().manual_seed(4)
    return [
        nn.Parameter(torch.randn(3, 4, generator=generator)),
        nn.Parameter(torch.randn(5, generator=generator)),
    ]


def gradients(parameters: list[Tensor], steps: int) -> list[list[Tensor]]:
    """Of very different sizes: the smallest are where the constant in the root matters."""
    generator = torch.Generator().manual_seed(5)
    return [
        [10.0 ** (-6 * (n % 3 > 0)) * torch.randn(p.shape, generator=generator) for p in parameters]
        for n in range(steps)
    ]


def follow(
    optimizer: torch.optim.Optimizer, parameters: list[Tensor], steps: int
) -> list[list[Tensor]]:
    """The parameters after each step."""
    path = []
    for given in gradients(parameters, steps):
        for parameter, gradient in zip(parameters, given, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
        path.append([parameter.detach().clone() for parameter in parameters])
    return path


@pytest.mark.parametrize("prior_weight", [0.0, 0.002, 0.5])
@pytest.mark.parametrize("warm_up", [0, 1, 7])
@pytest.mark.parametrize("flat", [False, True])
def test_it_is_the_equation_of_its_docstring(prior_weight: float, warm_up: int, flat: bool) -> None:
    parameters, steps, step_size = start(), 20, 0.1
    settings = {"prior_weight": prior_weight, "warm_up": warm_up, "flat": flat}
    path = follow(adagrad.Adagrad(parameters, step_size, **settings), parameters, steps)

    given = gradients(parameters, steps)
    for k, parameter in enumerate(start()):
        w = parameter.detach().numpy().copy()
        accumulated = numpy.zeros_like(w)
        for n in range(steps):
            g = given[n][k].numpy() + prior_weight * w
            accumulated = accumulated + g**2
            if n >= warm_up:
                w = w - step_size * g / numpy.sqrt(accumulated + 1e-8)
            numpy.testing.assert_allclose(path[n][k].numpy(), w, rtol=1e-12, atol=1e-14)


def test_the_constant_is_inside_the_root() -> None:
    # With g = 1e-4 the root is of 2e-8: 1e-4 sqrt(2), where outside it would be 1e-4 + 1e-8.
    parameter = nn.Parameter(torch.zeros(1))
    parameter.grad = torch.tensor([1e-4])

    adagrad.Adagrad([parameter], 1.0, warm_up=0).step()

    assert parameter.item() == pytest.approx(-1 / 2**0.5, rel=1e-12)


@pytest.mark.parametrize("fused", [True, False])
def test_it_agrees_with_torch_where_the_settings_do(fused: bool) -> None:
    ours, theirs = start(), start()
    optimizer = torch.optim.Adagrad(
        theirs, lr=0.1, weight_decay=0.01, initial_accumulator_value=1e-8, eps=0.0, fused=fused
    )

    path = follow(adagrad.Adagrad(ours, 0.1, prior_weight=0.01, warm_up=0), ours, 20)

    for found, expected in zip(path, follow(optimizer, theirs, 20), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_fused_kernel_is_the_plain_one(dtype: torch.dtype) -> None:
    fused = [nn.Parameter(p.detach().to(dtype)) for p in start()]
    plain = copy.deepcopy(fused)
    optimizers = [adagrad.Adagrad(p, 0.1, prior_weight=0.01, warm_up=3) for p in (fused, plain)]
    assert optimizers[0].param_groups[0]["fused"]
    for group in optimizers[1].param_groups:
        group["fused"] = False

    for _ in range(20):
        for a, b in zip(fused, plain, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        for optimizer in optimizers:
            optimizer.step()

    for a, b in zip(fused, plain, strict=True):
        torch.testing.assert_close(a, b)
        torch.testing.assert_close(
            optimizers[0].state[a]["sum"], optimizers[1].state[b]["sum"], check_dtype=True
        )


def test_flat_parameters_are_views_of_one_tensor_and_stay_so() -> None:
    parameters = start()
    optimizer = adagrad.Adagrad(parameters, 0.1, warm_up=2, flat=True)
    assert all(map(torch.equal, parameters, start()))
    follow(optimizer, parameters, 5)
    again = [nn.Parameter(p.detach().clone()) for p in parameters]
    other = adagrad.Adagrad(again, 0.1, warm_up=2, flat=True)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for path in (follow(optimizer, parameters, 5), follow(other, again, 5)):
        assert all(map(torch.equal, path[-1], follow_on(start())))
    for given, made in ((parameters, optimizer), (again, other)):
        for p in given:
            assert p.untyped_storage()._cdata == given[0].untyped_storage()._cdata
            assert p.data_ptr() % (adagrad.ALIGNMENT * p.element_size()) == (
                given[0].data_ptr() % (adagrad.ALIGNMENT * p.element_size())
            )
        assert made.state[given[0]]["step"] == 10
        whole = torch.empty(0).set_(given[0].untyped_storage())
        assert whole.isfinite().all(), "between the parameters, too"


def follow_on(parameters: list[Tensor]) -> list[Tensor]:
    """Where five steps and five more lead."""
    optimizer = adagrad.Adagrad(parameters, 0.1, warm_up=2, flat=True)
    follow(optimizer, parameters, 5)
    return follow(optimizer, parameters, 5)[-1]


def test_the_warm_up_only_accumulates() -> None:
    parameters = start()
    optimizer = adagrad.Adagrad(parameters, 0.1, warm_up=7)

    path = follow(optimizer, parameters, 7)

    for found in path:
        assert all(map(torch.equal, found, start()))
    squares = [sum(g[k] ** 2 for g in gradients(parameters, 7)) for k in range(2)]
    for parameter, square in zip(parameters, squares, strict=True):
        torch.testing.assert_close(optimizer.state[parameter]["sum"], square + 1e-8)

    moved = follow(optimizer, parameters, 1)[0]
    assert not any(map(torch.equal, moved, start()))


def test_a_parameter_without_a_gradient_does_not_hold_up_the_others() -> None:
    idle, busy = start()
    alone = nn.Parameter(busy.detach().clone())
    both, one = (adagrad.Adagrad(p, 0.1, warm_up=2) for p in ([idle, busy], [alone]))
    for (gradient,) in gradients([busy], 5):
        busy.grad, alone.grad = gradient.clone(), gradient.clone()
        both.step(), one.step()
    assert torch.equal(busy, alone)
    assert not torch.equal(busy, start()[1])
    assert torch.equal(idle, start()[0])


def test_the_default_warm_up_is_100_steps() -> None:
    parameters = start()
    path = follow(adagrad.Adagrad(parameters, 0.1), parameters, 101)
    assert all(map(torch.equal, path[99], start()))
    assert not any(map(torch.equal, path[100], start()))


def test_without_a_warm_up_the_first_step_is_the_sign_of_the_gradient() -> None:
    # Why there is one.
    parameters = start()
    (first,) = follow(adagrad.Adagrad(parameters, 0.1, warm_up=0), parameters, 1)
    for before, after, gradient in zip(start(), first, gradients(parameters, 1)[0], strict=True):
        torch.testing.assert_close(before - after, 0.1 * gradient.sign(), rtol=1e-3, atol=0)


def test_the_common_factor_of_gradient_and_prior_does_not_matter() -> None:
    # Why the sum of the minibatch's bounds serves as well as N/M times it.
    def end(factor: float) -> list[Tensor]:
        parameters = start()
        optimizer = adagrad.Adagrad(parameters, 0.1, prior_weight=0.01 * factor, warm_up=3)
        for n in range(20):
            for parameter in parameters:
                gradient = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(n))
                parameter.grad = factor * gradient
            optimizer.step()
        return [parameter.detach() for parameter in parameters]

    for one, many in zip(end(1.0), end(500.0), strict=True):
        torch.testing.assert_close(one, many, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("estimator", [estimators.sgvb_a, estimators.sgvb_b], ids=["A", "B"])
def test_it_climbs_the_papers_objective(estimator) -> None:
    # (M / N) (eq. 8 + log p(theta)), differentiated as it stands, and the update by hand.
    size, datapoints = 10, 500
    model, x = models.bernoulli_vae(7, 5, 2, std=0.5), torch.rand(size, 7)
    by_hand = copy.deepcopy(model)
    optimizer = adagrad.Adagrad(model.parameters(), 0.1, prior_weight=size / datapoints, warm_up=0)
    (-estimator(model, x, 1, torch.Generator().manual_seed(0)).sum()).backward()
    optimizer.step()

    bounds = estimator(by_hand, x, 1, torch.Generator().manual_seed(0))
    full_data = estimators.minibatch_estimator(bounds, datapoints)
    objective = size / datapoints * (full_data + estimators.log_prior(by_hand.parameters()))
    ascent = torch.autograd.grad(objective, list(by_hand.parameters()))

    for found, w, g in zip(model.parameters(), by_hand.parameters(), ascent, strict=True):
        torch.testing.assert_close(found, w + 0.1 * g / (g**2 + 1e-8).sqrt())
        torch.testing.assert_close(optimizer.state[found]["sum"], g**2 + 1e-8)


def test_the_prior_alone_pulls_the_parameters_to_zero() -> None:
    parameters = start()
    optimizer = adagrad.Adagrad(parameters, 0.05, prior_weight=0.02, warm_up=0)
    for _ in range(500):
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    for before, after in zip(start(), parameters, strict=True):
        assert (after.abs() < 0.5 * before.abs()).all()


def test_its_state_can_be_stored_during_the_warm_up() -> None:
    straight = start()
    expected = follow(adagrad.Adagrad(straight, 0.1, prior_weight=0.01, warm_up=7), straight, 20)

    parameters = start()
    first = adagrad.Adagrad(parameters, 0.1, prior_weight=0.01, warm_up=7)
    second = adagrad.Adagrad(parameters, 0.3, prior_weight=0.5, warm_up=1)
    for n, given in enumerate(gradients(parameters, 20)):
        if n == 5:
            second.load_state_dict(copy.deepcopy(first.state_dict()))
        for parameter, gradient in zip(parameters, given, strict=True):
            parameter.grad = gradient.clone()
        (first if n < 5 else second).step()
        assert all(map(torch.equal, parameters, expected[n])), n


@pytest.mark.parametrize("value", [-1, -1e-9, float("nan")])
@pytest.mark.parametrize("name", ["step_size", "prior_weight", "warm_up"])
def test_negative_settings_are_refused(name: str, value: float) -> None:
    settings = {"step_size": 0.1, name: value}
    with pytest.raises(ValueError, match=f"^{name}: expected at least 0, found {value}$"):
        adagrad.Adagrad(start(), **settings)


@pytest.mark.parametrize("name", ["step_size", "prior_weight", "warm_up"])
def test_infinite_settings_are_refused(name: str) -> None:
    settings = {"step_size": 0.1, name: float("inf")}
    with pytest.raises(ValueError, match=f"^{name}: expected a finite number, found inf$"):
        adagrad.Adagrad(start(), **settings)


def test_a_part_of_a_step_is_no_warm_up() -> None:
    message = r"^warm_up: expected a whole number of steps, found 1\.5$"
    with pytest.raises(ValueError, match=message):
        adagrad.Adagrad(start(), 0.1, warm_up=1.5)


@pytest.mark.parametrize("flat", [False, True])
def test_groups_of_parameters_are_refused(flat: bool) -> None:
    with pytest.raises(TypeError, match=r"^parameters: expected tensors, found a dict$"):
        adagrad.Adagrad([{"params": start()}], 0.1, flat=flat)
    one, other = start()
    optimizer = adagrad.Adagrad([one], 0.1, flat=flat)
    with pytest.raises(ValueError, match=r"^parameters: expected one group, found another$"):
        optimizer.add_param_group({"params": [other]})


def test_flat_parameters_without_a_gradient_are_refused() -> None:
    parameters = start()
    optimizer = adagrad.Adagrad(parameters, 0.1, flat=True)
    before = copy.deepcopy(parameters)
    parameters[0].grad = torch.ones(3, 4)
    with pytest.raises(ValueError, match=r"^parameters: .* of each, found none of \[\(5,\)\]$"):
        optimizer.step()
    assert all(map(torch.equal, parameters, before))
