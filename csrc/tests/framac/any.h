/* SPDX-License-Identifier: MIT */
#ifndef PF_FRAMAC_ANY_H
#define PF_FRAMAC_ANY_H

/* any.h: values that Frama-C's Eva takes to be anything, for harnesses
   that are analysed and never run.

   Capacities and lengths are loops, which Eva unrolls, so that it knows
   each exactly; what stands in buffers is everything at once. */

#include "pf_base.h"

#include <__fc_builtin.h>

/* LAST is where the last n bytes of an array begin: output there that
   goes past its capacity goes past the array too, which Eva sees. */

#define LAST( array, n ) ( ( array ) + sizeof( array ) - ( n ) )

static inline uint64_t
any_u64( void ) {
  return Frama_C_unsigned_long_interval( 0, UINT64_MAX );
}

static inline void
any_bytes( void *bytes, size_t n ) {
  Frama_C_make_unknown( bytes, n );
}

/* readable raises an alarm unless the byte was written. */

static inline void
readable( char byte ) {
  (void)( byte == 0 );
}

#endif /* PF_FRAMAC_ANY_H */
