r"""A variational auto-encoder for an array of your own, in one call.

The experiments of the paper are spelled out in :mod:`aevb.experiments`. This is the same model,
the same algorithm and the same optimizer, for data that the paper did not have.
"""

import math
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy
import torch
from torch import Tensor

from aevb import auto_encoding, data, models, training
from aevb.adagrad import Adagrad
from aevb.arithmetic import float32_products
from aevb.models import VAE

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Fit", "fit"]

LIKELIHOODS = {"bernoulli": models.bernoulli_vae, "gaussian": models.gaussian_vae}
FEWEST = {"x": 2, "test": 1}
"""Rows: one to train on says nothing of another."""
LAST_SEED = 2**32 - 1


class Fit(NamedTuple):
    """A trained model and how it got there."""

    model: VAE
    """The model: ``model.recognition_model(x)`` is :math:`q(z|x)`, and
    ``model.generative_model(z)`` is :math:`p(x|z)`."""

    history: training.History
    """The bound on the way, in nats per datapoint: the curves ``train_running`` and, where a
    test set was given, ``test``, against ``samples``."""


def fit(
    x: "Tensor | NDArray[Any]",
    *,
    test: "Tensor | NDArray[Any] | None" = None,
    latent_dim: int = 2,
    likelihood: str = "bernoulli",
    hidden: int = 200,
    samples: int = 200_000,
    minibatch: int = 100,
    step_size: float = 0.02,
    seed: int = 0,
    progress: bool | None = None,
) -> Fit:
    r"""Train a VAE by Algorithm 1 with Adagrad, as in section 5 of the paper.

    The same arguments on the same machine give the same bits. The global random state is neither
    read nor changed.

    Args:
        x: The data, a floating-point array of shape ``(N, D)`` with values in [0, 1].
        test: Rows to evaluate the bound on, shape ``(N', D)``, which are not trained on.
        latent_dim: The number of latent variables, :math:`N_z`.
        likelihood: ``"bernoulli"`` for black and white (grays count as probabilities), or
            ``"gaussian"`` for continuous values.
        hidden: The tanh units of each of the two networks.
        samples: How many rows are drawn in all, with replacement; rounded down to whole
            minibatches.
        minibatch: Rows in a minibatch, :math:`M`.
        step_size: The global step size of Adagrad, :math:`\eta`, positive.
        seed: Of the initial parameters, the minibatches and the noise; from 0 to 2**32 - 1.
        progress: Whether to show a bar; by default where standard error is a terminal.

    Returns:
        The model and its history.

    Raises:
        TypeError: If an array is not a floating-point one.
        ValueError: If an array or a setting is not as described; the message names it.
        aevb.training.DivergenceError: If the bound stops being a finite number.

    >>> x = torch.eye(4).repeat(10, 1)  # four kinds of rows
    >>> model, history = fit(x, hidden=20, samples=10_000, minibatch=20, step_size=0.1)
    >>> history.curves["train_running"][-1] > history.curves["train_running"][0]
    True
    >>> z = model.recognition_model(x).mean
    >>> z.shape, model.generative_model(z).mean.shape
    (torch.Size([40, 2]), torch.Size([40, 4]))
    """
    train = _checked("x", x)
    if not isinstance(likelihood, str) or likelihood not in LIKELIHOODS:
        raise ValueError(
            f"likelihood: expected one of {', '.join(LIKELIHOODS)}, found {likelihood!r}"
        )
    sizes = {"latent_dim": latent_dim, "hidden": hidden, "samples": samples, "minibatch": minibatch}
    for name, value in sizes.items():
        if not _is_a(Integral, value) or value < 1:
            raise ValueError(f"{name}: expected an integer of at least 1, found {value!r}")
    if not _is_a(Integral, seed) or not 0 <= seed <= LAST_SEED:
        raise ValueError(f"seed: expected an integer from 0 to {LAST_SEED}, found {seed!r}")
    if not _is_a(Real, step_size) or not 0 < step_size < math.inf:
        raise ValueError(f"step_size: expected a positive number, found {step_size!r}")
    held_out = None if test is None else _checked("test", test)
    if held_out is not None and held_out.shape[1] != train.shape[1]:
        raise ValueError(
            f"test: expected rows of {train.shape[1]} values, as in x, found {held_out.shape[1]}"
        )

    seed = int(seed)  # torch takes none of NumPy's
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):  # torch draws layers of its own first
        model = LIKELIHOODS[likelihood](train.shape[1], hidden, latent_dim, generator)
    optimizer = Adagrad(model.parameters(), step_size, prior_weight=minibatch / len(train))

    def evaluate(model: VAE, seen: int) -> dict[str, float]:
        if held_out is None:
            return {}
        noise = torch.Generator().manual_seed(seed)  # the same each time: a smoother curve
        return {"test": training.lower_bound(model, held_out, noise)}

    state, history = training.train(
        float32_products(auto_encoding.step),
        auto_encoding.init(model, optimizer, generator),
        data.minibatches(train, minibatch, generator),
        evaluate,
        training.schedule(samples, minibatch, start=1_000),
        name="fit",
        repeat=True,
        progress=progress,
    )
    return Fit(state.model, history)


def _is_a(kind: type, value: object) -> bool:
    """Whether it is such a number, be it Python's or NumPy's; True and False are none."""
    return isinstance(value, kind) and not isinstance(value, bool)


def _checked(name: str, array: "Tensor | NDArray[Any]") -> Tensor:
    """The array in torch's default precision, if it is one that a model can be trained on."""
    try:  # a copy of NumPy's: it may be one that torch must not write to, such as a mapped file
        x = array if isinstance(array, Tensor) else torch.from_numpy(numpy.array(array))
    except (TypeError, ValueError):
        found = getattr(array, "dtype", type(array).__name__)
        raise TypeError(f"{name}: expected an array of numbers in [0, 1], found {found}") from None
    if not x.is_floating_point():
        raise TypeError(
            f"{name}: expected floating-point values in [0, 1], found {x.dtype}; "
            "of bytes, divide by 255"
        )
    if x.ndim != 2 or x.shape[1] < 1:
        raise ValueError(
            f"{name}: expected shape (N, D), found {tuple(x.shape)}; "
            f"images become rows by {name}.reshape(len({name}), -1)"
        )
    if len(x) < FEWEST[name]:
        raise ValueError(f"{name}: expected at least {FEWEST[name]} rows, found {len(x)}")
    if not bool(x.isfinite().all()):
        row = int((~x.isfinite()).any(1).nonzero()[0])
        raise ValueError(f"{name}: expected finite values, found another in row {row}")
    low, high = float(x.min()), float(x.max())
    if low < 0 or high > 1:
        raise ValueError(f"{name}: expected values in [0, 1], found {low:g} to {high:g}")
    return x.detach().to(device="cpu", dtype=torch.get_default_dtype())
