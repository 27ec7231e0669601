r"""What a training step is held against: its matrix products alone, and other people's code."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from aevb import arithmetic, models
from aevb.experiments import Experiment

__all__ = ["STEPS", "layers", "peers", "plain_loop", "products"]

STEPS = {"NumPyro": 50}
"""The steps in one call, of what does not do one: a loop that is compiled as a whole."""
HIDDEN, LATENT = 500, 20
"""The tanh units of each network and the latent variables of the paper's model on MNIST."""


def layers(experiment: Experiment, data_dim: int) -> list[tuple[int, int]]:
    """The inputs and outputs of each linear layer of a VAE, the first one first."""
    hidden, latent = experiment.hidden, experiment.latent_dim
    pixels = 1 if experiment.dataset == "mnist" else 2  # a Gaussian has a mean and a variance
    encoder = [(data_dim, hidden), (hidden, latent), (hidden, latent)]
    return [*encoder, (latent, hidden), *[(hidden, data_dim)] * pixels]


def products(experiment: Experiment, data_dim: int, *, quick: bool = False) -> Callable[[], None]:
    """The matrix products of one AEVB step and nothing else: the least that it has to do.

    Each layer has one forward, one for the gradient of its weights, and one for that of its input,
    but for the first layer, whose input is data.

    Args:
        experiment: Its layers' sizes and its minibatch count.
        data_dim: The number of pixels.
        quick: Whether the products are those of :func:`~aevb.arithmetic.float32_products`, or as
            PyTorch does them left to itself.
    """
    calls: list[tuple[Tensor, Tensor, Tensor | None]] = []
    for number, (inputs, outputs) in enumerate(layers(experiment, data_dim)):
        x, upstream = (torch.randn(experiment.minibatch, size) for size in (inputs, outputs))
        weight = torch.randn(outputs, inputs)
        here = [(x, weight.T, upstream), (upstream.T, x, weight), (upstream, weight, x)]
        for left, right, like in here if number else here[:2]:
            onednn = quick and arithmetic.by_onednn(weight)
            calls.append((left, right, None if onednn else torch.empty_like(like)))

    def multiply() -> None:
        for left, right, out in calls:
            if out is None:
                arithmetic.multiply(left, right.T)
            else:
                torch.mm(left, right, out=out)

    return multiply


def plain_loop(train: Tensor, hidden: int = HIDDEN, latent: int = LATENT) -> Callable[[], float]:
    """The same training as a competent user of PyTorch writes it, with the optimizer as it comes.

    Args:
        train: Shape ``(N, D)``.
        hidden: The tanh units of each network.
        latent: The number of latent variables.

    Returns:
        One step, which returns its loss.
    """
    size = train.shape[1]

    class VAE(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Sequential(nn.Linear(size, hidden), nn.Tanh())
            self.mean, self.log_variance = nn.Linear(hidden, latent), nn.Linear(hidden, latent)
            self.decoder = nn.Sequential(
                nn.Linear(latent, hidden), nn.Tanh(), nn.Linear(hidden, size)
            )

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            h = self.encoder(x)
            mean, log_variance = self.mean(h), self.log_variance(h)
            z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
            return self.decoder(z), mean, log_variance

    model = VAE().to(train.dtype)
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.01, weight_decay=100 / len(train))

    def shuffled() -> Iterator[Tensor]:
        while True:
            yield from torch.randperm(len(train)).split(100)

    rows = shuffled()

    def step() -> float:
        x = train[next(rows)]
        logits, mean, log_variance = model(x)
        loss = functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        loss = loss - 0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def peers(train: Tensor) -> dict[str, Callable[[], Any]]:
    """One step, or as many as ``STEPS`` says, of each library of ``peers`` that is installed."""
    found = {}
    for name, make in _PEERS.items():
        try:
            found[name] = make(train)
        except ImportError:
            continue
    return found


def _pyro(train: Tensor) -> Callable[[], Any]:
    """The paper's model in Pyro: its own ELBO and its wrapper of the same optimizer."""
    import pyro
    from pyro import distributions
    from pyro.infer import SVI, Trace_ELBO

    vae = models.bernoulli_vae(train.shape[1], HIDDEN, LATENT)

    def model(x: Tensor) -> None:
        pyro.module("generative_model", vae.generative_model)
        with pyro.plate("datapoints", len(x)):
            zero = x.new_zeros(len(x), LATENT)
            z = pyro.sample("z", distributions.Normal(zero, zero + 1).to_event(1))
            logits = vae.generative_model(z).base_dist.logits
            pixels = distributions.Bernoulli(logits=logits, validate_args=False)
            pyro.sample("x", pixels.to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        pyro.module("recognition_model", vae.recognition_model)
        with pyro.plate("datapoints", len(x)):
            q = vae.recognition_model(x).base_dist
            pyro.sample("z", distributions.Normal(q.loc, q.scale).to_event(1))

    settings = {"lr": 0.01, "weight_decay": 100 / len(train)}
    optimizer = pyro.optim.PyroOptim(torch.optim.Adagrad, settings)
    inference = SVI(model, guide, optimizer, Trace_ELBO())
    return lambda: inference.step(train[torch.randint(len(train), (100,))])


def _pythae(train: Tensor) -> Callable[[], Any]:
    """pythae's VAE as it comes, with 512 hidden units, and Adam; its minibatches are free here."""
    from pythae.models import VAE, VAEConfig

    settings = {"input_dim": (1, 28, 28), "latent_dim": LATENT, "reconstruction_loss": "bce"}
    model = VAE(VAEConfig(**settings))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    images = train.view(-1, 1, 28, 28)

    def step() -> float:
        x = images[torch.randint(len(images), (100,))]
        loss = model({"data": x}).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def _numpyro(train: Tensor) -> Callable[[], Any]:
    """The paper's model in NumPyro, with many steps compiled into one loop."""
    os.environ["NPROC"] = "1"  # the threads of JAX, read when it first computes
    import jax
    import numpyro
    import optax
    from jax.example_libraries import stax
    from numpyro import distributions
    from numpyro.infer import SVI, Trace_ELBO

    heads = stax.FanOut(2), stax.parallel(stax.Dense(LATENT), stax.Dense(LATENT))
    encoder = stax.serial(stax.Dense(HIDDEN), stax.Tanh, *heads)
    decoder = stax.serial(stax.Dense(HIDDEN), stax.Tanh, stax.Dense(train.shape[1]))

    def model(x: Any) -> None:
        decode = numpyro.module("generative_model", decoder, (LATENT,))
        with numpyro.plate("datapoints", len(x)):
            prior = distributions.Normal(0.0, 1.0).expand([LATENT])
            logits = decode(numpyro.sample("z", prior.to_event(1)))
            pixels = distributions.Bernoulli(logits=logits, validate_args=False)
            numpyro.sample("x", pixels.to_event(1), obs=x)

    def guide(x: Any) -> None:
        encode = numpyro.module("recognition_model", encoder, x.shape[1:])
        mean, log_variance = encode(x)
        with numpyro.plate("datapoints", len(x)):
            q = distributions.Normal(mean, jax.numpy.exp(0.5 * log_variance))
            numpyro.sample("z", q.to_event(1))

    optimizer = optax.chain(optax.add_decayed_weights(100 / len(train)), optax.adagrad(0.01))
    inference = SVI(model, guide, optimizer, Trace_ELBO())

    @jax.jit
    def loop(state: Any, key: Any, images: Any) -> Any:
        def step(state: Any, key: Any) -> Any:
            rows = jax.random.randint(key, (100,), 0, len(images))
            return inference.update(state, images[rows])

        return jax.lax.scan(step, state, jax.random.split(key, STEPS["NumPyro"]))

    images = jax.numpy.asarray(train.numpy())
    key, first = jax.random.split(jax.random.key(0))
    state = inference.init(first, images[:100])

    def steps() -> Any:
        nonlocal state, key
        key, draws = jax.random.split(key)
        state, losses = loop(state, draws, images)
        return losses.block_until_ready()

    return steps


_PEERS: dict[str, Callable[[Tensor], Callable[[], Any]]] = {
    "Pyro": _pyro,
    "pythae": _pythae,
    "NumPyro": _numpyro,
}
