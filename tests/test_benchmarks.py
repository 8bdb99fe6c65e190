# SPDX-License-Identifier: MIT
"""The machinery of the benchmarks: nothing measured is lost, and the report says what was measured.

No test here says how long anything takes.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as command
from benchmarks import draw, goals, page, tables
from benchmarks.axis import LogAxis, quantity, tick
from benchmarks.experiment import Experiment, Recorder, Scale, run
from benchmarks.measure import in_turn, quantile, ratio, timed_block
from benchmarks.results import MismatchError, Results
from benchmarks.ways import ARMED, ASYNCIO, BLOCKING, FLOOR, SDK, row

HEADER: dict[str, Any] = {
    "processor": "a <processor>",
    "cores": 2,
    "system": "Linux",
    "python": "CPython",
    "libraries": {"orjson": "3"},
    "commit": "abc",
    "date": "today",
    "scale": "full",
}


def experiment(measure: Callable[[Recorder], None], rounds: int = 5, key: str = "some") -> Experiment:
    return Experiment(key, key, "how", rounds, 0.1, measure)


def counting(recorder: Recorder) -> None:
    for number in recorder.rounds():
        recorder.save({"a": [float(number)]})


@pytest.mark.parametrize(
    "module", sorted(Path(command.__file__).parent.glob("*.py")), ids=lambda path: path.name
)
def test_imports_are_relative(module: Path) -> None:
    """In a wheel they are pacifica_fast._benchmarks, and there is no benchmarks."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            names.append(node.module or "")
        assert not [name for name in names if name.partition(".")[0] == "benchmarks"]


class WellFormed(HTMLParser):
    """Every element is closed, in order; scripts and everything from elsewhere are collected."""

    VOID = ("meta", "br", "!doctype")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.foreign: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag in ("script", "link", "img", "iframe"):
            self.foreign.append(tag)
        self.foreign += [f"{name}={value}" for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(text: str) -> WellFormed:
    parser = WellFormed()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    return parser


class TestStatistics:
    def test_a_quantile_is_a_value_that_was_measured(self) -> None:
        assert quantile([4, 1, 3, 2], 0.5) == 3
        assert quantile(range(1000), 0.999) == 999
        assert quantile([7.0], 0.99) == 7.0

    def test_a_ratio_is_taken_within_each_round(self) -> None:
        drifting = [[10.0, 10.0, 12.0], [20.0], [40.0]]
        half = [[5.0], [10.0, 10.0], [20.0]]
        found = ratio(drifting, half)
        assert (found.low, found.median, found.high) == (2.0, 2.0, 2.0)

    def test_a_round_without_calls_has_no_ratio(self) -> None:
        assert ratio([[1.0], [4.0]], [[], [2.0]]).median == 2.0
        assert math.isnan(ratio([], []).median)

    def test_every_second_round_goes_backwards(self) -> None:
        assert [list(in_turn("abc", number)) for number in (0, 1)] == [["a", "b", "c"], ["c", "b", "a"]]

    def test_every_call_is_timed(self) -> None:
        calls: list[None] = []
        assert len(timed_block(lambda: calls.append(None), 5)) == len(calls) == 5


class TestResults:
    def test_what_was_written_is_read_again(self, tmp_path: Path) -> None:
        file = tmp_path / "results.jsonl"
        results = Results(file, HEADER)
        results.append_round("x", {"a": [1.24, 2], "b": []})
        results.note("x", "facts", "n", "three")
        results.close()
        again = Results(file, None)
        again.close()
        assert again.header == HEADER
        assert again.row("x", "a") == [[1.2, 2]]
        assert again.row_names("x") == ["a", "b"]
        assert again.all_notes("facts") == [("x", "n", "three")]

    def test_a_line_that_was_cut_off_is_dropped(self, tmp_path: Path) -> None:
        file = tmp_path / "results.jsonl"
        results = Results(file, HEADER)
        results.append_round("x", {"a": [1]})
        results.append_round("x", {"a": [2]})
        results.close()
        file.write_text(file.read_text()[:-5])
        again = Results(file, HEADER, resume=True)
        assert again.row("x", "a") == [[1]]
        again.append_round("x", {"a": [3]})
        again.close()
        once_more = Results(file, None)
        once_more.close()
        assert once_more.row("x", "a") == [[1], [3]]

    @pytest.mark.parametrize("name", ["commit", "scale", "python"])
    def test_results_of_something_else_are_not_added_to(self, tmp_path: Path, name: str) -> None:
        Results(tmp_path / "r", HEADER).close()
        with pytest.raises(MismatchError, match=name):
            Results(tmp_path / "r", {**HEADER, name: "another"}, resume=True)

    def test_a_new_run_sets_the_old_one_aside(self, tmp_path: Path) -> None:
        file = tmp_path / "results.jsonl"
        old = Results(file, HEADER)
        old.append_round("x", {"a": [1]})
        old.close()
        new = Results(file, HEADER)
        new.close()
        before = Results(tmp_path / "results.before.jsonl", None)
        before.close()
        assert new.rounds("x") == []
        assert before.row("x", "a") == [[1]]


class TestRunning:
    def test_an_interrupted_run_loses_nothing_and_goes_on(self, tmp_path: Path) -> None:
        def interrupted(recorder: Recorder) -> None:
            for number in recorder.rounds():
                if number == 3:
                    raise KeyboardInterrupt
                recorder.save({"a": [float(number)]})

        results = Results(tmp_path / "r", HEADER)
        assert not run([experiment(interrupted)], results, Scale())
        results.close()
        again = Results(tmp_path / "r", HEADER, resume=True)
        assert again.row("some", "a") == [[0], [1], [2]]
        assert run([experiment(counting)], again, Scale())
        again.close()
        assert again.row("some", "a") == [[0], [1], [2], [3], [4]]

    def test_what_is_measured_is_not_measured_again(self, tmp_path: Path) -> None:
        results = Results(tmp_path / "r", HEADER)
        assert run([experiment(counting)], results, Scale())

        def never(recorder: Recorder) -> None:
            raise AssertionError("there is nothing to measure")

        assert run([experiment(never)], results, Scale())
        results.close()
        assert results.all_notes("failed") == []

    @pytest.mark.filterwarnings("default")
    def test_one_that_breaks_is_told_and_the_next_one_is_measured(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def broken(recorder: Recorder) -> None:
            raise LookupError("a peer changed")

        results = Results(tmp_path / "r", HEADER)
        assert run([experiment(broken, key="broken"), experiment(counting)], results, Scale())
        results.close()
        assert results.all_notes("failed") == [("broken", "", "LookupError('a peer changed')")]
        assert len(results.rounds("some")) == 5
        assert "a peer changed" in capsys.readouterr().err

    def test_quick_is_a_tenth(self, tmp_path: Path) -> None:
        results = Results(tmp_path / "r", HEADER)
        run([experiment(counting, rounds=40)], results, Scale(quick=True))
        results.close()
        assert len(results.rounds("some")) == 4


class TestCommand:
    def test_building_end_to_end(self, tmp_path: Path) -> None:
        arguments = ["--quick", "--only", "base58", "--out", str(tmp_path)]
        assert command.main(arguments) == 0
        measured = (tmp_path / "results.jsonl").read_text()
        assert command.main([*arguments, "--resume"]) == 0
        assert (tmp_path / "results.jsonl").read_text() == measured
        assert command.main(["--report", "--out", str(tmp_path)]) == 0
        text = (tmp_path / "report.html").read_text()
        assert "pacifica_fast.b58encode" in text
        assert "Incomplete" in text
        assert "incomplete" in (tmp_path / "report.md").read_text()

    def test_sending_end_to_end(self, tmp_path: Path) -> None:
        """To another process over TLS; every signature that arrives there is verified."""
        assert command.main(["--quick", "--only", "stages", "--out", str(tmp_path)]) == 0
        results = Results(tmp_path / "results.jsonl", None)
        results.close()
        assert results.notes("stages", "wrong") == {}
        assert row(ASYNCIO, ARMED) in results.row_names("stages")

    @pytest.mark.parametrize(("who", "status"), [("ours", 1), ("ccxt: cancel_order_ws()", 0)])
    def test_a_wrong_output_of_ours_is_an_error(self, tmp_path: Path, who: str, status: int) -> None:
        results = Results(tmp_path / "results.jsonl", HEADER)
        results.append_round("wire, TLS", {who: [1.0]})
        results.note("wire, TLS", "wrong", who, "the output is not right")
        results.close()
        assert command.main(["--report", "--out", str(tmp_path)]) == status
        assert "wrong: the output is not right" in (tmp_path / "report.html").read_text()
        assert "(WRONG: the output is not right)" in (tmp_path / "report.md").read_text()

    def test_interrupted_it_reports_on_what_there_is(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def interrupted(recorder: Recorder) -> None:
            recorder.save({"the only row": [1.0]})
            raise KeyboardInterrupt

        monkeypatch.setattr(command, "experiments", lambda: [experiment(interrupted)])
        assert command.main(["--out", str(tmp_path)]) == command.INTERRUPTED
        assert "the only row" in (tmp_path / "report.html").read_text()
        assert "--resume" in capsys.readouterr().err

    def test_there_is_nothing_to_report_on(self, tmp_path: Path) -> None:
        with pytest.raises(SystemExit):
            command.main(["--report", "--out", str(tmp_path)])

    def test_the_names_are_unique(self) -> None:
        keys = [experiment.key for experiment in command.experiments()]
        assert len(keys) == len(set(keys))


@pytest.fixture
def everything(tmp_path: Path) -> Results:
    """Figures for some experiments of every kind of picture."""
    results = Results(tmp_path / "r", HEADER)
    wire = {row(ASYNCIO, FLOOR): 20.0, row(ASYNCIO, ARMED): 21.0, row(BLOCKING, ARMED): 11.0, SDK: 220.0}
    for number in range(60):
        results.append_round(
            "wire, TLS", {name: [1e3 * us * (1 + 0.01 * (number % 7)), 1e3 * us] for name, us in wire.items()}
        )
        results.append_round("armed", {"one of 10 armed": [20e3], "one of 10,000 armed": [21e3]})
        results.append_round("sign_many", {"sign_many, 2 threads": [14e3], "solders": [60e3]})
        results.append_round("pull", {f"SDK: {n} cancels": [n * 2e5] for n in (1, 10, 100)})
        results.append_round(
            "stages", {"SDK: base58": [25e3], "SDK: ws.send()": [60e3], row(ASYNCIO, ARMED): [30e3]}
        )
        results.append_round("memory", {"prepared": [0.0]})
    results.note("wire, TLS", "skipped", "picows", "not <installed>")
    results.close()
    return results


class TestReport:
    def test_the_page_needs_nothing_else(self, everything: Results) -> None:
        text = page.page(everything, command.experiments(), goals.judge(everything), [])
        found = parsed(text)
        assert found.foreign == []
        assert {"svg", "path", "rect", "table"} <= found.seen
        assert "url(" not in text
        assert "@import" not in text

    def test_names_and_notes_are_escaped(self, everything: Results) -> None:
        text = page.page(everything, command.experiments(), goals.judge(everything), ["one <more>"])
        assert "a &lt;processor&gt;" in text
        assert "not &lt;installed&gt;" in text
        assert "one &lt;more&gt;" in text

    def test_every_experiment_has_its_table(self, everything: Results) -> None:
        text = tables.markdown(everything, command.experiments(), goals.judge(everything), [])
        for name in ("to the wire, TLS", "growth of resident memory"):
            assert f"| {name} |" in text
        assert f"| {row(ASYNCIO, ARMED)} | 21" in text
        assert "20.0 µs |" in text  # the floor in the table for the hurried

    def test_few_calls_have_no_tail(self) -> None:
        def told(calls: int) -> str:
            samples = [float(n) for n in range(calls)]
            return tables.Figures("a", samples, ratio([samples], [samples]), "").quantile(0.99, "ns")

        assert told(99) == tables.MISSING
        assert told(101) == "99.0 ns"

    def test_goals(self, everything: Results) -> None:
        words = {(v.goal.group, v.goal.what): v for v in goals.judge(everything)}
        armed = words["to the wire, TLS", "asyncio, armed, over its floor"]
        assert armed.word == "met"
        assert armed.value.median == pytest.approx(1.05)
        against = "to the wire, TLS, against the SDK's way on a kept connection"
        assert words[against, "asyncio, armed"].value.median == pytest.approx(220 / 21)
        assert words[against, "our fastest client, armed"].value.median == pytest.approx(220 / 11)
        blocking = words["to the wire, TLS", "blocking, armed, over its floor"]
        assert blocking.word == "not measured"
        assert words["many at once", "sign_many, 2 threads: its speed over that of two processes"].word == (
            "not measured"
        )

    @pytest.mark.parametrize(("at_least", "word"), [(True, "met"), (False, "not met")])
    def test_the_sense_of_a_goal(self, everything: Results, at_least: bool, word: str) -> None:
        three = ratio([[3.0]], [[1.0]])
        goal = goals.Goal("g", "w", 2.0, "×", lambda _: three, at_least)
        assert goals.Verdict(goal, goal.find(everything)).word == word


class TestDrawing:
    @pytest.mark.parametrize("high", [1.01, 3, 40, 1e4, 1e9])
    @pytest.mark.parametrize("low", [0.7, 33, 5e6])
    def test_ticks_are_few_and_on_the_axis(self, low: float, high: float) -> None:
        axis = LogAxis.around([low, low * high])
        places = [axis.at(value) for value in axis.ticks()]
        assert 1 <= len(places) <= 6  # as a phone has room for
        assert all(0 <= place <= 1 for place in places)
        assert places == sorted(places)

    def test_quantities(self) -> None:
        assert [quantity(ns) for ns in (0, 812, 3_412, 21_340, 1_509_000_000)] == [
            "0 ns",
            "812 ns",
            "3.41 µs",
            "21.3 µs",
            "1.51 s",
        ]
        assert [tick(ns) for ns in (30_000, 100_000, 1.5e6)] == ["30 µs", "100 µs", "1.5 ms"]

    @pytest.mark.parametrize("samples", [[5.0], [5.0, 5.0], [1.0, 1e6], [float(n) for n in range(1, 500)]])
    def test_a_ridge_of_anything(self, samples: list[float]) -> None:
        found = parsed(draw.ridges([draw.Row("a & b", "ours", samples), draw.Row("c", "sdk", [7.0])]))
        assert "path" in found.seen
