# SPDX-License-Identifier: MIT
"""The core and ``csrc/tests/ctgrind.c`` as a shared library."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from proof.builds import CSRC, Change, apply

LEVELS = ("-O0", "-O2", "-O3")
DECLASSIFY = "-DPF_DECLASSIFY(p,n)=(void)VALGRIND_MAKE_MEM_DEFINED((p),(n))"


def compilers() -> tuple[str, ...]:
    """Those to try, whether they are there or not: ``CC``, or the two that everybody uses."""
    return (os.environ["CC"],) if "CC" in os.environ else ("gcc", "clang")


def build(library: Path, compiler: str, *options: str, csrc: Path = CSRC) -> Path:
    """Compile the whole core. Objects are named after the library, for gcov."""
    sources = [*sorted(csrc.glob("pf_*.c")), csrc / "tests" / "ctgrind.c"]
    subprocess.run(
        [
            *(compiler, "-std=c11", *options, "-gdwarf-4", "-fPIC", "-shared", "-pthread", f"-I{csrc}"),
            *("-include", "valgrind/memcheck.h", DECLASSIFY, *map(str, sources), "-o", str(library)),
        ],
        check=True,
        cwd=library.parent,
    )
    return library


def build_changed(library: Path, compiler: str, change: Change) -> Path:
    """Compile a copy of the core with one change of its text."""
    csrc = library.with_suffix(".csrc")
    shutil.copytree(CSRC, csrc, ignore=shutil.ignore_patterns("build", "__pycache__"))
    apply(change, csrc)
    return build(library, compiler, "-O2", csrc=csrc)
