# SPDX-License-Identifier: MIT
"""The C targets as programs."""

from __future__ import annotations

import subprocess
from pathlib import Path

__all__ = ["CSRC", "TARGETS", "compile_target"]

CSRC = Path(__file__).parents[2] / "csrc"
TARGETS = ("json", "base58", "frame", "request")


def compile_target(
    directory: Path, target: str, flags: tuple[str, ...], *, replay: bool = False, csrc: Path = CSRC
) -> Path:
    """With clang; ``replay`` without libFuzzer, to read a corpus."""
    program = directory / f"{'replay' if replay else 'fuzz'}_{target}"
    sources = [
        csrc / "fuzz" / f"fuzz_{target}.c",
        csrc / "fuzz" / "naive_json.c",
        *sorted(csrc.glob("pf_*.c")),
    ]
    if replay:
        sources.append(csrc / "fuzz" / "replay.c")
    subprocess.run(
        ["clang", "-std=c11", *flags, f"-I{csrc}", *map(str, sources), "-pthread", "-o", str(program)],
        check=True,
    )
    return program
