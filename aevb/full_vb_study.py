r"""Full variational Bayes against the most probable weights: the run that Appendix F leaves out.

The paper derives how to infer the weights and never tries it. Here a small VAE learns MNIST from
few images and from many, once with a distribution over its generative weights
(:mod:`aevb.full_vb`) and once with one value for each (:mod:`aevb.auto_encoding`), and both are
held against images that they have not seen.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from aevb import auto_encoding, data, full_vb, models, results, training
from aevb._specification import check, check_images, check_integer, finite, one_of
from aevb.bayesian import BayesianModel
from aevb.models import LatentVariableModel

__all__ = ["WeightUncertainty", "grid", "measure", "stored"]

SAMPLES = {"smoke": 2_000, "quick": 60_000, "paper": 600_000}
EVALUATED = {"smoke": 100, "quick": 500, "paper": 1_000}
IN_USE = 0.01
"""A weight is in use if its posterior is more than this many nats from its prior."""
NO_WIDTH = 1e-12
r"""A :math:`\sigma_\theta` that vanishes when a float32 weight is added: a point estimate."""


@dataclass(frozen=True)
class WeightUncertainty:
    """One run of the study of Appendix F.

    Raises:
        aevb.experiments.ExperimentError: If a setting cannot be run; the message names it.
    """

    algorithm: str = "full-vb"
    """``full-vb`` (Algorithm 2), or ``map``: Algorithm 1 with the prior on all weights."""
    n_train: int = 1_000
    """The training images, N: the first of MNIST."""
    latent_dim: int = 3
    """The number of latent variables, N_z."""
    hidden: int = 50
    """The tanh units of each network."""
    minibatch: int = 100
    """M."""
    sharing: int = 10
    """How many images of a minibatch share a draw of the weights; 1 is Algorithm 2's."""
    initial_scale: float = 0.1
    """The initial standard deviation of each weight's posterior."""
    optimizer: str = "adam"
    """``adam``, or the paper's ``adagrad``."""
    step_size: float = 0.005
    """The optimizer's step size, that of both algorithms."""
    samples: int = 0
    """Training samples to evaluate in all; 0 for the preset's: 600,000 in ``paper``."""
    seed: int = 0
    """The seed of everything random."""
    preset: str = "paper"
    """``smoke``, ``quick`` or ``paper``."""

    figure: ClassVar[str] = "appendix-f"

    def __post_init__(self) -> None:
        one_of("algorithm", self.algorithm, ALGORITHMS)
        one_of("optimizer", self.optimizer, OPTIMIZERS)
        one_of("preset", self.preset, SAMPLES)
        check_images(self.n_train)
        for name in ("latent_dim", "hidden", "minibatch", "sharing"):
            check_integer(name, getattr(self, name), 1)
        for name in ("samples", "seed"):
            check_integer(name, getattr(self, name), 0)
        for name in ("initial_scale", "step_size"):
            value = getattr(self, name)
            check(name, value, finite(value) and value > 0, "a positive number")
            object.__setattr__(self, name, float(value))  # 1 and 1.0 are one run
        divides = self.algorithm == "map" or self.minibatch % self.sharing == 0
        check("sharing", self.sharing, divides, f"a divisor of the minibatch, {self.minibatch}")
        if self.samples == 0:
            object.__setattr__(self, "samples", SAMPLES[self.preset])
        enough = self.samples >= self.minibatch
        check("samples", self.samples, enough, f"at least one step of {self.minibatch}")

    @property
    def name(self) -> str:
        """What the run is, readably: algorithm, images, and each setting that is not usual."""
        usual = WeightUncertainty(self.algorithm, self.n_train, preset=self.preset)
        told = ("algorithm", "n_train", "samples", "seed", "preset")
        changed = [
            f"-{field.name.replace('_', '-')}-{getattr(self, field.name)}"
            for field in fields(self)
            if field.name not in told and getattr(self, field.name) != getattr(usual, field.name)
        ]
        return f"{self.algorithm}-n{self.n_train}{''.join(changed)}-seed{self.seed}"


def grid(preset: str = "paper", seed: int = 0) -> list[WeightUncertainty]:
    """The runs of the study: both algorithms on three sizes of data set, and what was varied.

    Args:
        preset: ``smoke``, ``quick`` or ``paper``.
        seed: The seed of every run.

    Raises:
        aevb.experiments.ExperimentError: If there is no such preset, or the seed is not one.
    """
    make = functools.partial(WeightUncertainty, seed=seed, preset=preset)
    samples = make().samples
    budgets = {100: samples, 1_000: samples, 10_000: 2 * samples}
    return [
        *(make(name, n, samples=k) for n, k in budgets.items() for name in ("map", "full-vb")),
        make(initial_scale=0.01),
        make(initial_scale=1.0),
        make(optimizer="adagrad", step_size=0.02),
        make(sharing=1, samples=samples // 4),
    ]


def measure(settings: WeightUncertainty) -> dict[str, list[float]]:
    r"""Train, and look at the model on the way.

    Args:
        settings: The whole specification.

    Returns:
        ``samples``, the training samples evaluated, and at each (nats per image):
        ``train_mean``, ``test_mean``: the bound at one :math:`\theta`, the estimate or the mean of
        :math:`q_\phi(\theta)`; ``test_average``: the bound averaged over :math:`q_\phi(\theta)`;
        ``test_predictive``: 32 draws of :func:`aevb.full_vb.predictive_bound`;
        ``train_running``: what the steps themselves reported. For ``full-vb`` also
        ``test_mean_predictive``: 32 draws of z alone, at the mean; ``evidence``: eq. 24 over N;
        ``divergence``: what of it is :math:`D_{KL}(q_\phi(\theta) \,\|\,
        p_\alpha(\theta)) / N`; ``in_use``, and ``in_use: <tensor>`` for one tensor: the fraction of
        the weights whose posterior is more than 0.01 nats from the prior; ``units_in_use``: the
        hidden units of the generative model most of whose outgoing weights are in use; and
        ``input_in_use``, ``input_idle``: the root mean square of what these and the other units
        receive, 0 where there are none.

    Raises:
        aevb.data.DataError: If MNIST cannot be had.
        aevb.training.DivergenceError: If the bound stops being a finite number.
    """
    dataset = data.mnist()
    train, test = dataset.train[: settings.n_train], dataset.test[: EVALUATED[settings.preset]]
    generator = torch.Generator().manual_seed(settings.seed)
    step, state = ALGORITHMS[settings.algorithm](settings, train, generator)
    _, history = training.train(
        step,
        state,
        data.minibatches(train, settings.minibatch, generator),
        functools.partial(_evaluate, settings.seed, train[: len(test)], test, len(train)),
        training.schedule(settings.samples, settings.minibatch, per_decade=5),
        name=settings.name,
        progress=False,
    )
    return {"samples": [float(n) for n in history.samples], **history.curves}


def stored(settings: WeightUncertainty) -> results.Record:
    """The record of a run.

    Raises:
        aevb.results.RecordError: If it is absent or damaged.
    """
    folder = results.folder(settings.preset)
    return results.load(folder / settings.figure / f"{settings.name}.json")


def _vae(settings: WeightUncertainty, train: Tensor, generator: torch.Generator) -> models.VAE:
    data_dim = train.shape[1]
    model = models.bernoulli_vae(data_dim, settings.hidden, settings.latent_dim).float()
    models.mlp.initialize(model, generator)
    return model


def _map(
    settings: WeightUncertainty, train: Tensor, generator: torch.Generator
) -> tuple[Callable[..., Any], auto_encoding.State]:
    model, decay = _vae(settings, train, generator), settings.minibatch / len(train)
    optimizer = OPTIMIZERS[settings.optimizer](
        model.parameters(), settings.step_size, weight_decay=decay
    )
    return auto_encoding.step, auto_encoding.init(model, optimizer, generator)


def _full_vb(
    settings: WeightUncertainty, train: Tensor, generator: torch.Generator
) -> tuple[Callable[..., Any], full_vb.State]:
    """The recognition model keeps the prior that it has with MAP: only theta is treated anew."""
    model = BayesianModel(_vae(settings, train, generator), settings.initial_scale)
    decay = settings.minibatch / len(train)
    optimizer = OPTIMIZERS[settings.optimizer](
        [
            {"params": [*model.generative_model.parameters(), model.log_scale]},
            {"params": model.recognition_model.parameters(), "weight_decay": decay},
        ],
        settings.step_size,
    )
    state = full_vb.init(model, optimizer, generator, len(train))
    return functools.partial(full_vb.step, sharing=settings.sharing), state


ALGORITHMS: dict[str, Callable[..., Any]] = {"full-vb": _full_vb, "map": _map}
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adagrad": torch.optim.Adagrad,
}


@torch.no_grad()
def _evaluate(
    seed: int, train: Tensor, test: Tensor, n_train: int, model: LatentVariableModel, samples: int
) -> dict[str, float]:
    """The curves' values, with noise of their own: the schedule must not change the training.

    How many samples the model has seen decides it; it is the same for all seeds, whose generator
    takes 32 bits.
    """
    noise = torch.Generator().manual_seed(((seed << 40) + samples) % 2**63)
    point = BayesianModel(model, NO_WIDTH)
    bayesian = model if isinstance(model, BayesianModel) else point

    def predicted(by: BayesianModel, draws: int, together: int) -> float:
        parts = test.split(together)
        return float(
            torch.cat([full_vb.predictive_bound(by, x, draws, noise) for x in parts]).mean()
        )

    values = {
        "train_mean": training.lower_bound(model, train, noise),
        "test_mean": training.lower_bound(model, test, noise),
        "test_average": predicted(bayesian, 1, together=10),
        "test_predictive": predicted(bayesian, 32, together=100),
    }
    if bayesian is model:
        bounds = [
            full_vb.analytic_bound(bayesian, x, n_train, generator=noise) for x in train.split(100)
        ]
        divergences = _divergences(bayesian)
        values["evidence"] = float(torch.cat(bounds).mean())
        values["divergence"] = sum(float(part.sum()) for part in divergences.values()) / n_train
        values["in_use"] = _fraction(torch.cat([part.flatten() for part in divergences.values()]))
        values |= {f"in_use: {name}": _fraction(part) for name, part in divergences.items()}
        values |= _units(bayesian, divergences["logits.weight"])
        values["test_mean_predictive"] = predicted(point, 32, together=100)
    return values


def _divergences(model: BayesianModel) -> dict[str, Tensor]:
    """Of each weight's posterior from its prior, nats, by tensor and in the tensor's shape."""
    q = model.approximate_posterior.base_dist
    each = 0.5 * (q.loc**2 + q.scale**2 - 1) - q.scale.log()
    sizes = [tensor.numel() for tensor in model.inferred.values()]
    parts = zip(model.inferred.items(), each.split(sizes), strict=True)
    return {name: part.view_as(tensor) for (name, tensor), part in parts}


def _fraction(divergences: Tensor) -> float:
    return float((divergences > IN_USE).float().mean())


def _units(model: BayesianModel, outgoing: Tensor) -> dict[str, float]:
    """The hidden units in use, and the size of what a unit receives, averaged over z and theta."""
    used = (outgoing > IN_USE).float().mean(0) > 0.5
    scales = model.log_scale.exp().split([tensor.numel() for tensor in model.inferred.values()])
    squares = {
        name: tensor**2 + scale.view_as(tensor) ** 2
        for (name, tensor), scale in zip(model.inferred.items(), scales, strict=True)
    }
    received = squares["hidden.weight"].sum(1) + squares["hidden.bias"]  # E[z_j^2] = 1

    def size(units: Tensor) -> float:
        return float(units.mean().sqrt()) if len(units) else 0.0

    return {
        "units_in_use": float(used.sum()),
        "input_in_use": size(received[used]),
        "input_idle": size(received[~used]),
    }
