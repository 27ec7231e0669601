r"""Many runs: what is missing of them becomes jobs, here or on a cluster.

The records decide what there is to do: a run is left alone when its record has all that is asked
for, whenever and by whomever it was made. What is not, becomes jobs, each of which is one
``python -m aevb run ...``. Snakemake, in an environment of its own (``make sweep``), starts them,
waits for them and starts again what was killed; the ``Snakefile`` lies beside this module, with a
profile for each place that jobs can run in.

Snakemake keeps its books in a folder that is new for every sweep. So nothing is left from one
that was killed that could hold up the next: no lock, no half-finished file, no time stamp.
"""

import contextlib
import json
import math
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from aevb import data, results
from aevb.experiments import Experiment, ExperimentError, lacking
from aevb.sweep import cost

__all__ = ["PROFILES", "Job", "Missing", "jobs", "launch", "missing", "profile_folder", "report"]

HERE = Path(__file__).resolve().parent
PROFILES = ("local", "slurm", "kubernetes")
MARGIN = 4
"""A job may take so many times what it is projected to: the processor may be slower or busy. One
that is stopped at its limit goes on from its checkpoint when it is started again."""
LEAST_MINUTES = 15


class Missing(NamedTuple):
    """A run that has to be made."""

    experiment: Experiment
    figure: str
    """The figure in whose grid it is."""
    why: str
    """See :func:`aevb.experiments.lacking`."""


@dataclass(frozen=True)
class Job:
    """What is started at once, and what it asks of a machine."""

    name: str
    command: str
    runs: int
    seconds: float | None
    """Projected; ``None`` where it was not measured."""
    minutes: int
    """The time limit."""
    mem_mb: int


def missing(chosen: Mapping[Experiment, str]) -> list[Missing]:
    """Those of the chosen runs that have to be made.

    Args:
        chosen: Experiments, and the figure that each was found in.

    Raises:
        aevb.results.RecordError: If a record is damaged: it is not for a sweep to replace it.
    """
    found = (Missing(e, figure, lacking(e)) for e, figure in chosen.items())
    return [run for run in found if run.why]


def jobs(
    runs: Sequence[Missing],
    settings: Sequence[str] = (),
    *,
    device: str = "cpu",
    together: int | None = None,
) -> list[Job]:
    """Turn runs into jobs: on a processor each is a job, on a GPU many share one.

    Args:
        runs: What has to be made.
        settings: Options of the command line, for settings that are not the figure's.
        device: ``cpu``, or ``cuda``.
        together: The runs in one job; by default 1 on a processor, and on a GPU as many as were
            ever measured at once.

    Raises:
        aevb.results.RecordError: If there is no measurement to project from.
    """
    gpu = device != "cpu"
    together = together or (cost.most_together() if gpu else 1)
    groups: dict[tuple[str, str], list[Experiment]] = {}
    for experiment, figure, _ in runs:
        groups.setdefault((figure, experiment.preset), []).append(experiment)
    found = []
    for (figure, preset), members in groups.items():
        # A group takes as long as its longest run: alike beside alike, all of about one size.
        members = sorted(members, key=lambda e: (e.dataset, e.algorithm))
        size = math.ceil(len(members) / math.ceil(len(members) / together))
        for start in range(0, len(members), size):
            batch = members[start : start + size]
            seeds = sorted({e.seed for e in batch})
            given = [figure, "--preset", preset, "--seed", *map(str, seeds), *settings]
            names = [e.name for e in batch]
            options = [*given, "--device", device, "--only", *names]
            command = [*_environment(), sys.executable, "-m", "aevb", "run", *options]
            name = f"{batch[0].figure}.{names[0]}" + (f".and-{len(batch) - 1}" * (len(batch) > 1))
            seconds = _seconds(batch, gpu)
            # What was not measured on a GPU is no slower there than on a core.
            limit = MARGIN * (seconds or sum(map(cost.core_seconds, batch)))
            minutes = max(LEAST_MINUTES, math.ceil(limit / 60))
            found.append(Job(name, shlex.join(command), len(batch), seconds, minutes, _memory(gpu)))
    return found


def _environment() -> list[str]:
    """What a job has to know, in front of its command: a cluster may pass nothing on."""
    known = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    known["AEVB_DATA"] = str(data.folder().resolve())
    if base := results.elsewhere():
        known["AEVB_RESULTS"] = str(base.resolve())
    if os.environ.get("AEVB_COMMIT"):
        known["AEVB_COMMIT"] = os.environ["AEVB_COMMIT"]
    return ["env", *(f"{name}={value}" for name, value in known.items())]


def _seconds(batch: Sequence[Experiment], gpu: bool) -> float | None:
    if not gpu:
        return sum(map(cost.core_seconds, batch))
    shares = [cost.gpu_seconds(experiment) for experiment in batch]
    return sum(share for share in shares if share) if all(shares) else None


def _memory(gpu: bool) -> int:
    """MiB: twice a measured run's, since estimates of the likelihood take more than training.

    With a GPU twice as much again, for the device's libraries.
    """
    one = cost.measured("bench").configuration["beside"]["memory_mib"]
    return math.ceil(one * (4 if gpu else 2))


def report(chosen: Mapping[Experiment, str], runs: Sequence[Missing], work: Sequence[Job]) -> str:
    """What there is to do, why, and how long it should take."""
    seconds = [cost.core_seconds(run.experiment) for run in runs]
    lines = [
        f"{run.experiment.figure}/{run.experiment.name}: {run.why}; {_told(took)} of a core"
        for run, took in zip(runs, seconds, strict=True)
    ]
    projected = f"{_told(sum(seconds))} of a core"
    made = cost.measured("bench").provenance
    on_gpu = any("--device cuda" in job.command for job in work)
    if on_gpu:
        unknown = sum(job.runs for job in work if job.seconds is None)
        projected = f"{_told(sum(job.seconds or 0 for job in work))} of a GPU"
        projected += f" and {unknown} runs that were not measured there" * (unknown > 0)
        made = cost.measured("gpu").provenance
    machine = made["device"] if on_gpu else made["processor"]
    lines.append(
        f"{len(chosen)} runs: {len(chosen) - len(runs)} stored, {len(runs)} to be made in "
        f"{len(work)} jobs; {projected} at the speed measured on {machine}, {made['date']}"
    )
    return "\n".join(lines)


def _told(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def profile_folder(profile: str) -> Path:
    """The folder of a Snakemake profile: one of ``PROFILES``, or another's own.

    Raises:
        ExperimentError: If it is not there.
    """
    folder = HERE / "profiles" / profile if profile in PROFILES else Path(profile).resolve()
    if not (folder / "config.yaml").exists():
        raise ExperimentError(
            f"profile: expected {', '.join(PROFILES)} or a folder with a config.yaml; "
            f"found {profile!r}"
        )
    return folder


def launch(
    work: Sequence[Job], profile: str = "local", at_once: int | None = None, *, device: str = "cpu"
) -> dict[str, str]:
    """Run jobs, with Snakemake, to their end.

    Args:
        work: The jobs.
        profile: One of ``PROFILES``, or the folder of another Snakemake profile.
        at_once: The jobs at once; by default one for each core here, as the profile says
            elsewhere.
        device: ``cuda`` asks for a GPU for each job.

    Returns:
        For each job that failed, the last line of its log, and where that is.

    Raises:
        ExperimentError: If Snakemake or the profile is not there.
    """
    folder = profile_folder(profile)
    command = [_snakemake(), "--snakefile", str(HERE / "Snakefile"), "--profile", str(folder)]
    local = profile == "local"
    if local and device == "cpu":
        command += ["--cores", str(at_once or _cores())]
    elif local:  # one device here, whatever the number of cores
        command += ["--cores", str(at_once or 1)]
    elif at_once:
        command += ["--jobs", str(at_once)]
    with _folder() as place:
        listed = {job.name: vars(job) for job in work}
        plan = {"jobs": listed, "gpu": device != "cpu"}
        (place / "plan.json").write_text(json.dumps(plan, indent=1))
        command += ["--directory", str(place), "--config", f"plan={place}/plan.json"]
        with (place / "snakemake.log").open("wb") as log:
            environment = os.environ | {"AEVB_PROFILE": str(folder)}
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            _follow(process, work, place)
        except KeyboardInterrupt:
            process.wait()  # it has been told too, and ends its jobs
            raise
        except BaseException:  # what runs may end, nothing more is started
            process.terminate()
            process.wait()
            raise
        failed = [job.name for job in work if not (place / "done" / job.name).exists()]
        own = _last_words(place / "snakemake.log", f"it ended with status {process.returncode}")
        return {name: _last_words(place / "log" / name, own) for name in failed}


def _follow(process: subprocess.Popen[bytes], work: Sequence[Job], place: Path) -> None:
    """Say how far it is, whenever that changes, until it ends."""
    shown, ended = 0, False
    while not ended:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1)
            ended = True
        done = {file.name for file in (place / "done").glob("*")}
        if len(done) > shown:
            shown = len(done)
            left = sum(job.seconds or 0 for job in work if job.name not in done)
            print(f"{shown} of {len(work)} jobs done; the rest: {_told(left)}", flush=True)


def _cores() -> int:
    """Those that this process may use, where the system tells, else all of them."""
    told = hasattr(os, "sched_getaffinity")  # not on macOS
    return len(os.sched_getaffinity(0)) if told else os.cpu_count() or 1


def _snakemake() -> str:
    own = results.ROOT / ".venv-sweep" / "bin" / "snakemake"
    found = str(own) if own.exists() else shutil.which("snakemake")
    if found is None:
        raise ExperimentError(
            f"snakemake: expected it at {own}, which `make sweep` makes, or on the PATH; found none"
        )
    return found


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A folder of this sweep alone, where all its jobs can see it; kept where something failed."""
    base = results.elsewhere()
    parent = base.resolve() / ".sweep" if base else results.ROOT / "_build" / "sweep"
    parent.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(dir=parent))
    yield place
    done = json.loads((place / "plan.json").read_text())["jobs"]
    if all((place / "done" / name).exists() for name in done):
        shutil.rmtree(place, ignore_errors=True)


def _last_words(log: Path, otherwise: str) -> str:
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    return f"{next((line for line in reversed(lines) if line.strip()), otherwise)} ({log})"
