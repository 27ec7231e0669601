r"""Models with a continuous latent variable (paper, sections 2.1 and 3).

A model offers four things, and the estimators ask for no more: a ``prior`` :math:`p(z)`, a
``generative_model`` :math:`p_\theta(x|z)`, a ``recognition_model`` :math:`q_\phi(z|x)` and
``log_joint``. :class:`VAE` is the paper's; :class:`LinearGaussian` is one whose evidence and
posterior are known, to hold the others against.
"""

import math

import torch
from torch import Tensor, nn
from torch.distributions import Independent, MultivariateNormal, Normal

from aevb import mlp

__all__ = ["LatentVariableModel", "VAE", "LinearGaussian", "bernoulli_vae", "gaussian_vae"]


class LatentVariableModel(nn.Module):
    r"""A prior :math:`\mathcal{N}(0, I)`, a generative and a recognition model."""

    def __init__(self, generative_model: nn.Module, recognition_model: nn.Module, latent_dim: int):
        super().__init__()
        self.generative_model = generative_model
        self.recognition_model = recognition_model
        self.latent_dim = latent_dim

    @property
    def prior(self) -> Independent:
        r"""The prior :math:`p(z) = \mathcal{N}(0, I)`, event shape ``(J,)``."""
        zero = next(self.parameters(), torch.zeros(())).new_zeros(self.latent_dim)
        normal = Normal(zero, torch.ones_like(zero), validate_args=False)
        return Independent(normal, 1, validate_args=False)

    def log_joint(self, x: Tensor, z: Tensor) -> Tensor:
        r"""The log joint density :math:`\log p_\theta(z) + \log p_\theta(x|z)`.

        Args:
            x: Datapoints, shape ``(M, D)``.
            z: Latent vectors, shape ``(..., M, J)``.

        Returns:
            Nats per datapoint, shape ``(..., M)``.
        """
        return self.prior.log_prob(z) + self.generative_model(z).log_prob(x)


class VAE(LatentVariableModel):
    r"""The variational auto-encoder (paper, section 3).

    .. math::
        p(z) = \mathcal{N}(0, I), \qquad p_\theta(x|z) \text{ and } q_\phi(z|x)
        \text{ as networks compute them}

    Args:
        generative_model: Maps ``(..., J)`` to the distribution of ``(..., D)``.
        recognition_model: Maps ``(M, D)`` to a diagonal Gaussian over ``(M, J)`` (eq. 9).
        latent_dim: The number of latent variables, :math:`J` or :math:`N_z`.
    """


def bernoulli_vae(
    data_dim: int,
    hidden: int,
    latent_dim: int,
    generator: torch.Generator | None = None,
    std: float = 0.01,
) -> VAE:
    r"""The VAE of the MNIST experiments: Bernoulli pixels (eq. 11), Gaussian encoder (eq. 12).

    Args:
        data_dim: The number of pixels, :math:`D`.
        hidden: The tanh units of each of the two networks.
        latent_dim: The number of latent variables, :math:`N_z`.
        generator: The source of the initial parameters.
        std: Their standard deviation.
    """
    model = VAE(
        mlp.BernoulliMLP(latent_dim, hidden, data_dim),
        mlp.GaussianMLP(data_dim, hidden, latent_dim),
        latent_dim,
    )
    mlp.initialize(model, generator, std)
    return model


def gaussian_vae(
    data_dim: int,
    hidden: int,
    latent_dim: int,
    generator: torch.Generator | None = None,
    std: float = 0.01,
    *,
    decoder: type[mlp.GaussianMLP] = mlp.GaussianMLP,
) -> VAE:
    r"""The VAE of the Frey Face experiments: Gaussian pixels with means in (0, 1) (eq. 12).

    Args:
        data_dim: The number of pixels, :math:`D`.
        hidden: The tanh units of each of the two networks.
        latent_dim: The number of latent variables, :math:`N_z`.
        generator: The source of the initial parameters.
        std: Their standard deviation.
        decoder: The network that computes the Gaussian of the pixels, if another.
    """
    model = VAE(
        decoder(latent_dim, hidden, data_dim, squash_mean=True),
        mlp.GaussianMLP(data_dim, hidden, latent_dim),
        latent_dim,
    )
    mlp.initialize(model, generator, std)
    return model


class _LinearDecoder(nn.Module):
    r"""The generative model :math:`p(x|z) = \mathcal{N}(Wz + b, s^2 I)`."""

    def __init__(self, weight: Tensor, bias: Tensor, noise_scale: float):
        super().__init__()
        self.weight = nn.Parameter(weight.clone())
        self.bias = nn.Parameter(bias.clone())
        self.noise_scale = noise_scale

    def forward(self, z: Tensor) -> Independent:
        mean = z @ self.weight.T + self.bias
        return Independent(Normal(mean, torch.full_like(mean, self.noise_scale)), 1)


class LinearGaussian(LatentVariableModel):
    r"""A linear-Gaussian model: the evidence and the posterior are known exactly.

    .. math::
        p(z) = \mathcal{N}(0, I), \quad p(x|z) = \mathcal{N}(Wz + b, s^2 I), \quad
        p(x) = \mathcal{N}(b, WW^\top + s^2 I)

    .. math::
        p(z|x) = \mathcal{N}\bigl(\Lambda^{-1} W^\top (x - b) / s^2, \; \Lambda^{-1}\bigr),
        \quad \Lambda = I + W^\top W / s^2

    This is probabilistic PCA (Bishop 2006, section 12.2), and the test bench of the book.

    Args:
        weight: :math:`W`, shape ``(D, J)``.
        bias: :math:`b`, shape ``(D,)``.
        noise_scale: :math:`s`, positive.
        recognition_model: Maps ``(M, D)`` to a diagonal Gaussian over ``(M, J)``; by default
            a :class:`~aevb.mlp.GaussianMLP` with 16 hidden units, of the weight's dtype and device.

    Raises:
        ValueError: If the shapes do not fit or ``noise_scale`` is not positive.
    """

    generative_model: _LinearDecoder

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        noise_scale: float,
        recognition_model: nn.Module | None = None,
    ):
        if weight.ndim != 2 or bias.shape != weight.shape[:1]:
            raise ValueError(
                "weight and bias: expected shapes (D, J) and (D,), "
                f"found {tuple(weight.shape)} and {tuple(bias.shape)}"
            )
        if not (noise_scale > 0 and math.isfinite(noise_scale)):
            raise ValueError(f"noise_scale: expected a positive number, found {noise_scale}")
        data_dim, latent_dim = weight.shape
        decoder = _LinearDecoder(weight, bias, noise_scale)
        encoder = recognition_model or mlp.GaussianMLP(data_dim, 16, latent_dim).to(weight)
        super().__init__(decoder, encoder, latent_dim)

    def log_evidence(self, x: Tensor) -> Tensor:
        """The log marginal likelihood of ``x`` ``(M, D)``, in nats per datapoint, ``(M,)``."""
        decoder = self.generative_model
        noise = decoder.noise_scale**2 * torch.eye(len(decoder.bias)).to(decoder.weight)
        covariance = decoder.weight @ decoder.weight.T + noise
        return MultivariateNormal(decoder.bias, covariance).log_prob(x)

    def posterior(self, x: Tensor) -> MultivariateNormal:
        r"""The true posterior :math:`p(z|x)`: batch shape ``(M,)``, event shape ``(J,)``."""
        decoder = self.generative_model
        scaled = decoder.weight / decoder.noise_scale**2
        precision = torch.eye(self.latent_dim).to(scaled) + decoder.weight.T @ scaled
        mean = torch.linalg.solve(precision, ((x - decoder.bias) @ scaled).T).T
        return MultivariateNormal(mean, precision_matrix=precision)
