# SPDX-License-Identifier: MIT
"""One row of the table of ``make prove``: what was tried, how often, and what was found.

A command that proves something prints its rows as it goes, one line each, and exits with a status
other than 0 if anything was found that should not be there. ``python -m proof`` runs such
commands and collects the rows.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

__all__ = ["NOTHING", "NOT_RUN", "Evidence", "evidence", "evidence_in"]

MARK = "evidence: "
NOTHING = "nothing"
NOT_RUN = "not run"  # for want of what, follows


@dataclass(frozen=True, slots=True)
class Evidence:
    """``times`` says how often, with its unit: "1 000 000 signatures"."""

    tried: str
    times: str
    found: str = NOTHING


def evidence(tried: str, times: str, found: str = NOTHING) -> None:
    """Print a row."""
    print(MARK + json.dumps(asdict(Evidence(tried, times, found))), flush=True)


def evidence_in(output: str) -> list[Evidence]:
    """The rows among the lines of a command's standard output."""
    marked = (line.removeprefix(MARK) for line in output.splitlines() if line.startswith(MARK))
    return [Evidence(**json.loads(line)) for line in marked]
