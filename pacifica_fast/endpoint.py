# SPDX-License-Identifier: MIT
"""Where a client connects to and how: the arguments of ``connect``, checked, for both clients."""

from __future__ import annotations

import ssl as ssl_module
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Literal, TypedDict, TypeVar

from websockets.exceptions import InvalidURI
from websockets.uri import WebSocketURI, parse_uri

from pacifica_fast.armed import checked_window
from pacifica_fast.clock import ExchangeClock
from pacifica_fast.credits import Budget, shared_budget
from pacifica_fast.errors import InvalidRequest
from pacifica_fast.latency import Latency
from pacifica_fast.session import Pending, Session
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
    "Settings",
    "check_signer",
]

MAINNET_WS = "wss://ws.pacifica.fi/ws"
TESTNET_WS = "wss://test-ws.pacifica.fi/ws"

TIMEOUT = 5.0  # s
HEARTBEAT = 30.0  # s; the exchange closes after 60 s without a message from us
PONG_TIMEOUT = 5.0  # s
OPEN_TIMEOUT = 10.0  # s
CLOSE_TIMEOUT = 2.0  # s
MAX_MESSAGE = 1 << 20  # bytes
BACKOFF = 0.1  # s
BACKOFF_MAX = 30.0  # s
ROTATE_AFTER = 23.5 * 3600.0  # s; the exchange closes at 24 h
LINKS_MAX = 2
CREDIT_RESERVE = 10.0
CLOCK_WARNING = 0.2  # of the expiry window

DID_NOT_COME = "the connection did not come about"

P = TypeVar("P", bound=Pending)


class Settings(TypedDict, total=False):
    """What ``connect`` takes besides whom to connect to. Times are in s, sizes in bytes.

    Requests:

    - ``timeout`` (5): how long a request waits for its reply; then it is :class:`OutcomeUnknown`.
    - ``max_unsent`` (0): how many bytes may be waiting for the socket when a request is sent; with
      more, it is :class:`NotSent`. 0: a request goes to the kernel at once or not at all.
    - ``arm_window`` (None): how long an armed cancel stays valid, in ms; see :meth:`Client.arm`.
    - ``on_disconnect`` ("fail"): a cancel decided while nothing is connected fails at once as
      :class:`NotSent`; with "retry" it waits for a connection, ``retry_within`` (5) at most, and is
      signed then. Nothing but cancels is ever sent later than it was asked for, or twice.
    - ``keep_warm`` (0, asyncio only): build a request and throw it away every so many s, so that code
      and data are in the processor's caches when a cancel is due; 0.01 costs 0.3 % of a core.

    - ``credit_reserve`` (10): credits that only cancels may use: anything else that would touch them is
      :class:`CreditsReserved`. Clients with one ``api_key``, or without any on one address, count them
      together; ``credit_group`` (None) names those that do, an account and its subaccounts say.
    - ``latency`` (False): keep histograms of what building, writing and acknowledging took; needs the
      extra ``metrics``.

    Connections:

    - ``links`` (1): with 2, every cancel goes out on two connections; the first acknowledgement counts.
    - ``open_timeout`` (10): for name resolution, TCP, TLS and upgrade together.
    - ``heartbeat`` (30): ping after this long without a request; the exchange closes after 60.
    - ``pong_timeout`` (5): a link that owes an answer for so long is pinged, and given up if there is
      none to that for as long again. The kernel gives up after the same time without any sign of
      what was sent (``TCP_USER_TIMEOUT``, on Linux).
    - ``reconnect_attempts`` (None): how often in a row opening may fail; None: no limit, 0: never reconnect.
    - ``backoff`` (0.1), ``backoff_max`` (30): the pause before an attempt is anything up to a limit, which
      starts there, doubles each time, and ends there. A link that held for a second is opened at once.
    - ``rotate_after`` (84 600): a link is replaced at about this age, up to a tenth earlier; the exchange
      closes it at 24 h.
    - ``correct_clock`` (False): have requests stamped by the exchange's clock, as far as its replies tell,
      and never later than that. ``clock_warning`` (0.2): warn when a wrong clock eats this share of the
      signer's ``expiry_window``.
    - ``max_size`` (1 MiB): the largest message accepted from the exchange.
    """

    timeout: float
    heartbeat: float
    pong_timeout: float
    open_timeout: float
    max_size: int
    max_unsent: int
    arm_window: int | None
    keep_warm: float
    links: int
    on_disconnect: Literal["fail", "retry"]
    retry_within: float
    reconnect_attempts: int | None
    backoff: float
    backoff_max: float
    rotate_after: float
    correct_clock: bool
    clock_warning: float
    credit_reserve: float
    credit_group: str | None
    latency: bool


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An exchange, and how to talk to it: see :class:`Settings`. Made by :meth:`checked`.

    ``ssl`` is None for the default context, and for an ``uri`` without TLS.
    """

    uri: WebSocketURI
    headers: Mapping[str, str] = field(repr=False)  # the API key is among them
    ssl: ssl_module.SSLContext | None
    timeout: float
    heartbeat: float
    pong_timeout: float
    open_timeout: float
    max_size: int
    max_unsent: int
    arm_window: int | None
    keep_warm: float
    links: int
    retry_within: float  # 0: cancels fail at once
    reconnect_attempts: int | None
    backoff: float
    backoff_max: float
    rotate_after: float
    correct_clock: bool
    clock_warning: float
    credit_reserve: float
    credit_group: str = field(repr=False)  # may be the API key
    latency: bool

    @classmethod
    def checked(
        cls,
        url: str,
        *,
        ssl: ssl_module.SSLContext | None = None,
        api_key: str | None = None,
        timeout: float = TIMEOUT,
        heartbeat: float = HEARTBEAT,
        pong_timeout: float = PONG_TIMEOUT,
        open_timeout: float = OPEN_TIMEOUT,
        max_size: int = MAX_MESSAGE,
        max_unsent: int = 0,
        arm_window: int | None = None,
        keep_warm: float = 0.0,
        links: int = 1,
        on_disconnect: str = "fail",
        retry_within: float = TIMEOUT,
        reconnect_attempts: int | None = None,
        backoff: float = BACKOFF,
        backoff_max: float = BACKOFF_MAX,
        rotate_after: float = ROTATE_AFTER,
        correct_clock: bool = False,
        clock_warning: float = CLOCK_WARNING,
        credit_reserve: float = CREDIT_RESERVE,
        credit_group: str | None = None,
        latency: bool = False,
    ) -> Endpoint:
        """The arguments of ``connect``; raises :class:`InvalidRequest`, which names the wrong one."""
        uri = _checked_url(url)
        if on_disconnect not in ("fail", "retry"):
            raise InvalidRequest('on_disconnect: expected "fail" or "retry"')
        retry_within = _checked_seconds("retry_within", retry_within)
        return cls(
            uri=uri,
            headers={} if api_key is None else {"PF-API-KEY": _checked_api_key(api_key)},
            ssl=_checked_ssl(ssl, uri),
            timeout=_checked_seconds("timeout", timeout),
            heartbeat=_checked_seconds("heartbeat", heartbeat),
            pong_timeout=_checked_seconds("pong_timeout", pong_timeout),
            open_timeout=_checked_seconds("open_timeout", open_timeout),
            max_size=_checked_size("max_size", max_size, 1),
            max_unsent=_checked_size("max_unsent", max_unsent, 0),
            arm_window=None if arm_window is None else checked_window(arm_window),
            keep_warm=_checked_seconds("keep_warm", keep_warm) if keep_warm else 0.0,
            links=_checked_count("links", links, 1, LINKS_MAX),
            retry_within=retry_within if on_disconnect == "retry" else 0.0,
            reconnect_attempts=None
            if reconnect_attempts is None
            else _checked_count("reconnect_attempts", reconnect_attempts, 0, 1_000_000),
            backoff=_checked_seconds("backoff", backoff),
            backoff_max=_checked_seconds("backoff_max", backoff_max),
            rotate_after=_checked_seconds("rotate_after", rotate_after),
            correct_clock=_checked_flag("correct_clock", correct_clock),
            clock_warning=_checked_share("clock_warning", clock_warning),
            credit_reserve=_checked_credits("credit_reserve", credit_reserve),
            credit_group=_checked_group(credit_group) or f"key {api_key or ''}",
            latency=_checked_flag("latency", latency),
        )

    def budget(self) -> Budget:
        """What counts the credits; the same for all that share them."""
        return shared_budget(self.uri.host, self.uri.port, self.credit_group, self.credit_reserve)

    def latencies(self) -> Latency | None:
        """Where they are kept, if they are. Raises :class:`ImportError` that names the extra."""
        return Latency() if self.latency else None

    def session(self, make_pending: Callable[[int], P]) -> Session[P]:
        """The requests of a client, which makes its kind of them by their number."""
        return Session(
            make_pending,
            timeout=self.timeout,
            heartbeat=self.heartbeat,
            pong_timeout=self.pong_timeout,
            clock=self.clock(),
            budget=self.budget(),
            latency=self.latencies(),
        )

    def clock(self) -> ExchangeClock:
        """What tells the exchange's clock."""
        return ExchangeClock(correct=self.correct_clock, share=self.clock_warning)

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
    return ip_address(host).is_loopback if is_address(host) else host == "localhost"


def is_address(host: str) -> bool:
    """True for an IP address: it needs no resolving, and there is only one."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


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


def _checked_count(field: str, value: int, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise InvalidRequest(f"{field}: expected {least} to {most}")
    return value


def _checked_credits(field: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise InvalidRequest(f"{field}: expected a number of credits, 0 or more")
    return float(value)


def _checked_group(group: str | None) -> str:
    if group is not None and (not isinstance(group, str) or not group):
        raise InvalidRequest("credit_group: expected a name, or None")
    return "" if group is None else f"group {group}"


def _checked_flag(field: str, value: bool) -> bool:
    if type(value) is not bool:
        raise InvalidRequest(f"{field}: expected True or False")
    return value


def _checked_share(field: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise InvalidRequest(f"{field}: expected a share, more than 0 and at most 1")
    return float(value)


def _checked_api_key(api_key: str) -> str:
    if not isinstance(api_key, str) or not api_key or any(not "!" <= c <= "~" for c in api_key):
        raise InvalidRequest("api_key: expected printable ASCII characters without white space")
    return api_key


def _checked_seconds(field: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 86_400:
        raise InvalidRequest(f"{field}: expected a positive number of seconds, less than a day")
    return float(value)
