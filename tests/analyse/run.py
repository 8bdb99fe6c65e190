# SPDX-License-Identifier: MIT
"""Sanitizers, memcheck, analyzers and abstract interpretation, each after it has seen a planted fault.

    PYTHONPATH=tests python -m analyse.run [--short] [--only NAME ...]

A tool that is not here is said to be not run. The exit status is 0 if nothing was found.
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from analyse import compilers, eva, memcheck, sanitizers
from analyse.tools import Blind, report

Look = Callable[[Path, bool], bool]

LOOKS: dict[str, tuple[Look, ...]] = {
    "compilers": tuple(functools.partial(compilers.look, one) for one in compilers.ANALYZERS),
    "sanitizers": tuple(functools.partial(sanitizers.look, one) for one in sanitizers.RUNS),
    "memcheck": (memcheck.look,),
    "eva": tuple(functools.partial(eva.look, one) for one in eva.HARNESSES),
}


def look_with(name: str, look: Look, short: bool) -> bool:
    """In a directory of its own. A tool that broke down or is blind is a finding."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as work:
        try:
            clean = look(Path(work), short)
        except (Blind, RuntimeError) as error:
            clean = report(name, "", str(error).partition("\n")[0], str(error))
    print(f"  {time.monotonic() - began:.0f} s", flush=True)
    return clean


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m analyse.run", description="Other people's tools.")
    parser.add_argument("--short", action="store_true", help="two minutes instead of forty")
    parser.add_argument("--only", nargs="+", default=list(LOOKS), choices=list(LOOKS), metavar="NAME")
    args = parser.parse_args(arguments)
    looks = [(name, look) for name in args.only for look in LOOKS[name]]
    clean = [look_with(name, look, args.short) for name, look in looks]  # all, whatever one found
    return 0 if all(clean) else 1


if __name__ == "__main__":
    sys.exit(main())
