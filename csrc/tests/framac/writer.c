/* SPDX-License-Identifier: MIT */

/* writer.c: pf_writer, for every capacity up to more than it is asked
   for, and any bytes or number. */

#include "any.h"

#define ROOM ( PF_U64_LEN + 4 )

static void
put_number( void ) {
  for( size_t cap = 0; cap <= ROOM; cap++ ) {
    char      buffer[ROOM];
    pf_writer w = pf_writer_on( LAST( buffer, cap ), cap );
    pf_put_u64( &w, any_u64() );
    (void)pf_writer_len( &w );
  }
}

/* What comes after running out of room must be as safe as what came
   before. */

static void
put_bytes( void ) {
  char bytes[ROOM + 2];
  any_bytes( bytes, sizeof( bytes ) );
  for( size_t cap = 0; cap <= ROOM; cap++ ) {
    for( size_t n = 0; n <= sizeof( bytes ); n++ ) {
      char      buffer[ROOM];
      pf_writer w = pf_writer_on( LAST( buffer, cap ), cap );
      PF_PUT_LIT( &w, "{" );
      pf_put( &w, bytes, n );
      PF_PUT_LIT( &w, "}" );
      int64_t const len = pf_writer_len( &w );
      for( int64_t i = 0; i < len; i++ ) { /* all of what it says is there */
        readable( w.start[i] );
      }
    }
  }
}

int
main( void ) {
  put_number();
  put_bytes();
  return 0;
}
