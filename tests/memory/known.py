# SPDX-License-Identifier: MIT
"""What follows from a seed, and how it may be written down in a memory.

Whoever knows the seed can compute the nonce of every signature, r = S - k·a (RFC 8032, section
5.1.6), however it was made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from nacl.signing import SigningKey

from pacifica_fast import b58decode, reference

__all__ = ["Key", "spellings"]

L = 2**252 + 27742317777372353535851937790883648493  # RFC 8032, section 5.1


class Key:
    """Everything secret about a key pair."""

    def __init__(self, seed: bytes) -> None:
        expanded = hashlib.sha512(seed).digest()
        clamped = bytearray(expanded[:32])
        clamped[0] &= 248
        clamped[31] = clamped[31] & 127 | 64
        self._a = int.from_bytes(clamped, "little")
        self.seed = seed
        self.pubkey = bytes(SigningKey(seed).verify_key)
        self.scalar = bytes(clamped)
        self.reduced = (self._a % L).to_bytes(32, "little")
        self.prefix = expanded[32:]

    def all(self) -> dict[str, bytes]:
        return {
            "the seed": self.seed,
            "the scalar a": self.scalar,
            "a mod L": self.reduced,
            "the prefix": self.prefix,
        }

    def nonces(self, signed: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
        """(r, k·a) of each message and its signature in base58: with k public, both are the key."""
        out = []
        for message, text in signed:
            signature = b58decode(text)
            digest = hashlib.sha512(signature[:32] + self.pubkey + message.encode()).digest()
            ka = int.from_bytes(digest, "little") * self._a % L
            r = (int.from_bytes(signature[32:], "little") - ka) % L
            out.append((r.to_bytes(32, "little"), ka.to_bytes(32, "little")))
        return out

    def deterministic_nonce(self, message: str) -> bytes:
        """r as RFC 8032 makes it."""
        digest = hashlib.sha512(self.prefix + message.encode()).digest()
        return (int.from_bytes(digest, "little") % L).to_bytes(32, "little")


def spellings(secret: bytes) -> Iterator[tuple[str, bytes]]:
    """A secret of 32 bytes as it is, in hex and in decimal, by halves; and in base58.

    Half of a secret is enough to find the other half, so half of one is found as well.
    """
    for half in (secret[:16], secret[16:]):
        yield "raw", half
        yield "hex", half.hex().encode()
        yield "HEX", half.hex().upper().encode()
        for comma in (",", ", "):
            yield "decimal", comma.join(map(str, half)).encode()
    text = reference.b58encode(secret).encode()
    yield "base58", text[:22]
    yield "base58", text[22:]
