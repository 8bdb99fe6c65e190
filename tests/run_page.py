# SPDX-License-Identifier: MIT
"""Runs the Python blocks of one page, in their order and in one namespace: ``python run_page.py PAGE``.

The testnet of a page is the mock exchange in this process, and orders 42069 to 42072 rest there before each
block. ``await`` is allowed at the top; what calls ``asyncio.run`` runs without a loop. Tracebacks name the
line of the page.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import chdir, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nacl.signing import SigningKey

import pacifica_fast.asyncio
import pacifica_fast.sync
from pacifica_fast import Keypair, Signer, b58encode
from pacifica_fast.asyncio import Client, connect
from pacifica_fast.endpoint import Endpoint
from pacifica_fast.mock_exchange import MockExchange
from pacifica_fast.sync import connect as connect_blocking

__all__ = ["NOT_RUN", "REDIS", "Block", "blocks_of"]

ROOT = Path(__file__).parent.parent
FIRST_ORDER = 42069
PATIENCE = 60.0  # s
NOT_RUN = "# Not run by the tests: "
REDIS = "rediss://user:password@redis.example:6379/0"  # of docs/fates.md

_BLOCK = re.compile(
    r'^```(?P<language>\w*)(?: title="(?P<title>[^"]*)")?\n(?P<code>.*?)^```$', re.DOTALL | re.MULTILINE
)
_INCLUDE = re.compile(r"--8<--\n(?P<path>\S+)\n--8<--\n")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; ``line`` is that of its first line."""

    page: Path
    line: int
    language: str
    title: str
    code: str

    @property
    def runs(self) -> bool:
        """Unless it says why not."""
        return not self.code.startswith(NOT_RUN)

    @property
    def included(self) -> str | None:
        """The file of the repository that it shows, if it shows one."""
        match = _INCLUDE.fullmatch(self.code)
        return match["path"] if match else None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """All there are; none is overlooked."""
    text = page.read_text(encoding="utf-8")
    blocks = [
        Block(
            page,
            text.count("\n", 0, match.start()) + 2,
            match["language"],
            match["title"] or "",
            match["code"],
        )
        for match in _BLOCK.finditer(text)
    ]
    if text.count("```") != 2 * len(blocks):
        raise ValueError(f"{page}: a block that cannot be read")
    return blocks


class Page:
    """The namespace of a page, and what runs its blocks."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self._runner = runner

    def run(
        self,
        block: Block,
        restock: Callable[[], None],
        given: Callable[[], Awaitable[dict[str, Any]]],
    ) -> None:
        """One block; the orders, and what is given, are there anew."""
        code = compile(
            ast.increment_lineno(ast.parse(block.code.replace(REDIS, redis_url())), block.line - 1),
            str(block.page),
            "exec",
            flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
        )

        async def before() -> None:
            for client in [it for it in self.names.values() if isinstance(it, Client)]:
                while client.status().in_flight:
                    await asyncio.sleep(0.01)
            restock()
            self.names.update(await given())

        async def inside() -> None:
            value = eval(code, self.names)  # a coroutine if it awaits at the top
            if inspect.iscoroutine(value):
                await value

        self._runner.run(before())
        if "asyncio.run(" in block.code:
            exec(code, self.names)
        else:
            self._runner.run(inside())


def restock(exchange: MockExchange, account: str) -> None:
    """Orders with the numbers of the pages rest, and no others do."""

    def at_once() -> None:  # cancels of the block before may still come in
        for order in exchange.orders(account):
            exchange.fill(account, order.order_id)
        exchange._book._order_ids = itertools.count(FIRST_ORDER)
        for _ in range(4):
            exchange.place(account, symbol="BTC")

    exchange._on_loop(at_once)


_redis: list[str] = []


def redis_url() -> str:
    """Of a Redis that :func:`redis` has started."""
    return _redis[0] if _redis else REDIS


@contextmanager
def redis(wanted: bool) -> Iterator[None]:
    """A real one, if a page is about it."""
    if not wanted:
        yield
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = shutil.which("redis-server") or "redis-server"
    options = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
    with subprocess.Popen([command, *options], stdout=subprocess.DEVNULL) as process:
        try:
            _redis.append(f"redis://127.0.0.1:{port}/0")
            for _ in range(3000):
                with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
            yield
        finally:
            process.kill()


async def nothing() -> dict[str, Any]:
    """Most pages bring everything themselves."""
    return {}


def givers(exchange: MockExchange, keypair: Keypair) -> dict[str, Callable[[], Awaitable[dict[str, Any]]]]:
    """What older pages suppose to be there: clients that are connected, above all."""
    kept: dict[str, Any] = {}

    async def client() -> Any:
        if "client" not in kept:
            kept["client"] = await connect(Signer(keypair), url=exchange.url)
        return kept["client"]

    async def readme() -> dict[str, Any]:
        it = await client()
        others = {name: it.arm("BTC", order_id=FIRST_ORDER + n) for n, name in ((1, "another"), (2, "third"))}
        return {"keypair": keypair, "client": it, **others}

    async def fates() -> dict[str, Any]:
        it = await client()
        gone = it.cancel_order_nowait("BTC", order_id=1)
        given = {"client": it, "pending": gone, "signer": it.signer, "url": exchange.url, "ssl": None}
        return {**given, "connect": connect}

    async def observability() -> dict[str, Any]:
        if "blocking" not in kept:
            kept["blocking"] = connect_blocking(Signer(keypair), url=exchange.url, latency=True)
        return {"client": kept["blocking"]}

    return {"README.md": readme, "fates.md": fates, "observability.md": observability}


def change(function: Callable[..., object], **defaults: Any) -> None:
    """Have it default to something else."""
    inspect.unwrap(getattr(function, "__func__", function)).__kwdefaults__.update(defaults)


def main() -> None:
    """Run a page."""
    page = Path(sys.argv[1]).resolve()
    key = SigningKey.generate()
    secret = bytes(key) + bytes(key.verify_key)
    os.environ["PACIFICA_PRIVATE_KEY"] = b58encode(secret)
    blocks = [b for b in blocks_of(page) if b.language == "python" and b.runs and b.included is None]
    keypair = Keypair.from_env()
    with (
        tempfile.TemporaryDirectory() as folder,  # never the checkout: a key would be committed with it
        chdir(folder),
        MockExchange().in_thread() as exchange,
        redis(any(REDIS in block.code for block in blocks)),
        asyncio.Runner() as runner,
    ):
        Path("id.json").write_text(json.dumps(list(secret)))
        for module in (pacifica_fast.asyncio, pacifica_fast.sync):
            vars(module)["TESTNET_WS"] = exchange.url
        change(connect.__init__, url=exchange.url)
        change(connect_blocking, url=exchange.url)
        change(Endpoint.checked, timeout=PATIENCE)  # no page fails because a machine is slow
        given = givers(exchange, keypair).get(page.name, nothing)
        it = Page(runner)
        for block in blocks:
            it.run(block, partial(restock, exchange, keypair.pubkey()), given)
            print(f"ran {block}")


if __name__ == "__main__":
    main()
