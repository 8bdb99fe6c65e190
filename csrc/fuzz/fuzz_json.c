/* SPDX-License-Identifier: MIT */

/* fuzz_json.c: canonical JSON, beside a naive version.  The first byte
   says whether surrogates are let in and what room there is; the rest is
   the text. */

#include "fuzz.h"

#include "naive_json.h"
#include "pf_api.h"
#include "pf_json.h"

static int64_t
canonical_in(
    char *out, size_t cap, const char *text, size_t len, int surrogates, size_t work_sz, size_t *position ) {
  char         *work   = fuzz_buffer( work_sz );
  pf_writer     w      = pf_writer_on( out, cap );
  int64_t const result = pf_json_canonical( &w, text, len, surrogates, work, work_sz, position );
  CHECK( result >= 0 || result == PF_ERR_CAPACITY || w.at == out ); /* all of it, or nothing */
  free( work );
  return result;
}

/* With less room than it takes it is refused, and nothing goes past the end. */

static void
check_without_room( const char *text, size_t len, int surrogates, size_t needed, size_t work_sz, size_t less ) {
  size_t position = 0;
  if( needed ) {
    size_t const cap = needed - 1 - less % needed;
    char        *out = fuzz_buffer( cap );
    CHECK( canonical_in( out, cap, text, len, surrogates, work_sz, &position ) == PF_ERR_CAPACITY );
    free( out );
  }
  if( work_sz > PF_JSON_WORK_MIN_SZ ) {
    size_t const  small  = work_sz - 8 * ( 1 + less % ( work_sz / 8 ) );
    char         *out    = fuzz_buffer( needed );
    int64_t const result = canonical_in( out, needed, text, len, surrogates, small, &position );
    CHECK( result == PF_ERR_CAPACITY || result == (int64_t)needed ); /* measured is at most, not exactly */
    free( out );
  }
}

/* Whether half of a surrogate pair stands in the text as it is, not
   escaped.  Beside its other half, escaped, these are two characters; when
   written, both are escaped, and what reads that reads one.  It may then
   sort elsewhere, or be a name that there is already.  The SDK's way does
   the same. */

static int
has_raw_half( const char *text, size_t len ) {
  for( size_t i = 0; i + 1 < len; i++ ) {
    if( (uint8_t)text[i] == 0xed && (uint8_t)text[i + 1] >= 0xa0 ) {
      return 1;
    }
  }
  return 0;
}

int
LLVMFuzzerTestOneInput( const uint8_t *data, size_t size ) {
  fuzz_input     input      = { data, size };
  uint64_t const steer      = fuzz_number( &input, 1 );
  int const      surrogates = (int)( steer & 1 );
  size_t const   len        = input.left;
  char          *text       = fuzz_copy( input.at, len );
  pf_json_size_t measured;
  size_t         position     = SIZE_MAX;
  size_t         expected_len = 0;
  char          *expected     = naive_canonical( text, len, surrogates, &expected_len );
  pf_json_measure( text, len, &measured );
  size_t const work_sz = pf_json_work_sz( &measured );
  CHECK( work_sz >= PF_JSON_WORK_MIN_SZ );

  char         *out    = fuzz_buffer( measured.output );
  int64_t const result = canonical_in( out, measured.output, text, len, surrogates, work_sz, &position );
  if( expected ) {
    CHECK( result == (int64_t)expected_len );
    CHECK( memcmp( out, expected, expected_len ) == 0 );
    check_without_room( text, len, surrogates, expected_len, work_sz, (size_t)steer >> 1 );
    if( !has_raw_half( text, len ) ) { /* canonical stays canonical */
      char *again = fuzz_buffer( expected_len );
      CHECK( pf_canonicalize( again, expected_len, expected, expected_len, 0, &position ) == result );
      CHECK( memcmp( again, expected, expected_len ) == 0 );
      free( again );
    }
  } else {
    CHECK( result <= PF_ERR_JSON_END && result >= PF_ERR_JSON_OBJECT );
    CHECK( position <= len );
    CHECK( pf_canonical_bound( text, len ) >= measured.output );
  }
  free( out );
  free( expected );
  free( text );
  return 0;
}
