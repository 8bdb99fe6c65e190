# SPDX-License-Identifier: MIT
"""The command ``pacifica-fast``: cancel, sign, make a key, run the mock exchange, watch a bot or the demo,
examine the machine, measure.

Keys come from the environment or a file, never from an argument: arguments are visible
to every user of the machine, and stay in the shell's history. What argparse or an error
quotes back is searched for keys first (:func:`without_keys`).

The exit status of ``cancel`` and ``cancel-all`` is the fate of the request.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import secrets
import signal
import ssl
import stat
import sys
import textwrap
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module, metadata
from io import FileIO
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Final, NoReturn, ParamSpec, TypeVar
from urllib.parse import urlsplit

from pacifica_fast import _cli_help as help_of
from pacifica_fast._cli_completion import SHELLS, script
from pacifica_fast._cli_mock import MOCK_CREDITS, MOCK_PORT, mock_ca_file, mock_exchange
from pacifica_fast._cli_terminal import (
    EXIT_BROKEN_PIPE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_INVALID,
    EXIT_NOT_SENT,
    EXIT_OK,
    EXIT_REJECTED,
    EXIT_UNKNOWN,
    Failure,
    Terminal,
    complain,
    count,
    drop_stdout,
    on_stderr,
    printable,
    shown,
    without_keys,
)
from pacifica_fast.base58 import b58decode
from pacifica_fast.errors import ConnectionFailed, InvalidRequest, NotSent, OutcomeUnknown, Rejected
from pacifica_fast.keys import Keypair
from pacifica_fast.signer import Signer

if TYPE_CHECKING:
    # websockets and its like take 0.1 s to import: only where they are needed
    from pacifica_fast.asyncio import Client
    from pacifica_fast.mock_faults import Weather
    from pacifica_fast.replies import Ack

__all__ = ["main"]

NETWORKS: Final = ("mainnet", "testnet", "mock")
KEY_ENV: Final = "PACIFICA_PRIVATE_KEY"
MONITOR_URL: Final = "http://127.0.0.1:9464/metrics"
BENCH_OUT: Final = "pacifica-fast-bench"

P = ParamSpec("P")
T = TypeVar("T")


class _Parser(argparse.ArgumentParser):
    """argparse, which quotes wrong arguments back, without the keys among them."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        super().error(without_keys(message))


# --------------------------------------------------------------------------- keys


def _keypair(args: argparse.Namespace) -> Keypair:
    """The key that the arguments name. No error quotes what was given, which may be a key."""
    if args.key_file is not None:
        return _keypair_from_file(Path(args.key_file))
    name = KEY_ENV if args.key_env is None else args.key_env
    if name not in os.environ:
        if args.key_env is None:
            raise Failure(f"no key: set {KEY_ENV}, or give --key-file PATH or --key-env NAME")
        raise Failure("--key-env: no environment variable of that name (it takes a name, not a key)")
    return Keypair.from_env(name)


def _keypair_from_file(path: Path) -> Keypair:
    """From a Solana ``id.json``, or from text that is base58; it may be a pipe."""
    try:
        status = path.stat()
        if stat.S_ISREG(status.st_mode) and status.st_mode & 0o077:
            mode = status.st_mode & 0o777
            complain(f"warning: others may read the key file (mode {mode:04o}): chmod 600 it")
        return Keypair.from_file(path)
    except OSError as error:
        raise Failure(f"--key-file: {error.strerror}") from None
    except InvalidRequest as error:
        raise Failure(f"--key-file: {error}") from None


@contextmanager
def _signer(args: argparse.Namespace) -> Iterator[Signer]:
    """A signer with the key that the arguments name, which is wiped afterwards."""
    with _keypair(args) as keypair:
        yield Signer(keypair, account=args.account, expiry_window=args.expiry_window)


# --------------------------------------------------------------------------- cancel, cancel-all


@dataclass
class _Report:
    """What was asked and what became of it; as JSON, the output of ``--json``."""

    operation: str
    network: str
    url: str
    account: str
    agent_wallet: str | None
    symbol: str | None
    fate: str = "not_sent"  # ack, rejected, unknown, not_sent
    order_id: int | None = None
    client_order_id: str | None = None
    exclude_reduce_only: bool | None = None
    cancelled_count: int | None = None
    code: int | None = None
    reason: str | None = None
    request_id: str | None = None
    interrupted: bool = False
    connect_ms: float | None = None
    took_ms: float | None = None


_STATUS: Final = {
    "ack": EXIT_OK,
    "rejected": EXIT_REJECTED,
    "unknown": EXIT_UNKNOWN,
    "not_sent": EXIT_NOT_SENT,
}


def _cancel(args: argparse.Namespace, terminal: Terminal) -> int:
    """``pacifica-fast cancel``."""
    ids = {"order_id": args.order_id, "client_order_id": args.client_order_id}
    with _signer(args) as signer:
        signer.cancel_order(args.symbol, **ids)  # refuse wrong input before connecting
        report = _report(args, signer, "cancel_order")
        report.order_id, report.client_order_id = args.order_id, args.client_order_id
        what = (
            f"cancel {args.symbol} order {args.order_id}"
            if args.order_id is not None
            else f"cancel {args.symbol} client order {args.client_order_id}"
        )
        return _send(
            args, terminal, signer, report, what, lambda client: client.cancel_order(args.symbol, **ids)
        )


def _cancel_all(args: argparse.Namespace, terminal: Terminal) -> int:
    """``pacifica-fast cancel-all``."""
    which: dict[str, Any] = {"symbol": args.symbol, "exclude_reduce_only": args.exclude_reduce_only}
    with _signer(args) as signer:
        signer.cancel_all_orders(**which)
        report = _report(args, signer, "cancel_all_orders")
        report.exclude_reduce_only = args.exclude_reduce_only
        what = f"cancel all orders of {args.symbol or 'every symbol'}"
        if args.exclude_reduce_only:
            what += " but reduce-only ones"
        return _send(args, terminal, signer, report, what, lambda client: client.cancel_all_orders(**which))


def _report(args: argparse.Namespace, signer: Signer, operation: str) -> _Report:
    url = shown(_url(args))
    return _Report(operation, args.network, url, signer.account, signer.agent_wallet, args.symbol)


def _send(
    args: argparse.Namespace,
    terminal: Terminal,
    signer: Signer,
    report: _Report,
    what: str,
    call: Callable[[Client], Awaitable[Ack]],
) -> int:
    """Connect, send, and tell the fate; it is the exit status."""
    agent = f"\n  signed by agent wallet {signer.agent_wallet}" if signer.agent_wallet else ""
    asked = f"{what}\n  for account {signer.account} on {args.network} ({report.url}){agent}"
    try:
        if asyncio.run(_interrupted(_end_of(args, terminal, signer, report, asked, call))):
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        if report.took_ms is not None:
            return _STATUS[report.fate]  # it had ended, and was told
        report.interrupted = True
        report.reason = "interrupted"
        _tell(args, terminal, report)
        return EXIT_INTERRUPTED
    except (InvalidRequest, Failure):
        raise
    except Exception as error:  # a bug: its exit status must not be the 1 of "rejected"
        on_stderr(traceback.format_exc().rstrip())
        report.reason = f"a bug of pacifica_fast: {type(error).__name__}"
        _tell(args, terminal, report)
    return _STATUS[report.fate]


async def _interrupted(work: Coroutine[Any, Any, None]) -> bool:
    """Do the work; True if Ctrl-C ended it.

    Between two callbacks of the loop: asyncio's own handler cancels in the middle of one, and what
    comes of that may be a traceback on stderr.
    """
    asyncio.get_running_loop().set_default_executor(_Resolvers())
    task, pressed = asyncio.ensure_future(work), False

    def press() -> None:
        nonlocal pressed
        pressed = True
        task.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, press)
    try:
        await task
    except asyncio.CancelledError:
        if not pressed:
            raise
        return True
    return False


class _Resolvers(ThreadPoolExecutor):
    """Where asyncio resolves names: in threads that nobody waits for in the end.

    The system's resolver knows no deadline and cannot be interrupted. The threads of asyncio's own
    executor keep the process until it answers, whatever ``--timeout`` and Ctrl-C say.
    """

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()

        def resolve() -> None:
            try:
                future.set_result(fn(*args, **kwargs))
            except Exception as error:
                future.set_exception(error)

        Thread(target=resolve, name="pacifica_fast resolver", daemon=True).start()
        return future


async def _end_of(
    args: argparse.Namespace,
    terminal: Terminal,
    signer: Signer,
    report: _Report,
    asked: str,
    call: Callable[[Client], Awaitable[Ack]],
) -> None:
    """Fill in the report, and tell it as soon as it is complete."""
    from pacifica_fast.asyncio import connect

    url = _url(args)
    context, missing = _ssl_context(args, url)
    connecting = connect(signer, url=url, timeout=args.timeout, ssl=context, reconnect_attempts=0)
    if not args.json:  # all input is checked by now
        terminal.last_line(asked)
    start = time.perf_counter_ns()
    try:
        if missing is not None:
            raise ConnectionFailed("tls", missing)
        client = await connecting
    except ConnectionFailed as error:
        report.reason = str(error)
        _tell(args, terminal, report)
        return
    report.connect_ms = _ms_since(start)
    try:
        report.fate = "unknown"  # from here on, until something is known
        start = time.perf_counter_ns()
        try:
            ack = await call(client)
        except Rejected as error:
            report.fate, report.code, report.reason = "rejected", error.code, error.message
            report.request_id = error.request_id
        except OutcomeUnknown as error:
            report.reason, report.request_id = error.reason, error.request_id
        except NotSent as error:
            report.fate, report.reason, report.request_id = "not_sent", error.reason, error.request_id
        else:
            report.fate, report.request_id = "ack", ack.request_id
            report.cancelled_count = getattr(ack, "cancelled_count", None)
        report.took_ms = _ms_since(start)
        _tell(args, terminal, report)  # before the closing handshake, which may take its time
    finally:
        await client.close()


def _tell(args: argparse.Namespace, terminal: Terminal, report: _Report) -> None:
    """The fate: one line of JSON, or one for a person."""
    if args.json:
        terminal.last_line(json.dumps(asdict(report)))
        return
    took = "" if report.took_ms is None else f"{report.took_ms:.2f} ms"
    connected = "" if report.connect_ms is None else f" (and {report.connect_ms:.2f} ms to connect)"
    reason = printable(report.reason or "")
    match report.fate:
        case "ack":
            orders = "" if report.cancelled_count is None else f": {count(report.cancelled_count, 'order')}"
            text = f"{terminal.paint('acknowledged', 'green')}{orders}, in {took}{connected}"
        case "rejected":
            text = f"{terminal.paint('rejected', 'red')} {report.code}: {reason}, in {took}{connected}"
        case "unknown":
            after = f" after {took}" if took else ""
            text = f"{terminal.paint('outcome unknown', 'yellow')}{after}: {reason}; look at your open orders"
        case _:
            text = f"{terminal.paint('not sent', 'yellow')}: {reason}"
    terminal.last_line(text)


def _url(args: argparse.Namespace) -> str:
    if args.url is not None:
        url: str = args.url
        return url
    if args.network == "mock":
        return f"wss://127.0.0.1:{MOCK_PORT}/ws"
    from pacifica_fast.asyncio import MAINNET_WS, TESTNET_WS

    return MAINNET_WS if args.network == "mainnet" else TESTNET_WS


def _ssl_context(args: argparse.Namespace, url: str) -> tuple[ssl.SSLContext | None, str | None]:
    """Whom to trust: ``--ca-file``, what the mock exchange on that port wrote, or the system's list.

    The second value says what is missing, if that is why there can be no connection.
    """
    path = args.ca_file
    if path is None and args.network == "mock" and url.startswith("wss:"):
        path = str(mock_ca_file(_port_of(url)))
        if not os.path.exists(path):
            hint = "start 'pacifica-fast mock-exchange', or give its --ca-file"
            return None, f"no mock exchange has left its certificate in {path} ({hint})"
    if path is None:
        return None, None
    try:
        return ssl.create_default_context(cafile=path), None
    except ssl.SSLError as error:
        raise Failure(f"--ca-file: no certificates in PEM format ({error.reason or 'not PEM'})") from None
    except OSError as error:
        raise Failure(f"--ca-file: {error.strerror}") from None


def _port_of(url: str) -> int:
    try:
        return urlsplit(url).port or 443
    except ValueError:
        raise InvalidRequest("url: not a port number") from None


def _ms_since(start: int) -> float:
    return round((time.perf_counter_ns() - start) / 1e6, 3)


# --------------------------------------------------------------------------- sign, keygen


def _sign(args: argparse.Namespace, terminal: Terminal) -> int:
    """``pacifica-fast sign``."""
    text = _standard_input() if args.data == "-" else args.data
    try:
        data = json.loads(text, object_pairs_hook=_no_duplicates)
    except json.JSONDecodeError as error:
        raise Failure(f"data: not JSON: {error}") from None
    except RecursionError:
        raise Failure("data: nested too deeply") from None
    except ValueError as error:  # not Unicode, an integer of thousands of digits, a key twice
        raise Failure(f"data: {error}") from None
    with _signer(args) as signer:
        signed = signer.sign(args.type, data, timestamp=args.timestamp)
        fields = signed._asdict() | {"account": signer.account}
        if signer.agent_wallet is not None:
            fields["agent_wallet"] = signer.agent_wallet
    terminal.line(json.dumps(fields))
    return EXIT_OK


def _standard_input() -> bytes:
    if sys.stdin is None:
        raise Failure("data: standard input is closed")
    try:
        return sys.stdin.buffer.read()
    except OSError as error:
        raise Failure(f"data: standard input: {error.strerror}") from None


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a key occurs twice in one object")
    return members


def _keygen(args: argparse.Namespace, terminal: Terminal) -> int:
    """``pacifica-fast keygen``: 64 numbers, seed and public key, as Solana's tools write them.

    Seed and file content are kept in bytearrays and wiped. The bytes object that
    ``secrets`` returns cannot be; it is freed at once.
    """
    seed = bytearray(secrets.token_bytes(32))
    content = bytearray(_ID_JSON_MAX)
    try:
        with Keypair.from_seed(seed) as keypair:
            pubkey = keypair.pubkey()
        length = _id_json(content, (*seed, *b58decode(pubkey)))
        if args.out == "-":
            _write_stdout(memoryview(content)[: length + 1])  # with its new line
            on_stderr(json.dumps({"pubkey": pubkey}) if args.json else pubkey)
            return EXIT_OK
        _write_new(args.out, memoryview(content)[:length])
    finally:
        seed[:] = bytes(len(seed))
        content[:] = bytes(len(content))
    with Keypair.from_json_file(args.out) as read_back:
        if read_back.pubkey() != pubkey:
            raise Failure(f"{args.out}: what was written is not what is there", EXIT_FAILED)
    terminal.line(json.dumps({"pubkey": pubkey, "path": args.out}) if args.json else pubkey)
    return EXIT_OK


_ID_JSON_MAX: Final = 64 * len("255,") + len("[\n")


def _id_json(content: bytearray, numbers: tuple[int, ...]) -> int:
    """Fill in ``content``, and a new line; the length without that. What grows leaves copies behind."""
    content[0:1] = b"["
    end = 1
    for number in numbers:
        text = b"%d," % number
        content[end : end + len(text)] = text
        end += len(text)
    content[end - 1 : end + 1] = b"]\n"
    return end


def _write_stdout(content: memoryview) -> None:
    """Not by its buffer, which would keep a copy."""
    if sys.stdout is None:
        raise Failure("standard output is closed", EXIT_FAILED)
    try:
        with open(sys.stdout.fileno(), "wb", buffering=0, closefd=False) as file:
            _write_all(file, content)
    except BrokenPipeError:
        raise
    except OSError as error:  # the disk is full
        raise Failure(f"standard output: {error.strerror}", EXIT_FAILED) from None


def _write_all(file: FileIO, content: memoryview) -> None:
    written = 0
    while written < len(content):
        written += file.write(content[written:]) or 0


def _write_new(path: str, content: memoryview) -> None:
    """Write a file that did not exist, for its owner alone; all of it or none."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise Failure(f"{path} exists already, and a key is never overwritten") from None
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            os.fchmod(descriptor, 0o600)  # whatever the umask
            _write_all(file, content)
            os.fsync(descriptor)
    except BaseException as error:
        os.unlink(path)
        if isinstance(error, OSError):
            raise Failure(f"{path}: {error.strerror}", EXIT_FAILED) from None
        raise


def _demo(args: argparse.Namespace, terminal: Terminal) -> int:
    """``pacifica-fast demo``."""
    from pacifica_fast import demo

    return demo.run(terminal, rounds=args.rounds, as_json=args.json)


def _monitor(args: argparse.Namespace, terminal: Terminal) -> int:
    """``pacifica-fast monitor``."""
    from pacifica_fast import _cli_monitor

    return _cli_monitor.monitor(args, terminal)


def _doctor(args: argparse.Namespace, terminal: Terminal) -> int:
    """``pacifica-fast doctor``."""
    from pacifica_fast import doctor

    findings = doctor.examine(measure=not args.quick)
    report = doctor.as_dict(findings)
    if args.json:
        terminal.line(json.dumps(report))
    else:
        for line in doctor.lines(findings, terminal.paint, explain=args.explain):
            terminal.line(line)
    return EXIT_OK if report["ok"] else EXIT_FAILED


def _bench(args: argparse.Namespace, terminal: Terminal) -> int:
    """``pacifica-fast bench``: the benchmarks, which a wheel has as a package of ours."""
    if args.integrations and (args.resume or args.list or args.out is not None):
        raise Failure("--integrations: goes with --quick, --only and --json, and writes no report")
    module = "integrations" if args.integrations else "__main__"
    try:
        benchmarks = import_module(f"pacifica_fast._benchmarks.{module}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("pacifica_fast"):
            raise Failure("this installation has no benchmarks: install it again", EXIT_FAILED) from None
        raise Failure(
            f"{error.name} is not installed, and the official SDK's way needs it: "
            "pip install 'pacifica-fast[bench]'",
            EXIT_FAILED,
        ) from None
    arguments = [f"--only={word}" for word in args.only] + (["--json"] if args.json else [])
    if args.integrations:
        arguments += ["--rounds=10"] if args.quick else []
    else:
        arguments += ["--out", BENCH_OUT if args.out is None else args.out]
        arguments += [f"--{name}" for name in ("quick", "resume", "list") if getattr(args, name)]
    status: int = benchmarks.main(arguments, "pacifica-fast bench")
    return status


def _completion(args: argparse.Namespace, terminal: Terminal) -> int:
    """``pacifica-fast completion``."""
    text = script(_parser(), args.shell)
    terminal.line(json.dumps({"shell": args.shell, "script": text}) if args.json else text.rstrip())
    return EXIT_OK


# --------------------------------------------------------------------------- arguments


def _whole(text: str, low: int = 0, high: int = 1 << 64) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 20 or not low <= int(text) < high:
        raise argparse.ArgumentTypeError(f"expected a whole number from {low} to {high - 1}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 86_400:
        raise argparse.ArgumentTypeError("expected a positive number of seconds, less than a day")
    return value


def _public_key(text: str) -> str:
    try:
        if len(b58decode(text)) == 32:
            return text
    except ValueError:
        pass
    raise argparse.ArgumentTypeError("expected the base58 of a 32-byte public key")


def _weather(text: str) -> Weather:
    """Say which part of ``text`` is no fault; argparse names the option."""
    from pacifica_fast.mock_faults import Weather

    try:
        return Weather.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _agent(text: str) -> tuple[str, str]:
    account, colon, agent = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError("expected ACCOUNT:AGENT")
    return _public_key(account), _public_key(agent)


_milliseconds = partial(_whole, low=1, high=1 << 63)


def _add_signer_options(parser: argparse.ArgumentParser) -> None:
    keys = parser.add_argument_group("the key that signs (never given as an argument itself)")
    source = keys.add_mutually_exclusive_group()
    source.add_argument("--key-file", metavar="PATH", help="a Solana id.json, or a file that holds base58")
    source.add_argument("--key-env", metavar="NAME", help=f"an environment variable (default: {KEY_ENV})")
    parser.add_argument(
        "--account", metavar="PUBKEY", help="sign for this account, the key being its agent wallet"
    )
    parser.add_argument(
        "--expiry-window",
        metavar="MS",
        type=_milliseconds,
        default=5_000,
        help="the exchange refuses the request when it is older than this (default: 5000)",
    )


def _add_sending_options(parser: argparse.ArgumentParser) -> None:
    _add_signer_options(parser)
    wire = parser.add_argument_group("the exchange")
    wire.add_argument(
        "--network", choices=NETWORKS, required=True, help="no default: nobody hits mainnet by accident"
    )
    wire.add_argument("--url", metavar="URL", help="another websocket URL than the network's own")
    wire.add_argument("--ca-file", metavar="PATH", help="trust this certificate authority (PEM) and no other")
    wire.add_argument(
        "--timeout",
        metavar="S",
        type=_seconds,
        default=5.0,
        help="how long to wait for the answer (default: 5)",
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON")


def _add_json(parser: argparse.ArgumentParser, text: str = "print one line of JSON") -> None:
    parser.add_argument("--json", action="store_true", help=text)


def _parser() -> argparse.ArgumentParser:
    try:
        version = metadata.version("pacifica-fast")
    except metadata.PackageNotFoundError:
        version = "(not installed)"
    parser = _Parser(
        prog="pacifica-fast",
        description="Sign and send cancels to the Pacifica exchange, and learn the fate of each.",
        epilog=help_of.MAIN,
    )
    parser.add_argument("--version", action="version", version=f"pacifica-fast {version}")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)

    def command(
        name: str, run: Callable[[argparse.Namespace, Terminal], int], text: str, epilog: str, more: str = ""
    ) -> argparse.ArgumentParser:
        described = textwrap.fill(f"{text[0].upper()}{text[1:]}. {more}", 78)
        added = commands.add_parser(name, help=text, description=described, epilog=epilog)
        added.set_defaults(run=run)
        return added

    demo = command(
        "demo",
        _demo,
        "watch signed cancels and their fates on a mock exchange, and what they cost",
        help_of.DEMO,
    )
    demo.add_argument(
        "--rounds",
        metavar="N",
        type=partial(_whole, low=1, high=100_001),
        default=300,
        help="orders to cancel for the measurements, each way (default: 300)",
    )
    _add_json(demo, "print a summary as one line of JSON instead")

    watch = command(
        "monitor",
        _monitor,
        "watch a running bot: fates, latencies, credits, clock and links",
        help_of.MONITOR,
    )
    watch.add_argument(
        "url", metavar="URL", nargs="?", default=MONITOR_URL, help=f"its exporter (default: {MONITOR_URL})"
    )
    watch.add_argument("--interval", metavar="S", type=_seconds, default=1.0, help="how often (default: 1)")
    watch.add_argument("--once", action="store_true", help="look once, print, and end")
    _add_json(watch, "print a line of JSON each time")

    cancel = command(
        "cancel",
        _cancel,
        "cancel one order",
        help_of.CANCEL,
        "It connects, sends one signed request, waits for the answer, and says "
        "what became of it: the exit status is the fate.",
    )
    cancel.add_argument("symbol", metavar="SYMBOL", help="the market, as BTC")
    which = cancel.add_mutually_exclusive_group(required=True)
    which.add_argument("--order-id", metavar="N", type=_whole, help="the exchange's number of the order")
    which.add_argument("--client-order-id", metavar="UUID", help="the id that you gave it")
    _add_sending_options(cancel)

    cancel_all = command(
        "cancel-all",
        _cancel_all,
        "cancel all orders",
        help_of.CANCEL_ALL,
        "Of every market, or of one; the exit status is the fate.",
    )
    cancel_all.add_argument("--symbol", metavar="SYMBOL", help="of this market only")
    cancel_all.add_argument(
        "--exclude-reduce-only", action="store_true", help="leave reduce-only orders alone"
    )
    _add_sending_options(cancel_all)

    sign = command(
        "sign",
        _sign,
        "sign an operation, and print message and signature as JSON; nothing is sent",
        help_of.SIGN,
    )
    sign.add_argument("type", metavar="TYPE", help="the exchange's name of the operation, as cancel_order")
    sign.add_argument(
        "data", metavar="DATA", nargs="?", default="-", help="its fields as JSON; -, the default, reads stdin"
    )
    _add_signer_options(sign)
    sign.add_argument(
        "--timestamp", metavar="MS", type=_milliseconds, help="Unix milliseconds (default: now)"
    )
    _add_json(sign, "print one line of JSON, as it does anyway")

    keygen = command("keygen", _keygen, "make a new key, and print its public half", help_of.KEYGEN)
    keygen.add_argument(
        "--out",
        metavar="PATH",
        required=True,
        help="where the Solana id.json goes, mode 0600; never overwritten; - prints the secret to stdout, "
        "and the public half to stderr",
    )
    _add_json(keygen)

    mock = command(
        "mock-exchange",
        mock_exchange,
        "run a mock exchange on 127.0.0.1, to try clients against",
        help_of.MOCK,
    )
    mock.add_argument(
        "--port",
        metavar="N",
        type=partial(_whole, high=1 << 16),
        default=MOCK_PORT,
        help=f"default: {MOCK_PORT}; 0: any free one",
    )
    mock.add_argument("--plain", action="store_true", help="ws:// instead of wss://, without TLS")
    mock.add_argument(
        "--ca-file",
        metavar="PATH",
        help="where to write its certificate authority (default: where --network mock looks; -: nowhere)",
    )
    mock.add_argument(
        "--orders-for",
        metavar="PUBKEY",
        type=_public_key,
        action="append",
        default=[],
        help="rest three orders of this account, to cancel; may be repeated",
    )
    mock.add_argument(
        "--agent",
        metavar="ACCOUNT:AGENT",
        type=_agent,
        action="append",
        default=[],
        help="let the agent wallet sign for the account (public keys); may be repeated",
    )
    mock.add_argument(
        "--credits",
        metavar="N",
        type=partial(_whole, high=1_000_001),
        default=MOCK_CREDITS,
        help=f"the rate limit per minute; a cancel costs half a credit (default: {MOCK_CREDITS}; 0: none)",
    )
    mock.add_argument(
        "--faults",
        metavar="SPEC",
        type=_weather,
        help="what goes wrong how often: drop_after=0.01,delay=0.1 and so on "
        "(probabilities; docs/mock-exchange.md has all of them)",
    )
    mock.add_argument(
        "--seed", metavar="N", type=_whole, default=0, help="of the faults: the same seed, the same faults"
    )
    mock.add_argument("--quiet", action="store_true", help="no line per message")
    _add_json(mock, "lines of JSON; the first one has the url and the authority")
    mock.add_argument("--stop-on-eof", action="store_true", help="also end when standard input does")

    doctor = command(
        "doctor",
        _doctor,
        "tell what makes cancels slow, or keys less safe, on this machine",
        help_of.DOCTOR,
        "Made to be pasted into a bug report; it takes some three seconds.",
    )
    doctor.add_argument("--explain", action="store_true", help="also tell what costs of that which is well")
    doctor.add_argument("--quick", action="store_true", help="measure nothing: no signing, no busy thread")
    _add_json(doctor)

    bench = command(
        "bench",
        _bench,
        "measure ours beside the official SDK and its peers, and write the report",
        help_of.BENCH,
        "It takes some ten minutes, and one or two with --quick.",
    )
    bench.add_argument("--quick", action="store_true", help="a tenth of the rounds")
    bench.add_argument(
        "--integrations",
        action="store_true",
        help="no report: one table of each library that is here, before and after acceleration",
    )
    bench.add_argument(
        "--out",
        metavar="DIR",
        help=f"for report.html, report.md and results.jsonl (default: {BENCH_OUT})",
    )
    bench.add_argument(
        "--only",
        metavar="WORD",
        action="append",
        default=[],
        help="only experiments, or libraries, with this in their name; may be repeated",
    )
    bench.add_argument("--resume", action="store_true", help="go on where the last run was interrupted")
    bench.add_argument("--list", action="store_true", help="the names of the experiments; measure nothing")
    _add_json(bench, "end with one line of JSON instead of text")

    completion = command(
        "completion",
        _completion,
        "print a script that makes a shell complete this command",
        help_of.COMPLETION,
    )
    completion.add_argument("shell", metavar="SHELL", choices=SHELLS, help=f"one of {', '.join(SHELLS)}")
    _add_json(completion)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit status is returned, or raised as ``SystemExit`` by argparse."""
    args = _parser().parse_args(argv)
    logging.basicConfig(format="pacifica-fast: %(levelname)s: %(message)s")  # of the library: warnings
    try:
        status: int = args.run(args, Terminal())
    except Failure as failure:
        complain(str(failure))
        return failure.status
    except InvalidRequest as error:
        complain(str(error))
        return EXIT_INVALID
    except BrokenPipeError:
        drop_stdout()
        return EXIT_BROKEN_PIPE
    except KeyboardInterrupt:
        complain("interrupted; nothing was sent" if args.run in (_cancel, _cancel_all) else "interrupted")
        return EXIT_INTERRUPTED
    return status
