# SPDX-License-Identifier: MIT
"""No branch and no index depends on a secret: builds ``csrc/tests/ctgrind.c`` and judges.

    PYTHONPATH=tests python -m ctgrind.run [--short]

Needs valgrind with its headers, and gcc, clang, or what ``CC`` says; a compiler that is not
there is left out, and its row says so. ``--short`` leaves out -O2. The exit status is 0 if no
work raises an error, every secret was watched on its way, every planted leak is found, and
nothing but the one suppression is used, as often as it must be.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from proof.evidence import NOT_RUN, NOTHING, evidence

from ctgrind import coverage
from ctgrind.builds import LEVELS, build, build_changed, compilers
from ctgrind.sabotage import LEAKS
from ctgrind.watched import Outcome, Run, run

SUPPRESSION = "base_noclamp_refuses_zero"
TRIED = "Does a branch or an index of ours depend on a secret: {}, with PyNaCl's libsodium, under valgrind"


def judge(outcome: Outcome) -> list[str]:
    """What is wrong with a library; nothing, if it is fit for secrets and that was seen."""
    wrong = [f"{work}: {count} errors" for work, count in outcome.leaks.items()]
    wrong += [f"{name}: not watched: {outcome.border[name]}" for name in outcome.unwatched]
    if not outcome.border:
        wrong.append("no secret was watched")
    if outcome.counts["left"]:
        wrong.append(f"{outcome.counts['left']} bytes not wiped")
    return wrong


def times(outcomes: list[Outcome]) -> str:
    crossings = sum(c.secret for outcome in outcomes for c in outcome.border.values())
    pieces = sum(len(outcome.errors) - 1 for outcome in outcomes)
    return f"{len(outcomes)} builds, {pieces} pieces of work, {crossings} secrets seen going into libsodium"


def check_suppressions(done: Run) -> bool:
    """libsodium's test of r, once for every base multiplication, and nothing else."""
    multiplications = sum(outcome.counts["multiplications"] for outcome in done.outcomes.values())
    as_expected = multiplications > 0 and done.suppressed == {SUPPRESSION: multiplications}
    evidence(
        "Is anything suppressed but libsodium's own test of r = 0, once for each base multiplication",
        f"{multiplications} base multiplications",
        NOTHING if as_expected else f"suppressed: {done.suppressed}",
    )
    return as_expected


def check_core(directory: Path, levels: tuple[str, ...]) -> bool:
    """Every compiler at every level. All in one process: Python starts slowly under valgrind."""
    libraries: dict[str, list[Path]] = {}
    for compiler in compilers():
        if shutil.which(compiler):
            libraries[compiler] = [
                build(directory / f"{Path(compiler).name}{level}.so", compiler, level) for level in levels
            ]
        else:
            evidence(TRIED.format(compiler), "not run: no such compiler")
    if not libraries:
        raise RuntimeError("no compiler")
    done = run([library for built in libraries.values() for library in built])
    good = not done.complaints and check_suppressions(done)
    print(*done.places, done.complaints, sep="\n")
    for compiler, built in libraries.items():
        for library in built:
            print(f"{library.stem}: {done.outcomes[library].errors}", flush=True)
        wrong = [f"{path.stem}: {text}" for path in built for text in judge(done.outcomes[path])]
        found = "; ".join(wrong) or NOTHING
        by = f"{compiler} at {', '.join(levels)}"
        evidence(TRIED.format(by), times([done.outcomes[path] for path in built]), found)
        good = good and not wrong
    return good


def check_controls(directory: Path, compiler: str) -> bool:
    """Planted leaks are reported where they are; what is not marked is noticed."""
    libraries = [
        build_changed(directory / f"leak{number}.so", compiler, leak.change)
        for number, leak in enumerate(LEAKS)
    ]
    unmarked = build(directory / "unmarked.so", compiler, "-O2", "-DPF_CTGRIND_UNMARKED")
    outcomes = run([*libraries, unmarked]).outcomes
    missed = []
    for leak, library in zip(LEAKS, libraries, strict=True):
        errors = outcomes[library].leaks
        print(f"planted: {leak.name}: {errors}", flush=True)
        if not errors.get(leak.work):
            missed.append(leak.name)
    blind = outcomes[unmarked].unwatched
    print(f"planted: nothing is marked: not watched: {blind}", flush=True)
    if set(blind) != set(outcomes[unmarked].border):
        missed.append("a harness that marks nothing")
    evidence(
        "Control: planted leaks are seen, and so is a harness that marks nothing",
        f"{len(LEAKS) + 1} builds",
        f"missed: {', '.join(missed)}" if missed else NOTHING,
    )
    return not missed


def check_coverage(directory: Path) -> bool:
    """How much of the files that secrets go through was run at all."""
    tried = "Which functions that secrets go through did the work leave out"
    if not shutil.which("gcc") or not shutil.which("gcov"):
        evidence(tried, "", f"{NOT_RUN}: needs gcc with gcov")
        return True
    measured = coverage.measure(directory)
    for file in measured:
        print(f"{file.name}: of {file.lines} lines not run: {', '.join(map(str, file.not_run))}", flush=True)
    lines = sum(file.lines for file in measured)
    not_run = sum(len(file.not_run) for file in measured)
    left_out = [name for file in measured for name in file.functions_not_run]
    evidence(
        tried,
        f"{lines - not_run} of {lines} lines of {', '.join(file.name for file in measured)}",
        ", ".join(left_out) or NOTHING,
    )
    return not left_out and {file.name for file in measured} == set(coverage.SECRET_FILES)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--short", action="store_true", help="without -O2")
    short = parser.parse_args().short
    levels = tuple(level for level in LEVELS if not short or level != "-O2")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        good = check_core(directory, levels)
        compiler = next(filter(shutil.which, compilers()))
        good = check_controls(directory, compiler) and good
        good = check_coverage(directory) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
