# SPDX-License-Identifier: MIT
"""No test fails because a machine is slow: hypothesis gives an example 200 ms, unless told not to."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
