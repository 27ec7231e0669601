r"""Adagrad as the experiments use it (paper, section 5; Duchi et al. 2011)."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

__all__ = ["Adagrad"]

ALIGNMENT = 64
"""Parameters begin at multiples of so many elements: matrix products are slower elsewhere."""


class Adagrad(torch.optim.Adagrad):
    r"""Adagrad with the constant inside the root, the prior's gradient, and a warm-up.

    .. math::
        g = \nabla_w \ell + \lambda w, \qquad G \leftarrow G + g^2, \qquad
        w \leftarrow w - \eta \, g / \sqrt{G + 10^{-8}}

    where :math:`\ell` is minus the *sum* of the minibatch's bounds, :math:`M/N` times minus eq. 8,
    so the prior :math:`\mathcal{N}(0, I)` on the parameters enters with
    :math:`\lambda = M/N`. Adagrad does not feel the common factor.

    During the warm-up :math:`G` accumulates and :math:`w` stays. The paper does not mention
    one; the first author's code of the time (``anglepy``, April 2014) has it. Without it the
    first step moves every parameter by :math:`\pm\eta`, whatever its gradient.

    Args:
        parameters: The parameters to optimize.
        step_size: The global step size, :math:`\eta`.
        prior_weight: :math:`\lambda`: ``minibatch / datapoints``, or 0 for no prior.
        warm_up: The number of steps that only accumulate.
        flat: Whether the parameters become views of one tensor, which a few operations update:
            by default where they are not on a CPU, which has an operation for all of it.

    Raises:
        ValueError: If ``step_size``, ``prior_weight`` or ``warm_up`` is negative or not finite, or
            ``warm_up`` not whole; or later, if another group of parameters is added.
        TypeError: If ``parameters`` are no tensors, such as groups of them.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        step_size: float,
        *,
        prior_weight: float = 0.0,
        warm_up: int = 100,
        flat: bool | None = None,
    ):
        settings = {"step_size": step_size, "prior_weight": prior_weight, "warm_up": warm_up}
        for name, value in settings.items():
            if not value >= 0:
                raise ValueError(f"{name}: expected at least 0, found {value}")
            if value == math.inf:
                raise ValueError(f"{name}: expected a finite number, found {value}")
        if warm_up != int(warm_up):
            raise ValueError(f"warm_up: expected a whole number of steps, found {warm_up}")
        parameters = list(parameters)
        for p in parameters:
            if not isinstance(p, Tensor):
                raise TypeError(f"parameters: expected tensors, found a {type(p).__name__}")
        on_cpu = all(p.device.type == "cpu" for p in parameters)
        self._flat = not on_cpu if flat is None else flat
        super().__init__(
            parameters,
            lr=step_size,
            weight_decay=prior_weight,
            initial_accumulator_value=1e-8,
            eps=0.0,
            fused=not self._flat or None,  # one pass over each parameter instead of seven
        )
        for group in self.param_groups:
            group.update(lr=0.0, step_size=step_size, warm_up=warm_up, capturable=self._flat)
        if self._flat:
            self._flatten()

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Accumulate the gradients, and move the parameters once the warm-up is over.

        Raises:
            ValueError: If the parameters are flat, and one has no gradient.
        """
        for group in self.param_groups:
            if group["lr"] != group["step_size"]:  # the warm-up is not over yet
                # The most of all: a parameter without a gradient takes no steps.
                done = max(self.state[p]["step"].item() for p in group["params"])
                group["lr"] = group["step_size"] if done >= group["warm_up"] else 0.0
        if self._flat:
            self._step_flat(**self.param_groups[0])
        else:
            super().step(closure)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """The one group of the parameters given; another is refused."""
        if self.param_groups:
            raise ValueError("parameters: expected one group, found another")
        super().add_param_group(param_group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As every optimizer's; what is flat stays flat."""
        super().load_state_dict(state_dict)
        if self._flat:
            self._flatten()

    @torch.no_grad()
    def _flatten(self) -> None:
        """Make the parameters, and their accumulators, views of one tensor each."""
        parameters = self.param_groups[0]["params"]
        gaps = [p.new_zeros(-p.numel() % ALIGNMENT) for p in parameters]
        sums = [self.state[p]["sum"] for p in parameters]
        self._gaps = gaps
        self._w = _joined(parameters, gaps)
        self._sum = _joined(sums, [gap + 1 for gap in gaps])  # else a gap becomes 0 / 0
        self._gradient, self._root = torch.empty_like(self._w), torch.empty_like(self._w)
        begin = 0
        for p, gap in zip(parameters, gaps, strict=True):
            end = begin + p.numel()
            p.data = self._w[begin:end].view_as(p)
            step = torch.as_tensor(self.state[p]["step"], device=p.device)
            self.state[p] = {"step": step, "sum": self._sum[begin:end].view_as(p)}
            begin = end + gap.numel()

    def _step_flat(self, params: list[Tensor], lr: float, weight_decay: float, **_: Any) -> None:
        """The class's formulas, with nothing that the host has to know."""
        gradients = [p.grad for p in params if p.grad is not None]
        if len(gradients) < len(params):
            shapes = [tuple(p.shape) for p in params if p.grad is None]
            raise ValueError(f"parameters: expected a gradient of each, found none of {shapes}")
        torch._foreach_add_([self.state[p]["step"] for p in params], 1.0)
        _joined(gradients, self._gaps, out=self._gradient)
        self._gradient.add_(self._w, alpha=weight_decay)
        self._sum.addcmul_(self._gradient, self._gradient)
        torch.sqrt(self._sum, out=self._root)
        self._w.addcdiv_(self._gradient, self._root, value=-lr)


def _joined(parts: list[Tensor], gaps: list[Tensor], out: Tensor | None = None) -> Tensor:
    """The parts in one row, with a gap after each."""
    pieces = [
        piece for part, gap in zip(parts, gaps, strict=True) for piece in (part.reshape(-1), gap)
    ]
    return torch.cat(pieces, out=out) if out is not None else torch.cat(pieces)
