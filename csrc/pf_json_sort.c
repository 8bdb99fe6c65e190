/* SPDX-License-Identifier: MIT */
#include "pf_json_sort.h"

#include "pf_json_text.h"

#define CHUNK_LEN 7

/* The text that the keys are in. */

typedef struct {
  const uint8_t *text;
  const uint8_t *end;
} keys;

/* chunk_decode fills m->chunk from m->cursor on and moves the cursor.  A
   character of which the chunk holds only the beginning is read again
   with the next chunk: where keys agree in a chunk they agree about
   that, too. */

static void
chunk_decode( pf_json_member *m, const uint8_t *text ) {
  const uint8_t *p     = text + m->cursor;
  uint64_t       chunk = 0;
  size_t         count = 0;
  while( count < CHUNK_LEN && *p != '"' ) {
    size_t         consumed;
    size_t         len;
    uint64_t const bytes = utf8_encode( char_decode( p, &consumed ), &len );
    chunk |= bytes << 32 >> ( 8 * count );
    count += len;
    p += count > CHUNK_LEN ? 0 : consumed;
  }
  count     = count < CHUNK_LEN ? count : CHUNK_LEN;
  m->chunk  = ( chunk & ~UINT64_C( 0xff ) ) | count;
  m->cursor = (uint32_t)( p - text );
}

/* chunk_load is chunk_decode, quick where there is no escape. */

static inline void
chunk_load( pf_json_member *m, const keys *k ) {
  const uint8_t *p = k->text + m->cursor;
  if( PF_UNLIKELY( k->end - p < 8 ) ) {
    chunk_decode( m, k->text );
    return;
  }
  uint64_t const x     = load_be64( p );
  uint64_t const stops = ( zero_bytes( x ^ ONES * '"' ) | zero_bytes( x ^ ONES * '\\' ) ) >> 8;
  size_t         count = CHUNK_LEN;
  if( stops ) {
    for( count = 0; p[count] != '"'; count++ ) {
      if( p[count] == '\\' ) {
        chunk_decode( m, k->text );
        return;
      }
    }
  }
  m->chunk = ( x & ~( UINT64_MAX >> ( 8 * count ) ) ) | count;
  while( is_continuation( p[count] ) ) {
    count--;
  }
  m->cursor += (uint32_t)count;
}

static int
chunks_ascend( const pf_json_member *m, size_t count ) {
  for( size_t i = 1; i < count; i++ ) {
    if( m[i].chunk < m[i - 1].chunk ) {
      return 0;
    }
  }
  return 1;
}

static void
insertion_sort( pf_json_member *m, size_t count ) {
  for( size_t i = 1; i < count; i++ ) {
    pf_json_member const moving = m[i];
    size_t               j      = i;
    for( ; j > 0 && moving.chunk < m[j - 1].chunk; j-- ) {
      m[j] = m[j - 1];
    }
    m[j] = moving;
  }
}

/* radix_sort sorts m by chunk, stably, from the lowest byte to the
   highest; a byte that is the same in all chunks, as most are, costs
   nothing.  spare is as big as m. */

#define CHUNK_SZ 8

static void
radix_sort( pf_json_member *m, size_t count, pf_json_member *spare ) {
  uint32_t        places[CHUNK_SZ][256] = { { 0 } };
  pf_json_member *from                  = m;
  pf_json_member *to                    = spare;
  for( size_t i = 0; i < count; i++ ) {
    for( unsigned byte = 0; byte < CHUNK_SZ; byte++ ) {
      places[byte][m[i].chunk >> ( 8 * byte ) & 0xff]++;
    }
  }
  for( unsigned byte = 0; byte < CHUNK_SZ; byte++ ) {
    uint32_t *const place = places[byte];
    if( place[m[0].chunk >> ( 8 * byte ) & 0xff] == count ) {
      continue;
    }
    uint32_t next = 0;
    for( size_t v = 0; v < 256; v++ ) {
      uint32_t const n = place[v];
      place[v]         = next;
      next += n;
    }
    for( size_t i = 0; i < count; i++ ) {
      to[place[from[i].chunk >> ( 8 * byte ) & 0xff]++] = from[i];
    }
    pf_json_member *const swap = from;
    from                       = to;
    to                         = swap;
  }
  if( from != m ) {
    memcpy( m, spare, count * sizeof( pf_json_member ) );
  }
}

#define FEW 48 /* members that are sorted sooner by insertion */

/* sort_group sorts m by the chunk at the cursors, and marks with `leads`
   the first of those with equal chunks.  Nobody asks that of m[0]. */

static void
sort_group( const keys *k, pf_json_member *m, size_t count, pf_json_member *spare ) {
  for( size_t i = 0; i < count; i++ ) {
    chunk_load( &m[i], k );
  }
  if( !chunks_ascend( m, count ) ) {
    if( count < FEW ) {
      insertion_sort( m, count );
    } else {
      radix_sort( m, count, spare );
    }
  }
  for( size_t i = 1; i < count; i++ ) {
    m[i].leads = m[i].chunk != m[i - 1].chunk;
  }
}

/* skip_common moves the cursors of m over text that is the same in all
   keys, but not over all of it: as far as one window reaches, so that
   what is looked at past the end of a key is bounded.  Every key is then
   read once through, not seven bytes here and seven bytes there. */

#define WINDOW_LEN 256
#define PAIR_LEN 12 /* \ud83d\ude00 */

static void
skip_common( const keys *k, pf_json_member *m, size_t count ) {
  const uint8_t *const first  = k->text + m[0].cursor;
  size_t               common = WINDOW_LEN;
  for( size_t i = 1; i < count; i++ ) {
    const uint8_t *const other = k->text + m[i].cursor;
    const uint8_t *const later = other > first ? other : first;
    size_t const         left  = (size_t)( k->end - later );
    common                     = common < left ? common : left;
    size_t same                = 0;
    while( same + 8 <= common && load_be64( first + same ) == load_be64( other + same ) ) {
      same += 8;
    }
    common = same + 8 <= common ? same : common & ~(size_t)7;
    if( common < (size_t)2 * PAIR_LEN ) {
      return;
    }
  }
  /* Whole characters only, and not past the closing quote.  To tell a
     character can take the whole of a pair of escapes. */
  size_t at = 0;
  while( at + PAIR_LEN <= common && first[at] != '"' ) {
    size_t len;
    char_decode( first + at, &len );
    at += len;
  }
  for( size_t i = 0; i < count; i++ ) {
    m[i].cursor += (uint32_t)at;
  }
}

/* see pf_json_sort.h: members that agree in their first chunk are sorted
   by the next one, and so on, so that no byte of a key is read twice. */

uint32_t
pf_json_sort(
    pf_json_member *members, size_t count, pf_json_member *spare, const uint8_t *text, const uint8_t *end ) {
  keys const      k     = { text, end };
  pf_json_member *m     = members;
  uint32_t        twice = PF_JSON_UNIQUE;
  sort_group( &k, m, count, spare );
  for( size_t i = 0; i + 1 < count; ) {
    size_t group_end = i + 1;
    while( group_end < count && !m[group_end].leads ) {
      group_end++;
    }
    if( group_end - i == 1 ) {
      i = group_end;
    } else if( ( m[i].chunk & 0xff ) == CHUNK_LEN ) {
      skip_common( &k, m + i, group_end - i );
      sort_group( &k, m + i, group_end - i, spare );
    } else {
      twice = m[i + 1].key < twice ? m[i + 1].key : twice;
      i     = group_end;
    }
  }
  return twice;
}
