# SPDX-License-Identifier: MIT
"""No test fails because a machine is slow, or stood still: Hypothesis has a deadline of 200 ms by default."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
