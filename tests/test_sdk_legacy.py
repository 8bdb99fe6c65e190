# SPDX-License-Identifier: MIT
"""The drop-in for the SDK as it was until 16 June 2025: the sorted dict comes first."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest
from conformance import (
    CASE_NAMES,
    CASES,
    FACTS,
    KNOWN_ANSWERS,
    LEADING_ZERO_VECTORS,
    OLD,
    arguments,
    check_old,
    namespace,
    outcome,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from pacifica_fast import reference, sdk, sdk_legacy
from pacifica_fast.errors import KeyClosed
from pacifica_fast.keys import Keypair

HEADER = {"timestamp": 1748970123456, "expiry_window": 5000, "type": "cancel_order"}
CANCEL = {"symbol": "BTC", "order_id": 42069}


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    pytest.importorskip("solders")
    return namespace()


# One recorded keypair has an ``async`` sign_message, which nobody awaits.
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:.*coroutine:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("case", CASES, ids=CASE_NAMES)
def test_recorded_outcome(case: dict[str, Any], names: dict[str, Any]) -> None:
    check_old(case, outcome(sdk_legacy.sign_message, *arguments(case, names)))


@pytest.mark.parametrize("vector", LEADING_ZERO_VECTORS)
def test_signatures_with_leading_zeros(vector: dict[str, Any]) -> None:
    with Keypair.from_seed(eval(vector["seed"], {})) as keypair:
        ordered, signature = sdk_legacy.sign_message(vector["header"], vector["payload"], keypair)
    assert json.dumps(ordered, separators=(",", ":")) == vector["message"]
    assert signature == vector["signature"]


@pytest.mark.parametrize("answer", KNOWN_ANSWERS, ids=range(len(KNOWN_ANSWERS)))
def test_known_answer(answer: dict[str, Any]) -> None:
    """The dict it returns, written compactly, is what the known signature is of."""
    header = {field: answer[field] for field in ("type", "timestamp", "expiry_window")}
    with Keypair.from_seed(bytes(32)) as keypair:
        ordered, _ = sdk_legacy.sign_message(header, answer["data"], keypair)
    message = json.dumps(ordered, separators=(",", ":"))
    assert message == answer["message"]
    public_key = Ed25519PublicKey.from_public_bytes(reference.b58decode(answer["account"]))
    public_key.verify(reference.b58decode(answer["signature"]), message.encode())


@pytest.mark.parametrize("function", list(FACTS["signatures"]))
def test_functions(function: str) -> None:
    wanted = FACTS["signatures"][function][OLD]
    if wanted is None:
        assert not hasattr(sdk_legacy, function)
    else:
        parameters = inspect.signature(getattr(sdk_legacy, function)).parameters
        assert f"({', '.join(parameters)})" == wanted
    assert FACTS["prepare_message_return"][OLD] == "absent"


@pytest.mark.parametrize(
    ("fact", "positional", "keywords"),
    [
        ("call with no args", (), {}),
        ("call with two args", (HEADER, CANCEL), {}),
        ("call with four args", (HEADER, CANCEL, None, None), {}),
        ("call with unknown keyword", (HEADER, CANCEL, None), {"x": 1}),
    ],
)
def test_wrong_calls(fact: str, positional: tuple[Any, ...], keywords: dict[str, Any]) -> None:
    got = outcome(lambda: sdk_legacy.sign_message(*positional, **keywords))
    assert f"{got.exception}: {got.text}" == FACTS[fact]


def test_both_paths_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    payload = {"symbol": "BTC", "items": [{"b": 1, "a": 2}], "flag": True}
    with Keypair.from_seed(bytes(32)) as keypair:
        fast = sdk_legacy.sign_message(HEADER, payload, keypair)
        assert fast[1] == sdk.sign_message(HEADER, payload, keypair)[1]
        monkeypatch.setattr(sdk_legacy, "is_plain", lambda value: False)
        assert sdk_legacy.sign_message(HEADER, payload, keypair) == fast


def test_what_it_returns_is_the_callers() -> None:
    payload = {"b": [{"z": 1, "y": 2}], "a": {}}
    with Keypair.from_seed(bytes(32)) as keypair:
        ordered, _ = sdk_legacy.sign_message(header=HEADER, payload=payload, keypair=keypair)
    assert list(ordered) == ["data", "expiry_window", "timestamp", "type"]
    assert list(ordered["data"]) == ["a", "b"]
    assert list(payload) == ["b", "a"]
    ordered["data"]["b"][0]["z"] = 9
    assert payload["b"] == [{"z": 1, "y": 2}]


def test_sort_json_keys_is_the_same_function() -> None:
    assert sdk_legacy.sort_json_keys is reference.sort_json_keys


def test_closed_key() -> None:
    keypair = Keypair.from_seed(bytes(32))
    keypair.close()
    with pytest.raises(KeyClosed):
        sdk_legacy.sign_message(HEADER, CANCEL, keypair)
