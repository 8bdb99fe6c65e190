# SPDX-License-Identifier: MIT
"""What a release consists of is built, looked at, and installed where nothing else is; and tested there.

    PYTHONPATH=tests python -m proof.wheels [--short]

It needs what ``requirements/build.txt`` and ``requirements/audit.txt`` name. The wheel, the sdist, and the
sdist on a machine without a compiler each get an environment of their own below ``build/wheels``, with the
locked packages, and are tested from a copy of the tests that the package is not in.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from proof.evidence import NOTHING, evidence
from proof.reproducible import ROOT, sources

__all__ = ["INSTALLED", "Failed", "built", "main", "row", "run"]

ENVIRONMENTS = ROOT / "build" / "wheels"
WHEEL_MAX = 370_000  # bytes: what it has, and a little
PATIENCE = 1_800  # s, for a command
IMPORTS = 15
# For the processes that tests start: what they write to stderr is compared.
QUIET = {"PYTHONWARNINGS": "ignore:pacifica_fast runs without its C core:RuntimeWarning"}
SHOWN = 3_000  # characters of what went wrong
# The signer, what is below it and the drop-in; then what is above.
SIGNING = "base58 bulk canonical frame keys native_armed sdk sdk_legacy signer"
TESTS = [f"tests/test_{name}.py" for name in SIGNING.split()]
CORE = "tests/test_native.py"  # imports it
MORE = [
    *("tests/test_websocket.py", "tests/test_session.py", "tests/test_tls.py", CORE),
    *("tests/test_links.py", "tests/test_nonces.py", "tests/asyncio", "tests/sync", "tests/test_examples.py"),
]

NO_COMPILER = {"PACIFICA_FAST_EXTENSION": "auto", "CC": "false"}
INSTALLED: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "the wheel": ("*.whl", {}),
    "the sdist": ("*.tar.gz", {"PACIFICA_FAST_EXTENSION": "yes"}),
    "the sdist without a compiler": ("*.tar.gz", NO_COMPILER),
}
"""What is installed: the archive, and the surroundings in which pip does it."""


class Failed(Exception):
    """A command did; its output."""


def run(*command: str | Path, cwd: Path = ROOT, environment: Mapping[str, str] | None = None) -> str:
    """Its output; without this checkout's modules, which would be found first. Raises ``Failed``."""
    around = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=around | dict(environment or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if done.returncode:
        raise Failed(f"{' '.join(map(str, command))}\n{done.stdout}")
    return done.stdout


def row(tried: str, times: str, found: list[str]) -> bool:
    """Prints it. True if nothing was found."""
    evidence(tried, times, "; ".join(found) or NOTHING)
    return not found


def built(folder: Path) -> Path:
    """Where sdist and wheel are, as ``.ci/build-release`` makes them of these sources."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    surroundings = {"PATH": path, "SOURCE_DATE_EPOCH": "1700000000"}
    run(sources(folder / "sources") / ".ci" / "build-release", folder / "dist", environment=surroundings)
    return folder / "dist"


def looked_at(dist: Path) -> bool:
    """The checkers find nothing, in what is there; and something, in what is not a wheel of ours."""
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    checks: list[tuple[str | Path, ...]] = [
        ("twine", "check", "--strict", wheel, sdist),
        ("check_wheel_contents", wheel),
        ("abi3audit", "--strict", "--report", wheel),
    ]
    found = []
    for check in checks:
        try:
            run(sys.executable, "-m", *check)
        except Failed as failed:
            found.append(str(failed)[-SHOWN:])
    systems = run(sys.executable, "-m", "auditwheel", "show", wheel)
    if not re.search(r'"(manylinux|musllinux)_\d+_\d+_\w+"', systems):
        found.append(f"auditwheel: {systems}")
    if (size := wheel.stat().st_size) > WHEEL_MAX:
        found.append(f"{size} bytes are more than {WHEEL_MAX}")
    print(f"{wheel.name}: {size} bytes; {sdist.name}: {sdist.stat().st_size} bytes", flush=True)
    return row("twine, check-wheel-contents, abi3audit, auditwheel; size", f"{size / 1e3:.0f} kB", found)


def seen_by_checkers(dist: Path) -> None:
    """An extension that asks for more than the stable ABI, cffi's own, is seen in our wheel."""
    import zipfile

    import _cffi_backend

    (wheel,) = dist.glob("*.whl")
    with tempfile.TemporaryDirectory() as folder:
        planted = Path(folder, wheel.name)
        with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(planted, "w") as new:
            for name in old.namelist():
                content = old.read(name)
                new.writestr(
                    name, Path(_cffi_backend.__file__).read_bytes() if name.endswith(".so") else content
                )
        try:
            run(sys.executable, "-m", "abi3audit", "--strict", planted)
        except Failed:
            return
    raise SystemExit("not seen by abi3audit: an extension that needs more than the stable ABI")


def environment(name: str, archive: Path, surroundings: Mapping[str, str]) -> Path:
    """The Python of a new environment with the locked packages and this archive."""
    home = ENVIRONMENTS / re.sub(r"\W", "-", name)
    shutil.rmtree(home, ignore_errors=True)
    run(sys.executable, "-m", "venv", home)
    python = home / "bin" / "python"
    pip = (python, "-m", "pip", "install", "--quiet")
    locks = [word for lock in ("build", "run", "test") for word in ("-r", f"requirements/{lock}.txt")]
    run(*pip, "--require-hashes", *locks)
    run(*pip, "--no-deps", "--no-build-isolation", archive, environment=surroundings)
    return python


def import_ms(python: Path) -> float:
    """The median of what ``import pacifica_fast`` adds to starting Python."""
    times: dict[str, list[float]] = {"pass": [], "import pacifica_fast": []}
    for _ in range(IMPORTS):
        for statement, took in times.items():
            start = time.perf_counter()
            run(python, "-W", "ignore::RuntimeWarning", "-c", statement)
            took.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times["import pacifica_fast"]) - statistics.median(times["pass"])


def tested(name: str, archive: Path, surroundings: Mapping[str, str], folder: Path, short: bool) -> bool:
    """Its row."""
    elsewhere = folder / "elsewhere"
    if not elsewhere.exists():
        shutil.rmtree(sources(elsewhere) / "pacifica_fast")
    options = ("-q", "-x", "-p", "no:cacheprovider", "-W", "ignore:pacifica_fast runs without:RuntimeWarning")
    try:
        python = environment(name, archive, surroundings)
        where = run(python, "-W", "ignore", "-c", "import pacifica_fast as p; print(p.__file__)", cwd=folder)
        if not where.startswith(str(ENVIRONMENTS)):
            raise Failed(f"{where} is not what was installed")
        suite = [
            one for one in [*TESTS, *([] if short else MORE)] if surroundings != NO_COMPILER or one != CORE
        ]
        output = run(python, "-m", "pytest", *options, *suite, cwd=elsewhere, environment=QUIET)
        print(f"import pacifica_fast, {name}: {import_ms(python):.0f} ms", flush=True)
    except (Failed, subprocess.TimeoutExpired) as failure:
        print(str(failure)[-SHOWN:], flush=True)
        return row(f"{name}, installed and tested", "", ["a failure: see the log"])
    passed, skipped = (re.search(rf"(\d+) {word}", output) for word in ("passed", "skipped"))
    times = f"{passed[1] if passed else 0} tests, {skipped[1] if skipped else 0} skipped"
    return row(f"{name}, installed and tested", times, [] if passed else ["no test passed"])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m proof.wheels", description=__doc__)
    parser.add_argument("--short", action="store_true", help="without the tests of the clients")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        dist = built(folder)
        clean = [looked_at(dist)]
        seen_by_checkers(dist)
        for name, (pattern, surroundings) in INSTALLED.items():
            (archive,) = dist.glob(pattern)
            clean.append(tested(name, archive, surroundings, folder, args.short))
    return 0 if all(clean) else 1


if __name__ == "__main__":
    sys.exit(main())
