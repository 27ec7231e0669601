r"""The command line: ``python -m aevb``, or ``aevb`` where the package is installed."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from aevb import (
    benchmark,
    checkpoint,
    data,
    drift,
    experiments,
    gpu_benchmark,
    hmc,
    reference,
    results,
    sweep,
    training,
)
from aevb._options import parser, seeds, selected, settings
from aevb.marginal_likelihood._checks import EstimateError

__all__ = ["main"]

ERRORS = (
    checkpoint.CheckpointError,
    data.DataError,
    experiments.ExperimentError,
    hmc.InitialPositionError,
    EstimateError,
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
        The exit status: 0, or 1 after a one-line message on standard error; without a message if
        nobody reads on what it prints.
    """
    options = parser().parse_args(arguments)
    try:
        COMMANDS[options.command](options)
        sys.stdout.flush()
    except ExceptionGroup as group:
        expected, rest = group.split(ERRORS)
        if rest or not expected:
            raise
        for error in expected.exceptions:
            print(f"aevb: error: {_said(error)}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # as in `aevb list | head -1`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ERRORS as error:
        print(f"aevb: error: {_said(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        kept = options.command in ("run", "sweep")
        goes_on = "; the same command goes on from the checkpoint" if kept else ""
        print(f"aevb: interrupted{goes_on}", file=sys.stderr)
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
        for experiment in experiments.select([figure], options.preset, seeds(options)):
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
    chosen = list(selected([options.figure], options))
    if options.only:
        named = {experiment.name: experiment for experiment in chosen}
        for name in options.only:
            experiments.one_of(f"{options.figure}: only", name, named)
        chosen = [named[name] for name in options.only]
    there = {} if options.force else experiments.done(chosen)
    for record in there.values():
        print(f"{record.path}: there already; --force trains it again")
    missing = [e for e in chosen if e not in there or experiments.leftovers(e)]
    alone = options.device == "cpu"  # one run fills a processor; a GPU has room for a figure
    for batch in [[experiment] for experiment in missing] if alone else [missing]:
        for record in experiments.run_together(batch, device=options.device, force=options.force):
            print(f"{record.path}: test {record.curves['test'][-1]:.2f} nats", flush=True)


def _sweep(options: argparse.Namespace) -> None:
    sweep.profile_folder(options.profile)  # refused before anything else is done
    chosen = selected(options.figure or list(experiments.FIGURES), options)
    runs = sweep.missing(chosen)
    given = [f"--{name.replace('_', '-')}={value}" for name, value in settings(options).items()]
    work = sweep.jobs(runs, given, device=options.device, together=options.together)
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


def _compare(options: argparse.Namespace) -> None:
    records = results.find(options.figure, results.folder(options.preset))
    if not records:
        again = f"python -m aevb run {options.figure} --preset {options.preset}"
        print(f"aevb: no {options.preset} runs: {again}", file=sys.stderr)
    rows = reference.compare(options.figure, records, preset=options.preset)
    print(reference.rows_as_json(rows) if options.json else reference.table(rows))


def _rerun(options: argparse.Namespace) -> None:
    record = results.load(options.record)
    step = experiments.specification(record).per_step  # refuses the record of another kind of run
    samples = options.samples
    if samples is None:
        samples = max(step, int(min(100_000, record.curves["samples"][-1])))
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
    for run in drift.RUNS:  # all of them, before the first is trained
        drift.beginning(run, options.samples, threads=options.threads, precision=options.precision)
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


COMMANDS = {
    "data": _data,
    "list": _list,
    "run": _run,
    "sweep": _sweep,
    "compare": _compare,
    "rerun": _rerun,
    "drift": _drift,
    "bench": _bench,
}


if __name__ == "__main__":
    sys.exit(main())
