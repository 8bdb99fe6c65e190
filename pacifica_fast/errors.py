# SPDX-License-Identifier: MIT
"""Every error this package raises on its own account.

A request ends in exactly one of: an acknowledgement, :class:`Rejected`,
:class:`OutcomeUnknown`, :class:`NotSent`.
"""

from __future__ import annotations

__all__ = [
    "ConnectionFailed",
    "CreditsReserved",
    "InvalidJSON",
    "InvalidRequest",
    "KeyClosed",
    "NotSent",
    "OutcomeUnknown",
    "PacificaError",
    "RateLimited",
    "Rejected",
    "SignatureRejected",
    "WrongThread",
]


class PacificaError(Exception):
    """Base of all errors of this package."""


class InvalidRequest(PacificaError, ValueError):
    """An argument is wrong; nothing was signed and nothing was sent.

    The text names the field and the type of the value, never a key.
    """


class InvalidJSON(InvalidRequest):
    """JSON text that has no canonical form.

    ``position`` counts characters of a ``str`` and bytes of a ``bytes``.
    """

    def __init__(self, reason: str, position: int) -> None:
        super().__init__(reason, position)
        self.reason = reason
        self.position = position

    def __str__(self) -> str:
        return f"{self.reason} at position {self.position}"


class KeyClosed(PacificaError, RuntimeError):
    """The key was wiped by ``close()``, or belongs to the process this one was forked from."""


class Rejected(PacificaError):
    """The exchange answered, and the answer is no.

    ``code`` is one of its websocket codes: 400 invalid request, 401 invalid signature,
    402 invalid signer, 403 unauthorized, 420 engine error (for a cancel: filled,
    cancelled or never there), 429 out of credits, 500 unknown error
    (docs.pacifica.fi, API error codes). ``message`` is its text.
    """

    def __init__(self, code: int, message: str, request_id: str | None = None) -> None:
        super().__init__(code, message, request_id)
        self.code = code
        self.message = message
        self.request_id = request_id

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class RateLimited(Rejected):
    """Code 429: out of credits. ``retry_after`` is in seconds, if the exchange said."""

    def __init__(
        self,
        code: int,
        message: str,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(code, message, request_id)
        self.args: tuple[int, str, str | None, float | None] = (code, message, request_id, retry_after)
        self.retry_after = retry_after


class SignatureRejected(Rejected):
    """Codes 401 and 402: the signature or the signer was not accepted."""


class _NoAnswer(PacificaError):
    """What the fates without a reply have in common: ``reason``, and the request's id if it had one."""

    def __init__(self, reason: str, request_id: str | None = None) -> None:
        super().__init__(reason, request_id)
        self.reason = reason
        self.request_id = request_id

    def __str__(self) -> str:
        return self.reason


class OutcomeUnknown(_NoAnswer):
    """The request may have reached the exchange; what became of it is not known.

    ``reason`` says why: no reply in time, or a connection lost after the write.
    """


class NotSent(_NoAnswer):
    """The request provably never left this process. ``reason`` says why."""


class CreditsReserved(NotSent):
    """Not sent: it would have used credits that are kept for cancels.

    ``remaining`` and ``reserve`` are in credits; ``wait`` is the time until more are expected, in s.
    """

    def __init__(self, remaining: float, reserve: float, wait: float) -> None:
        super().__init__(
            f"{remaining:g} credits are left, {reserve:g} of them are kept for cancels; more in {wait:.0f} s"
        )
        self.remaining = remaining
        self.reserve = reserve
        self.wait = wait

    def __reduce__(self) -> tuple[type[CreditsReserved], tuple[float, float, float]]:
        return CreditsReserved, (self.remaining, self.reserve, self.wait)


class ConnectionFailed(PacificaError):
    """No connection came about.

    ``stage`` says how far it got: ``dns``, ``connect`` (TCP), ``tls``, ``upgrade`` (HTTP;
    ``status`` is the exchange's status code, 429 for too many connections), ``timeout``
    (before it was open), or ``subscribe`` (order updates did not come, see ``track``).
    """

    def __init__(self, stage: str, reason: str, status: int | None = None) -> None:
        super().__init__(stage, reason, status)
        self.stage = stage
        self.reason = reason
        self.status = status

    def __str__(self) -> str:
        return f"{self.stage}: {self.reason}"


class WrongThread(PacificaError, RuntimeError):
    """The asyncio client was called from a thread other than its event loop's."""
