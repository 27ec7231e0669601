"""A small state of each algorithm, and a step of it. The data are synthetic."""

from collections.abc import Callable
from typing import Any

import torch

from aevb import adagrad, auto_encoding, data, models, wake_sleep

ALGORITHMS = {"aevb": auto_encoding, "wake-sleep": wake_sleep}
MODELS = {"bernoulli": models.bernoulli_vae, "gaussian": models.gaussian_vae}


def made(
    algorithm: str = "aevb",
    likelihood: str = "bernoulli",
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
    *,
    own_generator: bool = False,
) -> tuple[Any, Callable[[], Any]]:
    """A state, and one step of it.

    One generator, of the CPU, is all its randomness; with ``own_generator`` one of the device.
    """
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(60, 12, generator=generator).to(device, dtype)
    model = MODELS[likelihood](12, 9, 3, generator, 0.3).to(device, dtype)
    if own_generator:
        generator = torch.Generator(device).manual_seed(2)
    optimizer = adagrad.Adagrad(model.parameters(), 0.05, prior_weight=0.1, warm_up=2)
    state = ALGORITHMS[algorithm].init(model, optimizer, generator)
    draw = data.minibatches(x, 8, generator)
    return state, lambda: ALGORITHMS[algorithm].step(state, next(draw))[1]
