# SPDX-License-Identifier: MIT
"""What all integrations have in common: what importing them costs, and exact bytes; and their benchmark."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from nacl.signing import SigningKey
from peer import peer

from pacifica_fast import KeyClosed, Keypair, Signer, b58encode
from pacifica_fast.integrations._signing import TRIAL_KEY, sign_exactly, trial_keypair

SEED = bytes(range(1, 33))
KEY = SigningKey(SEED)
MESSAGES = [
    b'{"data":{},"expiry_window":5000,"timestamp":1,"type":"x"}',
    b'{"type":"x","data":{"b":1,"a":2}}',  # not sorted
    '{"text":"é\x7f"}'.encode(),
    b'{"float":1e-05}',
    b"no JSON at all",
    b"",
    json.dumps({"long": "x" * 40_000}, separators=(",", ":")).encode(),
]


@pytest.mark.parametrize("name", ["ccxt", "hummingbot", "pacifica_sdk", "pacifica_python_sdk"])
def test_importing_an_integration_imports_nobody_elses_package(name: str) -> None:
    code = f"import sys; import pacifica_fast.integrations.{name}; print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    loaded = {module.partition(".")[0] for module in output.split()}
    assert loaded.isdisjoint(
        {"ccxt", "hummingbot", "pacifica", "pacifica_sdk", "solders", "aiohttp", "httpx"}
    )


def test_a_package_that_is_not_there_is_an_import_error() -> None:
    code = """
import sys
sys.modules["pacifica"] = None
from pacifica_fast.integrations import pacifica_python_sdk
try:
    pacifica_python_sdk.accelerate()
except ImportError:
    pacifica_python_sdk.restore()
    print("import error")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "import error\n"


def solders_keypair() -> Any:
    return peer("solders.keypair").Keypair.from_seed(SEED)


@pytest.mark.parametrize("make", [lambda: Keypair.from_seed(SEED), solders_keypair], ids=["ours", "solders"])
@pytest.mark.parametrize("message", MESSAGES, ids=range(len(MESSAGES)))
def test_exactly_these_bytes_are_signed(make: Callable[[], Any], message: bytes) -> None:
    assert sign_exactly(message, make()) == b58encode(bytes(KEY.sign(message).signature))


def test_a_subclass_that_signs_in_its_own_way_is_asked() -> None:
    class Mine(Keypair):
        def sign_message(self, message: bytes) -> bytes:
            return bytes(64)

    assert sign_exactly(MESSAGES[0], Mine.from_seed(SEED)) == "1" * 64


def test_a_closed_key_signs_nothing() -> None:
    keypair = Keypair.from_seed(SEED)
    keypair.close()
    with pytest.raises(KeyClosed):
        sign_exactly(MESSAGES[0], keypair)


def test_the_key_on_trial_is_that_of_the_rfc() -> None:
    with trial_keypair() as keypair, Keypair.from_base58_string(TRIAL_KEY) as same:
        signature = keypair.sign_message(b"")  # RFC 8032, section 7.1, TEST 1
        assert signature.hex().startswith("e5564300c360ac729086e2cc806e828a")
        assert signature == same.sign_message(b"")


@pytest.mark.parametrize("data", [{}, {"timestamp": 5, "x": '"timestamp":7,'}])
def test_a_signature_tells_its_time(data: dict[str, Any]) -> None:
    signer = Signer(Keypair.from_seed(SEED))
    for signed in (signer.sign("x", data), signer.sign("x", data, timestamp=9, expiry_window=8)):
        fields = json.loads(signed.message)
        assert (signed.timestamp, signed.expiry_window) == (fields["timestamp"], fields["expiry_window"])


def test_the_benchmark_measures_who_is_here(capsys: pytest.CaptureFixture[str]) -> None:
    peer("ccxt")
    benchmark = peer("benchmarks.integrations")
    assert benchmark.main(["--rounds", "2"]) == 0
    title, *rows = capsys.readouterr().out.splitlines()
    assert title.split()[-4:] == ["after", "µs", "ratio", "(quartiles)"]
    assert {row[:21].strip() for row in rows} >= {
        "official SDK, pacific",
        "ccxt",
        "ccxt, prepared",
        "pacifica-sdk",
    }

    wrong = benchmark.Way(lambda: "signature", lambda output: False)
    with pytest.raises(ValueError, match="this one: the signature does not verify"):
        next(benchmark.measure("this one", wrong, wrong))
