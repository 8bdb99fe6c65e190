# SPDX-License-Identifier: MIT
"""A software bill of materials, in CycloneDX: what runs in a bot's process because it uses this package.

Names, versions and hashes are those of ``requirements/optional.txt``, and what ``run.txt`` has of it
is required. Licences and who needs whom are what the installed packages say of themselves.
``python -m proof.sbom [FILE]``.
"""

from __future__ import annotations

import json
import re
import sys
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from os import environ
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from proof.locks import FOLDER, Pin, asked_for, load, read

SPEC = "1.6"
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "pacifica-fast.sbom")
# PyNaCl's wheel carries it, and records its version in its change log only; the newest comes first.
LIBSODIUM = re.compile(r"^\* Updated? ``libsodium`` to\s+([0-9][\w.-]*)(?:\s+\(([^)]*)\))?", re.MULTILINE)


def purl(name: str, version: str) -> str:
    return f"pkg:pypi/{canonicalize_name(name)}@{version}"


def wanted_here(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def pinned(name: str) -> list[Pin]:
    """What a file of requirements installs here."""
    pins, problems = read((FOLDER / f"{name}.txt").read_text(encoding="utf-8"))
    if problems:
        raise SystemExit("; ".join(problems))
    return [pin for pin in pins if wanted_here(pin.requirement)]


def installed(pin: Pin) -> Distribution:
    """The installed package, which must be the one that is pinned."""
    try:
        found = distribution(pin.name)
    except PackageNotFoundError:
        raise SystemExit(f"{pin.name} is not installed, and is pinned") from None
    if found.version != pin.version:
        raise SystemExit(f"{pin.name} {found.version} is installed, and {pin.version} is pinned")
    return found


def names(requirements: Iterable[Requirement]) -> set[str]:
    """What is needed here, without what only extras ask for."""
    return {canonicalize_name(requirement.name) for requirement in requirements if wanted_here(requirement)}


def licences(package: Distribution) -> list[dict[str, Any]]:
    """As the package says: an SPDX expression, or, of older ones, a name."""
    metadata = package.metadata.json
    if expression := metadata.get("license_expression"):
        return [{"expression": expression}]
    trove = [
        line.split(" :: ")[-1] for line in metadata.get("classifier", ()) if line.startswith("License ::")
    ]
    # Some write the whole text where its name belongs.
    written = str(metadata.get("license", ""))
    named = [written] if written and "\n" not in written else trove
    return [{"license": {"name": name}} for name in named]


def libsodium(pynacl: Distribution) -> dict[str, Any]:
    """The library that does all arithmetic on secrets."""
    found = LIBSODIUM.search(str(pynacl.metadata.json["description"]))
    if not found:
        raise SystemExit(f"PyNaCl {pynacl.version} does not say which libsodium it carries")
    version, which = found.groups(default="")
    return {
        "type": "library",
        "bom-ref": f"{purl('pynacl', pynacl.version)}#libsodium",
        "name": "libsodium",
        "version": version,
        "description": f"{which}, compiled into PyNaCl, as its change log says".removeprefix(", "),
        "licenses": [{"license": {"id": "ISC"}}],
        "purl": f"pkg:generic/libsodium@{version}",
    }


def component(pin: Pin, required: set[str]) -> dict[str, Any]:
    """A package that runs in the bot's process."""
    package = installed(pin)
    described = {
        "type": "library",
        "bom-ref": purl(pin.name, pin.version),
        "name": pin.name,
        "version": pin.version,
        "scope": "required" if pin.name in required else "optional",
        "licenses": licences(package),
        "purl": purl(pin.name, pin.version),
        "externalReferences": [
            {
                "type": "distribution",
                "url": "requirements/optional.txt",
                "comment": "the files of this version; one of them is installed",
                "hashes": [
                    {"alg": "SHA-256", "content": digest.removeprefix("sha256:")} for digest in pin.hashes
                ],
            }
        ],
    }
    if pin.name == "pynacl":
        described["components"] = [libsodium(package)]
    return described


def subject(project: dict[str, Any]) -> dict[str, Any]:
    """What the bill is of, and where it holds."""
    ref = purl(project["name"], project["version"])
    described: dict[str, Any] = {
        "component": {
            "type": "library",
            "bom-ref": ref,
            "name": project["name"],
            "version": project["version"],
            "licenses": [{"license": {"id": project["license"]}}],
            "purl": ref,
        },
        "properties": [
            {"name": "pacifica-fast:python", "value": f"{sys.version_info.major}.{sys.version_info.minor}"},
            {"name": "pacifica-fast:system", "value": sys.platform},
        ],
    }
    if epoch := environ.get("SOURCE_DATE_EPOCH"):
        described["timestamp"] = datetime.fromtimestamp(int(epoch), UTC).isoformat()
    return described


def bill() -> dict[str, Any]:
    """The whole of it. The same packages make the same text."""
    pyproject, _ = load()
    project = pyproject["project"]
    pins = {pin.name: pin for pin in pinned("optional")}
    required = {pin.name for pin in pinned("run")}
    graph = {
        name: sorted(names(map(Requirement, installed(pin).requires or ()))) for name, pin in pins.items()
    }
    refs = {name: purl(name, pin.version) for name, pin in pins.items()}
    metadata = subject(project)
    described: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": SPEC,
        "version": 1,
        "metadata": metadata,
        "components": [component(pin, required) for pin in pins.values()],
        "dependencies": [
            {
                "ref": metadata["component"]["bom-ref"],
                "dependsOn": [refs[name] for name in sorted(names(asked_for(pyproject, "optional")))],
            },
            *({"ref": refs[name], "dependsOn": [refs[need] for need in graph[name]]} for name in pins),
        ],
    }
    serial = uuid.uuid5(NAMESPACE, json.dumps(described, sort_keys=True))
    return described | {"serialNumber": f"urn:uuid:{serial}"}


def invalid(text: str) -> str | None:
    """What the schema of CycloneDX has against it."""
    # Part of the extra "audit"; the bill itself needs none of it.
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    wrong = JsonStrictValidator(SchemaVersion.from_version(SPEC)).validate_str(text)
    return str(wrong) if wrong else None


def main() -> None:
    text = json.dumps(bill(), indent=2) + "\n"
    if wrong := invalid(text):
        raise SystemExit(f"not CycloneDX {SPEC}: {wrong}")
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
