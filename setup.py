# SPDX-License-Identifier: MIT
"""Everything declarative is in pyproject.toml; this adds the C core."""

from setuptools import setup

setup(
    cffi_modules=["csrc/build_native.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
