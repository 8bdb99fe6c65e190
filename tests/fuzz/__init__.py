# SPDX-License-Identifier: MIT
"""Fuzzing: the C targets of ``csrc/fuzz`` and the Python targets here; ``make fuzz SECONDS=60``."""
