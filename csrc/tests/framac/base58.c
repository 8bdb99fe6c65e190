/* SPDX-License-Identifier: MIT */

/* base58.c: any 32 or 64 bytes into every capacity about what they take,
   and any text of every length into rooms that fit and that do not.  Each
   length takes seconds: of rooms that are like another every step-th
   length, and always the longest. */

#include "any.h"

#include "pf_base58.h"

static void
encode( size_t n, size_t max_len ) {
  uint8_t bytes[64];
  any_bytes( bytes, sizeof( bytes ) );
  for( size_t cap = 0; cap <= max_len + 1; cap++ ) {
    char      text[PF_BASE58_64_MAX_LEN + 1];
    pf_writer w = pf_writer_on( LAST( text, cap ), cap );
    (void)pf_base58_put( &w, LAST( bytes, n ), n );
  }
}

static void
decode_exact( size_t n, size_t step ) {
  char text[PF_BASE58_64_MAX_LEN + 1];
  any_bytes( text, sizeof( text ) );
  for( size_t len = sizeof( text ) % step; len <= sizeof( text ); len += step ) {
    uint8_t out[68];
    (void)pf_base58_decode_exact( LAST( out, n ), n, LAST( text, len ), len );
  }
}

static void
decode( size_t cap, size_t step ) {
  char text[PF_BASE58_DECODE_MAX + 1];
  any_bytes( text, sizeof( text ) );
  for( size_t len = sizeof( text ) % step; len <= sizeof( text ); len += step ) {
    uint8_t out[PF_BASE58_DECODE_MAX];
    (void)pf_base58_decode( LAST( out, cap ), cap, LAST( text, len ), len );
  }
}

int
main( void ) {
  encode( 32, PF_BASE58_32_MAX_LEN );
  encode( 64, PF_BASE58_64_MAX_LEN );
  decode_exact( 32, 1 );
  decode_exact( 64, 1 );
  decode_exact( 68, 4 );
  decode( 0, 4 );
  decode( 32, 4 );
  decode( PF_BASE58_DECODE_MAX, 1 );
  return 0;
}
