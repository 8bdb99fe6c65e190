# SPDX-License-Identifier: MIT
"""That no branch and no index depends on a secret: ``csrc/tests/ctgrind.c``, under valgrind."""
