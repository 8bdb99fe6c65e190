/* SPDX-License-Identifier: MIT */
#if !defined( _GNU_SOURCE )
#define _GNU_SOURCE /* syscall */
#endif

#include "pf_thread.h"

#if defined( _WIN32 )

#include <windows.h>

/* Windows sleeps for whole ms, and often for 15 of them. */

void
pf_thread_pause( long ns ) {
  Sleep( ( (DWORD)ns + 999999 ) / 1000000 );
}

void
pf_thread_step_aside( void ) {
  (void)SwitchToThread();
}

void
pf_thread_yield_to_others( void ) {
  (void)SetThreadPriority( GetCurrentThread(), THREAD_PRIORITY_IDLE );
}

#else

#include <sched.h>
#include <time.h>

#if defined( __linux__ )
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

void
pf_thread_pause( long ns ) {
  struct timespec const pause = { 0, ns };
  (void)nanosleep( &pause, NULL );
}

void
pf_thread_step_aside( void ) {
  (void)sched_yield();
}

void
pf_thread_yield_to_others( void ) {
#if defined( __linux__ )
  /* POSIX says process, Linux means the thread of that number. */
  (void)setpriority( PRIO_PROCESS, (id_t)syscall( SYS_gettid ), 19 );
#endif
}

#endif
