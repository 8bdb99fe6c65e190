# SPDX-License-Identifier: MIT
"""Docstrings for the site: their roles become links, and their code blocks Markdown's."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent
from typing import Any

from griffe import AliasResolutionError, Extension, GriffeLoader, Module, Object

_ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):`(?P<tilde>~?)(?P<name>[^`]+)`")
_BLOCK = re.compile(r"^\.\. code-block:: (?P<language>\w+)\n\n(?P<code>(?:(?: {4}.*)?\n)+)", re.MULTILINE)
_LITERAL = re.compile(r"(?<!`)``(?P<text>[^`]+)``(?!`)")
_RAISED = re.compile(r"\\ :sup:`(?P<text>[^`]+)`")
_IDENTIFIER = re.compile(r"^::: (\S+)$", re.MULTILINE)

REFERENCE = Path(__file__).parent / "reference"


def _identifiers(package: str) -> list[str]:
    """What the pages of the reference show, as seen from the package."""
    pages = (page.read_text(encoding="utf-8") for page in REFERENCE.glob("*.md"))
    return [name.removeprefix(package + ".") for page in pages for name in _IDENTIFIER.findall(page)]


class Roles(Extension):
    """Rewrites every docstring once everything is loaded: only then it is known what a name means."""

    def on_package(self, *, pkg: Module, loader: GriffeLoader, **kwargs: Any) -> None:
        """Walk through the package."""
        self._package = pkg
        # What the reference has: an alias there is known by the name of what it is an alias of, too.
        self._shown = {self._package[name].canonical_path for name in _identifiers(pkg.name)}
        self._walk(pkg)

    def _walk(self, obj: Object) -> None:
        if obj.docstring is not None:
            obj.docstring.value = self._markdown(obj, obj.docstring.value)
        for member in obj.members.values():
            if not member.is_alias and isinstance(member, Object):
                self._walk(member)

    def _markdown(self, where: Object, text: str) -> str:
        def link(match: re.Match[str]) -> str:
            name = match["name"]
            shown = name.rpartition(".")[2] if match["tilde"] else name
            target = self._target(where, name)
            return f"`{shown}`" if target is None else f"[`{shown}`][{target}]"

        def block(match: re.Match[str]) -> str:
            return f"```{match['language']}\n{dedent(match['code']).strip()}\n```\n"

        text = _BLOCK.sub(block, text + "\n")
        return _LITERAL.sub(r"`\g<text>`", _RAISED.sub(r"<sup>\g<text></sup>", _ROLE.sub(link, text)))

    def _target(self, where: Object, name: str) -> str | None:
        """The path of what a role names, as it is seen from there; None if the site has no such page."""
        for scope in (where, where.parent, where.module, self._package):
            if scope is None:
                continue
            try:
                found = scope[name]
                path: str = found.canonical_path
                told = path in self._shown or found.has_docstring  # what has no docstring is not shown
            except (KeyError, ValueError, AliasResolutionError):  # the last: of another package
                continue
            shown = any(path == its or path.startswith(its + ".") for its in self._shown)
            return path if shown and told else None
        return None
