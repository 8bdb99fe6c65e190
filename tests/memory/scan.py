# SPDX-License-Identifier: MIT
"""Looks into another process: its mappings while it waits, or as it exits, and its core dump."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import signal
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

__all__ = ["Mapping", "core_mappings", "cores_are_plain_files", "mappings", "stop_at_exit"]

# ptrace(2)
PTRACE_CONT = 7
PTRACE_SEIZE = 0x4206
PTRACE_O_TRACEEXIT = 0x40
STOPPED_AT_EXIT = signal.SIGTRAP | 6 << 8

PAGE = os.sysconf("SC_PAGE_SIZE")
KERNELS = ("[vvar]", "[vsyscall]", "[vvar_vclock]")  # nothing of the process, and some cannot be read
HEAD = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+ *(.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Mapping:
    """``flags`` are the kernel's (VmFlags in proc(5)): dd is not dumped, wf is wiped on fork."""

    name: str
    flags: frozenset[str]
    content: bytes


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]


@contextmanager
def _stood_still(pid: int) -> Iterator[None]:
    """Stops it, unless a tracer has: a thread that ends takes its stack from under who reads it."""
    if _state(pid) == "t":
        yield
        return
    os.kill(pid, signal.SIGSTOP)
    try:
        while _state(pid) != "T":
            time.sleep(0.001)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def mappings(pid: int) -> list[Mapping]:
    """All of a process that it may have written to. Raises ``PermissionError``."""
    with _stood_still(pid):
        return list(_mappings(pid))


def _read(memory: FileIO, at: int, end: int, guarded: bool) -> bytes:
    """Some of what is there. A page that its owner made a guard, as glibc 2.42 does in stacks, is empty."""
    memory.seek(at)
    try:
        piece = memory.read(end - at)
    except OSError as error:
        if error.errno != errno.EIO or not guarded:
            raise
        return bytes(PAGE)
    assert piece, f"the memory at {at:#x} ends"
    return piece


def _mappings(pid: int) -> Iterator[Mapping]:
    smaps = Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8")
    heads = list(HEAD.finditer(smaps))
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for head, following in zip(heads, [*heads[1:], None], strict=True):
            rights, name = head[3], head[4]
            of_a_file = name.startswith("/") and "w" not in rights
            if "r" not in rights or of_a_file or name in KERNELS:
                continue
            about = smaps[head.end() : following.start() if following else len(smaps)]
            flags = re.search(r"VmFlags:(.*)", about)
            assert flags is not None
            start, end = int(head[1], 16), int(head[2], 16)
            content = bytearray()
            while len(content) < end - start:
                content += _read(memory, start + len(content), end, guarded="gu" in flags[1].split())
            yield Mapping(name, frozenset(flags[1].split()), bytes(content))


def _ptrace(request: int, pid: int, data: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(request, pid, None, ctypes.c_void_p(data)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _run_to_exit(pid: int) -> None:
    while True:
        _, status = os.waitpid(pid, 0)
        assert os.WIFSTOPPED(status), status
        if status >> 8 == STOPPED_AT_EXIT:
            return
        _ptrace(PTRACE_CONT, pid, os.WSTOPSIG(status))


@contextmanager
def stop_at_exit(pid: int) -> Iterator[Callable[[], None]]:
    """Yields a function that returns when the process has done all it will ever do.

    The kernel then has it stopped on its way out of ``exit``, with its memory still there; it
    ends when this is left. Raises ``OSError`` if the process may not be traced.
    """
    _ptrace(PTRACE_SEIZE, pid, PTRACE_O_TRACEEXIT)
    stopped = False

    def wait() -> None:
        nonlocal stopped
        _run_to_exit(pid)
        stopped = True

    try:
        yield wait
    finally:
        if not stopped:
            os.kill(pid, signal.SIGKILL)  # on the way out of which it stops as well
            _run_to_exit(pid)
        _ptrace(PTRACE_CONT, pid, 0)


def cores_are_plain_files() -> bool:
    """Whether a core dump goes into the folder of the process: on most machines a daemon gets it."""
    return Path("/proc/sys/kernel/core_pattern").read_text(encoding="utf-8").strip() == "core"


def core_mappings(core: Path) -> Iterator[Mapping]:
    """What is in a core dump: the loadable segments of an ELF file of 64 bits, elf(5)."""
    with core.open("rb") as file:
        head = file.read(64)
        assert head[:5] == b"\x7fELF\x02"
        (table,) = struct.unpack_from("<Q", head, 32)
        size, count = struct.unpack_from("<HH", head, 54)
        for number in range(count):
            file.seek(table + number * size)
            kind, _, offset, address, _, in_file = struct.unpack("<IIQQQQ", file.read(40))
            if kind in (1, 4):  # PT_LOAD; PT_NOTE, which has the registers
                file.seek(offset)
                yield Mapping(f"core at {address:#x}", frozenset(), file.read(in_file))
