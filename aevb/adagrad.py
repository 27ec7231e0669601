r"""Adagrad as the experiments use it (paper, section 5; Duchi et al. 2011)."""

from collections.abc import Iterable

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
        super().__init__(
            parameters,
            lr=step_size,
            weight_decay=prior_weight,
            initial_accumulator_value=1e-8,
            eps=0.0,
            # One pass over each parameter instead of seven; the CPU kernel is the tested one.
            fused=all(p.device.type == "cpu" for p in parameters) or None,
        )
        for group in self.param_groups:
            group.update(lr=0.0, step_size=step_size, warm_up=warm_up)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Accumulate the gradients, and move the parameters once the warm-up is over."""
        for group in self.param_groups:
            if group["lr"] != group["step_size"]:  # the warm-up is not over yet
                done = self.state[group["params"][0]]["step"].item()
                group["lr"] = group["step_size"] if done >= group["warm_up"] else 0.0
        super().step(closure)
