# SPDX-License-Identifier: MIT
"""JSON by orjson; by the standard library where there is none: PyPy, CPython without a GIL."""

from __future__ import annotations

import json
from typing import Any, NoReturn

__all__ = ["JSONDecodeError", "JSONEncodeError", "dumps", "loads", "plain_dumps", "plain_loads"]


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def plain_loads(text: bytes | str) -> Any:
    """As ``orjson.loads``. Raises ``json.JSONDecodeError`` for whatever is no JSON, or nested too deeply."""
    try:
        decoded = text if isinstance(text, str) else bytes(text).decode()
        return json.loads(decoded, parse_constant=_refuse)
    except json.JSONDecodeError:
        raise
    except (ValueError, RecursionError) as error:
        raise json.JSONDecodeError(str(error), "", 0) from None


def plain_dumps(value: Any) -> bytes:
    """As ``orjson.dumps`` of plain data. Raises ``TypeError`` for lone surrogates."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        raise TypeError("str is not valid UTF-8: surrogates not allowed") from None


try:
    from orjson import JSONDecodeError, JSONEncodeError, dumps, loads
except ModuleNotFoundError:
    JSONDecodeError, JSONEncodeError = json.JSONDecodeError, TypeError  # type: ignore[misc, assignment]
    dumps, loads = plain_dumps, plain_loads  # type: ignore[assignment]
