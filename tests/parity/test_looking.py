"""The facts about a live engine and its answers."""

from __future__ import annotations

import math
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import CompletionOutput, LLMOutput, Logprob, Result, ToolCall, Usage
from llmengine.mock import Behaviour
from pytest_llmengine.parity import Live
from pytest_llmengine.parity.answers import answer_of
from pytest_llmengine.targets import Mode, Settings, open_session

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from llmengine.mock import MockServer, RawReply, ReceivedRequest
    from pytest_llmengine.parity import ParityPrompt
    from pytest_llmengine.parity.setup import Facts

    Serve = Callable[..., MockServer]

ROUTES = {
    "/metrics": b'# HELP\nvllm:cache_config_info{a="1",enable_prefix_caching="False",b="2"} 1.0\n',
    "/server_info": b'{"vllm_config": {"model_config": {"dtype": "torch.bfloat16"}}, '
    b'"vllm_env": {"VLLM_BATCH_INVARIANT": true}}',
    "/v1/models": b'{"data": [{"id": "mock", "root": "/models/Small-1B", "max_model_len": 512}]}',
}


def telling(*paths: str) -> Behaviour:
    """A server that answers these routes as vLLM does."""

    def wire(reply: RawReply, call: ReceivedRequest) -> RawReply:
        if call.path in paths:
            reply.status, reply.chunks = 200, [ROUTES[call.path]]
            reply.headers["content-length"] = str(len(ROUTES[call.path]))
        return reply

    return Behaviour(wire=wire)


def facts(server: MockServer, **engine: Any) -> Facts:
    """The facts about a server."""
    settings = Settings(engines=("vllm_api",), url=server.base_url, mode=Mode.LIVE, **engine)
    with ExitStack() as stack:
        return Live(stack.enter_context(open_session("vllm_api", settings))).facts


def test_facts_of_a_server(serve: Serve) -> None:
    """Weights without their folder, context and caching; more with the developers' route."""
    seen = facts(serve(telling(*ROUTES)))

    assert (seen.weights, seen.context, seen.prefix_caching) == ("Small-1B", 512, "off")
    assert (seen.dtype, seen.batch_invariance) == ("bfloat16", "on")


def test_missing_facts_are_unknown(serve: Serve) -> None:
    """Without the routes the facts are unknown."""
    seen = facts(serve(telling("/v1/models")))

    assert (seen.weights, seen.prefix_caching) == ("Small-1B", None)
    assert (seen.dtype, seen.batch_invariance) == (None, None)


@pytest.mark.parametrize(
    ("extra", "overrides"),
    [
        ("{temperature: 0.7, max_tokens: 5, priority: 1}", {"temperature": 0.7, "max_tokens": 5}),
        ("{temperature: 0.0, seed: 0}", {}),
    ],
)
def test_what_a_configuration_sends_is_known(
    serve: Serve, tmp_path: Path, extra: str, overrides: dict[str, Any]
) -> None:
    """A value that replaces a fixed one is a fact, unless it is equal."""
    file = tmp_path / "engines.yaml"
    file.write_text(
        f"- {{name: v, backend: vllm_api, model: mock, extra_body: {extra}}}\n", "utf-8"
    )

    assert facts(serve(), config=file).overrides == overrides


def test_what_a_protocol_cannot_say_is_known(serve: Serve) -> None:
    """A value that the protocol leaves out is left to the server's defaults."""
    assert facts(serve()).unsent == ()
    with open_session("mock", Settings(engines=("mock",), mode=Mode.LIVE)) as session:
        assert Live(session).facts.unsent == ("top_k", "min_p", "repetition_penalty")


def output(text: str = "x", **fields: Any) -> Result:
    """A result with one answer."""
    answer = CompletionOutput(0, text, finish_reason="stop", **fields)
    return Result(output=LLMOutput("r", "x", (answer,), usage=Usage(3, 1, 4)))


def test_an_impossible_token_has_a_number(prompt: Callable[..., ParityPrompt]) -> None:
    """JSON has no infinity, so vLLM writes its lowest number."""
    entry = Logprob("x", -math.inf, top=(Logprob("y", -0.1234567),))

    answer = answer_of(prompt(), output(logprobs=(entry,)), separates_tool_calls=True)

    assert answer.tokens[0].logprob == -9999.0
    assert answer.tokens[0].top == (("y", -0.123457),)


@pytest.mark.parametrize(
    ("tools", "tells", "calls"),
    [
        (({"type": "function"},), True, (("f", "{}"),)),
        (({"type": "function"},), False, None),
        ((), True, None),
    ],
)
def test_calls_in_the_text_are_not_tool_calls(
    prompt: Callable[..., ParityPrompt], tools: Any, tells: bool, calls: Any
) -> None:
    """An engine that leaves calls in the text has no tool calls."""
    result = output(tool_calls=(ToolCall("1", "f", "{}"),))

    assert answer_of(prompt(tools=tools), result, separates_tool_calls=tells).tool_calls == calls


@pytest.mark.parametrize(
    ("text", "valid", "parsed"),
    [('{"age": 3}', True, {"age": 3}), ('{"age": "3"}', False, {"age": "3"}), ("{", False, None)],
)
def test_an_answer_is_checked_against_its_schema(
    prompt: Callable[..., ParityPrompt], text: str, valid: bool, parsed: Any
) -> None:
    """The whole text must be JSON that fits."""
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}}

    answer = answer_of(prompt(schema=schema), output(text), separates_tool_calls=True)

    assert (answer.valid, answer.parsed) == (valid, parsed)
