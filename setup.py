# SPDX-License-Identifier: MIT
"""Everything declarative is in pyproject.toml; this adds the C core, and archives that can be made again.

The same sources make the same bytes, whoever builds them, when and where: docs/supply-chain.md.

``PACIFICA_FAST_EXTENSION``, read at build time, says whether the C core is compiled:

- ``auto``, the default: if there is a compiler that can. If not, the package is built without, and says
  so here and whenever it is imported: docs/platforms.md. What does not compile then is an error.
- ``yes``: always. Releases, CI and ``make`` say so.
- ``no``: never.
"""

from __future__ import annotations

import gzip
import importlib.util
import io
import os
import platform
import sys
import sysconfig
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from setuptools import Distribution, Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

FIRST_TIME_OF_ZIP = 315_532_800  # 1980; a wheel is a zip file, and can name nothing earlier


def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """The same entry, whoever packed it, when, and under which umask."""
    member.mtime = int(os.environ.get("SOURCE_DATE_EPOCH", FIRST_TIME_OF_ZIP))
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    member.pax_headers = {}
    return member


def pack_again(archive: Path) -> None:
    """The same files in an order that no file system decides."""
    packed = io.BytesIO()
    with (
        tarfile.open(archive) as old,
        gzip.GzipFile("", "wb", fileobj=packed, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old, key=lambda member: member.name):
            new.addfile(anonymous(member), old.extractfile(member) if member.isfile() else None)
    archive.write_bytes(packed.getvalue())


class Sdist(sdist):
    """setuptools packs an sdist with the time, the owner and the mode of each file."""

    def make_distribution(self) -> None:
        super().make_distribution()
        for archive in map(Path, self.archive_files):
            if archive.name.endswith(".tar.gz"):
                pack_again(archive)


BUILD_SCRIPT = "csrc/build_native.py"
SWITCH = "PACIFICA_FAST_EXTENSION"
WITHOUT = f"""
*** pacifica_fast is built WITHOUT its C core: there is no C compiler that can ({{reason}}).
*** It will sign in Python: a cancel takes about 3 times as long, nothing can be prepared, and keys are
*** not wiped from memory. With a compiler and the headers of Python, install it again;
*** {SWITCH}=yes makes this an error.
"""

# What the core asks of a compiler beyond C99, and of Python.
PROBE = """
#include <Python.h>
#include <stdatomic.h>
_Static_assert( sizeof( _Atomic( unsigned long long ) ) == 8, "atomics" );
int pf_probe( void ) { static atomic_uint n; return (int)atomic_fetch_add( &n, 1U ); }
"""


def build_script() -> Any:
    """The module that csrc/build_native.py is; it needs cffi."""
    spec = importlib.util.spec_from_file_location("build_native", BUILD_SCRIPT)
    assert spec is not None  # noqa: S101
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def why_not_compiled() -> str:
    """Why no C compiler can compile for this Python; empty if one can."""
    if platform.python_implementation() != "CPython":
        return f"the core is for CPython, this is {platform.python_implementation()}"
    script = build_script()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.c")
        source.write_text(PROBE, encoding="utf-8")
        extension = Extension("probe", [str(source)], extra_compile_args=script.flags()[0])
        probe = build_ext(Distribution({"ext_modules": [extension]}))
        probe.build_lib = probe.build_temp = folder
        try:
            probe.ensure_finalized()
            probe.run()
        except Exception as error:  # of setuptools, distutils or the system, by platform
            return f"{type(error).__name__}: {error}"
    return ""


def is_compiled() -> bool:
    """Whether the C core is: as the environment says, or if it can be."""
    wish = os.environ.get(SWITCH, "auto")
    if wish not in ("auto", "no", "yes"):
        raise SystemExit(f"{SWITCH}: expected auto, yes or no, got {wish}")
    if wish == "auto" and (reason := why_not_compiled()):
        print(WITHOUT.format(reason=reason), file=sys.stderr, flush=True)
        return False
    return wish != "no"


# Measured in a checkout, not by "pacifica-fast bench".
NOT_IN_A_WHEEL = {"conftest", "observing", "reconnecting", "test_stages", "tuning", "two_links"}


class BuildPy(build_py):
    """Either the core or what stands in for it, never both: a core that is missing is an error."""

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        find = super().find_package_modules
        modules: list[tuple[str, str, str]] = find(package, package_dir)  # type: ignore[no-untyped-call]
        left_out = NOT_IN_A_WHEEL if package == "pacifica_fast._benchmarks" else ()
        return [module for module in modules if module[1] not in left_out]

    def finalize_options(self) -> None:
        super().finalize_options()
        if COMPILED:
            self.packages = [package for package in self.packages or [] if package != "pacifica_fast._pure"]

    def run(self) -> None:
        super().run()
        folder = Path(
            self.get_package_dir("pacifica_fast") if self.editable_mode else f"{self.build_lib}/pacifica_fast"
        )
        declared = folder / "_declared.py"
        if COMPILED:
            declared.unlink(missing_ok=True)
        else:
            build_script().declarations.emit_python_code(str(declared))

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        declared = [] if COMPILED else [os.path.join(self.build_lib, "pacifica_fast", "_declared.py")]
        return [*super().get_outputs(include_bytecode), *declared]


COMPILED = is_compiled()
# A free-threaded CPython before 3.15 has no stable ABI.
STABLE_ABI = COMPILED and not sysconfig.get_config_var("Py_GIL_DISABLED")

setup(
    cffi_modules=[f"{BUILD_SCRIPT}:ffibuilder"] if COMPILED else [],
    cmdclass={"build_py": BuildPy, "sdist": Sdist},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if STABLE_ABI else {},
)
