/* SPDX-License-Identifier: MIT */
#ifndef PF_SEND_H
#define PF_SEND_H

/* pf_send.h: the last step, bytes to the kernel.

   Python's own socket.send() gives the GIL up around the system call.  A
   send that cannot wait gains nothing by that, and whoever called it may
   get the GIL back only a switch interval later, 5 ms: pf_send is called
   with the GIL held.

   pf_send( fd, data, len ) -> int64_t is declared in pf_api.h. */

#include "pf_api.h"

#endif /* PF_SEND_H */
