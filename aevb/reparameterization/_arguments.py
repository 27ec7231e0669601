"""The arguments of a law: numbers become tensors, and what an error says about them."""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

Real = Tensor | float

WANTED = {
    constraints.real: "a finite number",
    constraints.positive: "a positive number",
    constraints.positive_integer: "a positive integer",
    constraints.unit_interval: "a number between 0 and 1",
    constraints.lower_cholesky: "a lower-triangular matrix with a positive diagonal",
}


def as_tensors(given: dict[str, Any]) -> dict[str, Tensor]:
    """The parameters as tensors of one dtype and device."""
    for name, value in given.items():
        if not isinstance(value, Tensor | int | float):
            raise TypeError(f"{name}: expected a number or a tensor, found {value!r}")
    found = [value for value in given.values() if isinstance(value, Tensor)]
    real = [tensor.dtype for tensor in found if tensor.is_floating_point()]
    dtype = reduce(torch.promote_types, real) if real else torch.get_default_dtype()
    device = found[0].device if found else None
    return {name: torch.as_tensor(v, dtype=dtype, device=device) for name, v in given.items()}


def broadcast(*shapes: Sequence[int]) -> bool:
    """Whether shapes broadcast with each other."""
    try:
        torch.broadcast_shapes(*map(tuple, shapes))
    except RuntimeError:
        return False
    return True


def check_order(low: Tensor, high: Tensor) -> None:
    """Raises if a ``high`` is not above its ``low``."""
    wrong = ~(low < high).detach()
    if wrong.any():
        found, least = high.detach()[wrong][0], low.detach()[wrong][0]
        raise ValueError(f"high: expected more than low, {least:g}, found {found:g}")


def check_value(value: Tensor, batch_shape: torch.Size, event_shape: torch.Size) -> None:
    """Raises if ``value`` is not draws of such a law."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        found = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"value: expected a tensor of real numbers, found {found}")
    if value.isnan().any():
        raise ValueError("value: expected numbers, found nan")
    wanted = batch_shape + event_shape
    event = value.shape[max(0, value.dim() - len(event_shape)) :]
    if event != event_shape or not broadcast(value.shape, wanted):
        raise ValueError(
            f"value: expected a shape that broadcasts with ({sizes(wanted)}), found {of(value)}"
        )


def sizes(shape: Sequence[int]) -> str:
    """A shape without its brackets."""
    return ", ".join(str(size) for size in shape)


def of(tensor: Tensor) -> str:
    """What an error says that it found."""
    return f"shape ({sizes(tensor.shape)})"
