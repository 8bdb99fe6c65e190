# SPDX-License-Identifier: MIT
"""Nothing is built."""

from __future__ import annotations

__all__ = ["cythonize"]


def cythonize(*sources: object, **options: object) -> list[object]:
    """No extension modules."""
    return []
