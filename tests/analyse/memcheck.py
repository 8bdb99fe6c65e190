# SPDX-License-Identifier: MIT
"""The Python tests of what is in C, under valgrind's memcheck.

CPython itself raises errors (it looks at the digits of an integer that has none): only those count that
have a frame of ours in their stack, or in that of where the memory came from.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from proof.builds import CSRC, Change, apply
from proof.evidence import NOTHING

from analyse.planted import UNINITIALISED
from analyse.tools import Blind, missing, report, run

__all__ = ["LONG", "SHORT", "look", "ours"]

ROOT = CSRC.parent
NEEDED = ("csrc", "pacifica_fast", "tests", "setup.py", "pyproject.toml", "README.md", "LICENSE")
# One call into each corner, for the short form and for what is planted: pytest alone takes half a minute.
EXERCISE = """
from pacifica_fast import Signer, Keypair, b58decode, b58encode, canonicalize
with Keypair.from_seed(bytes(range(32))) as keypair:
    signer = Signer(keypair)
    for order_id in (1, 2**64 - 1):
        signer.cancel_order("BTC", order_id=order_id)
    signer.cancel_all_orders()
    signer.sign("create_order", {"symbol": "BTC", "\\u00e9\\U0001f600": ["\\u007f", {"b": 1, "a": None}]})
canonicalize('{"b":[1,2,{"z":"\\\\u00e9","a":""}],"a":-0}')
for text in ("", "1", b58encode(bytes(64)), b58encode(bytes(range(64)))):
    b58decode(text)
"""
SHORT: tuple[str, ...] = ()
LONG = (
    "tests/test_native.py",
    "tests/test_base58.py",
    "tests/test_frame.py",
    "tests/test_bulk.py",
)
_FRAME = re.compile(r"==\d+==\s+(?:at|by) 0x[0-9A-F]+: (\S+) \((.*)\)")


def _is_ours(name: str, where: str) -> bool:
    return name.startswith(("pf_", "_cffi_f_pf_")) or "_native" in where or where.startswith("pf_")


def ours(log: str) -> list[str]:
    """The errors that count."""
    blocks = re.split(r"^==\d+== \n", log, flags=re.MULTILINE)
    return [block for block in blocks if any(_is_ours(*frame) for frame in _FRAME.findall(block))]


def _build(work: Path, name: str, *changes: Change) -> Path:
    """A copy of the project with an extension that knows its functions' names and lines."""
    copy = work / name
    copy.mkdir()
    for part in NEEDED:
        if (ROOT / part).is_dir():
            ignored = shutil.ignore_patterns("build", "__pycache__", "_native.*.so", "_native.c")
            shutil.copytree(ROOT / part, copy / part, ignore=ignored)
        else:
            shutil.copy(ROOT / part, copy)
    for change in changes:
        apply(change, copy / "csrc")
    env = {"PACIFICA_FAST_DEBUG": "1"}
    status, output = run([sys.executable, "setup.py", "-q", "build_ext", "--inplace"], cwd=copy, env=env)
    if status != 0:
        raise RuntimeError(f"the extension does not build:\n{output[-2000:]}")
    return copy


def _errors(copy: Path, *arguments: str, may_fail: bool = False) -> tuple[list[str], str]:
    """Raises ``RuntimeError`` if memcheck did not get to the end, or the program failed and may not."""
    log = copy / "memcheck.log"
    status, output = run(
        [
            *("valgrind", "--leak-check=no", "--error-limit=no", "--num-callers=50", f"--log-file={log}"),
            *(sys.executable, *arguments),
        ],
        cwd=copy,
        env={"PYTHONMALLOC": "malloc", "PYTHONPATH": f"{copy}:{copy / 'tests'}"},
        seconds=3600,
    )
    said = log.read_text(encoding="utf-8", errors="replace")
    if (status != 0 and not may_fail) or "ERROR SUMMARY" not in said:
        raise RuntimeError(f"exit status {status} under memcheck:\n{output[-3000:]}{said[-1000:]}")
    return ours(said), output


def look(work: Path, short: bool) -> bool:
    """True if nothing was found."""
    tried = "Python calls into C under memcheck; it saw a planted fault before"
    if missing(tried, "valgrind", "cc"):
        return True
    # What is built of memory that nobody set may be wrong, and then Python raises.
    if not _errors(_build(work, "planted", UNINITIALISED), "-c", EXERCISE, may_fail=True)[0]:
        raise Blind(f"memcheck does not see {UNINITIALISED}")
    copy = _build(work, "whole")
    errors, _ = _errors(copy, "-c", EXERCISE)
    times = "each kind of call"
    if not short:
        more, output = _errors(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", *LONG)
        errors += more
        passed = re.search(r"(\d+) passed", output)
        if passed is None:
            raise RuntimeError(f"no test passed:\n{output[-2000:]}")
        times += f", {passed[1]} tests"
    return report(tried, times, f"{len(errors)} errors" if errors else NOTHING, "\n".join(errors))
