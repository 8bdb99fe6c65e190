# SPDX-License-Identifier: MIT
"""``python -m benchmarks``: measure, and write the report.

What is measured goes to a file round by round, so that nothing is lost when it is interrupted:
the report is then of what there is, and ``--resume`` goes on. The exit status is 1 if an output
of ours is wrong or an experiment failed, 130 after Ctrl-C; being slow is not an error.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import building, crowd, goals, machine, page, peers, process, stages, tables, wire
from benchmarks.experiment import Experiment, Scale, run
from benchmarks.results import MismatchError, Results

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


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
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
    args = parser.parse_args(arguments)

    everything = experiments()
    if args.list:
        print("\n".join(experiment.key for experiment in everything))
        return 0
    chosen = [e for e in everything if not args.only or any(word in e.key for word in args.only)]
    scale = Scale(quick=args.quick, long=args.long)
    file = args.out / "results.jsonl"
    try:
        results = (
            Results(file, None) if args.report else Results(file, machine.header(scale), resume=args.resume)
        )
    except (MismatchError, FileNotFoundError) as error:
        parser.error(str(error))
    interrupted = not args.report and not run(chosen, results, scale)
    results.close()
    write_report(results, everything, args.out)
    if interrupted:
        print("interrupted: --resume goes on", file=sys.stderr)
    return _status(results) or INTERRUPTED * interrupted


def write_report(results: Results, everything: list[Experiment], out: Path) -> None:
    """``report.html``, ``report.md``, and the goals for the terminal."""
    verdicts, missing = goals.judge(results), _missing(results, everything)
    for name, text in (
        ("report.html", page.page(results, everything, verdicts, missing)),
        ("report.md", tables.markdown(results, everything, verdicts, missing)),
    ):
        (out / name).write_text(text, encoding="utf-8")
        print(out / name)
    words = [verdict.word for verdict in verdicts]
    print("goals:", ", ".join(f"{words.count(word)} {word}" for word in ("met", "not met", "not measured")))


def _missing(results: Results, everything: list[Experiment]) -> list[str]:
    """The experiments that lack rounds."""
    scale = Scale(quick=results.header.get("scale") == "quick")
    return [
        experiment.title
        for experiment in everything
        if len(results.rounds(experiment.key)) < scale.rounds(experiment.rounds)
        and not results.notes(experiment.key, "skipped")
    ]


def _status(results: Results) -> int:
    problems = [(key, name, text) for key, name, text in results.all_notes("wrong") if not _is_peer(name)]
    problems += results.all_notes("failed")
    for key, name, text in problems:
        print(f"{key}: {name}: {text}", file=sys.stderr)
    return 1 if problems else 0


def _is_peer(row: str) -> bool:
    return row.startswith(peers.NAMES)


if __name__ == "__main__":
    sys.exit(main())
