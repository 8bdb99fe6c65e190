# SPDX-License-Identifier: MIT
"""Corpora: one file for each target, one input on each line, in hexadecimal, the short ones first.

``csrc/fuzz/corpus`` has those of the C targets, ``tests/fuzz/corpus`` those of the Python targets.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

__all__ = ["C_CORPORA", "PYTHON_CORPORA", "inputs", "keep", "unpack"]

C_CORPORA = Path(__file__).parents[2] / "csrc" / "fuzz" / "corpus"
PYTHON_CORPORA = Path(__file__).parent / "corpus"


def inputs(path: Path) -> list[bytes]:
    """What the file has."""
    return [bytes.fromhex(line) for line in path.read_text(encoding="ascii").splitlines()]


def keep(path: Path, found: Iterable[bytes]) -> None:
    """Write these, each once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = sorted(set(found), key=lambda one: (len(one), one))
    path.write_text("".join(one.hex() + "\n" for one in lines), encoding="ascii")


def unpack(path: Path, directory: Path) -> None:
    """Into files, as libFuzzer reads them."""
    directory.mkdir(parents=True, exist_ok=True)
    for number, one in enumerate(inputs(path)):
        (directory / f"{number:05}").write_bytes(one)
