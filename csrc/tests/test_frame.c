/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE

#include "check.h"
#include "fake_sodium.h"
#include "unframe.h"

#include "pf_cancel.h"
#include "pf_frame.h"
#include "pf_random.h"

#define ACCOUNT "JEKNVnkbo3jma5nREBBJCDoXFVeKkD56V3xKrvRmWxFG" /* 32 bytes 0xff: 44 characters, the longest */
#define AGENT "J8U9mGpm5pUDn8WpYCgM3SoZmWwoUVdMKyVmdJQZ1p2F"
#define SYMBOL32 "ABCDEFGHIJKLMNOPQRSTUVWXYZ abc/-"
#define CLIENT_ID "79f948fd-7556-4066-a128-083f3ea49322"
#define TIMESTAMP 1749223343149
#define LONGEST 70000
#define CANARY "ZZZZZZZZ"

static uint8_t const mask_key[PF_MASK_SZ] = { 0x37, 0xfa, 0x21, 0x3d };
static uint8_t       payload[LONGEST];
static pf_template   order;

#define BLANK( out, cap ) ( &( pf_blank const ){ &order, ( out ), ( cap ) } )

/* Every four bytes that this makes are different from all others. */

static void
counting_random( unsigned char *out, unsigned long long n ) {
  static uint32_t count;
  CHECK( n % 4 == 0 );
  for( size_t i = 0; i < n; i += 4 ) {
    uint32_t const different = ++count * UINT32_C( 2654435761 ); /* odd: a permutation */
    memcpy( out + i, &different, 4 );
  }
}

static size_t
capacity_for( size_t len ) {
  return len + ( len > 65535 ? 14 : PF_FRAME_ROOM );
}

/* The frame in section 5.7 of the RFC. */

static void
test_known_answer( void ) {
  static uint8_t const expected[] = { 0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58 };
  char                 frame[PF_FRAME_ROOM + 5];
  memcpy( frame + PF_FRAME_ROOM, "Hello", 5 );
  CHECK( pf_frame_wrap_with( frame, sizeof( frame ), 5, mask_key ) == sizeof( expected ) );
  CHECK( memcmp( frame, expected, sizeof( expected ) ) == 0 );
}

static void
check_wrap( size_t len ) {
  size_t const   cap   = capacity_for( len );
  uint8_t *const frame = malloc( cap + sizeof( CANARY ) );
  uint8_t const *text;
  uint8_t        mask[PF_MASK_SZ];
  CHECK( frame != NULL );
  memcpy( frame + cap, CANARY, sizeof( CANARY ) );
  memcpy( frame + PF_FRAME_ROOM, payload, len );

  CHECK( pf_frame_wrap_with( (char *)frame, cap - 1, len, mask_key ) == PF_ERR_CAPACITY );
  CHECK( pf_frame_wrap( (char *)frame, cap - 1, len ) == PF_ERR_CAPACITY );
  CHECK( memcmp( frame + PF_FRAME_ROOM, payload, len ) == 0 );

  int64_t const frame_len = pf_frame_wrap_with( (char *)frame, cap, len, mask_key );
  CHECK( unframed( frame, frame_len, &text, mask ) == len );
  CHECK( memcmp( text, payload, len ) == 0 );
  CHECK( memcmp( mask, mask_key, PF_MASK_SZ ) == 0 );
  CHECK( memcmp( frame + cap, CANARY, sizeof( CANARY ) ) == 0 );
  free( frame );
}

static void
check_text( size_t len ) {
  size_t const   cap   = capacity_for( len );
  uint8_t *const frame = malloc( cap );
  uint8_t const *text;
  uint8_t        mask[PF_MASK_SZ];
  CHECK( frame != NULL );
  CHECK( pf_frame_text( (char *)frame, cap - 1, (const char *)payload, len ) == PF_ERR_CAPACITY );
  int64_t const frame_len = pf_frame_text( (char *)frame, cap, (const char *)payload, len );
  CHECK( unframed( frame, frame_len, &text, mask ) == len );
  CHECK( memcmp( text, payload, len ) == 0 );
  free( frame );
}

static void
test_all_forms( void ) {
  for( size_t len = 0; len <= 300; len++ ) {
    check_wrap( len );
    check_text( len );
  }
  for( size_t len = 65530; len <= 65545; len++ ) {
    check_wrap( len );
    check_text( len );
  }
  check_wrap( LONGEST );
  check_text( LONGEST );
}

/* Frames of every form in a row, copied under other masks; anything that is
   cut off, unmasked, fragmented or of another opcode is refused whole. */

static void
test_again( void ) {
  static size_t const lens[] = { 0, 1, 5, 125, 126, 350, 65535, 65536 };
  enum { CAP = 2 * 65536 + 2048, COUNT = sizeof( lens ) / sizeof( lens[0] ) };
  static char    frames[CAP];
  static char    again[CAP];
  size_t         total = 0;
  uint8_t const *text;
  uint8_t        mask[PF_MASK_SZ];
  uint8_t        other[PF_MASK_SZ];
  for( size_t i = 0; i < COUNT; i++ ) {
    total += (size_t)pf_frame_text( frames + total, CAP - total, (const char *)payload, lens[i] );
  }
  memset( again, 0x5a, sizeof( again ) );
  CHECK( pf_frame_again( again, total - 1, frames, total ) == PF_ERR_CAPACITY );
  for( size_t cut = 1; cut < 400; cut++ ) {
    CHECK( pf_frame_again( again, CAP, frames, total - cut ) == PF_ERR_ARGUMENT );
  }
  for( int bit = 0; bit < 8; bit++ ) { /* FIN, the reserved bits, the opcode */
    frames[0] = (char)( frames[0] ^ 1 << bit );
    CHECK( pf_frame_again( again, CAP, frames, total ) == PF_ERR_ARGUMENT );
    frames[0] = (char)( frames[0] ^ 1 << bit );
  }
  frames[1] = (char)( frames[1] ^ 0x80 ); /* not masked */
  CHECK( pf_frame_again( again, CAP, frames, total ) == PF_ERR_ARGUMENT );
  frames[1] = (char)( frames[1] ^ 0x80 );
  CHECK( again[0] == 0x5a );
  static uint8_t const endless[] = { 0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                     0xff, 0xff, 1,    2,    3,    4,    5 };
  CHECK( pf_frame_again( again, CAP, (const char *)endless, sizeof( endless ) ) == PF_ERR_ARGUMENT );
  CHECK( pf_frame_again( again, CAP, frames, 0 ) == 0 );
  CHECK( pf_frame_again( again, CAP, frames, total ) == (int64_t)total );
  for( size_t i = 0, at = 0; i < COUNT; i++ ) {
    size_t const frame_len = lens[i] + ( lens[i] <= 125 ? 6 : lens[i] <= 65535 ? 8 : 14 );
    CHECK( unframed( (uint8_t *)frames + at, (int64_t)frame_len, &text, mask ) == lens[i] );
    CHECK( unframed( (uint8_t *)again + at, (int64_t)frame_len, &text, other ) == lens[i] );
    CHECK( memcmp( text, payload, lens[i] ) == 0 );
    CHECK( memcmp( mask, other, PF_MASK_SZ ) != 0 );
    at += frame_len;
  }
}

static void
test_lengths_are_not_believed( void ) {
  char frame[64];
  memset( frame, 0x5a, sizeof( frame ) );
  for( size_t cap = 0; cap < PF_FRAME_ROOM; cap++ ) {
    CHECK( pf_frame_wrap( frame, cap, 0 ) == PF_ERR_CAPACITY );
    CHECK( pf_frame_text( frame, cap, "", 0 ) == PF_ERR_CAPACITY );
    CHECK( pf_frame_cancel_order_id( BLANK( frame, cap ), 1, 1, 0 ) == PF_ERR_CAPACITY );
    CHECK( pf_frame_cancel_client_order_id( BLANK( frame, cap ), CLIENT_ID, 36, 1, 0 ) == PF_ERR_CAPACITY );
  }
  for( size_t back = 0; back < 20; back++ ) {
    CHECK( pf_frame_wrap( frame, sizeof( frame ), SIZE_MAX - back ) == PF_ERR_CAPACITY );
    CHECK( pf_frame_text( frame, sizeof( frame ), "", SIZE_MAX - back ) == PF_ERR_CAPACITY );
    CHECK( pf_frame_wrap( frame, SIZE_MAX, SIZE_MAX - back ) == PF_ERR_CAPACITY );
    CHECK( pf_frame_wrap( frame, SIZE_MAX, (size_t)INT64_MAX - back % 14 ) == PF_ERR_CAPACITY );
  }
  for( size_t i = 0; i < sizeof( frame ); i++ ) {
    CHECK( frame[i] == 0x5a );
  }
}

/* Against the random bytes themselves: whatever is on the wire came from
   there, four bytes for each frame, none twice. */

#define FRAMES 2000

static void
test_every_frame_has_a_mask_of_its_own( void ) {
  static uint32_t seen[FRAMES];
  char            frame[PF_FRAME_ROOM + 1] = { 0 };
  for( size_t i = 0; i < FRAMES; i++ ) {
    CHECK( ( i % 2 ? pf_frame_text( frame, sizeof( frame ), "x", 1 )
                   : pf_frame_wrap( frame, sizeof( frame ), 1 ) ) == 7 );
    memcpy( &seen[i], frame + 2, PF_MASK_SZ );
    for( size_t k = 0; k < i; k++ ) {
      CHECK( seen[k] != seen[i] );
    }
  }
}

/* A cancel's frame holds the very request, for every capacity. */

typedef int64_t ( *framed_call )( char *out, size_t cap, uint64_t number );

static int64_t
by_order_id( char *out, size_t cap, uint64_t number ) {
  return pf_frame_cancel_order_id( BLANK( out, cap ), UINT64_MAX, TIMESTAMP, number );
}

static int64_t
by_client_order_id( char *out, size_t cap, uint64_t number ) {
  return pf_frame_cancel_client_order_id( BLANK( out, cap ), CLIENT_ID, 36, TIMESTAMP, number );
}

static void
check_cancel( framed_call framed, const char *request, int64_t request_len, uint64_t number ) {
  size_t const needed = PF_FRAME_ROOM + (size_t)request_len;
  CHECK( request_len > 0 && needed <= PF_FRAME_MAX );
  for( size_t cap = 0; cap <= needed; cap++ ) {
    uint8_t *const frame = malloc( cap + sizeof( CANARY ) );
    uint8_t const *text;
    uint8_t        mask[PF_MASK_SZ];
    CHECK( frame != NULL );
    memcpy( frame + cap, CANARY, sizeof( CANARY ) );
    int64_t const frame_len = framed( (char *)frame, cap, number );
    CHECK( frame_len == ( cap < needed ? PF_ERR_CAPACITY : (int64_t)needed ) );
    CHECK( memcmp( frame + cap, CANARY, sizeof( CANARY ) ) == 0 );
    if( cap == needed ) {
      CHECK( unframed( frame, frame_len, &text, mask ) == (size_t)request_len );
      CHECK( memcmp( text, request, (size_t)request_len ) == 0 );
    }
    free( frame );
  }
}

static void
test_cancels( void ) {
  char     request[PF_REQUEST_MAX];
  uint64_t number;
  CHECK( pf_id_reserve( &number, 1 ) == PF_OK );
  check_cancel(
      by_order_id, request,
      pf_cancel_order_id( request, sizeof( request ), &order, UINT64_MAX, TIMESTAMP, number, NULL, 0 ),
      number );
  check_cancel( by_client_order_id, request,
                pf_cancel_client_order_id( request, sizeof( request ), &order, CLIENT_ID, 36, TIMESTAMP, number,
                                           NULL, 0 ),
                number );
}

static void
test_errors_of_the_request_pass_through( void ) {
  char     frame[PF_FRAME_MAX];
  uint64_t number;
  CHECK( pf_id_reserve( &number, 1 ) == PF_OK );
  CHECK( pf_frame_cancel_order_id( BLANK( frame, sizeof( frame ) ), 1, -1, number ) == PF_ERR_ARGUMENT );
  CHECK( pf_frame_cancel_order_id( BLANK( frame, sizeof( frame ) ), 1, 1, number + 1 ) == PF_ERR_FORKED );
  CHECK( pf_frame_cancel_client_order_id( BLANK( frame, sizeof( frame ) ), CLIENT_ID, 35, 1, number ) ==
         PF_ERR_ARGUMENT );
  CHECK( pf_frame_cancel_client_order_id( BLANK( frame, sizeof( frame ) ), NULL, 0, 1, number ) ==
         PF_ERR_ARGUMENT );
}

static void
test_unbound( void ) {
  char frame[PF_FRAME_ROOM + 1] = { 0 };
  CHECK( pf_frame_wrap( frame, sizeof( frame ), 1 ) == PF_ERR_UNBOUND );
  CHECK( check_all_zero( frame, sizeof( frame ) ) );
}

int
main( void ) {
  pf_key    key;
  uint8_t   pubkey[PF_PUBKEY_SZ];
  uint8_t   seed[PF_SEED_SZ] = { 1, 2, 3 };
  uint64_t  filler           = 1;
  pf_sodium table            = fake_table;
  table.randombytes          = counting_random;
  check_fill( &filler, payload, sizeof( payload ) );

  test_unbound();
  CHECK( pf_bind_sodium( &table ) == PF_OK );
  CHECK( pf_key_open( &key, pubkey, seed ) == PF_OK );
  CHECK( pf_template_make( &order, PF_CANCEL_ORDER, &key, NULL, ACCOUNT, strlen( ACCOUNT ), AGENT,
                           strlen( AGENT ), SYMBOL32, strlen( SYMBOL32 ), 0, INT64_MAX ) == PF_OK );
  test_known_answer();
  test_every_frame_has_a_mask_of_its_own(); /* before ids: they take other numbers of random bytes */
  test_all_forms();
  test_again();
  test_lengths_are_not_believed();
  test_cancels();
  test_errors_of_the_request_pass_through();
  CHECK( pf_key_close( &key ) == PF_OK );
  puts( "test_frame: ok" );
  return 0;
}
