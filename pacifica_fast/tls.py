# SPDX-License-Identifier: MIT
"""TLS without I/O: bytes in, bytes out, over ``ssl.SSLObject`` and two memory BIOs.

The drivers own the socket. An event loop's own TLS transport would hide how much it has
not written yet, and a socket object of the ssl module must not be shared by threads.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import cast

__all__ = ["TLS", "reason_of"]

_RECORD_MAX = 16 * 1024  # plain bytes of a record, as OpenSSL fills them
_RECORD_HEADER = 5  # type, version, and the length of what follows (RFC 8446, section 5.1)


class TLS:
    """One client connection. Not safe to call from two threads at once: OpenSSL forbids it.

    ``context`` decides what is verified; ``server_hostname`` is verified and sent (SNI).
    Errors of the handshake and of the records are ``ssl.SSLError``.
    """

    __slots__ = (
        "_incoming",
        "_object",
        "_outgoing",
        "_read_out",
        "_room",
        "_write",
        "closed_by_peer",
        "established",
    )

    def __init__(self, context: ssl.SSLContext, server_hostname: str) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)
        # Bound once: both are on the way of every cancel.
        self._write = self._object.write
        self._read_out = self._outgoing.read
        self._room = memoryview(bytearray(_RECORD_MAX))
        self.established: bool = False
        """True once the handshake is complete."""
        self.closed_by_peer: bool = False
        """True once the peer said, authenticated, that it sends no more."""

    def start(self) -> bytes:
        """The first flight of the handshake."""
        self._handshake()
        return self._outgoing.read()

    def receive(self, data: bytes | memoryview) -> tuple[bytes, bytes]:
        """Take bytes from the wire; return the plain bytes they hold, and bytes to send back."""
        self._incoming.write(data)
        if not self.established:
            self._handshake()
        plain = b""
        if self.established:
            pieces = []
            try:
                # Without a buffer it takes a new one of this size each time, and leaves holes in the heap.
                while size := cast(int, self._object.read(_RECORD_MAX, self._room)):
                    pieces.append(bytes(self._room[:size]))
                self.closed_by_peer = True
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLZeroReturnError:
                self.closed_by_peer = True
            plain = b"".join(pieces)
        return plain, self._outgoing.read()

    def encrypt(self, data: bytes) -> bytes:
        """Plain bytes as bytes for the wire. Only when established."""
        taken = self._write(data)
        if taken < len(data):  # a call takes no more than one record, 16 KiB (RFC 8446, section 5.1)
            view = memoryview(data)[taken:]
            while view:
                view = view[self._write(view) :]
        return self._read_out()

    @staticmethod
    def provably_unsent(plain_size: int, data: bytes, accepted: int) -> int:
        """From where on the plain bytes, which :meth:`encrypt` made ``data`` of, provably never left.

        ``accepted`` bytes of ``data`` went to the kernel. A record of which any byte left may
        arrive; the others cannot. ``plain_size`` if nothing can be proved.
        """
        starts, at = [], 0
        while at < len(data):
            starts.append(at)
            at += _RECORD_HEADER + int.from_bytes(data[at + 3 : at + 5], "big")
        if len(starts) != -(-plain_size // _RECORD_MAX):
            return plain_size  # not the records we think they are
        begun = sum(start < accepted for start in starts)
        return min(begun * _RECORD_MAX, plain_size)

    def close(self) -> bytes:
        """The alert that says we send no more (RFC 8446, section 6.1)."""
        with contextlib.suppress(ssl.SSLError):  # the peer's own alert need not be there
            self._object.unwrap()
        return self._outgoing.read()

    def version(self) -> str | None:
        """The protocol agreed on, ``TLSv1.3`` or ``TLSv1.2``."""
        return self._object.version()

    def _handshake(self) -> None:
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return
        self.established = True


def reason_of(error: ssl.SSLError) -> str:
    """What went wrong, for a person."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate not accepted: {error.verify_message}"
    return error.reason or str(error)
