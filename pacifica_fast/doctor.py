# SPDX-License-Identifier: MIT
"""What makes a cancel slow or a key less safe on this machine: ``pacifica-fast doctor``.

It sends nothing, and tells no key: what it prints is made to be pasted into a bug report. The command
looks at a process of its own; a bot learns about itself, its threads and its switch interval, with
``print(doctor.report())``.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from pacifica_fast._doctor_finding import Finding

__all__ = ["Finding", "as_dict", "examine", "lines", "report"]

WIDTH = 80
_NAME_WIDTH = 23
_INDENT = 10


def examine(*, measure: bool = False) -> list[Finding]:
    """Look at everything.

    With ``measure`` also at what only an experiment shows: it takes three seconds, signs with a key made for
    that, and has a busy thread beside it: not for a process that trades.
    """
    from pacifica_fast import _doctor_machine as machine
    from pacifica_fast import _doctor_process as process

    checks: list[Callable[[], Iterable[Finding]]] = [process.versions]
    with machine.Sample() as sample:
        checks += [process.signing, *([process.speed] if measure else [])]
        checks += [machine.memory, machine.clock, lambda: process.python(measure=measure)]
        findings = [finding for check in checks for finding in check()]
    return [*findings, *machine.processor(sample, measure=measure)]


def as_dict(findings: list[Finding]) -> dict[str, Any]:
    """For JSON: ``ok`` is False if anything is ``bad``."""
    return {
        "ok": all(finding.status != "bad" for finding in findings),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "findings": [asdict(finding) for finding in findings],
    }


def report(*, measure: bool = False) -> str:
    """:func:`examine`, as plain text of 80 columns."""
    return "\n".join(lines(examine(measure=measure)))


def lines(
    findings: list[Finding],
    paint: Callable[[str, str], str] = lambda text, colour: text,
    *,
    explain: bool = False,
) -> list[str]:
    """The findings for a person, by section. ``explain``: what a bad value costs also of what is well."""
    colours = {"ok": "green", "warn": "yellow", "bad": "red", "unknown": "dim", "info": "dim"}
    text: list[str] = []
    section = ""
    for finding in findings:
        if finding.section != section:
            section = finding.section
            text += ["", paint(section, "bold")] if text else [paint(section, "bold")]
        status = paint(f"{finding.status:<8}", colours[finding.status])
        first, *rest = _wrapped(finding.value, _INDENT + _NAME_WIDTH)
        text += [f"  {status}{finding.name:<{_NAME_WIDTH}}{first.lstrip()}", *rest]
        if finding.cost and (explain or finding.status in ("warn", "bad")):
            text += [paint(line, "dim") for line in _wrapped(finding.cost, _INDENT)]
    return [*text, "", verdict(findings)]


def _wrapped(text: str, indent: int) -> list[str]:
    margin = " " * indent
    return textwrap.wrap(text, WIDTH, initial_indent=margin, subsequent_indent=margin, break_on_hyphens=False)


def verdict(findings: list[Finding]) -> str:
    """The last line: how many of each."""
    statuses = [finding.status for finding in findings]
    counts = ", ".join(
        f"{statuses.count(status)} {status}"
        for status in ("ok", "warn", "bad", "unknown")
        if status == "ok" or statuses.count(status)
    )
    return f"{counts}. No key and no account is in this report."
