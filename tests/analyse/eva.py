# SPDX-License-Identifier: MIT
"""Frama-C's Eva on the harnesses of ``csrc/tests/framac``: what cannot go wrong, for any contents of buffers.

An alarm is what Eva could not exclude. Those it raises for want of relations between variables stand in
``EXPECTED`` with the reason why they cannot be; any other is a finding, and so is one that is gone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from proof.builds import CSRC
from proof.evidence import NOTHING

from analyse.planted import NO_CAPACITY
from analyse.tools import Blind, copy_of_core, missing, report, run

__all__ = ["HARNESSES", "Alarm", "Harness", "alarms_in", "look"]

# The file, the line of source, and what of it could not be excluded.
Alarm = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Harness:
    """``in_short``: whether it is quick enough for the short form."""

    name: str
    what: str
    sources: tuple[str, ...] = ()
    in_short: bool = False
    expected: Mapping[Alarm, str] = field(default_factory=dict)


_PUT = "memcpy( room, bytes, n );"
_LAST = "memcpy( out + ones, bytes + zeros, n - ones );"
_COPY = "( (char *)to )[i] = ( (const char *)from )[i];"
_SKIPPED = "text + skip: a leading zero byte is a leading 1, so that ones >= zeros; Eva knows each alone"
_DECODED = "n = ones + 128 - zeros is at most cap, and zeros at most 128; Eva knows each alone"
_BODY = "the body of the memcpy of either of these"

HARNESSES = (
    Harness("writer", "bounded writer: any number or bytes, each capacity", in_short=True),
    Harness(
        "frame",
        "pf_frame_text: any payload of 0 to 16 and 116 to 132 bytes, each capacity",
        ("pf_frame.c",),
    ),
    Harness(
        "base58",
        "base58: any bytes and any text, each length and capacity; rooms like another at each fourth",
        ("pf_base58.c",),
        expected={
            ("pf_base.h", _PUT, "precondition 'room'"): _SKIPPED,
            ("pf_base.h", _PUT, "precondition 'bytes'"): _SKIPPED,
            ("pf_base58.c", _LAST, "precondition 'room'"): _DECODED,
            ("pf_base58.c", _LAST, "precondition 'bytes'"): _DECODED,
            ("libc.h", _COPY, "out of bounds read"): _BODY,
            ("libc.h", _COPY, "out of bounds write"): _BODY,
        },
    ),
)

_ALARM = re.compile(r"^\[eva:alarm\] (\S+):(\d+): Warning: \n((?:  .*\n)+)", re.MULTILINE)
_KIND = re.compile(r"precondition '\w+'|[a-z][a-z -]+")
_REACHED = re.compile(r"(\d+) statements reached \(out of (\d+)\)")


def alarms_in(output: str, root: Path) -> set[Alarm]:
    """Told by the text of their lines, which stays when lines move."""
    found = set()
    for file, line, said in _ALARM.findall(output):
        source = (root / file).read_text(encoding="utf-8").splitlines()[int(line) - 1].strip()
        kind = re.search(r"precondition '\w+'", said) or _KIND.search(said)
        found.add((Path(file).name, source, kind[0] if kind else said.strip()))
    return found


def _analyse(harness: Harness, csrc: Path) -> tuple[set[Alarm], str]:
    """Raises ``RuntimeError`` if Eva did not get to the end."""
    here = csrc / "tests" / "framac"
    # Without __GNUC__ the core has no assembly and no builtins, which Eva would have to be told about.
    preprocessor = ["-U__GNUC__", f"-include {here / 'libc.h'}", f"-I{csrc}", f"-I{here}"]
    status, output = run(
        [
            *("frama-c", "-machdep", "x86_64", "-c11", f"-cpp-extra-args={' '.join(preprocessor)}"),
            *(here / f"{harness.name}.c", *(csrc / source for source in harness.sources)),
            *("-eva", "-eva-precision", "3", "-eva-slevel", "1000000", "-eva-no-builtins-auto"),
            *("-eva-no-show-progress", "-eva-msg-key=-initial-state,-final-states"),
        ],
        cwd=csrc,
        env={"PWD": str(csrc)},  # what its paths are relative to
        seconds=3600,
    )
    if status != 0 or "ANALYSIS SUMMARY" not in output:
        raise RuntimeError(f"frama-c failed ({status}):\n{output[-3000:]}")
    return alarms_in(output, csrc), output


def _sees_what_is_planted(harness: Harness, work: Path) -> None:
    alarms, _ = _analyse(harness, copy_of_core(work, "planted", NO_CAPACITY))
    if not any(file == "pf_base.h" for file, _, _ in alarms):
        raise Blind(f"Eva raises no alarm without {NO_CAPACITY.old!r}")


def look(harness: Harness, work: Path, short: bool) -> bool:
    """True if there are the expected alarms and no other, or this is not for the short form."""
    if short and not harness.in_short:
        return True
    tried = f"Eva: {harness.what}"
    if missing(tried, "frama-c"):
        return True
    if harness.name == "writer":
        _sees_what_is_planted(harness, work)
        tried += "; it raised an alarm without the capacity"
    alarms, output = _analyse(harness, CSRC)
    reached = _REACHED.search(output)
    if reached is None:
        raise RuntimeError(f"no statement was reached:\n{output[-2000:]}")
    for alarm in sorted(alarms & harness.expected.keys()):
        print(f"  not excluded: {': '.join(alarm)}\n    because {harness.expected[alarm]}")
    wrong = [f"{': '.join(alarm)} is new" for alarm in sorted(alarms - harness.expected.keys())]
    wrong += [f"{': '.join(alarm)} is gone" for alarm in sorted(harness.expected.keys() - alarms)]
    print("\n".join(wrong))
    times = f"{reached[1]} of {reached[2]} statements, {len(alarms)} alarms explained"
    return report(tried, times, "; ".join(wrong) or NOTHING)
