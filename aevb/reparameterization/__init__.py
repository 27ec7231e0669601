r"""The reparameterization trick (paper, section 2.4).

A draw :math:`z \sim q_\phi(z|x)` is written :math:`z = g_\phi(\epsilon, x)` with noise
:math:`\epsilon \sim p(\epsilon)` that does not depend on :math:`\phi`. The average of
:math:`f(z)` over draws is then differentiable in :math:`\phi` (eqs 4 and 5).

The laws are in modules, one a recipe, which are imported when they are first used.
"""

import importlib
import pkgutil
from types import ModuleType

import torch
from torch import Tensor
from torch.distributions import Independent, Normal

__all__ = ["location_scale", "sample"]


def __getattr__(name: str) -> ModuleType:
    if name in (module.name for module in pkgutil.iter_modules(__path__)):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *(module.name for module in pkgutil.iter_modules(__path__))})


def location_scale(epsilon: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    r"""The map of a location--scale family, :math:`g(\epsilon) = \mathrm{loc} +
    \mathrm{scale} \odot \epsilon` (paper, section 2.4, case 2).

    Args:
        epsilon: Draws of the family's standard member (location 0, scale 1).
        loc: The location; broadcasts against ``epsilon``.
        scale: The scale; broadcasts against ``epsilon``.

    Returns:
        Draws of the member with that location and scale.

    >>> location_scale(torch.tensor([-1.0, 0.0, 2.0]), torch.tensor(10.0), torch.tensor(3.0))
    tensor([ 7., 10., 16.])
    """
    return loc + scale * epsilon


def sample(q: Independent, samples: int = 1, generator: torch.Generator | None = None) -> Tensor:
    r"""Draws :math:`z^{(l)} = \mu + \sigma \odot \epsilon^{(l)}` of a diagonal Gaussian (eq. 4).

    Args:
        q: ``Independent(Normal(mu, sigma), 1)``, batch shape ``(M,)``, event shape ``(J,)``.
        samples: The number of draws per datapoint, :math:`L`.
        generator: The source of the noise.

    Returns:
        The draws, shape ``(L, M, J)``, differentiable in ``mu`` and ``sigma``.

    Raises:
        TypeError: If ``q`` is not a diagonal Gaussian.
        ValueError: If ``samples`` is smaller than one.

    >>> mean = torch.zeros(5, 2, requires_grad=True)
    >>> z = sample(Independent(Normal(mean, 1.0), 1), samples=3)
    >>> z.shape
    torch.Size([3, 5, 2])
    >>> torch.autograd.grad(z.sum(), mean)[0][0]  # a mean moves its three draws
    tensor([3., 3.])
    """
    if not (isinstance(q, Independent) and isinstance(q.base_dist, Normal)):
        raise TypeError(f"q: expected Independent(Normal, 1), found {q}")
    if samples < 1:
        raise ValueError(f"samples: expected at least 1, found {samples}")
    loc, scale = q.base_dist.loc, q.base_dist.scale
    epsilon = torch.randn(
        (samples, *loc.shape), generator=generator, dtype=loc.dtype, device=loc.device
    )
    return location_scale(epsilon, loc, scale)
