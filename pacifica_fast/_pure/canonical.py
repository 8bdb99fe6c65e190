# SPDX-License-Identifier: MIT
"""Canonical JSON: see ``csrc/pf_json.h``. The standard library does it; what it refuses is looked at again
here, to say what is wrong, and where."""

from __future__ import annotations

import json
import re
import sys
from typing import Any, NoReturn

from pacifica_fast._pure.memory import C, Code, coded, put, taken

__all__ = ["bound", "canonical", "pf_canonical_bound", "pf_canonicalize"]

DEPTH_MAX = 256
DIGITS_MAX = 4300
LENGTH_MAX = (1 << 32) - 1

_SPACE = re.compile(rb"[ \t\n\r]*")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f\x80-\xff]*')
_ESCAPE = re.compile(rb'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})')
_CUT_ESCAPE = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_MINUS = re.compile(rb"-?")
_DIGITS = re.compile(rb"[0-9]*")
_WIDE = re.compile(
    rb"[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xef][\x80-\xbf]{2}"
    rb"|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2}"
)
_SURROGATE = re.compile(rb"\xed[\xa0-\xbf]")
_LITERALS = {ord("t"): b"true", ord("f"): b"false", ord("n"): b"null"}
_NANS = {ord("N"): b"NaN", ord("I"): b"Infinity"}


class Trouble(Code):
    """What is wrong with a JSON text, and the offset where."""

    def __init__(self, code: int, position: int) -> None:
        super().__init__(code)
        self.position = position


class _Check:
    """One pass over a text, as ``csrc/pf_json.c`` makes it. Raises :class:`Trouble` at the first."""

    def __init__(self, text: bytes, surrogates: bool) -> None:
        self.text, self.end, self.surrogates, self.depth = text, len(text), surrogates, 0

    def check(self) -> None:
        if self.text.startswith(b"\xef\xbb\xbf"):
            raise Trouble(C.PF_ERR_JSON_BOM, 0)
        at = self.space(self.value(self.space(0)))
        if at < self.end:
            raise Trouble(C.PF_ERR_JSON_TRAILING, at)

    def ended(self) -> NoReturn:
        raise Trouble(C.PF_ERR_JSON_END, self.end)

    def past(self, pattern: re.Pattern[bytes], at: int) -> int:
        match = pattern.match(self.text, at)
        return match.end() if match else at

    def space(self, at: int) -> int:
        return self.past(_SPACE, at)

    def value(self, at: int) -> int:
        if at == self.end:
            raise Trouble(C.PF_ERR_JSON_END if self.depth else C.PF_ERR_JSON_VALUE, at)
        first = self.text[at]
        if first == ord('"'):
            return self.string(at + 1)[1]
        if first in b"{[":
            if self.depth == DEPTH_MAX:
                raise Trouble(C.PF_ERR_JSON_DEPTH, at)
            self.depth += 1
            at = self.object(at) if first == ord("{") else self.array(at)
            self.depth -= 1
            return at
        if first in _LITERALS:
            return self.literal(at, _LITERALS[first])
        if first in _NANS:
            self.literal(at, _NANS[first])
            raise Trouble(C.PF_ERR_JSON_NAN, at)
        if first in b"-0123456789":
            return self.number(at)
        raise Trouble(C.PF_ERR_JSON_VALUE, at)

    def literal(self, at: int, literal: bytes) -> int:
        found = self.text[at : at + len(literal)]
        if not literal.startswith(found):
            raise Trouble(C.PF_ERR_JSON_VALUE, at)
        return at + len(literal) if len(found) == len(literal) else self.ended()

    def number(self, at: int) -> int:
        first = self.past(_MINUS, at)
        after = self.past(_DIGITS, first)
        digits = self.text[first:after]
        if not digits:
            if after == self.end:
                self.ended()
            if self.text[after] == ord("I"):
                self.literal(at, b"-Infinity")
                raise Trouble(C.PF_ERR_JSON_NAN, at)
            raise Trouble(C.PF_ERR_JSON_NUMBER, at)
        if digits.startswith(b"0") and len(digits) > 1:
            raise Trouble(C.PF_ERR_JSON_NUMBER, at)
        if self.text[after : after + 1] in (b".", b"e", b"E"):
            raise Trouble(C.PF_ERR_JSON_FRACTION, at)
        if len(digits) > DIGITS_MAX:
            raise Trouble(C.PF_ERR_JSON_DIGITS, at)
        return after

    def string(self, at: int) -> tuple[str, int]:
        """What the string after the opening quote stands for, and where it ends."""
        start = at
        while True:
            at = self.past(_PLAIN, at)
            if at == self.end:
                self.ended()
            if self.text[at] == ord('"'):
                raw = b'"%s"' % self.text[start:at]
                found: str = json.loads(raw.decode("utf-8", "surrogatepass"))
                return found, at + 1
            at = self.special(at)

    def special(self, at: int) -> int:
        character = self.text[at]
        if character == ord("\\"):
            if match := _ESCAPE.match(self.text, at):
                return match.end()
            if _CUT_ESCAPE.match(self.text, at):
                self.ended()
            raise Trouble(C.PF_ERR_JSON_ESCAPE, at)
        if character < 0x20:
            raise Trouble(C.PF_ERR_JSON_CONTROL, at)
        match = _WIDE.match(self.text, at)
        if not match or (not self.surrogates and _SURROGATE.match(self.text, at)):
            raise Trouble(C.PF_ERR_JSON_UTF8, at)
        return match.end()

    def next(self, at: int, close: int) -> int:
        """After an element or a member: past a comma, or at what closes."""
        at = self.space(at)
        if at == self.end:
            self.ended()
        if self.text[at] == ord(","):
            at = self.space(at + 1)
            if at < self.end and self.text[at] == close:
                raise Trouble(C.PF_ERR_JSON_KEY if close == ord("}") else C.PF_ERR_JSON_VALUE, at)
            return at
        if self.text[at] != close:
            raise Trouble(C.PF_ERR_JSON_COMMA, at)
        return at

    def array(self, at: int) -> int:
        at = self.space(at + 1)
        while at == self.end or self.text[at] != ord("]"):
            at = self.next(self.value(at), ord("]"))
        return at + 1

    def object(self, at: int) -> int:
        keys: set[str] = set()
        twice = None
        at = self.space(at + 1)
        while at == self.end or self.text[at] != ord("}"):
            quote = at
            key, at = self.member(at)
            if key in keys and twice is None:
                twice = quote
            keys.add(key)
            at = self.next(at, ord("}"))
        if twice is not None:
            raise Trouble(C.PF_ERR_JSON_DUPLICATE, twice)
        return at + 1

    def member(self, at: int) -> tuple[str, int]:
        if at == self.end:
            self.ended()
        if self.text[at] != ord('"'):
            raise Trouble(C.PF_ERR_JSON_KEY, at)
        key, at = self.string(at + 1)
        at = self.space(at)
        if at == self.end:
            self.ended()
        if self.text[at] != ord(":"):
            raise Trouble(C.PF_ERR_JSON_COLON, at)
        return key, self.value(self.space(at + 1))


class _Refused(ValueError):
    """The standard library would take it."""


def _refuse(_: str) -> NoReturn:
    raise _Refused


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _Refused
    return members


def _load(text: bytes, surrogates: bool) -> Any:
    """What the text stands for. Raises ``ValueError`` or ``RecursionError``."""
    decoded = text.decode("utf-8", "surrogatepass" if surrogates else "strict")
    return json.loads(decoded, object_pairs_hook=_unique, parse_float=_refuse, parse_constant=_refuse)


def _reads_any_integer(text: bytes) -> bool:
    """Python can be told to read integers of any length; the core cannot."""
    return len(text) > DIGITS_MAX and sys.get_int_max_str_digits() != DIGITS_MAX


def canonical(text: bytes, surrogates: bool = False) -> bytes:
    """The canonical form of a JSON text. Raises :class:`Trouble`."""
    if len(text) > LENGTH_MAX:
        raise Trouble(C.PF_ERR_JSON_LENGTH, LENGTH_MAX)
    try:
        value = _load(text, surrogates)
        if text.count(b"{") + text.count(b"[") > DEPTH_MAX or _reads_any_integer(text):
            _Check(text, surrogates).check()
    except (ValueError, RecursionError):
        try:
            _Check(text, surrogates).check()
        except RecursionError:  # whoever calls is deep already
            raise Trouble(C.PF_ERR_JSON_DEPTH, 0) from None
        raise
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def bound(text: bytes) -> int:
    """The bytes that its canonical form takes at most."""
    highs = len(text) - len(text.translate(None, bytes(range(128, 256))))
    return len(text) + 5 * text.count(b"\x7f") + 2 * highs


def pf_canonical_bound(text: Any, size: int) -> int:
    return bound(taken(text, size))


@coded
def pf_canonicalize(out: Any, cap: int, text: Any, size: int, surrogates: int, position: Any) -> int:
    position[0] = 0
    try:
        return put(out, cap, canonical(taken(text, size), bool(surrogates)))
    except Trouble as trouble:
        position[0] = trouble.position
        raise
