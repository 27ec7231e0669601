r"""The same networks, by quicker arithmetic: who multiplies the matrices, and in how many digits.

Left to itself, PyTorch multiplies float32 matrices with MKL, which uses a processor's widest
instructions only if Intel made it. oneDNN, which PyTorch brings along too, asks what the
processor can do, and halves the time of a step on others. In bfloat16 it halves it again.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.overrides import TorchFunctionMode

__all__ = ["PRECISIONS", "bfloat16_products", "float32_products", "onednn_is_quick"]

LARGE = 2**15
"""Weights from which on oneDNN's longer preparation is worth it."""


def float32_products(function: Callable[..., Any]) -> Callable[..., Any]:
    r"""The same function with quicker float32 arithmetic, on a processor.

    The product of each large linear layer is oneDNN's, where :func:`onednn_is_quick`: its sums are
    added up in another order. Each tanh is computed as

    .. math::
        \tanh(x) = 2 \sigma(2x) - 1,

    to within 2e-7, where a layer's sums are inexact by more. The backward pass is treated alike;
    second derivatives are not there.

    Args:
        function: One that applies :class:`torch.nn.Linear` layers and :func:`torch.tanh`, such as
            an algorithm's ``step``.

    Returns:
        A function of the same arguments, which returns what ``function`` does. Tensors that are not
        float32, or on a GPU, are treated as ever.
    """
    return _under(function, _Linear.apply if onednn_is_quick() else functional.linear)


def bfloat16_products(function: Callable[..., Any]) -> Callable[..., Any]:
    r"""The same function, with the product of each linear layer in bfloat16.

    .. math::
        Wx + b \;\to\; \operatorname{round}(W) \operatorname{round}(x) + b

    The rounding keeps 8 significant bits. Sums inside a product are float32, its result is
    rounded once more. The products of the backward pass are treated alike. All else is as in
    :func:`float32_products`: parameters, their accumulators and what lies between two products stay
    float32. Whether a curve suffers has to be looked at, run by run.

    Args:
        function: One that applies :class:`torch.nn.Linear` layers, such as an algorithm's ``step``.

    Returns:
        A function of the same arguments, which returns what ``function`` does.
    """

    def rounded(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return functional.linear(x.bfloat16(), weight.bfloat16()).to(weight.dtype) + bias

    return _under(function, rounded, everywhere=True)


PRECISIONS: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "float32": float32_products,
    "bfloat16": bfloat16_products,
}
"""The arithmetic of matrix products, by the name of its precision."""


@functools.cache
def onednn_is_quick() -> bool:
    """Whether this PyTorch has oneDNN, and the processor the instructions that it is good at."""
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return wide and torch.backends.mkldnn.is_available()


def _under(
    function: Callable[..., Any], linear: Callable[..., Tensor], *, everywhere: bool = False
) -> Callable[..., Any]:
    @functools.wraps(function)
    def quick(*args: Any, **kwargs: Any) -> Any:
        with _Replacing(linear, everywhere):
            return function(*args, **kwargs)

    return quick


class _Replacing(TorchFunctionMode):
    """Linear layers and tanh by other functions, as long as it is entered."""

    def __init__(self, linear: Callable[..., Tensor], everywhere: bool):
        super().__init__()
        self.linear, self.everywhere = linear, everywhere

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if function is functional.linear:
            _, weight, _ = args
            if self.everywhere or (_float32(weight) and weight.numel() >= LARGE):
                return self.linear(*args)
        elif function is torch.tanh and _float32(args[0]):
            return _Tanh.apply(*args)
        return function(*args, **(kwargs or {}))


def _float32(x: Tensor) -> bool:
    return x.dtype == torch.float32 and x.device.type == "cpu"


class _Linear(torch.autograd.Function):
    """A linear layer by oneDNN."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _multiply(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        rows = upstream.flatten(0, -2)
        return (
            _multiply(upstream, weight.T) if of_x else None,
            _multiply(rows.T, x.flatten(0, -2).T) if of_weight else None,
            rows.sum(0) if of_bias else None,
        )


def _multiply(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class _Tanh(torch.autograd.Function):
    """The logistic function is several times as fast as PyTorch's tanh."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = torch.sigmoid(2 * x).mul_(2).sub_(1)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return torch.ops.aten.tanh_backward(upstream, y)
