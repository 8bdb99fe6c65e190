# SPDX-License-Identifier: MIT
"""A kill switch: cancels everything when told to, when the bot falls silent, or when it loses too much.

It runs beside the bot, as a process of its own, over connections that are open already. It fires

- on a signal: Ctrl-C, SIGTERM or SIGUSR1;
- with --heartbeat PATH, when that file was not touched for --silence seconds; a bot touches it
  in its main loop: os.utime(path);
- with --drawdown SHARE, when the account's equity is so much below the highest that was seen.

Then it kills the bot, if --pid says which process that is, and cancels all orders, again and
again, until the exchange's own order updates say that none rests, and for a while none turns up:
an order that was on its way may rest only after the cancel that came later.

    export PACIFICA_PRIVATE_KEY=...
    python kill_switch.py --account ADDRESS --heartbeat /run/bot.alive --drawdown 0.05 --pid 4711

Exit status: 0 if nothing rests any more, 1 if that is not known, 2 for wrong usage. Sources:
docs.pacifica.fi, websocket, "Account info" and "Cancel all orders". The exchange has no such
switch of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import ssl
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from functools import partial
from math import inf
from types import FrameType

from websockets.exceptions import WebSocketException
from websockets.sync.client import connect as connect_feed

from pacifica_fast import Keypair, NotSent, OutcomeUnknown, PacificaError, RateLimited, Rejected, Signer
from pacifica_fast.orders import OrderTracker
from pacifica_fast.sync import TESTNET_WS, Client, connect

LOOK_EVERY = 0.02  # s
PAUSE = 0.5  # s between two attempts
SETTLED = 1.0  # s; the speed bump holds an order back for 200 ms, and cancels do not wait for it
PING_EVERY = 30.0  # s; the exchange closes a connection after 60 s without a message from us

say = partial(print, flush=True)


class Trigger:
    """Why to fire, once there is a reason; the first one counts."""

    def __init__(self) -> None:
        self.reason: str | None = None

    def pull(self, reason: str) -> None:
        """Fire. From any thread, and from a signal handler: so there is no lock here to wait for."""
        if self.reason is None:
            self.reason = reason

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """A handler for ``signal.signal``."""
        self.pull(signal.Signals(number).name)

    def pulled(self) -> bool:
        """Whether there is a reason."""
        return self.reason is not None


class Heartbeat:
    """The file that the bot touches."""

    def __init__(self, path: str, silence: float) -> None:
        self._path = path
        self._silence = silence
        self._touched: float | None = None
        self._since = time.monotonic()  # what counts is our clock, and not that of the file

    def lost(self) -> bool:
        """Whether it was not touched for too long."""
        with suppress(OSError):  # a file that is not there is not touched
            touched = os.stat(self._path).st_mtime
            if touched != self._touched:
                self._touched, self._since = touched, time.monotonic()
        return time.monotonic() - self._since > self._silence


def trust(url: str, ca_file: str | None) -> ssl.SSLContext | None:
    """Whom to trust: those in the file, or the system's list; nobody is asked without TLS."""
    return ssl.create_default_context(cafile=ca_file) if url.startswith("wss:") else None


def watch_equity(
    url: str, context: ssl.SSLContext | None, account: str, drawdown: Decimal, trigger: Trigger
) -> None:
    """Pull the trigger when the equity falls; a thread's work, which ends with the process."""
    peak = Decimal(0)
    wanted = json.dumps({"method": "subscribe", "params": {"source": "account_info", "account": account}})
    while True:
        try:
            with connect_feed(url, ssl=context) as feed:
                feed.send(wanted)
                pinged = time.monotonic()
                while True:
                    with suppress(TimeoutError):
                        message = json.loads(feed.recv(timeout=PING_EVERY))
                        if message.get("channel") == "account_info":
                            equity = Decimal(message["data"]["ae"])
                            peak = max(peak, equity)
                            if peak - equity >= peak * drawdown > 0:
                                trigger.pull(f"equity {equity}, {drawdown:%} or more below {peak}")
                    if time.monotonic() - pinged >= PING_EVERY:
                        pinged = time.monotonic()
                        feed.send('{"method":"ping"}')
        except (OSError, WebSocketException) as error:
            say(f"equity: {error}; connecting again")
        except (ValueError, LookupError, TypeError, AttributeError, InvalidOperation) as error:
            say(f"equity: a message that cannot be read: {error!r}")
        time.sleep(PAUSE)


def kill(pid: int) -> None:
    """The bot, or it would quote again. What cannot be killed is no reason not to cancel."""
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError as error:
        say(f"{pid} not killed: {error.strerror}")


def comes_true(condition: Callable[[], bool], seconds: float) -> bool:
    """True as soon as it does; False after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(LOOK_EVERY)
    return True


def cancel_everything(client: Client, tracker: OrderTracker, within: float) -> bool:
    """Cancel until nothing rests, for ``within`` s or a little longer; whether it does."""

    def empty() -> bool:
        return tracker.live and not tracker.orders

    settled = False  # nothing has turned up for a while: one more cancel says whether it is so
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        pause = PAUSE
        try:
            ack = client.cancel_all_orders()
            say(f"cancelled {ack.cancelled_count}")
        except RateLimited as error:
            pause = error.retry_after or PAUSE
            say(f"{error}")
        except (Rejected, OutcomeUnknown, NotSent) as error:  # asking again does no harm
            say(f"{type(error).__name__}: {error}")
        else:
            if settled and empty() and not ack.cancelled_count:
                return True
            settled = comes_true(empty, PAUSE) and not comes_true(lambda: not empty(), SETTLED)
            continue
        time.sleep(max(0.0, min(pause, deadline - time.monotonic())))
    return False


def watch(options: argparse.Namespace) -> int:
    """Wait for a reason, and fire; the exit status."""
    trigger = Trigger()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, trigger.on_signal)
    with (
        Keypair.from_file(options.key_file) if options.key_file else Keypair.from_env() as keypair,
        connect(
            Signer(keypair, account=options.account),
            url=options.url,
            ssl=trust(options.url, options.ca_file),
            api_key=os.environ.get("PACIFICA_API_KEY"),
            links=2,
            on_disconnect="retry",
        ) as client,
    ):
        account = client.signer.account
        tracker = client.track(arm=False)
        if options.drawdown is not None:
            url = options.feed or options.url
            where = (url, trust(url, options.ca_file), account, options.drawdown, trigger)
            threading.Thread(target=watch_equity, args=where, daemon=True).start()
        heartbeat = Heartbeat(options.heartbeat, options.silence) if options.heartbeat else None
        say(f"watching {account}, {len(tracker.orders)} orders rest")
        while not trigger.pulled():
            time.sleep(LOOK_EVERY)
            if heartbeat is not None and heartbeat.lost():
                trigger.pull(f"{options.heartbeat} not touched for {options.silence:g} s")
        say(f"firing: {trigger.reason}")
        if options.pid is not None:
            kill(options.pid)
        gone = cancel_everything(client, tracker, options.within)
    say("nothing rests" if gone else "not known to be gone: look at your open orders")
    return 0 if gone else 1


def seconds(text: str) -> float:
    """An argument: so many."""
    with suppress(ValueError):
        if 0 < float(text) < inf:
            return float(text)
    raise argparse.ArgumentTypeError("expected a positive number of seconds")


def share(text: str) -> Decimal:
    """An argument: a part of something."""
    with suppress(InvalidOperation):  # neither is "5%" a number, nor is nan more or less than one
        if 0 < Decimal(text) < 1:
            return Decimal(text)
    raise argparse.ArgumentTypeError("expected a share between 0 and 1, as 0.05")


def process(text: str) -> int:
    """An argument: a process that we may kill."""
    with suppress(ValueError, OverflowError):
        if int(text) > 1:  # 0 and below are whole groups, of which we may be one
            try:
                os.kill(int(text), 0)
            except OSError as error:
                raise argparse.ArgumentTypeError(f"{text}: {error.strerror}") from None
            return int(text)
    raise argparse.ArgumentTypeError("expected the number of a process, 2 or more")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--url", default=TESTNET_WS, help="of the exchange (default: testnet, %(default)s)")
    parser.add_argument("--feed", help="where the equity comes from (default: the exchange)")
    parser.add_argument("--ca-file", help="whom to trust instead of the system's list, PEM")
    parser.add_argument("--key-file", help="id.json or base58 (default: $PACIFICA_PRIVATE_KEY)")
    parser.add_argument("--account", help="if the key is an agent wallet's: whose orders they are")
    parser.add_argument("--heartbeat", metavar="PATH", help="the file that the bot touches")
    parser.add_argument("--silence", type=seconds, default=2.0, help="s without a touch that fire (2)")
    parser.add_argument("--drawdown", type=share, metavar="SHARE", help="of the highest equity seen: 0.05")
    parser.add_argument("--pid", type=process, help="the bot: it is killed (SIGKILL) first")
    parser.add_argument("--within", type=seconds, default=60.0, help="s to go on trying (60)")
    options = parser.parse_args()
    try:
        return watch(options)
    except (PacificaError, OSError) as error:
        sys.exit(f"{parser.prog}: {error}")


if __name__ == "__main__":
    sys.exit(main())
