/* SPDX-License-Identifier: MIT */
#ifndef PF_TESTS_UNFRAME_H
#define PF_TESTS_UNFRAME_H

/* unframe.h: what a server makes of a client's text frame. */

#include "check.h"

#include "pf_frame.h"

/* unframed checks a frame byte by byte, takes the mask off, and returns
   the length of the text, which starts where *text says.  Written from
   RFC 6455, section 5.2, alone. */

static inline size_t
unframed( uint8_t *frame, int64_t frame_len, const uint8_t **text, uint8_t mask[PF_MASK_SZ] ) {
  size_t   at  = 2;
  uint64_t len = frame[1] & 0x7f;
  CHECK( frame_len >= 6 );
  CHECK( frame[0] == 0x81 ); /* FIN, no reserved bit, opcode 1 */
  CHECK( frame[1] & 0x80 );  /* masked */
  if( len >= 126 ) {
    size_t const   bytes = len == 126 ? 2 : 8;
    uint64_t const least = len == 126 ? 126 : 65536; /* the minimal number of bytes must be used */
    len                  = 0;
    for( size_t i = 0; i < bytes; i++ ) {
      len = len << 8 | frame[at++];
    }
    CHECK( len >= least && len >> 63 == 0 );
  }
  memcpy( mask, frame + at, PF_MASK_SZ );
  at += PF_MASK_SZ;
  CHECK( (uint64_t)frame_len == at + len );
  for( size_t i = 0; i < len; i++ ) {
    frame[at + i] = (uint8_t)( frame[at + i] ^ mask[i % 4] );
  }
  *text = frame + at;
  return (size_t)len;
}

#endif /* PF_TESTS_UNFRAME_H */
