# SPDX-License-Identifier: MIT
"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from . import peers
from .experiment import Scale
from .place import CHECKOUT

LIBRARIES = ("pacifica-fast", "PyNaCl", "cffi", "orjson", "websockets", "solders", "base58", "cryptography")


def header(scale: Scale) -> dict[str, Any]:
    """The first line of a results file."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load": f"{os.getloadavg()[0]:.1f}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "compiler of Python": platform.python_compiler(),
        "switch interval": f"{sys.getswitchinterval() * 1e3:g} ms",
        "libraries": _versions() | peers.versions(),
        "commit": _commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "scale": "quick" if scale.quick else "long" if scale.long else "full",
    }


def _versions() -> dict[str, str]:
    """Of the libraries that are installed; our own is not when it runs from its sources."""
    found = {}
    for name in LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _commit() -> str:
    if CHECKOUT is None:
        return "installed, not from a checkout"
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or "not from a git checkout"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
