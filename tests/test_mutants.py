# SPDX-License-Identifier: MIT
"""The mutators change what they should and nothing else; fates are told apart; survivors need a reason."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

import pytest
from mutants import c_source, python_source
from mutants.c_tests import CSRC, TESTS_OF, CBench, Programs
from mutants.mutant import Fate, Mutant
from mutants.run import Survivors, all_mutants, settled, try_all
from proof.builds import compiler

C = """
#define LIMIT 3 /* not 4 */
static int
few( const char *text, int n ) {
  // n < 5
  if( n < 7 && *text != '1' ) {
    count( "8 < 9" );
    return PF_ERR_TEXT;
  }
  int const more = n * 2;
  return more;
}
"""
PYTHON = '''
def few(text: int | None, n: int = 3) -> bool:
    """Not 4."""
    if text is None and n < 5:
        raise ValueError("fewer than 6")
    self.last = n
    return f"{n + 1}" == text
'''


def changes(mutants: Iterable[Mutant]) -> list[str]:
    return [mutant.change for mutant in mutants]


def test_c_is_changed_in_its_code_alone() -> None:
    assert changes(c_source.mutants_of("few.c", C)) == [
        "n < 7 && *text != '1' -> !( n < 7 && *text != '1' )",
        "< -> <=",
        "7 -> 8",
        "&& -> ||",
        "!= -> ==",
        'count( "8 < 9" ) -> (void)0',
        "PF_ERR_TEXT -> PF_OK",
        "* -> +",
        "2 -> 3",
    ]


def test_python_is_changed_in_its_code_alone() -> None:
    mutants = list(python_source.mutants_of("few.py", PYTHON))
    assert changes(mutants) == [
        "3 -> 4",
        "text is None and n < 5 -> not (text is None and n < 5)",
        "and -> or",
        "is -> is not",
        "< -> <=",
        "5 -> 6",
        'raise ValueError("fewer than 6") -> pass',
        "self.last = n -> pass",
        'return f"{n + 1}" == text -> return None',
        "== -> !=",
    ]
    for mutant in mutants:
        ast.parse(mutant.applied(PYTHON))


def test_bytes_before_a_place_are_no_columns() -> None:
    text = 'def wait():\n    return "µs", 1 < 2\n'
    (_, mutant, *_) = python_source.mutants_of("wait.py", text)
    assert mutant.applied(text) == 'def wait():\n    return "µs", 1 <= 2\n'


def test_a_mutant_says_where_it_is() -> None:
    mutant = next(one for one in c_source.mutants_of("few.c", C) if one.change == "2 -> 3")
    assert mutant.line == "int const more = n * 2;"
    assert mutant.line_number(C) == C.split("\n").index("  int const more = n * 2;") + 1
    assert mutant.applied(C) == C.replace("n * 2", "n * 3")


@pytest.mark.parametrize("kind", ["c", "python"])
def test_there_are_mutants_of_every_file(kind: str) -> None:
    files = {mutant.file for mutant in all_mutants(kind)}
    assert len(files) >= 4
    assert len(all_mutants(kind)) > 1000


def of(line: str) -> Mutant:
    return Mutant("few.c", 0, 1, "<=", line, "<")


def test_what_survives_needs_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mutants.run.FATES", tmp_path / "fates.jsonl")
    listed = tmp_path / "survivors.toml"
    listed.write_text(
        '[[survivor]]\nfile = "few.c"\nline = "explained"\nchanges = ["< -> <="]\nwhy = "they are equal"\n'
        '[[survivor]]\nfile = "few.c"\nline = "gone"\nchanges = ["< -> <="]\nwhy = "it was"\n'
    )
    survivors = Survivors(listed)
    mutants = [of("explained"), of("unexplained"), of("killed")]

    def tried(mutant: Mutant) -> tuple[Fate, str]:
        return (Fate.KILLED if mutant.line == "killed" else Fate.SURVIVED), "a test"

    tally = try_all(mutants, [tried, tried], float("inf"), survivors)
    assert tally.fates == {Fate.SURVIVED: 2, Fate.KILLED: 1}
    assert tally.explained == 1
    assert tally.unexplained == [mutants[1]]
    assert survivors.never_met() == ["few.c: gone: < -> <="]
    assert try_all(mutants, [tried], 0.0, survivors).fates == {}
    assert settled(mutants) == {mutants[2]: Fate.KILLED}  # a run that goes on tries the others again


def test_every_file_and_every_test_of_the_core_is_used() -> None:
    files = {Path(mutant.file).stem.removeprefix("pf_") for mutant in all_mutants("c")}
    tests = {test for file in files for test in TESTS_OF[file]}
    assert {source.stem for source in (CSRC / "tests").glob("test_*.c")} <= tests
    assert {f"replay_{corpus.stem}" for corpus in (CSRC / "fuzz" / "corpus").glob("*.hex")} <= tests


def test_each_reason_is_of_a_mutant_that_there_is() -> None:
    survivors = Survivors()
    for mutant in all_mutants("c") + all_mutants("python"):
        survivors.explained(mutant)
    assert survivors.never_met() == []


@pytest.mark.skipif(compiler() is None, reason="needs a C compiler")
def test_fates_of_the_core_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that a test must see, one that none could, one that is none; and without its tests it survives."""
    monkeypatch.setattr("mutants.c_tests.FORMS", {"": ()})
    bench = CBench.built(tmp_path / "bench")
    programs = Programs(tmp_path, bench.core)
    file = "csrc/pf_frame.c"
    text = (bench.home / file).read_text(encoding="utf-8")

    def fate(old: str, new: str) -> Fate:
        at = text.index(old)
        return bench.try_mutant(Mutant.of(file, text, at, at + len(old), new), programs, python=False)[0]

    assert fate("bytes[i] ^= mask[i % PF_MASK_SZ]", "(void)0") is Fate.KILLED
    assert fate("i += 8 )", "i += 4 + 4 )") is Fate.SAME
    assert fate("bytes[i] ^=", "bytes[i] ^^") is Fate.INVALID
    monkeypatch.setitem(TESTS_OF, "frame", ("test_send",))
    assert fate("bytes[i] ^= mask[i % PF_MASK_SZ]", "(void)0") is Fate.SURVIVED
    assert (bench.home / file).read_text(encoding="utf-8") == text
