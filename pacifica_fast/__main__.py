# SPDX-License-Identifier: MIT
"""``python -m pacifica_fast`` is the command ``pacifica-fast``."""

from __future__ import annotations

import sys

from pacifica_fast.cli import main

if __name__ == "__main__":
    sys.exit(main())
