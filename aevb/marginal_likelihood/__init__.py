r"""Estimators of the marginal likelihood :math:`p_\theta(x)` (paper, Appendix D, and beyond)."""

from aevb.marginal_likelihood.reciprocal import Reciprocal, reciprocal_importance_sampling
from aevb.marginal_likelihood.resampling import resample

__all__ = ["Reciprocal", "reciprocal_importance_sampling", "resample"]
