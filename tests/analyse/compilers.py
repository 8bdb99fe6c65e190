# SPDX-License-Identifier: MIT
"""What can be seen without running anything: clang-tidy, clang's analyzer, gcc's -fanalyzer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from proof.builds import CSRC
from proof.evidence import NOTHING

from analyse.planted import READ_AFTER_FREE, SAME_BRANCHES
from analyse.tools import Blind, missing, report, run

__all__ = ["ANALYZERS", "Analyzer", "look"]

COMPILED = ("-std=c11", f"-I{CSRC}", "-pthread")


@dataclass(frozen=True, slots=True)
class Analyzer:
    """``command`` goes before a file, ``after`` behind it; ``planted`` is C that it must complain of.

    A complaint is a line that ends with the name of its check; clang --analyze exits with 0 regardless.
    ``in_short``: whether the short form has it.
    """

    name: str
    command: tuple[str, ...]
    planted: str
    says: str
    after: tuple[str, ...] = ()
    in_short: bool = True


ANALYZERS = (
    Analyzer(
        "clang-tidy (.clang-tidy says which checks)",
        ("clang-tidy", "--quiet", f"--config-file={CSRC.parent / '.clang-tidy'}"),
        SAME_BRANCHES,
        "bugprone-branch-clone",
        ("--", *COMPILED),
    ),
    Analyzer(
        "clang --analyze",
        ("clang", "--analyze", "--analyzer-output", "text", *COMPILED),
        READ_AFTER_FREE,
        "unix.Malloc",
        in_short=False,  # clang-tidy has the same checks
    ),
    Analyzer(
        "gcc -fanalyzer",
        ("gcc", "-O2", "-fanalyzer", "-c", "-o", "/dev/null", *COMPILED),
        READ_AFTER_FREE,
        "-Wanalyzer-use-after-free",
    ),
)

COMPLAINT = re.compile(r"^\S+:\d+:\d+: (?:warning|error): .*$", re.MULTILINE)


def _complaints(analyzer: Analyzer, source: Path) -> tuple[list[str], str]:
    """Raises ``RuntimeError`` if the tool broke down before it could complain."""
    status, output = run([*analyzer.command, source, *analyzer.after])
    complaints = COMPLAINT.findall(output)
    if status != 0 and not complaints:
        raise RuntimeError(f"{analyzer.name} failed ({status}) on {source.name}:\n{output}")
    return complaints, output


def look(analyzer: Analyzer, work: Path, short: bool) -> bool:
    """True if nothing was found, or this is not for the short form."""
    if short and not analyzer.in_short:
        return True
    tried = f"csrc by {analyzer.name}; it saw a planted fault before"
    if missing(tried, analyzer.command[0]):
        return True
    planted = work / "planted.c"
    planted.write_text(analyzer.planted, encoding="utf-8")
    if not any(analyzer.says in one for one in _complaints(analyzer, planted)[0]):
        raise Blind(f"{analyzer.name} does not see {analyzer.says}")
    sources = sorted(CSRC.glob("pf_*.c"))
    found: set[str] = set()
    said = ""
    for source in sources:
        complaints, output = _complaints(analyzer, source)
        found.update(complaints)
        said += output if complaints else ""
    return report(tried, f"{len(sources)} files", f"{len(found)} complaints" if found else NOTHING, said)
