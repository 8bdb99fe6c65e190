/* SPDX-License-Identifier: MIT */
#include "pf_random.h"

#include "pf_pages.h"
#include "pf_sodium.h"
#include "pf_thread.h"

#include <stdatomic.h>

#define POOL_SZ 2048
#define NUMBER_END ( (uint64_t)1 << 48 )

/* All zero means: nothing drawn yet, lock free.  So a fork, which zeroes
   it, needs no further care but in one place: a signal handler may fork in
   the middle of a call here, which then goes on in the child with nothing
   but zeros in the pool.  The lock that it holds is gone as well: that is
   how it knows, and begins anew. */

typedef struct {
  atomic_uint         lock;         /* of the pool, and of drawing the prefix */
  _Atomic( uint32_t ) left;         /* bytes of pool not yet handed out */
  _Atomic( uint64_t ) first_number; /* 0 until prefix and number are drawn */
  _Atomic( uint64_t ) next_number;
  char                prefix[PF_ID_PREFIX_LEN];
  uint8_t             pool[POOL_SZ];
} random_state;

static pf_pages pages;

int
pf_random_open( void ) {
  int rc = PF_OK;
  pf_pages_lock();
  if( !pages.start ) {
    rc = pf_pages_map( &pages, sizeof( random_state ) );
  }
  pf_pages_unlock();
  return rc;
}

/* state returns NULL before pf_random_open. */

static random_state *
state( void ) {
  if( PF_LIKELY( pages.start != NULL ) ) {
    pf_pages_current( &pages );
  }
  return (random_state *)(void *)pages.start;
}

static void
lock( random_state *s ) {
  while( atomic_exchange_explicit( &s->lock, 1U, memory_order_acquire ) ) {
    pf_thread_step_aside();
  }
}

/* unlock returns 0 if the lock was not held any more: nothing that was
   done under it counts, and nothing of it is left. */

static int
unlock( random_state *s ) {
  unsigned held = 1U;
  if( PF_LIKELY( atomic_compare_exchange_strong_explicit( &s->lock, &held, 0U, memory_order_release,
                                                          memory_order_relaxed ) ) ) {
    return 1;
  }
  pf_wipe( s, sizeof( *s ) );
  return 0;
}

/* take_locked copies from the end of the pool and wipes what it took.
   What is left is read once each time: it may become zero under us. */

static void
take_locked( random_state *s, const pf_sodium *sodium, uint8_t *out, size_t n ) {
  while( n ) {
    uint32_t left = atomic_load_explicit( &s->left, memory_order_relaxed );
    if( !left ) {
      sodium->randombytes( s->pool, POOL_SZ );
      left = POOL_SZ;
    }
    size_t const   now  = n < left ? n : left;
    uint8_t *const from = s->pool + ( left - now );
    memcpy( out, from, now );
    pf_wipe( from, now );
    atomic_store_explicit( &s->left, left - (uint32_t)now, memory_order_relaxed );
    out += now;
    n -= now;
  }
}

int
pf_random( void *out, size_t n ) {
  const pf_sodium *sodium = pf_sodium_table();
  random_state    *s      = state();
  if( PF_UNLIKELY( !sodium || !s ) ) {
    return PF_ERR_UNBOUND;
  }
  do {
    lock( s );
    take_locked( s, sodium, out, n );
  } while( PF_UNLIKELY( !unlock( s ) ) );
  return PF_OK;
}

static const char hex[] = "0123456789abcdef";

/* draw_ids_locked draws the random part of a UUID: version 4, variant 10
   (RFC 9562, section 5.4); and where numbers start.  40 bits make it as
   good as certain that a forked child takes none of its parent's numbers
   for its own, and leave more than 2^47 numbers. */

static void
draw_ids_locked( random_state *s, const pf_sodium *sodium ) {
  uint8_t  nibbles[PF_ID_PREFIX_LEN];
  uint64_t start;
  take_locked( s, sodium, nibbles, sizeof( nibbles ) );
  PF_DECLASSIFY( nibbles, sizeof( nibbles ) ); /* every request carries its id */
  for( size_t i = 0; i < PF_ID_PREFIX_LEN; i++ ) {
    s->prefix[i] = hex[nibbles[i] & 15];
  }
  s->prefix[8] = s->prefix[13] = s->prefix[18] = s->prefix[23] = '-';
  s->prefix[14]                                                = '4';
  s->prefix[19]                                                = "89ab"[nibbles[19] & 3];
  take_locked( s, sodium, (uint8_t *)&start, sizeof( start ) );
  PF_DECLASSIFY( &start, sizeof( start ) );
  start = ( start & ( ( (uint64_t)1 << 40 ) - 1 ) ) + 1; /* 0 means "no number" at the API */
  atomic_store( &s->next_number, start );
  atomic_store_explicit( &s->first_number, start, memory_order_release );
}

/* first_of_all returns the first number of this process, drawn if it was not yet. */

static uint64_t
first_of_all( random_state *s, const pf_sodium *sodium ) {
  uint64_t first;
  while( PF_UNLIKELY( !( first = atomic_load_explicit( &s->first_number, memory_order_acquire ) ) ) ) {
    lock( s );
    if( !atomic_load( &s->first_number ) ) {
      draw_ids_locked( s, sodium );
    }
    (void)unlock( s );
  }
  return first;
}

int
pf_id_reserve( uint64_t *first, uint64_t count ) {
  const pf_sodium *sodium = pf_sodium_table();
  random_state    *s      = state();
  if( PF_UNLIKELY( !sodium || !s ) ) {
    return PF_ERR_UNBOUND;
  }
  uint64_t next;
  uint64_t least;
  do {
    least = first_of_all( s, sodium );
    next  = atomic_load( &s->next_number );
    if( count < 1 || count >= NUMBER_END - next ) {
      return PF_ERR_ARGUMENT;
    }
  } while( next < least || !atomic_compare_exchange_weak( &s->next_number, &next, next + count ) );
  *first = next;
  return PF_OK;
}

int
pf_id_write( pf_writer *w, uint64_t number ) {
  random_state *s = state();
  if( PF_UNLIKELY( !s ) ) {
    return PF_ERR_UNBOUND;
  }
  uint64_t const first = atomic_load_explicit( &s->first_number, memory_order_acquire );
  uint64_t const next  = atomic_load_explicit( &s->next_number, memory_order_relaxed );
  if( PF_UNLIKELY( !first || number < first || number >= next ) ) {
    return PF_ERR_FORKED;
  }
  char *room = pf_reserve( w, PF_ID_LEN );
  if( PF_LIKELY( room != NULL ) ) {
    memcpy( room, s->prefix, PF_ID_PREFIX_LEN );
    for( size_t i = PF_ID_LEN; i > PF_ID_PREFIX_LEN; ) {
      room[--i] = hex[number & 15];
      number >>= 4;
    }
  }
  return PF_OK;
}
