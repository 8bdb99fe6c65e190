# SPDX-License-Identifier: MIT
"""No branch and no index depends on a secret: builds ``csrc/tests/ctgrind.c`` and judges.

    PYTHONPATH=tests python -m ctgrind.run

Needs valgrind with its headers, and a C compiler (``CC``). The exit status is 0 if signing
and making nonces raise no error, and both positive controls do.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from proof.builds import CORE, CSRC

HERE = Path(__file__).parent
CLEAN = ("deterministic", "nonces", "prepared", "more nonces")
CONTROLS = ("a branch", "an index")
LEVELS = ("-O0", "-O2", "-O3")


def build(directory: Path, level: str) -> Path:
    """The core with the harness, at one level of optimisation."""
    library = directory / f"ctgrind{level}.so"
    sources = [*(str(CSRC / source) for source in CORE), str(CSRC / "tests" / "ctgrind.c")]
    declassify = "-DPF_DECLASSIFY(p,n)=(void)VALGRIND_MAKE_MEM_DEFINED((p),(n))"
    subprocess.run(
        [
            os.environ.get("CC", "cc"),
            *("-std=c11", level, "-gdwarf-4", "-fPIC", "-shared", "-pthread", f"-I{CSRC}"),
            *("-include", "valgrind/memcheck.h", declassify, *sources, "-o", str(library)),
        ],
        check=True,
    )
    return library


def errors_in(library: Path) -> dict[str, int]:
    """How many errors each piece of work raised."""
    done = subprocess.run(
        [
            *("valgrind", "--tool=memcheck", "--leak-check=no", "--quiet", "--error-limit=no"),
            f"--suppressions={HERE / 'libsodium.supp'}",
            *(sys.executable, "-m", "ctgrind.work", str(library)),
        ],
        cwd=HERE.parent,
        env=os.environ | {"PYTHONMALLOC": "malloc"},
        capture_output=True,
        text=True,
        check=False,
    )
    found = dict(re.findall(r"^([a-z ]+): (\d+)$", done.stdout, flags=re.MULTILINE))
    if done.returncode != 0 or set(found) != {*CLEAN, *CONTROLS} or "ctgrind:" in done.stderr:
        raise RuntimeError(f"the harness failed ({done.returncode}):\n{done.stdout}{done.stderr[-2000:]}")
    counts = {name: int(count) for name, count in found.items()}
    if any(counts[name] for name in CLEAN):
        blocks = re.split(r"\n==\d+== \n", done.stderr)
        print("\n".join(block for block in blocks if "(ctgrind.c:" in block))
    return counts


def main() -> int:
    bad = False
    with tempfile.TemporaryDirectory() as directory:
        for level in LEVELS:
            counts = errors_in(build(Path(directory), level))
            leaks = [name for name in CLEAN if counts[name]]
            blind = [name for name in CONTROLS if not counts[name]]
            print(f"{os.environ.get('CC', 'cc')} {level}: {counts}", flush=True)
            bad = bad or bool(leaks or blind)
            for name in leaks:
                print(f"  {name}: depends on a secret")
            for name in blind:
                print(f"  {name}: on a secret, and not seen: this shows nothing")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
