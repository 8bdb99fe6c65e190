/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE

#include "check.h"
#include "fake_sodium.h"

#include "pf_cancel.h"
#include "pf_clock.h"
#include "pf_pages.h"
#include "pf_random.h"

#include <inttypes.h>
#include <time.h>

#define ACCOUNT "JEKNVnkbo3jma5nREBBJCDoXFVeKkD56V3xKrvRmWxFG" /* 32 bytes 0xff: 44 characters, the longest */
#define AGENT "J8U9mGpm5pUDn8WpYCgM3SoZmWwoUVdMKyVmdJQZ1p2F"   /* another of 44 */
#define SHORT "11111111111111111111111111111111"               /* 32 zero bytes, the shortest */
#define SYMBOL32 "ABCDEFGHIJKLMNOPQRSTUVWXYZ abc/-"
#define CLIENT_ID "79f948fd-7556-4066-a128-083f3ea49322"
#define REQUEST_ID "1bb2b72f-f545-4938-8a38-c5cda8823675"
#define TEXT_MAX ( 4 * PF_BATCH_MAX )

static uint8_t seed[PF_SEED_SZ] = { 1, 2, 3 };
static pf_key  key;

static size_t
len_of( const char *text ) {
  return strlen( text );
}

static int
make( pf_template *t,
      int          kind,
      const char  *account,
      const char  *agent,
      const char  *symbol,
      int          exclude,
      int64_t      window ) {
  return pf_template_make( t, kind, &key, NULL, account, len_of( account ), agent, len_of( agent ), symbol,
                           len_of( symbol ), exclude, window );
}

/* What must come out, put together in another way. */

typedef struct {
  const char *account;
  const char *agent;
  const char *symbol;
  int64_t     window;
  int64_t     timestamp;
} fields;

static void
base58_of( char text[PF_BASE58_64_MAX_LEN + 1], const char *message ) {
  uint8_t signature[PF_SIGNATURE_SZ];
  fake_signature_of( signature, seed, message, len_of( message ) );
  pf_writer w = pf_writer_on( text, PF_BASE58_64_MAX_LEN );
  CHECK( pf_base58_put( &w, signature, sizeof( signature ) ) == PF_OK );
  *w.at = 0;
}

static void
expect_signed( char *out, const fields *f, const char *message, const char *rest ) {
  char signature[PF_BASE58_64_MAX_LEN + 1];
  base58_of( signature, message );
  int const n = snprintf( out, TEXT_MAX,
                          "{\"account\":\"%s\"%s%s%s,\"signature\":\"%s\",\"timestamp\":%" PRId64
                          ",\"expiry_window\":%" PRId64 ",%s}",
                          f->account, *f->agent ? ",\"agent_wallet\":\"" : "", f->agent, *f->agent ? "\"" : "",
                          signature, f->timestamp, f->window, rest );
  CHECK( n > 0 && n < TEXT_MAX );
}

static void
expect_order( char *out, const fields *f, const char *order ) {
  char message[1024];
  char rest[1024];
  snprintf( message, sizeof( message ),
            "{\"data\":{%s,\"symbol\":\"%s\"},\"expiry_window\":%" PRId64 ",\"timestamp\":%" PRId64
            ",\"type\":\"cancel_order\"}",
            order, f->symbol, f->window, f->timestamp );
  snprintf( rest, sizeof( rest ), "\"symbol\":\"%s\",%s", f->symbol, order );
  expect_signed( out, f, message, rest );
}

static void
expect_all( char *out, const fields *f, int exclude ) {
  char message[1024];
  char data[512];
  snprintf( data, sizeof( data ), "\"all_symbols\":%s,\"exclude_reduce_only\":%s%s%s%s",
            *f->symbol ? "false" : "true", exclude ? "true" : "false", *f->symbol ? ",\"symbol\":\"" : "",
            f->symbol, *f->symbol ? "\"" : "" );
  snprintf( message, sizeof( message ),
            "{\"data\":{%s},\"expiry_window\":%" PRId64 ",\"timestamp\":%" PRId64
            ",\"type\":\"cancel_all_orders\"}",
            data, f->window, f->timestamp );
  expect_signed( out, f, message, data );
}

static void
expect_request( char *out, const char *operation, const char *body ) {
  int const n =
      snprintf( out, TEXT_MAX, "{\"id\":\"%s\",\"params\":{\"%s\":%s}}", REQUEST_ID, operation, body );
  CHECK( n > 0 && n < TEXT_MAX );
}

/* A call whose output is tried with every capacity. */

typedef int64_t ( *call )( char *out, size_t cap, const void *arguments );

static void
check_call( call f, const void *arguments, const char *expected, size_t max ) {
  size_t const len = len_of( expected );
  CHECK( len <= max );
  for( size_t cap = 0; cap <= len; cap++ ) {
    char *out = malloc( cap + 8 ); /* exact but for the canary */
    CHECK( out != NULL );
    memset( out, 0x5a, cap + 8 );
    int64_t const n = f( out, cap, arguments );
    CHECK( n == ( cap < len ? PF_ERR_CAPACITY : (int64_t)len ) );
    CHECK( memcmp( out + cap, "ZZZZZZZZ", 8 ) == 0 );
    CHECK( cap < len || memcmp( out, expected, len ) == 0 );
    free( out );
  }
}

typedef struct {
  const pf_template *t;
  uint64_t           order_id;
  const char        *client_order_id;
  int64_t            timestamp;
} one;

static int64_t
call_order( char *out, size_t cap, const void *arguments ) {
  const one *a = arguments;
  return a->client_order_id
             ? pf_cancel_client_order_id( out, cap, a->t, a->client_order_id, len_of( a->client_order_id ),
                                          a->timestamp, 0, REQUEST_ID, PF_ID_LEN )
             : pf_cancel_order_id( out, cap, a->t, a->order_id, a->timestamp, 0, REQUEST_ID, PF_ID_LEN );
}

static int64_t
call_all( char *out, size_t cap, const void *arguments ) {
  const one *a = arguments;
  return pf_cancel_all_orders( out, cap, a->t, a->timestamp, 0, REQUEST_ID, PF_ID_LEN );
}

static fields const longest  = { ACCOUNT, AGENT, SYMBOL32, INT64_MAX, INT64_MAX };
static fields const shortest = { SHORT, "", "X", 1, 1 };

static void
check_all_kinds( const fields *f, uint64_t order_id ) {
  pf_template t;
  char        order[256];
  char        body[TEXT_MAX];
  char        expected[TEXT_MAX];
  one         a = { &t, order_id, NULL, f->timestamp };

  CHECK( make( &t, PF_CANCEL_ORDER, f->account, f->agent, f->symbol, 0, f->window ) == PF_OK );
  snprintf( order, sizeof( order ), "\"order_id\":%" PRIu64, order_id );
  expect_order( body, f, order );
  expect_request( expected, "cancel_order", body );
  check_call( call_order, &a, expected, PF_REQUEST_MAX );

  a.client_order_id = CLIENT_ID;
  expect_order( body, f, "\"client_order_id\":\"" CLIENT_ID "\"" );
  expect_request( expected, "cancel_order", body );
  check_call( call_order, &a, expected, PF_REQUEST_MAX );

  for( int exclude = 0; exclude < 2; exclude++ ) {
    fields of_all = *f;
    CHECK( make( &t, PF_CANCEL_ALL, f->account, f->agent, f->symbol, exclude, f->window ) == PF_OK );
    expect_all( body, f, exclude );
    expect_request( expected, "cancel_all_orders", body );
    check_call( call_all, &a, expected, PF_REQUEST_MAX );

    of_all.symbol = "";
    CHECK( make( &t, PF_CANCEL_ALL, f->account, f->agent, "", exclude, f->window ) == PF_OK );
    expect_all( body, &of_all, exclude );
    expect_request( expected, "cancel_all_orders", body );
    check_call( call_all, &a, expected, PF_REQUEST_MAX );
  }
}

typedef struct {
  pf_cancel_item items[PF_BATCH_ITEMS_MAX];
  size_t         count;
  int64_t        timestamp;
} batch;

static int64_t
call_batch( char *out, size_t cap, const void *arguments ) {
  const batch *a = arguments;
  return pf_batch_cancel( out, cap, a->items, a->count, a->timestamp, 0, REQUEST_ID, PF_ID_LEN );
}

static void
test_batches( const fields *f ) {
  pf_template t;
  CHECK( make( &t, PF_CANCEL_ORDER, f->account, f->agent, f->symbol, 0, f->window ) == PF_OK );
  for( size_t count = 1; count <= PF_BATCH_ITEMS_MAX; count++ ) {
    static char body[TEXT_MAX];
    static char expected[TEXT_MAX];
    batch       b = { .count = count, .timestamp = f->timestamp };
    snprintf( body, sizeof( body ), "{\"actions\":[" );
    for( size_t i = 0; i < count; i++ ) {
      static char item[TEXT_MAX];
      char        order[256];
      b.items[i].order = &t;
      if( i % 3 == 1 ) {
        b.items[i].order_id = UINT64_MAX - i;
        snprintf( order, sizeof( order ), "\"order_id\":%" PRIu64, UINT64_MAX - i );
      } else {
        b.items[i].by_client_order_id = 1;
        memcpy( b.items[i].client_order_id, CLIENT_ID, PF_CLIENT_ORDER_ID_LEN );
        snprintf( order, sizeof( order ), "\"client_order_id\":\"" CLIENT_ID "\"" );
      }
      expect_order( item, f, order );
      strcat( body, i ? ",{\"type\":\"Cancel\",\"data\":" : "{\"type\":\"Cancel\",\"data\":" );
      strcat( body, item );
      strcat( body, "}" );
    }
    strcat( body, "]}" );
    expect_request( expected, "batch_orders", body );
    check_call( call_batch, &b, expected, PF_BATCH_MAX );
  }
}

/* Refused arguments; nothing is signed. */

static void
test_refused_templates( void ) {
  pf_template    t;
  char           text[64];
  unsigned const before = atomic_load( &fake_signatures );
  CHECK( make( &t, 0, ACCOUNT, "", "BTC", 0, 1 ) == PF_ERR_ARGUMENT );
  CHECK( make( &t, 4, ACCOUNT, "", "", 0, 1 ) == PF_ERR_ARGUMENT );
  CHECK( make( &t, -1, ACCOUNT, "", "", 0, 1 ) == PF_ERR_ARGUMENT );
  CHECK( make( &t, PF_CANCEL_ORDER, ACCOUNT, "", "", 0, 1 ) == PF_ERR_ARGUMENT );
  CHECK( make( &t, PF_OPERATION, ACCOUNT, "", "BTC", 0, 1 ) == PF_ERR_ARGUMENT );
  CHECK( make( &t, PF_CANCEL_ORDER, ACCOUNT, "", SYMBOL32 "X", 0, 1 ) == PF_ERR_ARGUMENT );
  CHECK( make( &t, PF_CANCEL_ORDER, ACCOUNT, "", "BTC", 0, 0 ) == PF_ERR_ARGUMENT );
  CHECK( make( &t, PF_CANCEL_ORDER, ACCOUNT, "", "BTC", 0, -1 ) == PF_ERR_ARGUMENT );
  CHECK( make( &t, PF_CANCEL_ORDER, ACCOUNT, "", "BTC", 0, INT64_MIN ) == PF_ERR_ARGUMENT );
  CHECK( make( &t, PF_CANCEL_ORDER, "", "", "BTC", 0, 1 ) == PF_ERR_ARGUMENT );
  CHECK( make( &t, PF_CANCEL_ORDER, SHORT "1", "", "BTC", 0, 1 ) == PF_ERR_ARGUMENT );
  CHECK( make( &t, PF_CANCEL_ORDER, ACCOUNT "1", "", "BTC", 0, 1 ) == PF_ERR_ARGUMENT );
  CHECK( make( &t, PF_CANCEL_ORDER, ACCOUNT, "x", "BTC", 0, 1 ) == PF_ERR_ARGUMENT );
  CHECK( make( &t, PF_CANCEL_ORDER, ACCOUNT, AGENT AGENT, "BTC", 0, 1 ) == PF_ERR_ARGUMENT );
  CHECK( make( &t, PF_CANCEL_ORDER, ACCOUNT, "\",\"x\":\"", "BTC", 0, 1 ) == PF_ERR_ARGUMENT );
  for( unsigned c = 0; c < 256; c++ ) {
    int const plain = c >= 0x20 && c <= 0x7e && c != '"' && c != '\\';
    for( size_t at = 0; at < 3; at++ ) {
      snprintf( text, sizeof( text ), "BTC" );
      text[at] = (char)c;
      CHECK( pf_template_make( &t, PF_CANCEL_ORDER, &key, NULL, ACCOUNT, len_of( ACCOUNT ), "", 0, text, 3, 0,
                               1 ) == ( plain ? PF_OK : PF_ERR_ARGUMENT ) );
    }
  }
  CHECK( atomic_load( &fake_signatures ) == before );
}

/* Of what stood in a template's place before, nothing is left. */

static void
test_templates_are_whole( void ) {
  for( int kind = PF_CANCEL_ORDER; kind <= PF_OPERATION; kind++ ) {
    pf_template t[2];
    memset( &t[0], 0, sizeof( t[0] ) );
    memset( &t[1], 0xa5, sizeof( t[1] ) );
    for( size_t i = 0; i < 2; i++ ) {
      CHECK( make( &t[i], kind, ACCOUNT, "", kind == PF_OPERATION ? "" : "BTC", 0, 1 ) == PF_OK );
    }
    CHECK( memcmp( &t[0], &t[1], sizeof( t[0] ) ) == 0 );
    CHECK( t[0].pool.place == NULL && t[0].pool.generation == 0 );
    CHECK( check_all_zero( t[0].head + t[0].head_len, sizeof( t[0].head ) - t[0].head_len ) );
  }
}

/* A blank: the same request, with an id of its own. */

static void
test_blanks( void ) {
  pf_template t;
  char        out[PF_REQUEST_MAX];
  char        same[PF_REQUEST_MAX];
  uint64_t    number;
  CHECK( make( &t, PF_CANCEL_ORDER, ACCOUNT, "", "BTC", 0, 5000 ) == PF_OK );
  CHECK( pf_id_reserve( &number, 1 ) == PF_OK );
  pf_blank const blank = { &t, out, sizeof( out ) };
  int64_t const  len   = pf_blank_order_id( &blank, 42069, 1749223343149 );
  CHECK( pf_id_reserve( &number, 1 ) == PF_OK );
  CHECK( pf_cancel_order_id( same, sizeof( same ), &t, 42069, 1749223343149, number - 1, NULL, 0 ) == len );
  CHECK( memcmp( out, same, (size_t)len ) == 0 ); /* it took the number between, and no other */
  pf_blank const small = { &t, out, (size_t)len - 1 };
  CHECK( pf_blank_order_id( &small, 42069, 1749223343149 ) == PF_ERR_CAPACITY );
}

static void
test_is_uuid( void ) {
  char text[PF_CLIENT_ORDER_ID_LEN + 1] = CLIENT_ID;
  CHECK( pf_is_uuid( text, 36 ) );
  CHECK( pf_is_uuid( "00000000-0000-0000-0000-000000000000", 36 ) );
  CHECK( pf_is_uuid( "ffffffff-ffff-ffff-ffff-ffffffffffff", 36 ) );
  CHECK( !pf_is_uuid( text, 35 ) );
  CHECK( !pf_is_uuid( text, 37 ) );
  CHECK( !pf_is_uuid( text, 0 ) );
  CHECK( !pf_is_uuid( text, SIZE_MAX ) );
  for( size_t at = 0; at < 36; at++ ) {
    char const good = text[at];
    for( unsigned c = 0; c < 256; c++ ) {
      int const hex_digit = ( c >= '0' && c <= '9' ) || ( c >= 'a' && c <= 'f' );
      text[at]            = (char)c;
      CHECK( pf_is_uuid( text, 36 ) == ( good == '-' ? c == '-' : hex_digit ) );
    }
    text[at] = good;
  }
}

static void
test_refused_calls( void ) {
  pf_template    order;
  pf_template    all;
  pf_template    operation;
  char           out[PF_BATCH_MAX];
  size_t const   cap    = sizeof( out );
  unsigned const before = atomic_load( &fake_signatures );
  CHECK( make( &order, PF_CANCEL_ORDER, ACCOUNT, "", "BTC", 0, 1 ) == PF_OK );
  CHECK( make( &all, PF_CANCEL_ALL, ACCOUNT, "", "", 0, 1 ) == PF_OK );
  CHECK( make( &operation, PF_OPERATION, ACCOUNT, "", "", 0, 1 ) == PF_OK );

  CHECK( pf_cancel_order_id( out, cap, &all, 1, 1, 0, NULL, 0 ) == PF_ERR_ARGUMENT );
  CHECK( pf_cancel_order_id( out, cap, &operation, 1, 1, 0, NULL, 0 ) == PF_ERR_ARGUMENT );
  CHECK( pf_cancel_all_orders( out, cap, &order, 1, 0, NULL, 0 ) == PF_ERR_ARGUMENT );
  CHECK( pf_cancel_all_orders( out, cap, &operation, 1, 0, NULL, 0 ) == PF_ERR_ARGUMENT );
  CHECK( pf_cancel_client_order_id( out, cap, &all, CLIENT_ID, 36, 1, 0, NULL, 0 ) == PF_ERR_ARGUMENT );
  CHECK( pf_cancel_client_order_id( out, cap, &order, CLIENT_ID, 35, 1, 0, NULL, 0 ) == PF_ERR_ARGUMENT );
  CHECK( pf_cancel_client_order_id( out, cap, &order, NULL, 0, 1, 0, NULL, 0 ) == PF_ERR_ARGUMENT );
  CHECK( pf_cancel_client_order_id( out, cap, &order, "79F948FD-7556-4066-A128-083F3EA49322", 36, 1, 0, NULL,
                                    0 ) == PF_ERR_ARGUMENT );
  CHECK( pf_cancel_order_id( out, cap, &order, 1, -1, 0, NULL, 0 ) == PF_ERR_ARGUMENT );
  CHECK( pf_cancel_order_id( out, cap, &order, 1, INT64_MIN, 0, NULL, 0 ) == PF_ERR_ARGUMENT );
  CHECK( pf_cancel_all_orders( out, cap, &all, -1, 0, NULL, 0 ) == PF_ERR_ARGUMENT );
  CHECK( pf_cancel_order_id( out, cap, &order, 1, 1, 0, REQUEST_ID, 35 ) == PF_ERR_ARGUMENT );
  CHECK( pf_cancel_order_id( out, cap, &order, 1, 1, 0, "1bb2b72f-f545-4938-8a38-c5cda882367\"", 36 ) ==
         PF_ERR_ARGUMENT );
  CHECK( pf_cancel_all_orders( out, cap, &all, 1, 0, REQUEST_ID "0", 37 ) == PF_ERR_ARGUMENT );

  pf_cancel_item items[PF_BATCH_ITEMS_MAX + 1];
  memset( items, 0, sizeof( items ) );
  for( size_t i = 0; i <= PF_BATCH_ITEMS_MAX; i++ ) {
    items[i].order = &order;
  }
  CHECK( pf_batch_cancel( out, cap, items, 0, 1, 0, NULL, 0 ) == PF_ERR_ARGUMENT );
  CHECK( pf_batch_cancel( out, cap, items, PF_BATCH_ITEMS_MAX + 1, 1, 0, NULL, 0 ) == PF_ERR_ARGUMENT );
  CHECK( pf_batch_cancel( out, cap, items, SIZE_MAX, 1, 0, NULL, 0 ) == PF_ERR_ARGUMENT );
  CHECK( pf_batch_cancel( out, cap, items, 1, -1, 0, NULL, 0 ) == PF_ERR_ARGUMENT );
  CHECK( pf_batch_cancel( out, cap, items, 1, 1, 0, REQUEST_ID, 1 ) == PF_ERR_ARGUMENT );
  items[0].order = NULL;
  CHECK( pf_batch_cancel( out, cap, items, 1, 1, 0, NULL, 0 ) == PF_ERR_ARGUMENT );
  items[0].order = &all;
  CHECK( pf_batch_cancel( out, cap, items, 1, 1, 0, NULL, 0 ) == PF_ERR_ARGUMENT );
  items[0].order              = &order;
  items[0].by_client_order_id = 1; /* with 36 zero bytes */
  CHECK( pf_batch_cancel( out, cap, items, 1, 1, 0, NULL, 0 ) == PF_ERR_ARGUMENT );
  CHECK( pf_batch_cancel( out, cap, items, 0, 1, 0, NULL, 0 ) == PF_ERR_ARGUMENT );
  CHECK( atomic_load( &fake_signatures ) == before );
}

static void
test_ids( void ) {
  pf_template t;
  char        first[PF_REQUEST_MAX];
  char        second[PF_REQUEST_MAX];
  uint64_t    number;
  char        id[64];
  CHECK( make( &t, PF_CANCEL_ORDER, ACCOUNT, "", "BTC", 0, 5000 ) == PF_OK );
  CHECK( pf_cancel_order_id( first, sizeof( first ), &t, 1, 1, 0, NULL, 0 ) > 0 );
  CHECK( pf_cancel_order_id( second, sizeof( second ), &t, 1, 1, 0, NULL, 0 ) > 0 );
  CHECK( pf_is_uuid( first + 7, 36 ) && pf_is_uuid( second + 7, 36 ) );
  CHECK( memcmp( first + 7, second + 7, 36 ) != 0 );

  CHECK( pf_id_reserve( &number, 5 ) == PF_OK );
  snprintf( id, sizeof( id ), "%012" PRIx64, number + 3 );
  CHECK( pf_cancel_order_id( first, sizeof( first ), &t, 1, 1, number + 3, NULL, 0 ) > 0 );
  CHECK( memcmp( first + 7 + 24, id, 12 ) == 0 );
  CHECK( pf_cancel_order_id( first, sizeof( first ), &t, 1, 1, number + 5, NULL, 0 ) == PF_ERR_FORKED );
  CHECK( pf_cancel_order_id( first, sizeof( first ), &t, 1, 1, number, REQUEST_ID, 36 ) > 0 );
  CHECK( memcmp( first + 7, REQUEST_ID, 36 ) == 0 );
}

static void
test_clock( void ) {
  pf_template   t;
  char          out[PF_REQUEST_MAX + 1];
  int64_t const before = pf_now();
  CHECK( make( &t, PF_CANCEL_ALL, ACCOUNT, "", "", 0, 5000 ) == PF_OK );
  int64_t const n = pf_cancel_all_orders( out, PF_REQUEST_MAX, &t, 0, 0, NULL, 0 );
  CHECK( n > 0 );
  out[n]              = 0;
  const char   *at    = strstr( out, "\"timestamp\":" );
  int64_t const after = pf_now();
  CHECK( at != NULL );
  int64_t const signed_at = strtoll( at + 12, NULL, 10 );
  CHECK( before <= signed_at && signed_at <= after );
  CHECK( before / 1000 >= (int64_t)time( NULL ) - 5 );
}

/* Every kind of request is stamped with the corrected clock; a timestamp
   that was given is left alone. */

static int64_t
stamped( char *out, int64_t n ) {
  CHECK( n > 0 );
  out[n]         = 0;
  const char *at = strstr( out, "\"timestamp\":" );
  CHECK( at != NULL );
  return strtoll( at + 12, NULL, 10 );
}

static int64_t
stamp_of( int form, const pf_template *t, int64_t timestamp ) {
  char                 out[PF_BATCH_MAX + 1];
  size_t               position;
  pf_template          all       = *t;
  pf_template          operation = *t;
  pf_cancel_item const items[2]  = { { .order = t, .order_id = 1 }, { .order = t, .order_id = 2 } };
  all.kind                       = PF_CANCEL_ALL;
  operation.kind                 = PF_OPERATION;
  switch( form ) {
  case 0: return stamped( out, pf_cancel_order_id( out, PF_BATCH_MAX, t, 1, timestamp, 0, NULL, 0 ) );
  case 1:
    return stamped( out,
                    pf_cancel_client_order_id( out, PF_BATCH_MAX, t, CLIENT_ID, 36, timestamp, 0, NULL, 0 ) );
  case 2: return stamped( out, pf_cancel_all_orders( out, PF_BATCH_MAX, &all, timestamp, 0, NULL, 0 ) );
  case 3: return stamped( out, pf_batch_cancel( out, PF_BATCH_MAX, items, 2, timestamp, 0, NULL, 0 ) );
  default:
    return stamped(
        out, pf_request( out, PF_BATCH_MAX, &operation, "x", 1, "{}", 2, timestamp, 0, NULL, 0, &position ) );
  }
}

static void
test_corrected_clock( void ) {
  static int64_t const corrections[] = { 0, 1, -1, 4321, -PF_CORRECTION_MAX, PF_CORRECTION_MAX };
  pf_clock             clock         = { 0 };
  pf_template          t;
  CHECK( make( &t, PF_CANCEL_ORDER, ACCOUNT, "", "BTC", 0, 5000 ) == PF_OK );
  pf_template_set_clock( &t, &clock );
  for( size_t i = 0; i < sizeof( corrections ) / sizeof( corrections[0] ); i++ ) {
    CHECK( pf_clock_correct( &clock, corrections[i] ) == PF_OK );
    CHECK( pf_clock_correction( &clock ) == corrections[i] );
    for( int form = 0; form < 5; form++ ) {
      int64_t const before = pf_now();
      int64_t const stamp  = stamp_of( form, &t, 0 );
      int64_t const after  = pf_now();
      CHECK( before + corrections[i] <= stamp && stamp <= after + corrections[i] );
      CHECK( stamp_of( form, &t, 1234 ) == 1234 );
    }
  }
  CHECK( pf_clock_correct( &clock, PF_CORRECTION_MAX + 1 ) == PF_ERR_ARGUMENT );
  CHECK( pf_clock_correct( &clock, -PF_CORRECTION_MAX - 1 ) == PF_ERR_ARGUMENT );
  CHECK( pf_clock_correct( &clock, INT64_MIN ) == PF_ERR_ARGUMENT );
  CHECK( pf_clock_correction( &clock ) == PF_CORRECTION_MAX ); /* as it was */
}

static void
test_closed_key( void ) {
  static const char any_signature[] = "\"signature\":\"";
  pf_template       t;
  pf_cancel_item    item = { .order = &t, .order_id = 1 };
  char              out[PF_BATCH_MAX];
  pf_key            open = key;
  uint8_t           pubkey[PF_PUBKEY_SZ];
  CHECK( pf_key_open( &key, pubkey, seed ) == PF_OK );
  CHECK( make( &t, PF_CANCEL_ORDER, ACCOUNT, "", "BTC", 0, 5000 ) == PF_OK );
  CHECK( pf_key_close( &key ) == PF_OK );
  memset( out, 0, sizeof( out ) );
  CHECK( pf_cancel_order_id( out, sizeof( out ), &t, 1, 1, 0, NULL, 0 ) == PF_ERR_CLOSED );
  CHECK( pf_batch_cancel( out, sizeof( out ), &item, 1, 1, 0, NULL, 0 ) == PF_ERR_CLOSED );
  CHECK( !check_contains( out, sizeof( out ), any_signature, sizeof( any_signature ) - 1 ) );
  t.kind = PF_CANCEL_ALL;
  CHECK( pf_cancel_all_orders( out, sizeof( out ), &t, 1, 0, NULL, 0 ) == PF_ERR_CLOSED );
  CHECK( !check_contains( out, sizeof( out ), any_signature, sizeof( any_signature ) - 1 ) );
  key = open;
}

/* One bad item refuses the batch, wherever it stands. */

static void
test_batch_is_all_or_nothing( void ) {
  pf_template    t;
  pf_template    closed;
  pf_cancel_item items[PF_BATCH_ITEMS_MAX];
  char           out[PF_BATCH_MAX];
  pf_key         open = key;
  uint8_t        pubkey[PF_PUBKEY_SZ];
  CHECK( make( &t, PF_CANCEL_ORDER, ACCOUNT, "", "BTC", 0, 5000 ) == PF_OK );
  CHECK( pf_key_open( &key, pubkey, seed ) == PF_OK );
  CHECK( make( &closed, PF_CANCEL_ORDER, ACCOUNT, "", "BTC", 0, 5000 ) == PF_OK );
  CHECK( pf_key_close( &key ) == PF_OK );
  key = open;
  for( size_t bad = 0; bad < PF_BATCH_ITEMS_MAX; bad++ ) {
    memset( items, 0, sizeof( items ) );
    for( size_t i = 0; i < PF_BATCH_ITEMS_MAX; i++ ) {
      items[i].order = i == bad ? &closed : &t;
    }
    CHECK( pf_batch_cancel( out, sizeof( out ), items, PF_BATCH_ITEMS_MAX, 1, 0, NULL, 0 ) == PF_ERR_CLOSED );
    items[bad].order = NULL;
    CHECK( pf_batch_cancel( out, sizeof( out ), items, PF_BATCH_ITEMS_MAX, 1, 0, NULL, 0 ) == PF_ERR_ARGUMENT );
  }
}

/* What did not fit is not followed by what does. */

static void
test_a_full_writer_stays_full( void ) {
  char      out[4] = "....";
  pf_writer w      = pf_writer_on( out, sizeof( out ) );
  PF_PUT_LIT( &w, "ab" );
  PF_PUT_LIT( &w, "too long" );
  PF_PUT_LIT( &w, "c" );
  CHECK( memcmp( out, "ab..", sizeof( out ) ) == 0 );
  CHECK( pf_writer_len( &w ) == PF_ERR_CAPACITY );
}

int
main( void ) {
  uint8_t pubkey[PF_PUBKEY_SZ];
  CHECK( pf_bind_sodium( &fake_table ) == PF_OK );
  CHECK( pf_key_open( &key, pubkey, seed ) == PF_OK );
  check_all_kinds( &longest, UINT64_MAX );
  check_all_kinds( &shortest, 0 );
  test_batches( &longest );
  test_batches( &shortest );
  test_a_full_writer_stays_full();
  test_refused_templates();
  test_templates_are_whole();
  test_blanks();
  test_is_uuid();
  test_refused_calls();
  test_ids();
  test_clock();
  test_corrected_clock();
  test_closed_key();
  test_batch_is_all_or_nothing();
  CHECK( pf_key_close( &key ) == PF_OK );
  puts( "test_cancel: ok" );
  return 0;
}
