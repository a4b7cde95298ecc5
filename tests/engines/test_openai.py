"""The openai backend, whatever generation of the SDK is installed, against the mock server."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Literal

import pytest
from pydantic import BaseModel

from llmengine import (
    ConfigError,
    EngineConfig,
    InvalidRequestError,
    RefusedError,
    SamplingParams,
    StructuredOutputError,
    TruncatedError,
)
from llmengine.mock import Behaviour, MockServer, Script

if TYPE_CHECKING:
    from collections.abc import Iterator


class Step(BaseModel):
    """One step of a plan."""

    action: Literal["buy", "cook"]
    minutes: int | None = None


class Plan(BaseModel):
    """A nested model."""

    title: str
    steps: list[Step]


PLAN = '{"title": "Soup", "steps": [{"action": "cook", "minutes": null}]}'


@pytest.fixture
def mock() -> Iterator[MockServer]:
    """A mock server that knows one model."""
    with MockServer(model="gpt-test") as server:
        yield server


def test_answers_come_in_order_with_usage(mock: MockServer, openai_engine: Any, api: str) -> None:
    """The same outputs as of any engine, from either API."""
    mock.play(Script(replies=["one", "two"]))
    engine = openai_engine(mock.base_url, api, max_concurrency=1)

    first, second = engine.generate(["a", "b"], SamplingParams(temperature=0, max_tokens=20))

    assert (first.outputs[0].text, second.outputs[0].text) == ("one", "two")
    assert first.outputs[0].finish_reason == "stop"
    assert first.model == "gpt-test"
    usage = first.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert (usage.cached_tokens, usage.reasoning_tokens) == (0, 0)
    assert [call.path for call in mock.calls] == [f"/v1{engine.dialect.path}"] * 2


def test_streams_say_the_same_as_whole_answers(
    mock: MockServer, openai_engine: Any, api: str
) -> None:
    """Deltas join to the text; the last ones hold the reason and the usage."""
    mock.play(Script(replies=["Grüße 😀 aus Köln"]))

    deltas = list(openai_engine(mock.base_url, api).stream("hi"))

    assert "".join(delta.text for delta in deltas) == "Grüße 😀 aus Köln"
    assert [delta.finish_reason for delta in deltas if delta.finish_reason] == ["stop"]
    assert deltas[-1].usage.total_tokens > 0


def test_async_twins_and_windows_work_alike(mock: MockServer, openai_engine: Any, api: str) -> None:
    """One interface: agenerate, astream and iter_results."""
    engine = openai_engine(mock.base_url, api)

    async def both() -> tuple[str, str]:
        whole = await engine.agenerate("Say hi", SamplingParams(max_tokens=4))
        streamed = [d.text async for d in engine.astream("Say hi", SamplingParams(max_tokens=4))]
        return whole[0].outputs[0].text, "".join(streamed)

    whole, streamed = asyncio.run(both())

    assert whole == streamed
    assert len(list(engine.iter_results((str(i) for i in range(5)), window=2))) == 5


def test_output_model_is_asked_strictly_and_parsed(
    mock: MockServer, openai_engine: Any, api: str
) -> None:
    """A nested model goes out in OpenAI's strict dialect and comes back as an instance."""
    mock.play(Script(replies=[PLAN]))

    (output,) = openai_engine(mock.base_url, api).generate("Plan", output_model=Plan)

    assert output.parsed == Plan(title="Soup", steps=[Step(action="cook")])
    assert output.schema_strategy == "json_schema"
    body = mock.calls[0].json
    wanted = (
        body["text"]["format"] if api == "responses" else body["response_format"]["json_schema"]
    )
    assert (wanted["name"], wanted["strict"]) == ("Plan", True)
    step = wanted["schema"]["$defs"]["Step"]
    assert step["required"] == ["action", "minutes"]
    assert step["additionalProperties"] is False
    assert "default" not in json.dumps(wanted["schema"])


def test_streamed_answer_is_validated_too(mock: MockServer, openai_engine: Any, api: str) -> None:
    """After the text comes what it means."""
    mock.play(Script(replies=[PLAN]))

    deltas = list(openai_engine(mock.base_url, api).stream("Plan", output_model=Plan))

    assert "".join(delta.text for delta in deltas) == PLAN
    assert deltas[-1].parsed.title == "Soup"


def test_schema_that_openai_cannot_say_is_refused_by_name(
    mock: MockServer, openai_engine: Any
) -> None:
    """The keyword and its place are named before anything is sent."""

    class Loose(BaseModel):
        extra: dict[str, int]

    (result,) = openai_engine(mock.base_url).results("x", output_model=Loose)

    assert isinstance(result.error, InvalidRequestError)
    assert "Loose.extra" in str(result.error)
    assert "additionalProperties" in str(result.error)
    assert (result.attempts, mock.calls) == (0, [])


def test_refusal_is_an_error_of_its_own(mock: MockServer, openai_engine: Any, api: str) -> None:
    """With an output model a refusal is never parsed=None, and no further step is paid for."""
    mock.play(Script(replies=[{"refusal": "I will not."}] * 3))

    (result,) = openai_engine(mock.base_url, api).results("x", output_model=Plan)

    assert type(result.error) is RefusedError
    assert "I will not." in str(result.error)
    assert result.error.partial.usage.prompt_tokens > 0
    assert len(mock.calls) == result.attempts == 1


def test_refusal_of_a_plain_question_shows_in_the_reason(
    mock: MockServer, openai_engine: Any, api: str
) -> None:
    """Without an output model it is text with a finish_reason that says so, streamed as well."""
    mock.play(Script(replies=[{"refusal": "I will not."}] * 2))
    engine = openai_engine(mock.base_url, api)

    (output,) = engine.generate("x")
    deltas = list(engine.stream("x"))

    assert output.outputs[0].text == "".join(d.text for d in deltas) == "I will not."
    reasons = [d.finish_reason for d in deltas if d.finish_reason]
    assert reasons == [output.outputs[0].finish_reason] == ["refusal"]


def test_token_limit_shows_and_cuts_no_model_in_two(
    mock: MockServer, openai_engine: Any, api: str
) -> None:
    """An incomplete response is "length"; with an output model it is a TruncatedError."""
    engine = openai_engine(mock.base_url, api)
    limit = SamplingParams(max_tokens=3)
    mock.play(Script(replies=["one two three four five", PLAN]))

    (plain,) = engine.generate("x", limit)
    (structured,) = engine.results("x", limit, output_model=Plan)

    assert plain.outputs[0].finish_reason == "length"
    assert type(structured.error) is TruncatedError
    assert PLAN.startswith(structured.error.partial.outputs[0].text)
    assert structured.usage.completion_tokens == 3


def test_answer_that_does_not_fit_climbs_down_and_counts(
    mock: MockServer, openai_engine: Any, api: str
) -> None:
    """The ladder of every engine: JSON mode next, and the tokens of both attempts."""
    mock.play(Script(replies=["no JSON at all", PLAN]))

    (result,) = openai_engine(mock.base_url, api).results("Plan", output_model=Plan)

    assert result.output.parsed.title == "Soup"
    assert result.output.schema_strategy == "json_object"
    assert result.attempts == len(mock.calls) == 2
    assert result.usage.total_tokens > result.output.usage.total_tokens
    body = mock.calls[1].json
    wanted = body["text"]["format"] if api == "responses" else body["response_format"]
    assert wanted == {"type": "json_object"}


def test_answer_that_never_fits_is_never_returned(
    mock: MockServer, openai_engine: Any, api: str
) -> None:
    """At the end of the ladder stands an error with all that was tried."""
    mock.play(Script(replies=["prose"] * 5))

    (result,) = openai_engine(mock.base_url, api).results("Plan", output_model=Plan)

    assert type(result.error) is StructuredOutputError
    assert result.error.partial.outputs[0].text == "prose"


def test_schemas_are_trusted_at_openai_and_probed_elsewhere(openai_engine: Any, api: str) -> None:
    """A gateway that takes a schema and ignores it is found out by one question."""

    def forget_the_schema(body: dict[str, Any], _: Any) -> dict[str, Any]:
        body.pop("text", None)
        if body.get("response_format", {}).get("type") == "json_schema":
            del body["response_format"]
        return body

    behaviour = Behaviour(request=forget_the_schema)
    script = Script(replies=["prose", f"Here it is: {PLAN}"])
    with MockServer(model="gpt-test", behaviour=behaviour, script=script) as server:
        engine = openai_engine(server.base_url, api, structured="auto")
        (result,) = engine.results("Plan", output_model=Plan)

    assert result.output.schema_strategy == "json_object"
    assert result.output.parsed.title == "Soup"
    assert (result.attempts, len(server.calls)) == (1, 2)
    assert openai_engine(None, api).trusts_schema
    assert not engine.trusts_schema


WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


def test_tools_are_asked_called_and_answered(
    mock: MockServer, openai_engine: Any, api: str
) -> None:
    """A call comes back as ToolCall, and goes out again in the conversation with its result."""
    engine = openai_engine(mock.base_url, api)
    choice = {"type": "function", "function": {"name": "weather"}}

    (output,) = engine.generate("Weather in Kiel?", tools=[WEATHER], tool_choice=choice)
    (call,) = output.tool_calls
    conversation = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Weather in Kiel?"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
            ],
        },
        {"role": "tool", "tool_call_id": call.id, "content": "rain"},
    ]
    (after,) = engine.generate([conversation], tools=[WEATHER])

    assert call.name == "weather"
    assert set(json.loads(call.arguments)) == {"city"}
    assert after.outputs[0].text or after.tool_calls
    if api == "responses":
        types = [item.get("type", "message") for item in mock.calls[1].json["input"]]
        assert types == ["message", "message", "function_call", "function_call_output"]
        assert mock.calls[0].json["tools"][0]["strict"] is False


def test_streamed_tool_calls_join_to_the_whole_ones(
    mock: MockServer, openai_engine: Any, api: str
) -> None:
    """Fragments of one index join; the reason says that tools are called."""
    function = {"name": "weather", "arguments": '{"city": "Kiel"}'}
    mock.play(Script(replies=[{"tool_calls": [{"function": function}, {"function": function}]}]))

    deltas = list(openai_engine(mock.base_url, api).stream("x", tools=[WEATHER]))

    fragments = [fragment for delta in deltas for fragment in delta.tool_calls]
    for index in (0, 1):
        mine = [f for f in fragments if f.index == index]
        assert mine[0].name == "weather"
        assert mine[0].id
        assert "".join(f.arguments for f in mine) == function["arguments"]
    assert [d.finish_reason for d in deltas if d.finish_reason] == ["tool_calls"]


def test_tools_with_an_output_model_are_sent_by_either_api(
    mock: MockServer, openai_engine: Any, api: str
) -> None:
    """The SDK's chat parse takes strict tools only, so others go by create with the schema."""
    mock.play(Script(replies=[PLAN]))

    (output,) = openai_engine(mock.base_url, api).generate(
        "Plan", output_model=Plan, tools=[WEATHER]
    )

    assert output.parsed.title == "Soup"
    assert mock.calls[0].json["tools"]


def test_reasoning_goes_by_effort_and_comes_back_apart(
    mock: MockServer, openai_engine: Any, api: str
) -> None:
    """What the model thought is in .reasoning and never in .text."""
    mock.play(Script(replies=[{"reasoning": "Let me see.", "content": "Four."}] * 2))
    engine = openai_engine(mock.base_url, api)

    (output,) = engine.generate("2+2?", reasoning="low")
    deltas = list(engine.stream("2+2?", reasoning="low"))

    assert (output.reasoning, output.outputs[0].text) == ("Let me see.", "Four.")
    assert "".join(d.reasoning for d in deltas) == "Let me see."
    assert output.usage.reasoning_tokens > 0
    body = mock.calls[0].json
    said = body["reasoning"]["effort"] if api == "responses" else body["reasoning_effort"]
    assert said == "low"


@pytest.mark.parametrize("wish", [True, False])
def test_reasoning_as_a_switch_is_left_out_with_one_warning(
    mock: MockServer,
    openai_engine: Any,
    api: str,
    wish: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """OpenAI has no switch and refuses the field for models that do not reason."""
    engine = openai_engine(mock.base_url, api)

    engine.generate(["a", "b"], reasoning=wish)

    assert not {"reasoning", "reasoning_effort"} & mock.calls[0].json.keys()
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "effort" in warnings[0]


def test_guided_decoding_is_refused_with_the_way_out(
    mock: MockServer, openai_engine: Any, api: str
) -> None:
    """structured_outputs is vLLM's; on OpenAI it is output_model."""
    params = SamplingParams(structured_outputs={"choice": ["a", "b"]})

    (result,) = openai_engine(mock.base_url, api).results("x", params)

    assert isinstance(result.error, InvalidRequestError)
    assert "output_model" in str(result.error)
    assert mock.calls == []


@pytest.mark.parametrize(
    "params",
    [{"n": 2}, {"seed": 1}, {"stop": "x"}, {"presence_penalty": 1.0}, {"logit_bias": {"1": 5}}],
    ids=lambda params: next(iter(params)),
)
def test_what_responses_cannot_say_is_refused_and_chat_says_it(
    mock: MockServer, openai_engine: Any, params: dict[str, Any]
) -> None:
    """The refusal names the parameter and the other API; that one takes it."""
    (refused,) = openai_engine(mock.base_url).results("x", SamplingParams(**params))
    (taken,) = openai_engine(mock.base_url, "chat").results("x", SamplingParams(**params))

    assert isinstance(refused.error, InvalidRequestError)
    assert repr(next(iter(params))) in str(refused.error)
    assert "api: chat" in str(refused.error)
    assert taken.ok
    assert len(taken.output.outputs) == params.get("n", 1)
    assert len(mock.calls) == 1


def test_logprobs_are_the_same_from_either_api(
    mock: MockServer, openai_engine: Any, api: str
) -> None:
    """The chosen token with its alternatives, and their sum."""
    mock.play(Script(replies=["a b"]))

    (output,) = openai_engine(mock.base_url, api).generate("x", SamplingParams(logprobs=2))

    tokens = output.outputs[0].logprobs
    assert "".join(t.token for t in tokens) == "a b"
    assert all(len(t.top) == 2 for t in tokens)
    assert output.outputs[0].cumulative_logprob == pytest.approx(sum(t.logprob for t in tokens))


def test_extra_body_reaches_the_wire_known_to_the_sdk_or_not(
    mock: MockServer, openai_engine: Any, api: str
) -> None:
    """Fields of the SDK's signature and fields it has never heard of."""
    seen: list[dict[str, Any]] = []

    def keep(body: dict[str, Any], _: Any) -> dict[str, Any]:
        seen.append(dict(body))
        body.pop("brand_new", None)
        return body

    with MockServer(model="gpt-test", behaviour=Behaviour(request=keep)) as server:
        engine = openai_engine(server.base_url, api, extra_body={"brand_new": 1})
        engine.generate("x", extra_body={"metadata": {"k": "v"}})

    assert (seen[0]["brand_new"], seen[0]["metadata"]) == (1, {"k": "v"})


def test_responses_are_not_stored_unless_asked(mock: MockServer, openai_engine: Any) -> None:
    """The engine keeps no state at the server by itself."""
    engine = openai_engine(mock.base_url)

    engine.generate("x")
    engine.generate("x", extra_body={"store": True})

    assert [call.json["store"] for call in mock.calls] == [False, True]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"options": {"api": "batch"}}, "give responses or chat"),
        ({"options": {"apis": "chat"}}, "'apis' is unknown"),
        ({"transport": "aiohttp"}, "transport: the openai SDK sends by its own means"),
    ],
)
def test_wrong_configuration_is_named(config: dict[str, Any], words: str) -> None:
    """The message has the engine and the field."""
    pytest.importorskip("openai")
    with pytest.raises(ConfigError, match=f"engine 'o': {'(options|transport)'}") as raised:
        _ = EngineConfig(name="o", backend="openai", model="m", **config).engine
    assert words in str(raised.value)


def test_engine_is_pickled_by_its_configuration(
    mock: MockServer, openai_engine: Any, api: str
) -> None:
    """A copy from a pickle answers as the engine does, also after that was used."""
    engine = openai_engine(mock.base_url, api)
    engine.generate("x")

    copy = pickle.loads(pickle.dumps(engine))

    assert copy.generate("x")[0].outputs[0].text == engine.generate("x")[0].outputs[0].text


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_forked_child_sends_by_connections_of_its_own(mock: MockServer, api: str) -> None:
    """An engine that was used before the fork answers in the child and in the parent."""
    pytest.importorskip("openai")
    script = (
        "import os; from llmengine import EngineConfig\n"
        f"config = EngineConfig(backend='openai', model='gpt-test', endpoint={mock.base_url!r}, "
        f"api_key='EMPTY', options={{'api': {api!r}}})\n"
        "ask = lambda: config.engine.generate('x')[0].outputs[0].text\n"
        "before = ask(); child = os.fork(); assert ask() == before\n"
        "if child == 0: os._exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0"
    )

    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert len(mock.calls) == 3
