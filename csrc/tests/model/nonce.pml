/* SPDX-License-Identifier: MIT
   nonce.pml: a pool of prepared nonces (pf_nonce.c, pf_gate.h) as spin
   sees it: every order of the steps of some signers, some refillers, a
   thread that closes the pool and opens the next in its place, and a
   fork at any moment; -DSIGNERS=2 -DREFILLERS=2 -DCLOSERS=1 -DFORKS=1
   say which of them take part.

   A nonce is a number, from 1 up; 0 is what was wiped.  What is read
   from a slot and used are two steps, as are the two halves of a wipe.
   A fork is seen from the child: all that is shared becomes zero, all
   threads but one are gone, and that one goes on with whatever it was
   doing, out of its own registers, before it opens a pool itself.

   Every signature that is given out must be of a nonce that no other
   signature was made with, here or in the parent, with the R that
   belongs to it.

   csrc/tests/model/check goes through all of it exhaustively, and then
   takes out one safeguard at a time (-DNO_WIPE, ...), which must fail. */

#ifndef SIGNERS
#define SIGNERS 2
#endif
#ifndef REFILLERS
#define REFILLERS 1
#endif
#ifndef CLOSERS
#define CLOSERS 0
#endif
#ifndef FORKS
#define FORKS 0
#endif

#define SLOTS 2
#define NONCES 5 /* made at most */

#define EMPTY 0
#define FILLING 1
#define READY 2
#define CLAIMED 3

/* The mapping: shared by threads, zeros after a fork. */

byte state[SLOTS];
byte r[SLOTS];
byte point[SLOTS];
byte generation; /* of the gate; 0: free */
bit opening;
bit closing;
byte calls;
bit filling;

/* Ordinary memory: copied by a fork. */

byte last_generation;
byte current; /* the handle that threads have at hand */
byte last_nonce;

/* What is known from outside. */

byte child;                   /* whose thread the fork left over; 0: no fork yet */
byte last_of_parent;          /* nonces up to this one are the parent's */
bit used[NONCES + 1]; /* 1: a signature was given out */
byte maker[NONCES + 1]; /* the generation it was made for */

/* Threads that a fork left behind do nothing more. */

#if FORKS
#define UNLESS_GONE provided ( child == 0 || child == _pid )
#else
#define UNLESS_GONE
#endif

/* Gates. */

inline enter( mine, ok ) {
  atomic {
    if
    :: mine != 0 && generation == mine && !opening && !closing -> calls++; ok = 1
    :: else -> ok = 0
    fi
  }
}

inline leave( mine, ok ) {
  atomic {
    if
    :: generation == mine -> calls--; ok = 1
#ifdef LEAVE_REGARDLESS
    :: else -> ok = 1
#else
    :: else -> ok = 0
#endif
    fi
  }
}

/* Slots. */

inline empty_slot( s ) {
#ifdef EMPTY_BEFORE_WIPE
  state[s] = EMPTY;
#endif
#ifndef NO_WIPE
  r[s] = 0;
  point[s] = 0;
#endif
  state[s] = EMPTY
}

inline step( s, from, to, ok ) {
#ifdef NO_COMPARE_AND_SWAP
  ok = ( state[s] == from );
  if
  :: ok -> state[s] = to
  :: else
  fi
#else
  atomic {
    ok = ( state[s] == from );
    if
    :: ok -> state[s] = to
    :: else
    fi
  }
#endif
}

/* pf_nonce_sign.  my_r and my_point are what a signature is made of. */

inline sign( mine ) {
  enter( mine, ok );
  if
  :: ok ->
    my_r = 0;
    my_point = 0;
    s = 0;
    do
    :: s < SLOTS ->
      step( s, READY, CLAIMED, ok );
      if
      :: ok ->
        my_point = point[s];
        my_r = r[s];
        found = r[s]; /* the second look: wiped meanwhile? */
        empty_slot( s );
        break
      :: else -> s++
      fi
    :: else -> found = 0; break
    od;
    /* A finished signature may well cross a fork: it is of one message. */
    atomic {
      leave( mine, ok );
      if
      :: ok && found != 0 ->
        assert( my_r == my_point );
        assert( my_r != 0 );
        assert( !used[my_r] );
        assert( child == 0 || my_r > last_of_parent );
        assert( maker[my_r] == mine );
        assert( r[0] != my_r && r[1] != my_r ); /* spent */
        used[my_r] = 1
      :: else
      fi;
      my_r = 0;
      my_point = 0;
      found = 0;
      s = 0
    }
  :: else
  fi
}

/* pf_nonce_prepare. */

inline prepare( mine ) {
  enter( mine, ok );
  if
  :: ok ->
    atomic { works = !filling; filling = 1 };
    if
    :: works ->
      s = 0;
      do
      :: s < SLOTS && last_nonce < NONCES ->
        step( s, EMPTY, FILLING, ok );
        if
        :: ok ->
          atomic { last_nonce++; my_r = last_nonce; maker[my_r] = mine };
          r[s] = my_r; /* may be written after a fork, out of a register */
          point[s] = r[s];
          found = r[s];
          if
          :: found != 0 ->
            step( s, FILLING, READY, ok );
            if
            :: ok
            :: else -> empty_slot( s )
            fi
          :: else -> empty_slot( s )
          fi;
          break
        :: else -> s++
        fi
      :: else -> break
      od;
      filling = 0
    :: else
    fi;
    leave( mine, ok );
    atomic { my_r = 0; found = 0; s = 0; works = 0 }
  :: else
  fi
}

/* pf_pool_open and pf_pool_close, with one place for all pools. */

inline wipe_pool() {
  s = 0;
  do
  :: s < SLOTS -> r[s] = 0; point[s] = 0; state[s] = EMPTY; s++
  :: else -> s = 0; break
  od;
  filling = 0
}

inline open_pool( mine ) {
  atomic {
    last_generation++;
    mine = last_generation;
    if
    :: generation == 0 -> generation = mine; opening = 1
    :: else -> mine = 0
    fi
  };
  if
  :: mine != 0 ->
#ifndef NO_WIPE_AT_OPENING
    wipe_pool();
#endif
    atomic {
      if
      :: generation == mine && opening -> opening = 0
      :: else -> mine = 0
      fi
    }
  :: else
  fi
}

inline close_pool( mine ) {
  atomic {
    if
    :: generation == mine && !opening && !closing -> closing = 1; ok = 1
    :: else -> ok = 0
    fi
  };
  if
  :: ok ->
#ifndef CLOSE_AT_ONCE
    calls == 0;
#endif
    wipe_pool();
    atomic { closing = 0; calls = 0; generation = 0 }
  :: else
  fi
}

/* Threads.  Whoever finds itself alone, in a child, opens a pool, fills
   it and signs. */

inline live_on() {
  if
  :: child == _pid ->
    open_pool( mine );
    sign( mine ); /* with what may be left over */
    prepare( mine );
    sign( mine )
  :: else
  fi
}

proctype signer() UNLESS_GONE {
  byte mine, s, my_r, my_point, found;
  bit ok, works;
  mine = current;
  sign( mine );
  live_on()
}

proctype refiller() UNLESS_GONE {
  byte mine, s, my_r, my_point, found;
  bit ok, works;
  mine = current;
  prepare( mine );
  mine = current;
  prepare( mine );
  live_on()
}

proctype closer() UNLESS_GONE {
  byte mine, s, my_r, my_point, found;
  bit ok, works;
  mine = current;
  close_pool( mine );
  open_pool( mine );
  if
  :: mine != 0 -> current = mine
  :: else
  fi;
  live_on()
}

/* The fork, seen from the child. */

#define THREADS ( SIGNERS + REFILLERS + CLOSERS )

proctype forker( byte first ) {
  byte s;
  atomic {
    if
    :: true -> goto none
    :: true -> skip
    fi;
    child = first;
    do
    :: child < first + THREADS - 1 -> child++
    :: true -> break
    od;
    last_of_parent = last_nonce;
#ifndef NO_FORK_WIPE
    s = 0;
    do
    :: s < SLOTS -> r[s] = 0; point[s] = 0; state[s] = EMPTY; s++
    :: else -> break
    od;
    generation = 0;
    opening = 0;
    closing = 0;
    calls = 0;
    filling = 0
#endif
  };
none:
  skip
}

init {
  byte i, first;
  atomic {
    last_generation = 1;
    generation = 1;
    current = 1;
    first = 1; /* the process after this one */
    i = 0;
    do
    :: i < SIGNERS -> run signer(); i++
    :: else -> break
    od;
    i = 0;
    do
    :: i < REFILLERS -> run refiller(); i++
    :: else -> break
    od;
    i = 0;
    do
    :: i < CLOSERS -> run closer(); i++
    :: else -> break
    od;
    if
    :: FORKS -> run forker( first )
    :: else
    fi
  }
}
