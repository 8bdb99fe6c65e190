# SPDX-License-Identifier: MIT
"""The completions, by the shells themselves: bash, zsh and fish, at a terminal where they need one."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pacifica_fast import cli
from pacifica_fast._cli_completion import SHELLS, script

PATIENCE = 60.0  # s

COMMANDS = {
    "bench",
    "cancel",
    "cancel-all",
    "completion",
    "demo",
    "doctor",
    "keygen",
    "mock-exchange",
    "monitor",
    "sign",
}

Complete = Callable[[str], set[str]]


def needs(shell: str) -> str:
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"{shell} is not installed here")
    return path


@pytest.fixture(params=SHELLS)
def complete(request: pytest.FixtureRequest, tmp_path: Path) -> Complete:
    """What a shell offers for an unfinished command line, whose folder holds two files."""
    shell: str = request.param
    path = needs(shell)
    (tmp_path / "completion").write_text(script(cli._parser(), shell))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "id one.json").touch()
    (folder / "id-two.json").touch()

    def offers(line: str) -> set[str]:
        return ASK[shell](path, tmp_path / "completion", folder, line)

    return offers


def in_bash(shell: str, completion: Path, folder: Path, line: str) -> set[str]:
    """As readline would: the words of the line, and the last of them to be completed."""
    ask = """
        source "$1"; shift
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*"
        _pacifica_fast
        (( ${#COMPREPLY[@]} == 0 )) || printf '%s\\n' "${COMPREPLY[@]}"
    """
    words = re.findall(r"=|[^\s=]+", line) + ([""] if line.endswith((" ", "=")) else [])
    return asked([shell, "--norc", "-c", ask, "bash", str(completion), *words], folder)


def in_fish(shell: str, completion: Path, folder: Path, line: str) -> set[str]:
    ask = "source $argv[1]; complete -C $argv[2]"
    return {
        offer.partition("\t")[0]
        for offer in asked([shell, "--no-config", "-c", ask, str(completion), line], folder)
    }


def in_zsh(shell: str, completion: Path, folder: Path, line: str) -> set[str]:
    """zsh completes at a terminal only: what ``compadd`` was given is written to a file."""
    setup = folder.parent / "setup.zsh"
    offered, done = folder.parent / "offered", folder.parent / "done"
    for file in (offered, done):
        file.unlink(missing_ok=True)
    setup.write_text(f"""
        unsetopt beep
        PROMPT='ready> '
        autoload -Uz compinit; compinit -D -u
        source {completion}
        zstyle ':completion:*' completer _complete
        compadd() {{
            local -a kept
            builtin compadd -O kept "$@" 2> /dev/null
            (( $#kept == 0 )) || print -rl -- $kept >> {offered}
            builtin compadd "$@"
        }}
        complete-and-tell() {{ zle complete-word; : > {done} }}
        zle -N complete-and-tell
        bindkey '^T' complete-and-tell
    """)
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder.parent), "TERM": "dumb", "MOCK_KEY": "x"}
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execve(shell, [shell, "-f", "-i"], environment)
    try:
        os.write(terminal, f"source {setup}; print loaded-$((40 + 2))\n".encode())
        read_until(terminal, b"loaded-42")
        os.write(terminal, line.encode() + b"\x14")
        deadline = time.monotonic() + PATIENCE
        while not done.exists():
            assert time.monotonic() < deadline
            read_some(terminal, 0.05)
        return set(offered.read_text().splitlines()) if offered.exists() else set()
    finally:
        os.kill(pid, 9)
        os.close(terminal)
        os.waitpid(pid, 0)


ASK = {"bash": in_bash, "zsh": in_zsh, "fish": in_fish}


def asked(command: list[str], folder: Path) -> set[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder.parent), "MOCK_KEY": "x"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert done.stderr == ""
    return set(done.stdout.splitlines())


def read_some(terminal: int, seconds: float) -> bytes:
    ready, _, _ = select.select([terminal], [], [], seconds)
    return os.read(terminal, 4096) if ready else b""


def read_until(terminal: int, text: bytes) -> None:
    seen, deadline = b"", time.monotonic() + PATIENCE
    while text not in seen:
        assert time.monotonic() < deadline, seen
        seen += read_some(terminal, 0.1)


def test_commands(complete: Complete) -> None:
    assert complete("pacifica-fast ") >= COMMANDS
    assert complete("pacifica-fast can") == {"cancel", "cancel-all"}


def test_options_of_a_command(complete: Complete) -> None:
    offered = complete("pacifica-fast cancel --")
    assert offered >= {"--order-id", "--client-order-id", "--network", "--key-file", "--json", "--help"}
    assert "--port" not in offered
    assert complete("pacifica-fast mock-exchange --po") == {"--port"}
    assert complete("pacifica-fast cancel BTC --net") == {"--network"}


def test_values(complete: Complete) -> None:
    networks = {"mainnet", "testnet", "mock"}
    assert complete("pacifica-fast cancel-all --network ") == networks
    assert complete("pacifica-fast cancel-all --json --network m") == {"mainnet", "mock"}
    assert complete("pacifica-fast completion ") >= {"bash", "zsh", "fish"}
    assert complete("pacifica-fast sign --key-env MOCK_K") == {"MOCK_KEY"}


def test_files(complete: Complete) -> None:
    offered = complete("pacifica-fast sign --key-file id")
    assert {offer.replace("\\", "") for offer in offered} == {"id one.json", "id-two.json"}


def test_what_only_its_author_knows_is_not_completed(complete: Complete) -> None:
    assert not complete("pacifica-fast cancel --order-id ") & {"id one.json", "id-two.json", "--json"}


@pytest.mark.parametrize("shell", ["bash"])
def test_after_an_equals_sign(shell: str, tmp_path: Path) -> None:
    (tmp_path / "completion").write_text(script(cli._parser(), shell))
    found = in_bash(needs(shell), tmp_path / "completion", tmp_path, "pacifica-fast cancel-all --network=")
    assert found == {"mainnet", "testnet", "mock"}


@pytest.mark.parametrize("shell", SHELLS)
def test_nothing_is_forgotten(shell: str) -> None:
    """Every command and every option of the parser is in every script."""
    text = script(cli._parser(), shell)
    parser = cli._parser()
    (subparsers,) = (action for action in parser._actions if action.dest == "command")
    assert subparsers.choices is not None
    assert set(subparsers.choices) == COMMANDS
    for command, sub in dict(subparsers.choices).items():
        assert command in text
        for action in sub._actions:
            for flag in action.option_strings:
                name = flag if shell != "fish" else f"-{'l' if flag[:2] == '--' else 's'} {flag.lstrip('-')}"
                assert name in text, (command, flag)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", shell]) == 0
    printed = capsys.readouterr().out
    assert printed == script(cli._parser(), shell)
    assert cli.main(["completion", shell, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"shell": shell, "script": printed}
