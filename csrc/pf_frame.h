/* SPDX-License-Identifier: MIT */
#ifndef PF_FRAME_H
#define PF_FRAME_H

/* pf_frame.h: the websocket frame of one whole text message from a client:
   FIN, opcode 1, masked (RFC 6455, sections 5.2 and 5.3).

     payload        header
     0 to 125       81, 80|length, 4 bytes of mask key
     to 65535       81, fe, length in 2 bytes, mask key
     above          81, ff, length in 8 bytes, mask key

   Every cancel is of the middle form: its text is written behind room
   for that header, and masked where it stands.

   The mask keeps whoever chooses the text from choosing the bytes on the
   wire (section 10.3): hence a key per frame that nobody can predict. */

#include "pf_base.h"

#define PF_FRAME_ROOM 8 /* header and mask key of the middle form */
#define PF_MASK_SZ 4

/* pf_frame_wrap makes a frame of the payload_len bytes at
   frame + PF_FRAME_ROOM; frame has room for cap bytes.  Writes header
   and mask key, moves the payload if the header is of another length,
   and masks it.  Returns the length of the frame, which starts at
   frame[0], or PF_ERR_CAPACITY or PF_ERR_UNBOUND; the payload is then as
   it was. */

int64_t pf_frame_wrap( char *frame, size_t cap, size_t payload_len );

/* pf_frame_wrap_with does the same with the caller's mask key, which must
   be unpredictable and is used once. */

int64_t pf_frame_wrap_with( char *frame, size_t cap, size_t payload_len, const uint8_t mask[PF_MASK_SZ] );

#endif /* PF_FRAME_H */
