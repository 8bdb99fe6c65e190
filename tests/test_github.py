# SPDX-License-Identifier: MIT
"""What GitHub shows to whoever reports something, and which job may write what."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

GITHUB = Path(__file__).parent.parent / ".github"
FORMS = sorted(path for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.name)
def test_a_form_is_not_sent_without_a_look_for_keys(form: Path) -> None:
    clean = form.read_text(encoding="utf-8").partition("id: clean\n")[2]
    assert re.search(r"label: There is no private key, seed or API key .*\n\s+required: true\n", clean)


@pytest.mark.parametrize("name", ["bug.yml", "slow.yml"])
def test_a_report_brings_what_doctor_says(name: str) -> None:
    form = (GITHUB / "ISSUE_TEMPLATE" / name).read_text(encoding="utf-8")
    assert "**Never paste a private key**" in form
    doctor = re.split(r"^  - ", form.partition("id: doctor\n")[2], flags=re.MULTILINE)[0]
    assert "`pacifica-fast doctor`" in doctor
    assert "required: true" in doctor


def test_there_is_no_way_round_the_forms() -> None:
    config = (GITHUB / "ISSUE_TEMPLATE" / "config.yml").read_text(encoding="utf-8")
    assert "blank_issues_enabled: false" in config


def test_whoever_publishes_the_site_runs_no_code_of_ours() -> None:
    jobs = re.split(r"\n  (?=\w+:\n)", (GITHUB / "workflows" / "docs.yml").read_text(encoding="utf-8"))
    writing = [job for job in jobs if "contents: write" in job]
    assert len(writing) == 1
    assert "actions/checkout" not in writing[0]
    assert "if: github.event_name == 'push'" in writing[0]
    assert not re.search(r"\b(make|python|pip|npm|bash)\b", writing[0].partition("steps:")[2])
