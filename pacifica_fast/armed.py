# SPDX-License-Identifier: MIT
"""Armed cancels: signed ahead of time, fired with one write.

The whole websocket frame of an armed cancel lies ready in C memory (``csrc/pf_armed.h``);
a background thread signs it anew long before its ``expiry_window`` ends. Signatures are
deterministic (RFC 8032). Here is what both clients share: the store and the handle.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Generic, NoReturn, TypeVar, overload
from uuid import UUID

from pacifica_fast._sodium import ffi, lib
from pacifica_fast.base58 import b58decode
from pacifica_fast.errors import InvalidRequest, NotSent, PacificaError
from pacifica_fast.orders import OrderTracker, TrackedOrder
from pacifica_fast.session import CLOSED, Pending, Session
from pacifica_fast.signer import Signer

__all__ = ["CLIENT_ORDER_ID_WINDOW", "ORDER_ID_WINDOW", "Armed", "ArmedStore", "Arming", "checked_window"]

logger: logging.Logger = logging.getLogger("pacifica_fast")

ORDER_ID_WINDOW = 30_000
"""ms that an armed cancel by ``order_id`` stays valid. Order ids never come again."""

CLIENT_ORDER_ID_WINDOW = 10_000
"""ms that one by ``client_order_id`` does: within the window a copy of the frame, replayed, would
also cancel a new order to which the same client order id was given."""

WINDOW_MIN, WINDOW_MAX = 1_000, 86_400_000  # ms

P = TypeVar("P", bound=Pending)

_FRAME_MAX: int = lib.PF_FRAME_MAX


class ArmedStore:
    """The frames of one client's armed cancels, in C memory, and the thread that keeps them fresh.

    Safe from any thread, but for ``view``, which is where a fired frame stands until the next
    one is. After :meth:`close`, and in a forked child, the store has nothing, and takes nothing.
    """

    __slots__ = (
        "__weakref__",
        "_closed",
        "_end",
        "_opening",
        "_out",
        "_signer",
        "_store",
        "_templates",
        "view",
    )

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self._store: Any = None
        self._end: weakref.finalize[Any, Any] | None = None
        # C borrows the templates for as long as the store is open.
        self._templates: dict[tuple[str, int], Any] = {}
        self._closed = False
        self._opening = threading.RLock()  # a signal handler may close what is being opened
        self._out = ffi.new("char[]", _FRAME_MAX)
        self.view: Any = ffi.buffer(self._out)

    def add(
        self,
        symbol: str,
        order_id: int,
        client_order_id: bytes,
        window: int,
        number: int,
    ) -> tuple[int, Callable[[], int]]:
        """Sign and keep the cancel of one order, as request ``number``; its handle, and what fires it.

        ``client_order_id`` is empty, or 36 bytes that count instead of ``order_id``. The call that
        fires spends the cancel and returns the size of its frame in ``view``, or something negative
        if there is no frame that may be sent. Nothing of ours lies between the decision and C.
        """
        template = self._template(symbol, window)
        store = self._open()
        handle: int = lib.pf_armed_add(
            store, template, order_id, client_order_id, len(client_order_id), number
        )
        if handle < 0:
            self._check_open()
            self._signer.fail(handle)
        # It holds no reference to _out, but whoever fires has one to this.
        shot = ffi.new("pf_armed_shot *", (store[0], handle, self._out, _FRAME_MAX))
        return handle, partial(lib.pf_armed_fire, shot)

    def fire_many(self, handles: Sequence[int]) -> tuple[bytes, list[int]]:
        """Frames one behind the other, and where each ends; negative where there is none."""
        count, store = len(handles), self._store  # another thread may close it in between
        if store is None:
            return b"", [-1] * count
        out, ends = ffi.new("char[]", count * _FRAME_MAX), ffi.new("int64_t[]", count)
        size = lib.pf_armed_fire_many(out, count * _FRAME_MAX, store, list(handles), count, ends)
        if size < 0:
            return b"", [-1] * count
        return ffi.buffer(out, size)[:], ffi.unpack(ends, count)

    def drop(self, handle: int) -> None:
        """Wipe one."""
        if (store := self._store) is not None:
            lib.pf_armed_drop(store, handle)

    def counts(self) -> tuple[int, int]:
        """How many are armed, and how often any was signed anew."""
        armed, resigned = ffi.new("uint64_t *"), ffi.new("uint64_t *")
        if (store := self._store) is None or lib.pf_armed_counts(store, armed, resigned) != 0:
            return 0, 0
        return armed[0], resigned[0]

    def close(self) -> None:
        """Wipe all of them, and end the thread. Idempotent."""
        with self._opening:
            self._closed = True
            self._store = None
        if self._end is not None:
            self._end()

    def _check_open(self) -> None:
        if self._closed:
            raise NotSent(CLOSED)

    def _template(self, symbol: str, window: int) -> Any:
        template = self._templates.get((symbol, window)) if type(symbol) is str else None
        if template is None:
            template = self._signer.armed_template(symbol, window)
            # The first one stays, if two threads make it: C may have borrowed it already.
            template = self._templates.setdefault((symbol, window), template)
        return template

    def _open(self) -> Any:
        """For good only: a store opened behind one that ends would lose the templates with that."""
        store = self._store
        if store is None:
            with self._opening:
                self._check_open()
                if self._store is None:
                    self._store = self._opened()
                store = self._store
        return store

    def _opened(self) -> Any:
        store = ffi.new("pf_armed_store *")
        code = lib.pf_armed_open(store)
        if code != 0:
            self._signer.fail(code)
        thread = threading.Thread(
            target=lib.pf_armed_keep_detached, args=(store,), name="pacifica_fast armed", daemon=True
        )
        self._end = weakref.finalize(self, _end, store, thread, os.getpid(), self._templates)
        thread.start()
        if self._closed:
            self._end()
        return store


def _end(store: Any, thread: threading.Thread, pid: int, templates: dict[Any, Any]) -> None:
    lib.pf_armed_close_detached(store)
    if os.getpid() == pid and thread.ident is not None:
        thread.join()
    templates.clear()  # nothing borrows them any more


class Armed(Generic[P]):
    """A cancel that only waits to be sent. Made by a client's ``arm``.

    Arming spends no credit and tells the exchange nothing.
    """

    __slots__ = ("_client", "_handle", "_pending", "_take", "client_order_id", "order_id", "symbol")

    def __init__(
        self,
        client: Arming[P],
        symbol: str,
        order_id: int | None,
        client_order_id: str | None,
        handle: int,
        take: Callable[[], int],
        pending: P,
    ) -> None:
        self._client = client
        self.symbol: str = symbol
        self.order_id: int | None = order_id
        self.client_order_id: str | None = client_order_id
        self._handle = handle
        self._take = take
        self._pending: P | None = pending
        pending.renew = self._renew
        pending.order = self.order

    @property
    def armed(self) -> bool:
        """True until it was fired or disarmed: a :meth:`fire` sends what was signed ahead."""
        return self._pending is not None

    def fire(self) -> P:
        """Cancel the order: its Pending; the frame is with the kernel when this returns.

        The first time this is one write of what was signed ahead. After that, when disarmed,
        or if the frame has become too old (the process was stopped for a while, or the clock
        was set), the cancel is signed afresh and sent: it never refuses for that reason. An
        order that is gone is for the exchange to tell: :class:`Rejected`, code 420.

        Raises what ``cancel_order_nowait`` raises; after :class:`NotSent` because the link was
        not ready it is still armed.
        """
        return self._client._fire(self)

    def disarm(self) -> None:
        """Wipe the frame. Idempotent; the order itself is not touched."""
        if self._pending is not None:
            self._client._disarm(self)

    @property
    def order(self) -> int | str | None:
        """The order's id, or its client order id if that is what it is cancelled by."""
        return self.order_id if self.client_order_id is None else self.client_order_id

    def _renew(self, pending: P) -> bool:
        return self._client._resend(self, pending)

    def __repr__(self) -> str:
        state = "armed" if self.armed else "spent"
        return f"<Armed cancel {self.symbol} {self.order} {state}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an armed cancel cannot be pickled or copied: it is sent once")


Key = tuple[str, int | str | None]


class Arming(ABC, Generic[P]):
    """The part of a client that arms: what is the same for both clients."""

    signer: Signer
    _session: Session[P]

    def __init__(self, signer: Signer, arm_window: int | None) -> None:
        self.signer = signer
        self._arm_window = arm_window
        self._store = ArmedStore(signer)
        self._armed: dict[Key, Armed[P]] = {}
        self._keeping = threading.RLock()  # a signal handler may arm, too
        self._fired: deque[Armed[P]] = deque()
        self._tracked: OrderTracker | None = None

    @overload
    def arm(
        self,
        symbol: str,
        *,
        order_id: int,
        client_order_id: None = None,
        arm_window: int | None = None,
    ) -> Armed[P]: ...

    @overload
    def arm(
        self,
        symbol: str,
        *,
        order_id: None = None,
        client_order_id: str | UUID,
        arm_window: int | None = None,
    ) -> Armed[P]: ...

    def arm(
        self,
        symbol: str,
        *,
        order_id: Any = None,
        client_order_id: Any = None,
        arm_window: int | None = None,
    ) -> Armed[P]:
        """Sign the cancel of a resting order now, to send it later in one write.

        ``arm_window`` is how long in ms what was signed stays valid (default: that of
        ``connect``, else 30 000 by ``order_id`` and 10 000 by ``client_order_id``). It is
        signed anew in the background at a third of that, and not sent beyond half of it. Within
        the window a copy of the frame cancels the order, and by ``client_order_id`` also a new
        order to which the same id was given: arm such orders for no longer than you reuse ids.

        Arming an order that is armed already returns what it was armed with. Costs one
        signature. Raises :class:`InvalidRequest`, :class:`KeyClosed`, and :class:`NotSent` when
        the client is closed.
        """
        self._check_open()
        number, text = self.signer.order_reference(order_id, client_order_id)
        reference: int | str = text.decode() if text else number
        self._forget_fired()
        known = self._armed.get((symbol, reference)) if type(symbol) is str else None
        if known is not None and known.armed:
            return known
        if arm_window is None:
            arm_window = self._arm_window or (CLIENT_ORDER_ID_WINDOW if text else ORDER_ID_WINDOW)
        pending = self._session.take()
        handle, take = self._store.add(symbol, number, text, checked_window(arm_window), pending.number)
        self._session.refill()
        armed = Armed(self, symbol, order_id, text.decode() or None, handle, take, pending)
        return self._kept((symbol, reference), armed)

    def pull(self, armed: Iterable[Armed[P]] | str | None = None) -> list[P]:
        """Fire many: one encryption and one write for all of them; their Pendings in their order.

        ``armed`` are those to fire, or a symbol: all of it that is armed; None: all that is armed.
        Those that are spent are signed afresh. If the kernel takes a part only, the connection
        is closed: cancels that provably did not leave end as :class:`NotSent`, the others by
        their replies or as :class:`OutcomeUnknown`. Raises what :meth:`Armed.fire` raises,
        before anything is sent.
        """
        if armed is None or isinstance(armed, str):
            everything = list(self._armed.values())
            cancels = [one for one in everything if one.armed and armed in (None, one.symbol)]
        else:
            cancels = list(armed)
        for index, one in enumerate(cancels):
            if not isinstance(one, Armed) or one._client is not self:
                raise InvalidRequest(f"armed[{index}]: expected what this client's arm() returned")
        return self._fire_many(cancels) if cancels else []

    def _tracker(self, account: str | None, arm: bool, on_truth: Callable[[Pending], None]) -> OrderTracker:
        """What follows the orders of an account; it keeps no client alive."""
        if account is None:
            account = self.signer.account
        checked_account(account)
        client = weakref.ref(self)

        def arm_it(order: TrackedOrder) -> Armed[P] | None:
            it = client()
            try:
                return None if it is None else it.arm(order.symbol, order_id=order.order_id)
            except PacificaError as error:  # the key or the client was closed, say
                logger.warning("order %d is not armed: %s", order.order_id, error)
                return None

        return OrderTracker(
            account, arm_it if arm and account == self.signer.account else None, Armed.disarm, on_truth
        )

    @abstractmethod
    def _check_open(self) -> None:
        """Raise unless arming makes sense, and the caller may call."""

    @abstractmethod
    def _fire(self, armed: Armed[P]) -> P: ...

    @abstractmethod
    def _fire_many(self, cancels: list[Armed[P]]) -> list[P]: ...

    @abstractmethod
    def _resend(self, armed: Armed[P], pending: P) -> bool:
        """Send the cancel again, signed afresh; False if that is not possible now."""

    def _disarm(self, armed: Armed[P]) -> None:
        self._store.drop(armed._handle)
        armed._pending = None
        self._fired.append(armed)
        self._forget_fired()

    def _kept(self, key: Key, armed: Armed[P]) -> Armed[P]:
        """The one there is: another thread may have armed the order meanwhile, a tracker's say."""
        with self._keeping:
            known = self._armed.get(key)
            if known is None or not known.armed:
                self._armed[key] = armed
                return armed
        self._disarm(armed)
        return known

    def _forget_fired(self) -> None:
        """Let go of what is spent: not when it is fired, but when there is time."""
        with suppress(IndexError):
            while True:
                armed = self._fired.popleft()
                key = armed.symbol, armed.order
                if self._armed.get(key) is armed:
                    self._armed.pop(key, None)

    def _frame_of(self, armed: Armed[P], number: int) -> bytes:
        """The cancel, signed now."""
        order_id: Any = armed.order_id  # exactly one of the two: it was armed by that
        client_order_id: Any = armed.client_order_id
        return self.signer.cancel_order_frame(armed.symbol, order_id, client_order_id, None, None, number)

    def _frames_of(self, cancels: list[Armed[P]]) -> tuple[bytes, list[P], list[int]]:
        """Frames one behind the other, their requests, and where each starts."""
        frames, ends = self._store.fire_many([armed._handle for armed in cancels])
        pendings: list[P] = []
        pieces: list[bytes] = []
        starts: list[int] = []
        size = start = 0
        for armed, end in zip(cancels, ends, strict=True):
            pending, armed._pending = armed._pending, None
            self._fired.append(armed)
            piece = b""
            if end >= 0:
                piece, start = frames[start:end], end
            if not piece or pending is None:  # spent; or disarmed since, by another thread
                pending = self._session.take()
                pending.order = armed.order
                piece = self._frame_of(armed, pending.number)
            pendings.append(pending)
            starts.append(size)
            pieces.append(piece)
            size += len(piece)
        return b"".join(pieces), pendings, starts

    def _close_armed(self) -> None:
        self._store.close()
        for armed in list(self._armed.values()):
            armed._pending = None
        self._armed.clear()
        self._fired.clear()


def checked_account(account: str) -> None:
    """Raise :class:`InvalidRequest` for what is no account: 32 bytes in base58."""
    if not isinstance(account, str):
        raise InvalidRequest(f"account: expected str, got {type(account).__name__}")
    try:
        size = len(b58decode(account))
    except ValueError:
        size = 0
    if size != 32:
        raise InvalidRequest("account: expected a public key in base58")


def checked_window(value: int) -> int:
    """The window to arm with, in ms."""
    if type(value) is not int or not WINDOW_MIN <= value <= WINDOW_MAX:
        raise InvalidRequest(f"arm_window: expected {WINDOW_MIN} to {WINDOW_MAX} ms")
    return value
