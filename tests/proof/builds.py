# SPDX-License-Identifier: MIT
"""The C core as a shared library of its own, whole or sabotaged.

A sabotage is a change of the source text, made in a copy. It must hit exactly once: when
the source moves on, the sabotage is to follow, and cannot rot unseen.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

CSRC = Path(__file__).parents[2] / "csrc"
# What signing consists of.
CORE = ("pf_clock.c", "pf_gate.c", "pf_nonce.c", "pf_pages.c", "pf_signer.c", "pf_sodium.c", "pf_thread.c")
# As on a kernel that wipes nothing when a process forks.
FALLBACK = "PF_TEST_NO_WIPEONFORK"


@dataclass(frozen=True)
class Change:
    """``old`` becomes ``new`` in the copy of a file of csrc."""

    file: str
    old: str
    new: str


def compiler() -> str | None:
    """The C compiler, if there is one."""
    return shutil.which(os.environ.get("CC", "cc"))


def apply(change: Change, csrc: Path) -> None:
    """Raises ``ValueError`` unless the text is there exactly once."""
    path = csrc / change.file
    text = path.read_text(encoding="utf-8")
    if text.count(change.old) != 1:
        raise ValueError(f"{change.file} has {text.count(change.old)} times, not once: {change.old}")
    path.write_text(text.replace(change.old, change.new), encoding="utf-8")


def build(directory: Path, name: str, *, fallback: bool = False, changes: tuple[Change, ...] = ()) -> Path:
    """Copy csrc to the directory, change it, and make a library of it, yields injected."""
    csrc = directory / name
    shutil.copytree(CSRC, csrc, ignore=shutil.ignore_patterns("build", "__pycache__"))
    for change in changes:
        apply(change, csrc)
    library = directory / f"{name}.so"
    subprocess.run(
        [
            os.environ.get("CC", "cc"),
            *("-std=c11", "-O2", "-g", "-fPIC", "-shared", "-pthread", "-Wl,-z,defs"),
            *("-include", str(csrc / "tests" / "interleave.h"), "-DPF_INTERLEAVE=check_interleave"),
            *([f"-D{FALLBACK}"] if fallback else []),
            f"-I{csrc}",
            *(str(csrc / source) for source in CORE),
            str(csrc / "tests" / "proof" / "proof.c"),
            *("-o", str(library)),
        ],
        check=True,
    )
    return library
