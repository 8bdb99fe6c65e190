# SPDX-License-Identifier: MIT
"""Secrets in the memory of a process, as another process sees it: ``tests/test_memory.py``."""
