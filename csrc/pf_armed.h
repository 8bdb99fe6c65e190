/* SPDX-License-Identifier: MIT */
#ifndef PF_ARMED_H
#define PF_ARMED_H

/* pf_armed.h: cancels signed ahead of time, as whole masked frames that
   only have to be copied out and sent.

   Whoever holds such a frame can cancel that order.  Frames live in
   private pages (pf_pages.h): never in a core dump, gone in a forked
   child; each is wiped when it is fired, dropped or replaced.  They are
   not locked in RAM: ten thousand take some 17 MB.

   An exchange refuses what is older than its expiry window.  So one
   thread, the keeper, signs every frame anew once it is a third of its
   window old, and nothing is fired that is older than half of it.  Age is
   what either clock says, monotonic or wall; a timestamp in the future
   counts as too old as well.  Wall clock ages are taken without the
   correction of pf_clock.h: setting the clock shows whatever is corrected
   meanwhile.  If the correction has changed since a frame was signed, its
   timestamp is as much older, or newer, to the exchange, and that age
   counts like the others: what a smaller correction puts into the
   exchange's future is signed anew.

   An entry is one atomic word, its generation and these bits, and two
   frames, of which CURRENT says which is the armed one:

     ARMED    the current frame may be fired
     TAKEN    somebody who fires or drops it is at the current frame
     KEPT     the keeper is at the other frame
     GIVEN_UP it could not be signed anew; the keeper leaves it alone

     0 ---add--> ARMED ---fire, drop--> TAKEN ---wiped--> 0
                 ARMED ---keeper--> ARMED+KEPT ---signed--> ARMED+KEPT, other
                                    frame current ---old one wiped--> ARMED
                 ARMED+KEPT ---fire, drop--> TAKEN+KEPT

   The step from ARMED to TAKEN is one compare-and-swap: one caller makes
   it, and has the current frame to himself.  The keeper publishes its
   frame with another, on the same word, which fails if the entry was
   taken meanwhile.  TAKEN and KEPT are given back one by one; whoever
   gives back the last of them wipes and frees the entry.  So nobody meets
   a half-written frame, and nobody waits for anybody.

   A handle holds the place and the generation of its entry; generations
   never repeat in a process, so that the handle of an entry that is gone
   never reaches its successor. */

#include "pf_api.h" /* pf_armed_store, the handle of a store */
#include "pf_base.h"

/* pf_armed_keep is the keeper: makes the calling thread give way to all
   others, signs anew what is due, and returns PF_OK only when the store
   is being closed; PF_ERR_CLOSED if it is closed already, and
   PF_ERR_ARGUMENT if it has a keeper. */

int pf_armed_keep( const pf_armed_store *store );

/* pf_armed_close waits for the keeper, which leaves within 5 ms, and for
   calls in flight; wipes every frame, and frees the store.  PF_ERR_CLOSED,
   after waiting, to whoever comes second. */

int pf_armed_close( const pf_armed_store *store );

#endif /* PF_ARMED_H */
