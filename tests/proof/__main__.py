# SPDX-License-Identifier: MIT
"""Everything that backs ``docs/security.md``, and one table of it: ``make prove``.

    PYTHONPATH=tests python -m proof [--short] [--strict] [--only NAME ...] [--list]

The exit status is 0 if nothing was found. What could not be run here, for want of a tool, says so
in its row; with ``--strict`` that is a failure too. The logs are left in ``build/prove``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from proof.evidence import NOT_RUN, NOTHING, Evidence, evidence_in
from proof.steps import STEPS, Step

ROOT = Path(__file__).parents[2]
LOGS = ROOT / "build" / "prove"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step had to say. ``failed``: the command ended with another status than 0."""

    name: str
    rows: list[Evidence]
    failed: bool
    seconds: float


def run_step(step: Step, short: bool, logs: Path) -> Outcome:
    """Run it to its end. A command that shows nothing, and says nothing is wrong, has failed."""
    command = step.short if short else step.command
    assert command is not None
    missing = [tool for tool in step.needs if shutil.which(tool) is None]
    if missing:
        why = f"{NOT_RUN}: needs {', '.join(missing)}"
        return Outcome(step.name, [Evidence(step.name, "", why)], failed=False, seconds=0.0)
    log = logs / f"{step.name}.log"
    began = time.monotonic()
    with log.open("w", encoding="utf-8") as output:
        status = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), str(ROOT)])},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    rows = rows_of(step, log.read_text(encoding="utf-8", errors="replace"), status)
    return Outcome(step.name, rows, status != 0 or not rows, time.monotonic() - began)


def rows_of(step: Step, output: str, status: int) -> list[Evidence]:
    rows = evidence_in(output)
    if status == 0 and step.row is not None:
        try:
            rows.append(step.row(output))
        except ValueError:
            return []
    return rows


def table(outcomes: Sequence[Outcome], logs: Path) -> str:
    """Markdown, a row for each piece of evidence."""
    lines = ["| what was tried | how often | found |", "|---|---|---|"]
    for outcome in outcomes:
        lines += [f"| {row.tried} | {row.times} | {row.found} |" for row in outcome.rows]
        if outcome.failed:
            log = os.path.relpath(logs / f"{outcome.name}.log", ROOT)
            lines.append(f"| **{outcome.name}** | | **FAILED: see {log}** |")
    return "\n".join(lines)


def chosen(names: Sequence[str], short: bool) -> list[Step]:
    """The steps of these names, or all. Raises ``SystemExit`` for a name there is not."""
    known = {step.name: step for step in STEPS}
    unknown = set(names) - known.keys()
    if unknown:
        sys.exit(f"no such step: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    steps = [known[name] for name in names] if names else list(STEPS)
    return [step for step in steps if not short or step.short is not None]


def run_all(steps: Sequence[Step], short: bool, logs: Path, jobs: int) -> list[Outcome]:
    """As many at once as there are processors; their outcomes in the order of the steps."""

    def run(step: Step) -> Outcome:
        outcome = run_step(step, short, logs)
        state = "FAILED" if outcome.failed else "done"
        print(f"{state:7}{outcome.name:16}{outcome.seconds:8.0f} s", flush=True)
        return outcome

    logs.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(run, steps))


def verdict(outcomes: Sequence[Outcome], strict: bool) -> int:
    """The exit status."""
    rows = [row for outcome in outcomes for row in outcome.rows]
    not_run = [row for row in rows if row.found.startswith(NOT_RUN)]
    wrong = [row for row in rows if row.found != NOTHING and row not in not_run]
    failed = [outcome for outcome in outcomes if outcome.failed]
    print(f"\n{len(rows)} rows, {len(failed) or len(wrong) or 'nothing'} wrong, {len(not_run)} not run")
    return 1 if failed or wrong or (strict and not_run) else 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m proof", description="All evidence, and one table.")
    parser.add_argument("--short", action="store_true", help="minutes instead of an hour: for CI")
    parser.add_argument("--strict", action="store_true", help="what cannot be run here is a failure")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these steps")
    parser.add_argument("--list", action="store_true", help="their names, and nothing else")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="steps at once (%(default)s)")
    args = parser.parse_args(arguments)
    steps = chosen(args.only, args.short)
    if args.list:
        print("\n".join(step.name for step in steps))
        return 0
    outcomes = run_all(steps, args.short, LOGS, args.jobs)
    text = table(outcomes, LOGS)
    (LOGS / "table.md").write_text(text + "\n", encoding="utf-8")
    print(f"\n{text}")
    return verdict(outcomes, args.strict)


if __name__ == "__main__":
    sys.exit(main())
