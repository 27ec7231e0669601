r"""A distribution whose draws are a differentiable map of noise (paper, section 2.4).

A :class:`Law` is a ``torch.distributions.Distribution`` whose ``rsample`` is written as the paper
writes it, :math:`z = g(\epsilon)`, with the two halves there to be called: :meth:`Law.noise` and
:meth:`Law.g`. Where ``torch.distributions`` has the law, ours is a subclass of it. The density,
moments, divergences and distribution function are then PyTorch's, and only the draw is ours.
"""

import math
from collections.abc import Sequence
from functools import reduce
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

__all__ = ["Law", "NormalNoise", "UniformNoise", "WholeShapes", "normal", "uniform"]

WANTED = {
    constraints.real: "a finite number",
    constraints.positive: "a positive number",
    constraints.positive_integer: "a positive integer",
    constraints.unit_interval: "a number between 0 and 1",
    constraints.lower_cholesky: "a lower-triangular matrix with a positive diagonal",
}


def uniform(shape: Sequence[int], like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draws from the *open* interval (0, 1), with the dtype and the device of ``like``.

    ``torch.rand`` returns a multiple of ``eps / 2``, zero among them, where an inverse CDF may be
    infinite. Its zeros become ``eps / 4``, the middle of the first cell.

    Args:
        shape: The shape of the draws.
        like: A floating-point tensor.
        generator: The source of the noise; the global one if ``None``.

    Returns:
        The draws.
    """
    u = torch.rand(tuple(shape), generator=generator, dtype=like.dtype, device=like.device)
    return u.clamp_min(torch.finfo(u.dtype).eps / 4)


def normal(shape: Sequence[int], like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Standard Gaussian draws with the dtype and the device of ``like``.

    Args:
        shape: The shape of the draws.
        like: A floating-point tensor.
        generator: The source of the noise; the global one if ``None``.

    Returns:
        The draws.
    """
    return torch.randn(tuple(shape), generator=generator, dtype=like.dtype, device=like.device)


class Law(Distribution):
    r"""A law :math:`z = g(\epsilon)`. Subclasses say how the noise is drawn and what ``g`` does.

    Attributes:
        parameters: The parameters by name, with one batch shape.
        constants: Names of those that ``g`` passes no gradient to: integers, for the most part.

    >>> from aevb.reparameterization import inverse_cdf
    >>> scale = torch.tensor(2.0, requires_grad=True)
    >>> law = inverse_cdf.Rayleigh(scale)
    >>> z = law.g(torch.tensor(0.5))  # the median
    >>> torch.stack([z, *torch.autograd.grad(z, scale)]).detach()
    tensor([2.3548, 1.1774])
    """

    constants: ClassVar[tuple[str, ...]] = ()
    arg_constraints: Any
    has_rsample = True
    parameters: dict[str, Tensor]

    # ---- What a subclass says -------------------------------------------------------------------

    def _draw(self, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
        """Noise of the shape asked for."""
        raise NotImplementedError

    def _map(self, noise: Tensor) -> Tensor:
        """What :meth:`g` returns."""
        raise NotImplementedError

    def _log_density(self, value: Tensor) -> Tensor:
        """The log density inside the support; PyTorch's where it has the law."""
        return super().log_prob(value)

    @property
    def _noise_shape(self) -> torch.Size:
        """The shape of the noise of one draw."""
        return self.event_shape

    @property
    def _inside(self) -> Tensor:
        """Some point of the support."""
        return torch.ones_like(self._first)

    # ---- Draws ----------------------------------------------------------------------------------

    def noise(
        self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None
    ) -> Tensor:
        r"""Draws of :math:`\epsilon`, whose distribution holds no parameter to differentiate.

        Args:
            sample_shape: How many draws of the whole batch.
            generator: The source of the noise; the global one if ``None``.

        Returns:
            Noise of shape ``sample_shape + batch_shape``, then that of the noise of one draw.

        Raises:
            TypeError: If ``sample_shape`` is no tuple of sizes.
        """
        if not isinstance(sample_shape, Sequence) or not all(
            isinstance(n, int) and n >= 0 for n in sample_shape
        ):
            raise TypeError(f"sample_shape: expected a tuple of sizes, found {sample_shape!r}")
        shape = torch.Size(sample_shape) + self.batch_shape + self._noise_shape
        with torch.no_grad():
            return self._draw(shape, generator)

    def g(self, noise: Tensor) -> Tensor:
        r"""The map from noise to a draw, :math:`z = g(\epsilon)`, differentiable in parameters.

        Args:
            noise: What :meth:`noise` returned, or any noise of such a shape.

        Returns:
            Draws of shape ``sample_shape + batch_shape + event_shape``.

        Raises:
            ValueError: If the noise has another shape.
        """
        wanted = self.batch_shape + self._noise_shape
        if noise.shape[noise.dim() - len(wanted) :] != wanted:
            raise ValueError(f"noise: expected shape (..., {_sizes(wanted)}), found {_of(noise)}")
        return self._map(noise)

    def rsample(
        self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None
    ) -> Tensor:
        r"""Draws through which the parameters' gradients flow: ``g(noise(sample_shape))``.

        Raises:
            ValueError: If a parameter to which none flows, one of ``constants``, requires one.
        """
        for name in self.constants:
            if self.parameters[name].requires_grad:
                raise ValueError(
                    f"{name}: expected a constant, found a tensor that requires a gradient, "
                    f"which the map of {type(self).__name__} does not have"
                )
        return self.g(self.noise(sample_shape, generator))

    def sample(
        self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None
    ) -> Tensor:
        """Draws without a gradient."""
        with torch.no_grad():
            return self.g(self.noise(sample_shape, generator))

    # ---- The density ----------------------------------------------------------------------------

    def log_prob(self, value: Tensor) -> Tensor:
        r"""The log density, in nats, of shape ``value.shape`` less ``event_shape``.

        Outside the support it is :math:`-\infty`, and its gradient zero.

        Raises:
            TypeError: If ``value`` is no tensor of real numbers.
            ValueError: If it holds nan, or has a shape that does not fit.
        """
        value = self._checked(value)
        support: Any = self.support
        inside = support.check(value)
        whole = inside.reshape(inside.shape + (1,) * len(self.event_shape))
        density = self._log_density(torch.where(whole, value, self._inside.detach()))
        return torch.where(inside, density, -math.inf)

    def _checked(self, value: Tensor) -> Tensor:
        if not isinstance(value, Tensor) or not value.is_floating_point():
            found = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise TypeError(f"value: expected a tensor of real numbers, found {found}")
        if value.isnan().any():
            raise ValueError("value: expected numbers, found nan")
        wanted = self.batch_shape + self.event_shape
        event = value.shape[max(0, value.dim() - len(self.event_shape)) :]
        if event != self.event_shape or not _broadcast(value.shape, wanted):
            raise ValueError(
                f"value: expected a shape that broadcasts with ({_sizes(wanted)}), "
                f"found {_of(value)}"
            )
        return value

    # ---- The parameters -------------------------------------------------------------------------

    def _accept(self, validate_args: bool | None = None, **given: Any) -> dict[str, Any]:
        """Keeps the parameters as tensors of one dtype, device and batch shape, checked by name.

        Returns:
            The keyword arguments with which PyTorch's own constructor need not check again.
        """
        ranks = {name: self.arg_constraints[name].event_dim for name in given}
        tensors = _as_tensors(given)
        for name, tensor in tensors.items():
            if tensor.dim() < ranks[name]:
                raise ValueError(
                    f"{name}: expected at least {ranks[name]} dimension(s), found {_of(tensor)}"
                )
        shapes = {name: t.shape[: t.dim() - ranks[name]] for name, t in tensors.items()}
        if not _broadcast(*shapes.values()):
            found = ", ".join(f"({_sizes(shape)})" for shape in shapes.values())
            names = ", ".join(shapes)
            raise ValueError(f"{names}: expected batch shapes that broadcast, found {found}")
        batch = torch.broadcast_shapes(*shapes.values())
        self.parameters = {
            name: tensor.expand(batch + tensor.shape[tensor.dim() - ranks[name] :])
            for name, tensor in tensors.items()
        }
        if validate_args is not False:
            for name, tensor in self.parameters.items():
                self._check(name, tensor)
        return {**self.parameters, "validate_args": False}

    def _check(self, name: str, tensor: Tensor) -> None:
        constraint = self.arg_constraints[name]
        constraint = getattr(constraint, "base_constraint", constraint)
        rank = constraint.event_dim
        finite = tensor.isfinite()
        good = constraint.check(tensor) & (finite.flatten(-rank).all(-1) if rank else finite)
        if not good.all():
            found = tensor.detach()[~good][0]
            raise ValueError(f"{name}: expected {self._wanted(constraint, found)}")

    def _wanted(self, constraint: constraints.Constraint, found: Tensor) -> str:
        return f"{WANTED[constraint]}, found {found.tolist()}"

    def _ordered(self, validate_args: bool | None) -> None:
        """Refuses a ``high`` that is not above ``low``."""
        low, high = self.parameters["low"], self.parameters["high"]
        if validate_args is not False and not (low < high).all():
            found, least = high.detach()[~(low < high)][0], low.detach()[~(low < high)][0]
            raise ValueError(f"high: expected more than low, {least:g}, found {found:g}")

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        """The same law with a larger batch shape; nothing is copied."""
        grown: dict[str, Any] = {"validate_args": False}
        for name, tensor in self.parameters.items():
            rank = self.arg_constraints[name].event_dim
            event = tensor.shape[tensor.dim() - rank :]
            grown[name] = tensor.expand(torch.Size(batch_shape) + event)
        return type(self)(**grown)

    @property
    def _first(self) -> Tensor:
        return next(iter(self.parameters.values()))

    def __repr__(self) -> str:
        shown = (
            f"{name}: {tensor.item():g}" if tensor.numel() == 1 else f"{name}: {_of(tensor)}"
            for name, tensor in self.parameters.items()
        )
        return f"{type(self).__name__}({', '.join(shown)})"


class UniformNoise(Law):
    r"""A law whose noise is :math:`u \sim U(0, 1)`, never exactly 0 or 1."""

    def _draw(self, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
        return uniform(shape, self._first, generator)


class NormalNoise(Law):
    r"""A law whose noise is :math:`\epsilon \sim \mathcal{N}(0, 1)`, or a vector of such."""

    def _draw(self, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
        return normal(shape, self._first, generator)


class WholeShapes(Law):
    """A law made of a whole number of simpler draws: its shapes are positive integers."""

    def _wanted(self, constraint: constraints.Constraint, found: Tensor) -> str:
        wanted = super()._wanted(constraint, found)
        if constraint is not constraints.positive_integer:
            return wanted
        theirs = next(c for c in type(self).__mro__ if c.__module__.startswith("torch."))
        built = "," if theirs.__name__ == "Gamma" else ", built on torch.distributions.Gamma and"
        return (
            f"{wanted}: the recipe of 2014 adds up whole draws and needs an integer. For other "
            f"values use torch.distributions.{theirs.__name__}{built} reparameterized "
            "implicitly (Figurnov et al., 2018)"
        )


def _as_tensors(given: dict[str, Any]) -> dict[str, Tensor]:
    for name, value in given.items():
        if not isinstance(value, Tensor | int | float):
            raise TypeError(f"{name}: expected a number or a tensor, found {value!r}")
    found = [value for value in given.values() if isinstance(value, Tensor)]
    real = [tensor.dtype for tensor in found if tensor.is_floating_point()]
    dtype = reduce(torch.promote_types, real) if real else torch.get_default_dtype()
    device = found[0].device if found else None
    return {name: torch.as_tensor(v, dtype=dtype, device=device) for name, v in given.items()}


def _broadcast(*shapes: Sequence[int]) -> bool:
    try:
        torch.broadcast_shapes(*map(tuple, shapes))
    except RuntimeError:
        return False
    return True


def _sizes(shape: Sequence[int]) -> str:
    return ", ".join(str(size) for size in shape)


def _of(tensor: Tensor) -> str:
    return f"shape ({_sizes(tensor.shape)})"
