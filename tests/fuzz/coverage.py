# SPDX-License-Identifier: MIT
"""Which lines of ``csrc`` no test reaches: each is explained in ``csrc/fuzz/uncovered.toml``.

    PYTHONPATH=tests python -m fuzz.coverage

The C tests, the fuzzers' corpora and the Python tests of the C core run in builds that count. Needs
clang and llvm-cov. The exit status is 0 if every line that was not reached is explained, and
nothing is explained that was reached, but for what only threads that meet reach.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from proof.evidence import NOTHING, evidence

from fuzz.builds import CSRC, TARGETS, compile_target
from fuzz.corpus import C_CORPORA

ROOT = CSRC.parent
AT_TIMES = "at times"
EXPLAINED = CSRC / "fuzz" / "uncovered.toml"
# The counters live in the file itself: children that end by _exit would never write theirs.
COUNTING = (
    "-O0",
    "-g",
    "-fprofile-instr-generate",
    "-fcoverage-mapping",
    "-mllvm",
    "-runtime-counter-relocation",
)
PYTHON_TESTS = (
    "test_native.py test_native_armed.py test_keys.py test_signer.py test_canonical.py test_base58.py "
    "test_frame.py test_bulk.py test_nonces.py test_sdk.py test_clock.py"
)

Lines = dict[str, set[int]]


def run_c_tests(work: Path, env: dict[str, str]) -> list[Path]:
    build = work / "c"
    command = [
        "make",
        "-s",
        "-C",
        str(CSRC / "tests"),
        "CC=clang",
        f"BUILD={build}",
        f"CFLAGS={' '.join(COUNTING)}",
    ]
    subprocess.run(command, check=True, env=env, stdout=subprocess.DEVNULL)
    return [path for path in build.iterdir() if not path.suffix]


def run_corpora(work: Path, env: dict[str, str]) -> list[Path]:
    programs = [compile_target(work, target, COUNTING, replay=True) for target in TARGETS]
    for target, program in zip(TARGETS, programs, strict=True):
        command = [str(program), str(C_CORPORA / f"{target}.hex")]
        subprocess.run(command, check=True, env=env, stdout=subprocess.DEVNULL)
    return programs


def run_python_tests(work: Path, env: dict[str, str]) -> list[Path]:
    """Against an extension of its own, built in a copy."""
    copy = work / "python"
    for name in ("csrc", "pacifica_fast", "tests", "benchmarks"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("_native*", "build"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    flags = " ".join(COUNTING)
    compiling = env | {"CC": "clang", "CFLAGS": flags, "LDSHARED": f"clang -shared {flags}"}
    setup = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    subprocess.run(setup, check=True, cwd=copy, env=compiling, stdout=subprocess.DEVNULL)
    tests = [f"tests/{name}" for name in PYTHON_TESTS.split()]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    subprocess.run(
        command, check=True, cwd=copy, env=env | {"PYTHONPATH": str(copy)}, stdout=subprocess.DEVNULL
    )
    return list((copy / "pacifica_fast").glob("_native*.so"))


def reached(work: Path, programs: list[Path]) -> tuple[Lines, Lines]:
    """The lines that count, and those of them that ran at least once, by file."""
    profile = work / "all.profdata"
    raw = [str(path) for path in work.glob("*.profraw")]
    subprocess.run([_llvm("llvm-profdata"), "merge", "-o", str(profile), *raw], check=True)
    objects = [argument for program in programs[1:] for argument in ("-object", str(program))]
    command = [
        _llvm("llvm-cov"),
        "export",
        "-format=lcov",
        str(programs[0]),
        *objects,
        f"-instr-profile={profile}",
    ]
    report = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    known: Lines = defaultdict(set)
    ran: Lines = defaultdict(set)
    name = ""
    for line in report.splitlines():
        if line.startswith("SF:"):
            name = Path(line[3:]).name
        elif line.startswith("DA:") and name.startswith("pf_"):
            number, count = map(int, line[3:].split(",")[:2])
            known[name].add(number)
            if count:
                ran[name].add(number)
    return known, ran


def _llvm(tool: str) -> str:
    """Of the version that clang is of: they read only each other's files."""
    version = subprocess.run(["clang", "--version"], check=True, capture_output=True, text=True).stdout
    found = re.search(r"clang version (\d+)", version)
    assert found is not None
    return shutil.which(f"{tool}-{found[1]}") or tool


def unreached(known: Lines, ran: Lines) -> Iterator[tuple[str, int, str]]:
    """File, number and text of each line that did not run and says more than a brace."""
    for name in sorted(known):
        lines = (CSRC / name).read_text(encoding="utf-8").splitlines()
        for number in sorted(known[name] - ran[name]):
            text = lines[number - 1].strip()
            if text.strip("{} ") and not text.startswith("#define"):
                yield name, number, text


def main() -> int:
    if shutil.which("clang") is None:
        evidence("lines of csrc that no test reaches", "", "not run: needs clang")
        return 0
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        env = os.environ | {"LLVM_PROFILE_FILE": str(work / "%c%p-%m.profraw")}
        programs = [*run_c_tests(work, env), *run_corpora(work, env), *run_python_tests(work, env)]
        known, ran = reached(work, programs)
    explained = tomllib.loads(EXPLAINED.read_text(encoding="utf-8"))
    missed = list(unreached(known, ran))
    news = [(name, number, text) for name, number, text in missed if text not in explained.get(name, {})]
    texts = {(name, text) for name, _, text in missed}
    stale = [
        (name, text)
        for name, lines in explained.items()
        for text, why in lines.items()
        if (name, text) not in texts and not why.startswith(AT_TIMES)
    ]
    for name in sorted(known):
        print(f"{name:20}{len(ran[name]):6} of {len(known[name]):6} lines")
    for name, number, text in news:
        print(f"not reached, not explained: {name}:{number}: {text}")
    for name, text in stale:
        print(f"explained, and reached: {name}: {text}")
    total, done = (sum(map(len, lines.values())) for lines in (known, ran))
    evidence(
        "lines of csrc that no test reaches, and nobody explains",
        f"{total} lines, {100 * done / total:.1f} % reached, {len(missed)} explained",
        f"{len(news)} lines, {len(stale)} stale" if news or stale else NOTHING,
    )
    return 1 if news or stale else 0


if __name__ == "__main__":
    sys.exit(main())
