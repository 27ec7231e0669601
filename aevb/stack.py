r"""Several models side by side, so that a GPU trains them at once.

A step of one model of this size starts a hundred operations and keeps a large GPU busy for a
tenth of its time. Side by side, the models keep their own products, which the device does at the
same time; all else is done once for all of them. They may differ in their number of latent
variables: where a model has fewer, zeros fill the room.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from aevb.models import LatentVariableModel

__all__ = ["Stack"]


class Stack(LatentVariableModel):
    r"""Models of one architecture as a single one, of minibatches ``(K, M, D)``.

    An algorithm's ``step`` takes it as it takes one model; what would have the shape ``(M,)`` has
    ``(K, M)``. A latent variable that a member does not have is standard normal under the prior
    and under the recognition model, and nothing depends on it: it adds zero to a bound.

    Attributes:
        members: The models. Their parameters are the stack's.

    Args:
        models: The members, on one device. They may differ in ``latent_dim``.

    Raises:
        ValueError: If there are none, or one differs from the first in more than that.
    """

    def __init__(self, models: Sequence[LatentVariableModel]):
        if not models:
            raise ValueError("models: expected at least one, found none")
        for place, model in enumerate(models):
            _check_alike(models[0], model, place)
        super().__init__(
            _side_by_side([model.generative_model for model in models]),
            _side_by_side([model.recognition_model for model in models]),
            max(model.latent_dim for model in models),
        )
        self.members = tuple(models)


def _side_by_side(modules: Sequence[nn.Module]) -> nn.Module:
    """The first module, with each linear layer of it replaced by those of all."""
    if isinstance(modules[0], nn.Linear):
        return _Linear(modules)
    whole = copy.copy(modules[0])
    whole._modules = {
        name: _side_by_side([module.get_submodule(name) for module in modules])
        for name, _ in modules[0].named_children()
    }
    return whole


class _Linear(nn.Module):
    """Linear layers side by side: from ``(..., K, M, inputs)`` to ``(..., K, M, outputs)``."""

    def __init__(self, layers: Sequence[nn.Module]):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, given: Tensor) -> Tensor:
        rows = given.movedim(-3, 0)
        parameters = [p for layer in self.layers for p in (layer.weight, layer.bias)]
        products = _Products.apply(rows.flatten(1, -2), *parameters)
        return products.unflatten(1, rows.shape[1:-1]).movedim(0, -3)


class _Products(torch.autograd.Function):
    """Each layer's product with its own rows; zeros where it has fewer outputs than another."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, *parameters: Tensor) -> Tensor:
        weights, biases = parameters[::2], parameters[1::2]
        ctx.save_for_backward(rows, *weights)
        out = _room(rows, [len(weight) for weight in weights])
        for x, weight, bias, y in zip(rows, weights, biases, out, strict=True):
            outputs, inputs = weight.shape
            torch.addmm(bias, x[:, :inputs], weight.T, out=y[:, :outputs])
        return out

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        rows, *weights = ctx.saved_tensors
        (errors,) = upstream
        shapes = [weight.shape for weight in weights]
        below = None
        if ctx.needs_input_grad[0]:
            below = _room(errors, [inputs for _, inputs in shapes], rows.shape[-1])
            for error, weight, y in zip(errors, weights, below, strict=True):
                outputs, inputs = weight.shape
                torch.mm(error[:, :outputs], weight, out=y[:, :inputs])
        sums = errors.sum(1)
        gradients: list[Tensor] = []
        for x, error, total, (outputs, inputs) in zip(rows, errors, sums, shapes, strict=True):
            gradients += [error[:, :outputs].T @ x[:, :inputs], total[:outputs]]
        return below, *gradients


def _room(like: Tensor, sizes: Sequence[int], largest: int | None = None) -> Tensor:
    """Room for results of so many columns; zeros, unless each fills all of it."""
    largest = largest or max(sizes)
    shape = (*like.shape[:-1], largest)
    return like.new_empty(shape) if set(sizes) == {largest} else like.new_zeros(shape)


def _check_alike(first: LatentVariableModel, model: LatentVariableModel, place: int) -> None:
    expected, found = (dict(m.named_parameters()) for m in (first, model))
    if expected.keys() != found.keys():
        raise ValueError(
            f"models: expected the parameters {', '.join(expected)} of each, "
            f"found {', '.join(found)} at {place}"
        )
    latent = (first.latent_dim, model.latent_dim)
    for name, parameter in expected.items():
        sizes = list(zip(parameter.shape, found[name].shape, strict=False))
        if any(one != other and (one, other) != latent for one, other in sizes):
            raise ValueError(
                f"models: expected {name} of the shape {tuple(parameter.shape)} but for the latent "
                f"variables, found {tuple(found[name].shape)} at {place}"
            )
