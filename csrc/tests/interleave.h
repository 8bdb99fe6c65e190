/* SPDX-License-Identifier: MIT */
#ifndef PF_TESTS_INTERLEAVE_H
#define PF_TESTS_INTERLEAVE_H

/* interleave.h: what PF_INTERLEAVE() is in tests that want to see threads
   come between.  Included first of all, from the command line. */

#if !defined( _GNU_SOURCE )
#define _GNU_SOURCE
#endif

#include <sched.h>
#include <stdint.h>
#include <time.h>

static inline void
check_interleave( void ) {
  static _Thread_local uint32_t state            = 1;
  struct timespec const         while_others_run = { 0, 20000 };
  state                                          = state * UINT32_C( 1664525 ) + UINT32_C( 1013904223 );
  if( state >> 30 == 0 ) {
    (void)sched_yield();
  }
  if( state >> 27 == 31 ) {
    (void)nanosleep( &while_others_run, NULL );
  }
}

#endif /* PF_TESTS_INTERLEAVE_H */
