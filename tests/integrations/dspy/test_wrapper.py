"""DSPyLLMWrapper(worker), as in programs for 2.4.9."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from llmengine import OpenAICompatibleWorker, get_worker
from llmengine.integrations import dspy as integration

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine import EngineConfig
    from llmengine.mock import MockServer


@pytest.fixture
def worker(server: MockServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A worker that variables describe, over the OpenAI-compatible API of Ollama."""
    monkeypatch.setenv("USE_OLLAMA", "true")
    monkeypatch.setenv("OLLAMA_API_URL", server.root_url)
    monkeypatch.setenv("OLLAMA_MODEL", server.model)
    return get_worker(use_ollama=True, use_openai_api=True, env_file=None)


def test_a_worker_becomes_a_language_model(
    dspy: Any, worker: Any, server: MockServer, answering: Callable[..., None]
) -> None:
    """The class of the document takes a worker and is set as DSPy's model."""
    answering({"answer": "Paris"})
    lm = integration.DSPyLLMWrapper(worker)

    with dspy.settings.context(lm=lm):
        assert dspy.Predict("question -> answer")(question="Where?").answer == "Paris"

    assert isinstance(lm, dspy.LM)
    chats = [call.path for call in server.calls if call.path != "/api/ps"]  # Ollama's context
    assert chats == ["/v1/chat/completions"]


def test_an_engine_will_do_as_well(dspy: Any, config: EngineConfig) -> None:
    """A configuration may replace the worker."""
    assert dspy
    assert integration.DSPyLLMWrapper(config.engine)("Say the word: yes") == ["yes"]
    assert integration.DSPyLLMWrapper(config)("Say the word: yes") == ["yes"]


def test_it_can_be_subclassed_and_keeps_its_worker(legacy: Any, worker: Any) -> None:
    """On 2.4 it can be subclassed, and copies are of the subclass."""

    class Mine(integration.DSPyLLMWrapper):  # type: ignore[misc,valid-type]  # made on use
        """A wrapper of the user's own."""

    assert legacy
    lm = Mine(worker, temperature=0.1)

    hot = lm.copy(temperature=0.8)

    assert hot.worker is worker
    assert (lm.kwargs["temperature"], hot.kwargs["temperature"]) == (0.1, 0.8)
    assert type(hot) is Mine
    assert hot("Say the word: yes") == ["yes"]


def test_a_worker_of_the_users_own_url(dspy: Any, server: MockServer) -> None:
    """The worker of the document, made by hand."""
    assert dspy
    worker = OpenAICompatibleWorker(server.root_url, server.model, timeout=5)

    assert integration.DSPyLLMWrapper(worker)("Say the word: yes") == ["yes"]


def test_other_names_are_not_attributes() -> None:
    """A misspelt name in an import is an ImportError."""
    with pytest.raises(AttributeError, match="no attribute 'DSPyWrapper'"):
        _ = integration.DSPyWrapper  # type: ignore[attr-defined]  # on purpose
