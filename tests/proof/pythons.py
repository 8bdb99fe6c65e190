# SPDX-License-Identifier: MIT
"""The tests, the races and TLS in both directions, on every CPython at hand.

    PYTHONPATH=tests python -m proof.pythons [--seconds 10] [--python PATH ...]

Each gets an environment of its own below ``build/pythons``, with the locked packages. The core is that of
this checkout, for all of them: it is built for the stable ABI, as the wheels are. Without ``--python``
they are looked for on ``PATH``, and beside the one that runs this: pyenv, uv and asdf keep them side by
side. A version that is not here has a row that says so.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from proof.evidence import NOT_RUN, NOTHING, evidence, evidence_in

__all__ = ["MINORS", "TESTS", "found", "main"]

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / "build" / "pythons"
MINORS = (11, 12, 13, 14)
PATIENCE = 900  # s, for a command
SHOWN = 3000  # characters of what went wrong
ASK = "import json, platform, sys, sysconfig; print(json.dumps([platform.python_version(), \
platform.python_implementation(), bool(sysconfig.get_config_var('Py_GIL_DISABLED'))]))"
# What the versions differ in: cffi and the GIL, ssl, asyncio, how the interpreter ends.
TESTS = (
    "tests/test_native.py",
    "tests/test_native_armed.py",
    "tests/test_keys.py",
    "tests/test_signer.py",
    "tests/test_nonces.py",
    "tests/test_bulk.py",
    "tests/test_sdk.py",
    "tests/test_tls.py",
    "tests/test_interpreter.py",
    "tests/test_memory.py",
    "tests/test_races.py",
    "tests/asyncio",
    "tests/sync",
)


class _Failed(Exception):
    """A command did; its output."""


def identity(python: str) -> str | None:
    """``"3.13.0"`` or ``"3.14.1t"``; None if that is no CPython that runs."""
    try:
        answer = subprocess.run(
            [python, "-c", ASK], capture_output=True, text=True, timeout=60, check=True, cwd="/"
        )
        version, implementation, free_threaded = json.loads(answer.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return f"{version}{'t' if free_threaded else ''}" if implementation == "CPython" else None


def found() -> dict[str, str]:
    """Version to path, one of each minor version: the running one, then ``PATH``, then its neighbours."""
    neighbours = sorted(Path(sys.base_prefix).parent.glob("*/bin/python3.[0-9][0-9]"))
    paths = [sys.executable, *[shutil.which(f"python3.{minor}") for minor in MINORS], *map(str, neighbours)]
    pythons: dict[str, str] = {}
    for path in filter(None, paths):
        version = identity(path)
        if version and _minor(version) in MINORS and _minor(version) not in map(_minor, pythons):
            pythons[version] = path
    return dict(sorted(pythons.items(), key=lambda python: _minor(python[0])))


def _minor(version: str) -> int:
    return int(version.split(".")[1])


def _run(*command: str | Path, seconds: float = PATIENCE) -> str:
    """Its output. Raises ``_Failed``."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), str(ROOT)])}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        check=False,
    )
    if done.returncode != 0:
        raise _Failed(done.stdout)
    return done.stdout


def prepared(version: str, path: str) -> Path:
    """The Python of an environment that holds the locked packages. Raises ``_Failed``."""
    home = ENVIRONMENTS / version
    python = home / "bin" / "python"
    if not python.exists():
        _run(path, "-m", "venv", home)
    locks = [word for lock in ("build", "run", "test") for word in ("-r", f"requirements/{lock}.txt")]
    _run(python, "-m", "pip", "install", "--quiet", "--require-hashes", *locks)
    return python


def tested(version: str, path: str, seconds: float) -> bool:
    """Its rows. True if nothing was found."""
    tried = f"CPython {version}: keys, signing, nonces, both clients, memory, races"
    try:
        python = prepared(version, path)
        output = _run(python, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *TESTS)
        races = evidence_in(_run(python, "-m", "proof.races", "--seconds", str(seconds)))
    except (_Failed, subprocess.TimeoutExpired) as failure:
        print(str(failure)[-SHOWN:], flush=True)
        evidence(tried, "", "a failure: see the log")
        return False
    passed = re.search(r"(\d+) passed", output)
    evidence(tried, f"{passed[1] if passed else 0} tests; {len(races)} races of {seconds:.0f} s", NOTHING)
    return bool(passed and races)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m proof.pythons", description="On every CPython.")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each race (%(default)s)")
    parser.add_argument("--python", nargs="+", metavar="PATH", help="these, and no others")
    args = parser.parse_args(arguments)
    pythons = {identity(path) or path: path for path in args.python} if args.python else found()
    clean = [tested(version, path, args.seconds) for version, path in pythons.items()]
    if not args.python:
        for minor in sorted(set(MINORS) - set(map(_minor, pythons))):
            evidence(f"CPython 3.{minor}", "", f"{NOT_RUN}: there is none here")
    return 0 if all(clean) and clean else 1


if __name__ == "__main__":
    sys.exit(main())
