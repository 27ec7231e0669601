r"""The command line: ``python -m aevb``, or ``aevb`` where the package is installed."""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aevb import (
    benchmark,
    checkpoint,
    data,
    drift,
    experiments,
    gpu_benchmark,
    reference,
    results,
    sweep,
    training,
)

__all__ = ["main"]

ERRORS = (
    checkpoint.CheckpointError,
    data.DataError,
    experiments.ExperimentError,
    reference.ReferenceError,
    results.RecordError,
    training.DivergenceError,
    OSError,
)
"""What goes wrong without the program being wrong: said in one line, with exit status 1."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: What follows the program's name; by default the process's own.

    Returns:
        The exit status: 0, or 1 after a one-line message on standard error.
    """
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except ExceptionGroup as group:
        expected, rest = group.split(ERRORS)
        if rest or not expected:
            raise
        for error in expected.exceptions:
            print(f"aevb: error: {_said(error)}", file=sys.stderr)
        return 1
    except ERRORS as error:
        print(f"aevb: error: {_said(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("aevb: interrupted; the same command goes on from the checkpoint", file=sys.stderr)
        return 130
    return 0


def _said(error: Exception) -> str:
    """An error's message: in one line, but for a report on the data files, which has one each."""
    return str(error) if isinstance(error, data.DataError) else " ".join(str(error).splitlines())


def _data(options: argparse.Namespace) -> None:
    if options.verify:
        print("\n".join(data.verify()))
        return
    print("\n".join(data.fetch(names=["mnist"])))
    try:
        print("\n".join(data.fetch(names=["frey-face"])))
    except data.DataError as error:
        print(
            f"{error}\naevb: warning: Frey Face cannot be had: its pages are drawn from the "
            "stored records, and what needs the images is left out",
            file=sys.stderr,
        )


def _list(options: argparse.Namespace) -> None:
    for figure in experiments.FIGURES:
        print(figure)
        for experiment in experiments.select([figure], options.preset, _seeds(options)):
            record = experiments.stored(experiment)
            if record is None:
                print(f"  {experiment.name:<34} no record")
                continue
            samples, test = record.curves["samples"][-1], record.curves["test"][-1]
            hours = record.provenance["wall_seconds"] / 3600
            print(
                f"  {experiment.name:<34} {samples:>13,.0f} samples {test:>9.2f} nats"
                f" {hours:>6.2f} h  {record.provenance['date']}"
            )


def _run(options: argparse.Namespace) -> None:
    chosen = list(_chosen([options.figure], options))
    if options.only:
        named = {experiment.name: experiment for experiment in chosen}
        for name in options.only:
            experiments.one_of(f"{options.figure}: only", name, named)
        chosen = [named[name] for name in options.only]
    there = {} if options.force else experiments.done(chosen)
    for record in there.values():
        print(f"{record.path}: there already; --force trains it again")
    missing = [experiment for experiment in chosen if experiment not in there]
    alone = options.device == "cpu"  # one run fills a processor; a GPU has room for a figure
    for batch in [[experiment] for experiment in missing] if alone else [missing]:
        for record in experiments.run_together(batch, device=options.device, force=options.force):
            print(f"{record.path}: test {record.curves['test'][-1]:.2f} nats", flush=True)


def _sweep(options: argparse.Namespace) -> None:
    chosen = _chosen(options.figure or list(experiments.FIGURES), options)
    runs = sweep.missing(chosen)
    settings = [f"--{name.replace('_', '-')}={value}" for name, value in _given(options).items()]
    work = sweep.jobs(
        runs,
        settings,
        device=options.device,
        together=options.together,
    )
    print(sweep.report(chosen, runs, work), flush=True)
    if options.dry_run or not work:
        return
    failed = sweep.launch(work, options.profile, options.jobs, device=options.device)
    left = sweep.missing(chosen)
    if left:
        said = [f"{name}: {words}" for name, words in failed.items()]
        more = [f"and {len(said) - 3} more"] if len(said) > 3 else []
        raise experiments.ExperimentError(
            f"sweep: expected {len(chosen)} records, found {len(chosen) - len(left)}; the same "
            f"command goes on. {'; '.join(said[:3] + more)}"
        )
    print(f"{len(chosen)} runs: all stored")


def _chosen(
    figures: Sequence[str], options: argparse.Namespace
) -> dict[experiments.Experiment, str]:
    """The experiments that the options choose, and the figure that each is found in."""
    wanted = {name: getattr(options, name) for name in _CHOICES}
    return experiments.select(
        figures,
        options.preset,
        _seeds(options),
        {name: values for name, values in wanted.items() if values is not None},
        _given(options),
    )


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """The settings that were given."""
    given = {name: getattr(options, name) for name in _SETTINGS}
    return {name: value for name, value in given.items() if value is not None}


def _seeds(options: argparse.Namespace) -> list[int]:
    return list(dict.fromkeys(seed for seeds in options.seed for seed in seeds))


def _compare(options: argparse.Namespace) -> None:
    records = results.find(options.figure, results.folder(options.preset))
    rows = reference.compare(options.figure, records, preset=options.preset)
    print(reference.rows_as_json(rows) if options.json else reference.table(rows))


def _rerun(options: argparse.Namespace) -> None:
    record = results.load(options.record)
    experiments.specification(record)  # refuses the record of another kind of run
    samples = options.samples
    if samples is None:
        samples = int(min(100_000, record.curves["samples"][-1]))
    differences = experiments.rerun(record, samples, device=options.device)
    for name, nats in differences.items():
        print(
            f"{record.name}: {name} differs by {nats:.6f} nats at most, up to {samples:,} samples"
        )
    worst = max(differences.values())
    if not worst <= options.tolerance:
        raise experiments.ExperimentError(
            f"{record.name}: expected the record's curves to {options.tolerance} nats, found a "
            f"difference of {worst:.4f}; the record was made on {record.provenance['device']}, "
            f"this run on {options.device}"
        )


def _drift(options: argparse.Namespace) -> None:
    for run in drift.RUNS:
        record = drift.measure(
            run,
            options.samples,
            threads=options.threads,
            precision=options.precision,
            nudged=options.nudged,
        )
        nats = max(map(abs, drift.differences(record).values()))
        name = run.rpartition("/")[2]
        print(
            f"{drift.environment(record)}: {name} differs by {nats:.6f} nats at most,"
            f" up to {options.samples:,} samples",
            flush=True,
        )
        if options.store:
            results.save(record)


def _bench(options: argparse.Namespace) -> None:
    measuring: Any = benchmark if options.device == "cpu" else gpu_benchmark
    record = measuring.bench(*([] if measuring is benchmark else [options.device]))
    if options.store:
        results.save(record)
    measured = record.configuration
    print(json.dumps(measured, indent=1) if options.json else measuring.table(measured))


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
    """The name of a device that is there."""
    try:
        experiments.available_device(text)
    except experiments.ExperimentError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("device: ")) from None
    return text


_CHOICES: dict[str, Any] = {
    "dataset": {"choices": experiments.LATENT_DIMS, "help": "only these data sets"},
    "algorithm": {"choices": experiments.ALGORITHMS, "help": "only these algorithms"},
    "latent_dim": {"type": int, "metavar": "N_Z", "help": "only these latent dimensions"},
    "n_train": {"type": int, "metavar": "N", "help": "only these numbers of training images"},
}
"""What chooses among the panels of a figure."""
_SETTINGS: dict[str, Any] = {
    "samples": (_count, "training samples to evaluate in all"),
    "step_size": (float, "Adagrad's step size"),
    "minibatch": (int, "M, the datapoints of a minibatch"),
    "noise_samples": (int, "L, the noise samples per datapoint"),
    "estimator": (str, "A (eq. 6) or B (eq. 7)"),
    "hidden": (int, "the tanh units of each network"),
    "warm_up": (int, "steps that only accumulate squared gradients"),
    "initial_std": (float, "the standard deviation of the initial parameters"),
    "prior": (_true_or_false, "True or False: whether the parameters have one"),
    "split_seed": (int, "the seed of Frey Face's split"),
    "precision": (str, "of matrix products: float32 or bfloat16"),
    "pixels": (str, "of MNIST: gray, drawn or thresholded"),
    "decoder_variance": (str, "of Frey Face: network, floored or constant"),
    "evaluated": (int, "Figure 3: images whose likelihood is estimated"),
    "candidates": (int, "Figure 3: draws of the prior that a chain may start at"),
    "draws": (int, "Figure 3: draws of each posterior"),
    "burn_in": (int, "Figure 3: moves of a chain before its first draw"),
    "leapfrog_steps": (int, "Figure 3: leapfrog steps in each move"),
}
"""What may be set otherwise than in the figure."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="aevb",
        description="Auto-Encoding Variational Bayes (arXiv:1312.6114), reproduced and checked.",
        epilog="The records that the book draws from are in book/results; AEVB_RESULTS names "
        "another folder, AEVB_DATA the folder of the data sets.",
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    command = commands.add_parser(
        "data",
        help="fetch the data sets and check their SHA-256",
        description="Fetch MNIST and Frey Face into AEVB_DATA (by default data/) from the first "
        "source that has them, and check the SHA-256 of every file before it is kept. Frey Face "
        "has no second home: without it the command warns and succeeds.",
    )
    command.add_argument("--verify", action="store_true", help="check only; fetch nothing")
    command.set_defaults(command=_data)

    command = commands.add_parser("list", help="the runs of each figure, and how far they are")
    _add_preset(command)
    command.set_defaults(command=_list)

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
    command.set_defaults(command=_run)

    command = commands.add_parser(
        "sweep",
        help="run what is missing of many figures and seeds, on all cores or on a cluster",
        description="Make every run that is missing, has another configuration now, or is shorter "
        "than asked: each a job of its own, on all cores of this machine or on a cluster. What is "
        "stored is left alone, so the same command goes on after an interruption. `make sweep` "
        "sets up what it needs.",
        epilog="Example: python -m aevb sweep --figure figure-2 --seed 0-9 --samples 1e6 --dry-run",
    )
    command.add_argument(
        "--figure", nargs="+", choices=experiments.FIGURES, help="only these figures"
    )
    _add_selection(command)
    command.add_argument(
        "--device", default="cpu", help="cuda: on GPUs, many runs on each (default cpu)"
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
    command.set_defaults(command=_sweep)

    command = commands.add_parser(
        "compare",
        help="our curves and the paper's at the same x, in nats",
        description="A table of our bound, the paper's and their difference (ours minus the "
        "paper's), in nats per datapoint, at every half decade of training samples.",
    )
    command.add_argument("figure", choices=reference.FIGURES)
    command.add_argument("--preset", choices=experiments.PRESETS, default="paper")
    command.add_argument("--json", action="store_true", help="print a JSON array of the rows")
    command.set_defaults(command=_compare)

    command = commands.add_parser(
        "rerun",
        help="train the beginning of a stored run again, and compare",
        description="Train the beginning of a run again, from the configuration that its record "
        "stores, and compare the curves. On the machine that made the record they are equal.",
    )
    command.add_argument("record", type=Path, help="such as book/results/figure-2/NAME.json")
    command.add_argument("--samples", type=_count, help="how far (default 1e5)")
    command.add_argument(
        "--device", type=_device, default="cpu", help="cuda: on a GPU (default cpu)"
    )
    command.add_argument(
        "--tolerance", type=float, default=0.05, help="nats, beyond which it fails (default 0.05)"
    )
    command.set_defaults(command=_rerun)

    command = commands.add_parser(
        "drift",
        help="how far curves move with this version of PyTorch, on this processor",
        description="Train the beginning of some stored runs again with the same draws, and say "
        "how far the bound of their minibatches moves. Nothing here fails because it does.",
    )
    command.add_argument(
        "--samples", type=_count, default=drift.SAMPLES, help="how far (default 1e5)"
    )
    command.add_argument("--threads", type=_positive, default=1, help="by default 1, as always")
    command.add_argument(
        "--precision", default="float32", help="of matrix products (default float32)"
    )
    command.add_argument("--nudged", action="store_true", help="change one bit of one parameter")
    command.add_argument("--store", action="store_true", help="keep it for the book's page")
    command.set_defaults(command=_drift)

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
    command.set_defaults(command=_bench)
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
    for name, settings in _CHOICES.items():
        command.add_argument(f"--{name.replace('_', '-')}", nargs="+", **settings)
    others = command.add_argument_group("other settings than the figure's")
    for name, (kind, what) in _SETTINGS.items():
        others.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar="X", help=what)


def _range(text: str) -> range:
    """A seed, or a range of them with both its ends."""
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


if __name__ == "__main__":
    sys.exit(main())
