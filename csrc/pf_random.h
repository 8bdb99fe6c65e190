/* SPDX-License-Identifier: MIT */
#ifndef PF_RANDOM_H
#define PF_RANDOM_H

/* pf_random.h: random bytes without a system call each time, and request
   ids.  Both live in pages that are empty in a forked child, which
   therefore draws its own: neither bytes nor ids ever repeat. */

#include "pf_base.h"

#define PF_ID_LEN 36        /* characters of a UUID */
#define PF_ID_PREFIX_LEN 24 /* the random part: "xxxxxxxx-xxxx-4xxx-axxx-" */

/* pf_random_open makes the pages; once, before the first thread that
   uses them.  Returns PF_OK or PF_ERR_MEMORY. */

int pf_random_open( void );

/* pf_random writes n unpredictable bytes, from a pool that libsodium's
   randombytes fills.  A byte handed out is wiped from the pool.  Safe
   from any thread.  Returns PF_OK or PF_ERR_UNBOUND. */

int pf_random( void *out, size_t n );

/* A request id is a version 4 UUID (RFC 9562): 74 random bits, the same
   for the whole process, then a number of 48 bits that counts up from a
   random start.

   pf_id_reserve takes `count` consecutive numbers, never handed out
   again in this process, and stores the first.  Returns PF_OK,
   PF_ERR_UNBOUND, or PF_ERR_ARGUMENT when count is 0 or all
   2^48 are spent. */

int pf_id_reserve( uint64_t *first, uint64_t count );

/* pf_id_write writes the PF_ID_LEN characters of a reserved number.
   PF_ERR_FORKED if this process has not reserved it: it is the parent's. */

int pf_id_write( pf_writer *w, uint64_t number );

#endif /* PF_RANDOM_H */
