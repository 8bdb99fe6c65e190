# SPDX-License-Identifier: MIT
"""Where secrets are in the memory of a process that signs: this one looks into another's.

The other gets its seed through a pipe, wipes what it read it into, signs, and waits. Whoever
knows the seed can compute the nonce of every signature, r = S - k·a (RFC 8032, section 5.1.6):
none of them may be anywhere, the stack included.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey

from pacifica_fast import b58decode

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/PID/mem")

L = 2**252 + 27742317777372353535851937790883648493  # RFC 8032, section 5.1
SIGNATURES = 24

VICTIM = """
import gc, json, sys, time
from pacifica_fast import Keypair, Signer

seed = bytearray(32)
with open(0, "rb", buffering=0) as pipe:
    pipe.readinto(seed)
    key = Keypair.from_seed(seed)
    seed[:] = bytes(32)
    planted = bytearray(pipe.read(32))
    signed = []
    for prepared in (0, 4):
        with Signer(key, prepared=prepared) as signer:
            while signer.stats.ready < prepared:
                time.sleep(0.001)
            for number in range(%d):
                one = signer.sign("x", {"number": number})
                signed.append([one.message, one.signature])
                while signer.stats.ready < prepared:
                    time.sleep(0.001)
            used = signer.stats.prepared
    if CLOSE:
        key.close()
    print(json.dumps({"signed": signed, "prepared": used}), flush=True)
    pipe.read(1)
"""


@contextmanager
def victim(seed: bytes, planted: bytes, close: bool = False) -> Iterator[tuple[int, dict[str, Any]]]:
    code = (VICTIM % SIGNATURES).replace("CLOSE", str(close))
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(seed + planted)
        process.stdin.flush()
        yield process.pid, json.loads(process.stdout.readline())
        process.stdin.write(b".")
        process.stdin.close()
    assert process.returncode == 0


def memory_of(pid: int) -> Iterator[tuple[set[str], str, bytes]]:
    """Every mapping that can be read: the kernel's flags (proc(5)), its name, and its bytes."""
    smaps = Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8")
    heads = list(re.finditer(r"^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+ *(.*)$", smaps, re.MULTILINE))
    try:
        memory = open(f"/proc/{pid}/mem", "rb", buffering=0)  # noqa: SIM115
    except PermissionError:
        pytest.skip("not allowed to look into a child process here")
    with memory:
        for head, following in zip(heads, [*heads[1:], None], strict=True):
            about = smaps[head.end() : following.start() if following else len(smaps)]
            flags = re.search(r"VmFlags:(.*)", about)
            assert flags is not None
            start, end = int(head[1], 16), int(head[2], 16)
            if not head[3].startswith("r") or head[4] in ("[vvar]", "[vsyscall]", "[vvar_vclock]"):
                continue
            memory.seek(start)
            content = bytearray()
            while len(content) < end - start and (piece := memory.read(end - start - len(content))):
                content += piece
            yield set(flags[1].split()), head[4], bytes(content)


class Secrets:
    """What follows from a seed and its signatures."""

    def __init__(self, seed: bytes, told: dict[str, Any]) -> None:
        expanded = hashlib.sha512(seed).digest()
        clamped = bytearray(expanded[:32])
        clamped[0] &= 248
        clamped[31] = clamped[31] & 127 | 64
        a = int.from_bytes(clamped, "little")
        pubkey = bytes(SigningKey(seed).verify_key)
        self.key = {
            "seed": seed,
            "the scalar a": bytes(clamped),
            "a mod L": (a % L).to_bytes(32, "little"),
            "the prefix": expanded[32:],
        }
        self.nonces = []
        for message, text in told["signed"]:
            signature = b58decode(text)
            digest = hashlib.sha512(signature[:32] + pubkey + message.encode()).digest()
            k = int.from_bytes(digest, "little") % L
            r = (int.from_bytes(signature[32:], "little") - k * a) % L
            self.nonces += [r.to_bytes(32, "little"), (k * a % L).to_bytes(32, "little")]
        message = told["signed"][0][0].encode()
        by_hand = int.from_bytes(hashlib.sha512(expanded[32:] + message).digest(), "little") % L
        assert self.nonces[0] == by_hand.to_bytes(32, "little")  # r as RFC 8032 makes it: so it is r


def test_nonces_are_nowhere_and_the_key_is_in_its_pages_only() -> None:
    seed, planted = secrets.token_bytes(32), secrets.token_bytes(32)
    with victim(seed, planted) as (pid, told):
        assert told["prepared"] == SIGNATURES
        known = Secrets(seed, told)
        assert len(known.nonces) == 4 * SIGNATURES
        found: dict[str, int] = dict.fromkeys(known.key, 0)
        seen_planted = 0
        for flags, name, content in memory_of(pid):
            seen_planted += planted in content
            assert not any(nonce in content for nonce in known.nonces), name
            for what, value in known.key.items():
                if value in content:
                    assert {"dd", "wf"} <= flags, f"{what} in {name}"
                    found[what] += 1
    assert seen_planted
    # seed, scalar and prefix stand in their slot, once each; a mod L is never made.
    assert list(found.values()) == [1, 1, 0, 1]


def test_after_close_nothing_is_left() -> None:
    seed, planted = secrets.token_bytes(32), secrets.token_bytes(32)
    with victim(seed, planted, close=True) as (pid, told):
        known = Secrets(seed, told)
        seen_planted = 0
        for _, name, content in memory_of(pid):
            seen_planted += planted in content
            for secret in (*known.key.values(), *known.nonces):
                assert secret not in content, name
    assert seen_planted
