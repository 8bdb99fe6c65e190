# SPDX-License-Identifier: MIT
"""The pages of docs/, and those beside it: their code runs, their tables are complete, their links go on."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from observed import Bot
from prometheus_client.parser import text_string_to_metric_families
from run_page import NOT_RUN, REDIS, Block, blocks_of

from pacifica_fast.endpoint import Settings
from pacifica_fast.mock_faults import Faults, Weather
from pacifica_fast.prometheus import exposition
from pacifica_fast.session import Truth
from pacifica_fast.status import LINK_STATES, Status

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
BESIDE = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
PAGES = [*(ROOT / name for name in BESIDE), *sorted(DOCS.rglob("*.md"))]
PATIENCE = 120.0  # s

BACKGROUND = ("In one terminal", "Until Ctrl-C")
"""Titles of what runs until the page is through."""

LOOKED_AT = ("text", "json", "diff", "promql")
"""Languages of what is no program of ours."""

RUN_ELSEWHERE = {"integrations.md": "tests/integrations/test_integrations_page.py"}
"""Pages that need what not everybody has, and the tests that run them."""

SAYS = {
    "README.md": ("open FateCounts(",),
    "index.md": ("CancelAck(",),
    "start.md": ("cancelled 28416222569", "once more: 420"),
    "dropin.md": ("Object of type Decimal is not JSON serializable",),
    "builder.md": ("order_id and client_order_id: give exactly one",),
    "asyncio.md": ("42069", "True None", "False "),
    "blocking.md": ("42069",),
    "fates.md": ("never existed",),
    "mock-exchange.md": ("FateCounts(acked=", "abort_after", "/api/v1"),
    "observability.md": ("0 open", "µs to build", "http://127.0.0.1:"),
}
"""What the code of a page is to print."""


def python_blocks(page: Path) -> list[Block]:
    if page.name in RUN_ELSEWHERE:
        return []
    return [b for b in blocks_of(page) if b.language == "python" and b.runs and b.included is None]


def shell_blocks(page: Path) -> list[Block]:
    return [block for block in blocks_of(page) if block.language == "bash" and block.runs]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [*filter(python_blocks, PAGES)], ids=name_of)
def test_its_python_runs(page: Path, tmp_path: Path) -> None:
    if any("solders" in block.code for block in python_blocks(page)):
        pytest.importorskip("solders")
    if any(REDIS in block.code for block in python_blocks(page)) and shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "tests" / "run_page.py"), str(page)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ran ") == len(python_blocks(page))
    for said in SAYS.get(page.name, ()):
        assert said in done.stdout


# What is typed into a shell.


@pytest.fixture
def shell(tmp_path: Path) -> Mapping[str, str]:
    """An environment with our commands, a home of its own, and a mock exchange on a port of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = tmp_path / "bin" / "pacifica-fast"
    command.parent.mkdir()
    command.write_text(
        f"#!{sys.executable}\nimport sys\nfrom pacifica_fast import _cli_mock, cli\n"
        f"_cli_mock.MOCK_PORT = cli.MOCK_PORT = {port}\nsys.exit(cli.main())\n"
    )
    command.chmod(0o755)
    path = os.pathsep.join((str(command.parent), str(Path(sys.executable).parent), os.environ["PATH"]))
    return {**os.environ, "PATH": path, "HOME": str(tmp_path), "XDG_CACHE_HOME": "", "PYTHONPATH": str(ROOT)}


@contextmanager
def running(block: Block, cwd: Path, environment: Mapping[str, str]) -> Iterator[Path]:
    """It, until this is left; a file of what it says. It has said something when this is entered."""
    said = cwd / f"{block.line}.txt"
    with (
        said.open("w") as out,
        subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", block.code],
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=environment,
            start_new_session=True,
        ) as process,
    ):
        try:
            deadline = time.monotonic() + PATIENCE
            while not said.stat().st_size:
                assert process.poll() is None, said.read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield said
            assert process.poll() is None, said.read_text()
        finally:
            os.killpg(process.pid, signal.SIGTERM)


@pytest.mark.parametrize("page", [*filter(shell_blocks, PAGES)], ids=name_of)
def test_its_commands_run(page: Path, tmp_path: Path, shell: Mapping[str, str]) -> None:
    def run(blocks: list[Block]) -> None:
        if not blocks:
            return
        block, *more = blocks
        if block.title in BACKGROUND:
            with running(block, tmp_path, shell):
                run(more)
            return
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.code],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            cwd=tmp_path,
            env=shell,
            check=False,
        )
        assert done.returncode == 0, f"{block}: {done.stdout}{done.stderr}"
        run(more)

    run(shell_blocks(page))


# What is not run.


def test_every_block_runs_or_says_why_not() -> None:
    not_run = []
    for block in (block for page in PAGES for block in blocks_of(page)):
        assert block.language in ("python", "bash", *LOOKED_AT), f"{block}: of which language?"
        if block.language in LOOKED_AT:
            continue
        if not block.runs:
            reason = block.code.splitlines()[0].removeprefix(NOT_RUN)
            assert len(reason.split()) > 2, f"{block}: a reason, please"
            not_run.append(block)
        elif block.included is not None:
            assert block.included.startswith("examples/"), f"{block}: only examples are run elsewhere"
            assert (ROOT / block.included).is_file()
    assert all(block.language == "bash" for block in not_run)
    assert len(not_run) <= 8, not_run


def test_pages_that_are_run_elsewhere_are() -> None:
    for name, test in RUN_ELSEWHERE.items():
        assert not (DOCS / name).exists() or (ROOT / test).is_file()


def test_what_is_not_run_exists_all_the_same() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for extra in re.findall(r"pacifica-fast\[([a-z]+)\]", text):
            assert extra in project["optional-dependencies"], (page, extra)
        for target in re.findall(r"(?:^|`)make ([a-z]+)(?:`|$| +(?:#|[A-Z]+=))", text, re.MULTILINE):
            assert target in targets, (page, target)
        for module in re.findall(r"python -m ((?:benchmarks|proof|fuzz|ctgrind|pacifica_fast)[\w.]*)", text):
            assert importlib.util.find_spec(module) is not None, (page, module)


def test_every_example_is_shown() -> None:
    shown = {block.included for block in blocks_of(DOCS / "examples.md")}
    assert shown == {f"examples/{path.name}" for path in (ROOT / "examples").glob("*.py")}


# What a page is to be complete in.


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def test_the_mock_exchange_page_names_every_fault() -> None:
    for_the_exchange = {"before", "rejection", "action_fails", "reply", "handshake", "random"}
    for_the_exchange |= {"subscription_ignored", "update_lost"}
    for field in dataclasses.fields(Weather):
        assert f"`{field.name}`" in page("mock-exchange.md"), field.name
    for name, _ in inspect.getmembers(Faults, inspect.isfunction):
        if not name.startswith("_") and name not in for_the_exchange:
            assert f"`{name}(" in page("mock-exchange.md"), name


def test_the_page_of_fates_names_the_truths_and_the_settings() -> None:
    for truth in Truth:
        assert f"`{truth.name}`" in page("fates.md")
    pages = page("fates.md") + page("speed.md") + page("observability.md")
    for setting in Settings.__annotations__:
        assert setting in pages or setting in ("timeout", "open_timeout", "max_size"), setting


def test_the_observability_page_names_everything() -> None:
    for field in dataclasses.fields(Status):
        assert f"`{field.name}`" in page("observability.md")
    for state in LINK_STATES:
        assert f"`{state}`" in page("observability.md")
    for family in text_string_to_metric_families(exposition(Bot()).decode()):
        name = family.name.removeprefix("pacifica_fast_")
        assert re.search(rf"`{name}(_total)?[`{{]", page("observability.md")), name


# Pictures and links.


class Seen(HTMLParser):
    """The links of a built page that lead to the site itself, and what may be linked to."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.names: set[str] = set()

    @classmethod
    def of(cls, page: Path) -> Seen:
        """Read one."""
        seen = cls()
        seen.feed(page.read_text(encoding="utf-8"))
        return seen

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """A tag."""
        its = dict(attributes)
        self.names.update(name for name in (its.get("id"), its.get("name")) if name)
        link = its.get("href") if tag in ("a", "link") else its.get("src")
        if link and not re.match(r"[a-z]+:", link):
            self.links.append(link)


def test_the_pictures_of_states_are_as_drawn() -> None:
    sys.path.insert(0, str(DOCS))
    try:
        diagrams = importlib.import_module("diagrams")
    finally:
        sys.path.remove(str(DOCS))
    for name, diagram in (("fates", diagrams.fates()), ("connection", diagrams.connection())):
        drawn = (DOCS / "assets" / f"{name}.svg").read_text(encoding="utf-8")
        assert drawn == diagram.svg(), "python docs/diagrams.py"


def test_pictures_are_small() -> None:
    for picture in (DOCS / "assets").iterdir():
        assert picture.stat().st_size < 150_000


def test_links_of_the_repository_lead_somewhere() -> None:
    link = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")
    for place in PAGES:
        for target, _ in link.findall(
            re.sub(r"```.*?^```$", "", place.read_text(encoding="utf-8"), flags=re.S | re.M)
        ):
            if "://" not in target:
                assert (place.parent / target).resolve().exists(), (place, target)


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings_handlers.python")
    site = tmp_path / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    built_pages = {built: Seen.of(built) for built in site.rglob("*.html") if built.name != "404.html"}
    assert all(len(seen.links) > 20 for built, seen in built_pages.items() if built.name != "report.html")
    for built, seen in built_pages.items():
        for link in seen.links:
            target, _, anchor = unquote(link).partition("#")
            where = (built.parent / target).resolve() if target else built
            assert where.is_file(), (built, link)
            assert not anchor or where not in built_pages or anchor in built_pages[where].names, (built, link)
        html = built.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|iframe|source)[^>]*\bsrc="?([^">\s]+)', html)
        loaded += re.findall(
            r'<link[^>]*\brel="?(?:stylesheet|icon|preload|preconnect)[^>]*\bhref="?([^">\s]+)', html
        )
        assert not [url for url in loaded if "://" in url or url.startswith("//")], built
