# SPDX-License-Identifier: MIT
"""The Python fuzz targets on their corpora, and on bytes out of nowhere; ``make fuzz`` goes on from there."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz.corpus import C_CORPORA, PYTHON_CORPORA, inputs, keep, unpack
from fuzz.run import PLANTED
from fuzz.targets import ESCAPES, TARGETS
from hypothesis import given
from hypothesis import strategies as st
from proof.builds import CSRC


@pytest.mark.parametrize("name", TARGETS)
def test_corpus(name: str) -> None:
    known = inputs(PYTHON_CORPORA / f"{name}.hex")
    assert known
    for one in known:
        TARGETS[name](one)


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.binary(max_size=200))
def test_anything(name: str, data: bytes) -> None:
    TARGETS[name](data)


def test_every_target_says_what_may_escape() -> None:
    assert ESCAPES.keys() == TARGETS.keys()


def test_corpora_are_small() -> None:
    sizes = [path.stat().st_size for folder in (C_CORPORA, PYTHON_CORPORA) for path in folder.iterdir()]
    assert sum(sizes) < 400_000


def test_a_corpus_is_kept_as_it_was(tmp_path: Path) -> None:
    keep(tmp_path / "x.hex", [b"", b"\x00\xff", b"a", b"a"])
    assert inputs(tmp_path / "x.hex") == [b"", b"a", b"\x00\xff"]
    unpack(tmp_path / "x.hex", tmp_path / "x")
    assert sorted(path.read_bytes() for path in (tmp_path / "x").iterdir()) == [b"", b"\x00\xff", b"a"]


def test_what_is_planted_fits_the_source() -> None:
    """Each fault is in a text that the source has once."""
    for change in PLANTED.values():
        assert (CSRC / change.file).read_text(encoding="utf-8").count(change.old) == 1, change
