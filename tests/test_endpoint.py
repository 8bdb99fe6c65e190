# SPDX-License-Identifier: MIT
"""The arguments of ``connect``, which both clients check alike."""

from __future__ import annotations

import dataclasses
import inspect
import ssl
from typing import Any

import pytest

from pacifica_fast import InvalidRequest, Keypair, Signer
from pacifica_fast.asyncio import connect
from pacifica_fast.endpoint import (
    HEARTBEAT,
    MAINNET_WS,
    MAX_MESSAGE,
    OPEN_TIMEOUT,
    TESTNET_WS,
    TIMEOUT,
    Endpoint,
    Settings,
    check_signer,
)

CONTEXT = ssl.create_default_context()
DEFAULTS: dict[str, Any] = {
    "timeout": TIMEOUT,
    "ssl": None,
    "api_key": None,
    "heartbeat": HEARTBEAT,
    "open_timeout": OPEN_TIMEOUT,
    "max_size": MAX_MESSAGE,
    "max_unsent": 0,
    "arm_window": None,
    "keep_warm": 0.0,
}


def endpoint(url: Any = MAINNET_WS, **options: Any) -> Endpoint:
    return Endpoint.checked(url, **DEFAULTS | options)


def test_connect_takes_what_an_endpoint_does() -> None:
    named = set(inspect.signature(connect).parameters) - {"signer", "on_late_reply", "settings"}
    taken = set(inspect.signature(Endpoint.checked).parameters)
    assert named | set(Settings.__annotations__) == taken
    assert Settings.__doc__ is not None
    for setting in Settings.__annotations__:
        assert f"``{setting}``" in Settings.__doc__, setting


@pytest.mark.parametrize("url", [MAINNET_WS, TESTNET_WS, "wss://[2001:db8::1]:8443/ws", "wss://münchen.de/"])
def test_tls_to_everywhere(url: str) -> None:
    known = endpoint(url)
    assert known.uri.secure
    assert known.tls() is not None


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8:9000", "[::1]:80"])
def test_plain_to_this_machine(host: str) -> None:
    known = endpoint(f"ws://{host}/ws")
    assert not known.uri.secure
    assert known.tls() is None


def test_what_comes_out() -> None:
    known = endpoint(
        timeout=2, ssl=CONTEXT, api_key="8charpre_5Hm", heartbeat=20, open_timeout=3, max_size=99
    )
    assert (known.uri.host, known.uri.port, known.uri.path) == ("ws.pacifica.fi", 443, "/ws")
    assert (known.timeout, known.heartbeat, known.open_timeout, known.max_size) == (2.0, 20.0, 3.0, 99)
    assert (known.max_unsent, known.arm_window, known.keep_warm) == (0, None, 0.0)
    assert known.ssl is CONTEXT
    assert known.headers == {"PF-API-KEY": "8charpre_5Hm"}
    assert endpoint().headers == {}
    with pytest.raises(dataclasses.FrozenInstanceError):
        known.timeout = 1.0  # type: ignore[misc]


def test_the_api_key_is_sent_and_not_shown() -> None:
    known = endpoint(api_key="8charpre_5Hm")
    assert "5Hm" not in repr(known)
    assert b"PF-API-KEY: 8charpre_5Hm\r\n" in known.websocket().to_send()


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("url", {"url": "http://localhost/ws"}),
        ("url", {"url": "wss://"}),
        ("url", {"url": 5}),
        ("url", {"url": "ws://ws.pacifica.fi/ws"}),
        ("url", {"url": "ws://10.0.0.1/ws"}),
        ("url", {"url": "ws://localhost.example/ws"}),
        ("url", {"url": "wss://localhost/ws\r\nX-Injected: 1"}),
        ("url", {"url": "wss://localhost/ws x"}),
        ("url", {"url": "wss://localhost/ws\x7f"}),
        ("url", {"url": "wss://a..b/ws"}),
        ("url", {"url": "wss://localhost:port/ws"}),
        ("api_key", {"api_key": "k\r\nX-Injected: 1"}),
        ("api_key", {"api_key": ""}),
        ("api_key", {"api_key": "kéy"}),
        ("api_key", {"api_key": b"key"}),
        ("timeout", {"timeout": 0}),
        ("timeout", {"timeout": "5"}),
        ("timeout", {"timeout": True}),
        ("timeout", {"timeout": float("nan")}),
        ("timeout", {"timeout": 86_400}),
        ("heartbeat", {"heartbeat": -1}),
        ("open_timeout", {"open_timeout": float("inf")}),
        ("ssl", {"ssl": True}),
        ("ssl", {"ssl": CONTEXT, "url": "ws://localhost/ws"}),
        ("max_size", {"max_size": 0}),
        ("max_size", {"max_size": None}),
        ("max_size", {"max_size": 1e6}),
        ("max_unsent", {"max_unsent": -1}),
        ("max_unsent", {"max_unsent": True}),
        ("arm_window", {"arm_window": 0}),
        ("arm_window", {"arm_window": 999}),
        ("arm_window", {"arm_window": 5_000.0}),
        ("keep_warm", {"keep_warm": -0.01}),
        ("keep_warm", {"keep_warm": "often"}),
    ],
)
def test_bad_options_are_named(field: str, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match=rf"^{field}: "):
        endpoint(**options)


def test_who_signs() -> None:
    keypair: Any = Keypair.generate()
    check_signer(Signer(keypair))
    with pytest.raises(InvalidRequest, match=r"^signer: .*Keypair"):
        check_signer(keypair)
