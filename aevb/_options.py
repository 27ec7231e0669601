r"""What the command line takes: its commands, their options, and the experiments these choose."""

import argparse
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from aevb import drift, experiments, reference, sweep
from aevb._specification import DECODER_VARIANCES, ESTIMATORS, PIXELS, PRECISIONS, STARTS

__all__ = ["CHOICES", "SETTINGS", "parser", "seeds", "selected", "settings"]


def _count(text: str) -> int:
    """A whole number, also written as 1e7."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not number.is_integer():  # nor is an infinite one
        raise argparse.ArgumentTypeError(f"expected a whole number, found {text!r}")
    return int(number)


def _true_or_false(text: str) -> bool:
    if text not in ("True", "False"):
        raise argparse.ArgumentTypeError(f"expected True or False, found {text!r}")
    return text == "True"


def _device(text: str) -> str:
    """The name of a device that is there: of a processor ``cpu``, whatever its number."""
    if text.partition(":")[0] not in ("cpu", "cuda"):
        raise argparse.ArgumentTypeError(f"expected cpu or cuda, found {text!r}")
    try:
        return str(experiments.available_device(text))
    except experiments.ExperimentError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("device: ")) from None


CHOICES: dict[str, Any] = {
    "dataset": {"choices": experiments.LATENT_DIMS, "help": "only these data sets"},
    "algorithm": {"choices": experiments.ALGORITHMS, "help": "only these algorithms"},
    "latent_dim": {"type": int, "metavar": "N_Z", "help": "only these latent dimensions"},
    "n_train": {"type": int, "metavar": "N", "help": "only these numbers of training images"},
}
"""What chooses among the panels of a figure."""


def _one_of(names: Iterable[str]) -> str:
    """How the help shows what may be given; what is not is refused where the run is specified."""
    return f"{{{','.join(names)}}}"


_YES_NO = _one_of(("True", "False"))
SETTINGS: dict[str, Any] = {
    "samples": (_count, "N", "training samples to evaluate in all, such as 1e7"),
    "step_size": (float, "X", "Adagrad's step size"),
    "minibatch": (int, "N", "M, the datapoints of a minibatch"),
    "noise_samples": (int, "N", "L, the noise samples per datapoint"),
    "estimator": (str, _one_of(ESTIMATORS), "of the lower bound: A (eq. 6) or B (eq. 7)"),
    "hidden": (int, "N", "the tanh units of each network"),
    "warm_up": (int, "N", "steps that only accumulate squared gradients"),
    "initial_std": (float, "X", "the standard deviation of the initial parameters"),
    "prior": (_true_or_false, _YES_NO, "whether the parameters have a prior"),
    "split_seed": (int, "N", "the seed of Frey Face's split"),
    "precision": (str, _one_of(PRECISIONS), "of the matrix products"),
    "pixels": (str, _one_of(PIXELS), "MNIST: what its gray values become"),
    "decoder_variance": (str, _one_of(DECODER_VARIANCES), "Frey Face: the decoder's variance"),
    "keep_weights": (_true_or_false, _YES_NO, "whether the trained parameters are stored"),
    "evaluated": (int, "N", "Figure 3: images whose likelihood is estimated"),
    "candidates": (int, "N", "Figure 3: draws of the prior that a chain may start at"),
    "start": (str, _one_of(STARTS), "Figure 3: how an estimate's chains start"),
    "draws": (int, "N", "Figure 3: draws of each posterior"),
    "burn_in": (int, "N", "Figure 3: moves of a chain before its first draw"),
    "leapfrog_steps": (int, "N", "Figure 3: leapfrog steps in each move"),
    "hmc_step_size": (float, "X", "Monte Carlo EM: the leapfrog's first step size"),
}
"""What may be set otherwise than in the figure: of which type, and how the help shows it."""


def parser() -> argparse.ArgumentParser:
    """The reader of the command line."""
    parser = argparse.ArgumentParser(
        prog="aevb",
        description="Auto-Encoding Variational Bayes (arXiv:1312.6114), reproduced and checked.",
        epilog="The records that the book draws from are in book/results; AEVB_RESULTS names "
        "another folder, AEVB_DATA the folder of the data sets.",
    )
    commands = parser.add_subparsers(required=True, metavar="command", dest="command")

    command = commands.add_parser(
        "data",
        help="fetch the data sets and check their SHA-256",
        description="Fetch MNIST and Frey Face into AEVB_DATA (by default data/) from the first "
        "source that has them, and check the SHA-256 of every file before it is kept. Frey Face "
        "has no second home: without it the command warns and succeeds.",
    )
    command.add_argument("--verify", action="store_true", help="check only; fetch nothing")

    command = commands.add_parser("list", help="the runs of each figure, and how far they are")
    _add_preset(command)

    command = commands.add_parser(
        "run",
        help="train the runs of a figure and store their records",
        description="Train the runs of a figure and store their records. A run that was "
        "interrupted goes on from its checkpoint; one that is stored already is left alone.",
        epilog="Example: python -m aevb run figure-2 --dataset mnist --algorithm aevb "
        "--latent-dim 20 --samples 1e7",
    )
    command.add_argument("figure", choices=experiments.FIGURES)
    _add_selection(command)
    command.add_argument("--only", nargs="+", metavar="NAME", help="only the runs of these names")
    command.add_argument(
        "--device",
        type=_device,
        default="cpu",
        help="cuda: on a GPU, all of them at once (default cpu)",
    )
    command.add_argument("--force", action="store_true", help="train what is stored already, too")

    command = commands.add_parser(
        "sweep",
        help="run what is missing of many figures and seeds, on all cores or on a cluster",
        description="Make every run that is missing, has another configuration now, is shorter "
        "than asked, or lacks parameters that are to be kept: each a job of its own, on all cores "
        "of this machine or on a cluster. What is stored is left alone, so the same command goes "
        "on after an interruption. `make sweep` sets up what it needs.",
        epilog="Example: python -m aevb sweep --figure figure-2 --seed 0-9 --samples 1e6 --dry-run",
    )
    command.add_argument(
        "--figure", nargs="+", choices=experiments.FIGURES, help="only these figures"
    )
    _add_selection(command)
    command.add_argument(  # where the jobs will run; there need be none here
        "--device",
        choices=("cpu", "cuda"),
        default="cpu",
        help="cuda: on GPUs, many runs on each (default cpu)",
    )
    command.add_argument(
        "--profile",
        default="local",
        help=f"{', '.join(sweep.PROFILES)}, or the folder of a Snakemake profile (default local)",
    )
    command.add_argument(
        "--jobs", type=_positive, metavar="N", help="jobs at once (default: one a core, here)"
    )
    command.add_argument(
        "--together",
        type=_positive,
        metavar="N",
        help="runs in one job (default 1; on a GPU as many as were measured at once)",
    )
    command.add_argument(
        "--dry-run", action="store_true", help="say what would run, why and how long; run nothing"
    )

    command = commands.add_parser(
        "compare",
        help="our curves and the paper's at the same x, in nats",
        description="A table of our bound, the paper's and their difference (ours minus the "
        "paper's), in nats per datapoint, at round numbers of training samples and, for Figure 2, "
        "where our longest run ends.",
    )
    command.add_argument("figure", choices=reference.FIGURES)
    command.add_argument(
        "--preset", choices=experiments.PRESETS, default="paper", help="whose runs (default paper)"
    )
    command.add_argument("--json", action="store_true", help="print a JSON array of the rows")

    command = commands.add_parser(
        "rerun",
        help="train the beginning of a stored run again, and compare",
        description="Train the beginning of a run again, from the configuration that its record "
        "stores, and compare the curves. On the machine that made the record they are equal.",
    )
    command.add_argument("record", type=Path, help="such as book/results/figure-2/NAME.json")
    command.add_argument(
        "--samples", type=_count, metavar="N", help="how far (default 1e5, or one step)"
    )
    command.add_argument(
        "--device", type=_device, default="cpu", help="cuda: on a GPU (default cpu)"
    )
    command.add_argument(
        "--tolerance",
        type=_tolerance,
        default=0.05,
        metavar="X",
        help="nats, beyond which it fails (default 0.05)",
    )

    command = commands.add_parser(
        "drift",
        help="how far curves move with this version of PyTorch, on this processor",
        description="Train the beginning of some stored runs again with the same draws, and say "
        "how far the bound of their minibatches moves. Nothing here fails because it does.",
    )
    command.add_argument(
        "--samples", type=_count, default=drift.SAMPLES, metavar="N", help="how far (default 1e5)"
    )
    command.add_argument(
        "--threads",
        type=_positive,
        default=1,
        metavar="N",
        help="that share each operation (default 1)",
    )
    command.add_argument(
        "--precision",
        default="float32",
        metavar=_one_of(PRECISIONS),
        help="of the matrix products (default float32)",
    )
    command.add_argument("--nudged", action="store_true", help="change one bit of one parameter")
    command.add_argument("--store", action="store_true", help="keep it for the book's page")

    command = commands.add_parser(
        "bench",
        help="how fast training is, against what this machine can do",
        description="Measure, on one thread and in turns: a training step, the matrix products in "
        "it alone, and the same training as a plain PyTorch loop; then the speed of every curve, "
        "Appendix D, and two runs at once. A few minutes, on a machine with nothing else to do.",
    )
    command.add_argument(
        "--device", type=_device, default="cpu", help="cuda: many runs at once on a GPU"
    )
    command.add_argument("--json", action="store_true", help="print a JSON object")
    command.add_argument("--store", action="store_true", help="keep it for the book's page")
    return parser


def _add_preset(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--preset",
        choices=experiments.PRESETS,
        default="paper",
        help="smoke: seconds a figure; quick: minutes; paper: the paper's budget (default)",
    )
    command.add_argument(
        "--seed",
        type=_range,
        nargs="+",
        default=[range(1)],
        metavar="N",
        help="the seeds of the runs: numbers, or ranges such as 0-9 (default 0)",
    )


def _add_selection(command: argparse.ArgumentParser) -> None:
    _add_preset(command)
    for name, settings in CHOICES.items():
        command.add_argument(f"--{name.replace('_', '-')}", nargs="+", **settings)
    others = command.add_argument_group("other settings than the figure's")
    for name, (kind, shown, what) in SETTINGS.items():
        others.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=shown, help=what)


def _range(text: str) -> range:
    """A seed, or a range of them with both its ends."""
    first, _, last = text.partition("-")
    try:
        found = range(int(first), int(last or first) + 1)
    except ValueError:
        found = range(0)
    if not found:
        raise argparse.ArgumentTypeError(f"expected a seed, or a range such as 0-9; found {text!r}")
    return found


def _positive(text: str) -> int:
    number = _count(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, found {text!r}")
    return number


def _tolerance(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not number >= 0:
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, found {text!r}")
    return number


def selected(
    figures: Sequence[str], options: argparse.Namespace
) -> dict[experiments.Experiment, str]:
    """The experiments that the options choose, and the figure that each is found in."""
    wanted = {name: getattr(options, name) for name in CHOICES}
    return experiments.select(
        figures,
        options.preset,
        seeds(options),
        {name: values for name, values in wanted.items() if values is not None},
        settings(options),
    )


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """The settings that were given."""
    given = {name: getattr(options, name) for name in SETTINGS}
    return {name: value for name, value in given.items() if value is not None}


def seeds(options: argparse.Namespace) -> list[int]:
    """The seeds that were given, each once."""
    return list(dict.fromkeys(seed for seeds in options.seed for seed in seeds))
