"""A sweep does what is missing, says so before, and survives a kill of any part of it.

The kills are real, of real runs on MNIST, small ones. What needs Snakemake is skipped where
``make sweep`` has not set it up, what needs Slurm where it is not installed.
"""

import contextlib
import dataclasses
import itertools
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aevb import data, experiments, results, sweep, training
from aevb.__main__ import main
from aevb.experiments import ExperimentError, LowerBound, MarginalLikelihood
from aevb.sweep import cost

SMALL = ["--preset=smoke", "--hidden=8", "--keep-weights=True", "--samples=4e3"]
FOUR = ["--dataset", "mnist", "--algorithm", "aevb", "--latent-dim", "3", "5", "--seed", "0-1"]


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AEVB_RESULTS", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def mnist() -> None:
    try:
        data.mnist()
    except data.DataError as error:
        pytest.skip(f"MNIST is not there: {error}")


@pytest.fixture(scope="module")
def snakemake() -> None:
    try:
        sweep._snakemake()
    except ExperimentError as error:
        pytest.skip(str(error))


# ---- What there is to do --------------------------------------------------------------------


def test_a_run_that_several_figures_show_is_chosen_once() -> None:
    chosen = experiments.select(["figure-2", "figure-4", "figure-5"], "paper", [0, 1])
    places = [(e.figure, e.name) for e in chosen]
    assert len(places) == len(set(places)) == 2 * (18 + 1)
    assert chosen[LowerBound(latent_dim=2)] == "figure-4"
    assert chosen[LowerBound(latent_dim=10, seed=1)] == "figure-2"


def test_what_is_chosen_is_what_was_asked_for() -> None:
    chosen = experiments.select(
        list(experiments.FIGURES),
        "quick",
        [3],
        {"algorithm": ["wake-sleep"], "latent_dim": [3, 5]},
        {"samples": 7_000},
    )
    assert {(e.dataset, e.latent_dim, e.figure) for e in chosen} == {
        ("mnist", 3, "figure-2"),
        ("mnist", 5, "figure-2"),
        ("frey-face", 5, "figure-2"),
        ("mnist", 3, "figure-3"),
    }
    assert {(e.algorithm, e.seed, e.samples, e.preset) for e in chosen} == {
        ("wake-sleep", 3, 7_000, "quick")
    }


@pytest.mark.parametrize(
    ("choices", "settings", "message"),
    [
        ({"latent_dim": [3, 7]}, {}, "^latent_dim: expected 2, 3, 5, .*; found 7$"),
        ({"n_train": [1_000]}, {}, "figure-2: it has no setting n_train"),
        ({}, {"draws": 3}, "figure-2: it has no setting draws"),
    ],
)
def test_what_is_not_there_is_refused_by_name(
    choices: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ExperimentError, match=message):
        experiments.select(["figure-2"], "paper", [0], choices, settings)


def commands(work: list[sweep.Job]) -> list[Any]:
    """What the command line makes of the jobs' commands."""
    from aevb._options import parser

    split = [job.command.split(" -m aevb ")[1] for job in work]
    return [parser().parse_args(words.split()) for words in split]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_missing_run_is_in_one_job(
    records: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aevb._options._device", str)  # the device is where the job will be
    chosen = experiments.select(list(experiments.FIGURES), "paper", range(5))
    runs = sweep.missing(chosen)
    assert [run.experiment for run in runs] == list(chosen), "there is no record in this folder"
    work = sweep.jobs(runs, device=device)
    together = cost.most_together() if device == "cuda" else 1
    assert max(job.runs for job in work) <= together
    assert len(work) < len(runs) if device == "cuda" else len(work) == len(runs)
    done = []
    for job, options in zip(work, commands(work), strict=True):
        seeds = [seed for part in options.seed for seed in part]
        panels = experiments.select([options.figure], options.preset, seeds)
        named = {e.name: e for e in panels}
        done += [named[name] for name in options.only]
        assert len(options.only) == job.runs
        assert options.device == device
    assert sorted(done, key=str) == sorted(chosen, key=str)


def test_a_job_is_given_the_settings_and_a_limit_above_its_cost(records: Path) -> None:
    chosen = experiments.select(["figure-2"], "paper", [0], {"latent_dim": [20]}, {"hidden": 30})
    work = sweep.jobs(sweep.missing(chosen), ["--hidden=30"])
    assert {options.hidden for options in commands(work)} == {30}
    by_name = {experiment.name: experiment for experiment in chosen}
    for job, options in zip(work, commands(work), strict=True):
        experiment = by_name[options.only[0]]
        assert job.seconds == cost.core_seconds(experiment)
        assert job.minutes * 60 > 2 * job.seconds
        assert job.mem_mb > cost.measured("bench").configuration["beside"]["memory_mib"]


def test_a_dry_run_says_what_why_and_how_long_and_does_nothing(
    records: Path, mnist: None, capsys: pytest.CaptureFixture[str]
) -> None:
    one = ["--dataset=mnist", "--algorithm=aevb", "--latent-dim=3"]
    assert main(["run", "figure-2", *one, *SMALL]) == 0
    before = sorted(records.rglob("*"))
    capsys.readouterr()
    longer = [*SMALL[:-1], "--samples=5e3"]
    assert main(["sweep", "--figure=figure-2", *FOUR, *longer, "--dry-run"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("figure-2/mnist-aevb-nz3-hidden-8-seed0: 4,000 samples of 5,000; ")
    assert shown[1].startswith("figure-2/mnist-aevb-nz5-hidden-8-seed0: missing; ")
    assert shown[-1].startswith("4 runs: 0 stored, 4 to be made in 4 jobs; ")
    assert main(["sweep", "--figure=figure-2", *FOUR, *SMALL, "--dry-run"]) == 0
    assert "4 runs: 1 stored, 3 to be made in 3 jobs; " in capsys.readouterr().out
    assert sorted(records.rglob("*")) == before


# ---- What it costs --------------------------------------------------------------------------


def test_the_cost_is_samples_at_the_measured_rate_and_a_little() -> None:
    speeds = cost.measured("bench").configuration
    for figure, experiment in (
        ("figure-2", LowerBound("frey-face", "wake-sleep", 5)),
        ("figure-3", MarginalLikelihood(algorithm="wake-sleep")),
    ):
        rate = speeds["rates"][figure][experiment.name]
        training = experiment.samples / rate
        extra = cost.core_seconds(experiment) - training
        assert 0 < extra < 0.3 * training
    short = LowerBound(latent_dim=20, preset="smoke")  # evaluated twice, on 20,000 images
    rate = speeds["rates"]["figure-2"]["mnist-aevb-nz20-seed0"]
    forward = 2 * 20_000 / 3  # a third of a step's work
    start = sum(speeds["start_up"].values())
    assert cost.core_seconds(short) == pytest.approx(start + (10_000 + forward) / rate)
    alike = LowerBound(latent_dim=2), LowerBound(latent_dim=3)  # N_z = 2 was not measured
    assert cost.core_seconds(alike[0]) == cost.core_seconds(alike[1])
    em = [MarginalLikelihood(algorithm="mcem", n_train=n) for n in (1_000, 50_000)]
    assert cost.core_seconds(em[1]) < 1.5 * cost.core_seconds(em[0])


def test_the_projected_hours_are_those_of_the_page_on_speed() -> None:
    hours = cost.measured("bench").configuration["hours"]["figure-2"]
    found = sum(map(cost.core_seconds, experiments.grid("figure-2"))) / 3600
    assert hours < found < 1.05 * hours, "the evaluations and the starts come on top"


def test_a_projection_is_held_against_the_usual_runs_on_a_processor() -> None:
    usual = LowerBound("frey-face", samples=5_000, seed=3)
    here = results.multiplied_by(cost.measured("bench"))
    runs = [
        (usual, "cpu", here, 7.0),
        (dataclasses.replace(usual, seed=4), "some GPU", here, 1.0),
        (dataclasses.replace(usual, seed=5), "cpu", "another library", 1.0),
        (dataclasses.replace(usual, hidden=10), "cpu", here, 1.0),
    ]
    records = [
        results.Record(
            "figure-2",
            run.name,
            dataclasses.asdict(run),
            {"samples": [500, 4_000]},
            {"device": device, "products": library, "wall_seconds": seconds},
        )
        for run, device, library, seconds in runs
    ]
    projected = cost.core_seconds(dataclasses.replace(usual, samples=4_000))
    assert cost.held_against(records) == {usual.name: (projected, 7.0)}


def test_a_measurement_that_is_not_there_is_told_with_what_makes_it(
    records: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(results, "ROOT", records / "nowhere")
    assert main(["sweep", "--dry-run"]) == 1
    message = f"{records}/speed/bench.json: no such record; `python -m aevb bench --store` makes it"
    assert capsys.readouterr().err == f"aevb: error: {message}\n"
    with pytest.raises(results.RecordError, match="bench --device cuda --store` makes it"):
        cost.measured("gpu")


def test_a_gpu_is_shared() -> None:
    groups = cost.measured("gpu").configuration["groups"]
    mnist = [e for e in experiments.grid("figure-2") if e.dataset == "mnist"]
    found = sum(cost.gpu_seconds(e) or 0.0 for e in mnist)
    assert found == pytest.approx(groups["MNIST"]["microseconds"] * 1e-6 * 1e6)  # 10^6 steps
    assert cost.gpu_seconds(MarginalLikelihood()) is None


def test_a_system_that_tells_no_affinity_has_cores_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert sweep._cores() >= 1
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    assert sweep._cores() >= 1


# ---- What is done ---------------------------------------------------------------------------


def content(folder: Path) -> dict[str, Any]:
    """The records but for their provenance."""
    found = results.find("figure-2", folder / "smoke")
    return {record.name: (record.configuration, record.curves, record.weights) for record in found}


def processes(words: str, *environment: str) -> list[int]:
    """The processes whose command has the words and whose environment has the settings."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            settings = (process / "environ").read_bytes().decode().split("\0")
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if set(environment) <= set(settings) and words in command:
                found.append(int(process.name))
    return found


def kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def until(condition: Any, what: str, seconds: float = 300.0) -> Any:
    """What the condition says once it holds."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"waited for {what}"
        time.sleep(0.05)
    return found


def started(folder: Path, *options: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "aevb", "sweep", "--figure", "figure-2", *FOUR, *SMALL]
    return subprocess.Popen(
        [*command, *options],
        env=os.environ | {"AEVB_RESULTS": str(folder)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finished(process: subprocess.Popen[str]) -> str:
    shown = process.communicate(timeout=400)[0]
    assert process.returncode == 0, shown
    return shown


@pytest.fixture(scope="module")
def expected(mnist: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The records as they are made without a sweep."""
    folder = tmp_path_factory.mktemp("expected")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AEVB_RESULTS", str(folder))
        assert main(["run", "figure-2", *FOUR, *SMALL]) == 0
    found = content(folder)
    assert len(found) == 4
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    for place in (tmp_path, *tmp_path.iterdir()):
        kill(processes("", f"AEVB_RESULTS={place}"))


@pytest.mark.slow
@pytest.mark.parametrize("killed", ["a job", "the scheduler", "everything"])
def test_after_a_kill_the_same_command_ends_as_if_there_had_been_none(
    killed: str,
    folder: Path,
    snakemake: None,
    expected: dict[str, Any],
    request: pytest.FixtureRequest,
) -> None:
    times: int = max(1, request.config.getoption("--kills") // 10)
    for number in range(times):
        kill_and_repeat(killed, folder / f"{number}", expected)
    print(f"{killed}, killed {times} times in a sweep; lost: 0")


def kill_and_repeat(killed: str, folder: Path, expected: dict[str, Any]) -> None:
    places = folder / "smoke" / "figure-2"
    process = started(folder)
    until(lambda: list(places.glob("*.json")), "the first record")
    time.sleep(random.uniform(0, 2))  # any moment will do: no seed
    before = {file: (file.read_bytes(), file.stat().st_ino) for file in places.glob("*.json")}
    words = {"a job": " run figure-2", "the scheduler": "bin/snakemake", "everything": ""}
    kill(processes(words[killed], f"AEVB_RESULTS={folder}"))
    if killed == "everything":
        process.communicate(timeout=400)
    elif killed == "the scheduler":
        shown = process.communicate(timeout=400)[0]
        assert process.returncode in (0, 1), shown
    else:
        finished(process)  # it starts the job again by itself
        before = {file: content for file, content in before.items() if file.exists()}

    shown = finished(started(folder))

    assert "4 runs: all stored" in shown or "4 runs: 4 stored" in shown
    assert content(folder) == expected
    for file, found in before.items():
        assert (file.read_bytes(), file.stat().st_ino) == found, f"{file} was made twice"
    assert not list(places.glob("*.lock")) + list(places.glob("*.partial"))


@pytest.mark.slow
def test_two_sweeps_at_once_share_the_work(
    folder: Path, snakemake: None, expected: dict[str, Any]
) -> None:
    pair = [started(folder), started(folder)]
    for process in pair:
        finished(process)
    assert content(folder) == expected

    # Time stamps decide nothing: neither a clock that was set back nor one that ran ahead.
    for file, hours in zip(
        (folder / "smoke").rglob("*.json"), itertools.cycle([-1e5, 1e5]), strict=False
    ):
        os.utime(file, (time.time() + 3600 * hours,) * 2)
    assert "4 runs: 4 stored, 0 to be made" in finished(started(folder))


@pytest.mark.slow
def test_what_fails_is_named_with_its_last_words(folder: Path, snakemake: None) -> None:
    process = started(folder, "--algorithm=aevb", "--latent-dim=3", AEVB_DATA=str(folder / "none"))
    shown = process.communicate(timeout=400)[0]
    assert process.returncode == 1
    last = shown.splitlines()[-1]
    assert last.startswith("aevb: error: sweep: expected 2 records, found 0; the same command goes")
    assert "figure-2.mnist-aevb-nz3-hidden-8-seed0: aevb: error: " in last
    assert "train-images-idx3-ubyte: expected the file" in last


def test_where_nobody_reads_on_nothing_more_is_started(
    records: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = records / "snakemake"  # that takes long, once it has done a job
    scheduler.write_text(
        '#!/bin/sh\nwhile [ "$1" != --directory ]; do shift; done\n'
        'echo $$ >"$2/pid"; mkdir "$2/done"; touch "$2/done/a"; exec sleep 60\n'
    )
    scheduler.chmod(0o755)

    def unread(*words: object, **settings: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(sweep, "_snakemake", lambda: str(scheduler))
    monkeypatch.setattr(sweep, "print", unread, raising=False)
    work = [sweep.Job(name, "true", 1, 1.0, 15, 100) for name in "ab"]
    with pytest.raises(BrokenPipeError):
        sweep.launch(work)
    [pid] = records.rglob("pid")
    assert not Path(f"/proc/{pid.read_text().strip()}").exists(), "the scheduler has ended"


def test_a_profile_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="profile: expected local, slurm, kubernetes or a f"):
        sweep.launch([], str(tmp_path))


# ---- On a cluster ---------------------------------------------------------------------------


class Cluster:
    """A real Slurm of two nodes, all of it on the loopback interface of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.daemons = folder, dict[str, subprocess.Popen[bytes]]()
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}
        self.mark = f"SLURM_CONF={folder}/slurm.conf"
        ports = free_ports(3)
        nodes = "\n".join(
            f"NodeName={node} NodeHostname={os.uname().nodename} NodeAddr=127.0.0.1 Port={port} "
            "CPUs=1 RealMemory=4000 State=UNKNOWN"
            for node, port in zip(("node1", "node2"), ports[1:], strict=True)
        )
        (folder / "slurm.conf").write_text(f"""
ClusterName=loopback
SlurmctldHost={os.uname().nodename}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
SlurmdTimeout=10
KillWait=2
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
""")

    def boot(self) -> None:
        folder = self.folder
        (folder / "state").mkdir()
        (folder / "munge.key").write_bytes(os.urandom(1024))
        (folder / "munge.key").chmod(0o600)
        own = {"key-file": "key", "socket": "socket", "pid-file": "pid", "seed-file": "seed"}
        told = [f"--{name}={folder}/munge.{suffix}" for name, suffix in own.items()]
        self.start("munged", "--foreground", "--force", f"--log-file={folder}/munge.log", *told)
        until((folder / "munge.socket").exists, "munged", 60)
        self.start("slurmctld", "-D", "-c")
        for node in ("node1", "node2"):
            self.start("slurmd", "-D", "-N", node, called=node)
        until(lambda: self.ask("sinfo", "-h", "-o", "%T %D") == "idle 2", "two idle nodes", 120)

    def start(self, *command: str, called: str = "") -> None:
        name = called or command[0]
        with (self.folder / f"{name}.out").open("wb") as log:
            self.daemons[name] = subprocess.Popen(
                [shutil.which(command[0], path=SBIN) or command[0], *command[1:]],
                env=os.environ | self.environment,
                stdout=log,
                stderr=log,
            )

    def ask(self, *command: str) -> str:
        environment = os.environ | self.environment
        return subprocess.run(
            command, env=environment, capture_output=True, text=True
        ).stdout.strip()

    def jobs_of(self, node: str) -> list[int]:
        """The processes that run on a node, with Slurm's own that look after them."""
        return processes("", f"SLURMD_NODENAME={node}", self.mark)

    def kill(self, node: str) -> None:
        """What a power cut does: the daemon and all that it started are gone."""
        victims = self.jobs_of(node)
        self.daemons[node].kill()
        kill(victims)

    def stop(self) -> None:
        self.ask("scancel", "--user=root")
        for daemon in reversed(self.daemons.values()):
            daemon.kill()
            daemon.wait()
        kill(processes("", self.mark))


SBIN = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for found in sockets:
            found.bind(("127.0.0.1", 0))
        return [found.getsockname()[1] for found in sockets]


@pytest.fixture
def cluster(snakemake: None) -> Iterator[Cluster]:
    absent = [
        name
        for name in ("slurmctld", "slurmd", "sbatch", "munged")
        if shutil.which(name, path=SBIN) is None
    ]
    if absent:
        pytest.skip(f"Slurm is not installed: no {', '.join(absent)}")
    if os.getuid() != 0:
        pytest.skip("Slurm's daemons are started by root only")
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:  # a socket's path must be short
        found = Cluster(Path(folder))
        try:
            found.boot()
            yield found
        finally:
            found.stop()


@pytest.mark.slow
def test_a_node_that_dies_takes_no_run_with_it(
    cluster: Cluster, folder: Path, expected: dict[str, Any]
) -> None:
    process = started(folder, "--profile=slurm", "--jobs=4", **cluster.environment)
    until(
        lambda: processes(" run figure-2", "SLURMD_NODENAME=node1", cluster.mark), "a run on node1"
    )
    cluster.kill("node1")

    shown = finished(process)

    assert "4 runs: all stored" in shown
    assert cluster.ask("sinfo", "-h", "-o", "%T %D", "-n", "node1").startswith("down")
    states = re.findall(r"JobState=(\w+)", cluster.ask("scontrol", "show", "job", "-o"))
    assert sorted(states)[:4] == ["COMPLETED"] * 4
    assert len(states) == 5, f"one job was lost and made again: {states}"
    assert content(folder) == expected
    assert not list(folder.rglob("*.lock"))


KUBECTL = """#!{python}
# Stands in for kubectl and for the cluster behind it: does what a job's container would do.
import json, os, pathlib, subprocess, sys
place = pathlib.Path(os.environ["CLUSTER"])
if sys.argv[1] == "create":
    job = json.load(sys.stdin)
    name = job["metadata"]["generateName"] + str(len(list(place.iterdir())))
    (place / name).write_text(json.dumps(job))
    command = job["spec"]["template"]["spec"]["containers"][0]["command"]
    script = 'if "$@"; then echo 1/; else echo /1; fi >"$0.new"; mv "$0.new" "$0.ended"'
    subprocess.Popen(["/bin/sh", "-c", script, place / name, *command], stdout=subprocess.DEVNULL)
    print(name)
elif sys.argv[1:3] == ["get", "job"]:
    ended = place / (sys.argv[3] + ".ended")
    if not (place / sys.argv[3]).exists():
        sys.exit("Error from server (NotFound): jobs.batch not found")
    print(ended.read_text() if ended.exists() else "/", end="")
"""


@pytest.mark.slow
def test_kubernetes_is_told_what_each_job_needs(
    folder: Path, snakemake: None, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "jobs").mkdir()
    kubectl = folder / "bin" / "kubectl"
    kubectl.parent.mkdir()
    kubectl.write_text(KUBECTL.replace("{python}", sys.executable))
    kubectl.chmod(0o755)
    told = {"AEVB_IMAGE": "python:3.11", "AEVB_CLAIM": "work", "AEVB_MOUNT": "/work"}
    path = f"{kubectl.parent}:{os.environ['PATH']}"
    process = started(
        folder, "--profile=kubernetes", CLUSTER=str(folder / "jobs"), PATH=path, **told
    )
    finished(process)
    assert content(folder) == expected
    jobs = [json.loads(file.read_text()) for file in sorted((folder / "jobs").glob("aevb-?"))]
    assert jobs
    for job in jobs:
        pod = job["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert container["image"] == "python:3.11"
        assert container["resources"]["requests"]["cpu"] == "1"
        assert list(container["resources"]["limits"]) == ["memory"]
        assert container["volumeMounts"] == [{"name": "shared", "mountPath": "/work"}]
        assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "work"}
        assert pod["activeDeadlineSeconds"] == 60 * sweep.LEAST_MINUTES
        assert "activeDeadlineSeconds" not in job["spec"], "it would count while the job waits"


@pytest.mark.slow
def test_on_a_real_kubernetes_a_pod_that_is_deleted_takes_no_run_with_it(
    snakemake: None, expected: dict[str, Any]
) -> None:
    """On the cluster that ``kubectl`` knows, where the variables of the profile are set."""
    absent = {"AEVB_IMAGE", "AEVB_CLAIM", "AEVB_MOUNT"} - set(os.environ)
    if absent or shutil.which("kubectl") is None:
        pytest.skip(f"no Kubernetes: {', '.join(sorted(absent)) or 'kubectl'} is not there")
    with tempfile.TemporaryDirectory(dir=os.environ["AEVB_MOUNT"]) as name:
        folder = Path(name)

        def running() -> list[str]:
            pods = json.loads(subprocess.check_output(["kubectl", "get", "pods", "-o", "json"]))
            return [
                pod["metadata"]["name"]
                for pod in pods["items"]
                if pod["status"]["phase"] == "Running"
                and str(folder) in str(pod["spec"]["containers"][0]["command"])
            ]

        process = started(folder, "--profile=kubernetes")
        try:
            pod, *_ = until(running, "a pod of this sweep")
            subprocess.run(["kubectl", "delete", "pod", "--now", pod], check=True)
            assert "4 runs: all stored" in finished(process)
            assert content(folder) == expected
            assert not list(folder.rglob("*.lock"))
        finally:
            kill(processes("", f"AEVB_RESULTS={folder}"))


def test_kubernetes_jobs_that_are_gone_have_failed_and_silence_is_not_the_end(
    tmp_path: Path,
) -> None:
    status = sweep.HERE / "profiles" / "kubernetes" / "status"
    for answer, meaning in {
        "printf 1/": "success",
        "printf /1": "failed",
        "printf /": "running",
        "echo '(NotFound): jobs.batch' >&2; exit 1": "failed",
        "echo 'connection refused' >&2; exit 1": "running",
    }.items():
        (tmp_path / "kubectl").write_text(f"#!/bin/sh\n{answer}\n")
        (tmp_path / "kubectl").chmod(0o755)
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        shown = subprocess.run([status, "job"], env=environment, capture_output=True, text=True)
        assert shown.stdout.strip() == meaning, answer


def test_the_cost_of_the_evaluations_by_hand() -> None:
    speeds = cost.measured("bench").configuration
    start, rates = sum(speeds["start_up"].values()), speeds["rates"]
    frey = LowerBound("frey-face", latent_dim=5, preset="smoke")
    images = 1_965 * len(training.schedule(frey.samples, 500))
    expected = start + (frey.samples + images / 3) / rates["figure-2"]["frey-face-aevb-nz5-seed0"]
    assert cost.core_seconds(frey) == pytest.approx(expected)
    likelihood = MarginalLikelihood(n_train=1_000, samples=100_000)  # after one step and at the end
    per_point = speeds["likelihood"]["seconds_per_1000_points"] / 1_000
    expected = start + 100_000 / rates["figure-3"]["aevb-n1000-seed0"] + 2 * 2 * 1_000 * per_point
    assert cost.core_seconds(likelihood) == pytest.approx(expected)


def test_a_step_on_frey_face_has_500_images() -> None:
    frey = [e for e in experiments.grid("figure-2") if e.dataset == "frey-face"]
    found = sum(cost.gpu_seconds(e) for e in frey)
    group = cost.measured("gpu").configuration["groups"]["Frey Face"]
    assert group["runs"] == len(frey)
    assert found == pytest.approx(group["microseconds"] * 1e-6 * 1e8 / 500)
