# SPDX-License-Identifier: MIT
"""One change of one file, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["Fate", "Mutant"]


class Fate(Enum):
    """What became of a mutant."""

    KILLED = "killed"
    LATE = "killed: its tests did not end"
    SAME = "the compiler makes the same code of it"
    INVALID = "does not compile"
    SURVIVED = "survived"


@dataclass(frozen=True, slots=True)
class Mutant:
    """``text[start:end]`` of a file becomes ``new``. ``file`` is relative to the project."""

    file: str
    start: int
    end: int
    new: str
    line: str  # the first line it changes, stripped
    old: str

    @staticmethod
    def of(file: str, text: str, start: int, end: int, new: str) -> Mutant:
        first, last = text.rfind("\n", 0, start) + 1, text.find("\n", start)
        line = text[first : last if last >= 0 else len(text)].strip()
        return Mutant(file, start, end, new, line, " ".join(text[start:end].split()))

    @property
    def change(self) -> str:
        """``"< -> <="``, in one line."""
        return f"{self.old} -> {' '.join(self.new.split())}"

    def applied(self, text: str) -> str:
        return text[: self.start] + self.new + text[self.end :]

    def line_number(self, text: str) -> int:
        return text.count("\n", 0, self.start) + 1
