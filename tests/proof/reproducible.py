# SPDX-License-Identifier: MIT
"""The wheel and the sdist are built twice, as by two people, and must have the same bytes.

It runs ``.ci/build-release``, as a release does, and needs what ``requirements/build.txt`` and
``requirements/audit.txt`` name.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proof.builds import Change, apply
from proof.evidence import NOTHING, evidence

ROOT = Path(__file__).parents[2]
# What tools left behind is no source. .ci is the one hidden folder that a build needs.
LEFT_BEHIND = shutil.ignore_patterns(
    ".git", ".venv", ".nox", ".*_cache", ".hypothesis", "build", "dist", "*.egg-info", "__pycache__", "*.so"
)

# What two people who build the same sources do not have in common, besides the folder.
HERE = {"LC_ALL": "C", "PYTHONHASHSEED": "1", "TZ": "UTC"}
ELSEWHERE = {"LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "2", "TZ": "Asia/Tokyo"}
UMASK, OTHER_UMASK = 0o022, 0o077

# A Python that does not lie where the system's libraries are is linked with the way to its own.
LIBRARIES = [Path(prefix) / "lib" for prefix in {sys.prefix, sys.base_prefix}]

ONE_BYTE = Change("pf_base58.c", '"123456789ABC', '"123456789ABD')


def sources(to: Path, change: Change | None = None) -> Path:
    """A copy of the sources, with one change."""
    shutil.copytree(ROOT, to, ignore=LEFT_BEHIND)
    if change:
        apply(change, to / "csrc")
    return to


def build(folder: Path, surroundings: Mapping[str, str], umask: int = UMASK) -> Path:
    """Build what a release consists of from these sources. Returns where it is."""
    for path in [folder, *folder.rglob("*")]:  # as a checkout under that umask leaves them
        path.chmod((0o777 if path.is_dir() or os.access(path, os.X_OK) else 0o666) & ~umask)
    dist = folder / "dist"
    python = Path(sys.executable).parent
    environment = {
        **os.environ,
        "SOURCE_DATE_EPOCH": "1700000000",
        "HOME": str(folder),
        "PATH": f"{python}:{os.environ['PATH']}",
        **surroundings,
    }
    done = subprocess.run(
        [folder / ".ci" / "build-release", dist],
        env=environment,
        umask=umask,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f".ci/build-release failed:\n{done.stdout}")
    return dist


def hashes(dist: Path) -> dict[str, str]:
    """SHA-256 of each archive by its name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(dist.iterdir())}


def contents(archive: Path) -> dict[str, tuple[Any, ...]]:
    """What an archive says of each of its members, and what is in it."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return {
                info.filename: (info.date_time, info.external_attr, wheel.read(info))
                for info in wheel.infolist()
            }
    with tarfile.open(archive) as sdist:
        return {
            info.name: (info.mtime, info.mode, info.uid, info.uname, file.read() if file else None)
            for info in sdist
            for file in [sdist.extractfile(info)]
        }


def differing(one: Path, other: Path) -> list[str]:
    """Which members differ, for whoever is to find out why."""
    ours, theirs = contents(one), contents(other)
    return sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))


def compare(one: Path, other: Path) -> list[str]:
    """What differs between two folders of archives: the archive, and its members."""
    ours, theirs = hashes(one), hashes(other)
    found = []
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in ours or name not in theirs:
            found.append(f"{name} was built once only")
        elif ours[name] != theirs[name]:
            members = differing(one / name, other / name) or ["the packing"]
            found.append(f"{name} differs in {', '.join(members)}")
    return found


def telling(dist: Path, folders: list[Path]) -> list[str]:
    """Members of wheels that name a folder of whoever built them: a loader may be sent there."""
    return [
        f"{wheel.name} names {folder} in {name}"
        for wheel in dist.glob("*.whl")
        for name, (*_, data) in contents(wheel).items()
        for folder in folders
        if bytes(folder) in data
    ]


def require(seen: list[str], what: str) -> None:
    """A comparison that does not see a planted difference in the compiled code shows nothing."""
    if not any(".so" in line for line in seen):
        raise SystemExit(f"not seen: {what}")
    print(f"planted: {what}: seen", flush=True)


def check_comparison(folder: Path, released: Path, short: bool) -> None:
    """A changed byte is seen, and so is the name of the folder where a compiler records it."""
    changed = sources(folder / "changed", ONE_BYTE)
    require(compare(released, build(changed, HERE)), "one byte of the C sources")
    if not short:
        debug = HERE | {"PACIFICA_FAST_DEBUG": "1"}
        one, other = (build(sources(folder / name), debug) for name in ("debug", "debug elsewhere"))
        require(compare(one, other), "debug symbols, which name the folder")
        require(telling(one, [Path(tempfile.gettempdir())]), "the folder in debug symbols")


def main() -> None:
    parser = argparse.ArgumentParser(description="Two builds of the same sources have the same bytes.")
    parser.add_argument("--short", action="store_true", help="without the comparison of debug symbols")
    short = parser.parse_args().short
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        one = build(sources(folder / "one"), HERE)
        other = build(sources(folder / "another" / "place"), ELSEWHERE, OTHER_UMASK)
        found = compare(one, other) + telling(one, [folder, *LIBRARIES])
        for name, digest in hashes(one).items():
            print(f"sha256 {digest}  {name}", flush=True)
        check_comparison(folder, one, short)
    evidence(
        "a wheel and an sdist built in another folder, locale, time zone and umask have the same bytes,"
        " and name no folder of the builder",
        "2 archives, built twice",
        "; ".join(found) or NOTHING,
    )
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
