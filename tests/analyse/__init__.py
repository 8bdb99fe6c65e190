# SPDX-License-Identifier: MIT
"""Other people's tools look at the code: sanitizers, memcheck, analyzers, abstract interpretation."""
