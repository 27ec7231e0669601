r"""Full variational Bayes: a distribution over the parameters as well (paper, Appendix F).

The other algorithms look for one best :math:`\theta`. Here :math:`\theta` is a random vector with
the prior :math:`p_\alpha(\theta) = \mathcal{N}(0, I)`, and its posterior is approximated like that
of the latent variables, by a Gaussian with a diagonal covariance. What is maximized is a bound on
the evidence of the whole data set, :math:`\log p_\alpha(X)`.
"""

import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.distributions import Independent

from aevb import divergence, reparameterization
from aevb._checks import check_matrix
from aevb.bayesian import BayesianModel

__all__ = [
    "Estimator",
    "Info",
    "State",
    "analytic_bound",
    "init",
    "predictive_bound",
    "sampled_bound",
    "step",
]


def sampled_bound(
    model: BayesianModel,
    x: Tensor,
    datapoints: int,
    sharing: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""The bound on the evidence of the data set, every term by sampling (paper, eq. 22).

    .. math::
        \mathcal{L}(\phi; X) \simeq \frac{1}{M} \sum_{l=1}^{M} \bigl[
            N \bigl( \log p_\theta(x^{(l)}|z^{(l)}) + \log p(z^{(l)})
                - \log q_\phi(z^{(l)}|x^{(l)}) \bigr)
            + \log p_\alpha(\theta^{(l)}) - \log q_\phi(\theta^{(l)}) \bigr]

    The paper's :math:`L` draws of :math:`(x, \epsilon, \zeta)` are a minibatch of :math:`M`
    datapoints, each with its own noise: :math:`z^{(l)} = g_\phi(\epsilon^{(l)}, x^{(l)})` and
    :math:`\theta^{(l)} = h_\phi(\zeta^{(l)})`.

    Args:
        model: The model and its two approximate posteriors.
        x: A minibatch, drawn uniformly from the data set, shape ``(M, D)``.
        datapoints: The size of the data set, :math:`N`.
        sharing: How many datapoints in succession share a draw of :math:`\theta`; a divisor of
            :math:`M`. 1 is the paper's; with more a step is cheaper and varies more.
        generator: The source of the noise.

    Returns:
        What each draw adds to eq. 22, divided by :math:`N`, so that the mean estimates
        :math:`\mathcal{L}(\phi; X) / N`: nats per datapoint, shape ``(M,)``.

    Raises:
        ValueError: If ``x`` is not a matrix, ``datapoints`` is smaller than one, or ``sharing``
            does not divide :math:`M`.
    """
    q, z, likelihood, theta = _draw(model, x, datapoints, sharing, generator)
    posterior = model.approximate_posterior
    ratio = model.parameter_prior.log_prob(theta) - posterior.log_prob(theta)
    of_z = model.prior.log_prob(z) - q.log_prob(z)
    return likelihood + of_z + ratio.repeat_interleave(sharing) / datapoints


def analytic_bound(
    model: BayesianModel,
    x: Tensor,
    datapoints: int,
    sharing: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""The bound on the evidence with both divergences in closed form (paper, eq. 24, corrected).

    .. math::
        \mathcal{L}(\phi; X) \simeq \frac{1}{M} \sum_{l=1}^{M} N \bigl(
            \log p_{\theta^{(l)}}(x^{(l)}|z^{(l)})
            - D_{KL}(q_\phi(z|x^{(l)}) \,\|\, p(z)) \bigr)
            - D_{KL}(q_\phi(\theta) \,\|\, p_\alpha(\theta))

    Only the likelihood is sampled: of the five terms of eq. 22 four have a closed form.

    Args:
        model: The model and its two approximate posteriors.
        x: A minibatch, drawn uniformly from the data set, shape ``(M, D)``.
        datapoints: The size of the data set, :math:`N`.
        sharing: As in :func:`sampled_bound`.
        generator: The source of the noise.

    Returns:
        As :func:`sampled_bound`: nats per datapoint, shape ``(M,)``.

    Raises:
        ValueError: As :func:`sampled_bound`.
    """
    q, _, likelihood, _ = _draw(model, x, datapoints, sharing, generator)
    of_theta = divergence.gaussian_kl(model.approximate_posterior) / datapoints
    return likelihood - divergence.gaussian_kl(q) - of_theta


def _draw(
    model: BayesianModel,
    x: Tensor,
    datapoints: int,
    sharing: int,
    generator: torch.Generator | None,
) -> tuple[Independent, Tensor, Tensor, Tensor]:
    """q(z|x), z ``(M, J)``, the log likelihood ``(M,)`` and theta ``(M / sharing, P)``."""
    check_matrix(x)
    if datapoints < 1:
        raise ValueError(f"datapoints: expected at least 1, found {datapoints}")
    if sharing < 1 or len(x) % sharing:
        raise ValueError(f"sharing: expected a divisor of {len(x)} datapoints, found {sharing}")
    q = model.recognition_model(x)
    z = reparameterization.sample(q, 1, generator)[0]
    groups = len(x) // sharing
    theta = reparameterization.sample(model.approximate_posterior, groups, generator)
    each = (groups, sharing)
    likelihood = model.log_likelihood(x.unflatten(0, each), z.unflatten(0, each), theta)
    return q, z, likelihood.flatten(), theta


def predictive_bound(
    model: BayesianModel, x: Tensor, draws: int = 1, generator: torch.Generator | None = None
) -> Tensor:
    r"""A bound on the log density that the posterior of the parameters predicts for new data.

    .. math::
        \log \frac{1}{K} \sum_{k=1}^{K} \frac{p_{\theta^{(k)}}(x|z^{(k)}) \, p(z^{(k)})}
            {q_\phi(z^{(k)}|x)}, \qquad \theta^{(k)} \sim q_\phi(\theta), \;
            z^{(k)} \sim q_\phi(z|x)

    On average it is below :math:`\log \int q_\phi(\theta) \, p_\theta(x) \, d\theta`, rises with
    :math:`K`, and for :math:`K = 1` is the average of the bound over :math:`q_\phi(\theta)`
    (Burda et al. 2016, with :math:`\theta` as one more latent variable).

    Args:
        model: The model and its two approximate posteriors.
        x: New datapoints, shape ``(M, D)``. They share the draws of :math:`\theta`.
        draws: The number of draws, :math:`K`.
        generator: The source of the noise.

    Returns:
        Nats per datapoint, shape ``(M,)``.

    Raises:
        ValueError: If ``x`` is not a matrix or ``draws`` is smaller than one.
    """
    check_matrix(x)
    if draws < 1:
        raise ValueError(f"draws: expected at least 1, found {draws}")
    q = model.recognition_model(x)
    z = reparameterization.sample(q, draws, generator)
    theta = reparameterization.sample(model.approximate_posterior, draws, generator)
    likelihood = model.log_likelihood(x.expand(draws, *x.shape), z, theta)
    log_weight = likelihood + model.prior.log_prob(z) - q.log_prob(z)
    return log_weight.logsumexp(0) - math.log(draws)


class Estimator(Protocol):
    """An estimator of the bound, such as :func:`analytic_bound`."""

    def __call__(
        self,
        model: BayesianModel,
        x: Tensor,
        datapoints: int,
        sharing: int = 1,
        generator: torch.Generator | None = None,
    ) -> Tensor: ...


class State(NamedTuple):
    """What the next step needs. The parameters and accumulators change in place."""

    model: BayesianModel
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    datapoints: Tensor
    """The size of the data set, shape ``()``."""


class Info(NamedTuple):
    """What a step says about itself."""

    bound: Tensor
    """Each draw's part of the bound before the update, divided by N, nats, shape ``(M,)``."""


def init(
    model: BayesianModel,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    datapoints: int,
) -> State:
    r"""The state before the first step.

    Args:
        model: The model with its initial :math:`\mu_\theta` and :math:`\sigma_\theta`.
        optimizer: Over ``model.parameters()``. It carries no prior: the bound has it.
        generator: The source of the noises :math:`\epsilon` and :math:`\zeta`.
        datapoints: The size of the data set, :math:`N`.

    Raises:
        ValueError: If ``datapoints`` is smaller than one, or the optimizer decays what the bound
            already has a prior for.
    """
    if datapoints < 1:
        raise ValueError(f"datapoints: expected at least 1, found {datapoints}")
    inferred = {id(p) for p in (*model.inferred.values(), model.log_scale)}
    for group in optimizer.param_groups:
        decay = group.get("weight_decay", 0.0)
        if decay and inferred & {id(p) for p in group["params"]}:
            raise ValueError(f"optimizer: expected no weight decay on theta, found {decay}")
    return State(model, optimizer, generator, torch.tensor(datapoints))


def step(
    state: State, minibatch: Tensor, *, estimator: Estimator = analytic_bound, sharing: int = 1
) -> tuple[State, Info]:
    r"""One gradient of Algorithm 2, and the update that it is for.

    .. math::
        g = \frac{1}{M} \sum_{l=1}^{M} \nabla_\phi
            f_\phi \bigl( x^{(l)}, g_\phi(\epsilon^{(l)}, x^{(l)}), h_\phi(\zeta^{(l)}) \bigr)

    The loss is minus the sum of the bounds, which is :math:`M/N` times minus eq. 24.

    Args:
        state: The model, its optimizer and the source of noise.
        minibatch: Shape ``(M, D)``: :math:`M` draws of :math:`x`, the paper's :math:`L`.
        estimator: :func:`analytic_bound` (eq. 24) or :func:`sampled_bound` (eq. 22).
        sharing: How many datapoints share a draw of :math:`\theta`; the paper's is 1.

    Returns:
        The next state, and the bounds of the minibatch before the update.

    Raises:
        ValueError: If ``minibatch`` is not a matrix, or ``sharing`` does not divide :math:`M`.
    """
    bounds = estimator(
        state.model, minibatch, int(state.datapoints), sharing, generator=state.generator
    )
    state.optimizer.zero_grad()
    (-bounds.sum()).backward()
    state.optimizer.step()
    return state, Info(bounds.detach())
