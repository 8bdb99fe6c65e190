# SPDX-License-Identifier: MIT
"""CHANGELOG.md has the form of Keep a Changelog 1.1.0, and fits the version in pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from datetime import date
from pathlib import Path

import pytest
from packaging.version import Version

ROOT = Path(__file__).parent.parent
KINDS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
VERSION = re.compile(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)(?: \[YANKED\])?")


def problems(text: str, version: str) -> list[str]:
    """What is not as Keep a Changelog has it, for a project that is at ``version``."""
    found = []
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    if not text.startswith("# Changelog\n"):
        found.append("it does not begin with its title")
    if headings[:1] != ["[Unreleased]"]:
        found.append("the first heading is not [Unreleased]")
    released = []
    for heading in headings[1:]:
        match = VERSION.fullmatch(heading)
        if match is None:
            found.append(f"not [MAJOR.MINOR.PATCH] - YYYY-MM-DD: {heading}")
        else:
            released.append((Version(match[1]), date.fromisoformat(match[2])))
    if released != sorted(released, reverse=True):
        found.append("the newest is not first")
    if released and Version(version) < released[0][0]:
        found.append(f"pyproject.toml is at {version} still")
    if released:  # before that there is nothing to compare with
        names = [heading.partition("]")[0].lstrip("[") for heading in headings]
        linked = re.findall(r"^\[(.+)\]: https://\S+$", text, re.MULTILINE)
        found += [f"no link for {name}" for name in names if name not in linked]
    for section in re.split(r"^## .*\n", text, flags=re.MULTILINE)[1:]:
        found += _problems_of(section)
    return found


def _problems_of(section: str) -> list[str]:
    kinds = re.findall(r"^### (.*)$", section, re.MULTILINE)
    found = [f"no kind of change: {kind}" for kind in kinds if kind not in KINDS]
    found += [f"more than once: {kind}" for kind in sorted({kind for kind in kinds if kinds.count(kind) > 1})]
    bodies = re.split(r"^### .*\n", section, flags=re.MULTILINE)[1:]
    return found + [
        f"nothing under {kind}"
        for kind, body in zip(kinds, bodies, strict=True)
        if not re.search(r"^- ", body, re.MULTILINE)
    ]


def test_ours() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        version = tomllib.load(file)["project"]["version"]
    assert problems((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), version) == []


FITTING = """\
# Changelog

## [Unreleased]

## [0.2.0] - 2027-02-01

### Added

- This.

### Fixed

- That.

## [0.1.0] - 2027-01-01 [YANKED]

### Added

- All.

[Unreleased]: https://github.com/owner/repository/compare/v0.2.0...HEAD
[0.2.0]: https://github.com/owner/repository/compare/v0.1.0...v0.2.0
[0.1.0]: https://github.com/owner/repository/releases/tag/v0.1.0
"""


@pytest.mark.parametrize("version", ["0.2.0", "0.3.0"])
def test_what_fits(version: str) -> None:
    assert problems(FITTING, version) == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("# Changelog", "# Changes", "it does not begin with its title"),
        ("## [Unreleased]", "## Unreleased", "the first heading is not [Unreleased]"),
        ("2027-02-01", "in February", "not [MAJOR.MINOR.PATCH] - YYYY-MM-DD: [0.2.0] - in February"),
        ("## [0.1.0]", "## [0.4.0]", "the newest is not first"),
        ("## [0.2.0]", "## [0.5.0]", "pyproject.toml is at 0.2.0 still"),
        ("[0.1.0]: ", "", "no link for 0.1.0"),
        ("### Fixed", "### Mended", "no kind of change: Mended"),
        ("### Fixed", "### Added", "more than once: Added"),
        ("- That.", "", "nothing under Fixed"),
    ],
)
def test_what_does_not_fit_is_seen(old: str, new: str, problem: str) -> None:
    assert old in FITTING
    assert problem in problems(FITTING.replace(old, new), "0.2.0")
