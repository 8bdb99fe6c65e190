# SPDX-License-Identifier: MIT
"""Other people's Pacifica clients, signing with our C core.

One module each, with ``accelerate`` and ``restore``: :mod:`~pacifica_fast.integrations.ccxt`,
:mod:`~pacifica_fast.integrations.hummingbot`, :mod:`~pacifica_fast.integrations.pacifica_sdk` and
:mod:`~pacifica_fast.integrations.pacifica_python_sdk`. For the official SDK it takes none of them:
:mod:`pacifica_fast.sdk`.

Each first looks whether the package is as we know it, and has it sign something to compare with.
If not, it raises :class:`Unsupported`, and nothing was changed. Nothing here imports the other
package until it is asked to.
"""

from __future__ import annotations

from pacifica_fast.errors import PacificaError

__all__ = ["Unsupported"]


class Unsupported(PacificaError, TypeError):
    """The other package, or the object, is not as we know it; it was left as it was."""
