/* SPDX-License-Identifier: MIT */
#include "pf_gate.h"

#include "pf_thread.h"

#define PAUSE_NS 20000

static _Atomic( uint64_t ) last_generation;

uint64_t
pf_gate_next( void ) {
  return atomic_fetch_add( &last_generation, 1 ) + 1;
}

int
pf_gate_shut( pf_gate *g, uint64_t generation ) {
  uint64_t word = atomic_load( &g->word );
  do {
    if( !pf_gate_is_open( word, generation ) ) {
      while( atomic_load( &g->word ) >> PF_GATE_GENERATION_SHIFT == generation ) {
        pf_thread_pause( PAUSE_NS ); /* another thread is closing it */
      }
      return PF_ERR_CLOSED;
    }
  } while( !atomic_compare_exchange_weak( &g->word, &word, word | PF_GATE_CLOSING ) );

  while( atomic_load_explicit( &g->word, memory_order_acquire ) & PF_GATE_CALLS ) {
    pf_thread_pause( PAUSE_NS );
  }
  return PF_OK;
}
