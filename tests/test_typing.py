# SPDX-License-Identifier: MIT
"""What type checkers say about calls of the public API: of wrong ones too.

``tests/typing`` is checked with its ``type: ignore`` comments taken out, so each of them has to name an error
that is there, and there may be no other.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SNIPPETS = sorted((ROOT / "tests/typing").glob("*.py"))
IGNORE = re.compile(r"  # type: ignore\[([a-z-]+)\]$")
PATIENCE = 600.0  # s

needs_mypy = pytest.mark.skipif(find_spec("mypy") is None, reason="mypy is not installed: extra lint")
needs_pyright = pytest.mark.skipif(
    find_spec("pyright") is None, reason="pyright is not installed: extra lint"
)

Errors = set[tuple[str, int]]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The snippets, without what hides their errors."""
    folder = tmp_path_factory.mktemp("typing")
    for snippet in SNIPPETS:
        lines = snippet.read_text(encoding="utf-8").splitlines()
        (folder / snippet.name).write_text("\n".join(IGNORE.sub("", line) for line in lines) + "\n")
    return folder


def expected() -> dict[tuple[str, int], str]:
    """By file and line, mypy's name of the error."""
    return {
        (snippet.name, number): match[1]
        for snippet in SNIPPETS
        for number, line in enumerate(snippet.read_text(encoding="utf-8").splitlines(), 1)
        if (match := IGNORE.search(line))
    }


def test_there_are_errors_to_find() -> None:
    assert len(expected()) > 30
    assert {name for name, _ in expected()} == {snippet.name for snippet in SNIPPETS}


@needs_mypy
def test_mypy(bare: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--output",
            "json",
            "--cache-dir",
            str(bare / "cache"),
            str(bare),
        ],
        cwd=ROOT,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    entries = [json.loads(line) for line in done.stdout.splitlines()]
    found = {(Path(entry["file"]).name, entry["line"]): entry["code"] for entry in entries}
    assert found == expected(), done.stderr


@needs_pyright
def test_pyright(bare: Path) -> None:
    settings = bare / "pyrightconfig.json"
    settings.write_text(json.dumps({"include": ["."], "extraPaths": [str(ROOT)], "pythonVersion": "3.11"}))
    report = pyright("-p", str(settings))
    found = {
        (Path(entry["file"]).name, entry["range"]["start"]["line"] + 1)
        for entry in report["generalDiagnostics"]
        if entry["severity"] == "error"
    }
    assert found == set(expected())


def pyright(*args: str) -> dict[str, Any]:
    """What it reports; it brings itself and needs node, which ``pyright[nodejs]`` brings."""
    done = subprocess.run(
        [sys.executable, "-m", "pyright", *args, "--outputjson", "--pythonpath", sys.executable],
        cwd=ROOT / "tests",
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if not done.stdout.lstrip().startswith("{"):
        pytest.skip(f"pyright does not run here: {done.stderr.strip()[-200:]}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


# To pyright's --verifytypes the base class of another package is unknown, though not to pyright itself.
OF_OTHERS = {"pacifica_fast.prometheus.StatusCollector", "pacifica_fast.prometheus.collector"}


@needs_pyright
def test_every_public_type_is_known() -> None:
    report = pyright("--verifytypes", "pacifica_fast", "--ignoreexternal")["typeCompleteness"]
    unknown = {
        symbol["name"]
        for symbol in report["symbols"]
        if symbol["isExported"] and any(one["severity"] == "error" for one in symbol["diagnostics"])
    }
    assert unknown <= OF_OTHERS
    assert report["exportedSymbolCounts"]["withKnownType"] > 900
