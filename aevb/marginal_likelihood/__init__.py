r"""Estimators of the marginal likelihood :math:`p_\theta(x)` (paper, Appendix D, and beyond).

One estimator a module; ``import aevb`` is enough for ``aevb.marginal_likelihood.importance``.
"""

from aevb.marginal_likelihood import annealed, importance, quadrature, reciprocal, resampling
from aevb.marginal_likelihood.reciprocal import Reciprocal, reciprocal_importance_sampling
from aevb.marginal_likelihood.resampling import resample

__all__ = [
    "Reciprocal",
    "annealed",
    "importance",
    "quadrature",
    "reciprocal",
    "reciprocal_importance_sampling",
    "resample",
    "resampling",
]
