/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE

#include "check.h"

#include "pf_send.h"

#include <errno.h>
#include <signal.h>
#include <sys/socket.h>

static void
open_pair( int ends[2] ) {
  CHECK( socketpair( AF_UNIX, SOCK_STREAM, 0, ends ) == 0 ); /* blocking: it must not wait all the same */
}

static void
test_all_of_it( void ) {
  int  ends[2];
  char got[8] = { 0 };
  open_pair( ends );
  CHECK( pf_send( &ends[0], "cancel", 6 ) == 6 );
  CHECK( read( ends[1], got, sizeof( got ) ) == 6 );
  CHECK( memcmp( got, "cancel", 6 ) == 0 );
  static int const before[] = { 0, EINTR, EPIPE }; /* what another call left in errno says nothing */
  for( size_t i = 0; i < sizeof( before ) / sizeof( before[0] ); i++ ) {
    errno = before[i];
    CHECK( pf_send( &ends[0], "", 0 ) == 0 );
  }
  CHECK( close( ends[0] ) == 0 );
  CHECK( close( ends[1] ) == 0 );
}

/* What the kernel says that it took arrives, whole and in order; what it
   did not take does not. */

static void
test_a_part_and_then_nothing( void ) {
  static char data[4 << 20];
  static char got[sizeof( data )];
  int         ends[2];
  uint64_t    state = 1;
  size_t      sent = 0, seen = 0;
  check_fill( &state, data, sizeof( data ) );
  open_pair( ends );
  for( ;; ) {
    int64_t const taken = pf_send( &ends[0], data + sent, sizeof( data ) - sent );
    CHECK( taken >= 0 );
    if( !taken ) {
      break;
    }
    sent += (size_t)taken;
    CHECK( sent < sizeof( data ) );
  }
  CHECK( sent > 0 );
  CHECK( pf_send( &ends[0], data + sent, 1 ) == 0 );
  CHECK( close( ends[0] ) == 0 );
  for( ssize_t n; ( n = read( ends[1], got + seen, sizeof( got ) - seen ) ) != 0; seen += (size_t)n ) {
    CHECK( n > 0 );
  }
  CHECK( seen == sent );
  CHECK( memcmp( got, data, sent ) == 0 );
  CHECK( close( ends[1] ) == 0 );
}

static void
test_errors( void ) {
  int ends[2];
  open_pair( ends );
  CHECK( close( ends[1] ) == 0 );
  CHECK( signal( SIGPIPE, SIG_DFL ) != SIG_ERR ); /* it would end this process */
  CHECK( pf_send( &ends[0], "cancel", 6 ) == -EPIPE );
  CHECK( close( ends[0] ) == 0 );
  CHECK( pf_send( &ends[0], "cancel", 6 ) == -EBADF );
  ends[0] = -1;
  CHECK( pf_send( &ends[0], "cancel", 6 ) == -EBADF );
  CHECK( pipe( ends ) == 0 );
  CHECK( pf_send( &ends[1], "cancel", 6 ) == -ENOTSOCK );
}

int
main( void ) {
  test_all_of_it();
  test_a_part_and_then_nothing();
  test_errors();
  puts( "test_send: ok" );
  return 0;
}
