# SPDX-License-Identifier: MIT
"""The supply chain: what we build with and run on, whether it is known to be bad, and what comes out.

Needs what ``requirements/build.txt``, ``optional.txt`` and ``audit.txt`` name. What could not be asked
is "not run", which is not the same as having found nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from proof import locks, sbom
from proof.evidence import NOTHING, evidence

WORKFLOWS = locks.ROOT / ".github"
NOT_RUN = "not run"

# Holes that have been public for years: who does not see them has not looked.
KNOWN_BAD = "jinja2==2.10\nrequests==2.19.1\n"
BAD_WORKFLOW = """\
on: pull_request_target
jobs:
  planted:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@main
      - run: echo "${{ github.event.pull_request.title }}"
"""
SEEN_IN_IT = {"dangerous-triggers", "template-injection", "unpinned-uses"}


class ToolFailed(Exception):
    """It ran, and had nothing to say on its standard output."""


def tool(*command: str) -> str:
    """The standard output of a tool that lies beside this Python, whatever it found."""
    program = Path(sys.executable).with_name(command[0])
    if not program.exists():
        raise SystemExit(f"{command[0]} is not here: install requirements/audit.txt")
    done = subprocess.run([program, *command[1:]], cwd=locks.ROOT, capture_output=True, text=True)
    if not done.stdout:
        raise ToolFailed(f"{command[0]}: {done.stderr}")
    return done.stdout


def report(tried: str, times: str, found: list[str]) -> bool:
    """Print a row. Returns whether anything was found."""
    evidence(tried, times, "; ".join(found) or NOTHING)
    return bool(found)


def locked() -> bool:
    """Every file in requirements/ fits pyproject.toml and the others."""
    pyproject, texts = locks.load()
    # A file that lost a package must be seen.
    if not locks.check(pyproject, texts | {"run": texts["build"]}):
        raise SystemExit("not seen: a file without what it should name")
    pins = [pin for text in texts.values() for pin in locks.read(text)[0]]
    return report(
        f"requirements/*.txt meet pyproject.toml under Python {', '.join(locks.PYTHONS)}, and one another",
        f"{len(texts)} files, {len(pins)} versions, {sum(len(pin.hashes) for pin in pins)} SHA-256",
        locks.check(pyproject, texts),
    )


def billed() -> bool:
    """The bill of materials follows CycloneDX's schema."""
    bill = sbom.bill()
    # A bill that breaks the schema must be seen.
    if not sbom.invalid(json.dumps(bill | {"components": [{"type": "planted"}]})):
        raise SystemExit("not seen: a component that the schema forbids")
    wrong = sbom.invalid(json.dumps(bill))
    return report(
        f"the bill of materials follows the schema of CycloneDX {sbom.SPEC}",
        f"{len(bill['components'])} packages, libsodium inside PyNaCl",
        [wrong] if wrong else [],
    )


def audited(requirements: Path, *options: str) -> tuple[int, int, list[str]]:
    """Of how many packages pip-audit knows something, of how many it does not, and the holes."""
    output = tool("pip-audit", "--requirement", str(requirements), "--disable-pip", "--format=json", *options)
    packages: list[dict[str, Any]] = json.loads(output)["dependencies"]
    skipped = [package for package in packages if "skip_reason" in package]
    holes = [
        f"{package['name']} {package['version']}: {hole['id']}"
        for package in packages
        for hole in package.get("vulns", ())
    ]
    return len(packages) - len(skipped), len(skipped), holes


def sees_known_holes() -> bool:
    """Whether the database of vulnerabilities can be asked from here."""
    with tempfile.TemporaryDirectory() as directory:
        planted = Path(directory) / "planted.txt"
        planted.write_text(KNOWN_BAD, encoding="utf-8")
        try:
            _, _, holes = audited(planted, "--no-deps")
        except ToolFailed as failed:
            print(failed, file=sys.stderr)
            return False
    return all(any(name in hole for hole in holes) for name in ("jinja2", "requests"))


def without_known_holes() -> bool:
    """No locked version has a hole that PyPI knows of."""
    tried = "pip-audit: no locked version has a published vulnerability"
    if not sees_known_holes():
        evidence(tried, "0 packages", f"{NOT_RUN}: PyPI's database does not tell known holes from here")
        return False
    answers = [audited(locks.FOLDER / f"{name}.txt", "--require-hashes") for name in locks.NAMES]
    found = sorted({hole for _, _, holes in answers for hole in holes})
    if unknown := sum(skipped for _, skipped, _ in answers):
        found.append(f"{unknown} packages are unknown")
    return report(tried, f"{sum(known for known, _, _ in answers)} packages in {len(answers)} files", found)


def zizmor(folder: Path) -> list[dict[str, Any]]:
    """What zizmor finds, at its strictest but for guesses, without the network."""
    options = ("--offline", "--no-progress", "--strict-collection", "--persona=pedantic", "--format=json")
    output = tool("zizmor", *options, str(folder))
    findings: list[dict[str, Any]] = json.loads(output)
    return findings


def workflows_hold() -> bool:
    """Nobody who opens a pull request can run what the workflows may do."""
    with tempfile.TemporaryDirectory() as directory:
        planted = Path(directory) / ".github" / "workflows" / "planted.yml"
        planted.parent.mkdir(parents=True)
        planted.write_text(BAD_WORKFLOW, encoding="utf-8")
        seen = {finding["ident"] for finding in zizmor(Path(directory))}
    if not seen >= SEEN_IN_IT:
        raise SystemExit(f"not seen by zizmor: {', '.join(SEEN_IN_IT - seen)}")
    files = [*WORKFLOWS.glob("workflows/*.yml"), WORKFLOWS / "dependabot.yml"]
    return report(
        "zizmor, pedantic: GitHub workflows and Dependabot",
        f"{len(files)} files",
        [f"{finding['ident']}: {finding['desc']}" for finding in zizmor(WORKFLOWS)],
    )


def reproducible(short: bool) -> bool:
    """Two builds have the same bytes."""
    command = [sys.executable, "-m", "proof.reproducible", *(["--short"] if short else [])]
    return bool(subprocess.run(command, check=False).returncode)


def main() -> None:
    parser = argparse.ArgumentParser(description="What we build with and run on, and what comes out.")
    parser.add_argument("--short", action="store_true", help="one comparison of builds less")
    short = parser.parse_args().short
    checks: list[Callable[[], bool]] = [locked, billed, without_known_holes, workflows_hold]
    found = [check() for check in checks]
    found.append(reproducible(short))
    sys.exit(any(found))


if __name__ == "__main__":
    main()
