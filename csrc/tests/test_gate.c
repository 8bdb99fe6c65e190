/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE

#include "check.h"

#include "pf_gate.h"

#include <pthread.h>
#include <sched.h>
#include <time.h>

#define THREADS 8
#define ROUNDS 2000

static void
pause_a_moment( long ns ) {
  struct timespec const moment = { 0, ns };
  (void)nanosleep( &moment, NULL );
}

static void
test_life( void ) {
  pf_gate g = { 0 };
  CHECK( !pf_gate_enter( &g, 7 ) ); /* free */
  CHECK( pf_gate_take( &g, 7 ) );
  CHECK( !pf_gate_take( &g, 8 ) );
  CHECK( !pf_gate_enter( &g, 7 ) ); /* opening */
  CHECK( pf_gate_open( &g, 7 ) );
  CHECK( !pf_gate_take( &g, 8 ) );
  CHECK( pf_gate_enter( &g, 7 ) );
  CHECK( pf_gate_enter( &g, 7 ) );
  CHECK( pf_gate_leave( &g, 7 ) );
  CHECK( pf_gate_leave( &g, 7 ) );
  CHECK( pf_gate_shut( &g, 7 ) == PF_OK );
  CHECK( !pf_gate_enter( &g, 7 ) ); /* closing */
  CHECK( !pf_gate_take( &g, 8 ) );
  pf_gate_free( &g );
  CHECK( atomic_load( &g.word ) == 0 );
  CHECK( pf_gate_shut( &g, 7 ) == PF_ERR_CLOSED );
  CHECK( pf_gate_take( &g, 8 ) );
}

static void
test_generations( void ) {
  uint64_t const first = pf_gate_next();
  CHECK( first != 0 );
  CHECK( pf_gate_next() == first + 1 );
  pf_gate g = { 0 };
  CHECK( pf_gate_take( &g, first ) );
  CHECK( pf_gate_open( &g, first ) );
  for( int bit = 0; bit < 40; bit++ ) {
    uint64_t const other = first ^ (uint64_t)1 << bit;
    CHECK( !pf_gate_enter( &g, other ) );
    CHECK( !pf_gate_leave( &g, other ) );
    CHECK( pf_gate_shut( &g, other ) == PF_ERR_CLOSED ); /* at once */
  }
  CHECK( pf_gate_enter( &g, first ) );
  CHECK( pf_gate_leave( &g, first ) );
}

/* More calls than it can count are refused, and change nothing else. */

static void
test_too_many_calls( void ) {
  pf_gate g = { 0 };
  CHECK( pf_gate_take( &g, 7 ) );
  CHECK( pf_gate_open( &g, 7 ) );
  atomic_fetch_add( &g.word, PF_GATE_CALLS - 1 );
  uint64_t const nearly_full = atomic_load( &g.word );
  CHECK( pf_gate_enter( &g, 7 ) );
  CHECK( !pf_gate_enter( &g, 7 ) );
  CHECK( pf_gate_leave( &g, 7 ) );
  CHECK( atomic_load( &g.word ) == nearly_full );
}

/* A call that a fork took the thing away from, and one that finds
   another thing in its place. */

static void
test_taken_away( void ) {
  pf_gate g = { 0 };
  CHECK( pf_gate_take( &g, 7 ) );
  CHECK( pf_gate_open( &g, 7 ) );
  CHECK( pf_gate_enter( &g, 7 ) );
  atomic_store( &g.word, 0 );
  CHECK( !pf_gate_leave( &g, 7 ) );
  CHECK( atomic_load( &g.word ) == 0 );
  CHECK( pf_gate_take( &g, 8 ) );
  CHECK( pf_gate_open( &g, 8 ) );
  CHECK( !pf_gate_leave( &g, 7 ) );
  CHECK( pf_gate_shut( &g, 8 ) == PF_OK ); /* waits for nobody */
  pf_gate_free( &g );
  CHECK( pf_gate_take( &g, 9 ) );
  atomic_store( &g.word, 0 );
  CHECK( !pf_gate_open( &g, 9 ) ); /* half set up */
  CHECK( atomic_load( &g.word ) == 0 );
}

/* Shutting waits for calls in flight; of several, one gets it. */

static pf_gate    shared;
static atomic_int shut_count;

static void *
shut_it( void *rc ) {
  *(int *)rc = pf_gate_shut( &shared, 7 );
  if( *(int *)rc == PF_OK ) {
    pause_a_moment( 2000000 );
    CHECK( atomic_load( &shut_count ) == 0 ); /* the others wait for the wipe */
  }
  atomic_fetch_add( &shut_count, 1 );
  if( *(int *)rc == PF_OK ) {
    pf_gate_free( &shared );
  }
  return NULL;
}

static void
test_shutting_waits( void ) {
  pthread_t threads[THREADS];
  int       rcs[THREADS];
  int       shut = 0;
  CHECK( pf_gate_take( &shared, 7 ) );
  CHECK( pf_gate_open( &shared, 7 ) );
  CHECK( pf_gate_enter( &shared, 7 ) );
  for( size_t i = 0; i < THREADS; i++ ) {
    CHECK( pthread_create( &threads[i], NULL, shut_it, &rcs[i] ) == 0 );
  }
  while( !( atomic_load( &shared.word ) & PF_GATE_CLOSING ) ) {
    pause_a_moment( 100000 );
  }
  CHECK( !pf_gate_enter( &shared, 7 ) );
  pause_a_moment( 5000000 );
  CHECK( atomic_load( &shut_count ) == 0 );
  CHECK( pf_gate_leave( &shared, 7 ) );
  for( size_t i = 0; i < THREADS; i++ ) {
    CHECK( pthread_join( threads[i], NULL ) == 0 );
    CHECK( rcs[i] == PF_OK || rcs[i] == PF_ERR_CLOSED );
    shut += rcs[i] == PF_OK;
  }
  CHECK( shut == 1 );
}

/* What is behind the gate is never seen by a call of another generation,
   nor half written. */

static struct {
  pf_gate  gate;
  uint64_t first; /* both the generation, while it is open */
  uint64_t second;
} thing;
static _Atomic( uint64_t ) current;
static atomic_uint         entered;
static atomic_int          stop;

static void *
look( void *unused ) {
  while( !atomic_load( &stop ) ) {
    uint64_t const generation = atomic_load( &current );
    if( pf_gate_enter( &thing.gate, generation ) ) {
      CHECK( thing.first == generation && thing.second == generation );
      atomic_fetch_add( &entered, 1 );
      CHECK( pf_gate_leave( &thing.gate, generation ) );
    }
  }
  return unused;
}

static void
test_races( void ) {
  pthread_t threads[THREADS];
  atomic_store( &current, pf_gate_next() ); /* of nobody */
  for( size_t i = 0; i < THREADS; i++ ) {
    CHECK( pthread_create( &threads[i], NULL, look, NULL ) == 0 );
  }
  for( size_t i = 0; i < ROUNDS || !atomic_load( &entered ); i++ ) {
    uint64_t const generation = pf_gate_next();
    CHECK( pf_gate_take( &thing.gate, generation ) );
    thing.first  = generation;
    thing.second = generation;
    CHECK( pf_gate_open( &thing.gate, generation ) );
    atomic_store( &current, generation );
    if( i % 8 == 0 ) {
      pause_a_moment( 20000 );
    }
    CHECK( pf_gate_shut( &thing.gate, generation ) == PF_OK );
    thing.first = thing.second = 0;
    pf_gate_free( &thing.gate );
  }
  atomic_store( &stop, 1 );
  for( size_t i = 0; i < THREADS; i++ ) {
    CHECK( pthread_join( threads[i], NULL ) == 0 );
  }
}

/* Calls that come and go while it is shut: it is shut for good, and none of
   them is left behind. */

static void *
come_and_go( void *unused ) {
  while( !atomic_load( &stop ) ) {
    if( pf_gate_enter( &shared, 7 ) ) {
      CHECK( pf_gate_leave( &shared, 7 ) );
    } else {
      (void)sched_yield();
    }
  }
  return unused;
}

static void
test_shut_among_calls( void ) {
  pthread_t threads[2];
  atomic_store( &stop, 0 );
  for( size_t i = 0; i < 2; i++ ) {
    CHECK( pthread_create( &threads[i], NULL, come_and_go, NULL ) == 0 );
  }
  for( size_t i = 0; i < ROUNDS; i++ ) {
    CHECK( pf_gate_take( &shared, 7 ) );
    CHECK( pf_gate_open( &shared, 7 ) );
    for( int unused = 0; unused < 200; unused++ ) { /* calls go on, on other processors */
      (void)atomic_load( &shared.word );
    }
    CHECK( pf_gate_shut( &shared, 7 ) == PF_OK );
    CHECK( atomic_load( &shared.word ) == ( (uint64_t)7 << PF_GATE_GENERATION_SHIFT | PF_GATE_CLOSING ) );
    pf_gate_free( &shared );
  }
  atomic_store( &stop, 1 );
  for( size_t i = 0; i < 2; i++ ) {
    CHECK( pthread_join( threads[i], NULL ) == 0 );
  }
}

int
main( void ) {
  test_life();
  test_generations();
  test_too_many_calls();
  test_taken_away();
  test_shutting_waits();
  test_races();
  test_shut_among_calls();
  puts( "test_gate: ok" );
  return 0;
}
