/* SPDX-License-Identifier: MIT */

/* fuzz_frame.c: websocket frames, taken apart again by unframe.h.  The
   first bytes say what room there is, and how often the payload is
   repeated, one input in 256: the longest form of the header begins at
   65 536 bytes. */

#include "fuzz.h"

#include "../tests/fake_sodium.h"
#include "../tests/unframe.h"

#include "pf_api.h"
#include "pf_random.h"

static void
check_frame( char *frame, int64_t frame_len, const char *payload, size_t len ) {
  uint8_t        mask[PF_MASK_SZ];
  const uint8_t *text;
  CHECK( unframed( (uint8_t *)frame, frame_len, &text, mask ) == len );
  CHECK( len == 0 || memcmp( text, payload, len ) == 0 );
}

static size_t
header_len( size_t len ) {
  return len < 126 ? 6 : len < 65536 ? 8 : 14;
}

static void
check_text( const char *payload, size_t len, size_t cap ) {
  char         *out       = fuzz_buffer( cap );
  int64_t const frame_len = pf_frame_text( out, cap, payload, len );
  if( frame_len >= 0 ) {
    CHECK( (size_t)frame_len == header_len( len ) + len && (size_t)frame_len <= cap );
    check_frame( out, frame_len, payload, len );
  } else { /* it may ask for more room than the frame takes, but never for more than it says */
    CHECK( frame_len == PF_ERR_CAPACITY && cap < len + 14 );
  }
  free( out );
}

static void
check_wrap( const char *payload, size_t len, size_t cap, const uint8_t mask[PF_MASK_SZ] ) {
  char *out = fuzz_buffer( cap );
  if( cap >= PF_FRAME_ROOM + len ) {
    if( len ) {
      memcpy( out + PF_FRAME_ROOM, payload, len );
    }
    int64_t const frame_len = pf_frame_wrap_with( out, cap, len, mask );
    if( frame_len >= 0 ) {
      check_frame( out, frame_len, payload, len );
    } else {
      CHECK( frame_len == PF_ERR_CAPACITY );
      CHECK( len == 0 || memcmp( out + PF_FRAME_ROOM, payload, len ) == 0 );
    }
  } else {
    CHECK( pf_frame_wrap_with( out, cap, len, mask ) == PF_ERR_CAPACITY );
  }
  free( out );
}

/* Any bytes are either refused, or frames that say the same under other masks. */

static void
check_again( const char *bytes, size_t len, size_t cap ) {
  char         *out    = fuzz_buffer( cap );
  int64_t const result = pf_frame_again( out, cap, bytes, len );
  CHECK( result == PF_ERR_ARGUMENT || result == ( cap < len ? PF_ERR_CAPACITY : (int64_t)len ) );
  CHECK( result <= 0 || memcmp( out, bytes, 2 ) == 0 ); /* the rest differs: another mask */
  free( out );
}

static void
check_two_again( const char *payload, size_t len ) {
  size_t const  each      = 14 + len;
  char         *frames    = fuzz_buffer( 2 * each );
  int64_t const first     = pf_frame_text( frames, each, payload, len );
  int64_t const second    = pf_frame_text( frames + first, each, payload, len );
  size_t const  both      = (size_t)( first + second );
  char         *out       = fuzz_buffer( both );
  char         *untouched = fuzz_copy( frames, both );
  CHECK( pf_frame_again( out, both, frames, both ) == (int64_t)both );
  CHECK( memcmp( frames, untouched, both ) == 0 );
  check_frame( out, first, payload, len );
  check_frame( out + first, second, payload, len );
  CHECK( pf_frame_again( out, both - 1, frames, both ) == PF_ERR_CAPACITY );
  CHECK( pf_frame_again( out, both, frames, both - 1 ) == PF_ERR_ARGUMENT );
  free( untouched );
  free( out );
  free( frames );
}

int
LLVMFuzzerTestOneInput( const uint8_t *data, size_t size ) {
  static int bound;
  fuzz_input input = { data, size };
  uint8_t    mask[PF_MASK_SZ];
  if( !bound ) {
    CHECK( pf_bind_sodium( &fake_table ) == PF_OK );
    bound = 1;
  }
  size_t const room  = (size_t)fuzz_number( &input, 2 );
  size_t const many  = (size_t)fuzz_number( &input, 2 );
  size_t const times = many % 256 || input.left < 150 ? 1 : 1 + many / 256 * 3;
  for( size_t i = 0; i < PF_MASK_SZ; i++ ) {
    mask[i] = (uint8_t)fuzz_number( &input, 1 );
  }
  size_t const len     = input.left * times;
  char        *payload = fuzz_buffer( len );
  for( size_t at = 0; at < len; at += input.left ) {
    memcpy( payload + at, input.at, input.left );
  }
  size_t const cap = room & 1 ? len + room / 2 % 17 : room / 2 % ( len + 17 );
  check_text( payload, len, cap );
  check_wrap( payload, len, cap, mask );
  check_again( payload, len, cap );
  check_two_again( payload, len );
  free( payload );
  return 0;
}
