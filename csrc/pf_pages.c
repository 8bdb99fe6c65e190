/* SPDX-License-Identifier: MIT */
#if !defined( _GNU_SOURCE )
#define _GNU_SOURCE /* MADV_*, MAP_ANONYMOUS */
#endif

#include "pf_pages.h"

#include "pf_thread.h"

static pf_pages *all_pages;

#if defined( _WIN32 )

#include <windows.h>

static SRWLOCK pages_lock = SRWLOCK_INIT;

void
pf_pages_lock( void ) {
  AcquireSRWLockExclusive( &pages_lock );
}

void
pf_pages_unlock( void ) {
  ReleaseSRWLockExclusive( &pages_lock );
}

size_t
pf_page_sz( void ) {
  SYSTEM_INFO system;
  GetSystemInfo( &system );
  return system.dwPageSize;
}

int64_t
pf_process_id( void ) {
  return GetCurrentProcessId();
}

static void *
new_pages( size_t sz ) {
  return VirtualAlloc( NULL, sz, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE );
}

static int
lock_pages( void *start, size_t sz ) {
  return VirtualLock( start, sz ) != 0;
}

static int
kernel_wipes_on_fork( void *start, size_t sz ) {
  (void)start;
  (void)sz;
  return 1; /* there is no fork */
}

static void
keep_out_of_core_dumps( void *start, size_t sz ) {
  (void)start;
  (void)sz;
}

static int
register_handlers( void ) {
  return 1;
}

/* DiscardVirtualMemory would leave the content undefined, not zero. */

void
pf_pages_give_back( pf_pages *pages ) {
  (void)pages;
}

#else

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

static pthread_mutex_t pages_mutex = PTHREAD_MUTEX_INITIALIZER;
static int             handlers_registered;

void
pf_pages_lock( void ) {
  (void)pthread_mutex_lock( &pages_mutex );
}

void
pf_pages_unlock( void ) {
  (void)pthread_mutex_unlock( &pages_mutex );
}

size_t
pf_page_sz( void ) {
  return (size_t)sysconf( _SC_PAGESIZE );
}

int64_t
pf_process_id( void ) {
  return (int64_t)getpid();
}

static void *
new_pages( size_t sz ) {
  void *start = mmap( NULL, sz, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0 );
  return start == MAP_FAILED ? NULL : start;
}

static int
lock_pages( void *start, size_t sz ) {
  return mlock( start, sz ) == 0;
}

/* child_after_fork may run with other threads' work cut off in the
   middle: it only wipes, and makes system calls. */

static void
child_after_fork( void ) {
  for( pf_pages *p = all_pages; p; p = p->next ) {
    if( !p->wiped_on_fork ) {
      pf_wipe( p->start, p->sz );
      atomic_store( &p->pid, pf_process_id() );
    }
    p->locked = p->to_be_locked && lock_pages( p->start, p->sz );
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

static int
register_handlers( void ) {
  if( !handlers_registered ) {
    handlers_registered = pthread_atfork( pf_pages_lock, pf_pages_unlock, child_after_fork ) == 0;
  }
  return handlers_registered;
}

void
pf_pages_give_back( pf_pages *pages ) {
#if defined( MADV_DONTNEED )
  (void)madvise( pages->start, pages->sz, MADV_DONTNEED );
#else
  (void)pages;
#endif
}

#endif

static size_t
whole_pages( size_t sz ) {
  size_t const page = pf_page_sz();
  return ( sz + page - 1 ) / page * page;
}

static int
map( pf_pages *pages, size_t sz, int to_be_locked ) {
  if( !register_handlers() ) {
    return PF_ERR_MEMORY;
  }
  sz          = whole_pages( sz );
  void *start = new_pages( sz );
  if( !start ) {
    return PF_ERR_MEMORY;
  }
  keep_out_of_core_dumps( start, sz );
  pages->start         = start;
  pages->sz            = sz;
  pages->wiped_on_fork = kernel_wipes_on_fork( start, sz );
  pages->to_be_locked  = to_be_locked;
  pages->next          = all_pages;
  pages->locked        = to_be_locked && lock_pages( start, sz );
  atomic_store( &pages->pid, pf_process_id() );
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

/* A process made by clone(), which ran no handler, on a kernel that
   does not wipe: seen at the first use.  One thread wipes, the others
   wait; a wiper that the clone left behind does not count. */

void
pf_pages_foreign( pf_pages *pages ) {
  int64_t const pid  = pf_process_id();
  int64_t       seen = atomic_load( &pages->pid );
  while( seen != pid ) {
    if( seen == -pid ) {
      pf_thread_step_aside();
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
