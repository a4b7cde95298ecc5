"""Whole answers in OpenAI's chat format."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import CallError, Logprob, ToolCall, UnexpectedResponseError, Usage
from llmengine.dialects.openai_chat import OpenAIChat
from llmengine.types import secrets

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine import LLMOutput
    from llmengine.types.request import ChatRequest

    Chat = Callable[..., ChatRequest]
    Samples = Callable[[str], Any]


def _decoded(request: ChatRequest, message: Any, **choice: Any) -> LLMOutput:
    answer = {"choices": [{"index": 0, "message": message, "finish_reason": "stop", **choice}]}
    return OpenAIChat().decode(json.dumps(answer).encode(), request)


def test_a_plain_answer(sample: Samples, chat: Chat) -> None:
    """Text, reason, ids, model and usage of a real vLLM answer are read."""
    output = OpenAIChat().decode(sample("vllm/chat_plain.json").body, chat())
    assert output.request_id == "chatcmpl-bd336f39ffee897f"
    assert output.prompt == "Hi"
    assert output.model == "smollm2"
    assert output.finished
    assert output.usage == Usage(37, 8, 45)
    (answer,) = output.outputs
    assert (answer.index, answer.text) == (0, "The capital of France is Paris.")
    assert (answer.finish_reason, answer.stop_reason) == ("stop", None)
    assert (answer.logprobs, answer.cumulative_logprob, answer.reasoning) == (None, None, None)
    assert (answer.token_ids, answer.tool_calls) == (None, ())


def test_usage_details(sample: Samples, chat: Chat) -> None:
    """Cached tokens are read; a null detail is None."""
    output = OpenAIChat().decode(sample("vllm/auth_ok_cached_details.json").body, chat())
    assert output.usage == Usage(37, 4, 41, cached_tokens=0, reasoning_tokens=None)


def test_several_answers(sample: Samples, chat: Chat) -> None:
    """Each choice is an output with its index."""
    output = OpenAIChat().decode(sample("vllm/chat_n2.json").body, chat(n=2))
    assert [o.index for o in output.outputs] == [0, 1]
    assert [o.text[:3] for o in output.outputs] == ["Why", "En "]


def test_token_ids_and_logprobs(sample: Samples, chat: Chat) -> None:
    """Token ids and log-probabilities of vLLM are read, and their sum."""
    output = OpenAIChat().decode(sample("vllm/chat_logprobs_token_ids.json").body, chat())
    (answer,) = output.outputs
    assert answer.token_ids == (504, 3575, 282, 4649)
    assert output.prompt_token_ids is not None
    assert output.prompt_token_ids[:3] == (1, 9690, 198)
    assert answer.logprobs is not None
    first = answer.logprobs[0]
    assert first.bytes == tuple(b"The")
    assert first.top[0].logprob == first.logprob == -1.8095355033874512
    assert answer.cumulative_logprob == pytest.approx(-1.8532177)


def test_logprobs_without_alternatives(sample: Samples, chat: Chat) -> None:
    """Ollama leaves top_logprobs out of the entries."""
    output = OpenAIChat().decode(sample("ollama/oai_chat_logprobs.json").body, chat())
    logprobs = output.outputs[0].logprobs
    assert logprobs is not None
    assert logprobs[0] == Logprob("I", -2.2284300327301025, (73,), ())
    assert len(logprobs) == 4


def test_prompt_logprobs(sample: Samples, chat: Chat) -> None:
    """Log-probabilities of the prompt are by token id; the first token has none."""
    output = OpenAIChat().decode(sample("vllm/chat_prompt_logprobs.json").body, chat())
    assert output.prompt_logprobs is not None
    assert output.prompt_logprobs[0] is None
    assert output.prompt_logprobs[1] == {9690: Logprob("system", -7.861683368682861)}


def test_the_stop_reason(sample: Samples, chat: Chat) -> None:
    """The token or string that stopped vLLM is read."""
    output = OpenAIChat().decode(sample("vllm/chat_stop_token_ids.json").body, chat())
    assert output.outputs[0].stop_reason == 37


def test_tool_calls(sample: Samples, chat: Chat) -> None:
    """Calls are read with their ids, names and the JSON text of the arguments."""
    output = OpenAIChat().decode(sample("ollama/oai_chat_tools.json").body, chat())
    assert output.tool_calls == (ToolCall("call_ovmdz8y4", "get_weather", '{"city":"Paris"}'),)
    assert output.outputs[0].finish_reason == "tool_calls"


MISTRAL_THINKS = {"type": "thinking", "thinking": [{"type": "text", "text": "a"}]}


@pytest.mark.parametrize(
    ("message", "reasoning", "text"),
    [
        ({"content": "b", "reasoning": "a"}, "a", "b"),
        ({"content": "b", "reasoning_content": "a"}, "a", "b"),
        ({"content": "b", "reasoning": None, "reasoning_content": "a"}, "a", "b"),
        ({"content": None, "reasoning": "a"}, "a", ""),
        ({"content": "<think>a</think>\n\nb"}, "a", "b"),
        ({"content": "<think>a", "reasoning": ""}, "a", ""),
        ({"content": "<think>b", "reasoning": "a"}, "a", "<think>b"),
        ({"content": "x<think>a</think>"}, None, "x<think>a</think>"),
        ({"content": "a\n</think>\n\nb"}, "a\n", "b"),
        ({"content": [MISTRAL_THINKS, {"type": "text", "text": "b"}]}, "a", "b"),
        ({"content": [{"type": "thinking", "thinking": "a"}]}, "a", ""),
        ({"content": "b", "reasoning": ""}, None, "b"),
    ],
)
def test_reasoning_is_parted_from_the_text(
    message: dict[str, Any], reasoning: str | None, text: str, chat: Chat
) -> None:
    """All spellings are read; tags count only if the server did not separate the reasoning."""
    output = _decoded(chat(), message, finish_reason="length")
    assert (output.reasoning, output.outputs[0].text) == (reasoning, text)
    assert output.reasoning_content == reasoning


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": None}, ""),
        ({}, ""),
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "ab"),
        ({"content": None, "refusal": "I will not."}, "I will not."),
        ({"content": [{"type": "refusal", "refusal": "No."}]}, "No."),
        ({"content": "é漢😀\u0000"}, "é漢😀\u0000"),
    ],
    ids=["null", "missing", "parts", "refusal", "refusal as a part", "unicode"],
)
def test_content_in_all_its_forms(message: dict[str, Any], text: str, chat: Chat) -> None:
    """Content may be null or parts, or there is a refusal instead."""
    assert _decoded(chat(), message).outputs[0].text == text


def test_an_answer_without_an_id_has_that_of_the_request(chat: Chat) -> None:
    """The id of the request replaces a missing one."""
    assert _decoded(chat(), {"content": "a"}).request_id == "ours-1"


_NO_JSON = {b"", b'{"choices": [', b"\xff\xfe"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>502</html>",
        b'{"choices": [',
        b"[]",
        b"{}",
        b"null",
        b'{"choices": []}',
        b'{"choices": null}',
        b'{"choices": {}}',
        b'{"choices": [null]}',
        b'{"choices": [{}]}',
        b'{"choices": [{"message": null}]}',
        b'{"choices": [{"message": {"content": 5}}]}',
        b'{"choices": [{"message": {"content": [{"type": "image", "image": "x"}]}}]}',
        b'{"choices": [{"message": {"content": "a", "tool_calls": [{}]}}]}',
        b'{"choices": [{"message": {"content": "a"}, "logprobs": {"content": [{}]}}]}',
        b'{"choices": [{"message": {"content": "a"}}], "usage": 5}',
        b"\xff\xfe",
    ],
)
def test_other_bodies_are_errors(body: bytes, chat: Chat) -> None:
    """A body that is not a chat completion is an error that quotes it, never an empty answer.

    Only a body that is not JSON may come whole the next time; a web page never does.
    """
    with pytest.raises(UnexpectedResponseError) as failed:
        OpenAIChat().decode(body, chat())
    start = body[:10].decode("utf-8", "replace") or "an empty body"
    assert start in str(failed.value)
    assert failed.value.retryable is (body in _NO_JSON)


def test_the_quote_is_short_and_scrubbed(chat: Chat) -> None:
    """A key that the server quotes is masked before the text is cut."""
    secrets.register("sk-very-secret-key")
    body = b'{"error": "' + b"x" * 180 + b" sk-very-secret-key " + b"y" * 9999 + b'"}'
    with pytest.raises(CallError) as failed:
        OpenAIChat().decode(body, chat())
    assert len(str(failed.value)) < 300
    assert "sk-very" not in f"{failed.value}{failed.value.body}"
