/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE

#include "check.h"

#include "pf_pages.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#if defined( PF_TEST_NO_WIPEONFORK )
#define NAME "test_pages (fallback)"
#else
#define NAME "test_pages"
#endif

/* The sanitizers make mlock() say yes and do nothing. */
#if defined( __SANITIZE_ADDRESS__ ) || defined( __SANITIZE_THREAD__ )
#define MLOCK_IS_REAL 0
#elif defined( __has_feature )
#if __has_feature( address_sanitizer ) || __has_feature( memory_sanitizer ) || __has_feature( thread_sanitizer )
#define MLOCK_IS_REAL 0
#endif
#endif
#if !defined( MLOCK_IS_REAL )
#define MLOCK_IS_REAL 1
#endif

#define SECRET "a secret that must not cross"

static pf_pages pages;
static pf_pages more_pages;

/* Kernels that there are: this one; one that says yes to everything, as
   emulators do; one that knows nothing of MADV_WIPEONFORK. */

static enum { THIS_KERNEL, YES_TO_ALL, NO_TO_WIPEONFORK } kernel;

int
madvise( void *start, size_t sz, int advice ) {
#if defined( MADV_WIPEONFORK )
  if( kernel == NO_TO_WIPEONFORK && advice == MADV_WIPEONFORK ) {
    return -1;
  }
#endif
  return kernel == YES_TO_ALL ? 0 : (int)syscall( SYS_madvise, start, sz, advice );
}

static int
map( pf_pages *p, size_t sz ) {
  pf_pages_lock();
  int const rc = pf_pages_map( p, sz );
  pf_pages_unlock();
  return rc;
}

static void
test_map( void ) {
  size_t const page     = (size_t)sysconf( _SC_PAGESIZE );
  size_t       mapped   = 9;
  size_t       unlocked = 9;
  pf_pages_counts( &mapped, &unlocked );
  CHECK( mapped == 0 && unlocked == 0 );

  CHECK( map( &pages, 1 ) == PF_OK );
  CHECK( pages.sz == page );
  CHECK( (uintptr_t)pages.start % page == 0 );
  CHECK( check_all_zero( pages.start, pages.sz ) );
  CHECK( map( &more_pages, page + 1 ) == PF_OK );
  CHECK( more_pages.sz == 2 * page );

  pf_pages_counts( &mapped, &unlocked );
  CHECK( mapped == 2 );
  CHECK( unlocked == (size_t)!pages.locked + (size_t)!more_pages.locked );
  int const locked[2] = { pages.locked, more_pages.locked };
  pages.locked = more_pages.locked = 0; /* as if they could not */
  pf_pages_counts( &mapped, &unlocked );
  CHECK( mapped == 2 && unlocked == 2 );
  pages.locked      = locked[0];
  more_pages.locked = locked[1];
#if defined( PF_TEST_NO_WIPEONFORK )
  CHECK( !pages.wiped_on_fork && !more_pages.wiped_on_fork );
#endif
}

/* What this process can do, the core does: lock a page more, have it wiped
   on fork. */

static void
test_what_can_be_done_is_done( void ) {
  size_t const page  = (size_t)sysconf( _SC_PAGESIZE );
  void *const  probe = mmap( NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0 );
  CHECK( probe != MAP_FAILED );
  if( mlock( probe, page ) == 0 ) {
    CHECK( pages.locked == 1 && more_pages.locked == 1 );
  }
#if defined( MADV_WIPEONFORK ) && !defined( PF_TEST_NO_WIPEONFORK )
  if( madvise( probe, page, MADV_WIPEONFORK ) == 0 && madvise( probe, page, 0x7ead ) != 0 ) {
    CHECK( pages.wiped_on_fork == 1 && more_pages.wiped_on_fork == 1 );
  }
#endif
  CHECK( munmap( probe, page ) == 0 );
}

static void
test_no_room( void ) {
  static pf_pages none;
  size_t          mapped;
  size_t          unlocked;
  CHECK( map( &none, SIZE_MAX / 4 ) == PF_ERR_MEMORY );
  CHECK( none.start == NULL );
  pf_pages_counts( &mapped, &unlocked );
  CHECK( mapped == 2 );
}

/* In children, whose mappings do not stay: a kernel is believed only if it
   can do it, and can say no. */

static void
test_other_kernels( void ) {
  for( int other = YES_TO_ALL; other <= NO_TO_WIPEONFORK; other++ ) {
    pid_t const child = fork();
    if( child == 0 ) {
      static pf_pages own;
      kernel = other == YES_TO_ALL ? YES_TO_ALL : NO_TO_WIPEONFORK;
      CHECK( map( &own, 1 ) == PF_OK );
      CHECK( !own.wiped_on_fork );
      memcpy( own.start, SECRET, sizeof( SECRET ) );
      pid_t const grandchild = fork();
      if( grandchild == 0 ) {
        CHECK( check_all_zero( own.start, own.sz ) ); /* all the same */
        _exit( 0 );
      }
      CHECK_CHILD_ENDS_WELL( grandchild );
      CHECK( memcmp( own.start, SECRET, sizeof( SECRET ) ) == 0 );
      _exit( 0 );
    }
    CHECK_CHILD_ENDS_WELL( child );
  }
}

/* The kernel's own word: VmFlags of the mapping in /proc/self/smaps. */

static void
check_flags( const pf_pages *of ) {
  FILE *maps = fopen( "/proc/self/smaps", "r" );
  char  line[512];
  int   found = 0;
  int   ours  = 0;
  if( !maps ) {
    return;
  }
  while( fgets( line, sizeof( line ), maps ) ) {
    unsigned long long start;
    unsigned long long end;
    if( sscanf( line, "%llx-%llx ", &start, &end ) == 2 ) {
      ours = start <= (uintptr_t)of->start && (uintptr_t)of->start < end;
    } else if( ours && strncmp( line, "VmFlags:", 8 ) == 0 ) {
      found = 1;
      CHECK( strstr( line, " dd" ) != NULL );                          /* not dumped */
      CHECK( ( strstr( line, " wf" ) != NULL ) == of->wiped_on_fork ); /* wiped on fork */
      CHECK( !MLOCK_IS_REAL || ( strstr( line, " lo" ) != NULL ) == of->locked );
    }
  }
  fclose( maps );
  CHECK( found );
}

static void
test_flags( void ) {
  check_flags( &pages );
}

/* Large ones: never locked, and not missed; all else alike. */

static size_t
resident_pages( const pf_pages *of ) {
  size_t const   count = of->sz / (size_t)sysconf( _SC_PAGESIZE );
  unsigned char *in    = malloc( count );
  size_t         sum   = 0;
  CHECK( in != NULL && mincore( of->start, of->sz, in ) == 0 );
  for( size_t i = 0; i < count; i++ ) {
    sum += in[i] & 1;
  }
  free( in );
  return sum;
}

static void
test_large( void ) {
  static pf_pages large;
  static pf_pages exact;
  size_t const    sz = (size_t)100 * (size_t)sysconf( _SC_PAGESIZE );
  size_t          mapped;
  size_t          unlocked;
  pf_pages_counts( &mapped, &unlocked );
  size_t const unlocked_before = unlocked;
  pf_pages_lock();
  CHECK( pf_pages_map_large( &large, sz - 1 ) == PF_OK );
  pf_pages_unlock();
  CHECK( large.sz == sz && !large.locked );
  CHECK( check_all_zero( large.start, large.sz ) );
  pf_pages_counts( &mapped, &unlocked );
  CHECK( mapped == 3 && unlocked == unlocked_before );
  check_flags( &large );

  memset( large.start, 0x77, large.sz );
  CHECK( resident_pages( &large ) == 100 );
  pid_t const child = fork();
  if( child == 0 ) {
    CHECK( check_all_zero( large.start, large.sz ) );
    CHECK( !large.locked );
    check_flags( &large );
    _exit( 0 );
  }
  CHECK_CHILD_ENDS_WELL( child );
  CHECK( large.start[0] == 0x77 && large.start[sz - 1] == 0x77 );

  pf_wipe( large.start, large.sz );
  pf_pages_give_back( &large );
  CHECK( resident_pages( &large ) == 0 );
  CHECK( check_all_zero( large.start, large.sz ) );
  memset( large.start, 0x78, large.sz ); /* to be used again */
  check_flags( &large );

  pf_pages_lock();
  CHECK( pf_pages_map_large( &exact, sz ) == PF_OK );
  pf_pages_unlock();
  CHECK( exact.sz == sz );
}

static void
look_empty_and_write( void ) {
  CHECK( check_all_zero( pages.start, pages.sz ) );
  CHECK( check_all_zero( more_pages.start, more_pages.sz ) );
  memset( pages.start, 0x55, pages.sz );
  pf_pages_current( &pages ); /* own content stays */
  CHECK( pages.start[0] == 0x55 && pages.start[pages.sz - 1] == 0x55 );
}

static void
test_fork( void ) {
  int const locked = pages.locked;
  memcpy( pages.start, SECRET, sizeof( SECRET ) );
  memset( more_pages.start, 0xff, more_pages.sz );
  pid_t const child = fork();
  if( child == 0 ) {
    size_t mapped;
    size_t unlocked;
    look_empty_and_write();
    pf_pages_counts( &mapped, &unlocked ); /* takes the lock: it was not inherited taken */
    CHECK( mapped == 2 );
    CHECK( pages.locked == locked ); /* locked anew */
    test_flags();

    pid_t const grandchild = fork();
    if( grandchild == 0 ) {
      look_empty_and_write();
      _exit( 0 );
    }
    CHECK_CHILD_ENDS_WELL( grandchild );
    CHECK( pages.start[0] == 0x55 );
    _exit( 0 );
  }
  CHECK_CHILD_ENDS_WELL( child );
  pf_pages_current( &pages );
  CHECK( memcmp( pages.start, SECRET, sizeof( SECRET ) ) == 0 );
  CHECK( more_pages.start[more_pages.sz - 1] == 0xff );
}

/* A child that libc knows nothing of: no handler runs in it. */

static void
test_clone( void ) {
#if defined( SYS_clone ) && ( defined( __x86_64__ ) || defined( __aarch64__ ) )
  memcpy( pages.start, SECRET, sizeof( SECRET ) );
  long const child = syscall( SYS_clone, (long)SIGCHLD, 0L, 0L, 0L, 0L );
  CHECK( child >= 0 );
  if( child == 0 ) {
    CHECK( check_all_zero( pages.start, pages.sz ) == pages.wiped_on_fork );
    pf_pages_current( &pages );
    pf_pages_current( &more_pages );
    look_empty_and_write();
    _exit( 0 );
  }
  CHECK_CHILD_ENDS_WELL( (pid_t)child );
  CHECK( memcmp( pages.start, SECRET, sizeof( SECRET ) ) == 0 );
#endif
}

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
test_fork_waits_for_the_lock( void ) {
  pthread_t holder;
  atomic_store( &holder_state, 0 );
  CHECK( pthread_create( &holder, NULL, hold_lock, NULL ) == 0 );
  while( !atomic_load( &holder_state ) ) {
  }
  pid_t const child = fork();
  if( child == 0 ) {
    CHECK( atomic_load( &holder_state ) == 2 );
    pf_pages_lock();
    pf_pages_unlock();
    _exit( 0 );
  }
  CHECK_CHILD_ENDS_WELL( child );
  CHECK( pthread_join( holder, NULL ) == 0 );
}

/* Who counts them waits for who adds one. */

static void
test_counting_waits_for_the_lock( void ) {
  pthread_t holder;
  size_t    mapped;
  size_t    unlocked;
  atomic_store( &holder_state, 0 );
  CHECK( pthread_create( &holder, NULL, hold_lock, NULL ) == 0 );
  while( !atomic_load( &holder_state ) ) {
  }
  pf_pages_counts( &mapped, &unlocked );
  CHECK( atomic_load( &holder_state ) == 2 );
  CHECK( pthread_join( holder, NULL ) == 0 );
}

/* What another process left in there is wiped once, however many threads
   find it at the same time; who comes late does not wipe what is new. */

#define THREADS 4

static atomic_int waiting;
static atomic_int go;

static void *
write_own_byte( void *own ) {
  atomic_fetch_add( &waiting, 1 );
  while( !atomic_load( &go ) ) {
    (void)sched_yield();
  }
  pf_pages_foreign( &pages );
  *(volatile uint8_t *)own = 1;
  return NULL;
}

static void
test_wiped_once( void ) {
  for( int round = 0; round < 100; round++ ) {
    pthread_t threads[THREADS];
    memset( pages.start, 0x66, pages.sz );
    atomic_store( &waiting, 0 );
    atomic_store( &go, 0 );
    atomic_store( &pages.pid, (int64_t)getpid() + 1 );
    for( size_t i = 0; i < THREADS; i++ ) {
      CHECK( pthread_create( &threads[i], NULL, write_own_byte, pages.start + 64 * i ) == 0 );
    }
    while( atomic_load( &waiting ) < THREADS ) {
      (void)sched_yield();
    }
    atomic_store( &go, 1 );
    for( size_t i = 0; i < THREADS; i++ ) {
      CHECK( pthread_join( threads[i], NULL ) == 0 );
    }
    CHECK( atomic_load( &pages.pid ) == (int64_t)getpid() );
    for( size_t i = 0; i < pages.sz; i++ ) {
      CHECK( pages.start[i] == ( i % 64 == 0 && i < (size_t)64 * THREADS ) );
    }
  }
}

/* Another thread is wiping: it is waited for. */

static void *
wipe_slowly( void *unused ) {
  struct timespec const while_wiping = { 0, 20000000 };
  (void)nanosleep( &while_wiping, NULL );
  pages.start[0] = 0;
  atomic_store( &pages.pid, (int64_t)getpid() );
  return unused;
}

static void
test_wiper_is_waited_for( void ) {
  pthread_t wiper;
  pages.start[0] = 0x66;
  pages.start[1] = 0x67;
  atomic_store( &pages.pid, -(int64_t)getpid() );
  CHECK( pthread_create( &wiper, NULL, wipe_slowly, NULL ) == 0 );
  pf_pages_foreign( &pages );
  CHECK( pages.start[0] == 0 && pages.start[1] == 0x67 );
  CHECK( pthread_join( wiper, NULL ) == 0 );
}

int
main( void ) {
  test_map();
  test_what_can_be_done_is_done();
  test_no_room();
  test_flags();
  test_fork();
  test_clone();
  test_fork_waits_for_the_lock();
  test_counting_waits_for_the_lock();
  test_wiped_once();
  test_wiper_is_waited_for();
  test_other_kernels();
  test_large();
  puts( NAME ": ok" );
  return 0;
}
