# SPDX-License-Identifier: MIT
"""``python -m benchmarks``: the report, and the goals it is held against.

The exit status is 0 unless an output is wrong: being slow is not an error.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks import cases, wire
from benchmarks.cases import Case
from benchmarks.measure import REST, Ratio, Timing, idle_and_busy, interleaved, ratio
from pacifica_fast import Signer
from pacifica_fast._sodium import ffi, lib

LIBRARIES = ("pacifica-fast", "PyNaCl", "cffi", "orjson", "websockets", "solders", "base58", "cryptography")
HOT_CALLS = 40  # in a row: the first few after a change are not hot yet
Row = tuple[str, Timing, Ratio]


class Progress:
    """One line on stderr that tells how far it is, for a person."""

    def __init__(self, steps: int) -> None:
        self._steps, self._done = steps, 0
        self._shown = sys.stderr.isatty()

    def step(self) -> None:
        """One more step is done."""
        self._done += 1
        if self._shown:
            filled = 40 * self._done // self._steps
            end = "\n" if self._done == self._steps else ""
            print(
                f"\r  [{'#' * filled:<40}] {self._done}/{self._steps}{end}",
                end="",
                file=sys.stderr,
                flush=True,
            )


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    facts = {
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}, "
        f"load {os.getloadavg()[0]:.1f}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "libraries": ", ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES),
    }
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    if described.returncode == 0:
        facts["commit"] = described.stdout.strip()
    return facts


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


class Report:
    """Tables, goals and the same as data."""

    def __init__(self, markdown: bool) -> None:
        self._markdown = markdown
        self.data: dict[str, Any] = {"machine": machine(), "tables": {}, "goals": [], "wrong": []}
        for name, value in self.data["machine"].items():
            print(f"{name}: {value}" + ("  " if markdown else ""))

    def check(self, group: Sequence[Case]) -> None:
        """Is what they return right? A fast wrong answer is no result."""
        self.data["wrong"] += [case.name for case in group if not case.is_right(case.run())]

    def table(self, title: str, first: str, rows: Sequence[Row]) -> None:
        """A table: name, median, p99, and how many times quicker than ``first``, with quartiles."""
        wrong = self.data["wrong"]
        self.data["tables"][title] = [
            {
                "name": name,
                "correct": name not in wrong,
                "median_us": timing.quantile_us(0.5),
                "p99_us": timing.quantile_us(0.99),
                "times_quicker": asdict(times),
            }
            for name, timing, times in rows
        ]
        if self._markdown:
            print(f"\n| {title} | median, µs | p99, µs | times quicker than {first} | quartiles |")
            print("|---|---:|---:|---:|---:|")
            line = "| {} | {:.2f} | {:.2f} | {:.2f} | {:.2f} to {:.2f} |"
        else:
            print(f"\n{title}\n  {'':<50}{'median µs':>10}{'p99 µs':>10}   times quicker than {first}")
            line = "  {:<50}{:>10.2f}{:>10.2f}{:>9.2f} [{:.2f}, {:.2f}]"
        for name, timing, times in rows:
            label = f"WRONG: {name}" if name in wrong else name
            quantiles = timing.quantile_us(0.5), timing.quantile_us(0.99)
            print(line.format(label, *quantiles, times.median, times.low, times.high))

    def goal(self, text: str, measured: Ratio, limit: float, at_least: bool) -> None:
        """One line: what was wanted, and what it is."""
        met = measured.median >= limit if at_least else measured.median <= limit
        bound = f"{'≥' if at_least else '≤'} {limit:g}"
        self.data["goals"].append({"goal": text, "limit": bound, "measured": asdict(measured), "met": met})
        spread = f"{measured.median:.2f} [{measured.low:.2f}, {measured.high:.2f}]"
        mark = "- " if self._markdown else "  "
        print(f"{mark}goal {bound}: {text}: measured {spread}: {'met' if met else 'not met'}")


def main() -> int:
    """Measure, print, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rounds")
    parser.add_argument("--markdown", action="store_true", help="tables for a README")
    parser.add_argument("--json", metavar="FILE", help="also write everything to a file")
    args = parser.parse_args()
    rounds = 15 if args.quick else 150
    busy_rounds, wire_rounds = (6, 4) if args.quick else (40, 20)

    report = Report(args.markdown)
    progress = Progress((len(cases.GROUPS) + 1) * rounds + rounds // 5 + 2 * busy_rounds + wire_rounds)
    for title, make in cases.GROUPS.items():
        _group(report, f"{title}, hot", make(), rounds, HOT_CALLS, 0.0, progress)
    _group(report, "whole cancel request, cold", cases.whole_request(), rounds // 5, 5, REST, progress)
    against = _goal_pairs(rounds, progress)
    busy = _busy(report, busy_rounds, progress)
    _wire(report, wire_rounds, progress)

    print("\ngoals, each measured in one interleaved run, hot, [quartiles]")
    for sdk in ("SDK, as its example", "SDK, key kept", "SDK, key and account string kept"):
        report.goal(f"whole request, times quicker than {sdk}", against[sdk], 6, True)
    report.goal(
        "sdk.sign_message with a solders Keypair, times quicker than the SDK's", against[SDK_SIGN], 3, True
    )
    report.goal("whole request over crypto_sign of its message", against[CRYPTO_SIGN], 1.15, False)
    report.goal("building beside a busy thread over building alone", busy, 3, False)
    if args.json:
        Path(args.json).write_text(json.dumps(report.data, indent=1), encoding="utf-8")
    for name in report.data["wrong"]:
        print(f"WRONG OUTPUT: {name}", file=sys.stderr)
    return 1 if report.data["wrong"] else 0


def _group(
    report: Report,
    title: str,
    group: Sequence[Case],
    rounds: int,
    calls: int,
    rest: float,
    progress: Progress,
) -> None:
    report.check(group)
    timings = interleaved(group, rounds, calls, progress.step, rest)
    rows = [(case.name, t, ratio(timings[0], t)) for case, t in zip(group, timings, strict=True)]
    report.table(title, group[0].name, rows)


SDK_SIGN, CRYPTO_SIGN = "SDK (solders, base58)", "libsodium crypto_sign, through our wrapper"
REQUEST, DROP_IN = "Signer.cancel_order", "pacifica_fast.sdk, solders Keypair"


def _goal_pairs(rounds: int, progress: Progress) -> dict[str, Ratio]:
    """What the goals compare, side by side and nothing else between: how many times what ours takes."""
    named = {case.name: case for make in cases.GROUPS.values() for case in make()}
    ratios: dict[str, Ratio] = {}
    requests = [name for name in named if name.startswith("SDK, ")]
    pairs = [*((name, REQUEST) for name in requests), (SDK_SIGN, DROP_IN), (REQUEST, CRYPTO_SIGN)]
    for done, (slow, fast) in enumerate(pairs, 1):
        timings = interleaved([named[slow], named[fast]], rounds, HOT_CALLS)
        ratios[fast if fast == CRYPTO_SIGN else slow] = ratio(*timings)
        for _ in range(rounds * done // len(pairs) - rounds * (done - 1) // len(pairs)):
            progress.step()
    return ratios


def _busy(report: Report, rounds: int, progress: Progress) -> Ratio:
    signer = Signer(cases.OURS)
    out = ffi.new("char[64]")
    message = cases.MESSAGE_BYTES

    def build() -> None:
        signer.cancel_order(cases.SYMBOL, order_id=cases.ORDER_ID)

    def detached() -> None:
        lib.pf_key_sign_bytes_detached(out, 64, cases.OURS._key, message, len(message))

    rows = []
    ratios = []
    for name, run in (("Signer.cancel_order", build), ("a signature, GIL given up as by cffi", detached)):
        idle, busy = idle_and_busy(run, rounds, 10, progress.step)
        rows += [
            (f"{name}, alone", idle, ratio(idle, idle)),
            (f"... beside it, {busy.share_over_ms(1):.0%} over 1 ms", busy, ratio(idle, busy)),
        ]
        ratios.append(ratio(busy, idle))
    # Whether the busy thread wakes before a call that gave the GIL up is over is a race: its
    # median is either that of the call or the switch interval, hence the share.
    report.table("building beside a busy Python thread, cold", "alone", rows)
    return ratios[0]


def _wire(report: Report, rounds: int, progress: Progress) -> None:
    timings = wire.measure(rounds, 20, progress.step)
    names = {
        "sdk": "SDK, ws.send() on a kept connection",
        "ours": "client.cancel_order_nowait",
        "build": "... of which building",
        "ours busy": "client.cancel_order_nowait, beside a busy thread",
    }
    rows = [(name, timings[key], ratio(timings["sdk"], timings[key])) for key, name in names.items()]
    report.table("from the decision to the kernel, TLS, cold", "the SDK's", rows)


if __name__ == "__main__":
    sys.exit(main())
