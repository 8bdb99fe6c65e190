# SPDX-License-Identifier: MIT
"""What all commands share: the terminal, the exit status, and texts without keys."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from io import TextIOWrapper
from typing import Final, TextIO
from urllib.parse import urlsplit

__all__ = [
    "Failure",
    "Terminal",
    "complain",
    "count",
    "drop_stdout",
    "on_stderr",
    "printable",
    "shown",
    "without_keys",
]

EXIT_OK = 0
EXIT_REJECTED = 1
EXIT_FAILED = 1  # of commands that send nothing
EXIT_INVALID = 2  # argparse's own
EXIT_UNKNOWN = 3
EXIT_NOT_SENT = 4
EXIT_INTERRUPTED = 130  # 128 + SIGINT
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE


class Failure(Exception):
    """The command ends: one line for stderr, and the exit status."""

    def __init__(self, text: str, status: int = EXIT_INVALID) -> None:
        super().__init__(text)
        self.status = status


# What keys look like: base58 of 32 bytes or more, hexadecimal of as many, a Solana id.json.
_KEY_LIKE = re.compile(r"[0-9A-Za-z]{32,}|\[?\s*\d{1,3}(?:\s*,\s*\d{1,3}){15,}\s*\]?")


def without_keys(text: str) -> str:
    """``text`` as it may be shown: what looks like a key is not (a public key is lost with it)."""
    return _KEY_LIKE.sub("<hidden>", text)


class Terminal:
    """Standard output: coloured where a person reads it, flushed line by line."""

    _CODES: Final = {"green": "32", "red": "31", "yellow": "33", "bold": "1", "dim": "2"}

    def __init__(self) -> None:
        stream = sys.stdout
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a µ is not worth a crash in an ASCII locale
        self._coloured = (
            stream is not None
            and stream.isatty()
            and not os.environ.get("NO_COLOR")
            and os.environ.get("TERM") != "dumb"
        )

    def paint(self, text: str, colour: str) -> str:
        """``text`` in a colour, or in bold or dim, if the terminal shows any."""
        return f"\x1b[{self._CODES[colour]}m{text}\x1b[0m" if self._coloured else text

    def line(self, text: str = "") -> None:
        """Print a line now. Raises ``BrokenPipeError`` when nobody reads, else :class:`Failure`."""
        try:
            print(text, flush=True)
        except BrokenPipeError:
            raise
        except OSError as error:  # the disk is full
            drop_stdout()
            raise Failure(f"standard output: {error.strerror}", EXIT_FAILED) from None

    def last_line(self, text: str) -> None:
        """Print a line that may be lost: whether it can be printed must not change the exit status."""
        try:
            self.line(text)
        except BrokenPipeError:
            drop_stdout()
        except Failure as failure:
            complain(str(failure))


def drop_stdout() -> None:
    """Nobody reads stdout any more."""
    _drop(sys.stdout)


def _drop(stream: TextIO) -> None:
    """Let the interpreter's last flush go nowhere."""
    with suppress(OSError, ValueError):  # a stream without a descriptor flushes into no pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def complain(text: str) -> None:
    """The one line on stderr."""
    on_stderr(f"pacifica-fast: {without_keys(text)}")


def on_stderr(text: str) -> None:
    """Print it there, if there is one: whether it can be printed must not change the exit status."""
    if sys.stderr is None:  # closed; print() would take stdout in its place
        return
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        _drop(sys.stderr)


def count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def shown(url: str) -> str:
    """``url`` as it may be printed: without a password, and without a query, which may hold a token."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(not a URL)"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def printable(text: str, limit: int = 200) -> str:
    """Text from the wire as a terminal may get it: no control characters, not endless."""
    return "".join(c if c.isprintable() else "?" for c in text[:limit])
