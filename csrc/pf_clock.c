/* SPDX-License-Identifier: MIT */
#if !defined( _POSIX_C_SOURCE )
#define _POSIX_C_SOURCE 200809L /* clock_gettime */
#endif

#include "pf_clock.h"

#include "pf_base.h"

#include <time.h>

const pf_clock pf_clock_uncorrected = { 0 };

int
pf_clock_correct( pf_clock *clock, int64_t ms ) {
  if( ms < -PF_CORRECTION_MAX || ms > PF_CORRECTION_MAX ) {
    return PF_ERR_ARGUMENT;
  }
  atomic_store_explicit( &clock->correction, (int32_t)ms, memory_order_relaxed );
  return PF_OK;
}

int64_t
pf_clock_correction( const pf_clock *clock ) {
  return atomic_load_explicit( &clock->correction, memory_order_relaxed );
}

int64_t
pf_now( void ) {
  struct timespec now;
  if( clock_gettime( CLOCK_REALTIME, &now ) != 0 ) {
    return PF_ERR_CLOCK;
  }
  int64_t const ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
  return PF_LIKELY( ms >= 0 ) ? ms : PF_ERR_CLOCK; /* before 1970 it was never set */
}

/* A correction can lead to before 1970 where the clock was never set. */

static int64_t
corrected_now( const pf_clock *clock ) {
  int64_t const now = pf_now();
  if( PF_UNLIKELY( now < 0 ) ) {
    return now;
  }
  int64_t const corrected = now + pf_clock_correction( clock );
  return PF_LIKELY( corrected >= 0 ) ? corrected : PF_ERR_CLOCK;
}

int64_t
pf_timestamp( const pf_clock *clock, int64_t timestamp ) {
  if( timestamp == 0 ) {
    return corrected_now( clock );
  }
  return timestamp > 0 ? timestamp : PF_ERR_ARGUMENT;
}
