# SPDX-License-Identifier: MIT
"""What runs under valgrind: ``python -m ctgrind.work LIBRARY ...``, one after the other."""

from __future__ import annotations

import ctypes
import sys

from proof.sodium import functions


def main() -> int:
    table = (ctypes.c_void_p * 8)(*list(functions())[:8])
    status = 0
    for path in sys.argv[1:]:
        library = ctypes.CDLL(path)
        library.pf_ctgrind.argtypes = [ctypes.c_void_p * 8]
        print(f"library: {path}", flush=True)
        status |= int(library.pf_ctgrind(table))
    return status


if __name__ == "__main__":
    sys.exit(main())
