# SPDX-License-Identifier: MIT
"""Sessions for developers: ``nox -s tests lint``."""

from __future__ import annotations

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["tests", "lint"]


@nox.session(python=["3.11", "3.12", "3.13"])
def tests(session: nox.Session) -> None:
    """The Python tests on every supported version."""
    session.install("-e", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style, types, who imports whom, and the C core under both compilers."""
    session.install("-e", ".[lint]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("lint-imports", "--no-logo", "--no-cache")
    session.run(".ci/lint-c", external=True)


@nox.session
def bench(session: nox.Session) -> None:
    """The benchmarks."""
    session.install("-e", ".[bench]")
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session
def sanitize(session: nox.Session) -> None:
    """C and Python tests under ASan and UBSan."""
    session.install("-e", ".[test]")
    session.run("make", "-C", "csrc/tests", "SANITIZE=address,undefined", external=True)
    session.run(".ci/sanitize-python", session.virtualenv.location, external=True)


@nox.session
def build(session: nox.Session) -> None:
    """The wheel and the sdist, as in a release."""
    session.install("--require-hashes", "-r", "requirements/build.txt", "-r", "requirements/audit.txt")
    session.run(".ci/build-release", external=True)
