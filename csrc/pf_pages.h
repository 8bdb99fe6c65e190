/* SPDX-License-Identifier: MIT */
#ifndef PF_PAGES_H
#define PF_PAGES_H

/* pf_pages.h: private memory for secrets and for whatever must not
   repeat.  A mapping is anonymous, zeroed, kept out of core dumps,
   locked in RAM where the limit allows, and *empty in a forked child*:
   the child sees zeros.  Every user of such memory therefore gives zero
   the meaning "nothing here", and nothing ever exists twice.

   Zeros in the child come from MADV_WIPEONFORK, which also covers
   clone() behind libc's back.  It is trusted only if madvise() refuses
   nonsense advice too: some emulators answer yes to everything.
   Without it, a pthread_atfork handler wipes, and pf_pages_current()
   compares the process id at every use.  The child locks its pages
   anew, since locks do not cross a fork.

   Windows forks nothing, locks with VirtualLock, and cannot be told what
   to leave out of a dump.

   Mappings last as long as the process; their number is bounded by
   their users. */

#include "pf_base.h"

#include <stdatomic.h>

typedef struct pf_pages {
  uint8_t           *start;
  size_t             sz;
  int                to_be_locked;  /* 0: too large a thing for RLIMIT_MEMLOCK */
  int                locked;        /* 1: mlock succeeded in this process */
  int                wiped_on_fork; /* 1: the kernel does it */
  _Atomic( int64_t ) pid;           /* whose content it is, if not; negative: who is wiping */
  struct pf_pages   *next;          /* all mappings, for the fork handler */
} pf_pages;

/* pf_page_sz is the size of a page in bytes, pf_process_id the number of
   this process. */

size_t pf_page_sz( void );

int64_t pf_process_id( void );

/* pf_pages_map makes a mapping of at least sz bytes.  The caller holds
   pf_pages_lock; pages must stay where it is for the life of the process.  Returns PF_OK or
   PF_ERR_MEMORY.  Not being able to lock is no error: RLIMIT_MEMLOCK
   may be small; pages->locked tells. */

int pf_pages_map( pf_pages *pages, size_t sz );

/* pf_pages_map_large does the same without asking for a lock in RAM. */

int pf_pages_map_large( pf_pages *pages, size_t sz );

/* pf_pages_give_back returns the memory behind a large mapping, which the
   caller has wiped, to the kernel; the mapping stays, and is all zeros.
   Of pages that the process locked, by mlockall say, the kernel takes
   none, and they stay as they are. */

void pf_pages_give_back( pf_pages *pages );

/* pf_pages_current makes sure that what is in pages was put there by
   this process.  Costs nothing where the kernel wipes. */

void pf_pages_foreign( pf_pages *pages );

static inline void
pf_pages_current( pf_pages *pages ) {
  if( PF_UNLIKELY( !pages->wiped_on_fork ) ) {
    pf_pages_foreign( pages );
  }
}

/* pf_pages_counts reports the number of mappings and how many of them
   could not be locked in RAM. */

void pf_pages_counts( size_t *mapped, size_t *unlocked );

/* pf_pages_lock and pf_pages_unlock: one process-wide lock for the rare
   moments when mappings are added.  It is held across fork, so that a
   child never inherits it taken. */

void pf_pages_lock( void );

void pf_pages_unlock( void );

#endif /* PF_PAGES_H */
