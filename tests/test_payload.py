# SPDX-License-Identifier: MIT
from __future__ import annotations

import collections
import datetime
import enum
import fractions
import json
import sys
import types
import uuid
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacifica_fast.payload import DEPTH_MAX, explain, is_plain, to_json


class MyStr(str):
    pass


class MyInt(int):
    pass


class MyList(list[Any]):
    pass


class MyDict(dict[Any, Any]):
    pass


class Side(str, enum.Enum):  # noqa: UP042 -- not StrEnum
    BID = "bid"


class Number(enum.IntEnum):
    ONE = 1


class Color(enum.Enum):
    RED = "red"


class Liar(type):
    """A metaclass that says its classes equal every other one."""

    def __eq__(cls, other: object) -> bool:
        return True

    def __hash__(cls) -> int:
        return hash(str)


class Pretender(metaclass=Liar):
    pass


def nested(levels: int, *, of: type = list) -> Any:
    value: Any = of()
    for _ in range(levels - 1):
        value = [value] if of is list else {"a": value}
    return value


PLAIN = [
    "",
    "BTC",
    "\ud800",
    0,
    -1,
    2**64,
    10**5000,
    True,
    None,
    [],
    {},
    {"symbol": "BTC", "order_id": 42069},
    {"a": [{"b": [None, True, 1, "x", []]}]},
    nested(DEPTH_MAX),
    nested(DEPTH_MAX, of=dict),
]

# value, and what explain says of it
NOT_PLAIN = [
    (1.5, "data: float (pass decimals as strings)"),
    ({"price": 1.0}, "data.price: float (pass decimals as strings)"),
    ({"price": float("nan")}, "data.price: float (pass decimals as strings)"),
    ({"price": Decimal("1")}, "data.price: Decimal (pass decimals as strings)"),
    ({"price": fractions.Fraction(1, 3)}, "data.price: Fraction (pass decimals as strings)"),
    ({"items": [1, 2, 3, (4,)]}, "data.items[3]: tuple (pass a list)"),
    ({"items": {1, 2}}, "data.items: set (pass a list)"),
    ({"items": [[{"x": b"raw"}]]}, "data.items[0][0].x: bytes (pass a str)"),
    ({"id": uuid.UUID(int=1)}, "data.id: UUID (pass a str)"),
    ({1: 2}, "data: a key of type int"),
    ({"a": {None: 2}}, "data.a: a key of type NoneType"),
    ({MyStr("a"): 1}, "data: a key of type MyStr"),
    ({"side": Side.BID}, "data.side: Side (pass its value)"),
    ({"n": Number.ONE}, "data.n: Number (pass its value)"),
    ({"c": Color.RED}, "data.c: Color (pass its value)"),
    (MyStr("x"), "data: MyStr (pass a str)"),
    ([MyInt(3)], "data[0]: MyInt (pass an int)"),
    ([MyList()], "data[0]: MyList (pass a list)"),
    (MyDict(), "data: MyDict (pass a dict)"),
    (collections.OrderedDict(), "data: OrderedDict (pass a dict)"),
    (collections.UserDict(), "data: UserDict (pass a dict)"),
    (types.MappingProxyType({}), "data: mappingproxy"),
    (datetime.date(2026, 1, 1), "data: date"),
    (Pretender(), "data: Pretender"),
    (object, "data: type"),
    (Liar, "data: type"),
    (Pretender, "data: Liar"),
    ({"odd name": 1.0}, "data['odd name']: float (pass decimals as strings)"),
    ({"\u00e9": 1.0}, "data['\\xe9']: float (pass decimals as strings)"),
    ({"k" * 50: 1.0}, f"data['{'k' * 40}'...]: float (pass decimals as strings)"),
    (nested(DEPTH_MAX + 1), "data...: nested deeper than 200"),
    (nested(DEPTH_MAX + 1, of=dict), "data...: nested deeper than 200"),
    (nested(100_000), "data...: nested deeper than 200"),
]


@pytest.mark.parametrize("value", PLAIN, ids=range(len(PLAIN)))
def test_plain(value: Any) -> None:
    assert is_plain(value)
    assert explain(value) == ""


@pytest.mark.parametrize(("value", "reason"), NOT_PLAIN, ids=range(len(NOT_PLAIN)))
def test_not_plain(value: Any, reason: str) -> None:
    assert not is_plain(value)
    assert explain(value) == reason


def test_explain_uses_the_name_it_is_given() -> None:
    assert explain({"a": 1.0}, "header") == "header.a: float (pass decimals as strings)"
    assert explain(nested(201), "header") == "header...: nested deeper than 200"


def test_room() -> None:
    assert is_plain("x", 0)
    assert is_plain(1, 0)
    assert is_plain(None, 0)
    assert not is_plain([], 0)
    assert not is_plain({}, 0)
    assert is_plain([], 1)
    assert is_plain({"a": 1}, 1)
    assert not is_plain([[]], 1)
    assert not is_plain({"a": {}}, 1)


def test_cycles_end_at_once() -> None:
    wide: list[Any] = []
    wide.extend([wide] * 1000)  # 1000**200 paths, if all were walked
    ring: dict[str, Any] = {}
    ring["x"] = [{"y": ring}, ring, ring]
    through_tuple: list[Any] = []
    through_tuple.append((through_tuple,))
    for value in (wide, ring):
        assert not is_plain(value)
        assert explain(value) == "data...: nested deeper than 200"
    assert not is_plain(through_tuple)
    assert explain(through_tuple) == "data[0]: tuple (pass a list)"


def test_no_code_of_a_value_runs() -> None:
    class Trap:
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError(name)

        def __eq__(self, other: object) -> bool:
            raise AssertionError

        def __hash__(self) -> int:
            raise AssertionError

        def __repr__(self) -> str:
            raise AssertionError

    assert not is_plain({"a": Trap()})
    assert explain({"a": Trap()}) == "data.a: Trap"


def test_values_are_never_named() -> None:
    secret = "4hXTCkRzt9WyecNzV1XPgCDfGAZzQKNxLXgynz5QDuWW"
    for value in (MyStr(secret), secret.encode(), (secret,), {secret}, Decimal("31337.5"), 31337.5):
        reason = explain({"field": [value]})
        assert secret not in reason
        assert "31337" not in reason


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ({"b": 1, "a": "é"}, '{"b":1,"a":"é"}'.encode()),
        ({"a": "\ud800"}, b'{"a": "\\ud800"}'),
        ([2**63, 2**64 - 1, -(2**63)], b"[9223372036854775808,18446744073709551615,-9223372036854775808]"),
        ([2**64], b"[18446744073709551616]"),
        ([10**4299], b"[" + b"1" + b"0" * 4299 + b"]"),
        (None, b"null"),
        (True, b"true"),
    ],
)
def test_to_json(value: Any, wanted: bytes) -> None:
    assert to_json(value) == wanted


def test_to_json_of_too_many_digits() -> None:
    with pytest.raises(ValueError, match="Exceeds the limit") as caught:
        to_json({"a": 10**4300})
    with pytest.raises(ValueError, match="Exceeds the limit") as python:
        json.dumps({"a": 10**4300})
    assert str(caught.value) == str(python.value)


def test_to_json_at_the_depth_limit() -> None:
    for value in (nested(DEPTH_MAX), nested(DEPTH_MAX, of=dict)):
        assert json.loads(to_json(value)) == value
        orjson.dumps({"data": value})  # and one level around it


any_text = st.text(st.characters(codec=None, exclude_categories=()))
plain_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=20,
)


@given(plain_values)
def test_plain_values_make_the_round_trip(value: Any) -> None:
    assert is_plain(value)
    assert explain(value) == ""
    # Two lone surrogates that make a pair are one character in JSON.
    assert json.loads(to_json(value)) == json.loads(json.dumps(value))


odd_leaves = st.floats() | st.binary(max_size=3) | st.just(Side.BID) | st.tuples() | st.decimals()
mixed_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | odd_leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=3) | st.integers() | st.none(), inner, max_size=4)
        | st.tuples(inner)
    ),
    max_leaves=10,
)


@given(mixed_values)
def test_explain_and_is_plain_agree(value: Any) -> None:
    assert is_plain(value) == (explain(value) == "")


def test_recursion_limit_is_far() -> None:
    assert sys.getrecursionlimit() > DEPTH_MAX + 50
