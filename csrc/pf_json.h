/* SPDX-License-Identifier: MIT */
#ifndef PF_JSON_H
#define PF_JSON_H

/* pf_json.h: canonical JSON.  Any JSON text in; out come the bytes that
   Python's json.dumps(v, sort_keys=True, separators=(",", ":")) writes
   for v = json.loads(text): keys sorted by code point at every depth,
   compact, ASCII.  That is what Pacifica's official SDK signs.

   The text is read twice: once to check it and to sort the members of
   every object in the workspace, once to write.  Both are linear but
   for the sort, n log n in the members of one object. */

#include "pf_base.h"

#define PF_JSON_DEPTH_MAX 256   /* arrays and objects inside each other */
#define PF_JSON_DIGITS_MAX 4300 /* Python's sys.get_int_max_str_digits() */

/* PF_JSON_WORK_MIN_SZ is the workspace that a text without objects
   needs: not a byte of it is used. */

#define PF_JSON_WORK_MIN_SZ 8

/* pf_json_size_t is what a text can need at most: counted, not guessed,
   in one quick pass by pf_json_measure, which accepts any bytes. */

typedef struct {
  size_t members; /* key and value pairs, all objects together */
  size_t objects;
  size_t output; /* bytes of canonical text */
} pf_json_size_t;

void pf_json_measure( const char *text, size_t len, pf_json_size_t *size );

/* pf_json_work_sz returns the bytes of workspace that a text of this
   size needs, PF_JSON_WORK_MIN_SZ at least; 0 if that number does not
   fit a size_t. */

size_t pf_json_work_sz( const pf_json_size_t *size );

/* pf_json_canonical appends the canonical form of text to w.  work is
   pf_json_work_sz bytes or more, aligned to 8, only read and written
   during the call; a workspace too small for the text is
   PF_ERR_CAPACITY, never an overrun.  surrogates is 1 if text may hold
   surrogates encoded as three bytes (a Python str encoded with
   "surrogatepass"), else such bytes are PF_ERR_JSON_UTF8; each stands
   for itself, two in a row are not a pair.  Returns the bytes appended,
   or a negative code.  Nothing is written unless the whole text is
   valid.

   On error *position is the offset in text of the trouble:

     CAPACITY         unspecified, of no use
     END              len: something must follow
     VALUE            where a value should start; len if there is no text
                      at all; after a comma, the bracket that closes
     KEY              where a key should start; after a comma, the brace
     COLON COMMA      what stands in their place
     CONTROL UTF8     the byte, the first byte of the sequence
     ESCAPE           its backslash
     BOM              0
     TRAILING         the first byte after the value that is not space
     DUPLICATE        the quote that opens the second of the two keys;
                      of several such keys the first in the text
     NUMBER FRACTION DIGITS NAN  the first byte of the number
     DEPTH            the bracket that is one too many
     LENGTH           UINT32_MAX, the first offset that cannot be

   The first trouble in the text is reported; a duplicate shows only when
   its object closes. */

int64_t pf_json_canonical(
    pf_writer *w, const char *text, size_t len, int surrogates, void *work, size_t work_sz, size_t *position );

#endif /* PF_JSON_H */
