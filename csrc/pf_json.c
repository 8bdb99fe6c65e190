/* SPDX-License-Identifier: MIT */
#include "pf_json.h"

#include "pf_json_sort.h"
#include "pf_json_text.h"

/* Pass 1 checks the text by recursive descent (256 deep at most) and
   leaves an index in the workspace: a record for every object, in the
   order in which they open, and its members, sorted, in one block.
   Pass 2 writes: it walks the text, and at an object it jumps from
   member to member by the index.  Nothing that was written is moved, so
   depth costs nothing. */

typedef struct {
  uint32_t first; /* index of its block of members */
  uint32_t count;
  uint32_t end;  /* offset after the closing brace */
  uint32_t next; /* ordinal of the first object after this one */
} object;

typedef struct {
  const uint8_t  *text;
  const uint8_t  *end;
  object         *objects;
  pf_json_member *done;        /* members of closed objects, sorted */
  pf_json_member *stack;       /* members of open objects, in the order of the text */
  size_t          members_max; /* room in done and in stack */
  size_t          objects_max;
  uint32_t        objects_count;
  uint32_t        done_count;
  uint32_t        stack_count;
  uint32_t        depth;
  int             surrogates;
  int             error;
  const uint8_t  *trouble;
} reader;

/* fail notes the error and returns what every check_ function returns
   on error in place of the end of what it checked: NULL. */

static const uint8_t *
fail( reader *r, const uint8_t *at, int error ) {
  r->error   = error;
  r->trouble = at;
  return NULL;
}

/* Measuring */

/* COUNT_LEN bytes at once, so that a byte can count them and a compiler
   counts in vectors. */

#define COUNT_LEN 128

typedef struct {
  size_t colons;
  size_t braces;
  size_t dels;
  size_t highs;
} counts;

static inline void
count_block( counts *c, const uint8_t block[COUNT_LEN] ) {
  uint8_t colons = 0;
  uint8_t braces = 0;
  uint8_t dels   = 0;
  uint8_t highs  = 0;
  for( size_t i = 0; i < COUNT_LEN; i++ ) {
    colons = (uint8_t)( colons + ( block[i] == ':' ) );
    braces = (uint8_t)( braces + ( block[i] == '{' ) );
    dels   = (uint8_t)( dels + ( block[i] == 0x7f ) );
    highs  = (uint8_t)( highs + ( block[i] >> 7 ) );
  }
  c->colons += colons;
  c->braces += braces;
  c->dels += dels;
  c->highs += highs;
}

/* see pf_json.h */

void
pf_json_measure( const char *text, size_t len, pf_json_size_t *size ) {
  const uint8_t *p               = (const uint8_t *)text;
  counts         c               = { 0, 0, 0, 0 };
  uint8_t        last[COUNT_LEN] = { 0 };
  size_t         left            = len;
  for( ; left >= COUNT_LEN; left -= COUNT_LEN ) {
    count_block( &c, p );
    p += COUNT_LEN;
  }
  if( left ) {
    memcpy( last, p, left );
    count_block( &c, last );
  }
  /* DEL becomes six bytes.  So do a character of two bytes and one of
     three; one of four becomes twelve. */
  size->members = c.colons;
  size->objects = c.braces;
  size->output  = len + 5 * c.dels + 2 * c.highs;
}

/* see pf_json.h */

size_t
pf_json_work_sz( const pf_json_size_t *size ) {
  size_t const member_sz = 2 * sizeof( pf_json_member ); /* one in `done`, one in `stack` */
  size_t const quarter   = SIZE_MAX / 4;
  if( size->members > quarter / member_sz || size->objects > quarter / sizeof( object ) ) {
    return 0;
  }
  return PF_JSON_WORK_MIN_SZ + size->members * member_sz + size->objects * sizeof( object );
}

/* Pass 1: check and index */

static const uint8_t *check_value( reader *r, const uint8_t *p );

/* check_escape starts at the backslash. */

static inline const uint8_t *
check_escape( reader *r, const uint8_t *p ) {
  size_t const left = (size_t)( r->end - p );
  if( left < 2 ) {
    return fail( r, r->end, PF_ERR_JSON_END );
  }
  if( PF_LIKELY( p[1] == 'u' && left >= 6 ) ) {
    return PF_LIKELY( hex4_decode( p + 2 ) < 0x10000 ) ? p + 6 : fail( r, p, PF_ERR_JSON_ESCAPE );
  }
  switch( p[1] ) {
  case '"':
  case '\\':
  case '/':
  case 'b':
  case 'f':
  case 'n':
  case 'r':
  case 't': return p + 2;
  case 'u':
    for( size_t i = 2; i < left; i++ ) {
      if( !hex_digits[p[i]] ) {
        return fail( r, p, PF_ERR_JSON_ESCAPE );
      }
    }
    return fail( r, r->end, PF_ERR_JSON_END );
  default: return fail( r, p, PF_ERR_JSON_ESCAPE );
  }
}

/* check_string starts after the opening quote. */

static const uint8_t *
check_string( reader *r, const uint8_t *p ) {
  for( ;; ) {
    p = skip_plain( p, r->end );
    /* One special character is often followed by another. */
    for( ; p < r->end; ) {
      size_t len = 1;
      if( *p >= 0x80 ) {
        len = check_utf8( p, r->end, r->surrogates );
        if( PF_UNLIKELY( !len ) ) {
          return fail( r, p, PF_ERR_JSON_UTF8 );
        }
      } else if( *p == '"' ) {
        return p + 1;
      } else if( *p == '\\' ) {
        const uint8_t *const after = check_escape( r, p );
        if( PF_UNLIKELY( !after ) ) {
          return NULL;
        }
        len = (size_t)( after - p );
      } else if( PF_UNLIKELY( *p < 0x20 ) ) {
        return fail( r, p, PF_ERR_JSON_CONTROL );
      } else if( *p != 0x7f ) {
        break;
      }
      p += len;
    }
    if( PF_UNLIKELY( p == r->end ) ) {
      return fail( r, p, PF_ERR_JSON_END );
    }
  }
}

static const uint8_t *
check_literal( reader *r, const uint8_t *p, const char *literal, size_t len ) {
  size_t const left = (size_t)( r->end - p );
  if( memcmp( p, literal, left < len ? left : len ) != 0 ) {
    return fail( r, p, PF_ERR_JSON_VALUE );
  }
  return left < len ? fail( r, r->end, PF_ERR_JSON_END ) : p + len;
}

static const uint8_t *
check_nan( reader *r, const uint8_t *p, const char *literal, size_t len ) {
  return check_literal( r, p, literal, len ) ? fail( r, p, PF_ERR_JSON_NAN ) : NULL;
}

static inline int
is_digit( uint8_t c ) {
  return (uint8_t)( c - '0' ) < 10;
}

static const uint8_t *
check_number( reader *r, const uint8_t *p ) {
  const uint8_t *const start  = p;
  const uint8_t *const digits = p + ( *p == '-' );
  for( p = digits; p < r->end && is_digit( *p ); ) {
    p++;
  }
  if( p == digits ) {
    if( p == r->end ) {
      return fail( r, p, PF_ERR_JSON_END );
    }
    return *p == 'I' ? check_nan( r, start, "-Infinity", 9 ) : fail( r, start, PF_ERR_JSON_NUMBER );
  }
  if( *digits == '0' && p - digits > 1 ) {
    return fail( r, start, PF_ERR_JSON_NUMBER );
  }
  if( p < r->end && ( *p == '.' || *p == 'e' || *p == 'E' ) ) {
    return fail( r, start, PF_ERR_JSON_FRACTION );
  }
  return p - digits > PF_JSON_DIGITS_MAX ? fail( r, start, PF_ERR_JSON_DIGITS ) : p;
}

/* check_next starts after an element of an array or a member: at a
   comma it skips it and the space that follows; at `close` it stays. */

static inline const uint8_t *
check_next( reader *r, const uint8_t *p, uint8_t close ) {
  p = skip_space( p, r->end );
  if( PF_UNLIKELY( p == r->end ) ) {
    return fail( r, p, PF_ERR_JSON_END );
  }
  if( *p == ',' ) {
    p = skip_space( p + 1, r->end );
    /* A comma promises one more. */
    return p < r->end && *p == close ? fail( r, p, close == '}' ? PF_ERR_JSON_KEY : PF_ERR_JSON_VALUE ) : p;
  }
  return *p == close ? p : fail( r, p, PF_ERR_JSON_COMMA );
}

static const uint8_t *
check_array( reader *r, const uint8_t *p ) {
  p = skip_space( p + 1, r->end );
  while( p && ( p == r->end || *p != ']' ) ) {
    p = check_value( r, p );
    p = p ? check_next( r, p, ']' ) : NULL;
  }
  return p ? p + 1 : NULL;
}

/* check_member pushes itself once its colon is seen, so that there are
   never more members than pf_json_measure counted colons. */

static const uint8_t *
check_member( reader *r, const uint8_t *p ) {
  if( p == r->end || *p != '"' ) {
    return fail( r, p, p == r->end ? PF_ERR_JSON_END : PF_ERR_JSON_KEY );
  }
  uint32_t const key = (uint32_t)( p + 1 - r->text );
  p                  = check_string( r, p + 1 );
  p                  = p ? skip_space( p, r->end ) : NULL;
  if( !p ) {
    return NULL;
  }
  if( p == r->end || *p != ':' ) {
    return fail( r, p, p == r->end ? PF_ERR_JSON_END : PF_ERR_JSON_COLON );
  }
  if( PF_UNLIKELY( r->done_count + r->stack_count >= r->members_max ) ) {
    return fail( r, p, PF_ERR_CAPACITY );
  }
  r->stack[r->stack_count++] = ( pf_json_member ){ 0, key, key, r->objects_count, 0 };
  return check_value( r, skip_space( p + 1, r->end ) );
}

static const uint8_t *
check_object( reader *r, const uint8_t *p ) {
  if( PF_UNLIKELY( r->objects_count >= r->objects_max ) ) {
    return fail( r, p, PF_ERR_CAPACITY );
  }
  object *const  o    = &r->objects[r->objects_count++];
  uint32_t const base = r->stack_count;
  p                   = skip_space( p + 1, r->end );
  while( p && ( p == r->end || *p != '}' ) ) {
    p = check_member( r, p );
    p = p ? check_next( r, p, '}' ) : NULL;
  }
  if( !p ) {
    return NULL;
  }
  p++;
  *o = ( object ){ r->done_count, r->stack_count - base, (uint32_t)( p - r->text ), r->objects_count };
  memcpy( r->done + o->first, r->stack + base, o->count * sizeof( pf_json_member ) );
  r->done_count += o->count;
  r->stack_count = base;
  if( o->count > 1 ) {
    uint32_t const twice = pf_json_sort( r->done + o->first, o->count, r->stack + base, r->text, r->end );
    if( twice != PF_JSON_UNIQUE ) {
      return fail( r, r->text + twice - 1, PF_ERR_JSON_DUPLICATE );
    }
  }
  return p;
}

/* check_value starts at the value, no space before it. */

static const uint8_t *
check_value( reader *r, const uint8_t *p ) {
  if( PF_UNLIKELY( p == r->end ) ) {
    return fail( r, p, r->depth ? PF_ERR_JSON_END : PF_ERR_JSON_VALUE );
  }
  switch( *p ) {
  case '"': return check_string( r, p + 1 );
  case '{':
  case '[':
    if( r->depth == PF_JSON_DEPTH_MAX ) {
      return fail( r, p, PF_ERR_JSON_DEPTH );
    }
    r->depth++;
    p = *p == '{' ? check_object( r, p ) : check_array( r, p );
    r->depth--;
    return p;
  case 't': return check_literal( r, p, "true", 4 );
  case 'f': return check_literal( r, p, "false", 5 );
  case 'n': return check_literal( r, p, "null", 4 );
  case 'N': return check_nan( r, p, "NaN", 3 );
  case 'I': return check_nan( r, p, "Infinity", 8 );
  default: return *p == '-' || is_digit( *p ) ? check_number( r, p ) : fail( r, p, PF_ERR_JSON_VALUE );
  }
}

static int
check_text( reader *r ) {
  const uint8_t *p = r->text;
  if( r->end - p >= 3 && memcmp( p, "\xef\xbb\xbf", 3 ) == 0 ) {
    fail( r, p, PF_ERR_JSON_BOM );
    return r->error;
  }
  p = check_value( r, skip_space( p, r->end ) );
  p = p ? skip_space( p, r->end ) : NULL;
  if( p && p < r->end ) {
    fail( r, p, PF_ERR_JSON_TRAILING );
  }
  return r->error;
}

/* Pass 2: write.  The text is known to be valid here. */

typedef struct {
  pf_writer    *w;
  const reader *r;
  uint32_t      ordinal; /* of the next object in the text */
} emitter;

static const char hex_pairs[] = /* 00 to ff */
    "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
    "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"
    "404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f"
    "606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f"
    "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f"
    "a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf"
    "c0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedf"
    "e0e1e2e3e4e5e6e7e8e9eaebecedeeeff0f1f2f3f4f5f6f7f8f9fafbfcfdfeff";

/* emit_unit writes \uxxxx. */

static inline void
emit_unit( pf_writer *w, uint32_t unit ) {
  char *room = pf_reserve( w, 6 );
  if( PF_LIKELY( room != NULL ) ) {
    memcpy( room, "\\u", 2 );
    memcpy( room + 2, hex_pairs + (size_t)2 * ( unit >> 8 ), 2 );
    memcpy( room + 4, hex_pairs + (size_t)2 * ( unit & 0xff ), 2 );
  }
}

/* emit_escape writes the valid escape at p as Python would and returns
   its end.  Surrogates need no joining: a pair is written as two. */

static inline const uint8_t *
emit_escape( pf_writer *w, const uint8_t *p ) {
  static const char short_form[] = "btn\vfr"; /* from \b on */
  size_t            len;
  uint32_t const    unit = escape_decode( p, &len );
  if( unit == '"' || unit == '\\' ) {
    char const escape[2] = { '\\', (char)unit };
    pf_put( w, escape, 2 );
  } else if( unit >= '\b' && unit <= '\r' && unit != '\v' ) {
    char const escape[2] = { '\\', short_form[unit - '\b'] };
    pf_put( w, escape, 2 );
  } else if( unit < 0x20 || unit > 0x7e ) {
    emit_unit( w, unit );
  } else {
    char const plain = (char)unit;
    pf_put( w, &plain, 1 );
  }
  return p + len;
}

static inline const uint8_t *
emit_wide( pf_writer *w, const uint8_t *p ) {
  size_t         len;
  uint32_t const c = utf8_decode( p, &len );
  if( c < 0x10000 ) {
    emit_unit( w, c );
  } else {
    emit_unit( w, 0xd7c0 + ( c >> 10 ) );
    emit_unit( w, 0xdc00 + ( c & 0x3ff ) );
  }
  return p + len;
}

/* emit_plain copies up to the next special character.  Whole blocks go
   out before they are looked at, where there is room for one. */

static inline const uint8_t *
emit_plain( pf_writer *w, const uint8_t *p, const uint8_t *end ) {
  char *at = w->at;
  while( end - p >= BLOCK_LEN && w->end - at >= BLOCK_LEN ) {
    unsigned const mask = special_mask( p );
    memcpy( at, p, BLOCK_LEN );
    if( mask ) {
      w->at = at + lowest_bit( mask );
      return p + lowest_bit( mask );
    }
    p += BLOCK_LEN;
    at += BLOCK_LEN;
  }
  w->at                    = at;
  const uint8_t *const run = p;
  p                        = skip_plain( p, end );
  pf_put( w, run, (size_t)( p - run ) );
  return p;
}

/* emit_string starts after the opening quote. */

static const uint8_t *
emit_string( const emitter *e, const uint8_t *p ) {
  /* A copy: stores through a char pointer cannot change it. */
  pf_writer w = *e->w;
  PF_PUT_LIT( &w, "\"" );
  for( ;; ) {
    p = emit_plain( &w, p, e->r->end );
    for( ;; ) {
      if( *p >= 0x80 ) {
        p = emit_wide( &w, p );
      } else if( *p == '\\' ) {
        p = emit_escape( &w, p );
      } else if( *p == 0x7f ) {
        emit_unit( &w, *p++ );
      } else {
        break;
      }
    }
    if( *p == '"' ) {
      PF_PUT_LIT( &w, "\"" );
      *e->w = w;
      return p + 1;
    }
  }
}

static const uint8_t *
emit_number( const emitter *e, const uint8_t *p ) {
  const uint8_t *const start = p;
  do {
    p++;
  } while( p < e->r->end && is_digit( *p ) );
  if( p - start == 2 && start[0] == '-' && start[1] == '0' ) {
    PF_PUT_LIT( e->w, "0" );
  } else {
    pf_put( e->w, start, (size_t)( p - start ) );
  }
  return p;
}

static const uint8_t *emit_value( emitter *e, const uint8_t *p );

static const uint8_t *
emit_array( emitter *e, const uint8_t *p ) {
  const uint8_t *const end = e->r->end;
  PF_PUT_LIT( e->w, "[" );
  for( p = skip_space( p + 1, end ); *p != ']'; ) {
    if( *p == ',' ) {
      PF_PUT_LIT( e->w, "," );
      p = skip_space( p + 1, end );
    }
    p = skip_space( emit_value( e, p ), end );
  }
  PF_PUT_LIT( e->w, "]" );
  return p + 1;
}

static const uint8_t *
emit_object( emitter *e ) {
  const reader *const r = e->r;
  const object *const o = &r->objects[e->ordinal];
  PF_PUT_LIT( e->w, "{" );
  for( uint32_t i = 0; i < o->count; i++ ) {
    const pf_json_member *const m = &r->done[o->first + i];
    if( i ) {
      PF_PUT_LIT( e->w, "," );
    }
    const uint8_t *const colon = skip_space( emit_string( e, r->text + m->key ), r->end );
    PF_PUT_LIT( e->w, ":" );
    e->ordinal = m->ordinal;
    emit_value( e, skip_space( colon + 1, r->end ) );
  }
  PF_PUT_LIT( e->w, "}" );
  e->ordinal = o->next;
  return r->text + o->end;
}

static const uint8_t *
emit_value( emitter *e, const uint8_t *p ) {
  switch( *p ) {
  case '"': return emit_string( e, p + 1 );
  case '{': return emit_object( e );
  case '[': return emit_array( e, p );
  case 't': PF_PUT_LIT( e->w, "true" ); return p + 4;
  case 'f': PF_PUT_LIT( e->w, "false" ); return p + 5;
  case 'n': PF_PUT_LIT( e->w, "null" ); return p + 4;
  default: return emit_number( e, p );
  }
}

/* Both passes */

/* lay_out gives the workspace to the reader: members first, it is they
   that need the alignment.  Without a workspace there is room for no
   object, and nothing to count. */

static int
lay_out( reader *r, void *work, size_t work_sz ) {
  pf_json_size_t size;
  if( work_sz <= PF_JSON_WORK_MIN_SZ ) {
    return PF_OK;
  }
  pf_json_measure( (const char *)r->text, (size_t)( r->end - r->text ), &size );
  size_t const needed = pf_json_work_sz( &size );
  if( !needed || work_sz < needed ) {
    return PF_ERR_CAPACITY;
  }
  r->done        = work;
  r->stack       = r->done + size.members;
  r->objects     = (object *)( r->stack + size.members );
  r->members_max = size.members;
  r->objects_max = size.objects;
  return PF_OK;
}

/* see pf_json.h */

int64_t
pf_json_canonical(
    pf_writer *w, const char *text, size_t len, int surrogates, void *work, size_t work_sz, size_t *position ) {
  *position = 0;
  if( (uint64_t)len > UINT32_MAX ) {
    *position = UINT32_MAX;
    return PF_ERR_JSON_LENGTH;
  }
  if( !len ) {
    return PF_ERR_JSON_VALUE;
  }
  reader r = { .text = (const uint8_t *)text, .end = (const uint8_t *)text + len, .surrogates = surrogates };
  if( lay_out( &r, work, work_sz ) != PF_OK ) {
    return PF_ERR_CAPACITY;
  }
  if( check_text( &r ) != PF_OK ) {
    *position = (size_t)( r.trouble - r.text );
    return r.error;
  }
  emitter           e     = { w, &r, 0 };
  const char *const start = w->at;
  emit_value( &e, skip_space( r.text, r.end ) );
  return w->full ? PF_ERR_CAPACITY : (int64_t)( w->at - start );
}
