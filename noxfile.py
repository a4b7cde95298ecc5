"""Environments of their own, for what cannot share one: the generations of DSPy.

Each session installs this project and one DSPy, and runs what drives that DSPy for real.
"""

from __future__ import annotations

from pathlib import Path

import nox

nox.options.sessions = ["dspy-2.4.9", "dspy-3.1.2", "dspy-latest"]

# Later releases of litellm need other pins, and pip walks back through dozens of wheels to them.
LITELLM = ("litellm==1.106.2", "openai==2.54.0")
TESTS = ("anyio>=4.4", "pytest>=8", "pytest-xdist>=3.6")


@nox.session(name="dspy-2.4.9")
def dspy_legacy(session: nox.Session) -> None:
    """DSPy before it was rewritten: its own classes for each provider, openai 1.x."""
    _drive_dspy(session, "dspy-ai==2.4.9")


@nox.session(name="dspy-3.1.2")
def dspy_litellm(session: nox.Session) -> None:
    """DSPy over litellm; mcp is what litellm wants for native tool calls."""
    _drive_dspy(session, "dspy[optuna]==3.1.2", "mcp", *LITELLM)


@nox.session(name="dspy-latest")
def dspy_latest(session: nox.Session) -> None:
    """DSPy with engines of its own, and MLflow to see it by."""
    _drive_dspy(session, "dspy[optuna]==3.4.1", "numpy", "mlflow==3.17.2", *LITELLM)


def _drive_dspy(session: nox.Session, *requirements: str) -> None:
    # In one step, so that no later one replaces what DSPy needs.
    session.install(".[embedded]", *TESTS, *requirements)
    report = Path(".nox") / f"{session.name}.xml"  # for tools/dspy_table.py
    session.run(
        "pytest", "-n", "2", "tests/integrations/dspy", f"--junitxml={report}", *session.posargs
    )
