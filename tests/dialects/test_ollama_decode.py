"""Answers in Ollama's native chat format, whole and streamed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import (
    Delta,
    InternalServerError,
    LLMOutput,
    StreamIncompleteError,
    ToolCall,
    UnexpectedResponseError,
    Usage,
)
from llmengine.dialects.ollama import OllamaChat

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine.types.request import ChatRequest

    Chat = Callable[..., ChatRequest]
    Samples = Callable[[str], Any]


def _line(message: Any = None, *, done: bool = False, **fields: Any) -> bytes:
    value = {"model": "m", "message": message or {"role": "assistant"}, "done": done, **fields}
    return json.dumps(value).encode() + b"\n"


def _decoded(request: ChatRequest, message: Any, **fields: Any) -> LLMOutput:
    return OllamaChat().decode(_line(message, done=True, **fields), request)


def _read(request: ChatRequest, *pieces: bytes) -> tuple[list[Delta], LLMOutput]:
    decoder = OllamaChat().decoder(request)
    deltas = [delta for piece in pieces for delta in decoder.feed(piece)]
    return deltas, decoder.finish()


def test_a_plain_answer(sample: Samples, chat: Chat) -> None:
    """Text, reason, model and counts of a real answer are read; the id is the request's."""
    output = OllamaChat().decode(sample("ollama/native_chat.json").body, chat())
    assert (output.request_id, output.model, output.prompt) == ("ours-1", "smollm2:135m", "Hi")
    assert output.usage == Usage(12, 24, 36)
    assert output.outputs[0].text.startswith("I'm so glad")
    assert output.outputs[0].finish_reason == "length"


def test_tool_calls(sample: Samples, chat: Chat) -> None:
    """The arguments become JSON text, and the finish reason is that of tool calls."""
    output = OllamaChat().decode(sample("ollama/native_chat_tools.json").body, chat())
    assert output.tool_calls == (ToolCall("call_cj121xm0", "get_weather", '{"city":"Paris"}'),)
    assert output.outputs[0].finish_reason == "tool_calls"


def test_logprobs(sample: Samples, chat: Chat) -> None:
    """Log-probabilities with their alternatives are read, and their sum."""
    output = OllamaChat().decode(sample("ollama/native_chat_logprobs.json").body, chat())
    (answer,) = output.outputs
    assert answer.logprobs is not None
    assert [lp.token for lp in answer.logprobs] == ["I", "'m", " glad", " to"]
    assert answer.logprobs[0].top[1].token == "The"
    assert answer.cumulative_logprob == pytest.approx(-4.8760442)


@pytest.mark.parametrize("name", ["native_chat_unload.json", "native_chat_no_messages.json"])
def test_loading_a_model_is_not_an_answer(name: str, sample: Samples, chat: Chat) -> None:
    """Ollama's empty text for a request without messages is an error."""
    body = sample(f"ollama/{name}").body
    with pytest.raises(UnexpectedResponseError, match="only loaded or unloaded"):
        OllamaChat().decode(body, chat())
    with pytest.raises(UnexpectedResponseError, match="only loaded or unloaded"):
        _read(chat(), body)


MESSAGES: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[Any, ...]]] = {
    "thinking": ({"content": "b", "thinking": "a"}, {}, ("b", "a", "stop", ())),
    "tags": ({"content": "<think>a</think>b"}, {}, ("b", "a", "stop", ())),
    "thinking cut": ({"thinking": "a"}, {"done_reason": "length"}, ("", "a", "length", ())),
    "unicode": ({"content": "é漢😀"}, {"done_reason": "stop"}, ("é漢😀", None, "stop", ())),
    "calls without ids": (
        {"content": "", "tool_calls": [{"function": {"name": n}} for n in "fg"]},
        {"done_reason": "stop"},
        ("", None, "tool_calls", (ToolCall("call_0", "f", "{}"), ToolCall("call_1", "g", "{}"))),
    ),
    "calls cut": (
        {"tool_calls": [{"id": "x", "function": {"name": "f", "arguments": {"a": "é"}}}]},
        {"done_reason": "length"},
        ("", None, "length", (ToolCall("x", "f", '{"a":"é"}'),)),
    ),
}


@pytest.mark.parametrize(("message", "fields", "expected"), MESSAGES.values(), ids=list(MESSAGES))
def test_whole_and_streamed_answers_are_read_alike(
    message: dict[str, Any], fields: dict[str, Any], expected: tuple[Any, ...], chat: Chat
) -> None:
    """Reasoning, calls and reasons are the same both ways."""
    _, streamed = _read(chat(), _line(message), _line(done=True, **fields))
    for output in (_decoded(chat(), message, **fields), streamed):
        (answer,) = output.outputs
        read = (answer.text, answer.reasoning, answer.finish_reason, answer.tool_calls)
        assert read == expected


def test_a_count_that_is_missing_stays_unknown(chat: Chat) -> None:
    """Ollama leaves out what it did not count."""
    assert _decoded(chat(), {"content": "a"}).usage is None
    assert _decoded(chat(), {"content": "a"}, eval_count=3).usage == Usage(None, 3, None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"done": false, "message": {"content": "a"}}',
        b'{"done": true}',
        b'{"done": true, "message": {"content": 5}}',
        b'{"done": true, "message": {"tool_calls": [{}]}}',
        b'{"choices": []}',
    ],
)
def test_other_bodies_are_errors(body: bytes, chat: Chat) -> None:
    """A body that is not a finished chat is an error that quotes it."""
    with pytest.raises(UnexpectedResponseError) as failed:
        OllamaChat().decode(body, chat())
    assert (body.decode() or "an empty body") in str(failed.value)


def test_an_error_in_the_stream_keeps_what_came(chat: Chat) -> None:
    """If the runner dies, the last line is an error."""
    with pytest.raises(InternalServerError, match="unexpected EOF") as failed:
        _read(chat(), _line({"content": "Hel"}), b'{"error":"an unexpected EOF"}\n')
    assert failed.value.partial is not None
    assert failed.value.partial.outputs[0].text == "Hel"
    assert not failed.value.partial.finished


@pytest.mark.parametrize(
    "line", [b"{oops}\n", b"[]\n", b"{}\n", b'{"message": {"content": 5}}\n', b"<html>", b"5"]
)
def test_line_of_another_kind_keeps_the_text(line: bytes, chat: Chat) -> None:
    """A line that is not part of a chat is an error that holds the text so far."""
    with pytest.raises(UnexpectedResponseError) as failed:
        _read(chat(), _line({"content": "Hel"}), line)
    assert failed.value.partial is not None
    assert failed.value.partial.outputs[0].text == "Hel"


def test_nothing_counts_after_the_end(chat: Chat) -> None:
    """Data after ``done`` is not read."""
    _, output = _read(chat(), _line({"content": "a"}, done=True), _line({"content": "b"}))
    assert output.outputs[0].text == "a"


def test_a_stream_without_its_end_is_incomplete(chat: Chat) -> None:
    """Only ``done`` ends an answer, and half a line does not count."""
    with pytest.raises(StreamIncompleteError) as failed:
        _read(chat(), _line({"content": "Hel"}), _line({"content": "lo"}, done=True)[:-3])
    assert failed.value.partial is not None
    assert failed.value.partial.outputs[0].text == "Hel"
    with pytest.raises(StreamIncompleteError):
        _read(chat())


def test_the_deltas_of_a_stream(chat: Chat) -> None:
    """Reasoning, text and the end are separate deltas; the counts come last."""
    deltas, _ = _read(
        chat(),
        _line({"content": "", "thinking": "a"}),
        _line({"content": "b"}),
        _line(done=True, done_reason="stop", prompt_eval_count=1, eval_count=2),
    )
    assert deltas == [
        Delta(reasoning="a"),
        Delta("b"),
        Delta(finish_reason="stop"),
        Delta(usage=Usage(1, 2, 3)),
    ]
