# SPDX-License-Identifier: MIT
"""The part of a client that sends: what is the same for both clients, and not between decision and wire."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import TypeVar

from pacifica_fast.armed import Armed, Arming
from pacifica_fast.credits import is_cancel
from pacifica_fast.errors import NotSent, PacificaError
from pacifica_fast.links import Link, Pair
from pacifica_fast.reporting import Reporting
from pacifica_fast.session import PARTLY_SENT, Pending
from pacifica_fast.signer import OrderId
from pacifica_fast.websocket import frame_of

__all__ = ["EVENTS_MAX", "Sending"]

logger: logging.Logger = logging.getLogger("pacifica_fast")

EVENTS_MAX = 1000  # that wait to be read

P = TypeVar("P", bound=Pending)

FrameOf = Callable[[int], bytes]
"""Makes the frame of a request, signed now, for its number."""


class Sending(Arming[P], Reporting):
    """Threads and turns are the driver's."""

    def _ready_link(self) -> Link[P] | Pair[P]:
        """What to put a request on; raises :class:`NotSent` if nothing can be sent now."""
        link: Link[P] | Pair[P] | None = self._links.use
        if link is None or not link.ready:
            raise NotSent(self._links.why_not_ready())
        return link

    def _link_for(self, operation: str) -> Link[P] | Pair[P]:
        """As :meth:`_ready_link`. Two copies of a cancel are one cancel; of an order, two orders."""
        link = self._ready_link()
        return link.one if isinstance(link, Pair) and not is_cancel(operation) else link

    @staticmethod
    def _put_many(link: Link[P] | Pair[P], frames: bytes, pendings: list[P], starts: list[int]) -> None:
        """Only when all copies are written: what did not leave by one link may have by the other."""
        for lane, unsent in link.put_many(frames, pendings, starts):
            lane.unsent(unsent, PARTLY_SENT, monotonic())

    @abstractmethod
    def _cancel_later(
        self,
        reason: str,
        frame: FrameOf,
        operation: str = "cancel_order",
        actions: int = 0,
        order: int | str | None = None,
    ) -> P:
        """Have a cancel wait for a connection, if that is wanted; else raise :class:`NotSent`."""

    def _fire_later(self, reason: str, cancels: Sequence[Armed[P]]) -> list[P]:
        return [
            self._cancel_later(reason, partial(self._frame_of, armed), order=armed.order) for armed in cancels
        ]

    def _all_orders_frame(
        self,
        symbol: str | None,
        exclude_reduce_only: bool,
        timestamp: int | None,
        expiry_window: int | None,
    ) -> FrameOf:
        def frame(number: int) -> bytes:
            request = self.signer.cancel_all_orders(
                symbol=symbol,
                exclude_reduce_only=exclude_reduce_only,
                timestamp=timestamp,
                expiry_window=expiry_window,
                number=number,
            )
            return frame_of(request.text)

        return frame

    def _batch_frame(
        self,
        cancels: Sequence[tuple[str, OrderId]],
        timestamp: int | None,
        expiry_window: int | None,
    ) -> FrameOf:
        def frame(number: int) -> bytes:
            request = self.signer.batch_cancel(
                cancels, timestamp=timestamp, expiry_window=expiry_window, number=number
            )
            return frame_of(request.text)

        return frame

    def _resend(self, armed: Armed[P], pending: P) -> bool:
        # Called by the session: where there are turns, it is somebody's already.
        try:
            link = self._ready_link()
            self._session.renumber(pending)
            link.put(self._frame_of(armed, pending.number), pending)
        except PacificaError as error:
            logger.warning("could not sign afresh: %s", error)
            return False
        return True

    def __repr__(self) -> str:
        state = "connected" if self.connected else "not connected"
        return f"<Client {self.signer.account} {state} in_flight={self._session.in_flight_count}>"
