# SPDX-License-Identifier: MIT
"""The throw-away certificate: valid for OpenSSL in its strictest mood, and for another X.509 library."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import ssl
import tempfile
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from pacifica_fast._certificate import Certificate, _integer, _oid, _tlv, issue


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> ssl.SSLObject:
    """A TLS handshake in memory; returns the client's side."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(to_client, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for side in sides:
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    return sides[0]


def parse(certificate: Certificate) -> tuple[x509.Certificate, x509.Certificate]:
    return (
        x509.load_pem_x509_certificate(certificate.authority.encode()),
        x509.load_pem_x509_certificate(certificate.chain.encode()),
    )


@pytest.fixture(scope="module")
def certificate() -> Certificate:
    return issue()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_openssl_accepts_it_strictly(certificate: Certificate, host: str, version: ssl.TLSVersion) -> None:
    client = certificate.client_context()
    client.verify_flags |= ssl.VERIFY_X509_STRICT  # the default from Python 3.13 on
    client.minimum_version = client.maximum_version = version
    assert client.check_hostname
    assert client.verify_mode is ssl.CERT_REQUIRED
    assert handshake(certificate.server_context(), client, host).version() == version.name.replace(
        "v1_", "v1."
    )


@pytest.mark.parametrize("host", ["example.com", "127.0.0.2", "localhost.example.com"])
def test_other_hosts_are_refused(certificate: Certificate, host: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=r"[Mm]ismatch|not valid"):
        handshake(certificate.server_context(), certificate.client_context(), host)


def test_nobody_else_trusts_it(certificate: Certificate) -> None:
    for client in (ssl.create_default_context(), issue().client_context()):
        with pytest.raises(ssl.SSLCertVerificationError):
            handshake(certificate.server_context(), client, "localhost")


def test_it_trusts_nobody_else(certificate: Certificate) -> None:
    (only,) = certificate.client_context().get_ca_certs()
    assert only["subject"] == ((("commonName", "pacifica_fast mock authority"),),)


def test_validity_is_checked() -> None:
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    for dated in (issue(not_before=now - 2 * day, not_after=now - day), issue(not_before=now + day)):
        with pytest.raises(ssl.SSLCertVerificationError, match=r"expired|not yet valid"):
            handshake(dated.server_context(), dated.client_context(), "localhost")


def test_years_of_two_and_of_four_digits() -> None:
    for year in (2049, 2050, 2345):
        end = datetime.datetime(year, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
        dated = issue(not_after=end)
        for parsed in parse(dated):
            assert parsed.not_valid_after_utc == end
        handshake(dated.server_context(), dated.client_context(), "localhost")


def test_another_library_reads_the_same(certificate: Certificate) -> None:
    authority, server = parse(certificate)
    for parsed in (authority, server):
        parsed.verify_directly_issued_by(authority)
        assert parsed.version is x509.Version.v3
        assert isinstance(parsed.public_key(), Ed25519PublicKey)
        assert 0 < parsed.serial_number < 2**127
    assert authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert authority.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    assert not server.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = server.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature
    assert not usage.key_cert_sign
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert names.get_values_for_type(x509.IPAddress) == [
        ipaddress.ip_address("127.0.0.1"),
        ipaddress.ip_address("::1"),
    ]
    key = load_pem_private_key(certificate.key.encode(), None)
    assert key.public_key() == server.public_key()


def test_hosts_of_your_own() -> None:
    other = issue(["ws.pacifica.fi", "192.0.2.1"])
    for host in ("ws.pacifica.fi", "192.0.2.1"):
        handshake(other.server_context(), other.client_context(), host)


def test_every_one_is_new() -> None:
    first, second = issue(), issue()
    assert first.key != second.key
    assert parse(first)[1].serial_number != parse(second)[1].serial_number


def test_the_key_stays_inside(
    certificate: Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    certificate.server_context()
    assert list(tmp_path.iterdir()) == []
    assert "PRIVATE" not in repr(certificate)


def test_der_by_the_book() -> None:
    # X.690, 8.1.3 (lengths), 8.3 (integers); RFC 8410, section 3 (the identifier).
    assert _tlv(0x04, bytes(127))[:2] == b"\x04\x7f"
    assert _tlv(0x04, bytes(128))[:3] == b"\x04\x81\x80"
    assert _tlv(0x04, bytes(256))[:4] == b"\x04\x82\x01\x00"
    assert [_integer(value).hex() for value in (0, 127, 128, 256)] == [
        "020100",
        "02017f",
        "02020080",
        "02020100",
    ]
    assert _oid("1.3.101.112").hex() == "06032b6570"
    assert _oid("1.2.840.113549.1.1.11").hex() == "06092a864886f70d01010b"
