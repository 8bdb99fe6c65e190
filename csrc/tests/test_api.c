/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE

#include "check.h"
#include "fake_sodium.h"

#include "pf_api.h"
#include "pf_base.h"
#include "pf_base58.h"
#include "pf_cancel.h"
#include "pf_operation.h"

#include <sys/resource.h>

#define ACCOUNT "JEKNVnkbo3jma5nREBBJCDoXFVeKkD56V3xKrvRmWxFG"
#define REQUEST_ID "1bb2b72f-f545-4938-8a38-c5cda8823675"
#define LONG 5000 /* more than is signed, or made canonical, on the stack */

static pf_key  key;
static uint8_t seed[PF_SEED_SZ] = { 1, 2, 3 };

static void
test_binding( void ) {
  pf_sodium lacking   = fake_table;
  lacking.randombytes = NULL;
  CHECK( pf_bind_sodium( &lacking ) == PF_ERR_ARGUMENT );
  CHECK( pf_id_take( 1 ) == PF_ERR_UNBOUND );
  CHECK( pf_bind_sodium( &fake_table ) == PF_OK );
  CHECK( pf_bind_sodium( &fake_table ) == PF_OK );

  size_t mapped   = 0;
  size_t unlocked = 9;
  pf_pages_state( &mapped, &unlocked );
  CHECK( mapped == 3 && unlocked <= mapped ); /* random bytes, keys, pairs */
}

static void
test_error_texts( void ) {
  const char *unknown = pf_error_text( -14 );
  CHECK( strcmp( unknown, "unknown error" ) == 0 );
  for( int code = 1; code > -100; code-- ) {
    const char *text  = pf_error_text( code );
    int const   known = ( code <= PF_ERR_CAPACITY && code >= PF_ERR_NO_NONCE ) ||
                      ( code <= PF_ERR_JSON_END && code >= PF_ERR_JSON_OBJECT );
    CHECK( ( strcmp( text, unknown ) != 0 ) == known );
    for( int other = code + 1; known && other <= 0; other++ ) {
      CHECK( strcmp( text, pf_error_text( other ) ) != 0 );
    }
  }
}

static void
test_base58( void ) {
  uint8_t bytes[PF_SIGNATURE_SZ];
  char    back[PF_SIGNATURE_SZ];
  char    text[PF_BASE58_64_MAX_LEN];
  memset( bytes, 0xff, sizeof( bytes ) );
  CHECK( pf_b58encode( text, sizeof( text ), (const char *)bytes, 33 ) == PF_ERR_ARGUMENT );
  CHECK( pf_b58encode( text, sizeof( text ) - 1, (const char *)bytes, 64 ) == PF_ERR_CAPACITY );
  CHECK( pf_b58encode( text, sizeof( text ), (const char *)bytes, 64 ) == PF_BASE58_64_MAX_LEN );
  CHECK( pf_b58decode( back, sizeof( back ), text, sizeof( text ) ) == PF_SIGNATURE_SZ );
  CHECK( memcmp( back, bytes, sizeof( back ) ) == 0 );
  memset( back, 0, sizeof( back ) );
  CHECK( pf_b58decode_exact( back, sizeof( back ), text, sizeof( text ) ) == PF_OK );
  CHECK( memcmp( back, bytes, sizeof( back ) ) == 0 );
  pf_wipe_bytes( back, sizeof( back ) - 1 );
  CHECK( check_all_zero( back, sizeof( back ) - 1 ) && back[sizeof( back ) - 1] );
}

/* Objects enough for a workspace on the stack, and for one that is not. */

static void
test_canonical( void ) {
  static char text[LONG];
  static char out[LONG];
  for( size_t count = 0; count < 300; count++ ) {
    size_t position = 1;
    size_t len      = 0;
    text[len++]     = '[';
    for( size_t i = 0; i < count; i++ ) {
      len += (size_t)sprintf( text + len, "%s{\"b\":2,\"a\":1}", i ? "," : "" );
    }
    text[len++] = ']';
    CHECK( pf_canonical_bound( text, len ) == len );
    CHECK( pf_canonicalize( out, len, text, len, 0, &position ) == (int64_t)len );
    CHECK( position == 0 );
    CHECK( !count || memcmp( out + 1, "{\"a\":1,\"b\":2}", 13 ) == 0 );
    CHECK( pf_canonicalize( out, len - 1, text, len, 0, &position ) == PF_ERR_CAPACITY );
    CHECK( pf_canonicalize( out, len, text, len - 1, 0, &position ) == PF_ERR_JSON_END && position == len - 1 );
  }
}

static void
test_keys( void ) {
  char    pubkey[PF_PUBKEY_SZ];
  uint8_t expected[PF_PUBKEY_SZ];
  pf_key  generated;
  CHECK( pf_key_open_seed( &key, pubkey, NULL ) == PF_ERR_ARGUMENT );
  CHECK( pf_key_open_seed( &key, pubkey, (const char *)seed ) == PF_OK );
  fake_pubkey_of( expected, seed );
  CHECK( memcmp( pubkey, expected, PF_PUBKEY_SZ ) == 0 );
  CHECK( pf_key_generate( &generated, pubkey ) == PF_OK );
  CHECK( memcmp( pubkey, expected, PF_PUBKEY_SZ ) != 0 );
  CHECK( pf_key_end( &generated ) == PF_OK );
  CHECK( pf_key_end( &generated ) == PF_ERR_CLOSED );
}

static void
test_signing_bytes( void ) {
  static char message[2 * LONG];
  uint8_t     expected[PF_SIGNATURE_SZ];
  char        signature[PF_SIGNATURE_SZ];
  uint64_t    state = 1;
  check_fill( &state, message, sizeof( message ) );
  for( size_t len = 0; len < sizeof( message ); len += len < 4090 || len > 4100 ? 61 : 1 ) {
    memset( signature, 0, sizeof( signature ) );
    CHECK( pf_key_sign_bytes( signature, sizeof( signature ) - 1, &key, message, len ) == PF_ERR_CAPACITY );
    CHECK( check_all_zero( signature, sizeof( signature ) ) );
    CHECK( pf_key_sign_bytes( signature, sizeof( signature ), &key, message, len ) == PF_SIGNATURE_SZ );
    fake_signature_of( expected, seed, message, len );
    CHECK( memcmp( signature, expected, sizeof( expected ) ) == 0 );
  }
  memset( signature, 0, sizeof( signature ) );
  atomic_store( &fake_signing_fails, 1 );
  CHECK( pf_key_sign_bytes( signature, sizeof( signature ), &key, "m", 1 ) == PF_ERR_SODIUM );
  atomic_store( &fake_signing_fails, 0 );
  CHECK( check_all_zero( signature, sizeof( signature ) ) );
  /* No memory is that large: refused, and not a byte of it read. */
  CHECK( pf_key_sign_bytes( signature, sizeof( signature ), &key, "m", SIZE_MAX - PF_SIGNATURE_SZ ) ==
         PF_ERR_MEMORY );
  CHECK( pf_key_sign_bytes( signature, sizeof( signature ), &key, "m", SIZE_MAX ) == PF_ERR_MEMORY );
}

static void
test_pool( void ) {
  pf_pool       pool;
  pf_pool_stats stats;
  char          signature[PF_SIGNATURE_SZ];
  uint8_t       deterministic[PF_SIGNATURE_SZ];
  fake_signature_of( deterministic, seed, "m", 1 );
  CHECK( pf_pool_make( &pool, 0, 60000, &key ) == PF_ERR_ARGUMENT );
  CHECK( pf_pool_make( &pool, 4, 60000, &key ) == PF_OK );
  CHECK( pf_pool_prepare( &pool, &key ) == 1 );
  CHECK( pf_pool_state( &pool, &stats ) == PF_OK && stats.ready == 1 && stats.refilled == 1 );
  CHECK( pf_key_sign_bytes_prepared( signature, 64, &key, &pool, "m", 1 ) == PF_SIGNATURE_SZ );
  CHECK( memcmp( signature, deterministic, PF_SIGNATURE_SZ ) != 0 );
  CHECK( pf_pool_state( &pool, &stats ) == PF_OK && stats.ready == 0 && stats.prepared == 1 );
  CHECK( pf_key_sign_bytes_prepared( signature, 64, &key, &pool, "m", 1 ) == PF_SIGNATURE_SZ ); /* none left */
  CHECK( memcmp( signature, deterministic, PF_SIGNATURE_SZ ) == 0 );
  CHECK( pf_pool_end( &pool ) == PF_OK );
  CHECK( pf_pool_end( &pool ) == PF_ERR_CLOSED );
  CHECK( pf_pool_state( &pool, &stats ) == PF_ERR_CLOSED );
}

static void
test_many( void ) {
  static const char *const messages[] = { "", "one", "another" };
  static size_t const      lens[]     = { 0, 3, 7 };
  char                     out[4 * PF_SIGNATURE_TEXT_SZ];
  int                      error = 1;
  memset( out, 'x', sizeof( out ) );
  CHECK( pf_sign_many( out, &key, messages, lens, 0, &error ) == 0 && error == PF_OK );
  CHECK( pf_sign_many( out, &key, messages, lens, 3, &error ) == 3 && error == PF_OK );
  for( size_t i = 0; i < 3; i++ ) {
    uint8_t           signature[PF_SIGNATURE_SZ];
    char              text[PF_BASE58_64_MAX_LEN];
    const char *const got = out + i * PF_SIGNATURE_TEXT_SZ;
    fake_signature_of( signature, seed, messages[i], lens[i] );
    int64_t const len = pf_b58encode( text, sizeof( text ), (const char *)signature, sizeof( signature ) );
    CHECK( got[PF_BASE58_64_MAX_LEN] == len );
    CHECK( memcmp( got, text, (size_t)len ) == 0 );
  }
  CHECK( out[3 * PF_SIGNATURE_TEXT_SZ] == 'x' );
  atomic_store( &fake_signing_fails, 1 );
  CHECK( pf_sign_many( out, &key, messages, lens, 3, &error ) == 0 && error == PF_ERR_SODIUM );
  atomic_store( &fake_signing_fails, 0 );
  pf_key const closed = { key.slot, key.generation + 1 };
  CHECK( pf_sign_many( out, &closed, messages, lens, 3, &error ) == 0 && error == PF_ERR_CLOSED );
}

/* check_sdk: the message as it must be, and its signature. */

static void
check_sdk( const char *out, int64_t rc, const char *message ) {
  uint8_t      signature[PF_SIGNATURE_SZ];
  char         text[PF_BASE58_64_MAX_LEN];
  size_t const len = strlen( message );
  fake_signature_of( signature, seed, message, len );
  int64_t const text_len = pf_b58encode( text, sizeof( text ), (const char *)signature, sizeof( signature ) );
  CHECK( rc == (int64_t)( len << 8 | (size_t)text_len ) );
  CHECK( memcmp( out, message, len ) == 0 );
  CHECK( memcmp( out + len, text, (size_t)text_len ) == 0 );
}

static void
test_sdk( void ) {
  static const char json[]   = " {\"b\" : 2, \"a\": 1}";
  static const char sorted[] = "{\"a\":1,\"b\":2}";
  char              out[sizeof( sorted ) - 1 + PF_BASE58_64_MAX_LEN];
  char              pair[PF_PAIR_SZ];
  check_sdk( out, pf_sdk_sign_key( out, sizeof( out ), json, sizeof( json ) - 1, &key ), sorted );
  memcpy( pair, seed, PF_SEED_SZ );
  fake_pubkey_of( (uint8_t *)pair + PF_SEED_SZ, seed );
  check_sdk( out, pf_sdk_sign_pair( out, sizeof( out ), json, sizeof( json ) - 1, pair ), sorted );
  CHECK( check_all_zero( pair, sizeof( pair ) ) );
  CHECK( pf_sdk_sign_pair( out, sizeof( out ), json, sizeof( json ) - 1, pair ) == PF_ERR_MISMATCH );
  CHECK( pf_sdk_sign_key( out, sizeof( sorted ) + 40, json, sizeof( json ) - 1, &key ) == PF_ERR_CAPACITY );
  CHECK( pf_sdk_sign_key( out, sizeof( out ), json, sizeof( json ) - 2, &key ) == PF_ERR_JSON_END );
  static const char surrogate[] = "[\"\xed\xa0\x80\"]";
  CHECK( pf_sdk_sign_key( out, sizeof( out ), surrogate, sizeof( surrogate ) - 1, &key ) == PF_ERR_JSON_UTF8 );
  pf_key const closed = { key.slot, key.generation + 1 };
  CHECK( pf_sdk_sign_key( out, sizeof( out ), json, sizeof( json ) - 1, &closed ) == PF_ERR_CLOSED );
}

static void
test_ids( void ) {
  char          text[36];
  int64_t const first = pf_id_take( 3 );
  CHECK( first > 0 && pf_id_take( 1 ) == first + 3 );
  CHECK( pf_id_take( 0 ) == PF_ERR_ARGUMENT );
  CHECK( pf_id_text( text, sizeof( text ), (uint64_t)first + 3 ) == sizeof( text ) );
  CHECK( pf_is_uuid( text, sizeof( text ) ) );
  CHECK( pf_id_text( text, sizeof( text ), (uint64_t)first + 4 ) == PF_ERR_FORKED );
  CHECK( pf_id_text( text, sizeof( text ) - 1, (uint64_t)first ) == PF_ERR_CAPACITY );
}

/* Operations: every byte of the request, with payloads for the stack and
   for the heap, and the bound that pf_operation_bound promises. */

static void
check_operation( const pf_template *t, const char *name, const char *payload, const char *members ) {
  static char  message[4 * LONG];
  static char  expected[4 * LONG];
  char         text[PF_BASE58_64_MAX_LEN];
  uint8_t      signature[PF_SIGNATURE_SZ];
  size_t       position = 1;
  size_t const len      = strlen( payload );
  size_t const bound    = pf_operation_bound( payload, len );
  char *const  out      = malloc( bound );
  CHECK( out != NULL );
  int const message_len = snprintf(
      message, sizeof( message ),
      "{\"data\":{%s},\"expiry_window\":5000,\"timestamp\":1749223343149,\"type\":\"%s\"}", members, name );
  fake_signature_of( signature, seed, message, (size_t)message_len );
  int64_t const text_len = pf_b58encode( text, sizeof( text ), (const char *)signature, sizeof( signature ) );
  int const     expected_len = snprintf( expected, sizeof( expected ),
                                         "{\"id\":\"" REQUEST_ID "\",\"params\":{\"%s\":{\"account\":\"" ACCOUNT
                                         "\",\"signature\":\"%.*s\","
                                             "\"timestamp\":1749223343149,\"expiry_window\":5000%s%s}}}",
                                         name, (int)text_len, text, *members ? "," : "", members );
  int64_t const n = pf_request( out, bound, t, name, strlen( name ), payload, len, 1749223343149, 0, REQUEST_ID,
                                strlen( REQUEST_ID ), &position );
  CHECK( n == expected_len && memcmp( out, expected, (size_t)n ) == 0 );
  CHECK( pf_request( out, (size_t)n - 1, t, name, strlen( name ), payload, len, 1749223343149, 0, REQUEST_ID,
                     strlen( REQUEST_ID ), &position ) == PF_ERR_CAPACITY );
  check_sdk( out, pf_sign_data( out, bound, t, name, strlen( name ), payload, len, 1749223343149, &position ),
             message );
  CHECK( pf_sign_data( out, (size_t)message_len, t, name, strlen( name ), payload, len, 1749223343149,
                       &position ) == PF_ERR_CAPACITY );
  free( out );
}

static size_t position_refused;

static int64_t
refused( const pf_template *t, const char *name, size_t name_len, const char *payload, int64_t timestamp ) {
  static char    out[LONG];
  size_t         position = 1;
  unsigned const before   = atomic_load( &fake_signatures );
  int64_t const n = pf_request( out, sizeof( out ), t, name, name_len, payload, strlen( payload ), timestamp, 0,
                                REQUEST_ID, strlen( REQUEST_ID ), &position );
  CHECK( n < 0 );
  CHECK( pf_sign_data( out, sizeof( out ), t, name, name_len, payload, strlen( payload ), timestamp,
                       &position ) == n );
  CHECK( atomic_load( &fake_signatures ) == before );
  position_refused = position;
  return n;
}

static void
test_operations( void ) {
  static const char longest[] = "abcdefghijklmnopqrstuvwxyz_0123456789_abcdefghijklmnopqrstuvwxyz_";
  static char       payload[2 * LONG];
  static char       members[2 * LONG];
  pf_template       t;
  CHECK( pf_template_make( &t, PF_OPERATION, &key, NULL, ACCOUNT, strlen( ACCOUNT ), NULL, 0, NULL, 0, 0,
                           5000 ) == PF_OK );
  check_operation( &t, "z", "{}", "" );
  check_operation( &t, "create_order", " \t\r\n{\"b\":2,\"a\":\"\"}", "\"a\":\"\",\"b\":2" );
  for( size_t count = 1; count < 2600; count += count < 1800 ? 300 : 7 ) { /* characters */
    memset( members, 'm', sizeof( members ) );
    memcpy( members, "\"a\":\"", 5 );
    memcpy( members + count + 5, "\"", 2 );
    (void)snprintf( payload, sizeof( payload ), "{%s}", members );
    check_operation( &t, "name_09", payload, members );
  }
  for( size_t count = 1; count < 400; count += count < 90 ? 1 : 50 ) { /* members */
    size_t len = 0;
    for( size_t i = 0; i < count; i++ ) {
      len += (size_t)sprintf( members + len, "%s\"%03zu\":0", i ? "," : "", i );
    }
    (void)snprintf( payload, sizeof( payload ), "{%s}", members );
    check_operation( &t, "a", payload, members );
  }
  char name[PF_OPERATION_NAME_MAX + 2];
  CHECK( sizeof( longest ) >= sizeof( name ) );
  memcpy( name, longest, PF_OPERATION_NAME_MAX );
  name[PF_OPERATION_NAME_MAX] = '\0';
  check_operation( &t, name, "{}", "" );
  CHECK( refused( &t, longest, PF_OPERATION_NAME_MAX + 1, "{}", 1 ) == PF_ERR_ARGUMENT );
  CHECK( refused( &t, "", 0, "{}", 1 ) == PF_ERR_ARGUMENT );
  for( int c = 0; c < 256; c++ ) {
    if( !c || !strchr( "abcdefghijklmnopqrstuvwxyz_0123456789", c ) ) {
      for( size_t at = 0; at < 3; at++ ) {
        char text[3] = { 'a', 'b', 'c' };
        text[at]     = (char)c;
        CHECK( refused( &t, text, 3, "{}", 1 ) == PF_ERR_ARGUMENT );
      }
    }
  }
  CHECK( refused( &t, "a", 1, "{}", -1 ) == PF_ERR_ARGUMENT );
  CHECK( position_refused == 0 );
  CHECK( refused( &t, "a", 1, "[]", 1 ) == PF_ERR_JSON_OBJECT && position_refused == 0 );
  CHECK( refused( &t, "a", 1, " \t\r\n1", 1 ) == PF_ERR_JSON_OBJECT && position_refused == 4 );
  CHECK( refused( &t, "a", 1, "{", 1 ) == PF_ERR_JSON_END && position_refused == 1 );
  CHECK( refused( &t, "a", 1, " ", 1 ) == PF_ERR_JSON_VALUE );
  CHECK( refused( &t, "a", 1, "{\"a\":\"\xed\xa0\x80\"}", 1 ) == PF_ERR_JSON_UTF8 ); /* a raw surrogate */
  pf_template order;
  CHECK( pf_template_make( &order, PF_CANCEL_ORDER, &key, NULL, ACCOUNT, strlen( ACCOUNT ), NULL, 0, "BTC", 3,
                           0, 5000 ) == PF_OK );
  CHECK( refused( &order, "a", 1, "{}", 1 ) == PF_ERR_ARGUMENT );
}

/* Without memory for what is too large for the stack: refused, unsigned.
   Sanitizers take more than they are given. */

#if defined( __SANITIZE_ADDRESS__ ) || defined( __SANITIZE_THREAD__ )
#define MEMORY_ENDS 0
#elif defined( __has_feature )
#if __has_feature( address_sanitizer ) || __has_feature( memory_sanitizer ) || __has_feature( thread_sanitizer )
#define MEMORY_ENDS 0
#endif
#endif
#if !defined( MEMORY_ENDS )
#define MEMORY_ENDS 1
#endif

#define LARGE ( (size_t)16 << 20 )

static void
without_memory( char *payload, char *out ) {
  pf_template         t;
  size_t              position;
  char                signature[PF_SIGNATURE_SZ];
  struct rlimit const none   = { 1 << 20, 1 << 20 };
  unsigned const      before = atomic_load( &fake_signatures );
  CHECK( pf_template_make( &t, PF_OPERATION, &key, NULL, ACCOUNT, strlen( ACCOUNT ), NULL, 0, NULL, 0, 0,
                           5000 ) == PF_OK );
  CHECK( setrlimit( RLIMIT_DATA, &none ) == 0 );
  void *const probe = malloc( LARGE );
  if( probe ) { /* a system, or a valgrind, that has no such limit */
    free( probe );
    return;
  }
  for( size_t i = 0; i < 2; i++ ) { /* much text, many members */
    memset( payload, i ? ':' : 'x', LARGE );
    memcpy( payload, "{\"a\":\"", 6 );
    memcpy( payload + LARGE - 2, "\"}", 2 );
    CHECK( pf_request( out, LARGE, &t, "a", 1, payload, LARGE, 1, 0, NULL, 0, &position ) == PF_ERR_MEMORY );
    CHECK( pf_sign_data( out, LARGE, &t, "a", 1, payload, LARGE, 1, &position ) == PF_ERR_MEMORY );
    CHECK( pf_sdk_sign_key( out, LARGE, payload, LARGE, &key ) == PF_ERR_MEMORY );
  }
  CHECK( pf_canonicalize( out, LARGE, payload, LARGE, 0, &position ) == PF_ERR_MEMORY );
  CHECK( pf_key_sign_bytes( signature, sizeof( signature ), &key, payload, LARGE ) == PF_ERR_MEMORY );
  CHECK( atomic_load( &fake_signatures ) == before );
}

static void
test_without_memory( void ) {
  char *const payload = malloc( LARGE );
  char *const out     = malloc( LARGE );
  CHECK( payload != NULL && out != NULL );
  pid_t const child = MEMORY_ENDS ? fork() : -1;
  if( child == 0 ) {
    char pubkey[PF_PUBKEY_SZ];
    CHECK( pf_key_open_seed( &key, pubkey, (const char *)seed ) == PF_OK ); /* the parent's did not cross */
    without_memory( payload, out );
    _exit( 0 );
  }
  if( child > 0 ) {
    CHECK_CHILD_ENDS_WELL( child );
  }
  free( payload );
  free( out );
}

int
main( void ) {
  test_binding();
  test_error_texts();
  test_base58();
  test_canonical();
  test_keys();
  test_signing_bytes();
  test_pool();
  test_many();
  test_sdk();
  test_ids();
  test_operations();
  test_without_memory();
  CHECK( pf_key_end( &key ) == PF_OK );
  puts( "test_api: ok" );
  return 0;
}
