/* SPDX-License-Identifier: MIT */
#ifndef PF_FUZZ_H
#define PF_FUZZ_H

/* fuzz.h: what every fuzz target needs.  A target is

     int LLVMFuzzerTestOneInput( const uint8_t *data, size_t size );

   linked with libFuzzer, which calls it with ever new bytes, or with
   replay.c, which calls it with files.  It checks everything with CHECK,
   hands out buffers of exactly the size it names, so that a sanitizer
   sees one byte too many, and returns 0. */

/* libFuzzer keeps the input of a process that aborts. */
#define CHECK_END() abort()

#include "../tests/check.h"

#include "pf_base.h"

int LLVMFuzzerTestOneInput( const uint8_t *data, size_t size );

/* The bytes of an input, taken from its start: first what steers the
   target, then what it works on.  Past the end there are zeros. */

typedef struct {
  const uint8_t *at;
  size_t         left;
} fuzz_input;

static inline uint64_t
fuzz_number( fuzz_input *input, size_t bytes ) {
  uint64_t v = 0;
  for( size_t i = 0; i < bytes; i++ ) {
    v = v << 8 | ( input->left ? *input->at : 0 );
    if( input->left ) {
      input->at++;
      input->left--;
    }
  }
  return v;
}

/* fuzz_buffer is n bytes, none more; fuzz_copy a copy of some.  Never
   NULL. */

static inline char *
fuzz_buffer( size_t n ) {
  char *buffer = malloc( n );
  CHECK( buffer != NULL );
  memset( buffer, 0xa5, n );
  return buffer;
}

static inline char *
fuzz_copy( const void *bytes, size_t n ) {
  char *copy = fuzz_buffer( n );
  if( n ) {
    memcpy( copy, bytes, n );
  }
  return copy;
}

/* fuzz_text takes a text of at most max bytes: its length, then itself. */

static inline char *
fuzz_text( fuzz_input *input, size_t max, size_t *len ) {
  *len = (size_t)fuzz_number( input, 1 ) % ( max + 1 );
  if( *len > input->left ) {
    *len = input->left;
  }
  char *text = fuzz_copy( input->at, *len );
  input->at += *len;
  input->left -= *len;
  return text;
}

#endif /* PF_FUZZ_H */
