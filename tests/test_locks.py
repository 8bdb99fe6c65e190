# SPDX-License-Identifier: MIT
"""requirements/*.txt: they fit pyproject.toml, and what does not fit is seen."""

from __future__ import annotations

import re
from typing import Any

import pytest
from proof.locks import EXTRAS, FOLDER, NAMES, OPTIONAL, PEERS, check, load, read

DIGEST = "0" * 64
PROJECT: dict[str, Any] = {
    "build-system": {"requires": ["setuptools>=77"]},
    "project": {
        "name": "the-project",
        "dependencies": ["cffi>=1.17"],
        "optional-dependencies": {
            "test": ["pytest>=8", "uvloop; python_version < '3.12'"],
            "lint": ["the_project[test]", "ruff>=0.8"],
        },
    },
}


def line(requirement: str, digest: str = DIGEST) -> str:
    return f"{requirement} \\\n    --hash=sha256:{digest}\n"


CFFI, PYTEST, RUFF = line("cffi==2.1"), line("pytest==9.2"), line("ruff==0.9")
UVLOOP = line("uvloop==0.23 ; python_full_version < '3.12'")
FITTING = {
    "build": "# a comment\n" + line("setuptools==84.1"),
    "test": CFFI + PYTEST + UVLOOP,
    "lint": CFFI + PYTEST + UVLOOP + RUFF,
}


def test_ours_fit() -> None:
    assert check(*load()) == []


def test_there_is_no_other_file() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {f"{name}.txt" for name in NAMES}


def test_every_extra_is_in_a_file() -> None:
    pyproject, _ = load()
    assert pyproject["project"]["optional-dependencies"].keys() == {*OPTIONAL, *EXTRAS, *PEERS}


def test_ours_name_no_address() -> None:
    for text in load()[1].values():
        assert not re.search(r"://|@ |^-|\bindex", text, flags=re.MULTILINE)


def test_what_fits() -> None:
    assert check(PROJECT, FITTING) == []


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("build", line("setuptools==76"), "build.txt: setuptools>=77 is not met by 76 under Python 3.11"),
        ("test", CFFI + UVLOOP, "test.txt: pytest>=8 is missing under Python 3.11"),
        ("test", CFFI + PYTEST, "test.txt: uvloop; python_version < \"3.12\" is missing under Python 3.11"),
        ("lint", CFFI + RUFF + UVLOOP, "lint.txt: pytest>=8 is missing under Python 3.13"),
        ("test", FITTING["test"] + line("cffi>=2"), "test.txt: not one version: cffi>=2"),
        ("test", FITTING["test"] + line("six==1.*"), "test.txt: not one version: six==1.*"),
        ("test", FITTING["test"] + line("six @ file:///six"), "test.txt: not one version: six @ file:///six"),
        ("test", FITTING["test"] + "six==1.17\n", "test.txt: without SHA-256: six==1.17"),
        ("test", FITTING["test"] + line("six==1.17", "0" * 63), "test.txt: without SHA-256: six==1.17"),
        ("test", FITTING["test"] + "--find-links here\n", "test.txt: not a requirement: --find-links here"),
        ("test", PYTEST + UVLOOP + line("cffi==2.0"), "cffi is 2.0 and 2.1"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_seen(name: str, text: str, problem: str) -> None:
    assert problem in check(PROJECT, FITTING | {name: text})


def test_all_hashes_of_a_version_are_read() -> None:
    pins, problems = read(f"six==1.17 \\\n    --hash=sha256:{DIGEST} \\\n    --hash=sha256:{'1' * 64}\n")
    assert not problems
    assert [digest[-1] for digest in pins[0].hashes] == ["0", "1"]
