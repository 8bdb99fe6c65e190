# SPDX-License-Identifier: MIT
"""The proof of prepared signing: ``make prove``. What each part shows is in ``docs/security.md``."""
