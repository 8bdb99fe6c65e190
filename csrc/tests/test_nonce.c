/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE

#include "check.h"
#include "clone.h"
#include "fake_sodium.h"

#include "pf_nonce.h"
#include "pf_pages.h"
#include "pf_signer.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>

#if defined( PF_TEST_INTERLEAVED )
#include "interleave_anywhere.h"
#endif

#if defined( PF_TEST_NO_WIPEONFORK )
#define NAME "test_nonce (fallback)"
#elif defined( PF_TEST_INTERLEAVED )
#define NAME "test_nonce (interleaved)"
#else
#define NAME "test_nonce"
#endif

#define GATE_SZ 8   /* a pool starts with its gate, which is not wiped but freed */
#define HEAD_SZ 448 /* of a pool, before its slots */
#define SLOT_SZ 192
#define CLAIM_TRIES 8 /* as in pf_nonce.c */
#define MAX_AGE 60000
#define DRIFT_MAX 1000 /* ms, as in pf_nonce.c */
#define POOLS_MAX 4096 /* as in pf_nonce.c */
#define MANY 10000
#define THREADS 8
#define RANDOM_SZ 32
#define PREFIX_AT 128
#define MESSAGE "the message"
#define LEN sizeof( MESSAGE )

typedef struct {
  uint8_t signature[PF_SIGNATURE_SZ];
  char    message[LEN];
} signed_message;

/* Time stands still unless a test moves it: this is the clock_gettime that
   the core gets. */

static _Atomic( int64_t ) wall_ms      = 1749223343149;
static _Atomic( int64_t ) monotonic_ms = 5000;
static atomic_int         clocks_fail;

int
clock_gettime( clockid_t clock, struct timespec *now ) {
  int64_t const ms = atomic_load( clock == CLOCK_REALTIME ? &wall_ms : &monotonic_ms );
  now->tv_sec      = ms / 1000;
  now->tv_nsec     = ms % 1000 * 1000000;
  return atomic_load( &clocks_fail ) ? -1 : 0;
}

static void
pass( int64_t wall, int64_t monotonic ) {
  atomic_fetch_add( &wall_ms, wall );
  atomic_fetch_add( &monotonic_ms, monotonic );
}

static void
pause_a_moment( long ns ) {
  struct timespec const moment = { 0, ns };
  (void)nanosleep( &moment, NULL );
}

/* One key for most of it. */

static pf_key  key;
static uint8_t seed[PF_SEED_SZ];

static pf_pool
open_pool( size_t size ) {
  pf_pool pool = { NULL, 0 };
  CHECK( pf_pool_open( &pool, size, MAX_AGE, key.generation ) == PF_OK );
  CHECK( pool.place != NULL && pool.generation != 0 );
  return pool;
}

static void
fill( const pf_pool *pool ) {
  int rc = 1;
  while( rc == 1 ) {
    rc = pf_key_prepare( &key, pool );
  }
  CHECK( rc == 0 );
}

static pf_pool
open_full_pool( size_t size ) {
  pf_pool const pool = open_pool( size );
  fill( &pool );
  return pool;
}

static void
close_pool( const pf_pool *pool ) {
  CHECK( pf_pool_close( pool ) == PF_OK );
}

static pf_pool_stats
count( const pf_pool *pool ) {
  pf_pool_stats stats;
  CHECK( pf_pool_count( pool, &stats ) == PF_OK );
  return stats;
}

static void
check_counts( const pf_pool *pool, uint64_t prepared, uint64_t deterministic, uint64_t burnt, uint64_t ready ) {
  pf_pool_stats const stats = count( pool );
  CHECK( stats.prepared == prepared );
  CHECK( stats.deterministic == deterministic );
  CHECK( stats.burnt == burnt );
  CHECK( stats.ready == ready );
}

static const uint8_t *
bytes_of( const pf_pool *pool ) {
  return ( (const pf_pages *)pool->place )->start;
}

static size_t
size_of( const pf_pool *pool ) {
  return ( (const pf_pages *)pool->place )->sz;
}

static void
new_message( signed_message *s ) {
  memset( s, 0, sizeof( *s ) );
  memcpy( s->message, MESSAGE, LEN );
}

static int
sign( const pf_pool *pool, signed_message *s ) {
  new_message( s );
  return pf_key_sign_prepared( &key, pool, (uint8_t *)s, LEN );
}

/* recover_nonce is what the holder of the key can do, and the only way to
   check a signature that is different every time. */

static void
recover_nonce( uint8_t r[PF_SCALAR_SZ], const signed_message *s ) {
  uint8_t point[32];
  fake_nonce_of( r, seed, (const uint8_t *)s, LEN );
  fake_point_of( point, r );
  CHECK( memcmp( point, s->signature, sizeof( point ) ) == 0 );
}

static void
sign_prepared( const pf_pool *pool, signed_message *s ) {
  uint8_t        r[PF_SCALAR_SZ];
  uint64_t const before = count( pool ).prepared;
  CHECK( sign( pool, s ) == PF_OK );
  CHECK( count( pool ).prepared == before + 1 );
  recover_nonce( r, s );
  CHECK( memcmp( s->message, MESSAGE, LEN ) == 0 );
  CHECK( !check_contains( bytes_of( pool ), size_of( pool ), r, sizeof( r ) ) ); /* spent */
}

static void
check_is_deterministic( const signed_message *s ) {
  uint8_t expected[PF_SIGNATURE_SZ];
  fake_signature_of( expected, seed, MESSAGE, LEN );
  CHECK( memcmp( s->signature, expected, sizeof( expected ) ) == 0 );
}

static void
sign_deterministic( const pf_pool *pool ) {
  signed_message s;
  CHECK( sign( pool, &s ) == PF_OK );
  check_is_deterministic( &s );
}

static void
check_no_signature( const signed_message *s ) {
  CHECK( check_all_zero( s->signature, sizeof( s->signature ) ) );
}

static pf_expanded
expanded( void ) {
  pf_expanded e;
  CHECK( fake_sha512( e.scalar, seed, PF_SEED_SZ ) == 0 );
  e.scalar[0] &= 248;
  e.scalar[31] &= 127;
  e.scalar[31] |= 64;
  return e;
}

/* sign_bare is pf_nonce_sign without the deterministic signature that
   pf_signer makes where there is no nonce. */

static int
sign_bare( const pf_pool *pool, signed_message *s ) {
  pf_expanded const e = expanded();
  uint8_t           pubkey[PF_PUBKEY_SZ];
  fake_pubkey_of( pubkey, seed );
  new_message( s );
  return pf_nonce_sign( pool, key.generation, &e, pubkey, (uint8_t *)s, LEN );
}

/* Opening. */

static void
test_unbound( void ) {
  pf_pool pool = { NULL, 0 };
  CHECK( pf_pool_open( &pool, 1, MAX_AGE, 1 ) == PF_ERR_UNBOUND );
  pf_sodium minimal[4]               = { fake_table, fake_table, fake_table, fake_table };
  minimal[0].scalar_reduce           = NULL;
  minimal[1].scalar_mul              = NULL;
  minimal[2].scalarmult_base_noclamp = NULL;
  minimal[3].sodium_add              = NULL;
  for( size_t i = 0; i < 4; i++ ) {
    CHECK( pf_sodium_set( &minimal[i] ) == PF_OK );
    CHECK( pf_pool_open( &pool, 1, MAX_AGE, 1 ) == PF_ERR_UNBOUND );
  }
  CHECK( pool.place == NULL );
  CHECK( pf_sodium_set( &fake_table ) == PF_OK );
}

static void
test_arguments( void ) {
  pf_pool pool = { NULL, 0 };
  CHECK( pf_pool_open( &pool, 0, MAX_AGE, key.generation ) == PF_ERR_ARGUMENT );
  CHECK( pf_pool_open( &pool, PF_NONCES_MAX + 1, MAX_AGE, key.generation ) == PF_ERR_ARGUMENT );
  CHECK( pf_pool_open( &pool, SIZE_MAX, MAX_AGE, key.generation ) == PF_ERR_ARGUMENT );
  CHECK( pf_pool_open( &pool, 1, 0, key.generation ) == PF_ERR_ARGUMENT );
  CHECK( pf_pool_open( &pool, 1, -1, key.generation ) == PF_ERR_ARGUMENT );
  CHECK( pf_pool_open( &pool, 1, INT64_MIN, key.generation ) == PF_ERR_ARGUMENT );
  CHECK( pf_pool_open( &pool, 1, INT64_MAX / 1000000 + 1, key.generation ) == PF_ERR_ARGUMENT );
  CHECK( pf_pool_open( &pool, 1, MAX_AGE, 0 ) == PF_ERR_ARGUMENT );
  CHECK( pool.place == NULL && pool.generation == 0 );
  CHECK( pf_pool_open( &pool, 1, INT64_MAX / 1000000, key.generation ) == PF_OK );
  fill( &pool );
  close_pool( &pool );
  const void *const first = pool.place;
  CHECK( pf_pool_open( &pool, PF_NONCES_MAX, 1, key.generation ) == PF_OK ); /* the most, for the shortest */
  close_pool( &pool );
  CHECK( pf_pool_open( &pool, 1, 1, key.generation ) == PF_OK );
  close_pool( &pool );
  CHECK( pool.place == first ); /* the very first place is used again, too */
  pf_pool const again = open_pool( 1 );
  CHECK( again.place == first );
  close_pool( &again );
}

static void
test_no_pool( void ) {
  pf_pool const  none = { NULL, 0 };
  pf_pool_stats  stats;
  signed_message s;
  CHECK( pf_pool_close( &none ) == PF_ERR_CLOSED );
  CHECK( pf_pool_count( &none, &stats ) == PF_ERR_CLOSED );
  CHECK( pf_key_prepare( &key, &none ) == PF_ERR_CLOSED );
  CHECK( sign_bare( &none, &s ) == PF_ERR_CLOSED );
  check_no_signature( &s );
}

/* From empty to full to empty. */

static int
compare_points( const void *x, const void *y ) {
  return memcmp( x, y, 32 );
}

static uint8_t points[2 * PF_NONCES_MAX][32];

static void
use_all( const pf_pool *pool, size_t size, uint8_t ( *used )[32] ) {
  signed_message s;
  fill( pool );
  CHECK( count( pool ).ready == size );
  for( size_t i = 0; i < size; i++ ) {
    if( i < 10 ) { /* looking for the nonce in a large pool takes long */
      sign_prepared( pool, &s );
    } else {
      CHECK( sign( pool, &s ) == PF_OK );
    }
    memcpy( used[i], s.signature, sizeof( used[i] ) );
  }
  CHECK( count( pool ).ready == 0 );
  sign_deterministic( pool );
}

static void
test_size( size_t size ) {
  pf_pool const  pool = open_pool( size );
  signed_message s;
  check_counts( &pool, 0, 0, 0, 0 );
  sign_deterministic( &pool );
  use_all( &pool, size, points );
  use_all( &pool, size, points + size );
  check_counts( &pool, 2 * size, 3, 0, 0 );
  CHECK( count( &pool ).refilled == 2 * size );
  qsort( points, 2 * size, sizeof( points[0] ), compare_points );
  for( size_t i = 1; i < 2 * size; i++ ) {
    CHECK( memcmp( points[i - 1], points[i], sizeof( points[0] ) ) != 0 );
  }
  CHECK( sign_bare( &pool, &s ) == PF_ERR_NO_NONCE );
  check_no_signature( &s );
  CHECK( check_all_zero( bytes_of( &pool ) + HEAD_SZ + size * SLOT_SZ,
                         size_of( &pool ) - HEAD_SZ - size * SLOT_SZ ) ); /* nothing behind the last slot */
  close_pool( &pool );
}

static void
test_sizes( void ) {
  static size_t const sizes[] = { 1, 2, 7, 8, 9, 19, 20, 21, 100, 1000, PF_NONCES_MAX };
  for( size_t i = 0; i < sizeof( sizes ) / sizeof( sizes[0] ); i++ ) {
    test_size( sizes[i] );
  }
}

/* Age and clocks. */

static void
check_fate( int64_t wall, int64_t monotonic, int used ) {
  pf_pool const  pool = open_full_pool( 3 );
  signed_message s;
  pass( wall, monotonic );
  if( used ) {
    sign_prepared( &pool, &s );
    check_counts( &pool, 1, 0, 0, 2 );
  } else {
    sign_deterministic( &pool );
    check_counts( &pool, 0, 1, 3, 0 ); /* all of them */
    fill( &pool );
    sign_prepared( &pool, &s );
  }
  pass( -wall, -monotonic );
  close_pool( &pool );
}

static void
test_age( void ) {
  check_fate( 0, 0, 1 );
  check_fate( MAX_AGE, MAX_AGE, 1 );
  check_fate( MAX_AGE + 1, MAX_AGE + 1, 0 );
  check_fate( 100 * MAX_AGE, 100 * MAX_AGE, 0 );
  check_fate( -1, -1, 0 ); /* made in the future */
}

static void
test_clocks_that_drift_apart( void ) {
  check_fate( DRIFT_MAX, 0, 1 );
  check_fate( -DRIFT_MAX, 0, 1 );
  check_fate( DRIFT_MAX + 1, 0, 0 );
  check_fate( -DRIFT_MAX - 1, 0, 0 );
  check_fate( 10000, 10000 - DRIFT_MAX, 1 );
  check_fate( 10000, 10000 + DRIFT_MAX + 1, 0 );
  check_fate( (int64_t)365 * 86400 * 1000, 0, 0 ); /* a snapshot, resumed after a year */
}

/* A pool that is full of old nonces is renewed, one by one. */

static void
test_old_nonces_are_replaced( void ) {
  pf_pool const  pool = open_full_pool( 4 );
  signed_message s;
  pass( MAX_AGE, MAX_AGE );
  CHECK( pf_key_prepare( &key, &pool ) == 0 );
  pass( 1, 1 );
  fill( &pool );
  check_counts( &pool, 0, 0, 4, 4 );
  CHECK( count( &pool ).refilled == 8 );
  for( size_t i = 0; i < 4; i++ ) {
    sign_prepared( &pool, &s );
  }
  close_pool( &pool );
}

/* Half full, half old: the fresh ones are found behind the old ones. */

static void
test_fresh_behind_old( void ) {
  pf_pool const  pool = open_pool( 4 );
  signed_message s;
  CHECK( pf_key_prepare( &key, &pool ) == 1 );
  CHECK( pf_key_prepare( &key, &pool ) == 1 );
  pass( MAX_AGE + 1, MAX_AGE + 1 );
  CHECK( pf_key_prepare( &key, &pool ) == 1 );
  sign_prepared( &pool, &s );
  check_counts( &pool, 1, 0, 2, 0 );
  close_pool( &pool );
}

/* Too many old ones: the call does not go through all of them. */

static void
test_fresh_behind_many_old( void ) {
  pf_pool const  pool = open_pool( CLAIM_TRIES + 1 );
  signed_message s;
  for( size_t i = 0; i < CLAIM_TRIES; i++ ) {
    CHECK( pf_key_prepare( &key, &pool ) == 1 );
  }
  pass( MAX_AGE + 1, MAX_AGE + 1 );
  CHECK( pf_key_prepare( &key, &pool ) == 1 );
  sign_deterministic( &pool );
  check_counts( &pool, 0, 1, CLAIM_TRIES, 1 );
  sign_prepared( &pool, &s );
  check_counts( &pool, 1, 1, CLAIM_TRIES, 0 );
  close_pool( &pool );
}

static void
test_clocks_that_fail( void ) {
  pf_pool const  pool = open_full_pool( 2 );
  signed_message s;
  atomic_store( &clocks_fail, 1 );
  sign_deterministic( &pool );
  CHECK( pf_key_prepare( &key, &pool ) == PF_ERR_CLOCK );
  atomic_store( &clocks_fail, 0 );
  check_counts( &pool, 0, 1, 0, 2 );
  sign_prepared( &pool, &s );
  close_pool( &pool );
}

/* What r is made of; see pf_nonce.h. */

static void
test_what_is_hashed( void ) {
  static uint8_t    hashed[512];
  static const char label[] = "pacifica_fast: prepared Ed25519 nonce";
  pf_expanded const e       = expanded();
  pf_pool const     pool    = open_pool( 2 );
  int64_t const     pid     = (int64_t)getpid();
  uint8_t           random[RANDOM_SZ];
  for( uint64_t counter = 0; counter < 2; counter++ ) {
    int64_t const  ns[2] = { atomic_load( &monotonic_ms ) * 1000000, atomic_load( &wall_ms ) * 1000000 };
    const uint8_t *at    = hashed + PREFIX_AT;
    fake_hashed          = hashed;
    CHECK( pf_nonce_prepare( &pool, &e ) == 1 );
    fake_hashed = NULL;
    CHECK( fake_hashed_len == PREFIX_AT + PF_PREFIX_SZ + 8 + 16 + 8 + 8 );
    CHECK( memcmp( hashed, label, sizeof( label ) ) == 0 );
    CHECK( !check_all_zero( hashed + sizeof( label ), RANDOM_SZ ) );
    CHECK( counter == 0 || memcmp( random, hashed + sizeof( label ), RANDOM_SZ ) != 0 );
    memcpy( random, hashed + sizeof( label ), RANDOM_SZ );
    CHECK( check_all_zero( hashed + sizeof( label ) + RANDOM_SZ, PREFIX_AT - sizeof( label ) - RANDOM_SZ ) );
    CHECK( memcmp( at, e.prefix, PF_PREFIX_SZ ) == 0 );
    CHECK( memcmp( at + PF_PREFIX_SZ, &pid, 8 ) == 0 );
    CHECK( memcmp( at + PF_PREFIX_SZ + 8, ns, 16 ) == 0 );
    CHECK( memcmp( at + PF_PREFIX_SZ + 24, &pool.generation, 8 ) == 0 );
    CHECK( memcmp( at + PF_PREFIX_SZ + 32, &counter, 8 ) == 0 );
    CHECK( !check_contains( bytes_of( &pool ), size_of( &pool ), e.prefix, PF_PREFIX_SZ ) );
    CHECK( !check_contains( bytes_of( &pool ), size_of( &pool ), random, RANDOM_SZ ) );
    memset( hashed, 0, sizeof( hashed ) );
  }
  close_pool( &pool );
}

/* A generator that gives the same bytes every time, and a clock that
   stands still: nonces differ all the same, from pool to pool too. */

static void
stuck_random( unsigned char *out, unsigned long long n ) {
  memset( out, 7, (size_t)n );
}

static void
test_bad_randomness( void ) {
  uint8_t        seen[40][32];
  signed_message s;
  pf_sodium      stuck = fake_table;
  stuck.randombytes    = stuck_random;
  CHECK( pf_sodium_set( &stuck ) == PF_OK );
  for( size_t i = 0; i < 40; i += 4 ) {
    pf_pool const pool = open_full_pool( 4 );
    for( size_t j = i; j < i + 4; j++ ) {
      sign_prepared( &pool, &s );
      memcpy( seen[j], s.signature, sizeof( seen[j] ) );
      for( size_t other = 0; other < j; other++ ) {
        CHECK( memcmp( seen[other], seen[j], sizeof( seen[j] ) ) != 0 );
      }
    }
    close_pool( &pool );
  }
  CHECK( pf_sodium_set( &fake_table ) == PF_OK );
}

/* Failures: the nonce is burnt, and the pool goes on. */

static void
check_goes_on( const pf_pool *pool ) {
  signed_message s;
  fill( pool );
  sign_prepared( pool, &s );
  close_pool( pool );
}

static const uint8_t *nonce_in_the_making; /* where it is, in its slot */

static int
base_that_tells( unsigned char *point, const unsigned char *scalar ) {
  nonce_in_the_making = scalar;
  return fake_base( point, scalar );
}

static void
tell_of_nonces( void ) {
  pf_sodium table               = fake_table;
  table.scalarmult_base_noclamp = base_that_tells;
  CHECK( pf_sodium_set( &table ) == PF_OK );
}

static void
test_base_multiplication_fails( void ) {
  pf_pool const pool = open_pool( 2 );
  tell_of_nonces();
  CHECK( pf_key_prepare( &key, &pool ) == 1 );
  CHECK( !check_all_zero( nonce_in_the_making, 64 ) );
  atomic_store( &fake_base_fails, 1 );
  CHECK( pf_key_prepare( &key, &pool ) == PF_ERR_SODIUM );
  atomic_store( &fake_base_fails, 0 );
  CHECK( check_all_zero( nonce_in_the_making, 128 ) ); /* r, R and sum */
  check_counts( &pool, 0, 0, 1, 1 );
  CHECK( pf_sodium_set( &fake_table ) == PF_OK );
  check_goes_on( &pool );
}

static void
test_zero_is_no_nonce( void ) {
  pf_pool const pool = open_pool( 2 );
  atomic_store( &fake_reduces_to_zero, 1 );
  CHECK( pf_key_prepare( &key, &pool ) == PF_ERR_SODIUM );
  atomic_store( &fake_reduces_to_zero, 0 );
  check_counts( &pool, 0, 0, 1, 0 );
  sign_deterministic( &pool );
  check_goes_on( &pool );
}

/* Every byte of r counts. */

static size_t the_byte;

static void
reduce_to_one_byte( unsigned char *scalar, const unsigned char *wide ) {
  (void)wide;
  memset( scalar, 0, PF_SCALAR_SZ );
  scalar[the_byte] = 0x10;
}

static void
test_one_byte_is_a_nonce( void ) {
  pf_sodium table     = fake_table;
  table.scalar_reduce = reduce_to_one_byte;
  for( the_byte = 0; the_byte < PF_SCALAR_SZ; the_byte++ ) {
    pf_pool const pool = open_pool( 1 );
    CHECK( pf_sodium_set( &table ) == PF_OK );
    CHECK( pf_key_prepare( &key, &pool ) == 1 );
    CHECK( pf_sodium_set( &fake_table ) == PF_OK );
    close_pool( &pool );
  }
}

static void
test_hash_fails( void ) {
  pf_pool const  pool   = open_pool( 2 );
  unsigned const before = atomic_load( &fake_base_multiplications );
  signed_message s;
  uint8_t        r[PF_SCALAR_SZ];
  atomic_store( &fake_hash_fails, 1 );
  CHECK( pf_key_prepare( &key, &pool ) == PF_ERR_SODIUM );
  atomic_store( &fake_hash_fails, 0 );
  CHECK( atomic_load( &fake_base_multiplications ) == before );
  check_counts( &pool, 0, 0, 1, 0 );

  tell_of_nonces();
  CHECK( pf_key_prepare( &key, &pool ) == 1 );
  memcpy( r, nonce_in_the_making, sizeof( r ) );
  atomic_store( &fake_hash_fails, 1 );
  CHECK( sign( &pool, &s ) == PF_ERR_SODIUM );
  atomic_store( &fake_hash_fails, 0 );
  check_no_signature( &s );
  check_counts( &pool, 0, 1, 1, 0 );
  CHECK( !check_contains( bytes_of( &pool ), size_of( &pool ), r, sizeof( r ) ) );
  CHECK( pf_sodium_set( &fake_table ) == PF_OK );
  check_goes_on( &pool );
}

/* While it is used, r stands in its slot and there alone; sign_prepared
   looks for it afterwards. */

static pf_pool shared_pool;
static uint8_t used_nonce[PF_SCALAR_SZ];

static void
note_nonce( uint8_t *sum ) {
  memcpy( used_nonce, sum - 64, sizeof( used_nonce ) ); /* r, R, sum */
}

static void
test_no_register_keeps_it( void ) {
  pf_pool const  pool = open_pool( 1 );
  uint8_t        prepared[CHECK_VECTORS_SZ];
  uint8_t        signing[CHECK_VECTORS_SZ];
  uint8_t        r[PF_SCALAR_SZ];
  signed_message s;
  new_message( &s );
  int const made = pf_key_prepare( &key, &pool );
  check_vectors( prepared );
  int const rc = pf_key_sign_prepared( &key, &pool, (uint8_t *)&s, LEN );
  check_vectors( signing );
  CHECK( made == 1 && rc == PF_OK );
  recover_nonce( r, &s );
  for( size_t i = 0; i < sizeof( r ); i += 8 ) {
    CHECK( !check_contains( prepared, sizeof( prepared ), r + i, 8 ) );
    CHECK( !check_contains( signing, sizeof( signing ), r + i, 8 ) );
  }
  close_pool( &pool );
}

/* The multiplications leave the key's scalar, or the nonce, on the stack. */

static int
base_and_leave( unsigned char *point, const unsigned char *scalar ) {
  int const rc = base_that_tells( point, scalar );
  check_leave_on_the_stack( scalar, 2048 );
  return rc;
}

static void
mul_and_leave( unsigned char *product, const unsigned char *x, const unsigned char *y ) {
  fake_mul( product, x, y );
  check_leave_on_the_stack( y, 256 );
}

static void
test_nothing_stays_on_the_stack( void ) {
  pf_pool const     pool  = open_pool( 1 );
  pf_expanded const e     = expanded();
  pf_sodium         table = fake_table;
  signed_message    s;
  new_message( &s );
  table.scalarmult_base_noclamp = base_and_leave;
  table.scalar_mul              = mul_and_leave;
  CHECK( pf_sodium_set( &table ) == PF_OK );
  int const made = pf_key_prepare( &key, &pool );
  CHECK( !check_stands_below( nonce_in_the_making, PF_SCALAR_SZ ) );
  CHECK( made == 1 );
  int const rc = pf_key_sign_prepared( &key, &pool, (uint8_t *)&s, LEN );
  CHECK( !check_stands_below( e.scalar, sizeof( e.scalar ) ) );
  CHECK( rc == PF_OK );
  check_counts( &pool, 1, 0, 0, 0 );
  CHECK( pf_sodium_set( &fake_table ) == PF_OK );
  close_pool( &pool );
}

static void
test_used_from_its_slot( void ) {
  signed_message s;
  uint8_t        r[PF_SCALAR_SZ];
  shared_pool = open_full_pool( 4 );
  atomic_store( &fake_while_multiplying, note_nonce );
  sign_prepared( &shared_pool, &s );
  atomic_store( &fake_while_multiplying, NULL );
  recover_nonce( r, &s );
  CHECK( memcmp( used_nonce, r, sizeof( r ) ) == 0 );
  close_pool( &shared_pool );
}

/* A slot wiped under our hands gives no signature: S would be k·a. */

static void
wipe_slot( uint8_t *sum ) {
  memset( sum - 64, 0, 128 );
}

static void
test_wiped_meanwhile( void ) {
  signed_message s;
  pf_pool const  pool = open_full_pool( 4 );
  atomic_store( &fake_while_multiplying, wipe_slot );
  CHECK( sign_bare( &pool, &s ) == PF_ERR_NO_NONCE );
  check_no_signature( &s );
  sign_deterministic( &pool );
  atomic_store( &fake_while_multiplying, NULL );
  check_counts( &pool, 0, 2, 0, 2 );
  check_goes_on( &pool );
}

/* Whose pool it is. */

static void
test_foreign_key( void ) {
  pf_pool const  pool = open_full_pool( 2 );
  pf_key         other;
  uint8_t        pubkey[PF_PUBKEY_SZ];
  signed_message s;
  CHECK( pf_key_open( &other, pubkey, NULL ) == PF_OK );
  new_message( &s );
  CHECK( pf_key_sign_prepared( &other, &pool, (uint8_t *)&s, LEN ) == PF_ERR_ARGUMENT );
  check_no_signature( &s );
  check_counts( &pool, 0, 0, 0, 2 );
  CHECK( pf_key_close( &other ) == PF_OK );
  CHECK( pf_key_sign_prepared( &other, &pool, (uint8_t *)&s, LEN ) == PF_ERR_CLOSED );
  CHECK( pf_key_prepare( &other, &pool ) == PF_ERR_CLOSED );
  close_pool( &pool );
}

/* The same seed, opened again, is another key: its pool is a new one. */

static void
test_key_opened_again( void ) {
  pf_pool const  pool = open_full_pool( 2 );
  pf_key const   old  = key;
  uint8_t        pubkey[PF_PUBKEY_SZ];
  signed_message s;
  CHECK( pf_key_close( &key ) == PF_OK );
  CHECK( pf_key_open( &key, pubkey, seed ) == PF_OK );
  CHECK( sign( &pool, &s ) == PF_ERR_ARGUMENT );
  new_message( &s );
  CHECK( pf_key_sign_prepared( &old, &pool, (uint8_t *)&s, LEN ) == PF_ERR_CLOSED );
  check_no_signature( &s );
  close_pool( &pool );
}

/* Whatever bits the hash of a seed has where RFC 8032 sets and clears them. */

static void
test_many_seeds( void ) {
  for( int i = 0; i < 32; i++ ) {
    uint8_t        pubkey[PF_PUBKEY_SZ];
    signed_message s;
    CHECK( pf_key_close( &key ) == PF_OK );
    memset( seed, 32 + i, sizeof( seed ) );
    CHECK( pf_key_open( &key, pubkey, seed ) == PF_OK );
    pf_pool const pool = open_full_pool( 1 );
    sign_prepared( &pool, &s );
    close_pool( &pool );
  }
}

/* Closing. */

static void
check_closed( const pf_pool *pool ) {
  signed_message s;
  pf_pool_stats  stats;
  CHECK( sign_bare( pool, &s ) == PF_ERR_CLOSED );
  check_no_signature( &s );
  CHECK( pf_key_prepare( &key, pool ) == PF_ERR_CLOSED );
  CHECK( pf_pool_count( pool, &stats ) == PF_ERR_CLOSED );
  CHECK( pf_pool_close( pool ) == PF_ERR_CLOSED );
  pf_nonce_prefetch( pool ); /* harmless */
}

static void
test_close( void ) {
  pf_pool const pool = open_full_pool( 20 );
  pf_pool const copy = pool; /* as in a template */
  CHECK( !check_all_zero( bytes_of( &pool ) + GATE_SZ, size_of( &pool ) - GATE_SZ ) );
  close_pool( &pool );
  CHECK( check_all_zero( bytes_of( &pool ), size_of( &pool ) ) );
  check_closed( &pool );
  check_closed( &copy );
  sign_deterministic( &pool ); /* with the key, which is open */
}

static void
test_forged_handles( void ) {
  pf_pool const pool = open_full_pool( 2 );
  for( int bit = 0; bit < 64; bit++ ) {
    pf_pool forged = pool;
    forged.generation ^= (uint64_t)1 << bit;
    check_closed( &forged );
  }
  check_counts( &pool, 0, 0, 0, 2 );
  close_pool( &pool );
  pf_pool const free_one = { pool.place, 0 }; /* the generation of what is free */
  check_closed( &free_one );
  pf_pool const  nowhere = { NULL, pool.generation };
  signed_message s;
  CHECK( sign_bare( &nowhere, &s ) == PF_ERR_CLOSED );
  CHECK( pf_key_prepare( &key, &nowhere ) == PF_ERR_CLOSED );
  CHECK( pf_pool_close( &nowhere ) == PF_ERR_CLOSED );
}

static void
test_stale_handle( void ) {
  pf_pool const first = open_full_pool( 2 );
  close_pool( &first );
  pf_pool const second = open_full_pool( 2 );
  CHECK( second.place == first.place );
  CHECK( second.generation != first.generation );
  check_closed( &first ); /* nor does it close the other */
  check_counts( &second, 0, 0, 0, 2 );
  close_pool( &second );
}

static void
test_places_are_used_again( void ) {
  static size_t const sizes[] = { 1, 20, 21, 100, 500 };
  size_t              before;
  size_t              after;
  size_t              unlocked;
  for( size_t i = 0; i < 5; i++ ) {
    pf_pool const pool = open_pool( sizes[i] );
    close_pool( &pool );
  }
  pf_pages_counts( &before, &unlocked );
  for( size_t i = 0; i < MANY; i++ ) {
    pf_pool const pool = open_pool( sizes[i % 5] );
    CHECK( pf_key_prepare( &key, &pool ) == 1 );
    close_pool( &pool );
  }
  pf_pages_counts( &after, &unlocked );
  CHECK( before == after );
}

/* One more place: whoever needs it waits for who adds a mapping. */

static atomic_int holder_state; /* 1: holds the lock, 2: gave it back */

static void *
hold_lock( void *unused ) {
  pf_pages_lock();
  atomic_store( &holder_state, 1 );
  pause_a_moment( 50000000 );
  atomic_store( &holder_state, 2 );
  pf_pages_unlock();
  return unused;
}

static void
test_a_new_place_waits_for_the_lock( void ) {
  pthread_t holder;
  CHECK( pthread_create( &holder, NULL, hold_lock, NULL ) == 0 );
  while( !atomic_load( &holder_state ) ) {
    pause_a_moment( 10000 );
  }
  pf_pool const one = open_pool( 3000 );
  pf_pool const two = open_pool( 3000 ); /* not both of them are there yet */
  CHECK( atomic_load( &holder_state ) == 2 );
  CHECK( pthread_join( holder, NULL ) == 0 );
  close_pool( &one );
  close_pool( &two );
}

/* Calls in flight. */

static atomic_int in_flight;
static atomic_int let_go;

static void
stand_still( void ) {
  atomic_fetch_add( &in_flight, 1 );
  while( !atomic_load( &let_go ) ) {
    pause_a_moment( 100000 );
  }
}

static void
stand_still_at( uint8_t *sum ) {
  (void)sum;
  stand_still();
}

static void *
prepare_once( void *unused ) {
  CHECK( pf_key_prepare( &key, &shared_pool ) == 1 );
  return unused;
}

static void *
sign_once( void *unused ) {
  signed_message s;
  uint8_t        r[PF_SCALAR_SZ];
  CHECK( sign( &shared_pool, &s ) == PF_OK );
  recover_nonce( r, &s );
  return unused;
}

static void *
close_once( void *unused ) {
  close_pool( &shared_pool );
  return unused;
}

static pthread_t
start( void *( *what )(void *)) {
  pthread_t thread;
  CHECK( pthread_create( &thread, NULL, what, NULL ) == 0 );
  return thread;
}

static pthread_t
start_and_stop_in_the_middle( void *( *what )(void *)) {
  atomic_store( &in_flight, 0 );
  atomic_store( &let_go, 0 );
  atomic_store( &fake_while_preparing, what == prepare_once ? stand_still : NULL );
  atomic_store( &fake_while_multiplying, what == sign_once ? stand_still_at : NULL );
  pthread_t const thread = start( what );
  while( !atomic_load( &in_flight ) ) {
    pause_a_moment( 100000 );
  }
  atomic_store( &fake_while_preparing, NULL );
  atomic_store( &fake_while_multiplying, NULL );
  return thread;
}

static void
let_go_and_join( pthread_t thread ) {
  atomic_store( &let_go, 1 );
  CHECK( pthread_join( thread, NULL ) == 0 );
}

/* While a nonce is in the making, nobody waits for it, sees it, or counts
   it as ready. */

static void
test_nobody_waits_for_a_refill( void ) {
  signed_message s;
  shared_pool = open_pool( 2 );
  CHECK( pf_key_prepare( &key, &shared_pool ) == 1 );
  pthread_t const refill = start_and_stop_in_the_middle( prepare_once );
  CHECK( pf_key_prepare( &key, &shared_pool ) == 0 ); /* one works */
  check_counts( &shared_pool, 0, 0, 0, 1 );
  sign_prepared( &shared_pool, &s );
  sign_deterministic( &shared_pool );
  check_counts( &shared_pool, 1, 1, 0, 0 );
  let_go_and_join( refill );
  check_counts( &shared_pool, 1, 1, 0, 1 );
  sign_prepared( &shared_pool, &s );
  close_pool( &shared_pool );
}

/* While a nonce is used, its slot is neither used again nor filled. */

static void
test_a_claimed_slot_is_left_alone( void ) {
  signed_message s;
  shared_pool           = open_full_pool( 1 );
  pthread_t const other = start_and_stop_in_the_middle( sign_once );
  sign_deterministic( &shared_pool );
  CHECK( pf_key_prepare( &key, &shared_pool ) == 0 );
  pass( MAX_AGE + 1, MAX_AGE + 1 ); /* too old: not to be burnt either, now */
  CHECK( pf_key_prepare( &key, &shared_pool ) == 0 );
  let_go_and_join( other );
  check_counts( &shared_pool, 1, 1, 0, 0 );
  CHECK( pf_key_prepare( &key, &shared_pool ) == 1 );
  sign_prepared( &shared_pool, &s );
  close_pool( &shared_pool );
}

/* The slot to fill is found behind one in use, around the end of the pool,
   and nothing is ever written behind its last slot. */

static void
check_nothing_behind( const pf_pool *pool, size_t size ) {
  size_t const end = HEAD_SZ + size * SLOT_SZ;
  CHECK( end <= size_of( pool ) );
  CHECK( check_all_zero( bytes_of( pool ) + end, size_of( pool ) - end ) );
}

static void
test_around_the_end( void ) {
  signed_message s;
  shared_pool = open_full_pool( 2 );
  sign_prepared( &shared_pool, &s );
  CHECK( pf_key_prepare( &key, &shared_pool ) == 1 ); /* the first slot; the second is the next */
  pthread_t const other = start_and_stop_in_the_middle( sign_once );
  sign_prepared( &shared_pool, &s );
  CHECK( pf_key_prepare( &key, &shared_pool ) == 1 ); /* the first again */
  check_nothing_behind( &shared_pool, 2 );
  sign_prepared( &shared_pool, &s );
  let_go_and_join( other );
  fill( &shared_pool );
  check_counts( &shared_pool, 4, 0, 0, 2 );
  check_nothing_behind( &shared_pool, 2 );
  close_pool( &shared_pool );
}

static void
check_close_waits_for( void *( *what )(void *)) {
  signed_message s;
  shared_pool = open_full_pool( 2 );
  CHECK( sign( &shared_pool, &s ) == PF_OK ); /* one to use, one to fill */
  pthread_t const call    = start_and_stop_in_the_middle( what );
  pthread_t const closing = start( close_once );
  while( pf_key_prepare( &key, &shared_pool ) != PF_ERR_CLOSED ) {
    pause_a_moment( 100000 );
  }
  pause_a_moment( 5000000 );
  CHECK( !check_all_zero( bytes_of( &shared_pool ) + GATE_SZ, size_of( &shared_pool ) - GATE_SZ ) );
  let_go_and_join( call );
  CHECK( pthread_join( closing, NULL ) == 0 );
  CHECK( check_all_zero( bytes_of( &shared_pool ), size_of( &shared_pool ) ) );
}

static void
test_close_waits( void ) {
  check_close_waits_for( sign_once );
  check_close_waits_for( prepare_once );
}

/* The refilling thread of pf_signer. */

static void *
refill( void *handle ) {
  CHECK( pf_key_refill( handle, &shared_pool ) == PF_OK );
  return NULL;
}

static void
test_refill_ends( void ) {
  pthread_t thread;
  pf_key    mortal;
  uint8_t   pubkey[PF_PUBKEY_SZ];
  for( int by_key = 0; by_key < 2; by_key++ ) {
    CHECK( pf_key_open( &mortal, pubkey, NULL ) == PF_OK );
    CHECK( pf_pool_open( &shared_pool, 10, MAX_AGE, mortal.generation ) == PF_OK );
    CHECK( pthread_create( &thread, NULL, refill, &mortal ) == 0 );
    while( count( &shared_pool ).refilled < 10 ) {
      pause_a_moment( 100000 );
    }
    if( by_key ) {
      CHECK( pf_key_close( &mortal ) == PF_OK );
    } else {
      close_pool( &shared_pool );
    }
    CHECK( pthread_join( thread, NULL ) == 0 );
    CHECK( check_all_zero( bytes_of( &shared_pool ), size_of( &shared_pool ) ) );
    CHECK( pf_key_close( &mortal ) == ( by_key ? PF_ERR_CLOSED : PF_OK ) );
  }
}

/* Threads: sign, prepare, and close, all at once. */

#define RACES 400

static _Atomic( const pf_pool * ) current_pool;
static atomic_int                 stop;
static atomic_uint                prepared_well;

static void *
sign_and_prepare( void *unused ) {
  while( !atomic_load( &stop ) ) {
    const pf_pool *pool = atomic_load( &current_pool );
    signed_message s;
    int const      rc = pf_key_prepare( &key, pool );
    CHECK( rc == 0 || rc == 1 || rc == PF_ERR_CLOSED );
    pf_key_prefetch( &key, pool );
    CHECK( sign( pool, &s ) == PF_OK );
    uint8_t expected[PF_SIGNATURE_SZ];
    fake_signature_of( expected, seed, MESSAGE, LEN );
    if( memcmp( s.signature, expected, sizeof( expected ) ) != 0 ) {
      uint8_t r[PF_SCALAR_SZ];
      recover_nonce( r, &s );
      atomic_fetch_add( &prepared_well, 1 );
    }
  }
  return unused;
}

static void
test_close_races_with_everything( void ) {
  static pf_pool pools[RACES];
  pthread_t      threads[THREADS];
  pools[0] = open_pool( 1 );
  atomic_store( &current_pool, &pools[0] );
  for( size_t i = 0; i < THREADS; i++ ) {
    threads[i] = start( sign_and_prepare );
  }
  for( size_t i = 1; i < RACES || !atomic_load( &prepared_well ); i++ ) {
    pools[i % RACES] = open_pool( 1 + i % 8 );
    atomic_store( &current_pool, &pools[i % RACES] );
    close_pool( &pools[( i - 1 ) % RACES] );
    pause_a_moment( 200000 );
  }
  atomic_store( &stop, 1 );
  for( size_t i = 0; i < THREADS; i++ ) {
    CHECK( pthread_join( threads[i], NULL ) == 0 );
  }
  close_pool( atomic_load( &current_pool ) );
}

/* Forks. */

static void
in_child( const pf_pool *parents ) {
  uint8_t        pubkey[PF_PUBKEY_SZ];
  signed_message s;
  check_closed( parents );
  CHECK( sign( parents, &s ) == PF_ERR_CLOSED );
  check_no_signature( &s );
  CHECK( check_all_zero( bytes_of( parents ), size_of( parents ) ) );
  CHECK( pf_key_open( &key, pubkey, seed ) == PF_OK );
  pf_pool const own = open_pool( 2 );
  CHECK( own.place == parents->place ); /* empty here, hence free */
  check_counts( &own, 0, 0, 0, 0 );
  fill( &own );
  sign_prepared( &own, &s );
  check_closed( parents ); /* still */
  close_pool( &own );
  CHECK( pf_key_close( &key ) == PF_OK );
}

static void
check_child( const pf_pool *pool, pid_t child ) {
  CHECK( child >= 0 );
  if( child == 0 ) {
    in_child( pool );
    _exit( 0 );
  }
  CHECK_CHILD_ENDS_WELL( child );
}

static void
test_fork( void ) {
  signed_message s;
  pf_pool const  pool = open_full_pool( 4 );
  check_child( &pool, fork() );
  check_child( &pool, clone_behind_libc() );
  check_counts( &pool, 0, 0, 0, 4 );
  for( size_t i = 0; i < 4; i++ ) {
    sign_prepared( &pool, &s );
  }
  close_pool( &pool );
}

static void
check_fork_beside( void *( *what )(void *)) {
  signed_message s;
  shared_pool = open_full_pool( 2 );
  CHECK( sign( &shared_pool, &s ) == PF_OK );
  pthread_t const call = start_and_stop_in_the_middle( what );
  check_child( &shared_pool, fork() ); /* inherits no lock, and no call that nobody ends */
  let_go_and_join( call );
  close_pool( &shared_pool );
}

static void
test_fork_beside_calls( void ) {
  check_fork_beside( prepare_once );
  check_fork_beside( sign_once );
}

/* A fork in the middle of a call, as in a signal handler: the child comes
   back into it, and must be refused, whatever it still writes. */

static pid_t child_in_flight;

static void
fork_now( void ) {
  atomic_store( &fake_while_preparing, NULL );
  child_in_flight = fork();
  CHECK( child_in_flight >= 0 );
}

static void
fork_at( uint8_t *sum ) {
  (void)sum;
  atomic_store( &fake_while_multiplying, NULL );
  fork_now();
}

/* The child writes an r that its parent computed. */

static void
reduce_and_fork( unsigned char *scalar, const unsigned char *wide ) {
  uint8_t reduced[PF_SCALAR_SZ];
  fake_reduce( reduced, wide );
  memcpy( used_nonce, reduced, sizeof( used_nonce ) );
  fork_now();
  memcpy( scalar, reduced, sizeof( reduced ) );
}

static void
live_in_flight( const pf_pool *parents, int rc ) {
  uint8_t        pubkey[PF_PUBKEY_SZ];
  signed_message s;
  uint8_t        r[PF_SCALAR_SZ];
  CHECK( rc == PF_ERR_CLOSED );
  CHECK( pf_sodium_set( &fake_table ) == PF_OK );
  CHECK( !check_contains( bytes_of( parents ), size_of( parents ), used_nonce, sizeof( used_nonce ) ) );
  check_closed( parents );
  CHECK( pf_key_open( &key, pubkey, seed ) == PF_OK );
  pf_pool const own = open_pool( 2 );
  CHECK( own.place == parents->place );
  check_counts( &own, 0, 0, 0, 0 ); /* of what the call left here, nothing remains */
  sign_deterministic( &own );
  fill( &own );
  for( size_t i = 0; i < 2; i++ ) {
    sign_prepared( &own, &s );
    recover_nonce( r, &s );
    CHECK( memcmp( r, used_nonce, sizeof( r ) ) != 0 );
  }
  _exit( 0 );
}

static void
test_fork_while_signing( void ) {
  signed_message s;
  uint8_t        r[PF_SCALAR_SZ];
  pf_pool const  pool = open_full_pool( 2 );
  atomic_store( &fake_while_multiplying, fork_at );
  int const rc = sign_bare( &pool, &s );
  if( child_in_flight == 0 ) {
    check_no_signature( &s );
    live_in_flight( &pool, rc );
  }
  CHECK_CHILD_ENDS_WELL( child_in_flight );
  CHECK( rc == PF_OK );
  recover_nonce( r, &s );
  close_pool( &pool );
}

static void
check_fork_while_preparing( const pf_sodium *table ) {
  signed_message s;
  pf_pool const  pool = open_pool( 2 );
  CHECK( pf_sodium_set( table ) == PF_OK );
  atomic_store( &fake_while_preparing, table == &fake_table ? fork_now : NULL );
  int const rc = pf_key_prepare( &key, &pool );
  if( child_in_flight == 0 ) {
    live_in_flight( &pool, rc );
  }
  CHECK( pf_sodium_set( &fake_table ) == PF_OK );
  CHECK_CHILD_ENDS_WELL( child_in_flight );
  CHECK( rc == 1 );
  sign_prepared( &pool, &s );
  close_pool( &pool );
}

static void
test_fork_while_preparing( void ) {
  pf_sodium forking     = fake_table;
  forking.scalar_reduce = reduce_and_fork;
  check_fork_while_preparing( &fake_table );
  check_fork_while_preparing( &forking );
}

/* As many pools as there may be; the last test, because they stay. */

static void
test_too_many_pools( void ) {
  static pf_pool pools[POOLS_MAX];
  size_t         opened = 0;
  size_t         mapped;
  size_t         unlocked;
  while( opened < POOLS_MAX && pf_pool_open( &pools[opened], 1, MAX_AGE, key.generation ) == PF_OK ) {
    opened++;
  }
  pf_pool more = { NULL, 0 };
  CHECK( opened > POOLS_MAX - 100 ); /* places of other sizes count too */
  pf_pages_counts( &mapped, &unlocked );
  CHECK( mapped == POOLS_MAX + 2 ); /* keys and pairs have one each */
  CHECK( pf_pool_open( &more, 1, MAX_AGE, key.generation ) == PF_ERR_MEMORY );
  CHECK( more.place == NULL );
  close_pool( &pools[opened / 2] );
  more = open_full_pool( 1 );
  CHECK( more.place == pools[opened / 2].place );
  close_pool( &more );
}

int
main( void ) {
  uint8_t pubkey[PF_PUBKEY_SZ];
  memset( seed, 5, sizeof( seed ) );
  test_unbound();
  CHECK( pf_signer_open() == PF_OK );
  CHECK( pf_key_open( &key, pubkey, seed ) == PF_OK );
  test_arguments();
  test_no_pool();
  test_age();
  test_clocks_that_drift_apart();
  test_old_nonces_are_replaced();
  test_fresh_behind_old();
  test_fresh_behind_many_old();
  test_clocks_that_fail();
  test_what_is_hashed();
  test_bad_randomness();
  test_base_multiplication_fails();
  test_zero_is_no_nonce();
  test_one_byte_is_a_nonce();
  test_hash_fails();
  test_used_from_its_slot();
  test_no_register_keeps_it();
  test_nothing_stays_on_the_stack();
  test_wiped_meanwhile();
  test_foreign_key();
  test_key_opened_again();
  test_many_seeds();
  test_close();
  test_forged_handles();
  test_stale_handle();
  test_places_are_used_again();
  test_a_new_place_waits_for_the_lock();
  test_nobody_waits_for_a_refill();
  test_a_claimed_slot_is_left_alone();
  test_around_the_end();
  test_close_waits();
  test_refill_ends();
  test_close_races_with_everything();
  test_fork();
  test_fork_beside_calls();
  test_fork_while_signing();
  test_fork_while_preparing();
  test_sizes();
  test_too_many_pools();
  puts( NAME ": ok" );
  return 0;
}
