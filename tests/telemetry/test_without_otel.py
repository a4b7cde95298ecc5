"""Without OpenTelemetry, or without a provider, the library does not use it."""

from __future__ import annotations

import subprocess
import sys

import pytest

CALL = """
import sys
from llmengine import EngineConfig
engine = EngineConfig(backend="mock", model="mock").engine
engine.generate("a"); list(engine.stream("b"))
"""
ABSENT = "import sys; sys.modules['opentelemetry'] = None\n"


def run(code: str) -> str:
    """What a new process prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_not_imported() -> None:
    """Calls on this machine import neither OpenTelemetry nor a price list, installed or not."""
    optional = "('opentelemetry', 'genai_prices')"

    assert run(f"{CALL}print([m for m in sys.modules if m.startswith({optional})])") == "[]\n"


def test_it_may_be_missing() -> None:
    """Calls work if the package does not exist."""
    assert run(ABSENT + CALL + "print('done')") == "done\n"


def test_imported_but_not_set_up() -> None:
    """An OpenTelemetry without providers makes no spans."""
    pytest.importorskip("opentelemetry")
    check = """
import opentelemetry.trace
from llmengine.engine.call import tracing_of
print(tracing_of(engine.name, engine.model, "mock", engine.base_url))
"""
    assert run(CALL + check) == "None\n"
