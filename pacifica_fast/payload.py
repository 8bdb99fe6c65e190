# SPDX-License-Identifier: MIT
"""Which values are plain JSON data, why the others are not, and the quick way to JSON text.

*Plain* is what has one obvious JSON form and runs none of its own code on the way
there: ``dict`` with ``str`` keys, ``list``, ``str``, ``int``, ``bool`` and ``None``,
each of exactly that type, nested at most :data:`DEPTH_MAX` deep. Floats are not:
``1e-05`` and ``1e-5`` are one number and two signatures.

Nothing here puts a value into a text or an exception; field names it does.
"""

from __future__ import annotations

import json
from typing import Final

from pacifica_fast import _json

__all__ = ["DEPTH_MAX", "explain", "is_plain", "to_json"]

DEPTH_MAX: Final = 200  # dicts and lists inside each other

_NAME_LEN: Final = 40  # longer field names are cut
_PASS: Final = {  # by name of a base class: what to pass instead
    "float": "pass decimals as strings",
    "Decimal": "pass decimals as strings",
    "Fraction": "pass decimals as strings",
    "Enum": "pass its value",
    "bool": "pass a bool",
    "int": "pass an int",
    "str": "pass a str",
    "bytes": "pass a str",
    "bytearray": "pass a str",
    "UUID": "pass a str",
    "list": "pass a list",
    "tuple": "pass a list",
    "set": "pass a list",
    "frozenset": "pass a list",
    "dict": "pass a dict",
    "Mapping": "pass a dict",
}


def is_plain(value: object, room: int = DEPTH_MAX) -> bool:
    """Return whether ``value`` is plain JSON data of at most ``room`` levels.

    A scalar has no level, an empty list one. Types are compared by identity, so no
    code of a class or metaclass runs. What contains itself runs out of room, and the
    first failure ends the walk.
    """
    if type(value) is dict and room > 0:
        for key, item in value.items():
            if type(key) is not str:
                return False
            kind = type(item)
            if kind is str or kind is int or kind is bool or item is None:
                continue
            if not ((kind is dict or kind is list) and is_plain(item, room - 1)):
                return False
        return True
    if type(value) is list and room > 0:
        for item in value:
            kind = type(item)
            if kind is str or kind is int or kind is bool or item is None:
                continue
            if not ((kind is dict or kind is list) and is_plain(item, room - 1)):
                return False
        return True
    return value is None or type(value) is str or type(value) is int or type(value) is bool


def explain(value: object, name: str = "data") -> str:
    """Say where and why ``value`` is not plain; the empty string if it is.

    ``name`` is what to call the value itself. The answer is one of these, the first
    that is found: ``data.price: float (pass decimals as strings)``,
    ``data.items[3]: tuple (pass a list)``, ``data: a key of type int``,
    ``data...: nested deeper than 200``.
    """
    return _explain(value, name, name, DEPTH_MAX)


def _explain(value: object, path: str, name: str, room: int) -> str:
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return ""
    if kind is not dict and kind is not list:
        return f"{path}: {_describe(kind)}"
    if room <= 0:
        return f"{name}...: nested deeper than {DEPTH_MAX}"
    if type(value) is dict:
        for key, item in value.items():
            if type(key) is not str:
                return f"{path}: a key of type {type(key).__name__}"
            if reason := _explain(item, path + _field(key), name, room - 1):
                return reason
    elif type(value) is list:
        for index, item in enumerate(value):
            if reason := _explain(item, f"{path}[{index}]", name, room - 1):
                return reason
    return ""


def _describe(kind: type) -> str:
    """The name of a type, and what to pass instead of its instances."""
    if kind.__name__ in ("float", "tuple", "bytes") and kind.__module__ == "builtins":
        return f"{kind.__name__} ({_PASS[kind.__name__]})"
    names = [base.__name__ for base in type.mro(kind)]
    if "Enum" in names:
        return f"{kind.__name__} ({_PASS['Enum']})"
    for base in names:
        if base in _PASS:
            return f"{kind.__name__} ({_PASS[base]})"
    return kind.__name__


def _field(key: str) -> str:
    """A field as a path shows it: ``.price``, or ``['odd name']``."""
    if len(key) > _NAME_LEN:
        return f"[{key[:_NAME_LEN]!a}...]"
    return f".{key}" if key.isascii() and key.isidentifier() else f"[{key!a}]"


def to_json(value: object) -> bytes:
    """Return plain ``value`` as JSON text: compact or not, and not yet canonical.

    What orjson refuses of plain data, lone surrogates and integers over 64 bits, is
    written by :mod:`json`. Raises :class:`ValueError` for an integer of more digits
    than Python converts (4300, unless set otherwise).
    """
    try:
        return _json.dumps(value)
    except _json.JSONEncodeError:
        return json.dumps(value).encode()
