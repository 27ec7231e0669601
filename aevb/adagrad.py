r"""Adagrad as the experiments use it (paper, section 5; Duchi et al. 2011)."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

__all__ = ["Adagrad"]


class Adagrad(torch.optim.Adagrad):
    r"""Adagrad with the constant inside the root, the prior's gradient, and a warm-up.

    .. math::
        g = \nabla_w \ell + \lambda w, \qquad G \leftarrow G + g^2, \qquad
        w \leftarrow w - \eta \, g / \sqrt{G + 10^{-8}}

    where :math:`\ell` is minus the *sum* of the minibatch's bounds: :math:`M/N` times eq. 8,
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

    Raises:
        ValueError: If ``step_size``, ``prior_weight`` or ``warm_up`` is negative.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        step_size: float,
        *,
        prior_weight: float = 0.0,
        warm_up: int = 100,
    ):
        settings = {"step_size": step_size, "prior_weight": prior_weight, "warm_up": warm_up}
        for name, value in settings.items():
            if not value >= 0:
                raise ValueError(f"{name}: expected at least 0, found {value}")
        parameters = list(parameters)
        on_cpu = all(p.device.type == "cpu" for p in parameters)
        super().__init__(
            parameters,
            lr=step_size,
            weight_decay=prior_weight,
            initial_accumulator_value=1e-8,
            eps=0.0,
            fused=on_cpu or None,  # one pass over each parameter instead of seven
        )
        for group in self.param_groups:
            group.update(lr=0.0, step_size=step_size, warm_up=warm_up, capturable=not on_cpu)
        self._roots: list[Tensor] = []
        if not on_cpu:  # nothing that a step needs is asked of the host
            self._roots = [torch.empty_like(p) for p in parameters]
            for p in parameters:
                self.state[p]["step"] = torch.zeros((), device=p.device)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Accumulate the gradients, and move the parameters once the warm-up is over."""
        for group in self.param_groups:
            if group["lr"] != group["step_size"]:  # the warm-up is not over yet
                done = self.state[group["params"][0]]["step"].item()
                group["lr"] = group["step_size"] if done >= group["warm_up"] else 0.0
        if self._roots:
            self._update(**self.param_groups[0])
        else:
            super().step(closure)

    def _update(self, params: list[Tensor], lr: float, weight_decay: float, **_: Any) -> None:
        """The class's formulas, each for all parameters at once."""
        gradients = [p.grad for p in params if p.grad is not None]
        sums = [self.state[p]["sum"] for p in params]
        torch._foreach_add_([self.state[p]["step"] for p in params], 1.0)
        torch._foreach_add_(gradients, params, alpha=weight_decay)
        torch._foreach_addcmul_(sums, gradients, gradients)
        torch._foreach_copy_(self._roots, sums)
        torch._foreach_sqrt_(self._roots)
        torch._foreach_addcdiv_(params, gradients, self._roots, value=-lr)
