# SPDX-License-Identifier: MIT
"""What an experiment is: rows measured in turn, round after round, each round kept when it is done."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .results import Results, Round

__all__ = ["Experiment", "Progress", "Recorder", "Scale", "run"]


@dataclass(frozen=True)
class Scale:
    """How much of everything: all of it, or a tenth."""

    quick: bool = False
    long: bool = False

    def rounds(self, full: int) -> int:
        """How many rounds of so many."""
        return max(full // 10, 2) if self.quick else full


@dataclass(frozen=True)
class Experiment:
    """Some rows, compared with each other and with nothing else."""

    key: str
    """Its name in the results file, and for ``--only``."""
    title: str
    how: str
    """A sentence or two for the reader: what is timed, from where to where."""
    rounds: int
    seconds: float
    """What one round takes, about: for the time left, before anything was measured."""
    measure: Callable[[Recorder], None]
    baseline: str = ""
    """The row against which the others are told; the first one if empty."""
    unit: str = "ns"


class Recorder:
    """Where an experiment leaves what it measured."""

    def __init__(self, experiment: Experiment, results: Results, progress: Progress, scale: Scale) -> None:
        self._experiment = experiment
        self._results = results
        self._progress = progress
        self.scale = scale

    def rounds(self) -> Iterator[int]:
        """The numbers of the rounds that are still to be measured; each is for one ``save``."""
        done = len(self._results.rounds(self._experiment.key))
        yield from range(done, self.scale.rounds(self._experiment.rounds))

    def save(self, samples: Round) -> None:
        """One round: for every row its calls, in the experiment's unit. On disk when this returns."""
        self._results.append_round(self._experiment.key, samples)
        self._progress.step(self._experiment)

    def skip(self, row: str, why: str) -> None:
        """This row is not measured."""
        self._results.note(self._experiment.key, "skipped", row, why)

    def wrong(self, row: str, why: str = "the output is not right") -> None:
        """A fast wrong answer is no result."""
        self._results.note(self._experiment.key, "wrong", row, why)

    def failed(self, error: Exception) -> None:
        """The experiment ended before its time."""
        self._results.note(self._experiment.key, "failed", "", repr(error))

    def fact(self, name: str, value: str) -> None:
        """Something to tell beside the figures."""
        self._results.note(self._experiment.key, "facts", name, value)


class Progress:
    """One line on stderr for a person: how far, and how long it will still take."""

    def __init__(self, experiments: list[Experiment], results: Results, scale: Scale) -> None:
        self._left = {
            e.key: max(scale.rounds(e.rounds) - len(results.rounds(e.key)), 0) * e.seconds
            for e in experiments
        }
        self._total = sum(e.seconds * scale.rounds(e.rounds) for e in experiments) or 1.0
        self._expected = sum(self._left.values())
        self._start = time.monotonic()
        self._shown = sys.stderr.isatty()

    def step(self, experiment: Experiment) -> None:
        """One more round is done."""
        self._left[experiment.key] -= experiment.seconds
        self._show(experiment.key)

    def done(self, experiment: Experiment) -> None:
        """It is over, whether it measured all or could not."""
        self._left[experiment.key] = 0.0
        self._show(experiment.key)

    def end(self) -> None:
        """Leave the line."""
        if self._shown:
            print(file=sys.stderr)

    def _show(self, what: str) -> None:
        if not self._shown:
            return
        left = sum(self._left.values())
        done = self._expected - left
        elapsed = time.monotonic() - self._start
        eta = left * (elapsed / done if done > 0 else 1.0)
        filled = min(int(32 * (1 - left / self._total)), 32)
        line = f"[{'#' * filled:<32}] {1 - left / self._total:4.0%}  {_minutes(eta)} left  {what}"
        print(f"\r{line:<78.78}", end="", file=sys.stderr, flush=True)


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def _measure(experiment: Experiment, recorder: Recorder) -> None:
    """Something broken, a peer's new release for one, must not cost the experiments that follow."""
    try:
        experiment.measure(recorder)
    except Exception as error:  # told in the report, and by the exit status
        traceback.print_exc()
        recorder.failed(error)


def run(experiments: list[Experiment], results: Results, scale: Scale) -> bool:
    """Measure what is not measured yet; False if Ctrl-C ended it."""
    progress = Progress(experiments, results, scale)
    try:
        for experiment in experiments:
            recorder = Recorder(experiment, results, progress, scale)
            if next(recorder.rounds(), None) is not None:
                _measure(experiment, recorder)
            progress.done(experiment)
    except KeyboardInterrupt:
        return False
    finally:
        progress.end()
    return True
