# SPDX-License-Identifier: MIT
"""From arguments to the finished, signed websocket request, in one call into C."""

from __future__ import annotations

import json
import re
from collections.abc import MutableMapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, NoReturn, overload
from uuid import UUID
from weakref import WeakKeyDictionary

from pacifica_fast._sodium import LONG_INPUT, ffi, lib
from pacifica_fast.bulk import sign_many
from pacifica_fast.errors import InvalidRequest
from pacifica_fast.keys import Keypair
from pacifica_fast.nonces import NONCES_MAX, NoncePool, Stats
from pacifica_fast.payload import explain, is_plain, to_json

__all__ = ["BATCH_MAX", "OrderId", "Request", "Signed", "Signer"]

OrderId = int | str | UUID
"""An order id, or a client order id as ``uuid.UUID`` or lower-case hyphenated string."""

BATCH_MAX: int = lib.PF_BATCH_ITEMS_MAX
"""Actions in one ``batch_orders`` request (docs.pacifica.fi, batch orders)."""

_U64_END = 1 << 64
_I64_END = 1 << 63
_ID_START = len('{"id":"')
_ID_END = _ID_START + 36
_NULL = ffi.NULL
_REQUEST_MAX: int = lib.PF_REQUEST_MAX
_FRAME_MAX: int = lib.PF_FRAME_MAX  # holds a frame, hence a request too
_BATCH_REQUEST_MAX: int = lib.PF_BATCH_MAX
# Looking a function up in cffi's lib takes as long as an argument.
_cancel_order_id = lib.pf_cancel_order_id
_blank_order_id = lib.pf_blank_order_id
_cancel_client_order_id = lib.pf_cancel_client_order_id
_frame_order_id = lib.pf_frame_cancel_order_id
_frame_client_order_id = lib.pf_frame_cancel_client_order_id
_CORRECTION_MAX: int = lib.PF_CORRECTION_MAX
# C templates point to the clock of their signer, and may outlive it, in a store of armed cancels.
_clock_of_template: MutableMapping[Any, Any] = WeakKeyDictionary()
_TIMESTAMP = '"timestamp":'
_is_name = re.compile(r"[a-z0-9_]{1,64}").fullmatch
_SIGNATURE_FIELDS = ("account", "signature", "timestamp", "expiry_window")


class Request:
    """A finished request: ``text`` is ready for a websocket text frame.

    Everything else is read from the text when asked for.
    """

    __slots__ = ("_operation", "text")

    def __init__(self, text: bytes) -> None:
        self.text: bytes = text
        """Compact JSON, ASCII: ``{"id":"…","params":{"<operation>":{…}}}``."""
        self._operation: dict[str, Any] | None = None

    @property
    def id(self) -> str:
        """The request id, a UUID of 36 characters; the reply carries it too."""
        return self.text[_ID_START:_ID_END].decode()

    @property
    def operation(self) -> str:
        """The operation: ``cancel_order``, ``batch_orders``, ..."""
        name: str = next(iter(self._params()))
        return name

    @property
    def timestamp(self) -> int:
        """When it was signed, in ms since 1970."""
        timestamp: int = self._signed_fields()["timestamp"]
        return timestamp

    @property
    def expiry_window(self) -> int:
        """For how many ms after ``timestamp`` the exchange accepts it."""
        window: int = self._signed_fields()["expiry_window"]
        return window

    def _params(self) -> dict[str, Any]:
        if self._operation is None:
            self._operation = json.loads(self.text)["params"]
        return self._operation

    def _signed_fields(self) -> dict[str, Any]:
        """What carries the signature: the operation, or the first action of a batch."""
        fields: dict[str, Any] = next(iter(self._params().values()))
        if self.operation == "batch_orders":
            fields = fields["actions"][0]["data"]
        return fields

    def __repr__(self) -> str:
        return f"<Request {self.operation} {self.id}>"


class Signed(NamedTuple):
    """A signed operation, for whoever builds the request: ``message`` is what was signed."""

    message: str
    signature: str
    timestamp: int
    expiry_window: int


_Blank = tuple[Any, Any, Any, Any]
"""A ``pf_blank``, the view of its room, and what it borrows: the room, and the template."""


class Signer:
    """Builds signed requests for one account.

    ``keypair`` signs. Without ``account`` its public key is the account; with it, the
    keypair is an agent wallet of that account. ``expiry_window`` is in ms: the exchange
    refuses what arrives later than ``timestamp + expiry_window``.

    Signatures are deterministic (RFC 8032): the same bytes as any other Ed25519 library's,
    about 27 µs each. With ``prepared``, 1 to 65 536, so many nonces are kept ready in the
    background, and a signature costs 2 µs: as valid, but different every time. When none is
    ready, signatures are deterministic. ``prepared_max_age`` is in seconds: older nonces are
    thrown away. When to do without: ``docs/security.md``.

    A Signer may be used from any thread. It does not own the keypair: closing the keypair
    ends it, with :class:`KeyClosed`. :meth:`close` ends the background thread of
    ``prepared``; a Signer without has nothing to close.

    Arguments common to all requests: ``timestamp`` in ms since 1970 (default: the clock
    at signing, and :attr:`clock_correction`), ``expiry_window`` in ms (default: the Signer's),
    ``request_id``, a ``uuid.UUID`` or a lower-case hyphenated string (default: one that this
    process has not used yet). Anything wrong raises :class:`InvalidRequest`, which names the
    field, before anything is signed.
    """

    __slots__ = (
        "_account",
        "_agent",
        "_blanks",
        "_cancel_all_templates",
        "_clock",
        "_keypair",
        "_operation_templates",
        "_order_templates",
        "_pool",
        "_window",
        "_window_templates",
    )

    def __init__(
        self,
        keypair: Keypair,
        *,
        account: str | None = None,
        expiry_window: int = 5_000,
        prepared: int = 0,
        prepared_max_age: float = 60.0,
    ) -> None:
        if not isinstance(keypair, Keypair):
            raise InvalidRequest(
                f"keypair: expected pacifica_fast.Keypair, got {type(keypair).__name__} "
                "(for a solders Keypair kp: Keypair.from_bytes(bytes(kp)))"
            )
        self._keypair = keypair
        pubkey = keypair.pubkey()
        self._account = pubkey if account is None else _checked_account(account)
        self._agent = "" if self._account == pubkey else pubkey
        self._window = _checked_ms("expiry_window", expiry_window)
        size, max_age = _checked_prepared(prepared), _checked_max_age(prepared_max_age)
        self._pool = NoncePool(keypair, size, max_age) if size else None
        self._clock = ffi.new("pf_clock *")
        # Blanks for single cancels, by symbol for the Signer's own window, else by (symbol, window). One
        # is popped for a call and given back after it, both atomic: no two threads ever share one.
        self._blanks: dict[str | tuple[str, int], list[_Blank]] = {}
        # C templates: by symbol for the Signer's own window, by (symbol, window) for others.
        self._order_templates: dict[str, Any] = {}
        self._window_templates: dict[tuple[str, int], Any] = {}
        self._cancel_all_templates: dict[tuple[str, bool, int], Any] = {}
        self._operation_templates: dict[int, Any] = {}

    @property
    def keypair(self) -> Keypair:
        """Who signs."""
        return self._keypair

    @property
    def account(self) -> str:
        """The account that requests are for, base58."""
        return self._account

    @property
    def agent_wallet(self) -> str | None:
        """The public key of the agent wallet that signs, or None if the account signs itself."""
        return self._agent or None

    @property
    def expiry_window(self) -> int:
        """The default window in ms."""
        return self._window

    @property
    def clock_correction(self) -> int:
        """What is added to the clock where a request is stamped with it, in ms; 0 until it is set.

        A ``timestamp`` that the caller gives is not touched. May be set from any thread and at any
        time, up to a day either way: the next signature has it, also that of an armed cancel signed
        anew in the background; armed cancels that were stamped with another are judged, and
        replaced, by what their timestamps mean now. :mod:`pacifica_fast.clock` finds out what to set.
        """
        correction: int = lib.pf_clock_correction(self._clock)
        return correction

    @clock_correction.setter
    def clock_correction(self, ms: int) -> None:
        if type(ms) is not int:
            raise InvalidRequest(f"clock_correction: expected int (ms), got {type(ms).__name__}")
        if not -_CORRECTION_MAX <= ms <= _CORRECTION_MAX:
            raise InvalidRequest("clock_correction: expected at most a day, in ms, got an int outside")
        lib.pf_clock_correct(self._clock, ms)

    @property
    def stats(self) -> Stats:
        """What became of the nonces prepared; all zero without ``prepared``."""
        return Stats() if self._pool is None else self._pool.stats()

    def close(self) -> None:
        """End ``prepared``: no more refilling, and every nonce is wiped. Idempotent.

        The Signer goes on, and signs deterministically.
        """
        if self._pool is not None:
            self._pool.close()

    def __enter__(self) -> Signer:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Signer cannot be pickled or copied: its private key stays where it is")

    def __repr__(self) -> str:
        agent = f" agent_wallet={self._agent}" if self._agent else ""
        return f"<Signer {self._account}{agent} expiry_window={self._window}>"

    # Cancels: one C call each.

    @overload
    def cancel_order(
        self,
        symbol: str,
        *,
        order_id: int,
        client_order_id: None = None,
        timestamp: int | None = None,
        expiry_window: int | None = None,
        request_id: str | UUID | None = None,
    ) -> Request: ...

    @overload
    def cancel_order(
        self,
        symbol: str,
        *,
        order_id: None = None,
        client_order_id: str | UUID,
        timestamp: int | None = None,
        expiry_window: int | None = None,
        request_id: str | UUID | None = None,
    ) -> Request: ...

    def cancel_order(
        self,
        symbol: str,
        *,
        order_id: Any = None,
        client_order_id: Any = None,
        timestamp: int | None = None,
        expiry_window: int | None = None,
        request_id: str | UUID | None = None,
    ) -> Request:
        """Cancel one order, by exactly one of ``order_id`` (0 to 2^64 - 1) and ``client_order_id``.

        ``symbol`` is 1 to 32 printable ASCII characters without ``"`` and ``\\``. Costs one
        signature, about 27 µs, and 2 µs around it.
        """
        return Request(
            self.cancel_order_text(symbol, order_id, client_order_id, timestamp, expiry_window, request_id)
        )

    @overload
    def cancel_order_text(
        self,
        symbol: str,
        order_id: int,
        client_order_id: None,
        timestamp: int | None = None,
        expiry_window: int | None = None,
        request_id: str | UUID | None = None,
    ) -> bytes: ...

    @overload
    def cancel_order_text(
        self,
        symbol: str,
        order_id: None,
        client_order_id: str | UUID,
        timestamp: int | None = None,
        expiry_window: int | None = None,
        request_id: str | UUID | None = None,
    ) -> bytes: ...

    def cancel_order_text(
        self,
        symbol: str,
        order_id: Any,
        client_order_id: Any,
        timestamp: int | None = None,
        expiry_window: int | None = None,
        request_id: str | UUID | None = None,
    ) -> bytes:
        """The bytes of :meth:`cancel_order`."""
        free = None
        if expiry_window is None and type(symbol) is str:
            free = self._blanks.get(symbol)
        if free is None:
            free = self._blanks_of(symbol, expiry_window)
        when = 0 if timestamp is None else _checked_ms("timestamp", timestamp)
        own_id = b"" if request_id is None else _checked_id("request_id", request_id)
        try:
            blank = free.pop()
        except IndexError:
            blank = self._new_blank(symbol, expiry_window)
        to_fill, view, out, template = blank
        if client_order_id is None:
            if type(order_id) is not int or not 0 <= order_id < _U64_END:
                raise _bad_order_id(order_id)
            if own_id:
                n = _cancel_order_id(out, _FRAME_MAX, template, order_id, when, 0, own_id, len(own_id))
            else:
                n = _blank_order_id(to_fill, order_id, when)
        else:
            text = _checked_client_order_id(order_id, client_order_id)
            n = _cancel_client_order_id(out, _FRAME_MAX, template, text, 36, when, 0, own_id, len(own_id))
        if n < 0:
            self.fail(n)
        request: bytes = view[:n]
        free.append(blank)
        return request

    @overload
    def cancel_order_frame(
        self,
        symbol: str,
        order_id: int,
        client_order_id: None,
        timestamp: int | None,
        expiry_window: int | None,
        number: int,
    ) -> bytes: ...

    @overload
    def cancel_order_frame(
        self,
        symbol: str,
        order_id: None,
        client_order_id: str | UUID,
        timestamp: int | None,
        expiry_window: int | None,
        number: int,
    ) -> bytes: ...

    def cancel_order_frame(
        self,
        symbol: str,
        order_id: Any,
        client_order_id: Any,
        timestamp: int | None,
        expiry_window: int | None,
        number: int,
    ) -> bytes:
        """The same request, with the id of request ``number``, as a websocket frame.

        It is a whole text frame (RFC 6455, section 5.2), masked with a fresh key. For the
        clients: what lies between the decision and the wire, and hence written out.
        """
        free = None
        if expiry_window is None and type(symbol) is str:
            free = self._blanks.get(symbol)
        if free is None:
            free = self._blanks_of(symbol, expiry_window)
        when = 0 if timestamp is None else _checked_ms("timestamp", timestamp)
        try:
            blank = free.pop()
        except IndexError:
            blank = self._new_blank(symbol, expiry_window)
        if client_order_id is None:
            if type(order_id) is not int or not 0 <= order_id < _U64_END:
                raise _bad_order_id(order_id)
            n = _frame_order_id(blank[0], order_id, when, number)
        else:
            text = _checked_client_order_id(order_id, client_order_id)
            n = _frame_client_order_id(blank[0], text, 36, when, number)
        if n < 0:
            self.fail(n)
        frame: bytes = blank[1][:n]
        free.append(blank)
        return frame

    def cancel_all_orders(
        self,
        *,
        symbol: str | None = None,
        exclude_reduce_only: bool = False,
        timestamp: int | None = None,
        expiry_window: int | None = None,
        request_id: str | UUID | None = None,
        number: int = 0,
    ) -> Request:
        """Cancel all orders of ``symbol``, or of every symbol; reduce-only ones stay if asked."""
        if type(exclude_reduce_only) is not bool:
            kind = type(exclude_reduce_only).__name__
            raise InvalidRequest(f"exclude_reduce_only: expected bool, got {kind}")
        window = self._window if expiry_window is None else _checked_ms("expiry_window", expiry_window)
        name = "" if symbol is None else _checked_symbol(symbol)
        template = self._cancel_all_templates.get((name, exclude_reduce_only, window))
        if template is None:
            template = self._template(lib.PF_CANCEL_ALL, name, window, exclude_reduce_only)
            _keep(self._cancel_all_templates, (name, exclude_reduce_only, window), template)
        when = 0 if timestamp is None else _checked_ms("timestamp", timestamp)
        own_id = b"" if request_id is None else _checked_id("request_id", request_id)
        out = ffi.new("char[]", _REQUEST_MAX)
        return self._finished(
            out, lib.pf_cancel_all_orders(out, _REQUEST_MAX, template, when, number, own_id, len(own_id))
        )

    def batch_cancel(
        self,
        cancels: Sequence[tuple[str, OrderId]],
        *,
        timestamp: int | None = None,
        expiry_window: int | None = None,
        request_id: str | UUID | None = None,
        number: int = 0,
    ) -> Request:
        """Cancel 1 to 10 orders in one request, each ``(symbol, order id or client order id)``.

        Each is signed on its own, all in one C call; one refused signature refuses the batch.
        """
        if isinstance(cancels, str | bytes) or not isinstance(cancels, Sequence):
            raise InvalidRequest(f"cancels: expected a sequence of pairs, got {type(cancels).__name__}")
        cancels = list(cancels)  # C reads as many items as there are here, whatever becomes of the caller's
        if not 1 <= len(cancels) <= BATCH_MAX:
            raise InvalidRequest(f"cancels: expected 1 to {BATCH_MAX}, got {len(cancels)}")
        window = self._window if expiry_window is None else _checked_ms("expiry_window", expiry_window)
        items = ffi.new("pf_cancel_item[]", len(cancels))
        templates = [
            self._fill_item(items[index], f"cancels[{index}]", cancel, window)
            for index, cancel in enumerate(cancels)
        ]
        when = 0 if timestamp is None else _checked_ms("timestamp", timestamp)
        own_id = b"" if request_id is None else _checked_id("request_id", request_id)
        out = ffi.new("char[]", _BATCH_REQUEST_MAX)
        n = lib.pf_batch_cancel(
            out, _BATCH_REQUEST_MAX, items, len(cancels), when, number, own_id, len(own_id)
        )
        del templates  # C only borrowed them
        return self._finished(out, n)

    # Any other operation.

    def sign(
        self,
        type: str,  # noqa: A002  # the exchange's own name for it
        data: dict[str, Any],
        *,
        timestamp: int | None = None,
        expiry_window: int | None = None,
    ) -> Signed:
        """Sign an operation, and leave it to the caller to build the request (REST, say).

        ``type`` is the exchange's name of the operation, ``data`` its payload: dicts, lists,
        strings, ints, bools and None; decimals as strings.
        """
        template, name, payload, when = self._operation("type", type, data, timestamp, expiry_window)
        cap = lib.pf_operation_bound(payload, len(payload))
        out = ffi.new("char[]", cap)
        position = ffi.new("size_t *")
        call = lib.pf_sign_data if len(payload) <= LONG_INPUT else lib.pf_sign_data_detached
        n = call(out, cap, template, name, len(name), payload, len(payload), when, position)
        if n < 0:
            self.fail(n, "data")
        end = n >> 8
        text = ffi.buffer(out, end + (n & 255))[:].decode()
        message = text[:end]
        if not when:  # it stands behind the data, and only the type behind it
            when = int(message[message.rindex(_TIMESTAMP) + len(_TIMESTAMP) :].partition(",")[0])
        window = self._window if expiry_window is None else expiry_window
        return Signed(message, text[end:], when, window)

    def request(
        self,
        operation: str,
        data: dict[str, Any],
        *,
        timestamp: int | None = None,
        expiry_window: int | None = None,
        request_id: str | UUID | None = None,
        number: int = 0,
    ) -> Request:
        """The finished request of any operation, ``data`` being its payload as for :meth:`sign`.

        But ``batch_orders``, whose actions are signed one by one: see :meth:`batch_cancel`.
        """
        if operation == "batch_orders":
            raise InvalidRequest(
                "operation: the actions of batch_orders are signed one by one (use batch_cancel)"
            )
        template, name, payload, when = self._operation(
            "operation", operation, data, timestamp, expiry_window
        )
        for field in (*_SIGNATURE_FIELDS, *(("agent_wallet",) if self._agent else ())):
            if field in data:
                raise InvalidRequest(f"data.{field}: the request has a field of that name already (use sign)")
        own_id = b"" if request_id is None else _checked_id("request_id", request_id)
        cap = lib.pf_operation_bound(payload, len(payload))
        out = ffi.new("char[]", cap)
        position = ffi.new("size_t *")
        call = lib.pf_request if len(payload) <= LONG_INPUT else lib.pf_request_detached
        n = call(
            out,
            cap,
            template,
            name,
            len(name),
            payload,
            len(payload),
            when,
            number,
            own_id,
            len(own_id),
            position,
        )
        return self._finished(out, n)

    def sign_many(self, messages: Sequence[bytes], *, threads: int = 1) -> list[str]:
        """The signature of each message, in base58 and in their order.

        ``threads`` of them work at once, the caller's among them, without the GIL. Signatures
        are deterministic (RFC 8032): about 27 µs each, whatever ``prepared`` is. Ctrl-C is
        heard within milliseconds. Raises :class:`InvalidRequest` before any is signed.
        """
        return sign_many(self._keypair, messages, threads)

    # For armed cancels.

    def armed_template(self, symbol: str, window: int) -> Any:
        """A template of the caller's own for cancels of ``symbol``, signed deterministically."""
        return self._template(lib.PF_CANCEL_ORDER, _checked_symbol(symbol), window, prepared=False)

    @staticmethod
    def order_reference(order_id: int | None, client_order_id: str | UUID | None) -> tuple[int, bytes]:
        """What one order is addressed by, checked: a number, or the 36 bytes of a UUID."""
        if client_order_id is not None:
            return 0, _checked_client_order_id(order_id, client_order_id)
        if type(order_id) is not int or not 0 <= order_id < _U64_END:
            raise _bad_order_id(order_id)
        return order_id, b""

    def fail(self, code: int, field: str = "") -> NoReturn:
        """Raise what a negative code of the C core means."""
        if code <= lib.PF_ERR_JSON_END:
            raise InvalidRequest(f"{field}: {ffi.string(lib.pf_error_text(code)).decode()}")
        self._keypair._fail(code)

    # Inside.

    def _operation(
        self, field: str, name: str, data: dict[str, Any], timestamp: int | None, expiry_window: int | None
    ) -> tuple[Any, bytes, bytes, int]:
        if type(name) is not str:
            raise InvalidRequest(f"{field}: expected str, got {type(name).__name__}")
        if type(data) is not dict:
            raise InvalidRequest(f"data: expected dict, got {type(data).__name__}")
        if not is_plain(data):
            raise InvalidRequest(explain(data))
        if _is_name(name) is None:
            raise InvalidRequest(f"{field}: expected 1 to 64 lower-case letters, digits and underscores")
        window = self._window if expiry_window is None else _checked_ms("expiry_window", expiry_window)
        when = 0 if timestamp is None else _checked_ms("timestamp", timestamp)
        template = self._operation_templates.get(window)
        if template is None:
            template = self._template(lib.PF_OPERATION, "", window)
            _keep(self._operation_templates, window, template)
        try:
            payload = to_json(data)
        except ValueError as error:
            raise InvalidRequest(f"data: {error}") from None
        return template, name.encode(), payload, when

    def _order_template(self, symbol: str, expiry_window: int | None) -> Any:
        symbol = _checked_symbol(symbol)
        window = self._window if expiry_window is None else _checked_ms("expiry_window", expiry_window)
        key: Any = symbol
        templates: dict[Any, Any] = self._order_templates
        if window != self._window:
            key, templates = (symbol, window), self._window_templates
        template = templates.get(key)
        if template is None:
            template = self._template(lib.PF_CANCEL_ORDER, symbol, window)
            _keep(templates, key, template)
        return template

    def _blanks_of(self, symbol: str, expiry_window: int | None) -> list[_Blank]:
        symbol = _checked_symbol(symbol)
        key = symbol if expiry_window is None else (symbol, _checked_ms("expiry_window", expiry_window))
        free = self._blanks.get(key)
        if free is None:
            free = []
            _keep(self._blanks, key, free)
        return free

    def _new_blank(self, symbol: str, expiry_window: int | None) -> _Blank:
        template = self._order_template(symbol, expiry_window)
        out = ffi.new("char[]", _FRAME_MAX)
        return ffi.new("pf_blank *", (template, out, _FRAME_MAX)), ffi.buffer(out), out, template

    def _template(
        self,
        kind: int,
        symbol: str,
        window: int,
        exclude_reduce_only: bool = False,
        *,
        prepared: bool = True,
    ) -> Any:
        template = ffi.new("pf_template *")
        account, agent, name = self._account.encode(), self._agent.encode(), symbol.encode()
        code = lib.pf_template_make(
            template,
            kind,
            self._keypair._key,
            self._pool.handle if self._pool is not None and prepared else _NULL,
            account,
            len(account),
            agent,
            len(agent),
            name,
            len(name),
            exclude_reduce_only,
            window,
        )
        if code != 0:
            self.fail(code)
        lib.pf_template_set_clock(template, self._clock)
        _clock_of_template[template] = self._clock
        return template

    def _fill_item(self, item: Any, field: str, cancel: tuple[str, OrderId], window: int) -> Any:
        """Fill one item of a batch, and return the template that it borrows."""
        if not isinstance(cancel, tuple | list) or len(cancel) != 2:
            raise InvalidRequest(f"{field}: expected a pair (symbol, order id), got {type(cancel).__name__}")
        symbol, order = cancel
        try:
            template = item.order = self._order_template(symbol, window)
            if type(order) is int:
                if not 0 <= order < _U64_END:
                    raise _bad_order_id(order)
                item.order_id = order
            elif isinstance(order, str | UUID):
                item.by_client_order_id = 1
                item.client_order_id = _checked_id("client_order_id", order)
            else:
                raise InvalidRequest(f"order_id: expected int, str or UUID, got {type(order).__name__}")
        except InvalidRequest as error:
            raise InvalidRequest(f"{field}: {error}") from None
        return template

    def _finished(self, out: Any, n: int) -> Request:
        if n < 0:
            self.fail(n, "data")
        return Request(ffi.buffer(out, n)[:])


_TEMPLATES_MAX = 4096


def _keep(templates: dict[Any, Any], key: Any, template: Any) -> None:
    """Remember a template; start over rather than grow for ever."""
    if len(templates) >= _TEMPLATES_MAX:
        templates.clear()
    templates[key] = template


# Input rules: what is checked, and what the error names, is the same for every request.


def _bad_order_id(order_id: object) -> InvalidRequest:
    if order_id is None:
        return InvalidRequest("order_id and client_order_id: give exactly one")
    if type(order_id) is not int:
        return InvalidRequest(f"order_id: expected int, got {type(order_id).__name__}")
    return InvalidRequest("order_id: expected 0 to 2^64 - 1, got an int outside")


def _checked_id(field: str, value: str | UUID) -> bytes:
    """The 36 bytes of a UUID given as UUID or as lower-case hyphenated string."""
    if type(value) is str:
        text = value
    elif isinstance(value, UUID):
        text = str(value)
    else:
        raise InvalidRequest(f"{field}: expected UUID or str, got {type(value).__name__}")
    if text.isascii():
        encoded = str.encode(text)  # of a UUID of another's making, text may be a str of another's making
        if len(encoded) == 36 and lib.pf_is_uuid(encoded, 36):
            return encoded
    raise InvalidRequest(f"{field}: expected a lower-case hyphenated UUID of 36 characters, got another str")


def _checked_client_order_id(order_id: int | None, client_order_id: str | UUID) -> bytes:
    if order_id is not None:
        raise InvalidRequest("order_id and client_order_id: give exactly one")
    return _checked_id("client_order_id", client_order_id)


def _checked_symbol(symbol: str) -> str:
    if type(symbol) is not str:
        raise InvalidRequest(f"symbol: expected str, got {type(symbol).__name__}")
    plain = symbol.isascii() and symbol.isprintable() and '"' not in symbol and "\\" not in symbol
    if not plain or not 1 <= len(symbol) <= 32:
        raise InvalidRequest('symbol: expected 1 to 32 printable ASCII characters without " and \\')
    return symbol


def _checked_ms(field: str, value: int) -> int:
    if type(value) is not int:
        raise InvalidRequest(f"{field}: expected int (ms), got {type(value).__name__}")
    if not 0 < value < _I64_END:
        raise InvalidRequest(f"{field}: expected a positive number of ms, got an int outside")
    return value


def _checked_prepared(value: int) -> int:
    if type(value) is not int:
        raise InvalidRequest(f"prepared: expected int, got {type(value).__name__}")
    if not 0 <= value <= NONCES_MAX:
        raise InvalidRequest(f"prepared: expected 0 to {NONCES_MAX} nonces, got an int outside")
    return value


def _checked_max_age(value: float) -> int:
    """In ms."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRequest(f"prepared_max_age: expected seconds, got {type(value).__name__}")
    if not 0.001 <= value <= 86_400:
        raise InvalidRequest("prepared_max_age: expected a millisecond to a day, in seconds")
    return int(value * 1000)


def _checked_account(account: str) -> str:
    if type(account) is not str:
        raise InvalidRequest(f"account: expected str, got {type(account).__name__}")
    raw = ffi.new("char[32]")
    if not account.isascii() or lib.pf_b58decode_exact(raw, 32, account.encode(), len(account)) != 0:
        raise InvalidRequest("account: expected the base58 of a 32-byte public key, got another str")
    return account
