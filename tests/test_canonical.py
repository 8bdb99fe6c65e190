# SPDX-License-Identifier: MIT
"""``canonicalize`` against Python's own ``json``, over its whole domain."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacifica_fast import canonicalize
from pacifica_fast.errors import InvalidJSON

DIGITS_MAX = 4300
DEPTH_MAX = 256


def dumps(value: Any) -> bytes:
    """The reference. Python compares keys by code point; so must we."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate key")
    return members


def refuse(literal: str) -> Any:
    raise ValueError(f"no canonical form: {literal}")


def reference(text: str | bytes) -> bytes | None:
    """What ``text`` becomes, or None where it must be refused."""
    try:
        # Given bytes, json.loads would accept other encodings, a byte order mark and surrogates.
        decoded = text.decode("utf-8") if isinstance(text, bytes) else text
        value = json.loads(decoded, object_pairs_hook=unique, parse_float=refuse, parse_constant=refuse)
    except ValueError:
        return None
    return dumps(value)


def outcome(text: str | bytes) -> bytes | None:
    """What ``canonicalize`` does: its bytes, or None for InvalidJSON. Anything else fails the test."""
    try:
        return canonicalize(text)
    except InvalidJSON as error:
        refused = error
    assert 0 <= refused.position <= len(text)
    assert refused.reason
    return None


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("null", b"null"),
        (" \t\r\n[ true , false ] ", b"[true,false]"),
        ("{}", b"{}"),
        ("[ ]", b"[]"),
        ("-0", b"0"),
        ("[-0,0,-1,18446744073709551616]", b"[0,0,-1,18446744073709551616]"),
        ('{"b":1,"a":{"d":[{"z":1,"y":2}],"c":{}}}', b'{"a":{"c":{},"d":[{"y":2,"z":1}]},"b":1}'),
        (r'"\"\\\/\b\f\n\r\t\u000b"', rb'"\"\\/\b\f\n\r\t\u000b"'),
        ('"/\x7f ~"', rb'"/\u007f ~"'),
        ('"é漢😀"', rb'"\u00e9\u6f22\ud83d\ude00"'),
        (r'"\u0041\u00E9\uD83D\uDE00"', rb'"A\u00e9\ud83d\ude00"'),
        (r'["\ud800","\udc00\ud800"]', rb'["\ud800","\udc00\ud800"]'),
        ('"\ud800"', rb'"\ud800"'),
        # By code point, neither by UTF-16 unit nor by the escaped text.
        ('{"😀":1,"\uffff":2,"é":3,"z":4}', rb'{"z":4,"\u00e9":3,"\uffff":2,"\ud83d\ude00":1}'),
        (r'{"\ud83d\ude00":1,"\uffff":2,"\ud83d":3}', rb'{"\ud83d":3,"\uffff":2,"\ud83d\ude00":1}'),
        # Only two escapes make a pair: to Python these are different keys.
        ('{"\\ud83d\\ude00":1,"\ud83d\ude00":2}', rb'{"\ud83d\ude00":2,"\ud83d\ude00":1}'),
        ('{"a\\u0000":1,"a":2,"":3}', rb'{"":3,"a":2,"a\u0000":1}'),
    ],
)
def test_known(text: str, wanted: bytes) -> None:
    assert canonicalize(text) == wanted
    assert reference(text) == wanted


@pytest.mark.parametrize(
    ("text", "reason", "position"),
    [
        ("", "expected a value", 0),
        ("  ", "expected a value", 2),
        ("x", "expected a value", 0),
        ("[1,]", "expected a value", 3),
        ("nulL", "expected a value", 0),
        ("+1", "expected a value", 0),
        ("'a'", "expected a value", 0),
        ("[", "text ends inside a value", 1),
        ('{"a":1', "text ends inside a value", 6),
        ('"abc', "text ends inside a value", 4),
        (r'"\u12', "text ends inside a value", 5),
        ("tru", "text ends inside a value", 3),
        ("{1:2}", "expected a string as key", 1),
        ('{"a":1,}', "expected a string as key", 7),
        ('{"a" 1}', "expected ':' after the key", 5),
        ("[1 2]", "expected ',' or the closing bracket", 3),
        ('{"a":1]', "expected ',' or the closing bracket", 6),
        ('"é\n"', "control character in a string", 2),
        ('"é\\x"', "invalid escape", 2),
        (r'"\u12g4"', "invalid escape", 1),
        ("1 2", "something after the value", 2),
        ("{}}", "something after the value", 2),
        ("1\x0b", "something after the value", 1),
        ("\ufeff1", "byte order mark", 0),
        ('{"a":1,"a":2}', "duplicate key", 7),
        ('{"é":1,"\\u00e9":2}', "duplicate key", 7),
        ('{"😀":1,"\\ud83d\\uDE00":2}', "duplicate key", 7),
        ('{"b":1,"a":1,"b":2,"a":3}', "duplicate key", 13),
        ('[{"x":{"a":1,"a":2}}]', "duplicate key", 13),
        ("[01]", "malformed number", 1),
        ("[-]", "malformed number", 1),
        ("[1.5]", "number with fraction or exponent (pass decimals as strings)", 1),
        ("-1e5", "number with fraction or exponent (pass decimals as strings)", 0),
        ("[NaN]", "NaN or Infinity", 1),
        ("-Infinity", "NaN or Infinity", 0),
        ("Infinity", "NaN or Infinity", 0),
        ("7" * (DIGITS_MAX + 1), "integer of more than 4300 digits", 0),
        ("[" * (DEPTH_MAX + 1) + "]" * (DEPTH_MAX + 1), "nested deeper than 256", DEPTH_MAX),
        ('{"":' * (DEPTH_MAX + 1), "nested deeper than 256", 4 * DEPTH_MAX),
    ],
)
def test_refused(text: str, reason: str, position: int) -> None:
    with pytest.raises(InvalidJSON) as in_str:
        canonicalize(text)
    assert (in_str.value.reason, in_str.value.position) == (reason, position)
    with pytest.raises(InvalidJSON) as in_bytes:
        canonicalize(text.encode())
    # Characters of a str, bytes of a bytes.
    assert (in_bytes.value.reason, in_bytes.value.position) == (reason, len(text[:position].encode()))


@pytest.mark.parametrize(
    "broken",
    [
        b"\x80", b"\xc0\x80", b"\xc1\xbf", b"\xc3", b"\xc3(", b"\xe0\x9f\xbf", b"\xe2\x82",
        b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xf0\x8f\xbf\xbf", b"\xf0\x9f\x98", b"\xf4\x90\x80\x80",
        b"\xf5\x80\x80\x80", b"\xff",
    ],
)  # fmt: skip
def test_refused_utf8(broken: bytes) -> None:
    with pytest.raises(InvalidJSON) as caught:
        canonicalize(b'["\xc3\xa9' + broken + b'"]')
    assert (caught.value.reason, caught.value.position) == ("invalid UTF-8", 4)


@pytest.mark.parametrize("argument", [None, 1, bytearray(b"1"), memoryview(b"1"), ["1"], {}])
def test_refused_type(argument: Any) -> None:
    with pytest.raises(TypeError):
        canonicalize(argument)


def test_a_subclass_cannot_lie_about_its_length() -> None:
    class Liar(bytes):
        def __bytes__(self) -> bytes:
            return self

        def __len__(self) -> int:
            return 200

    assert canonicalize(Liar(b'{"b": 1, "a": 2}')) == b'{"a":2,"b":1}'


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_depth(opening: str, closing: str) -> None:
    text = opening * DEPTH_MAX + "1" + closing * DEPTH_MAX
    assert canonicalize(text) == text.encode()


def test_digits() -> None:
    for text in ("7" * DIGITS_MAX, "-" + "7" * DIGITS_MAX):
        assert canonicalize(text) == text.encode()
    with pytest.raises(InvalidJSON):
        canonicalize("-" + "7" * (DIGITS_MAX + 1))


# Strings that agree for a while, end early, and hold what a sort or an escape can get wrong.
ODD = (
    'a"\\/\b\f\n\r\t\x00\x1f\x7f\x80\xe9\u07ff\u0800\ue000\uffff'
    "\ud800\udbff\udc00\udfff\ud83d\ude00\U00010000\U0001f600\U0010ffff"
)
ANY_CHARACTER = st.characters(codec=None, exclude_categories=())
STRINGS = st.one_of(
    st.text(ANY_CHARACTER, max_size=20),
    st.text(st.sampled_from(ODD), max_size=20),
    st.builds(
        str.__add__,
        st.sampled_from(["aaaaaa", "aaaaaaa", "é" * 20, "😀" * 5 + "\ud83d", "x" * 300]),
        st.text(st.sampled_from(ODD), max_size=4),
    ),
)
INTEGERS = st.one_of(
    st.integers(),
    st.integers(1, DIGITS_MAX).map(lambda digits: 10**digits - 1),
    st.integers(1, DIGITS_MAX).map(lambda digits: -(10 ** (digits - 1))),
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), INTEGERS, STRINGS),
    lambda inner: st.one_of(st.lists(inner, max_size=6), st.dictionaries(STRINGS, inner, max_size=12)),
    max_leaves=30,
)

SHORT_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t"}


class Renderer:
    """Writes a value as JSON text in one of the many ways there are.

    A value can hold a high surrogate followed by a low one; written as two escapes they
    would be read as one character, so ``escape`` never does that.
    """

    def __init__(self, choice: random.Random) -> None:
        self.choice = choice
        self.escaping = choice.choice([0.0, 0.1, 0.5, 1.0])

    def space(self) -> str:
        return self.choice.choice(["", "", "", " ", "\n\t", " \r\n  "])

    def unit(self, unit: int) -> str:
        digits = f"{unit:04x}"
        return "\\u" + "".join(self.choice.choice([d, d.upper()]) for d in digits)

    def string(self, value: str) -> str:
        parts = []
        high_escaped = False
        for c in value:
            must = c < " " or c in '"\\'
            joins = high_escaped and "\udc00" <= c <= "\udfff"
            high_escaped = False
            if not must and (joins or self.choice.random() >= self.escaping):
                parts.append(c)
            elif c in SHORT_ESCAPES and self.choice.random() < 0.5:
                parts.append("\\" + SHORT_ESCAPES[c])
            else:
                units = c.encode("utf-16-be", "surrogatepass")
                parts += [self.unit(units[i] << 8 | units[i + 1]) for i in range(0, len(units), 2)]
                high_escaped = "\ud800" <= c <= "\udbff"
        return '"' + "".join(parts) + '"'

    def value(self, value: Any) -> str:
        if isinstance(value, dict):
            members = [
                self.space() + self.string(key) + self.space() + ":" + self.value(inner)
                for key, inner in self.choice.sample(list(value.items()), len(value))
            ]
            text = "{" + ",".join(members) + self.space() + "}"
        elif isinstance(value, list):
            text = "[" + ",".join(map(self.value, value)) + self.space() + "]"
        elif isinstance(value, str):
            text = self.string(value)
        elif value == 0 and isinstance(value, int) and not isinstance(value, bool):
            text = self.choice.choice(["0", "-0"])
        else:
            text = json.dumps(value)
        return self.space() + text + self.space()


@given(VALUES, st.randoms(use_true_random=False))
def test_every_rendering(value: Any, choice: random.Random) -> None:
    text = Renderer(choice).value(value)
    assert canonicalize(text) == dumps(value)
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        encoded = text.encode("utf-8", "surrogatepass")
        assert outcome(encoded) is None
    else:
        assert canonicalize(encoded) == dumps(value)


@given(VALUES)
def test_canonical_is_a_fixed_point(value: Any) -> None:
    text = reference(json.dumps(value))
    # Where a lone high surrogate precedes a lone low one, json.dumps joins them: keys may become one.
    if text is not None:
        assert canonicalize(json.dumps(value)) == text
        assert canonicalize(text) == text


TOKENS = st.sampled_from(
    [
        *'{}[],:"\\-019.eE+ \n\t\r\x0b\x00\x7f\ufeffé😀a\ud83d\ude00',
        *("\\u", "\\ud83d", "\\ude00", "true", "false", "null", "NaN", "Infinity"),
        *('"a"', '"a":', '"b":1', "1,", '{"a":1,"a":2}', '""'),
    ]
)


@given(st.one_of(st.lists(TOKENS, max_size=14).map("".join), st.text(ANY_CHARACTER)))
def test_any_text(text: str) -> None:
    assert outcome(text) == reference(text)
    encoded = text.encode("utf-8", "surrogatepass")
    assert outcome(encoded) == reference(encoded)


@given(st.binary())
def test_any_bytes(text: bytes) -> None:
    assert outcome(text) == reference(text)
    in_string = b'{"' + text + b'":0}'
    assert outcome(in_string) == reference(in_string)


@given(VALUES, st.randoms(use_true_random=False), st.data())
def test_mutations(value: Any, choice: random.Random, data: st.DataObject) -> None:
    text = bytearray(Renderer(choice).value(value).encode("utf-8", "surrogatepass"))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        removed = data.draw(st.integers(0, 3))
        tokens = TOKENS.map(lambda token: token.encode("utf-8", "surrogatepass"))
        text[at : at + removed] = data.draw(st.one_of(st.binary(max_size=2), tokens))
    mutated = bytes(text)
    assert outcome(mutated) == reference(mutated)
    in_str = mutated.decode("utf-8", "surrogateescape")
    assert outcome(in_str) == reference(in_str)


@given(VALUES, st.randoms(use_true_random=False))
def test_truncations(value: Any, choice: random.Random) -> None:
    text = Renderer(choice).value([value]).rstrip()[:600]
    for end in range(len(text)):
        assert outcome(text[:end]) == reference(text[:end])


@pytest.mark.parametrize("count", [2, 7, 8, 9, 47, 48, 49, 255, 256, 257, 1000])
@pytest.mark.parametrize("prefix", ["", "aaaaaaa", "\u00e9" * 200, "\U0001f600" * 3])
def test_many_keys(count: int, prefix: str) -> None:
    choice = random.Random(count)
    value = {prefix + "".join(choice.choices(ODD, k=12)) + str(i): i for i in range(count)}
    text = Renderer(choice).value(value)
    assert canonicalize(text) == dumps(value)
    again = next(iter(value))
    with pytest.raises(InvalidJSON) as caught:
        canonicalize(text.rstrip()[:-1] + "," + json.dumps(again, ensure_ascii=False) + ":0}")
    assert caught.value.reason == "duplicate key"
    assert caught.value.position == len(text.rstrip())


def test_large_object() -> None:
    choice = random.Random(1)
    keys = [f"{choice.getrandbits(64):016x}" for _ in range(100_000)]
    for value in (
        {key: i for i, key in enumerate(keys)},
        {"a common prefix of more than one chunk " + key: i for i, key in enumerate(keys)},
        {key: i for i, key in enumerate(sorted(keys, reverse=True))},
    ):
        assert canonicalize(json.dumps(value)) == dumps(value)
    escaped = "{" + ",".join('"' + "".join(f"\\u{ord(c):04x}" for c in key) + '":0' for key in keys) + "}"
    assert canonicalize(escaped) == dumps(dict.fromkeys(keys, 0))


def test_staircase() -> None:
    value = {"a" * n: n for n in random.Random(2).sample(range(2000), 2000)}
    assert canonicalize(json.dumps(value)) == dumps(value)


@pytest.mark.parametrize("character", ["a", "\x7f", "é", "漢", "😀", "\\", '"', "\n", "déjà vu "])
def test_large_string(character: str) -> None:
    value = character * (10_000_000 // len(character.encode()))
    assert canonicalize(json.dumps(value, ensure_ascii=False)) == dumps(value)


def test_large_and_deep() -> None:
    value: Any = {}
    for _ in range(120):
        value = {"z": ["s" * 1000], "m": [value], "a": {str(j): j for j in range(50)}}
    assert canonicalize(json.dumps(value, indent=1)) == dumps(value)
