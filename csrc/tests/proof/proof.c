/* SPDX-License-Identifier: MIT */
/* proof.c: two different messages under one key never share R.

   Threads, forked children and children of every other kind sign with
   prepared nonces under one key, out of pools of a few slots, while
   other threads are let in where it hurts most.  libsodium verifies
   every signature; its R is looked up, and kept, in a book that all
   these processes share; its nonce, r = S - k·a, is looked for in the
   pool, from which it must be gone.

   tests/proof builds this and the core into a shared library, binds it
   to PyNaCl's libsodium, and drives it.  The book is a file. */

#if !defined( _GNU_SOURCE )
#define _GNU_SOURCE /* memmem, syscall */
#endif

#include "../interleave_anywhere.h"

#include "pf_pages.h"
#include "pf_signer.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MESSAGE_MAX 256
#define THREADS_MAX 16
#define CHILDREN_AT_ONCE 4
#define TRESPASSES 12 /* more than any pool has slots */

/* What the driver reads, in this order: see Book in tests/proof/book.py. */

typedef struct {
  _Atomic( uint64_t ) signatures;
  _Atomic( uint64_t )
      prepared; /* of these, with a nonce of a pool; what children in flight made is not among them */
  _Atomic( uint64_t ) children;   /* processes that signed, other than the first */
  _Atomic( uint64_t ) repeated;   /* an R that another message had */
  _Atomic( uint64_t ) invalid;    /* signatures that do not verify */
  _Atomic( uint64_t ) lingering;  /* nonces still in the pool after their use */
  _Atomic( uint64_t ) trespasses; /* uses of a key or pool of another process */
  _Atomic( uint64_t ) failures;   /* anything else that must not happen */
} findings;

#define WRITING UINT64_MAX

typedef struct {
  _Atomic( uint64_t ) number; /* of the message, from 1 up; 0: free; WRITING: soon there */
  uint8_t             point[32];
} entry;

typedef struct {
  findings            found;
  _Atomic( uint64_t ) last_number;
  uint64_t            capacity;
  entry               entries[];
} book_file;

typedef struct {
  pf_sodium core;
  int ( *sign_open )(
      unsigned char *, unsigned long long *, const unsigned char *, unsigned long long, const unsigned char * );
  void ( *scalar_sub )( unsigned char *, const unsigned char *, const unsigned char * );
} proof_functions;

/* A key with a pool, in one process; a, to compute r with. */

typedef struct {
  pf_key                     key;
  uint8_t                    pubkey[PF_PUBKEY_SZ];
  uint8_t                    scalar[PF_SCALAR_SZ];
  _Atomic( const pf_pool * ) pool;
  pf_pool                    first_pool;
} signer;

static book_file         *book;
static proof_functions    real;
static signer             shared; /* by all threads, and by children that must not */
static uint8_t            shared_seed[PF_SEED_SZ];
static size_t             shared_size;
static pthread_t          threads[THREADS_MAX];
static size_t             thread_count;
static _Atomic( int64_t ) turns_left;

static void
tally( _Atomic( uint64_t ) *count ) {
  atomic_fetch_add_explicit( count, 1, memory_order_relaxed );
}

/* must_not_happen counts a failure, and says which. */

static void
must_not_happen_in( int line ) {
  (void)fprintf( stderr, "proof.c:%d: this must not happen\n", line );
  tally( &book->found.failures );
}

#define must_not_happen() must_not_happen_in( __LINE__ )

static int
is_all_zero( const uint8_t *bytes, size_t n ) {
  uint8_t any = 0;
  for( size_t i = 0; i < n; i++ ) {
    any |= bytes[i];
  }
  return any == 0;
}

/* chance is true once in n times. */

static int
chance( uint32_t n ) {
  static _Thread_local uint32_t state;
  if( !state ) {
    state = ( (uint32_t)atomic_load( &book->last_number ) ^ (uint32_t)getpid() ) * UINT32_C( 2654435761 );
  }
  state = state * UINT32_C( 1664525 ) + UINT32_C( 1013904223 );
  return ( state >> 8 ) % n == 0;
}

/* The book. */

static void
remember( const uint8_t point[32], uint64_t number ) {
  uint64_t at;
  memcpy( &at, point, sizeof( at ) );
  for( ;; at++ ) {
    entry   *e     = &book->entries[at % book->capacity];
    uint64_t found = 0;
    if( atomic_compare_exchange_strong( &e->number, &found, WRITING ) ) {
      memcpy( e->point, point, sizeof( e->point ) );
      atomic_store( &e->number, number );
      return;
    }
    while( found == WRITING ) {
      (void)sched_yield();
      found = atomic_load( &e->number );
    }
    if( memcmp( e->point, point, sizeof( e->point ) ) == 0 ) {
      tally( &book->found.repeated ); /* no number comes twice: it is another message */
      return;
    }
  }
}

/* What comes between: the functions that the core is bound to are
   libsodium's, but for what may happen before and after. */

#define FORK_IN_FLIGHT 1
#define WIPE_IN_FLIGHT 2

static atomic_int interference;
static _Thread_local volatile int
    forked_in_flight; /* this is a child, on the stack of a thread that was signing */

/* between forks, as a signal handler may: the child goes on with the
   call that it was forked out of. */

static void
between( void ) {
  if( !( atomic_load( &interference ) & FORK_IN_FLIGHT ) || forked_in_flight || !chance( 256 ) ) {
    return;
  }
  pid_t const child = fork();
  if( child == 0 ) {
    forked_in_flight = 1;
    return;
  }
  int status = -1;
  if( child < 0 || waitpid( child, &status, 0 ) != child || status != 0 ) {
    (void)fprintf( stderr, "child %d: status %#x\n", (int)child, (unsigned)status );
    must_not_happen();
  }
}

static int
sha512_between( unsigned char *out, const unsigned char *in, unsigned long long len ) {
  between();
  int const rc = real.core.crypto_hash_sha512( out, in, len );
  between();
  return rc;
}

/* In its middle, too: then what is written after the fork comes from before it. */

static void
reduce_between( unsigned char *out, const unsigned char *in ) {
  uint8_t reduced[PF_SCALAR_SZ];
  between();
  real.core.scalar_reduce( reduced, in );
  between();
  memcpy( out, reduced, sizeof( reduced ) );
  between();
}

static void
add_between( unsigned char *sum, const unsigned char *other, size_t n ) {
  between();
  real.core.sodium_add( sum, other, n );
  between();
}

static int
base_between( unsigned char *point, const unsigned char *scalar ) {
  between();
  int const rc = real.core.scalarmult_base_noclamp( point, scalar );
  between();
  return rc;
}

/* As in pf_nonce.c: what a signature multiplies into stands behind r and R. */

typedef struct {
  uint8_t r[PF_SCALAR_SZ];
  uint8_t point[32];
  uint8_t sum[64];
} nonce_secrets;

static void
wipe_slot_of( uint8_t *sum ) {
  nonce_secrets *s = (nonce_secrets *)(void *)( sum - offsetof( nonce_secrets, sum ) );
  uint8_t        point[32];
  if( real.core.scalarmult_base_noclamp( point, s->r ) != 0 || memcmp( point, s->point, 32 ) != 0 ) {
    must_not_happen(); /* it is no longer as in pf_nonce.c */
  }
  pf_wipe( s, sizeof( *s ) );
}

static void
mul_between( unsigned char *product, const unsigned char *x, const unsigned char *y ) {
  between();
  if( atomic_load( &interference ) & WIPE_IN_FLIGHT && chance( 4 ) ) {
    wipe_slot_of( product );
  }
  real.core.scalar_mul( product, x, y );
  between();
}

/* Signatures. */

typedef struct {
  uint64_t number;
  size_t   len;
  uint8_t  bytes[PF_SIGNATURE_SZ + MESSAGE_MAX];
} signed_message;

static void
new_message( signed_message *m ) {
  m->number = atomic_fetch_add( &book->last_number, 1 ) + 1;
  m->len    = sizeof( m->number ) + m->number % ( MESSAGE_MAX - sizeof( m->number ) );
  if( m->number > book->capacity / 4 * 3 ) {
    must_not_happen(); /* more signatures than the driver made room for */
    _exit( 1 );
  }
  memset( m->bytes, 0, sizeof( m->bytes ) );
  memcpy( m->bytes + PF_SIGNATURE_SZ, &m->number, sizeof( m->number ) );
}

static int
verifies( const signer *who, const signed_message *m ) {
  uint8_t            opened[PF_SIGNATURE_SZ + MESSAGE_MAX];
  unsigned long long len = 0;
  return real.sign_open( opened, &len, m->bytes, PF_SIGNATURE_SZ + m->len, who->pubkey ) == 0 &&
         len == m->len && memcmp( opened, &m->number, sizeof( m->number ) ) == 0;
}

static void
nonce_of( uint8_t r[PF_SCALAR_SZ], const signer *who, const signed_message *m ) {
  signed_message hashed = *m;
  uint8_t        hash[PF_SHA512_SZ];
  uint8_t        k[PF_SCALAR_SZ];
  uint8_t        product[PF_SCALAR_SZ];
  memcpy( hashed.bytes + 32, who->pubkey, PF_PUBKEY_SZ );
  (void)real.core.crypto_hash_sha512( hash, hashed.bytes, PF_SIGNATURE_SZ + m->len );
  real.core.scalar_reduce( k, hash );
  real.core.scalar_mul( product, k, who->scalar );
  real.scalar_sub( r, m->bytes + 32, product );
}

static int
pool_contains( const pf_pool *pool, const uint8_t r[PF_SCALAR_SZ] ) {
  const pf_pages *place = pool->place;
  return memmem( place->start, place->sz, r, PF_SCALAR_SZ ) != NULL;
}

static void
examine( const signer *who, const pf_pool *pool, const signed_message *m ) {
  uint8_t r[PF_SCALAR_SZ];
  tally( &book->found.signatures );
  remember( m->bytes, m->number );
  if( !verifies( who, m ) ) {
    tally( &book->found.invalid );
  }
  nonce_of( r, who, m );
  if( pool_contains( pool, r ) ) {
    tally( &book->found.lingering );
  }
}

/* must_be_closed is about a key and a pool that another process opened. */

static void
must_be_closed( const pf_pool *pool, const signed_message *m, int rc ) {
  if( rc == PF_OK ) {
    tally( &book->found.trespasses );
    examine( &shared, pool, m );
  } else if( rc != PF_ERR_CLOSED || !is_all_zero( m->bytes, PF_SIGNATURE_SZ ) ) {
    must_not_happen();
  }
}

/* end_in_flight ends a child that came back from its parent's call: what
   it was doing there must not come up again in what it does now. */

int proof_child( const uint8_t seed[PF_SEED_SZ], size_t size, size_t count, int64_t signatures );

static void
end_in_flight( void ) {
  forked_in_flight = 0;
  _exit( proof_child( shared_seed, shared_size, 0, TRESPASSES ) == PF_OK ? 0 : 1 );
}

static void
sign_one( signer *who ) {
  signed_message m;
  const pf_pool *pool = atomic_load( &who->pool );
  new_message( &m );
  int const rc = pf_key_sign_prepared( &who->key, pool, m.bytes, m.len );
  if( forked_in_flight ) {
    must_be_closed( pool, &m, rc );
    end_in_flight();
  }
  if( rc == PF_OK ) {
    examine( who, pool, &m );
  } else {
    must_not_happen();
  }
}

static int
prepare_one( signer *who ) {
  int const rc = pf_key_prepare( &who->key, atomic_load( &who->pool ) );
  if( forked_in_flight ) {
    if( rc != PF_ERR_CLOSED ) {
      tally( &book->found.trespasses );
    }
    end_in_flight();
  }
  if( rc != 0 && rc != 1 && rc != PF_ERR_CLOSED ) { /* closed: pools come and go */
    must_not_happen();
  }
  return rc;
}

/* Signing out of an empty pool is deterministic, and proves nothing: a
   nonce for each signature, unless it takes too long. */

#define PATIENCE 64

static void *
prepare_and_sign( void *who ) {
  while( atomic_fetch_sub( &turns_left, 1 ) > 0 ) {
    for( int i = 0; i < PATIENCE && !prepare_one( who ); i++ ) {
      (void)sched_yield();
    }
    sign_one( who );
  }
  return NULL;
}

/* Opening and closing. */

static void
count_pool( const pf_pool *pool ) {
  pf_pool_stats stats;
  if( pf_pool_count( pool, &stats ) != PF_OK ) {
    must_not_happen();
    return;
  }
  atomic_fetch_add( &book->found.prepared, stats.prepared );
}

static int
open_signer( signer *who, const uint8_t seed[PF_SEED_SZ], size_t size ) {
  uint8_t hash[PF_SHA512_SZ];
  (void)real.core.crypto_hash_sha512( hash, seed, PF_SEED_SZ );
  hash[0] &= 248;
  hash[31] &= 127;
  hash[31] |= 64;
  memcpy( who->scalar, hash, sizeof( who->scalar ) );
  atomic_store( &who->pool, &who->first_pool );
  int const rc = pf_key_open( &who->key, who->pubkey, seed );
  return rc == PF_OK ? pf_pool_open( &who->first_pool, size, 60000, who->key.generation ) : rc;
}

static void
close_signer( signer *who ) {
  count_pool( atomic_load( &who->pool ) );
  if( pf_pool_close( atomic_load( &who->pool ) ) != PF_OK || pf_key_close( &who->key ) != PF_OK ) {
    must_not_happen();
  }
}

/* What the driver calls. */

/* proof_open binds the core to libsodium and maps the book. */

int
proof_open( const proof_functions *functions, const char *path ) {
  real                          = *functions;
  pf_sodium table               = functions->core;
  table.crypto_hash_sha512      = sha512_between;
  table.scalar_reduce           = reduce_between;
  table.scalar_mul              = mul_between;
  table.sodium_add              = add_between;
  table.scalarmult_base_noclamp = base_between;
  int const   fd                = open( path, O_RDWR | O_CLOEXEC );
  off_t const size              = fd < 0 ? -1 : lseek( fd, 0, SEEK_END );
  if( size < (off_t)sizeof( book_file ) ) {
    return PF_ERR_ARGUMENT;
  }
  book = mmap( NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0 );
  (void)close( fd );
  if( book == MAP_FAILED ) {
    return PF_ERR_MEMORY;
  }
  book->capacity = ( (size_t)size - sizeof( *book ) ) / sizeof( entry );
  int const rc   = pf_sodium_set( &table );
  return rc == PF_OK ? pf_signer_open() : rc;
}

/* proof_begin opens a key and a pool of size slots, proof_end closes
   them; interference_now is a sum of the two constants above. */

int
proof_begin( const uint8_t seed[PF_SEED_SZ], size_t size, int interference_now ) {
  memcpy( shared_seed, seed, sizeof( shared_seed ) );
  shared_size = size;
  atomic_store( &interference, interference_now );
  int const rc = open_signer( &shared, seed, size );
  if( forked_in_flight ) { /* out of an opening: what was stored by then was wiped */
    if( rc != PF_ERR_CLOSED ) {
      tally( &book->found.trespasses );
    }
    end_in_flight();
  }
  return rc;
}

void
proof_end( void ) {
  atomic_store( &interference, 0 );
  close_signer( &shared );
}

/* proof_start lets count threads sign until so many signatures are made;
   proof_finish waits for that, proof_stop ends it now. */

int
proof_start( size_t count, int64_t signatures ) {
  atomic_store( &turns_left, signatures );
  for( thread_count = 0; thread_count < count; thread_count++ ) {
    if( pthread_create( &threads[thread_count], NULL, prepare_and_sign, &shared ) != 0 ) {
      return PF_ERR_MEMORY;
    }
  }
  return PF_OK;
}

void
proof_finish( void ) {
  for( ; thread_count; thread_count-- ) {
    (void)pthread_join( threads[thread_count - 1], NULL );
  }
}

void
proof_stop( void ) {
  atomic_store( &turns_left, 0 );
  proof_finish();
}

/* proof_refill is the refilling thread of a release; it comes back when
   the pool is closed. */

static void *
refill( void *unused ) {
  (void)pf_key_refill( &shared.key, &shared.first_pool );
  return unused;
}

int
proof_refill( void ) {
  pthread_t thread;
  return pthread_create( &thread, NULL, refill, NULL ) == 0 ? pthread_detach( thread ) : PF_ERR_MEMORY;
}

/* proof_change_pools closes the pool and opens another one, rounds times,
   while the threads sign.  pools has room for rounds handles and outlives
   them. */

void
proof_change_pools( pf_pool *pools, size_t rounds, size_t sizes ) {
  for( size_t i = 0; i < rounds; i++ ) {
    const pf_pool *old = atomic_load( &shared.pool );
    if( pf_pool_open( &pools[i], 1 + i % sizes, 60000, shared.key.generation ) != PF_OK ) {
      must_not_happen();
      return;
    }
    atomic_store( &shared.pool, &pools[i] );
    count_pool( old );
    if( pf_pool_close( old ) != PF_OK ) {
      must_not_happen();
    }
    (void)usleep( 200 );
  }
}

/* proof_child is the life of another process: it tries what its parent
   opened, then signs, with the same private key, that it loads itself. */

int
proof_child( const uint8_t seed[PF_SEED_SZ], size_t size, size_t count, int64_t signatures ) {
  signed_message m;
  signer         own;
  tally( &book->found.children );
  atomic_store( &interference, 0 );
  if( shared.key.generation ) {
    const pf_pool *pool = atomic_load( &shared.pool );
    for( int i = 0; i < TRESPASSES; i++ ) {
      new_message( &m );
      must_be_closed( pool, &m, pf_key_sign_prepared( &shared.key, pool, m.bytes, m.len ) );
    }
    if( pf_key_prepare( &shared.key, pool ) != PF_ERR_CLOSED ) {
      tally( &book->found.trespasses );
    }
  }
  int const rc = open_signer( &own, seed, size );
  if( rc != PF_OK ) {
    return rc;
  }
  pthread_t others[THREADS_MAX];
  atomic_store( &turns_left, signatures );
  for( size_t i = 0; i < count; i++ ) {
    if( pthread_create( &others[i], NULL, prepare_and_sign, &own ) != 0 ) {
      return PF_ERR_MEMORY;
    }
  }
  (void)prepare_and_sign( &own );
  for( size_t i = 0; i < count; i++ ) {
    (void)pthread_join( others[i], NULL );
  }
  close_signer( &own );
  return PF_OK;
}

/* proof_storm forks children, some at a time, each of which lives a
   life.  behind_libc: by clone(), of which libc knows nothing. */

static void
await_child( void ) {
  int status = -1;
  if( wait( &status ) < 0 || status != 0 ) {
    must_not_happen();
  }
}

void
proof_storm( const uint8_t seed[PF_SEED_SZ], size_t children, int64_t signatures, int behind_libc ) {
  for( size_t i = 0; i < children; i++ ) {
    if( i >= CHILDREN_AT_ONCE ) {
      await_child();
    }
    long const child = behind_libc ? syscall( SYS_clone, (long)SIGCHLD, 0L, 0L, 0L, 0L ) : fork();
    if( child == 0 ) {
      _exit( proof_child( seed, 1 + i % 8, behind_libc ? 0 : 1, signatures ) == PF_OK ? 0 : 1 );
    }
  }
  for( size_t i = 0; i < children && i < CHILDREN_AT_ONCE; i++ ) {
    await_child();
  }
}
