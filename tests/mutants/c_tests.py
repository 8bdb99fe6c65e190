# SPDX-License-Identifier: MIT
"""A place to try mutants of the C core in: programs are linked once, only the core is made anew.

The core is a shared library here, in three forms as in ``csrc/tests/Makefile``: as it is, as on a kernel
that wipes nothing when a process forks, and with other threads let in where it hurts most. A mutant
costs the compilation of the sources it is in. What the C tests let by is tried with Python's.
"""

from __future__ import annotations

import contextlib
import os
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

__all__ = ["CBench", "Programs"]

ROOT = Path(__file__).parents[2]
CSRC = ROOT / "csrc"
FLAGS = ("-std=c11", "-O2", "-fPIC", "-pthread", "-w")
FORMS = {
    "": (),
    "fallback": ("-DPF_TEST_NO_WIPEONFORK",),
    "interleaved": (
        *("-include", str(CSRC / "tests" / "interleave.h")),
        *("-DPF_INTERLEAVE=check_interleave", "-DPF_TEST_INTERLEAVED"),
    ),
}
TESTS_OF_FORM = {
    "fallback": ("test_pages", "test_random", "test_signer", "test_nonce", "test_armed"),
    "interleaved": ("test_nonce", "test_armed"),
}
SLOW = ("signer", "nonce", "armed")
OWN_FORMS = ("PF_TEST_NO_WIPEONFORK", "PF_INTERLEAVE")  # a source without these is the same in each
LATE = 5.0  # times a second more than it takes unchanged: machines are slow at times
PYTHON_TESTS = {
    "pf_json.c": ("test_canonical.py", "test_sdk.py"),
    "pf_json_sort.c": ("test_canonical.py", "test_sdk.py"),
    "pf_json_text.h": ("test_canonical.py", "test_sdk.py", "test_native.py"),
    "pf_base58.c": ("test_base58.py", "test_keys.py"),
    "pf_frame.c": ("test_frame.py", "test_native.py", "test_native_armed.py"),
    "pf_armed.c": ("test_native_armed.py", "asyncio/test_armed.py", "sync/test_sync_armed.py"),
    "pf_send.c": ("test_native_armed.py", "sync/test_sync_armed.py", "sync/test_sync_client.py"),
    "pf_operation.c": ("test_native.py", "test_signer.py"),
    "pf_cancel.c": ("test_native.py", "test_signer.py", "test_native_armed.py"),
    "pf_nonce.c": ("test_nonces.py", "test_nonce_proof.py", "test_memory.py"),
    "pf_signer.c": ("test_keys.py", "test_nonces.py", "test_sdk.py", "test_memory.py"),
    "pf_pages.c": ("test_keys.py", "test_nonces.py", "test_memory.py"),
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
    command: tuple[str, ...]

    @property
    def name(self) -> str:
        return Path(self.command[0]).name


class Programs:
    """The C tests and the replays of what the fuzzers found, linked against a core that is found later."""

    def __init__(self, home: Path, core: Path) -> None:
        self._whole = home / "whole"
        shutil.copytree(core, self._whole)
        self._usual: dict[Program, float] = {}
        self._lock = threading.Lock()
        self.all = list(self._tests(home)) + list(self._replays(home))

    def _tests(self, home: Path) -> Iterator[Program]:
        for source in sorted((CSRC / "tests").glob("test_*.c")):
            for form, switches in FORMS.items():
                if source.stem in TESTS_OF_FORM.get(form, (source.stem,)):
                    program = home / f"{source.stem}{form and '_'}{form}"
                    _made(*switches, f"-I{CSRC}", source, "-o", program, f"-L{self._whole}", f"-lpf{form}")
                    yield Program(form, (str(program),))

    def _replays(self, home: Path) -> Iterator[Program]:
        fuzz = CSRC / "fuzz"
        for corpus in sorted((fuzz / "corpus").glob("*.hex")):
            program = home / f"replay_{corpus.stem}"
            sources = (fuzz / f"fuzz_{corpus.stem}.c", fuzz / "replay.c", fuzz / "naive_json.c")
            _made(f"-I{CSRC}", *sources, "-o", program, f"-L{self._whole}", "-lpf")
            yield Program("", (str(program), str(corpus)))

    def usual(self, program: Program) -> float:
        """How long it takes with a whole core, in seconds. Raises ``RuntimeError`` if it fails."""
        with self._lock:
            if program not in self._usual:
                began = time.monotonic()
                if run(program.command, self._whole, 600.0) is not Fate.SURVIVED:
                    raise RuntimeError(f"{program.name} fails unchanged")
                self._usual[program] = time.monotonic() - began
            return self._usual[program]

    def ordered(self, form: str, file: str) -> list[Program]:
        """Those of a form: the file's own test first, those that take seconds last."""
        own = Path(file).stem.split("_")[1]
        of_form = [program for program in self.all if program.form == form]
        return sorted(of_form, key=lambda one: (own not in one.name, any(slow in one.name for slow in SLOW)))


def run(command: Sequence[str], core: Path, seconds: float, cwd: Path = ROOT) -> Fate:
    """Run a test. A crash is a failure like any other."""
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
    try:
        return Fate.KILLED if started.wait(seconds) else Fate.SURVIVED
    except subprocess.TimeoutExpired:
        return Fate.LATE
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)  # whatever it started goes with it
        started.wait()


class CBench:
    """One worker's copy of the core, in ``home``."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.csrc, self.core, self.tree = home / "csrc", home / "lib", home / "tree"
        self.sources = [self.csrc / source.name for source in sorted(CSRC.glob("pf_*.c"))]
        self._with_forms: dict[Path, bool] = {}

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
        return form if self._with_forms[source] else ""

    def _compilation(self, source: Path, form: str, out: Path) -> tuple[str | Path, ...]:
        return (*FORMS[form], f"-I{self.csrc}", "-c", source, "-o", out)

    def _link(self, form: str, changed: dict[Path, Path] | None = None) -> None:
        """``changed``: source to the object that stands in for its own."""
        objects = [(changed or {}).get(source, self._object(source, form)) for source in self.sources]
        _made("-shared", *objects, "-o", self.core / f"libpf{form}.so")

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
        """Its fate, and who decided it. The core is whole again afterwards."""
        path = self.home / mutant.file
        whole = path.read_text(encoding="utf-8")
        path.write_text(mutant.applied(whole), encoding="utf-8")
        try:
            return self._tried(mutant, programs, python)
        finally:
            path.write_text(whole, encoding="utf-8")
            for form in FORMS:
                self._link(form)

    def _changed(self, mutant: Mutant, form: str) -> dict[Path, Path] | None:
        """The objects that are other now; None if one does not compile."""
        changed = {}
        for source in self.sources:
            if source.name != Path(mutant.file).name and mutant.file.endswith(".c"):
                continue
            whole = self._object(source, form)
            out = whole.with_suffix(".changed")
            if not _cc(*self._compilation(source, self._form_of(source, form), out)):
                return None
            if out.read_bytes() != whole.read_bytes():
                changed[source] = out
        return changed

    def _tried(self, mutant: Mutant, programs: Programs, python: bool) -> tuple[Fate, str]:
        same = True
        for form in FORMS:
            changed = self._changed(mutant, form)
            if changed is None:
                return Fate.INVALID, "the compiler"
            if not changed:
                continue
            same = False
            self._link(form, changed)
            for program in programs.ordered(form, mutant.file):
                fate = run(program.command, self.core, LATE * (1 + programs.usual(program)))
                if fate is not Fate.SURVIVED:
                    return fate, program.name
        if same:
            return Fate.SAME, "the compiler"
        return self._tried_from_python(mutant) if python else (Fate.SURVIVED, "")

    def _tried_from_python(self, mutant: Mutant) -> tuple[Fate, str]:
        names = PYTHON_TESTS.get(Path(mutant.file).name, ALL_OF_IT)
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
        fate = run([*command, *(f"tests/{name}" for name in names)], self.core, 600.0, self.tree)
        return fate, "the Python tests" if fate is not Fate.SURVIVED else ""
