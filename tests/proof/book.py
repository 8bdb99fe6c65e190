# SPDX-License-Identifier: MIT
"""The book of all signatures: a file that every process of the proof maps; see ``proof.c``."""

from __future__ import annotations

import ctypes
import mmap
from pathlib import Path
from typing import NamedTuple

FINDINGS_SZ = 8 * 8
HEADER_SZ = FINDINGS_SZ + 16
ENTRY_SZ = 40


class Findings(NamedTuple):
    """What was found so far, in the order of the C struct."""

    signatures: int
    """Signatures verified, their R kept."""
    prepared: int
    """How many of them, at least, were made with a nonce of a pool."""
    children: int
    """Processes that signed, other than the first."""
    repeated: int
    """Signatures with an R that another message had."""
    invalid: int
    """Signatures that libsodium refuses."""
    lingering: int
    """Nonces that stood in the pool after their use."""
    trespasses: int
    """Uses of a key or a pool that another process opened."""
    failures: int
    """Anything else that must not happen."""

    def since(self, before: Findings) -> Findings:
        """What came after an earlier look."""
        return Findings(*(now - then for now, then in zip(self, before, strict=True)))

    def wrong(self) -> dict[str, int]:
        """What should be zero and is not."""
        names = ("repeated", "invalid", "lingering", "trespasses", "failures")
        return {name: value for name in names if (value := getattr(self, name))}


class Book:
    """A new, empty book with room for so many signatures."""

    def __init__(self, path: Path, signatures: int) -> None:
        self.path = path
        with path.open("wb+") as file:
            file.truncate(HEADER_SZ + 2 * signatures * ENTRY_SZ)  # half full: short searches
            self._map = mmap.mmap(file.fileno(), HEADER_SZ)

    def findings(self) -> Findings:
        """What stands in it now."""
        counts = (ctypes.c_uint64 * (FINDINGS_SZ // 8)).from_buffer_copy(self._map)
        return Findings(*counts)
