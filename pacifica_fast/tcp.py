# SPDX-License-Identifier: MIT
"""What we ask of a TCP connection: no delay, and to be told soon when the peer is gone."""

from __future__ import annotations

import socket
from contextlib import suppress

__all__ = ["BACKLOG_MAX", "NOT_READ", "RECEIVE_SIZE", "tune"]

RECEIVE_SIZE = 64 * 1024  # bytes taken from a socket at once, at most
BACKLOG_MAX = 4 * 1024 * 1024  # bytes; a peer that asks for so many pongs and reads none is left
NOT_READ = "the exchange does not read what it asks for"
KEEPALIVE_PROBES = 3


def tune(sock: socket.socket, dead_after: float) -> None:
    """Send what is small at once, and find a dead peer within about ``dead_after`` s.

    ``TCP_USER_TIMEOUT`` bounds how long sent bytes may stay unacknowledged (RFC 5482), keepalive
    probes (RFC 1122, section 4.2.3.6) an idle connection. Whatever a system does not know of these
    is left out: the ping of :class:`~pacifica_fast.session.Lane` finds a dead peer everywhere.
    """
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    seconds = max(1, round(dead_after))
    for level, name, value in (
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", seconds),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", max(1, seconds // KEEPALIVE_PROBES)),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", KEEPALIVE_PROBES),
        (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", max(1, round(dead_after * 1000))),
    ):
        option = getattr(socket, name, None)
        if option is not None:
            with suppress(OSError):
                sock.setsockopt(level, option, value)
