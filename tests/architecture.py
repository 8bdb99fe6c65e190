# SPDX-License-Identifier: MIT
"""The picture of docs/architecture.md, drawn from the imports: ``python tests/architecture.py``.

A box is a layer of ``[tool.importlinter]`` in pyproject.toml, an arrow says that something in one imports
something in the other. Left out is what only type checkers import, and an arrow that others imply.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

__all__ = ["PICTURE", "Layer", "arrows", "draw", "imports", "layers", "modules", "picture"]

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "pacifica_fast"
PICTURE = ROOT / "docs" / "architecture.svg"
CORE = "_native"

TITLES = (  # in the order of the layers
    "Command line",
    "An exchange to test with",
    "Clients",
    "What both clients share",
    "The protocol, without I/O",
    "What replies tell",
    "What can be watched",
    "Integrations",
    "Drop-in",
    "Signing",
    "Keys and bytes",
    "Boundary to C",
    "What anybody may import",
)

Arrow = tuple[int, int]


@dataclass(frozen=True)
class Layer:
    """A box. ``names`` are what stands in it; ``members`` whose imports are its own."""

    title: str
    names: tuple[str, ...]
    members: frozenset[str]


# What there is.


def modules(package: Path = PACKAGE) -> dict[str, str]:
    """The source of each module by its name below the package; of the package itself by ``""``."""
    sources = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        sources[name] = path.read_text(encoding="utf-8")
    return sources


def imports(source: str, known: Iterable[str], package: str = PACKAGE.name) -> set[str]:
    """Which of the known modules of the package it imports, functions included."""
    known = {*known, CORE}
    found = set()
    for node in _executed(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.partition(".")[0] == package:
                below = name.removeprefix(package).removeprefix(".")
                while below not in known and below:  # what is imported from a module is no module
                    below = below.rpartition(".")[0]
                found.add(below)
    return found


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child
        yield from _executed(child)


def layers(known: Iterable[str]) -> list[Layer]:
    """From above to below, as pyproject.toml has them; the C core below the boundary."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        contract = tomllib.load(file)["tool"]["importlinter"]["contracts"][0]
    known = set(known)
    found = []
    for title, line in zip(TITLES, contract["layers"], strict=True):
        names = tuple(name for name in re.findall(r"\w+", line) if name in known)
        if not names:
            continue
        inner = {name for name in known if name.partition(".")[0] in names}
        found.append(Layer(title, names, frozenset(inner)))
    files = sorted(path.stem for path in (ROOT / "csrc").glob("pf_*.h"))
    return [*found[:-1], Layer("The C core: csrc/", tuple(files), frozenset({CORE})), found[-1]]


def arrows(found: Sequence[Layer], sources: Mapping[str, str]) -> list[Arrow]:
    """Which layer imports which, without what follows from others."""
    place = {name: index for index, layer in enumerate(found) for name in layer.members}
    direct: set[Arrow] = set()
    for name, source in sources.items():
        if name:  # the package itself only gives names
            for other in imports(source, sources) - {""}:
                if place[name] != place[other]:
                    direct.add((place[name], place[other]))
    return sorted(arrow for arrow in direct if not _leads(direct - {arrow}, *arrow))


def _leads(direct: set[Arrow], start: int, end: int) -> bool:
    reached: set[int] = set()
    ahead = [start]
    while ahead:
        here = ahead.pop()
        ahead += [below for above, below in direct if above == here and below not in reached]
        reached.update(below for above, below in direct if above == here)
    return end in reached


# The drawing, in pixels of a phone's width.

WIDTH, BOX = 380, 324
LEFT, TOP, GAP, PAD = 4, 4, 20, 10
TITLE, LINE, LETTER = 19, 17, 7.25  # heights; and the width of one letter
RAIL, FIRST_RAIL = 9, 12

STYLE = (
    "text{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:#24292f}"
    ".title{font:600 14px system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}"
    ".box{fill:#f6f8fa;stroke:#8c959f}.arrow{fill:none;stroke:#0969da;stroke-width:1.5}.head{fill:#0969da}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.box{fill:#161b22;stroke:#6e7681}"
    ".arrow{stroke:#58a6ff}.head{fill:#58a6ff}}"
)


@dataclass(frozen=True)
class _Box:
    layer: Layer
    lines: list[str]
    top: int

    @property
    def height(self) -> int:
        return 2 * PAD + TITLE + LINE * len(self.lines) - 5

    @property
    def bottom(self) -> int:
        return self.top + self.height

    def drawn(self) -> Iterator[str]:
        yield f'<rect class="box" x="{LEFT}" y="{self.top}" width="{BOX}" height="{self.height}" rx="6"/>'
        x, y = LEFT + PAD, self.top + PAD + 11
        yield f'<text class="title" x="{x}" y="{y}">{escape(self.layer.title)}</text>'
        for number, line in enumerate(self.lines):
            yield (
                f'<text xml:space="preserve" x="{x}" y="{y + TITLE + LINE * number}">{escape(line)}</text>'
            )


def draw(found: Sequence[Layer], which: Sequence[Arrow]) -> str:
    """An SVG, the same for the same modules."""
    boxes: list[_Box] = []
    for layer in found:
        top = boxes[-1].bottom + GAP if boxes else TOP
        boxes.append(_Box(layer, list(_wrapped(layer.names)), top))
    height = boxes[-1].bottom + TOP
    told = "; ".join(
        f"{layer.title} uses {', '.join(found[below].title for above, below in which if above == index)}"
        for index, layer in enumerate(found)
        if any(above == index for above, _ in which)
    )
    marks = [mark for box in boxes for mark in box.drawn()]
    marks += [mark for above, below in which if below == above + 1 for mark in _straight(boxes[above])]
    marks += _around(boxes, [arrow for arrow in which if arrow[1] > arrow[0] + 1])
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
            f'height="{height}" role="img" aria-labelledby="t d">',
            '<title id="t">The layers of pacifica_fast, and who imports whom</title>',
            f'<desc id="d">{escape(told)}.</desc>',
            f"<style>{STYLE}</style>",
            *marks,
            "</svg>\n",
        )
    )


def _wrapped(names: Iterable[str]) -> Iterator[str]:
    line = ""
    for name in names:
        longer = f"{line}  {name}" if line else name
        if len(longer) * LETTER > BOX - 2 * PAD:
            yield line
            longer = name
        line = longer
    yield line


def _straight(box: _Box) -> Iterator[str]:
    x, end = LEFT + BOX // 2, box.bottom + GAP
    yield f'<path class="arrow" d="M{x} {box.bottom}V{end - 6}"/>'
    yield f'<path class="head" d="M{x} {end}l-4.5 -8h9z"/>'


def _around(boxes: Sequence[_Box], which: Sequence[Arrow]) -> list[str]:
    """Beside the boxes: one rail for each box that is led to, shared by all that lead there."""
    rails = _rails(which)
    ports = {box: sorted({rails[b] for a, b in which if box in (a, b)}) for box in range(len(boxes))}

    def port(box: int, rail: int) -> float:
        places = ports[box]
        step = boxes[box].height / (len(places) + 1)
        return round(boxes[box].top + step * (places.index(rail) + 1), 1)

    marks, right = [], LEFT + BOX
    for above, below in which:
        rail = rails[below]
        x, start, end = right + FIRST_RAIL + RAIL * rail, port(above, rail), port(below, rail)
        marks.append(
            f'<path class="arrow" d="M{right} {start}H{x - 4}q4 0 4 4V{end - 4}q0 4 -4 4H{right + 6}"/>'
        )
        marks.append(f'<path class="head" d="M{right} {end}l8 -4.5v9z"/>')
    return list(dict.fromkeys(marks))


def _rails(which: Sequence[Arrow]) -> dict[int, int]:
    """For each box that is led to the innermost rail that is free all along; short ones are given first."""
    spans = {below: min(a for a, b in which if b == below) for _, below in which}
    rails: dict[int, int] = {}
    for below in sorted(spans, key=lambda below: (below - spans[below], below)):
        taken = {rail for other, rail in rails.items() if spans[other] <= below and spans[below] <= other}
        rails[below] = next(rail for rail in range(len(spans)) if rail not in taken)
    return rails


def picture() -> str:
    """The picture as it is to be."""
    sources = modules()
    found = layers(sources)
    which = arrows(found, sources)
    assert all(above < below for above, below in which), "lint-imports says which import points up"
    return draw(found, which)


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
    print(f"{PICTURE.relative_to(ROOT)} is drawn")
