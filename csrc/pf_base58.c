/* SPDX-License-Identifier: MIT */
#include "pf_base58.h"

/* Encoding goes through limbs of five base58 digits.  A 32-bit word of
   the input contributes word * 2^(32 k) with a fixed k, so that its share
   of every limb is a multiplication by a constant: no division until the
   carries.  Row i holds 2^(32 (15 - i)) in base 58^5, most significant
   limb first; 32-byte inputs use the last eight rows. */

#define LIMB_BASE 656356768U /* 58^5 */
#define LIMB_DIGITS 5
#define LIMBS ( (size_t)18 ) /* 58^90 > 2^512 */
#define DIGITS ( LIMBS * LIMB_DIGITS )
#define WORDS_MAX ( (size_t)16 )
#define DECODE_WORDS_MAX ( PF_BASE58_DECODE_MAX / 4 )

/* clang-format off */
static const uint32_t word_limbs[WORDS_MAX][LIMBS] = {
    { 0U, 2631U, 149457141U, 577092685U, 632289089U, 81912456U, 221591423U, 502967496U, 403284731U, 377738089U, 492128779U, 746799U, 366351977U, 190199623U, 38066284U, 526403762U, 650603058U, 454901440U },
    { 0U, 0U, 402U, 68350375U, 30641941U, 266024478U, 208884256U, 571208415U, 337765723U, 215140626U, 129419325U, 480359048U, 398051646U, 635841659U, 214020719U, 136986618U, 626219915U, 49699360U },
    { 0U, 0U, 0U, 61U, 295059608U, 141201404U, 517024870U, 239296485U, 527697587U, 212906911U, 453637228U, 467589845U, 144614682U, 45134568U, 184514320U, 644355351U, 104784612U, 308625792U },
    { 0U, 0U, 0U, 0U, 9U, 256449755U, 500124311U, 479690581U, 372802935U, 413254725U, 487877412U, 520263169U, 176791855U, 78190744U, 291820402U, 74998585U, 496097732U, 59100544U },
    { 0U, 0U, 0U, 0U, 0U, 1U, 285573662U, 455976778U, 379818553U, 100001224U, 448949512U, 109507367U, 117185012U, 347328982U, 522665809U, 36908802U, 577276849U, 64504928U },
    { 0U, 0U, 0U, 0U, 0U, 0U, 0U, 143945778U, 651677945U, 281429047U, 535878743U, 264290972U, 526964023U, 199595821U, 597442702U, 499113091U, 424550935U, 458949280U },
    { 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 21997789U, 294590275U, 148640294U, 595017589U, 210481832U, 404203788U, 574729546U, 160126051U, 430102516U, 44963712U },
    { 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 3361701U, 325788598U, 30977630U, 513969330U, 194569730U, 164019635U, 136596846U, 626087230U, 503769920U },
    { 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 513735U, 77223048U, 437087610U, 300156666U, 605448490U, 214625350U, 141436834U, 379377856U },
    { 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 78508U, 646269101U, 118408823U, 91512303U, 209184527U, 413102373U, 153715680U },
    { 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 11997U, 486083817U, 3737691U, 294005210U, 247894721U, 289024608U },
    { 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 1833U, 324463681U, 385795061U, 551597588U, 21339008U },
    { 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 280U, 127692781U, 389432875U, 357132832U },
    { 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 42U, 537767569U, 410450016U },
    { 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 6U, 356826688U },
    { 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 0U, 1U },
};
/* clang-format on */

static uint32_t
load_be32( const uint8_t *p ) {
  return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | (uint32_t)p[3];
}

static void
store_be32( uint8_t *p, uint32_t v ) {
  p[0] = (uint8_t)( v >> 24 );
  p[1] = (uint8_t)( v >> 16 );
  p[2] = (uint8_t)( v >> 8 );
  p[3] = (uint8_t)v;
}

/* carry_some takes every limb below 2^35 without waiting for its
   neighbour; carry_all, at the end, makes them digits of base 58^5. */

static void
carry_some( uint64_t limbs[LIMBS] ) {
  uint64_t quotient[LIMBS + 1];
  quotient[LIMBS] = 0;
  for( size_t j = 0; j < LIMBS; j++ ) {
    quotient[j] = limbs[j] / LIMB_BASE;
    limbs[j] -= quotient[j] * LIMB_BASE;
  }
  for( size_t j = 0; j < LIMBS; j++ ) {
    limbs[j] += quotient[j + 1];
  }
}

static void
carry_all( uint64_t limbs[LIMBS] ) {
  for( size_t j = LIMBS - 1; j > 0; j-- ) {
    uint64_t const quotient = limbs[j] / LIMB_BASE;
    limbs[j] -= quotient * LIMB_BASE;
    limbs[j - 1] += quotient;
  }
}

/* Indexed by digits of what is public: keys are decoded, never encoded,
   by this file. */

static const char alphabet[] = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

static void
text_of_limbs( char text[DIGITS], const uint64_t limbs[LIMBS] ) {
  for( size_t j = 0; j < LIMBS; j++ ) {
    uint32_t v = (uint32_t)limbs[j];
    for( size_t k = LIMB_DIGITS; k-- > 0; ) {
      text[j * LIMB_DIGITS + k] = alphabet[v % 58U];
      v /= 58U;
    }
  }
}

/* to_skip is how many leading ones do not stand for a leading zero
   byte. */

static size_t
to_skip( const char text[DIGITS], const uint8_t *bytes, size_t n ) {
  size_t ones  = 0;
  size_t zeros = 0;
  while( ones < DIGITS && text[ones] == '1' ) {
    ones++;
  }
  while( zeros < n && bytes[zeros] == 0 ) {
    zeros++;
  }
  return ones - zeros;
}

int
pf_base58_put( pf_writer *w, const uint8_t *bytes, size_t n ) {
  if( PF_UNLIKELY( n != 32 && n != 64 ) ) {
    return PF_ERR_ARGUMENT;
  }
  /* Five products of less than 2^61.3 each fit above the 2^35 that
     carry_some leaves. */
  uint64_t     limbs[LIMBS] = { 0 };
  size_t const words        = n / 4;
  size_t const first_row    = WORDS_MAX - words;
  for( size_t i = 0; i < words; i++ ) {
    uint64_t const word = load_be32( bytes + 4 * i );
    size_t const   row  = first_row + i;
    for( size_t j = row + 1; j < LIMBS; j++ ) { /* zeros up to there */
      limbs[j] += word * word_limbs[row][j];
    }
    if( i % 5 == 4 ) {
      carry_some( limbs );
    }
  }
  carry_all( limbs );
  char text[DIGITS];
  text_of_limbs( text, limbs );
  size_t const skip = to_skip( text, bytes, n );
  pf_put( w, text + skip, DIGITS - skip );
  return PF_OK;
}

/* Decoding, fit for secrets. */

/* leading_zeros counts them without looking away at the first other
   byte. */

static size_t
leading_zeros( const uint8_t *bytes, size_t n ) {
  size_t   count   = 0;
  unsigned leading = 1;
  for( size_t i = 0; i < n; i++ ) {
    leading &= bytes[i] == 0;
    count += leading;
  }
  return count;
}

/* within is 1 if lo <= c <= hi, by subtraction: a comparison may become
   a branch. All three are below 256. */

static uint32_t
within( uint32_t c, uint32_t lo, uint32_t hi ) {
  return ~( ( c - lo ) | ( hi - c ) ) >> 31;
}

/* digit_of is the base58 digit of c, with *bad |= 1 if it has none. */

static uint32_t
digit_of( uint8_t c, uint32_t *bad ) {
  static const struct {
    uint8_t lo, hi, first;
  } runs[6]       = { { '1', '9', 0 },  { 'A', 'H', 9 },  { 'J', 'N', 17 },
                      { 'P', 'Z', 22 }, { 'a', 'k', 33 }, { 'm', 'z', 44 } };
  uint32_t digit  = 0;
  uint32_t in_any = 0;
  for( size_t r = 0; r < 6; r++ ) {
    uint32_t const in = within( c, runs[r].lo, runs[r].hi );
    digit |= ( 0U - in ) & ( (uint32_t)c - runs[r].lo + runs[r].first );
    in_any |= in;
  }
  *bad |= in_any ^ 1U;
  return digit;
}

/* decode_words computes the number that text stands for in n little-endian
   words, the number of leading ones, and whether all went well: every
   character in the alphabet, no bit lost at the top. */

static uint32_t
decode_words( uint32_t *words, size_t n, const char *text, size_t len, size_t *ones ) {
  uint32_t bad     = 0;
  uint32_t leading = 1;
  *ones            = 0;
  memset( words, 0, n * sizeof( *words ) );
  for( size_t i = 0; i < len; i++ ) {
    uint64_t carry = digit_of( (uint8_t)text[i], &bad );
    leading &= ( (uint32_t)carry - 1U ) >> 31;
    *ones += leading;
    for( size_t k = 0; k < n; k++ ) {
      carry += (uint64_t)words[k] * 58U;
      words[k] = (uint32_t)carry;
      carry >>= 32;
    }
    bad |= (uint32_t)carry;
  }
  return bad;
}

static void
bytes_of_words( uint8_t *out, const uint32_t *words, size_t n ) {
  for( size_t k = 0; k < n; k++ ) {
    store_be32( out + 4 * k, words[n - 1 - k] );
  }
}

int
pf_base58_decode_exact( uint8_t *out, size_t n, const char *text, size_t len ) {
  uint32_t words[WORDS_MAX];
  size_t   ones;
  if( PF_UNLIKELY( n % 4 || n > WORDS_MAX * 4 ) ) {
    return PF_ERR_ARGUMENT;
  }
  if( PF_UNLIKELY( len > PF_BASE58_64_MAX_LEN ) ) {
    pf_wipe( out, n );
    return PF_ERR_BASE58;
  }
  uint32_t bad = decode_words( words, n / 4, text, len, &ones );
  bytes_of_words( out, words, n / 4 );
  bad |= (uint32_t)( ones ^ leading_zeros( out, n ) );
  pf_wipe( words, sizeof( words ) );
  PF_DECLASSIFY( &bad, sizeof( bad ) ); /* which the return code says */
  if( bad ) {
    pf_wipe( out, n );
    return PF_ERR_BASE58;
  }
  return PF_OK;
}

int64_t
pf_base58_decode( uint8_t *out, size_t cap, const char *text, size_t len ) {
  uint32_t words[DECODE_WORDS_MAX];
  uint8_t  bytes[DECODE_WORDS_MAX * 4];
  size_t   ones;
  if( PF_UNLIKELY( len > PF_BASE58_DECODE_MAX ) ) {
    return PF_ERR_ARGUMENT;
  }
  uint32_t const bad = decode_words( words, DECODE_WORDS_MAX, text, len, &ones );
  bytes_of_words( bytes, words, DECODE_WORDS_MAX );
  size_t const zeros = leading_zeros( bytes, sizeof( bytes ) );
  size_t const n     = ones + sizeof( bytes ) - zeros;
  int64_t      rc    = (int64_t)n;
  if( PF_UNLIKELY( bad ) ) {
    rc = PF_ERR_BASE58;
  } else if( PF_UNLIKELY( n > cap ) ) {
    rc = PF_ERR_CAPACITY;
  } else {
    memset( out, 0, ones );
    memcpy( out + ones, bytes + zeros, n - ones );
  }
  pf_wipe( words, sizeof( words ) );
  pf_wipe( bytes, sizeof( bytes ) );
  return rc;
}
