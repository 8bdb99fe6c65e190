/* SPDX-License-Identifier: MIT */
/* dudect.c: does the time of work on secrets depend on them?

   After Reparaz, Balasch and Verbauwhede, "Dude, is my code constant
   time?" (2017): the same work on one fixed input and on random ones, in
   random order, each piece timed.  tests/ctgrind/dudect.py compares the
   two distributions.  All inputs exist before the first is timed, and a
   class is chosen by a mask: what comes before the work is the same for
   both. */

#if !defined( _POSIX_C_SOURCE )
#define _POSIX_C_SOURCE 200809L /* clock_gettime */
#endif

#include "pf_base58.h"
#include "pf_nonce.h"
#include "pf_signer.h"

#include <stdlib.h>
#include <time.h>

#define INPUT_SZ 64
#define TEXT_SZ PF_BASE58_64_MAX_LEN

typedef struct {
  uint8_t bytes[INPUT_SZ];
  char    long_text[TEXT_SZ]; /* base58 of all bytes, always 88 characters */
  char    short_text[44];     /* of the first 32, always 44 */
} input;

static pf_key  key;
static pf_pool pool;
static uint8_t pubkey[PF_PUBKEY_SZ];
static uint8_t buffer[PF_SIGNATURE_SZ + INPUT_SZ];
static uint8_t out[INPUT_SZ];
static input   fixed;

static volatile int sink;

/* Work has a part before and a part after, which are not timed. */

static void
nothing( const input *in ) {
  (void)in;
}

static void
decode_long( const input *in ) {
  sink = pf_base58_decode_exact( out, 64, in->long_text, sizeof( in->long_text ) );
}

static void
decode_short( const input *in ) {
  sink = pf_base58_decode_exact( out, 32, in->short_text, sizeof( in->short_text ) );
}

static void
open_key( const input *in ) {
  sink = pf_key_open( &key, pubkey, in->bytes );
}

static void
close_key( const input *in ) {
  (void)in;
  (void)pf_key_close( &key );
}

/* The same slot each time: the first that is free. */

static void
open_key_for_a_message( const input *in ) {
  open_key( in );
  memset( buffer, 1, sizeof( buffer ) );
}

static void
open_fixed_key_for_a_message( const input *in ) {
  open_key( &fixed );
  memcpy( buffer + PF_SIGNATURE_SZ, in->bytes, INPUT_SZ );
}

static void
sign( const input *in ) {
  (void)in;
  sink = pf_key_sign( &key, buffer, INPUT_SZ );
}

static void
open_key_and_pool( const input *in ) {
  open_key_for_a_message( in );
  (void)pf_pool_open( &pool, 1, 60000, key.generation );
  (void)pf_key_prepare( &key, &pool );
}

static void
sign_prepared( const input *in ) {
  (void)in;
  sink = pf_key_sign_prepared( &key, &pool, buffer, INPUT_SZ );
}

static void
close_key_and_pool( const input *in ) {
  (void)pf_pool_close( &pool );
  close_key( in );
}

/* The control: how not to compare. */

static void
compare_until_different( const input *in ) {
  size_t i = 0;
  while( i < INPUT_SZ && in->bytes[i] == fixed.bytes[i] ) {
    i++;
    __asm__ __volatile__( "" : : "r"( i ) : "memory" );
  }
  sink = (int)i;
}

static const struct {
  void ( *before )( const input * );
  void ( *timed )( const input * );
  void ( *after )( const input * );
} works[] = {
    { nothing, compare_until_different, nothing },
    { nothing, decode_long, nothing },
    { nothing, decode_short, nothing },
    { nothing, open_key, close_key },
    { open_key_for_a_message, sign, close_key },
    { open_fixed_key_for_a_message, sign, close_key },
    { open_key_and_pool, sign_prepared, close_key_and_pool },
};

static uint64_t
now( void ) {
#if defined( __x86_64__ )
  __asm__ __volatile__( "lfence" : : : "memory" );
  uint64_t const cycles = __builtin_ia32_rdtsc();
  __asm__ __volatile__( "lfence" : : : "memory" );
  return cycles;
#else
  struct timespec t;
  (void)clock_gettime( CLOCK_MONOTONIC, &t );
  return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
#endif
}

/* write_texts: the first byte is large, so that lengths, which are public,
   never differ. */

static void
write_texts( input *in ) {
  pf_writer long_writer  = pf_writer_on( in->long_text, sizeof( in->long_text ) );
  pf_writer short_writer = pf_writer_on( in->short_text, sizeof( in->short_text ) );
  in->bytes[0] |= 0x80;
  (void)pf_base58_put( &long_writer, in->bytes, 64 );
  (void)pf_base58_put( &short_writer, in->bytes, 32 );
}

static void
choose( input *in, uint8_t is_fixed ) {
  uint8_t const mask = (uint8_t)( 0U - is_fixed );
  for( size_t i = 0; i < INPUT_SZ; i++ ) {
    in->bytes[i] = (uint8_t)( in->bytes[i] ^ ( mask & ( in->bytes[i] ^ fixed.bytes[i] ) ) );
  }
  write_texts( in );
}

/* pf_dudect_open binds libsodium's functions, in the order of pf_sodium. */

__attribute__( ( visibility( "default" ) ) ) int
pf_dudect_open( void *const functions[8] ) {
  pf_sodium table;
  _Static_assert( sizeof( table ) == 8 * sizeof( void * ), "pf_sodium has eight functions" );
  memcpy( &table, functions, sizeof( table ) );
  int const rc = pf_bind_sodium( &table );
  if( rc == PF_OK ) {
    table.randombytes( fixed.bytes, sizeof( fixed.bytes ) );
    write_texts( &fixed );
  }
  return rc;
}

/* pf_dudect times n pieces of one work: how long each took, and whether
   its input was the fixed one; with alike set, a random one like the
   others, to see what t is worth.  Returns 0, or 1 without memory. */

__attribute__( ( visibility( "default" ) ) ) int
pf_dudect( unsigned work, int alike, size_t n, uint8_t *is_fixed, uint64_t *times ) {
  static input current;
  input       *inputs = calloc( n, sizeof( *inputs ) );
  if( !inputs || work >= sizeof( works ) / sizeof( *works ) ) {
    free( inputs );
    return 1;
  }
  for( size_t i = 0; i < n; i++ ) {
    pf_sodium_table()->randombytes( inputs[i].bytes, INPUT_SZ );
    pf_sodium_table()->randombytes( &is_fixed[i], 1 );
    is_fixed[i] &= 1;
    choose( &inputs[i], (uint8_t)( is_fixed[i] & !alike ) );
  }
  for( size_t i = 0; i < n; i++ ) {
    current = inputs[i];
    works[work].before( &current );
    uint64_t const start = now();
    works[work].timed( &current );
    times[i] = now() - start;
    works[work].after( &current );
  }
  free( inputs );
  return 0;
}
