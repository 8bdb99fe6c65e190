# SPDX-License-Identifier: MIT
"""Subinterpreters are refused before cffi is loaded; the main interpreter does not notice."""

from __future__ import annotations

import sys
import sysconfig
from types import SimpleNamespace

import pytest
from proof.races import SUBINTERPRETERS, run_python

from pacifica_fast import _interpreter


def test_subinterpreters_are_refused() -> None:
    """With a GIL of their own and without, while the main interpreter signs."""
    assert run_python("-c", SUBINTERPRETERS, "6", seconds=60) == (0, "", "")


@pytest.mark.parametrize("name", _interpreter._MODULES)
def test_the_refusal_says_what_to_do(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for other in _interpreter._MODULES:
        monkeypatch.setitem(sys.modules, other, None)
    here = SimpleNamespace(get_current=lambda: 1, get_main=lambda: 0)
    monkeypatch.setitem(sys.modules, name, here)
    with pytest.raises(ImportError, match="use threads or processes"):
        _interpreter.refuse_subinterpreters()
    here.get_current = here.get_main
    _interpreter.refuse_subinterpreters()


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="CPython has its GIL here")
def test_a_free_threaded_python_enables_the_gil() -> None:
    code, output, errors = run_python(
        "-c", "import pacifica_fast, sys; print(sys._is_gil_enabled())", seconds=60
    )
    assert (code, output.strip()) == (0, "True")
    assert "has been enabled to load module" in errors


def test_where_nothing_can_tell_it_is_the_main_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _interpreter._MODULES:
        monkeypatch.setitem(sys.modules, name, None)
    _interpreter.refuse_subinterpreters()
