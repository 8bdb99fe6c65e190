# SPDX-License-Identifier: MIT
"""Where secrets are in the memory of a process that signs: this one looks into another's.

The other gets its key through a descriptor, signs, and stops at the moment that is looked at:
``memory/victim.py``. What is looked for, in every spelling, is in ``memory/known.py``.
"""

from __future__ import annotations

import json
import os
import resource
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from memory.known import Key, spellings
from memory.scan import Mapping, core_mappings, cores_are_plain_files, mappings, stop_at_exit

from pacifica_fast import reference

pytestmark = [
    pytest.mark.core,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/PID/mem"),
]

TESTS = Path(__file__).parent
KEPT_APART = {"dd", "wf"}  # not dumped, wiped on fork


class Victim:
    """The other process, and what is known of its key."""

    def __init__(self, way: str, moment: str, content: bytes, planted: bytes = b"", **how: Any) -> None:
        self.planted = planted or secrets.token_hex(16).encode()
        reading, writing = os.pipe()
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "memory.victim", way, moment, str(reading)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(reading,),
                env=os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])},
                **how,
            )
        finally:
            os.close(reading)
        os.write(writing, content)
        os.close(writing)
        self.go_on(self.planted)

    def go_on(self, line: bytes = b"") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def told(self) -> dict[str, Any]:
        """What it says when it has stopped."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1].decode()
        facts: dict[str, Any] = json.loads(line)
        return facts

    def memory(self) -> list[Mapping]:
        """Checked to be what the process has: what was planted is there."""
        try:
            out = mappings(self.process.pid)
        except PermissionError:
            pytest.skip("not allowed to look into a child process here")
        assert any(self.planted in mapping.content for mapping in out)
        return out

    def end(self) -> tuple[int, bytes]:
        """Its exit status, and what it wrote to standard error."""
        errors = self.process.communicate()[1]
        return self.process.returncode, errors


@contextmanager
def victim(way: str, moment: str, content: bytes, **how: Any) -> Iterator[Victim]:
    one = Victim(way, moment, content, **how)
    try:
        yield one
    finally:
        one.process.kill()
        one.process.communicate()


def pair(seed: bytes, pubkey: bytes | None = None) -> bytes:
    return seed + (pubkey or Key(seed).pubkey)


# What a keeper of keys may write into the pipe: made of a seed, and of another's public half.
FORMS: dict[str, Callable[..., bytes]] = {
    "base58 pair": lambda *halves: reference.b58encode(pair(*halves)).encode(),
    "base58 seed": lambda seed: reference.b58encode(seed).encode(),
    "id.json": lambda *halves: json.dumps(list(pair(*halves))).encode(),
    "raw": pair,
}
WAYS = [
    ("from_fd", "base58 pair"),
    ("from_fd", "base58 seed"),
    ("from_fd", "id.json"),
    ("from_file", "base58 pair"),
    ("from_json_file", "id.json"),
    ("from_bytes", "raw"),
]


def wanted(key: Key, signed: Iterable[tuple[str, str]] = ()) -> dict[bytes, str]:
    """Each spelling of each secret, and what it is."""
    out: dict[bytes, str] = {}
    for what, secret in key.all().items():
        out |= {spelt: f"{what}, {how}" for how, spelt in spellings(secret)}
    text = reference.b58encode(pair(key.seed)).encode()
    out |= {text[:29]: "the pair, base58", text[29:58]: "the pair, base58"}
    for r, ka in key.nonces(signed):
        out |= {r[:16]: "r", r[16:]: "r", ka[:16]: "k·a", ka[16:]: "k·a"}
    return out


def found(memory: Iterable[Mapping], spelt: dict[bytes, str]) -> list[tuple[str, Mapping, int]]:
    """What stands where, and how often."""
    return [
        (what, mapping, mapping.content.count(text))
        for mapping in memory
        for text, what in spelt.items()
        if text in mapping.content
    ]


def check_nowhere(memory: Iterable[Mapping], spelt: dict[bytes, str]) -> None:
    assert not [(what, mapping.name) for what, mapping, _ in found(memory, spelt)]


@pytest.mark.parametrize(("way", "form"), WAYS)
def test_an_open_key_is_in_its_pages_and_nowhere_else(way: str, form: str) -> None:
    key = Key(secrets.token_bytes(32))
    with victim(way, "stay_open", FORMS[form](key.seed)) as other:
        signed = other.told()["signed"]
        assert key.nonces(signed)[0][0] == key.deterministic_nonce(signed[0][0])  # so it is r
        stands = found(other.memory(), wanted(key, signed))
    for what, mapping, _ in stands:
        assert mapping.flags >= KEPT_APART, f"{what} in {mapping.name}"
    # Seed, scalar and prefix stand in their slot once, in two halves; a mod L is never made.
    assert sorted((what, times) for what, _, times in stands) == sorted(
        [("the seed, raw", 1), ("the scalar a, raw", 1), ("the prefix, raw", 1)] * 2
    )


def test_nonces_that_are_ready_are_in_their_slots_and_used_ones_nowhere() -> None:
    key = Key(secrets.token_bytes(32))
    with victim("from_fd", "have_nonces_ready", FORMS["id.json"](key.seed)) as other:
        other.told()
        before = other.memory()
        other.go_on()
        nonces = key.nonces(other.told()["signed"])
        after = other.memory()
    used = {r: f"nonce {number}" for number, (r, _) in enumerate(nonces)}
    stood = found(before, used)
    assert [times for _, _, times in stood] == [1] * len(nonces)
    assert all(mapping.flags >= KEPT_APART for _, mapping, _ in stood)
    check_nowhere(after, {half: "nonce" for r in used for half in (r[:16], r[16:])})


@pytest.mark.parametrize(("way", "form"), WAYS)
@pytest.mark.parametrize("moment", ["close", "fail"])
def test_of_a_closed_key_nothing_is_left(way: str, form: str, moment: str) -> None:
    key = Key(secrets.token_bytes(32))
    with victim(way, moment, FORMS[form](key.seed)) as other:
        told = other.told()
        assert told.get("errors") == told.get("expected")
        check_nowhere(other.memory(), wanted(key, told["signed"]))


@pytest.mark.parametrize(("way", "form"), WAYS)
def test_of_a_key_that_is_refused_nothing_is_left(way: str, form: str) -> None:
    """Its public half is another key's, or a character of it is none of base58."""
    key = Key(secrets.token_bytes(32))
    if form == "base58 seed":
        content = FORMS[form](key.seed)[:-1] + b"0"
    else:
        content = FORMS[form](key.seed, Key(secrets.token_bytes(32)).pubkey)
    pieces = [content[at : at + 16] for at in range(0, len(content) - 15, 16)]
    read = {piece: f"piece {number} of what was read" for number, piece in enumerate(pieces)}
    with victim(way, "close", content) as other:
        assert "refused" in other.told()
        check_nowhere(other.memory(), wanted(key) | read)


@pytest.mark.parametrize(("moment", "status"), [("leave_all_open", 0), ("leave_by_exception", 1)])
def test_at_interpreter_exit_nothing_is_left(moment: str, status: int) -> None:
    """Looked at when the interpreter has done its last act, before the kernel takes the memory."""
    key = Key(secrets.token_bytes(32))
    with victim("from_fd", moment, FORMS["base58 pair"](key.seed)) as other:
        spelt = wanted(key, other.told()["signed"])
        assert found(other.memory(), spelt)  # it is open
        with ExitStack() as stack:
            try:
                wait = stack.enter_context(stop_at_exit(other.process.pid))
            except OSError as error:
                pytest.skip(f"not allowed to trace a child process here: {error}")
            other.go_on()
            wait()
            check_nowhere(other.memory(), spelt)
        code, errors = other.end()
    assert code == status
    assert not [what for text, what in spelt.items() if text in errors]


@pytest.mark.skipif(not cores_are_plain_files(), reason="something else takes core dumps here")
def test_a_core_dump_has_no_secret(tmp_path: Path) -> None:
    """Of an open key, and nonces ready."""

    def allow_cores() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (1 << 30, 1 << 30))

    key = Key(secrets.token_bytes(32))
    with victim(
        "from_fd", "dump_core", FORMS["base58 pair"](key.seed), cwd=tmp_path, preexec_fn=allow_cores
    ) as other:
        signed = other.told()["signed"]
        assert found(other.memory(), wanted(key))
        other.go_on()
        status, _ = other.end()
        assert status == -signal.SIGABRT
        cores = list(tmp_path.glob("core*"))
        if not cores:
            pytest.skip("no core was dumped: the hard limit is 0, say")
        dumped = list(core_mappings(cores[0]))
        cores[0].unlink()
    assert any(other.planted in mapping.content for mapping in dumped)
    check_nowhere(dumped, wanted(key, signed))


def test_the_string_that_a_key_came_from_is_the_callers() -> None:
    """Nobody can wipe it. Decoded it is nowhere, all the same."""
    key = Key(secrets.token_bytes(32))
    with victim("from_base58_string", "close", FORMS["base58 pair"](key.seed)) as other:
        signed = other.told()["signed"]
        memory = other.memory()
    assert {what for what, _, _ in found(memory, wanted(key, signed))} <= {"the pair, base58"}


def test_the_scan_sees_every_spelling() -> None:
    """They are planted in the other's memory; an empty key is handed over, and refused."""
    key = Key(secrets.token_bytes(32))
    spelt = {text: what for text, what in wanted(key).items() if b"\n" not in text}
    with victim("from_fd", "close", b"", planted=b" ".join(spelt)) as other:
        other.told()
        seen = {what for what, _, _ in found(other.memory(), spelt)}
    assert seen == set(spelt.values())
