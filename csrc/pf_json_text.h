/* SPDX-License-Identifier: MIT */
#ifndef PF_JSON_TEXT_H
#define PF_JSON_TEXT_H

/* pf_json_text.h: the bytes and characters of JSON text, for pf_json.c and
   pf_json_sort.c: sixteen bytes at a time, UTF-8, and escapes.  Header
   only.  Functions that take no end rely on a text that was checked. */

#include "pf_base.h"

#if defined( __SSE2__ ) || defined( _M_X64 )
#define HAS_SSE2
#include <emmintrin.h>
#endif

/* Bytes in blocks */

#define BLOCK_LEN 16

static inline size_t
lowest_bit( unsigned mask ) {
#if defined( __GNUC__ ) || defined( __clang__ )
  return (size_t)__builtin_ctz( mask );
#else
  size_t n = 0;
  for( ; !( mask & 1 ); mask >>= 1 ) {
    n++;
  }
  return n;
#endif
}

#define ONES UINT64_C( 0x0101010101010101 )
#define HIGH_BITS ( ONES * 0x80 )

/* be64 turns a big-endian number into the machine's own, or back. */

static inline uint64_t
be64( uint64_t v ) {
#if defined( __BYTE_ORDER__ ) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  return __builtin_bswap64( v );
#else
  uint8_t  b[8];
  uint64_t n = 0;
  memcpy( b, &v, 8 );
  for( size_t i = 0; i < 8; i++ ) {
    n = n << 8 | b[i];
  }
  return n;
#endif
}

/* load_be64 reads eight bytes, the first one on top. */

static inline uint64_t
load_be64( const uint8_t *p ) {
  uint64_t v;
  memcpy( &v, p, 8 );
  return be64( v );
}

/* zero_bytes sets the high bit of exactly the bytes that are zero. */

static inline uint64_t
zero_bytes( uint64_t x ) {
  return ~( ( ( x & ~HIGH_BITS ) + ~HIGH_BITS ) | x ) & HIGH_BITS;
}

/* special_mask has bit i set if block[i] is not a character that stands
   in a string and goes to the output as it is: the quote, the backslash,
   controls, DEL, everything from 0x80 on. */

#if defined( HAS_SSE2 )

static inline unsigned
special_mask( const uint8_t *block ) {
  __m128i const x     = _mm_loadu_si128( (const __m128i *)(const void *)block );
  __m128i const outer = _mm_cmplt_epi8( x, _mm_set1_epi8( 0x20 ) ); /* signed: from 0x80 on too */
  __m128i const del   = _mm_cmpeq_epi8( x, _mm_set1_epi8( 0x7f ) );
  __m128i const quote = _mm_cmpeq_epi8( x, _mm_set1_epi8( '"' ) );
  __m128i const slash = _mm_cmpeq_epi8( x, _mm_set1_epi8( '\\' ) );
  return (unsigned)_mm_movemask_epi8(
      _mm_or_si128( _mm_or_si128( outer, del ), _mm_or_si128( quote, slash ) ) );
}

#else

static inline unsigned
special_mask_8( const uint8_t *p ) {
  uint64_t const x = load_be64( p );
  uint64_t const from_32 = ( ( x & ~HIGH_BITS ) + ONES * 0x60 ) & HIGH_BITS;
  uint64_t const outer = ( ~from_32 | x ) & HIGH_BITS;
  uint64_t const special =
      outer | zero_bytes( x ^ ONES * 0x7f ) | zero_bytes( x ^ ONES * '"' ) | zero_bytes( x ^ ONES * '\\' );
  /* Gathers the eight bits in the top byte, the first one lowest. */
  return (unsigned)( ( ( special >> 7 ) * UINT64_C( 0x8040201008040201 ) ) >> 56 );
}

static inline unsigned
special_mask( const uint8_t *block ) {
  return special_mask_8( block ) | special_mask_8( block + 8 ) << 8;
}

#endif

static inline int
is_special( uint8_t c ) {
  return c < 0x20 || c > 0x7e || c == '"' || c == '\\';
}

static inline const uint8_t *
skip_plain( const uint8_t *p, const uint8_t *end ) {
  while( end - p >= BLOCK_LEN ) {
    unsigned const mask = special_mask( p );
    if( mask ) {
      return p + lowest_bit( mask );
    }
    p += BLOCK_LEN;
  }
  while( p < end && !is_special( *p ) ) {
    p++;
  }
  return p;
}

static inline const uint8_t *
skip_space( const uint8_t *p, const uint8_t *end ) {
  while( p < end && *p <= ' ' && ( *p == ' ' || *p == '\n' || *p == '\r' || *p == '\t' ) ) {
    p++;
  }
  return p;
}

/* Characters */

static inline int
is_continuation( uint8_t c ) {
  return ( c & 0xc0 ) == 0x80;
}

static inline int
is_surrogate( uint32_t c ) {
  return c - 0xd800 < 0x800;
}

/* utf8_decode reads a character of two to four bytes whose length its
   first byte tells truly. */

static inline uint32_t
utf8_decode( const uint8_t *p, size_t *len ) {
  if( *p < 0xe0 ) {
    *len = 2;
    return ( *p & 0x1fU ) << 6 | ( p[1] & 0x3fU );
  }
  if( *p < 0xf0 ) {
    *len = 3;
    return ( *p & 0x0fU ) << 12 | ( p[1] & 0x3fU ) << 6 | ( p[2] & 0x3fU );
  }
  *len = 4;
  return ( *p & 0x07U ) << 18 | ( p[1] & 0x3fU ) << 12 | ( p[2] & 0x3fU ) << 6 | ( p[3] & 0x3fU );
}

/* utf8_encode returns the bytes of c, which may be a surrogate, the
   first one on top, zero padded. */

static inline uint32_t
utf8_encode( uint32_t c, size_t *len ) {
  if( c < 0x80 ) {
    *len = 1;
    return c << 24;
  }
  uint32_t const tail = 0x800000 | ( c & 0xfc0 ) << 10 | ( c & 0x3f ) << 8;
  if( c < 0x800 ) {
    *len = 2;
    return 0xc0000000 | ( c & 0x7c0 ) << 18 | 0x800000 | ( c & 0x3f ) << 16;
  }
  if( c < 0x10000 ) {
    *len = 3;
    return 0xe0008000 | ( c & 0xf000 ) << 12 | tail;
  }
  *len = 4;
  return 0xf0808080 | ( c & 0x1c0000 ) << 6 | ( c & 0x3f000 ) << 4 | ( c & 0xfc0 ) << 2 | ( c & 0x3f );
}

/* check_utf8 returns the length of the character at p, whose first byte
   is not ASCII, or 0. */

static inline size_t
check_utf8( const uint8_t *p, const uint8_t *end, int surrogates ) {
  size_t const left = (size_t)( end - p );
  size_t       len  = 0;
  if( *p < 0xe0 ) {
    return *p >= 0xc2 && left >= 2 && is_continuation( p[1] ) ? 2 : 0;
  }
  if( *p < 0xf0 ) {
    if( left < 3 || !is_continuation( p[1] ) || !is_continuation( p[2] ) ) {
      return 0;
    }
    uint32_t const c = utf8_decode( p, &len );
    return c >= 0x800 && ( surrogates || !is_surrogate( c ) ) ? 3 : 0;
  }
  if( *p > 0xf4 || left < 4 || !is_continuation( p[1] ) || !is_continuation( p[2] ) ||
      !is_continuation( p[3] ) ) {
    return 0;
  }
  return utf8_decode( p, &len ) - 0x10000 < 0x100000 ? 4 : 0;
}

/* hex_digits has 16 + its value for a hex digit, 0 for anything else. */

static const uint8_t hex_digits[256] = {
    ['0'] = 16, ['1'] = 17, ['2'] = 18, ['3'] = 19, ['4'] = 20, ['5'] = 21, ['6'] = 22, ['7'] = 23,
    ['8'] = 24, ['9'] = 25, ['a'] = 26, ['b'] = 27, ['c'] = 28, ['d'] = 29, ['e'] = 30, ['f'] = 31,
    ['A'] = 26, ['B'] = 27, ['C'] = 28, ['D'] = 29, ['E'] = 30, ['F'] = 31,
};

/* hex4_decode reads four hex digits; what it returns is above 0xffff if
   one of them is none. */

static inline uint32_t
hex4_decode( const uint8_t *p ) {
  uint32_t const a = hex_digits[p[0]];
  uint32_t const b = hex_digits[p[1]];
  uint32_t const c = hex_digits[p[2]];
  uint32_t const d = hex_digits[p[3]];
  uint32_t const v = ( a & 15 ) << 12 | ( b & 15 ) << 8 | ( c & 15 ) << 4 | ( d & 15 );
  return v | ( ~( a & b & c & d ) & 16 ) << 12;
}

/* escape_decode returns the code unit of the valid escape at p, and in
   *len the bytes that it takes. */

static inline uint32_t
escape_decode( const uint8_t *p, size_t *len ) {
  *len = 2;
  switch( p[1] ) {
  case 'b': return '\b';
  case 'f': return '\f';
  case 'n': return '\n';
  case 'r': return '\r';
  case 't': return '\t';
  case 'u': *len = 6; return hex4_decode( p + 2 );
  default: return p[1];
  }
}

/* char_decode returns the code point at p inside a valid string.  Two
   escapes that make a surrogate pair are one code point, as for Python;
   a raw surrogate never joins. */

static inline uint32_t
char_decode( const uint8_t *p, size_t *len ) {
  if( *p >= 0x80 ) {
    return utf8_decode( p, len );
  }
  if( *p != '\\' ) {
    *len = 1;
    return *p;
  }
  uint32_t const high = escape_decode( p, len );
  if( high - 0xd800 < 0x400 && p[6] == '\\' ) {
    size_t         low_len;
    uint32_t const low = escape_decode( p + 6, &low_len );
    if( low - 0xdc00 < 0x400 ) {
      *len = 12;
      return 0x10000 + ( ( high - 0xd800 ) << 10 ) + ( low - 0xdc00 );
    }
  }
  return high;
}

#endif /* PF_JSON_TEXT_H */
