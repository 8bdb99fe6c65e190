# SPDX-License-Identifier: MIT
"""What the doctor looks at in this process: versions, signing, and Python itself.

Figures in costs are from ``docs/speed.md``, ``docs/security.md`` and ``docs/tuning.md``, unless they were
measured here.
"""

from __future__ import annotations

import gc
import os
import platform
import re
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from statistics import median
from typing import Final

from pacifica_fast import _json, _sodium
from pacifica_fast._doctor_finding import Finding, Status
from pacifica_fast._doctor_machine import loaded_libsodium
from pacifica_fast.keys import Keypair
from pacifica_fast.signer import Signer
from pacifica_fast.switching import ADVISABLE

__all__ = ["python", "signing", "speed", "versions"]

_REST: Final = 0.002  # s; a bot pulls once in a while: what it does then is not in the caches
_SIGNATURES: Final = 60
_WITH_GIL: Final = "with the GIL"
_LIBSODIUM: Final = re.compile(r"^\* Updated? ``libsodium`` to\s+([0-9][\w.-]*)", re.MULTILINE)
_REQUIREMENT: Final = re.compile(r"([A-Za-z0-9_.-]+)>=([0-9.]+)")
_OPTIONAL: Final = {
    "hdrhistogram": "no latency histograms: pip install 'pacifica-fast[metrics]'",
    "prometheus_client": "no exporter, and no 'pacifica-fast monitor': pip install 'pacifica-fast[metrics]'",
    "redis": "credits are not shared between processes: pip install 'pacifica-fast[redis]'",
}


# --------------------------------------------------------------------------- versions


def versions() -> Iterator[Finding]:
    """What is installed, and whether it is new enough."""
    yield _interpreter()
    own = _version("pacifica-fast")
    yield Finding(
        "versions",
        "pacifica-fast",
        "ok" if own else "info",
        own or "not installed: imported from its sources",
        "",
    )
    minima = _minima()
    yield _pynacl(minima)
    yield _library("cffi", minima)
    yield _orjson(minima)
    yield _library("websockets", minima)
    yield _uvloop(minima)
    yield _openssl()
    for name, cost in _OPTIONAL.items():
        found = _version(name)
        yield Finding("versions", name, "ok" if found else "info", found or "not installed", cost)
    yield Finding(
        "versions",
        "system",
        "info",
        " ".join((platform.system(), platform.release(), platform.machine(), *_libc())),
        "",
    )


def _interpreter() -> Finding:
    bits = 64 if sys.maxsize > 1 << 32 else 32
    value = f"{platform.python_implementation()} {platform.python_version()}, {bits} bit, {_gil()}"
    cost = "the C core was tried on 64-bit CPython; without it a request takes several times as long"
    known = sys.implementation.name == "cpython" and bits == 64
    return Finding("versions", "Python", "ok" if known else "warn", value, cost)


def _gil() -> str:
    return _WITH_GIL if getattr(sys, "_is_gil_enabled", lambda: True)() else "without the GIL"


def _libc() -> list[str]:
    return [" ".join(part for part in platform.libc_ver() if part)] if platform.libc_ver()[0] else []


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _minima() -> dict[str, str]:
    """The least versions that our own metadata asks for, extras too."""
    try:
        required = metadata.requires("pacifica-fast") or []
    except metadata.PackageNotFoundError:
        return {}
    found = (_REQUIREMENT.match(requirement) for requirement in required)
    return {match[1].lower(): match[2] for match in found if match}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _new_enough(version: str, least: str | None) -> bool:
    return least is None or _numbers(version) >= _numbers(least)


def _library(name: str, minima: dict[str, str]) -> Finding:
    found, least = _version(name), minima.get(name.lower())
    if found is None:
        return Finding("versions", name, "bad", "not installed", f"pip install '{name}>={least}'")
    enough = _new_enough(found, least)
    cost = f"older than {least} was never tried: pip install -U {name}" if least else ""
    return Finding("versions", name, "ok" if enough else "bad", found, cost)


def _pynacl(minima: dict[str, str]) -> Finding:
    """PyNaCl is who brings the libsodium that signs."""
    found = _library("PyNaCl", minima)
    return Finding(
        "versions",
        "PyNaCl",
        found.status,
        f"{found.value}, libsodium {_libsodium()}",
        "libsodium does all arithmetic on keys; its security updates come with 'pip install -U pynacl'",
    )


def _orjson(minima: dict[str, str]) -> Finding:
    """What parses is asked. There is no orjson for PyPy, and no wheel of it for CPython without the GIL."""
    found = _library("orjson", minima)
    if _json.loads is not _json.plain_loads:
        return found
    expected = platform.python_implementation() == "CPython" and _gil() == _WITH_GIL
    return Finding(
        "versions",
        "orjson",
        "warn" if expected else "info",
        f"{found.value}: the standard library parses",
        "it takes 2.6 µs for a reply, and orjson 0.5 (docs/supply-chain.md); PyPy has none, CPython without"
        " the GIL no wheel of it, and elsewhere: pip install orjson",
    )


def _libsodium() -> str:
    """Its version: PyNaCl's build exports none, but its change log tells, the newest first."""
    shared = loaded_libsodium()
    if shared is not None:
        return f"{shared} (the system's own)"
    try:
        log = str(metadata.metadata("PyNaCl").get_payload())  # type: ignore[attr-defined]  # an email.message.Message
    except (metadata.PackageNotFoundError, AttributeError):
        return "of unknown version"
    match = _LIBSODIUM.search(log)
    return f"{match[1]} (PyNaCl's own build)" if match else "of unknown version (PyNaCl's own build)"


def _uvloop(minima: dict[str, str]) -> Finding:
    found, least = _version("uvloop"), minima.get("uvloop", "0.23")
    cost = (
        f"before {least} it does not write when told to, and connect() refuses it. Over TLS it brings"
        " nothing: an armed cancel takes 51.0 µs on asyncio's own loop, and 53.4 µs with it (docs/tuning.md)"
    )
    if found is None:
        return Finding("versions", "uvloop", "info", "not installed", cost)
    if _new_enough(found, least):
        return Finding("versions", "uvloop", "ok", f"{found}, which is >= {least}", cost)
    return Finding("versions", "uvloop", "bad", f"{found}, older than {least}", cost)


def _openssl() -> Finding:
    roots = ssl.create_default_context().cert_store_stats()["x509_ca"]
    status: Status = "ok" if ssl.HAS_TLSv1_3 and roots else "warn"
    value = f"{ssl.OPENSSL_VERSION}, TLS 1.3 {'yes' if ssl.HAS_TLSv1_3 else 'no'}, {roots} root certificates"
    cost = (
        "without root certificates no exchange is believed (ConnectionFailed, stage tls); "
        "without TLS 1.3 connecting takes a round trip more"
    )
    return Finding("versions", "OpenSSL", status, value, cost)


# --------------------------------------------------------------------------- signing


def signing() -> Iterator[Finding]:
    """Which paths are open; both were tried on known answers when the package was imported."""
    on = _sodium.COMPILED
    yield Finding(
        "signing",
        "fast path",
        "ok" if on else "warn",
        f"on: the C core ({_extension()})" if on else "off: pure Python",
        "in pure Python a request takes several times as long ('deterministic request' measures it here), "
        "nothing can be prepared, and keys cannot be wiped: install it again where there is a C compiler",
    )
    possible = _sodium.PREPARED_SIGNING_POSSIBLE
    yield Finding(
        "signing",
        "prepared signing",
        "ok" if possible else "warn",
        "possible"
        if possible
        else f"not possible: {'PyNaCl has a minimal libsodium' if on else 'no C core'}",
        "a deterministic signature takes 27 µs, one with a prepared nonce 2; armed cancels need none of it",
    )
    given = "PACIFICA_PRIVATE_KEY" in os.environ
    yield Finding(
        "signing",
        "key in environment",
        "info",
        "PACIFICA_PRIVATE_KEY is set (not read, not shown)" if given else "none",
        "an environment variable can be read in /proc/PID/environ as long as the process lives; a file of"
        " mode 0600 (--key-file, Keypair.from_file) leaves no copy",
    )


def _extension() -> str:
    """The name of the file, which says for whom it was built."""
    return os.path.basename(getattr(sys.modules["pacifica_fast._native"], "__file__", None) or "built in")


def speed() -> Iterator[Finding]:
    """One request after a rest, as a bot makes it, with a key made for this."""
    prepared = _SIGNATURES * 2 if _sodium.PREPARED_SIGNING_POSSIBLE else 0
    with Keypair.generate() as key, Signer(key) as plain, Signer(key, prepared=prepared) as quick:
        signers = {"deterministic": plain, **({"prepared": quick} if prepared else {})}
        deadline = time.monotonic() + 1.0
        while quick.stats.ready < prepared and time.monotonic() < deadline:
            time.sleep(0.001)
        times: dict[str, list[float]] = {name: [] for name in signers}
        for number in range(_SIGNATURES):
            for name, signer in signers.items():
                time.sleep(_REST)
                start = time.perf_counter_ns()
                signer.cancel_order("BTC", order_id=number)
                times[name].append((time.perf_counter_ns() - start) / 1e3)
    for name, calls in times.items():
        value = median(calls)
        yield Finding(
            "signing",
            f"{name} request",
            "info",
            f"{value:.1f} µs (median of {len(calls)}, each after {_REST * 1e3:g} ms of rest)",
            "measured here; in a loop, when everything is in the caches, about half of it",
            round(value, 1),
            "us",
        )


# --------------------------------------------------------------------------- Python


def python(*, measure: bool = False) -> Iterator[Finding]:
    """Threads, the GIL, and what else slows an interpreter down."""
    interval, others = sys.getswitchinterval(), _other_threads()
    long: Status = "warn" if others else "info"
    here = f"; beside a busy thread the GIL came back after {gil_wait() * 1e3:.1f} ms" if measure else ""
    yield Finding(
        "python",
        "switch interval",
        long if interval >= ADVISABLE else "ok",
        f"{interval * 1e3:g} ms{here}",
        "TLS gives the GIL up to encrypt, and a busy Python thread keeps it for the interval: at 5 ms one"
        " send takes 5.2 ms, with sys.setswitchinterval(1e-4) 0.2 ms; threads that only wait cost nothing",
        round(interval * 1e3, 6),
        "ms",
    )
    yield Finding(
        "python",
        "other threads",
        "info" if others else "ok",
        f"{others} in this process, without those of pacifica_fast",
        "one that computes in Python costs each send over TLS the switch interval; those that wait cost "
        "nothing",
        float(others),
        "threads",
    )
    frozen = getattr(gc, "get_freeze_count", lambda: 0)()  # PyPy has none
    yield Finding(
        "python",
        "garbage collector",
        "info",
        f"{'on' if gc.isenabled() else 'off'}, {frozen:,} objects frozen",
        "a collection in the middle of a cancel takes as long as the process is large: gc.freeze() once "
        "all is set up, and gc.collect() when it suits you",
        float(frozen),
        "objects",
    )
    slowing = _slowing()
    yield Finding(
        "python",
        "debugging",
        "warn" if slowing else "ok",
        ", ".join(slowing) or "off",
        "tracing, profiling and the development modes of Python and asyncio make every line slower",
    )


def _other_threads() -> int:
    """Python's threads but this one and our own, which wait, or work in C without the GIL."""
    ours = [thread for thread in threading.enumerate() if thread.name.startswith("pacifica_fast ")]
    return threading.active_count() - len(ours) - 1


def _slowing() -> list[str]:
    modes = {
        "a trace function": sys.gettrace() is not None,
        "a profile function": sys.getprofile() is not None,
        "PYTHONDEVMODE": sys.flags.dev_mode,
        "PYTHONASYNCIODEBUG": bool(os.environ.get("PYTHONASYNCIODEBUG")),
        "PYTHONMALLOC": bool(os.environ.get("PYTHONMALLOC")),
    }
    return [name for name, on in modes.items() if on]


def gil_wait(rounds: int = 5) -> float:
    """s until the GIL comes back, given up as TLS does, beside a thread that computes: the median."""
    waits = []
    with _busy_thread():
        for _ in range(rounds):
            time.sleep(0.001)
            start = time.perf_counter()
            time.sleep(0)
            waits.append(time.perf_counter() - start)
    return median(waits)


@contextmanager
def _busy_thread() -> Iterator[None]:
    stop = False

    def compute() -> None:
        while not stop:
            pass

    thread = threading.Thread(target=compute, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop = True
        thread.join()
