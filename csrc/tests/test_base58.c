/* SPDX-License-Identifier: MIT */
#include "check.h"

#include "pf_base58.h"

#define TEXT_MAX 400
#define ROUNDS 20000

static const char alphabet[] = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/* Both directions as taught at school, one digit at a time. */

static size_t
reference_encode( char *out, const uint8_t *bytes, size_t n ) {
  uint8_t number[256];
  char    reversed[TEXT_MAX];
  size_t  len   = 0;
  size_t  zeros = 0;
  memcpy( number, bytes, n );
  while( zeros < n && !bytes[zeros] ) {
    zeros++;
  }
  while( !check_all_zero( number, n ) ) {
    unsigned rest = 0;
    for( size_t i = 0; i < n; i++ ) {
      unsigned const v = rest * 256 + number[i];
      number[i]        = (uint8_t)( v / 58 );
      rest             = v % 58;
    }
    reversed[len++] = alphabet[rest];
  }
  memset( out, '1', zeros );
  for( size_t i = 0; i < len; i++ ) {
    out[zeros + i] = reversed[len - 1 - i];
  }
  return zeros + len;
}

/* reference_decode returns the length, or -1. */

static int
reference_decode( uint8_t *out, const char *text, size_t len ) {
  uint8_t number[256] = { 0 };
  size_t  ones        = 0;
  size_t  zeros       = 0;
  while( ones < len && text[ones] == '1' ) {
    ones++;
  }
  for( size_t i = 0; i < len; i++ ) {
    const char *at = text[i] ? strchr( alphabet, text[i] ) : NULL;
    if( !at ) {
      return -1;
    }
    unsigned carry = (unsigned)( at - alphabet );
    for( size_t k = sizeof( number ); k-- > 0; ) {
      carry += number[k] * 58U;
      number[k] = (uint8_t)carry;
      carry >>= 8;
    }
  }
  while( zeros < sizeof( number ) && !number[zeros] ) {
    zeros++;
  }
  memset( out, 0, ones );
  memcpy( out + ones, number + zeros, sizeof( number ) - zeros );
  return (int)( ones + sizeof( number ) - zeros );
}

static int64_t
encode( char *out, size_t cap, const uint8_t *bytes, size_t n ) {
  pf_writer w  = pf_writer_on( out, cap );
  int const rc = pf_base58_put( &w, bytes, n );
  return rc == PF_OK ? pf_writer_len( &w ) : rc;
}

/* check_bytes sends n bytes both ways and compares with the reference. */

static void
check_bytes( const uint8_t *bytes, size_t n ) {
  char         expected[TEXT_MAX];
  char         text[TEXT_MAX];
  uint8_t      back[TEXT_MAX];
  size_t const max = n == 32 ? PF_BASE58_32_MAX_LEN : PF_BASE58_64_MAX_LEN;
  size_t const len = reference_encode( expected, bytes, n );
  CHECK( len <= max );
  CHECK( encode( text, max, bytes, n ) == (int64_t)len );
  CHECK( memcmp( text, expected, len ) == 0 );

  CHECK( pf_base58_decode_exact( back, n, text, len ) == PF_OK );
  CHECK( memcmp( back, bytes, n ) == 0 );
  CHECK( pf_base58_decode( back, n, text, len ) == (int64_t)n );
  CHECK( memcmp( back, bytes, n ) == 0 );
}

static void
test_both_ways( void ) {
  static const size_t sizes[] = { 32, 64 };
  uint64_t            state   = 58;
  uint8_t             bytes[64];
  for( size_t s = 0; s < 2; s++ ) {
    size_t const n = sizes[s];
    memset( bytes, 0, n );
    check_bytes( bytes, n );
    memset( bytes, 0xff, n );
    check_bytes( bytes, n );
    for( size_t bit = 0; bit < n * 8; bit++ ) { /* powers of two, and one below them */
      memset( bytes, 0, n );
      bytes[n - 1 - bit / 8] = (uint8_t)( 1U << bit % 8 );
      check_bytes( bytes, n );
      size_t low = n - 1; /* borrow from the lowest byte that is not zero */
      while( !bytes[low] ) {
        bytes[low--] = 0xff;
      }
      bytes[low] = (uint8_t)( bytes[low] - 1 );
      check_bytes( bytes, n );
    }
    for( size_t zeros = 0; zeros <= n; zeros++ ) {
      for( size_t round = 0; round < 50; round++ ) {
        check_fill( &state, bytes, n );
        memset( bytes, 0, zeros );
        check_bytes( bytes, n );
      }
    }
    for( size_t round = 0; round < ROUNDS; round++ ) {
      check_fill( &state, bytes, n );
      check_bytes( bytes, n );
    }
    /* Sparse and dense words: carries that run far. */
    for( size_t round = 0; round < ROUNDS; round++ ) {
      uint64_t const pattern = check_mix( &state );
      for( size_t i = 0; i < n; i++ ) {
        bytes[i] = pattern >> i / ( n / 32 ) % 64 & 1 ? 0xff : (uint8_t)( pattern >> 60 ? 0 : i );
      }
      check_bytes( bytes, n );
    }
  }
}

static void
test_put_refuses_other_sizes( void ) {
  static const uint8_t bytes[128];
  char                 text[TEXT_MAX];
  for( size_t n = 0; n <= sizeof( bytes ); n++ ) {
    pf_writer w  = pf_writer_on( text, sizeof( text ) );
    int const rc = pf_base58_put( &w, bytes, n );
    CHECK( rc == ( n == 32 || n == 64 ? PF_OK : PF_ERR_ARGUMENT ) );
    CHECK( rc == PF_OK || w.at == text );
  }
}

static void
test_put_stays_inside( void ) {
  uint8_t bytes[64];
  memset( bytes, 0xff, sizeof( bytes ) );
  for( size_t cap = 0; cap <= PF_BASE58_64_MAX_LEN; cap++ ) {
    char *text = malloc( cap + 1 ); /* so that ASan sees a byte too many */
    CHECK( text != NULL );
    text[cap] = 'X';
    CHECK( encode( text, cap, bytes, 64 ) == ( cap < PF_BASE58_64_MAX_LEN ? PF_ERR_CAPACITY : (int64_t)cap ) );
    CHECK( text[cap] == 'X' );
    free( text );
  }
}

static void
refuse_exact( size_t n, const char *text, size_t len ) {
  uint8_t out[64];
  memset( out, 0xaa, sizeof( out ) );
  CHECK( pf_base58_decode_exact( out, n, text, len ) == PF_ERR_BASE58 );
  CHECK( check_all_zero( out, n ) ); /* nothing of a refused key is left */
}

static void
test_exact_refuses( void ) {
  uint64_t            state = 7;
  uint8_t             bytes[64];
  char                text[TEXT_MAX];
  static const size_t sizes[] = { 32, 64 };
  for( size_t s = 0; s < 2; s++ ) {
    size_t const n = sizes[s];
    check_fill( &state, bytes, n );
    bytes[0] |= 0x80;
    size_t const len = reference_encode( text, bytes, n );

    for( size_t shorter = 0; shorter < len; shorter++ ) {
      uint8_t expected[TEXT_MAX];
      if( reference_decode( expected, text, shorter ) != (int)n ) { /* 43 characters can be 32 bytes */
        refuse_exact( n, text, shorter );
      }
    }
    CHECK( len > 40 );
    refuse_exact( n == 32 ? 64 : 32, text, len ); /* the other size */
    memmove( text + 1, text, len );
    text[0] = '1'; /* a one too many */
    if( len < PF_BASE58_64_MAX_LEN ) {
      refuse_exact( n, text, len + 1 );
    }
    memmove( text, text + 1, len );

    for( size_t at = 0; at < len; at++ ) { /* every bad byte at every place */
      char const good = text[at];
      for( unsigned c = 0; c < 256; c++ ) {
        if( !c || !strchr( alphabet, (int)c ) ) {
          text[at] = (char)c;
          refuse_exact( n, text, len );
        }
      }
      text[at] = good;
    }

    /* 2^(8n) - 1 is the last that fits, and one more does not. */
    memset( bytes, 0xff, n );
    size_t const max_len = reference_encode( text, bytes, n );
    CHECK( pf_base58_decode_exact( bytes, n, text, max_len ) == PF_OK );
    for( size_t i = max_len; i-- > 0; ) {
      const char *digit = strchr( alphabet, text[i] );
      text[i]           = digit[1] ? digit[1] : '1';
      if( digit[1] ) {
        break;
      }
    }
    refuse_exact( n, text, max_len );
    memset( text, 'z', max_len );
    refuse_exact( n, text, max_len );

    /* All zeros: n ones, no fewer and no more. */
    memset( text, '1', TEXT_MAX );
    for( size_t ones = 0; ones <= PF_BASE58_64_MAX_LEN; ones++ ) {
      if( ones != n ) {
        refuse_exact( n, text, ones );
      }
    }
    CHECK( pf_base58_decode_exact( bytes, n, text, n ) == PF_OK );
    CHECK( check_all_zero( bytes, n ) );
  }
  memset( text, 'z', TEXT_MAX );
  CHECK( pf_base58_decode_exact( bytes, 64, text, PF_BASE58_64_MAX_LEN + 1 ) == PF_ERR_BASE58 );
  CHECK( pf_base58_decode_exact( bytes, 64, text, SIZE_MAX ) == PF_ERR_BASE58 );
  CHECK( check_all_zero( bytes, 64 ) );
  CHECK( pf_base58_decode_exact( bytes, 33, text, 44 ) == PF_ERR_ARGUMENT );
  CHECK( pf_base58_decode_exact( bytes, 68, text, 88 ) == PF_ERR_ARGUMENT );
}

static void
test_decode_any_length( void ) {
  uint64_t state = 99;
  char     text[PF_BASE58_DECODE_MAX + 1];
  uint8_t  expected[TEXT_MAX];
  for( size_t len = 0; len <= PF_BASE58_DECODE_MAX; len++ ) {
    for( size_t round = 0; round < 100; round++ ) {
      for( size_t i = 0; i < len; i++ ) {
        text[i] = alphabet[check_mix( &state ) % 58];
      }
      memset( text, '1', round < len ? round / 10 : 0 );
      if( round == 0 ) {
        memset( text, '1', len );
      } else if( round == 1 ) {
        memset( text, 'z', len );
      } else if( round == 2 && len ) {
        text[check_mix( &state ) % len] = 'l';
      }
      int const n = reference_decode( expected, text, len );
      for( int cap = 0; n >= 0 && cap <= n; cap += cap + 1 < n ? n - 1 - cap : 1 ) { /* 0, n - 1, n */
        uint8_t *out = malloc( (size_t)cap + 1 );
        CHECK( out != NULL );
        out[cap] = 0xaa;
        CHECK( pf_base58_decode( out, (size_t)cap, text, len ) == ( cap < n ? PF_ERR_CAPACITY : n ) );
        CHECK( out[cap] == 0xaa );
        CHECK( cap < n || memcmp( out, expected, (size_t)n ) == 0 );
        free( out );
      }
      if( n < 0 ) {
        uint8_t out[PF_BASE58_DECODE_MAX];
        CHECK( pf_base58_decode( out, sizeof( out ), text, len ) == PF_ERR_BASE58 );
      }
    }
  }
  uint8_t out[PF_BASE58_DECODE_MAX + 1];
  memset( text, '1', sizeof( text ) );
  CHECK( pf_base58_decode( out, sizeof( out ), text, PF_BASE58_DECODE_MAX + 1 ) == PF_ERR_ARGUMENT );
  CHECK( pf_base58_decode( out, sizeof( out ), text, SIZE_MAX ) == PF_ERR_ARGUMENT );
}

/* One digit and then ones: all that is below it carries, up to it. */

static void
test_carries_all_the_way( void ) {
  for( size_t n = 32; n <= 64; n += 32 ) {
    size_t const max = n == 64 ? PF_BASE58_64_MAX_LEN : PF_BASE58_32_MAX_LEN;
    for( size_t digits = 1; digits <= max; digits++ ) {
      for( size_t d = 1; d < 58; d++ ) {
        uint8_t bytes[64];
        uint8_t wide[PF_BASE58_DECODE_MAX];
        char    text[64 + PF_BASE58_64_MAX_LEN];
        char    again[PF_BASE58_64_MAX_LEN];
        memset( text, '1', sizeof( text ) );
        text[n]      = alphabet[d]; /* behind as many ones as could be zero bytes */
        size_t zeros = n;
        while( zeros &&
               pf_base58_decode( wide, sizeof( wide ), text + n - zeros, zeros + digits ) != (int64_t)n ) {
          zeros--;
        }
        if( pf_base58_decode( wide, sizeof( wide ), text + n - zeros, zeros + digits ) == (int64_t)n ) {
          memcpy( bytes, wide, n );
          pf_writer w = pf_writer_on( again, sizeof( again ) );
          CHECK( pf_base58_put( &w, bytes, n ) == PF_OK );
          CHECK( pf_writer_len( &w ) == (int64_t)( zeros + digits ) );
          CHECK( memcmp( again, text + n - zeros, zeros + digits ) == 0 );
        }
      }
    }
  }
}

/* What was a key is not left on the stack. */

static void
test_nothing_is_left( void ) {
  static uint8_t secret[64];
  static uint8_t backwards[64]; /* as in words of a machine that has the low byte first */
  static uint8_t out[PF_BASE58_DECODE_MAX];
  static char    text[PF_BASE58_64_MAX_LEN];
  uint64_t       state = 77;
  check_fill( &state, secret, sizeof( secret ) );
  for( size_t i = 0; i < sizeof( secret ); i++ ) {
    backwards[i] = secret[sizeof( secret ) - 1 - i];
  }
  pf_writer w = pf_writer_on( text, sizeof( text ) );
  CHECK( pf_base58_put( &w, secret, sizeof( secret ) ) == PF_OK );
  size_t const len = (size_t)pf_writer_len( &w );
  for( int exact = 0; exact < 2; exact++ ) {
    if( exact ) {
      CHECK( pf_base58_decode_exact( out, 64, text, len ) == PF_OK );
    } else {
      CHECK( pf_base58_decode( out, sizeof( out ), text, len ) == 64 );
    }
    CHECK( !check_stands_below( secret + 8, 16 ) );
    CHECK( !check_stands_below( backwards + 8, 16 ) );
  }
}

int
main( void ) {
  test_both_ways();
  test_carries_all_the_way();
  test_nothing_is_left();
  test_put_refuses_other_sizes();
  test_put_stays_inside();
  test_exact_refuses();
  test_decode_any_length();
  puts( "test_base58: ok" );
  return 0;
}
