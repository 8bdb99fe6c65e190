# SPDX-License-Identifier: MIT
"""``pacifica-fast monitor``: a running bot, in the terminal, read from its Prometheus exporter."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import select
import shutil
import signal
import socket
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urlsplit

from pacifica_fast._cli_terminal import EXIT_FAILED, EXIT_OK, Failure, Terminal, shown
from pacifica_fast._monitor_view import View, as_json, draw, painted

if TYPE_CHECKING:
    from pacifica_fast.status import Status

__all__ = ["monitor"]

_ANSWER_TIMEOUT: Final = 3.0  # s
_MAX_ANSWER: Final = 4 << 20  # bytes

_HEADERS: Final = {"Accept": "text/plain; version=0.0.4"}

_ENTER = "\x1b[?1049h\x1b[?25l"  # the other screen, no cursor
_LEAVE = "\x1b[?25h\x1b[?1049l"
_HOME, _TO_LINE_END, _TO_SCREEN_END = "\x1b[H", "\x1b[K", "\x1b[J"


def monitor(args: argparse.Namespace, terminal: Terminal) -> int:
    """``pacifica-fast monitor``."""
    url = _checked(args.url)
    try:
        from pacifica_fast.prometheus import read_exposition
    except ImportError as error:
        raise Failure(str(error), EXIT_FAILED) from None

    view = View(shown(args.url))

    def look() -> None:
        try:
            text = _fetch(url)
            statuses: tuple[Status, ...] = read_exposition(text)
            if not statuses:
                raise ValueError("it has no metrics of pacifica_fast")
        except (OSError, http.client.HTTPException, ValueError) as error:
            view.missed(_reason(error), time.time())
        else:
            view.answered(statuses, time.time())

    if args.once:
        look()
        if view.missing_since is not None and not args.json:
            raise Failure(f"no answer from {view.source}: {view.why_missing}", EXIT_FAILED)
        _print(view, args, terminal)
        return EXIT_OK if view.missing_since is None else EXIT_FAILED
    on_screen = not args.json and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    with suppress(KeyboardInterrupt), _wakeup() as wakeup:
        if on_screen:
            with _screen() as keyboard:
                _watch(look, lambda: _redraw(view, terminal), args.interval, wakeup, keyboard)
        else:
            _watch(look, lambda: _print(view, args, terminal), args.interval, wakeup)
    return EXIT_OK


def _watch(
    look: Callable[[], None],
    show: Callable[[], None],
    interval: float,
    wakeup: socket.socket,
    keyboard: int | None = None,
) -> None:
    """Look and show, every ``interval`` seconds; with a keyboard, show again when the window changes."""
    sources: list[socket.socket | int] = [wakeup] if keyboard is None else [wakeup, keyboard]
    while True:
        due = time.monotonic() + interval
        look()
        show()
        while (left := due - time.monotonic()) > 0:
            ready, _, _ = select.select(sources, [], [], left)
            if keyboard is not None and keyboard in ready:
                keys = os.read(keyboard, 64)
                if not keys or b"q" in keys:
                    return
            if wakeup in ready:
                wakeup.recv(64)
                if keyboard is not None:
                    show()


def _redraw(view: View, terminal: Terminal) -> None:
    """Over what is there, in one write: nothing flickers, nothing of a longer line stays."""
    width, height = shutil.get_terminal_size()
    lines = draw(view, width, height, time.time(), unicode=_speaks_unicode())
    # Each line is erased first: behind a full one the cursor stands on its last character.
    text = "\n".join(_TO_LINE_END + painted(line, terminal) for line in lines)
    _write(_HOME + text + _TO_SCREEN_END)


def _print(view: View, args: argparse.Namespace, terminal: Terminal) -> None:
    """One after the other, for a pipe or a file."""
    now = time.time()
    if args.json:
        terminal.line(json.dumps(as_json(view, now)))
        return
    width = max(shutil.get_terminal_size().columns, 80)
    for line in draw(view, width, None, now, unicode=_speaks_unicode()):
        terminal.line(painted(line, terminal).rstrip())
    if not args.once:
        terminal.line()


@contextmanager
def _screen() -> Iterator[int | None]:
    """The terminal's other screen, and the keyboard to read single keys from, if it is a terminal too."""
    keyboard = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
    settings = None if keyboard is None else termios.tcgetattr(keyboard)
    try:
        if keyboard is not None:
            tty.setcbreak(keyboard)
        _write(_ENTER)
        yield keyboard
    finally:
        with suppress(OSError):
            _write(_LEAVE)
        if keyboard is not None and settings is not None:
            with suppress(termios.error):
                termios.tcsetattr(keyboard, termios.TCSADRAIN, settings)


@contextmanager
def _wakeup() -> Iterator[socket.socket]:
    """Becomes readable at a signal. SIGTERM ends the monitor as Ctrl-C does, SIGWINCH only wakes it."""

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    def go_on(number: int, frame: FrameType | None) -> None:
        pass

    theirs, ours = socket.socketpair()
    ours.setblocking(False)
    handlers = {signal.SIGINT: end, signal.SIGTERM: end, signal.SIGWINCH: go_on, signal.SIGCONT: go_on}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    old = signal.set_wakeup_fd(ours.fileno(), warn_on_full_buffer=False)
    try:
        yield theirs
    finally:
        signal.set_wakeup_fd(old)
        for number, handler in before.items():
            signal.signal(number, handler)
        theirs.close()
        ours.close()


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _speaks_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def _checked(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) > 0
    except ValueError:
        known = False
    if known and url.isascii() and url.isprintable() and " " not in url:
        return parts
    raise Failure("expected the URL of a bot's exporter, http://host:port/metrics")


def _fetch(url: SplitResult) -> str:
    """What is there now; no proxy is asked, no redirection followed. Raises what ``http.client`` does."""
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind(url.hostname or "", url.port, timeout=_ANSWER_TIMEOUT)
    try:
        connection.request(
            "GET", (url.path or "/") + (f"?{url.query}" if url.query else ""), headers=_HEADERS
        )
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise http.client.HTTPException(f"HTTP status {answer.status}")
        text = answer.read(_MAX_ANSWER + 1)
        if len(text) > _MAX_ANSWER:
            raise http.client.HTTPException("the answer is too long")
        return text.decode()
    finally:
        connection.close()


def _reason(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, TimeoutError):
        return f"nothing came within {_ANSWER_TIMEOUT:g} s"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
