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
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks import cases, wire
from benchmarks.measure import Timing, idle_and_busy, interleaved, ratio
from pacifica_fast import Signer
from pacifica_fast._sodium import ffi, lib

LIBRARIES = ("pacifica-fast", "PyNaCl", "cffi", "orjson", "websockets", "solders", "base58", "cryptography")


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
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
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
        self.data: dict[str, Any] = {"machine": machine(), "tables": {}, "goals": []}
        self.wrong: list[str] = []
        for name, value in self.data["machine"].items():
            print(f"{name}: {value}" + ("  " if markdown else ""))

    def table(self, title: str, first: str, rows: list[tuple[str, Timing, float]]) -> None:
        """A table: name, median, p99, and how many times quicker than ``first``."""
        self.data["tables"][title] = [
            {"name": name, "median_us": t.quantile_us(0.5), "p99_us": t.quantile_us(0.99), "times": times}
            for name, t, times in rows
        ]
        print()
        if self._markdown:
            print(f"| {title} | median, µs | p99, µs | times quicker than {first} |\n|---|---:|---:|---:|")
        else:
            print(f"{title}\n  {'':<44}{'median µs':>10}{'p99 µs':>10}   times quicker than {first}")
        for name, timing, times in rows:
            columns = timing.quantile_us(0.5), timing.quantile_us(0.99), times
            if self._markdown:
                print("| {} | {:.2f} | {:.2f} | {:.2f} |".format(name, *columns))
            else:
                print("  {:<44}{:>10.2f}{:>10.2f}{:>10.2f}".format(name, *columns))

    def goal(self, text: str, measured: float, limit: float, at_least: bool) -> None:
        """One line: what was wanted, and what it is."""
        met = measured >= limit if at_least else measured <= limit
        sign = "≥" if at_least else "≤"
        self.data["goals"].append(
            {"goal": text, "limit": f"{sign} {limit:g}", "measured": measured, "met": met}
        )
        verdict = "met" if met else "NOT met"
        bullet = "- " if self._markdown else "  "
        print(f"{bullet}{text}: {measured:.2f} (goal {sign} {limit:g}): {verdict}")


def main() -> int:
    """Measure, print, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rounds")
    parser.add_argument("--markdown", action="store_true", help="tables for a README")
    parser.add_argument("--json", metavar="FILE", help="also write everything to a file")
    args = parser.parse_args()
    rounds = 20 if args.quick else 200
    busy_rounds, wire_rounds = (3, 4) if args.quick else (12, 20)

    report = Report(args.markdown)
    progress = Progress(len(cases.GROUPS) * rounds + 2 * busy_rounds + wire_rounds)
    by_name: dict[str, Timing] = {}
    for title, make in cases.GROUPS.items():
        group = make()
        report.wrong += [case.name for case in group if not case.is_right(case.run())]
        timings = interleaved(group, rounds, 15, progress.step)
        by_name |= {case.name: timing for case, timing in zip(group, timings, strict=True)}
        rows = [(c.name, t, ratio(timings[0], t)) for c, t in zip(group, timings, strict=True)]
        report.table(f"{title}, hot", group[0].name, rows)

    goal_timings = _request_against_crypto_sign(rounds)
    busy = _busy(report, busy_rounds, progress)
    _wire(report, wire_rounds, progress)

    print("\ngoals")
    ours = by_name["Signer.cancel_order"]
    for sdk in ("SDK, as its example", "SDK, key kept", "SDK, key and account string kept"):
        report.goal(f"whole request, times quicker than {sdk}", ratio(by_name[sdk], ours), 6, True)
    report.goal(
        "sdk.sign_message (solders Keypair), times quicker than the SDK's",
        ratio(by_name["SDK (solders, base58)"], by_name["pacifica_fast.sdk, solders Keypair"]),
        3,
        True,
    )
    report.goal("whole request over crypto_sign of its message", goal_timings, 1.15, False)
    report.goal("building beside a busy thread over building alone", busy, 3, False)
    if args.json:
        Path(args.json).write_text(json.dumps(report.data, indent=1), encoding="utf-8")
    for name in report.wrong:
        print(f"WRONG OUTPUT: {name}", file=sys.stderr)
    return 1 if report.wrong else 0


def _request_against_crypto_sign(rounds: int) -> float:
    """Both in one interleaved run of their own, with nothing between them."""
    sign = cases.signing()[0]
    request = next(case for case in cases.whole_request() if case.name == "Signer.cancel_order")
    signed, requested = interleaved([sign, request], rounds, 15)
    return ratio(requested, signed)


def _busy(report: Report, rounds: int, progress: Progress) -> float:
    signer = Signer(cases.OURS)
    out = ffi.new("char[64]")
    message = cases.MESSAGE_BYTES

    def build() -> None:
        signer.cancel_order(cases.SYMBOL, order_id=cases.ORDER_ID)

    def detached() -> None:
        lib.pf_key_sign_bytes_detached(out, 64, cases.OURS._key, message, len(message))

    idle, busy = idle_and_busy(build, rounds, 200, progress.step)
    idle_detached, busy_detached = idle_and_busy(detached, rounds, 15, progress.step)
    report.table(
        "beside a busy Python thread",
        "alone",
        [
            ("Signer.cancel_order, alone", idle, 1.0),
            ("Signer.cancel_order, beside it", busy, ratio(idle, busy)),
            ("the same signature, GIL given up, alone", idle_detached, 1.0),
            ("the same, GIL given up, beside it", busy_detached, ratio(idle_detached, busy_detached)),
        ],
    )
    return ratio(busy, idle)


def _wire(report: Report, rounds: int, progress: Progress) -> None:
    timings = wire.measure(rounds, 20, progress.step)
    sdk = timings["sdk"]
    report.table(
        "to the kernel, TLS, cold (3 ms of rest before each)",
        "the SDK's",
        [
            ("SDK, ws.send() on a kept connection", sdk, 1.0),
            ("client.cancel_order_nowait", timings["ours"], ratio(sdk, timings["ours"])),
            ("... of which building", timings["build"], ratio(sdk, timings["build"])),
            (
                "client.cancel_order_nowait, busy thread",
                timings["ours busy"],
                ratio(sdk, timings["ours busy"]),
            ),
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
