/* SPDX-License-Identifier: MIT */
#include "pf_armed.h"

#include "pf_cancel.h"
#include "pf_clock.h"
#include "pf_frame.h"
#include "pf_gate.h"
#include "pf_pages.h"
#include "pf_sodium.h"
#include "pf_thread.h"

#include <stdatomic.h>

/* The tests of this file let other threads in where it hurts most. */

#if !defined( PF_INTERLEAVE )
#define PF_INTERLEAVE() ( (void)0 )
#endif

/* The word of an entry.  Its generation has 43 bits in a handle: a core
   that does nothing but sign uses them up in seven years. */

#define CURRENT ( (uint64_t)1 << 0 )
#define ARMED ( (uint64_t)1 << 1 )
#define TAKEN ( (uint64_t)1 << 2 )
#define KEPT ( (uint64_t)1 << 3 )
#define GIVEN_UP ( (uint64_t)1 << 4 )
#define WORD_SHIFT 8
#define HANDLE_SHIFT 20

/* Entries come in chunks that belong to one store at a time. */

#define CHUNK_ENTRIES 256
#define CHUNKS_MAX 4096
#define STORES_MAX 4096

_Static_assert( CHUNKS_MAX *CHUNK_ENTRIES <= 1 << HANDLE_SHIFT, "a handle holds the place of any entry" );

#define RESIGN_AT( window ) ( ( window ) / 3 )
#define STALE_AT( window ) ( ( window ) / 2 )

/* How long the keeper pauses, in ms: less than the sixth of the window
   between the third, at which an entry is due, and the half, at which it
   is stale. */

#define PAUSE_MAX 50
#define PAUSE_SLICE 5 /* how late the keeper sees that the store is closing */
#define PAUSE_AT( window ) ( ( window ) / 8 )

typedef struct {
  int64_t monotonic;
  int64_t realtime;
  int64_t correction;
} moment; /* in ms */

/* What is looked at often, in a cache line of its own.  The keeper reads
   window and signed_at before it knows that the entry stays; what it read
   counts only if the word was the same before and after. */

typedef struct {
  _Alignas( 64 ) _Atomic( uint64_t ) word;
  _Atomic( uint64_t ) window; /* ms */
  struct {
    _Atomic( int64_t ) monotonic;
    _Atomic( int64_t ) realtime; /* with the correction: the timestamp in the frame */
  } signed_at[2];
  _Atomic( int32_t ) correction[2];
  uint32_t           frame_len[2];
} entry;

_Static_assert( sizeof( entry ) == 64, "one cache line" );

/* What is signed, and what came of it. */

typedef struct {
  const pf_template *template;
  uint64_t order_id;
  uint64_t number; /* of the request id */
  int32_t  by_client_order_id;
  char     client_order_id[PF_CLIENT_ORDER_ID_LEN];
} order;

typedef struct {
  order order;
  char  frames[2][PF_FRAME_MAX];
} cancel;

/* All zero: free. */

typedef struct {
  _Atomic( uint64_t ) owner; /* generation of the store */
  _Atomic( uint64_t ) used[CHUNK_ENTRIES / 64];
  entry               entries[CHUNK_ENTRIES];
  cancel              cancels[CHUNK_ENTRIES];
} chunk;

typedef struct {
  pf_gate                     gate;
  _Atomic( uint32_t )         has_keeper;
  _Atomic( uint32_t )         look_first; /* the chunk where there may be room */
  _Atomic( uint64_t )         shortest_window;
  _Atomic( const pf_clock * ) clock; /* of its templates; NULL: it has none yet */
  _Atomic( uint64_t )         armed;
  _Atomic( uint64_t )         resigned;
} store;

static pf_pages            store_pages[STORES_MAX];
static atomic_uint         store_count;
static pf_pages            chunk_pages[CHUNKS_MAX];
static atomic_uint         chunk_count;
static _Atomic( uint64_t ) last_generation;

static int
read_clocks( const pf_clock *clock, moment *now ) {
  int64_t monotonic_ns;
  now->realtime = pf_now();
  if( now->realtime < 0 || pf_monotonic( &monotonic_ns ) != PF_OK ) {
    return PF_ERR_CLOCK;
  }
  now->monotonic  = monotonic_ns / 1000000;
  now->correction = pf_clock_correction( clock );
  return PF_OK;
}

/* exceeds tells whether a frame is older than limit by either clock, or
   by the exchange's as the correction has it.  One from the future is
   older than any limit. */

static int
exceeds( const entry *e, size_t frame, const moment *now, uint64_t limit ) {
  int64_t const monotonic = atomic_load_explicit( &e->signed_at[frame].monotonic, memory_order_relaxed );
  int64_t const realtime  = atomic_load_explicit( &e->signed_at[frame].realtime, memory_order_relaxed );
  int64_t const before    = atomic_load_explicit( &e->correction[frame], memory_order_relaxed );
  int64_t const age       = now->realtime - realtime;
  return (uint64_t)( now->monotonic - monotonic ) > limit || (uint64_t)age > limit ||
         (uint64_t)( age + now->correction - before ) > limit;
}

/* is_older looks at the clocks anew before it says yes: the frame may
   have been signed since now was read. */

static int
is_older( const entry *e, size_t frame, const pf_clock *clock, moment *now, uint64_t limit ) {
  return PF_UNLIKELY( exceeds( e, frame, now, limit ) ) &&
         ( read_clocks( clock, now ) != PF_OK || exceeds( e, frame, now, limit ) );
}

/* Stores. */

static store *
store_in( pf_pages *pages ) {
  pf_pages_current( pages );
  return (store *)(void *)pages->start;
}

static pf_pages *
take_free_store( uint64_t generation ) {
  unsigned const count = atomic_load_explicit( &store_count, memory_order_acquire );
  for( unsigned i = 0; i < count; i++ ) {
    if( pf_gate_take( &store_in( &store_pages[i] )->gate, generation ) ) {
      return &store_pages[i];
    }
  }
  return NULL;
}

static pf_pages *
take_new_store( uint64_t generation ) {
  pf_pages *pages = NULL;
  pf_pages_lock();
  unsigned const count = atomic_load( &store_count );
  if( count < STORES_MAX && pf_pages_map_large( &store_pages[count], sizeof( store ) ) == PF_OK ) {
    pages = &store_pages[count];
    (void)pf_gate_take( &store_in( pages )->gate, generation );
    atomic_store_explicit( &store_count, count + 1, memory_order_release );
  }
  pf_pages_unlock();
  return pages;
}

int
pf_armed_open( pf_armed_store *handle ) {
  if( !pf_sodium_table() ) {
    return PF_ERR_UNBOUND;
  }
  uint64_t const generation = pf_gate_next();
  pf_pages      *pages      = take_free_store( generation );
  if( !pages ) {
    pages = take_new_store( generation );
  }
  if( !pages ) {
    return PF_ERR_MEMORY;
  }
  store *s = store_in( pages );
  atomic_store( &s->shortest_window, UINT64_MAX );
  if( !pf_gate_open( &s->gate, generation ) ) {
    return PF_ERR_CLOSED;
  }
  handle->place      = pages;
  handle->generation = generation;
  return PF_OK;
}

static store *
enter( const pf_armed_store *handle ) {
  if( PF_UNLIKELY( !handle->place || !handle->generation ) ) {
    return NULL;
  }
  store *s = store_in( handle->place );
  return pf_gate_enter( &s->gate, handle->generation ) ? s : NULL;
}

/* clock_of is the clock of all templates of a store. */

static const pf_clock *
clock_of( store *s ) {
  const pf_clock *clock = atomic_load_explicit( &s->clock, memory_order_acquire );
  return PF_LIKELY( clock != NULL ) ? clock : &pf_clock_uncorrected;
}

static int
has_clock( store *s, const pf_clock *clock ) {
  const pf_clock *known = NULL;
  return atomic_compare_exchange_strong( &s->clock, &known, clock ) || known == clock;
}

static int
leave( store *s, const pf_armed_store *handle ) {
  return PF_LIKELY( pf_gate_leave( &s->gate, handle->generation ) ) ? PF_OK : PF_ERR_CLOSED;
}

/* Chunks. */

static chunk *
chunk_at( unsigned number ) {
  pf_pages_current( &chunk_pages[number] );
  return (chunk *)(void *)chunk_pages[number].start;
}

static int
is_own( const pf_armed_store *handle, const chunk *c ) {
  return atomic_load_explicit( &c->owner, memory_order_acquire ) == handle->generation;
}

/* add_chunk gives the store one more chunk, and stores its number. */

static int
add_chunk( const pf_armed_store *handle, unsigned *number ) {
  int rc = PF_OK;
  pf_pages_lock();
  unsigned const count = atomic_load( &chunk_count );
  unsigned       free  = 0;
  while( free < count && atomic_load( &chunk_at( free )->owner ) ) {
    free++;
  }
  if( free == count ) {
    rc = count < CHUNKS_MAX ? pf_pages_map_large( &chunk_pages[count], sizeof( chunk ) ) : PF_ERR_MEMORY;
  }
  if( rc == PF_OK ) {
    atomic_store( &chunk_at( free )->owner, handle->generation );
    if( free == count ) {
      atomic_store_explicit( &chunk_count, count + 1, memory_order_release );
    }
    *number = free;
  }
  pf_pages_unlock();
  return rc;
}

/* Entries.  A used bit says whose entry it is; only then does the word
   count. */

typedef struct {
  chunk   *chunk;
  uint32_t index;
} place;

static entry *
entry_at( place at ) {
  return &at.chunk->entries[at.index];
}

static cancel *
cancel_at( place at ) {
  return &at.chunk->cancels[at.index];
}

static int
is_used( place at ) {
  uint64_t const used = atomic_load_explicit( &at.chunk->used[at.index / 64], memory_order_acquire );
  return ( used >> at.index % 64 & 1 ) != 0;
}

static void
wipe_frame( place at, size_t frame ) {
  pf_wipe( cancel_at( at )->frames[frame], PF_FRAME_MAX );
}

/* free_entry: both frames are wiped already, by whoever had them; the
   order is no secret. */

static void
free_entry( place at ) {
  atomic_store_explicit( &entry_at( at )->word, 0, memory_order_release );
  PF_INTERLEAVE();
  atomic_fetch_and_explicit( &at.chunk->used[at.index / 64], ~( (uint64_t)1 << at.index % 64 ),
                             memory_order_release );
}

/* give_back ends TAKEN or KEPT. */

static void
give_back( place at, uint64_t bit ) {
  uint64_t const before = atomic_fetch_and_explicit( &entry_at( at )->word, ~bit, memory_order_acq_rel );
  if( !( before & ~bit & ( ARMED | TAKEN | KEPT ) ) ) {
    free_entry( at );
  }
}

/* use_bit finds a bit that is 0 and sets it; 64 if there is none. */

static uint32_t
use_bit( _Atomic( uint64_t ) *used ) {
  uint64_t seen = atomic_load_explicit( used, memory_order_relaxed );
  while( seen != UINT64_MAX ) {
    uint32_t bit = 0;
    while( seen >> bit & 1 ) {
      bit++;
    }
    if( atomic_compare_exchange_weak_explicit( used, &seen, seen | (uint64_t)1 << bit, memory_order_acquire,
                                               memory_order_relaxed ) ) {
      return bit;
    }
  }
  return 64;
}

static int
use_in_chunk( chunk *c, place *at ) {
  for( uint32_t word = 0; word < CHUNK_ENTRIES / 64; word++ ) {
    uint32_t const bit = use_bit( &c->used[word] );
    if( bit < 64 ) {
      *at = ( place ){ c, word * 64 + bit };
      return 1;
    }
  }
  return 0;
}

/* use_entry finds an entry for the caller alone.  Returns its number, or
   PF_ERR_MEMORY. */

static int64_t
use_entry( store *s, const pf_armed_store *handle, place *at ) {
  unsigned const count  = atomic_load_explicit( &chunk_count, memory_order_acquire );
  unsigned const first  = atomic_load_explicit( &s->look_first, memory_order_relaxed );
  unsigned       number = first;
  int            found  = 0;
  for( unsigned i = 0; i < count && !found; i++ ) {
    number   = ( first + i ) % count;
    chunk *c = chunk_at( number );
    found    = is_own( handle, c ) && use_in_chunk( c, at );
  }
  while( !found ) {
    int const rc = add_chunk( handle, &number );
    if( rc != PF_OK ) {
      return rc;
    }
    found = use_in_chunk( chunk_at( number ), at );
  }
  atomic_store_explicit( &s->look_first, number, memory_order_relaxed );
  return (int64_t)number * CHUNK_ENTRIES + at->index;
}

static int64_t
put_request( char *out, size_t cap, const order *o, int64_t timestamp ) {
  return o->by_client_order_id
             ? pf_cancel_client_order_id( out, cap, o->template, o->client_order_id,
                                          sizeof( o->client_order_id ), timestamp, o->number, NULL, 0 )
             : pf_cancel_order_id( out, cap, o->template, o->order_id, timestamp, o->number, NULL, 0 );
}

/* sign writes a frame with the time of now, which it reads, corrected. */

static int
sign( place at, size_t frame, moment *now ) {
  entry *e    = entry_at( at );
  char  *room = cancel_at( at )->frames[frame];
  order *o    = &cancel_at( at )->order;
  if( read_clocks( o->template->clock, now ) != PF_OK || now->realtime + now->correction <= 0 ) {
    return PF_ERR_CLOCK;
  }
  int64_t const len =
      put_request( room + PF_FRAME_ROOM, PF_FRAME_MAX - PF_FRAME_ROOM, o, now->realtime + now->correction );
  pf_sodium_wipe_stack(); /* message and signature */
  if( len < 0 ) {
    return (int)len;
  }
  /* Not from pf_random: a thread on the hot path would wait for its lock
     while a keeper that holds it gives way to all others. */
  uint8_t mask[PF_MASK_SZ];
  pf_sodium_table()->randombytes( mask, sizeof( mask ) );
  e->frame_len[frame] = (uint32_t)pf_frame_wrap_with( room, PF_FRAME_MAX, (size_t)len, mask );
  atomic_store_explicit( &e->signed_at[frame].monotonic, now->monotonic, memory_order_relaxed );
  atomic_store_explicit( &e->signed_at[frame].realtime, now->realtime, memory_order_relaxed );
  atomic_store_explicit( &e->correction[frame], (int32_t)now->correction, memory_order_relaxed );
  return PF_OK;
}

static void
note_window( store *s, uint64_t window ) {
  uint64_t shortest = atomic_load_explicit( &s->shortest_window, memory_order_relaxed );
  while( window < shortest && !atomic_compare_exchange_weak( &s->shortest_window, &shortest, window ) ) {
  }
}

/* arm sets up an entry that is the caller's alone, and arms it. */

static int
arm( store *s, place at, uint64_t generation, const order *o ) {
  moment         now;
  entry         *e       = entry_at( at );
  uint64_t const window  = o->template->expiry_window;
  cancel_at( at )->order = *o;
  atomic_store_explicit( &e->window, window, memory_order_relaxed );
  int const rc = sign( at, 0, &now );
  if( rc != PF_OK ) {
    wipe_frame( at, 0 );
    free_entry( at );
    return rc;
  }
  note_window( s, window );
  atomic_fetch_add_explicit( &s->armed, 1, memory_order_relaxed );
  PF_INTERLEAVE();
  atomic_store_explicit( &e->word, generation << WORD_SHIFT | ARMED, memory_order_release );
  return PF_OK;
}

static int64_t
add( store *s, const pf_armed_store *handle, const order *o ) {
  uint64_t const generation = atomic_fetch_add( &last_generation, 1 ) + 1;
  place          at         = { NULL, 0 };
  int64_t const  number     = use_entry( s, handle, &at );
  if( number < 0 ) {
    return number;
  }
  int const rc = arm( s, at, generation, o );
  return rc == PF_OK ? (int64_t)( generation << HANDLE_SHIFT ) | number : rc;
}

int64_t
pf_armed_add( const pf_armed_store *handle,
              const pf_template    *t,
              uint64_t              order_id,
              const char           *client_order_id,
              size_t                client_len,
              uint64_t              number ) {
  order o = { t, order_id, number, client_len != 0, { 0 } };
  if( !number || t->pool.place || ( client_len && !pf_is_uuid( client_order_id, client_len ) ) ) {
    return PF_ERR_ARGUMENT;
  }
  if( client_len ) {
    memcpy( o.client_order_id, client_order_id, sizeof( o.client_order_id ) );
  }
  store *s = enter( handle );
  if( !s ) {
    return PF_ERR_CLOSED;
  }
  int64_t const rc   = has_clock( s, t->clock ) ? add( s, handle, &o ) : PF_ERR_ARGUMENT;
  int const     left = leave( s, handle );
  return left == PF_OK ? rc : left;
}

/* find says where the entry of a handle would be; 0 if it cannot be
   anywhere. */

static int
find( int64_t armed, place *at ) {
  uint64_t const number = (uint64_t)armed & ( ( (uint64_t)1 << HANDLE_SHIFT ) - 1 );
  unsigned const count  = atomic_load_explicit( &chunk_count, memory_order_acquire );
  if( PF_UNLIKELY( armed < 0 || number / CHUNK_ENTRIES >= count ) ) {
    return 0;
  }
  at->chunk = chunk_at( (unsigned)( number / CHUNK_ENTRIES ) );
  at->index = (uint32_t)( number % CHUNK_ENTRIES );
  return 1;
}

/* prefetch: of ten thousand none is in the cache when it is fired, and
   which of its frames is current is in memory, too. */

#define FRAME_USUAL 448 /* bytes */

static void
prefetch( int64_t armed ) {
  place at;
  if( PF_LIKELY( find( armed, &at ) ) ) {
    PF_PREFETCH( at.chunk );
    PF_PREFETCH( entry_at( at ) );
    for( size_t line = 0; line < FRAME_USUAL; line += 64 ) {
      PF_PREFETCH( cancel_at( at )->frames[0] + line );
      PF_PREFETCH( cancel_at( at )->frames[1] + line );
    }
  }
}

/* claim takes the current frame for the caller alone; which one it is,
   or PF_ERR_SPENT. */

static int
claim( store *s, const pf_armed_store *handle, int64_t armed, place *at ) {
  uint64_t const generation = (uint64_t)armed >> HANDLE_SHIFT;
  if( PF_UNLIKELY( !find( armed, at ) || !is_own( handle, at->chunk ) ) ) {
    return PF_ERR_SPENT;
  }
  entry   *e    = entry_at( *at );
  uint64_t word = atomic_load_explicit( &e->word, memory_order_acquire );
  do { /* again only if the keeper has just changed it */
    if( PF_UNLIKELY( word >> WORD_SHIFT != generation || !( word & ARMED ) ) ) {
      return PF_ERR_SPENT;
    }
    PF_INTERLEAVE();
  } while( !atomic_compare_exchange_weak_explicit( &e->word, &word, ( word & ~ARMED ) | TAKEN,
                                                   memory_order_acq_rel, memory_order_acquire ) );
  atomic_fetch_sub_explicit( &s->armed, 1, memory_order_relaxed );
  return (int)( word & CURRENT );
}

/* spend wipes as much of the frame as was ever written. */

static void
spend( place at, int frame ) {
  PF_INTERLEAVE();
  pf_wipe( cancel_at( at )->frames[frame], entry_at( at )->frame_len[frame] );
  PF_INTERLEAVE();
  give_back( at, TAKEN );
}

static int64_t
fire( char *out, store *s, const pf_armed_store *handle, int64_t armed, moment *now ) {
  place     at    = { NULL, 0 };
  int const frame = claim( s, handle, armed, &at );
  if( PF_UNLIKELY( frame < 0 ) ) {
    return frame;
  }
  entry   *e      = entry_at( at );
  uint64_t window = atomic_load_explicit( &e->window, memory_order_relaxed );
  int64_t  rc     = PF_ERR_STALE;
  if( PF_LIKELY( !is_older( e, (size_t)frame, clock_of( s ), now, STALE_AT( window ) ) ) ) {
    rc = (int64_t)e->frame_len[frame];
    memcpy( out, cancel_at( at )->frames[frame], (size_t)rc );
  }
  spend( at, frame );
  return rc;
}

int64_t
pf_armed_fire_many(
    char *out, size_t cap, const pf_armed_store *handle, const int64_t *handles, size_t count, int64_t *ends ) {
  moment  now;
  int64_t at = 0;
  if( PF_UNLIKELY( cap / PF_FRAME_MAX < count ) ) {
    return PF_ERR_CAPACITY;
  }
  if( PF_LIKELY( count ) ) {
    prefetch( handles[0] );
  }
  store *s = enter( handle );
  if( PF_UNLIKELY( !s ) ) {
    return PF_ERR_CLOSED;
  }
  if( PF_UNLIKELY( read_clocks( clock_of( s ), &now ) != PF_OK ) ) {
    return leave( s, handle ) == PF_OK ? PF_ERR_CLOCK : PF_ERR_CLOSED;
  }
  for( size_t i = 0; i < count; i++ ) {
    if( i + 1 < count ) {
      prefetch( handles[i + 1] );
    }
    int64_t const len = fire( out + at, s, handle, handles[i], &now );
    at += len > 0 ? len : 0;
    ends[i] = len > 0 ? at : len;
  }
  if( PF_UNLIKELY( leave( s, handle ) != PF_OK ) ) {
    pf_wipe( out, (size_t)at ); /* a fork in a signal handler: the parent sends them */
    return PF_ERR_CLOSED;
  }
  return at;
}

int64_t
pf_armed_fire( const pf_armed_shot *shot ) {
  int64_t       end;
  int64_t const rc = pf_armed_fire_many( shot->out, shot->cap, &shot->store, &shot->handle, 1, &end );
  return PF_LIKELY( rc >= 0 ) ? end : rc;
}

int
pf_armed_drop( const pf_armed_store *handle, int64_t armed ) {
  store *s = enter( handle );
  if( !s ) {
    return PF_ERR_CLOSED;
  }
  place     at    = { NULL, 0 };
  int const frame = claim( s, handle, armed, &at );
  if( frame >= 0 ) {
    spend( at, frame );
  }
  int const left = leave( s, handle );
  return left == PF_OK && frame < 0 ? frame : left;
}

int
pf_armed_counts( const pf_armed_store *handle, uint64_t *armed, uint64_t *resigned ) {
  store *s = enter( handle );
  if( !s ) {
    return PF_ERR_CLOSED;
  }
  *armed    = atomic_load( &s->armed );
  *resigned = atomic_load( &s->resigned );
  return leave( s, handle );
}

/* The keeper. */

static int
is_open( store *s, const pf_armed_store *handle ) {
  return pf_gate_is_open( atomic_load_explicit( &s->gate.word, memory_order_acquire ), handle->generation );
}

/* resign signs into the frame that is not current and makes it current,
   unless the entry was taken meanwhile.  Whatever is not current then is
   wiped.  What cannot be signed, because the key is closed, is left to
   become stale. */

static void
resign( store *s, place at, uint64_t kept, moment *now ) {
  entry       *e       = entry_at( at );
  size_t const current = (size_t)( kept & CURRENT );
  size_t const other   = current ^ 1;
  PF_INTERLEAVE();
  int const rc      = sign( at, other, now );
  uint64_t  from    = kept;
  uint64_t  to      = rc == PF_OK ? kept ^ CURRENT : kept | GIVEN_UP;
  int const changed = atomic_compare_exchange_strong_explicit( &e->word, &from, to, memory_order_acq_rel,
                                                               memory_order_relaxed );
  PF_INTERLEAVE();
  if( rc == PF_OK && changed ) {
    wipe_frame( at, current );
    atomic_fetch_add_explicit( &s->resigned, 1, memory_order_relaxed );
  } else {
    wipe_frame( at, other );
  }
  PF_INTERLEAVE();
  give_back( at, KEPT );
}

static void
resign_if_due( store *s, place at, moment *now ) {
  entry   *e    = entry_at( at );
  uint64_t word = atomic_load_explicit( &e->word, memory_order_acquire );
  if( !( word & ARMED ) || word & GIVEN_UP ) {
    return;
  }
  uint64_t const window = atomic_load_explicit( &e->window, memory_order_relaxed );
  if( !is_older( e, (size_t)( word & CURRENT ), clock_of( s ), now, RESIGN_AT( window ) ) ) {
    return;
  }
  if( atomic_compare_exchange_strong_explicit( &e->word, &word, word | KEPT, memory_order_acq_rel,
                                               memory_order_relaxed ) ) {
    resign( s, at, word | KEPT, now );
  }
}

static void
look_at_all( store *s, const pf_armed_store *handle ) {
  moment now;
  if( read_clocks( clock_of( s ), &now ) != PF_OK ) {
    return;
  }
  unsigned const count = atomic_load_explicit( &chunk_count, memory_order_acquire );
  for( unsigned number = 0; number < count; number++ ) {
    place at = { chunk_at( number ), 0 };
    if( !is_own( handle, at.chunk ) ) {
      continue;
    }
    for( ; at.index < CHUNK_ENTRIES && is_open( s, handle ); at.index++ ) {
      if( is_used( at ) ) {
        resign_if_due( s, at, &now );
      }
    }
  }
}

static void
pause_unless_closing( store *s, const pf_armed_store *handle ) {
  uint64_t const between = PAUSE_AT( atomic_load_explicit( &s->shortest_window, memory_order_relaxed ) );
  long           left    = between > PAUSE_MAX ? PAUSE_MAX : between ? (long)between : 1;
  while( left > 0 && is_open( s, handle ) ) {
    long const slice = left < PAUSE_SLICE ? left : PAUSE_SLICE;
    pf_thread_pause( slice * 1000000 );
    left -= slice;
  }
}

int
pf_armed_keep( const pf_armed_store *handle ) {
  store *s = enter( handle );
  if( !s ) {
    return PF_ERR_CLOSED;
  }
  int rc = PF_ERR_ARGUMENT;
  if( !atomic_exchange( &s->has_keeper, 1U ) ) { /* closing wipes it */
    pf_thread_yield_to_others();
    while( is_open( s, handle ) ) {
      look_at_all( s, handle );
      pause_unless_closing( s, handle );
    }
    rc = PF_OK;
  }
  (void)leave( s, handle );
  return rc;
}

/* Closing: nobody is in the store any more. */

static void
free_chunk( unsigned number ) {
  place at = { chunk_at( number ), 0 };
  for( ; at.index < CHUNK_ENTRIES; at.index++ ) {
    if( is_used( at ) ) {
      wipe_frame( at, 0 );
      wipe_frame( at, 1 );
      free_entry( at );
    }
  }
  /* Under the lock: the memory goes page by page, and nobody may take the
     chunk before all of it is gone. */
  pf_pages_lock();
  pf_pages_give_back( &chunk_pages[number] );
  atomic_store( &at.chunk->owner, 0 );
  pf_pages_unlock();
}

int
pf_armed_close( const pf_armed_store *handle ) {
  if( !handle->place || !handle->generation ) {
    return PF_ERR_CLOSED;
  }
  store    *s  = store_in( handle->place );
  int const rc = pf_gate_shut( &s->gate, handle->generation );
  if( rc == PF_OK ) {
    unsigned const count = atomic_load( &chunk_count );
    for( unsigned number = 0; number < count; number++ ) {
      if( is_own( handle, chunk_at( number ) ) ) {
        free_chunk( number );
      }
    }
    pf_wipe( (uint8_t *)s + sizeof( s->gate ), sizeof( *s ) - sizeof( s->gate ) );
    pf_gate_free( &s->gate );
  }
  return rc;
}
