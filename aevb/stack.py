r"""Several models as one, so that a GPU does their products together.

A step of one model of this size keeps a large GPU busy for a tenth of its time; the rest goes
into starting its hundred operations. Models whose parameters are stacked need no more operations
than one of them. Where they differ in their number of latent variables, the smaller ones are
padded, with parameters that are zero and stay zero.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from aevb.models import LatentVariableModel

__all__ = ["Stack"]


class Stack(LatentVariableModel):
    r"""Models of one architecture as a single one, of minibatches ``(K, M, D)``.

    An algorithm's ``step`` takes it as it takes one model; what would have the shape ``(M,)`` has
    ``(K, M)``. A latent variable that a member does not have is standard normal under the prior
    and under the recognition model, and nothing depends on it: it adds zero to a bound.

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
            _stacked([model.generative_model for model in models]),
            _stacked([model.recognition_model for model in models]),
            max(model.latent_dim for model in models),
        )
        self._members = tuple(models)

    @torch.no_grad()
    def members(self) -> tuple[LatentVariableModel, ...]:
        """The models that were stacked, with the parameters that they have come to."""
        stacked = dict(self.named_parameters())
        for k, member in enumerate(self._members):
            for name, parameter in member.named_parameters():
                parameter.copy_(stacked[name][k][_corner(parameter)])
        return self._members


class _Linear(nn.Module):
    """Linear layers side by side: from ``(..., K, M, inputs)`` to ``(..., K, M, outputs)``."""

    def __init__(self, layers: Sequence[nn.Linear]):
        super().__init__()
        self.weight = _padded([layer.weight for layer in layers])  # (K, outputs, inputs)
        self.bias = _padded([layer.bias for layer in layers])  # (K, outputs)

    def forward(self, given: Tensor) -> Tensor:
        rows = given.movedim(-3, 0)
        products = torch.baddbmm(self.bias[:, None], rows.flatten(1, -2), self.weight.mT)
        return products.unflatten(1, rows.shape[1:-1]).movedim(0, -3)


def _stacked(modules: Sequence[nn.Module]) -> nn.Module:
    """The first module, with each linear layer of it replaced by those of all."""
    if isinstance(modules[0], nn.Linear):
        return _Linear(modules)  # type: ignore[arg-type]
    whole = copy.copy(modules[0])
    whole._modules = {
        name: _stacked([module.get_submodule(name) for module in modules])
        for name, _ in modules[0].named_children()
    }
    return whole


def _padded(parameters: Sequence[Tensor]) -> nn.Parameter:
    """The parameters in a row, zeros where one is smaller; these get no gradient."""
    largest = [max(sizes) for sizes in zip(*(p.shape for p in parameters), strict=True)]
    rows, given = parameters[0].new_zeros(2, len(parameters), *largest).detach()
    for k, parameter in enumerate(parameters):
        rows[k][_corner(parameter)] = parameter.detach()
        given[k][_corner(parameter)] = 1
    stacked = nn.Parameter(rows.clone())
    if not given.all():
        stacked.register_hook(given.clone().mul)
    return stacked


def _corner(parameter: Tensor) -> tuple[slice, ...]:
    """Where a parameter lies in one that is at least as large."""
    return tuple(slice(size) for size in parameter.shape)


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
