/* SPDX-License-Identifier: MIT */
#ifndef PF_FUZZ_NAIVE_JSON_H
#define PF_FUZZ_NAIVE_JSON_H

/* naive_json.h: canonical JSON once more, from RFC 8259 and Python's
   documentation alone, by a tree of nodes and with no thought of speed:
   what the fuzzer compares pf_json.c with. */

#include <stddef.h>
#include <stdint.h>

/* naive_canonical returns the canonical form of text, allocated, and its
   length; NULL if it is to be refused. */

char *naive_canonical( const char *text, size_t len, int surrogates, size_t *out_len );

#endif /* PF_FUZZ_NAIVE_JSON_H */
