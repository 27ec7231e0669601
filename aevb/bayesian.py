r"""Models whose parameters have a distribution as well (paper, Appendix F).

:class:`BayesianModel` gives any model of :mod:`aevb.models` a prior and an approximate posterior
over :math:`\theta`. :class:`UnknownMean` is a model whose evidence and posterior of
:math:`\theta` are known, to hold the others against.
"""

import math

import torch
from torch import Tensor, nn
from torch.distributions import Independent, MultivariateNormal, Normal
from torch.nn.utils import parameters_to_vector

from aevb.models import LatentVariableModel, LinearGaussian

__all__ = ["BayesianModel", "UnknownMean"]


class BayesianModel(LatentVariableModel):
    r"""A model, and a Gaussian over its generative parameters (paper, eqs 19 and 23).

    .. math::
        p_\alpha(\theta) = \mathcal{N}(0, I), \qquad
        q_\phi(\theta) = \mathcal{N}(\mu_\theta, \operatorname{diag} \sigma_\theta^2)

    :math:`\theta` is every tensor of the generative model that requires a gradient at first; those
    tensors hold :math:`\mu_\theta`. So this is also a model like any other: the one at the mean of
    :math:`q_\phi(\theta)`. Its ``parameters()`` are all of the paper's :math:`\phi`:
    :math:`\mu_\theta`, the recognition model's, and :math:`\log \sigma_\theta`.

    Args:
        model: The model. Its networks are used, not copied, and their values are the initial
            :math:`\mu_\theta`.
        scale: The initial :math:`\sigma_\theta`, the same for each parameter.

    Raises:
        ValueError: If the generative model has nothing to infer, or ``scale`` is not positive.
    """

    def __init__(self, model: LatentVariableModel, scale: float = 0.1):
        super().__init__(model.generative_model, model.recognition_model, model.latent_dim)
        named = self.generative_model.named_parameters()
        self._inferred = [name for name, tensor in named if tensor.requires_grad]
        if not self._inferred:
            raise ValueError("generative_model: expected at least 1 parameter, found 0")
        if not (scale > 0 and math.isfinite(scale)):
            raise ValueError(f"scale: expected a positive number, found {scale}")
        mean = parameters_to_vector(self.inferred.values())
        self.log_scale = nn.Parameter(torch.full_like(mean, math.log(scale)))

    @property
    def inferred(self) -> dict[str, Tensor]:
        r"""The tensors of the generative model that make up :math:`\theta`, by name."""
        named = dict(self.generative_model.named_parameters())
        return {name: named[name] for name in self._inferred}

    @property
    def parameter_prior(self) -> Independent:
        r"""The prior :math:`p_\alpha(\theta)`, event shape ``(P,)`` for :math:`P = \dim \theta`."""
        zero = torch.zeros_like(self.log_scale)
        return Independent(Normal(zero, torch.ones_like(zero)), 1, validate_args=False)

    @property
    def approximate_posterior(self) -> Independent:
        r"""The approximate posterior :math:`q_\phi(\theta)`, event shape ``(P,)``."""
        mean = parameters_to_vector(self.inferred.values())
        q = Normal(mean, self.log_scale.exp(), validate_args=False)
        return Independent(q, 1, validate_args=False)

    def log_likelihood(self, x: Tensor, z: Tensor, theta: Tensor) -> Tensor:
        r"""The log likelihood :math:`\log p_\theta(x|z)`, with several :math:`\theta` at once.

        Args:
            x: Datapoints, shape ``(S, R, D)``.
            z: Latent vectors, shape ``(S, R, J)``.
            theta: A vector of parameters for each of the ``S`` groups of datapoints, ``(S, P)``.

        Returns:
            Nats per datapoint, shape ``(S, R)``.
        """
        inferred = self.inferred
        sizes = [tensor.numel() for tensor in inferred.values()]

        def with_parameters(theta: Tensor, z: Tensor, x: Tensor) -> Tensor:
            named = {
                name: part.view_as(tensor)
                for (name, tensor), part in zip(inferred.items(), theta.split(sizes), strict=True)
            }
            return torch.func.functional_call(self.generative_model, named, (z,)).log_prob(x)

        return torch.vmap(with_parameters)(theta, z, x)


class UnknownMean(LinearGaussian):
    r"""A linear-Gaussian model with an unknown mean: the evidence of a data set is known.

    .. math::
        & p_\alpha(\theta) = \mathcal{N}(0, I), \quad p(z) = \mathcal{N}(0, I), \quad
            p_\theta(x|z) = \mathcal{N}(\theta + Wz, s^2 I) \\
        & p_\alpha(\theta|X) = \mathcal{N}(P^{-1} C^{-1} \textstyle\sum_i x^{(i)}, \; P^{-1}),
            \quad C = WW^\top + s^2 I, \quad P = I + N C^{-1}

    It is a :class:`~aevb.models.LinearGaussian` whose bias is :math:`\theta` and whose :math:`W`
    is given and stays.

    Args:
        weight: :math:`W`, shape ``(D, J)``.
        noise_scale: :math:`s`, positive.
        recognition_model: As in :class:`~aevb.models.LinearGaussian`.

    Raises:
        ValueError: If ``weight`` is not a matrix or ``noise_scale`` is not positive.
    """

    def __init__(
        self, weight: Tensor, noise_scale: float, recognition_model: nn.Module | None = None
    ):
        super().__init__(weight, weight.new_zeros(weight.shape[:1]), noise_scale, recognition_model)
        self.generative_model.weight.requires_grad_(False)

    def parameter_posterior(self, x: Tensor) -> MultivariateNormal:
        r"""The true posterior :math:`p_\alpha(\theta|X)` given a data set, ``(N, D)``."""
        inverse = self._covariance().inverse()
        precision = torch.eye(len(inverse)).to(inverse) + len(x) * inverse
        mean = torch.linalg.solve(precision, inverse @ x.sum(0))
        return MultivariateNormal(mean, precision_matrix=precision)

    def log_data_evidence(self, x: Tensor) -> Tensor:
        r"""The evidence :math:`\log p_\alpha(X)` of a data set, ``(N, D)``: a scalar, in nats."""
        posterior = self.parameter_posterior(x)
        theta = posterior.mean  # any theta: log p(X) = log p(X|theta) p(theta) / p(theta|X)
        prior = MultivariateNormal(torch.zeros_like(theta), torch.eye(len(theta)).to(theta))
        likelihood = MultivariateNormal(theta, self._covariance()).log_prob(x).sum()
        return likelihood + prior.log_prob(theta) - posterior.log_prob(theta)

    def mean_field_gap(self, datapoints: int) -> Tensor:
        r"""The least that :math:`q_\phi(\theta) \prod_i q_\phi(z|x^{(i)})`, all diagonal, leave.

        .. math::
            \frac{1}{2} \bigl( D \log(1 + N/s^2) - \log \det P \bigr)
            + \frac{N}{2} \Bigl( \sum_{j=1}^{J} \log \Lambda_{jj} - \log \det \Lambda \Bigr),
            \quad \Lambda = I + W^\top W / s^2

        Args:
            datapoints: :math:`N`.

        Returns:
            The evidence minus the highest bound, a scalar, in nats for the whole data set.
        """
        weight, variance = self.generative_model.weight, self.generative_model.noise_scale**2
        covariance = self._covariance()
        precision = torch.eye(len(covariance)).to(covariance) + datapoints * covariance.inverse()
        of_theta = len(weight) * math.log1p(datapoints / variance) - precision.logdet()
        latent = torch.eye(self.latent_dim).to(weight) + weight.T @ weight / variance
        of_z = latent.diagonal().log().sum() - latent.logdet()
        return 0.5 * (of_theta + datapoints * of_z)

    def _covariance(self) -> Tensor:
        weight, variance = self.generative_model.weight, self.generative_model.noise_scale**2
        return weight @ weight.T + variance * torch.eye(len(weight)).to(weight)
