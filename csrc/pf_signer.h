/* SPDX-License-Identifier: MIT */
#ifndef PF_SIGNER_H
#define PF_SIGNER_H

/* pf_signer.h: where private keys live, and signing with them.

   A key lives in a slot of private pages (pf_pages.h) from open to
   close and nowhere else, behind a gate (pf_gate.h): a handle of a closed
   key never reaches the key that took its slot, close waits for calls in
   flight, and a forked child has no open key.

   Signatures are deterministic, RFC 8032, section 5.1.6, or made with a
   prepared nonce (pf_nonce.h). */

#include "pf_base.h"
#include "pf_api.h" /* pf_key, the handle */
#include "pf_nonce.h"
#include "pf_sodium.h"

/* pf_signer_open makes the first pages; once, before the first thread.
   Returns PF_OK or PF_ERR_MEMORY. */

int pf_signer_open( void );

/* pf_key_open takes a slot, stores seed, derives the public key into
   pubkey, and fills in the handle.  The caller wipes its own copy of
   seed.  With seed NULL, a random one is drawn in the slot itself.
   Returns PF_OK, PF_ERR_UNBOUND, PF_ERR_MEMORY, PF_ERR_SODIUM, or
   PF_ERR_CLOSED in a child forked by a signal handler meanwhile. */

int pf_key_open( pf_key *key, uint8_t pubkey[PF_PUBKEY_SZ], const uint8_t *seed );

/* pf_key_close ends a key: waits until no call uses it, wipes it, and
   frees the slot.  Whoever calls a second time waits as well, and gets
   PF_ERR_CLOSED. */

int pf_key_close( const pf_key *key );

/* pf_key_sign signs the len bytes at signed_message + PF_SIGNATURE_SZ
   and writes the signature in front of them.  libsodium reads the
   message twice: the buffer must belong to the caller alone for the
   duration of the call, on its stack or fresh from the heap.  Returns
   PF_OK, PF_ERR_CLOSED or PF_ERR_SODIUM. */

int pf_key_sign( const pf_key *key, uint8_t *signed_message, size_t len );

/* pf_key_sign_prepared does the same with a nonce of the pool, and
   deterministically if none is ready or the pool is closed.  Returns as
   pf_key_sign, and PF_ERR_ARGUMENT if the pool serves another key. */

int pf_key_sign_prepared( const pf_key *key, const pf_pool *pool, uint8_t *signed_message, size_t len );

/* pf_key_prefetch brings key and nonce nearer, some work ahead of
   signing; pool may be NULL. */

void pf_key_prefetch( const pf_key *key, const pf_pool *pool );

/* pf_key_prepare makes one nonce for the pool; see pf_nonce_prepare. */

int pf_key_prepare( const pf_key *key, const pf_pool *pool );

/* pf_key_refill keeps the pool full until it or the key is closed, and
   then closes the pool.  For a thread of its own. */

int pf_key_refill( const pf_key *key, const pf_pool *pool );

/* pf_pair_sign does the same with a pair (seed, then public key) that
   the caller holds.  The public half is not believed: it is compared
   with the one derived from the seed, because signing with a foreign
   public half gives the key away.  Pairs that passed are remembered by
   a hash in private pages, so that only the first call pays for the
   derivation.  Returns PF_OK, PF_ERR_MISMATCH, PF_ERR_UNBOUND or
   PF_ERR_SODIUM. */

int pf_pair_sign( const uint8_t pair[PF_PAIR_SZ], uint8_t *signed_message, size_t len );

#endif /* PF_SIGNER_H */
