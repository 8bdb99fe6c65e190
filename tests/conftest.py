# SPDX-License-Identifier: MIT
"""No test may fail because a machine is slow: hypothesis sets no deadlines, and does not complain."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
