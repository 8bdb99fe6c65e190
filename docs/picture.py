# SPDX-License-Identifier: MIT
"""Runs a command in a terminal of its own, and draws what that shows: ``make picture``.

    python docs/picture.py docs/assets/demo.svg pacifica-fast demo

Colours and bold are kept; a command that moves the cursor about is not what this is for.
"""

from __future__ import annotations

import os
import pty
import re
import shlex
import sys
from html import escape
from pathlib import Path

COLUMNS, LINE, CHARACTER, MARGIN = 92, 17, 7.83, 18  # characters; px
COLOURS = {
    "31": "#ff8272",
    "32": "#8ce07f",
    "33": "#f2d06b",
    "34": "#7db7ff",
    "36": "#6fdcd0",
    "2": "#8b9aa5",
}
PLAIN, PAPER = "#dfe7ec", "#16212b"

_ESCAPE = re.compile(r"\x1b\[([0-9;]*)m")


def shown_by(command: list[str]) -> list[str]:
    """The lines that a command writes to a terminal, escape sequences and all."""
    output = bytearray()

    def keep(descriptor: int) -> bytes:
        data = os.read(descriptor, 65536)
        output.extend(data)
        return data

    os.environ.update(COLUMNS=str(COLUMNS), LINES="50", TERM="xterm-256color")
    status = pty.spawn(command, keep)
    if status != 0:
        raise SystemExit(f"{shlex.join(command)}: exit status {os.waitstatus_to_exitcode(status)}")
    lines = output.decode().replace("\r\n", "\n").rstrip().split("\n")
    return [piece for line in lines for piece in wrapped(line)]


def wrapped(line: str) -> list[str]:
    """One line as a terminal breaks it."""
    pieces, size = [""], 0
    for token in re.findall(r"\x1b\[[0-9;]*m|.", line):
        if not token.startswith("\x1b"):
            if size == COLUMNS:
                pieces.append("")
                size = 0
            size += 1
        pieces[-1] += token
    return pieces


def spans(line: str) -> str:
    """One line as SVG, with the colours it has."""
    parts, position, fill, weight = [], 0, PLAIN, ""
    for match in [*_ESCAPE.finditer(line), None]:
        text = line[position : match.start() if match else len(line)]
        if text:
            parts.append(f'<tspan fill="{fill}"{weight}>{escape(text)}</tspan>')
        if match is None:
            break
        position = match.end()
        for code in match[1].split(";"):
            if code in ("", "0"):
                fill, weight = PLAIN, ""
            elif code == "1":
                weight = ' font-weight="bold"'
            else:
                fill = COLOURS.get(code, fill)
    return "".join(parts)


def picture(command: list[str], lines: list[str]) -> str:
    """All of it."""
    lines = [f"$ {shlex.join(command)}", "", *lines]
    longest = max(len(_ESCAPE.sub("", line)) for line in lines)
    width, height = round(longest * CHARACTER + 2 * MARGIN), len(lines) * LINE + 2 * MARGIN
    rows = "\n".join(
        f'<text x="{MARGIN}" y="{MARGIN + LINE * number + 12}">{spans(line)}</text>'
        for number, line in enumerate(lines)
        if line
    )
    style = (
        "text { font: 13px ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace; white-space: pre; }"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img">'
        f"<title>{escape(shlex.join(command))}, in a terminal</title><style>{style}</style>\n"
        f'<rect width="{width}" height="{height}" rx="8" fill="{PAPER}"/>\n{rows}\n</svg>\n'
    )


def main() -> None:
    """The command line."""
    target, *command = sys.argv[1:]
    Path(target).write_text(picture(command, shown_by(command)), encoding="utf-8")


if __name__ == "__main__":
    main()
