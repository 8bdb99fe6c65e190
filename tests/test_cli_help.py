# SPDX-License-Identifier: MIT
"""What the command line teaches, what it prints for machines, and when it is coloured."""

from __future__ import annotations

import argparse
import json
import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pacifica_fast import Keypair, cli

PATIENCE = 120.0  # s
ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/command-line.md").read_text(encoding="utf-8")


def commands() -> dict[str, argparse.ArgumentParser]:
    """The program itself, under the empty name, and its commands."""
    parser = cli._parser()
    (subparsers,) = (action for action in parser._actions if action.dest == "command")
    return {"": parser, **dict(subparsers.choices or {})}


def examples(text: str) -> list[list[str]]:
    """The arguments of every command of ours that a help text shows."""
    joined = re.sub(r"\\\n\s*", "", text)
    lines = re.findall(r"^(?:  )?(?:key=\$\()?(?:  )?pacifica-fast ([^#<>)\n]*)", joined, re.MULTILINE)
    return [shlex.split(line) for line in lines]


@pytest.fixture
def at_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")  # CPython 3.14 colours the help itself


@pytest.mark.usefixtures("at_80_columns")
@pytest.mark.parametrize("name", commands())
def test_help_fits_and_teaches(name: str) -> None:
    text = commands()[name].format_help()
    assert max(map(len, text.splitlines())) <= 80
    assert text.isascii()
    assert "exit status" in text
    assert examples(text)


@pytest.mark.usefixtures("at_80_columns")
@pytest.mark.parametrize("name", ["", "cancel", "cancel-all", "sign"])
def test_help_tells_where_keys_come_from(name: str) -> None:
    text = commands()[name].format_help()
    for word in ("PACIFICA_PRIVATE_KEY", "--key-env", "--key-file", "never an", "agent wallet"):
        assert word in text


@pytest.mark.parametrize("name", commands())
def test_examples_are_no_wrong_usage(name: str) -> None:
    parser = cli._parser()
    with Keypair.generate() as key:
        account = key.pubkey()
    for example in examples(commands()[name].format_help()):
        if "COMMAND" not in example:
            parser.parse_args([account if word == "$key" else word for word in example])


def test_every_command_speaks_json() -> None:
    for name, parser in commands().items():
        if name:
            assert "--json" in parser._option_string_actions, name


# --json: every shape that docs/command-line.md shows has the fields that are printed.


def shapes() -> dict[str, dict[str, Any]]:
    """Command to what the page says it prints."""
    return {
        name: json.loads(block)
        for name, block in re.findall(
            r"^### `([a-z-]+)[^`]*`\n(?:(?!###).)*?```json\n(.*?)```", PAGE, re.S | re.M
        )
    }


def test_the_example_of_the_page_runs() -> None:
    [example] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", example], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("versions\n")


def printed(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    assert cli.main(list(args)) == 0
    (line,) = capsys.readouterr().out.splitlines()
    report: dict[str, Any] = json.loads(line)
    return report


def test_the_page_has_every_command() -> None:
    assert set(shapes()) == set(commands()) - {""}


@pytest.mark.parametrize(
    ("command", "args"),
    [
        ("completion", ["bash"]),
        ("doctor", ["--quick"]),
        ("bench", ["--list"]),
        ("demo", ["--rounds", "1"]),
    ],
)
def test_shapes(capsys: pytest.CaptureFixture[str], command: str, args: list[str]) -> None:
    report = printed(capsys, command, *args, "--json")
    if "--list" in args:
        assert set(report) == {"experiments"}
        return
    assert list(report) == list(shapes()[command])
    if command == "doctor":
        assert list(report["findings"][0]) == list(shapes()[command]["findings"][0])


def test_shape_of_keygen(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = str(tmp_path / "id.json")
    report = printed(capsys, "keygen", "--out", out, "--json")
    assert list(report) == list(shapes()["keygen"])
    assert report["path"] == out
    with Keypair.from_json_file(out) as key:
        assert key.pubkey() == report["pubkey"]


def test_keygen_to_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    """The secret alone is on stdout."""
    assert cli.main(["keygen", "--out", "-", "--json"]) == 0
    out, err = capfd.readouterr()
    assert len(json.loads(out)) == 64
    assert list(json.loads(err)) == ["pubkey"]


def test_shape_of_sign(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = str(tmp_path / "id.json")
    printed(capsys, "keygen", "--out", out, "--json")
    report = printed(
        capsys, "sign", "cancel_order", '{"symbol":"BTC","order_id":1}', "--key-file", out, "--json"
    )
    assert list(report) == [name for name in shapes()["sign"] if name != "agent_wallet"]


def test_shape_of_cancels(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = str(tmp_path / "id.json")
    printed(capsys, "keygen", "--out", out, "--json")
    there = ["--network", "mock", "--url", "ws://127.0.0.1:1/ws", "--key-file", out, "--json"]
    for command, args in (("cancel", ["BTC", "--order-id", "1"]), ("cancel-all", [])):
        assert cli.main([command, *args, *there]) == 4
        report = json.loads(capsys.readouterr().out)
        assert list(report) == list(shapes()[command])


@pytest.mark.parametrize(
    ("command", "args", "status"),
    [
        ("mock-exchange", ["--port", "0", "--ca-file", "-", "--stop-on-eof"], 0),
        ("monitor", ["http://127.0.0.1:1/metrics", "--once"], 1),
    ],
)
def test_shape_of_what_goes_on(command: str, args: list[str], status: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pacifica_fast", command, *args, "--json"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (status, "")
    assert list(json.loads(done.stdout.splitlines()[0])) == list(shapes()[command])


# Colours.


def at_terminal(*args: str, **environment: str) -> str:
    """What the command writes to a terminal."""
    ours, theirs = pty.openpty()
    inherited = {name: os.environ[name] for name in ("PATH", "LD_PRELOAD") if name in os.environ}
    started = subprocess.Popen(
        [sys.executable, "-m", "pacifica_fast", *args],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.PIPE,
        env={**inherited, "TERM": "xterm", **environment},
        cwd=ROOT,
    )
    with started:
        os.close(theirs)
        written = b""
        try:
            while chunk := os.read(ours, 4096):
                written += chunk
        except OSError:  # EIO: the other end is closed
            pass
        os.close(ours)
        assert started.wait(PATIENCE) == 0
    return written.decode()


def test_colours_at_a_terminal() -> None:
    assert "\x1b[32m" in at_terminal("doctor", "--quick")
    assert "\x1b[32m" in at_terminal("doctor", "--quick", NO_COLOR="")


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colours_if_not_wanted(environment: dict[str, str]) -> None:
    written = at_terminal("doctor", "--quick", **environment)
    assert "signing" in written
    assert "\x1b" not in written


def test_no_colours_in_a_pipe() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pacifica_fast", "doctor", "--quick"],
        env={**os.environ, "TERM": "xterm"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert "\x1b" not in done.stdout


# bench.


def test_bench_writes_a_report(tmp_path: Path) -> None:
    """As from a wheel: not in the checkout, under the name that the package has there."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pacifica_fast",
            "bench",
            "--quick",
            "--only",
            "import",
            "--out",
            "here",
            "--json",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert list(report) == list(shapes()["bench"])
    assert report["ok"]
    assert report["html"] == "here/report.html"
    assert "import pacifica_fast" in (tmp_path / "here/report.html").read_text()
    assert (tmp_path / "here/results.jsonl").exists()


@pytest.mark.parametrize(
    ("absent", "words"),
    [("solders", "pacifica-fast[bench]"), ("pacifica_fast._benchmarks", "install it again")],
)
def test_bench_without_what_it_needs(absent: str, words: str) -> None:
    code = (
        f"import sys; sys.modules[{absent!r}] = None; "
        "from pacifica_fast import cli; sys.exit(cli.main(['bench']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_bench_of_integrations(capsys: pytest.CaptureFixture[str]) -> None:
    """The official SDK is what [bench] installs; others may be here too, and may not."""
    report = printed(capsys, "bench", "--integrations", "--quick", "--only", "official", "--json")
    assert list(report) == ["ok", "integrations"]
    assert [row["how"] for row in report["integrations"]] == ["hot", "cold"]
    for row in report["integrations"]:
        assert list(row) == ["name", "how", "before_us", "after_us", "ratio", "quartiles"]
        assert row["name"].startswith("official SDK")
        assert row["before_us"] > 0
        assert row["after_us"] > 0


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--only", "nothing"], "--list has all of them"),
        (["--integrations", "--only", "nothing"], "no library that is installed has that"),
        (["--integrations", "--resume"], "--integrations: goes with --quick, --only and --json"),
        (["--integrations", "--out", "there"], "--integrations: goes with --quick, --only and --json"),
        (["--out", "file", "--only", "import"], "file: File exists"),
    ],
)
def test_bench_of_nothing(tmp_path: Path, args: list[str], words: str) -> None:
    (tmp_path / "file").touch()
    done = subprocess.run(
        [sys.executable, "-m", "pacifica_fast", "bench", *args],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith(("pacifica-fast: ", "pacifica-fast bench: "))
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize(
    ("args", "status"),
    [
        (["completion", "bash"], 1),
        (["cancel-all", "--json", "--network", "mock", "--url", "ws://127.0.0.1:1/ws"], 4),  # still its fate
    ],
)
def test_a_full_disk(tmp_path: Path, args: list[str], status: int) -> None:
    assert cli.main(["keygen", "--out", str(tmp_path / "id.json")]) == 0
    key = ["--key-file", str(tmp_path / "id.json")] if args[0] == "cancel-all" else []
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pacifica_fast", *args, *key],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert done.returncode == status
    assert done.stderr == "pacifica-fast: standard output: No space left on device\n"
