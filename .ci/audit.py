"""What the installed packages may be used for, and which of the pinned have known faults.

With ``--licences`` only the first: that needs no network.
"""

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 300
PIP_AUDIT = (
    "pip-audit==2.10.1"  # in an environment of its own: it brings much that nobody else needs
)


def licence(package: metadata.Distribution) -> str:
    """A package's licence in one line, from the newest of the places that may say it."""
    said = package.metadata
    named = [
        name.rpartition(" :: ")[2]
        for name in said.get_all("Classifier") or []
        if name.startswith("License :: ") and name != "License :: OSI Approved"
    ]
    old = (said["License"] or "").strip().partition("\n")[0]  # some give the whole text
    files = [f for f in package.files or [] if f.name.startswith(("LICENSE", "LICENCE"))]
    title = files[0].read_text().strip().partition("\n")[0] if files else ""
    return said["License-Expression"] or ", ".join(named) or old or title or "not said"


def licences() -> str:
    """A table: each installed package, its version and its licence."""
    packages = sorted(metadata.distributions(), key=lambda package: package.name.lower())
    rows = [
        (package.name.lower().replace("_", "-"), package.version, licence(package))
        for package in packages
    ]
    return "\n".join(f"{name:<34} {version:<16} {said}" for name, version, said in rows)


def vulnerabilities() -> int:
    """Ask pip-audit about every pin; 1 if it knows of a fault in one."""
    command = [ROOT / ".venv/bin/uv", "tool", "run", PIP_AUDIT, "--no-deps", "--disable-pip"]
    command += ["--requirement", ROOT / "constraints.txt", "--format=json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        pins = json.loads(done.stdout)["dependencies"]
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError) as error:
        print(f"vulnerabilities: skipped: pip-audit gave no answer: {error}")
        return 0
    print(told(pins))
    return int(any(pin.get("vulns") for pin in pins))


def told(pins: list[dict[str, Any]]) -> str:
    """What pip-audit knows of the pins, and of how many it knows nothing."""
    skipped = [pin for pin in pins if "skip_reason" in pin]
    lines = [
        f"{pin['name']} {pin['version']}: {fault['id']}, mended in "
        f"{' '.join(fault['fix_versions']) or 'no version'}"
        for pin in pins
        for fault in pin.get("vulns", [])
    ]
    asked = len(pins) - len(skipped)
    if asked:
        lines += [f"vulnerabilities: {len(lines)} in {asked} pinned packages"]
    else:
        lines += ["vulnerabilities: not known: the list could be had for none of the pins"]
    if skipped:
        lines += [f"skipped: {len(skipped)} packages; the first: {skipped[0]['skip_reason']}"]
    return "\n".join(lines)


if __name__ == "__main__":
    print(licences())
    sys.exit(0 if "--licences" in sys.argv else vulnerabilities())
