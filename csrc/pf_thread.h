/* SPDX-License-Identifier: MIT */
#ifndef PF_THREAD_H
#define PF_THREAD_H

/* pf_thread.h: what threads do between their work, on every system. */

#include <stdint.h>

/* pf_thread_pause sleeps for ns, less than a second; a signal may end it
   early. */

void pf_thread_pause( long ns );

/* pf_thread_step_aside lets another thread run, if one wants to. */

void pf_thread_step_aside( void );

/* pf_thread_yield_to_others makes the calling thread, and it alone, give
   way to every other one that wants a core: nice 19, where threads have
   a niceness of their own (Linux), the lowest priority on Windows.  For threads made for background
   work: there is no way back without privileges. */

void pf_thread_yield_to_others( void );

#endif /* PF_THREAD_H */
