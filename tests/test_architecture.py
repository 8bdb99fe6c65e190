# SPDX-License-Identifier: MIT
"""docs/architecture.md: its picture is of the code as it is, and what it says of the borders holds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatch
from xml.etree import ElementTree

import pytest
from architecture import CORE, PICTURE, ROOT, Layer, arrows, draw, imports, layers, modules, picture

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
SVG = "{http://www.w3.org/2000/svg}"


def test_the_picture_is_of_the_code_as_it_is() -> None:
    assert PICTURE.read_text(encoding="utf-8") == picture(), "run: python tests/architecture.py"


def test_everything_is_in_it_once() -> None:
    sources = modules()
    placed = [name for layer in layers(sources) for name in layer.members]
    assert sorted(placed) == sorted([*sources.keys() - {""}, CORE])


def test_it_can_be_read_on_a_phone() -> None:
    root = ElementTree.fromstring(picture())
    assert int(root.attrib["width"]) <= 400
    words = [word for text in root.iter(f"{SVG}text") for word in (text.text or "").split()]
    assert {"asyncio", "session", "pf_nonce", "reference"} <= set(words)


def test_the_page_names_every_layer() -> None:
    for layer in layers(modules()):
        assert f"**{layer.title}.**" in PAGE


def test_the_map_names_every_module() -> None:
    table = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Where things are")[2]
    patterns = re.findall(r"`([\w*]+)(?:\.py|/)`", table.partition("## ")[0])
    tops = {name.partition(".")[0] for name in modules()} - {""}
    assert [name for name in sorted(tops) if not any(fnmatch(name, pattern) for pattern in patterns)] == []


# What import-linter does not see: _native is no Python, and it does not read C.


def test_c_is_met_in_one_place() -> None:
    sources = modules()
    assert [name for name, source in sources.items() if CORE in imports(source, sources)] == ["_sodium"]
    assert not [
        name for name, source in sources.items() if re.search(r"^\s*(import|from) _?cffi", source, re.M)
    ]


def test_the_c_core_knows_no_python_but_for_its_lock() -> None:
    knows = [
        path.name
        for path in sorted((ROOT / "csrc").glob("pf_*.[hc]"))
        if re.search(r"\bPy[A-Z_]\w+\(|<Python\.h>", path.read_text())
    ]
    assert knows == ["pf_gil.h"]


# The drawing itself.


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import json", set()),
        ("from pacifica_fast.keys import Keypair", {"keys"}),
        ("from pacifica_fast import keys, Keypair", {"keys", ""}),
        ("import pacifica_fast.sync.link as link", {"sync.link"}),
        ("from pacifica_fast.sync import link, connect", {"sync.link", "sync"}),
        ("from pacifica_fast._native import lib", {CORE}),
        ("def late():\n    from pacifica_fast import keys", {"keys"}),
        ("try:\n    import pacifica_fast.keys\nexcept ImportError:\n    pass", {"keys"}),
        ("if TYPE_CHECKING:\n    from pacifica_fast import keys", set()),
    ],
)  # fmt: skip
def test_imports(source: str, found: set[str]) -> None:
    assert imports(source, {"", "keys", "sync", "sync.link"}) == found


def layer(name: str) -> Layer:
    return Layer(name.upper(), (name,), frozenset({name}))


def imported(**who: str) -> Mapping[str, str]:
    return {name: f"from pacifica_fast import {others}" if others else "" for name, others in who.items()}


def test_an_arrow_that_others_imply_is_left_out() -> None:
    three = [layer("a"), layer("b"), layer("c")]
    assert arrows(three, imported(a="b, c", b="c", c="")) == [(0, 1), (1, 2)]
    assert arrows(three, imported(a="b, c", b="", c="")) == [(0, 1), (0, 2)]


def test_an_import_that_points_up_is_drawn_as_one() -> None:
    assert arrows([layer("a"), layer("b")], imported(a="", b="a")) == [(1, 0)]


def test_another_import_makes_another_picture() -> None:
    three = [layer("a"), layer("b"), layer("c")]
    one, two = draw(three, [(0, 1)]), draw(three, [(0, 1), (0, 2)])
    assert one != two
    assert "A uses B, C" in two
