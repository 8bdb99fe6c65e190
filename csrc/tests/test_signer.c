/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE

#include "check.h"
#include "clone.h"
#include "fake_sodium.h"

#include "pf_pages.h"
#include "pf_signer.h"

#include <pthread.h>
#include <time.h>

#if defined( PF_TEST_NO_WIPEONFORK )
#define NAME "test_signer (fallback)"
#else
#define NAME "test_signer"
#endif

/* As in pf_signer.c: a slot starts with its state. */
#define SLOT_SZ 256
#define STATE_CLOSING ( (uint64_t)1 << 23 )

#define KEYS 1000
#define THREADS 8
#define REMEMBERED 16 /* FINGERPRINTS of pf_signer.c */
#define MESSAGE "the message"

typedef struct {
  uint8_t signature[PF_SIGNATURE_SZ];
  char    message[sizeof( MESSAGE )];
} signed_message;

static uint64_t random_state = 1;

static void
new_seed( uint8_t seed[PF_SEED_SZ] ) {
  check_fill( &random_state, seed, PF_SEED_SZ );
  seed[0] = 1;
}

static int
sign( const pf_key *key, signed_message *s ) {
  memset( s, 0, sizeof( *s ) );
  memcpy( s->message, MESSAGE, sizeof( MESSAGE ) );
  return pf_key_sign( key, (uint8_t *)s, sizeof( MESSAGE ) );
}

static void
check_signs( const pf_key *key, const uint8_t *seed ) {
  signed_message s;
  uint8_t        expected[PF_SIGNATURE_SZ];
  CHECK( sign( key, &s ) == PF_OK );
  fake_signature_of( expected, seed, MESSAGE, sizeof( MESSAGE ) );
  CHECK( memcmp( s.signature, expected, sizeof( expected ) ) == 0 );
  CHECK( memcmp( s.message, MESSAGE, sizeof( MESSAGE ) ) == 0 );
}

static void
check_closed( const pf_key *key ) {
  signed_message s;
  unsigned const before = atomic_load( &fake_signatures );
  CHECK( sign( key, &s ) == PF_ERR_CLOSED );
  CHECK( check_all_zero( s.signature, sizeof( s.signature ) ) );
  CHECK( atomic_load( &fake_signatures ) == before );
}

static void
open_key( pf_key *key, uint8_t *seed ) {
  uint8_t pubkey[PF_PUBKEY_SZ];
  uint8_t expected[PF_PUBKEY_SZ];
  new_seed( seed );
  CHECK( pf_key_open( key, pubkey, seed ) == PF_OK );
  fake_pubkey_of( expected, seed );
  CHECK( memcmp( pubkey, expected, PF_PUBKEY_SZ ) == 0 );
}

static void
test_unbound( void ) {
  pf_key  key              = { NULL, 0 };
  uint8_t pubkey[32]       = { 0 };
  uint8_t pair[PF_PAIR_SZ] = { 1 };
  uint8_t seed[PF_SEED_SZ] = { 1 };
  uint8_t message[PF_SIGNATURE_SZ + 1];
  CHECK( pf_key_open( &key, pubkey, seed ) == PF_ERR_UNBOUND );
  CHECK( pf_pair_sign( pair, message, 1 ) == PF_ERR_UNBOUND );
  check_closed( &key );
  CHECK( pf_key_close( &key ) == PF_ERR_CLOSED );

  pf_sodium lacking[4]                = { fake_table, fake_table, fake_table, fake_table };
  lacking[0].crypto_sign              = NULL;
  lacking[1].crypto_sign_seed_keypair = NULL;
  lacking[2].crypto_hash_sha512       = NULL;
  lacking[3].randombytes              = NULL;
  for( size_t i = 0; i < 4; i++ ) {
    CHECK( pf_sodium_set( &lacking[i] ) == PF_ERR_ARGUMENT );
  }
  CHECK( pf_sodium_set( NULL ) == PF_ERR_ARGUMENT );
  CHECK( pf_sodium_table() == NULL );
  CHECK( pf_sodium_set( &fake_table ) == PF_OK );
  CHECK( pf_key_open( &key, pubkey, seed ) == PF_ERR_UNBOUND );
  CHECK( pf_pair_sign( pair, message, 1 ) == PF_ERR_UNBOUND );
  CHECK( pf_signer_open() == PF_OK );
  CHECK( pf_signer_open() == PF_OK );
}

static void
test_open_sign_close( void ) {
  pf_key  key;
  uint8_t seed[PF_SEED_SZ];
  open_key( &key, seed );
  check_signs( &key, seed );
  check_signs( &key, seed );
  CHECK( check_contains( key.slot, SLOT_SZ, seed, PF_SEED_SZ ) );
  pf_key const copy = key; /* as in a template */
  CHECK( pf_key_close( &key ) == PF_OK );
  CHECK( check_all_zero( key.slot, SLOT_SZ ) ); /* the seed, the public key, everything */
  check_closed( &key );
  check_closed( &copy );
  CHECK( pf_key_close( &key ) == PF_ERR_CLOSED );
  CHECK( pf_key_close( &copy ) == PF_ERR_CLOSED );
}

/* Only one copy of the seed is in the slot while it is open. */

static void
test_seed_stands_once( void ) {
  pf_key  key;
  uint8_t seed[PF_SEED_SZ];
  size_t  copies = 0;
  open_key( &key, seed );
  for( size_t i = 0; i + PF_SEED_SZ <= SLOT_SZ; i++ ) {
    copies += memcmp( (uint8_t *)key.slot + i, seed, PF_SEED_SZ ) == 0;
  }
  CHECK( copies == 1 );
  CHECK( pf_key_close( &key ) == PF_OK );
}

static void
test_stale_handle( void ) {
  pf_key  first;
  pf_key  second;
  uint8_t seed[PF_SEED_SZ];
  uint8_t other[PF_SEED_SZ];
  open_key( &first, seed );
  CHECK( pf_key_close( &first ) == PF_OK );
  open_key( &second, other );
  CHECK( first.slot == second.slot ); /* reused */
  CHECK( first.generation != second.generation );
  check_closed( &first );
  CHECK( pf_key_close( &first ) == PF_ERR_CLOSED ); /* does not end the other */
  check_signs( &second, other );
  CHECK( pf_key_close( &second ) == PF_OK );
}

static void
test_forged_handles( void ) {
  pf_key  key;
  uint8_t seed[PF_SEED_SZ];
  open_key( &key, seed );
  for( int bit = 0; bit < 64; bit++ ) {
    pf_key forged = key;
    forged.generation ^= (uint64_t)1 << bit;
    check_closed( &forged );
  }
  pf_key none = { NULL, key.generation };
  check_closed( &none );
  CHECK( pf_key_close( &key ) == PF_OK );
  key.generation = 0; /* a free slot's */
  check_closed( &key );
  CHECK( pf_key_close( &key ) == PF_ERR_CLOSED );
}

static void
test_generated( void ) {
  pf_key         first;
  pf_key         second;
  uint8_t        pubkey[PF_PUBKEY_SZ];
  uint8_t        other[PF_PUBKEY_SZ];
  signed_message s;
  CHECK( pf_key_open( &first, pubkey, NULL ) == PF_OK );
  CHECK( pf_key_open( &second, other, NULL ) == PF_OK );
  CHECK( memcmp( pubkey, other, PF_PUBKEY_SZ ) != 0 );
  CHECK( sign( &first, &s ) == PF_OK );
  CHECK( sign( &second, &s ) == PF_OK );
  CHECK( pf_key_close( &first ) == PF_OK );
  CHECK( pf_key_close( &second ) == PF_OK );
}

static void
test_failures( void ) {
  pf_key         key = { NULL, 0 };
  pf_key         next;
  uint8_t        pubkey[PF_PUBKEY_SZ];
  uint8_t        seed[PF_SEED_SZ];
  signed_message s;
  new_seed( seed );
  open_key( &next, seed );
  void *const slot = next.slot; /* where the next key will be */
  CHECK( pf_key_close( &next ) == PF_OK );

  memset( seed, FAKE_BROKEN_SEED, sizeof( seed ) );
  CHECK( pf_key_open( &key, pubkey, seed ) == PF_ERR_SODIUM );
  CHECK( key.slot == NULL );
  CHECK( check_all_zero( slot, SLOT_SZ ) ); /* neither wasted nor dirty */

  open_key( &next, seed );
  CHECK( next.slot == slot );
  atomic_store( &fake_signing_fails, 1 );
  CHECK( sign( &next, &s ) == PF_ERR_SODIUM );
  atomic_store( &fake_signing_fails, 0 );
  check_signs( &next, seed );
  CHECK( pf_key_close( &next ) == PF_OK ); /* the failed call has left */
}

/* One more page of slots: whoever needs it waits for who adds a mapping. */

#define SLOTS_PER_CHUNK 16 /* as in pf_signer.c */

static void pause_a_moment( long ns );

static atomic_int holder_state; /* 1: holds the lock, 2: gave it back */

static void *
hold_lock( void *unused ) {
  pf_pages_lock();
  atomic_store( &holder_state, 1 );
  pause_a_moment( 50000000 );
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
    pause_a_moment( 10000 );
  }
  return holder;
}

static size_t
mapped( void ) {
  size_t mapped_pages;
  size_t unlocked;
  pf_pages_counts( &mapped_pages, &unlocked );
  return mapped_pages;
}

static void
test_adding_waits_for_the_lock( void ) {
  static pf_key keys[SLOTS_PER_CHUNK + 1];
  uint8_t       seed[PF_SEED_SZ];
  pthread_t     holder = hold_lock_in_thread();
  CHECK( pf_signer_open() == PF_OK );
  CHECK( atomic_load( &holder_state ) == 2 );
  CHECK( pthread_join( holder, NULL ) == 0 );
  for( size_t i = 0; i < SLOTS_PER_CHUNK; i++ ) {
    open_key( &keys[i], seed );
  }
  CHECK( mapped() == 2 ); /* all of them in one, beside the pairs' */
  holder = hold_lock_in_thread();
  open_key( &keys[SLOTS_PER_CHUNK], seed );
  CHECK( atomic_load( &holder_state ) == 2 );
  CHECK( mapped() == 3 );
  CHECK( pthread_join( holder, NULL ) == 0 );
  for( size_t i = 0; i <= SLOTS_PER_CHUNK; i++ ) {
    CHECK( pf_key_close( &keys[i] ) == PF_OK );
  }
}

static void
test_many_keys( void ) {
  static pf_key  keys[KEYS];
  static uint8_t seeds[KEYS][PF_SEED_SZ];
  for( size_t i = 0; i < KEYS; i++ ) {
    open_key( &keys[i], seeds[i] );
  }
  for( size_t i = 0; i < KEYS; i++ ) {
    check_signs( &keys[i], seeds[i] );
  }
  for( size_t i = 0; i < KEYS; i += 2 ) {
    CHECK( pf_key_close( &keys[i] ) == PF_OK );
  }
  for( size_t i = 0; i < KEYS; i++ ) {
    if( i % 2 ) {
      check_signs( &keys[i], seeds[i] );
    } else {
      check_closed( &keys[i] );
      CHECK( check_all_zero( keys[i].slot, SLOT_SZ ) );
    }
  }
  for( size_t i = 1; i < KEYS; i += 2 ) {
    CHECK( pf_key_close( &keys[i] ) == PF_OK );
    CHECK( check_all_zero( keys[i].slot, SLOT_SZ ) );
  }
}

/* close() and calls in flight: a signature stands still in the middle
   until it is let go. */

static atomic_int in_flight;
static atomic_int let_go;
static atomic_int close_returned;

static void
pause_a_moment( long ns ) {
  struct timespec const moment = { 0, ns };
  (void)nanosleep( &moment, NULL );
}

static void
stand_still( void ) {
  atomic_fetch_add( &in_flight, 1 );
  while( !atomic_load( &let_go ) ) {
    pause_a_moment( 100000 );
  }
}

static pf_key  shared_key;
static uint8_t shared_seed[PF_SEED_SZ];

static void *
sign_once( void *unused ) {
  check_signs( &shared_key, shared_seed );
  return unused;
}

static void *
close_once( void *rc ) {
  *(int *)rc = pf_key_close( &shared_key );
  atomic_fetch_add( &close_returned, 1 );
  return NULL;
}

static void
test_close_waits( void ) {
  pthread_t      signers[THREADS];
  pthread_t      closers[2];
  int            rcs[2] = { 0, 0 };
  signed_message s;
  open_key( &shared_key, shared_seed );
  atomic_store( &in_flight, 0 );
  atomic_store( &let_go, 0 );
  atomic_store( &close_returned, 0 );
  atomic_store( &fake_while_signing, stand_still );
  for( size_t i = 0; i < THREADS; i++ ) {
    CHECK( pthread_create( &signers[i], NULL, sign_once, NULL ) == 0 );
  }
  while( atomic_load( &in_flight ) != THREADS ) {
    pause_a_moment( 100000 );
  }
  for( size_t i = 0; i < 2; i++ ) {
    CHECK( pthread_create( &closers[i], NULL, close_once, &rcs[i] ) == 0 );
  }
  /* New calls are refused as soon as one closer has come that far. */
  while( !( atomic_load( (_Atomic( uint64_t ) *)shared_key.slot ) & STATE_CLOSING ) ) {
    pause_a_moment( 100000 );
  }
  CHECK( sign( &shared_key, &s ) == PF_ERR_CLOSED );
  pause_a_moment( 20000000 );
  CHECK( atomic_load( &close_returned ) == 0 ); /* neither of them */
  CHECK( check_contains( shared_key.slot, SLOT_SZ, shared_seed, PF_SEED_SZ ) );
  atomic_store( &let_go, 1 );
  for( size_t i = 0; i < THREADS; i++ ) {
    CHECK( pthread_join( signers[i], NULL ) == 0 ); /* each with the right signature */
  }
  for( size_t i = 0; i < 2; i++ ) {
    CHECK( pthread_join( closers[i], NULL ) == 0 );
  }
  CHECK( rcs[0] + rcs[1] == PF_OK + PF_ERR_CLOSED && rcs[0] != rcs[1] );
  CHECK( check_all_zero( shared_key.slot, SLOT_SZ ) );
  atomic_store( &fake_while_signing, NULL );
}

/* Threads that sign while keys are closed and their slots taken again:
   fake_sign ends the test at the first sight of a changed or zero key. */

static _Atomic( const pf_key * ) current_key;
static atomic_int                stop;
static atomic_uint               signed_well;
static atomic_uint               refused;

static void
give_way( void ) {
  pause_a_moment( 1000 );
}

static void *
sign_until_stopped( void *unused ) {
  while( !atomic_load( &stop ) ) {
    signed_message s;
    int const      rc = sign( atomic_load( &current_key ), &s );
    CHECK( rc == PF_OK || rc == PF_ERR_CLOSED );
    atomic_fetch_add( rc == PF_OK ? &signed_well : &refused, 1 );
  }
  return unused;
}

#define RACES 2000

static void
test_close_races_with_sign( void ) {
  static pf_key keys[RACES];
  pthread_t     threads[THREADS];
  uint8_t       seed[PF_SEED_SZ];
  atomic_store( &fake_while_signing, give_way );
  open_key( &keys[0], seed );
  atomic_store( &current_key, &keys[0] );
  for( size_t i = 0; i < THREADS; i++ ) {
    CHECK( pthread_create( &threads[i], NULL, sign_until_stopped, NULL ) == 0 );
  }
  for( size_t i = 1; i < RACES; i++ ) {
    CHECK( pf_key_close( &keys[i - 1] ) == PF_OK );
    open_key( &keys[i], seed );
    atomic_store( &current_key, &keys[i] );
    if( i % 10 == 0 ) {
      pause_a_moment( 100000 );
    }
  }
  atomic_store( &stop, 1 );
  for( size_t i = 0; i < THREADS; i++ ) {
    CHECK( pthread_join( threads[i], NULL ) == 0 );
  }
  CHECK( pf_key_close( &keys[RACES - 1] ) == PF_OK );
  CHECK( check_all_zero( keys[RACES - 1].slot, SLOT_SZ ) );
  CHECK( atomic_load( &signed_well ) > 0 && atomic_load( &refused ) > 0 );
  atomic_store( &fake_while_signing, NULL );
}

/* Forks */

static void
in_child( const pf_key *parents, const uint8_t *parents_seed ) {
  pf_key  own;
  uint8_t seed[PF_SEED_SZ];
  check_closed( parents );
  CHECK( !check_contains( parents->slot, SLOT_SZ, parents_seed, 16 ) );
  CHECK( pf_key_close( parents ) == PF_ERR_CLOSED ); /* does not hang */
  check_fill( &random_state, seed, 5 );
  open_key( &own, seed );
  CHECK( own.slot == parents->slot ); /* empty here, hence free */
  check_signs( &own, seed );
  check_closed( parents ); /* still */
  CHECK( pf_key_close( &own ) == PF_OK );
}

static void
test_fork( void ) {
  pf_key  key;
  uint8_t seed[PF_SEED_SZ];
  open_key( &key, seed );
  pid_t const child = fork();
  if( child == 0 ) {
    in_child( &key, seed );
    _exit( 0 );
  }
  CHECK_CHILD_ENDS_WELL( child );
  check_signs( &key, seed );
  CHECK( pf_key_close( &key ) == PF_OK );
}

static void
test_fork_with_call_in_flight( void ) {
  pthread_t signer;
  open_key( &shared_key, shared_seed );
  atomic_store( &in_flight, 0 );
  atomic_store( &let_go, 0 );
  atomic_store( &fake_while_signing, stand_still );
  CHECK( pthread_create( &signer, NULL, sign_once, NULL ) == 0 );
  while( !atomic_load( &in_flight ) ) {
    pause_a_moment( 100000 );
  }
  pid_t const child = fork();
  if( child == 0 ) {
    atomic_store( &fake_while_signing, NULL );
    in_child( &shared_key, shared_seed ); /* does not wait for a call that nobody ends here */
    _exit( 0 );
  }
  CHECK_CHILD_ENDS_WELL( child );
  atomic_store( &let_go, 1 );
  CHECK( pthread_join( signer, NULL ) == 0 );
  atomic_store( &fake_while_signing, NULL );
  CHECK( pf_key_close( &shared_key ) == PF_OK );
}

/* A signal handler forks while a key is being stored: half a key must not
   open in the child. */

static pid_t child_while_opening;

static void
fork_now( void ) {
  atomic_store( &fake_while_deriving, NULL );
  child_while_opening = fork();
  CHECK( child_while_opening >= 0 );
}

static void
test_fork_while_opening( void ) {
  pf_key  key = { NULL, 0 };
  uint8_t seed[PF_SEED_SZ];
  uint8_t pubkey[PF_PUBKEY_SZ];
  open_key( &key, seed );
  void *const slot = key.slot; /* where the next key will be */
  CHECK( pf_key_close( &key ) == PF_OK );
  key.slot = NULL;
  atomic_store( &fake_while_deriving, fork_now );
  int const rc = pf_key_open( &key, pubkey, seed );
  if( child_while_opening == 0 ) {
    CHECK( rc == PF_ERR_CLOSED );
    CHECK( key.slot == NULL );
    CHECK( check_all_zero( slot, SLOT_SZ ) );
    open_key( &key, seed );
    CHECK( key.slot == slot );
    check_signs( &key, seed );
    _exit( 0 );
  }
  CHECK_CHILD_ENDS_WELL( child_while_opening );
  CHECK( rc == PF_OK );
  check_signs( &key, seed );
  CHECK( pf_key_close( &key ) == PF_OK );
}

/* A signal handler forks while a key signs: the child gives nothing away
   of a signature that its parent may be sending. */

static pid_t child_while_signing;

static int
sign_and_fork( unsigned char       *sm,
               unsigned long long  *sm_len,
               const unsigned char *m,
               unsigned long long   len,
               const unsigned char *pair ) {
  int const rc        = fake_sign( sm, sm_len, m, len, pair );
  child_while_signing = fork();
  return rc;
}

static void
test_fork_while_signing( void ) {
  pf_key         key;
  uint8_t        seed[PF_SEED_SZ];
  signed_message s;
  pf_sodium      table = fake_table;
  table.crypto_sign    = sign_and_fork;
  open_key( &key, seed );
  CHECK( pf_sodium_set( &table ) == PF_OK );
  int const rc = sign( &key, &s );
  CHECK( pf_sodium_set( &fake_table ) == PF_OK );
  if( child_while_signing == 0 ) {
    CHECK( rc == PF_ERR_CLOSED );
    CHECK( check_all_zero( s.signature, sizeof( s.signature ) ) );
    _exit( 0 );
  }
  CHECK_CHILD_ENDS_WELL( child_while_signing );
  CHECK( rc == PF_OK && !check_all_zero( s.signature, sizeof( s.signature ) ) );
  CHECK( pf_key_close( &key ) == PF_OK );
}

static int
derive_and_leave( unsigned char *pubkey, unsigned char *pair, const unsigned char *seed ) {
  check_leave_on_the_stack( seed, 2048 );
  return fake_seed_keypair( pubkey, pair, seed );
}

static int
sign_and_leave( unsigned char       *sm,
                unsigned long long  *sm_len,
                const unsigned char *m,
                unsigned long long   len,
                const unsigned char *pair ) {
  int const rc = fake_sign( sm, sm_len, m, len, pair );
  check_leave_on_the_stack( pair, 2048 );
  return rc;
}

static void
test_nothing_stays_on_the_stack( void ) {
  pf_key         key;
  uint8_t        seed[PF_SEED_SZ];
  uint8_t        pubkey[PF_PUBKEY_SZ];
  signed_message s;
  pf_sodium      table           = fake_table;
  table.crypto_sign_seed_keypair = derive_and_leave;
  table.crypto_sign              = sign_and_leave;
  CHECK( pf_sodium_set( &table ) == PF_OK );
  new_seed( seed );
  int rc = pf_key_open( &key, pubkey, seed );
  CHECK( !check_stands_below( seed, sizeof( seed ) ) );
  CHECK( rc == PF_OK );
  rc = sign( &key, &s );
  CHECK( !check_stands_below( seed, sizeof( seed ) ) );
  CHECK( rc == PF_OK );
  CHECK( pf_sodium_set( &fake_table ) == PF_OK );
  CHECK( pf_key_close( &key ) == PF_OK );
}

static void
test_clone( void ) {
  pf_key  key;
  uint8_t seed[PF_SEED_SZ];
  open_key( &key, seed );
  pid_t child = clone_behind_libc();
  if( child == 0 ) {
    in_child( &key, seed );
    _exit( 0 );
  }
  CHECK_CHILD_ENDS_WELL( child );
  child = clone_behind_libc();
  if( child == 0 ) {
    CHECK( pf_key_close( &key ) == PF_ERR_CLOSED ); /* the first it does */
    _exit( 0 );
  }
  CHECK_CHILD_ENDS_WELL( child );
  child = clone_behind_libc();
  if( child == 0 ) {
    pf_key  own;
    uint8_t own_seed[PF_SEED_SZ];
    open_key( &own, own_seed ); /* the first it does: its key is not wiped with its parent's */
    check_signs( &own, own_seed );
    _exit( 0 );
  }
  CHECK_CHILD_ENDS_WELL( child );
  check_signs( &key, seed );
  CHECK( pf_key_close( &key ) == PF_OK );
}

/* Whichever chunk the key is in. */

static void
test_clone_of_many_keys( void ) {
  static pf_key  keys[2 * SLOTS_PER_CHUNK + 1];
  size_t const   count = sizeof( keys ) / sizeof( keys[0] );
  uint8_t        seed[PF_SEED_SZ];
  signed_message s;
  for( size_t i = 0; i < count; i++ ) {
    open_key( &keys[i], seed );
  }
  pid_t const child = clone_behind_libc();
  if( child == 0 ) {
    for( size_t i = 0; i < count; i++ ) {
      CHECK( sign( &keys[count - 1 - i], &s ) == PF_ERR_CLOSED );
    }
    _exit( 0 );
  }
  CHECK_CHILD_ENDS_WELL( child );
  for( size_t i = 0; i < count; i++ ) {
    CHECK( pf_key_close( &keys[i] ) == PF_OK );
  }
}

/* Pairs */

static void
make_pair( uint8_t pair[PF_PAIR_SZ] ) {
  new_seed( pair );
  fake_pubkey_of( pair + PF_SEED_SZ, pair );
}

static int
sign_with( const uint8_t pair[PF_PAIR_SZ], signed_message *s ) {
  memset( s, 0, sizeof( *s ) );
  memcpy( s->message, MESSAGE, sizeof( MESSAGE ) );
  return pf_pair_sign( pair, (uint8_t *)s, sizeof( MESSAGE ) );
}

static void
check_pair_signs( const uint8_t pair[PF_PAIR_SZ], unsigned derivations ) {
  signed_message s;
  uint8_t        expected[PF_SIGNATURE_SZ];
  unsigned const before = atomic_load( &fake_derivations );
  CHECK( sign_with( pair, &s ) == PF_OK );
  fake_signature_of( expected, pair, MESSAGE, sizeof( MESSAGE ) );
  CHECK( memcmp( s.signature, expected, sizeof( expected ) ) == 0 );
  CHECK( atomic_load( &fake_derivations ) == before + derivations );
}

static void
check_pair_refused( const uint8_t pair[PF_PAIR_SZ], int rc ) {
  signed_message s;
  unsigned const before = atomic_load( &fake_signatures );
  CHECK( sign_with( pair, &s ) == rc );
  CHECK( check_all_zero( s.signature, sizeof( s.signature ) ) );
  CHECK( atomic_load( &fake_signatures ) == before );
}

static void
test_clone_remembers_no_pair( void ) {
  uint8_t pair[PF_PAIR_SZ];
  make_pair( pair );
  check_pair_signs( pair, 1 );
  check_pair_signs( pair, 0 );
  pid_t const child = clone_behind_libc();
  if( child == 0 ) {
    check_pair_signs( pair, 1 );
    _exit( 0 );
  }
  CHECK_CHILD_ENDS_WELL( child );
  check_pair_signs( pair, 0 );
}

static void
test_pair_is_checked( void ) {
  uint8_t pair[PF_PAIR_SZ];
  uint8_t zero[PF_PAIR_SZ] = { 0 };
  make_pair( pair );
  for( int remembered = 0; remembered < 2; remembered++ ) {
    for( size_t bit = 0; bit < 8 * PF_PAIR_SZ; bit++ ) { /* a flipped bit in either half */
      pair[bit / 8] ^= (uint8_t)( 1U << bit % 8 );
      check_pair_refused( pair, PF_ERR_MISMATCH );
      check_pair_refused( pair, PF_ERR_MISMATCH ); /* the refused are not remembered */
      pair[bit / 8] ^= (uint8_t)( 1U << bit % 8 );
    }
    check_pair_signs( pair, remembered ? 0 : 1 );
    check_pair_signs( pair, 0 );
  }
  check_pair_refused( zero, PF_ERR_MISMATCH ); /* one that was wiped */
  memset( pair, FAKE_BROKEN_SEED, PF_SEED_SZ );
  check_pair_refused( pair, PF_ERR_SODIUM );
  make_pair( pair );
  atomic_store( &fake_hash_fails, 1 );
  check_pair_refused( pair, PF_ERR_SODIUM );
  atomic_store( &fake_hash_fails, 0 );
}

/* As libsodium does: a base multiplication leaves digits of the scalar. */

static const char digits[] = "digits of a scalar";

static __attribute__( ( noinline ) ) void
leave_digits( void ) {
  uint8_t room[64 * sizeof( digits )];
  for( size_t i = 0; i < sizeof( room ); i += sizeof( digits ) ) {
    memcpy( room + i, digits, sizeof( digits ) );
  }
  __asm__ __volatile__( "" : : "r"( room ) : "memory" );
}

static void
test_nothing_is_left_of_a_refused_pair( void ) {
  static uint8_t pair[PF_PAIR_SZ];
  make_pair( pair );
  pair[PF_PAIR_SZ - 1] ^= 1;
  atomic_store( &fake_while_deriving, leave_digits );
  check_pair_refused( pair, PF_ERR_MISMATCH );
  CHECK( !check_stands_below( pair + 8, 16 ) );
  check_pair_refused( pair, PF_ERR_MISMATCH );
  CHECK( !check_stands_below( (const uint8_t *)digits, sizeof( digits ) ) );
  atomic_store( &fake_while_deriving, NULL );
}

static void
test_pair_memory_is_bounded( void ) {
  static uint8_t pairs[3 * REMEMBERED][PF_PAIR_SZ];
  for( size_t i = 0; i < 3 * REMEMBERED; i++ ) {
    make_pair( pairs[i] );
    check_pair_signs( pairs[i], 1 );
  }
  for( size_t i = 2 * REMEMBERED; i < 3 * REMEMBERED; i++ ) { /* the last are remembered */
    check_pair_signs( pairs[i], 0 );
  }
  for( size_t i = 0; i < REMEMBERED; i++ ) { /* the first are not, and still right */
    check_pair_signs( pairs[i], 1 );
    check_pair_signs( pairs[i], 0 );
  }
}

static void
test_pair_memory_and_fork( void ) {
  uint8_t pair[PF_PAIR_SZ];
  make_pair( pair );
  check_pair_signs( pair, 1 );
  pid_t const child = fork();
  if( child == 0 ) {
    check_pair_signs( pair, 1 ); /* forgotten */
    check_pair_signs( pair, 0 );
    _exit( 0 );
  }
  CHECK_CHILD_ENDS_WELL( child );
  check_pair_signs( pair, 0 );
}

static uint8_t thread_pairs[2 * REMEMBERED][PF_PAIR_SZ];

static void *
sign_with_pairs( void *unused ) {
  for( size_t i = 0; i < 2000; i++ ) {
    signed_message s;
    uint8_t        expected[PF_SIGNATURE_SZ];
    uint8_t       *pair = thread_pairs[i * 7 % ( 2 * REMEMBERED )];
    CHECK( sign_with( pair, &s ) == PF_OK );
    fake_signature_of( expected, pair, MESSAGE, sizeof( MESSAGE ) );
    CHECK( memcmp( s.signature, expected, sizeof( expected ) ) == 0 );
  }
  return unused;
}

static void
test_pairs_and_threads( void ) {
  pthread_t threads[THREADS];
  for( size_t i = 0; i < 2 * REMEMBERED; i++ ) {
    make_pair( thread_pairs[i] );
  }
  for( size_t i = 0; i < THREADS; i++ ) {
    CHECK( pthread_create( &threads[i], NULL, sign_with_pairs, NULL ) == 0 );
  }
  for( size_t i = 0; i < THREADS; i++ ) {
    CHECK( pthread_join( threads[i], NULL ) == 0 );
  }
}

/* A chunk after a chunk is added, and all of them are used again. */

static void
test_slots_are_used_again( void ) {
  static pf_key keys[2 * KEYS];
  uint8_t       seed[PF_SEED_SZ];
  for( size_t i = 0; i < 2 * KEYS; i++ ) {
    open_key( &keys[i], seed );
  }
  for( size_t i = 0; i < 2 * KEYS; i++ ) {
    CHECK( pf_key_close( &keys[i] ) == PF_OK );
  }
  for( size_t i = 0; i < 2 * KEYS; i++ ) {
    pf_key again;
    open_key( &again, seed );
    CHECK( again.slot == keys[0].slot );
    CHECK( pf_key_close( &again ) == PF_OK );
  }
}

int
main( void ) {
  test_unbound();
  test_open_sign_close();
  test_seed_stands_once();
  test_stale_handle();
  test_forged_handles();
  test_generated();
  test_failures();
  test_adding_waits_for_the_lock();
  test_many_keys();
  test_close_waits();
  test_close_races_with_sign();
  test_fork();
  test_fork_with_call_in_flight();
  test_fork_while_opening();
  test_fork_while_signing();
  test_nothing_stays_on_the_stack();
  test_clone();
  test_clone_of_many_keys();
  test_clone_remembers_no_pair();
  test_pair_is_checked();
  test_nothing_is_left_of_a_refused_pair();
  test_pair_memory_is_bounded();
  test_pair_memory_and_fork();
  test_pairs_and_threads();
  test_slots_are_used_again();
  puts( NAME ": ok" );
  return 0;
}
