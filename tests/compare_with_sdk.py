# SPDX-License-Identifier: MIT
"""Compare ``reference`` and ``sdk`` with a checkout of the official SDK.

    python tests/compare_with_sdk.py PATH_TO_SDK_CHECKOUT [--cases N] [--seed S]

runs the SDK's own ``common/utils.py`` beside ours: on every input of
``vectors/sdk_conformance.json``, and on N random ones. A checkout from before 16 June 2025
(it has no ``prepare_message``) is compared with ``sdk_legacy`` instead, and with the reference
by signature. Needs solders and base58. The exit status is 0 if nothing differs, 1 if
something does, 2 if the checkout cannot be used.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

from conformance import CASES, Outcome, arguments, namespace, outcome

from pacifica_fast import reference, sdk, sdk_legacy
from pacifica_fast.keys import Keypair

Case = tuple[str, Callable[[], tuple[Any, Any, Any]]]
SHOWN = 10  # differences
ODD_VALUES = [1.0, -0.0, 1e16, 1e-5, float("nan"), float("inf"), Decimal(1), b"x", {1}, 2**64, -(2**80)]


def load_sdk(checkout: Path) -> ModuleType:
    """The SDK's ``common/utils.py`` as a module. It imports json, base58 and subprocess."""
    spec = importlib.util.spec_from_file_location("official_sdk_utils", checkout / "common" / "utils.py")
    if spec is None or spec.loader is None:
        raise ImportError("not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def recorded_cases(names: dict[str, Any]) -> Iterator[Case]:
    for case in CASES:
        yield case["name"], lambda case=case: arguments(case, names)  # type: ignore[misc]


def random_cases(names: dict[str, Any], count: int, seed: int) -> Iterator[Case]:
    kinds = [names["kp"], Keypair.from_seed(bytes(range(32))), names["BytesKP"](), names["RaiseKP"]()]
    for number in range(count):
        header, payload = random_input(random.Random(f"{seed} {number}"))
        keypair = kinds[number % len(kinds)]
        yield f"random {number} of seed {seed}", lambda h=header, p=payload, k=keypair: (h, p, k)  # type: ignore[misc]


def random_input(rng: random.Random) -> tuple[Any, Any]:
    odd = rng.random() < 0.5
    header: Any = {
        "type": text(rng),
        "timestamp": rng.randrange(2**42),
        "expiry_window": rng.randrange(10**6),
    }
    if rng.random() < 0.2:
        header[rng.choice(["data", "extra", text(rng)])] = value(rng, 2, odd)
    if rng.random() < 0.1:
        header.pop(rng.choice(list(header)))
    if rng.random() < 0.1:
        header = OrderedDict(header)
    return header, value(rng, rng.randrange(5), odd)


def text(rng: random.Random) -> str:
    ranges = [(0x20, 0x7E), (0x61, 0x7A), (0x00, 0x20), (0x7F, 0x2FF), (0xD800, 0xDFFF), (0xE000, 0x10FFFF)]
    low, high = rng.choices(ranges, [4, 12, 1, 1, 0.2, 1])[0]
    return "".join(chr(rng.randint(low, high)) for _ in range(rng.randrange(12)))


def value(rng: random.Random, depth: int, odd: bool) -> Any:
    if depth and rng.random() < 0.7:
        items = [value(rng, depth - 1, odd) for _ in range(rng.randrange(6))]
        if rng.random() < 0.3:
            return items
        if odd and rng.random() < 0.15:
            return tuple(items)
        return {key(rng, odd): item for item in items}
    if odd and rng.random() < 0.2:
        return rng.choice(ODD_VALUES)
    numbers = [rng.randrange(-(2**63), 2**64), rng.randrange(100)]
    return rng.choice([None, True, False, *numbers, text(rng), text(rng)])


def key(rng: random.Random, odd: bool) -> Any:
    return rng.choice([1, 2, None, True, 1.5, (1,), text(rng)]) if odd and rng.random() < 0.1 else text(rng)


def by_signature(got: Outcome) -> Outcome:
    return got if got.exception else Outcome(got.result[1])


def comparisons(official: ModuleType) -> list[tuple[str, Callable[..., Any], Callable[[Outcome], Any]]]:
    """Name, function of ours, and what of the two outcomes has to be equal."""
    if hasattr(official, "prepare_message"):
        return [
            ("reference", reference.sign_message, lambda got: got),
            ("sdk", sdk.sign_message, lambda got: got),
        ]
    return [
        ("sdk_legacy", sdk_legacy.sign_message, repr),  # repr: order counts, and NaN is not NaN
        ("reference", reference.sign_message, by_signature),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare ours with a checkout of the official SDK.")
    parser.add_argument("checkout", type=Path, help="directory that has common/utils.py")
    parser.add_argument("--cases", type=int, default=10_000, help="random inputs (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the random inputs (%(default)s)")
    options = parser.parse_args()
    warnings.simplefilter("ignore", RuntimeWarning)  # a coroutine that nobody awaits
    try:
        official = load_sdk(options.checkout)
    except (ImportError, OSError) as error:
        print(f"{options.checkout}: not usable as a checkout of the SDK: {error}", file=sys.stderr)
        return 2
    names = namespace()
    differences = compared = 0
    for cases in (recorded_cases(names), random_cases(names, options.cases, options.seed)):
        for name, make in cases:
            compared += 1
            wanted = outcome(official.sign_message, *make())
            for ours, function, view in comparisons(official):
                got = outcome(function, *make())
                if view(got) != view(wanted):
                    differences += 1
                    if differences <= SHOWN:
                        print(f"{name}: {ours} differs\n  SDK:  {wanted!r:.300}\n  ours: {got!r:.300}")
    print(f"{compared} inputs compared with {options.checkout}, {differences} differences")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
