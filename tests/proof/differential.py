# SPDX-License-Identifier: MIT
"""Random requests, whose signatures three libraries that share no code have to accept.

    PYTHONPATH=tests python -m proof.differential --requests 1000000

libsodium (PyNaCl), OpenSSL (cryptography) and dalek (solders) verify each against the message that
the pure-Python reference makes of the request's own fields, parsed again from its bytes. What
was signed deterministically is compared byte for byte with what each of the three signs. The exit
status is 0 if nothing differs.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import sys
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey
from solders.keypair import Keypair as SoldersKeypair
from solders.signature import Signature

from pacifica_fast import Keypair, Signer, b58decode, ids, reference
from proof.evidence import NOTHING, evidence

OF_ONE_KEY = 500
POOL = 512
SIGNATURE_FIELDS = ("account", "agent_wallet", "signature", "timestamp", "expiry_window")
TEXTS = ("", "BTC", 'a "quoted" \\ one', "\x00\x1f\x7f", "größe", "\u2028", "日本", "😀", "\ud83d", "k" * 300)


class Third:
    """One key, in the hands of the three others."""

    def __init__(self, seed: bytes) -> None:
        self._sodium = SigningKey(seed)
        self._openssl = Ed25519PrivateKey.from_private_bytes(seed)
        self._openssl_public = self._openssl.public_key()
        self._dalek = SoldersKeypair.from_seed(seed)

    def refused_by(self, message: bytes, signature: bytes) -> list[str]:
        out = []
        try:
            self._sodium.verify_key.verify(message, signature)
        except (BadSignatureError, ValueError):
            out.append("libsodium")
        try:
            self._openssl_public.verify(signature, message)
        except InvalidSignature:
            out.append("OpenSSL")
        if not Signature(signature).verify(self._dalek.pubkey(), message):
            out.append("dalek")
        return out

    def signs_otherwise(self, message: bytes, signature: bytes) -> list[str]:
        made = {
            "libsodium": self._sodium.sign(message).signature,
            "OpenSSL": self._openssl.sign(message),
            "dalek": bytes(self._dalek.sign_message(message)),
        }
        return [name for name, other in made.items() if other != signature]


def value(rng: random.Random, depth: int) -> Any:
    kind = rng.randrange(8 if depth else 6)
    if kind == 0:
        return rng.choice((None, True, False))
    if kind == 1:
        return rng.randrange(-(2 ** rng.randrange(70)), 2 ** rng.randrange(70))
    if kind < 6:
        return text(rng)
    if kind == 6:
        return [value(rng, depth - 1) for _ in range(rng.randrange(4))]
    return {text(rng): value(rng, depth - 1) for _ in range(rng.randrange(5))}


def text(rng: random.Random) -> str:
    if rng.random() < 0.2:
        return rng.choice(TEXTS)
    return "".join(chr(rng.randrange(32, rng.choice((127, 0x250)))) for _ in range(rng.randrange(12)))


def cancel(rng: random.Random, signer: Signer) -> bytes:
    return signer.cancel_order_text("BTC", rng.getrandbits(rng.randrange(1, 65)), None)


def cancel_by_client(rng: random.Random, signer: Signer) -> bytes:
    client_order_id = uuid.UUID(int=rng.getrandbits(128))
    when = rng.randrange(1, 2**45)
    return signer.cancel_order_text("1000PEPE", None, client_order_id, when, rng.randrange(1, 10**6))


def cancel_frame(rng: random.Random, signer: Signer) -> bytes:
    frame = signer.cancel_order_frame("SOL", rng.getrandbits(64), None, None, None, ids.reserve(1)[0])
    size = {126: 4, 127: 10}.get(frame[1] & 127, 2)
    mask, masked = frame[size : size + 4], frame[size + 4 :]
    return bytes(byte ^ mask[index & 3] for index, byte in enumerate(masked))


def cancel_all(rng: random.Random, signer: Signer) -> bytes:
    symbol = rng.choice((None, "ETH"))
    return signer.cancel_all_orders(symbol=symbol, exclude_reduce_only=rng.random() < 0.5).text


def any_request(rng: random.Random, signer: Signer) -> bytes:
    data = {f"f{number}": value(rng, 3) for number in range(rng.randrange(6))}
    return signer.request(rng.choice(("create_order", "x", "update_leverage")), data).text


KINDS: tuple[Callable[[random.Random, Signer], bytes], ...] = (
    cancel,
    cancel_by_client,
    cancel_frame,
    cancel_all,
    any_request,
)


def signed_message(request: bytes) -> tuple[bytes, bytes]:
    """What the exchange would verify: made again from the request by the reference."""
    ((operation, fields),) = json.loads(request)["params"].items()
    header = {name: fields[name] for name in ("timestamp", "expiry_window")} | {"type": operation}
    payload = {name: field for name, field in fields.items() if name not in SIGNATURE_FIELDS}
    return reference.prepare_message(header, payload).encode(), b58decode(fields["signature"])


def check_key(rng: random.Random, requests: int, count: Counter[str]) -> None:
    """So many requests under a new key, half of the time for another's account."""
    seed = rng.randbytes(32)
    third = Third(seed)
    account = reference.b58encode(rng.randbytes(32)) if rng.random() < 0.5 else None
    prepared = POOL if rng.random() < 0.5 else 0
    with Keypair.from_seed(seed) as keypair, Signer(keypair, account=account, prepared=prepared) as signer:
        for _ in range(requests):
            make = rng.choice(KINDS)
            quick = signer.stats.prepared
            request = make(rng, signer)
            quick = signer.stats.prepared - quick
            message, signature = signed_message(request)
            wrong = third.refused_by(message, signature)
            if not quick:
                wrong += third.signs_otherwise(message, signature)
            count["prepared" if quick else "deterministic"] += 1
            for library in wrong:
                count[f"another answer from {library}"] += 1
                print(f"{library}: {make.__name__}: {request!r}", file=sys.stderr, flush=True)


def check(job: tuple[int, int]) -> Counter[str]:
    """One process's share: how many requests, out of which random numbers."""
    requests, seed = job
    rng = random.Random(seed)
    count: Counter[str] = Counter()
    for start in range(0, requests, OF_ONE_KEY):
        check_key(rng, min(OF_ONE_KEY, requests - start), count)
    return count


def check_controls() -> None:
    """Each of the three refuses a wrong bit, and signs a wrong message otherwise."""
    third = Third(bytes(range(32)))
    with Keypair.from_seed(bytes(range(32))) as keypair:
        signature = keypair.sign_message(b"message")
    everybody = ["libsodium", "OpenSSL", "dalek"]
    for bit in range(512):
        flipped = bytearray(signature)
        flipped[bit // 8] ^= 1 << bit % 8
        if third.refused_by(b"message", bytes(flipped)) != everybody:
            raise AssertionError(f"bit {bit} was not seen by all")
    if third.signs_otherwise(b"another", signature) != everybody or third.refused_by(b"message", signature):
        raise AssertionError("the comparison compares nothing")


def main() -> int:
    parser = argparse.ArgumentParser(description="Three libraries agree with every signature.")
    parser.add_argument("--requests", type=int, default=1_000_000, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    arguments = parser.parse_args()
    check_controls()
    shares = 8 * (os.cpu_count() or 1)
    jobs = [
        (arguments.requests // shares + (index < arguments.requests % shares), arguments.seed + index)
        for index in range(shares)
    ]
    count: Counter[str] = Counter()
    with multiprocessing.get_context("spawn").Pool() as pool:
        for one in pool.imap_unordered(check, jobs):
            count += one
    made = count.pop("prepared", 0), count.pop("deterministic", 0)
    evidence(
        "random requests, verified by libsodium, OpenSSL and dalek; deterministic ones compared",
        f"{sum(made):,} requests, {made[0]:,} of them with prepared nonces, seed {arguments.seed}",
        ", ".join(f"{times:,} times {what}" for what, times in count.items()) or NOTHING,
    )
    return 0 if not count and all(made) else 1


if __name__ == "__main__":
    sys.exit(main())
