# SPDX-License-Identifier: MIT
"""The recorded outcomes of the official SDK, as Python values.

The inputs in ``vectors/sdk_conformance.json`` are expressions; this evaluates them
with the names the file says they need. Every call makes fresh values, so no test
can spoil them for another.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).parent / "vectors"
OLD = "f2385d42"  # the SDK until 16 June 2025

# What the file's "namespace" says, but for kp and the prelude.
_IMPORTS = """
from collections import *
from enum import *
from decimal import Decimal
from uuid import UUID
from types import MappingProxyType, SimpleNamespace
import datetime, dataclasses, pathlib
from solders.keypair import Keypair
from solders.null_signer import NullSigner
from solders.presigner import Presigner
"""


def load(name: str) -> Any:
    """The content of one file of vectors."""
    return json.loads((VECTORS / name).read_text())


CONFORMANCE: dict[str, Any] = load("sdk_conformance.json")
CASES: list[dict[str, Any]] = CONFORMANCE["cases"]
CASE_NAMES: list[str] = [case["name"] for case in CASES]
LEADING_ZERO_VECTORS: list[dict[str, Any]] = CONFORMANCE["leading_zero_vectors"]
FACTS: dict[str, Any] = CONFORMANCE["module_facts"]
KNOWN_ANSWERS: list[dict[str, Any]] = load("ccxt_known_answers.json")


@dataclass(frozen=True)
class Outcome:
    """What a call came to: a result, or an exception's type, module and text."""

    result: Any = None
    exception: str = ""
    module: str = ""
    text: str = ""


def outcome(call: Callable[..., Any], *arguments: Any) -> Outcome:
    """Make the call and say what it came to."""
    try:
        return Outcome(call(*arguments))
    except Exception as error:
        return Outcome(None, type(error).__name__, type(error).__module__, str(error))


def namespace() -> dict[str, Any]:
    """The names the vectors' expressions use. Needs solders."""
    names: dict[str, Any] = {"__name__": __name__}
    exec(_IMPORTS, names)
    names["kp"] = eval(CONFORMANCE["kp"], names)
    exec(CONFORMANCE["prelude"], names)
    return names


def arguments(case: dict[str, Any], names: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Fresh header, payload and keypair of one case."""
    return eval(case["header"], names), eval(case["payload"], names), eval(case["keypair"], names)


def _of_this_python(case: dict[str, Any], recorded: dict[str, Any]) -> dict[str, Any]:
    for version, other in case.get("other_pythons", {}).items():
        if tuple(map(int, version.split(".")[:2])) == sys.version_info[:2]:
            return dict(other)
    return recorded


def check_exception(case: dict[str, Any], got: Outcome, recorded: dict[str, Any]) -> None:
    """Assert that the recorded exception was raised, with its text on this Python.

    On a Python nobody ran the SDK on, the text may be another; the type may not.
    """
    recorded = _of_this_python(case, recorded)
    assert (got.exception, got.module) == (recorded["exception"], recorded["module"]), got
    if sys.version_info[:2] <= (3, 13):
        assert got.text == recorded["text"]


def check_head(case: dict[str, Any], got: Outcome) -> None:
    """Assert that ``got`` is what the SDK of today did."""
    recorded = case["head"]
    if "exception" in recorded:
        check_exception(case, got, recorded)
        return
    assert not got.exception, got
    assert type(got.result) is tuple
    message, signature = got.result
    assert type(message) is str
    assert type(signature) is str
    assert message.isascii()
    assert signature == recorded["signature"]
    if "message" in recorded:
        assert message == recorded["message"]
    else:
        assert len(message) == recorded["message_len"]
        assert hashlib.sha256(message.encode()).hexdigest() == recorded["message_sha256"]
        assert message.startswith(recorded["message_head"])
        assert message.endswith(recorded["message_tail"])


def check_old(case: dict[str, Any], got: Outcome) -> None:
    """Assert that ``got`` is what the SDK of June 2025 did."""
    recorded = case[OLD]
    assert recorded["same_signature_or_exception_as_head"]
    if "exception" in recorded:
        check_exception(case, got, recorded)
        return
    assert not got.exception, got
    assert type(got.result) is tuple
    message, signature = got.result
    assert type(message).__name__ == recorded["message_type"]
    assert signature == case["head"]["signature"]
    wanted = recorded["message_repr"]
    if wanted.endswith("..."):
        assert repr(message).startswith(wanted[:-3])
    else:
        assert repr(message) == wanted
