/* SPDX-License-Identifier: MIT */
#ifndef PF_TESTS_INTERLEAVE_ANYWHERE_H
#define PF_TESTS_INTERLEAVE_ANYWHERE_H

/* interleave_anywhere.h: the check_interleave() of a program that wants no
   more than that other threads come between now and then.  Needs
   _GNU_SOURCE or _POSIX_C_SOURCE; for one source of a program. */

#include "interleave.h"

#include <sched.h>
#include <stdint.h>
#include <time.h>

void
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

#endif /* PF_TESTS_INTERLEAVE_ANYWHERE_H */
