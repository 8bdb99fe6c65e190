# SPDX-License-Identifier: MIT
"""Python in place of the C core: the same bytes and codes, call by call; and when it may step in.

The tests of everything above run against it as well, in ``python -m proof.wheels``.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import sysconfig
import types
import zipfile
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from proof.reproducible import sources
from test_frame import parsed
from test_native import load_build_script

from pacifica_fast import reference
from pacifica_fast._sodium import COMPILED, ffi, lib

pytestmark = pytest.mark.skipif(not COMPILED, reason="compares it with the C core")

ROOT = Path(__file__).parents[1]
SEED = bytes(range(32))
ACCOUNT, AGENT = (reference.b58encode(bytes([number]) * 32).encode() for number in (7, 8))
CLIENT = b"79f948fd-7556-4066-a128-083f3ea49322"
REQUEST = b"f9a2bd2c-41f0-4e5f-9c2f-0c3e7b0a7f11"
WHEN = 1_760_000_000_000
CAP = 8_192


class Side:
    """One of the two, with a key made from the same seed."""

    def __init__(self, ffi: Any, lib: Any) -> None:
        self.ffi, self.lib = ffi, lib
        self.key = ffi.new("pf_key *")
        self.pubkey = ffi.new("char[32]")
        assert lib.pf_key_open_seed(self.key, self.pubkey, SEED) == 0

    def template(
        self, kind: int, symbol: bytes = b"", agent: bytes = b"", window: int = 5_000, reduce_only: int = 0
    ) -> Any:
        """A template, or its error code."""
        t = self.ffi.new("pf_template *")
        texts = ACCOUNT, len(ACCOUNT), agent, len(agent), symbol, len(symbol)
        code = self.lib.pf_template_make(t, kind, self.key, self.ffi.NULL, *texts, reduce_only, window)
        return t if code == 0 else code

    def written(self, name: str, *args: Any, cap: int = CAP) -> Any:
        """What a function that takes room first has written, or its code."""
        out = self.ffi.new("char[]", cap)
        n = getattr(self.lib, name)(out, cap, *args)
        return n if n < 0 else bytes(self.ffi.buffer(out, n))


@cache
def sides() -> tuple[Side, Side]:
    """C, and Python with declarations as setup.py writes them."""
    module = types.ModuleType("pacifica_fast._declared")
    source = ROOT / "build" / "test_pure" / "_declared.py"
    source.parent.mkdir(parents=True, exist_ok=True)
    load_build_script().declarations.emit_python_code(str(source))
    exec(compile(source.read_text(encoding="utf-8"), str(source), "exec"), vars(module))
    sys.modules[module.__name__] = module
    pure = import_module("pacifica_fast._pure")
    return Side(ffi, lib), Side(pure.ffi, pure.lib)


def same(call: Callable[..., Any], *args: Any) -> Any:
    """What both answer, called with a side and ``args``."""
    ours, theirs = (call(side, *args) for side in sides())
    assert ours == theirs
    return ours


def test_the_same_names_constants_and_errors() -> None:
    names = same(lambda side: sorted(dir(side.lib)))
    constants = [name for name in names if name.startswith("PF_")]
    same(lambda side: [getattr(side.lib, name) for name in constants])
    codes = [getattr(lib, name) for name in constants if name.startswith("PF_ERR_")]
    assert len(codes) > 25
    same(lambda side: [side.ffi.string(side.lib.pf_error_text(code)) for code in [*codes, -1000]])


# JSON: valid, nearly valid, and anything.

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
    max_leaves=12,
)
PIECES = st.sampled_from(
    [b"{", b"}", b"[", b"]", b",", b":", b'"', b" ", b"\\", b"\\u", b"d83d", b"\\udc00", b"\x7f", b"\n", b"-",
     b"0", b"1", b".5", b"e1", b"tru", b"true", b"null", b"NaN", b"Infinity", b'"a"', b'"a":',
     b"\xed\xa0\x80", b"\xc3\xa9", b"\xff"]
)  # fmt: skip
TEXTS = (
    st.builds(lambda value, escaped: json.dumps(value, ensure_ascii=escaped), VALUES, st.booleans()).map(
        lambda text: text.encode("utf-8", "surrogatepass")
    )
    | st.lists(PIECES, max_size=12).map(b"".join)
    | st.binary(max_size=40)
)


@given(TEXTS, st.integers(0, 1))
@example(b"\xef\xbb\xbf1", 0)
@example(b'{"a":1,"b":2,"b":3,"a":4}', 0)
@example(b'{"a":{"b":1,"b":2},"a":3}', 0)
@example(b'{"\\u0061":1,"a":2}', 0)
@example(b"[" * 257 + b"]" * 257, 0)
@example(b"[" * 256 + b"]" * 256, 0)
@example(b"[" + b"{}," * 300 + b"{}]", 0)
@example(b"1" * 4301, 0)
@example(b'{"a":"' + b"\xed\xa0\xbd\\ude00" + b'"}', 1)
@example(b"-0", 0)
@example(b"[1,]", 0)
@example(b'{"a":1,}', 0)
@example(b"", 0)
def test_canonical_json(text: bytes, surrogates: int) -> None:
    def made(side: Side) -> Any:
        position = side.ffi.new("size_t *", 99)
        cap = side.lib.pf_canonical_bound(text, len(text))
        assert cap == sides()[0].lib.pf_canonical_bound(text, len(text))
        found = side.written("pf_canonicalize", text, len(text), surrogates, position, cap=cap + 1)
        return found, position[0] if found != lib.PF_ERR_CAPACITY else None

    same(made)


@pytest.mark.parametrize("limit", [0, 10_000])
def test_integers_are_as_long_whatever_python_is_told(limit: int) -> None:
    usual = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(limit)
    try:
        for digits, code in ((4300, None), (4301, lib.PF_ERR_JSON_DIGITS)):
            text = b'{"a":-' + b"9" * digits + b"}"

            def made(side: Side, text: bytes = text) -> Any:
                position = side.ffi.new("size_t *", 99)
                return side.written("pf_canonicalize", text, len(text), 0, position, cap=5_000)

            assert same(made) == (text if code is None else code)
    finally:
        sys.set_int_max_str_digits(usual)


@given(st.binary(max_size=130) | st.text("123456789ABCDEFGHJKLz0l", max_size=130).map(str.encode))
def test_base58(data: bytes) -> None:
    same(lambda side: side.written("pf_b58encode", data, len(data)))
    same(lambda side: side.written("pf_b58encode", data[:64].ljust(64), 64, cap=len(data)))
    same(lambda side: side.written("pf_b58decode", data, len(data), cap=64))

    def exact(side: Side) -> Any:
        out = side.ffi.new("char[64]", b"x" * 64)
        decode = side.lib.pf_b58decode_exact
        return [(decode(out, n, data, len(data)), side.ffi.buffer(out)[:]) for n in (64, 32, 33, 68)]

    same(lambda side: side.written("pf_b58decode", data, len(data), cap=5))
    same(exact)


# Requests. Ids are given, so that all bytes are the same.


@pytest.mark.parametrize("agent", [b"", AGENT])
@pytest.mark.parametrize("window", [1, 5_000])
def test_cancels(agent: bytes, window: int) -> None:
    def by_number(side: Side, number: int) -> Any:
        t = side.template(lib.PF_CANCEL_ORDER, b"BTC", agent, window)
        return side.written("pf_cancel_order_id", t, number, WHEN, 0, REQUEST, 36)

    def by_client(side: Side, client: bytes) -> Any:
        t = side.template(lib.PF_CANCEL_ORDER, b"BTC", agent, window)
        return side.written("pf_cancel_client_order_id", t, client, len(client), WHEN, 0, REQUEST, 36)

    def everything(side: Side, symbol: bytes, reduce_only: int) -> Any:
        t = side.template(lib.PF_CANCEL_ALL, symbol, agent, window, reduce_only)
        return side.written("pf_cancel_all_orders", t, WHEN, 0, REQUEST, 36)

    for number in (0, 42_069, (1 << 64) - 1):
        assert json.loads(same(by_number, number))["params"]["cancel_order"]["order_id"] == number
    assert CLIENT in same(by_client, CLIENT)
    assert [same(by_client, wrong) for wrong in (CLIENT.upper(), CLIENT[:-1])] == [lib.PF_ERR_ARGUMENT] * 2
    for arguments in ((b"", 0), (b"SOL", 1)):
        assert b"cancel_all_orders" in same(everything, *arguments)


def test_batches() -> None:
    def made(side: Side, count: int = 3, symbol: bytes = b"ETH", client: bytes = CLIENT) -> Any:
        t = side.template(lib.PF_CANCEL_ORDER, symbol), side.template(lib.PF_CANCEL_ORDER, b"BTC")
        items = side.ffi.new("pf_cancel_item[]", 11)
        for index, item in enumerate(items):
            item.order, item.order_id = t[index % 2], index
            item.by_client_order_id = index == 1
            item.client_order_id = client
        return side.written("pf_batch_cancel", items, count, WHEN, 0, REQUEST, 36)

    for count in (0, 1, 3, 10, 11):
        same(made, count)
    same(made, 3, b"ETH", CLIENT[:-1] + b"g")


@pytest.mark.parametrize("payload", [b"{}", b' {"b":1,"a":[]}', b"[]", b" 5", b'{"a":', b""])
@pytest.mark.parametrize("name", [b"create_order", b"", b"Create", b"x" * 65])
def test_operations(payload: bytes, name: bytes) -> None:
    def made(side: Side, function: str, *more: Any) -> Any:
        position = side.ffi.new("size_t *", 99)
        t = side.template(lib.PF_OPERATION, agent=AGENT)
        out = side.ffi.new("char[]", CAP)
        cap = side.lib.pf_operation_bound(payload, len(payload))
        arguments = out, cap, t, name, len(name), payload, len(payload), WHEN, *more, position
        n = getattr(side.lib, function)(*arguments)
        text = bytes(side.ffi.buffer(out, n >> 8 if function == "pf_sign_data" else n)) if n > 0 else b""
        return n, text, position[0] if n <= lib.PF_ERR_JSON_END else None

    same(made, "pf_sign_data")
    for own_id in ((REQUEST, 36), (b"nonsense", 8)):
        same(made, "pf_request", 0, *own_id)


def test_templates_refuse_the_same() -> None:
    wrong = [
        *[(kind, b"") for kind in (0, 4, lib.PF_CANCEL_ORDER)],
        *[(lib.PF_CANCEL_ORDER, symbol) for symbol in (b"B" * 33, b'B"', b"B\\", b"\x7f")],
        *[(lib.PF_CANCEL_ORDER, b"BTC", agent) for agent in (b"l", AGENT[:-1], AGENT + b"1")],
        (lib.PF_OPERATION, b"BTC"),
        (lib.PF_CANCEL_ALL, b"", b"", 0),
    ]
    for arguments in wrong:
        assert same(Side.template, *arguments) == lib.PF_ERR_ARGUMENT


def test_the_same_order_of_errors() -> None:
    def codes(side: Side) -> list[Any]:
        order, every = side.template(lib.PF_CANCEL_ORDER, b"BTC"), side.template(lib.PF_CANCEL_ALL)
        answers = [
            side.written("pf_cancel_order_id", order, 1, -1, 0, b"", 0),
            side.written("pf_cancel_order_id", every, 1, WHEN, 0, b"", 0),
            side.written("pf_cancel_all_orders", order, WHEN, 0, b"", 0),
            side.written("pf_cancel_order_id", order, 1, WHEN, 1, b"", 0),  # not a number of ours
            side.written("pf_cancel_order_id", order, 1, WHEN, 0, b"short", 5),
            side.written("pf_cancel_order_id", order, 1, WHEN, 0, REQUEST, 36, cap=100),
        ]
        closed = Side(side.ffi, side.lib)
        order = closed.template(lib.PF_CANCEL_ORDER, b"BTC")
        answers += [side.lib.pf_key_end(closed.key), side.lib.pf_key_end(closed.key)]
        answers.append(closed.written("pf_cancel_order_id", order, 1, WHEN, 0, REQUEST, 36, cap=100))
        answers.append(closed.written("pf_key_sign_bytes", closed.key, b"m", 1))
        clock = side.ffi.new("pf_clock *")
        side.lib.pf_template_set_clock(order, clock)
        answers += [side.lib.pf_clock_correct(clock, ms) for ms in (86_400_001, -86_400_001, -86_400_000)]
        return [*answers, side.lib.pf_clock_correction(clock)]

    assert lib.PF_ERR_CLOSED in same(codes)


def test_signatures() -> None:
    def signed(side: Side, message: bytes, cap: int) -> Any:
        return side.written("pf_key_sign_bytes", side.key, message, len(message), cap=cap)

    messages = [b"", b"m", b"x" * 20_000]
    for message in messages:
        assert len(same(signed, message, 64)) == 64
    assert same(signed, b"m", 63) == lib.PF_ERR_CAPACITY

    def many(side: Side) -> Any:
        out, error = side.ffi.new("char[]", 3 * 89), side.ffi.new("int *", 5)
        buffers = [side.ffi.from_buffer(message) for message in messages]
        pointers = side.ffi.new("char *[]", buffers)
        sizes = side.ffi.new("size_t[]", list(map(len, messages)))
        count = side.lib.pf_sign_many(out, side.key, pointers, sizes, 3, error)
        return count, error[0], side.ffi.buffer(out)[:]

    same(many)


@pytest.mark.parametrize("wrong", [False, True])
def test_the_pair_of_the_drop_in_is_wiped(wrong: bool) -> None:
    text = b'{"b":1,"a":2}'

    def signed(side: Side) -> Any:
        public = b"x" * 32 if wrong else bytes(side.ffi.buffer(side.pubkey))
        pair = bytes(bytearray(SEED + public))
        out = side.ffi.new("char[]", 500)
        by_pair = side.lib.pf_sdk_sign_pair(out, 500, text, len(text), pair), side.ffi.buffer(out)[:]
        assert pair == bytes(64)
        return by_pair, side.lib.pf_sdk_sign_key(out, 500, text, len(text), side.key), side.ffi.buffer(out)[:]

    same(signed)


# Frames. Masks are random: a server's view of them is the same.


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_frames(size: int) -> None:
    def text(side: Side) -> Any:
        frame = side.written("pf_frame_text", bytes(size), size, cap=size + 14)
        again = side.written("pf_frame_again", frame, len(frame), cap=size + 14)
        assert frame != again
        codes = [side.written("pf_frame_text", bytes(size), size, cap=size + room) for room in range(6, 14)]
        codes += [
            side.written("pf_frame_again", frame, len(frame) - 1),
            side.written("pf_frame_again", b"\x81\x00", 2),
        ]
        return parsed(frame), parsed(again), [code for code in codes if isinstance(code, int)]

    same(text)


def test_framed_cancels_have_an_id_of_this_process() -> None:
    for side in sides():
        t, out = side.template(lib.PF_CANCEL_ORDER, b"BTC"), side.ffi.new("char[]", 776)
        blank = side.ffi.new("pf_blank *", (t, out, 776))
        first = side.lib.pf_id_take(2)
        texts = [side.written("pf_id_text", number) for number in (first, first + 1)]
        size = side.lib.pf_frame_cancel_order_id(blank, 5, WHEN, first)
        frame = json.loads(bytes(parsed(bytes(side.ffi.buffer(out, size))).data))
        assert frame["id"].encode() == texts[0] != texts[1]
        size = side.lib.pf_frame_cancel_client_order_id(blank, CLIENT, 36, WHEN, first + 1)
        frame = json.loads(bytes(parsed(bytes(side.ffi.buffer(out, size))).data))
        assert frame["id"].encode() == texts[1]
        assert frame["params"]["cancel_order"]["client_order_id"] == CLIENT.decode()
        blank.cap = 7
        assert side.lib.pf_frame_cancel_order_id(blank, 5, WHEN, first) == lib.PF_ERR_CAPACITY
        assert [side.lib.pf_id_take(count) for count in (0, 1 << 48)] == [lib.PF_ERR_ARGUMENT] * 2
        assert side.written("pf_id_text", first + 1_000_000) == lib.PF_ERR_FORKED


# Building and importing.


def built(tmp: Path, switch: str, **environment: str) -> tuple[subprocess.CompletedProcess[str], list[Path]]:
    """``pip wheel`` of this tree with that switch; what came out."""
    pip = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-v",
        "--no-build-isolation",
        "--no-deps",
        "-w",
        str(tmp),
        ".",
    ]
    surroundings = os.environ | {"PACIFICA_FAST_EXTENSION": switch} | environment
    done = subprocess.run(pip, cwd=source_tree(tmp), env=surroundings, capture_output=True, text=True)
    return done, list(tmp.glob("*.whl"))


def source_tree(tmp: Path) -> Path:
    """A copy: building leaves nothing behind in ours."""
    tree = tmp / "sources"
    return tree if tree.exists() else sources(tree)


@pytest.fixture(scope="module")
def without_compiler(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The package, installed where no compiler works; and what its build said."""
    tmp = tmp_path_factory.mktemp("wheel")
    done, wheels = built(tmp, "auto", CC="false")
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = wheels
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp / "installed")
    return tmp / "installed", done.stdout + done.stderr


def run_with(package: Path, code: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Without site, where an editable install would have ours found."""
    path = os.pathsep.join([str(package), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    command = [sys.executable, "-S", *options, "-c", code]
    return subprocess.run(
        command, cwd=package, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
    )


SIGN = """
import pacifica_fast, pacifica_fast.sdk, pacifica_fast.canonical
from pacifica_fast._sodium import COMPILED
with pacifica_fast.Keypair.from_seed(bytes(range(32))) as keypair:
    signer = pacifica_fast.Signer(keypair, prepared=8)
    signer.cancel_order("BTC", order_id=1)
    print(COMPILED, keypair.sign_message(b"m").hex(), signer.stats[:2])
"""


def test_without_a_compiler_it_is_built_says_so_and_signs(without_compiler: tuple[Path, str]) -> None:
    package, said = without_compiler
    assert "WITHOUT its C core" in said
    assert (package / "pacifica_fast" / "_declared.py").exists()
    done = run_with(package, SIGN)
    assert done.returncode == 0, done.stderr
    signature = sides()[0].written("pf_key_sign_bytes", sides()[0].key, b"m", 1)
    assert isinstance(signature, bytes)
    assert done.stdout.split() == ["False", signature.hex(), "(0,", "1)"]
    assert done.stderr.count("RuntimeWarning") == 1
    assert "runs without its C core" in done.stderr


def test_the_warning_can_be_an_error(without_compiler: tuple[Path, str]) -> None:
    done = run_with(without_compiler[0], SIGN, "-W", "error::RuntimeWarning")
    assert done.returncode != 0


def test_a_core_that_does_not_load_is_an_error(without_compiler: tuple[Path, str], tmp_path: Path) -> None:
    package, _ = without_compiler
    broken = package / "pacifica_fast" / "_native.abi3.so"
    broken.write_bytes(b"\x7fELF")
    try:
        done = run_with(package, "import pacifica_fast")
    finally:
        broken.unlink()
    assert done.returncode != 0
    assert "ImportError" in done.stderr
    declared = package / "pacifica_fast" / "_declared.py"
    declared.rename(tmp_path / "_declared.py")
    try:
        done = run_with(package, "import pacifica_fast")
    finally:
        (tmp_path / "_declared.py").rename(declared)
    assert done.returncode != 0
    assert "No module named 'pacifica_fast._native'" in done.stderr


def test_the_switch(tmp_path: Path) -> None:
    done, wheels = built(tmp_path, "yes", CC="false")
    assert done.returncode != 0
    assert not wheels
    done, wheels = built(tmp_path, "maybe")
    assert done.returncode != 0
    assert "expected auto, yes or no" in done.stdout + done.stderr
    assert not wheels


def test_armed_cancels_change_while_they_are_looked_at() -> None:
    """By finalizers: whatever makes many objects may be interrupted by them, the watching thread too."""
    armed = import_module("pacifica_fast._pure.armed")
    store = armed._Store()
    entry = armed._Entry(types.SimpleNamespace(window=5_000), "", 1, given_up=True)
    store.entries.update(dict.fromkeys(range(5_000), entry))

    class Garbage:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            store.entries[len(store.entries)] = entry

    usual = gc.get_threshold()
    for look in (store.resign, store.pause):
        gc.disable()
        before = len(store.entries)
        for _ in range(10):
            Garbage()
        gc.set_threshold(50)
        gc.enable()
        try:
            look()
        finally:
            gc.set_threshold(*usual)
        gc.collect()
        assert len(store.entries) == before + 10
