r"""What an experiment is: the specifications behind ``experiments``."""

import sys
from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from aevb import estimators
from aevb.marginal_likelihood.reciprocal import MOST_DIMS

__all__ = [
    "EM_LEAPFROG_STEPS",
    "EM_UPDATES",
    "ESTIMATORS",
    "LATENT_DIMS",
    "PAPER_N_TRAIN",
    "PRESETS",
    "SAMPLES",
    "SHOWN",
    "Experiment",
    "ExperimentError",
    "LowerBound",
    "MarginalLikelihood",
    "check",
    "check_images",
    "check_integer",
    "finite",
    "one_of",
    "paper_samples",
    "step_size",
]

PRESETS = ("smoke", "quick", "paper")
PRECISIONS = ("float32", "bfloat16")
PIXELS = ("gray", "drawn", "thresholded")
STARTS = ("resampled", "persistent")
PAPER_N_TRAIN = (1_000, 50_000)
"""The panels of Figure 3."""
DECODER_VARIANCES = ("network", "floored", "constant")
LATENT_DIMS = {"mnist": (3, 5, 10, 20, 200), "frey-face": (2, 5, 10, 20)}
SHOWN = {"mnist": (2, 5, 10, 20), "frey-face": (2,)}
"""The latent dimensions of the models that Figures 4 and 5 look into."""
HIDDEN = {"mnist": 500, "frey-face": 200}
MINIBATCH = {"mnist": 100, "frey-face": 500}
SAMPLES = {
    "smoke": {"mnist": 10_000, "frey-face": 25_000},
    "quick": {"mnist": 300_000, "frey-face": 1_000_000},
    "paper": {"mnist": 100_000_000, "frey-face": 100_000_000},
}
WARM_UP = {"smoke": 20, "quick": 100, "paper": 100}
LIKELIHOOD_SAMPLES = {"smoke": 90_000, "quick": 300_000, "paper": 60_000_000}
"""Of Figure 3: both panels print 60 million samples."""
EVALUATED = {"smoke": 20, "quick": 100, "paper": 1_000}
CANDIDATES = {"smoke": 1_024, "quick": 4_096, "paper": 16_384}
EM_UPDATES = 5
"""Weight updates of an iteration of Monte Carlo EM. Those of the first are its warm-up. A longer
one does not fit the paper: its curve is up, and near its end, at the thirteenth iteration."""
EM_LEAPFROG_STEPS = 10
EM_COUNTS = EM_LEAPFROG_STEPS + EM_UPDATES
"""How often such an iteration counts each datapoint: once for each leapfrog step and update. Every
abscissa of the paper's MCEM curves is a multiple of 15 N."""
HMC_STEP_SIZE = 0.01
"""Where Monte Carlo EM's tuning begins, as in the first author's code of the time."""
LIKELIHOOD_STEP_SIZE = 0.1
"""Of the paper's three, the one that its rule selects in both panels of Figure 3 and for all three
algorithms: the best on the training set after the first iterations."""
ESTIMATORS = {"A": estimators.sgvb_a, "B": estimators.sgvb_b}
LONGEST_NAME = 200
"""Characters of a run's name; what is added to it for a file takes some 40 more."""

_THE_PANELS: Any = None
"""The default of a field whose usual value depends on the panel."""


class ExperimentError(ValueError):
    """A specification that cannot be run, or a result that is not there."""


@dataclass(frozen=True)
class Experiment:
    """What the runs of Figures 2 and 3 share.

    Fields that are not given take the value of the panel: the paper's for the data set.
    """

    dataset: str = "mnist"
    """``mnist`` or ``frey-face``."""
    algorithm: str = "aevb"
    """``aevb`` or ``wake-sleep``; in Figure 3 also ``mcem``."""
    latent_dim: int = 20
    """The number of latent variables, N_z."""
    hidden: int = _THE_PANELS
    """The tanh units of each network: 500 on MNIST, 200 on Frey Face; 100 in Figure 3."""
    minibatch: int = _THE_PANELS
    """M: 100 on MNIST; 500 on Frey Face, which is what the paper's curves were counted in. Monte
    Carlo EM takes the whole training set."""
    step_size: float = _THE_PANELS
    """Adagrad's global step size; by default the panel's, of the paper's 0.01, 0.02, 0.1."""
    warm_up: int = _THE_PANELS
    """Steps that only accumulate squared gradients: 100; 20 in the short smoke runs."""
    initial_std: float = 0.01
    """The standard deviation of the initial parameters."""
    prior: bool = True
    """Whether the parameters have the prior N(0, I) (MAP) or none (maximum likelihood)."""
    precision: str = "float32"
    """Of the matrix products: ``float32``, or ``bfloat16`` with everything else in float32."""
    samples: int = _THE_PANELS
    """Training samples to evaluate in all; 1e8 in the paper preset of Figure 2."""
    seed: int = 0
    """The seed of everything random but the data's split."""
    preset: str = "paper"
    """``smoke``, ``quick`` or ``paper``."""
    keep_weights: bool = _THE_PANELS
    """Whether the trained parameters are stored; by default those that another page looks into."""

    figure: ClassVar[str]
    algorithms: ClassVar[tuple[str, ...]]

    def __post_init__(self) -> None:
        one_of("dataset", self.dataset, LATENT_DIMS)
        one_of("algorithm", self.algorithm, self.algorithms)
        one_of("preset", self.preset, PRESETS)
        one_of("precision", self.precision, PRECISIONS)
        by_default = self.keep_weights is None
        for name, value in self._panel().items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        for name in (field.name for field in fields(self) if field.name in _LEAST):
            check_integer(name, getattr(self, name), _LEAST[name])
        size, std = self.step_size, self.initial_std
        check("step_size", size, finite(size) and size > 0, "a positive number")
        check("initial_std", std, finite(std) and std >= 0, "a number of at least 0")
        for name in ("step_size", "initial_std"):  # 1 and 1.0 are one run, and so 0.0 and -0.0
            object.__setattr__(self, name, abs(float(getattr(self, name))))
        for name in ("prior", "keep_weights"):
            value = getattr(self, name)
            check(name, value, isinstance(value, bool), "True or False")
        if by_default and self._changed():
            object.__setattr__(self, "keep_weights", False)
        fits = self.samples >= self.per_step
        check("samples", self.samples, fits, f"at least one step of {self.per_step}")

    def _panel(self) -> dict[str, Any]:
        """The values of the fields that the panel decides."""
        raise TypeError(f"{type(self).__name__}: expected the experiment of one figure")

    @property
    def per_step(self) -> int:
        """The training samples that one step counts."""
        return self.minibatch

    @property
    def selection(self) -> str:
        """The options of the command line that choose the panel."""
        given = {name: getattr(self, name) for name in self._named()}
        return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in given.items())

    @property
    def name(self) -> str:
        """What the run is, readably: the panel, then each setting that is not the panel's."""
        changed = [f"-{name.replace('_', '-')}-{v}" for name, v in self._changed().items()]
        return f"{'-'.join(self._named().values())}{''.join(changed)}-seed{self.seed}"

    def _changed(self) -> dict[str, Any]:
        """The settings that are not the panel's."""
        usual = {field.name: field.default for field in fields(self)} | self._panel()
        told = (*self._named(), "preset", "seed", "samples", "keep_weights")
        names = [field.name for field in fields(self) if field.name not in told]
        return {n: getattr(self, n) for n in names if getattr(self, n) != usual[n]}

    def _check_name(self) -> None:
        """A name is that of a file, too, and a file's name has at most 255 characters."""
        if len(self.name) > LONGEST_NAME:
            raise ExperimentError(
                f"name: expected at most {LONGEST_NAME} characters, found {len(self.name)}: "
                f"{self.name}"
            )

    def _named(self) -> dict[str, str]:
        """The fields that name the panel, and how each is written."""
        return {
            "dataset": self.dataset,
            "algorithm": self.algorithm,
            "latent_dim": f"nz{self.latent_dim}",
        }


@dataclass(frozen=True)
class LowerBound(Experiment):
    """Figure 2: the variational bound against training samples evaluated."""

    noise_samples: int = 1
    """L, the noise samples per datapoint."""
    estimator: str = "B"
    """``A`` (eq. 6) or ``B`` (eq. 7)."""
    split_seed: int = 0
    """The seed of the Frey Face split."""
    pixels: str = "gray"
    """MNIST's targets: the ``gray`` values themselves; ``drawn`` anew each time, black or white,
    with the gray value as probability; or ``thresholded`` at one half."""
    decoder_variance: str = "network"
    """Of Frey Face's pixels: what the ``network`` computes from z (eq. 12); the same ``floored``
    by a gray level; or ``constant``, one a pixel for all z."""

    figure = "figure-2"
    algorithms = ("aevb", "wake-sleep")

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("estimator", self.estimator, ESTIMATORS)
        one_of("pixels", self.pixels, PIXELS)
        one_of("decoder_variance", self.decoder_variance, DECODER_VARIANCES)
        name = "decoder_variance" if self.dataset == "mnist" else "pixels"  # of the other data set
        value, usual = getattr(self, name), getattr(LowerBound, name)
        check(name, value, value == usual, f"{usual} on {self.dataset}")
        if self.algorithm != "aevb" and (self.noise_samples, self.estimator) != (1, "B"):
            raise ExperimentError(
                f"noise_samples, estimator: expected 1 and B, which {self.algorithm} does not use; "
                f"found {self.noise_samples} and {self.estimator}"
            )
        self._check_name()

    def _panel(self) -> dict[str, Any]:
        return {
            "hidden": HIDDEN[self.dataset],
            "minibatch": MINIBATCH[self.dataset],
            "step_size": step_size(self.dataset, self.latent_dim),
            "warm_up": WARM_UP[self.preset],
            "samples": SAMPLES[self.preset][self.dataset],
            "keep_weights": self.algorithm == "aevb"
            and self.latent_dim in SHOWN[self.dataset]
            and (self.seed == 0 or self.preset != "paper"),
        }


@dataclass(frozen=True)
class MarginalLikelihood(Experiment):
    """Figure 3: the estimated marginal likelihood against training samples evaluated."""

    latent_dim: int = 3
    """The number of latent variables, N_z; with more the estimates were unreliable."""
    n_train: int = 50_000
    """The training images used: 1,000 or 50,000 in the paper, the first of the set."""
    evaluated: int = _THE_PANELS
    """The datapoints of the training and of the test set whose likelihood is estimated: 1,000."""
    candidates: int = _THE_PANELS
    """Draws of the prior among which each chain finds its start: 16,384."""
    start: str = "resampled"
    """Where the chains of an estimate start: ``resampled`` from the prior's draws, each time anew;
    or ``persistent``, where those of the last estimate ended, the first at a draw of the prior.
    How far apart the estimates are matters then: they are at the places of the paper's own."""
    draws: int = 50
    """The posterior draws of each estimate."""
    burn_in: int = 50
    """The moves of each chain before the first draw."""
    leapfrog_steps: int = 4
    """The leapfrog steps of each move."""
    hmc_step_size: float = HMC_STEP_SIZE
    """Monte Carlo EM's leapfrog step size in the first iteration, from which it is tuned."""

    figure = "figure-3"
    algorithms = ("aevb", "wake-sleep", "mcem")

    def __post_init__(self) -> None:
        if self.dataset != "mnist":
            raise ExperimentError(
                f"dataset: expected mnist in Figure 3; found {_shown(self.dataset)}"
            )
        check_images(self.n_train)
        super().__post_init__()
        if self.algorithm == "mcem":
            whole = self.minibatch == self.n_train
            check("minibatch", self.minibatch, whole, f"n_train, {self.n_train}, for mcem")
        size = self.hmc_step_size
        fits = finite(size) and _FLOAT32[0] <= size <= _FLOAT32[1]
        check("hmc_step_size", size, fits, "a positive number that float32 holds")
        fits = self.algorithm == "mcem" or size == HMC_STEP_SIZE
        check("hmc_step_size", size, fits, f"{HMC_STEP_SIZE}, which {self.algorithm} does not use")
        object.__setattr__(self, "hmc_step_size", float(size))
        n, draws = self.latent_dim, self.draws  # what the density of Appendix D can be fitted to
        check("latent_dim", n, n <= MOST_DIMS, f"an integer of at most {MOST_DIMS} in Figure 3")
        the_papers = n == 3 and self.n_train in PAPER_N_TRAIN
        one_of("start", self.start, STARTS if the_papers else STARTS[:1])
        least = 4 * (n + 1)
        check("draws", draws, draws >= least, f"at least {least} for {n} latent variables")
        self._check_name()

    def _panel(self) -> dict[str, Any]:
        em = self.algorithm == "mcem"
        budget = LIKELIHOOD_SAMPLES[self.preset]
        return {
            "hidden": 100,
            "minibatch": self.n_train if em else MINIBATCH[self.dataset],
            "step_size": LIKELIHOOD_STEP_SIZE,
            "warm_up": EM_UPDATES if em else WARM_UP[self.preset],
            "samples": max(budget, 2 * EM_COUNTS * self.n_train) if em else budget,
            "keep_weights": self.seed == 0 and self.preset == "paper",
            "evaluated": EVALUATED[self.preset],
            "candidates": CANDIDATES[self.preset],
        }

    @property
    def per_step(self) -> int:
        return self.minibatch * (EM_COUNTS if self.algorithm == "mcem" else 1)

    def _named(self) -> dict[str, str]:
        return {"algorithm": self.algorithm, "n_train": f"n{self.n_train}"}


_LEAST = {
    **dict.fromkeys(("latent_dim", "hidden", "minibatch", "noise_samples", "samples"), 1),
    **dict.fromkeys(("evaluated", "candidates", "draws", "leapfrog_steps"), 1),
    **dict.fromkeys(("warm_up", "seed", "split_seed", "burn_in"), 0),
}
"""The least that each integer may be."""
_MOST_SIZE = 1_000_000
_MOST = {
    **dict.fromkeys(("samples", "warm_up"), 2**63 - 1),
    **dict.fromkeys(("seed", "split_seed"), 2**32 - 1),
}
"""The most, where it is not :data:`_MOST_SIZE`: what a count of 64 bits holds, and the seeds that a
CPU's generator tells apart: of a larger one it takes the last 32 bits."""
_FLOAT32 = (1.2e-38, 3.4e38)
"""Between these float32 holds every number, to its full precision."""


def step_size(dataset: str, latent_dim: int) -> float:
    """Adagrad's step size of a panel of Figure 2.

    The paper chose from 0.01, 0.02 and 0.1 by the first iterations and does not say which won
    where. Its curves do: 0.02 follows them in every panel but MNIST's N_z = 20, which lies
    nearer 0.01.
    """
    return 0.01 if (dataset, latent_dim) == ("mnist", 20) else 0.02


def paper_samples(figure: str, dataset: str) -> int:
    """The training samples of the paper's budget, to which a figure's curves would run."""
    if figure == MarginalLikelihood.figure:
        return LIKELIHOOD_SAMPLES["paper"]
    return SAMPLES["paper"][dataset]


def one_of(name: str, value: object, known: Collection[str]) -> None:
    """Refuse a name that is not known.

    Args:
        name: What the value is of, for the message.
        value: What was given.
        known: What it may be.

    Raises:
        ExperimentError: If it is no string, or none of those.
    """
    if not (isinstance(value, str) and value in known):
        raise ExperimentError(f"{name}: expected one of {', '.join(known)}; found {_shown(value)}")


def check(name: str, value: object, fits: bool, expected: str) -> None:
    """Refuse a value that does not fit, with what was expected."""
    if not fits:
        raise ExperimentError(f"{name}: expected {expected}, found {_shown(value)}")


def check_integer(name: str, value: Any, least: int) -> None:
    """Refuse what is no integer, is below the least, or is above the most for this name."""
    most = _MOST.get(name, _MOST_SIZE)
    check(name, value, _integer(value, least), f"an integer of at least {least}")
    check(name, value, value <= most, f"an integer of at most {most}")


def check_images(n_train: Any) -> None:
    """Refuse what is no number of MNIST's training images."""
    fits = _integer(n_train, 1) and n_train <= PAPER_N_TRAIN[-1]
    check("n_train", n_train, fits, f"an integer from 1 to {PAPER_N_TRAIN[-1]}")


def _shown(value: object) -> str:
    """A value for a message: in one line, and not longer than a line."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to write more than some thousand digits
        if isinstance(value, int):
            return f"an integer of {value.bit_length()} bits"
        return f"a {type(value).__name__}"
    return text if len(text) <= 100 else f"{text[:80]}... ({len(text)} characters)"


def _integer(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def finite(value: object) -> bool:
    """Whether it is a finite number that a float holds."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) <= sys.float_info.max
