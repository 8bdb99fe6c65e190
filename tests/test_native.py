# SPDX-License-Identifier: MIT
"""The compiled module: what it offers, what it needs, and when it gives up the GIL."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pacifica_fast import Keypair, Signer, _native, canonicalize
from pacifica_fast._sodium import LONG_INPUT, ffi, lib

CSRC = Path(__file__).parents[1] / "csrc"
MARKED = ("pf_api.h", "pf_gil.h")


def without_comments(text: str) -> str:
    return re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL)


def marked_block(header: str) -> str:
    text = (CSRC / header).read_text(encoding="utf-8")
    block = text.split("/* cdef begin */")[1].split("/* cdef end */")[0]
    return without_comments(block)


def declared_functions(block: str) -> set[str]:
    """The functions a block declares: a name before a parenthesis, ended by ``);``, outside structs."""
    outside = re.sub(r"\{.*?\}", " ", block, flags=re.DOTALL)
    return set(re.findall(r"\b(pf_\w+)\s*\([^;{]*\)\s*;", outside))


def declared_constants(block: str) -> dict[str, int]:
    pairs = re.findall(r"^#define (\w+) (?:\( )?(-?\d+)(?: \))?", block, flags=re.MULTILINE)
    return {name: int(value) for name, value in pairs}


def load_build_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_native", CSRC / "build_native.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# The boundary does not drift from the headers.


def test_every_declared_function_is_there_and_nothing_else() -> None:
    declared = set().union(*(declared_functions(marked_block(header)) for header in MARKED))
    assert len(declared) > 25
    assert declared == {name for name in dir(lib) if not name.startswith("PF_")}
    for name in declared:
        assert callable(getattr(lib, name)), name


def test_every_constant_is_there_and_nothing_else() -> None:
    constants = declared_constants(marked_block("pf_api.h"))
    errors = declared_constants((CSRC / "pf_base.h").read_text(encoding="utf-8"))
    constants |= {name: value for name, value in errors.items() if name.startswith("PF_ERR_")}
    assert constants == {name: getattr(lib, name) for name in dir(lib) if name.startswith("PF_")}


def test_build_script_takes_the_marked_text_as_it_stands() -> None:
    build = load_build_script()
    for header in MARKED:
        assert build.cdef_of(header).split() == marked_block(header).split()


# Calls that come back only when something is closed must not hold the GIL meanwhile.
WITHOUT_ORIGINAL = {"pf_pool_refill_detached", "pf_armed_keep_detached", "pf_armed_close_detached"}


def test_every_detached_twin_has_the_type_of_its_original() -> None:
    twins = [name for name in dir(lib) if name.endswith("_detached")]
    assert twins
    for name in twins:
        if name in WITHOUT_ORIGINAL:
            assert not hasattr(lib, name.removesuffix("_detached"))
            continue
        original = name.removesuffix("_detached")
        assert ffi.typeof(getattr(lib, name)) is ffi.typeof(getattr(lib, original)), name


def test_every_error_code_has_a_text_of_its_own() -> None:
    codes = {getattr(lib, name) for name in dir(lib) if name.startswith("PF_ERR_")}
    texts = {ffi.string(lib.pf_error_text(code)) for code in codes}
    assert len(texts) == len(codes)
    unknown = ffi.string(lib.pf_error_text(-1000))
    assert unknown == b"unknown error"
    assert unknown not in texts


def test_other_headers_are_not_exposed() -> None:
    with pytest.raises(AttributeError):
        _ = lib.pf_key_sign
    with pytest.raises(AttributeError):
        _ = lib.pf_random


# Nothing of libsodium is linked.


def undefined_symbols(path: str) -> set[str] | None:
    """The symbols the module wants resolved, or None without a tool to list them."""
    for tool in (["nm", "-D", "--undefined-only"], ["objdump", "-T"]):
        if shutil.which(tool[0]) is None:
            continue
        done = subprocess.run([*tool, path], capture_output=True, text=True, check=True)
        lines = [line for line in done.stdout.splitlines() if tool[0] == "nm" or "*UND*" in line]
        return {line.split()[-1].partition("@")[0] for line in lines if line.split()}
    return None


def test_no_symbol_of_libsodium_is_undefined() -> None:
    assert _native.ffi is ffi
    path = sys.modules["pacifica_fast._native"].__file__
    assert path is not None
    found = undefined_symbols(path)
    if found is None:
        pytest.skip("neither nm nor objdump is installed")
    assert "PyEval_SaveThread" in found
    strangers = [name for name in found if re.match(r"crypto_|sodium_|randombytes", name)]
    assert strangers == []


def test_no_libsodium_is_linked() -> None:
    path = sys.modules["pacifica_fast._native"].__file__
    assert path is not None
    if shutil.which("objdump") is None:
        pytest.skip("objdump is not installed")
    done = subprocess.run(["objdump", "-p", path], capture_output=True, text=True, check=True)
    needed = re.findall(r"NEEDED\s+(\S+)", done.stdout)
    assert not [name for name in needed if "sodium" in name]


def test_only_the_module_init_is_exported() -> None:
    path = sys.modules["pacifica_fast._native"].__file__
    assert path is not None
    if shutil.which("nm") is None:
        pytest.skip("nm is not installed")
    done = subprocess.run(["nm", "-D", "--defined-only", path], capture_output=True, text=True, check=True)
    names = {line.split()[-1].partition("@")[0] for line in done.stdout.splitlines()}
    assert {name for name in names if name.startswith("pf_")} == set()


# The GIL. With a switch interval of 1000 s nobody takes the GIL away: a thread beside
# advances only if the running one gives it up of its own accord.


class Ticker:
    """A Python thread that counts whenever it may run."""

    def __init__(self) -> None:
        self.ticks = 0
        self.stopped = False
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self) -> None:
        while not self.stopped:
            self.ticks += 1
            if self.ticks % 100 == 0:
                give_up_the_gil()


def give_up_the_gil() -> None:
    """Let the other thread have it, whichever calls."""
    time.sleep(0)


@pytest.fixture
def nobody_takes_the_gil() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@pytest.fixture
def ticker(nobody_takes_the_gil: None) -> Iterator[Ticker]:
    running = Ticker()
    running.thread.start()
    try:
        while running.ticks == 0:
            give_up_the_gil()
        yield running
    finally:
        running.stopped = True
        running.thread.join()


HOT_CALLS = 2_000


def hot_call(name: str) -> Callable[[], Any]:
    keypair = Keypair.generate()
    signer = Signer(keypair)
    message = b"m" * 200
    pairs: list[tuple[str, Any]] = [("BTC", 1), ("ETH", 2)]
    calls: dict[str, Callable[[], Any]] = {
        "cancel_order": lambda: signer.cancel_order("BTC", order_id=42069),
        "cancel_all_orders": signer.cancel_all_orders,
        "batch_cancel": lambda: signer.batch_cancel(pairs),
        "request": lambda: signer.request("create_order", {"symbol": "BTC", "amount": "1"}),
        "sign": lambda: signer.sign("create_order", {"symbol": "BTC", "amount": "1"}),
        "sign_message": lambda: keypair.sign_message(message),
        "sign_message, the longest": lambda: keypair.sign_message(b"m" * LONG_INPUT),
        "canonicalize": lambda: canonicalize('{"b":1,"a":[2,3]}'),
        "canonicalize, the longest": lambda: canonicalize(b'"' + b"x" * (LONG_INPUT - 2) + b'"'),
    }
    return calls[name]


@pytest.mark.parametrize(
    "name",
    [
        "cancel_order",
        "cancel_all_orders",
        "batch_cancel",
        "request",
        "sign",
        "sign_message",
        "sign_message, the longest",
        "canonicalize",
        "canonicalize, the longest",
    ],
)
def test_hot_calls_keep_the_gil(ticker: Ticker, name: str) -> None:
    call = hot_call(name)
    call()
    before = ticker.ticks
    for _ in range(HOT_CALLS // 20 if "longest" in name else HOT_CALLS):
        call()
    assert ticker.ticks == before
    give_up_the_gil()  # the thread was alive and waiting all the time
    while ticker.ticks == before:
        give_up_the_gil()


LONG_MESSAGE = b"m" * (32 << 20)
LONG_JSON = b'["' + b"x" * (20 << 20) + b'"]'


@pytest.mark.parametrize("name", ["sign_message", "canonicalize", "request", "sign"])
def test_long_calls_give_up_the_gil(ticker: Ticker, name: str) -> None:
    keypair = Keypair.generate()
    signer = Signer(keypair)
    data = {"text": "x" * (8 << 20)}
    calls: dict[str, Callable[[], Any]] = {
        "sign_message": lambda: keypair.sign_message(LONG_MESSAGE),
        "canonicalize": lambda: canonicalize(LONG_JSON),
        "request": lambda: signer.request("create_order", data),
        "sign": lambda: signer.sign("create_order", data),
    }
    before = ticker.ticks
    calls[name]()
    assert ticker.ticks > before


def test_close_gives_up_the_gil_while_it_waits(nobody_takes_the_gil: None) -> None:
    """Else it would wait for ever: the call in flight needs the GIL to come back."""
    keypair = Keypair.generate()
    expected = keypair.sign_message(LONG_MESSAGE)
    started = threading.Event()
    results: list[bytes] = []

    def sign() -> None:
        started.set()  # and keeps the GIL until it is in the middle of signing
        results.append(keypair.sign_message(LONG_MESSAGE))

    thread = threading.Thread(target=sign, daemon=True)
    thread.start()
    started.wait()
    state = ffi.cast("uint64_t *", keypair._key.slot)  # pf_signer.c: its low bits count the calls in flight
    while not state[0] & 1:
        pass
    keypair.close()
    thread.join(timeout=60)
    assert results == [expected]


def kernel_flags(address: int) -> set[str]:
    """What the kernel says of the mapping there: VmFlags of proc(5)."""
    there = False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        if found := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            there = int(found[1], 16) <= address < int(found[2], 16)
        elif there and line.startswith("VmFlags:"):
            return set(line.split()[1:])
    raise AssertionError(f"nothing is mapped at {address:#x}")


def mlock_is_real() -> bool:
    """AddressSanitizer turns mlock into nothing, which says that it succeeded."""
    return "libasan" not in Path("/proc/self/maps").read_text(encoding="utf-8")


def pages_state() -> tuple[int, int]:
    mapped, unlocked = ffi.new("size_t *"), ffi.new("size_t *")
    lib.pf_pages_state(mapped, unlocked)
    return mapped[0], unlocked[0]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/smaps")
def test_keys_and_nonces_are_locked_undumped_and_wiped_on_fork() -> None:
    with Keypair.generate() as keypair, Signer(keypair, prepared=8) as signer:
        assert signer._pool is not None
        nonces = ffi.cast("uintptr_t *", signer._pool.handle.place)[0]  # pf_pages.h: where it starts
        for address in (int(ffi.cast("uintptr_t", keypair._key.slot)), nonces):
            flags = kernel_flags(address)
            assert {"dd", "wf"} <= flags
            if pages_state()[1] == 0 and mlock_is_real():
                assert "lo" in flags


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/smaps")
def test_armed_cancels_are_undumped_and_wiped_on_fork_and_not_locked() -> None:
    """Ten thousand take 17 MB: they are not meant to be locked, and so not counted as missed."""
    before = pages_state()
    stores = [ffi.new("pf_armed_store *") for _ in range(200)]
    for store in stores:
        assert lib.pf_armed_open(store) == 0
    after = pages_state()
    flags = kernel_flags(ffi.cast("uintptr_t *", stores[-1].place)[0])  # pf_pages.h: where it starts
    for store in stores:
        assert lib.pf_armed_close_detached(store) == 0
    assert {"dd", "wf"} <= flags
    assert "lo" not in flags
    assert after[0] >= before[0] + 100
    assert after[1] == before[1]
