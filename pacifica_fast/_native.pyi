# SPDX-License-Identifier: MIT
# What csrc/build_native.py compiles from csrc/pf_api.h and csrc/pf_gil.h; the headers document it.
# tests/test_native.py compares these names with the compiled module.

from typing import Any

ffi: Any
lib: Any
