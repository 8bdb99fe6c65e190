/* SPDX-License-Identifier: MIT */

/* fuzz_base58.c: base58 beside grade-school arithmetic, both ways.  The
   first two bytes say what room there is; the rest is a text, and also
   bytes. */

#include "fuzz.h"

#include "pf_api.h"
#include "pf_base58.h"

#define ALPHABET "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

/* Times 58 plus a digit, in base 256, digit by digit.  Returns how many
   bytes there are then, or -1 if the text is none. */

static int
school_decode( uint8_t *bytes, const char *text, size_t len ) {
  size_t n     = 0; /* of the number, the last byte first */
  size_t zeros = 0;
  while( zeros < len && text[zeros] == '1' ) {
    zeros++;
  }
  for( size_t i = 0; i < len; i++ ) {
    const char *found = text[i] ? strchr( ALPHABET, text[i] ) : NULL;
    unsigned    carry = found ? (unsigned)( found - ALPHABET ) : 0;
    if( !found ) {
      return -1;
    }
    for( size_t j = 0; j < n; j++ ) {
      carry += bytes[j] * 58U;
      bytes[j] = (uint8_t)carry;
      carry >>= 8;
    }
    if( carry ) {
      bytes[n++] = (uint8_t)carry;
    }
  }
  memset( bytes + n, 0, zeros );
  n += zeros;
  for( size_t i = 0; i < n / 2; i++ ) {
    uint8_t const moved = bytes[i];
    bytes[i]            = bytes[n - 1 - i];
    bytes[n - 1 - i]    = moved;
  }
  return (int)n;
}

/* Divided by 58 again and again. */

static size_t
school_encode( char *text, const uint8_t *bytes, size_t n ) {
  uint8_t number[PF_BASE58_DECODE_MAX];
  size_t  len   = 0;
  size_t  zeros = 0;
  int     more  = 1;
  memcpy( number, bytes, n );
  while( zeros < n && !bytes[zeros] ) {
    zeros++;
  }
  while( more ) {
    unsigned rest = 0;
    more          = 0;
    for( size_t i = 0; i < n; i++ ) {
      rest      = rest << 8 | number[i];
      number[i] = (uint8_t)( rest / 58 );
      rest %= 58;
      more |= number[i];
    }
    if( rest || more ) {
      text[len++] = ALPHABET[rest];
    }
  }
  memset( text + len, '1', zeros );
  len += zeros;
  for( size_t i = 0; i < len / 2; i++ ) {
    char const moved  = text[i];
    text[i]           = text[len - 1 - i];
    text[len - 1 - i] = moved;
  }
  return len;
}

static void
check_decode( const char *text, size_t len, size_t cap ) {
  uint8_t       expected[2 * PF_BASE58_DECODE_MAX];
  char         *out = fuzz_buffer( cap );
  int64_t const n   = pf_b58decode( out, cap, text, len );
  if( len > PF_BASE58_DECODE_MAX ) {
    CHECK( n == PF_ERR_ARGUMENT );
  } else {
    int const school = school_decode( expected, text, len );
    CHECK( n == ( school < 0 ? PF_ERR_BASE58 : (size_t)school > cap ? PF_ERR_CAPACITY : school ) );
    CHECK( n <= 0 || memcmp( out, expected, (size_t)n ) == 0 );
  }
  free( out );
}

static void
check_decode_exact( const char *text, size_t len, size_t n ) {
  uint8_t   expected[2 * PF_BASE58_DECODE_MAX];
  char     *out    = fuzz_buffer( n );
  int const rc     = pf_b58decode_exact( out, n, text, len );
  int const school = len > PF_BASE58_DECODE_MAX ? -1 : school_decode( expected, text, len );
  if( n > 64 || n % 4 ) {
    CHECK( rc == PF_ERR_ARGUMENT );
  } else if( school >= 0 && (size_t)school == n ) {
    CHECK( rc == PF_OK && memcmp( out, expected, n ) == 0 );
  } else {
    CHECK( rc == PF_ERR_BASE58 && check_all_zero( out, n ) );
  }
  free( out );
}

static void
check_encode( const char *bytes, size_t n, size_t cap ) {
  char          expected[2 * PF_BASE58_DECODE_MAX];
  char         *out    = fuzz_buffer( cap );
  int64_t const len    = pf_b58encode( out, cap, bytes, n );
  size_t const  school = n == 32 || n == 64 ? school_encode( expected, (const uint8_t *)bytes, n ) : 0;
  if( !school ) {
    CHECK( len == PF_ERR_ARGUMENT );
  } else if( school > cap ) {
    CHECK( len == PF_ERR_CAPACITY );
  } else {
    CHECK( len == (int64_t)school && memcmp( out, expected, school ) == 0 );
    check_decode_exact( out, school, n );
    check_decode( out, school, n );
  }
  free( out );
}

int
LLVMFuzzerTestOneInput( const uint8_t *data, size_t size ) {
  fuzz_input   input = { data, size };
  size_t const cap   = (size_t)fuzz_number( &input, 1 );
  size_t const n     = (size_t)fuzz_number( &input, 1 );
  size_t const len   = input.left;
  char        *text  = fuzz_copy( input.at, len );
  check_decode( text, len, cap );
  check_decode_exact( text, len, n % 80 );
  check_decode_exact( text, len, n & 1 ? 32 : 64 );
  check_encode( text, len >= 64 ? 64 : len >= 32 ? 32 : len, cap );
  free( text );
  return 0;
}
