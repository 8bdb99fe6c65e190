# SPDX-License-Identifier: MIT
"""The doctor: what it finds here is true, what it would find elsewhere is shown on made-up machines."""

from __future__ import annotations

import ctypes
import json
import mmap
import platform
import sys
import threading
from importlib import metadata
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from pacifica_fast import (
    Keypair,
    Signer,
    _doctor_machine,
    _doctor_process,
    _json,
    _sodium,
    b58encode,
    cli,
    doctor,
)
from pacifica_fast.doctor import Finding

SEED = bytes(range(1, 33))
PUBKEY = b58encode(bytes(SigningKey(SEED).verify_key))
SECRET = b58encode(SEED + bytes(SigningKey(SEED).verify_key))
SECTIONS = ["versions", "signing", "memory", "clock", "python", "machine"]

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux tells")


def named(name: str, findings: list[Finding]) -> Finding:
    (one,) = (finding for finding in findings if finding.name == name)
    return one


def machine(*, measure: bool = False) -> list[Finding]:
    with _doctor_machine.Sample() as sample:
        pass
    return [*_doctor_machine.processor(sample, measure=measure)]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another machine: ``proc`` and ``sys`` below this, both empty."""
    for name in ("proc", "sys"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(_doctor_machine, "PROC", tmp_path / "proc")
    monkeypatch.setattr(_doctor_machine, "SYS", tmp_path / "sys")
    return tmp_path


def put(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


# The whole of it.


def test_everything_has_a_value_and_what_it_costs() -> None:
    findings = doctor.examine(measure=True)
    assert [*dict.fromkeys(finding.section for finding in findings)] == SECTIONS
    assert len({(finding.section, finding.name) for finding in findings}) == len(findings)
    for finding in findings:
        assert finding.value, finding
        assert len(finding.name) < doctor._NAME_WIDTH, finding  # else it touches the value
        assert finding.status in ("ok", "info", "unknown", "warn", "bad")
        assert finding.cost or finding.name in ("pacifica-fast", "system"), finding
        assert (finding.number is None) == (finding.unit is None), finding
    for name in ("deterministic request", "waking up", "after a rest", "reading it"):
        number = named(name, findings).number
        assert number is not None
        assert number > 0


def test_without_measurements_there_are_none() -> None:
    names = {finding.name for finding in doctor.examine()}
    assert names.isdisjoint({"deterministic request", "prepared request", "waking up", "after a rest"})


def test_for_json() -> None:
    findings = [Finding("a", "b", "warn", "c", "d", 1.0, "ms"), Finding("a", "e", "ok", "f", "")]
    report = json.loads(json.dumps(doctor.as_dict(findings)))
    assert report["ok"] is True
    assert report["findings"][0] == {
        "section": "a",
        "name": "b",
        "status": "warn",
        "value": "c",
        "cost": "d",
        "number": 1.0,
        "unit": "ms",
    }
    assert doctor.as_dict([*findings, Finding("a", "g", "bad", "h", "i")])["ok"] is False


def test_for_people() -> None:
    """80 columns; a cost only where it matters, or everywhere."""
    long = "word " * 40
    findings = [
        Finding("one", "first", "ok", long, "a cost"),
        Finding("two", "second", "bad", "value", "another cost"),
    ]
    text = doctor.lines(findings)
    assert max(map(len, text)) <= 80
    assert "another cost" in "\n".join(text)
    assert "a cost" not in "\n".join(text)
    assert "a cost" in "\n".join(doctor.lines(findings, explain=True))
    assert text[-1].startswith("1 ok, 1 bad.")
    painted = doctor.lines(findings, lambda text, colour: f"<{colour}>{text}")
    assert any("<red>bad" in line for line in painted)


def test_no_key_and_no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACIFICA_PRIVATE_KEY", SECRET)
    with Keypair.from_seed(SEED) as keypair:
        signer = Signer(keypair)
        findings = doctor.examine(measure=True)
        everything = json.dumps(doctor.as_dict(findings)) + doctor.report()
        assert signer.account == PUBKEY
    for secret in (SECRET, b58encode(SEED), SEED.hex(), PUBKEY):
        assert secret not in everything
    assert named("key in environment", findings).value.startswith("PACIFICA_PRIVATE_KEY is set")


# Versions.


def test_the_versions_are_those_that_run() -> None:
    found = [*_doctor_process.versions()]
    assert platform.python_version() in named("Python", found).value
    for name in ("cffi", "orjson", "websockets"):
        assert named(name, found).value == metadata.version(name)
        assert named(name, found).status == "ok"
    assert metadata.version("PyNaCl") in named("PyNaCl", found).value
    assert "libsodium 1." in named("PyNaCl", found).value


@pytest.mark.parametrize(
    ("name", "version", "status"),
    [
        ("uvloop", "0.22.1", "bad"),
        ("uvloop", "0.23.0", "ok"),
        ("uvloop", "1.0", "ok"),
        ("uvloop", None, "info"),
        ("cffi", "1.16.9", "bad"),
        ("cffi", None, "bad"),
        ("websockets", "13.1", "bad"),
        ("PyNaCl", "1.4.0", "bad"),
        ("redis", None, "info"),
    ],
)
def test_what_is_too_old(
    monkeypatch: pytest.MonkeyPatch, name: str, version: str | None, status: str
) -> None:
    """The least versions are those of the package's own metadata."""
    real = metadata.version

    def other(package: str) -> str:
        if package != name:
            return real(package)
        if version is None:
            raise metadata.PackageNotFoundError
        return version

    monkeypatch.setattr(metadata, "version", other)
    assert named(name, [*_doctor_process.versions()]).status == status


@pytest.mark.parametrize(
    ("python", "gil", "status"),
    [("CPython", True, "warn"), ("CPython", False, "info"), ("PyPy", True, "info")],
)
def test_without_orjson(monkeypatch: pytest.MonkeyPatch, python: str, gil: bool, status: str) -> None:
    """It works: the standard library parses. Where there is an orjson, it is worth a look."""
    monkeypatch.setattr(_json, "loads", _json.plain_loads)
    monkeypatch.setattr(platform, "python_implementation", lambda: python)
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: gil, raising=False)
    monkeypatch.setattr(_doctor_process, "_version", lambda name: None if name == "orjson" else "99")
    found = named("orjson", [*_doctor_process.versions()])
    assert (found.status, found.value) == (status, "not installed: the standard library parses")


def test_what_uvloop_brings_is_as_measured() -> None:
    cost = named("uvloop", [*_doctor_process.versions()]).cost
    assert "docs/tuning.md" in cost
    page = (Path(__file__).parent.parent / "docs" / "tuning.md").read_text(encoding="utf-8")
    medians = [
        row.split("|")[2].strip() for row in page.splitlines() if row.startswith(("| asyncio |", "| uvloop "))
    ]
    assert len(medians) == 2
    for median in medians:
        assert median in cost


# Signing.


def test_without_the_c_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """The boundary module is asked, nothing is guessed."""
    monkeypatch.setattr(_sodium, "COMPILED", False)
    monkeypatch.setattr(_sodium, "PREPARED_SIGNING_POSSIBLE", False)
    signing = [*_doctor_process.signing()]
    assert named("fast path", signing).status == "warn"
    assert named("prepared signing", signing).value == "not possible: no C core"
    assert named("private pages", [*_doctor_machine.memory()]).status == "warn"


def test_without_prepared_signing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sodium, "PREPARED_SIGNING_POSSIBLE", False)
    assert "minimal libsodium" in named("prepared signing", [*_doctor_process.signing()]).value
    assert [finding.name for finding in _doctor_process.speed()] == ["deterministic request"]


# Memory: what the kernel says about the page of a key.


@linux
def test_the_pages_of_a_key_are_looked_at() -> None:
    with Keypair.generate() as key:
        slot = int(_sodium.ffi.cast("uintptr_t", key._key.slot))
        mapping = _doctor_machine._mapping_of(slot)
    if mapping is None:
        pytest.skip("/proc/self/smaps has no VmFlags here")
    found = [*_doctor_machine.memory()]
    assert named("core dumps", found).status == ("ok" if "dd" in mapping.flags else "warn")
    assert named("wiped on fork", found).status == ("ok" if "wf" in mapping.flags else "warn")
    with mmap.mmap(-1, mmap.PAGESIZE) as plain:
        buffer = ctypes.c_char.from_buffer(plain)
        other = _doctor_machine._mapping_of(ctypes.addressof(buffer))
        del buffer
    assert other is not None
    assert other.flags.isdisjoint({"dd", "wf", "lo"})
    assert other.locked_kb == 0


@pytest.mark.parametrize(
    ("flags", "locked", "statuses"),
    [
        ("rd wr mr mw me lo ac dd wf", 4, ("ok", "ok", "ok")),
        ("rd wr mr mw me ac dd", 4, ("ok", "ok", "warn")),
        ("rd wr mr mw me ac wf", 4, ("ok", "warn", "ok")),
        ("rd wr mr mw me ac dd wf", 0, ("warn", "ok", "ok")),  # mlock said yes, and it is not
        (None, 4, ("ok", "unknown", "unknown")),
    ],
)
def test_what_the_kernel_says_of_them(
    elsewhere: Path, flags: str | None, locked: int, statuses: tuple[str, ...]
) -> None:
    text = f"0-{(1 << 64) - 1:x} rw-p 00000000 00:00 0\nSize: 4 kB\nLocked: {locked} kB\n"
    put(elsewhere, "proc/self/smaps", text + (f"VmFlags: {flags}\n" if flags is not None else ""))
    found = [*_doctor_machine.memory()]
    unlocked = named("private pages", found).number
    if not unlocked:
        assert named("private pages", found).status == statuses[0]
    assert (named("core dumps", found).status, named("wiped on fork", found).status) == statuses[1:]


def test_swap(elsewhere: Path) -> None:
    assert "swap is off" in named("private pages", [*_doctor_machine.memory()]).value
    put(elsewhere, "proc/swaps", "Filename Type Size Used Priority\n/swap file 1 0 -2\n")
    assert "swap is on" in named("private pages", [*_doctor_machine.memory()]).value


# The clock.


@pytest.mark.parametrize(
    ("state", "flags", "status"), [(0, 0, "ok"), (0, 0x40, "warn"), (5, 0, "warn"), (-1, 0, "unknown")]
)
@linux
def test_is_the_clock_synchronised(
    monkeypatch: pytest.MonkeyPatch, state: int, flags: int, status: str
) -> None:
    class Kernel:
        def __init__(self, name: None) -> None:
            pass

        def adjtimex(self, pointer: object) -> int:
            timex = pointer._obj  # type: ignore[attr-defined]  # what byref() points to
            assert timex.modes == 0  # only asked
            timex.status, timex.maxerror = flags, 2_500
            return state

    monkeypatch.setattr("ctypes.CDLL", Kernel)
    found = named("synchronised", [*_doctor_machine.clock()])
    assert found.status == status
    assert (found.number, found.unit) == ((2.5, "ms") if status == "ok" else (None, None))


# Python.


def test_threads_and_the_switch_interval() -> None:
    """Our own threads work in C, and make nobody wait; another one is counted, and may."""
    before, stop = sys.getswitchinterval(), threading.Event()
    alone = named("other threads", [*_doctor_process.python()]).number
    with Keypair.generate() as key, Signer(key, prepared=4):
        assert named("other threads", [*_doctor_process.python()]).number == alone
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        sys.setswitchinterval(5e-3)
        found = [*_doctor_process.python()]
        assert alone is not None
        assert named("other threads", found).number == alone + 1
        assert named("switch interval", found).status == "warn"
        assert named("switch interval", found).number == 5.0
        sys.setswitchinterval(1e-4)
        assert named("switch interval", [*_doctor_process.python()]).status == "ok"
    finally:
        sys.setswitchinterval(before)
        stop.set()
        thread.join()


@pytest.mark.skipif(not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="there is no GIL to wait for")
def test_a_busy_thread_keeps_the_gil_for_the_interval() -> None:
    before = sys.getswitchinterval()
    try:
        sys.setswitchinterval(0.05)
        assert any(_doctor_process.gil_wait(3) >= 0.02 for _ in range(10))
    finally:
        sys.setswitchinterval(before)


def test_debugging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")
    found = named("debugging", [*_doctor_process.python()])
    assert found.status == "warn"
    assert "PYTHONASYNCIODEBUG" in found.value


# The processor.


def test_a_machine_that_tells_nothing(elsewhere: Path) -> None:
    found = machine()
    for name in ("governor", "turbo", "stolen time"):
        assert named(name, found).status == "unknown"
    assert named("cgroup quota", found).status == "ok"


@pytest.mark.parametrize(
    ("governors", "status"),
    [(["performance", "performance"], "ok"), (["performance", "powersave"], "warn"), (["schedutil"], "warn")],
)
def test_governor(elsewhere: Path, governors: list[str], status: str) -> None:
    for core, name in enumerate(governors):
        put(elsewhere, f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor", f"{name}\n")
        put(elsewhere, f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_driver", "intel_pstate\n")
    found = named("governor", machine())
    assert found.status == status
    assert found.value == f"{', '.join(sorted(set(governors)))} (intel_pstate)"


@pytest.mark.parametrize(
    ("file", "text", "value"),
    [
        ("intel_pstate/no_turbo", "0", "on"),
        ("intel_pstate/no_turbo", "1", "off"),
        ("cpufreq/boost", "1", "on"),
        ("cpufreq/boost", "0", "off"),
    ],
)
def test_turbo(elsewhere: Path, file: str, text: str, value: str) -> None:
    put(elsewhere, f"sys/devices/system/cpu/{file}", text)
    assert named("turbo", machine()).value == value


@pytest.mark.parametrize(
    ("files", "cores", "throttled"),
    [
        ({"sys/fs/cgroup/cpu.max": "max 100000"}, None, None),
        ({"sys/fs/cgroup/cpu.max": "50000 100000", "sys/fs/cgroup/cpu.stat": "nr_throttled 7\n"}, 0.5, 7),
        (
            {
                "proc/self/cgroup": "0::/some/slice\n",
                "sys/fs/cgroup/cpu.max": "max 100000",
                "sys/fs/cgroup/some/slice/cpu.max": "150000 100000",
            },
            1.5,
            None,
        ),
        (
            {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "20000", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"},
            0.2,
            None,
        ),
        (
            {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"},
            None,
            None,
        ),
    ],
)
def test_cgroup_quota(
    elsewhere: Path, files: dict[str, str], cores: float | None, throttled: int | None
) -> None:
    for path, text in files.items():
        put(elsewhere, path, text)
    found = named("cgroup quota", machine())
    assert found.number == cores
    assert found.status == ("ok" if cores is None else "warn")
    assert ("throttled 7 times" in found.value) == (throttled == 7)


@pytest.mark.parametrize(("steal", "status"), [(0, "ok"), (2, "warn")])
def test_stolen_time(elsewhere: Path, steal: int, status: str) -> None:
    put(elsewhere, "proc/stat", "cpu  10 0 0 100 0 0 0 5 0 0\n")
    with _doctor_machine.Sample() as sample:
        put(elsewhere, "proc/stat", f"cpu  30 0 0 {180 - steal} 0 0 0 {5 + steal} 0 0\n")
    assert sample.stolen == steal
    assert named("stolen time", [*_doctor_machine.processor(sample)]).status == status


def test_too_short_a_time_says_nothing(elsewhere: Path) -> None:
    put(elsewhere, "proc/stat", "cpu  10 0 0 100 0 0 0 5 0 0\n")
    with _doctor_machine.Sample() as sample:
        put(elsewhere, "proc/stat", "cpu  11 0 0 100 0 0 0 6 0 0\n")
    assert sample.stolen is None


def test_a_libsodium_of_the_system(elsewhere: Path) -> None:
    put(elsewhere, "proc/self/maps", "7f00-7f01 r-xp 00000000 00:00 1 /usr/lib/libsodium.so.23 (deleted)\n")
    assert _doctor_machine.loaded_libsodium() is not None
    assert "the system's own" in named("PyNaCl", [*_doctor_process.versions()]).value


# The command.


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--quick"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "versions"
    assert "No key and no account is in this report." in lines[-1]
    assert cli.main(["doctor", "--quick", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report) == {"ok", "date", "findings"}
    assert [*dict.fromkeys(one["section"] for one in report["findings"])] == SECTIONS


def test_something_bad_is_the_exit_status(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = Finding("versions", "cffi", "bad", "0.1", "cost")
    monkeypatch.setattr(doctor, "examine", lambda measure: [bad])
    assert cli.main(["doctor"]) == 1
    assert "bad" in capsys.readouterr().out
