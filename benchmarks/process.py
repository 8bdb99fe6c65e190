# SPDX-License-Identifier: MIT
"""Experiments on whole processes: what importing costs, and whether memory stays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from .experiment import Experiment, Recorder
from .measure import in_turn
from .place import CHECKOUT
from .results import Round

OURS, DEPENDENCIES = "import pacifica_fast", "import nacl.bindings, orjson, websockets.client"
IMPORTS = (
    OURS,
    DEPENDENCIES,
    "import pacifica_fast.asyncio",
    "import pacifica_fast, pacifica_fast.sync",
    "import solders.keypair, base58, websockets",
    "import ccxt.pro",
)


def _child(code: str, *args: str) -> str:
    """What a fresh interpreter prints; raises ``CalledProcessError``."""
    return subprocess.run(
        [sys.executable, "-c", code, *args],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def _import(statement: str) -> int:
    code = f"from time import perf_counter_ns as now; start = now(); {statement}; print(now() - start)"
    return int(_child(code))


def _imports(recorder: Recorder) -> None:
    possible = []
    for statement in IMPORTS:
        try:
            _import(statement)  # and the files are in the page cache
            possible.append(statement)
        except subprocess.CalledProcessError:
            recorder.skip(statement, "not built yet" if "pacifica_fast" in statement else "not installed")
    for number in recorder.rounds():
        recorder.save({statement: [_import(statement)] for statement in in_turn(possible, number)})


GROWTH = """
import sys
from pacifica_fast import Keypair, Signer

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

signer = Signer(Keypair.from_seed(bytes(range(1, 33))), prepared=int(sys.argv[2]))
cancel = signer.cancel_order
def some(count):
    for number in range(count):
        cancel("BTC", order_id=number)
some(20_000)  # by then whatever is kept is kept
before = resident()
some(int(sys.argv[1]))
print(resident() - before)
"""


def _memory(recorder: Recorder) -> None:
    requests = 10_000_000 if recorder.scale.long else 200_000
    recorder.fact("requests", f"{requests:,}")
    if not Path("/proc/self/statm").exists():
        recorder.skip("resident memory", "no /proc here")
        return
    for _ in recorder.rounds():
        samples: Round = {}
        for name, prepared in (("deterministic", 0), ("prepared", 1024)):
            samples[name] = [float(_child(GROWTH, str(requests), str(prepared)))]
        recorder.save(samples)


def experiments() -> list[Experiment]:
    """All of this file."""
    return [
        Experiment(
            "import", "what importing costs", "Each in a fresh interpreter.", 10, 3.0, _imports, DEPENDENCIES
        ),
        Experiment(
            "memory",
            "growth of resident memory",
            "After 20 000 requests to warm up; bytes over the requests that follow (10 million with --long).",
            1,
            10.0,
            _memory,
            unit="bytes",
        ),
    ]
