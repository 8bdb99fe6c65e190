# SPDX-License-Identifier: MIT
"""docs/integrations.md: its Python runs, in the order of the page, and prints what it says it prints."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from peer import peer

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "integrations.md").read_text(encoding="utf-8")

for module in (
    "ccxt",
    "hummingbot.connector.derivative.pacifica_perpetual.pacifica_perpetual_auth",
    "pacifica",
    "pacifica_sdk.async_.exchange",
    "requests",
):
    peer(module)


def test_its_code_runs(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 9
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, "integrations.md", "exec"), names)
    said = capsys.readouterr().out.splitlines()
    promised = re.findall(r"print\(.*\)  # (.+)$", "\n".join(blocks), re.MULTILINE)
    assert len(said) == len(promised) == 6
    version = str(getattr(peer("ccxt"), "__version__", ""))
    for line, promise in zip(said, promised, strict=True):
        assert line.startswith(promise.removesuffix(" ...").replace("4.5.64", version)), line


def test_extras_that_it_names_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = set(re.findall(r"pacifica-fast\[([\w-]+)\]", PAGE))
    assert named == {"bench", "ccxt", "pacifica-sdk", "pacifica-python-sdk"}
    assert named <= extras.keys()
