/* SPDX-License-Identifier: MIT */
#include "naive_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 256
#define DIGITS_MAX 4300

typedef enum { LITERAL, STRING, ARRAY, OBJECT } node_kind;

/* A literal is its text, one character for each code point; of an object
   the members alternate, name and value. */

typedef struct node node;

struct node {
  node_kind kind;
  uint32_t *points;
  size_t    point_count;
  node    **members;
  size_t    member_count;
};

typedef struct {
  const uint8_t *at;
  const uint8_t *end;
  int            surrogates;
} reader;

static void *
grown( void *block, size_t count, size_t each ) {
  void *larger = realloc( block, ( count + 1 ) * each );
  if( !larger ) {
    abort();
  }
  return larger;
}

static node *
new_node( node_kind kind ) {
  node *n = calloc( 1, sizeof( node ) );
  if( !n ) {
    abort();
  }
  n->kind = kind;
  return n;
}

static void
free_node( node *n ) {
  if( n ) {
    for( size_t i = 0; i < n->member_count; i++ ) {
      free_node( n->members[i] );
    }
    free( n->members );
    free( n->points );
    free( n );
  }
}

static void
add_point( node *n, uint32_t point ) {
  n->points                   = grown( n->points, n->point_count, sizeof( uint32_t ) );
  n->points[n->point_count++] = point;
}

static void
add_member( node *n, node *member ) {
  n->members                    = grown( n->members, n->member_count, sizeof( node                    *) );
  n->members[n->member_count++] = member;
}

/* Reading.  A NULL or a 0 says: to be refused. */

static int
peek( const reader *r ) {
  return r->at < r->end ? *r->at : -1;
}

static void
skip_space( reader *r ) {
  while( peek( r ) == ' ' || peek( r ) == '\t' || peek( r ) == '\n' || peek( r ) == '\r' ) {
    r->at++;
  }
}

static int
take( reader *r, const char *word ) {
  size_t const len = strlen( word );
  if( (size_t)( r->end - r->at ) < len || memcmp( r->at, word, len ) != 0 ) {
    return 0;
  }
  r->at += len;
  return 1;
}

/* One code point of UTF-8 as Unicode's table 3-7 has it. */

static int
take_utf8( reader *r, uint32_t *point ) {
  static uint32_t const least[] = { 0, 0x80, 0x800, 0x10000 };
  uint32_t const        first   = *r->at++;
  int                   more;
  if( first < 0x80 ) {
    *point = first;
    return 1;
  }
  if( first >= 0xc0 && first < 0xe0 ) {
    more   = 1;
    *point = first & 0x1f;
  } else if( first >= 0xe0 && first < 0xf0 ) {
    more   = 2;
    *point = first & 0x0f;
  } else if( first >= 0xf0 && first < 0xf8 ) {
    more   = 3;
    *point = first & 0x07;
  } else {
    return 0;
  }
  for( int i = 0; i < more; i++ ) {
    if( peek( r ) < 0x80 || peek( r ) > 0xbf ) {
      return 0;
    }
    *point = *point << 6 | ( *r->at++ & 0x3f );
  }
  int const surrogate = *point >= 0xd800 && *point <= 0xdfff;
  return *point >= least[more] && *point <= 0x10ffff && ( !surrogate || r->surrogates );
}

static int
take_hex( reader *r, uint32_t *value ) {
  *value = 0;
  for( int i = 0; i < 4; i++ ) {
    int const c = peek( r );
    if( c >= '0' && c <= '9' ) {
      *value = *value * 16 + (uint32_t)( c - '0' );
    } else if( c >= 'a' && c <= 'f' ) {
      *value = *value * 16 + (uint32_t)( c - 'a' + 10 );
    } else if( c >= 'A' && c <= 'F' ) {
      *value = *value * 16 + (uint32_t)( c - 'A' + 10 );
    } else {
      return 0;
    }
    r->at++;
  }
  return 1;
}

/* What follows a backslash.  Two halves of a pair, both as escapes, are
   one character; all others stand for themselves. */

static int
take_escape( reader *r, uint32_t *point ) {
  static char const names[]  = "\"\\/bfnrt";
  static char const values[] = "\"\\/\b\f\n\r\t";
  int const         c        = peek( r );
  const char       *name     = c > 0 ? strchr( names, c ) : NULL;
  r->at++;
  if( name ) {
    *point = (uint32_t)values[name - names];
    return 1;
  }
  if( c != 'u' || !take_hex( r, point ) ) {
    return 0;
  }
  if( *point >= 0xd800 && *point < 0xdc00 ) {
    reader   ahead = *r;
    uint32_t low   = 0;
    if( take( &ahead, "\\u" ) && take_hex( &ahead, &low ) && low >= 0xdc00 && low < 0xe000 ) {
      *point = 0x10000 + ( ( *point - 0xd800 ) << 10 ) + ( low - 0xdc00 );
      *r     = ahead;
    }
  }
  return 1;
}

static node *
refused( node *n ) {
  free_node( n );
  return NULL;
}

static node *
take_string( reader *r ) {
  node *n = new_node( STRING );
  r->at++;
  for( ;; ) {
    uint32_t  point = 0;
    int const c     = peek( r );
    if( c < 0x20 ) {
      return refused( n );
    }
    if( c == '"' ) {
      r->at++;
      return n;
    }
    if( c == '\\' ) {
      r->at++;
      if( peek( r ) < 0 || !take_escape( r, &point ) ) {
        return refused( n );
      }
    } else if( !take_utf8( r, &point ) ) {
      return refused( n );
    }
    add_point( n, point );
  }
}

static int
is_digit( int c ) {
  return c >= '0' && c <= '9';
}

static node *
take_number( reader *r ) {
  node  *n      = new_node( LITERAL );
  size_t digits = 0;
  int    minus  = 0;
  if( peek( r ) == '-' ) {
    minus = 1;
    r->at++;
  }
  int const zero = peek( r ) == '0';
  if( minus && !zero ) {
    add_point( n, '-' ); /* minus zero is zero */
  }
  while( is_digit( peek( r ) ) && !( zero && digits ) ) {
    add_point( n, *r->at++ );
    digits++;
  }
  int const c = peek( r );
  if( !digits || digits > DIGITS_MAX || is_digit( c ) || c == '.' || c == 'e' || c == 'E' ) {
    return refused( n );
  }
  return n;
}

static node *
take_literal( reader *r ) {
  static const char *const words[] = { "true", "false", "null" };
  for( size_t i = 0; i < 3; i++ ) {
    if( take( r, words[i] ) ) {
      node *n = new_node( LITERAL );
      for( const char *c = words[i]; *c; c++ ) {
        add_point( n, (uint32_t)*c );
      }
      return n;
    }
  }
  return take_number( r );
}

static node *take_value( reader *r, int depth );

static int
same_name( const node *a, const node *b ) {
  return a->point_count == b->point_count &&
         ( !a->point_count || memcmp( a->points, b->points, a->point_count * sizeof( uint32_t ) ) == 0 );
}

/* take_name takes a name that the object does not have yet, and its colon. */

static int
take_name( reader *r, node *object ) {
  skip_space( r );
  node *name = peek( r ) == '"' ? take_string( r ) : NULL;
  if( !name ) {
    return 0;
  }
  for( size_t i = 0; i < object->member_count; i += 2 ) {
    if( same_name( object->members[i], name ) ) {
      free_node( name );
      return 0;
    }
  }
  add_member( object, name );
  skip_space( r );
  return take( r, ":" );
}

static node *
take_members( reader *r, int depth, node_kind kind, int closing ) {
  node *n = new_node( kind );
  r->at++;
  skip_space( r );
  if( peek( r ) == closing ) {
    r->at++;
    return n;
  }
  for( ;; ) {
    if( kind == OBJECT && !take_name( r, n ) ) {
      return refused( n );
    }
    node *value = take_value( r, depth );
    if( !value ) {
      return refused( n );
    }
    add_member( n, value );
    skip_space( r );
    if( peek( r ) == closing ) {
      r->at++;
      return n;
    }
    if( !take( r, "," ) ) {
      return refused( n );
    }
  }
}

static node *
take_value( reader *r, int depth ) {
  skip_space( r );
  int const c = peek( r );
  if( c == '[' || c == '{' ) {
    return depth == DEPTH_MAX ? NULL : take_members( r, depth + 1, c == '[' ? ARRAY : OBJECT, c + 2 );
  }
  return c == '"' ? take_string( r ) : take_literal( r );
}

/* Writing. */

typedef struct {
  char  *bytes;
  size_t len;
} text;

static void
put( text *t, char c ) {
  t->bytes           = grown( t->bytes, t->len, 1 );
  t->bytes[t->len++] = c;
}

static void
put_escaped( text *t, uint32_t unit ) {
  char escape[16];
  (void)snprintf( escape, sizeof( escape ), "\\u%04x", (unsigned)unit );
  for( const char *c = escape; *c; c++ ) {
    put( t, *c );
  }
}

static void
put_point( text *t, uint32_t point ) {
  static char const plain[] = "\"\\\b\f\n\r\t";
  static char const named[] = "\"\\bfnrt";
  const char       *found   = point && point < 0x80 ? strchr( plain, (int)point ) : NULL;
  if( found ) {
    put( t, '\\' );
    put( t, named[found - plain] );
  } else if( point >= 0x20 && point < 0x7f ) {
    put( t, (char)point );
  } else if( point < 0x10000 ) {
    put_escaped( t, point );
  } else {
    put_escaped( t, 0xd800 + ( ( point - 0x10000 ) >> 10 ) );
    put_escaped( t, 0xdc00 + ( ( point - 0x10000 ) & 0x3ff ) );
  }
}

static int
name_before( const node *a, const node *b ) {
  for( size_t i = 0; i < a->point_count && i < b->point_count; i++ ) {
    if( a->points[i] != b->points[i] ) {
      return a->points[i] < b->points[i];
    }
  }
  return a->point_count < b->point_count;
}

static void
sort_members( node *object ) {
  for( size_t i = 0; i < object->member_count; i += 2 ) {
    size_t least = i;
    for( size_t j = i + 2; j < object->member_count; j += 2 ) {
      if( name_before( object->members[j], object->members[least] ) ) {
        least = j;
      }
    }
    for( size_t k = 0; k < 2; k++ ) {
      node *const moved          = object->members[i + k];
      object->members[i + k]     = object->members[least + k];
      object->members[least + k] = moved;
    }
  }
}

static void
write_node( text *t, node *n ) {
  if( n->kind == LITERAL || n->kind == STRING ) {
    if( n->kind == STRING ) {
      put( t, '"' );
    }
    for( size_t i = 0; i < n->point_count; i++ ) {
      if( n->kind == STRING ) {
        put_point( t, n->points[i] );
      } else {
        put( t, (char)n->points[i] );
      }
    }
    if( n->kind == STRING ) {
      put( t, '"' );
    }
    return;
  }
  if( n->kind == OBJECT ) {
    sort_members( n );
  }
  put( t, n->kind == ARRAY ? '[' : '{' );
  for( size_t i = 0; i < n->member_count; i++ ) {
    if( i ) {
      put( t, n->kind == OBJECT && i % 2 ? ':' : ',' );
    }
    write_node( t, n->members[i] );
  }
  put( t, n->kind == ARRAY ? ']' : '}' );
}

char *
naive_canonical( const char *bytes, size_t len, int surrogates, size_t *out_len ) {
  reader r = { (const uint8_t *)bytes, (const uint8_t *)bytes + len, surrogates };
  node  *n = take_value( &r, 0 );
  if( !n ) {
    return NULL;
  }
  skip_space( &r );
  if( r.at < r.end ) {
    free_node( n );
    return NULL;
  }
  text t = { NULL, 0 };
  write_node( &t, n );
  free_node( n );
  *out_len = t.len;
  return t.bytes;
}
