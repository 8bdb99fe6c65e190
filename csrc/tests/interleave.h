/* SPDX-License-Identifier: MIT */
#ifndef PF_TESTS_INTERLEAVE_H
#define PF_TESTS_INTERLEAVE_H

/* interleave.h: in tests that want to see threads come between, the core
   calls check_interleave(), which the test defines, where it hurts most.
   Included first of all, from the command line. */

void check_interleave( void );

#endif /* PF_TESTS_INTERLEAVE_H */
