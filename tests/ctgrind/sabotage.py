# SPDX-License-Identifier: MIT
"""Leaks planted in a copy of the core, each of which must be reported, and where."""

from __future__ import annotations

from dataclasses import dataclass

from proof.builds import Change


@dataclass(frozen=True)
class Leak:
    """``work`` is the piece of work that must raise errors."""

    name: str
    work: str
    change: Change


LEAKS = (
    Leak(
        "a branch on a bit of the scalar",
        "opening a key",
        Change(
            "pf_signer.c",
            "  expanded->scalar[0] &= 248;\n",
            "  if( expanded->scalar[3] & 1 ) {\n"
            "    pf_wipe( expanded->scalar, 0 );\n"
            "  }\n"
            "  expanded->scalar[0] &= 248;\n",
        ),
    ),
    Leak(
        "a table looked into while a private key is decoded",
        "decoding keys",
        Change(
            "pf_base58.c",
            "    uint64_t carry = digit_of( (uint8_t)text[i], &bad );\n",
            "    uint64_t carry = digit_of( (uint8_t)text[i], &bad );\n"
            "    carry ^= (uint64_t)alphabet[carry] >> 7;\n",
        ),
    ),
    Leak(
        "leading zeros counted no further than they go",
        "decoding keys",
        Change(
            "pf_base58.c", "    leading &= bytes[i] == 0;\n", "    if( bytes[i] ) {\n      break;\n    }\n"
        ),
    ),
    Leak(
        "a comparison that stops at the first difference",
        "the drop-in",
        Change("pf_signer.c", "    d |= x ^ y;\n", "    d |= x ^ y;\n    if( d ) {\n      break;\n    }\n"),
    ),
    Leak(
        "a look at r that stops at the first byte that is not zero",
        "making nonces",
        Change("pf_nonce.c", "    any |= bytes[i];\n", "    if( bytes[i] ) {\n      return 0;\n    }\n"),
    ),
)
