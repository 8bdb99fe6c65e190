/* SPDX-License-Identifier: MIT */
#ifndef PF_TESTS_FAKE_SODIUM_H
#define PF_TESTS_FAKE_SODIUM_H

/* fake_sodium.h: stand-ins for libsodium's functions.  No cryptography:
   a deterministic mix of what goes in, so that a test can say what must
   come out.  What they add is suspicion: fake_sign looks at key and
   message again after a while, as crypto_sign does, and ends the test if
   either changed, or if the seed is all zero.  The real libsodium is
   tested from Python, through the real binding.

   Scalars are four numbers of 64 bits each, added and multiplied one by
   one; the point of a scalar is a hash of it. */

#include "check.h"

#include "pf_sodium.h"

#include <stdatomic.h>
#include <sys/random.h>

/* A seed of 32 such bytes makes no key pair.  All of them count: the
   tests draw seeds at random too, and one in 256 starts with any byte. */
#define FAKE_BROKEN_SEED 0xbb

static atomic_uint fake_signatures;
static atomic_uint fake_derivations;
static atomic_int  fake_signing_fails;

/* The buffer that was last filled in one large piece: pf_random's pool. */
static uint8_t *fake_pool;
static size_t   fake_pool_sz;

/* Called in the middle of every signature, if set. */
static void ( *_Atomic fake_while_signing )( void );

/* Called in the middle of every derivation of a key pair. */
static void ( *_Atomic fake_while_deriving )( void );

/* Called in the middle of every base multiplication, which fails if that
   is set; and before every multiplication of scalars, with where its
   product goes. */
static void ( *_Atomic fake_while_preparing )( void );
static void ( *_Atomic fake_while_multiplying )( uint8_t *product );
static atomic_int  fake_base_fails;
static atomic_uint fake_base_multiplications;

/* Called at the end of every drawing of random bytes. */
static void ( *_Atomic fake_while_drawing )( void );

/* 1: hashes fail; 1: scalars are reduced to zero. */
static atomic_int fake_hash_fails;
static atomic_int fake_reduces_to_zero;

/* The last input of a hash, where a test wants to see it. */
static uint8_t *fake_hashed;
static size_t   fake_hashed_len;

static inline uint64_t
fake_absorb( uint64_t state, const uint8_t *bytes, size_t n ) {
  for( size_t i = 0; i < n; i++ ) {
    state ^= bytes[i];
    state = check_mix( &state );
  }
  state ^= n;
  return check_mix( &state );
}

static inline void
fake_squeeze( uint64_t state, uint8_t *out, size_t n ) {
  check_fill( &state, out, n );
}

static inline void
fake_pubkey_of( uint8_t pubkey[PF_PUBKEY_SZ], const uint8_t *seed ) {
  fake_squeeze( fake_absorb( 1, seed, PF_SEED_SZ ), pubkey, PF_PUBKEY_SZ );
}

/* fake_signature_of is what fake_sign must produce. */

static inline void
fake_signature_of( uint8_t signature[PF_SIGNATURE_SZ], const uint8_t *seed, const void *message, size_t len ) {
  uint8_t pair[PF_PAIR_SZ];
  memcpy( pair, seed, PF_SEED_SZ );
  fake_pubkey_of( pair + PF_SEED_SZ, seed );
  fake_squeeze( fake_absorb( fake_absorb( 2, pair, PF_PAIR_SZ ), message, len ), signature, PF_SIGNATURE_SZ );
}

static inline int
fake_sign( unsigned char       *sm,
           unsigned long long  *sm_len,
           const unsigned char *m,
           unsigned long long   len,
           const unsigned char *pair ) {
  uint8_t pubkey[PF_PUBKEY_SZ];
  CHECK( m == sm + PF_SIGNATURE_SZ ); /* the no-copy way */
  CHECK( !check_all_zero( pair, PF_SEED_SZ ) );
  fake_pubkey_of( pubkey, pair );
  CHECK( memcmp( pubkey, pair + PF_SEED_SZ, PF_PUBKEY_SZ ) == 0 );

  uint64_t const first        = fake_absorb( fake_absorb( 2, pair, PF_PAIR_SZ ), m, (size_t)len );
  void ( *meanwhile )( void ) = atomic_load( &fake_while_signing );
  if( meanwhile ) {
    meanwhile();
  }
  uint64_t const second = fake_absorb( fake_absorb( 2, pair, PF_PAIR_SZ ), m, (size_t)len );
  CHECK( first == second );

  atomic_fetch_add( &fake_signatures, 1 );
  if( atomic_load( &fake_signing_fails ) ) {
    return -1;
  }
  fake_squeeze( second, sm, PF_SIGNATURE_SZ );
  *sm_len = len + PF_SIGNATURE_SZ;
  return 0;
}

static inline int
fake_broken( const unsigned char *seed ) {
  unsigned char broken[PF_SEED_SZ];
  memset( broken, FAKE_BROKEN_SEED, sizeof( broken ) );
  return memcmp( seed, broken, sizeof( broken ) ) == 0;
}

static inline int
fake_seed_keypair( unsigned char *pubkey, unsigned char *pair, const unsigned char *seed ) {
  void ( *meanwhile )( void ) = atomic_load( &fake_while_deriving );
  atomic_fetch_add( &fake_derivations, 1 );
  int const broken = fake_broken( seed );
  memmove( pair, seed, PF_SEED_SZ );
  if( meanwhile ) {
    meanwhile();
  }
  fake_pubkey_of( pubkey, pair );
  memcpy( pair + PF_SEED_SZ, pubkey, PF_PUBKEY_SZ );
  return broken ? -1 : 0;
}

static inline int
fake_sha512( unsigned char *out, const unsigned char *in, unsigned long long len ) {
  if( atomic_load( &fake_hash_fails ) ) {
    return -1;
  }
  if( fake_hashed ) {
    memcpy( fake_hashed, in, (size_t)len );
    fake_hashed_len = (size_t)len;
  }
  fake_squeeze( fake_absorb( 3, in, (size_t)len ), out, PF_SHA512_SZ );
  return 0;
}

static inline void
fake_random( unsigned char *out, unsigned long long n ) {
  for( size_t got = 0; got < n; ) {
    ssize_t const now = getrandom( out + got, (size_t)n - got, 0 );
    CHECK( now > 0 );
    got += (size_t)now;
  }
  if( n > 256 ) {
    fake_pool    = out;
    fake_pool_sz = (size_t)n;
  }
  void ( *const hook )( void ) = fake_while_drawing;
  if( hook ) {
    hook();
  }
}

#define FAKE_SCALAR_SZ 32

static inline uint64_t
fake_lane( const uint8_t *scalar, size_t lane ) {
  uint64_t v;
  memcpy( &v, scalar + 8 * lane, 8 );
  return v;
}

static inline void
fake_set_lane( uint8_t *scalar, size_t lane, uint64_t v ) {
  memcpy( scalar + 8 * lane, &v, 8 );
}

static inline void
fake_reduce( unsigned char *scalar, const unsigned char *wide ) {
  for( size_t i = 0; i < 4; i++ ) {
    uint64_t const v = fake_lane( wide, i ) + fake_lane( wide, i + 4 );
    fake_set_lane( scalar, i, atomic_load( &fake_reduces_to_zero ) ? 0 : v );
  }
}

static inline void
fake_mul( unsigned char *product, const unsigned char *x, const unsigned char *y ) {
  void ( *meanwhile )( uint8_t * ) = atomic_load( &fake_while_multiplying );
  if( meanwhile ) {
    meanwhile( product );
  }
  for( size_t i = 0; i < 4; i++ ) {
    fake_set_lane( product, i, fake_lane( x, i ) * fake_lane( y, i ) );
  }
}

static inline void
fake_add( unsigned char *sum, const unsigned char *other, size_t n ) {
  CHECK( n == FAKE_SCALAR_SZ );
  for( size_t i = 0; i < 4; i++ ) {
    fake_set_lane( sum, i, fake_lane( sum, i ) + fake_lane( other, i ) );
  }
  check_clear_vectors(); /* what stands in them afterwards is ours */
}

static inline void
fake_point_of( uint8_t point[32], const uint8_t scalar[FAKE_SCALAR_SZ] ) {
  fake_squeeze( fake_absorb( 4, scalar, FAKE_SCALAR_SZ ), point, 32 );
}

/* Like libsodium's, it uses its output as room for the scalar. */

static inline int
fake_base( unsigned char *point, const unsigned char *scalar ) {
  void ( *meanwhile )( void ) = atomic_load( &fake_while_preparing );
  memcpy( point, scalar, FAKE_SCALAR_SZ );
  atomic_fetch_add( &fake_base_multiplications, 1 );
  if( meanwhile ) {
    meanwhile();
  }
  fake_point_of( point, scalar );
  check_clear_vectors();
  return atomic_load( &fake_base_fails ) ? -1 : 0;
}

/* fake_nonce_of recovers r from a prepared signature, with the key: S - k·a. */

static inline void
fake_nonce_of( uint8_t r[FAKE_SCALAR_SZ], const uint8_t *seed, const uint8_t *signed_message, size_t len ) {
  uint8_t a[PF_SHA512_SZ];
  uint8_t k[PF_SHA512_SZ];
  fake_squeeze( fake_absorb( 3, seed, PF_SEED_SZ ), a, PF_SHA512_SZ );
  a[0] &= 248;
  a[31] &= 127;
  a[31] |= 64;
  uint8_t *const hashed = malloc( PF_SIGNATURE_SZ + len );
  CHECK( hashed != NULL );
  memcpy( hashed, signed_message, PF_SIGNATURE_SZ + len );
  fake_pubkey_of( hashed + 32, seed );
  fake_squeeze( fake_absorb( 3, hashed, PF_SIGNATURE_SZ + len ), k, PF_SHA512_SZ );
  free( hashed );
  for( size_t i = 0; i < 4; i++ ) {
    uint64_t const k_lane = fake_lane( k, i ) + fake_lane( k, i + 4 );
    fake_set_lane( r, i, fake_lane( signed_message + 32, i ) - k_lane * fake_lane( a, i ) );
  }
}

static pf_sodium const fake_table = {
    .crypto_sign              = fake_sign,
    .crypto_sign_seed_keypair = fake_seed_keypair,
    .crypto_hash_sha512       = fake_sha512,
    .randombytes              = fake_random,
    .scalar_reduce            = fake_reduce,
    .scalar_mul               = fake_mul,
    .scalarmult_base_noclamp  = fake_base,
    .sodium_add               = fake_add,
};

#endif /* PF_TESTS_FAKE_SODIUM_H */
