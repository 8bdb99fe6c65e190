# SPDX-License-Identifier: MIT
"""Errors cross process boundaries whole: bots send them to their supervisors."""

from __future__ import annotations

import pickle

import pytest

import pacifica_fast
from pacifica_fast import errors

EXAMPLES = [
    errors.PacificaError("text"),
    errors.InvalidRequest("symbol: expected str, got int"),
    errors.InvalidJSON("duplicate key", 7),
    errors.KeyClosed("the key is closed"),
    errors.Rejected(420, "Failed to cancel order", "id"),
    errors.SignatureRejected(401, "Invalid signature"),
    errors.RateLimited(429, "Out of credits", "id", 31.5),
    errors.OutcomeUnknown("no reply within 5 s", "id"),
    errors.NotSent("not connected"),
    errors.CreditsReserved(10.5, 10.0, 31.5),
    errors.ConnectionFailed("upgrade", "the exchange answered HTTP 429", 429),
    errors.WrongThread("wrong thread"),
]


def test_examples_are_all_there_and_public() -> None:
    assert {type(error).__name__ for error in EXAMPLES} == set(errors.__all__) <= set(pacifica_fast.__all__)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_pickle_keeps_everything(error: errors.PacificaError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (str(copy), copy.args, vars(copy)) == (str(error), error.args, vars(error))


@pytest.mark.parametrize(
    ("error", "base"),
    [
        (errors.InvalidRequest, ValueError),
        (errors.InvalidJSON, errors.InvalidRequest),
        (errors.KeyClosed, RuntimeError),
        (errors.RateLimited, errors.Rejected),
        (errors.SignatureRejected, errors.Rejected),
        (errors.WrongThread, RuntimeError),
    ],
)
def test_what_is_a_kind_of_what(error: type[Exception], base: type[Exception]) -> None:
    assert issubclass(error, base)
    assert issubclass(error, errors.PacificaError)
