# SPDX-License-Identifier: MIT
"""Mutants of Python modules, by their syntax trees: no annotations, no docstrings, no texts."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import pairwise

from mutants.mutant import Mutant

__all__ = ["mutants_of"]

_COMPARISONS = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
_ARITHMETIC = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "+"),
    ast.FloorDiv: ("//", "*"),
    ast.Div: ("/", "*"),
    ast.Mod: ("%", "//"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
}
_UNSEEN = frozenset({"annotation", "returns", "decorator_list", "type_params", "type_ignores"})


class _Source:
    """A module's text, and where its nodes stand in it."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.text = text
        self._lines = text.splitlines(keepends=True)
        self._starts = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line))

    def _offset(self, line: int, column: int) -> int:
        """``column`` counts bytes, as ``ast`` does."""
        return self._starts[line - 1] + len(self._lines[line - 1].encode()[:column].decode())

    def start(self, node: ast.expr | ast.stmt) -> int:
        return self._offset(node.lineno, node.col_offset)

    def end(self, node: ast.expr | ast.stmt) -> int:
        return self._offset(node.end_lineno or node.lineno, node.end_col_offset or 0)

    def replaced(self, node: ast.expr | ast.stmt, new: str) -> Mutant:
        return Mutant.of(self.file, self.text, self.start(node), self.end(node), new)

    def between(self, left: ast.expr, right: ast.expr, old: str, new: str) -> Mutant:
        """The operator that stands between two operands."""
        at = self.text.index(old, self.end(left), self.start(right))
        return Mutant.of(self.file, self.text, at, at + len(old), new)

    def negated(self, test: ast.expr) -> Mutant:
        return self.replaced(test, f"not ({self.text[self.start(test) : self.end(test)]})")


def _of_constant(source: _Source, node: ast.Constant) -> Iterator[Mutant]:
    if isinstance(node.value, bool):
        yield source.replaced(node, str(not node.value))
    elif isinstance(node.value, (int, float)):
        yield source.replaced(node, repr(node.value + 1))


def _of_statement(source: _Source, node: ast.stmt) -> Iterator[Mutant]:
    match node:
        case ast.Expr(value=ast.Call() | ast.Await() | ast.Yield()) | ast.Raise() | ast.Delete():
            yield source.replaced(node, "pass")
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]) | ast.AugAssign():
            yield source.replaced(node, "pass")
        case ast.AnnAssign(target=ast.Attribute(), value=ast.expr()):
            yield source.replaced(node, "pass")
        case ast.Return(value=ast.expr()) if not isinstance(node.value, ast.Constant):
            yield source.replaced(node, "return None")
        case ast.Break():
            yield source.replaced(node, "continue")
        case ast.Continue():
            yield source.replaced(node, "break")
        case ast.If(test=test) | ast.While(test=test):
            yield source.negated(test)


def _of_expression(source: _Source, node: ast.expr) -> Iterator[Mutant]:
    match node:
        case ast.Constant():
            yield from _of_constant(source, node)
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            for operator, (one, other) in zip(ops, pairwise([left, *comparators]), strict=True):
                yield source.between(one, other, *_COMPARISONS[type(operator)])
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            yield source.between(left, right, *_ARITHMETIC[type(op)])
        case ast.BoolOp(op=op, values=values):
            words = ("and", "or") if isinstance(op, ast.And) else ("or", "and")
            for one, other in pairwise(values):
                yield source.between(one, other, *words)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield source.replaced(node, f"bool({source.text[source.start(operand) : source.end(operand)]})")
        case ast.IfExp(test=test):
            yield source.negated(test)


def _is_only_for_checkers(node: ast.AST) -> bool:
    match node:
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.FunctionDef(decorator_list=[ast.Name(id="overload"), *_]):
            return True
        case ast.Assign(targets=[ast.Name(id="__slots__" | "__all__")]):
            return True
    return False


def _walk(source: _Source, node: ast.AST) -> Iterator[Mutant]:
    if _is_only_for_checkers(node) or isinstance(node, ast.JoinedStr):
        return
    if isinstance(node, ast.stmt):
        yield from _of_statement(source, node)
    elif isinstance(node, ast.expr):
        yield from _of_expression(source, node)
    for name, value in ast.iter_fields(node):
        if name not in _UNSEEN:
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from _walk(source, child)


def mutants_of(file: str, text: str) -> Iterator[Mutant]:
    """Every mutant of a module."""
    yield from _walk(_Source(file, text), ast.parse(text))
