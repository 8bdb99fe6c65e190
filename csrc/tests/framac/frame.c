/* SPDX-License-Identifier: MIT */

/* frame.c: frames of every payload up to beyond the first change of the
   header, in every room from too small to ample.  pf_frame_again is not
   looked at: it reads each header twice, and Eva does not know that it
   reads the same. */

#include "any.h"

#include "pf_api.h"
#include "pf_frame.h"
#include "pf_random.h"

#define PAYLOAD_FROM 116
#define PAYLOAD_TO 132 /* 125 is the last with the short header */
#define ROOM ( PAYLOAD_TO + PF_FRAME_ROOM + 1 )

int
pf_random( void *out, size_t n ) {
  any_bytes( out, n );
  return any_u64() ? PF_OK : PF_ERR_UNBOUND;
}

static void
wrap( size_t cap, size_t payload_len ) {
  char frame[ROOM];
  char text[PAYLOAD_TO];
  any_bytes( text, sizeof( text ) );
  (void)pf_frame_text( LAST( frame, cap ), cap, LAST( text, payload_len ), payload_len );
}

static void
wrap_all( void ) {
  for( size_t cap = 0; cap <= 16; cap++ ) {
    for( size_t payload_len = 0; payload_len <= cap; payload_len++ ) {
      wrap( cap, payload_len );
    }
  }
  for( size_t cap = PAYLOAD_FROM; cap <= ROOM; cap++ ) {
    for( size_t payload_len = PAYLOAD_FROM; payload_len <= PAYLOAD_TO; payload_len++ ) {
      wrap( cap, payload_len );
    }
  }
}

int
main( void ) {
  wrap_all();
  return 0;
}
