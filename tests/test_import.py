# SPDX-License-Identifier: MIT
"""What ``import pacifica_fast`` loads, and what it leaves until asked for."""

from __future__ import annotations

import subprocess
import sys

# Each is slow to load or belongs to somebody who may never come.
NOT_LOADED = (
    "asyncio",
    "importlib.metadata",
    "pacifica_fast.cli",
    "pacifica_fast.demo",
    "pacifica_fast.integrations",
    "pacifica_fast.mock_exchange",
    "pacifica_fast.session",
    "pacifica_fast.tls",
    "ssl",
    "websockets",
)


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; before = set(sys.modules); {statement}; print(*(set(sys.modules) - before))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return set(output.split())


def test_import_loads_what_signing_needs_and_no_more() -> None:
    loaded = loaded_by("import pacifica_fast")
    assert "pacifica_fast.signer" in loaded
    assert loaded.isdisjoint(NOT_LOADED)


def test_clients_load_when_asked_for() -> None:
    loaded = loaded_by("import pacifica_fast.asyncio")
    assert {"asyncio", "ssl", "websockets", "pacifica_fast.session"} <= loaded
    assert loaded.isdisjoint({"pacifica_fast.cli", "pacifica_fast.mock_exchange", "pacifica_fast.sync"})
