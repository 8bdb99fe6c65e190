/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE

#include "check.h"
#include "clone.h"
#include "fake_sodium.h"
#include "unframe.h"

#include "pf_armed.h"
#include "pf_cancel.h"
#include "pf_clock.h"
#include "pf_frame.h"
#include "pf_pages.h"
#include "pf_random.h"

#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#if defined( PF_TEST_NO_WIPEONFORK )
#define NAME "test_armed (fallback)"
#elif defined( PF_TEST_INTERLEAVED )
#define NAME "test_armed (interleaved)"
#else
#define NAME "test_armed"
#endif

#define ACCOUNT "JEKNVnkbo3jma5nREBBJCDoXFVeKkD56V3xKrvRmWxFG"
#define CLIENT_ID "79f948fd-7556-4066-a128-083f3ea49322"
#define WINDOW 6000      /* ms; due above 2000, stale above 3000 */
#define SHORT_WINDOW 600 /* due above 200, stale above 300 */
#define QUICK_WINDOW 8   /* makes the keeper look every ms */
#define START 1749223343149
#define INDEX_BITS 20 /* of a handle, as in pf_armed.c */

/* The keeper is a thread of its own.  This is the nanosleep that the core
   gets: it notes how long a keeper pauses from one look to the next. */

static _Thread_local int is_keeper;
static atomic_uint       looks;
static _Atomic( long )   pause_ns;
static _Atomic( long )   longest_pause_ns;

static void
look( void ) {
  long const paused = atomic_exchange( &pause_ns, 0 );
  if( paused > atomic_load( &longest_pause_ns ) ) {
    atomic_store( &longest_pause_ns, paused );
  }
  atomic_fetch_add( &looks, 1 );
}

int
nanosleep( const struct timespec *pause, struct timespec *left ) {
  if( is_keeper && pause->tv_nsec >= 1000000 ) { /* else it is check_interleave's */
    atomic_fetch_add( &pause_ns, pause->tv_nsec );
  }
  return clock_nanosleep( CLOCK_MONOTONIC, 0, pause, left ) == 0 ? 0 : -1;
}

/* And the madvise: of pages that the process locked, by mlockall say, the
   kernel takes none back. */

static atomic_int pages_are_locked;

int
madvise( void *start, size_t sz, int advice ) {
  if( advice == MADV_DONTNEED && atomic_load( &pages_are_locked ) ) {
    return -1;
  }
  return (int)syscall( SYS_madvise, start, sz, advice );
}

/* Time stands still unless a test moves it: this is the clock_gettime that
   the core gets. */

static _Atomic( int64_t ) wall_ms      = START;
static _Atomic( int64_t ) monotonic_ms = 5000;
static atomic_int         clocks_fail;

static _Thread_local void ( *once_clocks_are_read )( void );

int
clock_gettime( clockid_t clock, struct timespec *now ) {
  int64_t const ms             = atomic_load( clock == CLOCK_REALTIME ? &wall_ms : &monotonic_ms );
  void ( *const then )( void ) = clock == CLOCK_REALTIME ? NULL : once_clocks_are_read;
  if( is_keeper && clock == CLOCK_REALTIME ) {
    look();
  }
  if( then ) {
    once_clocks_are_read = NULL;
    then();
  }
  if( atomic_load( &clocks_fail ) ) {
    return -1;
  }
  now->tv_sec  = ms / 1000;
  now->tv_nsec = ms % 1000 * 1000000;
  return 0;
}

static void
pass( int64_t ms ) {
  atomic_fetch_add( &monotonic_ms, ms );
  atomic_fetch_add( &wall_ms, ms );
}

/* Every mask key is different from all others, so that a test can tell if
   one is used twice. */

static atomic_uint masks_drawn;

static uint32_t
mask_number( uint32_t i ) {
  return i * UINT32_C( 2654435761 ); /* odd: a permutation */
}

static void
random_with_different_masks( unsigned char *out, unsigned long long n ) {
  if( n != PF_MASK_SZ ) {
    fake_random( out, n );
    return;
  }
  uint32_t const mask = mask_number( atomic_fetch_add( &masks_drawn, 1 ) + 1 );
  memcpy( out, &mask, PF_MASK_SZ );
}

static uint8_t const seed[PF_SEED_SZ] = { 1, 2, 3 };
static pf_key        key;
static pf_template   order;       /* WINDOW */
static pf_template   short_order; /* SHORT_WINDOW */
static pf_template   quick_order; /* QUICK_WINDOW */

static void
make( pf_template *t, const pf_key *with, int64_t window ) {
  CHECK( pf_template_make( t, PF_CANCEL_ORDER, with, NULL, ACCOUNT, strlen( ACCOUNT ), "", 0, "BTC", 3, 0,
                           window ) == PF_OK );
}

static uint64_t
take_number( void ) {
  uint64_t number;
  CHECK( pf_id_reserve( &number, 1 ) == PF_OK );
  return number;
}

static void
open_store( pf_armed_store *store ) {
  CHECK( pf_armed_open( store ) == PF_OK );
}

static int64_t
add( const pf_armed_store *store, const pf_template *t, uint64_t order_id, uint64_t number ) {
  return pf_armed_add( store, t, order_id, NULL, 0, number );
}

static int64_t
arm( const pf_armed_store *store, const pf_template *t, uint64_t order_id ) {
  int64_t const handle = add( store, t, order_id, take_number() );
  CHECK( handle >> INDEX_BITS > 0 ); /* no generation is 0, not even the first */
  return handle;
}

static int64_t
fire_into( char *out, size_t cap, const pf_armed_store *store, int64_t handle ) {
  pf_armed_shot const shot = { *store, handle, out, cap };
  return pf_armed_fire( &shot );
}

static int64_t
fire( const pf_armed_store *store, int64_t handle ) {
  char out[PF_FRAME_MAX];
  return fire_into( out, sizeof( out ), store, handle );
}

static uint64_t
count_armed( const pf_armed_store *store ) {
  uint64_t armed;
  uint64_t resigned;
  CHECK( pf_armed_counts( store, &armed, &resigned ) == PF_OK );
  return armed;
}

static uint64_t
count_resigned( const pf_armed_store *store ) {
  uint64_t armed;
  uint64_t resigned;
  CHECK( pf_armed_counts( store, &armed, &resigned ) == PF_OK );
  return resigned;
}

static int
same_place( int64_t a, int64_t b ) {
  return ( ( a ^ b ) & ( ( (int64_t)1 << INDEX_BITS ) - 1 ) ) == 0;
}

/* What comes out, taken apart. */

typedef struct {
  int64_t  timestamp;
  uint64_t number; /* of the request id */
  uint64_t order_id;
  uint32_t mask;
} fired;

/* take_apart checks that a frame is whole: that it is the very frame that
   signing its order at its time with its number must give. */

static fired
take_apart( char *frame, int64_t frame_len, const pf_template *t ) {
  uint8_t const *text;
  char           again[PF_REQUEST_MAX + 1];
  char           copy[PF_REQUEST_MAX + 1];
  fired          f;
  size_t const   len = unframed( (uint8_t *)frame, frame_len, &text, (uint8_t *)&f.mask );
  CHECK( len < sizeof( copy ) );
  memcpy( copy, text, len );
  copy[len]             = 0;
  const char *timestamp = strstr( copy, "\"timestamp\":" );
  const char *order_id  = strstr( copy, "\"order_id\":" );
  CHECK( timestamp != NULL );
  f.timestamp = strtoll( timestamp + 12, NULL, 10 );
  f.order_id  = order_id ? strtoull( order_id + 11, NULL, 10 ) : 0;
  f.number    = strtoull( copy + 7 + PF_ID_PREFIX_LEN, NULL, 16 );
  int64_t const n =
      order_id ? pf_cancel_order_id( again, sizeof( again ), t, f.order_id, f.timestamp, f.number, NULL, 0 )
               : pf_cancel_client_order_id( again, sizeof( again ), t, CLIENT_ID, strlen( CLIENT_ID ),
                                            f.timestamp, f.number, NULL, 0 );
  CHECK( n == (int64_t)len );
  CHECK( memcmp( again, copy, len ) == 0 );
  return f;
}

static fired
fire_whole( const pf_armed_store *store, int64_t handle, const pf_template *t ) {
  char          frame[PF_FRAME_MAX];
  int64_t const len = fire_into( frame, sizeof( frame ), store, handle );
  CHECK( len > 0 );
  return take_apart( frame, len, t );
}

static void *
keep( void *store ) {
  is_keeper    = 1;
  int const rc = pf_armed_keep( store );
  CHECK( rc == PF_OK || rc == PF_ERR_CLOSED ); /* closed before it came */
  return NULL;
}

static pthread_t
start_keeper( pf_armed_store *store ) {
  pthread_t keeper;
  CHECK( pthread_create( &keeper, NULL, keep, store ) == 0 );
  return keeper;
}

static void
close_kept( const pf_armed_store *store, pthread_t keeper ) {
  CHECK( pf_armed_close( store ) == PF_OK );
  CHECK( pthread_join( keeper, NULL ) == 0 );
}

static void
pause_briefly( void ) {
  struct timespec const briefly = { 0, 200000 };
  (void)nanosleep( &briefly, NULL );
}

static void
wait_until_resigned( const pf_armed_store *store, uint64_t times ) {
  while( count_resigned( store ) < times ) {
    pause_briefly();
  }
}

static size_t
count_mappings( void ) {
  size_t mapped;
  size_t unlocked;
  pf_pages_counts( &mapped, &unlocked );
  return mapped;
}

/* Looking for bytes anywhere in the memory of this process.  The needle
   comes inverted, so as not to find itself.  Where to look is found out
   beforehand, because libc would write over the stack that is to be
   searched.  What the sanitizers map is far larger than anything of ours. */

#define LARGE_MAPPING ( (size_t)256 << 20 )
#define MAPPINGS_MAX 512
#define NEEDLE_SZ 40

static struct {
  uintptr_t start;
  uintptr_t end;
} mappings[MAPPINGS_MAX];
static size_t mappings_count;

static void
find_mappings( void ) {
  FILE *maps = fopen( "/proc/self/maps", "r" );
  char  line[512];
  CHECK( maps != NULL );
  mappings_count = 0;
  while( fgets( line, sizeof( line ), maps ) ) {
    unsigned long long start;
    unsigned long long end;
    char               mode[8];
    CHECK( sscanf( line, "%llx-%llx %7s", &start, &end, mode ) == 3 );
    if( strncmp( mode, "rw", 2 ) == 0 && end - start <= LARGE_MAPPING ) {
      CHECK( mappings_count < MAPPINGS_MAX );
      mappings[mappings_count].start = (uintptr_t)start;
      mappings[mappings_count].end   = (uintptr_t)end;
      mappings_count++;
    }
  }
  fclose( maps );
}

#if defined( __clang__ )
#define UNWATCHED __attribute__( ( no_sanitize( "address", "memory", "undefined", "thread" ) ) )
#elif defined( __GNUC__ ) /* which has no MSan */
#define UNWATCHED __attribute__( ( no_sanitize( "address", "undefined", "thread" ) ) )
#else
#define UNWATCHED
#endif

UNWATCHED static int
stands_at( const volatile uint8_t *bytes, const uint8_t inverted[NEEDLE_SZ] ) {
  size_t i = 0;
  while( i < NEEDLE_SZ && ( bytes[i] ^ inverted[i] ) == 0xff ) {
    i++;
  }
  return i == NEEDLE_SZ;
}

UNWATCHED static int
stands_anywhere( const uint8_t inverted[NEEDLE_SZ] ) {
  int found = 0;
  for( size_t i = 0; i < mappings_count; i++ ) {
    for( uintptr_t at = mappings[i].start; at + NEEDLE_SZ <= mappings[i].end && !found; at++ ) {
      found = stands_at( (const volatile uint8_t *)at, inverted );
    }
  }
  return found;
}

static void
invert( uint8_t inverted[NEEDLE_SZ], const void *bytes ) {
  for( size_t i = 0; i < NEEDLE_SZ; i++ ) {
    inverted[i] = ( uint8_t ) ~( (const uint8_t *)bytes )[i];
  }
}

/* The tests. */

static void
test_unbound( void ) {
  pf_armed_store none = { NULL, 0 };
  uint64_t       counts[2];
  CHECK( pf_armed_open( &none ) == PF_ERR_UNBOUND );
  CHECK( fire( &none, 0 ) == PF_ERR_CLOSED );
  CHECK( pf_armed_drop( &none, 0 ) == PF_ERR_CLOSED );
  CHECK( pf_armed_counts( &none, &counts[0], &counts[1] ) == PF_ERR_CLOSED );
  CHECK( pf_armed_keep( &none ) == PF_ERR_CLOSED );
  CHECK( pf_armed_close( &none ) == PF_ERR_CLOSED );
}

static void
test_fired_once( void ) {
  pf_armed_store store;
  uint64_t const number = take_number();
  open_store( &store );
  int64_t const by_id        = add( &store, &order, UINT64_MAX, number );
  int64_t const by_client_id = pf_armed_add( &store, &order, 0, CLIENT_ID, strlen( CLIENT_ID ), take_number() );
  CHECK( by_id >= 0 && by_client_id >= 0 && by_id != by_client_id );
  CHECK( count_armed( &store ) == 2 );
  pass( 1000 );

  fired const first = fire_whole( &store, by_id, &order );
  CHECK( first.order_id == UINT64_MAX && first.number == number );
  CHECK( first.timestamp == atomic_load( &wall_ms ) - 1000 );
  fired const second = fire_whole( &store, by_client_id, &order );
  CHECK( second.order_id == 0 && second.number == number + 1 );
  CHECK( second.mask != first.mask );

  CHECK( fire( &store, by_id ) == PF_ERR_SPENT );
  CHECK( fire( &store, by_client_id ) == PF_ERR_SPENT );
  CHECK( pf_armed_drop( &store, by_id ) == PF_ERR_SPENT );
  CHECK( count_armed( &store ) == 0 );
  CHECK( pf_armed_close( &store ) == PF_OK );
}

static void
test_dropped( void ) {
  pf_armed_store store;
  open_store( &store );
  int64_t const handle = arm( &store, &order, 1 );
  CHECK( pf_armed_drop( &store, handle ) == PF_OK );
  CHECK( pf_armed_drop( &store, handle ) == PF_ERR_SPENT );
  CHECK( fire( &store, handle ) == PF_ERR_SPENT );
  CHECK( count_armed( &store ) == 0 );
  CHECK( pf_armed_close( &store ) == PF_OK );
}

/* Whoever comes to the place of an entry that is gone has another handle. */

static void
test_handles( void ) {
  pf_armed_store store;
  pf_armed_store other;
  open_store( &store );
  open_store( &other );
  int64_t const gone = arm( &store, &order, 1 );
  CHECK( pf_armed_drop( &store, gone ) == PF_OK );
  int64_t const handle = arm( &store, &order, 2 );
  CHECK( handle != gone && same_place( handle, gone ) );
  CHECK( fire( &store, gone ) == PF_ERR_SPENT );
  CHECK( pf_armed_drop( &store, gone ) == PF_ERR_SPENT );

  for( unsigned bit = 0; bit < 64; bit++ ) {
    int64_t const wrong = (int64_t)( (uint64_t)handle ^ (uint64_t)1 << bit );
    CHECK( fire( &store, wrong ) == PF_ERR_SPENT );
    CHECK( pf_armed_drop( &store, wrong ) == PF_ERR_SPENT );
  }
  CHECK( fire( &store, -1 ) == PF_ERR_SPENT );
  CHECK( fire( &store, 0 ) == PF_ERR_SPENT );
  CHECK( fire( &store, INT64_MIN ) == PF_ERR_SPENT );
  CHECK( fire( &store, INT64_MAX ) == PF_ERR_SPENT );

  CHECK( fire( &other, handle ) == PF_ERR_SPENT );
  CHECK( pf_armed_drop( &other, handle ) == PF_ERR_SPENT );
  CHECK( fire_whole( &store, handle, &order ).order_id == 2 );

  int64_t const left_over = arm( &store, &order, 3 );
  CHECK( pf_armed_close( &store ) == PF_OK );
  CHECK( pf_armed_close( &store ) == PF_ERR_CLOSED );
  CHECK( fire( &store, left_over ) == PF_ERR_CLOSED );
  CHECK( add( &store, &order, 1, take_number() ) == PF_ERR_CLOSED );
  /* The same place, opened anew: neither old handle opens anything. */
  pf_armed_store successor;
  open_store( &successor );
  CHECK( successor.place == store.place );
  int64_t const in_its_place = arm( &successor, &order, 4 );
  CHECK( same_place( in_its_place, left_over ) );
  CHECK( fire( &store, in_its_place ) == PF_ERR_CLOSED );
  CHECK( fire( &successor, left_over ) == PF_ERR_SPENT );
  CHECK( pf_armed_keep( &store ) == PF_ERR_CLOSED );
  CHECK( pf_armed_close( &store ) == PF_ERR_CLOSED );
  CHECK( fire_whole( &successor, in_its_place, &order ).order_id == 4 );
  CHECK( pf_armed_close( &successor ) == PF_OK );
  CHECK( pf_armed_close( &other ) == PF_OK );
}

static void
test_refused( void ) {
  pf_armed_store store;
  pf_template    of_closed_key;
  pf_template    of_all;
  pf_template    with_pool = order;
  pf_key         closed;
  uint8_t        pubkey[PF_PUBKEY_SZ];
  uint64_t const number = take_number();
  CHECK( pf_key_open( &closed, pubkey, seed ) == PF_OK );
  make( &of_closed_key, &closed, WINDOW );
  CHECK( pf_key_close( &closed ) == PF_OK );
  CHECK( pf_template_make( &of_all, PF_CANCEL_ALL, &key, NULL, ACCOUNT, strlen( ACCOUNT ), "", 0, "", 0, 0,
                           WINDOW ) == PF_OK );
  with_pool.pool.place = &with_pool;

  open_store( &store );
  int64_t const first = arm( &store, &order, 1 );
  CHECK( pf_armed_drop( &store, first ) == PF_OK );
  CHECK( add( &store, &order, 1, 0 ) == PF_ERR_ARGUMENT );
  CHECK( add( &store, &with_pool, 1, number ) == PF_ERR_ARGUMENT );
  CHECK( add( &store, &of_all, 1, number ) == PF_ERR_ARGUMENT );
  CHECK( add( &store, &of_closed_key, 1, number ) == PF_ERR_CLOSED );
  CHECK( add( &store, &order, 1, number + 1000 ) == PF_ERR_FORKED ); /* a number that nobody reserved */
  CHECK( pf_armed_add( &store, &order, 0, CLIENT_ID, 35, number ) == PF_ERR_ARGUMENT );
  CHECK( pf_armed_add( &store, &order, 0, CLIENT_ID "0", 37, number ) == PF_ERR_ARGUMENT );
  CHECK( pf_armed_add( &store, &order, 0, "79F948FD-7556-4066-A128-083F3EA49322", 36, number ) ==
         PF_ERR_ARGUMENT );
  atomic_store( &clocks_fail, 1 );
  CHECK( add( &store, &order, 1, number ) == PF_ERR_CLOCK );
  atomic_store( &clocks_fail, 0 );
  atomic_store( &fake_signing_fails, 1 );
  CHECK( add( &store, &order, 1, number ) == PF_ERR_SODIUM );
  atomic_store( &fake_signing_fails, 0 );
  CHECK( count_armed( &store ) == 0 );

  int64_t const next = arm( &store, &order, 1 ); /* none of them kept its place */
  CHECK( same_place( next, first ) );
  CHECK( pf_armed_close( &store ) == PF_OK );
}

/* Nothing is spent when there is no room, or no clock to tell its age. */

static void
test_nothing_is_spent_in_vain( void ) {
  pf_armed_store store;
  char           out[2 * PF_FRAME_MAX];
  int64_t        ends[2] = { 7, 7 };
  open_store( &store );
  int64_t const handles[2] = { arm( &store, &order, 1 ), arm( &store, &order, 2 ) };
  memset( out, 0x5a, sizeof( out ) );
  CHECK( fire_into( out, PF_FRAME_MAX - 1, &store, handles[0] ) == PF_ERR_CAPACITY );
  CHECK( fire_into( out, 0, &store, handles[0] ) == PF_ERR_CAPACITY );
  CHECK( pf_armed_fire_many( out, sizeof( out ) - 1, &store, handles, 2, ends ) == PF_ERR_CAPACITY );
  CHECK( pf_armed_fire_many( out, sizeof( out ), &store, handles, SIZE_MAX, ends ) == PF_ERR_CAPACITY );
  atomic_store( &clocks_fail, 1 );
  CHECK( fire_into( out, sizeof( out ), &store, handles[0] ) == PF_ERR_CLOCK );
  CHECK( pf_armed_fire_many( out, sizeof( out ), &store, handles, 2, ends ) == PF_ERR_CLOCK );
  atomic_store( &clocks_fail, 0 );
  for( size_t i = 0; i < sizeof( out ); i++ ) {
    CHECK( out[i] == 0x5a );
  }
  CHECK( ends[0] == 7 && ends[1] == 7 );
  CHECK( count_armed( &store ) == 2 );
  CHECK( fire_whole( &store, handles[0], &order ).order_id == 1 );
  CHECK( fire_whole( &store, handles[1], &order ).order_id == 2 );
  CHECK( pf_armed_close( &store ) == PF_OK );
}

static void
test_fire_many( void ) {
  enum { MANY = 40 };
  static char    out[( MANY + 2 ) * PF_FRAME_MAX];
  pf_armed_store store;
  int64_t        handles[MANY + 2];
  int64_t        ends[MANY + 2];
  open_store( &store );
  for( unsigned i = 0; i < MANY; i++ ) {
    handles[i] = arm( &store, &order, i + 1 );
  }
  CHECK( pf_armed_drop( &store, handles[3] ) == PF_OK );
  handles[MANY]     = handles[5]; /* twice */
  handles[MANY + 1] = -1;

  int64_t const total = pf_armed_fire_many( out, sizeof( out ), &store, handles, MANY + 2, ends );
  int64_t       start = 0;
  for( unsigned i = 0; i < MANY; i++ ) {
    if( i == 3 ) {
      CHECK( ends[i] == PF_ERR_SPENT );
      continue;
    }
    CHECK( ends[i] > start );
    CHECK( take_apart( out + start, ends[i] - start, &order ).order_id == i + 1 );
    start = ends[i];
  }
  CHECK( ends[MANY] == PF_ERR_SPENT && ends[MANY + 1] == PF_ERR_SPENT );
  CHECK( total == start );
  CHECK( count_armed( &store ) == 0 );
  CHECK( pf_armed_fire_many( out, 0, &store, NULL, 0, NULL ) == 0 );
  CHECK( pf_armed_close( &store ) == PF_OK );
  CHECK( pf_armed_fire_many( out, sizeof( out ), &store, handles, 1, ends ) == PF_ERR_CLOSED );
}

/* Handles at the very ends of what may be read: no others are. */

static void
fire_at_the_end( const pf_armed_store *store, int64_t *handles, size_t count ) {
  char    out[3 * PF_FRAME_MAX];
  int64_t ends[3];
  for( size_t i = 0; i < count; i++ ) {
    handles[i] = arm( store, &order, i + 1 );
  }
  int64_t const total = pf_armed_fire_many( out, sizeof( out ), store, handles, count, ends );
  CHECK( count ? total == ends[count - 1] : total == 0 );
}

static void
test_no_other_handle_is_read( void ) {
  size_t const   page = (size_t)sysconf( _SC_PAGESIZE );
  uint8_t *const room = mmap( NULL, 3 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0 );
  CHECK( room != MAP_FAILED );
  CHECK( mprotect( room + page, page, PROT_READ | PROT_WRITE ) == 0 );
  int64_t *const first = (void *)( room + page );
  int64_t *const end   = (void *)( room + 2 * page );
  pf_armed_store store;
  open_store( &store );
  for( size_t count = 0; count <= 3; count++ ) {
    fire_at_the_end( &store, first, count );
    fire_at_the_end( &store, end - count, count );
  }
  CHECK( count_armed( &store ) == 0 );
  CHECK( pf_armed_close( &store ) == PF_OK );
  CHECK( munmap( room, 3 * page ) == 0 );
}

/* Age, by each clock alone. */

static int64_t
fire_of_after( const pf_template *t, int64_t monotonic, int64_t wall ) {
  pf_armed_store store;
  open_store( &store );
  int64_t const handle = arm( &store, t, 1 );
  atomic_fetch_add( &monotonic_ms, monotonic );
  atomic_fetch_add( &wall_ms, wall );
  int64_t const rc = fire( &store, handle );
  CHECK( count_armed( &store ) == 0 );
  CHECK( fire( &store, handle ) == PF_ERR_SPENT ); /* also if it was stale */
  CHECK( pf_armed_close( &store ) == PF_OK );
  return rc;
}

static int64_t
fire_after( int64_t monotonic, int64_t wall ) {
  return fire_of_after( &order, monotonic, wall );
}

static void
test_stale( void ) {
  CHECK( fire_after( 0, 0 ) > 0 );
  CHECK( fire_after( WINDOW / 2, WINDOW / 2 ) > 0 );
  CHECK( fire_after( WINDOW / 2 + 1, 0 ) == PF_ERR_STALE );
  CHECK( fire_after( 0, WINDOW / 2 + 1 ) == PF_ERR_STALE );
  CHECK( fire_after( 0, -1 ) == PF_ERR_STALE ); /* nothing stamped in the future */
  CHECK( fire_after( 100, -3600000 ) == PF_ERR_STALE );
  CHECK( fire_after( 0, (int64_t)1 << 40 ) == PF_ERR_STALE );
  atomic_store( &wall_ms, START );
  pf_template of_a_day;
  make( &of_a_day, &key, 86400000 );
  CHECK( fire_of_after( &of_a_day, 43200000, 0 ) > 0 ); /* to the millisecond, by each clock */
  CHECK( fire_of_after( &of_a_day, 43200001, 0 ) == PF_ERR_STALE );
  CHECK( fire_of_after( &of_a_day, 0, 43200000 ) > 0 );
  CHECK( fire_of_after( &of_a_day, 0, 43200001 ) == PF_ERR_STALE );
  atomic_store( &wall_ms, START );
}

static void
test_stale_among_many( void ) {
  pf_armed_store store;
  char           out[3 * PF_FRAME_MAX];
  int64_t        ends[3];
  open_store( &store );
  int64_t handles[3];
  handles[0] = arm( &store, &order, 1 );
  handles[1] = arm( &store, &short_order, 2 );
  pass( SHORT_WINDOW / 2 + 1 );
  handles[2]          = arm( &store, &order, 3 );
  int64_t const total = pf_armed_fire_many( out, sizeof( out ), &store, handles, 3, ends );
  CHECK( ends[1] == PF_ERR_STALE && ends[2] == total );
  CHECK( take_apart( out, ends[0], &order ).order_id == 1 );
  CHECK( take_apart( out + ends[0], ends[2] - ends[0], &order ).order_id == 3 );
  CHECK( pf_armed_close( &store ) == PF_OK );
}

static void
test_any_window( void ) {
  int64_t const windows[] = { 1, 2, 3, INT64_MAX };
  for( size_t i = 0; i < sizeof( windows ) / sizeof( windows[0] ); i++ ) {
    pf_armed_store store;
    pf_template    t;
    open_store( &store );
    make( &t, &key, windows[i] );
    int64_t const now   = arm( &store, &t, 1 );
    int64_t const later = arm( &store, &t, 1 );
    CHECK( fire_whole( &store, now, &t ).order_id == 1 );
    pass( 2 );
    CHECK( fire( &store, later ) == PF_ERR_STALE || windows[i] == INT64_MAX );
    CHECK( pf_armed_close( &store ) == PF_OK );
  }
}

/* The keeper. */

static void
test_keeper( void ) {
  pf_armed_store store;
  uint64_t const number = take_number();
  open_store( &store );
  pthread_t const keeper  = start_keeper( &store );
  int64_t const   old_one = arm( &store, &order, 1 ); /* is not due when the short one is */
  int64_t const   kept    = add( &store, &short_order, 2, number );
  CHECK( kept >= 0 );
  for( unsigned times = 1; times <= 5; times++ ) {
    pass( SHORT_WINDOW / 3 + 1 );
    wait_until_resigned( &store, times );
    CHECK( count_resigned( &store ) == times ); /* that one alone: they are looked at in order */
  }
  fired const f = fire_whole( &store, kept, &short_order );
  CHECK( f.number == number && f.order_id == 2 );
  CHECK( f.timestamp == atomic_load( &wall_ms ) );
  CHECK( fire_whole( &store, old_one, &order ).timestamp == f.timestamp - 5 * ( SHORT_WINDOW / 3 + 1 ) );

  CHECK( pf_armed_keep( &store ) == PF_ERR_ARGUMENT ); /* one keeper is enough */
  close_kept( &store, keeper );
  CHECK( pf_armed_keep( &store ) == PF_ERR_CLOSED );
}

/* The wall clock was set back, or forward: nothing is fired that is
   stamped in the future or long ago, until the keeper has signed it anew. */

static void
test_keeper_after_the_clock_was_set( void ) {
  pf_armed_store store;
  open_store( &store );
  pthread_t const keeper = start_keeper( &store );
  for( uint64_t i = 1; i <= 2; i++ ) {
    int64_t const handle = arm( &store, &order, 1 );
    atomic_fetch_add( &wall_ms, i == 1 ? -3600000 : 7200000 );
    wait_until_resigned( &store, i );
    CHECK( fire_whole( &store, handle, &order ).timestamp == atomic_load( &wall_ms ) );
  }
  close_kept( &store, keeper );
  atomic_store( &wall_ms, START );
}

/* A key that is closed: its cancels become stale, and keep nobody from
   keeping the others. */

/* A cancel armed with one correction, and fired when it has become
   another: fresh exactly if the exchange, as far as is known, sees an age
   from 0 to half the window. */

static int64_t
fire_corrected( int64_t before, int64_t after, int64_t age, int64_t wall_steps ) {
  pf_clock       clock = { 0 };
  pf_template    t;
  pf_armed_store store;
  char           frame[PF_FRAME_MAX];
  make( &t, &key, WINDOW );
  pf_template_set_clock( &t, &clock );
  CHECK( pf_clock_correct( &clock, before ) == PF_OK );
  open_store( &store );
  int64_t const signed_at = atomic_load( &wall_ms );
  int64_t const handle    = arm( &store, &t, 1 );
  pass( age );
  atomic_fetch_add( &wall_ms, wall_steps );
  CHECK( pf_clock_correct( &clock, after ) == PF_OK );
  int64_t const len = fire_into( frame, sizeof( frame ), &store, handle );
  if( len > 0 ) {
    CHECK( take_apart( frame, len, &t ).timestamp == signed_at + before );
  }
  CHECK( fire( &store, handle ) == PF_ERR_SPENT );
  CHECK( pf_armed_close( &store ) == PF_OK );
  return len;
}

static void
test_corrected_age( void ) {
  CHECK( fire_corrected( 0, 0, 0, 0 ) > 0 );
  CHECK( fire_corrected( -700, -700, 0, 0 ) > 0 );
  CHECK( fire_corrected( 700, 700, 3000, 0 ) > 0 );
  CHECK( fire_corrected( 700, 700, 3001, 0 ) == PF_ERR_STALE );
  /* The exchange is further ahead than was known: older. */
  CHECK( fire_corrected( 0, 700, 2300, 0 ) > 0 );
  CHECK( fire_corrected( 0, 700, 2301, 0 ) == PF_ERR_STALE );
  CHECK( fire_corrected( -PF_CORRECTION_MAX, PF_CORRECTION_MAX, 0, 0 ) == PF_ERR_STALE );
  /* It is less far ahead: stamped in its future, until that has passed. */
  CHECK( fire_corrected( 0, -1, 0, 0 ) == PF_ERR_STALE );
  CHECK( fire_corrected( 0, -700, 699, 0 ) == PF_ERR_STALE );
  CHECK( fire_corrected( 0, -700, 700, 0 ) > 0 );
  /* And never younger than either clock says. */
  CHECK( fire_corrected( 0, -700, 3001, 0 ) == PF_ERR_STALE );
  CHECK( fire_corrected( PF_CORRECTION_MAX, -PF_CORRECTION_MAX, 10, 0 ) == PF_ERR_STALE );
  /* A correction that undoes a step of the clock does not hide it. */
  CHECK( fire_corrected( 0, -5000, 100, 5000 ) == PF_ERR_STALE );
  CHECK( fire_corrected( 0, 5000, 100, -5000 ) == PF_ERR_STALE );
  CHECK( fire_corrected( 5000, 0, 100, 5000 ) == PF_ERR_STALE );
}

/* The keeper signs anew what the exchange would call due, or from the
   future, and stamps it with the correction of now. */

static void
test_keeper_after_the_correction_changed( void ) {
  static int64_t const corrections[] = { 2001, 0, -1, 800, -86400000, 1999 };
  pf_clock             clock         = { 0 };
  pf_template          t;
  pf_armed_store       store;
  make( &t, &key, WINDOW );
  pf_template_set_clock( &t, &clock );
  open_store( &store );
  int64_t const   handle = arm( &store, &t, 1 );
  pthread_t const keeper = start_keeper( &store );
  int64_t         before = 0;
  uint64_t        times  = 0;
  for( size_t i = 0; i < sizeof( corrections ) / sizeof( corrections[0] ); i++ ) {
    int64_t const change = corrections[i] - before;
    before               = corrections[i];
    CHECK( pf_clock_correct( &clock, corrections[i] ) == PF_OK );
    if( change < 0 || change > WINDOW / 3 ) {
      times++;
      wait_until_resigned( &store, times );
    }
  }
  CHECK( count_resigned( &store ) == times );
  CHECK( fire_whole( &store, handle, &t ).timestamp == atomic_load( &wall_ms ) + before );
  close_kept( &store, keeper );
}

/* One store, one clock; and none that would have a cancel stamped before
   1970. */

static void
test_clocks_refused( void ) {
  pf_clock       clock   = { 0 };
  pf_clock       another = { 0 };
  pf_template    t;
  pf_template    u;
  pf_armed_store store;
  make( &t, &key, WINDOW );
  make( &u, &key, WINDOW );
  pf_template_set_clock( &t, &clock );
  pf_template_set_clock( &u, &another );
  for( unsigned times = 0; times < 2; times++ ) { /* a closed store forgets its clock */
    open_store( &store );
    (void)arm( &store, times ? &u : &t, 1 );
    CHECK( add( &store, times ? &t : &u, 1, take_number() ) == PF_ERR_ARGUMENT );
    CHECK( add( &store, &order, 1, take_number() ) == PF_ERR_ARGUMENT );
    CHECK( count_armed( &store ) == 1 );
    CHECK( pf_armed_close( &store ) == PF_OK );
  }
  int64_t const wall = atomic_exchange( &wall_ms, 1000 );
  open_store( &store );
  CHECK( pf_clock_correct( &clock, -1000 ) == PF_OK );
  CHECK( add( &store, &t, 1, take_number() ) == PF_ERR_CLOCK );
  CHECK( pf_clock_correct( &clock, -999 ) == PF_OK );
  CHECK( fire_whole( &store, arm( &store, &t, 1 ), &t ).timestamp == 1 );
  CHECK( pf_armed_close( &store ) == PF_OK );
  atomic_store( &wall_ms, wall );
}

/* An eighth of the shortest window, and not more than 50 ms. */

static void
check_pause( int64_t window, int64_t longer, long ms ) {
  pf_template    with[2];
  pf_armed_store store;
  open_store( &store );
  if( window ) {
    make( &with[0], &key, window );
    make( &with[1], &key, longer );
    (void)arm( &store, &with[0], 1 );
    (void)arm( &store, &with[1], 2 );
  }
  atomic_store( &looks, 0 );
  atomic_store( &pause_ns, 0 );
  atomic_store( &longest_pause_ns, 0 );
  pthread_t const keeper = start_keeper( &store );
  while( atomic_load( &looks ) < 3 ) {
    pause_briefly();
  }
  CHECK( atomic_load( &longest_pause_ns ) == ms * 1000000 );
  close_kept( &store, keeper );
}

static void
test_how_long_a_keeper_pauses( void ) {
  check_pause( WINDOW, WINDOW, 50 );
  check_pause( 200, WINDOW, 25 );
  check_pause( WINDOW, 200, 25 );
  check_pause( 64, 72, 8 ); /* more than one piece of 5 ms, and not a multiple */
  check_pause( 1, WINDOW, 1 );
  check_pause( 0, 0, 50 ); /* nothing armed: what a closed store had is forgotten */
}

/* Each entry is looked at, also if it is the only one. */

static void
test_any_entry_is_kept( void ) {
  enum { ENTRIES = 256 };
  static int64_t handles[ENTRIES];
  for( unsigned only = 0; only < ENTRIES; only++ ) {
    pf_armed_store store;
    open_store( &store );
    for( unsigned i = 0; i <= only; i++ ) {
      handles[i] = arm( &store, &short_order, i + 1 );
    }
    for( unsigned i = 0; i < only; i++ ) {
      CHECK( pf_armed_drop( &store, handles[i] ) == PF_OK );
    }
    pass( SHORT_WINDOW / 3 + 1 );
    pthread_t const keeper = start_keeper( &store );
    wait_until_resigned( &store, 1 );
    CHECK( fire_whole( &store, handles[only], &short_order ).timestamp == atomic_load( &wall_ms ) );
    close_kept( &store, keeper );
  }
}

/* What is another store's is not looked at. */

static void
test_a_keeper_keeps_to_its_store( void ) {
  pf_armed_store other;
  pf_armed_store store;
  open_store( &other );
  int64_t const not_kept = arm( &other, &short_order, 1 );
  open_store( &store );
  int64_t const kept = arm( &store, &short_order, 2 ); /* in a later chunk */
  int64_t const then = atomic_load( &wall_ms );
  pass( SHORT_WINDOW / 3 + 1 );
  pthread_t const keeper = start_keeper( &store );
  wait_until_resigned( &store, 1 );
  CHECK( fire_whole( &other, not_kept, &short_order ).timestamp == then );
  CHECK( fire_whole( &store, kept, &short_order ).timestamp == atomic_load( &wall_ms ) );
  CHECK( pf_armed_close( &other ) == PF_OK );
  close_kept( &store, keeper );
}

static void
test_keeper_and_closed_key( void ) {
  pf_armed_store store;
  pf_template    of_closed_key;
  pf_key         closed;
  uint8_t        pubkey[PF_PUBKEY_SZ];
  CHECK( pf_key_open( &closed, pubkey, seed ) == PF_OK );
  make( &of_closed_key, &closed, SHORT_WINDOW );
  open_store( &store );
  pthread_t const keeper = start_keeper( &store );
  int64_t const   left   = arm( &store, &of_closed_key, 1 );
  int64_t const   fine   = arm( &store, &short_order, 2 );
  CHECK( pf_key_close( &closed ) == PF_OK );
  CHECK( fire_whole( &store, arm( &store, &short_order, 3 ), &short_order ).order_id == 3 );
  for( uint64_t times = 1; times <= 2; times++ ) {
    pass( SHORT_WINDOW / 3 + 1 );
    wait_until_resigned( &store, times );
    CHECK( count_resigned( &store ) == times );
  }
  CHECK( fire( &store, left ) == PF_ERR_STALE );
  CHECK( fire_whole( &store, fine, &short_order ).order_id == 2 );
  close_kept( &store, keeper );
}

/* What could not be signed once is not tried again and again. */

static void
test_keeper_gives_up( void ) {
  pf_armed_store store;
  open_store( &store );
  int64_t const failed = arm( &store, &short_order, 1 );
  int64_t const second = arm( &store, &short_order, 2 );
  pass( SHORT_WINDOW / 3 + 1 );
  unsigned const signatures = atomic_load( &fake_signatures );
  atomic_store( &fake_signing_fails, 1 );
  pthread_t const keeper = start_keeper( &store );
  while( atomic_load( &fake_signatures ) < signatures + 2 ) { /* then the first has failed */
    pause_briefly();
  }
  atomic_store( &fake_signing_fails, 0 );
  CHECK( pf_armed_drop( &store, second ) == PF_OK );
  (void)arm( &store, &quick_order, 3 );
  for( unsigned times = 0; times < 5; times++ ) {
    uint64_t const so_far = count_resigned( &store );
    pass( QUICK_WINDOW );
    wait_until_resigned( &store, so_far + 1 );
  }
  CHECK( fire_whole( &store, failed, &short_order ).timestamp < atomic_load( &wall_ms ) - SHORT_WINDOW / 3 );
  close_kept( &store, keeper );
}

static void
test_close_ends_a_keeper_that_works( void ) {
  pf_armed_store store;
  open_store( &store );
  for( unsigned i = 0; i < 2000; i++ ) {
    (void)arm( &store, &quick_order, i );
  }
  pthread_t const keeper = start_keeper( &store );
  pass( QUICK_WINDOW );
  wait_until_resigned( &store, 1 );
  close_kept( &store, keeper );
}

/* While a cancel is armed its frame stands, masked, in its entry; message
   and signature stand nowhere.  When it was fired, dropped, replaced, too
   old, or the store is closed, nothing is left.  The traces are bytes out
   of the signature: as such, in base58, and masked. */

#define IN_SIGNATURE 144 /* where in the text: account and id are of fixed length */

typedef struct {
  uint8_t signature[NEEDLE_SZ];
  uint8_t text[NEEDLE_SZ];
  uint8_t masked[NEEDLE_SZ];
} traces;

static void
mask_trace( traces *tr, uint32_t mask ) {
  for( size_t i = 0; i < NEEDLE_SZ; i++ ) {
    tr->masked[i] = tr->text[i] ^ ( (const uint8_t *)&mask )[i % PF_MASK_SZ];
  }
}

/* traces_of an order that is signed now. */

static traces
traces_of( uint64_t order_id, uint64_t number ) {
  char          message[512];
  char          text[PF_REQUEST_MAX];
  uint8_t       signature[PF_SIGNATURE_SZ];
  traces        tr;
  int64_t const now    = atomic_load( &wall_ms );
  int const     length = snprintf( message, sizeof( message ),
                                   "{\"data\":{\"order_id\":%" PRIu64
                                   ",\"symbol\":\"BTC\"},\"expiry_window\":%d,\"timestamp\":%" PRId64
                                   ",\"type\":\"cancel_order\"}",
                                   order_id, WINDOW, now );
  fake_signature_of( signature, seed, message, (size_t)length );
  CHECK( pf_cancel_order_id( text, sizeof( text ), &order, order_id, now, number, NULL, 0 ) > 300 );
  invert( tr.signature, signature );
  invert( tr.text, text + IN_SIGNATURE );
  mask_trace( &tr, 0 );
  pf_wipe( text, sizeof( text ) );
  pf_wipe( message, sizeof( message ) );
  pf_wipe( signature, sizeof( signature ) );
  pf_sodium_wipe_stack();
  return tr;
}

static int64_t
arm_and_trace( const pf_armed_store *store, traces *tr ) {
  static uint64_t order_id = 4000;
  uint64_t const  number   = take_number();
  *tr                      = traces_of( ++order_id, number );
  CHECK( pf_armed_drop( store, arm( store, &order, 1 ) ) == PF_OK ); /* now its place is mapped */
  find_mappings();
  int64_t const handle       = add( store, &order, order_id, number );
  int const     signed_bytes = stands_anywhere( tr->signature );
  int const     signed_text  = stands_anywhere( tr->text );
  CHECK( handle >= 0 && !signed_bytes && !signed_text );
  mask_trace( tr, mask_number( atomic_load( &masks_drawn ) ) );
  CHECK( stands_anywhere( tr->masked ) );
  return handle;
}

static void
check_gone( const traces *tr ) {
  find_mappings();
  CHECK( !stands_anywhere( tr->masked ) );
  CHECK( !stands_anywhere( tr->signature ) );
  CHECK( !stands_anywhere( tr->text ) );
}

/* In the middle of a signature of the keeper, everything else goes on. */

static pf_armed_store     shared;
static _Atomic( int64_t ) shared_handle;
static atomic_uint        mask_of_keeper; /* the next one it will draw */
static atomic_int         shared_step;    /* 0: before, 1: seen by the keeper */
static void ( *meanwhile )( void );

static void
once_while_signing( void ) {
  if( !atomic_load( &shared_step ) ) {
    atomic_store( &fake_while_signing, NULL );
    meanwhile();
    atomic_store( &mask_of_keeper, mask_number( atomic_load( &masks_drawn ) + 1 ) );
    atomic_store( &shared_step, 1 );
  }
}

/* Points of pf_armed.c that the keeper passes: the first before it signs,
   the second when it has published, the third when it has wiped.  Where
   nothing is to happen, other threads are let in now and then. */

static atomic_int act_at; /* 0: not at a point */

#if defined( PF_TEST_INTERLEAVED )
#define POINTS 3

static _Thread_local unsigned points_to_fork; /* until this thread forks; 0: it does not */
static pid_t                  child_in_between;

void
check_interleave( void ) {
  static _Thread_local uint64_t state;
  struct timespec const         while_others_run = { 0, 20000 };
  static _Thread_local int      point;
  if( is_keeper && atomic_load( &act_at ) && ++point == atomic_load( &act_at ) ) {
    unsigned const drawn = atomic_load( &masks_drawn );
    atomic_store( &act_at, 0 );
    meanwhile();
    atomic_store( &mask_of_keeper, mask_number( point > 1 ? drawn : atomic_load( &masks_drawn ) + 1 ) );
    atomic_store( &shared_step, 1 );
  }
  if( points_to_fork && !--points_to_fork ) {
    child_in_between = fork();
    CHECK( child_in_between >= 0 );
  }
  switch( check_mix( &state ) % 32 ) {
  case 0: (void)nanosleep( &while_others_run, NULL ); break;
  case 1:
  case 2:
  case 3: (void)sched_yield(); break;
  default: break;
  }
}
#else
#define POINTS 0
#endif

static void
fire_meanwhile( void ) {
  fired const f = fire_whole( &shared, atomic_load( &shared_handle ), &order );
  CHECK( f.timestamp == atomic_load( &wall_ms ) - ( WINDOW / 3 + 1 ) ); /* the old one, whole */
  CHECK( fire( &shared, atomic_load( &shared_handle ) ) == PF_ERR_SPENT );
  CHECK( pf_armed_drop( &shared, atomic_load( &shared_handle ) ) == PF_ERR_SPENT );
}

static void
drop_meanwhile( void ) {
  CHECK( pf_armed_drop( &shared, atomic_load( &shared_handle ) ) == PF_OK );
  CHECK( fire( &shared, atomic_load( &shared_handle ) ) == PF_ERR_SPENT );
}

/* The entry stays the keeper's until it is done with it. */

static void
replace_meanwhile( void ) {
  int64_t const gone = atomic_load( &shared_handle );
  CHECK( pf_armed_drop( &shared, gone ) == PF_OK );
  int64_t const next = arm( &shared, &order, 3 );
  CHECK( !same_place( next, gone ) );
  CHECK( fire_whole( &shared, next, &order ).order_id == 3 );
}

static void
nothing_meanwhile( void ) {
}

/* while_resigning does it in the middle of the signature, point 0, or at
   a point above. */

static void
while_resigning( void ( *what )( void ), int point ) {
  uint64_t const number = take_number();
  open_store( &shared );
  atomic_store( &shared_handle, add( &shared, &order, 1, number ) );
  (void)arm( &shared, &quick_order, 2 );
  meanwhile = what;
  atomic_store( &shared_step, 0 );
  pass( WINDOW / 3 + 1 ); /* both are due, and looked at in this order */
  traces by_keeper = traces_of( 1, number );
  atomic_store( &fake_while_signing, point ? NULL : once_while_signing );
  atomic_store( &act_at, point );
  pthread_t const keeper = start_keeper( &shared );
  wait_until_resigned( &shared, what == nothing_meanwhile || point > 1 ? 2 : 1 );
  CHECK( atomic_load( &shared_step ) == 1 );
  mask_trace( &by_keeper, atomic_load( &mask_of_keeper ) );
  find_mappings();
  CHECK( stands_anywhere( by_keeper.masked ) == ( what == nothing_meanwhile ) );
  if( what == nothing_meanwhile ) {
    fired const f = fire_whole( &shared, atomic_load( &shared_handle ), &order );
    CHECK( f.timestamp == atomic_load( &wall_ms ) );
  }
  /* The place is free again, once and for one. */
  int64_t const again = arm( &shared, &order, 4 );
  int64_t const more  = arm( &shared, &order, 5 );
  CHECK( same_place( again, atomic_load( &shared_handle ) ) && !same_place( again, more ) );
  CHECK( fire_whole( &shared, again, &order ).order_id == 4 );
  CHECK( fire_whole( &shared, more, &order ).order_id == 5 );
  CHECK( count_armed( &shared ) == 1 );
  close_kept( &shared, keeper );
}

static void
test_meanwhile( void ) {
  while_resigning( fire_meanwhile, 0 );
  while_resigning( drop_meanwhile, 0 );
  while_resigning( replace_meanwhile, 0 );
  while_resigning( nothing_meanwhile, 0 );
  for( int point = 1; point <= POINTS; point++ ) {
    while_resigning( drop_meanwhile, point );
    while_resigning( replace_meanwhile, point );
  }
}

/* A frame that the keeper signs after fire() has read the clocks is not
   from the future. */

static void
resign_now( void ) {
  pass( SHORT_WINDOW / 3 + 1 );
  wait_until_resigned( &shared, 1 );
}

static void
test_signed_since_the_clocks_were_read( void ) {
  open_store( &shared );
  int64_t const   handle = arm( &shared, &short_order, 1 );
  pthread_t const keeper = start_keeper( &shared );
  once_clocks_are_read   = resign_now;
  CHECK( fire_whole( &shared, handle, &short_order ).timestamp == atomic_load( &wall_ms ) );
  CHECK( once_clocks_are_read == NULL );
  close_kept( &shared, keeper );
}

static void
test_no_traces( void ) {
  pf_armed_store store;
  traces         tr;
  static char    out[PF_FRAME_MAX];
  open_store( &store );

  int64_t handle = arm_and_trace( &store, &tr );
  CHECK( fire_into( out, sizeof( out ), &store, handle ) > 300 );
  pf_wipe( out, sizeof( out ) );
  check_gone( &tr );

  handle = arm_and_trace( &store, &tr );
  CHECK( pf_armed_drop( &store, handle ) == PF_OK );
  check_gone( &tr );

  handle = arm_and_trace( &store, &tr );
  pass( WINDOW / 2 + 1 );
  CHECK( fire_into( out, sizeof( out ), &store, handle ) == PF_ERR_STALE );
  check_gone( &tr );

  pthread_t const keeper = start_keeper( &store );
  (void)arm_and_trace( &store, &tr );
  int64_t const after = arm( &store, &order, 1 );
  pass( WINDOW / 3 + 1 );
  wait_until_resigned( &store, 2 ); /* the first was put away before the second was signed */
  check_gone( &tr );
  CHECK( pf_armed_drop( &store, after ) == PF_OK );

  (void)arm_and_trace( &store, &tr );
  close_kept( &store, keeper );
  check_gone( &tr );
}

/* Closing wipes by itself, and frees, what the kernel does not take back. */

static void
check_locked_pages( uint64_t times_resigned ) { /* into the other frame of the two */
  uint64_t const number = take_number();
  pf_armed_store store;
  open_store( &store );
  CHECK( pf_armed_drop( &store, arm( &store, &order, 1 ) ) == PF_OK ); /* its place is mapped */
  int64_t const first = arm( &store, &order, 1 );                      /* not the first of its chunk */
  int64_t const gone  = add( &store, &order, 2, number );
  CHECK( gone >= 0 );
  if( times_resigned ) {
    CHECK( pf_armed_drop( &store, first ) == PF_OK );
    pass( WINDOW / 3 + 1 );
  }
  pthread_t const keeper = start_keeper( &store );
  wait_until_resigned( &store, times_resigned );
  size_t const mapped = count_mappings();
  traces       tr     = traces_of( 2, number );
  mask_trace( &tr, mask_number( atomic_load( &masks_drawn ) ) );
  find_mappings();
  CHECK( stands_anywhere( tr.masked ) );
  atomic_store( &pages_are_locked, 1 );
  close_kept( &store, keeper );
  atomic_store( &pages_are_locked, 0 );
  check_gone( &tr );
  open_store( &store );
  int64_t again[2];
  again[0] = arm( &store, &order, 3 );
  CHECK( fire( &store, first ) == PF_ERR_SPENT && fire( &store, gone ) == PF_ERR_SPENT );
  again[1] = arm( &store, &order, 4 );
  CHECK( same_place( again[0], first ) && same_place( again[1], gone ) );
  CHECK( fire_whole( &store, again[0], &order ).order_id == 3 );
  CHECK( fire_whole( &store, again[1], &order ).order_id == 4 );
  CHECK( count_mappings() == mapped );
  CHECK( pf_armed_close( &store ) == PF_OK );
}

static void
test_no_traces_in_locked_pages( void ) {
  check_locked_pages( 0 );
  check_locked_pages( 1 );
}

/* What could not be signed leaves nothing of a request behind. */

static void
test_no_traces_of_what_was_not_signed( void ) {
  pf_armed_store store;
  pf_template    of_closed_key;
  pf_key         closed;
  uint8_t        pubkey[PF_PUBKEY_SZ];
  uint8_t        envelope[NEEDLE_SZ];
  char           text[PF_REQUEST_MAX];
  uint64_t const number = take_number();
  CHECK( pf_key_open( &closed, pubkey, seed ) == PF_OK );
  make( &of_closed_key, &closed, WINDOW );
  CHECK( pf_key_close( &closed ) == PF_OK );
  CHECK( pf_cancel_order_id( text, sizeof( text ), &order, 1, START, number, NULL, 0 ) > NEEDLE_SZ );
  invert( envelope, text + 4 ); /* with the whole id */
  pf_wipe( text, sizeof( text ) );
  open_store( &store );
  (void)arm( &store, &order, 1 );
  find_mappings();
  CHECK( add( &store, &of_closed_key, 1, number ) == PF_ERR_CLOSED );
  CHECK( !stands_anywhere( envelope ) );
  CHECK( pf_armed_close( &store ) == PF_OK );
}

/* Forked children have nothing armed, and no close to wait for. */

static void
check_nothing_is_armed( const pf_armed_store *store, int64_t handle ) {
  char     out[PF_FRAME_MAX];
  int64_t  end;
  uint64_t counts[2];
  memset( out, 0x5a, sizeof( out ) );
  CHECK( fire_into( out, sizeof( out ), store, handle ) == PF_ERR_CLOSED );
  CHECK( pf_armed_fire_many( out, sizeof( out ), store, &handle, 1, &end ) == PF_ERR_CLOSED );
  CHECK( out[0] == 0x5a && out[PF_FRAME_MAX - 1] == 0x5a );
  CHECK( pf_armed_drop( store, handle ) == PF_ERR_CLOSED );
  CHECK( pf_armed_counts( store, &counts[0], &counts[1] ) == PF_ERR_CLOSED );
  CHECK( add( store, &order, 1, 1 ) == PF_ERR_CLOSED );
  CHECK( pf_armed_keep( store ) == PF_ERR_CLOSED );
  CHECK( pf_armed_close( store ) == PF_ERR_CLOSED );
}

static void
arm_in_child( int64_t handle_of_parent ) {
  pf_armed_store store;
  pf_template    t;
  pf_key         own_key;
  uint8_t        pubkey[PF_PUBKEY_SZ];
  CHECK( pf_key_open( &own_key, pubkey, seed ) == PF_OK );
  make( &t, &own_key, WINDOW );
  open_store( &store );
  CHECK( fire( &store, handle_of_parent ) == PF_ERR_SPENT );
  int64_t const handle = arm( &store, &t, 7 );
  CHECK( fire( &store, handle_of_parent ) == PF_ERR_SPENT );
  CHECK( fire_whole( &store, handle, &t ).order_id == 7 );
  CHECK( pf_armed_close( &store ) == PF_OK );
}

static void
test_fork( void ) {
  pf_armed_store store;
  traces         tr;
  open_store( &store );
  pthread_t const keeper = start_keeper( &store );
  int64_t const   handle = arm_and_trace( &store, &tr );
  pid_t const     child  = fork();
  if( child == 0 ) {
    check_gone( &tr );
    check_nothing_is_armed( &store, handle );
    arm_in_child( handle );
    _exit( 0 );
  }
  CHECK_CHILD_ENDS_WELL( child );
  CHECK( fire_whole( &store, handle, &order ).timestamp == atomic_load( &wall_ms ) );
  close_kept( &store, keeper );
}

/* A child that libc knows nothing of. */

static void
test_clone( void ) {
  pf_armed_store store;
  traces         tr;
  open_store( &store );
  int64_t const handle = arm_and_trace( &store, &tr );
  pid_t const   child  = clone_behind_libc();
  if( child == 0 ) {
    check_nothing_is_armed( &store, handle );
    arm_in_child( handle );
    check_gone( &tr ); /* at the latest */
    _exit( 0 );
  }
  CHECK_CHILD_ENDS_WELL( child );
  CHECK( fire_whole( &store, handle, &order ).timestamp == atomic_load( &wall_ms ) );
  CHECK( pf_armed_close( &store ) == PF_OK );
}

/* A fork in the middle of a pull, as in a signal handler: the child comes
   back into it and has nothing, not even of what was written before. */

static void
test_fork_between_two_that_are_fired( void ) {
#if defined( PF_TEST_INTERLEAVED )
  static char    out[2 * PF_FRAME_MAX];
  int64_t        ends[2];
  pf_armed_store store;
  open_store( &store );
  for( unsigned points = 1; !points_to_fork; points++ ) {
    int64_t const handles[2] = { arm( &store, &order, 1 ), arm( &store, &order, 2 ) };
    memset( out, 0, sizeof( out ) );
    points_to_fork        = points;
    child_in_between      = -1;
    int64_t const written = pf_armed_fire_many( out, sizeof( out ), &store, handles, 2, ends );
    if( child_in_between == 0 ) {
      CHECK( written == PF_ERR_CLOSED );
      CHECK( check_all_zero( (const uint8_t *)out, sizeof( out ) ) );
      _exit( 0 );
    }
    CHECK( points_to_fork || child_in_between > 0 );
    if( !points_to_fork ) {
      CHECK_CHILD_ENDS_WELL( child_in_between );
    }
    CHECK( written == ends[1] );
    CHECK( take_apart( out, ends[0], &order ).order_id == 1 );
    CHECK( take_apart( out + ends[0], ends[1] - ends[0], &order ).order_id == 2 );
  }
  points_to_fork = 0;
  CHECK( pf_armed_close( &store ) == PF_OK );
#endif
}

static void
test_forks_while_resigning( void ) {
  enum { ENTRIES = 50, FORKS = 30 };
  pf_armed_store store;
  int64_t        handles[ENTRIES];
  open_store( &store );
  for( unsigned i = 0; i < ENTRIES; i++ ) {
    handles[i] = arm( &store, &quick_order, i + 1 );
  }
  pthread_t const keeper = start_keeper( &store );
  for( unsigned i = 1; i <= FORKS; i++ ) {
    pass( QUICK_WINDOW / 3 + 1 );
    wait_until_resigned( &store, ( i - 1 ) * ENTRIES + ENTRIES / 2 ); /* in the middle of it */
    pid_t const child = fork();
    if( child == 0 ) {
      check_nothing_is_armed( &store, handles[0] );
      _exit( 0 );
    }
    CHECK_CHILD_ENDS_WELL( child );
    wait_until_resigned( &store, i * ENTRIES );
  }
  for( unsigned i = 0; i < ENTRIES; i++ ) {
    CHECK( fire_whole( &store, handles[i], &quick_order ).order_id == i + 1 );
  }
  close_kept( &store, keeper );
}

/* Ten thousand. */

#define LOTS 10000
#define STORES_MAX 4096 /* as in pf_armed.c */

static size_t
resident_bytes( void ) {
  FILE              *statm = fopen( "/proc/self/statm", "r" );
  unsigned long long pages = 0;
  CHECK( statm != NULL );
  CHECK( fscanf( statm, "%*u %llu", &pages ) == 1 );
  fclose( statm );
  return (size_t)pages * (size_t)sysconf( _SC_PAGESIZE );
}

/* Places are used again, the first of them too, and new ones are made only
   under the lock. */

static atomic_int holder_state; /* 1: holds the lock, 2: gave it back */

static void *
hold_lock( void *unused ) {
  pf_pages_lock();
  atomic_store( &holder_state, 1 );
  for( int i = 0; i < 200; i++ ) {
    pause_briefly();
  }
  atomic_store( &holder_state, 2 );
  pf_pages_unlock();
  return unused;
}

static pthread_t
hold_lock_in_thread( void ) {
  pthread_t holder;
  atomic_store( &holder_state, 0 );
  CHECK( pthread_create( &holder, NULL, hold_lock, NULL ) == 0 );
  while( !atomic_load( &holder_state ) ) {
    pause_briefly();
  }
  return holder;
}

static void
test_places_are_used_again( void ) {
  pf_armed_store stores[3];
  pf_armed_store again[3];
  CHECK( count_mappings() == 3 ); /* random bytes, keys, pairs: no store yet */
  for( size_t i = 0; i < 3; i++ ) {
    pthread_t const holder = hold_lock_in_thread();
    open_store( &stores[i] );
    CHECK( atomic_load( &holder_state ) == 2 );
    CHECK( pthread_join( holder, NULL ) == 0 );
  }
  pthread_t const holder = hold_lock_in_thread();
  (void)arm( &stores[0], &order, 1 ); /* the first chunk */
  CHECK( atomic_load( &holder_state ) == 2 );
  CHECK( pthread_join( holder, NULL ) == 0 );
  size_t const    mapped         = count_mappings();
  pthread_t const another_holder = hold_lock_in_thread();
  CHECK( pf_armed_close( &stores[0] ) == PF_OK ); /* gives its chunk back under the lock */
  CHECK( atomic_load( &holder_state ) == 2 );
  CHECK( pthread_join( another_holder, NULL ) == 0 );
  for( size_t i = 1; i < 3; i++ ) {
    CHECK( pf_armed_close( &stores[i] ) == PF_OK );
  }
  for( size_t i = 0; i < 3; i++ ) {
    open_store( &again[i] );
    CHECK( again[i].place == stores[i].place );
  }
  for( size_t i = 0; i < 3; i++ ) {
    CHECK( pf_armed_close( &again[i] ) == PF_OK );
  }
  CHECK( count_mappings() == mapped );
}

/* All entries of a chunk are used before there is another, and used again. */

static void
test_a_chunk_is_filled( void ) {
  enum { CHUNK_ENTRIES = 256 }; /* as in pf_armed.c */
  static int64_t handles[CHUNK_ENTRIES];
  pf_armed_store store;
  size_t const   mapped = count_mappings(); /* with one chunk, which is free */
  open_store( &store );
  for( unsigned times = 0; times < 3; times++ ) {
    for( unsigned i = 0; i < CHUNK_ENTRIES; i++ ) {
      handles[i] = arm( &store, &order, i );
    }
    CHECK( count_mappings() == mapped );
    for( unsigned i = 0; i < CHUNK_ENTRIES; i++ ) {
      CHECK( fire_whole( &store, handles[i], &order ).order_id == i );
    }
  }
  CHECK( pf_armed_close( &store ) == PF_OK );
}

/* A free entry is found, whichever chunk it is in: no other is mapped. */

static void
test_a_hole_is_found( void ) {
  enum { CHUNK_ENTRIES = 256, CHUNKS = 7 }; /* not a power of two: numbers wrap in another place */
  static int64_t handles[CHUNKS * CHUNK_ENTRIES];
  pf_armed_store store;
  open_store( &store );
  for( unsigned i = 0; i < CHUNKS * CHUNK_ENTRIES; i++ ) {
    handles[i] = arm( &store, &order, i );
  }
  size_t const mapped = count_mappings();
  for( unsigned i = CHUNK_ENTRIES / 2; i < CHUNKS * CHUNK_ENTRIES; i += CHUNK_ENTRIES ) {
    CHECK( fire_whole( &store, handles[i], &order ).order_id == i );
    CHECK( same_place( arm( &store, &order, i ), handles[i] ) );
    CHECK( count_mappings() == mapped );
  }
  CHECK( pf_armed_close( &store ) == PF_OK );
}

/* The keeper comes to every entry of a chunk, and of the next. */

static void
test_keeper_of_many( void ) {
  enum { COUNT = 300 };
  static int64_t handles[COUNT];
  pf_armed_store store;
  open_store( &store );
  for( unsigned i = 0; i < COUNT; i++ ) {
    handles[i] = arm( &store, &short_order, i );
  }
  pass( SHORT_WINDOW / 3 + 1 );
  pthread_t const keeper = start_keeper( &store );
  wait_until_resigned( &store, COUNT );
  for( unsigned i = 0; i < COUNT; i++ ) {
    fired const f = fire_whole( &store, handles[i], &short_order );
    CHECK( f.order_id == i && f.timestamp == atomic_load( &wall_ms ) );
  }
  close_kept( &store, keeper );
}

static void
test_handles_that_lead_nowhere( void ) {
  pf_armed_store store;
  open_store( &store );
  CHECK( pf_armed_close( &store ) == PF_OK );
  pf_armed_store const free_one = { store.place, 0 }; /* the generation of what is free */
  pf_armed_store const nowhere  = { NULL, store.generation };
  for( size_t i = 0; i < 2; i++ ) {
    pf_armed_store const *bad = i ? &free_one : &nowhere;
    uint64_t              armed;
    CHECK( add( bad, &order, 1, take_number() ) == PF_ERR_CLOSED );
    CHECK( fire( bad, 0 ) == PF_ERR_CLOSED );
    CHECK( pf_armed_drop( bad, 0 ) == PF_ERR_CLOSED );
    CHECK( pf_armed_counts( bad, &armed, &armed ) == PF_ERR_CLOSED );
    CHECK( pf_armed_keep( bad ) == PF_ERR_CLOSED );
    CHECK( pf_armed_close( bad ) == PF_ERR_CLOSED );
  }
}

/* Into each chunk that there may be, and all but a few are none. */

static void
test_handles_of_chunks_that_are_not_there( void ) {
  enum { CHUNK_ENTRIES = 256, CHUNKS_MAX = 4096 }; /* as in pf_armed.c */
  pf_armed_store store;
  open_store( &store );
  int64_t const armed = arm( &store, &order, 1 );
  for( int64_t chunk = 0; chunk < CHUNKS_MAX; chunk++ ) {
    CHECK( fire( &store, chunk * CHUNK_ENTRIES ) == PF_ERR_SPENT );
    CHECK( pf_armed_drop( &store, chunk * CHUNK_ENTRIES ) == PF_ERR_SPENT );
  }
  CHECK( fire( &store, -1 ) == PF_ERR_SPENT );
  CHECK( fire_whole( &store, armed, &order ).order_id == 1 );
  CHECK( pf_armed_close( &store ) == PF_OK );
}

/* As many stores as there may be; the last test, because they stay. */

static void
test_too_many_stores( void ) {
  static pf_armed_store stores[STORES_MAX];
  pf_armed_store        more   = { NULL, 0 };
  size_t const          before = count_mappings();
  size_t                opened = 0;
  pf_armed_store        probe; /* some are there already */
  while( opened < STORES_MAX && pf_armed_open( &stores[opened] ) == PF_OK ) {
    opened++;
  }
  CHECK( opened == STORES_MAX );
  CHECK( pf_armed_open( &more ) == PF_ERR_MEMORY );
  CHECK( more.place == NULL );
  CHECK( count_mappings() < before + STORES_MAX );
  CHECK( pf_armed_close( &stores[0] ) == PF_OK );
  open_store( &probe );
  CHECK( probe.place == stores[0].place );
}

static void
arm_lots( const pf_armed_store *store, int64_t handles[LOTS] ) {
  static uint8_t seen[1 << INDEX_BITS];
  memset( seen, 0, sizeof( seen ) );
  for( unsigned i = 0; i < LOTS; i++ ) {
    handles[i]         = arm( store, &order, i );
    size_t const index = (size_t)handles[i] & ( sizeof( seen ) - 1 );
    CHECK( !seen[index]++ );
  }
}

static void
test_lots( void ) {
  static int64_t handles[LOTS];
  pf_armed_store store;
  open_store( &store );
  arm_lots( &store, handles );
  CHECK( count_armed( &store ) == LOTS );
  size_t const while_armed = resident_bytes();
  for( unsigned i = 0; i < LOTS; i += 2 ) { /* here and there, every second one */
    unsigned const at = ( i * 7919 ) % LOTS;
    CHECK( fire_whole( &store, handles[at], &order ).order_id == at );
  }
  CHECK( count_armed( &store ) == LOTS / 2 );
  CHECK( pf_armed_close( &store ) == PF_OK );
  CHECK( resident_bytes() + (size_t)LOTS * 1000 < while_armed );

  size_t const mapped = count_mappings();
  for( unsigned times = 0; times < 3; times++ ) {
    open_store( &store );
    arm_lots( &store, handles );
    CHECK( fire_whole( &store, handles[LOTS - 1], &order ).order_id == LOTS - 1 );
    CHECK( pf_armed_close( &store ) == PF_OK );
  }
  CHECK( count_mappings() == mapped );
}

/* Chunks are not shared, but go from one store to the next. */

static void
test_stores_side_by_side( void ) {
  enum { STORES = 5, EACH = 600 };
  pf_armed_store stores[STORES];
  static int64_t handles[STORES][EACH];
  for( unsigned times = 0; times < 3; times++ ) {
    for( unsigned s = 0; s < STORES; s++ ) {
      open_store( &stores[s] );
    }
    for( unsigned i = 0; i < EACH; i++ ) {
      for( unsigned s = 0; s < STORES; s++ ) {
        handles[s][i] = arm( &stores[s], &order, s * 1000 + i );
      }
    }
    CHECK( pf_armed_close( &stores[2] ) == PF_OK );
    for( unsigned i = 0; i < EACH; i++ ) {
      CHECK( fire_whole( &stores[0], handles[0][i], &order ).order_id == i );
      CHECK( fire( &stores[1], handles[3][i] ) == PF_ERR_SPENT );
      CHECK( fire_whole( &stores[3], handles[3][i], &order ).order_id == 3000 + i );
    }
    CHECK( count_armed( &stores[1] ) == EACH );
    for( unsigned s = 0; s < STORES; s++ ) {
      CHECK( pf_armed_close( &stores[s] ) == ( s == 2 ? PF_ERR_CLOSED : PF_OK ) );
    }
  }
}

/* Threads that add, fire and drop, the same handles among them, while the
   keeper signs anew all the time: every frame that comes out is whole,
   every request is sent once, every mask is used once. */

#define SLOTS 24
#define WORKERS 3
#define ROUNDS 100
#define NUMBERS_MAX ( 1 << 21 )
#define NOTHING ( -1 )

static pf_armed_store     stress_store;
static _Atomic( int64_t ) stress_slots[SLOTS];
static uint64_t           stress_first_number;
static atomic_uchar       stress_sent[NUMBERS_MAX];
static uint32_t           stress_masks[NUMBERS_MAX];
static atomic_uint        stress_fired;
static atomic_uint        stress_added;
static atomic_uint        stress_stale;
static atomic_uint        stress_dropped;
static atomic_int         stress_over;

static void
stress_note( int64_t result, char *frame ) {
  if( result == PF_ERR_STALE ) {
    atomic_fetch_add( &stress_stale, 1 );
  } else if( result > 0 ) {
    fired const    f     = take_apart( frame, result, &short_order );
    uint64_t const index = f.number - stress_first_number;
    CHECK( index < NUMBERS_MAX && f.order_id == f.number );
    CHECK( !atomic_exchange( &stress_sent[index], 1 ) );
    stress_masks[atomic_fetch_add( &stress_fired, 1 )] = f.mask;
  } else {
    CHECK( result == PF_ERR_SPENT );
  }
}

static void
stress_fill( _Atomic( int64_t ) *slot ) {
  int64_t        nothing = NOTHING;
  uint64_t const number  = take_number();
  if( number - stress_first_number >= NUMBERS_MAX ) {
    return;
  }
  int64_t const handle = add( &stress_store, &short_order, number, number );
  CHECK( handle >= 0 );
  atomic_fetch_add( &stress_added, 1 );
  if( !atomic_compare_exchange_strong( slot, &nothing, handle ) ) {
    CHECK( pf_armed_drop( &stress_store, handle ) == PF_OK );
    atomic_fetch_add( &stress_dropped, 1 );
  }
}

static void
stress_spend( _Atomic( int64_t ) *slot, int64_t handle, uint64_t how ) {
  char    out[2 * PF_FRAME_MAX];
  int64_t both[2] = { handle, handle };
  int64_t ends[2];
  switch( how ) {
  case 0: stress_note( fire_into( out, sizeof( out ), &stress_store, handle ), out ); break;
  case 1:
    CHECK( pf_armed_fire_many( out, sizeof( out ), &stress_store, both, 2, ends ) >= 0 );
    CHECK( ends[1] == PF_ERR_SPENT );
    stress_note( ends[0], out );
    break;
  case 2: {
    int const rc = pf_armed_drop( &stress_store, handle );
    CHECK( rc == PF_OK || rc == PF_ERR_SPENT );
    atomic_fetch_add( &stress_dropped, rc == PF_OK );
    break;
  }
  default: return;
  }
  (void)atomic_compare_exchange_strong( slot, &handle, NOTHING );
}

static void *
stress_work( void *seed_of_worker ) {
  uint64_t state = (uint64_t)(uintptr_t)seed_of_worker;
  while( !atomic_load( &stress_over ) ) {
    uint64_t const            dice   = check_mix( &state );
    _Atomic( int64_t ) *const slot   = &stress_slots[dice % SLOTS];
    int64_t const             handle = atomic_load( slot );
    if( handle == NOTHING ) {
      stress_fill( slot );
    } else {
      stress_spend( slot, handle, dice >> 32 & 7 );
    }
    if( ( dice >> 40 & 63 ) == 0 ) {
      pause_briefly(); /* so that what is armed also becomes due */
    }
  }
  return NULL;
}

static void
let_others_run( void ) {
  static _Thread_local unsigned count;
  if( ++count % 4 == 0 ) {
    (void)sched_yield();
  }
}

static int
by_value( const void *a, const void *b ) {
  uint32_t const x = *(const uint32_t *)a;
  uint32_t const y = *(const uint32_t *)b;
  return ( x > y ) - ( x < y );
}

static void
test_stress( void ) {
  pthread_t workers[WORKERS];
  open_store( &stress_store );
  (void)arm( &stress_store, &quick_order, 1 ); /* something is always due */
  stress_first_number = take_number();
  for( unsigned i = 0; i < SLOTS; i++ ) {
    atomic_store( &stress_slots[i], NOTHING );
  }
  atomic_store( &fake_while_signing, let_others_run );
  pthread_t const keeper = start_keeper( &stress_store );
  for( uintptr_t i = 0; i < WORKERS; i++ ) {
    CHECK( pthread_create( &workers[i], NULL, stress_work, (void *)( i + 1 ) ) == 0 );
  }
  for( unsigned round = 0; round < ROUNDS; round++ ) {
    uint64_t const before = count_resigned( &stress_store );
    pass( SHORT_WINDOW / 3 + 1 );
    wait_until_resigned( &stress_store, before + 1 );
  }
  atomic_store( &stress_over, 1 );
  for( unsigned i = 0; i < WORKERS; i++ ) {
    CHECK( pthread_join( workers[i], NULL ) == 0 );
  }
  atomic_store( &fake_while_signing, NULL );

  uint64_t const fired_in_all = atomic_load( &stress_fired );
  CHECK( fired_in_all > 0 && atomic_load( &stress_dropped ) > 0 );
  CHECK( atomic_load( &stress_added ) == fired_in_all + atomic_load( &stress_stale ) +
                                             atomic_load( &stress_dropped ) + count_armed( &stress_store ) -
                                             1 );
  qsort( stress_masks, fired_in_all, sizeof( stress_masks[0] ), by_value );
  for( uint64_t i = 1; i < fired_in_all; i++ ) {
    CHECK( stress_masks[i - 1] != stress_masks[i] );
  }
  close_kept( &stress_store, keeper );
}

/* Closing while others fire. */

static atomic_int closing_ready;

static void *
fire_until_closed( void *first ) {
  int64_t handle = *(int64_t *)first;
  for( ;; ) {
    char          out[PF_FRAME_MAX];
    int64_t const rc = fire_into( out, sizeof( out ), &shared, handle );
    atomic_store( &closing_ready, 1 );
    if( rc == PF_ERR_CLOSED ) {
      return NULL;
    }
    if( rc != PF_ERR_SPENT ) {
      (void)take_apart( out, rc, &order );
    }
    handle = add( &shared, &order, 1, take_number() );
    if( handle < 0 ) {
      CHECK( handle == PF_ERR_CLOSED );
      return NULL;
    }
  }
}

static void
test_close_while_firing( void ) {
  for( unsigned times = 0; times < 20; times++ ) {
    pthread_t threads[2];
    open_store( &shared );
    int64_t         handle = arm( &shared, &order, 1 );
    pthread_t const keeper = start_keeper( &shared );
    atomic_store( &closing_ready, 0 );
    for( unsigned i = 0; i < 2; i++ ) {
      CHECK( pthread_create( &threads[i], NULL, fire_until_closed, &handle ) == 0 );
    }
    while( !atomic_load( &closing_ready ) ) {
      pause_briefly();
    }
    close_kept( &shared, keeper );
    for( unsigned i = 0; i < 2; i++ ) {
      CHECK( pthread_join( threads[i], NULL ) == 0 );
    }
  }
}

int
main( void ) {
  uint8_t   pubkey[PF_PUBKEY_SZ];
  pf_sodium table   = fake_table;
  table.randombytes = random_with_different_masks;
  test_unbound();
  CHECK( pf_bind_sodium( &table ) == PF_OK );
  CHECK( pf_key_open( &key, pubkey, seed ) == PF_OK );
  make( &order, &key, WINDOW );
  make( &short_order, &key, SHORT_WINDOW );
  make( &quick_order, &key, QUICK_WINDOW );

  test_places_are_used_again();
  test_a_chunk_is_filled();
  test_a_hole_is_found();
  test_handles_that_lead_nowhere();
  test_handles_of_chunks_that_are_not_there();
  test_fired_once();
  test_dropped();
  test_handles();
  test_refused();
  test_nothing_is_spent_in_vain();
  test_fire_many();
  test_no_other_handle_is_read();
  test_stale();
  test_stale_among_many();
  test_any_window();
  test_keeper();
  test_keeper_of_many();
  test_keeper_after_the_clock_was_set();
  test_corrected_age();
  test_keeper_after_the_correction_changed();
  test_clocks_refused();
  test_how_long_a_keeper_pauses();
  test_any_entry_is_kept();
  test_a_keeper_keeps_to_its_store();
  test_keeper_and_closed_key();
  test_keeper_gives_up();
  test_close_ends_a_keeper_that_works();
  test_meanwhile();
  test_signed_since_the_clocks_were_read();
  test_no_traces();
  test_no_traces_in_locked_pages();
  test_no_traces_of_what_was_not_signed();
  test_fork();
  test_clone();
  test_fork_between_two_that_are_fired();
  test_forks_while_resigning();
  test_lots();
  test_stores_side_by_side();
  test_stress();
  test_close_while_firing();
  test_too_many_stores();
  CHECK( pf_key_close( &key ) == PF_OK );
  puts( NAME ": ok" );
  return 0;
}
