/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE

#include "check.h"

#include "pf_clock.h"
#include "pf_base.h"

#include <time.h>

/* The clock that the core reads here. */

static struct timespec shown;
static int             broken;

int
clock_gettime( clockid_t which, struct timespec *now ) {
  *now = which == CLOCK_REALTIME ? shown : ( struct timespec ){ 7, 7 };
  return broken;
}

static void
show( int64_t seconds, long ns ) {
  shown.tv_sec  = (time_t)seconds;
  shown.tv_nsec = ns;
}

static void
test_now( void ) {
  show( 0, 0 );
  CHECK( pf_now() == 0 );
  show( 1749223343, 149000000 );
  CHECK( pf_now() == INT64_C( 1749223343149 ) );
  show( 1749223343, 999999999 );
  CHECK( pf_now() == INT64_C( 1749223343999 ) );
  show( -1, 999000000 ); /* before 1970: -1 ms would be another error */
  CHECK( pf_now() == PF_ERR_CLOCK );
  show( 1749223343, 149000000 );
  broken = -1;
  CHECK( pf_now() == PF_ERR_CLOCK );
  CHECK( pf_timestamp( &pf_clock_uncorrected, 0 ) == PF_ERR_CLOCK );
  CHECK( pf_timestamp( &pf_clock_uncorrected, 5 ) == 5 );
  broken = 0;
}

static void
test_timestamps( void ) {
  pf_clock clock = { 0 };
  show( 1000, 0 );
  CHECK( pf_clock_correction( &pf_clock_uncorrected ) == 0 );
  CHECK( pf_timestamp( &pf_clock_uncorrected, 0 ) == 1000000 );
  CHECK( pf_timestamp( &clock, 1 ) == 1 );
  CHECK( pf_timestamp( &clock, INT64_MAX ) == INT64_MAX );
  CHECK( pf_timestamp( &clock, -1 ) == PF_ERR_ARGUMENT );
  CHECK( pf_timestamp( &clock, INT64_MIN ) == PF_ERR_ARGUMENT );
  CHECK( pf_clock_correct( &clock, 250 ) == PF_OK );
  CHECK( pf_timestamp( &clock, 0 ) == 1000250 );
  CHECK( pf_timestamp( &clock, 3 ) == 3 ); /* the caller's own */
  show( 0, 0 );
  CHECK( pf_timestamp( &clock, 0 ) == 250 );
  show( 1000, 0 );
  CHECK( pf_clock_correct( &clock, -1000000 ) == PF_OK );
  CHECK( pf_timestamp( &clock, 0 ) == 0 );
  CHECK( pf_clock_correct( &clock, -1000001 ) == PF_OK );
  CHECK( pf_timestamp( &clock, 0 ) == PF_ERR_CLOCK );
}

static void
test_limits( void ) {
  pf_clock clock = { 0 };
  CHECK( pf_clock_correct( &clock, PF_CORRECTION_MAX ) == PF_OK );
  CHECK( pf_clock_correction( &clock ) == PF_CORRECTION_MAX );
  CHECK( pf_clock_correct( &clock, -PF_CORRECTION_MAX ) == PF_OK );
  CHECK( pf_clock_correction( &clock ) == -PF_CORRECTION_MAX );
  CHECK( pf_clock_correct( &clock, PF_CORRECTION_MAX + 1 ) == PF_ERR_ARGUMENT );
  CHECK( pf_clock_correct( &clock, -PF_CORRECTION_MAX - 1 ) == PF_ERR_ARGUMENT );
  CHECK( pf_clock_correct( &clock, INT64_MAX ) == PF_ERR_ARGUMENT );
  CHECK( pf_clock_correct( &clock, INT64_MIN ) == PF_ERR_ARGUMENT );
  CHECK( pf_clock_correction( &clock ) == -PF_CORRECTION_MAX ); /* as it was */
}

int
main( void ) {
  test_now();
  test_timestamps();
  test_limits();
  puts( "test_clock: ok" );
  return 0;
}
