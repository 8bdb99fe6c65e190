# SPDX-License-Identifier: MIT
"""docs/observability.md: its Python runs against the mock exchange, its tables are complete."""

from __future__ import annotations

import dataclasses
import logging
import re
from pathlib import Path

import pytest
from observed import Bot
from prometheus_client.parser import text_string_to_metric_families

from pacifica_fast import Keypair, Signer
from pacifica_fast.mock_exchange import MockExchange
from pacifica_fast.prometheus import Exporter, exposition
from pacifica_fast.status import LINK_STATES, Status
from pacifica_fast.sync import connect

PAGE = (Path(__file__).parent.parent / "docs" / "observability.md").read_text(encoding="utf-8")


def test_its_code_runs(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 4
    keypair = Keypair.generate()
    logger = logging.getLogger("pacifica_fast")
    level = logger.level
    with (
        MockExchange(tls=False).in_thread() as exchange,
        connect(Signer(keypair), url=exchange.url, latency=True) as client,
    ):
        names: dict[str, object] = {"client": client}
        try:
            for block in blocks:
                exec(compile(block, "observability.md", "exec"), names)
        finally:
            logger.setLevel(level)
            exporter = names.get("exporter")
            if isinstance(exporter, Exporter):
                exporter.close()
    out = capsys.readouterr().out
    assert keypair.pubkey() in out
    assert "0 open" in out
    assert "µs to build" in out
    assert "http://127.0.0.1:" in out


def test_its_tables_name_everything() -> None:
    for field in dataclasses.fields(Status):
        assert f"`{field.name}`" in PAGE
    for state in LINK_STATES:
        assert f"`{state}`" in PAGE
    for family in text_string_to_metric_families(exposition(Bot()).decode()):
        name = family.name.removeprefix("pacifica_fast_")
        assert re.search(rf"`{name}(_total)?[`{{]", PAGE), name
