# SPDX-License-Identifier: MIT
"""Only the main interpreter of a process may load the core.

cffi, under ours and PyNaCl's extension, keeps types and modules for the whole process. In an interpreter
with a GIL of its own CPython refuses to load it; in one that shares the GIL it loads, and in CPython 3.12.1
it corrupts memory. So this looks before anything of cffi is imported.
"""

from __future__ import annotations

from importlib import import_module

__all__ = ["refuse_subinterpreters"]

# CPython 3.13 renamed it. Both are built in; neither is public, nor is there a public way before 3.14.
_MODULES = ("_interpreters", "_xxsubinterpreters")


def _is_main() -> bool:
    """Whether this is the process's first interpreter; True where nothing can tell."""
    for name in _MODULES:
        try:
            interpreters = import_module(name)
            return bool(interpreters.get_current() == interpreters.get_main())
        except (ImportError, AttributeError):
            continue
    return True


def refuse_subinterpreters() -> None:
    """Raises ``ImportError`` in a subinterpreter, whether or not it shares the GIL."""
    if not _is_main():
        raise ImportError(
            "pacifica_fast does not work in a subinterpreter: cffi, which it and PyNaCl are built with, "
            "keeps state for the whole process; use threads or processes instead"
        )
