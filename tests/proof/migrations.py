# SPDX-License-Identifier: MIT
"""Each way of ``docs/integrations.md``, followed to the letter by who has the library and nothing else.

    PYTHONPATH=tests python -m proof.migrations [--only NAME ...]

For each section an environment of its own below ``build/migrations``: the library, as whoever uses it has
it; then what the section says to install, of the wheel of these sources and of the index; then its code,
after that of "Something to try it with", in one file; then what the page says about one's own numbers. It
needs the package index, what ``requirements/build.txt`` and ``requirements/audit.txt`` name, and
hummingbot's source, which ``make migrations`` fetches: hummingbot itself is not built.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from run_page import blocks_of

from proof.reproducible import ROOT
from proof.wheels import Failed, built, row, run

__all__ = ["MIGRATIONS", "PAGE", "Section", "main", "sections"]

PAGE = ROOT / "docs" / "integrations.md"
ENVIRONMENTS = ROOT / "build" / "migrations"
FIRST = "Something to try it with"
LIMIT = 300.0  # s: five minutes, that the site promises
HUMMINGBOT = ROOT / ".venv" / "hummingbot"


@dataclass(frozen=True, slots=True)
class Library:
    """What whoever uses it has: packages of the index, and sources. ``measured`` is its name in the table."""

    measured: str
    had: tuple[str, ...]
    sources: Path | None = None


MIGRATIONS: Mapping[str, Library] = {
    "The official SDK": Library("official SDK", ("solders", "base58", "requests", "websockets")),
    "ccxt": Library("ccxt", ("ccxt",)),
    "hummingbot": Library(
        "hummingbot", ("aiohttp", "base58", "numpy", "pandas", "solders", "ujson"), HUMMINGBOT
    ),
    "pacifica-sdk": Library("pacifica-sdk", ("pacifica-sdk",)),
    "pacifica-python-sdk": Library("pacifica-python-sdk", ("pacifica-python-sdk",)),
}
"""Heading of the page to what whoever reads it has."""


@dataclass(frozen=True, slots=True)
class Section:
    """What a reader types: commands, and Python."""

    commands: list[str] = field(default_factory=list)
    code: list[str] = field(default_factory=list)


def sections(page: Path = PAGE) -> dict[str, Section]:
    """Heading to what stands below it."""
    text = page.read_text(encoding="utf-8")
    headings = [(text.count("\n", 0, at.start()) + 1, at[1]) for at in re.finditer(r"^## (.*)$", text, re.M)]
    found = {name: Section() for _, name in headings}

    def above(line: int) -> Section | None:
        names = [name for start, name in headings if start < line]
        return found[names[-1]] if names else None

    for block in blocks_of(page):
        section = above(block.line)
        if section and block.language == "python":
            section.code.append(block.code)
    for command in re.finditer(r"`(pip install [^`]+)`", text):
        section = above(text.count("\n", 0, command.start()) + 1)
        if section:
            section.commands.append(command[1])
    return found


def own_numbers(page: Path = PAGE) -> list[str]:
    """The commands before the first heading: how a reader measures."""
    text = page.read_text(encoding="utf-8").partition("\n## ")[0]
    (block,) = re.findall(r"^```bash\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [line for line in block.splitlines() if not line.startswith("#")]


def surroundings(home: Path, dist: Path, sources: Path | None) -> dict[str, str]:
    """An activated environment, in which the index has our wheel too."""
    ours = {"VIRTUAL_ENV": str(home), "PATH": f"{home / 'bin'}:/usr/bin:/bin", "PIP_FIND_LINKS": str(dist)}
    return ours | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONPATH": str(sources or "")}


def ratios(output: str) -> dict[str, str]:
    """Library to what was saved in calls one after the other, as ``--json`` has it."""
    return {
        one["name"]: f"{one['before_us']:.0f} → {one['after_us']:.0f} µs, {one['ratio']:.1f} ×"
        for one in json.loads(output)["integrations"]
        if one["how"] == "hot"
    }


def follow(name: str, dist: Path) -> bool:
    """One way, from the first command to the printed speed-up; prints its row."""
    library, page = MIGRATIONS[name], sections()
    home = ENVIRONMENTS / re.sub(r"\W+", "-", name)
    shutil.rmtree(home, ignore_errors=True)
    run(sys.executable, "-m", "venv", home)
    around = surroundings(home, dist, library.sources)

    def type_in(command: str, *more: str) -> str:
        return run(*shlex.split(command), *more, cwd=home, environment=around)

    tried = f"{name}: the way of the site, in an environment of its own"
    try:
        type_in("pip install --quiet", *library.had)
        began = time.monotonic()
        for command in page[name].commands:
            type_in(command)
        script = home / "bot.py"
        script.write_text("\n".join([*page[FIRST].code, *page[name].code]), encoding="utf-8")
        type_in("python bot.py")
        *install, measure = own_numbers()
        for command in install:
            type_in(command)
        saved = ratios(type_in(measure, "--only", library.measured, "--json"))
        took = time.monotonic() - began
    except (Failed, subprocess.TimeoutExpired) as failure:
        print(failure, flush=True)
        return row(tried, "", ["a failure: see the log"])
    for which, what in saved.items():
        print(f"{name}: {which}: {what}", flush=True)
    found = [] if took < LIMIT else [f"{took:.0f} s are more than {LIMIT:.0f}"]
    return row(tried, f"{took:.0f} s; {'; '.join(saved.values())}", found)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m proof.migrations", description=__doc__)
    parser.add_argument("--only", nargs="+", default=list(MIGRATIONS), choices=list(MIGRATIONS))
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as directory:
        dist = built(Path(directory))
        clean = [follow(name, dist) for name in args.only]  # each, whatever became of the one before
    return 0 if all(clean) else 1


if __name__ == "__main__":
    sys.exit(main())
