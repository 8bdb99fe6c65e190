# SPDX-License-Identifier: MIT
"""``pacifica-fast monitor``: what it draws, and a real process on a real pseudo-terminal."""

from __future__ import annotations

import codecs
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st
from observed import ACCOUNT, Bot, a_latency, a_status, statuses

from pacifica_fast import cli
from pacifica_fast._monitor_view import View, as_json, draw
from pacifica_fast.latency import StageSummary
from pacifica_fast.prometheus import Exporter, serve
from pacifica_fast.status import CreditStatus, Fates, LinkStatus, Status

PATIENCE = 60.0  # s; nothing here depends on how fast the machine is
START = 1_790_000_200.0
URL = "http://127.0.0.1:9464/metrics"


# What it draws.


def shown(view: View, now: float, width: int = 80, height: int | None = None, *, unicode: bool = True) -> str:
    lines = draw(view, width, height, now, unicode=unicode)
    return "\n".join("".join(span.text for span in line).rstrip() for line in lines)


def seen(*readings: Status, every: float = 1.0) -> tuple[View, float]:
    view, now = View(URL), START
    for status in readings:
        view.answered((status,), now)
        now += every
    return view, now - every


def row(text: str, name: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.strip().startswith(name)]
    return line.split()


def test_everything_is_on_an_ordinary_screen() -> None:
    view, now = seen(a_status())
    text = shown(view, now, 80, 24)
    assert URL in text
    assert ACCOUNT in text
    assert "up 3 min 19 s   in flight 3   2 reconnects   120 orders, 118 armed" in text
    assert "● 0 open 3 min 18 s   ● 1 waiting 1 min 40 s" in text
    assert "+1.2 ms ± 0.5   round trip 12.0 ms" in text
    assert "118.5 of 125, 237 cancels, full in 32 s" in text
    assert row(text, "acked") == ["acked", "120", "-", "0"]
    assert "  write          21.0 µs 33.0 µs 49.0 µs 52.0 µs 52.0 µs  ████▒" in text
    assert "  ack            12.0 ms 16.8 ms 22.9 ms 24.0 ms 24.0 ms  █████" in text
    assert len(text.splitlines()) <= 24


def test_rates() -> None:
    readings = [a_status(fates=Fates(acked=1000 + 5 * i)) for i in range(121)]
    view, now = seen(*readings)
    assert row(shown(view, now), "acked")[1:4] == ["1,600", "5.0", "300"]
    view, now = seen(*readings[:5], every=2.0)
    assert row(shown(view, now), "acked")[1:4] == ["1,020", "2.5", "20"]


def test_bars_are_as_long_as_things_take() -> None:
    latency = a_latency()
    view, now = seen(a_status(latency=latency))
    text = shown(view, now)
    lengths = [len(re.findall("[█▒░]", line)) for line in text.splitlines()[-3:]]
    assert 0 < lengths[0] < lengths[1] < lengths[2] <= 22
    empty = StageSummary(0, 0.0, None, None, None, None, None)
    view, now = seen(a_status(latency=replace(latency, ack=empty)))
    assert row(shown(view, now), "ack ") == ["ack", "-", "-", "-", "-", "-"]


def test_credits_that_run_out_are_red() -> None:
    view, now = seen(a_status(credits=CreditStatus(6.0, 125.0, 9.0)))
    (line,) = [line for line in draw(view, 80, 24, now) if line and line[0].text.startswith("credits")]
    assert line[1].colour == "red"
    assert line[3].text == " 6.0 of 125"  # what a cancel costs is not known, nor how many there are


def test_events() -> None:
    first = a_status(links=(LinkStatus("0", "open", START),))
    second = a_status(
        links=(LinkStatus("0", "draining", START), LinkStatus("1", "open", START)),
        reconnects=3,
        fates=replace(first.fates, unknown=5, rejected=5),
    )
    view, now = seen(first, second, replace(second, links=second.links[1:]))
    texts = [event.text for event in view.events]
    assert texts == [
        "link 0: open, now draining",
        "link 1: open",
        "1 reconnect",
        "1 rejected",
        "3 unknown",
        "link 0: gone",
    ]
    assert "3 unknown" in shown(view, now)
    # The last ones, where there is little room.
    small = shown(view, now, 80, 24)
    assert "link 0: gone" in small
    assert len(small.splitlines()) <= 24


def test_a_bot_that_goes_away_and_comes_back() -> None:
    view, now = seen(a_status())
    view.missed("connection refused", now + 1)
    view.missed("connection refused", now + 2)
    text = shown(view, now + 61)
    assert "no answer for 1 min 00 s" in text
    assert "connection refused" in text
    assert ACCOUNT in text
    # Another process: its counts begin again, and no rate is negative.
    fresh = a_status(opened=now + 70, fates=Fates(acked=1))
    view.answered((fresh,), now + 71)
    view.answered((replace(fresh, fates=Fates(acked=2)),), now + 72)
    text = shown(view, now + 72)
    assert "no answer for" not in text
    assert row(text, "acked")[1:4] == ["2", "1.0", "1"]
    texts = [event.text for event in view.events]
    assert texts[0].startswith("no answer from the bot")
    assert texts[1] == "the bot answers again, after 1 min 10 s"
    assert len(texts) == 4  # one client began, one is gone


@given(
    st.lists(statuses, max_size=3),
    st.integers(1, 200),
    st.integers(1, 60) | st.none(),
    st.booleans(),
    st.booleans(),
)
def test_fits_any_window(
    readings: list[Status], width: int, height: int | None, unicode: bool, missing: bool
) -> None:
    view, now = seen(*readings)
    if missing:
        view.missed("\x1b[2J", now + 1)
    lines = draw(view, width, height, now + 5, unicode=unicode)
    assert height is None or len(lines) <= height
    for line in lines:
        text = "".join(span.text for span in line)
        assert len(text) <= width
        assert all(c.isprintable() for c in text)
    json.dumps(as_json(view, now))


def test_ascii_where_nothing_else_can_be_shown() -> None:
    view, now = seen(a_status(), a_status(fates=Fates(acked=200)))
    assert shown(view, now, unicode=False).isascii()


# The process.


@pytest.fixture
def bot() -> Iterator[tuple[Bot, Exporter]]:
    source = Bot()
    with serve(source, port=0) as exporter:
        yield source, exporter


class Screen:
    """A monitor on a pseudo-terminal, and what it has written."""

    def __init__(self, *args: str, width: int = 80, height: int = 24) -> None:
        self.ours, theirs = pty.openpty()
        self.resize(width, height)
        self.before = termios.tcgetattr(theirs)
        environment = {**os.environ, "TERM": "xterm", "PYTHONUTF8": "1"}
        for name in ("NO_COLOR", "COLUMNS", "LINES"):
            environment.pop(name, None)
        command = [sys.executable, "-m", "pacifica_fast", "monitor", *args]
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
        )
        self.theirs = theirs
        self.written = ""
        self.decoder = codecs.getincrementaldecoder("utf-8")()

    def resize(self, width: int, height: int) -> None:
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def read(self) -> bool:
        if not select.select([self.ours], [], [], 0.05)[0]:
            return False
        self.written += self.decoder.decode(os.read(self.ours, 65536))
        return True

    def frame(self) -> str:
        """The last whole frame, without colours."""
        whole = self.written.rpartition("\x1b[J")[0].rpartition("\x1b[H")[2]
        return re.sub(r"\x1b\[[0-9;]*[mK]", "", whole)

    def wait_for(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, self.written[-4000:]
            self.read()

    def wait_for_text(self, text: str) -> None:
        self.wait_for(lambda: text in self.frame())

    def end(self) -> int:
        """The exit status; the terminal is as it was."""
        self.wait_for(lambda: self.process.poll() is not None)
        while self.read():
            pass
        assert self.written.endswith("\x1b[?25h\x1b[?1049l")
        assert termios.tcgetattr(self.theirs) == self.before
        return self.process.returncode


@contextmanager
def screen(*args: str, width: int = 80, height: int = 24) -> Iterator[Screen]:
    started = Screen(*args, width=width, height=height)
    try:
        yield started
    finally:
        started.process.kill()
        started.process.wait()
        os.close(started.ours)
        os.close(started.theirs)


def test_live_on_a_terminal(bot: tuple[Bot, Exporter]) -> None:
    source, exporter = bot
    with screen(exporter.url, "--interval", "0.1") as monitor:
        monitor.wait_for_text("118.5 of 125")
        assert monitor.written.startswith("\x1b[?1049h\x1b[?25l")
        assert "\x1b[32m" in monitor.written  # in colours
        source.now = a_status(fates=Fates(acked=4321), links=(LinkStatus("0", "draining", START),))
        monitor.wait_for_text("4,321")
        monitor.wait_for_text("link 0: open, now draining")
        lines = monitor.frame().split("\r\n")
        assert len(lines) <= 24
        assert max(map(len, lines)) <= 80
        # A narrower, lower window: redrawn to fit, at once.
        monitor.resize(50, 10)
        monitor.process.send_signal(signal.SIGWINCH)
        monitor.wait_for_text("too low for the rest")
        lines = monitor.frame().split("\r\n")
        assert len(lines) <= 10
        assert max(map(len, lines)) <= 50
        os.write(monitor.ours, b"xq")
        assert monitor.end() == 0


def test_a_window_that_changes_between_two_looks_is_drawn_anew(bot: tuple[Bot, Exporter]) -> None:
    _, exporter = bot
    with screen(exporter.url, "--interval", "3600") as monitor:
        monitor.wait_for_text("118.5 of 125")
        monitor.resize(80, 9)
        monitor.process.send_signal(signal.SIGWINCH)
        monitor.wait_for_text("too low for the rest")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ended_by_a_signal(bot: tuple[Bot, Exporter], number: int) -> None:
    _, exporter = bot
    with screen(exporter.url, "--interval", "3600") as monitor:
        monitor.wait_for_text("118.5 of 125")
        monitor.process.send_signal(number)
        assert monitor.end() == 0
        assert "Traceback" not in monitor.written


def test_a_real_bot_that_goes_and_comes_back() -> None:
    source = Bot()
    exporter = serve(source, port=0)
    port = exporter.port
    with screen(exporter.url, "--interval", "0.1") as monitor:
        try:
            monitor.wait_for_text("118.5 of 125")
        finally:
            exporter.close()
        monitor.wait_for_text("no answer for")
        monitor.wait_for(lambda: re.search("no answer for .*: connection refused", monitor.frame()))
        with serve(source, port=port):
            monitor.wait_for_text("the bot answers again")
            assert "no answer for" not in monitor.frame()


def run(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pacifica_fast", "monitor", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


def test_once(bot: tuple[Bot, Exporter]) -> None:
    _, exporter = bot
    done = run(exporter.url, "--once")
    assert (done.returncode, done.stderr) == (0, "")
    assert "118.5 of 125" in done.stdout
    assert "\x1b" not in done.stdout


def test_once_as_json(bot: tuple[Bot, Exporter]) -> None:
    _, exporter = bot
    done = run(exporter.url, "--once", "--json")
    assert done.returncode == 0
    (line,) = done.stdout.splitlines()
    told = json.loads(line)
    assert told["error"] is None
    assert told["url"] == exporter.url
    (client,) = told["clients"]
    assert client["account"] == ACCOUNT
    assert client["fates"]["acked"] == 120
    assert client["latency"]["ack"]["p50"] == 12_000
    assert client["per_second"]["acked"] is None


def test_json_goes_on_until_it_is_ended(bot: tuple[Bot, Exporter]) -> None:
    source, exporter = bot
    command = [sys.executable, "-m", "pacifica_fast", "monitor", exporter.url, "--json", "--interval", "0.05"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as monitor:
        assert monitor.stdout is not None
        assert monitor.stderr is not None
        assert json.loads(monitor.stdout.readline())["clients"][0]["in_flight"] == 3
        source.now = a_status(in_flight=8)
        while json.loads(monitor.stdout.readline())["clients"][0]["in_flight"] != 8:
            pass
        monitor.send_signal(signal.SIGTERM)
        rest, complaint = monitor.communicate(timeout=PATIENCE)
        assert (monitor.returncode, complaint) == (0, "")
        assert all(json.loads(line) for line in rest.splitlines())


def test_once_without_a_bot() -> None:
    exporter = serve(Bot(), port=0)
    exporter.close()
    done = run(exporter.url, "--once")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"pacifica-fast: no answer from {exporter.url}: connection refused\n"
    done = run(exporter.url, "--once", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout) == {
        "time": json.loads(done.stdout)["time"],
        "url": exporter.url,
        "error": "connection refused",
        "clients": [],
    }


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (200, b"<html>a page</html>", ""),
        (200, b"up 1\n", "it has no metrics of pacifica_fast"),
        (200, b"\xff\xfe", ""),
        (404, b"", "HTTP status 404"),
        (302, b"", "HTTP status 302"),
    ],
)
def test_something_else_answers(
    capsys: pytest.CaptureFixture[str], status: int, body: bytes, reason: str
) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/"
            assert cli.main(["monitor", url, "--once"]) == 1
        finally:
            server.shutdown()
            thread.join()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"pacifica-fast: no answer from {url}: {reason}")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "url",
    ["", "localhost:9464", "ftp://localhost/", "http://", "http://h:0x/", "http://h:99999/", "http://h/a b"],
)
def test_a_wrong_url(capsys: pytest.CaptureFixture[str], url: str) -> None:
    assert cli.main(["monitor", url, "--once"]) == 2
    assert "expected the URL" in capsys.readouterr().err


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delitem(sys.modules, "pacifica_fast.prometheus")
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    assert cli.main(["monitor", "--once"]) == 1
    assert "pip install 'pacifica-fast[metrics]'" in capsys.readouterr().err
