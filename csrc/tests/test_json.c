/* SPDX-License-Identifier: MIT */
#include "../pf_json.h"
#include "../pf_json_sort.h"

#include <stdio.h>
#include <stdlib.h>

#define CHECK( c )                                                                                             \
  do {                                                                                                         \
    if( !( c ) ) {                                                                                             \
      fprintf( stderr, "%s:%d: CHECK( %s )\n", __FILE__, __LINE__, #c );                                       \
      exit( 1 );                                                                                               \
    }                                                                                                          \
  } while( 0 )

#define TEXT( literal ) ( literal ), sizeof( literal ) - 1

static void *
allocate( size_t n ) {
  void *p = malloc( n ? n : 1 );
  CHECK( p );
  return p;
}

/* canonical_in runs the function in buffers of exactly the sizes given,
   so that a sanitizer sees every step outside. */

static int64_t
canonical_in( char       *out,
              size_t      capacity,
              const char *text,
              size_t      len,
              int         surrogates,
              size_t      work_sz,
              size_t     *position ) {
  char *const exact_text = allocate( len );
  char *const exact_out  = allocate( capacity + 1 );
  void *const work       = allocate( work_sz );
  if( len ) {
    memcpy( exact_text, text, len );
  }
  exact_out[capacity] = 0x5a;
  memset( work, 0xa5, work_sz );
  pf_writer     w = pf_writer_on( exact_out, capacity );
  int64_t const n = pf_json_canonical( &w, exact_text, len, surrogates, work, work_sz, position );
  CHECK( exact_out[capacity] == 0x5a );
  CHECK( n < (int64_t)capacity + 1 );
  if( n > 0 ) {
    memcpy( out, exact_out, (size_t)n );
  }
  free( exact_text );
  free( exact_out );
  free( work );
  return n;
}

/* canonical also measures, and checks that what was measured is enough. */

static int64_t
canonical( char *out, const char *text, size_t len, int surrogates, size_t *position ) {
  pf_json_size_t size;
  pf_json_measure( text, len, &size );
  size_t const work_sz = pf_json_work_sz( &size );
  CHECK( work_sz >= PF_JSON_WORK_MIN_SZ );
  int64_t const n = canonical_in( out, size.output, text, len, surrogates, work_sz, position );
  CHECK( n != PF_ERR_CAPACITY );
  CHECK( n >= 0 || *position <= len );
  return n;
}

#define OUT_SZ 65536

static char out[OUT_SZ];

static void
expect( const char *text, size_t len, int surrogates, const char *wanted, size_t wanted_len ) {
  size_t        position;
  int64_t const n = canonical( out, text, len, surrogates, &position );
  if( n != (int64_t)wanted_len || memcmp( out, wanted, wanted_len ) != 0 ) {
    fprintf( stderr, "%s\n -> %d at %zu, not %s\n", text, (int)n, position, wanted );
    exit( 1 );
  }
}

static void
refuse( const char *text, size_t len, int surrogates, int error, size_t wanted_position ) {
  size_t        position;
  int64_t const n = canonical( out, text, len, surrogates, &position );
  if( n != error || position != wanted_position ) {
    fprintf( stderr, "%s\n -> %d at %zu, not %d at %zu\n", text, (int)n, position, error, wanted_position );
    exit( 1 );
  }
}

#define EXPECT( text, wanted ) expect( TEXT( text ), 0, TEXT( wanted ) )
#define REFUSE( text, error, position ) refuse( TEXT( text ), 0, ( error ), ( position ) )

static void
test_values( void ) {
  EXPECT( "null", "null" );
  EXPECT( " true\t\r\n", "true" );
  EXPECT( "false", "false" );
  EXPECT( "0", "0" );
  EXPECT( "-0", "0" );
  EXPECT( "[-0,-1,10,-0]", "[0,-1,10,0]" );
  EXPECT( "123456789012345678901234567890", "123456789012345678901234567890" );
  EXPECT( "\"\"", "\"\"" );
  EXPECT( "[]", "[]" );
  EXPECT( " [ ] ", "[]" );
  EXPECT( " { } ", "{}" );
  EXPECT( "[ 1 , [ 2 , { } ] , \"x y\" ]", "[1,[2,{}],\"x y\"]" );
}

static void
test_strings( void ) {
  EXPECT( "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\\"\\\\/\\b\\f\\n\\r\\t\"" );
  EXPECT( "\"\\u0041\\u0022\\u005c\\u002F\\u0008\\u0009\\u000A\\u000b\\u000C\\u000D\"",
          "\"A\\\"\\\\/\\b\\t\\n\\u000b\\f\\r\"" );
  EXPECT( "\"\\u0020\\u0021\\u007e\"", "\" !~\"" );
  EXPECT( "\"\\u0000\\u001F\\u007f\x7f ~\"", "\"\\u0000\\u001f\\u007f\\u007f ~\"" );
  EXPECT( "\"\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf\"", "\"\\u0080\\u07ff\\u0800\\uffff\"" );
  EXPECT( "\"\xed\x9f\xbf\xee\x80\x80\xef\xbb\xbf\"", "\"\\ud7ff\\ue000\\ufeff\"" );
  EXPECT( "\"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\"", "\"\\ud800\\udc00\\udbff\\udfff\"" );
  EXPECT( "\"\\uD83D\\uDE00\\uABcd\"", "\"\\ud83d\\ude00\\uabcd\"" );
  EXPECT( "\"\\ud800\"", "\"\\ud800\"" );
  EXPECT( "\"\\udc00\\ud800x\"", "\"\\udc00\\ud800x\"" );
  expect( TEXT( "\"\xed\xa0\x80\xed\xbf\xbf\"" ), 1, TEXT( "\"\\ud800\\udfff\"" ) );
}

static void
test_sorting( void ) {
  EXPECT( "{\"b\":1,\"a\":{\"d\":[{\"z\":1,\"y\":2}],\"c\":{}},\"\":0}",
          "{\"\":0,\"a\":{\"c\":{},\"d\":[{\"y\":2,\"z\":1}]},\"b\":1}" );
  /* By code point, not by UTF-16 unit, not by the escaped text. */
  EXPECT( "{\"\xf0\x9f\x98\x80\":1,\"\xef\xbf\xbf\":2,\"\xc3\xa9\":3,\"z\":4}",
          "{\"z\":4,\"\\u00e9\":3,\"\\uffff\":2,\"\\ud83d\\ude00\":1}" );
  EXPECT( "{\"\\ud83d\\ude00\":1,\"\\uFFFF\":2,\"\\ud83d\":3,\"\\ud83d\\u0041\":4}",
          "{\"\\ud83d\":3,\"\\ud83dA\":4,\"\\uffff\":2,\"\\ud83d\\ude00\":1}" );
  /* A key before what it begins, U+0000 included; chunks of seven. */
  EXPECT( "{\"a\\u0000\":1,\"a\":2,\"1234567\\u0000\":3,\"1234567\":4,\"12345678\":5}",
          "{\"1234567\":4,\"1234567\\u0000\":3,\"12345678\":5,\"a\":2,\"a\\u0000\":1}" );
  /* Characters across the end of a chunk. */
  EXPECT( "{\"123456\xc3\xa9z\":1,\"123456\xc3\xa9"
          "a\":2,\"123456\\u00e8z\":3,\"123456z\":4}",
          "{\"123456z\":4,\"123456\\u00e8z\":3,\"123456\\u00e9a\":2,\"123456\\u00e9z\":1}" );
  /* What is no pair is not joined, however near it comes. */
  EXPECT(
      "{\"\\ue000\":1,\"\\udc00\\udc01\":2,\"\\udc00\\ud800\":3,\"\\udbff\\ue000\":4,\"\\ud800\\ue000\":5}",
      "{\"\\ud800\\ue000\":5,\"\\udbff\\ue000\":4,\"\\udc00\\ud800\":3,\"\\udc00\\udc01\":2,\"\\ue000\":1}" );
  EXPECT( "{\"B\":1,\"\\u0041\\udc00\":2,\"\\ud83dz\":3,\"\\ud83dxude00\":4,\"\\ud83d\\nude00\":5}",
          "{\"A\\udc00\":2,\"B\":1,\"\\ud83d\\nude00\":5,\"\\ud83dxude00\":4,\"\\ud83dz\":3}" );
  /* Raw surrogates are not joined, neither with each other nor with an
     escape; so these are four keys. */
  expect( TEXT( "{\"\\ud83d\\ude00\":1,\"\xed\xa0\xbd\xed\xb8\x80\":2}" ), 1,
          TEXT( "{\"\\ud83d\\ude00\":2,\"\\ud83d\\ude00\":1}" ) );
  refuse( TEXT( "{\"\xed\xa0\xbd\\ude00\":1,\"\\ud83d\xed\xb8\x80\":2}" ), 1, PF_ERR_JSON_DUPLICATE, 15 );
}

/* Text that all keys have in common is skipped in whole characters: what
   stands before it, and what they differ in, must not matter. */

#define PAIR "\\ud83d\\ude00"
#define RAW "\xf0\x9f\x98\x80"

static void
test_sorting_after_common_text( void ) {
  EXPECT( "{\"" PAIR PAIR "xxxxxx\\ud83d\\ude00\":1,\"" PAIR PAIR "xxxxxx\\ud83d\\uffff\":2}",
          "{\"" PAIR PAIR "xxxxxx\\ud83d\\uffff\":2,\"" PAIR PAIR "xxxxxx\\ud83d\\ude00\":1}" );
  EXPECT( "{\"1234567" RAW RAW RAW RAW RAW RAW "\xf0\x9f\x98\xa0\\n\":1,"
          "\"1234567" RAW RAW RAW RAW RAW       RAW "\xf0\x9f\x98\x80\\n\":2}",
          "{\"1234567" PAIR PAIR PAIR PAIR PAIR PAIR "\\ud83d\\ude00\\n\":2,"
          "\"1234567" PAIR PAIR PAIR PAIR PAIR PAIR "\\ud83d\\ude20\\n\":1}" );
}

/* Several groups of keys, each with much in common, among keys that stand alone. */

static void
test_sorting_groups( void ) {
  static const char common[] = "what the keys of a group have in common, and it is long";
  char              text[4096];
  char              wanted[4096];
  size_t            len      = 0;
  size_t            len_want = 0;
  for( size_t i = 0; i < 25; i++ ) {
    size_t const   k      = i * 7 % 25;
    unsigned const number = (unsigned)( k % 5 );
    char const     letter = (char)( 'a' + k / 5 );
    len += (size_t)snprintf( text + len, sizeof( text ) - len, "%c\"%c%s%u\":%zu", i ? ',' : '{', letter,
                             common, number, k );
    len_want += (size_t)snprintf( wanted + len_want, sizeof( wanted ) - len_want, "%c\"%c%s%zu\":%zu",
                                  i ? ',' : '{', (char)( 'a' + i / 5 ), common, i % 5, i );
  }
  text[len++]        = '}';
  wanted[len_want++] = '}';
  expect( text, len, 0, wanted, len_want );
}

/* A pair of escapes that begins where the common text of two keys ends,
   for every length of that text. */

static void
test_sorting_split_pair( void ) {
  for( size_t length = 0; length < 600; length++ ) {
    char   text[2048];
    char   wanted[2048];
    char   common[601];
    size_t position;
    memset( common, 'x', length );
    common[length] = '\0';
    int const len =
        snprintf( text, sizeof( text ), "{\"%s\\ud83d\\ude00%s\":1,\"%s\\ud83dz\":2,\"%s\\ud83d\":3}", common,
                  length % 2 ? "" : "tail that goes on for a while", common, common );
    snprintf( wanted, sizeof( wanted ), "{\"%s\\ud83d\":3,\"%s\\ud83dz\":2,\"%s\\ud83d\\ude00%s\":1}", common,
              common, common, length % 2 ? "" : "tail that goes on for a while" );
    CHECK( canonical( out, text, (size_t)len, 0, &position ) == len );
    CHECK( memcmp( out, wanted, (size_t)len ) == 0 );
  }
}

/* Code points on both sides of every border of UTF-8, of escapes and of
   surrogates: each before the next few, raw and escaped, wherever in a chunk
   it stands, near the end of the text and far from it.  What is raw in one
   key and escaped in another is twice the same key. */

static uint32_t const points[] = {
    0,       1,       0x1f,    0x20,    0x21,    0x23,     0x5b,     0x5d,    0x7e,    0x7f,
    0x80,    0x81,    0xbf,    0xc0,    0x13f,   0x140,    0x7bf,    0x7c0,   0x7ff,   0x800,
    0x801,   0x83f,   0x840,   0xfff,   0x1000,  0x1001,   0xd7ff,   0xd800,  0xdbff,  0xdc00,
    0xdfff,  0xe000,  0xfffe,  0xffff,  0x10000, 0x10001,  0x1003f,  0x10040, 0x10fff, 0x11000,
    0x3ffff, 0x40000, 0x7ffff, 0x80000, 0xfffff, 0x100000, 0x10ffff,
};
#define POINTS ( sizeof( points ) / sizeof( points[0] ) )

static size_t
put_point( char *at, uint32_t c, int escaped ) {
  if( escaped || c < 0x20 ) {
    return c < 0x10000 ? (size_t)sprintf( at, "\\u%04x", (unsigned)c )
                       : (size_t)sprintf( at, "\\u%04x\\u%04X", (unsigned)( 0xd7c0 + ( c >> 10 ) ),
                                          (unsigned)( 0xdc00 + ( c & 0x3ff ) ) );
  }
  if( c < 0x80 ) {
    at[0] = (char)c;
    return 1;
  }
  size_t const   more  = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
  unsigned const first = more == 1 ? 0xc0 : more == 2 ? 0xe0 : 0xf0;
  at[0]                = (char)( first | c >> 6 * more );
  for( size_t i = 1; i <= more; i++ ) {
    at[i] = (char)( 0x80 | ( c >> 6 * ( more - i ) & 0x3f ) );
  }
  return 1 + more;
}

/* put_key writes a key: so many x, the point, and the tail. */

static size_t
put_key( char *at, size_t before, uint32_t point, int escaped, const char *tail ) {
  size_t len = 0;
  at[len++]  = '"';
  memset( at + len, 'x', before );
  len += before;
  len += put_point( at + len, point, escaped );
  len += (size_t)sprintf( at + len, "%s\"", tail );
  return len;
}

static void
check_order( size_t before, uint32_t low, uint32_t high, unsigned forms, size_t space ) {
  static char text[256];
  static char wanted[512];
  size_t      position;
  size_t      len      = 0;
  size_t      len_want = 0;
  char const *low_tail = forms & 4 ? "zz" : "";
  text[len++]          = '{';
  len += put_key( text + len, before, high, (int)( forms & 1 ), forms & 8 ? "a" : "" );
  len += (size_t)sprintf( text + len, ":2," );
  size_t const low_at = len;
  len += put_key( text + len, before, low, (int)( forms & 2 ), low_tail );
  size_t const low_len = len - low_at;
  len += (size_t)sprintf( text + len, ":1}%*s", (int)space, "" );

  wanted[len_want++] = '{';
  int64_t n          = canonical( out, text + low_at, low_len, 1, &position );
  CHECK( n > 0 );
  memcpy( wanted + len_want, out, (size_t)n );
  len_want += (size_t)n;
  len_want += (size_t)sprintf( wanted + len_want, ":1," );
  n = canonical( out, text + 1, low_at - 4, 1, &position );
  CHECK( n > 0 );
  memcpy( wanted + len_want, out, (size_t)n );
  len_want += (size_t)n;
  len_want += (size_t)sprintf( wanted + len_want, ":2}" );
  expect( text, len, 1, wanted, len_want );
}

static void
check_twice( size_t before, uint32_t point, unsigned forms, size_t space ) {
  static char text[256];
  size_t      len  = 0;
  char const *tail = forms & 4 ? "zz" : "";
  text[len++]      = '{';
  len += put_key( text + len, before, point, (int)( forms & 1 ), tail );
  len += (size_t)sprintf( text + len, ":1," );
  size_t const second = len;
  len += put_key( text + len, before, point, (int)( forms & 2 ), tail );
  len += (size_t)sprintf( text + len, ":2}%*s", (int)space, "" );
  refuse( text, len, 1, PF_ERR_JSON_DUPLICATE, second );
}

static void
test_sorting_points( void ) {
  for( size_t i = 0; i < POINTS; i++ ) {
    for( size_t before = 0; before < 15; before++ ) {
      for( unsigned forms = 0; forms < 16; forms++ ) {
        size_t const space = before % 2 ? 20 : 0;
        for( size_t k = i + 1; k < POINTS && k <= i + 2; k++ ) {
          check_order( before, points[i], points[k], forms, space );
        }
        check_twice( before, points[i], forms, 20 - space );
      }
    }
  }
}

/* count keys of one prefix in an order that is far from theirs. */

#define OUTER "{\"first\":1,\"second\":2,\"third\":"

static void
test_sorting_many( size_t count, const char *prefix ) {
  size_t const max      = count * ( strlen( prefix ) + 16 ) + sizeof( OUTER ) + 2;
  char *const  text     = allocate( max );
  char *const  wanted   = allocate( max );
  char *const  got      = allocate( max );
  size_t       len      = 0;
  size_t       len_want = 0;
  size_t       position;
  for( size_t i = 0; i < count; i++ ) {
    size_t const shuffled = ( i * 7919 + 13 ) % count; /* 7919 is prime */
    len += (size_t)snprintf( text + len, max - len, "%c\"%s%08zu\":%zu", i ? ',' : '{', prefix, shuffled,
                             shuffled );
    len_want +=
        (size_t)snprintf( wanted + len_want, max - len_want, "%c\"%s%08zu\":%zu", i ? ',' : '{', prefix, i, i );
  }
  text[len++]        = '}';
  wanted[len_want++] = '}';
  CHECK( canonical( got, text, len, 0, &position ) == (int64_t)len_want );
  CHECK( memcmp( got, wanted, len_want ) == 0 );

  /* The same inside of another, of which members wait to be sorted. */
  size_t const outer = strlen( OUTER );
  memmove( text + outer, text, len );
  memmove( wanted + outer, wanted, len_want );
  memcpy( text, OUTER, outer );
  memcpy( wanted, OUTER, outer );
  text[outer + len++]        = '}';
  wanted[outer + len_want++] = '}';
  CHECK( canonical( got, text, outer + len, 0, &position ) == (int64_t)( outer + len_want ) );
  CHECK( memcmp( got, wanted, outer + len_want ) == 0 );
  free( text );
  free( wanted );
  free( got );
}

static void
test_refusals( void ) {
  REFUSE( "", PF_ERR_JSON_VALUE, 0 );
  REFUSE( "  ", PF_ERR_JSON_VALUE, 2 );
  REFUSE( "x", PF_ERR_JSON_VALUE, 0 );
  REFUSE( "[1,]", PF_ERR_JSON_VALUE, 3 );
  REFUSE( "[,1]", PF_ERR_JSON_VALUE, 1 );
  REFUSE( "[1}", PF_ERR_JSON_COMMA, 2 );
  REFUSE( "[1 2]", PF_ERR_JSON_COMMA, 3 );
  REFUSE( "[", PF_ERR_JSON_END, 1 );
  REFUSE( "[1", PF_ERR_JSON_END, 2 );
  REFUSE( "[1, ", PF_ERR_JSON_END, 4 );
  REFUSE( "{", PF_ERR_JSON_END, 1 );
  REFUSE( "{\"a\"", PF_ERR_JSON_END, 4 );
  REFUSE( "{\"a\":", PF_ERR_JSON_END, 5 );
  REFUSE( "{\"a\":1", PF_ERR_JSON_END, 6 );
  REFUSE( "{\"a\":1,", PF_ERR_JSON_END, 7 );
  REFUSE( "{1:2}", PF_ERR_JSON_KEY, 1 );
  REFUSE( "{\"a\":1 , }", PF_ERR_JSON_KEY, 9 );
  REFUSE( "{,}", PF_ERR_JSON_KEY, 1 );
  REFUSE( "{\"a\" 1}", PF_ERR_JSON_COLON, 5 );
  REFUSE( "{\"a\":1 \"b\":2}", PF_ERR_JSON_COMMA, 7 );
  REFUSE( "{\"a\":1]", PF_ERR_JSON_COMMA, 6 );
  REFUSE( "tru", PF_ERR_JSON_END, 3 );
  REFUSE( "nulL", PF_ERR_JSON_VALUE, 0 );
  REFUSE( "1 2", PF_ERR_JSON_TRAILING, 2 );
  REFUSE( "nullx", PF_ERR_JSON_TRAILING, 4 );
  REFUSE( "{}}", PF_ERR_JSON_TRAILING, 2 );
  REFUSE( "1\v", PF_ERR_JSON_TRAILING, 1 );
  REFUSE( "1\0", PF_ERR_JSON_TRAILING, 1 );
  REFUSE( "\xef\xbb\xbf"
          "1",
          PF_ERR_JSON_BOM, 0 );
  REFUSE( "\xef\xbb\xbf", PF_ERR_JSON_BOM, 0 );
  REFUSE( "1\xef\xbb\xbf", PF_ERR_JSON_TRAILING, 1 );
  REFUSE( "\"abc", PF_ERR_JSON_END, 4 );
  REFUSE( "\"a\nb\"", PF_ERR_JSON_CONTROL, 2 );
  REFUSE( "\"a\0b\"", PF_ERR_JSON_CONTROL, 2 );
  REFUSE( "\"a\\", PF_ERR_JSON_END, 3 );
  REFUSE( "\"a\\x\"", PF_ERR_JSON_ESCAPE, 2 );
  REFUSE( "\"\\U0041\"", PF_ERR_JSON_ESCAPE, 1 );
  REFUSE( "\"\\n", PF_ERR_JSON_END, 3 );
  REFUSE( "\"\\u1234", PF_ERR_JSON_END, 7 );
  REFUSE( "\"\\u12", PF_ERR_JSON_END, 5 );
  REFUSE( "\"\\ug", PF_ERR_JSON_ESCAPE, 1 );
  REFUSE( "\"\\x", PF_ERR_JSON_ESCAPE, 1 );
  REFUSE( "\"\\u000g\"", PF_ERR_JSON_ESCAPE, 1 );
  REFUSE( "\"\\u12\"", PF_ERR_JSON_ESCAPE, 1 );
  REFUSE( "\"\\u12g4\"", PF_ERR_JSON_ESCAPE, 1 );
  REFUSE( "\"\\ud83d\\u+123\"", PF_ERR_JSON_ESCAPE, 7 );
}

static void
test_refusals_numbers( void ) {
  REFUSE( "[01]", PF_ERR_JSON_NUMBER, 1 );
  REFUSE( "-01", PF_ERR_JSON_NUMBER, 0 );
  REFUSE( "00", PF_ERR_JSON_NUMBER, 0 );
  REFUSE( "-", PF_ERR_JSON_END, 1 );
  REFUSE( "[-]", PF_ERR_JSON_NUMBER, 1 );
  REFUSE( "+1", PF_ERR_JSON_VALUE, 0 );
  REFUSE( ".5", PF_ERR_JSON_VALUE, 0 );
  REFUSE( "[ 1.5]", PF_ERR_JSON_FRACTION, 2 );
  REFUSE( "1.", PF_ERR_JSON_FRACTION, 0 );
  REFUSE( "0e1", PF_ERR_JSON_FRACTION, 0 );
  REFUSE( "-1E+2", PF_ERR_JSON_FRACTION, 0 );
  REFUSE( "[NaN]", PF_ERR_JSON_NAN, 1 );
  REFUSE( "Infinity", PF_ERR_JSON_NAN, 0 );
  REFUSE( "[-Infinity]", PF_ERR_JSON_NAN, 1 );
  REFUSE( "-Infinite", PF_ERR_JSON_VALUE, 0 );
  REFUSE( "Na", PF_ERR_JSON_END, 2 );
}

static void
test_refusals_utf8( void ) {
  static const char *const broken[] = {
      "\x80",
      "\xbf",
      "\xc0\x80",
      "\xc1\xbf",
      "\xc3",
      "\xc3\x28",
      "\xe0\x9f\xbf",
      "\xe2\x82",
      "\xe2\x28\xa1",
      "\xe2\x82\x28",
      "\xf0\x8f\xbf\xbf",
      "\xf0\x9f\x98",
      "\xf4\x90\x80\x80",
      "\xf5\x80\x80\x80",
      "\xf8\x88\x80\x80\x80",
      "\xf9\x80\x80\x80",
      "\xfa\x90\x80\x80",
      "\xff",
      "\xfe",
      "\xf0\x28\x8c\xbc",
      "\xf0\x90\x28\xbc",
      "\xf0\x90\x8c\x28",
  };
  char text[32];
  for( size_t i = 0; i < sizeof( broken ) / sizeof( broken[0] ); i++ ) {
    for( int surrogates = 0; surrogates < 2; surrogates++ ) {
      int const len = snprintf( text, sizeof( text ), "\"abc%s\"", broken[i] );
      refuse( text, (size_t)len, surrogates, PF_ERR_JSON_UTF8, 4 );
      refuse( text, (size_t)len - 1, surrogates, PF_ERR_JSON_UTF8, 4 );
    }
  }
  REFUSE( "\"\xed\xa0\x80\"", PF_ERR_JSON_UTF8, 1 );
  REFUSE( "\"\xed\xbf\xbf\"", PF_ERR_JSON_UTF8, 1 );
  REFUSE( "[\xc3\xa9]", PF_ERR_JSON_VALUE, 1 );
  /* Whole characters, and then the text ends. */
  REFUSE( "\"\xc3\xa9", PF_ERR_JSON_END, 3 );
  REFUSE( "\"\xe2\x82\xac", PF_ERR_JSON_END, 4 );
  REFUSE( "\"\xf0\x9f\x98\x80", PF_ERR_JSON_END, 5 );
}

static void
test_duplicates( void ) {
  REFUSE( "{\"a\":1,\"a\":2}", PF_ERR_JSON_DUPLICATE, 7 );
  REFUSE( "{\"a\":1,\"\\u0061\":2}", PF_ERR_JSON_DUPLICATE, 7 );
  REFUSE( "{\"\":1,\"\":2}", PF_ERR_JSON_DUPLICATE, 6 );
  REFUSE( "{\"b\":1,\"a\":1,\"b\":2,\"a\":3,\"a\":4}", PF_ERR_JSON_DUPLICATE, 13 );
  REFUSE( "[{\"x\":{\"a\":1,\"a\":2}}]", PF_ERR_JSON_DUPLICATE, 13 );
  REFUSE( "{\"a\":1,\"a\":2,\"a\":3}", PF_ERR_JSON_DUPLICATE, 7 );
  REFUSE( "{\"b\":1,\"a\":1,\"a\":2,\"b\":2}", PF_ERR_JSON_DUPLICATE, 13 );
  REFUSE( "{\"b\":1,\"b\":2,\"a\":1,\"a\":2,\"c\":1}", PF_ERR_JSON_DUPLICATE, 7 );
  REFUSE( "{\"1234567\":1111111111111111111111111,\"1234567\":1111111111111111111111111}",
          PF_ERR_JSON_DUPLICATE, 37 );
  REFUSE( "{\"\xf0\x9f\x98\x80\":1,\"\\ud83d\\uDE00\":2}", PF_ERR_JSON_DUPLICATE, 10 );
  REFUSE( "{\"a long key, longer than chunks\":1,\"a long key, longer than chunks\":2}", PF_ERR_JSON_DUPLICATE,
          36 );
  REFUSE( "{\"1234567\":1,\"1234567\":2}", PF_ERR_JSON_DUPLICATE, 13 );
  EXPECT( "[{\"a\":{\"a\":1}},{\"a\":1}]", "[{\"a\":{\"a\":1}},{\"a\":1}]" );
}

static void
test_limits( void ) {
  char   text[8192];
  size_t position;
  for( size_t i = 0; i < 2 * PF_JSON_DEPTH_MAX; i++ ) { /* beside each other they are not deep */
    memcpy( text + 3 * i, ",[]", 3 );
  }
  text[0]                             = '[';
  text[(size_t)6 * PF_JSON_DEPTH_MAX] = ']';
  expect( text, (size_t)6 * PF_JSON_DEPTH_MAX + 1, 0, text, (size_t)6 * PF_JSON_DEPTH_MAX + 1 );
  for( int objects = 0; objects < 2; objects++ ) {
    for( size_t depth = PF_JSON_DEPTH_MAX; depth <= PF_JSON_DEPTH_MAX + 1; depth++ ) {
      size_t len = 0;
      for( size_t i = 0; i < depth; i++ ) {
        len += (size_t)snprintf( text + len, sizeof( text ) - len, objects ? "{\"a\":" : "[" );
      }
      size_t const deepest = len - ( objects ? 5 : 1 );
      text[len++]          = '1';
      memset( text + len, objects ? '}' : ']', depth );
      len += depth;
      int64_t const n = canonical( out, text, len, 0, &position );
      if( depth == PF_JSON_DEPTH_MAX ) {
        CHECK( n == (int64_t)len && memcmp( out, text, len ) == 0 );
      } else {
        CHECK( n == PF_ERR_JSON_DEPTH && position == deepest );
      }
    }
  }
  memset( text, '7', sizeof( text ) );
  CHECK( canonical( out, text, PF_JSON_DIGITS_MAX, 0, &position ) == PF_JSON_DIGITS_MAX );
  refuse( text, PF_JSON_DIGITS_MAX + 1, 0, PF_ERR_JSON_DIGITS, 0 );
  text[0] = '-';
  CHECK( canonical( out, text, PF_JSON_DIGITS_MAX + 1, 0, &position ) == PF_JSON_DIGITS_MAX + 1 );
  refuse( text, PF_JSON_DIGITS_MAX + 2, 0, PF_ERR_JSON_DIGITS, 0 );
#if SIZE_MAX > UINT32_MAX
  /* Refused before any of it is looked at. */
  pf_writer w = pf_writer_on( out, OUT_SZ );
  CHECK( pf_json_canonical( &w, text, (size_t)UINT32_MAX + 1, 0, NULL, 0, &position ) == PF_ERR_JSON_LENGTH );
  CHECK( position == UINT32_MAX );
#endif
}

/* What the workspace holds for a member, twice, and for an object. */
#define MEMBER_SZ ( 2 * sizeof( pf_json_member ) )
#define OBJECT_SZ 16

static void
test_measure( void ) {
  pf_json_size_t size;
  char           text[1000];
  for( size_t len = 0; len < sizeof( text ); len++ ) {
    memset( text, 'x', sizeof( text ) );
    for( size_t i = 0; i < len; i++ ) {
      text[i] = ":{\x7f\xff"[i % 4];
    }
    text[len] = ':'; /* outside */
    pf_json_measure( text, len, &size );
    CHECK( size.members == ( len + 3 ) / 4 );
    CHECK( size.objects == ( len + 2 ) / 4 );
    CHECK( size.output == len + 5 * ( ( len + 1 ) / 4 ) + 2 * ( len / 4 ) );
  }
  pf_json_measure( NULL, 0, &size );
  CHECK( !size.members && !size.objects && !size.output );
  CHECK( pf_json_work_sz( &size ) == PF_JSON_WORK_MIN_SZ );
  size.members = SIZE_MAX / 4 / MEMBER_SZ;
  CHECK( pf_json_work_sz( &size ) == PF_JSON_WORK_MIN_SZ + size.members * MEMBER_SZ );
  size.members++;
  CHECK( pf_json_work_sz( &size ) == 0 );
  size.members = 0;
  size.objects = SIZE_MAX / 4 / OBJECT_SZ;
  CHECK( pf_json_work_sz( &size ) == PF_JSON_WORK_MIN_SZ + size.objects * OBJECT_SZ );
  size.objects++;
  CHECK( pf_json_work_sz( &size ) == 0 );
  size.objects = 0;
  size.members = SIZE_MAX / 2;
  CHECK( pf_json_work_sz( &size ) == 0 );
  size.members = 0;
  size.objects = SIZE_MAX;
  CHECK( pf_json_work_sz( &size ) == 0 );
}

static const char sample[] =
    " { \"type\" : \"cancel_order\", "
    "\"data\":{\"symbol\":\"BTC\",\"order_id\":-42069,\"\\u00e9\xc3\xa8\":[{},{\"b\":-0,\"a\":"
    "null}]},\"z\\ud83d\\ude00\":\"\xf0\x9f\x98\x80\x7f\\n\\/ a string of more than sixteen "
    "characters\",\"t\":[true,"
    "false , \"\" ] ,\"long prefix, longer than a chunk 2\":1,\"long prefix, longer than a chunk 1\":2 } ";
#define SAMPLE_LEN ( sizeof( sample ) - 1 )

static void
test_capacity( void ) {
  pf_json_size_t size;
  size_t         position;
  int64_t const  n = canonical( out, sample, SAMPLE_LEN, 0, &position );
  CHECK( n > 0 );
  pf_json_measure( sample, SAMPLE_LEN, &size );
  size_t const work_sz = pf_json_work_sz( &size );
  for( size_t capacity = 0; capacity < (size_t)n; capacity++ ) {
    CHECK( canonical_in( out, capacity, sample, SAMPLE_LEN, 0, work_sz, &position ) == PF_ERR_CAPACITY );
  }
  CHECK( canonical_in( out, (size_t)n, sample, SAMPLE_LEN, 0, work_sz, &position ) == n );
  for( size_t sz = 0; sz < work_sz; sz++ ) {
    CHECK( canonical_in( out, size.output, sample, SAMPLE_LEN, 0, sz, &position ) == PF_ERR_CAPACITY );
  }
  CHECK( canonical_in( out, size.output, TEXT( "{}" ), 0, PF_JSON_WORK_MIN_SZ, &position ) == PF_ERR_CAPACITY );
  CHECK( canonical_in( out, size.output, TEXT( "\"{:}\"" ), 0, 0, &position ) == 5 );
  /* It appends. */
  pf_writer w = pf_writer_on( out, 8 );
  PF_PUT_LIT( &w, "ab" );
  CHECK( pf_json_canonical( &w, TEXT( " [1] " ), 0, NULL, 0, &position ) == 3 );
  CHECK( pf_writer_len( &w ) == 5 && memcmp( out, "ab[1]", 5 ) == 0 );
  CHECK( pf_json_canonical( &w, TEXT( "[1" ), 0, NULL, 0, &position ) == PF_ERR_JSON_END );
  CHECK( pf_writer_len( &w ) == 5 );
}

/* A valid text cut off anywhere is refused. */

static void
test_truncations( void ) {
  size_t       position;
  size_t const whole = SAMPLE_LEN - 1; /* without the space at the end */
  for( size_t len = 0; len < whole; len++ ) {
    int64_t const n = canonical( out, sample, len, 0, &position );
    CHECK( n == ( len < 2 ? PF_ERR_JSON_VALUE : n == PF_ERR_JSON_UTF8 ? PF_ERR_JSON_UTF8 : PF_ERR_JSON_END ) );
    CHECK( n == PF_ERR_JSON_UTF8 || position == len );
  }
}

/* Any byte in any place: an answer, and what is canonical stays as it
   is. */

static void
test_mutations( void ) {
  static char again[OUT_SZ];
  char        text[SAMPLE_LEN];
  size_t      position;
  for( size_t i = 0; i < SAMPLE_LEN; i++ ) {
    memcpy( text, sample, SAMPLE_LEN );
    for( unsigned v = 0; v < 256; v++ ) {
      text[i]         = (char)v;
      int64_t const n = canonical( out, text, SAMPLE_LEN, v & 1, &position );
      if( n >= 0 ) {
        CHECK( canonical( again, out, (size_t)n, 0, &position ) == n );
        CHECK( memcmp( again, out, (size_t)n ) == 0 );
      }
    }
  }
}

int
main( void ) {
  test_values();
  test_strings();
  test_sorting();
  test_sorting_split_pair();
  test_sorting_points();
  test_sorting_after_common_text();
  test_sorting_groups();
  for( size_t count = 1; count < 300; count++ ) {
    test_sorting_many( count, "" );
    test_sorting_many( count, "\\u00e9\\ud83d\\ude00" );
    test_sorting_many( count, "a prefix of many chunks, among them what is escaped: \\ud83d\\ude00\\u00e9" );
  }
  test_refusals();
  test_refusals_numbers();
  test_refusals_utf8();
  test_duplicates();
  test_limits();
  test_measure();
  test_capacity();
  test_truncations();
  test_mutations();
  puts( "test_json: ok" );
  return 0;
}
