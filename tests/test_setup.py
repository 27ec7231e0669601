"""The pins are one list, every file that names them agrees, and the targets say what is wrong."""

import re
import runpy
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import aevb

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAKEFILE = (ROOT / "Makefile").read_text()


def lines(name: str) -> list[str]:
    """The lines of a requirement file, without comments."""
    text = (ROOT / name).read_text()
    return [line.strip() for line in text.splitlines() if line.strip() and line[0] != "#"]


def pins(name: str) -> dict[str, Version]:
    found = {}
    for line in lines(name):
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.]+)", line)
        assert match, f"{name}: expected NAME==VERSION, found {line!r}"
        assert canonicalize_name(match[1]) not in found, f"{name}: {match[1]} is pinned twice"
        found[canonicalize_name(match[1])] = Version(match[2])
    return found


DIRECT = pins("requirements.in")
ALL = pins("constraints.txt")


@pytest.mark.parametrize("name", ["requirements.in", "constraints.txt", "environment.yml"])
def test_no_pin_names_a_build_of_one_machine(name: str) -> None:
    # 2.13.0+cpu exists only where a wheel of that name lies: everywhere else nothing installs.
    assert "+cpu" not in (ROOT / name).read_text()


def test_the_constraints_repeat_the_direct_pins() -> None:
    assert {name: ALL.get(name) for name in DIRECT} == DIRECT


def test_every_direct_pin_has_a_reason() -> None:
    before = ""
    for line in (ROOT / "requirements.in").read_text().splitlines():
        if line and line[0] != "#":
            assert re.match(r"# [a-z]", before), f"{line}: expected a comment above it, what for"
        before = line


def test_what_is_installed_is_what_is_pinned() -> None:
    installed = {
        canonicalize_name(found.name): Version(Version(found.version).public)
        for found in metadata.distributions()
    }
    assert set(DIRECT) <= set(installed)
    pinned = {name: version for name, version in installed.items() if name in ALL}
    assert pinned == {name: ALL[name] for name in pinned}


def test_every_dependency_of_an_installed_requirement_is_pinned() -> None:
    seen: set[str] = set()
    wanted = list(DIRECT)
    while wanted:
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        for line in metadata.requires(name) or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                wanted.append(canonicalize_name(requirement.name))
    assert seen <= set(ALL), f"not in constraints.txt: {sorted(seen - set(ALL))}"


def test_the_package_s_ranges_hold_the_pins() -> None:
    project = PYPROJECT["project"]
    needed = [*project["dependencies"], *PYPROJECT["build-system"]["requires"]]
    for name, extra in project["optional-dependencies"].items():
        if name != "peers":  # other people's libraries, to be measured: not of this environment
            needed += extra
    for requirement in map(Requirement, needed):
        pin = DIRECT[canonicalize_name(requirement.name)]
        assert requirement.specifier, f"{requirement.name}: without a range"
        assert pin in requirement.specifier, f"{requirement}: does not hold {pin}"


def test_the_environment_names_the_pins_and_no_others() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, from_pip = environment["dependencies"]
    assert [entry.partition("=")[0] for entry in conda] == ["python", "pip"]
    assert from_pip == {"pip": ["-r requirements.in", "-c constraints.txt", "-e ."]}


def test_the_oldest_python_is_one_number() -> None:
    oldest = PYPROJECT["project"]["requires-python"].removeprefix(">=")
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert f"python={oldest}" in environment["dependencies"]
    assert PYPROJECT["tool"]["mypy"]["python_version"] == oldest
    assert PYPROJECT["tool"]["ruff"]["target-version"] == "py" + oldest.replace(".", "")
    assert f"sys.version_info < ({oldest.replace('.', ', ')})" in MAKEFILE
    assert f"--python-version {oldest}" in MAKEFILE


def test_every_pin_installs_on_the_oldest_python() -> None:
    oldest = Version(PYPROJECT["project"]["requires-python"].removeprefix(">=") + ".0")
    refused = {
        found.name: found.metadata["Requires-Python"]
        for found in metadata.distributions()
        if canonicalize_name(found.name) in ALL
        and oldest not in SpecifierSet(found.metadata["Requires-Python"] or "")
    }
    assert not refused


def test_the_citation_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == aevb.__version__ == metadata.version("aevb")


def test_the_command_is_installed() -> None:
    (command,) = metadata.entry_points(group="console_scripts", name="aevb")
    assert callable(command.load())


def test_the_audit_names_every_licence() -> None:
    shown = subprocess.run(
        [sys.executable, ROOT / ".ci/audit.py", "--licences"], capture_output=True, text=True
    ).stdout
    names = {line.split()[0] for line in shown.splitlines()}
    assert set(DIRECT) <= names
    licences = dict(re.findall(r"^(\S+) +\S+ +(.*)$", shown, flags=re.MULTILINE))
    assert licences["numpy"].startswith("BSD-3-Clause")
    assert licences["safetensors"].startswith("Apache")
    unknown = [name for name in DIRECT if licences[name] == "not said"]
    assert not unknown


def test_the_audit_tells_what_is_known_of_how_many_pins() -> None:
    audit = runpy.run_path(str(ROOT / ".ci/audit.py"))
    fault = {"id": "PYSEC-1", "fix_versions": ["2.1"]}
    pins = [
        {"name": "a", "version": "1", "vulns": []},
        {"name": "b", "version": "2", "vulns": [fault]},
        {"name": "c", "version": "3", "skip_reason": "not found"},
    ]
    assert audit["told"](pins).splitlines() == [
        "b 2: PYSEC-1, mended in 2.1",
        "vulnerabilities: 1 in 2 pinned packages",
        "skipped: 1 packages; the first: not found",
    ]
    assert audit["told"](pins[2:]).splitlines() == [
        "vulnerabilities: not known: the list could be had for none of the pins",
        "skipped: 1 packages; the first: not found",
    ]


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


def test_help_explains_every_target_and_is_the_default() -> None:
    (listed,) = re.findall(r"^\.PHONY: (help .*)$", MAKEFILE, flags=re.MULTILINE)
    shown = make().stdout
    assert shown == make("help").stdout
    assert re.findall(r"^  ([a-z]+) +[A-Z]", shown, flags=re.MULTILINE) == listed.split()


@pytest.mark.parametrize("name", ["AEVB_DATA", "AEVB_RESULTS"])
@pytest.mark.parametrize(
    ("folder", "meant"),
    [("a b", f"{ROOT}/a b"), ("../a", f"{ROOT}/../a"), ("/a b/c", "/a b/c"), ("", "")],
)
def test_a_relative_folder_is_one_of_the_repository(
    name: str, folder: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    show = ["--no-print-directory", "--eval", f'show: ; @echo "$${name}"', "show"]
    monkeypatch.setenv(name, folder)
    assert make(*show).stdout == f"{meant}\n"
    monkeypatch.delenv(name)
    assert make(*show, f"{name}={folder}").stdout == f"{meant}\n"


def test_other_files_call_targets_that_exist() -> None:
    (listed,) = re.findall(r"^\.PHONY: (help .*)$", MAKEFILE, flags=re.MULTILINE)
    for path in (ROOT / ".ci/run", *sorted((ROOT / ".github/workflows").glob("*.yml"))):
        called = re.findall(r"^(?: *- run: )?make ([a-z]+)", path.read_text(), flags=re.MULTILINE)
        assert called, f"{path}: calls no target"
        assert set(called) <= set(listed.split())


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("import sys; sys.version_info = (3, 10); ", "Python 3.11 or newer is needed, found"),
        ("import sys; sys.modules['venv'] = None; ", "has no venv module: install it"),
    ],
)
def test_a_python_that_will_not_do_is_refused(tmp_path: Path, script: str, complaint: str) -> None:
    # An interpreter that runs what it is given after `script`.
    fake = tmp_path / "python"
    real = sys.executable
    fake.write_text(
        f'#!/bin/sh\ntest "$1" = -c || exec "{real}" "$@"\nexec "{real}" -c "{script}$2"\n'
    )
    fake.chmod(0o755)
    done = make("env", f"PYTHON={fake}", f"VENV={tmp_path / 'venv'}")
    assert done.returncode != 0
    assert complaint in done.stderr
    assert not (tmp_path / "venv").exists()


def test_a_python_that_is_not_there_is_refused(tmp_path: Path) -> None:
    done = make("env", "PYTHON=python0.1", f"VENV={tmp_path / 'venv'}")
    assert done.returncode != 0
    assert "python0.1 not found: install Python 3.11 or newer" in done.stderr


def test_the_environment_of_a_sweep_is_pinned_as_a_whole() -> None:
    pinned = pins("aevb/sweep/requirements.txt")
    for name in ("snakemake", "snakemake-executor-plugin-cluster-generic", "pulp", "packaging"):
        assert name in pinned
    found = (
        subprocess.run(
            [ROOT / ".venv-sweep/bin/snakemake", "--version"], capture_output=True, text=True
        )
        if (ROOT / ".venv-sweep/bin/snakemake").exists()
        else None
    )
    assert found is None or Version(found.stdout) == pinned["snakemake"]
