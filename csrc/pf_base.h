/* SPDX-License-Identifier: MIT */
#ifndef PF_BASE_H
#define PF_BASE_H

/* pf_base.h: what every other file of the C core stands on: error
   codes, the bounded writer, and the wipe.  Header only.

   Conventions of the whole core:

   - Output goes into the caller's buffer of stated capacity; nothing is
     written past it.  No function keeps a pointer it was given unless
     its contract says so.
   - A function that produces bytes returns how many (>= 0) or one of
     the negative PF_ERR_* codes.  On error the output buffer's content
     is unspecified, but never secret.
   - _LEN counts characters without a terminating NUL; _SZ counts the
     bytes of storage.  Nothing here is NUL-terminated.
   - Nothing here knows Python; nothing on the hot path allocates. */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define PF_OK 0

/* Errors of arguments and state. */
#define PF_ERR_CAPACITY ( -1 )  /* the output buffer is too small */
#define PF_ERR_ARGUMENT ( -2 )  /* an argument is outside its contract */
#define PF_ERR_MEMORY ( -3 )    /* no memory, or no private mapping */
#define PF_ERR_UNBOUND ( -4 )   /* libsodium is not bound yet */
#define PF_ERR_SODIUM ( -5 )    /* a libsodium call failed */
#define PF_ERR_CLOSED ( -6 )    /* the key is closed, or did not cross a fork */
#define PF_ERR_MISMATCH ( -7 )  /* public half does not belong to the seed */
#define PF_ERR_CLOCK ( -8 )     /* the wall clock cannot be read */
#define PF_ERR_BASE58 ( -9 )    /* not base58, or of another length */
#define PF_ERR_FORKED ( -10 )   /* request ids belong to another process */
#define PF_ERR_SPENT ( -11 )    /* no such armed cancel: fired, dropped, or never armed */
#define PF_ERR_STALE ( -12 )    /* the armed cancel is too old to be sent */
#define PF_ERR_NO_NONCE ( -13 ) /* no prepared nonce is ready */

/* Errors of JSON text; each comes with a position. */
#define PF_ERR_JSON_END ( -20 )       /* the text ends inside a value */
#define PF_ERR_JSON_VALUE ( -21 )     /* no value starts here */
#define PF_ERR_JSON_KEY ( -22 )       /* a key must be a string */
#define PF_ERR_JSON_COLON ( -23 )     /* no colon after the key */
#define PF_ERR_JSON_COMMA ( -24 )     /* neither a comma nor the closing bracket */
#define PF_ERR_JSON_CONTROL ( -25 )   /* raw control character in a string */
#define PF_ERR_JSON_ESCAPE ( -26 )    /* no such escape */
#define PF_ERR_JSON_UTF8 ( -27 )      /* not UTF-8 */
#define PF_ERR_JSON_BOM ( -28 )       /* a byte order mark */
#define PF_ERR_JSON_TRAILING ( -29 )  /* something after the value */
#define PF_ERR_JSON_DUPLICATE ( -30 ) /* the key stands twice in its object */
#define PF_ERR_JSON_NUMBER ( -31 )    /* malformed number */
#define PF_ERR_JSON_FRACTION ( -32 )  /* fraction or exponent */
#define PF_ERR_JSON_DIGITS ( -33 )    /* integer of more than 4300 digits */
#define PF_ERR_JSON_NAN ( -34 )       /* NaN or Infinity */
#define PF_ERR_JSON_DEPTH ( -35 )     /* nested too deep */
#define PF_ERR_JSON_LENGTH ( -36 )    /* text of 4 GiB or more */
#define PF_ERR_JSON_OBJECT ( -37 )    /* the value must be an object */

#if defined( __GNUC__ ) || defined( __clang__ )
#define PF_LIKELY( c ) __builtin_expect( !!( c ), 1 )
#define PF_UNLIKELY( c ) __builtin_expect( !!( c ), 0 )
#else
#define PF_LIKELY( c ) ( c )
#define PF_UNLIKELY( c ) ( c )
#endif

/* PF_PREFETCH asks for a cache line that will be needed: a cancel comes
   out of the blue, and nothing it touches is in the cache by then. */
#if defined( __GNUC__ ) || defined( __clang__ )
#define PF_PREFETCH( p ) __builtin_prefetch( p )
#else
#define PF_PREFETCH( p ) ( (void)( p ) )
#endif

/* PF_DECLASSIFY marks the one bit, or the point of a nonce, that comes of
   a secret and may be known to everybody: for `make ctgrind`, which
   watches what branches and indices depend on. */
#if !defined( PF_DECLASSIFY )
#define PF_DECLASSIFY( p, n ) ( (void)0 )
#endif

/* pf_writer writes into [at, end) and never past it.  Running out of
   room is sticky: `full` is set, the room becomes zero, and every later
   write does nothing, so that a chain of writes needs one check at its
   end (pf_writer_len). */

typedef struct {
  char *start; /* first byte of the caller's buffer */
  char *at;    /* where the next byte goes */
  char *end;   /* one past the last byte that may be written */
  int   full;  /* 1 once something did not fit */
} pf_writer;

static inline pf_writer
pf_writer_on( char *buffer, size_t capacity ) {
  pf_writer w = { buffer, buffer, buffer + capacity, 0 };
  return w;
}

/* pf_reserve returns room for n bytes and moves past it, or NULL when
   there is none. */

static inline char *
pf_reserve( pf_writer *w, size_t n ) {
  if( PF_UNLIKELY( (size_t)( w->end - w->at ) < n ) ) {
    w->full = 1;
    w->end  = w->at;
    return NULL;
  }
  char *room = w->at;
  w->at += n;
  return room;
}

static inline void
pf_put( pf_writer *w, const void *bytes, size_t n ) {
  char *room = pf_reserve( w, n );
  if( PF_LIKELY( room != NULL ) ) {
    memcpy( room, bytes, n );
  }
}

/* PF_PUT_LIT writes a string literal without its NUL. */
#define PF_PUT_LIT( w, literal ) pf_put( ( w ), ( literal ), sizeof( literal ) - 1 )

/* pf_put_u64 writes v in decimal, without leading zeros. */
#define PF_U64_LEN 20 /* digits of 2^64 - 1 */

static inline void
pf_put_u64( pf_writer *w, uint64_t v ) {
  char   digits[PF_U64_LEN];
  size_t at = PF_U64_LEN;
  do {
    digits[--at] = (char)( '0' + (char)( v % 10 ) );
    v /= 10;
  } while( v );
  pf_put( w, digits + at, PF_U64_LEN - at );
}

/* pf_writer_len returns the bytes written, or PF_ERR_CAPACITY if any
   write did not fit. */

static inline int64_t
pf_writer_len( const pf_writer *w ) {
  return PF_UNLIKELY( w->full ) ? PF_ERR_CAPACITY : (int64_t)( w->at - w->start );
}

/* pf_wipe overwrites n bytes with zeros; the compiler may not drop it,
   even if the memory is never read again. */

static inline void
pf_wipe( void *p, size_t n ) {
#if defined( __GNUC__ ) || defined( __clang__ )
  memset( p, 0, n );
  __asm__ __volatile__( "" : : "r"( p ) : "memory" );
#else
  volatile unsigned char *v = p;
  while( n-- ) {
    *v++ = 0;
  }
#endif
}

#endif /* PF_BASE_H */
