/* SPDX-License-Identifier: MIT */
#ifndef PF_CLOCK_H
#define PF_CLOCK_H

/* pf_clock.h: what time it is, on every system; and what timestamps are
   made of: the wall clock, and what is added to it because the exchange's
   clock shows another time.

   A correction is one atomic word that every template of a signer points
   to: whoever sets it waits for nobody, and the next stamp, also that of
   an armed cancel signed anew in the background, has it.  Only stamps
   that the core makes itself are corrected, never a caller's. */

#include "pf_api.h"

#include <stdatomic.h>

struct pf_clock {
  _Atomic( int32_t ) correction; /* ms; all zero: none */
};

/* pf_clock_uncorrected is what templates have until they are given
   another clock: its correction is 0 for ever. */

extern const pf_clock pf_clock_uncorrected;

/* pf_monotonic and pf_realtime read the system's clocks, in ns; the second
   since 1970.  PF_OK or PF_ERR_CLOCK. */

int pf_monotonic( int64_t *ns );

int pf_realtime( int64_t *ns );

/* pf_now is the wall clock in ms since 1970, uncorrected, or
   PF_ERR_CLOCK. */

int64_t pf_now( void );

/* pf_timestamp returns timestamp, or the corrected clock when it is 0;
   negative: an error code. */

int64_t pf_timestamp( const pf_clock *clock, int64_t timestamp );

#endif /* PF_CLOCK_H */
