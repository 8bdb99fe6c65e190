# SPDX-License-Identifier: MIT
"""The command line: real processes, real TLS, and what they leave behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey, VerifyKey

from pacifica_fast import Keypair, b58decode, b58encode, cli
from pacifica_fast.mock_exchange import MockExchange

PATIENCE = 60.0  # s; nothing here depends on how fast the machine is
SEED = bytes(range(1, 33))
PUBKEY = b58encode(bytes(SigningKey(SEED).verify_key))
SECRET = b58encode(SEED + b58decode(PUBKEY))
AGENT_SEED = bytes(range(101, 133))
AGENT = b58encode(bytes(SigningKey(AGENT_SEED).verify_key))
LEAVES_HOME_ALONE = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "LD_PRELOAD", "ASAN_OPTIONS", "UBSAN_OPTIONS")

# SIGINT may be ignored where the tests run (background jobs of a shell), and that is inherited.
INTERRUPTIBLE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from pacifica_fast.cli import main
sys.exit(main())
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An empty home, and the key in the environment."""
    home = tmp_path / "home"
    home.mkdir()
    kept = {name: os.environ[name] for name in LEAVES_HOME_ALONE if name in os.environ}
    return {**kept, "HOME": str(home), "PACIFICA_PRIVATE_KEY": SECRET}


@pytest.fixture
def run(environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command to its end. Whatever it does, no secret shows up."""

    def run(*args: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "pacifica_fast", *args],
            input=stdin,
            capture_output=True,
            text=True,
            env={**environment, **env},
            timeout=PATIENCE,
            check=False,
        )
        output = done.stdout + done.stderr
        assert SECRET not in output
        assert b58encode(SEED) not in output
        assert "Traceback" not in output
        return done

    return run


Run = Callable[..., subprocess.CompletedProcess[str]]


@contextmanager
def process(
    environment: dict[str, str], *args: str, program: str = INTERRUPTIBLE
) -> Iterator[subprocess.Popen[str]]:
    """The command, still running; killed when this is left."""
    started = subprocess.Popen(
        [sys.executable, "-c", program, *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    with started:
        try:
            yield started
        finally:
            started.kill()


def first_line(started: subprocess.Popen[str]) -> str:
    assert started.stdout is not None
    return started.stdout.readline()


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[MockExchange]:
    """A mock exchange in this process, over TLS; its authority is in ``ca.pem``."""
    with MockExchange(tls=True).in_thread() as exchange:
        ders = exchange.client_ssl_context().get_ca_certs(binary_form=True)
        (tmp_path / "ca.pem").write_text("".join(map(ssl.DER_cert_to_PEM_cert, ders)))
        yield exchange


def to(exchange: MockExchange, tmp_path: Path) -> list[str]:
    return ["--network", "mock", "--url", exchange.url, "--ca-file", str(tmp_path / "ca.pem")]


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def status_of(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    """Run it in this process: exit status, stdout, stderr."""
    try:
        status = cli.main(list(args))
    except SystemExit as end:
        status = int(end.code or 0)
    out, err = capsys.readouterr()
    return status, out, err


# cancel and cancel-all: the exit status is the fate.


def test_cancel_by_order_id(run: Run, exchange: MockExchange, tmp_path: Path) -> None:
    order = exchange.place(PUBKEY)
    done = run("cancel", "BTC", "--order-id", str(order.order_id), *to(exchange, tmp_path))
    assert done.returncode == 0
    assert f"cancel BTC order {order.order_id}\n" in done.stdout
    assert "acknowledged, in " in done.stdout
    assert "\x1b" not in done.stdout
    assert done.stderr == ""
    assert exchange.orders(PUBKEY) == []


def test_cancel_by_client_order_id_as_json(run: Run, exchange: MockExchange, tmp_path: Path) -> None:
    mine = str(uuid.uuid4())
    exchange.place(PUBKEY, symbol="ETH", client_order_id=mine)
    done = run("cancel", "ETH", "--client-order-id", mine, "--json", *to(exchange, tmp_path))
    assert done.returncode == 0
    (line,) = done.stdout.splitlines()
    report = json.loads(line)
    assert report["operation"] == "cancel_order"
    assert report["network"] == "mock"
    assert report["url"] == exchange.url
    assert report["account"] == PUBKEY
    assert report["agent_wallet"] is None
    assert (report["symbol"], report["order_id"], report["client_order_id"]) == ("ETH", None, mine)
    assert (report["fate"], report["code"], report["reason"]) == ("ack", None, None)
    assert uuid.UUID(report["request_id"])
    assert report["connect_ms"] > 0
    assert report["took_ms"] > 0
    assert exchange.orders(PUBKEY) == []


def test_a_cancel_of_nothing_is_rejected(run: Run, exchange: MockExchange, tmp_path: Path) -> None:
    done = run("cancel", "BTC", "--order-id", "42069", *to(exchange, tmp_path))
    assert done.returncode == 1
    assert "rejected 420: Failed to cancel order, in " in done.stdout
    done = run("cancel", "BTC", "--order-id", "42069", "--json", *to(exchange, tmp_path))
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert (report["fate"], report["code"]) == ("rejected", 420)


@pytest.mark.parametrize("as_json", [False, True])
def test_no_answer_is_unknown(run: Run, exchange: MockExchange, tmp_path: Path, as_json: bool) -> None:
    order = exchange.place(PUBKEY)
    exchange.faults.drop_replies()
    options = ["--timeout", "0.3", *(["--json"] if as_json else [])]
    done = run("cancel", "BTC", "--order-id", str(order.order_id), *options, *to(exchange, tmp_path))
    assert done.returncode == 3
    if as_json:
        assert json.loads(done.stdout)["fate"] == "unknown"
    else:
        assert "outcome unknown after " in done.stdout
        assert "no reply within 0.3 s" in done.stdout
    assert exchange.orders(PUBKEY) == []  # and indeed it was carried out


@pytest.mark.parametrize("operation", [["cancel", "BTC", "--order-id", "1"], ["cancel-all"]])
def test_a_closed_port_is_not_sent(
    run: Run, exchange: MockExchange, tmp_path: Path, operation: list[str]
) -> None:
    with socket.socket() as bound:  # and never listening
        bound.bind(("127.0.0.1", 0))
        url = f"wss://127.0.0.1:{bound.getsockname()[1]}/ws"
        done = run(*operation, "--network", "mock", "--url", url, "--ca-file", str(tmp_path / "ca.pem"))
    assert done.returncode == 4
    assert "not sent: connect: " in done.stdout


def test_no_mock_exchange_running_is_not_sent(run: Run) -> None:
    done = run("cancel-all", "--network", "mock", "--json")
    assert done.returncode == 4
    report = json.loads(done.stdout)
    assert report["fate"] == "not_sent"
    assert "pacifica-fast mock-exchange" in report["reason"]


def test_tls_is_verified(run: Run, exchange: MockExchange) -> None:
    done = run("cancel-all", "--network", "testnet", "--url", exchange.url)
    assert done.returncode == 4
    assert "not sent: tls: certificate not accepted" in done.stdout
    assert exchange.verified == 0


def test_cancel_all(run: Run, exchange: MockExchange, tmp_path: Path) -> None:
    for symbol, reduce_only in (("BTC", False), ("BTC", True), ("ETH", False)):
        exchange.place(PUBKEY, symbol=symbol, reduce_only=reduce_only)
    there = to(exchange, tmp_path)
    done = run("cancel-all", "--symbol", "BTC", "--exclude-reduce-only", *there)
    assert done.returncode == 0
    assert "cancel all orders of BTC but reduce-only ones\n" in done.stdout
    assert "acknowledged: 1 order, in " in done.stdout
    assert json.loads(run("cancel-all", "--json", *there).stdout)["cancelled_count"] == 2
    assert exchange.orders(PUBKEY) == []


def test_through_an_agent_wallet(run: Run, exchange: MockExchange, tmp_path: Path) -> None:
    exchange.place(PUBKEY)
    arguments = ["cancel-all", "--account", PUBKEY, "--key-env", "AGENT_KEY", *to(exchange, tmp_path)]
    done = run(*arguments, AGENT_KEY=b58encode(AGENT_SEED))
    assert done.returncode == 1
    assert "rejected 403" in done.stdout
    exchange.bind_agent(PUBKEY, AGENT)
    done = run(*arguments, AGENT_KEY=b58encode(AGENT_SEED))
    assert done.returncode == 0
    assert f"signed by agent wallet {AGENT}" in done.stdout
    assert b58encode(AGENT_SEED) not in done.stdout + done.stderr


def test_ctrl_c_in_flight(environment: dict[str, str], exchange: MockExchange, tmp_path: Path) -> None:
    exchange.faults.drop_replies(100)
    arguments = ["cancel", "BTC", "--order-id", "1", "--timeout", "600", *to(exchange, tmp_path)]
    with process(environment, *arguments) as started:
        wait_for(lambda: any(request.operation for request in exchange.requests))
        started.send_signal(signal.SIGINT)
        out, err = started.communicate(timeout=PATIENCE)
    assert started.returncode == 130
    assert "outcome unknown: interrupted" in out
    assert err == ""


def test_ctrl_c_while_connecting(environment: dict[str, str], tmp_path: Path, exchange: MockExchange) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"wss://127.0.0.1:{mute.getsockname()[1]}/ws"
        arguments = ["cancel-all", "--network", "mock", "--url", url, "--ca-file", str(tmp_path / "ca.pem")]
        with process(environment, *arguments, "--json") as started:
            mute.settimeout(PATIENCE)
            connection, _ = mute.accept()
            with connection:
                started.send_signal(signal.SIGINT)
                out, err = started.communicate(timeout=PATIENCE)
    assert started.returncode == 130
    report = json.loads(out)
    assert (report["fate"], report["interrupted"], report["reason"]) == ("not_sent", True, "interrupted")
    assert err == ""


MUTE_RESOLVER = """
import signal, socket, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)

def getaddrinfo(*_, **__):
    print("resolving", file=sys.stderr, flush=True)
    time.sleep(600)

socket.getaddrinfo = getaddrinfo
from pacifica_fast.cli import main
sys.exit(main())
"""


@pytest.mark.parametrize("pressed", [True, False])
def test_nobody_waits_for_a_resolver(environment: dict[str, str], pressed: bool) -> None:
    """Not when Ctrl-C is pressed, nor when the time is up to connect."""
    options = ["--network", "testnet", "--json"]
    with process(environment, "cancel-all", *options, program=MUTE_RESOLVER) as started:
        assert started.stderr is not None
        assert started.stderr.readline() == "resolving\n"
        if pressed:
            started.send_signal(signal.SIGINT)
        out, err = started.communicate(timeout=PATIENCE)
    assert err == ""
    assert started.returncode == (130 if pressed else 4)
    report = json.loads(out)
    assert report["fate"] == "not_sent"
    assert report["reason"] == ("interrupted" if pressed else "timeout: not open within 10 s")


@pytest.mark.parametrize("as_json", [False, True])
def test_a_password_is_not_shown(run: Run, exchange: MockExchange, tmp_path: Path, as_json: bool) -> None:
    url = exchange.url.replace("://", "://me:hunter2@") + "?token=abc"
    options = ["--network", "mock", "--url", url, "--ca-file", str(tmp_path / "ca.pem")]
    done = run("cancel-all", *options, *(["--json"] if as_json else []))
    assert done.returncode == 0
    assert exchange.url in done.stdout
    for secret in ("hunter2", "abc"):
        assert secret not in done.stdout + done.stderr


def test_nobody_reads_the_output(environment: dict[str, str], exchange: MockExchange, tmp_path: Path) -> None:
    """The exit status stays the fate."""
    reader, writer = os.pipe()
    os.close(reader)
    order = exchange.place(PUBKEY)
    arguments = ["cancel", "BTC", "--order-id", str(order.order_id), *to(exchange, tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "pacifica_fast", *arguments],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        timeout=PATIENCE,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
    assert exchange.orders(PUBKEY) == []


# What is wrong before anything is sent.


@pytest.fixture
def key_in_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACIFICA_PRIVATE_KEY", SECRET)


MOCK = ("--network", "mock")


@pytest.mark.usefixtures("key_in_environment")
@pytest.mark.parametrize(
    ("args", "error"),
    [
        ((), "required: COMMAND"),
        (("cancel-all",), "required: --network"),
        (("cancel-all", "--net", "mock"), "required: --network"),  # no abbreviations
        (("cancel", "BTC", *MOCK), "one of the arguments --order-id --client-order-id is required"),
        (("cancel", "BTC", "--order-id", "1", "--client-order-id", "x", *MOCK), "not allowed with"),
        (("cancel", "BTC", "--order-id", "-1", *MOCK), "expected a whole number"),
        (("cancel", "BTC", "--order-id", "1_0", *MOCK), "expected a whole number"),
        (("cancel", "BTC", "--order-id", str(2**64), *MOCK), "expected a whole number"),
        (("cancel", "BTC", "--client-order-id", "X", *MOCK), "client_order_id: expected a lower-case"),
        (("cancel", 'B"C', "--order-id", "1", *MOCK), "symbol: expected"),
        (("cancel-all", "--account", "x", *MOCK), "account: expected the base58"),
        (("cancel-all", "--timeout", "nan", *MOCK), "positive number of seconds"),
        (("cancel-all", "--expiry-window", "0", *MOCK), "expected a whole number from 1"),
        (("cancel-all", "--network", "mainnet", "--url", "ws://example.com/ws"), "use wss://"),
        (("cancel-all", "--url", "wss://127.0.0.1:x/ws", *MOCK), "url: "),
        (("cancel-all", "--url", "wss://[::1/ws", *MOCK), "url: "),
        (("cancel-all", "--url", "wss://[::1/ws", "--network", "testnet"), "url: "),
        (("cancel-all", "--ca-file", os.devnull, *MOCK), "--ca-file: no certificates"),
        (("cancel-all", "--ca-file", "/nowhere/at/all", *MOCK), "--ca-file: No such file"),
        (("cancel-all", "--key-file", "/nowhere/at/all", *MOCK), "--key-file: No such file"),
        (("cancel-all", "--key-file", os.devnull, *MOCK), "--key-file: /dev/null: expected base58"),
        (("cancel-all", "--key-env", "NO_SUCH_VARIABLE", *MOCK), "no environment variable of that name"),
        (("mock-exchange", "--orders-for", "x"), "base58 of a 32-byte public key"),
        (("mock-exchange", "--agent", PUBKEY), "expected ACCOUNT:AGENT"),
        (("mock-exchange", "--port", "65536"), "expected a whole number"),
        (("keygen",), "required: --out"),
    ],
)
def test_invalid_input(capsys: pytest.CaptureFixture[str], args: tuple[str, ...], error: str) -> None:
    status, out, err = status_of(capsys, *args)
    assert status == 2
    assert out == ""
    assert error in err


def test_no_key(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PACIFICA_PRIVATE_KEY", raising=False)
    status, out, err = status_of(capsys, "cancel-all", *MOCK)
    assert (status, out) == (2, "")
    assert (
        err == "pacifica-fast: no key: set PACIFICA_PRIVATE_KEY, or give --key-file PATH or --key-env NAME\n"
    )


def test_no_home(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a user without an entry in passwd, in a container."""

    def nobody(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setenv("PACIFICA_PRIVATE_KEY", SECRET)
    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    for command in (["cancel-all", *MOCK], ["mock-exchange", "--port", "0"]):
        assert status_of(capsys, *command) == (
            2,
            "",
            "pacifica-fast: no home directory: set HOME or XDG_CACHE_HOME, or give --ca-file\n",
        )


def redirected(environment: dict[str, str], how: str, *args: str) -> subprocess.CompletedProcess[str]:
    """The command with its streams as a shell is told."""
    command = f'exec "$0" -m pacifica_fast "$@" {how}'
    return subprocess.run(
        ["sh", "-c", command, sys.executable, *args],
        capture_output=True,
        text=True,
        env=environment,
        timeout=PATIENCE,
        check=False,
    )


@pytest.mark.parametrize("how", ["2>&-", "2>/dev/full"])
def test_without_stderr(environment: dict[str, str], how: str) -> None:
    """What is said there does not go to stdout in its place, and changes no status."""
    if how.endswith("/dev/full") and not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    done = redirected(environment, how, "cancel-all", *MOCK, "--key-file", "/nowhere/at/all")
    assert (done.returncode, done.stdout) == (2, "")
    done = redirected(environment, how, "keygen", "--out", "-")
    assert done.returncode == 0
    assert len(json.loads(done.stdout)) == 64
    assert done.stdout.endswith("]\n")


@pytest.mark.parametrize(
    ("args", "how", "status", "error"),
    [
        (("keygen", "--out", "-"), ">/dev/full", 1, "standard output: No space left on device"),
        (("keygen", "--out", "-"), ">&-", 1, "standard output is closed"),
        (("sign", "cancel_order"), "<&-", 2, "data: standard input is closed"),
    ],
)
def test_streams_that_do_not_work(
    environment: dict[str, str], args: tuple[str, ...], how: str, status: int, error: str
) -> None:
    if how.endswith("/dev/full") and not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    done = redirected(environment, how, *args)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", f"pacifica-fast: {error}\n")


NUMBERS = json.dumps(list(SEED + b58decode(PUBKEY)))


@pytest.mark.parametrize("key", [SECRET, b58encode(SEED), NUMBERS, SEED.hex()])
@pytest.mark.parametrize(
    "args",
    [
        ("cancel-all", *MOCK, "--key", "{}"),
        ("cancel-all", *MOCK, "{}"),
        ("cancel-all", *MOCK, "--key-env", "{}"),
        ("cancel-all", *MOCK, "--key-file", "{}"),
        ("cancel-all", *MOCK, "--account", "{}xxxxx"),
        ("cancel", "BTC", *MOCK, "--order-id", "{}"),
        ("cancel", "{}", *MOCK, "--order-id", "{}"),
        ("cancel-all", "--network", "{}"),
        ("{}",),
    ],
)
def test_a_key_given_as_an_argument_is_not_repeated(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...], key: str
) -> None:
    monkeypatch.setenv("PACIFICA_PRIVATE_KEY", SECRET)
    status, out, err = status_of(capsys, *(arg.replace("{}", key) for arg in args))
    assert status == 2
    assert key not in out + err
    assert key[:20] not in out + err


@pytest.mark.parametrize("wrong", ["x" * 87, SECRET[:-1] + "1", NUMBERS.replace("1", "2"), "[1, 2, 300]"])
def test_a_wrong_key_is_not_repeated(run: Run, tmp_path: Path, wrong: str) -> None:
    for done in (run("sign", "x", "{}", PACIFICA_PRIVATE_KEY=wrong), _from_file(run, tmp_path, wrong)):
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.startswith("pacifica-fast: ")
        assert len(done.stderr.splitlines()) == 1
        assert wrong not in done.stderr


def _from_file(run: Run, tmp_path: Path, content: str) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "key"
    path.write_text(content)
    path.chmod(0o600)
    return run("sign", "x", "{}", "--key-file", str(path))


# sign.


def signed_by(pubkey: str, output: str) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(output)
    VerifyKey(b58decode(pubkey)).verify(fields["message"].encode(), b58decode(fields["signature"]))
    message: dict[str, Any] = json.loads(fields["message"])
    assert (message["timestamp"], message["expiry_window"]) == (fields["timestamp"], fields["expiry_window"])
    return fields


def test_sign_verifies(run: Run) -> None:
    before = time.time_ns() // 1_000_000
    done = run("sign", "cancel_order", '{"symbol": "BTC", "order_id": 42069}')
    assert done.returncode == 0
    fields = signed_by(PUBKEY, done.stdout)
    assert list(fields) == ["message", "signature", "timestamp", "expiry_window", "account"]
    assert fields["account"] == PUBKEY
    assert fields["expiry_window"] == 5_000
    assert before <= fields["timestamp"] <= time.time_ns() // 1_000_000


def test_sign_from_stdin_for_an_account(run: Run) -> None:
    options = ["--timestamp", "1748970123456", "--expiry-window", "30000", "--account", PUBKEY]
    done = run("sign", "x", *options, stdin='{"b":1,"a":["ü"]}\n', PACIFICA_PRIVATE_KEY=b58encode(AGENT_SEED))
    fields = signed_by(AGENT, done.stdout)
    assert fields["message"] == (
        '{"data":{"a":["\\u00fc"],"b":1},"expiry_window":30000,"timestamp":1748970123456,"type":"x"}'
    )
    assert (fields["account"], fields["agent_wallet"]) == (PUBKEY, AGENT)


@pytest.mark.usefixtures("key_in_environment")
@pytest.mark.parametrize(
    ("data", "error"),
    [
        ('{"price": 1.5}', "data.price: float (pass decimals as strings)"),
        ('{"a": [1, NaN]}', "data.a[1]: float"),
        ("{", "data: not JSON: "),
        ("[]", "data: expected dict, got list"),
        ('{"a": {"b": 1, "b": 1}}', "data: a key occurs twice"),
        ("[" * 100_000, "data: nested too deeply"),
        ('{"a": ' + "9" * 5_000 + "}", "data: "),
    ],
)
def test_sign_refuses(capsys: pytest.CaptureFixture[str], data: str, error: str) -> None:
    status, out, err = status_of(capsys, "sign", "create_order", data)
    assert (status, out) == (2, "")
    assert err.startswith(f"pacifica-fast: {error}")
    assert len(err.splitlines()) == 1


def test_sign_refuses_what_is_not_unicode(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "pacifica_fast", "sign", "x"]
    done = subprocess.run(
        command, input=b'{"a":"\xff"}', env=environment, capture_output=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith(b"pacifica-fast: data: ")


# keygen, and keys from files.


def test_keygen(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "id.json"
    done = run("keygen", "--out", str(path))
    assert done.returncode == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    numbers = json.loads(path.read_text())
    assert len(numbers) == 64
    assert bytes(SigningKey(bytes(numbers[:32])).verify_key) == bytes(numbers[32:])
    pubkey = b58encode(bytes(numbers[32:]))
    assert (done.stdout, done.stderr) == (f"{pubkey}\n", "")
    with Keypair.from_json_file(path) as keypair:
        assert keypair.pubkey() == pubkey
    done = run("sign", "x", "{}", "--key-file", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    signed_by(pubkey, done.stdout)


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_keygen_whatever_the_umask(tmp_path: Path, umask: int, capsys: pytest.CaptureFixture[str]) -> None:
    before = os.umask(umask)
    try:
        assert cli.main(["keygen", "--out", str(tmp_path / "id.json")]) == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "id.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("dangling", [False, True])
def test_keygen_never_overwrites(run: Run, tmp_path: Path, dangling: bool) -> None:
    path = tmp_path / "id.json"
    if dangling:
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.write_text("precious")
    done = run("keygen", "--out", str(path))
    assert (done.returncode, done.stdout) == (2, "")
    assert "never overwritten" in done.stderr
    assert not (tmp_path / "elsewhere").exists()
    assert dangling or path.read_text() == "precious"


def test_keygen_without_a_directory(run: Run, tmp_path: Path) -> None:
    done = run("keygen", "--out", str(tmp_path / "no" / "id.json"))
    assert done.returncode == 2
    assert "No such file or directory" in done.stderr


def test_keygen_to_stdout(run: Run) -> None:
    done = run("keygen", "--out", "-")
    with Keypair.from_bytes(bytes(json.loads(done.stdout))) as keypair:
        assert done.stderr == f"{keypair.pubkey()}\n"


@pytest.mark.parametrize("content", [SECRET, f"  {SECRET}\n", b58encode(SEED), NUMBERS, f"{NUMBERS}\n"])
def test_key_files(run: Run, tmp_path: Path, content: str) -> None:
    done = _from_file(run, tmp_path, content)
    assert (done.returncode, done.stderr) == (0, "")
    signed_by(PUBKEY, done.stdout)


def test_key_from_a_pipe(environment: dict[str, str], tmp_path: Path) -> None:
    """As ``--key-file <(pass show pacifica)`` does: it can be read once."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=lambda: fifo.write_text(NUMBERS))
    writer.start()
    command = [sys.executable, "-m", "pacifica_fast", "sign", "x", "{}", "--key-file", str(fifo)]
    output = subprocess.check_output(command, env=environment, text=True, timeout=PATIENCE)
    writer.join(PATIENCE)
    signed_by(PUBKEY, output)


def test_a_key_file_that_others_may_read(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(SECRET)
    path.chmod(0o644)
    done = run("sign", "x", "{}", "--key-file", str(path))
    assert done.returncode == 0
    assert done.stderr == ("pacifica-fast: warning: others may read the key file (mode 0644): chmod 600 it\n")


# mock-exchange.


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_mock_exchange_and_cancels(run: Run, environment: dict[str, str], end: signal.Signals) -> None:
    options = ["--port", "0", "--orders-for", PUBKEY, "--json"]
    with process(environment, "mock-exchange", *options) as started:
        listening = json.loads(first_line(started))
        assert listening["event"] == "listening"
        ca_file = Path(listening["ca_file"])
        assert ca_file.read_text() == listening["ca"]
        assert ca_file.is_relative_to(environment["HOME"])
        there = ["--network", "mock", "--url", listening["url"]]  # and it finds the authority itself
        order = listening["orders"][0]["order_id"]
        assert run("cancel", "BTC", "--order-id", str(order), *there).returncode == 0
        assert run("cancel", "BTC", "--order-id", str(order), *there).returncode == 1
        assert json.loads(run("cancel-all", "--json", *there).stdout)["cancelled_count"] == 2
        messages = [json.loads(first_line(started)) for _ in range(3)]
        started.send_signal(signal.SIGUSR1)
        assert json.loads(first_line(started)) == {"event": "withholding"}
        assert run("cancel-all", "--timeout", "0.3", *there).returncode == 3
        started.send_signal(end)
        out, err = started.communicate(timeout=PATIENCE)
    assert (started.returncode, err) == (0, "")
    *_, stopped = [json.loads(line) for line in out.splitlines()]
    assert [(message["operation"], message["code"]) for message in messages] == [
        ("cancel_order", 200),
        ("cancel_order", 420),
        ("cancel_all_orders", 200),
    ]
    assert messages[0]["detail"] == f"BTC {order}"
    assert stopped == {"event": "stopped", "messages": 4, "verified": 4, "refused": 1}
    assert not ca_file.exists()


def test_mock_exchange_for_people(run: Run, environment: dict[str, str], tmp_path: Path) -> None:
    ca_file = tmp_path / "authority.pem"
    options = [
        "--port",
        "0",
        "--ca-file",
        str(ca_file),
        "--orders-for",
        PUBKEY,
        "--agent",
        f"{PUBKEY}:{AGENT}",
    ]
    with process(environment, "mock-exchange", *options, "--stop-on-eof") as started:
        url = first_line(started).split()[3].rstrip(",")
        trust, command = first_line(started), first_line(started)
        assert str(ca_file) in trust
        assert f"--url {url} --ca-file {ca_file}" in command
        arguments = ["--network", "mock", "--url", url, "--ca-file", str(ca_file), "--account", PUBKEY]
        assert run("cancel-all", *arguments, PACIFICA_PRIVATE_KEY=b58encode(AGENT_SEED)).returncode == 0
        out, err = started.communicate(timeout=PATIENCE)  # closes its stdin
    assert (started.returncode, err) == (0, "")
    assert "200  cancel_all_orders   all symbols" in out
    assert out.endswith("stopped: 1 message, 1 signature verified, 0 refused\n")
    assert ca_file.exists()  # asked for, so it stays


def test_mock_exchange_without_tls(run: Run, environment: dict[str, str]) -> None:
    with process(environment, "mock-exchange", "--port", "0", "--plain", "--json", "--quiet") as started:
        listening = json.loads(first_line(started))
        assert listening["url"].startswith("ws://127.0.0.1:")
        assert listening["ca"] is None
        assert run("cancel-all", "--network", "mock", "--url", listening["url"]).returncode == 0
        started.terminate()
        out, _ = started.communicate(timeout=PATIENCE)
    assert json.loads(out)["messages"] == 1


def test_mock_exchange_on_a_port_in_use(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = run("mock-exchange", "--port", str(port))
    assert done.returncode == 1
    assert done.stderr == f"pacifica-fast: cannot listen on 127.0.0.1:{port}: Address already in use\n"


@pytest.mark.parametrize("kind", ["key", "directory", "fifo", "symlink"])
def test_mock_exchange_replaces_nothing_but_certificates(run: Run, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "there"
    match kind:
        case "key":
            path.write_text(NUMBERS)
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case _:
            path.symlink_to(tmp_path / "id.json")
    before = path.lstat()
    done = run("mock-exchange", "--port", "0", "--ca-file", str(path))
    assert done.returncode == 2
    assert done.stderr == "pacifica-fast: --ca-file: exists, and is not a certificate file\n"
    after = path.lstat()
    assert (after.st_ino, after.st_mode, after.st_mtime_ns) == (
        before.st_ino,
        before.st_mode,
        before.st_mtime_ns,
    )
    assert list(tmp_path.glob("there.*")) == []


def test_mock_exchange_replaces_an_old_certificate(environment: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    for _ in range(2):
        arguments = ["mock-exchange", "--port", "0", "--json", "--ca-file", str(path)]
        with process(environment, *arguments) as started:
            assert json.loads(first_line(started))["ca"] == path.read_text()


# demo.


def test_demo_as_json(run: Run) -> None:
    done = run("demo", "--rounds", "3", "--json")
    assert done.stderr == ""
    summary = json.loads(done.stdout)
    assert done.returncode == 0, summary
    assert summary["ok"] is True
    assert summary["problem"] is None
    assert summary["signatures_sent"] == summary["signatures_verified"] > 25
    fates = {fate["what"]: fate["fate"] for fate in summary["fates"]}
    assert set(fates.values()) == {"ack", "rejected", "unknown", "not sent", "refused"}
    assert all(fate["fate"] == fate["expected"] for fate in summary["fates"])
    assert set(summary["latency"]) == {"hot_tight_loop", "hot_on_the_wire", "cold_on_the_wire"}
    for group in summary["latency"].values():
        for both in group.values():
            for way in ("pacifica_fast", "pure_python"):
                figures = both[way]
                assert 0 < figures["p50_us"] <= figures["p99_us"] <= figures["max_us"]
            assert both["ratio_p50"] > 0


def test_demo_for_people(run: Run, environment: dict[str, str]) -> None:
    done = run("demo", "--rounds", "2", NO_COLOR="1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "all as it should be: the exchange verified " in done.stdout
    assert "\x1b" not in done.stdout
    rows = [line for line in done.stdout.splitlines() if not line.startswith("note: ")]
    assert max(map(len, rows)) <= 90
    assert list(Path(environment["HOME"]).iterdir()) == []  # it leaves nothing behind


def test_demo_whose_reader_leaves(environment: dict[str, str]) -> None:
    with process(environment, "demo", "--rounds", "3") as started:
        assert started.stdout is not None
        assert first_line(started)
        started.stdout.close()
        assert started.wait(PATIENCE) == 141
        assert started.stderr is not None
        assert started.stderr.read() == ""


def test_demo_interrupted(environment: dict[str, str]) -> None:
    with process(environment, "demo", "--rounds", "100000") as started:
        assert first_line(started)
        exchange = int(first_line(started).partition("(process ")[2].partition(")")[0])
        while "place an order" not in first_line(started):  # until then asyncio may not expect Ctrl-C
            pass
        started.send_signal(signal.SIGINT)
        _, err = started.communicate(timeout=PATIENCE)
    assert started.returncode == 130
    assert err == "pacifica-fast: interrupted\n"
    with pytest.raises(ProcessLookupError):
        os.kill(exchange, 0)


def test_the_exchange_of_a_killed_demo_ends(environment: dict[str, str]) -> None:
    with process(environment, "demo", "--rounds", "100000") as started:
        assert first_line(started)
        exchange = int(first_line(started).partition("(process ")[2].partition(")")[0])
        started.kill()
        started.wait(PATIENCE)
    wait_for(lambda: not _runs(exchange))


def _runs(pid: int) -> bool:
    """Whether it does more than wait for its parent, which may not be a good one."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


# The rest.


def test_version(run: Run) -> None:
    done = run("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("pacifica-fast ")


@pytest.mark.parametrize("command", ["cancel", "cancel-all"])
def test_help_tells_the_exit_status(capsys: pytest.CaptureFixture[str], command: str) -> None:
    status, out, _ = status_of(capsys, command, "--help")
    assert status == 0
    for line in (
        "0    acknowledged",
        "1    rejected",
        "2    wrong usage",
        "3    outcome unknown",
        "4    not sent",
    ):
        assert line in out
    assert "130  interrupted" in out


def test_an_ascii_terminal(run: Run) -> None:
    done = run("demo", "--rounds", "1", PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C")
    assert done.returncode == 0


def test_a_bug_is_not_taken_for_a_rejection(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    exchange: MockExchange,
    tmp_path: Path,
) -> None:
    """Python's own exit status for an uncaught exception is 1."""

    async def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setenv("PACIFICA_PRIVATE_KEY", SECRET)
    monkeypatch.setattr("pacifica_fast.asyncio.Client.cancel_all_orders", broken)
    status, out, err = status_of(capsys, "cancel-all", *to(exchange, tmp_path))
    assert status == 3
    assert "outcome unknown: a bug of pacifica_fast: ZeroDivisionError" in out
    assert "Traceback" in err
