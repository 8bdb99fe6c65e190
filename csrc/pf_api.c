/* SPDX-License-Identifier: MIT */
#include "pf_api.h"

#include "pf_base.h"
#include "pf_base58.h"
#include "pf_cancel.h"
#include "pf_json.h"
#include "pf_operation.h"
#include "pf_pages.h"
#include "pf_random.h"
#include "pf_signer.h"
#include "pf_sodium.h"

#include <stdlib.h>

/* pf_api.h names the capacities as numbers, for cffi; here they are
   held against what they are made of. */

#define ENVELOPE_SZ ( 64 + PF_CLIENT_ORDER_ID_LEN )
#define SIGNED_ORDER_SZ                                                                                        \
  ( 64 + PF_HEAD_SZ + PF_BASE58_64_MAX_LEN + 2 * PF_U64_LEN + PF_TAIL_SZ + PF_CLIENT_ORDER_ID_LEN )

_Static_assert( ENVELOPE_SZ + SIGNED_ORDER_SZ <= PF_REQUEST_MAX, "PF_REQUEST_MAX holds any cancel" );
_Static_assert( ENVELOPE_SZ + PF_BATCH_ITEMS_MAX * ( SIGNED_ORDER_SZ + 32 ) <= PF_BATCH_MAX,
                "PF_BATCH_MAX holds any batch" );

int
pf_bind_sodium( const pf_sodium *table ) {
  int rc = pf_sodium_set( table );
  if( rc == PF_OK ) {
    rc = pf_random_open();
  }
  return rc == PF_OK ? pf_signer_open() : rc;
}

const char *
pf_error_text( int64_t code ) {
  switch( code ) {
  case PF_ERR_CAPACITY: return "output buffer too small";
  case PF_ERR_ARGUMENT: return "argument out of range";
  case PF_ERR_MEMORY: return "out of memory";
  case PF_ERR_UNBOUND: return "libsodium is not bound";
  case PF_ERR_SODIUM: return "libsodium refused";
  case PF_ERR_CLOSED: return "key is closed";
  case PF_ERR_MISMATCH: return "public key does not belong to the private key";
  case PF_ERR_CLOCK: return "wall clock not readable";
  case PF_ERR_BASE58: return "not base58 of the expected length";
  case PF_ERR_FORKED: return "request id belongs to another process";
  case PF_ERR_SPENT: return "no such armed cancel, or spent";
  case PF_ERR_STALE: return "armed cancel is too old";
  case PF_ERR_NO_NONCE: return "no prepared nonce is ready";
  case PF_ERR_JSON_END: return "text ends inside a value";
  case PF_ERR_JSON_VALUE: return "expected a value";
  case PF_ERR_JSON_KEY: return "expected a string as key";
  case PF_ERR_JSON_COLON: return "expected ':' after the key";
  case PF_ERR_JSON_COMMA: return "expected ',' or the closing bracket";
  case PF_ERR_JSON_CONTROL: return "control character in a string";
  case PF_ERR_JSON_ESCAPE: return "invalid escape";
  case PF_ERR_JSON_UTF8: return "invalid UTF-8";
  case PF_ERR_JSON_BOM: return "byte order mark";
  case PF_ERR_JSON_TRAILING: return "something after the value";
  case PF_ERR_JSON_DUPLICATE: return "duplicate key";
  case PF_ERR_JSON_NUMBER: return "malformed number";
  case PF_ERR_JSON_FRACTION: return "number with fraction or exponent (pass decimals as strings)";
  case PF_ERR_JSON_DIGITS: return "integer of more than 4300 digits";
  case PF_ERR_JSON_NAN: return "NaN or Infinity";
  case PF_ERR_JSON_DEPTH: return "nested deeper than 256";
  case PF_ERR_JSON_LENGTH: return "text of 4 GiB or more";
  case PF_ERR_JSON_OBJECT: return "expected an object";
  default: return "unknown error";
  }
}

void
pf_pages_state( size_t *mapped, size_t *unlocked ) {
  pf_pages_counts( mapped, unlocked );
}

void
pf_wipe_bytes( char *bytes, size_t n ) {
  pf_wipe( bytes, n );
}

int64_t
pf_b58encode( char *out, size_t cap, const char *bytes, size_t n ) {
  pf_writer w  = pf_writer_on( out, cap );
  int const rc = pf_base58_put( &w, (const uint8_t *)bytes, n );
  return rc == PF_OK ? pf_writer_len( &w ) : rc;
}

int64_t
pf_b58decode( char *out, size_t cap, const char *text, size_t len ) {
  return pf_base58_decode( (uint8_t *)out, cap, text, len );
}

int
pf_b58decode_exact( char *out, size_t n, const char *text, size_t len ) {
  return pf_base58_decode_exact( (uint8_t *)out, n, text, len );
}

size_t
pf_canonical_bound( const char *text, size_t len ) {
  pf_json_size_t size;
  pf_json_measure( text, len, &size );
  return size.output;
}

/* Small texts are sorted on the stack. */

#define STACK_WORK_SZ 4096

int64_t
pf_canonicalize( char *out, size_t cap, const char *text, size_t len, int surrogates, size_t *position ) {
  uint64_t       stack_work[STACK_WORK_SZ / 8];
  void          *heap_work = NULL;
  void          *work      = stack_work;
  pf_json_size_t size;
  pf_json_measure( text, len, &size );
  size_t const work_sz = pf_json_work_sz( &size );
  *position            = 0;
  if( len > UINT32_MAX ) {
    *position = UINT32_MAX;
    return PF_ERR_JSON_LENGTH;
  }
  if( work_sz > STACK_WORK_SZ || !work_sz ) {
    work = heap_work = work_sz ? malloc( work_sz ) : NULL;
    if( !work ) {
      return PF_ERR_MEMORY;
    }
  }
  pf_writer     w  = pf_writer_on( out, cap );
  int64_t const rc = pf_json_canonical( &w, text, len, surrogates, work, work_sz, position );
  free( heap_work );
  return rc;
}

int
pf_key_open_seed( pf_key *key, char *pubkey, const char *seed ) {
  return seed ? pf_key_open( key, (uint8_t *)pubkey, (const uint8_t *)seed ) : PF_ERR_ARGUMENT;
}

int
pf_key_generate( pf_key *key, char *pubkey ) {
  return pf_key_open( key, (uint8_t *)pubkey, NULL );
}

int
pf_key_end( const pf_key *key ) {
  return pf_key_close( key );
}

/* Messages up to this long are signed on the stack. */

#define STACK_MESSAGE_SZ 4096

static int
sign( const pf_key *key, const pf_pool *pool, uint8_t *signed_message, size_t len ) {
  return pool ? pf_key_sign_prepared( key, pool, signed_message, len )
              : pf_key_sign( key, signed_message, len );
}

static int
sign_copy( uint8_t        signature[PF_SIGNATURE_SZ],
           const pf_key  *key,
           const pf_pool *pool,
           const char    *message,
           size_t         len ) {
  uint8_t  stack_buffer[PF_SIGNATURE_SZ + STACK_MESSAGE_SZ];
  uint8_t *buffer      = stack_buffer;
  uint8_t *heap_buffer = NULL;
  if( len > STACK_MESSAGE_SZ ) {
    buffer = heap_buffer = len < SIZE_MAX - PF_SIGNATURE_SZ ? malloc( PF_SIGNATURE_SZ + len ) : NULL;
    if( !buffer ) {
      return PF_ERR_MEMORY;
    }
  }
  memcpy( buffer + PF_SIGNATURE_SZ, message, len );
  int const rc = sign( key, pool, buffer, len );
  if( rc == PF_OK ) {
    memcpy( signature, buffer, PF_SIGNATURE_SZ );
  }
  free( heap_buffer );
  return rc;
}

int64_t
pf_key_sign_bytes( char *out, size_t cap, const pf_key *key, const char *message, size_t len ) {
  return pf_key_sign_bytes_prepared( out, cap, key, NULL, message, len );
}

int64_t
pf_key_sign_bytes_prepared(
    char *out, size_t cap, const pf_key *key, const pf_pool *pool, const char *message, size_t len ) {
  if( cap < PF_SIGNATURE_SZ ) {
    return PF_ERR_CAPACITY;
  }
  int const rc = sign_copy( (uint8_t *)out, key, pool, message, len );
  return rc == PF_OK ? PF_SIGNATURE_SZ : rc;
}

_Static_assert( PF_SIGNATURE_TEXT_SZ == PF_BASE58_64_MAX_LEN + 1, "a signature in base58, and its length" );

size_t
pf_sign_many(
    char *out, const pf_key *key, const char *const *messages, const size_t *lens, size_t count, int *error ) {
  *error = PF_OK;
  for( size_t i = 0; i < count; i++ ) {
    uint8_t signature[PF_SIGNATURE_SZ];
    char   *text = out + i * PF_SIGNATURE_TEXT_SZ;
    *error       = sign_copy( signature, key, NULL, messages[i], lens[i] );
    if( *error != PF_OK ) {
      return i;
    }
    text[PF_BASE58_64_MAX_LEN] =
        (char)pf_b58encode( text, PF_BASE58_64_MAX_LEN, (const char *)signature, PF_SIGNATURE_SZ );
  }
  return count;
}

int
pf_pool_make( pf_pool *pool, size_t size, int64_t max_age_ms, const pf_key *key ) {
  return pf_pool_open( pool, size, max_age_ms, key->generation );
}

int
pf_pool_prepare( const pf_pool *pool, const pf_key *key ) {
  return pf_key_prepare( key, pool );
}

int
pf_pool_state( const pf_pool *pool, pf_pool_stats *stats ) {
  return pf_pool_count( pool, stats );
}

int
pf_pool_end( const pf_pool *pool ) {
  return pf_pool_close( pool );
}

int64_t
pf_sdk_sign_key( char *out, size_t cap, const char *json, size_t len, const pf_key *key ) {
  return pf_sign_json( out, cap, json, len, key, NULL );
}

int64_t
pf_sdk_sign_pair( char *out, size_t cap, const char *json, size_t len, char *pair ) {
  int64_t const rc = pf_sign_json( out, cap, json, len, NULL, (const uint8_t *)pair );
  pf_wipe( pair, PF_PAIR_SZ );
  return rc;
}

int64_t
pf_id_take( uint64_t count ) {
  uint64_t  first = 0;
  int const rc    = pf_id_reserve( &first, count );
  return rc == PF_OK ? (int64_t)first : rc;
}

int64_t
pf_id_text( char *out, size_t cap, uint64_t number ) {
  pf_writer w  = pf_writer_on( out, cap );
  int const rc = pf_id_write( &w, number );
  return rc == PF_OK ? pf_writer_len( &w ) : rc;
}
