"""The example of the openai backend runs as it stands in the repository."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmengine.mock import MockServer, Script

pytest.importorskip("openai")

EXAMPLE = Path(__file__).parents[2] / "examples" / "openai_structured.py"
RECIPE = '{"title": "Soup", "difficulty": "hard", "ingredients": [], "tip": null}'


def _run(**variables: str) -> str:
    kept = {name: v for name, v in os.environ.items() if not name.startswith("OPENAI_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLE],
        env=kept | {"PYTHONPATH": os.pathsep.join(sys.path)} | variables,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_a_key_the_mock_answers_and_it_says_so() -> None:
    """Anyone can run it."""
    said = _run()

    assert said.startswith("mock: no OPENAI_API_KEY is set")
    assert "Pancakes (easy)\n    250 g flour\n" in said
    assert "asked by json_schema" in said


def test_with_a_key_it_asks_the_address_of_the_environment() -> None:
    """It asks a server that wants the key."""
    script = Script(replies=["what the probe is told", RECIPE])
    with MockServer(model="gpt-4.1-mini", api_key="sk-live-key", script=script) as server:
        said = _run(OPENAI_API_KEY="sk-live-key", OPENAI_BASE_URL=server.base_url)

    assert said.startswith(f"live: {server.base_url}, gpt-4.1-mini\nSoup (hard)\n")
    assert "asked by json_object" in said
    assert "sk-live-key" not in said
