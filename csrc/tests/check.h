/* SPDX-License-Identifier: MIT */
#ifndef PF_TESTS_CHECK_H
#define PF_TESTS_CHECK_H

/* check.h: CHECK, which NDEBUG does not switch off, and what every test
   of the C core needs: forked children, and cheap numbers that are the
   same in every run. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* From any thread and any child; no handlers, no flush of inherited output. */
#if !defined( CHECK_END )
#define CHECK_END() _exit( 1 )
#endif

#define CHECK( condition ) check_that( ( condition ) != 0, #condition, __FILE__, __LINE__ )

static inline void
check_that( int holds, const char *condition, const char *file, int line ) {
  if( !holds ) {
    fprintf( stderr, "%s:%d: failed: %s\n", file, line, condition );
    fflush( stderr );
    CHECK_END();
  }
}

/* check_child_ends_well waits for a child and fails with it. */

#define CHECK_CHILD_ENDS_WELL( pid ) check_child_ends_well( ( pid ), __FILE__, __LINE__ )

static inline void
check_child_ends_well( pid_t pid, const char *file, int line ) {
  int status = -1;
  check_that( pid > 0 && waitpid( pid, &status, 0 ) == pid, "child waited for", file, line );
  check_that( WIFEXITED( status ) && WEXITSTATUS( status ) == 0, "child exits with 0", file, line );
}

/* check_mix steps a 64-bit state (splitmix64). */

static inline uint64_t
check_mix( uint64_t *state ) {
  uint64_t z = *state += UINT64_C( 0x9e3779b97f4a7c15 );
  z          = ( z ^ z >> 30 ) * UINT64_C( 0xbf58476d1ce4e5b9 );
  z          = ( z ^ z >> 27 ) * UINT64_C( 0x94d049bb133111eb );
  return z ^ z >> 31;
}

static inline void
check_fill( uint64_t *state, void *out, size_t n ) {
  uint8_t *bytes = out;
  for( size_t i = 0; i < n; i++ ) {
    bytes[i] = (uint8_t)( check_mix( state ) >> 56 );
  }
}

static inline int
check_all_zero( const void *p, size_t n ) {
  const uint8_t *bytes = p;
  uint8_t        any   = 0;
  for( size_t i = 0; i < n; i++ ) {
    any |= bytes[i];
  }
  return any == 0;
}

/* check_contains tells whether the n bytes of needle stand anywhere in
   the haystack. */

static inline int
check_contains( const void *haystack, size_t haystack_sz, const void *needle, size_t n ) {
  const uint8_t *bytes = haystack;
  for( size_t i = 0; i + n <= haystack_sz; i++ ) {
    if( memcmp( bytes + i, needle, n ) == 0 ) {
      return 1;
    }
  }
  return 0;
}

/* check_stands_below tells whether bytes of a call that has returned are
   left on the stack.  Sanitizers keep house there in their own way. */

#if defined( __SANITIZE_ADDRESS__ ) || defined( __SANITIZE_THREAD__ )
#define STACK_IS_PLAIN 0
#elif defined( __has_feature )
#if __has_feature( address_sanitizer ) || __has_feature( memory_sanitizer ) || __has_feature( thread_sanitizer )
#define STACK_IS_PLAIN 0
#endif
#endif
#if !defined( STACK_IS_PLAIN )
#define STACK_IS_PLAIN 1
#endif

static __attribute__( ( noinline, unused ) ) int
check_stands_below( const uint8_t *bytes, size_t n ) {
  uint8_t below[16384];
  __asm__ __volatile__( "" : : "r"( below ) : "memory" );
  return STACK_IS_PLAIN && check_contains( below, sizeof( below ), bytes, n );
}

/* check_leave_on_the_stack leaves n bytes made of a secret of 32, as
   libsodium leaves what it computes with. */

static __attribute__( ( noinline, unused ) ) void
check_leave_on_the_stack( const uint8_t *secret, size_t n ) {
  volatile uint8_t left[2048];
  CHECK( n <= sizeof( left ) );
  for( size_t i = 0; i < n; i++ ) {
    left[sizeof( left ) - n + i] = secret[i % 32];
  }
}

/* check_vectors reads what a call that has just returned left in the
   vector registers; check_clear_vectors clears them. */

#define CHECK_VECTORS_SZ 256

#if defined( __x86_64__ ) && STACK_IS_PLAIN

#define CHECK_EACH_VECTOR( X )                                                                                 \
  X( 0 )                                                                                                       \
  X( 1 ) X( 2 ) X( 3 ) X( 4 ) X( 5 ) X( 6 ) X( 7 ) X( 8 ) X( 9 ) X( 10 ) X( 11 ) X( 12 ) X( 13 ) X( 14 ) X( 15 )
#define CHECK_SAVE( n ) "movdqu %%xmm" #n ", 16*" #n "(%0)\n"
#define CHECK_CLEAR( n ) "pxor %%xmm" #n ", %%xmm" #n "\n"
#define CHECK_CLOBBERED                                                                                        \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",   \
      "xmm13", "xmm14", "xmm15"

static inline void
check_vectors( uint8_t out[CHECK_VECTORS_SZ] ) {
  __asm__ __volatile__( CHECK_EACH_VECTOR( CHECK_SAVE ) : : "r"( out ) : "memory" );
}

static inline void
check_clear_vectors( void ) {
  __asm__ __volatile__( CHECK_EACH_VECTOR( CHECK_CLEAR ) : : : CHECK_CLOBBERED );
}

#else

static inline void
check_vectors( uint8_t out[CHECK_VECTORS_SZ] ) {
  memset( out, 0, CHECK_VECTORS_SZ );
}

static inline void
check_clear_vectors( void ) {
}

#endif

#endif /* PF_TESTS_CHECK_H */
