# SPDX-License-Identifier: MIT
"""The table of ``make prove``: nothing wrong may look like nothing found."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
from proof.__main__ import chosen, run_all, run_step, table, verdict
from proof.evidence import Evidence, evidence, evidence_in
from proof.steps import STEPS, Step

ROW = Evidence("seeds", "7 times")


def step(code: str, name: str = "one", needs: tuple[str, ...] = ()) -> Step:
    command = (sys.executable, "-c", code)
    return Step(name, command, command, needs)


SAYS = "from proof.evidence import evidence; evidence('seeds', '7 times')"


def test_rows_survive_the_way_through_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    evidence("größe | x", "1", 'a "finding"')
    output = "noise\n" + capsys.readouterr().out + "evidence without a row\n"
    assert evidence_in(output) == [Evidence("größe | x", "1", 'a "finding"')]


def test_a_step_that_found_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = run_all([step(SAYS)], True, tmp_path, 1)
    assert [(outcome.rows, outcome.failed) for outcome in outcomes] == [([ROW], False)]
    assert "| seeds | 7 times | nothing |" in table(outcomes, tmp_path)
    assert verdict(outcomes, strict=True) == 0
    assert "1 rows, nothing wrong, 0 not run" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("code", "rows"),
    [
        (SAYS + "; raise SystemExit(1)", [ROW]),
        (SAYS.replace("'7 times'", "'7 times', 'a key'"), [Evidence("seeds", "7 times", "a key")]),
        ("pass", []),  # shows nothing
        ("import os; os.abort()", []),
        ("raise ModuleNotFoundError", []),
    ],
)
def test_a_step_that_went_wrong(tmp_path: Path, code: str, rows: list[Evidence]) -> None:
    outcome = run_step(step(code), True, tmp_path)
    assert outcome.rows == rows
    assert verdict([outcome], strict=False) == 1


def test_what_is_not_there_is_not_run_and_says_so(tmp_path: Path) -> None:
    outcome = run_step(step(SAYS, needs=("no-such-tool",)), True, tmp_path)
    assert [row.found for row in outcome.rows] == ["not run: needs no-such-tool"]
    assert verdict([outcome], strict=False) == 0
    assert verdict([outcome], strict=True) == 1


def test_a_row_made_of_output_needs_that_output(tmp_path: Path) -> None:
    for known in STEPS:
        if known.row is not None:
            empty = Step("one", (sys.executable, "-c", "print('0 of it')"), None, row=known.row)
            outcome = run_step(empty, False, tmp_path)
            assert outcome.failed, known.name


def test_steps_are_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    names = [known.name for known in STEPS]
    assert len(names) == len(set(names))
    assert chosen([names[0]], short=False) == [STEPS[0]]
    assert all(known.short for known in chosen([], short=True))
    with pytest.raises(SystemExit, match="no such step: nothing"):
        chosen(["nothing"], short=False)
    for known in STEPS:
        assert shlex.join(known.command)
