# SPDX-License-Identifier: MIT
"""One Python target under atheris: ``python -m fuzz.under_atheris NAME [libFuzzer's options]``."""

from __future__ import annotations

import logging
import sys

import atheris

with atheris.instrument_imports(include=["pacifica_fast", "websockets"]):
    from fuzz.targets import TARGETS


def main() -> None:
    logging.disable(logging.CRITICAL)  # each odd reply is logged, rightly
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
