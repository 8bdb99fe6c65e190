# SPDX-License-Identifier: MIT
"""Where these modules are: ``benchmarks`` in a checkout, ``pacifica_fast._benchmarks`` in a wheel."""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["CHECKOUT", "PACKAGE"]

PACKAGE: Final = __name__.rpartition(".")[0]

_ABOVE = Path(__file__).parents[1]
CHECKOUT: Final = _ABOVE if (_ABOVE / "csrc").is_dir() else None
"""Where child processes start, so that they measure the checkout; None: wherever we are."""
