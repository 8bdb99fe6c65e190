/* SPDX-License-Identifier: MIT */
#ifndef PF_BASE58_H
#define PF_BASE58_H

/* pf_base58.h: base58 with the Bitcoin alphabet, as Solana and Pacifica
   write keys and signatures.  A leading zero byte is a leading '1'.

   Private keys come in as base58, and none ever goes out.  So decoding
   is branch-free: nothing but the length of the text shows in its time
   or its memory accesses.  Encoding is for public values, and is not. */

#include "pf_base.h"

#define PF_BASE58_32_MAX_LEN 44  /* ceil( 32 * log(256) / log(58) ) */
#define PF_BASE58_64_MAX_LEN 88  /* ceil( 64 * log(256) / log(58) ) */
#define PF_BASE58_DECODE_MAX 128 /* characters that pf_base58_decode takes */

/* pf_base58_put appends the base58 of n bytes, n being 32 or 64: 32 to
   PF_BASE58_32_MAX_LEN, or 64 to PF_BASE58_64_MAX_LEN characters.
   Returns PF_OK or, for any other n, PF_ERR_ARGUMENT; running out of
   room shows in w. */

int pf_base58_put( pf_writer *w, const uint8_t *bytes, size_t n );

/* pf_base58_decode decodes any text of at most PF_BASE58_DECODE_MAX
   characters and returns how many bytes it wrote.  PF_ERR_BASE58 for a
   character outside the alphabet, PF_ERR_ARGUMENT for a longer text,
   PF_ERR_CAPACITY if out is too small. */

int64_t pf_base58_decode( uint8_t *out, size_t cap, const char *text, size_t len );

/* pf_base58_decode_exact decodes a text that must stand for exactly n
   bytes, n being a multiple of 4 up to 64.  Fit for secrets: time and
   memory access depend on len and n alone.  Returns PF_OK;
   PF_ERR_BASE58, with out zeroed; or PF_ERR_ARGUMENT for any other n,
   with out untouched. */

int pf_base58_decode_exact( uint8_t *out, size_t n, const char *text, size_t len );

#endif /* PF_BASE58_H */
