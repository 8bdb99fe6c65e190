/* SPDX-License-Identifier: MIT */
#if !defined( _GNU_SOURCE )
#define _GNU_SOURCE /* MADV_*, MAP_ANONYMOUS */
#endif

#include "pf_pages.h"

#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

static pthread_mutex_t pages_mutex = PTHREAD_MUTEX_INITIALIZER;
static pf_pages       *all_pages;
static int             handlers_registered;

void
pf_pages_lock( void ) {
  (void)pthread_mutex_lock( &pages_mutex );
}

void
pf_pages_unlock( void ) {
  (void)pthread_mutex_unlock( &pages_mutex );
}

static void
lock_in_ram( pf_pages *pages ) {
  pages->locked = pages->to_be_locked && mlock( pages->start, pages->sz ) == 0;
}

/* child_after_fork may run with other threads' work cut off in the
   middle: it only wipes, and makes system calls. */

static void
child_after_fork( void ) {
  for( pf_pages *p = all_pages; p; p = p->next ) {
    if( !p->wiped_on_fork ) {
      pf_wipe( p->start, p->sz );
      atomic_store( &p->pid, (int64_t)getpid() );
    }
    lock_in_ram( p );
  }
  pf_pages_unlock();
}

/* kernel_wipes_on_fork asks for the wipe, and believes the answer only
   from a kernel that can also say no. */

static int
kernel_wipes_on_fork( void *start, size_t sz ) {
#if defined( MADV_WIPEONFORK ) && !defined( PF_TEST_NO_WIPEONFORK )
  int const nonsense = 0x7ead;
  return madvise( start, sz, MADV_WIPEONFORK ) == 0 && madvise( start, sz, nonsense ) != 0;
#else
  (void)start;
  (void)sz;
  return 0;
#endif
}

static void
keep_out_of_core_dumps( void *start, size_t sz ) {
#if defined( MADV_DONTDUMP )
  (void)madvise( start, sz, MADV_DONTDUMP );
#elif defined( MADV_NOCORE )
  (void)madvise( start, sz, MADV_NOCORE );
#else
  (void)start;
  (void)sz;
#endif
}

static size_t
whole_pages( size_t sz ) {
  size_t const page = (size_t)sysconf( _SC_PAGESIZE );
  return ( sz + page - 1 ) / page * page;
}

static int
register_handlers( void ) {
  if( !handlers_registered ) {
    handlers_registered = pthread_atfork( pf_pages_lock, pf_pages_unlock, child_after_fork ) == 0;
  }
  return handlers_registered;
}

static int
map( pf_pages *pages, size_t sz, int to_be_locked ) {
  if( !register_handlers() ) {
    return PF_ERR_MEMORY;
  }
  sz          = whole_pages( sz );
  void *start = mmap( NULL, sz, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0 );
  if( start == MAP_FAILED ) {
    return PF_ERR_MEMORY;
  }
  keep_out_of_core_dumps( start, sz );
  pages->start         = start;
  pages->sz            = sz;
  pages->wiped_on_fork = kernel_wipes_on_fork( start, sz );
  pages->to_be_locked  = to_be_locked;
  pages->next          = all_pages;
  lock_in_ram( pages );
  atomic_store( &pages->pid, (int64_t)getpid() );
  all_pages = pages;
  return PF_OK;
}

int
pf_pages_map( pf_pages *pages, size_t sz ) {
  return map( pages, sz, 1 );
}

int
pf_pages_map_large( pf_pages *pages, size_t sz ) {
  return map( pages, sz, 0 );
}

void
pf_pages_give_back( pf_pages *pages ) {
#if defined( MADV_DONTNEED )
  (void)madvise( pages->start, pages->sz, MADV_DONTNEED );
#else
  (void)pages;
#endif
}

/* A process made by clone(), which ran no handler, on a kernel that
   does not wipe: seen at the first use.  One thread wipes, the others
   wait; a wiper that the clone left behind does not count. */

void
pf_pages_foreign( pf_pages *pages ) {
  int64_t const pid  = (int64_t)getpid();
  int64_t       seen = atomic_load( &pages->pid );
  while( seen != pid ) {
    if( seen == -pid ) {
      (void)sched_yield();
      seen = atomic_load( &pages->pid );
    } else if( atomic_compare_exchange_strong( &pages->pid, &seen, -pid ) ) {
      pf_wipe( pages->start, pages->sz );
      atomic_store( &pages->pid, pid );
      return;
    }
  }
}

void
pf_pages_counts( size_t *mapped, size_t *unlocked ) {
  *mapped   = 0;
  *unlocked = 0;
  pf_pages_lock();
  for( pf_pages *p = all_pages; p; p = p->next ) {
    *mapped += 1;
    *unlocked += p->to_be_locked && !p->locked;
  }
  pf_pages_unlock();
}
