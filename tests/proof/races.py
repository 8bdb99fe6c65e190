# SPDX-License-Identifier: MIT
"""``close()``, ``fork``, signals, the interpreter's exit and subinterpreters, beside every kind of call.

    PYTHONPATH=tests python -m proof.races [--seconds 60] [--only NAME ...]

runs each scenario of :mod:`proof.racing` for so long, programs that end in the middle of work, imports in
subinterpreters, and TLS in both directions at once (``tests/sync/stress.py``), also without what keeps its
directions apart, which must then be seen. The exit status is 0 if nothing was found.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from proof.evidence import NOT_RUN, NOTHING, evidence
from proof.racing import SCENARIOS

__all__ = ["BEFORE", "EXITS", "SUBINTERPRETERS", "main", "run_python"]

TESTS = Path(__file__).parents[1]
PATIENCE = 900  # s, beyond the time that a scenario is given: what it signed is verified afterwards
EXITED = 20  # s, within which a program is gone
SHOWN = 2000  # characters of what went wrong
STRESS = str(TESTS / "sync" / "stress.py")

BEFORE = """
import sys, threading, time
from pacifica_fast import KeyClosed, Keypair, Signer
key = Keypair.from_seed(bytes(range(32)))
signer = Signer(key, prepared=65536)
many = [b"x"] * 50_000
def forever(call):
    def run():
        try:
            while True:
                call()
        except KeyClosed:  # keys are wiped at exit, under daemon threads
            pass
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
"""
# Programs whose last line is reached while something is under way: they end at once, and say nothing.
EXITS = {
    "a pool is refilled": "signer.cancel_all_orders()",
    "threads sign many": "forever(lambda: signer.sign_many(many, threads=2)); time.sleep(0.05)",
    "daemon threads sign": "[forever(signer.cancel_all_orders) for _ in range(3)]; time.sleep(0.05)",
    "a thread opens and closes keys": (
        "forever(lambda: Signer(Keypair.generate()).keypair.close()); time.sleep(0.05)"
    ),
    "a thread goes on": "threading.Thread(target=lambda: signer.sign_many(many)).start()",
    "sys.exit in a thread's way": "forever(signer.cancel_all_orders); sys.exit(0)",
}

SUBINTERPRETERS = """
import sys, threading
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
import pacifica_fast
signer = pacifica_fast.Signer(pacifica_fast.Keypair.from_seed(bytes(32)), prepared=4)
INSIDE = '''
import sys
sys.path[:0] = %r
try:
    import pacifica_fast
except ImportError as error:
    assert "subinterpreter" in str(error), error
else:
    raise SystemError("it was imported")
''' % (sys.path,)
for number in range(int(sys.argv[1])):
    own_gil = number % 2 == 0
    if sys.version_info >= (3, 13):
        interpreter = interpreters.create("isolated" if own_gil else "legacy")
    else:
        interpreter = interpreters.create(isolated=own_gil)
    failure = interpreters.run_string(interpreter, INSIDE)
    assert failure is None, failure
    interpreters.destroy(interpreter)
    signer.cancel_order("BTC", order_id=1)
"""


def run_python(*arguments: str, seconds: float) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a fresh interpreter; -1 if it had to be killed."""
    path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    # CPython 3.12 warns of forks beside threads. They are what this is about.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", *arguments]
    try:
        done = subprocess.run(
            command,
            cwd=TESTS.parent,
            env=os.environ | {"PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        return -1, str(late.stdout or ""), f"not gone after {seconds:.0f} s"
    return done.returncode, done.stdout, done.stderr


def say(tried: str, times: str, wrong: str) -> bool:
    """A row. True if nothing was wrong."""
    if wrong:
        print(wrong[-SHOWN:], flush=True)
    evidence(tried, times, wrong.strip().splitlines()[-1][:100] if wrong else NOTHING)
    return not wrong


def race(scenario: str, seconds: float) -> bool:
    status, out, err = run_python("-m", "proof.racing", scenario, str(seconds), seconds=seconds + PATIENCE)
    what = str(SCENARIOS[scenario].__doc__)
    if status != 0 or err:
        return say(what, "", f"{out}{err}\nexit status {status}")
    tally = json.loads(out)
    shown = tally["rounds"] > 0 and tally["signed"] > 0 and tally["refused"] > 0
    times = f"{tally['rounds']:,} times; {tally['signed']:,} calls did it, {tally['refused']:,} were refused"
    return say(what, times, "" if shown else "nothing was tried")


def exits(seconds: float) -> bool:
    rounds = max(1, round(seconds / 4))
    wrong = ""
    for program in [BEFORE + ending for ending in EXITS.values()] * rounds:
        status, out, err = run_python("-c", program, seconds=EXITED)
        if (status, out, err) != (0, "", ""):
            wrong += f"{program}\n{out}{err}\nexit status {status}\n"
    return say(
        f"The interpreter exits while {', '.join(list(EXITS)[:-1])}.", f"{rounds * len(EXITS)} exits", wrong
    )


def subinterpreters(seconds: float) -> bool:
    count = max(4, round(seconds))
    tried = "Import in subinterpreters, with a GIL of their own and without, is refused."
    status, out, err = run_python("-c", SUBINTERPRETERS, str(count), seconds=PATIENCE)
    return say(tried, f"{count} interpreters", f"{out}{err}\nexit status {status}" if status or err else "")


def duplex(seconds: float) -> bool:
    tried = "TLS in both directions at once: six threads send, market data floods in."
    status, out, err = run_python(STRESS, "--seconds", str(seconds), seconds=seconds + PATIENCE)
    counts = dict(line.split(maxsplit=1) for line in out.splitlines())
    times = f"{int(counts.get('sent', 0)):,} requests, {int(counts.get('received', 0)):,} messages"
    return say(tried, times, f"{out}{err}\nexit status {status}" if status else "")


def duplex_notices(seconds: float) -> bool:
    """Without turns it breaks within seconds, and that must be seen; more often than not, at the least."""
    for attempt in range(1, 4):
        status, _, _ = run_python(STRESS, "--without-turns", "--seconds", "5", seconds=seconds + PATIENCE)
        if status != 0:
            return say("The same without taking turns: it breaks, and is seen to.", f"attempt {attempt}", "")
    evidence("The same without taking turns", "", f"{NOT_RUN}: this machine let them by each time")
    return True


CHECKS: dict[str, Callable[[float], bool]] = {
    "exits": exits,
    "subinterpreters": subinterpreters,
    "duplex": duplex,
    "duplex control": duplex_notices,
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m proof.races", description="All at the same time.")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each (%(default)s)")
    names = [*SCENARIOS, *CHECKS]
    parser.add_argument("--only", nargs="+", default=names, choices=names, metavar="NAME")
    args = parser.parse_args(arguments)
    clean = [
        race(name, args.seconds) if name in SCENARIOS else CHECKS[name](args.seconds) for name in args.only
    ]
    return 0 if all(clean) else 1


if __name__ == "__main__":
    sys.exit(main())
