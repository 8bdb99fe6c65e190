# SPDX-License-Identifier: MIT
"""The one cffi build script: compiles ``pacifica_fast._native`` from the C core.

Its cdef is the text between the "cdef" lines of ``pf_api.h`` and ``pf_gil.h``, the
same text that the C compiler reads, so that declarations cannot drift. Where nothing is
compiled, ``setup.py`` writes the same declarations, for Python, as ``pacifica_fast._declared``.

Environment, read at build time:

- ``PACIFICA_FAST_DEBUG=1``: no optimisation, debug symbols, assertions on.
- ``PACIFICA_FAST_SANITIZE=address,undefined``: build with these sanitizers.
- ``PACIFICA_FAST_COVERAGE=1``: record line coverage (gcov).
- ``PACIFICA_FAST_WERROR=1``: warnings are errors, as in CI.
- ``PACIFICA_FAST_MARCH=native``: passed to the compiler as ``-march``.
"""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).parent
SOURCES = sorted(path.name for path in HERE.glob("pf_*.c"))
HEADERS_WITH_CDEF = ("pf_api.h", "pf_gil.h")
WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wshadow"]


def cdef_of(header: str) -> str:
    """The declarations that a header marks for cffi."""
    text = (HERE / header).read_text(encoding="utf-8")
    marked = re.findall(r"/\* cdef begin \*/(.*?)/\* cdef end \*/", text, flags=re.DOTALL)
    if len(marked) != 1:
        raise ValueError(f"{header}: expected exactly one marked block, found {len(marked)}")
    # cffi evaluates no expressions in #define, and needs none: ours are plain integers.
    return re.sub(r"/\*.*?\*/", "", marked[0], flags=re.DOTALL)


def error_codes() -> str:
    """The PF_ERR_* codes of ``pf_base.h`` as a cdef."""
    text = (HERE / "pf_base.h").read_text(encoding="utf-8")
    codes = re.findall(r"^#define (PF_ERR_\w+) \(\s*(-\d+)\s*\)", text, flags=re.MULTILINE)
    if len(codes) != len(re.findall(r"^#define PF_ERR_", text, flags=re.MULTILINE)):
        raise ValueError("pf_base.h: an error code is not written as ( -n )")
    return "".join(f"#define {name} {value}\n" for name, value in codes)


# /experimental: the name is Microsoft's; without it <stdatomic.h> does not compile.
MSVC = ["/std:c11", "/experimental:c11atomics", "/O2", "/W3"]


def flags() -> tuple[list[str], list[str]]:
    """Compiler and linker flags, as the environment asks."""
    if sys.platform == "win32":  # only Microsoft's compiler makes what a Python of python.org loads
        return [*MSVC, *(["/WX"] if os.environ.get("PACIFICA_FAST_WERROR") else [])], []
    compile_args = ["-std=c11", "-fvisibility=hidden", *WARNINGS]
    link_args: list[str] = []
    if os.environ.get("PACIFICA_FAST_DEBUG"):
        compile_args += ["-O0", "-g", "-UNDEBUG"]
    else:
        compile_args += ["-O3", "-g0"]
    if sanitizers := os.environ.get("PACIFICA_FAST_SANITIZE"):
        compile_args += [
            f"-fsanitize={sanitizers}",
            "-fno-sanitize-recover=all",
            "-fno-omit-frame-pointer",
            "-g",
        ]
        link_args += [f"-fsanitize={sanitizers}"]
    if os.environ.get("PACIFICA_FAST_COVERAGE"):
        compile_args += ["--coverage"]
        link_args += ["--coverage"]
    if os.environ.get("PACIFICA_FAST_WERROR"):
        compile_args += ["-Werror"]
    if march := os.environ.get("PACIFICA_FAST_MARCH"):
        compile_args += [f"-march={march}"]
    return compile_args, link_args


# <stdlib.h> is for alloca, which cffi uses, and before 2.0 left to Python.h to declare.
# What cffi generates is not ours to keep clean; the pragmas follow our own headers.
PREAMBLE = """
#include <stdlib.h>
#include "pf_api.h"
#include "pf_armed.h"
#include "pf_base.h"
#include "pf_cancel.h"
#include "pf_clock.h"
#include "pf_signer.h"
#include "pf_thread.h"
#include "pf_gil.h"
#if defined( __GNUC__ ) || defined( __clang__ )
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wsign-compare"
#endif
"""

# A free-threaded CPython before 3.15 has no stable ABI.
STABLE_ABI = not sysconfig.get_config_var("Py_GIL_DISABLED")

CDEF = error_codes() + "".join(map(cdef_of, HEADERS_WITH_CDEF))

ffibuilder = FFI()
ffibuilder.cdef(CDEF)
ffibuilder.cdef("struct pf_template { ...; };\nstruct pf_clock { ...; };")  # Python only needs their size
_compile_args, _link_args = flags()
ffibuilder.set_source(
    "pacifica_fast._native",
    PREAMBLE,
    sources=[f"csrc/{name}" for name in SOURCES],
    include_dirs=["csrc"],
    libraries=["ws2_32"] if sys.platform == "win32" else [],
    extra_compile_args=_compile_args,
    extra_link_args=_link_args,
    py_limited_api=STABLE_ABI,
    define_macros=[("Py_LIMITED_API", "0x030b0000")] if STABLE_ABI else [],
)

declarations = FFI()
declarations.cdef(CDEF)
# pacifica_fast._pure keeps what they stand for, by number.
declarations.cdef("struct pf_template { uint64_t number; };\nstruct pf_clock { int64_t correction; };")
declarations.set_source("pacifica_fast._declared", None)
