# SPDX-License-Identifier: MIT
"""A fault for each tool, of the kind it is there to see. A tool that misses its own has shown nothing."""

from __future__ import annotations

from proof.builds import Change

__all__ = ["CONVERSION", "NO_CAPACITY", "RACE", "READ_AFTER_FREE", "SAME_BRANCHES", "UNINITIALISED"]

UNINITIALISED = Change("pf_base58.c", "uint64_t     limbs[LIMBS] = { 0 };", "uint64_t     limbs[LIMBS];")
CONVERSION = Change("pf_frame.c", "out[--n] = (uint8_t)v;", "out[--n] = v;")
# Whoever shuts the gate no longer sees what those who left it wrote.
RACE = Change("pf_gate.h", "word - 1, memory_order_release,", "word - 1, memory_order_relaxed,")
NO_CAPACITY = Change("pf_base.h", "(size_t)( w->end - w->at ) < n", "0")

READ_AFTER_FREE = """
#include <stdlib.h>
int planted( void );
int planted( void ) {
  char *p = malloc( 1 );
  if( !p ) {
    return 0;
  }
  *p = 1;
  free( p );
  return *p;
}
"""
SAME_BRANCHES = """
int planted( int a, int b );
int planted( int a, int b ) {
  if( a ) {
    return b;
  } else {
    return b;
  }
}
"""
