/* SPDX-License-Identifier: MIT */
#if !defined( _POSIX_C_SOURCE )
#define _POSIX_C_SOURCE 200809L /* clock_gettime */
#endif

#include "pf_clock.h"

#include "pf_base.h"

#if defined( _WIN32 )
#include <windows.h>
#else
#include <time.h>
#endif

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

#if defined( _WIN32 )

#define FILETIME_1970 INT64_C( 116444736000000000 ) /* 100 ns since 1601 */

int
pf_monotonic( int64_t *ns ) {
  LARGE_INTEGER count;
  LARGE_INTEGER per_second;
  if( !QueryPerformanceCounter( &count ) || !QueryPerformanceFrequency( &per_second ) ) {
    return PF_ERR_CLOCK;
  }
  int64_t const seconds = count.QuadPart / per_second.QuadPart;
  int64_t const rest    = count.QuadPart % per_second.QuadPart;
  *ns                   = seconds * 1000000000 + rest * 1000000000 / per_second.QuadPart;
  return PF_OK;
}

int
pf_realtime( int64_t *ns ) {
  FILETIME now;
  GetSystemTimePreciseAsFileTime( &now );
  *ns = ( (int64_t)( (uint64_t)now.dwHighDateTime << 32 | now.dwLowDateTime ) - FILETIME_1970 ) * 100;
  return PF_OK;
}

#else

static int
read_clock( clockid_t clock, int64_t *ns ) {
  struct timespec now;
  if( clock_gettime( clock, &now ) != 0 ) {
    return PF_ERR_CLOCK;
  }
  *ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
  return PF_OK;
}

int
pf_monotonic( int64_t *ns ) {
  return read_clock( CLOCK_MONOTONIC, ns );
}

int
pf_realtime( int64_t *ns ) {
  return read_clock( CLOCK_REALTIME, ns );
}

#endif

int64_t
pf_now( void ) {
  int64_t ns;
  if( pf_realtime( &ns ) != PF_OK || PF_UNLIKELY( ns < 0 ) ) {
    return PF_ERR_CLOCK; /* before 1970 it was never set */
  }
  return ns / 1000000;
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
