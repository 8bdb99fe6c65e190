# SPDX-License-Identifier: MIT
"""The standard library in place of orjson: the same values, bytes and refusals, of what is sent and heard."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from proof.races import run_python

from pacifica_fast import _json

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def outcome(function: Any, argument: Any, refusal: type[Exception]) -> Any:
    try:
        return function(argument)
    except refusal:
        return "refused"


@given(PLAIN)
def test_the_same_bytes_out(value: Any) -> None:
    assert outcome(_json.plain_dumps, value, TypeError) == outcome(
        orjson.dumps, value, orjson.JSONEncodeError
    )


@given(st.binary(max_size=30) | PLAIN.map(lambda value: json.dumps(value).encode()))
def test_the_same_value_in(text: bytes) -> None:
    ours = outcome(_json.plain_loads, text, json.JSONDecodeError)
    theirs = outcome(orjson.loads, text, orjson.JSONDecodeError)
    assert ours == theirs or ours == "refused"  # of lone surrogates in escapes Python makes a str


@pytest.mark.parametrize("text", [b"NaN", b"[-Infinity]", b"\xff", b"[" * 100_000, b"", b"{"])
def test_what_neither_takes(text: bytes) -> None:
    for loads, refusal in ((_json.plain_loads, json.JSONDecodeError), (orjson.loads, orjson.JSONDecodeError)):
        assert outcome(loads, text, refusal) == "refused"


def test_it_serves_where_orjson_is_not() -> None:
    code = (
        "import sys; sys.modules['orjson'] = None; import pacifica_fast.session, pacifica_fast.sdk as sdk;"
        "from pacifica_fast import Keypair, _json; assert _json.loads is _json.plain_loads;"
        "header = dict(type='t', timestamp=1, expiry_window=2);"
        "print(sdk.sign_message(header, {'b': 1, 'a': '\\u00e9'}, Keypair.from_seed(bytes(32)))[1])"
    )
    without = run_python("-c", code, seconds=60)
    assert without[0] == 0, without[2]
    code = code.replace("sys.modules['orjson'] = None", "0").replace("plain_loads", "loads")
    with_it = run_python("-c", code, seconds=60)
    assert with_it == without
