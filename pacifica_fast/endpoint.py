# SPDX-License-Identifier: MIT
"""Where a client connects to and how: the arguments of ``connect``, checked, for both clients."""

from __future__ import annotations

import ssl as ssl_module
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address

from websockets.exceptions import InvalidURI
from websockets.uri import WebSocketURI, parse_uri

from pacifica_fast.armed import checked_window
from pacifica_fast.errors import InvalidRequest
from pacifica_fast.signer import Signer
from pacifica_fast.tls import TLS
from pacifica_fast.websocket import WebSocket

__all__ = [
    "CLOSE_TIMEOUT",
    "HEARTBEAT",
    "MAINNET_WS",
    "MAX_MESSAGE",
    "OPEN_TIMEOUT",
    "TESTNET_WS",
    "TIMEOUT",
    "Endpoint",
    "check_signer",
]

MAINNET_WS = "wss://ws.pacifica.fi/ws"
TESTNET_WS = "wss://test-ws.pacifica.fi/ws"

TIMEOUT = 5.0  # s
HEARTBEAT = 30.0  # s; the exchange closes after 60 s without a message from us
OPEN_TIMEOUT = 10.0  # s
CLOSE_TIMEOUT = 2.0  # s
MAX_MESSAGE = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An exchange, and how to talk to it. Made by :meth:`checked`.

    ``timeout``, ``heartbeat``, ``open_timeout`` and ``keep_warm`` are in seconds, ``max_size`` and
    ``max_unsent`` in bytes, ``arm_window`` in ms or None for the defaults of armed cancels.
    ``ssl`` is None for the default context, and for an ``uri`` without TLS.
    """

    uri: WebSocketURI
    headers: Mapping[str, str] = field(repr=False)  # the API key is among them
    ssl: ssl_module.SSLContext | None
    timeout: float
    heartbeat: float
    open_timeout: float
    max_size: int
    max_unsent: int
    arm_window: int | None
    keep_warm: float

    @classmethod
    def checked(
        cls,
        url: str,
        *,
        timeout: float,
        ssl: ssl_module.SSLContext | None,
        api_key: str | None,
        heartbeat: float,
        open_timeout: float,
        max_size: int,
        max_unsent: int = 0,
        arm_window: int | None = None,
        keep_warm: float = 0.0,
    ) -> Endpoint:
        """The arguments of ``connect``; raises :class:`InvalidRequest`, which names the wrong one."""
        uri = _checked_url(url)
        return cls(
            uri=uri,
            headers={} if api_key is None else {"PF-API-KEY": _checked_api_key(api_key)},
            timeout=_checked_seconds("timeout", timeout),
            heartbeat=_checked_seconds("heartbeat", heartbeat),
            open_timeout=_checked_seconds("open_timeout", open_timeout),
            ssl=_checked_ssl(ssl, uri),
            max_size=_checked_size("max_size", max_size, 1),
            max_unsent=_checked_size("max_unsent", max_unsent, 0),
            arm_window=None if arm_window is None else checked_window(arm_window),
            keep_warm=_checked_seconds("keep_warm", keep_warm) if keep_warm else 0.0,
        )

    def websocket(self) -> WebSocket:
        """The websocket of a new connection."""
        return WebSocket(self.uri, self.headers, self.max_size)

    def tls(self) -> TLS | None:
        """The TLS of a new connection; None for ``ws://``."""
        if not self.uri.secure:
            return None
        return TLS(self.ssl or ssl_module.create_default_context(), self.uri.host)


def check_signer(signer: Signer) -> None:
    """Raise :class:`InvalidRequest` for what is no :class:`Signer`, a Keypair say."""
    if not isinstance(signer, Signer):
        raise InvalidRequest(f"signer: expected pacifica_fast.Signer, got {type(signer).__name__}")


def _checked_url(url: str) -> WebSocketURI:
    if not isinstance(url, str):
        raise InvalidRequest(f"url: expected str, got {type(url).__name__}")
    if any(ord(c) <= 0x20 or ord(c) == 0x7F for c in url):
        raise InvalidRequest("url: white space or a control character")
    try:
        uri = parse_uri(url)
        uri.host.encode("idna")
    except InvalidURI as error:
        raise InvalidRequest(f"url: {error.msg}") from None
    except ValueError:
        raise InvalidRequest("url: not a host name or not a port number") from None
    if not uri.secure and not _is_loopback(uri.host):
        raise InvalidRequest("url: ws:// is only for this machine; use wss://")
    return uri


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _checked_ssl(ssl: ssl_module.SSLContext | None, uri: WebSocketURI) -> ssl_module.SSLContext | None:
    if ssl is not None and not isinstance(ssl, ssl_module.SSLContext):
        raise InvalidRequest(f"ssl: expected ssl.SSLContext, got {type(ssl).__name__}")
    if ssl is not None and not uri.secure:
        raise InvalidRequest("ssl: only a wss:// url has a use for it")
    return ssl


def _checked_size(field: str, value: int, least: int) -> int:
    if type(value) is not int or value < least:
        expected = "a positive number of bytes" if least else "a number of bytes, 0 or more"
        raise InvalidRequest(f"{field}: expected {expected}")
    return value


def _checked_api_key(api_key: str) -> str:
    if not isinstance(api_key, str) or not api_key or any(not "!" <= c <= "~" for c in api_key):
        raise InvalidRequest("api_key: expected printable ASCII characters without white space")
    return api_key


def _checked_seconds(field: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 86_400:
        raise InvalidRequest(f"{field}: expected a positive number of seconds, less than a day")
    return float(value)
