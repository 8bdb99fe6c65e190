/* SPDX-License-Identifier: MIT */
#ifndef PF_JSON_SORT_H
#define PF_JSON_SORT_H

/* pf_json_sort.h: the members of an object in the order of their keys, by
   code point, without comparing any two keys as a whole. */

#include "pf_base.h"

/* A member's chunk is seven bytes of its decoded key as UTF-8
   (surrogates as three bytes each), first byte on top, zero padded, and
   in the lowest byte how many of the seven there are.  Comparing chunks
   as numbers compares keys by code point; a count below seven says that
   the key ends here.  All offsets are into the text. */

typedef struct {
  uint64_t chunk;
  uint32_t key;     /* the first byte inside the quotes */
  uint32_t cursor;  /* what comes after the chunk; initially `key` */
  uint32_t ordinal; /* the caller's own */
  uint32_t leads;   /* 1 if it is known to be greater than the one before */
} pf_json_member;

#define PF_JSON_UNIQUE UINT32_MAX

/* pf_json_sort sorts count >= 1 members of a checked text that ends at
   end.  spare is as big as members.  Returns PF_JSON_UNIQUE, or, if keys
   stand twice, the `key` of the first in the text that does so. */

uint32_t pf_json_sort(
    pf_json_member *members, size_t count, pf_json_member *spare, const uint8_t *text, const uint8_t *end );

#endif /* PF_JSON_SORT_H */
