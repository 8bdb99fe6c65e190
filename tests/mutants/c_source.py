# SPDX-License-Identifier: MIT
"""Mutants of C sources, by their tokens: no preprocessor lines, no comments, no strings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mutants.mutant import Mutant

__all__ = ["mutants_of"]

_TOKEN = re.compile(
    r"""
    (?P<directive>^[ \t]*\#(?:\\\n|[^\n])*)
  | (?P<space>\s|//[^\n]*|/\*.*?\*/)
  | (?P<literal>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
  | (?P<number>(?:0[xX][0-9a-fA-F]+|\d+)[uUlL]*)
  | (?P<name>[A-Za-z_]\w*)
  | (?P<operator><<=|>>=|->|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|.)
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
_SWAPS = {
    "<": "<=",
    "<=": "<",
    ">": ">=",
    ">=": ">",
    "==": "!=",
    "!=": "==",
    "&&": "||",
    "||": "&&",
    "<<": ">>",
    ">>": "<<",
    "++": "--",
    "--": "++",
    "+=": "-=",
    "-=": "+=",
    "|=": "&=",
    "&=": "|=",
    "^=": "|=",
}
# These are also signs, addresses and pointers; only between two operands are they what we mean.
_BINARY = {"+": "-", "-": "+", "*": "+", "/": "*", "%": "/", "&": "|", "|": "&", "^": "|"}
_KEYWORDS = frozenset(
    ("return", "if", "for", "while", "switch", "case", "_Atomic", "_Alignas", "int", "void")
)
# Assertions of the compiler's, hints to the cache, hooks of tests, marks for valgrind: nothing is computed.
_BESIDE = frozenset(("_Static_assert", "PF_STATIC_ASSERT", "PF_PREFETCH", "PF_INTERLEAVE", "PF_DECLASSIFY"))
_CONTINUES = frozenset(("(", "[", ".", "->", "=", "+=", "-=", "|=", "&=", "^=", "<<=", ">>=", "++", "--"))
_NOTHING = "(void)0"


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    start: int
    end: int


def _tokens(text: str) -> list[_Token]:
    found = _TOKEN.finditer(text)
    return [
        _Token(match.lastgroup or "", match[0], match.start(), match.end())
        for match in found
        if match.lastgroup not in ("space", "directive")
    ]


def _closing(tokens: list[_Token], opening: int) -> int:
    """The index of the parenthesis that closes the one at ``opening``."""
    depth = 0
    for index in range(opening, len(tokens)):
        depth += {"(": 1, ")": -1}.get(tokens[index].text, 0)
        if depth == 0:
            return index
    raise ValueError("a parenthesis is never closed")


def _is_operand(token: _Token) -> bool:
    return token.kind in ("name", "number", "literal") or token.text in (")", "]")


def _other_number(text: str) -> str:
    digits = text.rstrip("uUlL")
    value = int(digits, 0) if digits.lower().startswith("0x") else int(digits)
    return f"{value + 1}{text[len(digits) :]}"


def _statement(tokens: list[_Token], index: int) -> int | None:
    """The index of the semicolon, if an expression statement that may go begins at ``index``."""
    first, second = tokens[index], tokens[index + 1]
    pointed = first.text == "*"
    if not pointed and (first.kind != "name" or first.text in _KEYWORDS or second.text not in _CONTINUES):
        return None
    depth = 0
    for end in range(index, len(tokens)):
        word = tokens[end].text
        depth += {"(": 1, ")": -1}.get(word, 0)
        if word in ("{", "}"):
            return None
        if word == ";" and depth == 0:
            return end
    return None


def mutants_of(file: str, text: str) -> Iterator[Mutant]:
    """Every mutant of the functions in a source or header."""
    tokens = _tokens(text)
    braces = parentheses = 0
    beside = -1  # up to this token, nothing is computed
    for index, token in enumerate(tokens[:-2]):
        before, after = tokens[index - 1], tokens[index + 1]
        braces += {"{": 1, "}": -1}.get(token.text, 0)
        parentheses += {"(": 1, ")": -1}.get(token.text, 0)
        if token.text in _BESIDE:
            beside = _closing(tokens, index + 1)
        if braces == 0 or index <= beside:
            continue

        def change(new: str, start: int = token.start, end: int = token.end) -> Mutant:
            return Mutant.of(file, text, start, end, new)

        if token.text in _SWAPS:
            yield change(_SWAPS[token.text])
        elif token.text in _BINARY and _is_operand(before) and before.text != "return":
            if token.text != "*" or text[token.end].isspace():
                yield change(_BINARY[token.text])
        elif token.text == "!":
            yield change("")
        elif token.kind == "number":
            yield change(_other_number(token.text))
            if token.text == "1":
                yield change("0")
        elif token.text in ("if", "while") and after.text == "(":
            close = _closing(tokens, index + 1)
            condition = text[after.end : tokens[close].start]
            if token.text == "if":
                yield change(f" !({condition}) ", after.end, tokens[close].start)
        elif token.text.startswith("PF_ERR_"):
            yield change("PF_OK")
        elif token.text in ("break", "continue"):
            yield change(_NOTHING)
        if parentheses == 0 and (before.text in (";", "{", "}", "else") or before.text == ":"):
            end = _statement(tokens, index)
            if end is not None:
                yield change(_NOTHING, token.start, tokens[end].start)
