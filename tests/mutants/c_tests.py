# SPDX-License-Identifier: MIT
"""A place to try mutants of the C core in: programs are linked once, only the core is made anew.

The core is a shared library here, in the forms of ``csrc/tests/Makefile``: as it is, as on a kernel that
wipes nothing when a process forks, as without SSE2, under sanitizers, and with other threads let in where it
hurts most. A mutant costs the compilation of the sources it is in and, as a rule, a moment of the test that
sees it. What the C tests let by is tried with Python's.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mutants.mutant import Fate, Mutant

__all__ = ["CSRC", "TESTS_OF", "CBench", "Programs"]

ROOT = Path(__file__).parents[2]
CSRC = ROOT / "csrc"
FLAGS = ("-std=c11", "-O2", "-fPIC", "-pthread", "-w")
SANITIZED = "sanitized"
FORMS = {  # in the order in which they are tried
    "": (),
    "fallback": ("-DPF_TEST_NO_WIPEONFORK",),
    "portable": ("-U__SSE2__", "-U__BYTE_ORDER__"),
    SANITIZED: ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"),
    "interleaved": (
        *("-include", str(CSRC / "tests" / "interleave.h")),
        *("-DPF_INTERLEAVE=check_interleave", "-DPF_TEST_INTERLEAVED"),
    ),
}
TESTS_OF_FORM = {
    "fallback": ("test_pages", "test_random", "test_signer", "test_nonce", "test_armed"),
    "portable": ("test_json",),
    SANITIZED: (
        *("test_api", "test_base58", "test_cancel", "test_clock", "test_frame"),
        *("test_json", "test_random", "test_send"),
    ),
    "interleaved": ("test_nonce", "test_armed"),
}
_JSON = ("replay_json", "test_json", "replay_request", "test_api")
_KEYS = ("test_api", "test_signer", "test_nonce")
TESTS_OF = {  # file to the tests that may see a fault in it, the quick ones first
    "api": ("test_api", "replay_json", "replay_base58", "replay_request"),
    "armed": ("test_armed",),
    "base": (*("replay_base58", "replay_frame", *_JSON), *("test_frame", "test_random", "test_cancel")),
    "base58": ("replay_base58", "test_api", "replay_request", "test_base58"),
    "cancel": ("test_api", "replay_request", "test_frame", "test_cancel"),
    "clock": ("test_clock", "test_cancel", "test_armed"),
    "frame": ("replay_frame", "test_frame", "replay_request", "test_armed"),
    "gate": ("test_gate", "test_signer", "test_nonce"),
    "json": _JSON,
    "json_sort": _JSON,
    "json_text": _JSON,
    "nonce": ("test_nonce", "test_api"),
    "operation": ("test_api", "replay_request"),
    "pages": ("test_pages", "test_random", *_KEYS),
    "random": ("test_random", "test_frame", "test_cancel"),
    "send": ("test_send",),
    "signer": _KEYS,
    "sodium": _KEYS,
    "thread": ("test_gate", "test_nonce", "test_armed"),
}
# A source without these is the same in each form.
OWN_FORMS = ("PF_TEST_NO_WIPEONFORK", "PF_INTERLEAVE", '#include "pf_json_text.h"')
LATE = 5.0  # times a second more than it takes unchanged: machines are slow at times
BUSY = 3.0  # the same for the processor's time, which says sooner that a loop has no end
PYTHON_TESTS = {
    "pf_json.c": ("test_canonical.py", "test_sdk.py"),
    "pf_json_sort.c": ("test_canonical.py", "test_sdk.py"),
    "pf_json_text.h": ("test_canonical.py", "test_sdk.py", "test_native.py"),
    "pf_base58.c": ("test_base58.py", "test_keys.py"),
    "pf_frame.c": ("test_frame.py", "test_native.py", "test_native_armed.py"),
    "pf_armed.c": (
        "test_native_armed.py",
        "asyncio/test_armed.py",
        "sync/test_sync_armed.py",
        "test_memory.py",
    ),
    "pf_send.c": ("test_native_armed.py", "sync/test_sync_armed.py", "sync/test_sync_client.py"),
    "pf_operation.c": ("test_native.py", "test_signer.py"),
    "pf_cancel.c": ("test_native.py", "test_signer.py", "test_native_armed.py"),
    "pf_nonce.c": ("test_nonces.py", "test_nonce_proof.py", "test_memory.py"),
    "pf_signer.c": ("test_keys.py", "test_nonces.py", "test_sdk.py", "test_memory.py"),
    "pf_pages.c": ("test_keys.py", "test_nonces.py", "test_memory.py"),
    "pf_sodium.c": ("test_keys.py", "test_memory.py"),
    "pf_gate.c": ("test_keys.py", "test_races.py"),
    "pf_gate.h": ("test_keys.py", "test_races.py"),
}
ALL_OF_IT = ("test_native.py", "test_native_armed.py", "test_keys.py", "test_signer.py", "test_bulk.py")


def _compiler() -> str:
    return os.environ.get("CC", "cc")


def _cc(*arguments: str | Path) -> bool:
    command = [_compiler(), *FLAGS, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _made(*arguments: str | Path) -> None:
    if not _cc(*arguments):
        raise RuntimeError(f"this does not compile unchanged: {' '.join(map(str, arguments))}")


@dataclass(frozen=True, slots=True)
class Program:
    """A C test, and the form of the core that it is linked against."""

    form: str
    test: str
    sources: tuple[Path, ...]
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Usual:
    """What a program takes with a whole core, in seconds."""

    wall: float
    cpu: float


class Programs:
    """The C tests and the replays of what the fuzzers found, linked against a core that is found later."""

    def __init__(self, home: Path, core: Path) -> None:
        self._home = home
        self._whole = home / "whole"
        shutil.copytree(core, self._whole)
        self._usual: dict[Program, Usual] = {}
        self._lock = threading.Lock()
        self.all = list(self._tests()) + list(self._replays())

    def _tests(self) -> Iterator[Program]:
        for source in sorted((CSRC / "tests").glob("test_*.c")):
            for form in FORMS:
                if source.stem in TESTS_OF_FORM.get(form, (source.stem,)):
                    yield self._program(form, source.stem, (source,))

    def _replays(self) -> Iterator[Program]:
        fuzz = CSRC / "fuzz"
        for corpus in sorted((fuzz / "corpus").glob("*.hex")):
            sources = (fuzz / f"fuzz_{corpus.stem}.c", fuzz / "replay.c", fuzz / "naive_json.c")
            for form in FORMS.keys() & {"", SANITIZED}:
                yield self._program(form, f"replay_{corpus.stem}", sources, str(corpus))

    def _program(self, form: str, test: str, sources: tuple[Path, ...], *arguments: str) -> Program:
        return Program(form, test, sources, (str(self._home / f"{test}{form and '_'}{form}"), *arguments))

    def usual(self, program: Program) -> Usual:
        """What it takes with a whole core. Raises ``RuntimeError`` if it fails with that."""
        with self._lock:
            if program not in self._usual:
                self.make(program, CSRC, Path(program.command[0]))
                began = time.monotonic()
                fate, cpu = _timed(program.command, self._whole, 600.0)
                if fate is not Fate.SURVIVED:
                    raise RuntimeError(f"{Path(program.command[0]).name} fails unchanged")
                self._usual[program] = Usual(time.monotonic() - began, cpu)
            return self._usual[program]

    def make(self, program: Program, headers: Path, out: Path) -> None:
        linked = (f"-L{self._whole}", f"-lpf{program.form}")
        _made(*FORMS[program.form], f"-I{headers}", *program.sources, "-o", out, *linked)

    def ordered(self, file: str) -> list[Program]:
        """Those that may see a fault in a file, in the order of the forms, and quick ones first."""
        tests = TESTS_OF[Path(file).stem.removeprefix("pf_")]
        forms = list(FORMS)
        may_see = (program for program in self.all if program.test in tests)
        return sorted(may_see, key=lambda one: (forms.index(one.form), tests.index(one.test)))


def run(command: Sequence[str], core: Path, seconds: float, cwd: Path = ROOT) -> Fate:
    """Run a test. A crash is a failure like any other."""
    fate, _ = _timed(command, core, seconds, cwd=cwd)
    return fate


def _timed(
    command: Sequence[str], core: Path, wall: float, cpu: float = float("inf"), cwd: Path = ROOT
) -> tuple[Fate, float]:
    """The fate, and the processor's time that it took. ``wall``, ``cpu``: seconds it may take at most."""
    path = os.pathsep.join([str(cwd), str(cwd / "tests")])
    environment = os.environ | {
        "LD_LIBRARY_PATH": str(core),
        "PYTHONPATH": path,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    started = subprocess.Popen(
        command,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    late = threading.Timer(wall, _killed, [started.pid])
    late.start()
    try:
        if cpu < float("inf"):
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(started.pid, resource.RLIMIT_CPU, (int(cpu) + 1, int(cpu) + 2))
        _, status, used = os.wait4(started.pid, 0)
    finally:
        late.cancel()
        _killed(started.pid)  # whatever it started goes with it
    started.returncode = os.waitstatus_to_exitcode(status)
    taken = used.ru_utime + used.ru_stime
    if not started.returncode:
        return Fate.SURVIVED, taken
    by_time = started.returncode in (-signal.SIGKILL, -signal.SIGXCPU)
    return Fate.LATE if by_time else Fate.KILLED, taken


def _killed(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


class CBench:
    """One worker's copy of the core, in ``home``."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.csrc, self.core, self.tree = home / "csrc", home / "lib", home / "tree"
        self.sources = [self.csrc / source.name for source in sorted(CSRC.glob("pf_*.c"))]
        self._with_forms: dict[Path, bool] = {}
        self._included: dict[tuple[Path, ...], str] = {}

    @classmethod
    def built(cls, home: Path) -> CBench:
        """One with a whole core. Raises ``RuntimeError`` if that does not compile."""
        bench = cls(home)
        skipped = shutil.ignore_patterns("build", "tests", "fuzz", "__pycache__")
        shutil.copytree(CSRC, bench.csrc, ignore=skipped)
        bench.core.mkdir()
        for form in FORMS:
            for source in bench.sources:
                if bench._form_of(source, form) == form:
                    _made(*bench._compilation(source, form, bench._object(source, form)))
            bench._link(form)
        bench._make_package()
        return bench

    def copied(self, home: Path) -> CBench:
        """Another, for another worker."""
        shutil.copytree(self.home, home)
        return CBench(home)

    def _object(self, source: Path, form: str) -> Path:
        return self.home / f"{source.stem}_{self._form_of(source, form)}.o"

    def _form_of(self, source: Path, form: str) -> str:
        if source not in self._with_forms:
            text = source.read_text(encoding="utf-8")
            self._with_forms[source] = any(switch in text for switch in OWN_FORMS)
        return form if form == SANITIZED or self._with_forms[source] else ""

    def _compilation(self, source: Path, form: str, out: Path) -> tuple[str | Path, ...]:
        return (*FORMS[form], f"-I{self.csrc}", "-c", source, "-o", out)

    def _link(self, form: str, changed: dict[Path, Path] | None = None) -> None:
        """``changed``: source to the object that stands in for its own."""
        objects = [(changed or {}).get(source, self._object(source, form)) for source in self.sources]
        _made(*FORMS[form], "-shared", *objects, "-o", self.core / f"libpf{form}.so")

    def _make_package(self) -> None:
        """The package, with a ``_native`` that finds the core where the programs do."""
        skipped = shutil.ignore_patterns("build", "*.so", "__pycache__", ".*", "*.egg-info")
        for folder in ("pacifica_fast", "tests", "benchmarks", "csrc", "docs"):
            shutil.copytree(ROOT / folder, self.tree / folder, ignore=skipped)
        for file in ("pyproject.toml", "README.md"):
            shutil.copy(ROOT / file, self.tree / file)
        wrapper = self.home / "_native.c"
        emit = "import sys; from csrc.build_native import ffibuilder; ffibuilder.emit_c_code(sys.argv[1])"
        command = [sys.executable, "-c", emit, str(wrapper)]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        include = sysconfig.get_paths()["include"]
        module = self.tree / "pacifica_fast" / "_native.abi3.so"
        flags = ("-DPy_LIMITED_API=0x030b0000", f"-I{include}", f"-I{self.csrc}", "-shared")
        _made(*flags, wrapper, "-o", module, f"-L{self.core}", "-lpf")

    def try_mutant(self, mutant: Mutant, programs: Programs, python: bool = True) -> tuple[Fate, str]:
        """Its fate, and who decided it."""
        path = self.home / mutant.file
        whole = path.read_text(encoding="utf-8")
        path.write_text(mutant.applied(whole), encoding="utf-8")
        try:
            return self._tried(mutant, programs, python)
        finally:
            path.write_text(whole, encoding="utf-8")

    def _includes(self, file: str, *sources: Path) -> bool:
        if sources not in self._included:
            command = [_compiler(), *FLAGS, f"-I{self.csrc}", "-MM", *map(str, sources)]
            made = subprocess.run(command, capture_output=True, check=True)
            self._included[sources] = made.stdout.decode()
        return f"/{Path(file).name}" in self._included[sources]

    def _changed(self, mutant: Mutant, form: str) -> dict[Path, Path] | None:
        """The objects that are other now; None if one does not compile."""
        changed = {}
        for source in (source for source in self.sources if self._includes(mutant.file, source)):
            whole, own = self._object(source, form), self._form_of(source, form)
            out = whole.with_suffix(".changed")
            made_before = own != form  # with the first form, which has no name
            if not made_before and not _cc(*self._compilation(source, own, out)):
                return None
            if out.read_bytes() != whole.read_bytes():
                changed[source] = out
        return changed

    def _tried(self, mutant: Mutant, programs: Programs, python: bool) -> tuple[Fate, str]:
        other: dict[str, bool] = {}  # is this form of the core?
        for program in programs.ordered(mutant.file):
            form = program.form
            if form == SANITIZED and not any(other.values()):
                continue  # sanitizers know the column of each operator: their code differs always
            if form not in other:
                changed = self._changed(mutant, form)
                if changed is None:
                    return Fate.INVALID, "the compiler"
                other[form] = bool(changed)
                if changed:
                    self._link(form, changed)
            if other[form]:
                fate = self._tried_with(program, programs, mutant)
                if fate is not Fate.SURVIVED:
                    return fate, Path(program.command[0]).name
        if not any(other.values()):
            return Fate.SAME, "the compiler"
        return self._tried_from_python(mutant) if python and other[""] else (Fate.SURVIVED, "")

    def _tried_with(self, program: Program, programs: Programs, mutant: Mutant) -> Fate:
        usual = programs.usual(program)
        command = program.command
        if mutant.file.endswith(".h") and self._includes(mutant.file, *program.sources):
            changed = self.home / Path(command[0]).name  # it has parts of the core inlined
            programs.make(program, self.csrc, changed)
            command = (str(changed), *command[1:])
        fate, _ = _timed(command, self.core, LATE * (1 + usual.wall), BUSY * (1 + usual.cpu))
        return fate

    def _tried_from_python(self, mutant: Mutant) -> tuple[Fate, str]:
        names = PYTHON_TESTS.get(Path(mutant.file).name, ALL_OF_IT)
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
        fate = run([*command, *(f"tests/{name}" for name in names)], self.core, 600.0, self.tree)
        return fate, "the Python tests" if fate is not Fate.SURVIVED else ""
