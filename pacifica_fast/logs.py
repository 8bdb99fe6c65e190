# SPDX-License-Identifier: MIT
"""What may be logged of the wire.

A signature is as good as the request it signs until that expires, and an exchange may send back
what it was sent, in an error say. So whatever comes from the wire goes into a log through
:func:`shown`; keys, signatures and requests of our own are not logged at all.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["shown"]

_SHOWN: Final = 200  # characters
# Base58 of 64 bytes has 64 to 88 characters, of a public key 44 at most.
_SECRET: Final = re.compile(r"[1-9A-HJ-NP-Za-km-z]{60,}|[0-9A-Fa-f]{100,}")


def shown(text: bytes | str) -> str:
    """Text from the wire for a log: one line, at most 200 characters, nothing that may be a signature."""
    if isinstance(text, bytes):
        text = text[: 2 * _SHOWN].decode(errors="replace")
    # Twice as much is searched as is shown: what is cut off in the middle is found too.
    text = _SECRET.sub("<hidden>", text[: 2 * _SHOWN])
    line = "".join(c if c.isprintable() else "?" for c in text[:_SHOWN])
    return line if len(text) <= _SHOWN else line + "..."
