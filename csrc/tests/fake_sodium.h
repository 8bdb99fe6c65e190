/* SPDX-License-Identifier: MIT */
#ifndef PF_TESTS_FAKE_SODIUM_H
#define PF_TESTS_FAKE_SODIUM_H

/* fake_sodium.h: stand-ins for libsodium's functions.  No cryptography:
   a deterministic mix of what goes in, so that a test can say what must
   come out.  What they add is suspicion: fake_sign looks at key and
   message again after a while, as crypto_sign does, and ends the test if
   either changed, or if the seed is all zero.  The real libsodium is
   tested from Python, through the real binding. */

#include "check.h"

#include "pf_sodium.h"

#include <stdatomic.h>
#include <sys/random.h>

#define FAKE_BROKEN_SEED 0xbb /* a seed that starts with it makes no key pair */

static atomic_uint fake_signatures;
static atomic_uint fake_derivations;
static atomic_int  fake_signing_fails;

/* The buffer that was last filled in one large piece: pf_random's pool. */
static uint8_t *fake_pool;
static size_t   fake_pool_sz;

/* Called in the middle of every signature, if set. */
static void ( *_Atomic fake_while_signing )( void );

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
fake_seed_keypair( unsigned char *pubkey, unsigned char *pair, const unsigned char *seed ) {
  atomic_fetch_add( &fake_derivations, 1 );
  int const broken = seed[0] == FAKE_BROKEN_SEED;
  memmove( pair, seed, PF_SEED_SZ );
  fake_pubkey_of( pubkey, pair );
  memcpy( pair + PF_SEED_SZ, pubkey, PF_PUBKEY_SZ );
  return broken ? -1 : 0;
}

static inline int
fake_sha512( unsigned char *out, const unsigned char *in, unsigned long long len ) {
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
}

static pf_sodium const fake_table = {
    .crypto_sign              = fake_sign,
    .crypto_sign_seed_keypair = fake_seed_keypair,
    .crypto_hash_sha512       = fake_sha512,
    .randombytes              = fake_random,
};

#endif /* PF_TESTS_FAKE_SODIUM_H */
