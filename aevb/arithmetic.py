r"""The same networks, by quicker arithmetic: who multiplies the matrices, and in how many digits.

Left to itself, PyTorch multiplies float32 matrices with MKL, which does not use the widest
instructions of other makers' processors. oneDNN, which PyTorch brings along too, asks what the
processor can do. So a step takes about half the time on an AMD processor with AVX-512, and no digit
is given up.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.overrides import TorchFunctionMode

__all__ = [
    "bfloat16_products",
    "by_onednn",
    "float32_products",
    "multiply",
    "onednn_is_quick",
]

LARGE = 2**15
"""Weights from which on oneDNN's longer preparation is worth it."""


def float32_products(function: Callable[..., Any]) -> Callable[..., Any]:
    r"""The same function with quicker float32 arithmetic, on a processor.

    The product of each large linear layer is oneDNN's, where :func:`onednn_is_quick`: its sums are
    added up in another order. Each tanh is computed as

    .. math::
        \tanh(x) = 2 \sigma(2x) - 1,

    to within 2e-7, where a layer's sums are inexact by more. The backward pass is treated alike;
    second derivatives are not there. Inside :func:`torch.vmap` and the other transforms of
    :mod:`torch.func`, such as around the weights in :mod:`aevb.full_vb`, both stay PyTorch's.

    Args:
        function: One that applies :class:`torch.nn.Linear` layers and :func:`torch.tanh`, such as
            an algorithm's ``step``.

    Returns:
        A function of the same arguments, which returns what ``function`` does. Tensors that are not
        float32, or on a GPU, are treated as ever.
    """
    return _under(function, _linear)


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

    def rounded(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        product = functional.linear(input.bfloat16(), weight.bfloat16()).to(weight.dtype)
        return product if bias is None else product + bias

    return _under(function, rounded)


def by_onednn(weight: Tensor) -> bool:
    """Whether :func:`float32_products` leaves the product with a layer's weights to oneDNN."""
    return _is_float32(weight) and weight.numel() >= LARGE and onednn_is_quick()


def onednn_is_quick() -> bool:
    """Whether PyTorch has oneDNN, and the processor the instructions that it is good at.

    With ``torch.backends.mkldnn.enabled = False`` it counts as not there.
    """
    onednn = torch.backends.mkldnn
    there = onednn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return wide and there and bool(onednn.enabled)


def multiply(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    r""":math:`x W^\top + b` by oneDNN; it cannot be differentiated.

    Args:
        x: Shape ``(..., inputs)``, float32, on a processor.
        weight: Shape ``(outputs, inputs)``.
        bias: Shape ``(outputs,)``.
    """
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def _is_float32(x: Tensor) -> bool:
    return x.dtype == torch.float32 and x.device.type == "cpu"


def _transformed() -> bool:
    """Whether a transform of torch.func is at work: :class:`torch.autograd.Function` asks so too,
    and then refuses one such as those below."""
    return torch._C._are_functorch_transforms_active()


def _under(function: Callable[..., Any], linear: Callable[..., Tensor]) -> Callable[..., Any]:
    @functools.wraps(function)
    def quick(*args: Any, **kwargs: Any) -> Any:
        with _Replacing(linear):
            return function(*args, **kwargs)

    return quick


class _Replacing(TorchFunctionMode):
    """Linear layers and tanh by other functions, as long as it is entered."""

    def __init__(self, linear: Callable[..., Tensor]):
        super().__init__()
        self.linear = linear

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is functional.linear:
            return self.linear(*args, **kwargs)
        plain = function is torch.tanh and args and not kwargs
        if plain and _is_float32(args[0]) and not _transformed():
            return _Tanh.apply(*args)
        return function(*args, **kwargs)


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A linear layer; by oneDNN in two parts, so that who asks for one gradient gets only that."""
    if _transformed() or not input.numel() or not by_onednn(weight):
        return functional.linear(input, weight, bias)
    return _Through.apply(_Product.apply(input.detach(), weight, bias), input, weight.detach())


class _Product(torch.autograd.Function):
    """The product, and the gradients of its weights."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x)
        return multiply(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        rows = upstream.reshape(-1, upstream.shape[-1])
        of_bias = rows.sum(0) if ctx.needs_input_grad[2] else None
        return None, multiply(rows.T, x.reshape(-1, x.shape[-1]).T), of_bias


class _Through(torch.autograd.Function):
    """What is there already, and the gradient of its input."""

    @staticmethod
    def forward(ctx: Any, product: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return product.view_as(product)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        of_x = multiply(upstream, weight.T) if ctx.needs_input_grad[1] else None
        return upstream, of_x, None


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
