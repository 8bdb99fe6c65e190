/* SPDX-License-Identifier: MIT */
#ifndef PF_GATE_H
#define PF_GATE_H

/* pf_gate.h: who may use a thing that is opened and closed, while others
   use it.  One atomic word holds the thing's generation, whether it is
   opening or closing, and the number of calls in flight, so that

   - a handle of a closed thing never reaches what took its place;
   - closing refuses new calls, and waits for those in flight;
   - in a forked child, which sees zeros (pf_pages.h), nothing is open.

   All zero: free.  So generation 0 is nobody's, and callers refuse it. */

#include "pf_base.h"

#include <stdatomic.h>

typedef struct {
  _Atomic( uint64_t ) word; /* generation << 24 | closing << 23 | opening << 22 | calls in flight */
} pf_gate;

#define PF_GATE_CALLS ( ( (uint64_t)1 << 22 ) - 1 )
#define PF_GATE_OPENING ( (uint64_t)1 << 22 )
#define PF_GATE_CLOSING ( (uint64_t)1 << 23 )
#define PF_GATE_GENERATION_SHIFT 24

/* pf_gate_next returns a generation that no gate of this process has
   had; never 0. */

uint64_t pf_gate_next( void );

/* pf_gate_take makes a free gate opening, for the caller alone to set up
   what is behind it.  Returns 1, or 0 if it was not free. */

static inline int
pf_gate_take( pf_gate *g, uint64_t generation ) {
  uint64_t       free_word = 0;
  uint64_t const opening   = generation << PF_GATE_GENERATION_SHIFT | PF_GATE_OPENING;
  return atomic_compare_exchange_strong( &g->word, &free_word, opening );
}

/* pf_gate_open lets calls in.  Returns 1, or 0 if a fork, in a signal
   handler, took away what was being set up: some of it is zeros then. */

static inline int
pf_gate_open( pf_gate *g, uint64_t generation ) {
  uint64_t opening = generation << PF_GATE_GENERATION_SHIFT | PF_GATE_OPENING;
  return atomic_compare_exchange_strong( &g->word, &opening, generation << PF_GATE_GENERATION_SHIFT );
}

/* pf_gate_free: what is behind it is wiped; whoever takes it next may
   have it. */

static inline void
pf_gate_free( pf_gate *g ) {
  atomic_store_explicit( &g->word, 0, memory_order_release );
}

static inline int
pf_gate_is_open( uint64_t word, uint64_t generation ) {
  return word >> PF_GATE_GENERATION_SHIFT == generation && !( word & ( PF_GATE_OPENING | PF_GATE_CLOSING ) );
}

/* pf_gate_enter returns 1 if the gate is open and of that generation;
   what is behind it then stays until pf_gate_leave.  Never waits. */

static inline int
pf_gate_enter( pf_gate *g, uint64_t generation ) {
  uint64_t word = atomic_load_explicit( &g->word, memory_order_acquire );
  do {
    if( PF_UNLIKELY( !pf_gate_is_open( word, generation ) || ( word & PF_GATE_CALLS ) == PF_GATE_CALLS ) ) {
      return 0;
    }
  } while( !atomic_compare_exchange_weak_explicit( &g->word, &word, word + 1, memory_order_acq_rel,
                                                   memory_order_acquire ) );
  return 1;
}

/* pf_gate_leave returns 1 if what is behind the gate was there all the
   time; 0 if a fork, in a signal handler, took it away meanwhile: nothing
   that came of it may be used then. */

static inline int
pf_gate_leave( pf_gate *g, uint64_t generation ) {
  uint64_t word = atomic_load_explicit( &g->word, memory_order_relaxed );
  do {
    if( PF_UNLIKELY( word >> PF_GATE_GENERATION_SHIFT != generation ) ) {
      return 0;
    }
  } while( !atomic_compare_exchange_weak_explicit( &g->word, &word, word - 1, memory_order_release,
                                                   memory_order_relaxed ) );
  return 1;
}

/* pf_gate_shut refuses new calls and waits for those in flight.  Returns
   PF_OK to the one who shut it, and who now wipes and frees; everybody
   else waits until that is done, and gets PF_ERR_CLOSED. */

int pf_gate_shut( pf_gate *g, uint64_t generation );

#endif /* PF_GATE_H */
