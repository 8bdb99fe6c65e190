# SPDX-License-Identifier: MIT
"""Other people's packages in tests: the real ones, as installed.

``make integrations`` installs them, and sets ``PACIFICA_FAST_PEERS=required``: there, one that cannot be
imported is a failure. Elsewhere its tests are skipped.
"""

from __future__ import annotations

import os
import warnings
from importlib import import_module
from typing import Any

import pytest

__all__ = ["peer"]


def peer(module: str) -> Any:
    """Import a module of a peer, typed or not; skip the tests of the module that asks if it is not here."""
    try:
        with warnings.catch_warnings():  # what others import is not for us to mend
            warnings.simplefilter("ignore")
            return import_module(module)
    except ImportError:
        if os.environ.get("PACIFICA_FAST_PEERS") == "required":
            raise
        return pytest.skip(f"{module} is not installed", allow_module_level=True)
