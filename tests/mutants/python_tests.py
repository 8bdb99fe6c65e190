# SPDX-License-Identifier: MIT
"""A place to try mutants of Python modules in: a copy of the project, of which one file is changed."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

from mutants.c_tests import LATE, ROOT, run
from mutants.mutant import Fate, Mutant

__all__ = ["PYTHON_TESTS", "PythonBench"]

# Module to the tests that should see whatever is wrong with it, the quick ones first.
PYTHON_TESTS = {
    "pacifica_fast/keys.py": ("test_keys.py", "test_memory.py"),
    "pacifica_fast/signer.py": ("test_signer.py", "test_nonces.py", "test_bulk.py", "test_native_armed.py"),
    "pacifica_fast/sdk.py": ("test_sdk_legacy.py", "test_sdk.py", "test_import.py"),
    "pacifica_fast/session.py": (
        *("test_session.py", "test_session_machine.py", "test_links.py", "test_stall.py"),
        *("asyncio/test_client.py", "sync/test_sync_client.py", "asyncio/test_armed.py"),
    ),
}


class PythonBench:
    """One worker's copy of the project, in ``home``."""

    def __init__(self, home: Path) -> None:
        self.tree = home
        skipped = shutil.ignore_patterns("build", "__pycache__", ".*", "*.egg-info")
        for folder in ("pacifica_fast", "tests", "benchmarks", "csrc", "docs"):
            shutil.copytree(ROOT / folder, home / folder, ignore=skipped)
        for file in ("pyproject.toml", "README.md"):
            shutil.copy(ROOT / file, home / file)
        self._usual: dict[str, float] = {}

    def _test(self, file: str, seconds: float) -> Fate:
        names = [f"tests/{name}" for name in PYTHON_TESTS[file]]
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "--hypothesis-seed=0",
        ]
        return run([*command, *names], self.tree, seconds, self.tree)

    def usual(self, file: str) -> float:
        """How long its tests take unchanged, in seconds. Raises ``RuntimeError`` if they fail."""
        if file not in self._usual:
            began = time.monotonic()
            if self._test(file, 900.0) is not Fate.SURVIVED:
                raise RuntimeError(f"the tests of {file} fail unchanged")
            self._usual[file] = time.monotonic() - began
        return self._usual[file]

    def try_mutant(self, mutant: Mutant) -> tuple[Fate, str]:
        """Its fate, and who decided it. The file is whole again afterwards."""
        limit = self.usual(mutant.file) * 2 + LATE
        path = self.tree / mutant.file
        whole = path.read_text(encoding="utf-8")
        path.write_text(mutant.applied(whole), encoding="utf-8")
        try:
            return self._test(mutant.file, limit), "its tests"
        finally:
            path.write_text(whole, encoding="utf-8")
