/* SPDX-License-Identifier: MIT */
/* ctgrind.c: no branch and no index depends on a secret.

   valgrind's memcheck reports every branch and every address that depends
   on undefined bytes.  So secrets are called undefined here: seed and
   expanded key in their slot, and the randomness of nonces.  What may be
   known is called defined again: R and S, and return codes.  Signing,
   with a nonce of RFC 8032 and with a prepared one, and making nonces
   must then raise no error; a branch and an index of our own, on the
   same bytes, must each raise one, or nothing is shown.

   tests/ctgrind builds this and the core, with PF_DECLASSIFY, into a
   shared library, and drives it under valgrind with PyNaCl's libsodium. */

#include "pf_nonce.h"
#include "pf_signer.h"

#include <stdio.h>
#include <valgrind/memcheck.h>

#define MESSAGES 20
#define MESSAGE_MAX 300
#define NONCES 4

/* Where secrets are: pf_signer.c, key_slot. */
#define SEED_AT 8
#define EXPANDED_AT ( SEED_AT + PF_PAIR_SZ )

static pf_sodium table;
static void ( *draw )( unsigned char *, unsigned long long );

static void
draw_secret( unsigned char *out, unsigned long long n ) {
  draw( out, n );
  (void)VALGRIND_MAKE_MEM_UNDEFINED( out, n );
}

static unsigned
errors_of( void ( *work )( const pf_key *, const pf_pool * ), const pf_key *key, const pf_pool *pool ) {
  unsigned const before = (unsigned)VALGRIND_COUNT_ERRORS;
  work( key, pool );
  return (unsigned)VALGRIND_COUNT_ERRORS - before;
}

typedef struct {
  uint8_t signature[PF_SIGNATURE_SZ];
  uint8_t message[MESSAGE_MAX];
} signed_message;

static void
deterministic( const pf_key *key, const pf_pool *pool ) {
  (void)pool;
  for( size_t i = 0; i < MESSAGES; i++ ) {
    signed_message s  = { { 0 }, { (uint8_t)i } };
    int            rc = pf_key_sign( key, (uint8_t *)&s, i * MESSAGE_MAX / MESSAGES );
    (void)VALGRIND_MAKE_MEM_DEFINED( &rc, sizeof( rc ) );
    (void)VALGRIND_MAKE_MEM_DEFINED( s.signature, sizeof( s.signature ) );
    if( rc != PF_OK ) {
      fprintf( stderr, "ctgrind: signing failed: %d\n", rc );
    }
  }
}

static void
making_nonces( const pf_key *key, const pf_pool *pool ) {
  while( pf_key_prepare( key, pool ) == 1 ) {
  }
}

static void
prepared( const pf_key *key, const pf_pool *pool ) {
  pf_pool_stats stats;
  for( size_t i = 0; i < NONCES; i++ ) {
    signed_message s  = { { 0 }, { (uint8_t)i } };
    int            rc = pf_key_sign_prepared( key, pool, (uint8_t *)&s, i * MESSAGE_MAX / NONCES );
    (void)VALGRIND_MAKE_MEM_DEFINED( &rc, sizeof( rc ) );
    (void)VALGRIND_MAKE_MEM_DEFINED( s.signature, sizeof( s.signature ) );
  }
  if( pf_pool_count( pool, &stats ) != PF_OK || stats.prepared % NONCES || !stats.prepared ) {
    fprintf( stderr, "ctgrind: not signed with prepared nonces\n" );
  }
}

static volatile uint32_t sink;

static void
a_branch( const pf_key *key, const pf_pool *pool ) {
  (void)pool;
  if( ( (const uint8_t *)key->slot )[SEED_AT] & 1 ) {
    sink = 1;
  }
}

static void
an_index( const pf_key *key, const pf_pool *pool ) {
  static uint32_t const squares[256] = { 0, 1, 4, 9 };
  (void)pool;
  sink = squares[( (const uint8_t *)key->slot )[EXPANDED_AT]];
}

/* pf_ctgrind prints one line for each piece of work, and returns 0 if it
   could do all of it.  functions has the addresses of libsodium's
   functions in the order of pf_sodium. */

__attribute__( ( visibility( "default" ) ) ) int
pf_ctgrind( void *const functions[8] ) {
  static struct {
    const char *name;
    void ( *work )( const pf_key *, const pf_pool * );
  } const works[] = {
      { "deterministic", deterministic }, { "nonces", making_nonces }, { "prepared", prepared },
      { "more nonces", making_nonces },   { "a branch", a_branch },    { "an index", an_index },
  };
  pf_key  key;
  pf_pool pool;
  uint8_t seed[PF_SEED_SZ] = { 7 };
  uint8_t pubkey[PF_PUBKEY_SZ];
  _Static_assert( sizeof( table ) == 8 * sizeof( void * ), "pf_sodium has eight functions" );
  memcpy( &table, functions, sizeof( table ) );
  draw              = table.randombytes;
  table.randombytes = draw_secret;
  if( !RUNNING_ON_VALGRIND || pf_sodium_set( &table ) != PF_OK || pf_signer_open() != PF_OK ||
      pf_key_open( &key, pubkey, seed ) != PF_OK ||
      pf_pool_open( &pool, NONCES, 60000, key.generation ) != PF_OK ) {
    return 1;
  }
  uint8_t *slot = key.slot;
  (void)VALGRIND_MAKE_MEM_UNDEFINED( slot + SEED_AT, PF_SEED_SZ );
  (void)VALGRIND_MAKE_MEM_UNDEFINED( slot + EXPANDED_AT, sizeof( pf_expanded ) );
  for( size_t i = 0; i < sizeof( works ) / sizeof( *works ); i++ ) {
    printf( "%s: %u\n", works[i].name, errors_of( works[i].work, &key, &pool ) );
  }
  fflush( stdout );
  return 0;
}
