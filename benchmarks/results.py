# SPDX-License-Identifier: MIT
"""What was measured, in a file of JSON lines that is whole after every line.

First line: the machine, the versions, the commit. Then one line for each round of an experiment,
all its calls, in the order in which they were made; and notes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Round = dict[str, list[float]]
"""Of every row its calls."""


class MismatchError(Exception):
    """The file holds something else than what is about to be measured."""


class Results:
    """A file, and what is in it."""

    def __init__(self, path: Path, header: dict[str, Any] | None, *, resume: bool = False) -> None:
        """``resume`` goes on with a file that is there; else that is set aside, and a new one begun.

        Without a ``header`` whatever is there is taken: for a report.
        """
        self.path = path
        self.header = header or {}
        self._rounds: dict[str, list[Round]] = {}
        self._notes: dict[str, dict[str, dict[str, str]]] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        if header is None or (resume and path.exists()):
            self._load()
        else:
            if path.exists():
                path.replace(path.with_suffix(".before.jsonl"))
            path.write_text(json.dumps({"header": header}) + "\n", encoding="utf-8")
        self._file = path.open("a", encoding="utf-8")

    def _load(self) -> None:
        """Raises :class:`MismatchError`, and ``FileNotFoundError``."""
        whole = []
        for line in self.path.read_text(encoding="utf-8").splitlines(keepends=True):
            if not line.endswith("\n"):
                break  # cut off while it was written
            whole.append(line)
            entry = json.loads(line)
            if "header" in entry:
                self._check(entry["header"])
            elif "round" in entry:
                self._rounds.setdefault(entry["experiment"], []).append(entry["round"])
            else:
                self._keep_note(entry["experiment"], entry["kind"], entry["name"], entry["text"])
        if not whole:
            raise MismatchError(f"{self.path} is empty: run without --resume")
        self.path.write_text("".join(whole), encoding="utf-8")

    def _check(self, header: dict[str, Any]) -> None:
        for name in ("commit", "scale", "python"):
            if self.header and header.get(name) != self.header.get(name):
                raise MismatchError(
                    f"{self.path} is of {name} {header.get(name)}, this is {self.header.get(name)}: "
                    "run without --resume"
                )
        self.header = header

    def rounds(self, experiment: str) -> list[Round]:
        """The rounds measured so far."""
        return self._rounds.get(experiment, [])

    def row(self, experiment: str, row: str) -> list[list[float]]:
        """The calls of a row, by round; empty where it has none."""
        return [samples.get(row, []) for samples in self.rounds(experiment)]

    def row_names(self, experiment: str) -> list[str]:
        """The rows that have figures, in the order of the first round that has them."""
        names: dict[str, None] = {}
        for samples in self.rounds(experiment):
            names.update(dict.fromkeys(samples))
        return list(names)

    def notes(self, experiment: str, kind: str) -> dict[str, str]:
        """``skipped`` and ``wrong`` rows with the reason, and ``facts``."""
        return self._notes.get(experiment, {}).get(kind, {})

    def all_notes(self, kind: str) -> list[tuple[str, str, str]]:
        """The same of all experiments: experiment, name, text."""
        return [(key, *item) for key, kinds in self._notes.items() for item in kinds.get(kind, {}).items()]

    def append_round(self, experiment: str, samples: Round) -> None:
        """One more round."""
        rounded = {row: [round(value, 1) for value in calls] for row, calls in samples.items()}
        self._rounds.setdefault(experiment, []).append(rounded)
        self._write({"experiment": experiment, "round": rounded})

    def note(self, experiment: str, kind: str, name: str, text: str) -> None:
        """Something to tell, once."""
        if self.notes(experiment, kind).get(name) != text:
            self._keep_note(experiment, kind, name, text)
            self._write({"experiment": experiment, "kind": kind, "name": name, "text": text})

    def close(self) -> None:
        """Nothing more comes."""
        self._file.close()

    def _keep_note(self, experiment: str, kind: str, name: str, text: str) -> None:
        self._notes.setdefault(experiment, {}).setdefault(kind, {})[name] = text

    def _write(self, entry: dict[str, Any]) -> None:
        self._file.write(json.dumps(entry, separators=(",", ":")) + "\n")
        self._file.flush()
