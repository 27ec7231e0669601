r"""Auto-Encoding Variational Bayes, reproduced.

One module for each concept of Kingma and Welling, *Auto-Encoding Variational Bayes*
(arXiv:1312.6114). Read the one that is named after the section you are reading:

=======================  ===================================================  ==========
module                   holds                                                paper
=======================  ===================================================  ==========
``mlp``                  Gaussian and Bernoulli networks                      App. C
``divergence``           the Gaussian KL divergence in closed form            App. B
``reparameterization``   noise and a differentiable map instead of a draw     2.4
``models``               the VAE; a linear-Gaussian model with known answers  2.1, 3
``decoder_variance``     Frey Face's decoder with two other variances         5
``bayesian``             models with a distribution over their parameters     App. F
``estimators``           SGVB A and B, the score function, the minibatch      2.2--2.3
``hmc``                  Hamiltonian Monte Carlo, many chains at once         Apps D, E
``adagrad``              Adagrad with the prior and the warm-up               5
``auto_encoding``        Algorithm 1                                          2.3
``wake_sleep``           the on-line baseline                                 4
``monte_carlo_em``       the baseline without a recognition model             App. E
``full_vb``              Algorithm 2                                          App. F
``marginal_likelihood``  four estimators of the marginal likelihood           App. D
``gradient_variance``    how much a gradient estimate varies, and why         2.2--2.3
``data``                 MNIST and Frey Face                                  5
``replay``               a step repeated without the Python around it         --
``arithmetic``           quicker products, in float32 or bfloat16              --
``checkpoint``           stop and resume, bit for bit                         --
``training``             one loop for every algorithm                         5
``own_data``             a VAE for an array of your own, in one call          --
``results``              records of finished runs                             --
``reference``            the paper's own curves, and ours against them        5
``experiments``          the runs behind each figure                          5
``drift``                how far a curve moves where rounding is another      5
``sweep``                many of them: what is missing, as jobs               --
``full_vb_study``        full variational Bayes against point estimates       App. F
``tables``               records and comparisons to the tables of a page      5
``figures``              record to figure                                     figs 1--5
``scorecard``            what the paper claims, held against records          5
``readme``               the README's table and picture, from the records     --
``contenders``           what a step's speed is held against                  5
``benchmark``            how fast it is                                       5
``gpu_benchmark``        how fast many runs at once are on a GPU              5
``notebooks``            run the book's notebooks with other parameters       --
=======================  ===================================================  ==========

Import modules, not names: ``from aevb import estimators`` and then ``estimators.sgvb_b``. After
``import aevb`` alone, ``aevb.estimators`` is imported when it is first used.
"""

import importlib
import pkgutil
from types import ModuleType

__version__ = "0.1.0"


def __getattr__(name: str) -> ModuleType:
    if name in __dir__() and not name.startswith("_"):
        return importlib.import_module(f"aevb.{name}")
    raise AttributeError(f"module 'aevb' has no attribute {name!r}")


def __dir__() -> list[str]:
    modules = (module.name for module in pkgutil.iter_modules(__path__))
    return ["__version__", *(name for name in modules if not name.startswith("_"))]
