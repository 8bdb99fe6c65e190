# SPDX-License-Identifier: MIT
"""What the doctor looks at outside Python: memory, the clock, and the processor. Linux tells most of it."""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles
from types import TracebackType
from typing import Final, NamedTuple

from pacifica_fast import _sodium
from pacifica_fast._doctor_finding import Finding, Status
from pacifica_fast.keys import Keypair

__all__ = ["Sample", "clock", "loaded_libsodium", "memory", "processor"]

SYS: Final = Path("/sys")
PROC: Final = Path("/proc")

_NAPS: Final = 150
_NAP: Final = 0.001  # s
_REST: Final = 0.02  # s
_RESTS: Final = 15
_BLOCK: Final = bytes(1 << 16)
_STEAL_WARNING: Final = 1.0  # %
_SLOW_CLOCK: Final = 1.0  # us
_NOT_LINUX: Final = "only Linux tells"


def _read(path: Path) -> str | None:
    """The text of a file of the kernel, stripped; None if there is none."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None


def loaded_libsodium() -> str | None:
    """The version of a libsodium that is a shared library of its own; None if PyNaCl carries it."""
    match = re.search(r"(/\S*libsodium\S*\.so\S*)", _read(PROC / "self/maps") or "")
    if match is None:
        return None
    try:
        library = ctypes.CDLL(match[1])
    except OSError:
        return "of unknown version"
    library.sodium_version_string.restype = ctypes.c_char_p
    return str(library.sodium_version_string().decode())


# --------------------------------------------------------------------------- memory


class _Mapping(NamedTuple):
    """Some memory, as ``/proc/self/smaps`` describes it."""

    locked_kb: int
    flags: frozenset[str]


def memory() -> Iterator[Finding]:
    """Where keys lie: asked of the kernel, about the page of a key made for this."""
    yield _lock_limit()
    if not _sodium.COMPILED:
        cost = "pure Python keeps keys in objects that can neither be locked nor wiped"
        yield Finding("memory", "private pages", "warn", "none: there is no C core", cost)
        return
    with Keypair.generate() as key:
        mapping = _mapping_of(int(_sodium.ffi.cast("uintptr_t", key._key.slot)))
    mapped, unlocked = _sodium.ffi.new("size_t *"), _sodium.ffi.new("size_t *")
    _sodium.lib.pf_pages_state(mapped, unlocked)
    yield _locked(mapped[0], unlocked[0], mapping)
    yield _flag(
        "core dumps",
        mapping,
        "dd",
        ("our pages are left out", "our pages are in them"),
        "a crash would write keys into the core file: set RLIMIT_CORE to 0",
    )
    yield _flag(
        "wiped on fork",
        mapping,
        "wf",
        ("by the kernel (MADV_WIPEONFORK)", "by us: the kernel does not"),
        f"a fork handler wipes then, and each signature asks for the process id: {_getpid_us():.2f} µs here",
    )


def _lock_limit() -> Finding:
    try:
        import resource
    except ImportError:
        return Finding("memory", "lock limit", "unknown", "no such limit here", "")
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    cost = (
        "a pool of prepared nonces takes 192 bytes each, 10,000 armed cancels 18 MB that are not locked; "
        "beyond the limit nothing fails, but pages with keys may be swapped to disk: ulimit -l, or "
        "LimitMEMLOCK= of systemd"
    )
    if soft == resource.RLIM_INFINITY:
        return Finding("memory", "lock limit", "ok", "none", cost)
    status: Status = "ok" if soft >= 64 << 10 else "warn"
    return Finding(
        "memory", "lock limit", status, f"{soft >> 10:,} kB (RLIMIT_MEMLOCK)", cost, float(soft), "bytes"
    )


def _locked(mapped: int, unlocked: int, mapping: _Mapping | None) -> Finding:
    swap = len((_read(PROC / "swaps") or "").splitlines()) > 1
    untrue = mapping is not None and not unlocked and not mapping.locked_kb
    value = f"{mapped - unlocked} of {mapped} mappings locked in RAM; swap is {'on' if swap else 'off'}"
    return Finding(
        "memory",
        "private pages",
        "warn" if unlocked or untrue else "ok",
        value + ("; mlock says so, and the kernel counts none" if untrue else ""),
        "an unlocked page with a key in it may be written to the swap space, and stay there",
        float(unlocked),
        "unlocked mappings",
    )


def _flag(name: str, mapping: _Mapping | None, flag: str, words: tuple[str, str], cost: str) -> Finding:
    if mapping is None:
        return Finding("memory", name, "unknown", "/proc/self/smaps does not tell", cost)
    there = flag in mapping.flags
    return Finding("memory", name, "ok" if there else "warn", words[0 if there else 1], cost)


def _mapping_of(address: int) -> _Mapping | None:
    """The mapping that holds an address; None where ``smaps`` or its flags are missing."""
    inside, locked = False, 0
    for line in (_read(PROC / "self/smaps") or "").splitlines():
        if match := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(match[1], 16) <= address < int(match[2], 16)
        elif inside and line.startswith("Locked:"):
            locked = int(line.split()[1])
        elif inside and line.startswith("VmFlags:"):
            return _Mapping(locked, frozenset(line.split()[1:]))
    return None


def _getpid_us() -> float:
    start = time.perf_counter_ns()
    for _ in range(1000):
        os.getpid()
    return (time.perf_counter_ns() - start) / 1e6


# --------------------------------------------------------------------------- the clock


class _Timex(ctypes.Structure):
    """``struct timex`` of adjtimex(2), as far as it is looked at, and room for the rest."""

    _fields_ = [
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    ]


_STA_UNSYNC: Final = 0x40  # linux/timex.h
_TIME_ERROR: Final = 5


def clock() -> Iterator[Finding]:
    """The clock that requests are stamped with."""
    resolution = time.get_clock_info("time").resolution
    source = _read(SYS / "devices/system/clocksource/clocksource0/current_clocksource")
    took = _reading_us()
    yield Finding(
        "clock",
        "reading it",
        "warn" if took > _SLOW_CLOCK or resolution > 1e-3 else "ok",
        f"{took:.2f} µs, resolution {resolution * 1e9:g} ns" + (f", source {source}" if source else ""),
        "measured here: every request reads it once; a source that takes a system call (hpet, acpi_pm) is "
        "slower. Timestamps are in milliseconds",
        round(took, 3),
        "us",
    )
    yield _synchronised()


def _reading_us() -> float:
    """The best of a few: of the clock, not of what else the machine does."""
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter_ns()
        for _ in range(200):
            time.time()
        best = min(best, (time.perf_counter_ns() - start) / 200e3)
    return best


def _synchronised() -> Finding:
    cost = (
        "the exchange refuses what arrives later than timestamp + expiry_window (5 s by default), and a "
        "clock that is ahead is undocumented; the clients learn the offset from replies (client.clock), "
        "and correct it with correct_clock=True; 'sign' and REST do not. Run chrony or systemd-timesyncd"
    )

    def finding(status: Status, value: str, error: float | None = None) -> Finding:
        return Finding("clock", "synchronised", status, value, cost, error, None if error is None else "ms")

    if not sys.platform.startswith("linux"):
        return finding("unknown", _NOT_LINUX)
    timex = _Timex(modes=0)
    state = ctypes.CDLL(None).adjtimex(ctypes.byref(timex))
    if state < 0:
        return finding("unknown", "the kernel does not tell")
    if state == _TIME_ERROR or timex.status & _STA_UNSYNC:
        return finding(
            "warn", "no, says the kernel (a virtual machine or container may have its host's clock)"
        )
    error = timex.maxerror / 1e3
    return finding("ok", f"yes, with an error of at most {error:.1f} ms", error)


# --------------------------------------------------------------------------- the processor


class Sample:
    """What the processor's time went to while this was entered."""

    def __init__(self) -> None:
        self._before: list[int] = []
        self.stolen: float | None = None
        """% that the host gave to others; None if it lasted too short a time, or nothing tells."""

    def __enter__(self) -> Sample:
        self._before = _jiffies()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        spent = [after - before for before, after in zip(self._before, _jiffies(), strict=True)]
        if sum(spent) >= 50:  # half a second of one core: hundredths make a percentage
            self.stolen = 100 * spent[7] / sum(spent)


def _jiffies() -> list[int]:
    """User, nice, system, idle, iowait, irq, softirq, steal (proc(5)); empty where there is no such thing."""
    first = (_read(PROC / "stat") or "").partition("\n")[0].split()
    return [int(part) for part in first[1:9]] if len(first) > 8 else []


def processor(sample: Sample, *, measure: bool = False) -> Iterator[Finding]:
    """What there is of it for us, and how soon it comes when it is wanted."""
    yield _model()
    yield _cores()
    yield _quota()
    yield _governor()
    yield _turbo()
    yield _stolen(sample)
    yield _load()
    if measure:
        yield _wakeup()
        yield _after_a_rest()


def _model() -> Finding:
    info = _read(PROC / "cpuinfo") or ""
    name = re.search(r"^model name\s*:\s*(.+)$", info, re.MULTILINE)
    virtual = re.search(r"^flags\s*:.*\bhypervisor\b", info, re.MULTILINE)
    cost = (
        "a virtual machine shares its cores and its network card; every system call that leaves it takes "
        "longer"
    )
    value = (name[1] if name else "unknown") + (", in a virtual machine" if virtual else "")
    return Finding("machine", "processor", "info", value, cost)


def _cores() -> Finding:
    there = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else there
    isolated = _read(SYS / "devices/system/cpu/isolated")
    return Finding(
        "machine",
        "cores",
        "warn" if usable == 1 else "ok",
        f"{usable} of {there} usable" + (f", isolated: {isolated}" if isolated else ""),
        "with one core the threads that make nonces and sign armed cancels anew take turns with the bot, "
        "and so does the kernel's network; a bot alone on a core (taskset, isolcpus) is interrupted least",
        float(usable),
        "cores",
    )


def _quota() -> Finding:
    cost = (
        "a container that has used its share stands still until the period ends, up to 100 ms: --cpus, "
        "cpu.max"
    )
    quota, period, throttled = _cgroup_quota()
    if quota is None:
        return Finding("machine", "cgroup quota", "ok", "none", cost)
    times = "" if throttled is None else f", throttled {throttled:,} times"
    return Finding(
        "machine",
        "cgroup quota",
        "warn",
        f"{quota / 1e3:g} ms of every {period / 1e3:g} ms{times}",
        cost,
        quota / period,
        "cores",
    )


def _cgroup_quota() -> tuple[int | None, int, int | None]:
    """us, the period in us, and how often it was used up; of cgroup version 2, else 1."""
    group = SYS / "fs/cgroup"
    for line in (_read(PROC / "self/cgroup") or "").splitlines():
        if line.startswith("0::"):
            own = group / line[3:].strip("/")
            group = own if own.is_dir() else group
    statistics = _read(group / "cpu.stat") or _read(SYS / "fs/cgroup/cpu/cpu.stat") or ""
    match = re.search(r"^nr_throttled (\d+)$", statistics, re.MULTILINE)
    throttled = int(match[1]) if match else None
    both = (_read(group / "cpu.max") or "").split()
    if len(both) == 2:
        return (None if both[0] == "max" else int(both[0])), int(both[1]), throttled
    old = SYS / "fs/cgroup/cpu"
    quota, period = _read(old / "cpu.cfs_quota_us"), _read(old / "cpu.cfs_period_us")
    if quota is None or period is None or int(quota) <= 0:
        return None, 100_000, throttled
    return int(quota), int(period), throttled


def _governor() -> Finding:
    cost = (
        "a core that slowed down while the bot waited is slow when it is wanted; 'after a rest' measures by "
        "how much: cpupower frequency-set -g performance"
    )
    files = sorted((SYS / "devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor"))
    names = sorted({name for name in map(_read, files) if name})
    if not names:
        return Finding(
            "machine", "governor", "unknown", "no cpufreq here; a virtual machine's host decides", cost
        )
    driver = _read(files[0].parent / "scaling_driver")
    status: Status = "ok" if names == ["performance"] else "warn"
    return Finding("machine", "governor", status, ", ".join(names) + (f" ({driver})" if driver else ""), cost)


def _turbo() -> Finding:
    cost = "without it a core runs at its base clock; with it, its speed depends on how busy the others are"
    cpu = SYS / "devices/system/cpu"
    off, boost = _read(cpu / "intel_pstate/no_turbo"), _read(cpu / "cpufreq/boost")
    if off is None and boost is None:
        return Finding("machine", "turbo", "unknown", "nothing here tells", cost)
    on = off == "0" if off is not None else boost == "1"
    return Finding("machine", "turbo", "ok" if on else "info", "on" if on else "off", cost)


def _stolen(sample: Sample) -> Finding:
    cost = (
        "the host ran others while we were due: a pull at that moment waits as long; no setting of ours helps"
    )
    if sample.stolen is None:
        return Finding("machine", "stolen time", "unknown", "not measured", cost)
    status: Status = "warn" if sample.stolen >= _STEAL_WARNING else "ok"
    return Finding(
        "machine",
        "stolen time",
        status,
        f"{sample.stolen:.1f} % meanwhile",
        cost,
        round(sample.stolen, 2),
        "%",
    )


def _load() -> Finding:
    cost = (
        "whoever is due waits for a core; the threads that prepare nonces, at the lowest priority, wait "
        "longest"
    )
    if not hasattr(os, "getloadavg"):
        return Finding("machine", "load", "unknown", "nothing here tells", cost)
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    status: Status = "warn" if load > cores else "ok"
    return Finding(
        "machine", "load", status, f"{load:.1f} on {cores} cores", cost, round(load, 2), "processes"
    )


def _wakeup() -> Finding:
    """How much later than asked for a sleeping thread wakes: what every timer of the machine does."""
    late = []
    for _ in range(_NAPS):
        start = time.perf_counter_ns()
        time.sleep(_NAP)
        late.append((time.perf_counter_ns() - start) / 1e3 - _NAP * 1e6)
    middle, high = median(late), quantiles(late, n=100)[98]
    return Finding(
        "machine",
        "waking up",
        "info",
        f"{middle:.0f} µs late, p99 {high:,.0f}, worst {max(late):,.0f} (of {_NAPS} naps of 1 ms)",
        "measured here: what the machine adds to every timer and every packet that wakes the bot; deep "
        "idle states, other processes and the host show in its p99",
        round(middle, 1),
        "us",
    )


def _after_a_rest() -> Finding:
    """How much longer the same computation takes right after a rest: governor, idle states, cold caches."""
    rested, running = [], []
    for _ in range(_RESTS):
        time.sleep(_REST)
        rested.append(_hashing())
        running.append([_hashing() for _ in range(8)][-1])
    ratio = median(rested) / median(running)
    return Finding(
        "machine",
        "after a rest",
        "info",
        f"computing takes {ratio:.2f} times as long, after {_REST * 1e3:g} ms (median of {_RESTS})",
        "measured here, with SHA-256: what the governor, idle states and the host do to a core that waited; "
        "keep_warm=0.002 of the asyncio client is against it",
        round(ratio, 2),
        "times",
    )


def _hashing() -> float:
    start = time.perf_counter()
    hashlib.sha256(_BLOCK).digest()
    return time.perf_counter() - start
