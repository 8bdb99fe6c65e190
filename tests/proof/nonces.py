# SPDX-License-Identifier: MIT
"""Two different messages under one key never share R; and the proof sees it when they do.

    PYTHONPATH=tests python -m proof.nonces --signatures 2000000

prints a line for each scenario and each sabotaged build. The exit status is 0 if every
signature verified, no R came twice, nothing lingered, and every sabotage was seen. Needs
a C compiler.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from proof.book import Book, Findings
from proof.builds import build
from proof.evidence import evidence
from proof.sabotage import SABOTAGES, Sabotage
from proof.scenarios import SCENARIOS

TESTS = Path(__file__).parents[1]
TIMEOUT = 1200  # s, of a scenario
SABOTAGED_SIGNATURES = 3000
# Of all signatures, in percent; "threads" in the build as released makes the rest.
SHARES = {
    "threads": 6,
    "closing": 3,
    "wiped": 3,
    "in flight": 2,
    "os.fork": 3,
    "fork from C": 3,
    "clone from C": 3,
    "multiprocessing fork": 2,
    "multiprocessing spawn": 1,
    "multiprocessing forkserver": 1,
}
WITHOUT_CHILDREN = {"threads", "closing", "wiped"}


def run(library: Path, book: Book, scenario: str, signatures: int) -> Findings:
    """Run it in a process of its own. Raises ``CalledProcessError`` if that ends badly."""
    before = book.findings()
    command = ["-m", "proof.scenarios", str(library), str(book.path), scenario, str(signatures)]
    # CPython 3.12 warns of forks beside threads. They are what this is about.
    subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", *command],
        check=True,
        cwd=TESTS,
        timeout=TIMEOUT,
    )
    return book.findings().since(before)


def check(scenario: str, found: Findings) -> None:
    """Raises ``AssertionError`` if anything was wrong, or if nothing was shown."""
    wrong = found.wrong()
    if wrong:
        raise AssertionError(f"{scenario}: {wrong}")
    if not found.prepared or (scenario not in WITHOUT_CHILDREN and not found.children):
        raise AssertionError(f"{scenario}: shows nothing: {found}")


def sabotaged(directory: Path, number: int, sabotage: Sabotage, signatures: int) -> Findings:
    """What the scenario finds in the sabotaged build."""
    book = Book(directory / f"book {number}", 100 * signatures)
    library = build(directory, f"sabotage_{number}", fallback=sabotage.fallback, changes=sabotage.changes)
    return run(library, book, sabotage.scenario, signatures)


def show(name: str, found: Findings, started: float) -> None:
    print(
        f"{name:44}{found.signatures:10,} signatures, {found.prepared:10,} prepared, "
        f"{found.children:6,} children, {time.monotonic() - started:6.1f} s",
        flush=True,
    )


def prove(directory: Path, signatures: int) -> None:
    """Both builds in every scenario, until there are so many signatures."""
    book = Book(directory / "book", 2 * signatures + 200_000)
    builds = {"": build(directory, "released"), ", fallback": build(directory, "fallback", fallback=True)}
    began = time.monotonic()

    def show_one(title: str, scenario: str, count: int) -> None:
        started = time.monotonic()
        found = run(builds[title], book, scenario, count)
        show(scenario + title, found, started)
        check(scenario, found)

    for title in builds:
        for scenario in SCENARIOS:
            show_one(title, scenario, signatures * SHARES[scenario] // 100)
    show_one("", "threads", max(8, signatures - book.findings().signatures))
    found = book.findings()
    show("all, no two with one R", found, began)
    evidence(
        "two messages with one nonce: threads, forks of every kind, two ways of wiping",
        f"{found.signatures:,} signatures, {found.prepared:,} of them with prepared nonces, "
        f"{found.children:,} children",
    )


def prove_sabotage(directory: Path) -> None:
    """Every sabotage is seen."""
    for number, sabotage in enumerate(SABOTAGES):
        found = sabotaged(directory, number, sabotage, SABOTAGED_SIGNATURES)
        wrong = found.wrong()
        print(f"sabotaged: {sabotage.what}: found {wrong}", flush=True)
        if sabotage.shown_by not in wrong:
            raise AssertionError(f"not seen by {sabotage.shown_by} in {sabotage.scenario}")
    evidence("builds from which one safeguard was taken out: each is seen", f"{len(SABOTAGES)} builds")


def main() -> None:
    parser = argparse.ArgumentParser(description="Two different messages under one key never share R.")
    parser.add_argument("--signatures", type=int, default=2_000_000, help="default: %(default)s")
    with tempfile.TemporaryDirectory() as directory:
        prove_sabotage(Path(directory))
        prove(Path(directory), parser.parse_args().signatures)


if __name__ == "__main__":
    main()
