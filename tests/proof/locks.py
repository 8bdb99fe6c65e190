# SPDX-License-Identifier: MIT
"""requirements/*.txt against pyproject.toml: whether what is installed is what is asked for.

pip checks the hashes, and that each file names all that its packages need. What pip does not see
is a file that no longer fits pyproject.toml, or two that cannot be installed together.
"""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "requirements"

PYTHONS = ("3.11", "3.12", "3.13")
# What a bot may want beside what it needs.
OPTIONAL = ("uvloop", "metrics", "redis")
# What our own tools need, each extra in a file of its name.
EXTRAS = ("test", "bench", "docs", "lint", "fuzz", "audit", "integrations")
# Other people's clients, for whoever asks for them: "integrations" has the versions that are tested.
PEERS = ("ccxt", "pacifica-python-sdk", "pacifica-sdk")
NAMES = ("build", "run", "optional", *EXTRAS)

HASH = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Pin:
    """One line of a file: a requirement that one version meets, and the hashes of that version's files."""

    requirement: Requirement
    hashes: tuple[str, ...]

    @property
    def name(self) -> str:
        return canonicalize_name(self.requirement.name)

    @property
    def version(self) -> str:
        return next(iter(self.requirement.specifier)).version


def lines(text: str) -> Iterator[str]:
    """Lines as pip sees them: a backslash goes on, and a comment is none."""
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip() and not line.startswith("#"):
            yield line.strip()


def read(text: str) -> tuple[list[Pin], list[str]]:
    """The pins of a file, and what is no pin."""
    pins, problems = [], []
    for line in lines(text):
        written, *hashes = (part.strip() for part in line.split(" --hash="))
        try:
            requirement = Requirement(written)
        except InvalidRequirement:
            problems.append(f"not a requirement: {line}")
            continue
        operators = [specifier.operator for specifier in requirement.specifier]
        if requirement.url or operators != ["=="] or "*" in str(requirement.specifier):
            problems.append(f"not one version: {written}")
        elif not hashes or not all(HASH.fullmatch(digest) for digest in hashes):
            problems.append(f"without SHA-256: {written}")
        else:
            pins.append(Pin(requirement, tuple(hashes)))
    return pins, problems


def expanded(project: Mapping[str, Any], written: Iterable[str]) -> list[Requirement]:
    """Requirements, in which "ourselves[extra]" stands for what the extra names."""
    requirements = []
    for requirement in map(Requirement, written):
        if canonicalize_name(requirement.name) == canonicalize_name(project["name"]):
            for extra in requirement.extras:
                requirements += expanded(project, project["optional-dependencies"][extra])
        else:
            requirements.append(requirement)
    return requirements


def asked_for(pyproject: Mapping[str, Any], name: str) -> list[Requirement]:
    """What pyproject.toml wants in the file of this name."""
    project = pyproject["project"]
    if name == "build":
        return expanded(project, pyproject["build-system"]["requires"])
    extras = {"run": (), "optional": OPTIONAL}.get(name, (name,))
    wanted = [line for extra in extras for line in project["optional-dependencies"][extra]]
    return expanded(project, [*project["dependencies"], *wanted])


def environment(python: str) -> dict[str, str]:
    """What markers are about: this machine, with another Python."""
    here = {name: str(value) for name, value in default_environment().items()}
    full = f"{python}.0"
    return here | {"python_version": python, "python_full_version": full, "implementation_version": full}


def holds(requirement: Requirement, here: Mapping[str, str]) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({**here, "extra": ""})


def unmet(requirements: Iterable[Requirement], pins: Iterable[Pin], python: str) -> Iterator[str]:
    """The requirements that no pin meets under this Python."""
    here = environment(python)
    pinned = {pin.name: pin for pin in pins if holds(pin.requirement, here)}
    for requirement in requirements:
        if not holds(requirement, here):
            continue
        pin = pinned.get(canonicalize_name(requirement.name))
        if pin is None:
            yield f"{requirement} is missing under Python {python}"
        elif not requirement.specifier.contains(pin.version, prereleases=True):
            yield f"{requirement} is not met by {pin.version} under Python {python}"


def at_odds(files: Mapping[str, Iterable[Pin]]) -> Iterator[str]:
    """Packages that are not of one version in all files."""
    versions = defaultdict(set)
    for pins in files.values():
        for pin in pins:
            versions[pin.name].add(pin.version)
    for name, several in sorted(versions.items()):
        if len(several) > 1:
            yield f"{name} is {' and '.join(sorted(several))}"


def check(pyproject: Mapping[str, Any], texts: Mapping[str, str]) -> list[str]:
    """Everything that is wrong with these files."""
    problems = []
    files = {}
    for name, text in texts.items():
        files[name], unreadable = read(text)
        found = list(unreadable)
        for python in PYTHONS:
            found += unmet(asked_for(pyproject, name), files[name], python)
        problems += [f"{name}.txt: {problem}" for problem in found]
    return problems + list(at_odds(files))


def load() -> tuple[dict[str, Any], dict[str, str]]:
    """pyproject.toml, and the text of each file."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return pyproject, {name: (FOLDER / f"{name}.txt").read_text(encoding="utf-8") for name in NAMES}
