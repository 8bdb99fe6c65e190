/* SPDX-License-Identifier: MIT */

/* base58.c: any 32 or 64 bytes into every capacity about what they take,
   and any text of every length into rooms that fit and that do not. */

#include "any.h"

#include "pf_base58.h"

/* For a quick look: every STEP-th length, and always the longest. */
#if !defined( STEP )
#define STEP 1
#endif

static void
encode( size_t n, size_t max_len ) {
  uint8_t bytes[64];
  any_bytes( bytes, sizeof( bytes ) );
  for( size_t cap = ( max_len + 1 ) % STEP; cap <= max_len + 1; cap += STEP ) {
    char      text[PF_BASE58_64_MAX_LEN + 1];
    pf_writer w = pf_writer_on( LAST( text, cap ), cap );
    (void)pf_base58_put( &w, LAST( bytes, n ), n );
  }
}

static void
decode_exact( size_t n ) {
  char text[PF_BASE58_64_MAX_LEN + 1];
  any_bytes( text, sizeof( text ) );
  for( size_t len = sizeof( text ) % STEP; len <= sizeof( text ); len += STEP ) {
    uint8_t out[68];
    (void)pf_base58_decode_exact( LAST( out, n ), n, LAST( text, len ), len );
  }
}

static void
decode( size_t cap ) {
  char text[PF_BASE58_DECODE_MAX + 1];
  any_bytes( text, sizeof( text ) );
  for( size_t len = sizeof( text ) % STEP; len <= sizeof( text ); len += STEP ) {
    uint8_t out[PF_BASE58_DECODE_MAX];
    (void)pf_base58_decode( LAST( out, cap ), cap, LAST( text, len ), len );
  }
}

int
main( void ) {
  encode( 32, PF_BASE58_32_MAX_LEN );
  encode( 64, PF_BASE58_64_MAX_LEN );
  decode_exact( 32 );
  decode_exact( 64 );
  decode_exact( 68 );
  decode( 0 );
  decode( 32 );
  decode( PF_BASE58_DECODE_MAX );
  return 0;
}
