/* SPDX-License-Identifier: MIT */
#include "pf_nonce.h"

#include "pf_clock.h"
#include "pf_gate.h"
#include "pf_pages.h"

#include <stdatomic.h>

/* The proof of this file (csrc/tests/proof) lets other threads in where
   it hurts most. */

#if !defined( PF_INTERLEAVE )
#define PF_INTERLEAVE() ( (void)0 )
#endif

#define NS_PER_MS 1000000
#define DRIFT_MAX_NS ( (int64_t)1000 * NS_PER_MS ) /* NTP slews 0.5 ms a second; steps and resumes are larger */
#define CLAIM_TRIES 8                              /* slots looked at before a call signs deterministically */
#define POOLS_MAX 4096

enum { EMPTY, FILLING, READY, CLAIMED };

typedef struct {
  int64_t monotonic;
  int64_t realtime;
} moment; /* in ns */

/* sum is where S comes into being: k·a alone would give the key away. */

typedef struct {
  uint8_t r[PF_SCALAR_SZ];
  uint8_t point[32]; /* R */
  uint8_t sum[64];
} nonce_secrets;

typedef struct {
  _Alignas( 64 ) _Atomic( uint32_t ) state;
  _Atomic( int64_t ) monotonic; /* when it was made, in ns */
  _Atomic( int64_t ) realtime;
  nonce_secrets      secret;
} nonce;

/* The first cache line is what signing touches, the second what filling
   does. */

typedef struct {
  _Alignas( 64 ) pf_gate gate;
  uint64_t            key_generation;
  int64_t             max_age; /* ns */
  uint32_t            size;    /* slots */
  _Atomic( uint32_t ) next_claim;
  _Atomic( uint32_t ) empty; /* slots to fill, and being filled */
  _Atomic( uint64_t ) prepared;
  _Atomic( uint64_t ) deterministic;
  _Alignas( 64 ) _Atomic( uint32_t ) filling; /* 1: a thread is making a nonce */
  uint32_t            next_fill;              /* the slot longest empty; if none is empty, the oldest nonce */
  uint64_t            counter;                /* of the hash that makes nonces */
  _Atomic( uint64_t ) refilled;
  _Atomic( uint64_t ) burnt;
  uint8_t             hash_input[256]; /* of whoever is filling */
  uint8_t             hash[PF_SHA512_SZ];
  nonce               slots[];
} pool;

static pf_pages    places[POOLS_MAX];
static atomic_uint place_count;

static int
read_clocks( moment *now ) {
  int const rc = pf_monotonic( &now->monotonic );
  return rc == PF_OK ? pf_realtime( &now->realtime ) : rc;
}

/* is_zero takes the same time whatever the bytes are, but for telling
   the answer.  One byte after the other: a vector register would keep
   half of a nonce, and whoever saves registers next (a signal, the dynamic
   linker) would write it to the stack. */

static int
is_zero( const volatile uint8_t *bytes, size_t n ) {
  uint8_t any = 0;
  for( size_t i = 0; i < n; i++ ) {
    any |= bytes[i];
  }
  int zero = any == 0;
  PF_DECLASSIFY( &zero, sizeof( zero ) );
  return zero;
}

/* Finding a place.  Mappings come in powers of two, and last: a pool
   takes one of its size that is free, or makes one more.  A free one is
   all zeros, unless a call left something in it that its process was
   forked in the middle of, and that came back in the child. */

static size_t
mapping_sz( size_t slots ) {
  size_t const needed = sizeof( pool ) + slots * sizeof( nonce );
  size_t       sz     = pf_page_sz();
  while( sz < needed ) {
    sz *= 2;
  }
  return sz;
}

static pool *
pool_at( pf_pages *place ) {
  pf_pages_current( place );
  return (pool *)(void *)place->start;
}

static void
wipe( pool *p, size_t sz ) {
  pf_wipe( (uint8_t *)p + sizeof( p->gate ), sz - sizeof( p->gate ) );
}

static pf_pages *
take_free_place( size_t sz, uint64_t generation ) {
  unsigned const count = atomic_load_explicit( &place_count, memory_order_acquire );
  for( unsigned i = 0; i < count; i++ ) {
    if( places[i].sz != sz ) {
      continue;
    }
    pool *p = pool_at( &places[i] );
    if( pf_gate_take( &p->gate, generation ) ) {
      wipe( p, sz );
      return &places[i];
    }
  }
  return NULL;
}

static pf_pages *
take_new_place( size_t sz, uint64_t generation ) {
  pf_pages *place = NULL;
  pf_pages_lock();
  unsigned const count = atomic_load( &place_count );
  if( count < POOLS_MAX && pf_pages_map( &places[count], sz ) == PF_OK ) {
    place = &places[count];
    (void)pf_gate_take( &pool_at( place )->gate, generation );
    atomic_store_explicit( &place_count, count + 1, memory_order_release );
  }
  pf_pages_unlock();
  return place;
}

static int
can_prepare( const pf_sodium *sodium ) {
  return sodium && sodium->scalar_reduce && sodium->scalar_mul && sodium->scalarmult_base_noclamp &&
         sodium->sodium_add;
}

int
pf_pool_open( pf_pool *handle, size_t size, int64_t max_age_ms, uint64_t key_generation ) {
  if( !can_prepare( pf_sodium_table() ) ) {
    return PF_ERR_UNBOUND;
  }
  if( size < 1 || size > PF_NONCES_MAX || max_age_ms < 1 || max_age_ms > INT64_MAX / NS_PER_MS ||
      !key_generation ) {
    return PF_ERR_ARGUMENT;
  }
  uint64_t const generation = pf_gate_next();
  size_t const   sz         = mapping_sz( size );
  pf_pages      *place      = take_free_place( sz, generation );
  if( !place ) {
    place = take_new_place( sz, generation );
  }
  if( !place ) {
    return PF_ERR_MEMORY;
  }
  pool *p           = pool_at( place );
  p->key_generation = key_generation;
  p->max_age        = max_age_ms * NS_PER_MS;
  p->size           = (uint32_t)size;
  atomic_store( &p->empty, (uint32_t)size );
  if( !pf_gate_open( &p->gate, generation ) ) {
    return PF_ERR_CLOSED;
  }
  handle->place      = place;
  handle->generation = generation;
  return PF_OK;
}

static pool *
enter( const pf_pool *handle ) {
  if( PF_UNLIKELY( !handle->place || !handle->generation ) ) {
    return NULL;
  }
  pool *p = pool_at( handle->place );
  return pf_gate_enter( &p->gate, handle->generation ) ? p : NULL;
}

static int
leave( pool *p, const pf_pool *handle ) {
  return pf_gate_leave( &p->gate, handle->generation ) ? PF_OK : PF_ERR_CLOSED;
}

int
pf_pool_close( const pf_pool *handle ) {
  if( !handle->place || !handle->generation ) {
    return PF_ERR_CLOSED;
  }
  pf_pages *place = handle->place;
  pool     *p     = pool_at( place );
  int const rc    = pf_gate_shut( &p->gate, handle->generation );
  if( rc == PF_OK ) {
    wipe( p, place->sz );
    pf_gate_free( &p->gate );
  }
  return rc;
}

/* The life of a nonce. */

static void
empty_slot( pool *p, nonce *n ) {
  PF_INTERLEAVE();
  pf_wipe( &n->secret, sizeof( n->secret ) );
  PF_INTERLEAVE();
  atomic_store_explicit( &n->state, EMPTY, memory_order_release );
  atomic_fetch_add_explicit( &p->empty, 1, memory_order_relaxed );
}

static int
step( nonce *n, uint32_t from, uint32_t to ) {
  return atomic_compare_exchange_strong_explicit( &n->state, &from, to, memory_order_acq_rel,
                                                  memory_order_relaxed );
}

static int
is_fresh( const pool *p, const nonce *n, const moment *now ) {
  int64_t const age     = now->monotonic - atomic_load_explicit( &n->monotonic, memory_order_relaxed );
  int64_t const elapsed = now->realtime - atomic_load_explicit( &n->realtime, memory_order_relaxed );
  int64_t const drift   = elapsed - age;
  return age >= 0 && age <= p->max_age && drift <= DRIFT_MAX_NS && drift >= -DRIFT_MAX_NS;
}

static void
burn( pool *p, nonce *n ) {
  empty_slot( p, n );
  atomic_fetch_add_explicit( &p->burnt, 1, memory_order_relaxed );
}

static nonce *
slot_after( pool *p, uint32_t first, uint32_t offset ) {
  uint32_t const index = first + offset; /* both below size, size at most 2^16 */
  return &p->slots[index < p->size ? index : index - p->size];
}

static uint32_t
index_after( const pool *p, const nonce *n ) {
  uint32_t const next = (uint32_t)( n - p->slots ) + 1;
  return next < p->size ? next : 0;
}

/* claim finds a nonce for the caller alone.  Where it starts to look is
   only a hint; whose the nonce is, is decided by its state. */

static nonce *
claim( pool *p, const moment *now ) {
  uint32_t const first = atomic_load_explicit( &p->next_claim, memory_order_relaxed );
  uint32_t const tries = p->size < CLAIM_TRIES ? p->size : CLAIM_TRIES;
  uint32_t       hint  = first;
  for( uint32_t i = 0; i < tries; i++ ) {
    nonce *n = slot_after( p, first, i );
    if( !step( n, READY, CLAIMED ) ) {
      continue;
    }
    PF_INTERLEAVE();
    /* Only if nobody else moved it: a slow thread must not turn it back. */
    uint32_t const next = index_after( p, n );
    if( atomic_compare_exchange_strong_explicit( &p->next_claim, &hint, next, memory_order_relaxed,
                                                 memory_order_relaxed ) ) {
      hint = next;
    }
    if( PF_LIKELY( is_fresh( p, n, now ) ) ) {
      return n;
    }
    burn( p, n );
  }
  return NULL;
}

/* Through the gate: whoever closes the pool wipes what is read here. */

void
pf_nonce_prefetch( const pf_pool *handle ) {
  pool *p = enter( handle );
  if( PF_LIKELY( p != NULL ) ) {
    const nonce *n = slot_after( p, atomic_load_explicit( &p->next_claim, memory_order_relaxed ), 0 );
    PF_PREFETCH( n );
    PF_PREFETCH( (const uint8_t *)n + 64 );
    PF_PREFETCH( (const uint8_t *)n + 128 );
    (void)leave( p, handle );
  }
}

/* Filling. */

static void
put( uint8_t **at, const void *bytes, size_t n ) {
  memcpy( *at, bytes, n );
  *at += n;
}

/* draw_r writes a fresh scalar to r; see pf_nonce.h for what it is made
   of. */

static int
draw_r( pool *p, uint8_t r[PF_SCALAR_SZ], const pf_expanded *key, const pf_pool *handle, const moment *now ) {
  static const char label[] = "pacifica_fast: prepared Ed25519 nonce";
  const pf_sodium  *sodium  = pf_sodium_table();
  int64_t const     pid     = pf_process_id();
  uint8_t          *at      = p->hash_input; /* zeros, up to the key prefix */
  _Static_assert( sizeof( label ) + 32 <= 128, "label and random bytes fit one block" );
  put( &at, label, sizeof( label ) );
  sodium->randombytes( at, 32 );
  at = p->hash_input + 128;
  put( &at, key->prefix, PF_PREFIX_SZ );
  put( &at, &pid, sizeof( pid ) );
  put( &at, now, sizeof( *now ) );
  put( &at, &handle->generation, sizeof( handle->generation ) );
  put( &at, &p->counter, sizeof( p->counter ) );
  p->counter++;
  int const failed = sodium->crypto_hash_sha512( p->hash, p->hash_input, (size_t)( at - p->hash_input ) );
  if( !failed ) {
    sodium->scalar_reduce( r, p->hash );
  }
  pf_wipe( p->hash_input, sizeof( p->hash_input ) );
  pf_wipe( p->hash, sizeof( p->hash ) );
  return failed ? PF_ERR_SODIUM : PF_OK;
}

static int
fill( pool *p, nonce *n, const pf_expanded *key, const pf_pool *handle, const moment *now ) {
  nonce_secrets *s  = &n->secret;
  int            rc = draw_r( p, s->r, key, handle, now );
  if( rc == PF_OK ) {
    /* libsodium uses its output as room for r: hence not into `point`.
       That it fails tells that r is 0, which it is not. */
    int failed = pf_sodium_table()->scalarmult_base_noclamp( p->hash, s->r );
    PF_DECLASSIFY( &failed, sizeof( failed ) );
    rc = failed || is_zero( s->r, sizeof( s->r ) ) ? PF_ERR_SODIUM : PF_OK;
  }
  pf_sodium_wipe_stack();
  memcpy( s->point, p->hash, sizeof( s->point ) );
  PF_DECLASSIFY( s->point, sizeof( s->point ) );
  pf_wipe( p->hash, sizeof( p->hash ) );
  atomic_store_explicit( &n->monotonic, now->monotonic, memory_order_relaxed );
  atomic_store_explicit( &n->realtime, now->realtime, memory_order_relaxed );
  return rc;
}

/* slot_to_fill marks an empty slot as being filled; if there is none,
   but the oldest nonce is too old, that one's. */

static nonce *
slot_to_fill( pool *p, const moment *now ) {
  if( !atomic_load_explicit( &p->empty, memory_order_relaxed ) ) {
    nonce *oldest = &p->slots[p->next_fill];
    if( is_fresh( p, oldest, now ) || !step( oldest, READY, CLAIMED ) ) {
      return NULL;
    }
    burn( p, oldest );
  }
  for( uint32_t i = 0; i < p->size; i++ ) {
    nonce *n = slot_after( p, p->next_fill, i );
    if( step( n, EMPTY, FILLING ) ) {
      p->next_fill = index_after( p, n );
      return n;
    }
  }
  return NULL;
}

static int
prepare( pool *p, const pf_expanded *key, const pf_pool *handle ) {
  moment now;
  int    rc = read_clocks( &now );
  if( rc != PF_OK ) {
    return rc;
  }
  nonce *n = slot_to_fill( p, &now );
  if( !n ) {
    return 0;
  }
  PF_INTERLEAVE();
  rc = fill( p, n, key, handle, &now );
  PF_INTERLEAVE();
  atomic_fetch_add_explicit( &p->refilled, rc == PF_OK, memory_order_relaxed );
  /* A slot that is not FILLING any more was wiped by a fork, in a signal
     handler.  What was written since may come from before it: r would be
     the parent's. */
  if( rc == PF_OK && !step( n, FILLING, READY ) ) {
    rc = PF_ERR_CLOSED;
  }
  if( rc != PF_OK ) {
    burn( p, n );
  }
  /* Not before: to whoever counts, a nonce in the making is none. */
  atomic_fetch_sub_explicit( &p->empty, 1, memory_order_relaxed );
  return rc == PF_OK ? 1 : rc;
}

int
pf_nonce_prepare( const pf_pool *handle, const pf_expanded *key ) {
  pool *p = enter( handle );
  if( !p ) {
    return PF_ERR_CLOSED;
  }
  int rc = 0;
  if( !atomic_exchange_explicit( &p->filling, 1U, memory_order_acquire ) ) {
    rc = prepare( p, key, handle );
    atomic_store_explicit( &p->filling, 0U, memory_order_release );
  }
  int const left = leave( p, handle );
  return left == PF_OK ? rc : left;
}

/* Signing.  R‖A‖M, which is hashed, is what stands in the caller's buffer
   when R and A are put where R and S will be. */

static int
sign_with( nonce_secrets     *s,
           const pf_expanded *key,
           const uint8_t      pubkey[PF_PUBKEY_SZ],
           uint8_t           *signed_message,
           size_t             len ) {
  const pf_sodium *sodium = pf_sodium_table();
  uint8_t          hash[PF_SHA512_SZ];
  uint8_t          k[PF_SCALAR_SZ];
  memcpy( signed_message, s->point, 32 );
  memcpy( signed_message + 32, pubkey, PF_PUBKEY_SZ );
  if( sodium->crypto_hash_sha512( hash, signed_message, PF_SIGNATURE_SZ + len ) != 0 ) {
    return PF_ERR_SODIUM;
  }
  sodium->scalar_reduce( k, hash );
  PF_INTERLEAVE();
  /* sodium_add and scalar_reduce of 64 bytes, because scalar_add would
     leave r on the stack.  k·a and r are below L: no carry. */
  sodium->scalar_mul( s->sum, k, key->scalar );
  sodium->sodium_add( s->sum, s->r, PF_SCALAR_SZ );
  sodium->scalar_reduce( signed_message + 32, s->sum );
  pf_sodium_wipe_scalars();
  PF_INTERLEAVE();
  /* A slot that was wiped meanwhile, by a fork in a signal handler, had
     no nonce to give: S would be k·a.  Zero now or never zero. */
  return is_zero( s->r, sizeof( s->r ) ) ? PF_ERR_NO_NONCE : PF_OK;
}

int
pf_nonce_sign( const pf_pool     *handle,
               uint64_t           key_generation,
               const pf_expanded *key,
               const uint8_t      pubkey[PF_PUBKEY_SZ],
               uint8_t           *signed_message,
               size_t             len ) {
  pool *p = enter( handle );
  if( PF_UNLIKELY( !p ) ) {
    return PF_ERR_CLOSED;
  }
  if( PF_UNLIKELY( p->key_generation != key_generation ) ) {
    (void)leave( p, handle );
    return PF_ERR_ARGUMENT;
  }
  moment now;
  nonce *n  = read_clocks( &now ) == PF_OK ? claim( p, &now ) : NULL;
  int    rc = PF_ERR_NO_NONCE;
  if( PF_LIKELY( n != NULL ) ) {
    rc = sign_with( &n->secret, key, pubkey, signed_message, len );
    PF_DECLASSIFY( signed_message, PF_SIGNATURE_SZ ); /* R and S: sent in every request, or wiped below */
    empty_slot( p, n );
  }
  atomic_fetch_add_explicit( rc == PF_OK ? &p->prepared : &p->deterministic, 1, memory_order_relaxed );
  int const left = leave( p, handle );
  rc             = left == PF_OK ? rc : left;
  if( PF_UNLIKELY( rc != PF_OK ) ) {
    pf_wipe( signed_message, PF_SIGNATURE_SZ );
  }
  return rc;
}

int
pf_pool_count( const pf_pool *handle, pf_pool_stats *stats ) {
  pool *p = enter( handle );
  if( !p ) {
    return PF_ERR_CLOSED;
  }
  stats->prepared      = atomic_load( &p->prepared );
  stats->deterministic = atomic_load( &p->deterministic );
  stats->refilled      = atomic_load( &p->refilled );
  stats->burnt         = atomic_load( &p->burnt );
  /* A nonce that is used before `empty` is told that it was ready. */
  uint32_t const empty = atomic_load( &p->empty );
  stats->ready         = empty < p->size ? p->size - empty : 0;
  return leave( p, handle );
}
