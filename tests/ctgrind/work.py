# SPDX-License-Identifier: MIT
"""What runs under valgrind: ``python -m ctgrind.work LIBRARY``."""

from __future__ import annotations

import ctypes
import sys

from proof.sodium import functions


def main() -> int:
    library = ctypes.CDLL(sys.argv[1])
    library.pf_ctgrind.argtypes = [ctypes.c_void_p * 8]
    return int(library.pf_ctgrind((ctypes.c_void_p * 8)(*list(functions())[:8])))


if __name__ == "__main__":
    sys.exit(main())
