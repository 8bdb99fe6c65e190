# SPDX-License-Identifier: MIT
"""Faults put into copies of the code, one at a time: do the tests see each of them?

``python -m mutants.run`` changes one place of ``csrc/`` or of the Python modules that hold keys, make
requests or decide fates, and runs the tests that should fail. What no test sees either becomes a test, or
stands in ``survivors.toml`` with the reason why nothing can see it.
"""
