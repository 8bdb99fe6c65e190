/* SPDX-License-Identifier: MIT */
#define _DEFAULT_SOURCE

#include "pf_send.h"

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
