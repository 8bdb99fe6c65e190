/* SPDX-License-Identifier: MIT */
#include "pf_signer.h"

#include "pf_gate.h"
#include "pf_pages.h"
#include "pf_thread.h"

#include <stdatomic.h>

#define SLOT_SZ 256
#define SLOTS_PER_CHUNK 16 /* one 4 KiB page: RLIMIT_MEMLOCK is often small */
#define CHUNKS_MAX 4096

typedef struct {
  pf_gate     gate;
  uint8_t     pair[PF_PAIR_SZ];
  pf_expanded expanded; /* for prepared nonces */
  uint8_t     room[SLOT_SZ - sizeof( pf_gate ) - PF_PAIR_SZ - sizeof( pf_expanded )];
} key_slot;

_Static_assert( sizeof( key_slot ) == SLOT_SZ, "a slot is SLOT_SZ bytes" );

/* What pf_pair_sign remembers: hashes of pairs found consistent. */

#define FINGERPRINT_SZ 32
#define FINGERPRINTS 16

typedef struct {
  atomic_uint lock;
  uint32_t    next; /* the oldest is replaced */
  uint8_t     fingerprint[FINGERPRINTS][FINGERPRINT_SZ];
} pair_memory;

static pf_pages    chunks[CHUNKS_MAX];
static atomic_uint chunk_count;
static atomic_uint some_chunk_survives_fork; /* 1: the kernel does not wipe all of them */
static pf_pages    memory_pages;

/* add_chunk maps one more page of slots, unless another thread has just
   done so: `seen` is how many chunks had no free slot. */

static int
add_chunk( unsigned seen ) {
  int rc = PF_OK;
  pf_pages_lock();
  if( atomic_load( &chunk_count ) == seen ) {
    rc = seen < CHUNKS_MAX ? pf_pages_map( &chunks[seen], (size_t)SLOT_SZ * SLOTS_PER_CHUNK ) : PF_ERR_MEMORY;
    if( rc == PF_OK ) {
      if( !chunks[seen].wiped_on_fork ) {
        atomic_store( &some_chunk_survives_fork, 1U );
      }
      atomic_store_explicit( &chunk_count, seen + 1, memory_order_release );
    }
  }
  pf_pages_unlock();
  return rc;
}

int
pf_signer_open( void ) {
  int rc = PF_OK;
  pf_pages_lock();
  if( !memory_pages.start ) {
    rc = pf_pages_map( &memory_pages, sizeof( pair_memory ) );
  }
  pf_pages_unlock();
  if( rc == PF_OK && !atomic_load( &chunk_count ) ) {
    rc = add_chunk( 0 );
  }
  return rc;
}

/* take_slot finds a free slot and marks it as opening. */

static key_slot *
take_slot( uint64_t generation ) {
  for( unsigned c = 0; c < CHUNKS_MAX; c++ ) {
    if( c == atomic_load_explicit( &chunk_count, memory_order_acquire ) && add_chunk( c ) != PF_OK ) {
      return NULL;
    }
    pf_pages_current( &chunks[c] );
    key_slot *slots = (key_slot *)(void *)chunks[c].start;
    for( size_t i = 0; i < SLOTS_PER_CHUNK; i++ ) {
      if( pf_gate_take( &slots[i].gate, generation ) ) {
        return &slots[i];
      }
    }
  }
  return NULL;
}

/* free_slot wipes first: a free slot is all zeros. */

static void
free_slot( key_slot *slot ) {
  pf_wipe( slot->pair, sizeof( *slot ) - offsetof( key_slot, pair ) );
  pf_gate_free( &slot->gate );
}

/* expand is RFC 8032, section 5.1.5, steps 1 and 2. */

static int
expand( pf_expanded *expanded, const uint8_t seed[PF_SEED_SZ] ) {
  _Static_assert( sizeof( *expanded ) == PF_SHA512_SZ, "scalar and prefix are the halves of a hash" );
  int const failed = pf_sodium_table()->crypto_hash_sha512( expanded->scalar, seed, PF_SEED_SZ );
  expanded->scalar[0] &= 248;
  expanded->scalar[31] &= 127;
  expanded->scalar[31] |= 64;
  return failed;
}

int
pf_key_open( pf_key *key, uint8_t pubkey[PF_PUBKEY_SZ], const uint8_t *seed ) {
  const pf_sodium *sodium = pf_sodium_table();
  if( !sodium || !atomic_load( &chunk_count ) ) {
    return PF_ERR_UNBOUND;
  }
  uint64_t const generation = pf_gate_next();
  key_slot      *slot       = take_slot( generation );
  if( !slot ) {
    return PF_ERR_MEMORY;
  }
  /* The random seed is drawn where it stays; libsodium reads the seed
     before it writes the pair, but does not promise to. */
  uint8_t *own_seed = slot->room;
  if( seed ) {
    memcpy( own_seed, seed, PF_SEED_SZ );
  } else {
    sodium->randombytes( own_seed, PF_SEED_SZ );
  }
  int const failed =
      sodium->crypto_sign_seed_keypair( pubkey, slot->pair, own_seed ) || expand( &slot->expanded, own_seed );
  pf_sodium_wipe_stack();
  pf_wipe( own_seed, PF_SEED_SZ );
  /* The public key is what the exchange knows the account by. */
  PF_DECLASSIFY( pubkey, PF_PUBKEY_SZ );
  PF_DECLASSIFY( slot->pair + PF_SEED_SZ, PF_PUBKEY_SZ );
  if( failed ) {
    free_slot( slot );
    return PF_ERR_SODIUM;
  }
  if( !pf_gate_open( &slot->gate, generation ) ) {
    pf_wipe( slot->pair, sizeof( *slot ) - offsetof( key_slot, pair ) );
    return PF_ERR_CLOSED;
  }
  key->slot       = slot;
  key->generation = generation;
  return PF_OK;
}

/* own_pages does for slots what pf_pages_current does, where the kernel
   does not wipe: which chunk the slot is in is known from its address. */

static void
own_pages( const key_slot *slot ) {
  if( PF_LIKELY( !atomic_load_explicit( &some_chunk_survives_fork, memory_order_relaxed ) ) ) {
    return;
  }
  for( unsigned c = 0; c < atomic_load( &chunk_count ); c++ ) {
    if( (uintptr_t)slot - (uintptr_t)chunks[c].start < chunks[c].sz ) {
      pf_pages_current( &chunks[c] );
    }
  }
}

static key_slot *
enter( const pf_key *key ) {
  key_slot *slot = key->slot;
  if( PF_UNLIKELY( !slot || !key->generation ) ) { /* generation 0 is a free slot's */
    return NULL;
  }
  own_pages( slot );
  return pf_gate_enter( &slot->gate, key->generation ) ? slot : NULL;
}

/* leave passes rc on, unless a fork took the key away meanwhile: then the
   signature is wiped.  Half of it was made with the key, half with zeros,
   and the parent may be giving away the other half. */

static int
leave( const pf_key *key, uint8_t *signed_message, int rc ) {
  key_slot *slot = key->slot;
  if( PF_LIKELY( pf_gate_leave( &slot->gate, key->generation ) ) ) {
    return rc;
  }
  pf_wipe( signed_message, PF_SIGNATURE_SZ );
  return PF_ERR_CLOSED;
}

int
pf_key_close( const pf_key *key ) {
  key_slot *slot = key->slot;
  if( !slot || !key->generation ) {
    return PF_ERR_CLOSED;
  }
  own_pages( slot );
  int const rc = pf_gate_shut( &slot->gate, key->generation );
  if( rc == PF_OK ) {
    free_slot( slot );
  }
  return rc;
}

static int
sign_with_pair( const uint8_t *pair, uint8_t *signed_message, size_t len ) {
  unsigned long long signed_len;
  int const          failed = pf_sodium_table()->crypto_sign( signed_message, &signed_len,
                                                              signed_message + PF_SIGNATURE_SZ, len, pair );
  pf_sodium_wipe_stack();
  PF_DECLASSIFY( signed_message, PF_SIGNATURE_SZ ); /* R and S: sent in every request */
  return failed ? PF_ERR_SODIUM : PF_OK;
}

int
pf_key_sign( const pf_key *key, uint8_t *signed_message, size_t len ) {
  key_slot *slot = enter( key );
  if( PF_UNLIKELY( !slot ) ) {
    return PF_ERR_CLOSED;
  }
  return leave( key, signed_message, sign_with_pair( slot->pair, signed_message, len ) );
}

int
pf_key_sign_prepared( const pf_key *key, const pf_pool *pool, uint8_t *signed_message, size_t len ) {
  key_slot *slot = enter( key );
  if( PF_UNLIKELY( !slot ) ) {
    return PF_ERR_CLOSED;
  }
  int rc =
      pf_nonce_sign( pool, key->generation, &slot->expanded, slot->pair + PF_SEED_SZ, signed_message, len );
  if( rc == PF_ERR_NO_NONCE || rc == PF_ERR_CLOSED ) {
    rc = sign_with_pair( slot->pair, signed_message, len );
  }
  return leave( key, signed_message, rc );
}

void
pf_key_prefetch( const pf_key *key, const pf_pool *pool ) {
  const uint8_t *slot = key->slot;
  PF_PREFETCH( slot );
  PF_PREFETCH( slot + 64 );
  PF_PREFETCH( slot + 128 );
  if( pool ) {
    pf_nonce_prefetch( pool );
  }
}

int
pf_key_prepare( const pf_key *key, const pf_pool *pool ) {
  key_slot *slot = enter( key );
  if( !slot ) {
    return PF_ERR_CLOSED;
  }
  int const rc = pf_nonce_prepare( pool, &slot->expanded );
  return pf_gate_leave( &slot->gate, key->generation ) ? rc : PF_ERR_CLOSED;
}

/* Nobody wakes the refilling thread, because that would be a system call
   on somebody's hot path: it looks, more and more seldom while nothing
   happens. */

#define LOOK_OFTEN_NS 250000
#define LOOK_SELDOM_NS 8000000

int
pf_key_refill( const pf_key *key, const pf_pool *pool ) {
  long pause = LOOK_OFTEN_NS;
  for( ;; ) {
    int const rc = pf_key_prepare( key, pool );
    if( rc == PF_ERR_CLOSED ) {
      (void)pf_pool_close( pool );
      return PF_OK;
    }
    if( rc == 1 ) {
      pause = LOOK_OFTEN_NS;
      continue;
    }
    pf_thread_pause( pause );
    pause = pause < LOOK_SELDOM_NS ? 2 * pause : LOOK_SELDOM_NS;
  }
}

/* The label keeps this hash apart from RFC 8032's own hash of the seed.
   Label and pair fit one block of SHA-512, which has 111 bytes for them. */

static int
fingerprint_of( uint8_t fingerprint[FINGERPRINT_SZ], const uint8_t pair[PF_PAIR_SZ] ) {
  static const char label[] = "pacifica_fast: a pair that belongs together";
  uint8_t           input[sizeof( label ) + PF_PAIR_SZ];
  _Static_assert( sizeof( input ) <= 111, "one block of SHA-512" );
  uint8_t hash[PF_SHA512_SZ];
  memcpy( input, label, sizeof( label ) );
  memcpy( input + sizeof( label ), pair, PF_PAIR_SZ );
  int const failed = pf_sodium_table()->crypto_hash_sha512( hash, input, sizeof( input ) );
  memcpy( fingerprint, hash, FINGERPRINT_SZ );
  pf_wipe( input, sizeof( input ) );
  pf_wipe( hash, sizeof( hash ) );
  return failed ? PF_ERR_SODIUM : PF_OK;
}

/* difference is 0 only if the n bytes, a multiple of 8, are equal; its
   time tells nothing. */

static uint64_t
difference( const uint8_t *a, const uint8_t *b, size_t n ) {
  uint64_t d = 0;
  for( size_t i = 0; i < n; i += 8 ) {
    uint64_t x;
    uint64_t y;
    memcpy( &x, a + i, 8 );
    memcpy( &y, b + i, 8 );
    d |= x ^ y;
  }
  return d;
}

static pair_memory *
lock_memory( void ) {
  pf_pages_current( &memory_pages );
  pair_memory *memory = (pair_memory *)(void *)memory_pages.start;
  while( atomic_exchange_explicit( &memory->lock, 1U, memory_order_acquire ) ) {
    pf_thread_pause( 20000 );
  }
  return memory;
}

static int
is_remembered( const uint8_t fingerprint[FINGERPRINT_SZ] ) {
  pair_memory *memory = lock_memory();
  unsigned     found  = 0;
  for( size_t i = 0; i < FINGERPRINTS; i++ ) {
    found |= difference( memory->fingerprint[i], fingerprint, FINGERPRINT_SZ ) == 0;
  }
  atomic_store_explicit( &memory->lock, 0U, memory_order_release );
  PF_DECLASSIFY( &found, sizeof( found ) ); /* that this pair signed before */
  return (int)found;
}

static void
remember( const uint8_t fingerprint[FINGERPRINT_SZ] ) {
  pair_memory *memory = lock_memory();
  memcpy( memory->fingerprint[memory->next], fingerprint, FINGERPRINT_SZ );
  memory->next = ( memory->next + 1 ) % FINGERPRINTS;
  atomic_store_explicit( &memory->lock, 0U, memory_order_release );
}

static int
derive_and_compare( const uint8_t pair[PF_PAIR_SZ] ) {
  uint8_t   pubkey[PF_PUBKEY_SZ];
  uint8_t   derived[PF_PAIR_SZ];
  int       rc     = PF_ERR_SODIUM;
  int const failed = pf_sodium_table()->crypto_sign_seed_keypair( pubkey, derived, pair );
  if( !failed ) {
    uint64_t different = difference( derived, pair, PF_PAIR_SZ ) != 0;
    PF_DECLASSIFY( &different, sizeof( different ) ); /* which the return code says */
    rc = different ? PF_ERR_MISMATCH : PF_OK;
  }
  pf_wipe( derived, sizeof( derived ) );
  return rc;
}

static int
check_pair( const uint8_t pair[PF_PAIR_SZ] ) {
  uint8_t fingerprint[FINGERPRINT_SZ];
  int     rc = fingerprint_of( fingerprint, pair );
  if( rc == PF_OK && !is_remembered( fingerprint ) ) {
    rc = derive_and_compare( pair );
    if( rc == PF_OK ) {
      remember( fingerprint );
    }
  }
  pf_wipe( fingerprint, sizeof( fingerprint ) );
  return rc;
}

int
pf_pair_sign( const uint8_t pair[PF_PAIR_SZ], uint8_t *signed_message, size_t len ) {
  if( !pf_sodium_table() || !memory_pages.start ) {
    return PF_ERR_UNBOUND;
  }
  int const rc = check_pair( pair );
  if( rc == PF_OK ) {
    return sign_with_pair( pair, signed_message, len );
  }
  pf_sodium_wipe_stack(); /* the derivation left digits of the scalar */
  return rc;
}
