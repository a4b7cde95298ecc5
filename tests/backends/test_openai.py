"""The openai backend against the mock server, with the installed generation of the SDK."""

from __future__ import annotations

import asyncio
import os
import pickle
import subprocess
import sys
from typing import Any

import pytest

from llmengine import (
    ConfigError,
    EngineConfig,
    InvalidRequestError,
    SamplingParams,
)
from llmengine.mock import Behaviour, MockServer, Script


def test_answers_come_in_order_with_usage(mock: MockServer, openai_engine: Any, api: str) -> None:
    """Either API gives the outputs that any engine gives."""
    mock.play(Script(replies=["one", "two"]))
    engine = openai_engine(mock.base_url, api, max_concurrency=1)

    first, second = engine.generate(["a", "b"], SamplingParams(temperature=0, max_tokens=20))

    assert (first.outputs[0].text, second.outputs[0].text) == ("one", "two")
    assert first.outputs[0].finish_reason == "stop"
    assert first.model == "gpt-test"
    usage = first.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert (usage.cached_tokens, usage.reasoning_tokens) == (0, 0)
    assert [call.path for call in mock.calls] == [f"/v1{engine.backend.dialect.path}"] * 2


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
    """agenerate, astream and iter_results work as on any engine."""
    engine = openai_engine(mock.base_url, api)

    async def both() -> tuple[str, str]:
        whole = await engine.agenerate("Say hi", SamplingParams(max_tokens=16))
        streamed = [d.text async for d in engine.astream("Say hi", SamplingParams(max_tokens=16))]
        return whole[0].outputs[0].text, "".join(streamed)

    whole, streamed = asyncio.run(both())

    assert whole == streamed
    assert len(list(engine.iter_results((str(i) for i in range(5)), window=2))) == 5


def test_reasoning_goes_by_effort_and_comes_back_apart(
    mock: MockServer, openai_engine: Any, api: str
) -> None:
    """The reasoning is in .reasoning and never in .text."""
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
    """structured_outputs belongs to vLLM; the error names output_model."""
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
    """The error names the parameter and the other API, which takes it."""
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
    """Fields are sent whether or not the SDK's signature has them."""
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
    """By default the engine keeps no state at the server."""
    engine = openai_engine(mock.base_url)

    engine.generate("x")
    engine.generate("x", extra_body={"store": True})

    assert [call.json["store"] for call in mock.calls] == [False, True]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"options": {"api": "batch"}}, "give responses or chat"),
        ({"options": {"apis": "chat"}}, "'apis' is unknown"),
        ({"transport": "aiohttp"}, "transport: the openai SDK uses its own HTTP client"),
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
    """A pickled copy answers as the engine does, also if the engine was used."""
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
