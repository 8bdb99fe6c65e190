# SPDX-License-Identifier: MIT
"""A throw-away certificate authority, and one TLS server certificate made by it.

For the mock exchange alone, so that its clients verify TLS exactly as they do
against the real one. X.509 (RFC 5280) with Ed25519 keys (RFC 8410), written in
plain DER and signed by PyNaCl: a run-time dependency on a certificate library
would be a high price for two certificates of 350 bytes.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import ipaddress
import os
import secrets
import ssl
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from nacl.signing import SigningKey

__all__ = ["LOOPBACK", "Certificate", "issue"]

LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")

# DER tags (X.690) and the object identifiers used below.
_BOOLEAN, _INTEGER, _BIT_STRING, _OCTET_STRING, _OID, _UTF8 = 0x01, 0x02, 0x03, 0x04, 0x06, 0x0C
_UTC_TIME, _GENERALIZED_TIME, _SEQUENCE, _SET = 0x17, 0x18, 0x30, 0x31
_ED25519: Final = "1.3.101.112"
_COMMON_NAME: Final = "2.5.4.3"
_SUBJECT_KEY_ID: Final = "2.5.29.14"
_KEY_USAGE: Final = "2.5.29.15"
_SUBJECT_ALT_NAME: Final = "2.5.29.17"
_BASIC_CONSTRAINTS: Final = "2.5.29.19"
_AUTHORITY_KEY_ID: Final = "2.5.29.35"
_EXTENDED_KEY_USAGE: Final = "2.5.29.37"
_SERVER_AUTH: Final = "1.3.6.1.5.5.7.3.1"


@dataclass(frozen=True, slots=True)
class Certificate:
    """A server certificate, its key, and the authority that vouches for it, all PEM."""

    chain: str
    authority: str
    key: str = field(repr=False)

    def server_context(self) -> ssl.SSLContext:
        """Return a context for the server that holds the key.

        :mod:`ssl` loads keys from files only: one that nobody else may read exists
        for the length of that call.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        descriptor, path = tempfile.mkstemp(suffix=".pem")  # mode 0600
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(self.key + self.chain)
            context.load_cert_chain(path)
        finally:
            os.unlink(path)
        return context

    def client_context(self) -> ssl.SSLContext:
        """Return Python's default client context, host names checked, that trusts this authority only."""
        return ssl.create_default_context(cadata=self.authority)


def issue(
    hosts: Iterable[str] = LOOPBACK,
    *,
    not_before: datetime.datetime | None = None,
    not_after: datetime.datetime | None = None,
) -> Certificate:
    """Return a fresh certificate for ``hosts`` (DNS names and IP addresses), from a fresh authority.

    Times are aware datetimes: by default an hour ago, for clocks that differ, and 90
    days on. The authority's own key is forgotten before this returns.
    """
    now = datetime.datetime.now(datetime.UTC)
    validity = _sequence(
        _time(not_before or now - datetime.timedelta(hours=1)),
        _time(not_after or now + datetime.timedelta(days=90)),
    )
    authority_key, server_key = SigningKey.generate(), SigningKey.generate()
    authority_id, server_id = _key_id(authority_key), _key_id(server_key)
    authority_name, server_name = _name("pacifica_fast mock authority"), _name("pacifica_fast mock exchange")

    authority = _certify(
        authority_key,
        issuer=authority_name,
        subject=authority_name,
        key=authority_key,
        validity=validity,
        extensions=[
            _extension(_BASIC_CONSTRAINTS, _sequence(_tlv(_BOOLEAN, b"\xff"), _integer(0)), critical=True),
            _extension(_KEY_USAGE, _tlv(_BIT_STRING, b"\x02\x04"), critical=True),  # keyCertSign
            _extension(_SUBJECT_KEY_ID, _tlv(_OCTET_STRING, authority_id)),
        ],
    )
    server = _certify(
        authority_key,
        issuer=authority_name,
        subject=server_name,
        key=server_key,
        validity=validity,
        extensions=[
            _extension(_BASIC_CONSTRAINTS, _sequence(), critical=True),  # no authority
            _extension(_KEY_USAGE, _tlv(_BIT_STRING, b"\x07\x80"), critical=True),  # digitalSignature
            _extension(_EXTENDED_KEY_USAGE, _sequence(_oid(_SERVER_AUTH))),
            _extension(_SUBJECT_ALT_NAME, _sequence(*map(_general_name, hosts))),
            _extension(_SUBJECT_KEY_ID, _tlv(_OCTET_STRING, server_id)),
            _extension(_AUTHORITY_KEY_ID, _sequence(_tlv(0x80, authority_id))),
        ],
    )
    # PKCS#8: version 0, algorithm, and the seed as an octet string inside an octet string.
    seed = _tlv(_OCTET_STRING, _tlv(_OCTET_STRING, bytes(server_key)))
    return Certificate(
        chain=_pem("CERTIFICATE", server),
        authority=_pem("CERTIFICATE", authority),
        key=_pem("PRIVATE KEY", _sequence(_integer(0), _algorithm(), seed)),
    )


def _certify(
    signer: SigningKey,
    *,
    issuer: bytes,
    subject: bytes,
    key: SigningKey,
    validity: bytes,
    extensions: list[bytes],
) -> bytes:
    """The DER of a version 3 certificate for the public half of ``key`` (RFC 5280, section 4.1)."""
    # 126 random bits under a leading 1: positive, and always 16 bytes.
    serial = (1 << 126) | secrets.randbits(126)
    body = _sequence(
        _tlv(0xA0, _integer(2)),  # version 3
        _integer(serial),
        _algorithm(),
        issuer,
        validity,
        subject,
        _sequence(_algorithm(), _tlv(_BIT_STRING, b"\0" + bytes(key.verify_key))),
        _tlv(0xA3, _sequence(*extensions)),
    )
    return _sequence(body, _algorithm(), _tlv(_BIT_STRING, b"\0" + signer.sign(body).signature))


def _tlv(tag: int, content: bytes) -> bytes:
    """Tag, length, value."""
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def _sequence(*members: bytes) -> bytes:
    return _tlv(_SEQUENCE, b"".join(members))


def _integer(value: int) -> bytes:
    """A non-negative integer: big-endian, with room for the sign bit."""
    return _tlv(_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _oid(dotted: str) -> bytes:
    """The first two arcs share a number; each number is base 128, high bit on all bytes but the last."""
    first, second, *rest = map(int, dotted.split("."))
    encoded = bytearray()
    for arc in (first * 40 + second, *rest):
        digits = [arc & 0x7F]
        while arc := arc >> 7:
            digits.append(0x80 | (arc & 0x7F))
        encoded += bytes(reversed(digits))
    return _tlv(_OID, bytes(encoded))


def _algorithm() -> bytes:
    return _sequence(_oid(_ED25519))


def _name(common_name: str) -> bytes:
    attribute = _sequence(_oid(_COMMON_NAME), _tlv(_UTF8, common_name.encode()))
    return _sequence(_tlv(_SET, attribute))


def _time(moment: datetime.datetime) -> bytes:
    """To the second; two-digit years up to 2049, as RFC 5280, section 4.1.2.5, demands."""
    moment = moment.astimezone(datetime.UTC)
    if moment.year < 2050:
        return _tlv(_UTC_TIME, moment.strftime("%y%m%d%H%M%SZ").encode())
    return _tlv(_GENERALIZED_TIME, moment.strftime("%Y%m%d%H%M%SZ").encode())


def _extension(oid: str, value: bytes, *, critical: bool = False) -> bytes:
    flag = _tlv(_BOOLEAN, b"\xff") if critical else b""
    return _sequence(_oid(oid), flag, _tlv(_OCTET_STRING, value))


def _general_name(host: str) -> bytes:
    """A subjectAltName entry: ``[7]`` with 4 or 16 bytes for an address, ``[2]`` for a DNS name."""
    try:
        return _tlv(0x87, ipaddress.ip_address(host).packed)
    except ValueError:
        return _tlv(0x82, host.encode("ascii"))


def _key_id(key: SigningKey) -> bytes:
    """160 bits that stand for the key: the start of its SHA-256 (RFC 7093, method 1)."""
    return hashlib.sha256(bytes(key.verify_key)).digest()[:20]


def _pem(label: str, der: bytes) -> str:
    text = base64.b64encode(der).decode()
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""])
