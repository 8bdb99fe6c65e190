/* SPDX-License-Identifier: MIT */
#ifndef PF_TESTS_CLONE_H
#define PF_TESTS_CLONE_H

/* clone.h: a child that no fork handler knows of, so that each call in it
   finds out by itself.  Where clone() cannot be called behind libc's back
   it is an ordinary one.  Needs _GNU_SOURCE. */

#include "check.h"

#include <signal.h>
#include <sys/syscall.h>

static inline pid_t
clone_behind_libc( void ) {
#if defined( SYS_clone ) && ( defined( __x86_64__ ) || defined( __aarch64__ ) )
  pid_t const child = (pid_t)syscall( SYS_clone, (long)SIGCHLD, 0L, 0L, 0L, 0L );
#else
  pid_t const child = fork();
#endif
  CHECK( child >= 0 );
  return child;
}

#endif /* PF_TESTS_CLONE_H */
