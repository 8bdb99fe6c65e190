# SPDX-License-Identifier: MIT
"""``pacifica-fast mock-exchange``: the mock exchange as a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import signal
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pacifica_fast._cli_terminal import EXIT_FAILED, EXIT_OK, Failure, Terminal, complain, count, printable
from pacifica_fast._elsewhere import play_elsewhere

if TYPE_CHECKING:  # takes 0.1 s to import: only where it is needed
    from pacifica_fast.mock_exchange import MockExchange, Received

__all__ = ["MOCK_CREDITS", "MOCK_PORT", "mock_ca_file", "mock_exchange"]

MOCK_PORT: Final = 8765
MOCK_CREDITS: Final = 125  # per minute: what the exchange gives an address without API key
MOCK_ORDERS: Final = (("BTC", "bid", "50000"), ("BTC", "ask", "150000"), ("ETH", "bid", "2000"))


def mock_ca_file(port: int) -> Path:
    """Where a mock exchange leaves its certificate authority for clients on this machine."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    try:
        base = Path(cache) if os.path.isabs(cache) else Path.home() / ".cache"
    except RuntimeError:
        raise Failure("no home directory: set HOME or XDG_CACHE_HOME, or give --ca-file") from None
    return base / "pacifica-fast" / f"mock-{port}.pem"


def mock_exchange(args: argparse.Namespace, terminal: Terminal) -> int:
    """``pacifica-fast mock-exchange``."""
    from pacifica_fast.mock_exchange import MockExchange

    messages = 0

    def answered(received: Received) -> None:
        nonlocal messages
        messages += 1
        if not args.quiet:
            terminal.last_line(_log_entry(args, received))

    play_elsewhere()
    exchange = MockExchange(
        port=args.port,
        tls=not args.plain,
        quota=args.credits * 10 or None,
        history=1,
        on_message=answered,
    )
    if args.faults is not None:
        exchange.faults.random(args.seed, args.faults)
    own_ca_file: list[Path] = []
    try:
        asyncio.run(_serve(args, terminal, exchange, own_ca_file))
    finally:
        for path in own_ca_file:
            path.unlink(missing_ok=True)
    counts = {"messages": messages, "verified": exchange.verified, "refused": exchange.rejected}
    if args.json:
        terminal.last_line(json.dumps({"event": "stopped", **counts}))
    else:
        terminal.last_line(
            f"stopped: {count(messages, 'message')}, "
            f"{count(exchange.verified, 'signature')} verified, {exchange.rejected} refused"
        )
    return EXIT_OK


async def _serve(
    args: argparse.Namespace, terminal: Terminal, exchange: MockExchange, own_ca_file: list[Path]
) -> None:
    """Listen until SIGINT, SIGTERM or, if asked, the end of standard input."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, _withhold, args, terminal, exchange)
    try:
        await exchange.__aenter__()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise Failure(f"cannot listen on 127.0.0.1:{args.port}: {reason}", EXIT_FAILED) from None
    try:
        try:
            for account, agent in args.agent:
                exchange.bind_agent(account, agent)
            orders = [
                exchange.place(account, symbol=symbol, side=side, price=price)
                for account in args.orders_for
                for symbol, side, price in MOCK_ORDERS
            ]
        except ValueError as error:  # 32 bytes, but no point of the curve
            raise Failure(f"--agent, --orders-for: {error}") from None
        authority, ca_file = None, None
        if not args.plain:
            authority = exchange.authority_pem
            ca_file = _write_ca(args, exchange.port, authority, own_ca_file)
        if args.json:
            about = {"url": exchange.url, "ca_file": ca_file, "ca": authority, "pid": os.getpid()}
            resting = [asdict(order) for order in orders]
            terminal.last_line(json.dumps({"event": "listening", **about, "orders": resting}))
        else:
            _greet(args, terminal, exchange, ca_file)
            for order in orders:
                terminal.last_line(
                    f"  order {order.order_id}  {order.symbol} {order.side} "
                    f"{order.amount} at {order.price}, of {order.account}"
                )
        if args.stop_on_eof:
            threading.Thread(target=_wait_for_eof, args=(loop, stop), daemon=True).start()
        await stop.wait()
    finally:
        await exchange.__aexit__(None, None, None)


def _withhold(args: argparse.Namespace, terminal: Terminal, exchange: MockExchange) -> None:
    """SIGUSR1: for its sender, the outcome of the next request is unknown."""
    exchange.faults.drop_replies()
    terminal.last_line('{"event": "withholding"}' if args.json else "the next request will get no answer")


def _greet(args: argparse.Namespace, terminal: Terminal, exchange: MockExchange, ca_file: str | None) -> None:
    """Where it is and how to get there, for a person."""
    options = "--network mock --key-file mock.json"
    if args.plain or exchange.port != MOCK_PORT:
        options += f" --url {exchange.url}"
    if args.ca_file is not None and ca_file is not None:
        options += f" --ca-file {shlex.quote(ca_file)}"
    terminal.last_line(f"mock exchange at {terminal.paint(exchange.url, 'bold')}, until Ctrl-C")
    if ca_file is not None:
        terminal.last_line(f"  trust     {ca_file}")
    terminal.last_line(f"  command   pacifica-fast cancel-all {options}")
    context = "" if args.plain else ", ssl=ssl.create_default_context(cafile=...)"
    terminal.last_line(f'  Python    connect(signer, url="{exchange.url}"{context})')


def _log_entry(args: argparse.Namespace, received: Received) -> str:
    """One message, as a line."""
    operation, detail = _described(received)
    if args.json:
        fields = {"operation": operation, "detail": detail, "code": received.code, "error": received.error}
        return json.dumps({"event": "message", **fields})
    now = time.time()
    clock = time.strftime("%H:%M:%S", time.localtime(now)) + f".{int(now * 1000) % 1000:03d}"
    code = "   " if received.code is None else str(received.code)
    outcome = f"  {received.error}" if received.error else ""
    about = f"{printable(operation, 24):<18}  {printable(detail, 80)}{printable(outcome)}"
    return f"{clock}  {code}  {about}".rstrip()


def _described(received: Received) -> tuple[str, str]:
    """The operation or method of a message, and what it is about."""
    try:
        message = json.loads(received.text)
        if received.operation is None:
            return str(message.get("method", "?")), ""
        body = message["params"][received.operation]
        if received.operation == "batch_orders":
            return received.operation, count(len(body["actions"]), "action")
        order = body.get("client_order_id") if body.get("order_id") is None else body["order_id"]
        symbol = "all symbols" if body.get("all_symbols") else body.get("symbol")
        return received.operation, " ".join(str(part) for part in (symbol, order) if part is not None)
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return received.operation or "?", ""


def _wait_for_eof(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    with suppress(OSError):  # no standard input: it has ended
        while os.read(0, 4096):
            pass
    with suppress(RuntimeError):  # the loop is closed: stopped already
        loop.call_soon_threadsafe(stop.set)


def _write_ca(args: argparse.Namespace, port: int, authority: str, own: list[Path]) -> str | None:
    """Leave the authority where ``--ca-file`` says, or where ``--network mock`` looks for it.

    The latter is noted in ``own``, to be removed in the end. None if there is no such place.
    """
    if args.ca_file == "-":
        return None
    path = mock_ca_file(port) if args.ca_file is None else Path(args.ca_file)
    try:
        if args.ca_file is None:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _replace_certificate(path, authority)
    except OSError as error:
        reason = error.strerror or str(error)
        if args.ca_file is None:
            complain(f"warning: {path}: {reason}; clients need --ca-file")
            return None
        raise Failure(f"--ca-file: {reason}") from None
    if args.ca_file is None:
        own.append(path)
    return str(path)


def _replace_certificate(path: Path, authority: str) -> None:
    """Write ``path`` at once: readers see all of it or none. Only a certificate is ever replaced.

    Devices, directories and files that hold anything else, a key say, are left as they are.
    """
    if path.exists() or path.is_symlink():
        label = authority.partition("\n")[0].encode()
        if path.is_symlink() or not path.is_file() or path.read_bytes()[: len(label)] != label:
            raise OSError("exists, and is not a certificate file")
    descriptor, temporary = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            os.fchmod(descriptor, 0o644)  # it is public
            file.write(authority)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
