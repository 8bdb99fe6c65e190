# SPDX-License-Identifier: MIT
"""What ``make migrations`` takes from docs/integrations.md is all there; the ways themselves, it follows."""

from __future__ import annotations

from pathlib import Path

import pytest
from proof.migrations import FIRST, MIGRATIONS, PAGE, own_numbers, ratios, sections, surroundings


@pytest.mark.parametrize("name", MIGRATIONS)
def test_a_way_has_what_to_install_and_what_to_run(name: str) -> None:
    section = sections()[name]
    assert [command.split()[:2] for command in section.commands] == [["pip", "install"]]
    assert any("accelerate" in code or "sign_message" in code for code in section.code)
    compile("\n".join([*sections()[FIRST].code, *section.code]), name, "exec")


def test_every_library_of_the_page_has_a_way() -> None:
    blocks = PAGE.read_text(encoding="utf-8").split("\n\n")
    (table,) = [block for block in blocks if block.startswith("| you")]
    linked = {line.split("](")[0].lstrip("| [") for line in table.splitlines() if "](" in line}
    assert linked == {name[0].lower() + name[1:] for name in MIGRATIONS}


def test_own_numbers_end_with_the_measurement() -> None:
    *install, measure = own_numbers()
    assert install == ['pip install "pacifica-fast[bench]"']
    assert measure == "pacifica-fast bench --integrations"


def test_ratios_are_of_calls_in_a_row() -> None:
    hot = '{"name": "a", "how": "hot", "before_us": 100.4, "after_us": 40.0, "ratio": 2.51}'
    cold = hot.replace("hot", "cold").replace("2.51", "9")
    assert ratios(f'{{"ok": true, "integrations": [{hot}, {cold}]}}') == {"a": "100 → 40 µs, 2.5 ×"}


def test_an_environment_sees_its_own_packages_only(tmp_path: Path) -> None:
    around = surroundings(tmp_path, tmp_path / "dist", None)
    assert around["PYTHONPATH"] == ""
    assert around["PATH"].startswith(str(tmp_path / "bin"))
