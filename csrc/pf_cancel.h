/* SPDX-License-Identifier: MIT */
#ifndef PF_CANCEL_H
#define PF_CANCEL_H

/* pf_cancel.h: finished cancel requests.  A template holds every byte of
   a request that does not change between calls; one call then writes the
   canonical message on its own stack, signs it there, and writes the
   request around the signature.

   Signed, and never sent in this form (keys sorted, compact):

     {"data":{"order_id":42069,"symbol":"BTC"},"expiry_window":5000,
      "timestamp":1749223343149,"type":"cancel_order"}

   Sent:

     {"id":"<uuid>","params":{"cancel_order":{"account":"<base58>",
      "signature":"<base58>","timestamp":1749223343149,
      "expiry_window":5000,"symbol":"BTC","order_id":42069}}}

   with "agent_wallet" behind "account" if an agent wallet signs
   (docs.pacifica.fi, websocket trading operations). */

#include "pf_api.h"
#include "pf_base.h"
#include "pf_base58.h"
#include "pf_signer.h"

#define PF_SYMBOL_MAX 32
#define PF_CLIENT_ORDER_ID_LEN 36
#define PF_OPERATION_NAME_MAX 64

/* Fixed text of a template, at its longest: names and punctuation
   (under 80 characters each), two base58 keys, a symbol, a number. */

#define PF_HEAD_SZ ( 80 + 2 * PF_BASE58_32_MAX_LEN )
#define PF_TAIL_SZ ( 112 + PF_SYMBOL_MAX + PF_U64_LEN )

typedef struct {
  uint32_t len;
  char     text[PF_TAIL_SZ];
} pf_tail;

struct pf_template {
  pf_key          key;
  pf_pool         pool;  /* place NULL: deterministic signatures */
  const pf_clock *clock; /* never NULL */
  int32_t         kind;
  uint32_t        head_len;
  uint64_t        expiry_window;
  char            head[PF_HEAD_SZ]; /* {"account":"…","signature":" */
  pf_tail         message;          /* of the signed message, between order id and timestamp */
  pf_tail         fields;           /* of the request, from behind the timestamp to the order id */
};

/* pf_template_sign signs as pf_key_sign does, with the template's key and,
   if it has one, its pool. */

int pf_template_sign( const pf_template *t, uint8_t *signed_message, size_t len );

/* pf_put_envelope writes {"id":"…","params":{"  with the id chosen as
   pf_api.h says. */

int pf_put_envelope( pf_writer *w, uint64_t number, const char *request_id, size_t id_len );

#endif /* PF_CANCEL_H */
