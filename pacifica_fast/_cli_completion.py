# SPDX-License-Identifier: MIT
"""``pacifica-fast completion``: scripts for shells, written from the argparse tree: they cannot drift."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from shlex import quote
from typing import Final

__all__ = ["SHELLS", "script"]

FILE, VARIABLE = "file", "variable"
_KINDS: Final = {"PATH": FILE, "DIR": FILE, "NAME": VARIABLE}
"""What an option takes, by its metavar. Anything else is typed by hand."""


@dataclass(frozen=True)
class _Argument:
    """An option, or a positional argument if it has no flags."""

    flags: tuple[str, ...]
    text: str
    takes: str
    """The name of its value; empty if it has none."""
    choices: tuple[str, ...]
    kind: str
    repeats: bool
    optional: bool
    excludes: tuple[str, ...]
    """Flags that make no sense beside it: its own, and those of its group."""


@dataclass(frozen=True)
class _Command:
    name: str
    text: str
    arguments: tuple[_Argument, ...]

    @property
    def options(self) -> list[_Argument]:
        return [argument for argument in self.arguments if argument.flags]

    @property
    def positionals(self) -> list[_Argument]:
        return [argument for argument in self.arguments if not argument.flags]


# --------------------------------------------------------------------------- the tree


def _commands(parser: argparse.ArgumentParser) -> tuple[_Command, list[_Command]]:
    """The program itself, and its commands."""
    (subparsers,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    texts = {choice.dest: choice.help or "" for choice in subparsers._get_subactions()}
    commands = [_command(name, texts[name], sub) for name, sub in subparsers.choices.items()]
    return _command(parser.prog, parser.description or "", parser), commands


def _command(name: str, text: str, parser: argparse.ArgumentParser) -> _Command:
    exclusive = {
        flag: tuple(other for action in group._group_actions for other in action.option_strings)
        for group in parser._mutually_exclusive_groups
        for member in group._group_actions
        for flag in member.option_strings
    }
    arguments = (
        _argument(action, exclusive)
        for action in parser._actions
        if not isinstance(action, argparse._SubParsersAction)
    )
    return _Command(name, text, tuple(arguments))


def _argument(action: argparse.Action, exclusive: dict[str, tuple[str, ...]]) -> _Argument:
    flags = tuple(action.option_strings)
    metavar = str(action.metavar or action.dest.upper())
    return _Argument(
        flags,
        (action.help or metavar).replace("%%", "%"),
        "" if action.nargs == 0 else metavar,
        tuple(str(choice) for choice in action.choices or ()),
        _KINDS.get(metavar, ""),
        isinstance(action, argparse._AppendAction),
        action.nargs == "?",
        exclusive.get(flags[0], flags) if flags else (),
    )


# --------------------------------------------------------------------------- bash


_BASH = """\
# bash completion for {prog}; made by: {prog} completion bash
_{function}() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} command='' words='' i
    local IFS=$' \\t\\n'
    COMPREPLY=()
    if [[ $cur == = ]]; then cur=''; elif [[ $prev == = ]]; then prev=${{COMP_WORDS[COMP_CWORD-2]}}; fi
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${{COMP_WORDS[i]}} in
            {names}) command=${{COMP_WORDS[i]}}; break ;;
        esac
    done
    case $command/$prev in
{values}
    esac
    if [[ $cur != -* ]]; then
        case $command in
{positionals}
        esac
    fi
    case $command in
{options}
    esac
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
}}
complete -F _{function} {prog}
"""

_BASH_FILES = (
    "local IFS=$'\\n'; compopt -o filenames 2> /dev/null; COMPREPLY=($(compgen -f -- \"$cur\")); return"
)


def _bash(program: _Command, commands: list[_Command]) -> str:
    def value(argument: _Argument) -> str:
        if argument.kind == FILE:
            return _BASH_FILES
        if argument.kind == VARIABLE:
            return 'COMPREPLY=($(compgen -e -- "$cur")); return'
        if argument.choices:
            return f'COMPREPLY=($(compgen -W "{" ".join(argument.choices)}" -- "$cur")); return'
        return "return"

    def values() -> Iterator[str]:
        patterns: dict[str, list[str]] = {}
        for command in commands:
            for option in command.options:
                if option.takes:
                    flags = [f"{command.name}/{flag}" for flag in option.flags]
                    patterns.setdefault(value(option), []).extend(flags)
        for what, options in patterns.items():
            yield f"        {'|'.join(options)}) {what} ;;"

    def positionals() -> Iterator[str]:
        names = " ".join(command.name for command in commands)
        yield f'            \'\') COMPREPLY=($(compgen -W "{names}" -- "$cur")); return ;;'
        for command in commands:
            for argument in command.positionals[:1]:
                if argument.choices or argument.kind:
                    yield f"            {command.name}) {value(argument)} ;;"

    def options() -> Iterator[str]:
        for name, command in (("''", program), *((command.name, command) for command in commands)):
            flags = " ".join(flag for option in command.options for flag in option.flags)
            yield f"        {name}) words='{flags}' ;;"

    return _BASH.format(
        prog=program.name,
        function=_function(program),
        names="|".join(command.name for command in commands),
        values="\n".join(values()),
        positionals="\n".join(positionals()),
        options="\n".join(options()),
    )


# --------------------------------------------------------------------------- zsh


_ZSH = """\
#compdef {prog}
# zsh completion for {prog}; made by: {prog} completion zsh
_{prog}() {{
  local state line
  typeset -A opt_args
  _arguments -C \\
{program}
    '1: :->command' \\
    '*:: :->arguments'
  case $state in
    command)
      local -a commands=(
{commands}
      )
      _describe -t commands command commands
      ;;
    arguments)
      case $words[1] in
{arguments}
      esac
      ;;
  esac
}}
if [[ $funcstack[1] == _{prog} ]]; then
  _{prog} "$@"
else
  compdef _{prog} {prog}
fi
"""


def _zsh(program: _Command, commands: list[_Command]) -> str:
    def escaped(text: str) -> str:
        return re.sub(r"([\[\]:\\])", r"\\\1", text)

    def value(argument: _Argument) -> str:
        what = {FILE: "_files", VARIABLE: "_parameters -g '*export*'"}.get(argument.kind, "")
        if argument.choices:
            what = f"({' '.join(argument.choices)})"
        return f":{escaped(argument.takes)}:{what or ' '}"

    def specifications(arguments: Iterable[_Argument]) -> Iterator[str]:
        for argument in arguments:
            if not argument.flags:
                yield quote(value(argument) if not argument.optional else f":{value(argument)}")
            for flag in argument.flags:
                excluded = "- *" if flag in ("-h", "--help", "--version") else " ".join(argument.excludes)
                before = "*" if argument.repeats else f"({excluded})"
                after = value(argument) if argument.takes else ""
                yield quote(f"{before}{flag}[{escaped(argument.text)}]{after}")

    def arguments() -> Iterator[str]:
        for command in commands:
            yield f"        {command.name})"
            yield "          _arguments \\"
            yield " \\\n".join(f"            {text}" for text in specifications(command.arguments))
            yield "          ;;"

    return _ZSH.format(
        prog=program.name,
        program="\n".join(f"    {text} \\" for text in specifications(program.arguments)),
        commands="\n".join(
            f"        {quote(f'{command.name}:{escaped(command.text)}')}" for command in commands
        ),
        arguments="\n".join(arguments()),
    )


# --------------------------------------------------------------------------- fish


def _fish(program: _Command, commands: list[_Command]) -> str:
    def quoted(text: str) -> str:
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

    def flag_of(flag: str) -> str:
        return f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}"

    def value(argument: _Argument) -> str:
        if argument.kind == FILE:
            return " -r -F"
        if argument.kind == VARIABLE:
            return " -x -a '(set --names --export)'"
        if argument.choices:
            return f" -x -a {quoted(' '.join(argument.choices))}"
        return " -x" if argument.takes else ""

    def options(command: _Command, condition: str) -> Iterator[str]:
        for option in command.options:
            flags = " ".join(map(flag_of, option.flags))
            yield f"complete -c {program.name} -n {condition} {flags}{value(option)} -d {quoted(option.text)}"

    def lines() -> Iterator[str]:
        yield f"# fish completion for {program.name}; made by: {program.name} completion fish"
        yield f"complete -c {program.name} -f"
        yield from options(program, "__fish_use_subcommand")
        for command in commands:
            yield (
                f"complete -c {program.name} -n __fish_use_subcommand "
                f"-a {command.name} -d {quoted(command.text)}"
            )
        for command in commands:
            condition = f"'__fish_seen_subcommand_from {command.name}'"
            yield from options(command, condition)
            for argument in command.positionals[:1]:
                if argument.choices:
                    choices = quoted(" ".join(argument.choices))
                    yield f"complete -c {program.name} -n {condition} -a {choices}"

    return "\n".join(lines()) + "\n"


# --------------------------------------------------------------------------- all of them


def _function(program: _Command) -> str:
    return program.name.replace("-", "_")


_WRITERS: Final[dict[str, Callable[[_Command, list[_Command]], str]]] = {
    "bash": _bash,
    "zsh": _zsh,
    "fish": _fish,
}

SHELLS: Final = tuple(_WRITERS)


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script for one of :data:`SHELLS`, of a parser with commands."""
    return _WRITERS[shell](*_commands(parser))
