/* SPDX-License-Identifier: MIT */
#include "pf_frame.h"

#include "pf_api.h"
#include "pf_random.h"

#define FIN_TEXT 0x81
#define MASKED 0x80
#define SHORT_MAX 125
#define MIDDLE_MAX 65535

_Static_assert( PF_REQUEST_MAX + PF_FRAME_ROOM <= PF_FRAME_MAX, "PF_FRAME_MAX holds any cancel" );
_Static_assert( PF_REQUEST_MAX <= MIDDLE_MAX, "no cancel needs the longest form" );

/* header_len is that of header and mask key together. */

static size_t
header_len( size_t payload_len ) {
  size_t const extended = payload_len <= SHORT_MAX ? 0 : payload_len <= MIDDLE_MAX ? 2 : 8;
  return 2 + extended + PF_MASK_SZ;
}

/* fits tells whether the frame can be built in cap bytes, with its
   payload first behind a header of the middle form. */

static int
fits( size_t cap, size_t payload_len ) {
  size_t const header = header_len( payload_len );
  size_t const before = header > PF_FRAME_ROOM ? header : PF_FRAME_ROOM;
  return cap >= before && cap - before >= payload_len && payload_len <= INT64_MAX - before;
}

static void
put_big_endian( uint8_t *out, size_t n, uint64_t v ) {
  while( n ) {
    out[--n] = (uint8_t)v;
    v >>= 8;
  }
}

static void
put_header( uint8_t *frame, size_t header, size_t payload_len, const uint8_t mask[PF_MASK_SZ] ) {
  size_t const extended = header - 2 - PF_MASK_SZ;
  frame[0]              = FIN_TEXT;
  frame[1] = (uint8_t)( MASKED | ( extended == 0 ? payload_len : extended == 2 ? (size_t)126 : (size_t)127 ) );
  put_big_endian( frame + 2, extended, payload_len );
  memcpy( frame + 2 + extended, mask, PF_MASK_SZ );
}

/* apply_mask XORs byte i with mask[i % 4], eight bytes at a time. */

static void
apply_mask( uint8_t *bytes, size_t n, const uint8_t mask[PF_MASK_SZ] ) {
  uint64_t twice;
  size_t   i = 0;
  memcpy( &twice, mask, PF_MASK_SZ );
  memcpy( (uint8_t *)&twice + PF_MASK_SZ, mask, PF_MASK_SZ );
  for( ; n - i >= 8; i += 8 ) {
    uint64_t eight;
    memcpy( &eight, bytes + i, 8 );
    eight ^= twice;
    memcpy( bytes + i, &eight, 8 );
  }
  for( ; i < n; i++ ) {
    bytes[i] ^= mask[i % PF_MASK_SZ];
  }
}

int64_t
pf_frame_wrap_with( char *frame, size_t cap, size_t payload_len, const uint8_t mask[PF_MASK_SZ] ) {
  if( PF_UNLIKELY( !fits( cap, payload_len ) ) ) {
    return PF_ERR_CAPACITY;
  }
  uint8_t     *bytes  = (uint8_t *)frame;
  size_t const header = header_len( payload_len );
  if( PF_UNLIKELY( header != PF_FRAME_ROOM ) ) {
    memmove( bytes + header, bytes + PF_FRAME_ROOM, payload_len );
  }
  put_header( bytes, header, payload_len, mask );
  apply_mask( bytes + header, payload_len, mask );
  return (int64_t)( header + payload_len );
}

int64_t
pf_frame_wrap( char *frame, size_t cap, size_t payload_len ) {
  uint8_t   mask[PF_MASK_SZ];
  int const rc = pf_random( mask, sizeof( mask ) );
  return PF_LIKELY( rc == PF_OK ) ? pf_frame_wrap_with( frame, cap, payload_len, mask ) : rc;
}

int64_t
pf_frame_text( char *out, size_t cap, const char *text, size_t len ) {
  if( PF_UNLIKELY( !fits( cap, len ) ) ) {
    return PF_ERR_CAPACITY;
  }
  if( len ) {
    memcpy( out + PF_FRAME_ROOM, text, len );
  }
  return pf_frame_wrap( out, cap, len );
}

/* frame_at finds the whole masked frame that the bytes begin with: its
   length, or 0 if there is none; *header is that before its payload. */

static size_t
frame_at( const uint8_t *bytes, size_t len, size_t *header ) {
  if( len < 2 || bytes[0] != FIN_TEXT || !( bytes[1] & MASKED ) ) {
    return 0;
  }
  size_t const code     = bytes[1] & ~(unsigned)MASKED;
  size_t const extended = code <= SHORT_MAX ? 0 : code == 126 ? 2 : 8;
  *header               = 2 + extended + PF_MASK_SZ;
  if( len < *header ) {
    return 0;
  }
  uint64_t payload_len = extended ? 0 : code;
  for( size_t i = 0; i < extended; i++ ) {
    payload_len = payload_len << 8 | bytes[2 + i];
  }
  return payload_len <= len - *header ? *header + (size_t)payload_len : 0;
}

int64_t
pf_frame_again( char *out, size_t cap, const char *frames, size_t len ) {
  size_t header;
  for( size_t at = 0; at < len; ) { /* all of them before any is written */
    size_t const frame_len = frame_at( (const uint8_t *)frames + at, len - at, &header );
    if( !frame_len ) {
      return PF_ERR_ARGUMENT;
    }
    at += frame_len;
  }
  if( cap < len ) {
    return PF_ERR_CAPACITY;
  }
  for( size_t at = 0; at < len; ) {
    uint8_t *const frame     = (uint8_t *)out + at;
    size_t const   frame_len = frame_at( (const uint8_t *)frames + at, len - at, &header );
    uint8_t        change[PF_MASK_SZ]; /* of a mask by random bits is a random mask */
    int const      rc = pf_random( change, sizeof( change ) );
    if( rc != PF_OK ) {
      return rc;
    }
    memcpy( frame, frames + at, frame_len );
    apply_mask( frame + header - PF_MASK_SZ, PF_MASK_SZ, change );
    apply_mask( frame + header, frame_len - header, change );
    at += frame_len;
  }
  return (int64_t)len;
}

/* wrap_request passes the error on if there is no request to wrap. */

static int64_t
wrap_request( const pf_blank *b, int64_t request_len ) {
  return PF_LIKELY( request_len >= 0 ) ? pf_frame_wrap( b->out, b->cap, (size_t)request_len ) : request_len;
}

int64_t
pf_frame_cancel_order_id( const pf_blank *b, uint64_t order_id, int64_t timestamp, uint64_t number ) {
  if( PF_UNLIKELY( b->cap < PF_FRAME_ROOM ) ) {
    return PF_ERR_CAPACITY;
  }
  return wrap_request( b, pf_cancel_order_id( b->out + PF_FRAME_ROOM, b->cap - PF_FRAME_ROOM, b->t, order_id,
                                              timestamp, number, NULL, 0 ) );
}

int64_t
pf_frame_cancel_client_order_id(
    const pf_blank *b, const char *client_order_id, size_t client_len, int64_t timestamp, uint64_t number ) {
  if( PF_UNLIKELY( b->cap < PF_FRAME_ROOM ) ) {
    return PF_ERR_CAPACITY;
  }
  return wrap_request( b,
                       pf_cancel_client_order_id( b->out + PF_FRAME_ROOM, b->cap - PF_FRAME_ROOM, b->t,
                                                  client_order_id, client_len, timestamp, number, NULL, 0 ) );
}
