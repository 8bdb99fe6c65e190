# SPDX-License-Identifier: MIT
"""Run the examples of a checkout of the official SDK against the mock exchange, with one line changed.

    python tests/sdk_examples.py PATH_TO_SDK_CHECKOUT [--without-solders]

In a copy of the checkout, ``from common.utils import sign_message`` becomes
``from pacifica_fast.sdk import sign_message``. ``--without-solders`` changes the import of its ``Keypair``
to ours as well, and ``Keypair()`` to ``Keypair.generate()``, and lets solders not be imported;
``--unchanged`` changes nothing. The rest is what any user of the examples sets: their keys, and the
addresses in ``common/constants.py``. Each example runs as a program of its own, beside an exchange of its
own on which the order that they cancel, 42069, rests. The exit status is 0 if all that they sent was
accepted, 1 if something was not, 2 if that is no checkout.

The six trading operations are the mock exchange's. Of the others the signature is verified, over the
message rebuilt from what arrived, and nothing is done.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from pacifica_fast.mock_exchange import MockExchange
from pacifica_fast.mock_rest import OPERATIONS, MockRest
from pacifica_fast.reference import b58decode, b58encode, prepare_message

__all__ = ["Outcome", "run_examples"]

ROOT = Path(__file__).parents[1]
PATIENCE = 120  # s
ORDER_ID = 42069  # what the examples cancel
SIGN_MESSAGE = ("from common.utils import sign_message", "from pacifica_fast.sdk import sign_message")
KEYPAIR = ("from solders.keypair import Keypair", "from pacifica_fast import Keypair")
# REST paths of what the mock exchange does not trade, and what it is signed as (docs.pacifica.fi).
OTHERS = {
    "/account/leverage": "update_leverage",
    "/account/margin": "update_margin_mode",
    "/account/withdraw": "withdraw",
    "/account/subaccount/transfer": "transfer_funds",
    "/account/api_keys": "list_api_keys",
    "/agent/bind": "bind_agent_wallet",
    "/lake/create": "create_lake",
    "/orders/stop/create": "create_stop_order",
    "/orders/stop/cancel": "cancel_stop_order",
    "/orders/twap/cancel": "cancel_twap_order",
    "/orders/twap/create": "create_twap_order",
    "/positions/tpsl": "set_position_tpsl",
}
_SIGNED_BY = ("account", "signature", "timestamp", "expiry_window")


def pair(seed: bytes) -> tuple[str, str]:
    """Private and public key, base58."""
    public = bytes(SigningKey(seed).verify_key)
    return b58encode(seed + public), b58encode(public)


PRIVATE, ACCOUNT = pair(bytes(range(1, 33)))
AGENT_PRIVATE, AGENT = pair(bytes(range(2, 34)))


@dataclass(frozen=True)
class Outcome:
    """What became of one example: the operations it sent, with their codes, or what it failed with."""

    name: str
    answers: list[tuple[str | None, int | None]]
    error: str = ""

    @property
    def accepted(self) -> bool:
        """Whether it sent something, and all of it was accepted."""
        return not self.error and bool(self.answers) and all(code == 200 for _, code in self.answers)


class Witness(MockRest):
    """Verifies what the mock exchange does not trade, and says yes."""

    def __init__(self, exchange: MockExchange) -> None:
        super().__init__(exchange)
        self.answers: list[tuple[str | None, int | None]] = []

    def post(self, path: str, text: str, owner: str) -> tuple[int, dict[str, Any]]:
        if path in OPERATIONS:
            return super().post(path, text, owner)
        operation, fields = OTHERS.get(path), json.loads(text)
        right = operation is not None and verifies(operation, fields)
        if right and operation == "bind_agent_wallet":
            self.exchange.bind_agent(fields["account"], fields["agent_wallet"])
        self.answers.append((operation or path, 200 if right else 400))
        return (200 if right else 400), {"success": right, "data": None, "error": None, "code": None}


def verifies(operation: str, fields: Mapping[str, Any]) -> bool:
    """Whether the account signed it; none of these is signed by an agent."""
    header = {"type": operation, **{name: fields[name] for name in ("timestamp", "expiry_window")}}
    payload = {name: value for name, value in fields.items() if name not in _SIGNED_BY and value is not None}
    try:
        message = prepare_message(header, payload).encode()
        VerifyKey(b58decode(fields["account"])).verify(message, b58decode(fields["signature"]))
    except (BadSignatureError, ValueError):
        return False
    return True


def examples(checkout: Path) -> Iterator[str]:
    """The programs that sign: module names."""
    for path in sorted(checkout.glob("*/*.py")):
        if SIGN_MESSAGE[0] in path.read_text():
            yield f"{path.parent.name}.{path.stem}"


def run_examples(checkout: Path, *, solders: bool = True, changed: bool = True) -> Iterator[Outcome]:
    """Run each; without ``changed``, with the SDK's own signer."""
    for name in examples(checkout):
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "sdk"
            shutil.copytree(checkout, copy)
            changes = ([SIGN_MESSAGE] if changed else []) + ([] if solders else [KEYPAIR])
            yield run_example(copy, name, changes)


def run_example(copy: Path, name: str, changes: list[tuple[str, str]]) -> Outcome:
    program = copy / f"{name.replace('.', '/')}.py"
    text = program.read_text()
    for old, new in changes:
        if text.count(f"{old}\n") != 1:
            return Outcome(name, [], f"has not one line {old!r}")
        text = text.replace(f"{old}\n", f"{new}\n")
    if KEYPAIR in changes:
        text = text.replace("Keypair()", "Keypair.generate()")
    variables = dict.fromkeys(re.findall(r"(?:getenv|load_\w+_key)\(\"(\w+)\"", text))
    text = re.sub(
        r'^(\w*KEY) = ""', lambda match: f"{match[1]} = {value_of(match[1])!r}", text, flags=re.MULTILINE
    )
    program.write_text(text)
    environment = {**os.environ, **{variable: value_of(variable) for variable in variables}}
    environment["PYTHONPATH"] = str(ROOT)
    if KEYPAIR in changes:
        (copy / "solders.py").write_text('raise ImportError("solders is not to be used")\n')

    exchange = MockExchange(quota=None)
    exchange._book._order_ids = itertools.count(ORDER_ID)
    with exchange.in_thread(), Witness(exchange) as rest:
        assert exchange.place(ACCOUNT, symbol="BTC").order_id == ORDER_ID
        exchange.bind_agent(ACCOUNT, AGENT)
        set_addresses(copy / "common" / "constants.py", rest.url, exchange.url)
        done = subprocess.run(
            [sys.executable, "-m", name],
            cwd=copy,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        traded = [(received.operation, received.code) for received in exchange.requests]
    error = done.stderr.strip().splitlines()[-1] if done.returncode else ""
    return Outcome(name, rest.answers + traded, error)


def value_of(variable: str) -> str:
    """A key for a variable of that name."""
    if "PUBLIC" in variable:
        return AGENT
    return AGENT_PRIVATE if "API" in variable or "AGENT" in variable or "SUB" in variable else PRIVATE


def set_addresses(constants: Path, rest: str, ws: str) -> None:
    text = constants.read_text()
    text = re.sub(r"^REST_URL = .*$", f"REST_URL = {rest!r}", text, flags=re.MULTILINE)
    constants.write_text(re.sub(r"^WS_URL = .*$", f"WS_URL = {ws!r}", text, flags=re.MULTILINE))


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the SDK's examples against the mock exchange.")
    parser.add_argument("checkout", type=Path, help="directory that has common/utils.py")
    parser.add_argument("--without-solders", action="store_true", help="with our Keypair, and no solders")
    parser.add_argument("--unchanged", action="store_true", help="with the SDK's own sign_message")
    options = parser.parse_args()
    if not (options.checkout / "common" / "utils.py").is_file():
        print(f"{options.checkout}: no checkout of the SDK: it has no common/utils.py", file=sys.stderr)
        return 2
    accepted = total = 0
    for outcome in run_examples(
        options.checkout, solders=not options.without_solders, changed=not options.unchanged
    ):
        total += 1
        accepted += outcome.accepted
        answers = ", ".join(f"{operation} {code}" for operation, code in outcome.answers)
        print(
            f"{'accepted' if outcome.accepted else 'FAILED':9} {outcome.name:40} {outcome.error or answers}"
        )
    print(f"{accepted} of {total} examples accepted")
    return 0 if total and accepted == total else 1


if __name__ == "__main__":
    sys.exit(main())
