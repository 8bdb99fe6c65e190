/* SPDX-License-Identifier: MIT */

/* replay.c: a fuzz target on its corpus, without libFuzzer and with any
   compiler.  usage: TARGET CORPUS, a file with an input on each line, in
   hexadecimal.  Prints how many there were. */

#include "fuzz.h"

#define INPUT_MAX 4096

static size_t
from_hex( uint8_t *bytes, const char *hex ) {
  static char const digits[] = "0123456789abcdef";
  size_t            n        = 0;
  for( ; hex[0] > ' ' && hex[1] > ' ' && n < INPUT_MAX; hex += 2 ) {
    const char *high = strchr( digits, hex[0] );
    const char *low  = strchr( digits, hex[1] );
    CHECK( high && low );
    bytes[n++] = (uint8_t)( ( high - digits ) << 4 | ( low - digits ) );
  }
  CHECK( hex[0] <= ' ' ); /* an even number of digits, and not too many */
  return n;
}

int
main( int argc, char **argv ) {
  static char    line[2 * INPUT_MAX + 2];
  static uint8_t bytes[INPUT_MAX];
  FILE          *corpus = argc == 2 ? fopen( argv[1], "r" ) : NULL;
  int            inputs = 0;
  if( !corpus ) {
    (void)fprintf( stderr, "usage: %s CORPUS\n", argv[0] );
    return 2;
  }
  while( fgets( line, sizeof( line ), corpus ) ) {
    size_t const size  = from_hex( bytes, line );
    char        *exact = fuzz_copy( bytes, size );
    (void)LLVMFuzzerTestOneInput( (const uint8_t *)exact, size );
    free( exact );
    inputs++;
  }
  (void)fclose( corpus );
  const char *slash = strrchr( argv[0], '/' );
  printf( "%s: %d inputs: ok\n", slash ? slash + 1 : argv[0], inputs );
  return inputs ? 0 : 1; /* none would show nothing */
}
