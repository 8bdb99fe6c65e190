# SPDX-License-Identifier: MIT
"""Stands in for Cython while pip asks hummingbot's setup.py for its name: see the Makefile.

That file would compile a hundred modules first, and what is tested of hummingbot needs none of them.
"""
