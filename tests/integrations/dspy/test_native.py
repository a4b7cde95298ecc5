"""DSPy's own language models from an engine's configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from llmengine import ConfigError
from llmengine.integrations.dspy import Generation, native_lm
from llmengine.mock import MockServer, Script

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine import EngineConfig


def test_it_asks_the_engines_server(
    dspy: Any, config: EngineConfig, answering: Callable[..., None], server: MockServer
) -> None:
    """The request is sent by DSPy's own client, with the engine's model."""
    answering({"answer": "Paris"})

    with dspy.settings.context(lm=native_lm(config)):
        assert dspy.Predict("question -> answer")(question="Where?").answer == "Paris"

    (call,) = server.calls
    assert (call.path, call.json["model"]) == ("/v1/chat/completions", "mock")
    assert call.headers["user-agent"] != "llmengine"


def test_the_configuration_goes_along(
    dspy: Any, aim: Callable[..., EngineConfig], generation: Generation
) -> None:
    """Key, sampling, extra body and headers are those of the engine."""
    assert dspy
    assert generation
    with MockServer(api_key="sesame-key") as server:
        config = aim(
            server,
            api_key="sesame-key",
            sampling={"temperature": 0.25, "max_tokens": 9},
            extra_body={"user": "ann"},
            headers={"X-Team": "blue"},
        )

        assert native_lm(config)("Say the word: yes") == ["yes"]

        (call,) = server.calls
    assert (call.json["temperature"], call.json["max_tokens"]) == (0.25, 9)
    assert call.json["user"] == "ann"
    assert call.headers["x-team"] == "blue"


def test_a_query_string_is_refused(
    dspy: Any, aim: Callable[..., EngineConfig], server: MockServer
) -> None:
    """DSPy's client would silently drop the query string."""
    assert dspy
    config = aim(server, endpoint=f"{server.base_url}?api-version=1")

    with pytest.raises(ConfigError, match="query string of the endpoint; use to_lm"):
        native_lm(config)


def test_arguments_go_over_the_configuration(
    dspy: Any, aim: Callable[..., EngineConfig], server: MockServer
) -> None:
    """The arguments are those of DSPy's own class."""
    assert dspy
    config = aim(server, sampling={"temperature": 0.25})

    native_lm(config, temperature=0.5)("Say the word: yes")

    assert server.calls[0].json["temperature"] == 0.5


def test_ollama_is_asked_by_what_dspy_has_for_it(
    modern: Any,
    aim: Callable[..., EngineConfig],
    server: MockServer,
    generation: Generation,
    answering: Callable[..., None],
) -> None:
    """With litellm the route is Ollama's own chat, else its OpenAI-compatible one."""
    answering({"answer": "Paris"})
    config = aim(server, backend="ollama_api", endpoint=server.root_url)
    lm = native_lm(config)

    with modern.context(lm=lm):
        assert modern.Predict("question -> answer")(question="Where?").answer == "Paris"

    own = "/v1/chat/completions" if generation is Generation.ENGINE else "/api/chat"
    assert lm.model == "ollama_chat/mock"
    # litellm asks for the model's facts besides, before or after.
    assert {call.path for call in server.calls} - {"/api/show"} == {own}


def test_nothing_is_cached_unless_asked_for(
    modern: Any, config: EngineConfig, answering: Callable[..., None], server: MockServer
) -> None:
    """DSPy's own cache ignores the address, so it is off."""
    answering({"answer": "Paris"}, {"answer": "Rome"})

    with modern.context(lm=native_lm(config)):
        predict = modern.Predict("question -> answer")
        answers = [predict(question="Where?").answer for _ in range(2)]

    assert answers == ["Paris", "Rome"]
    assert len(server.calls) == 2


def test_dspys_own_cache_mixes_servers_up(
    modern: Any, aim: Callable[..., EngineConfig], says: Callable[..., str]
) -> None:
    """With cache=True the second server gets no request."""
    with MockServer() as here, MockServer() as there:
        here.play(Script(replies=[says(answer="here")]))
        there.play(Script(replies=[says(answer="there")]))
        answers = []
        for server in (here, there):
            with modern.context(lm=native_lm(aim(server), cache=True)):
                answers.append(modern.Predict("question -> answer")(question="Mixed?").answer)

        assert answers == ["here", "here"]
        assert there.calls == []


def test_2_4_has_one_address_a_process(legacy: Any, aim: Callable[..., EngineConfig]) -> None:
    """The first of two native models raises an error instead of using the wrong server."""
    assert legacy
    with MockServer() as here, MockServer() as there:
        first, second = native_lm(aim(here)), native_lm(aim(there))

        assert second("Say the word: yes") == ["yes"]
        with pytest.raises(ConfigError, match="has one address per process"):
            first("Say the word: yes")

        assert here.calls == []
        assert len(there.calls) == 1


def test_2_4_keys_its_cache_by_the_address(
    legacy: Any, config: EngineConfig, server: MockServer
) -> None:
    """Its disk cache uses everything that is sent, so the server's address is sent."""
    assert legacy

    native_lm(config)("Say the word: yes")

    assert server.calls[0].headers["x-llmengine-server"] == server.root_url


def test_a_declared_server_is_sent_schemas(modern: Any, aim: Callable[..., EngineConfig]) -> None:
    """DSPy sends schemas only to models that it knows or that are declared."""
    sent = []
    with MockServer(model="unheard-of") as server:
        for declared in (False, True):
            server.play(Script(replies=['{"answer": 7}']))
            lm = native_lm(aim(server), declared=declared)
            with modern.context(lm=lm, adapter=modern.JSONAdapter()):
                answer = modern.Predict("question -> answer: int")(question="How many?").answer
            assert answer == 7
            sent.append((server.calls[-1].json.get("response_format") or {}).get("type"))

    assert sent[0] in {None, "json_object"}
    assert sent[1] == "json_schema"
