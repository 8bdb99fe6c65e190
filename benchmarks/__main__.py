# SPDX-License-Identifier: MIT
"""``python -m benchmarks``, and ``pacifica-fast bench``: measure, and write the report.

What is measured goes to a file round by round, so that nothing is lost when it is interrupted:
the report is then of what there is, and ``--resume`` goes on. The exit status is 1 if an output
of ours is wrong or an experiment failed, 130 after Ctrl-C; being slow is not an error.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import building, crowd, goals, machine, page, peers, process, stages, tables, wire
from .experiment import Experiment, Scale, run
from .results import MismatchError, Results

OUT = Path("build/bench")
INTERRUPTED = 130  # what a shell says after Ctrl-C


def experiments() -> list[Experiment]:
    """All there are, in the order of the report."""
    return [
        *stages.experiments(),
        *wire.experiments(),
        *crowd.experiments(),
        *building.experiments(),
        *process.experiments(),
    ]


def main(arguments: Sequence[str] | None = None, prog: str = "python -m benchmarks") -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rounds: a minute or two")
    parser.add_argument("--long", action="store_true", help="memory over ten million requests")
    parser.add_argument("--resume", action="store_true", help="go on where the last run was interrupted")
    parser.add_argument(
        "--report", action="store_true", help="measure nothing: write the report of what there is"
    )
    parser.add_argument(
        "--only", metavar="WORD", action="append", help="only experiments with this in their name"
    )
    parser.add_argument("--list", action="store_true", help="the names of the experiments")
    parser.add_argument("--out", metavar="DIRECTORY", type=Path, default=OUT, help=f"default: {OUT}")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON instead")
    args = parser.parse_args(arguments)

    everything = experiments()
    if args.list:
        names = [experiment.key for experiment in everything]
        print(json.dumps({"experiments": names}) if args.json else "\n".join(names))
        return 0
    chosen = [e for e in everything if not args.only or any(word in e.key for word in args.only)]
    if not chosen:
        parser.exit(2, f"{prog}: no experiment has that in its name: --list has all of them\n")
    scale = Scale(quick=args.quick, long=args.long)
    file = args.out / "results.jsonl"
    try:
        results = (
            Results(file, None) if args.report else Results(file, machine.header(scale), resume=args.resume)
        )
    except MismatchError as error:
        parser.exit(2, f"{prog}: {error}\n")
    except OSError as error:
        parser.exit(2, f"{prog}: {error.filename}: {error.strerror}\n")
    if not args.report and (absent := peers.missing()):
        print(f"left out, because not installed: {', '.join(absent)}", file=sys.stderr)
    interrupted = not args.report and not run(chosen, results, scale)
    results.close()
    written, words = write_report(results, everything, args.out)
    if args.json:
        print(json.dumps(_summary(results, written, words, interrupted)))
    else:
        print("\n".join(map(str, written)))
        print("goals:", ", ".join(f"{count} {word}" for word, count in words.items()))
    if interrupted:
        print("interrupted: --resume goes on", file=sys.stderr)
    return _status(results) or INTERRUPTED * interrupted


def write_report(
    results: Results, everything: list[Experiment], out: Path
) -> tuple[list[Path], dict[str, int]]:
    """Write ``report.html`` and ``report.md``; returns where they are, and how many goals are met."""
    verdicts, missing = goals.judge(results), _missing(results, everything)
    for name, text in (
        ("report.html", page.page(results, everything, verdicts, missing)),
        ("report.md", tables.markdown(results, everything, verdicts, missing)),
    ):
        (out / name).write_text(text, encoding="utf-8")
    words = [verdict.word for verdict in verdicts]
    counts = {word: words.count(word) for word in ("met", "not met", "not measured")}
    return [out / "report.html", out / "report.md"], counts


def _summary(
    results: Results, written: list[Path], words: dict[str, int], interrupted: bool
) -> dict[str, Any]:
    problems = _problems(results)
    return {
        "ok": not problems and not interrupted,
        "html": str(written[0]),
        "markdown": str(written[1]),
        "results": str(results.path),
        "goals": {word.replace(" ", "_"): count for word, count in words.items()},
        "left_out": peers.missing(),
        "problems": [dict(zip(("experiment", "row", "problem"), one, strict=True)) for one in problems],
        "interrupted": interrupted,
    }


def _missing(results: Results, everything: list[Experiment]) -> list[str]:
    """The experiments that lack rounds."""
    scale = Scale(quick=results.header.get("scale") == "quick")
    return [
        experiment.title
        for experiment in everything
        if len(results.rounds(experiment.key)) < scale.rounds(experiment.rounds)
        and not results.notes(experiment.key, "skipped")
    ]


def _problems(results: Results) -> list[tuple[str, str, str]]:
    wrong = [(key, name, text) for key, name, text in results.all_notes("wrong") if not _is_peer(name)]
    return wrong + results.all_notes("failed")


def _status(results: Results) -> int:
    problems = _problems(results)
    for key, name, text in problems:
        print(f"{key}: {name}: {text}", file=sys.stderr)
    return 1 if problems else 0


def _is_peer(row: str) -> bool:
    return row.startswith(peers.NAMES)


if __name__ == "__main__":
    sys.exit(main())
