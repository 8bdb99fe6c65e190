# SPDX-License-Identifier: MIT
# What setup.py writes from csrc/pf_api.h and csrc/pf_gil.h where no C core is compiled.

from typing import Any

ffi: Any
