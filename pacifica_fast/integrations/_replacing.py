# SPDX-License-Identifier: MIT
"""A function of another package, replaced wherever that package uses it, and put back."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Sequence
from importlib import import_module, metadata
from types import FunctionType, ModuleType
from typing import Any, NoReturn

from pacifica_fast.integrations import Unsupported
from pacifica_fast.integrations._signing import is_of_its_module

__all__ = ["Replacement"]

Function = Callable[..., Any]

_lock = threading.Lock()


class Replacement:
    """One function, under the same ``name`` in each of the ``modules``, and what replaces it.

    ``distribution`` is what errors call the package. The function must be one and the same in all
    of the modules, have the ``parameters`` named, and do on trial what its replacement does:
    ``make`` makes that from the original, ``trial`` calls either and returns something to compare.
    """

    def __init__(
        self,
        distribution: str,
        modules: Sequence[str],
        name: str,
        parameters: Sequence[str],
        make: Callable[[Function], Function],
        trial: Callable[[Function], Any],
    ) -> None:
        self._distribution = distribution
        self._modules = modules
        self._name = name
        self._parameters = list(parameters)
        self._make = make
        self._trial = trial
        self._original: Function | None = None
        self._ours: Function | None = None

    def install(self) -> None:
        """Replace it; nothing happens if it is replaced. Raises :class:`Unsupported`, or ``ImportError``."""
        with _lock:
            places = [import_module(module) for module in self._modules]
            found = [getattr(place, self._name, None) for place in places]
            if self._ours is not None and all(function is self._ours for function in found):
                return
            original = found[0]
            if not inspect.isfunction(original) or any(function is not original for function in found):
                self._refuse(f"{self._name} is not one function in {', '.join(self._modules)}")
            if original.__module__ not in self._modules:
                self._refuse(f"{self._name} was replaced by {original.__module__}")
            for name, function in _reached(self._name, original).items():
                if not _is_of_package(function, original.__module__):
                    self._refuse(f"{name} is not the package's own")
            if list(inspect.signature(original).parameters) != self._parameters:
                self._refuse(f"{self._name} takes other arguments")
            try:
                ours = self._make(original)
                theirs = self._trial(original)
            except Exception as error:
                self._refuse(f"{self._name} cannot be tried ({type(error).__name__})", error)
            if self._trial(ours) != theirs:
                self._refuse(f"{self._name} signs something else")
            self._original, self._ours = original, ours
            self._set(places, ours)

    def remove(self) -> None:
        """Put the original back; nothing happens if it is there. Raises :class:`Unsupported`."""
        with _lock:
            if self._ours is None:
                return
            places = [import_module(module) for module in self._modules]
            for place in places:
                if getattr(place, self._name, None) is not self._ours:
                    self._refuse(f"{place.__name__}.{self._name} was replaced since")
            self._set(places, self._original)
            self._original = self._ours = None

    def _set(self, places: list[ModuleType], function: Function | None) -> None:
        for place in places:
            setattr(place, self._name, function)

    def _refuse(self, reason: str, cause: Exception | None = None) -> NoReturn:
        try:
            version = metadata.version(self._distribution)
        except metadata.PackageNotFoundError:  # run from a checkout
            version = "?"
        raise Unsupported(f"{self._distribution} {version}: {reason}") from cause


def _reached(name: str, function: Any) -> dict[str, FunctionType]:
    """A function and those of its module that it calls, and so on: none of them will be asked any more.

    Somebody may have put one of his own there that refuses withdrawals, say, and it must go on to.
    """
    out: dict[str, FunctionType] = {}
    left = [(name, function)]
    while left:
        name, function = left.pop()
        if isinstance(function, FunctionType) and name not in out:
            out[name] = function
            left += [(name, function.__globals__.get(name)) for name in function.__code__.co_names]
    return out


def _is_of_package(function: FunctionType, module: str) -> bool:
    return is_of_its_module(function) and function.__module__.partition(".")[0] == module.partition(".")[0]
