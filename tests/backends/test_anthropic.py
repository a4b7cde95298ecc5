"""The backend of Anthropic's Messages API: addresses, keys, and a real model in llama.cpp."""

from __future__ import annotations

import traceback
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel, Field

from llmengine import (
    AuthenticationError,
    ConfigError,
    EngineConfig,
    InternalServerError,
    InvalidRequestError,
    SamplingParams,
    StructuredOutputError,
)
from llmengine.mock import Fault, MockServer, Script

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmengine import Engine

KEY = "sk-ant-a-key-of-a-test"
GREEDY = SamplingParams(temperature=0, max_tokens=12)
USER = {"role": "user", "content": "What is the weather in Paris?"}


def get_weather(city: str) -> str:
    """Get the weather of a city."""
    return f"rain in {city}"


class Weather(BaseModel):
    """Short enough for a small model."""

    city: str = Field(max_length=12)
    degrees: int = Field(ge=0, le=40)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Removes the variables of this machine that the backend reads."""
    for variable in ("ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def server() -> Iterator[MockServer]:
    """A server with a key."""
    with MockServer(api_key=KEY) as server:
        yield server


def engine_of(endpoint: str | None, **fields: Any) -> Engine:
    """An engine of the backend."""
    given = {"model": "mock", "endpoint": endpoint, "retry_wait": 0.001, **fields}
    return EngineConfig(backend="anthropic_compatible", **given).engine


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://a.example", "http://a.example/v1/messages"),
        ("http://a.example/v1/", "http://a.example/v1/messages"),
        ("https://gate.example/anthropic", "https://gate.example/anthropic/v1/messages"),
        ("https://api.anthropic.com", "https://api.anthropic.com/v1/messages"),
    ],
)
def test_address_may_leave_v1_out(endpoint: str, url: str) -> None:
    """An address for Anthropic's SDKs has no /v1, and one for OpenAI's has it."""
    assert engine_of(endpoint).backend.url == url


def test_address_is_required() -> None:
    """There is no default, so no prompt is sent to a server that was not named."""
    with pytest.raises(ConfigError, match=r"endpoint: .* has no default"):
        engine_of(None).generate("hi")


def test_key_of_the_environment_belongs_to_the_address_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is not sent to another address."""
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "https://a.example")
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)

    assert engine_of(None).api_key == KEY
    assert engine_of("http://b.example").api_key is None


def test_key_and_version_are_headers_of_every_request(server: MockServer) -> None:
    """Older gateways read x-api-key, vLLM a bearer token; a configured version is kept."""
    engine = engine_of(server.root_url, api_key=KEY, headers={"Anthropic-Version": "2023-06-02"})
    engine.generate("hi", GREEDY)
    engine.tokenize([USER])
    engine.fingerprint()

    for call in server.calls:
        headers = {name: str.__str__(value) for name, value in call.headers.items()}
        assert headers["x-api-key"] == KEY
        assert headers["authorization"] == f"Bearer {KEY}"
        assert headers["anthropic-version"] == "2023-06-02"


def test_key_is_in_no_traceback(server: MockServer) -> None:
    """Neither the error nor the frames that it keeps show the key."""
    wrong = f"{KEY}-that-is-wrong"
    engine = engine_of(server.root_url, api_key=wrong)

    (result,) = engine.results("hi")

    assert isinstance(result.error, AuthenticationError)
    shown = traceback.TracebackException.from_exception(result.error, capture_locals=True)
    assert wrong not in "".join(shown.format())
    assert wrong not in repr(engine.backend.address.headers)


def test_overload_is_retried(server: MockServer) -> None:
    """A 529 passes, and its Retry-After is kept."""
    server.play(Script(faults=[Fault(status=529, retry_after=0.001)] * 2))

    (result,) = engine_of(server.root_url, api_key=KEY, max_retries=1).results("hi", GREEDY)

    assert isinstance(result.error, InternalServerError)
    assert (result.error.status, result.error.type) == (529, "overloaded_error")
    assert result.attempts == 2


def test_tools_are_called_and_their_results_are_read(server: MockServer) -> None:
    """A call of an answer goes back as it came, whole and streamed."""
    engine = engine_of(server.root_url, api_key=KEY)
    (output,) = engine.generate([[USER]], tools=[get_weather])
    (call,) = output.tool_calls
    deltas = list(engine.stream([USER], tools=[get_weather], tool_choice="required"))
    arguments = [part.arguments for delta in deltas for part in delta.tool_calls]
    function = {"name": call.name, "arguments": call.arguments}
    called = {"role": "assistant", "tool_calls": [{"id": call.id, "function": function}]}
    result = {"role": "tool", "tool_call_id": call.id, "content": get_weather("Paris")}
    (answer,) = engine.generate([[USER, called, result]], tools=[get_weather])

    assert (call.name, call.arguments) == ("get_weather", '{"city":"Paris"}')
    assert "".join(arguments).replace(" ", "") == call.arguments
    assert answer.outputs[0].text == "The tool answered: rain in Paris"


def test_schema_is_enforced_by_output_config(server: MockServer) -> None:
    """The probe finds that the server enforces schemas, so one request is enough."""
    engine = engine_of(server.root_url, api_key=KEY)

    (output,) = engine.generate("The weather in Lyon.", output_model=Weather)

    assert isinstance(output.parsed, Weather)
    assert output.schema_strategy == "json_schema"


def test_reasoning_comes_before_the_text(server: MockServer) -> None:
    """Whole and streamed, thinking is the reasoning."""
    engine = engine_of(server.root_url, api_key=KEY)
    (output,) = engine.generate("Think.", reasoning=True)
    deltas = list(engine.stream("Think.", reasoning="low"))

    assert output.reasoning
    assert output.outputs[0].text
    assert "".join(delta.reasoning for delta in deltas) == output.reasoning


def test_tokens_of_a_chat_are_counted(server: MockServer) -> None:
    """The API counts without ids, and only chats."""
    engine = engine_of(server.root_url, api_key=KEY)
    tokens = engine.tokenize([{"role": "system", "content": "Be brief."}, USER])
    (output,) = engine.generate([[{"role": "system", "content": "Be brief."}, USER]], GREEDY)

    assert tokens.count == output.usage.prompt_tokens
    assert tokens.token_ids == ()
    with pytest.raises(InvalidRequestError, match="counts the tokens of a chat"):
        engine.tokenize("a text")


# ---- a real model


@pytest.fixture(scope="module")
def llamacpp(embedded: EngineConfig) -> Engine:
    """An engine for the Messages API of the embedded server."""
    return engine_of(embedded.engine.base_url, model="smollm2-135m")


def test_real_model_answers(llamacpp: Engine) -> None:
    """The cached tokens are part of the prompt's, so that the same prompt has the same number."""
    first, second = (llamacpp.generate("Say hello.", GREEDY)[0] for _ in range(2))

    assert first.outputs[0].text.strip()
    assert first.outputs[0].finish_reason in {"stop", "length"}
    assert first.usage.prompt_tokens == second.usage.prompt_tokens
    assert second.usage.cached_tokens > 0
    assert llamacpp.tokenize([{"role": "user", "content": "Say hello."}]).count == (
        first.usage.prompt_tokens
    )


def test_real_stream_joins_to_the_whole_answer(llamacpp: Engine) -> None:
    """At temperature 0 the stream is the same text, with the same usage."""
    (whole,) = llamacpp.generate("Name a colour.", GREEDY)
    deltas = list(llamacpp.stream("Name a colour.", GREEDY))
    usage = next(delta.usage for delta in deltas if delta.usage)

    assert "".join(delta.text for delta in deltas) == whole.outputs[0].text
    assert replace(usage, cached_tokens=None) == replace(whole.usage, cached_tokens=None)


def test_real_stop_sequence_is_named(llamacpp: Engine) -> None:
    """The text ends before it."""
    (whole,) = llamacpp.generate("Name a colour.", GREEDY)
    word = whole.outputs[0].text.split()[3]
    stopped = replace(GREEDY, stop=(word,))

    (output,) = llamacpp.generate("Name a colour.", stopped)

    assert word not in output.outputs[0].text
    assert output.outputs[0].stop_reason == word
    assert output.outputs[0].finish_reason == "stop"


def test_schema_that_a_real_server_drops_is_requested_in_the_prompt(llamacpp: Engine) -> None:
    """The probe finds that llama.cpp drops output_config, and no answer is taken unvalidated."""
    sampling = SamplingParams(temperature=0, max_tokens=60)

    (result,) = llamacpp.results("The weather in Lyon.", sampling, output_model=Weather)

    (verdict,) = llamacpp.backend.enforcement.verdicts().values()
    assert (verdict.enforced, verdict.first) == (False, "json_object")
    # The model is too small to be relied on.
    assert isinstance(result.error, StructuredOutputError) or result.unwrap().parsed
