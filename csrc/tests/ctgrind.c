/* SPDX-License-Identifier: MIT */
/* ctgrind.c: no branch and no index depends on a secret.

   valgrind's memcheck reports every branch and every address that depends
   on undefined bytes.  So secrets are called undefined where they come
   in: the seed or the base58 text of a key, a pair for the drop-in, and
   every random byte.  memcheck follows them from there through the core
   and libsodium.  What may be known is called defined again by the core
   itself, with PF_DECLASSIFY, each time with its reason.

   That what comes out clean was watched at all is shown three times over.
   At the border to libsodium each secret must still be undefined; on
   each, a branch and an index of our own must raise an error; and
   tests/ctgrind plants the three in the core that must be found there.

   tests/ctgrind builds this and the core into a shared library, and
   drives it under valgrind with PyNaCl's libsodium. */

#if !defined( _GNU_SOURCE )
#define _GNU_SOURCE /* nanosleep, fork */
#endif

#include "pf_armed.h"
#include "pf_base58.h"
#include "pf_cancel.h"
#include "pf_clock.h"
#include "pf_nonce.h"
#include "pf_pages.h"
#include "pf_random.h"
#include "pf_signer.h"
#include "pf_thread.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include <valgrind/memcheck.h>

#define MESSAGES 12
#define MESSAGE_MAX 5000 /* more than is signed on the stack */
#define NONCES 4
#define SLOT_SZ 256 /* pf_signer.c, key_slot */
#define WINDOW 900  /* ms: the keeper signs anew after a third of it */

static int failures;

static void
expect( int ok, const char *what ) {
  if( !ok ) {
    fprintf( stderr, "ctgrind: %s\n", what );
    failures++;
  }
}

/* mark calls bytes secret; a control leaves it out. */

static void
mark( void *bytes, size_t n ) {
#if !defined( PF_CTGRIND_UNMARKED )
  (void)VALGRIND_MAKE_MEM_UNDEFINED( bytes, n );
#endif
  (void)bytes;
  (void)n;
}

static unsigned
secret_bits( const uint8_t *bytes, size_t n ) {
  unsigned bits = 0;
  for( size_t i = 0; i < n; i++ ) {
    uint8_t undefined = 0;
    (void)VALGRIND_GET_VBITS( bytes + i, &undefined, 1 );
    for( ; undefined; undefined &= (uint8_t)( undefined - 1 ) ) {
      bits++;
    }
  }
  return bits;
}

/* The border: what crosses it, how often as a secret, how often not, and
   how often our own branch and index on it were seen. */

enum { SEED, SCALAR, PREFIX, RANDOMNESS, NONCE, PRODUCT, PAIR_HASHED, SECRETS };

#define SECRET_SZ 32
#define SECRET_BITS 250 /* of 256: clamping makes six known, no more */

static struct {
  const char *name;
  unsigned    secret, known, branches, indices;
} border[SECRETS] = {
    { "seed", 0, 0, 0, 0 },        { "scalar", 0, 0, 0, 0 }, { "prefix", 0, 0, 0, 0 },
    { "randomness", 0, 0, 0, 0 },  { "nonce", 0, 0, 0, 0 },  { "product", 0, 0, 0, 0 },
    { "pair hashed", 0, 0, 0, 0 },
};

static int               probing;
static volatile uint32_t sink;

static void
probe( size_t what, const uint8_t *bytes ) {
  static uint32_t const squares[256] = { 0, 1, 4, 9 };
  unsigned const        start        = (unsigned)VALGRIND_COUNT_ERRORS;
  if( bytes[1] & 1 ) {
    sink = 1;
  }
  unsigned const branched = (unsigned)VALGRIND_COUNT_ERRORS;
  sink                    = squares[bytes[2]];
  unsigned const indexed  = (unsigned)VALGRIND_COUNT_ERRORS;
  border[what].branches += branched > start;
  border[what].indices += indexed > branched;
}

static void
cross( size_t what, const uint8_t *bytes ) {
  unsigned *count = secret_bits( bytes, SECRET_SZ ) >= SECRET_BITS ? &border[what].secret : &border[what].known;
  *count += 1;
  if( probing ) {
    probe( what, bytes );
  }
}

/* libsodium's functions, with a look at what goes in. */

static pf_sodium sodium;

static int
watched_sign( unsigned char       *out,
              unsigned long long  *out_len,
              const unsigned char *message,
              unsigned long long   len,
              const unsigned char *pair ) {
  cross( SEED, pair );
  return sodium.crypto_sign( out, out_len, message, len, pair );
}

static int
watched_seed_keypair( unsigned char *pubkey, unsigned char *pair, const unsigned char *seed ) {
  cross( SEED, seed );
  return sodium.crypto_sign_seed_keypair( pubkey, pair, seed );
}

/* A hash is known by its label: of the seed, of a pair, of a nonce. */

static int
watched_sha512( unsigned char *out, const unsigned char *in, unsigned long long n ) {
  static const char of_nonce[] = "pacifica_fast: prepared Ed25519 nonce";
  static const char of_pair[]  = "pacifica_fast: a pair that belongs together";
  if( n == PF_SEED_SZ ) {
    cross( SEED, in );
  } else if( n > 128 && secret_bits( in, 8 ) == 0 && memcmp( in, of_nonce, 16 ) == 0 ) {
    cross( RANDOMNESS, in + sizeof( of_nonce ) );
    cross( PREFIX, in + 128 );
  } else if( n == sizeof( of_pair ) + PF_PAIR_SZ && memcmp( in, of_pair, 16 ) == 0 ) {
    cross( PAIR_HASHED, in + sizeof( of_pair ) );
  }
  return sodium.crypto_hash_sha512( out, in, n );
}

static void
watched_randombytes( unsigned char *out, unsigned long long n ) {
  sodium.randombytes( out, n );
  mark( out, n );
}

static void
watched_mul( unsigned char *product, const unsigned char *k, const unsigned char *a ) {
  expect( secret_bits( k, SECRET_SZ ) == 0, "k, a hash of what is public, counts as secret" );
  cross( SCALAR, a );
  sodium.scalar_mul( product, k, a );
}

/* Counted behind the call, which keeps this function on the stack: the
   one suppression names it, and is to be used so often. */

static volatile unsigned multiplications;

static int
watched_base_noclamp( unsigned char *point, const unsigned char *r ) {
  cross( NONCE, r );
  int const rc = sodium.scalarmult_base_noclamp( point, r );
  multiplications++;
  return rc;
}

static void
watched_add( unsigned char *sum, const unsigned char *r, size_t n ) {
  cross( PRODUCT, sum );
  cross( NONCE, r );
  sodium.sodium_add( sum, r, n );
}

static int
watch( void *const functions[8] ) {
  pf_sodium table;
  _Static_assert( sizeof( sodium ) == 8 * sizeof( void * ), "pf_sodium has eight functions" );
  memcpy( &sodium, functions, sizeof( sodium ) );
  table                          = sodium;
  table.crypto_sign              = watched_sign;
  table.crypto_sign_seed_keypair = watched_seed_keypair;
  table.crypto_hash_sha512       = watched_sha512;
  table.randombytes              = watched_randombytes;
  table.scalar_mul               = watched_mul;
  table.scalarmult_base_noclamp  = watched_base_noclamp;
  table.sodium_add               = watched_add;
  return pf_bind_sodium( &table );
}

/* One key for all work, and what is made with it. */

static const uint8_t  seed_of_key[PF_SEED_SZ] = { 7 };
static pf_key         key;
static uint8_t        pair[PF_PAIR_SZ];
static char           account[PF_BASE58_32_MAX_LEN];
static size_t         account_len;
static pf_pool        pool;
static uint8_t        message[MESSAGE_MAX];
static const char     json[] = "{\"z\": 1, \"a\": {\"symbol\": \"BTC\", \"amount\": \"0.1\"}}";
static pf_template    by_order, by_order_prepared, all_orders, any_operation, any_prepared;
static pf_armed_store store;
static unsigned       secrets_left; /* bytes that should have been wiped */

static void
should_be_wiped( const uint8_t *bytes, size_t n ) {
  for( size_t i = 0; i < n; i++ ) {
    secrets_left += secret_bits( bytes + i, 1 ) != 0 || bytes[i] != 0;
  }
}

static void
opening_a_key( void ) {
  uint8_t seed[PF_SEED_SZ];
  uint8_t pubkey[PF_PUBKEY_SZ];
  memcpy( seed, seed_of_key, sizeof( seed ) );
  mark( seed, sizeof( seed ) );
  expect( pf_key_open_seed( &key, (char *)pubkey, (const char *)seed ) == PF_OK, "the key does not open" );
  int64_t const len = pf_b58encode( account, sizeof( account ), (const char *)pubkey, sizeof( pubkey ) );
  expect( len > 0, "no account" );
  account_len = (size_t)len;
  memcpy( pair, seed_of_key, sizeof( seed ) );
  memcpy( pair + PF_SEED_SZ, pubkey, sizeof( pubkey ) );
}

static void
generating_a_key( void ) {
  pf_key  generated;
  char    pubkey[PF_PUBKEY_SZ];
  uint8_t signature[PF_SIGNATURE_SZ];
  expect( pf_key_generate( &generated, pubkey ) == PF_OK, "no key is generated" );
  expect( pf_key_sign_bytes( (char *)signature, sizeof( signature ), &generated, "m", 1 ) > 0,
          "a generated key does not sign" );
  expect( pf_key_end( &generated ) == PF_OK, "a generated key does not close" );
  should_be_wiped( (const uint8_t *)generated.slot + 8, SLOT_SZ - 8 );
}

/* Texts of private keys: the lengths are public, and whether it is one. */

static void
decode( const char *text, size_t len, size_t n, int expected ) {
  char copy[PF_BASE58_DECODE_MAX] = { 0 };
  char out[PF_PAIR_SZ];
  memcpy( copy, text, len );
  memset( out, 1, sizeof( out ) );
  mark( copy, len );
  expect( pf_b58decode_exact( out, n, copy, len ) == expected, "base58 is not decoded as expected" );
  if( expected != PF_OK ) {
    should_be_wiped( (const uint8_t *)out, n );
  } else if( n == SECRET_SZ ) {
    cross( SEED, (const uint8_t *)out );
  } else {
    pf_key opened;
    (void)pf_key_open_seed( &opened, copy, out );
    (void)pf_key_end( &opened );
  }
}

static void
decoding_keys( void ) {
  char    text[PF_BASE58_64_MAX_LEN];
  uint8_t bytes[PF_PAIR_SZ];
  for( unsigned i = 0; i < MESSAGES; i++ ) {
    memset( bytes, (int)( 40 + 17 * i ), sizeof( bytes ) );
    memset( bytes, 0, i % 4 ); /* leading zeros are leading ones */
    int64_t len = pf_b58encode( text, sizeof( text ), (const char *)bytes, PF_SEED_SZ );
    decode( text, (size_t)len, PF_SEED_SZ, PF_OK );
    len = pf_b58encode( text, sizeof( text ), (const char *)bytes, PF_PAIR_SZ );
    decode( text, (size_t)len, PF_PAIR_SZ, PF_OK );
    text[i] = 'l'; /* not in the alphabet */
    decode( text, (size_t)len, PF_PAIR_SZ, PF_ERR_BASE58 );
  }
  memset( text, 'z', sizeof( text ) );
  decode( text, sizeof( text ), PF_PAIR_SZ, PF_ERR_BASE58 ); /* too large a number */
  decode( text, 44, PF_SEED_SZ, PF_ERR_BASE58 );
  memset( text, '1', sizeof( text ) );
  decode( text, sizeof( text ), PF_PAIR_SZ, PF_ERR_BASE58 ); /* too many ones */
}

static void
signing( void ) {
  uint8_t signature[PF_SIGNATURE_SZ];
  for( size_t i = 0; i <= MESSAGES; i++ ) {
    expect( pf_key_sign_bytes( (char *)signature, sizeof( signature ), &key, (const char *)message,
                               i * MESSAGE_MAX / MESSAGES ) == PF_SIGNATURE_SZ,
            "not signed" );
  }
}

static void
signing_many( void ) {
  static char out[MESSAGES * PF_SIGNATURE_TEXT_SZ];
  const char *messages[MESSAGES];
  size_t      lens[MESSAGES];
  int         error;
  for( size_t i = 0; i < MESSAGES; i++ ) {
    messages[i] = (const char *)message;
    lens[i]     = i * 40;
  }
  expect( pf_sign_many( out, &key, messages, lens, MESSAGES, &error ) == MESSAGES, "not all are signed" );
}

static void
sign_with_pair( int belongs, int expected ) {
  char out[512];
  char copy[PF_PAIR_SZ];
  memcpy( copy, pair, sizeof( copy ) );
  copy[PF_SEED_SZ] = (char)( copy[PF_SEED_SZ] ^ !belongs );
  mark( copy, sizeof( copy ) );
  int64_t const rc = pf_sdk_sign_pair( out, sizeof( out ), json, sizeof( json ) - 1, copy );
  expect( expected == PF_OK ? rc > 0 : rc == expected, "a pair does not sign as expected" );
  should_be_wiped( (const uint8_t *)copy, sizeof( copy ) );
}

static void
drop_in( void ) {
  char out[512];
  expect( pf_sdk_sign_key( out, sizeof( out ), json, sizeof( json ) - 1, &key ) > 0, "the drop-in fails" );
  sign_with_pair( 1, PF_OK );
  sign_with_pair( 1, PF_OK ); /* remembered */
  sign_with_pair( 0, PF_ERR_MISMATCH );
}

static void
making_nonces( void ) {
  int rc = 1;
  while( rc == 1 ) {
    rc = pf_pool_prepare( &pool, &key );
  }
  expect( rc == 0, "a nonce cannot be made" );
}

static void
prepared( void ) {
  uint8_t       signature[PF_SIGNATURE_SZ];
  pf_pool_stats stats = { 0, 0, 0, 0, 0 };
  for( size_t i = 0; i <= NONCES; i++ ) { /* the last without a nonce */
    expect( pf_key_sign_bytes_prepared( (char *)signature, sizeof( signature ), &key, &pool,
                                        (const char *)message, i * MESSAGE_MAX / NONCES ) == PF_SIGNATURE_SZ,
            "not signed with a prepared nonce" );
  }
  expect( pf_pool_state( &pool, &stats ) == PF_OK && stats.prepared % NONCES == 0 && stats.prepared &&
              stats.deterministic,
          "not signed with prepared nonces" );
}

/* Nonces that are too old, and a key that is not the pool's. */

static void
burning( void ) {
  pf_pool short_lived;
  pf_key  other;
  char    pubkey[PF_PUBKEY_SZ];
  uint8_t signature[PF_SIGNATURE_SZ];
  expect( pf_pool_make( &short_lived, 2, 1, &key ) == PF_OK, "no second pool" );
  for( int i = 0; i < 3; i++ ) {
    (void)pf_pool_prepare( &short_lived, &key );
    pf_thread_pause( 3000000 );
  }
  expect( pf_key_sign_bytes_prepared( (char *)signature, sizeof( signature ), &key, &short_lived, "m", 1 ) > 0,
          "not signed without a nonce" );
  expect( pf_key_generate( &other, pubkey ) == PF_OK &&
              pf_key_sign_bytes_prepared( (char *)signature, sizeof( signature ), &other, &short_lived, "m",
                                          1 ) == PF_ERR_ARGUMENT,
          "a pool serves another key" );
  (void)pf_key_end( &other );
  (void)pf_pool_end( &short_lived );
  expect( pf_key_refill( &key, &short_lived ) == PF_OK, "a closed pool is refilled" );
}

/* The thread that keeps a pool full. */

static void *
refill( void *short_lived ) {
  expect( pf_key_refill( &key, short_lived ) == PF_OK, "not refilled" );
  return NULL;
}

static void
refilling( void ) {
  pf_pool       in_background;
  pf_pool_stats stats = { 0, 0, 0, 0, 0 };
  pthread_t     thread;
  expect( pf_pool_make( &in_background, NONCES, 60000, &key ) == PF_OK &&
              pthread_create( &thread, NULL, refill, &in_background ) == 0,
          "no thread" );
  for( int i = 0; i < 2000 && stats.refilled < NONCES; i++ ) {
    pf_thread_pause( 5000000 );
    (void)pf_pool_state( &in_background, &stats );
  }
  expect( stats.refilled == NONCES && pf_pool_end( &in_background ) == PF_OK, "the pool is not filled" );
  (void)pthread_join( thread, NULL );
}

static void
make( pf_template *t, int kind, const pf_pool *from, const char *symbol ) {
  expect( pf_template_make( t, kind, &key, from, account, account_len, account, account_len, symbol,
                            strlen( symbol ), 0, WINDOW ) == PF_OK,
          "no template" );
}

static void
cancels_with( const pf_template *t ) {
  static const char client[] = "79f948fd-7556-4066-a128-083f3ea49322";
  static char       out[PF_BATCH_MAX];
  static char       again[PF_FRAME_MAX];
  pf_blank const    blank    = { t, out, sizeof( out ) };
  pf_cancel_item    items[2] = { { t, 42069, { 0 }, 0 }, { t, 0, { 0 }, 1 } };
  memcpy( items[1].client_order_id, client, PF_CLIENT_ORDER_ID_LEN );
  expect( pf_cancel_client_order_id( out, sizeof( out ), t, client, PF_CLIENT_ORDER_ID_LEN, 0, 0, NULL, 0 ) >
                  0 &&
              pf_blank_order_id( &blank, 42069, 0 ) > 0 &&
              pf_batch_cancel( out, sizeof( out ), items, 2, 0, 0, NULL, 0 ) > 0,
          "no cancel" );
  int64_t const len = pf_frame_cancel_order_id( &blank, 42069, 0, 0 );
  expect( len > 0 && pf_frame_again( again, sizeof( again ), out, (size_t)len ) == len, "no frame" );
  expect( pf_frame_cancel_client_order_id( &blank, client, PF_CLIENT_ORDER_ID_LEN, 0, 0 ) > 0, "no frame" );
}

static void
cancels( void ) {
  static char out[PF_REQUEST_MAX];
  make( &by_order, PF_CANCEL_ORDER, NULL, "BTC" );
  make( &by_order_prepared, PF_CANCEL_ORDER, &pool, "BTC" );
  make( &all_orders, PF_CANCEL_ALL, NULL, "" );
  making_nonces();
  cancels_with( &by_order );
  cancels_with( &by_order_prepared );
  expect( pf_cancel_all_orders( out, sizeof( out ), &all_orders, 0, 0, NULL, 0 ) > 0, "no cancel of all" );
}

static void
operations_with( const pf_template *t ) {
  static const char name[] = "create_order";
  static char       out[20000];
  static char       large[8000] = "{\"a\":\"";
  size_t            position;
  memset( large + 6, 'x', sizeof( large ) - 8 );
  memcpy( large + sizeof( large ) - 2, "\"}", 2 );
  expect( pf_sign_data( out, sizeof( out ), t, name, sizeof( name ) - 1, json, sizeof( json ) - 1, 0,
                        &position ) > 0 &&
              pf_request( out, sizeof( out ), t, name, sizeof( name ) - 1, large, sizeof( large ), 0, 0, NULL,
                          0, &position ) > 0,
          "an operation is not signed" );
}

static void
operations( void ) {
  make( &any_operation, PF_OPERATION, NULL, "" );
  make( &any_prepared, PF_OPERATION, &pool, "" );
  making_nonces();
  operations_with( &any_operation );
  operations_with( &any_prepared );
}

static void *
keep( void *unused ) {
  (void)unused;
  expect( pf_armed_keep( &store ) == PF_OK, "no keeper" );
  return NULL;
}

static void
wait_for_keeper( void ) {
  uint64_t alive    = 0;
  uint64_t resigned = 0;
  for( int i = 0; i < 2000 && !resigned; i++ ) {
    pf_thread_pause( 5000000 );
    (void)pf_armed_counts( &store, &alive, &resigned );
  }
  expect( resigned > 0, "the keeper signs nothing anew" );
}

static void
armed( void ) {
  static const char client[] = "79f948fd-7556-4066-a128-083f3ea49322";
  static char       out[PF_FRAME_MAX];
  pthread_t         keeper;
  int64_t const     ids = pf_id_take( 3 );
  expect( ids > 0 && pf_armed_open( &store ) == PF_OK, "no store" );
  int64_t const fired = pf_armed_add( &store, &by_order, 1, NULL, 0, (uint64_t)ids );
  int64_t const dropped =
      pf_armed_add( &store, &by_order, 0, client, PF_CLIENT_ORDER_ID_LEN, (uint64_t)ids + 1 );
  expect( pf_armed_add( &store, &by_order, 2, NULL, 0, (uint64_t)ids + 2 ) >= 0, "not armed" );
  pf_armed_shot const shot = { store, fired, out, sizeof( out ) };
  int64_t const       len  = pf_armed_fire( &shot );
  expect( len > 0 || len == PF_ERR_STALE, "not fired" ); /* stale on a slow machine */
  expect( pf_armed_drop( &store, dropped ) == PF_OK, "not dropped" );
  expect( pthread_create( &keeper, NULL, keep, NULL ) == 0, "no thread" );
  wait_for_keeper();
  expect( pf_armed_close( &store ) == PF_OK, "the store does not close" );
  (void)pthread_join( keeper, NULL );
}

/* In a child no key is open; it may open its own. */

static int
in_child( void ) {
  unsigned const before = (unsigned)VALGRIND_COUNT_ERRORS;
  char           signature[PF_SIGNATURE_SZ];
  failures = 0;
  expect( pf_key_sign_bytes( signature, sizeof( signature ), &key, "m", 1 ) == PF_ERR_CLOSED,
          "a key crosses a fork" );
  expect( pf_pool_prepare( &pool, &key ) == PF_ERR_CLOSED, "a pool crosses a fork" );
  opening_a_key();
  signing();
  expect( pf_key_end( &key ) == PF_OK, "a child's key does not close" );
  return (unsigned)VALGRIND_COUNT_ERRORS != before || failures;
}

static void
forking( void ) {
  int         status = 1;
  pid_t const child  = fork();
  if( child == 0 ) {
    _exit( in_child() );
  }
  expect( child > 0 && waitpid( child, &status, 0 ) == child && status == 0, "in a forked child" );
}

static void
closing( void ) {
  const pf_pages *place = pool.place;
  expect( pf_pool_end( &pool ) == PF_OK && pf_key_end( &key ) == PF_OK, "not closed" );
  should_be_wiped( (const uint8_t *)key.slot, SLOT_SZ );
  should_be_wiped( place->start, place->sz );
  expect( pf_key_end( &key ) == PF_ERR_CLOSED && pf_pool_end( &pool ) == PF_ERR_CLOSED, "closed twice" );
}

/* On every secret, where it crosses the border, a branch and an index. */

static void
our_own( void ) {
  probing = 1;
  opening_a_key();
  signing();
  drop_in();
  expect( pf_pool_make( &pool, NONCES, 60000, &key ) == PF_OK, "no pool" );
  making_nonces();
  prepared();
  probing = 0;
}

static void
opening_a_pool( void ) {
  expect( pf_pool_make( &pool, NONCES, 60000, &key ) == PF_OK, "no pool" );
}

static void
report( void ) {
  for( size_t i = 0; i < SECRETS; i++ ) {
    printf( "border: %s: %u %u %u %u\n", border[i].name, border[i].secret, border[i].known, border[i].branches,
            border[i].indices );
  }
  printf( "left: %u\nmultiplications: %u\n", secrets_left, multiplications );
}

/* pf_ctgrind prints a line for each piece of work, with the errors that it
   raised, and one for each secret: how often it crossed the border as a
   secret and as known, how often our branch and our index on it were
   seen.  Returns 0 if all of it could be done.  functions has the
   addresses of libsodium's functions in the order of pf_sodium. */

__attribute__( ( visibility( "default" ) ) ) int
pf_ctgrind( void *const functions[8] ) {
  static struct {
    const char *name;
    void ( *work )( void );
  } const works[] = {
      { "opening a key", opening_a_key },
      { "generating a key", generating_a_key },
      { "decoding keys", decoding_keys },
      { "signing", signing },
      { "signing many", signing_many },
      { "the drop-in", drop_in },
      { "opening a pool", opening_a_pool },
      { "making nonces", making_nonces },
      { "signing with prepared nonces", prepared },
      { "burning nonces", burning },
      { "making nonces again", making_nonces },
      { "refilling", refilling },
      { "cancels", cancels },
      { "operations", operations },
      { "armed cancels", armed },
      { "forking", forking },
      { "closing", closing },
      { "our own", our_own },
  };
  if( watch( functions ) != PF_OK ) {
    return 1;
  }
  for( size_t i = 0; i < sizeof( works ) / sizeof( *works ); i++ ) {
    unsigned const before = (unsigned)VALGRIND_COUNT_ERRORS;
    works[i].work();
    printf( "work: %s: %u\n", works[i].name, (unsigned)VALGRIND_COUNT_ERRORS - before );
  }
  report();
  fflush( stdout );
  return failures != 0;
}
