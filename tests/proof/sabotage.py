# SPDX-License-Identifier: MIT
"""Builds from which one safeguard was taken out. The proof must see each of them fail.

A proof that passes whatever the code does proves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from proof.builds import Change


@dataclass(frozen=True)
class Sabotage:
    """What is taken out, and which finding of which scenario shows it."""

    what: str
    changes: tuple[Change, ...]
    scenario: str
    shown_by: str
    fallback: bool = False


SABOTAGES = (
    Sabotage(
        "no slot state: two may claim what one looked at",
        (
            Change(
                "pf_nonce.c",
                "return atomic_compare_exchange_strong_explicit( &n->state, &from, to, memory_order_acq_rel,"
                "\n                                                  memory_order_relaxed );",
                "if( atomic_load( &n->state ) != from ) return 0;\n"
                "  PF_INTERLEAVE();\n  atomic_store( &n->state, to );\n  return 1;",
            ),
        ),
        "threads",
        "repeated",
    ),
    Sabotage(
        "no fork wipe",
        (Change("pf_pages.c", "madvise( start, sz, MADV_WIPEONFORK ) == 0", "1"),),
        "os.fork",
        "repeated",
    ),
    Sabotage(
        "no wipe after use",
        (Change("pf_nonce.c", "  pf_wipe( &n->secret, sizeof( n->secret ) );\n", ""),),
        "threads",
        "lingering",
    ),
    Sabotage(
        "no look at r after its use",
        (
            Change(
                "pf_nonce.c",
                "return is_zero( s->r, sizeof( s->r ) ) ? PF_ERR_NO_NONCE : PF_OK;",
                "return PF_OK;",
            ),
        ),
        "wiped",
        "invalid",
    ),
    Sabotage(
        "no look at the key's gate after its use",
        (
            Change(
                "pf_signer.c",
                "if( PF_LIKELY( pf_gate_leave( &slot->gate, key->generation ) ) ) {",
                "if( pf_gate_leave( &slot->gate, key->generation ) || 1 ) {",
            ),
        ),
        "in flight",
        "trespasses",
    ),
    Sabotage(
        "no look at the state before a nonce is ready",
        (
            Change(
                "pf_nonce.c",
                "if( rc == PF_OK && !step( n, FILLING, READY ) ) {",
                "atomic_store( &n->state, READY );\n  if( 0 ) {",
            ),
            Change("pf_nonce.c", "      wipe( p, sz );\n", ""),  # a second line of defence
        ),
        "in flight",
        "repeated",
    ),
    Sabotage(
        "no fork wipe, where the kernel does none",
        (
            Change(
                "pf_pages.c",
                "      pf_wipe( p->start, p->sz );\n      atomic_store( &p->pid",
                "      atomic_store( &p->pid",
            ),
        ),
        "fork from C",
        "repeated",
        fallback=True,
    ),
    Sabotage(
        "no look at the process id, where the kernel wipes nothing",
        (Change("pf_pages.h", "if( PF_UNLIKELY( !pages->wiped_on_fork ) ) {", "if( 0 ) {"),),
        "clone from C",
        "repeated",
        fallback=True,
    ),
)
