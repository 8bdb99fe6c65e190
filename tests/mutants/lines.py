# SPDX-License-Identifier: MIT
"""Which test executes which statement of a module: the module tells it itself, in whatever process it is.

A tracer would be asked about every call of every module, and needs room on a stack that some tests measure.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path

__all__ = ["LINES", "RECORDER", "lines_of", "statement_at", "telling"]

LINES = "MUTANTS_LINES"  # in the environment: the file to write to
RECORDER = "pacifica_fast._recorder"
"""A copy of ``recorder.py``, beside the modules that call it."""


class _Telling(ast.NodeTransformer):
    """Each statement tells its line first."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list) and block and isinstance(block[0], ast.stmt):
                setattr(node, name, [one for statement in block for one in self._told(statement)])
        return node

    @staticmethod
    def _told(statement: ast.stmt) -> list[ast.stmt]:
        match statement:
            case ast.Expr(value=ast.Constant()) | ast.ImportFrom(module="__future__"):
                return [statement]  # these are nothing if they do not come first
        return [*ast.parse(f"_tell({statement.lineno})").body, statement]


def telling(text: str) -> str:
    """The module, with calls of the recorder. Its lines have other numbers; those told are the old ones."""
    tree = _Telling().visit(ast.parse(text))
    (first,) = ast.parse(f"from {RECORDER} import tell as _tell").body
    place = next(at for at, one in enumerate(tree.body) if _Telling._told(one) != [one])
    tree.body.insert(place, first)
    return ast.unparse(tree)


def statement_at(text: str, start: int, end: int) -> list[int]:
    """The line of the innermost statement around ``text[start:end]``.

    Of the head of a function also the first of its body: only who calls it sees another default.
    """
    first, last = text.count("\n", 0, start) + 1, text.count("\n", 0, end) + 1
    around: list[ast.stmt] = []
    for node in ast.walk(ast.parse(text)):  # from the outside in
        if isinstance(node, ast.stmt) and node.lineno <= first and last <= (node.end_lineno or 0):
            around.append(node)
    inner = around[-1]
    if isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return [inner.lineno, *(one.lineno for one in inner.body)]
    return [inner.lineno]


def lines_of(path: Path) -> dict[int, set[str]]:
    """Of what was written there: the tests that executed each line, ``""`` being an import."""
    found: dict[int, set[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        number, test = json.loads(line)
        found.setdefault(number, set()).add(test)
    return found
