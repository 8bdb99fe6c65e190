/* SPDX-License-Identifier: MIT */
#ifndef PF_FRAMAC_LIBC_H
#define PF_FRAMAC_LIBC_H

/* libc.h: included before everything else.  memcpy and its like with the
   contract that the core relies on: of no bytes, a pointer just past an
   array is good enough.  Frama-C's own contract refuses that, and Eva
   would then take all that follows to be dead, and look at none of it. */

#include <stddef.h>
#include <string.h>

/*@ requires room: \valid( (char *)to + ( 0 .. n - 1 ) );
    requires bytes: \valid_read( (char *)from + ( 0 .. n - 1 ) ); */
static inline void *
any_copy( void *to, const void *from, size_t n ) {
  for( size_t i = 0; i < n; i++ ) {
    ( (char *)to )[i] = ( (const char *)from )[i];
  }
  return to;
}

/*@ requires room: \valid( (char *)to + ( 0 .. n - 1 ) );
    requires bytes: \valid_read( (char *)from + ( 0 .. n - 1 ) ); */
static inline void *
any_move( void *to, const void *from, size_t n ) {
  const char *const last = (const char *)from + n;
  for( size_t i = 0; i < n; i++ ) {
    if( (const char *)to < (const char *)from ) {
      ( (char *)to )[i] = ( (const char *)from )[i];
    } else {
      ( (char *)to )[n - 1 - i] = last[-1 - (ptrdiff_t)i];
    }
  }
  return to;
}

/*@ requires room: \valid( (char *)to + ( 0 .. n - 1 ) ); */
static inline void *
any_fill( void *to, int byte, size_t n ) {
  for( size_t i = 0; i < n; i++ ) {
    ( (char *)to )[i] = (char)byte;
  }
  return to;
}

#define memcpy any_copy
#define memmove any_move
#define memset any_fill

#endif /* PF_FRAMAC_LIBC_H */
