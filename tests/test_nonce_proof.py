# SPDX-License-Identifier: MIT
"""The proof of prepared nonces, in small: ``make prove`` does the same with two million signatures."""

from __future__ import annotations

from pathlib import Path

import pytest
from proof.book import Book
from proof.builds import Change, apply, build, compiler
from proof.nonces import SABOTAGED_SIGNATURES, SHARES, check, run, sabotaged
from proof.sabotage import SABOTAGES, Sabotage
from proof.scenarios import SCENARIOS

pytestmark = pytest.mark.skipif(compiler() is None, reason="needs a C compiler")

SIGNATURES = 400
FALLBACK_SCENARIOS = ("in flight", "os.fork", "fork from C", "clone from C")


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("released"), "core")


@pytest.fixture(scope="module")
def fallback(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("fallback"), "core", fallback=True)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_two_messages_with_one_point(released: Path, tmp_path: Path, scenario: str) -> None:
    check(scenario, run(released, Book(tmp_path / "book", 200_000), scenario, SIGNATURES))


@pytest.mark.parametrize("scenario", FALLBACK_SCENARIOS)
def test_nor_where_the_kernel_wipes_nothing(fallback: Path, tmp_path: Path, scenario: str) -> None:
    check(scenario, run(fallback, Book(tmp_path / "book", 200_000), scenario, SIGNATURES))


@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda sabotage: sabotage.what)
def test_sabotage_is_seen(tmp_path: Path, sabotage: Sabotage) -> None:
    wrong = sabotaged(tmp_path, 0, sabotage, SABOTAGED_SIGNATURES).wrong()
    assert sabotage.shown_by in wrong


def test_every_scenario_has_its_share() -> None:
    assert SHARES.keys() == SCENARIOS.keys()


@pytest.mark.parametrize("old", ["there is no such text", "\n"])
def test_a_sabotage_that_does_not_fit_is_an_error(tmp_path: Path, old: str) -> None:
    (tmp_path / "pf_nonce.c").write_text("text\nand\n")
    with pytest.raises(ValueError, match="not once"):
        apply(Change("pf_nonce.c", old, ""), tmp_path)
