# SPDX-License-Identifier: MIT
"""Everything declarative is in pyproject.toml; this adds the C core, and archives that can be made again.

The same sources make the same bytes, whoever builds them, when and where: docs/supply-chain.md.
"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

from setuptools import setup
from setuptools.command.sdist import sdist

FIRST_TIME_OF_ZIP = 315_532_800  # 1980; a wheel is a zip file, and can name nothing earlier


def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """The same entry, whoever packed it, when, and under which umask."""
    member.mtime = int(os.environ.get("SOURCE_DATE_EPOCH", FIRST_TIME_OF_ZIP))
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    member.pax_headers = {}
    return member


def pack_again(archive: Path) -> None:
    """The same files in an order that no file system decides."""
    packed = io.BytesIO()
    with (
        tarfile.open(archive) as old,
        gzip.GzipFile("", "wb", fileobj=packed, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old, key=lambda member: member.name):
            new.addfile(anonymous(member), old.extractfile(member) if member.isfile() else None)
    archive.write_bytes(packed.getvalue())


class Sdist(sdist):
    """setuptools packs an sdist with the time, the owner and the mode of each file."""

    def make_distribution(self) -> None:
        super().make_distribution()
        for archive in map(Path, self.archive_files):
            if archive.name.endswith(".tar.gz"):
                pack_again(archive)


setup(
    cffi_modules=["csrc/build_native.py:ffibuilder"],
    cmdclass={"sdist": Sdist},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
