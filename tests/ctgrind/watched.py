# SPDX-License-Identifier: MIT
"""Runs libraries under valgrind, and reads what came of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree.ElementTree import Element, fromstring

HERE = Path(__file__).parent
SUPPRESSIONS = HERE / "libsodium.supp"


@dataclass(frozen=True, slots=True)
class Crossing:
    """How often something went into libsodium, as a secret and as known; our leaks of it that were seen."""

    secret: int
    known: int
    branches: int
    indices: int

    @property
    def watched(self) -> bool:
        return self.secret > 0 and self.known == 0 and self.branches > 0 and self.indices > 0


@dataclass(slots=True)
class Outcome:
    """What one library printed."""

    errors: dict[str, int] = field(default_factory=dict)
    border: dict[str, Crossing] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def leaks(self) -> dict[str, int]:
        return {work: count for work, count in self.errors.items() if count and work != "our own"}

    @property
    def unwatched(self) -> list[str]:
        return [name for name, crossing in self.border.items() if not crossing.watched]


@dataclass(frozen=True, slots=True)
class Run:
    outcomes: dict[Path, Outcome]
    suppressed: dict[str, int]
    places: list[str]  # where errors were raised
    complaints: str  # of the harness: work that could not be done


def work(libraries: Sequence[Path], *wrapper: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*wrapper, sys.executable, "-m", "ctgrind.work", *map(str, libraries)],
        cwd=HERE.parent,
        env=os.environ | {"PYTHONMALLOC": "malloc"},
        capture_output=True,
        text=True,
        check=False,
    )


def outcomes_in(output: str) -> dict[Path, Outcome]:
    outcomes: dict[Path, Outcome] = {}
    for line in output.splitlines():
        kind, _, rest = line.partition(": ")
        name, _, numbers = rest.partition(": ")
        if kind == "library":
            outcome = outcomes[Path(rest)] = Outcome()
        elif kind == "work":
            outcome.errors[name] = int(numbers)
        elif kind == "border":
            outcome.border[name] = Crossing(*map(int, numbers.split()))
        else:
            outcome.counts[kind] = int(rest)
    return outcomes


def frame_text(frame: Element) -> str:
    return f"{frame.findtext('fn')} ({frame.findtext('file')}:{frame.findtext('line')})"


def places_of(errors: list[Element]) -> list[str]:
    """Stacks that go through the core, but for our own planted leaks."""
    places = set()
    for error in errors:
        frames = error.findall("stack/frame")
        names = {frame.findtext("fn") for frame in frames}
        ours = [frame for frame in frames if (frame.findtext("file") or "").startswith("pf_")]
        if ours and "probe" not in names:
            places.add(f"{error.findtext('kind')}: {' < '.join(map(frame_text, frames[:4]))}")
    return sorted(places)


def documents_in(text: str) -> list[str]:
    """The elements of valgrind's file. Forked children write to it too, so it is no document as a whole."""
    return re.findall(r"<error>.*?</error>", text, flags=re.DOTALL)


def suppressed_in(text: str) -> dict[str, int]:
    """What was suppressed by the end: counts go up, and children have a copy of them."""
    pairs = re.findall(r"<count>(\d+)</count>\s*<name>([^<]*)</name>", text)
    return {name: max(int(count) for count, other in pairs if other == name) for _, name in pairs}


def run(libraries: Sequence[Path]) -> Run:
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "memcheck.xml"
        done = work(
            libraries,
            *("valgrind", "--tool=memcheck", "--leak-check=no", "--error-limit=no"),
            *("--default-suppressions=no", f"--suppressions={SUPPRESSIONS}"),
            *("--xml=yes", f"--xml-file={log}"),
        )
        text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    outcomes = outcomes_in(done.stdout)
    if set(outcomes) != set(libraries) or not all(o.counts for o in outcomes.values()):
        raise RuntimeError(f"the harness failed ({done.returncode}):\n{done.stdout}{done.stderr[-2000:]}")
    errors = [fromstring(document) for document in documents_in(text)]
    return Run(outcomes, suppressed_in(text), places_of(errors), done.stderr)
