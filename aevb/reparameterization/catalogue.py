"""The laws that section 2.4 of the paper names, in its order: 10 + 7 + 6 entries."""

from typing import Any, NamedTuple

import torch

from aevb.reparameterization import composition, elliptical, inverse_cdf, loc_scale
from aevb.reparameterization.law import Law

__all__ = ["FAMILIES", "LAWS", "Entry"]

INVERSE_CDF, LOCATION_SCALE, COMPOSITION = FAMILIES = (
    "inverse CDF",
    "location-scale",
    "composition",
)


class Entry(NamedTuple):
    """One name in the paper's lists."""

    family: str
    """Which of the three recipes, one of ``FAMILIES``."""
    name: str
    """What the paper calls it."""
    law: type[Law]
    """The class."""
    noise: str
    """The noise, in LaTeX."""
    formula: str
    """The map, in LaTeX."""
    caveat: str
    """What to look out for; empty where nothing is."""
    example: dict[str, Any]
    """Parameters of an unremarkable member, as numbers and nested lists."""

    def member(self, **changes: Any) -> Law:
        """The law at the example's parameters, some of them changed, in the default dtype."""
        given: dict[str, Any] = {
            name: torch.tensor(value) if isinstance(value, list) else value
            for name, value in {**self.example, **changes}.items()
        }
        return self.law(**given)


U, UNIT = "$u$", "$u_i$"
LOC_SCALE = {"loc": 0.5, "scale": 1.2}

LAWS: tuple[Entry, ...] = (
    Entry(INVERSE_CDF, "Exponential", inverse_cdf.Exponential, U,
          r"$-\log(1 - u) / \lambda$", "a scale family, too", {"rate": 1.5}),
    Entry(INVERSE_CDF, "Cauchy", inverse_cdf.Cauchy, U,
          r"$a + \gamma \tan \pi(u - \frac12)$",
          "no mean: $f$ must grow slowly; location–scale, too", LOC_SCALE),
    Entry(INVERSE_CDF, "Logistic", inverse_cdf.Logistic, U,
          r"$\mu + s \log \frac{u}{1 - u}$", "listed again below", LOC_SCALE),
    Entry(INVERSE_CDF, "Rayleigh", inverse_cdf.Rayleigh, U,
          r"$\sigma \sqrt{-2 \log(1 - u)}$", "", {"scale": 1.2}),
    Entry(INVERSE_CDF, "Pareto", inverse_cdf.Pareto, U,
          r"$x_m (1 - u)^{-1/\alpha}$",
          r"support moves with $x_m$; $k$th moment only if $\alpha > k$",
          {"scale": 0.8, "alpha": 2.5}),
    Entry(INVERSE_CDF, "Weibull", inverse_cdf.Weibull, U,
          r"$\lambda (-\log(1 - u))^{1/k}$", "", {"scale": 1.3, "concentration": 1.8}),
    Entry(INVERSE_CDF, "Reciprocal", inverse_cdf.Reciprocal, U,
          r"$a (b/a)^u$", "both ends of the support move", {"low": 0.5, "high": 3.0}),
    Entry(INVERSE_CDF, "Gompertz", inverse_cdf.Gompertz, U,
          r"$\frac1b \log\bigl(1 - \frac{\log(1 - u)}{\eta}\bigr)$", "",
          {"concentration": 0.7, "rate": 1.1}),
    Entry(INVERSE_CDF, "Gumbel", inverse_cdf.Gumbel, U,
          r"$\mu - \beta \log(-\log u)$", "", LOC_SCALE),
    Entry(INVERSE_CDF, "Erlang", inverse_cdf.Erlang, U,
          r"$P^{-1}(k, u) / \lambda$",
          "$F^{-1}$ numerical; integer $k$, no gradient in it", {"concentration": 3, "rate": 1.4}),
    Entry(LOCATION_SCALE, "Laplace", loc_scale.Laplace,
          r"$-\operatorname{sgn}(v) \log(1 - 2 \lvert v \rvert)$, $v = u - \frac12$",
          r"$a + b\epsilon$", "", LOC_SCALE),
    Entry(LOCATION_SCALE, "Elliptical", elliptical.MultivariateStudentT,
          "spherical", r"$\bmu + A\beps$",
          r"a class of laws, here the multivariate $t$; $A$ lower-triangular, $\nu$ constant",
          {"df": 9.0, "loc": [0.5, -0.3], "scale_tril": [[1.0, 0.0], [0.6, 0.8]]}),
    Entry(LOCATION_SCALE, "Student's t", loc_scale.StudentT,
          r"$t_\nu$", r"$\mu + \sigma\epsilon$", r"$\nu$ constant, no gradient in it",
          dict(df=4.0, **LOC_SCALE)),
    Entry(LOCATION_SCALE, "Logistic", loc_scale.Logistic,
          r"$\log \frac{u}{1 - u}$", r"$\mu + s\epsilon$", "", LOC_SCALE),
    Entry(LOCATION_SCALE, "Uniform", loc_scale.Uniform, U,
          r"$a + (b - a) u$", "both ends of the support move", {"low": -0.5, "high": 1.5}),
    Entry(LOCATION_SCALE, "Triangular", loc_scale.Triangular,
          U, r"$a + (b - a) T_c^{-1}(u)$",
          "both ends of the support move; gradient in the peak $c$, too",
          {"low": -0.5, "high": 1.5, "peak": 0.3}),
    Entry(LOCATION_SCALE, "Gaussian", loc_scale.Gaussian,
          r"$\mathcal N(0, 1)$", r"$\mu + \sigma\epsilon$",
          r"with full covariance $\bmu + L\beps$", LOC_SCALE),
    Entry(COMPOSITION, "Log-Normal", composition.LogNormal,
          r"$\mathcal N(0, 1)$", r"$\exp(\mu + \sigma\epsilon)$", "", {"loc": 0.2, "scale": 0.6}),
    Entry(COMPOSITION, "Gamma", composition.Gamma, UNIT,
          r"$-\frac1\lambda \sum_{i=1}^k \log u_i$", "integer $k$, gradient in the rate only",
          {"concentration": 3, "rate": 1.4}),
    Entry(COMPOSITION, "Dirichlet", composition.Dirichlet, "$u_{ji}$",
          r"$\gamma_j / \sum_k \gamma_k$", r"integer $\alpha_j$, no gradient left",
          {"concentration": [2.0, 3.0, 1.0]}),
    Entry(COMPOSITION, "Beta", composition.Beta, UNIT,
          r"$\gamma_a / (\gamma_a + \gamma_b)$", "integers, no gradient left",
          {"concentration1": 2, "concentration0": 3}),
    Entry(COMPOSITION, "Chi-Squared", composition.ChiSquared,
          r"$\mathcal N(0, 1)$, $k$ times", r"$\sum_{i=1}^k \epsilon_i^2$",
          "integer $k$, no gradient left", {"df": 3}),
    Entry(COMPOSITION, "F", composition.F,
          r"$\mathcal N(0, 1)$, $d_1 + d_2$ times",
          r"$\frac{\chi^2_{d_1} / d_1}{\chi^2_{d_2} / d_2}$",
          "integers, no gradient left; mean only if $d_2 > 2$", {"df1": 4, "df2": 8}),
)  # fmt: skip
