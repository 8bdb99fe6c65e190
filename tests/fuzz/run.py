# SPDX-License-Identifier: MIT
"""Run every fuzz target for a while.

    PYTHONPATH=tests python -m fuzz.run [--seconds 60 | --quick 100000000] [--only NAME ...] [--keep]

The C targets under libFuzzer with ASan and UBSan, after each has shown that it finds a fault planted
in a copy of what it tests; the Python targets under atheris. What was not here is said to be not
run. ``--quick`` counts executions instead, of the C targets built without sanitizers, ten times as many in
a second: what they check themselves, byte for byte, they still check. ``--keep`` merges what was found worth
keeping into the corpora. The exit status is 0 if nothing was found; an input that shows a fault is left in
``build/fuzz``, and becomes a line of the corpus.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from proof.builds import Change, apply
from proof.evidence import NOT_RUN, NOTHING, evidence

from fuzz.builds import CSRC, TARGETS, compile_target
from fuzz.corpus import C_CORPORA, PYTHON_CORPORA, inputs, keep, unpack
from fuzz.targets import TARGETS as PYTHON_TARGETS

ROOT = CSRC.parent
DICTIONARY = CSRC / "fuzz" / "json.dict"
FOUND = ROOT / "build" / "fuzz"
SANITIZED = ("-O1", "-g", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all")
C_PREFIX = "c_"
QUICK = ("-O2", "-g", "-fsanitize=fuzzer")
LENGTHS = {"json": 400, "base58": 140, "frame": 300, "request": 400}  # bytes of an input, at most
QUICK_LENGTHS = {"json": 100, "base58": 66, "frame": 149, "request": 150}
CONTROL = ("-runs=20000000", "-seed=1")  # so many that a slow machine finds it too, only later

# A fault for each target, of the kind it is there to see.
PLANTED = {
    "json": Change("pf_json.c", "( unit & 0xff )", "( unit & 0x7f )"),
    "base58": Change("pf_base58.c", "rc = PF_ERR_BASE58;", "rc = PF_OK;"),
    "frame": Change("pf_frame.c", "payload_len <= len - *header", "payload_len <= len"),
    "request": Change("pf_cancel.c", "!pf_is_uuid( request_id, id_len )", "id_len > 64"),
}


def fuzz(program: Path, corpus: Path, found: Path, length: int, *how_long: str) -> tuple[int, str]:
    """How many executions there were, and what was found: the last lines, or nothing."""
    limits = ("-timeout=20", "-rss_limit_mb=2048", f"-max_len={length}", *how_long)
    files = (f"-dict={DICTIONARY}", f"-artifact_prefix={found}-", str(corpus))
    command = [str(program), *limits, "-print_final_stats=1", *files]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    executions = re.search(r"stat::number_of_executed_units:\s*(\d+)", done.stderr)
    if done.returncode == 0 and executions is not None:
        return int(executions[1]), NOTHING
    print(done.stderr[-4000:], flush=True)
    said = re.search(r"(\S+:\d+: failed: .*|ERROR: .*)", done.stderr)
    return int(executions[1]) if executions else 0, said[1] if said else f"exit status {done.returncode}"


def prove_that_it_finds(target: str, work: Path) -> None:
    """Raises ``AssertionError`` if the planted fault is not found."""
    csrc = work / f"planted_{target}"
    shutil.copytree(CSRC, csrc, ignore=shutil.ignore_patterns("build", "corpus", "__pycache__"))
    apply(PLANTED[target], csrc)
    program = compile_target(work, target, SANITIZED, csrc=csrc)
    corpus = work / f"seeds_{target}"
    unpack(C_CORPORA / f"{target}.hex", corpus)
    with tempfile.TemporaryDirectory() as found:
        _, what = fuzz(program, corpus, Path(found) / "planted", LENGTHS[target], *CONTROL)
    if what == NOTHING:
        raise AssertionError(f"fuzz_{target} does not find what was planted: {PLANTED[target]}")


def run_c(target: str, seconds: int, work: Path, kept: bool) -> bool:
    """True if nothing was found."""
    prove_that_it_finds(target, work)
    corpus = work / f"corpus_{target}"
    unpack(C_CORPORA / f"{target}.hex", corpus)
    program = compile_target(work, target, SANITIZED)
    limit = f"-max_total_time={seconds}"
    executions, what = fuzz(program, corpus, FOUND / target, LENGTHS[target], limit)
    evidence(
        f"fuzz_{target}: libFuzzer, ASan and UBSan; it found a planted fault before",
        f"{executions:,} executions in {seconds} s",
        what,
    )
    if kept:
        fewest = work / f"fewest_{target}"
        fewest.mkdir()
        merge = [str(program), "-set_cover_merge=1", f"-max_len={LENGTHS[target]}", str(fewest), str(corpus)]
        subprocess.run(merge, check=True, capture_output=True)
        keep(C_CORPORA / f"{target}.hex", [path.read_bytes() for path in fewest.iterdir()])
    return what == NOTHING


def run_quick(target: str, executions: int, work: Path) -> bool:
    """A C target by count. True if nothing was found."""
    length = QUICK_LENGTHS[target]
    corpus = work / f"short_{target}"
    unpack(C_CORPORA / f"{target}.hex", corpus)
    for path in corpus.iterdir():
        if path.stat().st_size > length:
            path.unlink()
    program = compile_target(work, target, QUICK)
    count, what = fuzz(program, corpus, FOUND / target, length, f"-runs={executions}")
    evidence(
        f"fuzz_{target}: libFuzzer, no sanitizer, inputs up to {length} bytes", f"{count:,} executions", what
    )
    return what == NOTHING


def run_python(target: str, seconds: int, work: Path, kept: bool) -> bool:
    """The same with atheris, in a process of its own."""
    corpus = work / f"python_{target}"
    path = PYTHON_CORPORA / f"{target}.hex"
    unpack(path, corpus)
    command = [
        *(sys.executable, "-m", "fuzz.under_atheris", target, f"-max_total_time={seconds}", "-max_len=300"),
        *("-print_final_stats=1", "-timeout=30", f"-artifact_prefix={FOUND / target}-", str(corpus)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    output = done.stdout + done.stderr
    executions = [
        *re.findall(r"stat::number_of_executed_units:\s*(\d+)|^Done (\d+)|^#(\d+)", output, re.MULTILINE)
    ]
    count = max((int(one) for groups in executions for one in groups if one), default=0)
    what = NOTHING if done.returncode == 0 and count else f"exit status {done.returncode}"
    if what != NOTHING:
        print(output[-4000:], flush=True)
    evidence(f"Python target {target}: atheris", f"{count:,} executions in {seconds} s", what)
    if kept:
        keep(path, [*inputs(path), *(one.read_bytes() for one in corpus.iterdir())])
    return what == NOTHING


def missing(target: str) -> str | None:
    """The tool it would take."""
    if target.startswith(C_PREFIX):
        return None if shutil.which("clang") else "clang"
    return None if importlib.util.find_spec("atheris") else "atheris"


def run_one(target: str, seconds: int, work: Path, kept: bool) -> bool:
    tool = missing(target)
    if tool is not None:
        evidence(f"fuzz target {target}", "", f"{NOT_RUN}: needs {tool}")
        return True
    if target.startswith(C_PREFIX):
        return run_c(target.removeprefix(C_PREFIX), seconds, work, kept)
    return run_python(target, seconds, work, kept)


def main() -> int:
    names = [*(C_PREFIX + target for target in TARGETS), *PYTHON_TARGETS]
    parser = argparse.ArgumentParser(description="Run every fuzz target for a while.")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (%(default)s)")
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names)
    )
    parser.add_argument(
        "--quick", type=int, metavar="COUNT", help="executions of the C targets, no sanitizer"
    )
    parser.add_argument("--keep", action="store_true", help="merge what is worth keeping into the corpora")
    args = parser.parse_args()
    FOUND.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        if args.quick:
            chosen = [target.removeprefix(C_PREFIX) for target in args.only if target.startswith(C_PREFIX)]
            fine = [run_quick(target, args.quick, work) for target in chosen]
        else:
            fine = [run_one(target, args.seconds, work, args.keep) for target in args.only]
    return 0 if all(fine) else 1


if __name__ == "__main__":
    sys.exit(main())
