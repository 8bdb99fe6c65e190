/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE

#include "check.h"
#include "clone.h"
#include "fake_sodium.h"

#include "pf_pages.h"
#include "pf_random.h"

#include <pthread.h>
#include <sched.h>
#include <time.h>

#if defined( PF_TEST_NO_WIPEONFORK )
#define NAME "test_random (fallback)"
#else
#define NAME "test_random"
#endif

#define BLOCK_SZ 16
#define BLOCKS 4096 /* drawn in each place that a test draws from */
#define THREADS 8
#define IDS_PER_THREAD 20000
#define NUMBER_END ( (uint64_t)1 << 48 )

typedef struct {
  uint8_t bytes[BLOCK_SZ];
} block;

static int
compare_blocks( const void *a, const void *b ) {
  return memcmp( a, b, BLOCK_SZ );
}

static void
check_no_repeats( block *blocks, size_t n ) {
  qsort( blocks, n, sizeof( *blocks ), compare_blocks );
  for( size_t i = 1; i < n; i++ ) {
    CHECK( compare_blocks( &blocks[i - 1], &blocks[i] ) != 0 );
  }
  CHECK( !check_all_zero( &blocks[0], BLOCK_SZ ) );
}

static void
draw( block *blocks, size_t n ) {
  for( size_t i = 0; i < n; i++ ) {
    CHECK( pf_random( &blocks[i], BLOCK_SZ ) == PF_OK );
  }
}

static void
test_unbound( void ) {
  uint64_t first;
  char     text[PF_ID_LEN];
  CHECK( pf_random( text, sizeof( text ) ) == PF_ERR_UNBOUND );
  CHECK( pf_id_reserve( &first, 1 ) == PF_ERR_UNBOUND );
  pf_writer w = pf_writer_on( text, sizeof( text ) );
  CHECK( pf_id_write( &w, 1 ) == PF_ERR_UNBOUND );
  CHECK( pf_sodium_set( &fake_table ) == PF_OK );
  CHECK( pf_random( text, sizeof( text ) ) == PF_ERR_UNBOUND );
  CHECK( pf_id_reserve( &first, 1 ) == PF_ERR_UNBOUND );
  CHECK( pf_random_open() == PF_OK );
  CHECK( pf_random_open() == PF_OK ); /* nothing happens */
}

/* Opening waits for whoever adds a mapping. */

static atomic_int holder_state; /* 1: holds the lock, 2: gave it back */

static void *
hold_lock( void *unused ) {
  struct timespec const while_held = { 0, 50000000 };
  pf_pages_lock();
  atomic_store( &holder_state, 1 );
  (void)nanosleep( &while_held, NULL );
  atomic_store( &holder_state, 2 );
  pf_pages_unlock();
  return unused;
}

static void
test_opening_waits_for_the_lock( void ) {
  pthread_t holder;
  CHECK( pthread_create( &holder, NULL, hold_lock, NULL ) == 0 );
  while( !atomic_load( &holder_state ) ) {
    (void)sched_yield();
  }
  CHECK( pf_random_open() == PF_OK );
  CHECK( atomic_load( &holder_state ) == 2 );
  CHECK( pthread_join( holder, NULL ) == 0 );
}

/* Bytes handed out are gone from the pool, and only those. */

static void
test_pool_is_wiped( void ) {
  uint8_t out[100];
  uint8_t long_piece[10000];
  CHECK( pf_random( out, sizeof( out ) ) == PF_OK );
  CHECK( fake_pool != NULL );
  CHECK( !check_contains( fake_pool, fake_pool_sz, out, 8 ) );
  CHECK( check_all_zero( fake_pool + fake_pool_sz - sizeof( out ), sizeof( out ) ) );
  CHECK( !check_all_zero( fake_pool, fake_pool_sz - sizeof( out ) ) );
  CHECK( pf_random( out, sizeof( out ) ) == PF_OK ); /* of the same pool */
  CHECK( check_all_zero( fake_pool + fake_pool_sz - 2 * sizeof( out ), 2 * sizeof( out ) ) );
  CHECK( pf_random( out, 0 ) == PF_OK );
  CHECK( pf_random( long_piece, sizeof( long_piece ) ) == PF_OK ); /* more than the pool */
  CHECK( !check_contains( fake_pool, fake_pool_sz, long_piece + sizeof( long_piece ) - 8, 8 ) );
}

static void *
draw_in_thread( void *blocks ) {
  draw( blocks, BLOCKS );
  return NULL;
}

static void
test_threads_draw( void ) {
  block    *blocks = malloc( THREADS * BLOCKS * sizeof( block ) );
  pthread_t threads[THREADS];
  CHECK( blocks != NULL );
  for( size_t i = 0; i < THREADS; i++ ) {
    CHECK( pthread_create( &threads[i], NULL, draw_in_thread, blocks + i * BLOCKS ) == 0 );
  }
  for( size_t i = 0; i < THREADS; i++ ) {
    CHECK( pthread_join( threads[i], NULL ) == 0 );
  }
  check_no_repeats( blocks, THREADS * BLOCKS );
  free( blocks );
}

/* read_all reads exactly n bytes from a child. */

static void
read_all( int fd, void *out, size_t n ) {
  for( size_t got = 0; got < n; ) {
    ssize_t const now = read( fd, (uint8_t *)out + got, n - got );
    CHECK( now > 0 );
    got += (size_t)now;
  }
}

static void
write_all( int fd, const void *bytes, size_t n ) {
  for( size_t put = 0; put < n; ) {
    ssize_t const now = write( fd, (const uint8_t *)bytes + put, n - put );
    CHECK( now > 0 );
    put += (size_t)now;
  }
}

/* Parent, child and grandchild draw from what would be one pool. */

static void
test_forks_draw( void ) {
  static block blocks[4 * BLOCKS];
  int          ends[2];
  draw( blocks, BLOCKS );
  CHECK( pipe( ends ) == 0 );
  pid_t const child = fork();
  if( child == 0 ) {
    static block own[BLOCKS];
    pid_t const  grandchild = fork();
    if( grandchild ) {
      /* The grandchild writes first, so that the pieces do not mix. */
      CHECK_CHILD_ENDS_WELL( grandchild );
    }
    draw( own, BLOCKS );
    write_all( ends[1], own, sizeof( own ) );
    _exit( 0 );
  }
  draw( blocks + BLOCKS, BLOCKS );
  read_all( ends[0], blocks + 2 * BLOCKS, 2 * BLOCKS * sizeof( block ) );
  CHECK_CHILD_ENDS_WELL( child );
  check_no_repeats( blocks, 4 * BLOCKS );
  close( ends[0] );
  close( ends[1] );
}

static void
id_text( char text[PF_ID_LEN], uint64_t number ) {
  pf_writer w = pf_writer_on( text, PF_ID_LEN );
  CHECK( pf_id_write( &w, number ) == PF_OK );
  CHECK( pf_writer_len( &w ) == PF_ID_LEN );
}

static void
test_id_before_the_first( void ) {
  char      text[PF_ID_LEN];
  pf_writer w = pf_writer_on( text, sizeof( text ) );
  CHECK( pf_id_write( &w, 1 ) == PF_ERR_FORKED );
  CHECK( w.at == text );
}

static void
test_id_shape( void ) {
  uint64_t first;
  char     text[PF_ID_LEN];
  char     expected[64];
  CHECK( pf_id_reserve( &first, 1 ) == PF_OK );
  CHECK( first > 0 && first <= (uint64_t)1 << 40 );
  uint64_t const start = first;
  id_text( text, first );
  for( size_t i = 0; i < PF_ID_LEN; i++ ) {
    int const hyphen = i == 8 || i == 13 || i == 18 || i == 23;
    CHECK( hyphen ? text[i] == '-' : strchr( "0123456789abcdef", text[i] ) != NULL && text[i] );
  }
  CHECK( text[14] == '4' );                    /* version */
  CHECK( strchr( "89ab", text[19] ) != NULL ); /* variant */
  CHECK( pf_id_reserve( &first, 0 ) == PF_ERR_ARGUMENT );
  CHECK( pf_id_reserve( &first, (uint64_t)1 << 48 ) == PF_ERR_ARGUMENT );
  CHECK( pf_id_reserve( &first, 1000000 ) == PF_OK );
  CHECK( first == start + 1 );
  for( uint64_t number = first; number < first + 1000000; number += 12345 ) {
    char other[PF_ID_LEN];
    id_text( other, number );
    CHECK( memcmp( text, other, PF_ID_PREFIX_LEN ) == 0 );
    snprintf( expected, sizeof( expected ), "%012llx", (unsigned long long)number );
    CHECK( memcmp( other + 24, expected, 12 ) == 0 );
  }
  pf_writer w = pf_writer_on( text, sizeof( text ) );
  CHECK( pf_id_write( &w, first + 1000000 ) == PF_ERR_FORKED ); /* not reserved */
  CHECK( pf_id_write( &w, start - 1 ) == PF_ERR_FORKED );       /* before the first: a parent's */
  CHECK( pf_id_write( &w, UINT64_MAX ) == PF_ERR_FORKED );
  CHECK( w.at == text );
}

/* Ids made of chosen bytes, in a child, which has none yet: every bit of
   them that should be random is. */

static uint8_t  chosen_nibbles[PF_ID_PREFIX_LEN];
static uint64_t chosen_number;

static void
draw_chosen( unsigned char *out, unsigned long long n ) {
  unsigned char *const end = out + n; /* where they are handed out from */
  memset( out, 0xee, (size_t)n );
  memcpy( end - sizeof( chosen_nibbles ), chosen_nibbles, sizeof( chosen_nibbles ) );
  memcpy( end - sizeof( chosen_nibbles ) - sizeof( chosen_number ), &chosen_number, sizeof( chosen_number ) );
}

static void
check_chosen( uint64_t number, const char *prefix ) {
  pid_t const child = fork();
  if( child == 0 ) {
    uint64_t  first;
    char      text[PF_ID_LEN];
    pf_sodium table   = fake_table;
    table.randombytes = draw_chosen;
    chosen_number     = number;
    CHECK( pf_sodium_set( &table ) == PF_OK );
    CHECK( pf_id_reserve( &first, 1 ) == PF_OK );
    CHECK( first == ( number & 0xffffffffff ) + 1 );
    id_text( text, first );
    CHECK( memcmp( text, prefix, PF_ID_PREFIX_LEN ) == 0 );
    _exit( 0 );
  }
  CHECK_CHILD_ENDS_WELL( child );
}

static void
test_ids_are_random( void ) {
  memset( chosen_nibbles, 0, sizeof( chosen_nibbles ) );
  check_chosen( 0, "00000000-0000-4000-8000-" );
  memset( chosen_nibbles, 0xff, sizeof( chosen_nibbles ) );
  check_chosen( UINT64_MAX, "ffffffff-ffff-4fff-bfff-" );
  for( size_t i = 0; i < PF_ID_PREFIX_LEN; i++ ) {
    chosen_nibbles[i] = (uint8_t)( 0x50 | i % 16 );
  }
  for( size_t bit = 0; bit < 64; bit++ ) {
    check_chosen( (uint64_t)1 << bit, "01234567-9abc-4f01-b456-" );
  }
}

static void
test_id_capacity( void ) {
  uint64_t first;
  char     text[PF_ID_LEN + 1];
  CHECK( pf_id_reserve( &first, 1 ) == PF_OK );
  for( size_t cap = 0; cap < PF_ID_LEN; cap++ ) {
    memset( text, 'X', sizeof( text ) );
    pf_writer w = pf_writer_on( text, cap );
    CHECK( pf_id_write( &w, first ) == PF_OK );
    CHECK( pf_writer_len( &w ) == PF_ERR_CAPACITY );
    CHECK( text[cap] == 'X' );
  }
}

static uint64_t thread_ids[THREADS][IDS_PER_THREAD];

static void *
reserve_ids( void *ids ) {
  uint64_t *out = ids;
  for( size_t i = 0; i < IDS_PER_THREAD; ) {
    uint64_t const count = 1 + i % 7;
    uint64_t       first;
    CHECK( pf_id_reserve( &first, count ) == PF_OK );
    for( uint64_t k = 0; k < count && i < IDS_PER_THREAD; k++ ) {
      out[i++] = first + k;
    }
  }
  return NULL;
}

static int
compare_numbers( const void *a, const void *b ) {
  uint64_t const x = *(const uint64_t *)a;
  uint64_t const y = *(const uint64_t *)b;
  return ( x > y ) - ( x < y );
}

static void
run_id_threads( void ) {
  pthread_t threads[THREADS];
  uint64_t *all = &thread_ids[0][0];
  for( size_t i = 0; i < THREADS; i++ ) {
    CHECK( pthread_create( &threads[i], NULL, reserve_ids, thread_ids[i] ) == 0 );
  }
  for( size_t i = 0; i < THREADS; i++ ) {
    CHECK( pthread_join( threads[i], NULL ) == 0 );
  }
  qsort( all, THREADS * IDS_PER_THREAD, sizeof( *all ), compare_numbers );
  for( size_t i = 1; i < THREADS * IDS_PER_THREAD; i++ ) {
    CHECK( all[i - 1] < all[i] );
  }
  CHECK( all[0] > 0 );
}

/* A child has another prefix, and does not know the parent's numbers. */

static void
test_ids_and_forks( void ) {
  uint64_t first;
  char     parents[PF_ID_LEN];
  char     childs[PF_ID_LEN];
  int      ends[2];
  CHECK( pf_id_reserve( &first, 1 ) == PF_OK );
  id_text( parents, first );
  CHECK( pipe( ends ) == 0 );
  pid_t const child = fork();
  if( child == 0 ) {
    uint64_t  own;
    pf_writer w = pf_writer_on( childs, sizeof( childs ) );
    CHECK( pf_id_write( &w, first ) == PF_ERR_FORKED );
    run_id_threads(); /* the first to reserve in this process: threads race for the prefix */
    CHECK( pf_id_reserve( &own, 1 ) == PF_OK );
    id_text( childs, own );
    write_all( ends[1], childs, sizeof( childs ) );
    _exit( 0 );
  }
  read_all( ends[0], childs, sizeof( childs ) );
  CHECK_CHILD_ENDS_WELL( child );
  CHECK( memcmp( parents, childs, PF_ID_PREFIX_LEN ) != 0 );

  uint64_t again;
  char     text[PF_ID_LEN];
  CHECK( pf_id_reserve( &again, 1 ) == PF_OK );
  CHECK( again == first + 1 );
  id_text( text, again );
  CHECK( memcmp( parents, text, PF_ID_PREFIX_LEN ) == 0 );
  close( ends[0] );
  close( ends[1] );
}

/* A fork in a signal handler, just when random bytes were drawn: the
   child goes on where its parent was, and the bytes are gone. */

static pid_t forked_while_drawing;

static void ( *const no_hook )( void ) = NULL; /* clang takes no bare NULL where the type is atomic */

static void
fork_once( void ) {
  fake_while_drawing   = no_hook;
  forked_while_drawing = fork();
}

static void
test_fork_while_drawing( void ) {
  static uint8_t out[8192]; /* more than the pool: it is filled meanwhile */
  fake_while_drawing = fork_once;
  CHECK( pf_random( out, sizeof( out ) ) == PF_OK );
  for( size_t i = 0; i < sizeof( out ); i += BLOCK_SZ ) {
    CHECK( !check_all_zero( out + i, BLOCK_SZ ) );
  }
  CHECK( pf_random( out, BLOCK_SZ ) == PF_OK );
  CHECK( !check_all_zero( out, BLOCK_SZ ) );
  if( forked_while_drawing == 0 ) {
    _exit( 0 );
  }
  CHECK_CHILD_ENDS_WELL( forked_while_drawing );
}

/* A child that libc knows nothing of: no handler runs in it. */

static void
test_clone( void ) {
  static block blocks[2];
  uint64_t     first;
  int          ends[2];
  CHECK( pf_id_reserve( &first, 1 ) == PF_OK );
  CHECK( pipe( ends ) == 0 );
  pid_t const child = clone_behind_libc();
  draw( blocks, 1 );
  if( child == 0 ) {
    char      text[PF_ID_LEN];
    pf_writer w = pf_writer_on( text, sizeof( text ) );
    CHECK( pf_id_write( &w, first ) == PF_ERR_FORKED );
    write_all( ends[1], blocks, sizeof( block ) );
    _exit( 0 );
  }
  read_all( ends[0], blocks + 1, sizeof( block ) );
  CHECK_CHILD_ENDS_WELL( child );
  check_no_repeats( blocks, 2 );
  close( ends[0] );
  close( ends[1] );
}

/* Ids, in a child that has none yet and forks while it draws them. */

static void
test_fork_while_drawing_ids( void ) {
  int ends[2];
  CHECK( pipe( ends ) == 0 );
  pid_t const child = fork();
  if( child == 0 ) {
    uint64_t first;
    char     text[PF_ID_LEN];
    fake_while_drawing = fork_once;
    CHECK( pf_id_reserve( &first, 1 ) == PF_OK );
    id_text( text, first );
    if( forked_while_drawing ) {
      CHECK_CHILD_ENDS_WELL( forked_while_drawing );
    }
    write_all( ends[1], text, sizeof( text ) );
    _exit( 0 );
  }
  char texts[2][PF_ID_LEN];
  read_all( ends[0], texts, sizeof( texts ) );
  CHECK_CHILD_ENDS_WELL( child );
  CHECK( memcmp( texts[0], texts[1], PF_ID_PREFIX_LEN ) != 0 );
  CHECK( memcmp( texts[0], "00000000", 8 ) != 0 && memcmp( texts[1], "00000000", 8 ) != 0 );
  close( ends[0] );
  close( ends[1] );
}

/* In a child, whose numbers are spent afterwards. */

static void
test_ids_run_out( void ) {
  pid_t const child = fork();
  if( child == 0 ) {
    uint64_t first;
    char     text[PF_ID_LEN];
    CHECK( pf_id_reserve( &first, UINT64_MAX ) == PF_ERR_ARGUMENT );
    CHECK( pf_id_reserve( &first, NUMBER_END ) == PF_ERR_ARGUMENT );
    CHECK( pf_id_reserve( &first, 1 ) == PF_OK );
    CHECK( pf_id_reserve( &first, NUMBER_END - 3 - first ) == PF_OK );
    CHECK( pf_id_reserve( &first, 1 ) == PF_OK );
    CHECK( first == NUMBER_END - 2 );
    id_text( text, first );
    CHECK( memcmp( text + 24, "fffffffffffe", 12 ) == 0 );
    CHECK( pf_id_reserve( &first, 1 ) == PF_ERR_ARGUMENT );
    CHECK( pf_id_reserve( &first, UINT64_MAX ) == PF_ERR_ARGUMENT );
    _exit( 0 );
  }
  CHECK_CHILD_ENDS_WELL( child );
}

int
main( void ) {
  test_unbound();
  test_opening_waits_for_the_lock();
  test_id_before_the_first();
  test_pool_is_wiped();
  test_threads_draw();
  test_forks_draw();
  test_id_shape();
  test_id_capacity();
  test_ids_are_random();
  run_id_threads();
  test_ids_and_forks();
  test_clone();
  test_fork_while_drawing();
  test_fork_while_drawing_ids();
  test_ids_run_out();
  puts( NAME ": ok" );
  return 0;
}
