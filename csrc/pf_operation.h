/* SPDX-License-Identifier: MIT */
#ifndef PF_OPERATION_H
#define PF_OPERATION_H

/* pf_operation.h: signing whatever has no template of its own: any
   message as JSON (the drop-in), and any operation with any payload.

   Small inputs, all that exchanges see, work on the stack.  Larger ones
   take their buffers from the heap.  No wiping: messages are
   public. */

#include "pf_base.h"
#include "pf_cancel.h"

/* pf_sign_json makes json canonical, signs it with key or, if key is
   NULL, with pair, and writes message and base58 signature.  Returns as
   pf_sdk_sign_key in pf_api.h. */

int64_t
pf_sign_json( char *out, size_t cap, const char *json, size_t len, const pf_key *key, const uint8_t *pair );

#endif /* PF_OPERATION_H */
