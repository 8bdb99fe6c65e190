/* SPDX-License-Identifier: MIT */
#ifndef PF_SODIUM_H
#define PF_SODIUM_H

/* pf_sodium.h: the table of libsodium functions.  Nothing is linked:
   PyNaCl carries libsodium, pacifica_fast/_sodium.py takes the addresses
   from there and binds them here once, before anything else is called.
   All arithmetic on secrets is behind these pointers. */

#include "pf_base.h"
#include "pf_api.h" /* pf_sodium, the table itself, is part of the API */

#define PF_SEED_SZ 32
#define PF_PUBKEY_SZ 32
#define PF_PAIR_SZ 64 /* seed followed by public key: libsodium's secret key */
#define PF_SIGNATURE_SZ 64
#define PF_SHA512_SZ 64

/* pf_sodium_table returns the bound table, or NULL before binding. */

const pf_sodium *pf_sodium_table( void );

/* pf_sodium_set copies table.  Returns PF_ERR_ARGUMENT if a function
   that deterministic signing needs is missing. */

int pf_sodium_set( const pf_sodium *table );

/* pf_sodium_wipe_stack overwrites what libsodium's functions, called from
   the same function as this one, left on the stack: after a signature or
   a base multiplication digits of the nonce.  They reach 1.9 KiB down.
   pf_sodium_wipe_scalars does it after scalar_reduce, scalar_mul and
   sodium_add, which reach 240 bytes down and leave limbs of scalars. */

void pf_sodium_wipe_stack( void );

void pf_sodium_wipe_scalars( void );

#endif /* PF_SODIUM_H */
