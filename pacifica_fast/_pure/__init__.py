# SPDX-License-Identifier: MIT
"""The functions of ``csrc/pf_api.h`` and ``csrc/pf_gil.h`` in Python, for where no C core was compiled.

``ffi`` and ``lib`` stand in for those of ``pacifica_fast._native``: the same names, bytes and error
codes, so that everything above is the same. PyNaCl signs; cffi reads and writes memory, which needs no
compiler.

What Python cannot do: it is slower; no nonce is prepared, every signature is deterministic; keys lie in
ordinary memory, where copies of them cannot be wiped; and how long decoding one takes depends on it.
"""

from __future__ import annotations

from typing import Any

from pacifica_fast._pure import (
    armed,
    base58,
    canonical,
    clock,
    frames,
    ids,
    keys,
    operations,
    requests,
    system,
)
from pacifica_fast._pure.memory import C, ffi

__all__ = ["WARNING", "ffi", "lib"]

# docs/platforms.md says how it was measured.
WARNING = (
    "pacifica_fast runs without its C core, which was not compiled when it was installed: a cancel takes "
    "about 4 times as long to build, nothing is prepared, and keys cannot be wiped from memory "
    "(docs/platforms.md)"
)

_MODULES = (armed, base58, canonical, clock, frames, ids, keys, operations, requests, system)


class _Lib:
    """The functions and constants by their names in C, and nothing else."""

    def __init__(self, members: dict[str, Any]) -> None:
        vars(self).update(members)

    def __dir__(self) -> list[str]:
        return list(vars(self))


def _members() -> dict[str, Any]:
    functions = {name: value for module in _MODULES for name, value in vars(module).items()}
    # Nothing here can give up the GIL: a twin that does so in C is the same function.
    return {
        name: getattr(C, name)
        if name.startswith("PF_")
        else functions.get(name) or functions[name.removesuffix("_detached")]
        for name in dir(C)
    }


lib: Any = _Lib(_members())
