# SPDX-License-Identifier: MIT
"""What every tool's run has in common: is it here, what did it say, does it see what was planted."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from proof.builds import CSRC, Change, apply
from proof.evidence import NOT_RUN, NOTHING, evidence

__all__ = ["Blind", "compiles", "copy_of_core", "missing", "report", "run"]

LAST_CHARACTERS = 6000
COMPILE_SECONDS = 60


class Blind(AssertionError):
    """A tool does not see what was planted for it: its silence says nothing."""


def run(
    command: Iterable[str | Path],
    *,
    cwd: Path = CSRC.parent,
    env: Mapping[str, str] | None = None,
    seconds: int = 1800,
) -> tuple[int, str]:
    """The exit status, and all that was printed."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=os.environ | dict(env or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=seconds,
        text=True,
        errors="replace",
        check=False,
    )
    return done.returncode, done.stdout


def missing(tried: str, *tools: str) -> bool:
    """Whether one of the tools is not here; then a row says so."""
    absent = [tool for tool in tools if shutil.which(tool) is None]
    if absent:
        evidence(tried, "", f"{NOT_RUN}: needs {', '.join(absent)}")
    return bool(absent)


def compiles(tried: str, work: Path, flags: Iterable[str]) -> bool:
    """Whether clang makes a program with these flags: its sanitizers' runtime is a package of its own."""
    if missing(tried, "clang"):
        return False
    source = work / "empty.c"
    source.write_text("int main( void ) { return 0; }\n", encoding="utf-8")
    status, output = run(["clang", *flags, source, "-o", work / "empty"], seconds=COMPILE_SECONDS)
    if status != 0:
        print(output)
        evidence(tried, "", f"{NOT_RUN}: needs the runtime of clang's sanitizers")
    return status == 0


def copy_of_core(work: Path, name: str, *changes: Change) -> Path:
    """csrc as it is, but for the changes."""
    csrc = work / name
    shutil.copytree(CSRC, csrc, ignore=shutil.ignore_patterns("build", "__pycache__"))
    for change in changes:
        apply(change, csrc)
    return csrc


def report(tried: str, times: str, found: str, output: str = "") -> bool:
    """Print a row, and the end of what the tool said if it found something. True if it did not."""
    if found != NOTHING:
        print(output[-LAST_CHARACTERS:], flush=True)
    evidence(tried, times, found)
    return found == NOTHING
