"""The plugin's ``dspy_lm``: DSPy's settings with an engine, for one test."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from llmengine.mock import MockServer

_TEST = """
    import os

    def test_program(dspy_lm):
        import dspy

        assert os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] == "True"
        assert os.environ["DSPY_CACHEDIR"]
        assert dspy.settings.lm is dspy_lm
        assert dspy_lm("Say the word: yes") == ["yes"]

    def test_next():
        import dspy

        assert dspy.settings.lm is None
"""


def test_programs_use_the_engine_of_the_run(
    dspy: Any, pytester: pytest.Pytester, server: MockServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the test the engine is DSPy's model; after the test there is none."""
    assert dspy
    for name in ("LITELLM_LOCAL_MODEL_COST_MAP", "DSPY_CACHEDIR", "DSP_CACHEBOOL"):
        monkeypatch.delenv(name)
    pytester.makepyfile(_TEST)

    result = pytester.runpytest_subprocess(
        "--engine=openai_compatible",
        f"--engine-url={server.base_url}",
        f"--engine-model={server.model}",
        "--engine-mode=live",
    )

    result.assert_outcomes(passed=2)
    assert [b"Say the word" in call.body for call in server.calls].count(True) == 1


def test_without_dspy_it_says_how_to_get_it(pytester: pytest.Pytester, server: MockServer) -> None:
    """The test is skipped if the run says so, and the reason has the command to install DSPy."""
    if importlib.util.find_spec("dspy") is not None:
        pytest.skip("DSPy is here; run it where it is not: python -m pytest -n 2")
    pytester.makepyfile("def test_program(dspy_lm): pass")

    result = pytester.runpytest_subprocess(
        "-rs",
        "--engine-missing=skip",
        "--engine=openai_compatible",
        f"--engine-url={server.base_url}",
        f"--engine-model={server.model}",
    )

    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines("*DSPy is not installed; run: pip install*")
