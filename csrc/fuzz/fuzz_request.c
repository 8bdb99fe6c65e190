/* SPDX-License-Identifier: MIT */

/* fuzz_request.c: the builders of requests with anything in every
   argument.  What they accept must be a JSON object under the naive
   parser, signed over the canonical message of its own fields; what they
   refuse costs no signature.  libsodium is fake: the signature is a hash. */

#include "fuzz.h"

#include "../tests/fake_sodium.h"
#include "../tests/unframe.h"

#include "naive_json.h"
#include "pf_api.h"
#include "pf_cancel.h"
#include "pf_operation.h"
#include "pf_random.h"

#include <inttypes.h>

#define PARTS_MAX 4096
#define SIGNATURE_LABEL "\"signature\":\""

static uint8_t const seed[PF_SEED_SZ] = { 1, 2, 3 };
static pf_key        key;

static void
open_once( void ) {
  static int opened;
  char       pubkey[PF_PUBKEY_SZ];
  if( !opened ) {
    CHECK( pf_bind_sodium( &fake_table ) == PF_OK );
    CHECK( pf_key_open_seed( &key, pubkey, (const char *)seed ) == PF_OK );
    opened = 1;
  }
}

/* All that an input says. */

typedef struct {
  int      kind;
  int      exclude;
  int      by_client_order_id;
  int64_t  window;
  int64_t  timestamp;
  uint64_t order_id;
  uint64_t number;
  size_t   cap;
  char    *account, *agent, *symbol, *client_order_id, *request_id, *operation, *payload;
  size_t   account_len, agent_len, symbol_len, client_len, id_len, operation_len, payload_len;
} call;

/* A text that is right more often than chance would make it. */

static char *
likely( fuzz_input *input, const char *right, size_t max, size_t *len ) {
  if( fuzz_number( input, 1 ) & 3 ) {
    *len = strlen( right );
    return fuzz_copy( right, *len );
  }
  return fuzz_text( input, max, len );
}

static call
call_of( fuzz_input *input ) {
  call           c;
  uint64_t const steer = fuzz_number( input, 1 );
  memset( &c, 0, sizeof( c ) );
  c.kind               = (int)( steer % 5 );
  c.exclude            = (int)( steer >> 4 & 1 );
  c.by_client_order_id = (int)( steer >> 5 & 1 );
  c.window             = (int64_t)fuzz_number( input, 8 ) >> ( steer & 32 ? 0 : 24 );
  c.timestamp          = (int64_t)fuzz_number( input, 8 ) >> ( steer & 64 ? 0 : 24 );
  c.order_id           = fuzz_number( input, 8 );
  c.number             = steer & 128 ? fuzz_number( input, 8 ) : 0;
  c.cap                = (size_t)fuzz_number( input, 2 ) % ( 2 * PF_REQUEST_MAX );
  c.account            = likely( input, "JEKNVnkbo3jma5nREBBJCDoXFVeKkD56V3xKrvRmWxFG", 60, &c.account_len );
  c.agent              = likely( input, "", 60, &c.agent_len );
  c.symbol             = likely( input, "1000BONK", 40, &c.symbol_len );
  c.request_id         = likely( input, "1bb2b72f-f545-4938-8a38-c5cda8823675", 40, &c.id_len );
  c.client_order_id    = likely( input, "79f948fd-7556-4066-a128-083f3ea49322", 40, &c.client_len );
  c.operation          = likely( input, "create_order", 70, &c.operation_len );
  c.payload_len        = input->left;
  c.payload            = fuzz_copy( input->at, c.payload_len );
  return c;
}

static void
free_call( call *c ) {
  free( c->account );
  free( c->agent );
  free( c->symbol );
  free( c->request_id );
  free( c->client_order_id );
  free( c->operation );
  free( c->payload );
}

static int
make_template( pf_template *t, const call *c, int kind ) {
  int const none = kind == PF_OPERATION;
  return pf_template_make( t, kind, &key, NULL, c->account, c->account_len, c->agent, c->agent_len, c->symbol,
                           none ? 0 : c->symbol_len, c->exclude, c->window );
}

/* check_signed: the text that stands for the signature in the request is
   that of the message. */

static void
check_signed( const char *request, size_t len, const char *message, size_t message_len ) {
  uint8_t   signature[PF_SIGNATURE_SZ];
  char      expected[sizeof( SIGNATURE_LABEL ) + PF_BASE58_64_MAX_LEN + 1];
  pf_writer w = pf_writer_on( expected, sizeof( expected ) );
  fake_signature_of( signature, seed, message, message_len );
  PF_PUT_LIT( &w, SIGNATURE_LABEL );
  CHECK( pf_base58_put( &w, signature, sizeof( signature ) ) == PF_OK );
  PF_PUT_LIT( &w, "\"" );
  CHECK( check_contains( request, len, expected, (size_t)pf_writer_len( &w ) ) );
}

/* The timestamp in a request, which may have been the clock's. */

static uint64_t
timestamp_in( const char *request, size_t len ) {
  static char const label[] = "\"timestamp\":";
  for( size_t at = 0; at + sizeof( label ) <= len; at++ ) {
    if( memcmp( request + at, label, sizeof( label ) - 1 ) == 0 ) {
      uint64_t v = 0;
      for( at += sizeof( label ) - 1; at < len && request[at] >= '0' && request[at] <= '9'; at++ ) {
        v = v * 10 + (uint64_t)( request[at] - '0' );
      }
      return v;
    }
  }
  CHECK( 0 );
  return 0;
}

/* check_request: JSON, and signed over what the naive canonicaliser makes
   of data, an object's members in any order. */

static void
check_request( const call *c,
               const char *request,
               int64_t     len,
               const char *type,
               size_t      type_len,
               const char *data,
               size_t      data_len ) {
  size_t canonical_len = 0;
  char  *canonical     = naive_canonical( request, (size_t)len, 1, &canonical_len );
  CHECK( canonical != NULL );
  free( canonical );
  uint64_t const when    = timestamp_in( request, (size_t)len );
  size_t const   room    = PARTS_MAX + data_len + type_len;
  char          *message = fuzz_buffer( room );
  CHECK( c->timestamp == 0 || when == (uint64_t)c->timestamp );
  int const head = snprintf(
      message, room, "{\"timestamp\":%" PRIu64 ",\"expiry_window\":%" PRId64 ",\"type\":\"", when, c->window );
  pf_writer w = pf_writer_on( message + head, room - (size_t)head );
  pf_put( &w, type, type_len );
  PF_PUT_LIT( &w, "\",\"data\":" );
  pf_put( &w, data, data_len );
  PF_PUT_LIT( &w, "}" );
  canonical = naive_canonical( message, (size_t)head + (size_t)pf_writer_len( &w ), 1, &canonical_len );
  CHECK( canonical != NULL );
  check_signed( request, (size_t)len, canonical, canonical_len );
  free( canonical );
  free( message );
}

/* check_order also checks a frame of it. */

static void
check_order( const call *c, const pf_template *t ) {
  char          data[PARTS_MAX];
  char         *out           = fuzz_buffer( c->cap );
  unsigned      signed_before = atomic_load( &fake_signatures );
  int const     client        = c->by_client_order_id;
  int64_t const n = client ? pf_cancel_client_order_id( out, c->cap, t, c->client_order_id, c->client_len,
                                                        c->timestamp, c->number, c->request_id, c->id_len )
                           : pf_cancel_order_id( out, c->cap, t, c->order_id, c->timestamp, c->number,
                                                 c->request_id, c->id_len );
  if( n >= 0 ) {
    int const len = client
                        ? snprintf( data, sizeof( data ), "{\"symbol\":\"%.*s\",\"client_order_id\":\"%.*s\"}",
                                    (int)c->symbol_len, c->symbol, (int)c->client_len, c->client_order_id )
                        : snprintf( data, sizeof( data ), "{\"symbol\":\"%.*s\",\"order_id\":%" PRIu64 "}",
                                    (int)c->symbol_len, c->symbol, c->order_id );
    CHECK( n <= PF_REQUEST_MAX );
    check_request( c, out, n, "cancel_order", 12, data, (size_t)len );
  } else if( n == PF_ERR_CAPACITY ) {
    CHECK( c->cap < PF_REQUEST_MAX );
  } else {
    CHECK( n == PF_ERR_ARGUMENT || n == PF_ERR_FORKED );
    CHECK( atomic_load( &fake_signatures ) == signed_before );
  }
  pf_blank const blank = { t, out, c->cap };
  int64_t const  framed =
      client ? pf_frame_cancel_client_order_id( &blank, c->client_order_id, c->client_len, c->timestamp, 0 )
              : pf_frame_cancel_order_id( &blank, c->order_id, c->timestamp, 0 );
  if( framed >= 0 ) {
    uint8_t        mask[PF_MASK_SZ];
    const uint8_t *text;
    size_t const   len = unframed( (uint8_t *)out, framed, &text, mask );
    CHECK( framed <= PF_FRAME_MAX && timestamp_in( (const char *)text, len ) );
  } else {
    CHECK( framed != PF_ERR_CAPACITY || c->cap < PF_FRAME_MAX );
  }
  free( out );
}

static void
check_all( const call *c, const pf_template *t ) {
  char          data[PARTS_MAX];
  char         *out = fuzz_buffer( c->cap );
  int64_t const n   = pf_cancel_all_orders( out, c->cap, t, c->timestamp, c->number, c->request_id, c->id_len );
  const char   *exclude = c->exclude ? "true" : "false";
  if( n >= 0 ) {
    int len = snprintf( data, sizeof( data ), "{\"all_symbols\":true,\"exclude_reduce_only\":%s}", exclude );
    if( c->symbol_len ) {
      len = snprintf( data, sizeof( data ),
                      "{\"all_symbols\":false,\"exclude_reduce_only\":%s,\"symbol\":\"%.*s\"}", exclude,
                      (int)c->symbol_len, c->symbol );
    }
    check_request( c, out, n, "cancel_all_orders", 17, data, (size_t)len );
  } else {
    CHECK( n == PF_ERR_ARGUMENT || n == PF_ERR_FORKED || ( n == PF_ERR_CAPACITY && c->cap < PF_REQUEST_MAX ) );
  }
  free( out );
}

static void
check_batch( const call *c, const pf_template *t ) {
  size_t const    count = (size_t)( c->order_id % ( PF_BATCH_ITEMS_MAX + 2 ) );
  size_t const    cap   = c->cap & 1 ? PF_BATCH_MAX : c->cap;
  pf_cancel_item *items = (pf_cancel_item *)(void *)fuzz_buffer( count * sizeof( pf_cancel_item ) );
  char           *out   = fuzz_buffer( cap );
  for( size_t i = 0; i < count; i++ ) {
    items[i].order              = t;
    items[i].order_id           = c->order_id + i;
    items[i].by_client_order_id = c->by_client_order_id && i % 2;
    memset( items[i].client_order_id, 'x', PF_CLIENT_ORDER_ID_LEN );
    if( c->client_len == PF_CLIENT_ORDER_ID_LEN ) {
      memcpy( items[i].client_order_id, c->client_order_id, PF_CLIENT_ORDER_ID_LEN );
    }
  }
  int64_t const n =
      pf_batch_cancel( out, cap, items, count, c->timestamp, c->number, c->request_id, c->id_len );
  if( n >= 0 ) {
    size_t len  = 0;
    char  *text = naive_canonical( out, (size_t)n, 1, &len );
    CHECK( text != NULL && count >= 1 && count <= PF_BATCH_ITEMS_MAX );
    free( text );
  } else {
    CHECK( n == PF_ERR_ARGUMENT || n == PF_ERR_FORKED || ( n == PF_ERR_CAPACITY && cap < PF_BATCH_MAX ) );
  }
  free( out );
  free( items );
}

static int
is_object( const char *text ) {
  while( *text == ' ' || *text == '\t' || *text == '\n' || *text == '\r' ) {
    text++;
  }
  return *text == '{';
}

/* has_own_member: as the caller of pf_request looks for, wherever it stands. */

static int
has_own_member( const char *canonical, size_t len ) {
  static const char *const names[] = {
      "\"account\":", "\"agent_wallet\":", "\"signature\":", "\"timestamp\":", "\"expiry_window\":" };
  for( size_t i = 0; i < sizeof( names ) / sizeof( *names ); i++ ) {
    if( check_contains( canonical, len, names[i], strlen( names[i] ) ) ) {
      return 1;
    }
  }
  return 0;
}

/* Any payload: refused, or signed as the naive canonicaliser has it. */

static void
check_operation( const call *c, const pf_template *t ) {
  size_t        position  = SIZE_MAX;
  size_t        naive_len = 0;
  char         *naive     = naive_canonical( c->payload, c->payload_len, 1, &naive_len );
  size_t        bound     = pf_operation_bound( c->payload, c->payload_len );
  size_t        cap       = c->cap & 1 ? bound : c->cap;
  char         *out       = fuzz_buffer( cap );
  int64_t const n         = pf_request( out, cap, t, c->operation, c->operation_len, c->payload, c->payload_len,
                                        c->timestamp, c->number, c->request_id, c->id_len, &position );
  if( n >= 0 ) {
    CHECK( naive != NULL && is_object( naive ) );
    if( !has_own_member( naive, naive_len ) ) {
      check_request( c, out, n, c->operation, c->operation_len, naive, naive_len );
    }
  } else {
    CHECK( n != PF_ERR_CAPACITY || cap < bound );
    CHECK( n > PF_ERR_JSON_END || position <= c->payload_len );
  }
  int64_t const both = pf_sign_data( out, cap, t, c->operation, c->operation_len, c->payload, c->payload_len,
                                     c->timestamp, &position );
  CHECK( ( both >= 0 ) <= ( naive != NULL ) );
  CHECK( both < 0 || (size_t)( both >> 8 ) + (size_t)( both & 255 ) <= cap );
  int64_t const sdk = pf_sdk_sign_key( out, cap, c->payload, c->payload_len, &key );
  if( sdk >= 0 ) {
    CHECK( naive != NULL && (size_t)( sdk >> 8 ) == naive_len && memcmp( out, naive, naive_len ) == 0 );
  }
  free( out );
  free( naive );
}

int
LLVMFuzzerTestOneInput( const uint8_t *data, size_t size ) {
  fuzz_input  input = { data, size };
  pf_template t;
  open_once();
  call      c    = call_of( &input );
  int const kind = c.kind <= PF_CANCEL_ORDER ? PF_CANCEL_ORDER
                   : c.kind < PF_OPERATION   ? PF_CANCEL_ALL
                                             : PF_OPERATION;
  if( make_template( &t, &c, kind ) == PF_OK ) {
    if( c.kind == 0 ) {
      check_batch( &c, &t );
    } else if( kind == PF_CANCEL_ORDER ) {
      check_order( &c, &t );
    } else if( kind == PF_CANCEL_ALL ) {
      check_all( &c, &t );
    } else {
      check_operation( &c, &t );
    }
  }
  (void)make_template( &t, &c, c.kind ); /* kinds there are not */
  free_call( &c );
  return 0;
}
