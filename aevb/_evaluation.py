r"""Where the curves of an experiment are evaluated, and how: a bound or a marginal likelihood.

An evaluation has noise of its own, so that the places do not change the training.
"""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from aevb import data, marginal_likelihood, models, reference, training
from aevb._specification import Experiment, LowerBound, MarginalLikelihood
from aevb.marginal_likelihood.reciprocal import STEP_SIZE

__all__ = ["chains", "evaluate", "schedule"]

BOUND_POINTS = 10_000
"""Points at most in the evaluated curves of Figure 2: the test set, as many to train on."""
LIKELIHOOD_PLACES = [
    *(10**5 * n for n in (1, 2, 3, 5, 7, 10, 15, 20, 30, 40, 50, 60, 80, 100, 125, 150)),
    *(10**6 * n for n in range(20, 70, 5)),
]
"""Where Figure 3 is evaluated: each place costs two thousand posteriors."""


def schedule(experiment: Experiment) -> list[int]:
    """The numbers of training samples after which the curves of an experiment are evaluated."""
    if isinstance(experiment, MarginalLikelihood):
        persistent = experiment.start == "persistent"
        places = places_of_the_paper(experiment) if persistent else LIKELIHOOD_PLACES
        return training.at(places, experiment.samples, experiment.per_step)
    return training.schedule(experiment.samples, experiment.per_step)


def places_of_the_paper(experiment: MarginalLikelihood) -> Sequence[float]:
    """Where the paper's two curves of this panel and algorithm have their points."""
    panel = {name: getattr(experiment, name) for name in reference.Key._fields}
    curves = (reference.curve(experiment.figure, **panel, split=s) for s in ("test", "train"))
    return sorted({place for curve in curves for place in curve.samples.tolist()})


def chains(experiment: Experiment, dataset: data.Dataset) -> dict[str, Tensor]:
    """Where persistent chains begin, draws of the prior, and their step sizes; else none."""
    if not isinstance(experiment, MarginalLikelihood) or experiment.start != "persistent":
        return {}
    begin, noise = {}, torch.Generator().manual_seed(experiment.seed)
    for split, x in _splits(dataset).items():
        count = len(x[: experiment.evaluated])
        drawn = torch.randn(count, experiment.latent_dim, generator=noise)
        begin[f"{split}_position"] = drawn.to(x)
        begin[f"{split}_step_size"] = x.new_full((count,), STEP_SIZE)
    return begin


def evaluate(
    experiment: Experiment,
    dataset: data.Dataset,
    chains: dict[str, Tensor],
    model: models.VAE,
    samples: int,
) -> dict[str, float]:
    """The values of the test and of the train curve.

    Args:
        experiment: The specification.
        dataset: Its images.
        chains: What :func:`chains` returned. Those that persist are moved on, in place.
        model: The model as it is now.
        samples: How many training samples it has seen, which decides the noise. On a CPU it is
            the same for all seeds, whose generator takes 32 bits; on a GPU each seed has its own.
    """
    noise = torch.Generator(dataset.train.device)
    noise.manual_seed(((experiment.seed << 40) + samples) % 2**63)
    if isinstance(experiment, MarginalLikelihood):
        return _likelihoods(experiment, dataset, chains, model, noise)
    drawn = isinstance(experiment, LowerBound) and experiment.pixels == "drawn"
    values = {}
    for split, x in _splits(dataset).items():
        x = x[:BOUND_POINTS]
        x = data.black_or_white(x, noise) if drawn else x
        values[split] = training.lower_bound(model, x, noise)
    return values


def _splits(dataset: data.Dataset) -> dict[str, Tensor]:
    return {"test": dataset.test, "train": dataset.train}


def _likelihoods(
    experiment: MarginalLikelihood,
    dataset: data.Dataset,
    chains: dict[str, Tensor],
    model: models.VAE,
    noise: torch.Generator,
) -> dict[str, float]:
    """Appendix D's estimates, averaged; for all algorithms alike, without the encoder."""
    estimate = functools.partial(
        marginal_likelihood.reciprocal_importance_sampling,
        model,
        draws=experiment.draws,
        burn_in=experiment.burn_in,
        leapfrog_steps=experiment.leapfrog_steps,
        candidates=experiment.candidates,
        generator=noise,
    )
    values = {}
    for split, x in _splits(dataset).items():
        x = x[: experiment.evaluated]
        if chains:
            position, step_size = (chains[f"{split}_{name}"] for name in ("position", "step_size"))
            found = estimate(x, start=position, step_size=step_size)
            position.copy_(found.position)
            step_size.copy_(found.step_size)
        else:
            found = estimate(x, start="resampled")
        values[split] = found.log_likelihood.mean().item()
    return values
