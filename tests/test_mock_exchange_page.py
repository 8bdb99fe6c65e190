# SPDX-License-Identifier: MIT
"""docs/mock-exchange.md: its example runs, its tables are complete."""

from __future__ import annotations

import dataclasses
import inspect
import re
import subprocess
import sys
from pathlib import Path

from pacifica_fast.endpoint import Settings
from pacifica_fast.mock_faults import Faults, Weather
from pacifica_fast.session import Truth

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "mock-exchange.md").read_text(encoding="utf-8")
FATES = (DOCS / "fates.md").read_text(encoding="utf-8")

FOR_THE_EXCHANGE = {"before", "rejection", "action_fails", "reply", "handshake", "random"} | {
    "subscription_ignored",
    "update_lost",
}


def test_its_examples_run() -> None:
    said = [
        subprocess.run(
            [sys.executable, "-c", example], capture_output=True, text=True, timeout=120, check=True
        )
        for example in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    ]
    bot, rest = (done.stdout for done in said)
    assert "FateCounts(acked=" in bot
    assert "abort_after" in bot
    assert '"symbol":"BTC"' in rest


def test_its_tables_name_everything() -> None:
    for field in dataclasses.fields(Weather):
        assert f"`{field.name}`" in PAGE, field.name
    for name, _ in inspect.getmembers(Faults, inspect.isfunction):
        if not name.startswith("_") and name not in FOR_THE_EXCHANGE:
            assert f"`{name}(" in PAGE, name


def test_the_page_of_fates_names_the_truths_and_the_settings() -> None:
    for truth in Truth:
        assert f"`{truth.name}`" in FATES
    pages = FATES + (DOCS / "speed.md").read_text(encoding="utf-8")
    pages += (DOCS / "observability.md").read_text(encoding="utf-8")
    for setting in Settings.__annotations__:
        assert setting in pages or setting in ("timeout", "open_timeout", "max_size"), setting
