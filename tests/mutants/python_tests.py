# SPDX-License-Identifier: MIT
"""A place to try mutants of Python modules in: a copy of the project, of which one file is changed.

A mutant is tried with the tests that execute the statement it is in, the quick ones first. What is executed
when a module is imported concerns them all.
"""

from __future__ import annotations

import compileall
import hashlib
import json
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any

from mutants.c_tests import LATE, ROOT
from mutants.forks import Forks, Job
from mutants.lines import RECORDER, lines_of, statement_at, telling
from mutants.mutant import Fate, Mutant

__all__ = ["PYTHON_TESTS", "KnownTests", "PythonBench"]

# Module to the tests that should see whatever is wrong with it.
PYTHON_TESTS = {
    "pacifica_fast/keys.py": ("test_keys.py", "test_memory.py"),
    "pacifica_fast/signer.py": ("test_signer.py", "test_nonces.py", "test_bulk.py", "test_native_armed.py"),
    "pacifica_fast/sdk.py": ("test_sdk_legacy.py", "test_sdk.py", "test_import.py"),
    "pacifica_fast/session.py": (
        *("test_session.py", "test_session_machine.py", "test_credits.py", "test_links.py"),
        *("asyncio/test_client.py", "sync/test_sync_client.py", "asyncio/test_armed.py"),
    ),
}
SEEN = ROOT / "build" / "mutants"
FOLDERS = ("pacifica_fast", "tests", "benchmarks", "csrc", "docs")
FILES = ("pyproject.toml", "README.md")


@dataclass(frozen=True, slots=True)
class Seen:
    """The tests of a module by how long they take, in seconds, and those that execute each line."""

    seconds: dict[str, float]
    lines: dict[int, set[str]]

    @property
    def quick_first(self) -> list[str]:
        return sorted(self.seconds, key=lambda test: self.seconds[test])

    def tests_of(self, numbers: Sequence[int]) -> list[str]:
        """Those that may see a change of these lines: who executes them first, of the others all or none."""
        by = set().union(*(self.lines.get(number, set()) for number in numbers))
        first = [test for test in self.quick_first if test in by]
        return first + [test for test in self.quick_first if test not in by and "" in by]


class KnownTests:
    """What is known of the tests of each module: found out once, and again when something has changed."""

    def __init__(self, modules: Mapping[str, Sequence[str]] = PYTHON_TESTS, kept: Path = SEEN) -> None:
        self.modules = modules
        self._kept = kept
        self._seen: dict[str, Seen] = {}
        self._locks = {file: threading.Lock() for file in modules}

    def of(self, file: str, bench: PythonBench) -> Seen:
        with self._locks[file]:
            if file not in self._seen:
                self._seen[file] = self._found(file, bench)
            return self._seen[file]

    def _found(self, file: str, bench: PythonBench) -> Seen:
        kept = self._kept / f"{Path(file).stem}.json"
        if kept.exists() and (known := json.loads(kept.read_text()))["digest"] == bench.digest:
            return Seen(known["seconds"], {int(number): set(by) for number, by in known["lines"].items()})
        seen = bench.look(file)
        kept.parent.mkdir(parents=True, exist_ok=True)
        lines = {number: sorted(by) for number, by in seen.lines.items()}
        kept.write_text(json.dumps({"digest": bench.digest, "seconds": seen.seconds, "lines": lines}))
        return seen


class PythonBench:
    """One worker's copy of the project, in ``home``."""

    def __init__(self, home: Path, tests: KnownTests, root: Path = ROOT) -> None:
        self.tree = home
        self._tests = tests
        skipped = shutil.ignore_patterns("build", "__pycache__", ".*", "*.egg-info")
        for name in (*FOLDERS, *FILES):
            if (root / name).is_dir():
                shutil.copytree(root / name, home / name, ignore=skipped)
            elif (root / name).exists():
                shutil.copy(root / name, home / name)
        sources = sorted({*home.rglob("*.py"), *home.rglob("*.so")} - {*home.glob("tests/mutants/*")})
        self.digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
        recorder = home / f"{RECORDER.replace('.', '/')}.py"
        recorder.write_text(Path(__file__).with_name("recorder.py").read_text(encoding="utf-8"))
        compileall.compile_dir(home, quiet=2)
        for file in tests.modules:  # but what changes
            Path(cache_from_source(str(home / file))).unlink()
        self._forks = Forks(home)

    def close(self) -> None:
        self._forks.close()

    def _run(self, file: str, **job: Any) -> tuple[Fate, list[dict[str, Any]]]:
        """The tests of a module, and what became of each."""
        files = [f"tests/{name}" for name in self._tests.modules[file]]
        if limits := job.get("limits"):
            files = [name for name in files if any(test.startswith(f"{name}::") for test in limits)]
        with tempfile.NamedTemporaryFile("r", encoding="utf-8", dir=self.tree) as results:
            fate = self._forks.run(Job(files, results.name, **job))
            return fate, [json.loads(line) for line in results]

    @contextmanager
    def _as(self, file: str, text: str) -> Iterator[None]:
        """With another text of a module."""
        path = self.tree / file
        whole = path.read_text(encoding="utf-8")
        path.write_text(text, encoding="utf-8")
        try:
            yield
        finally:
            path.write_text(whole, encoding="utf-8")

    def look(self, file: str) -> Seen:
        """Run the tests of a module. Raises ``RuntimeError`` if they do not pass unchanged.

        What fails of a module that tells what it executes, because that takes time, gets another chance. A
        few that still fail, on a machine too busy for them, are no judges, and named.
        """
        with tempfile.NamedTemporaryFile("r", dir=self.tree) as lines:
            with self._as(file, telling((self.tree / file).read_text(encoding="utf-8"))):
                _, results = self._run(file, lines=lines.name)
            found = lines_of(Path(lines.name))
        ended = {one["test"]: one for one in results if "passed" in one}
        if failed := [test for test, one in ended.items() if not one["passed"]]:
            _, results = self._run(file, limits=dict.fromkeys(failed, 600.0))
            ended |= {one["test"]: one for one in results if "passed" in one}
        failed = [test for test, one in ended.items() if not one["passed"]]
        if len(failed) * 100 >= len(ended):
            raise RuntimeError(f"the tests of {file} fail unchanged: {', '.join(failed)}")
        for test in failed:
            print(f"fails unchanged, and is not asked: {test}", file=sys.stderr, flush=True)
        return Seen({test: one["seconds"] for test, one in ended.items() if one["passed"]}, found)

    def try_mutant(self, mutant: Mutant) -> tuple[Fate, str]:
        """Its fate, and the test that decided it. The file is whole again afterwards."""
        seen = self._tests.of(mutant.file, self)
        whole = (self.tree / mutant.file).read_text(encoding="utf-8")
        tests = seen.tests_of(statement_at(whole, mutant.start, mutant.end))
        if not tests:
            return Fate.SURVIVED, "no test executes it"
        limits = {test: LATE * (1 + seen.seconds[test]) for test in tests}
        with self._as(mutant.file, mutant.applied(whole)):
            for name in self._tests.modules[mutant.file]:  # to collect tests takes time too
                of_file = {test: limits[test] for test in tests if test.startswith(f"tests/{name}::")}
                if of_file:
                    fate, results = self._run(mutant.file, limits=of_file, first=True)
                    if fate is not Fate.SURVIVED:
                        return fate, results[-1]["test"] if results else "importing it"
        return Fate.SURVIVED, "its tests"
