# SPDX-License-Identifier: MIT
"""Which lines and functions of the core the harness runs: valgrind says nothing about the others."""

from __future__ import annotations

import gzip
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ctgrind.builds import build
from ctgrind.watched import work

# The files that secrets go through.
SECRET_FILES = ("pf_base58.c", "pf_nonce.c", "pf_random.c", "pf_signer.c", "pf_sodium.c")
# Decodes what is public: accounts, signatures. Keys go through pf_base58_decode_exact.
FOR_PUBLIC = frozenset({"pf_base58_decode"})


@dataclass(frozen=True, slots=True)
class FileCoverage:
    name: str
    lines: int
    not_run: tuple[int, ...]
    functions_not_run: tuple[str, ...]


def read(report: Path) -> list[FileCoverage]:
    with gzip.open(report, "rt", encoding="utf-8") as file:
        content = json.load(file)
    found = []
    for source in content["files"]:
        name = Path(source["file"]).name
        if name in SECRET_FILES:
            lines: dict[int, int] = {}
            for line in source["lines"]:
                number = line["line_number"]
                lines[number] = lines.get(number, 0) + line["count"]
            functions = (
                f["name"]
                for f in source["functions"]
                if not f["execution_count"] and f["name"] not in FOR_PUBLIC
            )
            not_run = tuple(sorted(n for n, count in lines.items() if not count))
            found.append(FileCoverage(name, len(lines), not_run, tuple(functions)))
    return found


def measure(directory: Path) -> list[FileCoverage]:
    """By gcc and gcov, without valgrind: the harness does the same work, and takes nothing for secret."""
    library = build(directory / "coverage.so", "gcc", "-O0", "--coverage")
    done = work([library])
    if done.returncode != 0:
        raise RuntimeError(f"the harness failed ({done.returncode}):\n{done.stdout}{done.stderr[-2000:]}")
    counts = sorted(directory.glob("coverage*.gcda"))
    subprocess.run(
        ["gcov", "--json-format", *map(str, counts)], cwd=directory, check=True, capture_output=True
    )
    return [entry for report in sorted(directory.glob("*.gcov.json.gz")) for entry in read(report)]
