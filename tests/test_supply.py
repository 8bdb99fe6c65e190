# SPDX-License-Identifier: MIT
"""The supply chain: workflows, builds that can be made again, the bill of materials, and known holes.

``python -m proof.supply`` does all of it, with tools that the other tests do not need.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from proof import sbom, supply
from proof.evidence import evidence_in
from proof.locks import NAMES, ROOT, expanded, load
from proof.reproducible import compare, sources, telling

WORKFLOWS = sorted((supply.WORKFLOWS / "workflows").glob("*.yml"))
KEYPAIR = re.compile(r"\[(\s*\d{1,3}\s*,){63}\s*\d{1,3}\s*\]")  # as a Solana id.json has it
PINNED = re.compile(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")


# ---- workflows


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_named_by_commit_and_release(workflow: Path) -> None:
    lines = [line.strip(" -") for line in workflow.read_text().splitlines() if "uses:" in line]
    uses = [line for line in lines if not line.startswith("uses: $/")]  # ours, of the same commit
    assert uses
    assert [line for line in uses if not PINNED.fullmatch(line)] == []


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_no_job_may_do_what_it_does_not_say(workflow: Path) -> None:
    assert "\npermissions: {}\n" in workflow.read_text()


def test_an_action_is_the_same_commit_everywhere() -> None:
    pins = re.findall(r"uses: ([\w.-]+/[\w.-]+)\S*@(\w+)", "".join(path.read_text() for path in WORKFLOWS))
    assert len({action for action, _ in pins}) == len(set(pins)) > 1


def test_whoever_signs_or_publishes_runs_no_code_of_ours() -> None:
    jobs = re.split(r"\n  (?=\w+:\n)", supply.WORKFLOWS.joinpath("workflows/release.yml").read_text())
    trusted = [job for job in jobs if "id-token: write" in job]
    assert len(trusted) == 2
    for job in trusted:
        assert "run:" not in job
        assert "actions/checkout" not in job


# ---- the repository


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
def test_no_key_was_committed() -> None:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
    names = [name for name in done.stdout.split("\0") if (ROOT / name).is_file()]
    assert len(names) > 100
    assert [name for name in names if KEYPAIR.search((ROOT / name).read_text(errors="replace"))] == []


# ---- builds


def zipped(path: Path, content: str, year: int = 2020) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo("module.py", (year, 1, 1, 0, 0, 0)), content)


def test_what_is_the_same_is_not_reported(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        zipped(tmp_path / name / "a.whl", "x = 1")
    assert compare(tmp_path / "one", tmp_path / "other") == []


def test_what_differs_is_named(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    for folder, content, year in ((one, "x = 1", 2020), (other, "x = 2", 2021)):
        zipped(folder / "content.whl", content)
        zipped(folder / "time.whl", "", year)
        (folder / f"{folder.name}.tar.gz").touch()
    assert compare(one, other) == [
        "content.whl differs in module.py",
        "one.tar.gz was built once only",
        "other.tar.gz was built once only",
        "time.whl differs in module.py",
    ]


def test_a_wheel_that_names_a_folder_of_its_builder_is_seen(tmp_path: Path) -> None:
    zipped(tmp_path / "a.whl", "runpath: /home/builder/lib")
    assert telling(tmp_path, [Path("/home/other")]) == []
    assert telling(tmp_path, [Path("/home/builder")]) == ["a.whl names /home/builder in module.py"]


def sdist(folder: Path, umask: int) -> Path:
    subprocess.run(
        [sys.executable, "setup.py", "-q", "sdist"], cwd=folder, umask=umask, check=True, capture_output=True
    )
    return folder / "dist"


def test_an_sdist_tells_neither_when_nor_by_whom(tmp_path: Path) -> None:
    one, other = sources(tmp_path / "one"), sources(tmp_path / "other")
    for path in other.rglob("*.py"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
        path.chmod(0o600)
    assert compare(sdist(one, 0o022), sdist(other, 0o077)) == []
    [archive] = (one / "dist").iterdir()
    with tarfile.open(archive) as opened:
        assert {(member.uid, member.uname, member.mtime) for member in opened} == {(0, "", 315_532_800)}


def test_an_sdist_has_what_make_test_needs(tmp_path: Path) -> None:
    """And what serves where there is no compiler, although it was made where there is one."""
    folder = sources(tmp_path / "sources")
    modules = {str(path.relative_to(folder)) for path in folder.glob("pacifica_fast/**/*.py")}
    assert "pacifica_fast/_pure/__init__.py" in modules
    [archive] = sdist(folder, 0o022).iterdir()
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert names >= {
        "Makefile",
        "setup.py",
        "csrc/build_native.py",
        *(f"requirements/{n}.txt" for n in NAMES),
        *modules,
    }


# ---- the bill of materials


@pytest.fixture(scope="module")
def bill() -> dict[str, Any]:
    try:
        return sbom.bill()
    except SystemExit as other_versions:
        pytest.skip(str(other_versions))


def test_the_bill_names_what_a_bot_runs(bill: dict[str, Any]) -> None:
    scopes = {component["name"]: component["scope"] for component in bill["components"]}
    required = {name for name, scope in scopes.items() if scope == "required"}
    assert required == {"cffi", "orjson", "pycparser", "pynacl", "websockets"}
    assert {"hdrhistogram", "prometheus-client", "redis", "uvloop"} <= scopes.keys() - required


def test_the_bill_names_libsodium(bill: dict[str, Any]) -> None:
    [pynacl] = [component for component in bill["components"] if component["name"] == "pynacl"]
    [libsodium] = pynacl["components"]
    assert libsodium["name"] == "libsodium"
    assert re.fullmatch(r"1\.\d+\.\d+\S*", libsodium["version"])


def test_the_bill_is_closed_and_always_the_same(bill: dict[str, Any]) -> None:
    named = {bill["metadata"]["component"]["bom-ref"], *(part["bom-ref"] for part in bill["components"])}
    assert {entry["ref"] for entry in bill["dependencies"]} == named
    assert {ref for entry in bill["dependencies"] for ref in entry["dependsOn"]} <= named
    assert all(part["licenses"] for part in bill["components"])
    assert sbom.bill() == bill


def test_a_libsodium_of_unknown_version_is_an_error() -> None:
    class Silent:
        version = "9.9"

        class metadata:  # noqa: N801 -- as importlib calls it
            json = {"description": "* Update ``libffi`` to 1.2.3."}  # noqa: RUF012

    with pytest.raises(SystemExit, match=r"PyNaCl 9\.9 does not say"):
        sbom.libsodium(Silent())  # type: ignore[arg-type]


# ---- docs/supply-chain.md


def test_what_is_optional_or_only_for_building_is_not_imported() -> None:
    code = "import sys, pacifica_fast.asyncio, pacifica_fast.sync, pacifica_fast.sdk; print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    loaded = set(output.split())
    assert {"_cffi_backend", "nacl", "orjson", "websockets"} <= loaded
    assert loaded.isdisjoint(
        {"cffi", "hdrh", "prometheus_client", "pycparser", "redis", "setuptools", "uvloop"}
    )


def test_the_page_says_why_each_dependency_is_there() -> None:
    page = (ROOT / "docs" / "supply-chain.md").read_text()
    project = load()[0]["project"]
    for requirement in expanded(project, project["dependencies"]):
        assert f"\n| {requirement.name} | " in page


# ---- known holes


def answering(monkeypatch: pytest.MonkeyPatch, planted: list[Any], ours: list[Any]) -> None:
    """A pip-audit that says this of the planted packages, and that of ours."""

    def tool(_program: str, _option: str, requirements: str, *_: str) -> str:
        answer = planted if requirements.endswith("planted.txt") else ours
        return json.dumps({"dependencies": answer})

    monkeypatch.setattr(supply, "tool", tool)


def package(name: str, **answer: Any) -> dict[str, Any]:
    return {"name": name, "version": "1", **answer}


SEEN = [package("jinja2", vulns=[{"id": "A"}]), package("requests", vulns=[{"id": "B"}])]


@pytest.mark.parametrize(
    ("planted", "ours", "found", "row"),
    [
        (SEEN, [package("cffi", vulns=[])], False, "nothing"),
        (SEEN, [package("cffi", vulns=[{"id": "C"}])], True, "cffi 1: C"),
        (SEEN, [package("cffi", skip_reason="not found")], True, f"{len(NAMES)} packages are unknown"),
        (SEEN[:1], [package("cffi", vulns=[])], False, "not run: "),
        ([package("jinja2", skip_reason="not found")], [package("cffi", vulns=[])], False, "not run: "),
    ],
)
def test_what_pip_audit_says(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    planted: list[Any],
    ours: list[Any],
    found: bool,
    row: str,
) -> None:
    answering(monkeypatch, planted, ours)
    assert supply.without_known_holes() is found
    [printed] = evidence_in(capsys.readouterr().out)
    assert printed.found.startswith(row)


def test_what_cannot_be_asked_is_not_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def tool(*_: str) -> str:
        raise supply.ToolFailed("no network")

    monkeypatch.setattr(supply, "tool", tool)
    assert supply.without_known_holes() is False
    assert evidence_in(capsys.readouterr().out)[0].found.startswith("not run")


def test_a_tool_that_is_missing_is_an_error() -> None:
    with pytest.raises(SystemExit, match=r"install requirements/audit\.txt"):
        supply.tool("no-such-tool")


def test_a_missing_pip_audit_is_not_a_missing_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(SystemExit, match="pip-audit is not here"):
        supply.without_known_holes()


@pytest.mark.skipif(
    not Path(sys.executable).with_name("zizmor").exists(), reason="zizmor is part of the extra audit"
)
def test_workflows_hold(capsys: pytest.CaptureFixture[str]) -> None:
    assert not supply.workflows_hold()
    assert evidence_in(capsys.readouterr().out)[0].found == "nothing"
