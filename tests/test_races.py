# SPDX-License-Identifier: MIT
"""Each race for a moment; ``python -m proof.races`` runs them for longer."""

from __future__ import annotations

import json

import pytest
from proof.races import BEFORE, EXITS, run_python
from proof.racing import SCENARIOS

SECONDS = 0.5
PATIENCE = 60.0  # s


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_call_ends_well_or_is_refused(scenario: str) -> None:
    status, out, err = run_python("-m", "proof.racing", scenario, str(SECONDS), seconds=PATIENCE)
    assert (status, err) == (0, ""), out
    tally = json.loads(out)
    assert tally["rounds"] > 0
    assert tally["signed"] > 0
    assert tally["wrong"] == []


@pytest.mark.parametrize("program", EXITS.values(), ids=EXITS)
def test_the_interpreter_exits_at_once_and_in_silence(program: str) -> None:
    assert run_python("-c", BEFORE + program, seconds=PATIENCE) == (0, "", "")


def test_a_call_that_ends_in_any_other_way_is_noticed() -> None:
    sabotage = """
import sys
from proof import racing
racing.CALLS = (*racing.CALLS, lambda signer: 1 / 0)
racing.CALLS[-1].__name__ = "divide"
sys.argv[1:] = ["closing", "0.1"]
sys.exit(racing.main())
"""
    status, out, _ = run_python("-c", sabotage, seconds=PATIENCE)
    assert status == 1
    assert "divide: ZeroDivisionError" in json.loads(out)["wrong"][0]


def test_a_signature_of_other_memory_is_noticed() -> None:
    sabotage = """
import sys
from proof import racing
from pacifica_fast import Keypair, Signer, b58encode
own = Signer(Keypair.from_seed(bytes(32)))
foreign = (b"x", b58encode(own.keypair.sign_message(b"x")))
racing.CALLS = (lambda signer: [foreign] * (racing.sign(signer) != []),)
sys.argv[1:] = ["closing", "0.1"]
sys.exit(racing.main())
"""
    status, _, err = run_python("-c", sabotage, seconds=PATIENCE)
    assert status == 1
    assert "BadSignatureError" in err
