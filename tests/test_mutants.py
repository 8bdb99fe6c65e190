# SPDX-License-Identifier: MIT
"""The mutators change what they should and nothing else; fates are told apart; survivors need a reason."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mutants import c_source, python_source
from mutants.c_tests import CSRC, TESTS_OF, CBench, Programs
from mutants.lines import statement_at, telling
from mutants.mutant import Fate, Mutant
from mutants.python_tests import KnownTests, PythonBench
from mutants.run import Survivors, all_mutants, main, settled, try_all
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


def test_what_is_explained_is_tried_if_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = tmp_path / "survivors.toml"
    listed.write_text(
        '[[survivor]]\nfile = "few.c"\nline = "explained"\nchanges = ["< -> <="]\nwhy = "they are equal"\n'
    )
    tried: list[str] = []

    def try_it(mutant: Mutant) -> tuple[Fate, str]:
        tried.append(mutant.line)
        return (Fate.KILLED if mutant.line == "killed" else Fate.SURVIVED), "a test"

    monkeypatch.setattr("mutants.run.FATES", tmp_path / "fates.jsonl")
    monkeypatch.setattr("mutants.run.Survivors", lambda: Survivors(listed))
    monkeypatch.setattr("mutants.run.all_mutants", lambda kind: [of("explained"), of("killed")])
    monkeypatch.setattr("mutants.run.KINDS", {"python": (lambda home, jobs, files: [try_it], "mutants")})
    assert main(["--all"]) == 0
    assert tried == ["killed"]
    assert "0 explained, 1 more not tried" in capsys.readouterr().out
    assert main(["--all", "--explained"]) == 0
    assert sorted(tried) == ["explained", "killed", "killed"]
    assert '1 explained"' in capsys.readouterr().out


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


STATEMENTS = """\
from __future__ import annotations

@decorated
def few(
    n=3,
):
    "Not many."
    if (
        n < 4
    ):
        return (n +
            1)
    elif n < 5:
        n += 1
    try:
        n += 2
    finally:
        pass
    return [
        m for m in range(n)
    ]
"""


@pytest.mark.parametrize(
    ("piece", "line"),
    [("n=3", 4), ("n < 4", 8), ("return (n", 11), ("1)", 11), ("n < 5", 13), ("+= 2", 16), ("m for", 19)],
)
def test_the_statement_of_a_change(piece: str, line: int) -> None:
    start = STATEMENTS.index(piece)
    assert statement_at(STATEMENTS, start, start + len(piece))[0] == line


def test_the_statements_of_a_function_are_those_of_its_head_too() -> None:
    start = STATEMENTS.index("n=3")
    assert statement_at(STATEMENTS, start, start + 3) == [4, 7, 8, 15, 19]


def test_a_module_tells_its_statements(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    monkeypatch.setitem(sys.modules, "pacifica_fast._recorder", SimpleNamespace(tell=told.append))
    module: dict[str, Any] = {"decorated": lambda function: function}
    exec(telling(STATEMENTS), module)
    assert told == [4]
    assert module["few"].__doc__ == "Not many."
    assert module["few"](4) == [0, 1, 2, 3, 4, 5, 6]
    assert told == [4, 8, 13, 14, 15, 16, 18, 19]


FEW = """\
MOST = 3

def few(n):
    return n < MOST

def wait():
    while few(4):
        pass

def fork():
    return few(2)

def untested():
    return 1 + 1
"""
TESTS_OF_FEW = """\
import os, subprocess, sys
from pacifica_fast.few import few, fork, wait

def test_few():
    assert few(2)

def test_wait():
    wait()

def test_fork():
    if not (pid := os.fork()):
        os._exit(not fork())
    assert os.waitpid(pid, 0) == (pid, 0)

def test_in_a_process():
    subprocess.run([sys.executable, "-c", "from pacifica_fast import few; few.wait()"], check=True)
"""


def test_fates_of_a_module_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the tests that execute a line are asked, in whatever process; for so long and no longer."""
    file = "pacifica_fast/few.py"
    root = tmp_path / "root"
    project = {
        file: FEW,
        "pacifica_fast/__init__.py": "",
        "tests/conftest.py": "import pacifica_fast.few\n",  # as ours; pytest calls it wrong usage if it fails
        "tests/test_few.py": TESTS_OF_FEW,
    }
    for name, text in project.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    tests = KnownTests({file: ["test_few.py"]}, tmp_path)
    bench = PythonBench(tmp_path / "bench", tests, root)

    def fate(old: str, new: str) -> tuple[Fate, str]:
        start = FEW.index(old)
        return bench.try_mutant(Mutant.of(file, FEW, start, start + len(old), new))

    try:
        seen = tests.of(file, bench)
        few, waiting, fork, process = (
            f"tests/test_few.py::test_{name}" for name in ("few", "wait", "fork", "in_a_process")
        )
        assert seen.lines[4] == {few, waiting, fork, process}
        assert seen.lines[7] == {waiting, process}
        assert seen.lines[11] == {fork}
        assert set(seen.tests_of([1])) == set(seen.seconds)
        assert fate("return n < MOST", "return None")[0] is Fate.KILLED
        assert fate("few(2)", "few(3)") == (Fate.KILLED, fork)
        assert fate("few(4)", "few(2)") == (Fate.LATE, waiting)
        assert fate("few(4)", "few(5)")[0] is Fate.SURVIVED
        assert fate("MOST = 3", "MOST = 2")[0] is Fate.KILLED
        assert fate("MOST = 3", "MOST = ,") == (Fate.KILLED, "importing it")
        assert fate("1 + 1", "1 - 1") == (Fate.SURVIVED, "no test executes it")
        assert (bench.tree / file).read_text() == FEW
    finally:
        bench.close()
    monkeypatch.setattr(PythonBench, "look", None)
    assert KnownTests(tests.modules, tmp_path).of(file, bench) == seen
    bench.digest = "of something else"
    with pytest.raises(TypeError):
        KnownTests(tests.modules, tmp_path).of(file, bench)


def test_tests_that_fail_unchanged_are_no_judges(tmp_path: Path) -> None:
    (tmp_path / "root" / "tests").mkdir(parents=True)
    (tmp_path / "root" / "pacifica_fast").mkdir()
    (tmp_path / "root" / "pacifica_fast" / "few.py").write_text(FEW)
    (tmp_path / "root" / "tests" / "test_few.py").write_text("def test_few():\n    assert False\n")
    bench = PythonBench(
        tmp_path / "bench", KnownTests({"pacifica_fast/few.py": ["test_few.py"]}, tmp_path), tmp_path / "root"
    )
    try:
        with pytest.raises(RuntimeError, match=r"fail unchanged: tests/test_few\.py::test_few"):
            bench.look("pacifica_fast/few.py")
    finally:
        bench.close()
