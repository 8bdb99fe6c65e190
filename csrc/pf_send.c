/* SPDX-License-Identifier: MIT */
#define _DEFAULT_SOURCE

#include "pf_send.h"

#if defined( _WIN32 )

#include <limits.h>
#include <winsock2.h>

/* No flag makes one call not wait: a socket that blocks is asked first,
   and may still wait if there is room for a part only. */

static int
takes_any( SOCKET socket ) {
  WSAPOLLFD asked = { .fd = socket, .events = POLLOUT };
  return WSAPoll( &asked, 1, 0 ) != 0;
}

int64_t
pf_send( const int *fd, const char *data, size_t len ) {
  SOCKET const socket = *fd < 0 ? INVALID_SOCKET : (SOCKET)*fd;
  if( !takes_any( socket ) ) {
    return 0;
  }
  int const taken = send( socket, data, len < INT_MAX ? (int)len : INT_MAX, 0 );
  if( taken >= 0 ) {
    return taken;
  }
  int const error = WSAGetLastError();
  return error == WSAEWOULDBLOCK ? 0 : -(int64_t)error;
}

#else

#include <errno.h>
#include <sys/socket.h>

#ifdef MSG_NOSIGNAL
#define FLAGS ( MSG_DONTWAIT | MSG_NOSIGNAL )
#else
#define FLAGS MSG_DONTWAIT /* SO_NOSIGPIPE is the socket's to have */
#endif

int64_t
pf_send( const int *fd, const char *data, size_t len ) {
  ssize_t taken;
  do {
    taken = send( *fd, data, len, FLAGS );
  } while( taken < 0 && errno == EINTR );
  if( taken >= 0 ) {
    return taken;
  }
  return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -(int64_t)errno;
}

#endif
