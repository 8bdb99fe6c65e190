# SPDX-License-Identifier: MIT
"""Ways to sign in which a nonce could be used twice. Each runs in a process of its own:

    python -m proof.scenarios LIBRARY BOOK SCENARIO SIGNATURES

and leaves what it found in the book. SIGNATURES is about how many it makes.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import sys
from collections.abc import Callable
from typing import Any

from proof.sodium import functions

SEED = bytes(range(32))
FORK_IN_FLIGHT, WIPE_IN_FLIGHT = 1, 2
WITHOUT_END = 2**62
SIGNERS = 8
SIZES = 8  # pools of 1 to 8 nonces
OF_A_CHILD = 40  # signatures, and as many again of its second thread


class Proof:
    """The library, with the book open."""

    def __init__(self, library: str, book: str) -> None:
        self.library, self.book = library, book
        self.c = ctypes.CDLL(library)
        self._functions = functions()
        self.check(self.c.proof_open(self._functions, os.fsencode(book)))

    @staticmethod
    def check(code: int) -> None:
        if code != 0:
            raise RuntimeError(f"code {code}")

    def begin(self, size: int, interference: int = 0) -> None:
        """Open a key and a pool, and let a thread refill it."""
        self.check(self.c.proof_begin(SEED, ctypes.c_size_t(size), interference))
        self.check(self.c.proof_refill())

    def start(self, signatures: int = WITHOUT_END) -> None:
        self.check(self.c.proof_start(ctypes.c_size_t(SIGNERS), ctypes.c_int64(signatures)))

    def child(self, size: int) -> None:
        """What a child does."""
        self.check(self.c.proof_child(SEED, ctypes.c_size_t(size), 1, ctypes.c_int64(OF_A_CHILD)))


def threads(proof: Proof, signatures: int, interference: int = 0) -> None:
    """Threads sign and refill, in pools of every small size."""
    for size in range(1, SIZES + 1):
        proof.begin(size, interference)
        proof.start(signatures // SIZES)
        proof.c.proof_finish()
        proof.c.proof_end()


def wiped(proof: Proof, signatures: int) -> None:
    """The slot is wiped in the middle of a signature."""
    threads(proof, signatures, WIPE_IN_FLIGHT)


def in_flight(proof: Proof, signatures: int) -> None:
    """The process forks in the middle of signatures and refills, as a signal handler may."""
    threads(proof, signatures, FORK_IN_FLIGHT)


def closing(proof: Proof, signatures: int) -> None:
    """Pools are closed and opened under threads that sign."""
    rounds = max(1, signatures // 16)
    pools = ctypes.create_string_buffer(16 * rounds)
    proof.begin(1)
    proof.start()
    proof.c.proof_change_pools(pools, ctypes.c_size_t(rounds), ctypes.c_size_t(SIZES))
    proof.c.proof_stop()
    proof.c.proof_end()


def beside_threads(proof: Proof, signatures: int, have_children: Callable[[int], None]) -> None:
    """Children are made while threads sign and refill, in pools of different sizes."""
    for size in (1, 4, 8):
        proof.begin(size)
        proof.start()
        have_children(max(1, signatures // 3 // (2 * OF_A_CHILD)))
        proof.c.proof_stop()
        proof.c.proof_end()


def os_fork(proof: Proof, signatures: int) -> None:
    """``os.fork``, from Python."""

    def have_children(count: int) -> None:
        for number in range(count):
            pid = os.fork()
            if pid == 0:
                proof.child(1 + number % SIZES)
                os._exit(0)
            if os.waitpid(pid, 0)[1] != 0:
                raise RuntimeError("a child failed")

    beside_threads(proof, signatures, have_children)


def storm(proof: Proof, signatures: int, behind_libc: int) -> None:
    def have_children(count: int) -> None:
        proof.c.proof_storm(SEED, ctypes.c_size_t(count), ctypes.c_int64(OF_A_CHILD), behind_libc)

    beside_threads(proof, signatures, have_children)


def c_fork(proof: Proof, signatures: int) -> None:
    """``fork()``, called from C, of which Python knows nothing."""
    storm(proof, signatures, 0)


def c_clone(proof: Proof, signatures: int) -> None:
    """``clone()``, of which not even libc knows."""
    storm(proof, signatures, 1)


_inherited: Proof | None = None


def live_as_child(library: str, book: str, size: int) -> None:
    """What a child of ``multiprocessing`` runs: forked, or in a fresh interpreter."""
    (_inherited or Proof(library, book)).child(size)


def start_method(method: str) -> Callable[[Proof, int], None]:
    def run(proof: Proof, signatures: int) -> None:
        global _inherited
        _inherited = proof
        context: Any = multiprocessing.get_context(method)

        def have_children(count: int) -> None:
            for number in range(count if method == "fork" else 1 + count // 8):  # the others take 0.1 s each
                arguments = (proof.library, proof.book, 1 + number % SIZES)
                child = context.Process(target=live_as_child, args=arguments)
                child.start()
                child.join()
                if child.exitcode != 0:
                    raise RuntimeError("a child failed")

        beside_threads(proof, signatures, have_children)

    run.__doc__ = f"``multiprocessing``, by {method}."
    return run


SCENARIOS: dict[str, Callable[[Proof, int], None]] = {
    "threads": threads,
    "closing": closing,
    "wiped": wiped,
    "in flight": in_flight,
    "os.fork": os_fork,
    "fork from C": c_fork,
    "clone from C": c_clone,
    **{f"multiprocessing {m}": start_method(m) for m in multiprocessing.get_all_start_methods()},
}


if __name__ == "__main__":
    SCENARIOS[sys.argv[3]](Proof(sys.argv[1], sys.argv[2]), int(sys.argv[4]))
