# SPDX-License-Identifier: MIT
"""Runs tests again and again, each time in a fork of a process that has imported whatever they need.

    python -m mutants.forks

It takes jobs from standard input and answers each on standard output, a line of JSON each. To import pytest,
Hypothesis and the rest takes as long as most of the tests; only what may be changed is imported anew.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import pytest
from hypothesis import HealthCheck, Phase, settings

from mutants.lines import LINES, RECORDER
from mutants.mutant import Fate

__all__ = ["Forks", "Job"]

# What the tests import, as far as it is installed: nothing of ours.
IMPORTED = (
    *("aiohttp.web", "cryptography.hazmat.primitives.asymmetric.ed25519", "cryptography.x509", "cffi"),
    *("hypothesis.stateful", "hypothesis.strategies", "json", "nacl.bindings", "nacl.signing", "orjson"),
    *("picows", "prometheus_client", "pytest_asyncio.plugin", "redis", "solders.keypair", "uvloop"),
    *("websockets.client", "websockets.server", "multiprocessing.pool", "http.server", "statistics"),
)
TESTS = Path(__file__).parents[1]
PLUGINS = ("pytest_asyncio.plugin", "_hypothesis_pytestplugin")  # and none that happens to be installed
OPTIONS = ("-q", "-p", "no:cacheprovider", "-p", "no:faulthandler", "--assert=plain", "--hypothesis-seed=0")
LATE, KILLED, NONE = 1, 3, 4  # exit statuses of a fork; faulthandler's is 1


@dataclass(frozen=True, slots=True)
class Job:
    """``files`` are the test files; of their tests, all, or those of ``limits`` in its order: seconds,
    after which one counts as a failure. ``first`` is to stop at the first that fails.

    ``results`` is a file for what became of each, ``lines`` one for what a module tells of itself.
    """

    files: Sequence[str]
    results: str
    limits: dict[str, float] = field(default_factory=dict)
    first: bool = False
    lines: str = ""


# In the fork.


class _Chosen:
    """The tests of the job alone, and none for ever."""

    START = 120.0  # s for whatever comes before the first test

    def __init__(self, job: Job) -> None:
        self._limits = job.limits
        self._devnull = open(os.devnull, "w")  # noqa: SIM115  # until the end
        self._limit(self.START)

    def _limit(self, seconds: float) -> None:
        faulthandler.dump_traceback_later(seconds, exit=True, file=self._devnull)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self._limits:
            places = {test: place for place, test in enumerate(self._limits)}
            items[:] = sorted(
                (item for item in items if item.nodeid in places), key=lambda item: places[item.nodeid]
            )

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._limit(self._limits.get(nodeid, 600.0))


class _Results:
    """Which test began, and how it ended, if it did: written at once, since the process may end any time."""

    def __init__(self, path: str) -> None:
        self._out = open(path, "a", encoding="utf-8")  # noqa: SIM115
        self._began = 0.0
        self._passed = True

    def _tell(self, **facts: Any) -> None:
        self._out.write(json.dumps(facts) + "\n")
        self._out.flush()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._began, self._passed = time.monotonic(), True
        self._tell(test=nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._passed = self._passed and not report.failed

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._tell(test=nodeid, seconds=time.monotonic() - self._began, passed=self._passed)


class _Now:
    """Tells the recorder which test runs."""

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        if RECORDER in sys.modules:
            sys.modules[RECORDER].now(nodeid)


def _work(job: Job) -> int:
    settings.register_profile(
        "mutants",
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.reuse, Phase.generate),  # the smallest failure is of no interest
    )
    plugins: list[object] = [_Results(job.results), _Chosen(job)]
    if job.lines:
        os.environ[LINES] = job.lines
        plugins.append(_Now())
    stop = ("-x",) if job.first else ()
    status = pytest.main([*OPTIONS, *stop, "--hypothesis-profile=mutants", *job.files], plugins=plugins)
    # A usage error is a conftest that cannot be imported: that tests are there, `look` has seen.
    ran = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED)
    if status in (*ran, pytest.ExitCode.USAGE_ERROR):
        return KILLED if status else 0
    return NONE


def _fork(job: Job) -> int:
    pid = os.fork()
    if pid:
        _, status = os.waitpid(pid, 0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # whatever it started goes with it
        return os.waitstatus_to_exitcode(status)
    status = NONE
    try:
        os.setsid()
        for number in (0, 1, 2):
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
        os.environ |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": ",".join(PLUGINS)}
        status = _work(job)
    finally:
        os._exit(status)


def _import(names: Iterable[str]) -> None:
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError:
            continue


def main() -> None:
    _import(IMPORTED)
    gc.freeze()  # a fork need not look at it again
    answers = os.dup(1)
    with contextlib.suppress(BrokenPipeError):  # whoever asked is gone
        for line in sys.stdin:
            os.write(answers, b"%d\n" % _fork(Job(**json.loads(line))))


# Whoever has work for it.


class Forks:
    """Such a process, that works in a copy of the project."""

    def __init__(self, tree: Path) -> None:
        path = os.pathsep.join([str(tree), str(tree / "tests"), str(TESTS)])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mutants.forks"],
            cwd=tree,
            env={name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
            | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._end = weakref.finalize(self, _end, self._process)
        self._lock = threading.Lock()

    def run(self, job: Job) -> Fate:
        """Raises ``RuntimeError`` if no test could be run, and not because of a failure."""
        with self._lock:
            to, of = _pipes(self._process)
            to.write(json.dumps(asdict(job)) + "\n")
            to.flush()
            status = int(of.readline() or NONE)
        if status == NONE:
            raise RuntimeError(f"no tests in {', '.join(job.files)}")
        return {0: Fate.SURVIVED, LATE: Fate.LATE}.get(status, Fate.KILLED)

    def close(self) -> None:
        """End the process. Idempotent."""
        self._end()


def _pipes(process: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


def _end(process: subprocess.Popen[str]) -> None:
    for pipe in _pipes(process):
        pipe.close()
    process.wait()


if __name__ == "__main__":
    main()
