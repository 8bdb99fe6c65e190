/* SPDX-License-Identifier: MIT */
#ifndef PF_NONCE_H
#define PF_NONCE_H

/* pf_nonce.h: pools of prepared nonces.

   An Ed25519 signature is R = r·B and S = r + H(R‖A‖M)·a mod L.  The
   multiplication r·B is nine tenths of its cost and needs no message: it
   is done ahead of time, for random r, in the background.  Signing then
   costs a hash and a multiplication of scalars.

   Whoever learns r of one signature, or sees two signatures with one R,
   has the private key a.  So a nonce is used once or never:

   - Slots, their states and indices live in one private mapping that is
     all zeros in a forked child, and zeros mean empty (pf_pages.h).
   - A slot goes EMPTY -> FILLING -> READY -> CLAIMED -> EMPTY, every
     step out of EMPTY and READY by compare-and-swap: one thread fills
     it, one thread uses it.  It becomes EMPTY after its wipe only, and
     does so on every path.
   - r is written into its slot and read from there, nowhere else.  It is
     looked at once more after its use: if it is zero by then, the slot
     was wiped under our hands, and the signature is thrown away.
   - A nonce that is too old, or was made when the wall clock and the
     monotonic clock stood differently to each other (a snapshot of a
     virtual machine was resumed), is never used.
   - r = SHA-512( label ‖ 32 random bytes ‖ zeros to 128 ‖ key prefix ‖
     pid ‖ realtime ns ‖ monotonic ns ‖ pool number ‖ counter ) mod L:
     as good as RFC 8032's if the random bytes are bad, and as good as
     random if the key prefix is known.

   A pool serves one key.  It never makes a signer wait: if no nonce is
   ready the caller signs deterministically. */

#include "pf_api.h" /* pf_pool, the handle; pf_pool_stats */
#include "pf_base.h"
#include "pf_sodium.h"

#define PF_SCALAR_SZ 32
#define PF_PREFIX_SZ 32

/* What RFC 8032, section 5.1.5, makes of the seed. */

typedef struct {
  uint8_t scalar[PF_SCALAR_SZ]; /* a, clamped */
  uint8_t prefix[PF_PREFIX_SZ];
} pf_expanded;

/* pf_pool_open makes an empty pool of `size` nonces, 1 to
   PF_NONCES_MAX, for the key of that generation.  Nonces are thrown away
   when they are older than max_age_ms.  Returns PF_OK, PF_ERR_ARGUMENT,
   PF_ERR_UNBOUND (also if this libsodium lacks the functions),
   PF_ERR_MEMORY, or PF_ERR_CLOSED as pf_key_open. */

int pf_pool_open( pf_pool *pool, size_t size, int64_t max_age_ms, uint64_t key_generation );

/* pf_pool_close waits for calls in flight, wipes the pool and frees it.
   PF_ERR_CLOSED, after waiting, to whoever comes second. */

int pf_pool_close( const pf_pool *pool );

/* pf_nonce_prepare makes one nonce, if there is room.  Returns 1; 0 if
   the pool is full; PF_ERR_CLOSED, PF_ERR_CLOCK or PF_ERR_SODIUM.  Safe
   from several threads, of which one works. */

int pf_nonce_prepare( const pf_pool *pool, const pf_expanded *key );

/* pf_nonce_sign signs the len bytes at signed_message + PF_SIGNATURE_SZ
   with a prepared nonce, which is burnt whatever the outcome, and writes
   the signature in front of them.  The message must not change
   meanwhile: see pf_key_sign.  Returns PF_OK; PF_ERR_NO_NONCE if none is
   ready, and the caller is to sign deterministically; PF_ERR_CLOSED;
   PF_ERR_ARGUMENT if the pool serves another key; PF_ERR_SODIUM. */

int pf_nonce_sign( const pf_pool     *pool,
                   uint64_t           key_generation,
                   const pf_expanded *key,
                   const uint8_t      pubkey[PF_PUBKEY_SZ],
                   uint8_t           *signed_message,
                   size_t             len );

/* pf_nonce_prefetch brings the next nonce nearer, if it has been far away
   for long; call it some work ahead of pf_nonce_sign. */

void pf_nonce_prefetch( const pf_pool *pool );

/* pf_pool_count fills in the statistics.  Returns PF_OK or
   PF_ERR_CLOSED. */

int pf_pool_count( const pf_pool *pool, pf_pool_stats *stats );

#endif /* PF_NONCE_H */
