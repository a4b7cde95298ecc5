"""Scripted replies with their finish reason, usage, log-probabilities and calls, on every API."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from llmengine.mock import MockReply, Script

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Api

MESSAGES = [{"role": "user", "content": "Hi"}]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": MESSAGES},
    "/v1/completions": {"prompt": "Hi"},
    "/v1/responses": {"input": "Hi"},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 99},
    "/api/chat": {"messages": MESSAGES, "stream": False},
}


def answer(api: Api, path: str, **fields: Any) -> Any:
    """The body of the answer of a route."""
    response = api.post(path, **BODIES[path], **fields)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize(
    ("path", "reason", "sent"),
    [
        ("/v1/chat/completions", "content_filter", "content_filter"),
        ("/v1/chat/completions", "abort", "abort"),
        ("/v1/completions", "length", "length"),
        ("/v1/messages", "length", "max_tokens"),
        ("/v1/messages", "content_filter", "refusal"),
        ("/v1/messages", "pause_turn", "pause_turn"),
        ("/v1/responses", "content_filter", "content_filter"),
        ("/v1/responses", "length", "max_output_tokens"),
        ("/api/chat", "length", "length"),
        ("/api/chat", "content_filter", "stop"),
    ],
)
def test_finish_reason_has_the_word_of_the_api(
    start: Callable[..., Api], path: str, reason: str, sent: str
) -> None:
    """OpenAI's reasons have other names elsewhere; any other reason is sent as it is."""
    body = answer(start(script=Script([MockReply("x", finish_reason=reason)])), path)
    found = {
        "/v1/messages": lambda: body["stop_reason"],
        "/v1/responses": lambda: body["incomplete_details"]["reason"],
        "/api/chat": lambda: body["done_reason"],
    }.get(path, lambda: body["choices"][0]["finish_reason"])

    assert found() == sent


@pytest.mark.parametrize(
    ("path", "counts"),
    [
        ("/v1/chat/completions", {"prompt_tokens": 1000, "total_tokens": 1001}),
        ("/v1/completions", {"prompt_tokens": 1000, "completion_tokens": 1, "total_tokens": 1001}),
        ("/v1/responses", {"input_tokens": 1000, "output_tokens": 1, "total_tokens": 1001}),
        ("/v1/messages", {"input_tokens": 600, "cache_read_input_tokens": 400, "output_tokens": 1}),
        ("/api/chat", {"prompt_eval_count": 1000, "eval_count": 1}),
    ],
)  # fmt: skip
def test_usage_is_scripted_in_part(
    start: Callable[..., Api], path: str, counts: dict[str, int]
) -> None:
    """The counts that are left out are those of the reply."""
    reply = MockReply("Hi", usage={"prompt_tokens": 1000, "cached_tokens": 400})
    body = answer(start(script=Script([reply])), path)
    usage = body.get("usage", body)

    assert {name: usage[name] for name in counts} == counts
    if path == "/v1/chat/completions":
        assert usage["prompt_tokens_details"]["cached_tokens"] == 400


YES = MockReply(
    "Yes!",
    logprobs=[
        {"token": "Yes", "logprob": -0.1, "top_logprobs": [{"token": "No", "logprob": -2.4}]},
        {"token": "!", "logprob": -0.5},
    ],
)


def test_logprobs_are_scripted(start: Callable[..., Api]) -> None:
    """The tokens of the answer are those of the log-probabilities, whole and streamed."""
    api = start(script=Script([YES] * 3))
    wanted = {"logprobs": True, "top_logprobs": 1}
    whole = api.said(**wanted)["logprobs"]["content"]
    streamed = [
        entry
        for chunk in api.chunks(**wanted)
        for entry in (chunk["choices"][0]["logprobs"] or {"content": []})["content"]
    ]
    legacy = answer(api, "/v1/completions", logprobs=1, echo=True)["choices"][0]["logprobs"]

    assert [(e["token"], e["logprob"]) for e in whole] == [("Yes", -0.1), ("!", -0.5)]
    assert [t["token"] for t in whole[0]["top_logprobs"]] == ["No"]
    assert streamed == whole
    assert legacy["tokens"] == ["Hi", "Yes", "!"]
    assert legacy["token_logprobs"] == [None, -0.1, -0.5]
    assert legacy["top_logprobs"] == [None, {"No": -2.4}, {"!": -0.5}]


@pytest.mark.parametrize("stream", [False, True])
def test_calls_reasoning_and_refusals_on_other_apis(
    start: Callable[..., Api], stream: bool
) -> None:
    """A call with an object as arguments, and reasoning, have the form of each API."""
    call = {"name": "add", "arguments": {"a": 1}}
    thinking = MockReply(reasoning="Hm.", tool_calls=[call, call])
    api = start(script=Script([thinking, thinking, MockReply(refusal="I will not.")]))
    ollama = api.post("/api/chat", messages=MESSAGES, stream=stream).text.splitlines()
    lines = [json.loads(line)["message"] for line in ollama]
    anthropic = api.post("/v1/messages", messages=MESSAGES, max_tokens=99, stream=stream).text
    refused = api.post("/v1/messages", messages=MESSAGES, max_tokens=99, stream=stream).text

    assert "".join(line.get("thinking", "") for line in lines) == "Hm."
    calls = [c["function"]["arguments"] for line in lines for c in line.get("tool_calls", [])]
    assert calls == [{"a": 1}, {"a": 1}]
    assert anthropic.count('"type":"tool_use"') == 2
    assert '"stop_reason":"tool_use"' in anthropic
    assert '"stop_reason":"refusal"' in refused


def test_content_may_be_a_value(start: Callable[..., Api]) -> None:
    """A content that is an object is sent as JSON, for structured output."""
    api = start(script=Script([MockReply({"name": "Zoë"}), {"content": [1, 2]}]))

    assert [json.loads(api.text()) for _ in range(2)] == [{"name": "Zoë"}, [1, 2]]


def test_embedding_is_chosen_by_content(start: Callable[..., Api]) -> None:
    """A text that matches has the given vector, and any other its own; nothing else uses it."""
    api = start()
    api.server.when(contains="cat").reply(MockReply(embedding=[0.6, 0.8]))
    vectors = [row["embedding"] for row in answer_embeddings(api, ["a cat", "a dog"])]
    ollama = api.post("/api/embed", input="my cat").json()["embeddings"]

    assert vectors[0] == pytest.approx([0.6, 0.8])
    assert len(vectors[1]) == 384
    assert ollama == [pytest.approx([0.6, 0.8])]
    api.server.assert_as_scripted()


def answer_embeddings(api: Api, texts: list[str]) -> Any:
    """The rows of a request for embeddings."""
    return api.post("/v1/embeddings", input=texts).json()["data"]
