r"""Elliptical laws, :math:`\mathbf z = \mu + A\epsilon` with spherical noise (paper, section 2.4).

Elliptical is a class of laws rather than one: each spherical law, whose density depends on the
length of :math:`\epsilon` alone, gives another. Here are the Gaussian and the heavy-tailed
multivariate :math:`t`. :math:`A` is lower-triangular, which makes :math:`\Sigma = AA^\top` unique.
"""

from typing import Any

import torch
from torch import Tensor, distributions
from torch.distributions import constraints

from aevb.reparameterization.law import Law, NormalNoise, normal
from aevb.reparameterization.loc_scale import student_t_noise

__all__ = ["Elliptical", "MultivariateGaussian", "MultivariateStudentT"]

TRIANGULAR = constraints.lower_cholesky
VECTOR = constraints.real_vector


class Elliptical(Law):
    r"""A law whose map is :math:`g(\epsilon) = \mu + A\epsilon`."""

    loc: Tensor
    scale_tril: Tensor

    def _accept(self, validate_args: bool | None = None, **given: Any) -> dict[str, Any]:
        accepted = super()._accept(validate_args, **given)
        loc, tril = self.parameters["loc"], self.parameters["scale_tril"]
        d = loc.shape[-1]
        if tril.shape[-2:] != (d, d):
            raise ValueError(
                f"scale_tril: expected the shape (..., {d}, {d}), as loc has {d} entries, "
                f"found shape ({', '.join(map(str, tril.shape))})"
            )
        return accepted

    def _map(self, noise: Tensor) -> Tensor:
        return self.loc + (self.scale_tril @ noise.unsqueeze(-1)).squeeze(-1)


class MultivariateGaussian(Elliptical, NormalNoise, distributions.MultivariateNormal):
    r""":math:`\mathcal{N}(\mathbf z; \mu, AA^\top)`, a Gaussian with full covariance;
    :math:`g(\epsilon) = \mu + A\epsilon`, :math:`\epsilon \sim \mathcal{N}(0, I)`.
    """

    arg_constraints = {"loc": VECTOR, "scale_tril": TRIANGULAR}  # noqa: RUF012

    def __init__(self, loc: Tensor, scale_tril: Tensor, validate_args: bool | None = None):
        super().__init__(**self._accept(validate_args, loc=loc, scale_tril=scale_tril))


class MultivariateStudentT(Elliptical):
    r""":math:`p(\mathbf z) \propto (1 + \delta / \nu)^{-(\nu + d)/2}` in :math:`d` dimensions, with
    :math:`\delta = (\mathbf z - \mu)^\top (AA^\top)^{-1} (\mathbf z - \mu)`.

    The noise is a Gaussian vector over a common :math:`\sqrt{\chi^2_\nu / \nu}`. It contains
    :math:`\nu`, the ``df``: no gradient in it.
    """

    arg_constraints = {  # noqa: RUF012
        "df": constraints.positive,
        "loc": VECTOR,
        "scale_tril": TRIANGULAR,
    }
    constants = ("df",)
    support = constraints.real_vector

    def __init__(
        self,
        df: Tensor | float,
        loc: Tensor,
        scale_tril: Tensor,
        validate_args: bool | None = None,
    ):
        self._accept(validate_args, df=df, loc=loc, scale_tril=scale_tril)
        self.df, self.loc, self.scale_tril = self.parameters.values()
        super().__init__(self.df.shape, self.loc.shape[-1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        return torch.where(self.df.unsqueeze(-1) > 1, self.loc, torch.nan)

    @property
    def covariance_matrix(self) -> Tensor:
        df = self.df.reshape((*self.df.shape, 1, 1))
        factor = torch.where(df > 2, df / (df - 2), torch.nan)
        return factor * self.scale_tril @ self.scale_tril.mT

    @property
    def variance(self) -> Tensor:
        return self.covariance_matrix.diagonal(dim1=-2, dim2=-1)

    @property
    def _inside(self) -> Tensor:
        return self.loc

    def _draw(self, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
        gaussian = normal(shape, self.loc, generator)
        return student_t_noise(gaussian, self.df.expand(shape[:-1]), generator)

    def _log_density(self, value: Tensor) -> Tensor:
        d, nu, log = self.event_shape[0], self.df, torch.log
        centered = (value - self.loc).unsqueeze(-1)
        shape = centered.shape[:-2] + self.scale_tril.shape[-2:]
        white = torch.linalg.solve_triangular(self.scale_tril.expand(shape), centered, upper=False)
        delta = white.square().sum((-2, -1))
        volume = self.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        constant = torch.lgamma((nu + d) / 2) - torch.lgamma(nu / 2) - d / 2 * log(torch.pi * nu)
        return constant - volume - (nu + d) / 2 * torch.log1p(delta / nu)
