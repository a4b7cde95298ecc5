"""OpenAI's responses API: what is sent for chat messages, and how its answers are read."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import (
    BadRequestError,
    InternalServerError,
    InvalidRequestError,
    RateLimitError,
    SamplingParams,
    StreamIncompleteError,
    ToolCall,
    UnexpectedResponseError,
)
from llmengine.dialects.openai_responses import OpenAIResponses
from llmengine.types.request import ChatRequest, ResponseFormat, to_messages

if TYPE_CHECKING:
    from llmengine import Delta, LLMOutput

DIALECT = OpenAIResponses()


def asked(prompt: Any = "hi", *, sampling: Any = None, **fields: Any) -> ChatRequest:
    """A request for that prompt."""
    params = SamplingParams.of(sampling)
    return ChatRequest("m", prompt, to_messages(prompt), params, **fields)


def response(*items: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A whole response with those output items."""
    head = {"id": "resp_1", "model": "m-1", "status": "completed", "output": list(items)}
    return head | fields


def message(text: str, **fields: Any) -> dict[str, Any]:
    """A message item with that text."""
    return {"type": "message", "content": [{"type": "output_text", "text": text}]} | fields


def decoded(body: dict[str, Any]) -> LLMOutput:
    """The decoded answer of a body."""
    return DIALECT.decode(json.dumps(body).encode(), asked())


def stream(*events: dict[str, Any]) -> bytes:
    """The bytes of a stream of those events, whose types lack their ``response.``."""
    lines = []
    for event in events:
        kind = event["type"] if event["type"] == "error" else f"response.{event['type']}"
        lines.append(f"event: {kind}\ndata: {json.dumps({**event, 'type': kind})}\n\n")
    return "".join(lines).encode()


def read(data: bytes, size: int = 1 << 20) -> tuple[list[Delta], LLMOutput]:
    """The deltas and the whole answer of a stream in pieces of that many bytes."""
    decoder = DIALECT.decoder(asked())
    deltas = [d for i in range(0, len(data), size) for d in decoder.feed(data[i : i + size])]
    return deltas, decoder.finish()


# ---- what is sent


def test_a_body_has_the_names_of_this_api() -> None:
    """Sampling, format and reasoning have their places; nothing is stored."""
    body = DIALECT.encode(
        asked(
            sampling={"max_tokens": 9, "temperature": 0.5, "logprobs": 2},
            response_format=ResponseFormat({"type": "object"}, "thing"),
            reasoning="low",
            stream=True,
            extra_body={"text": {"verbosity": "low"}, "reasoning": {"summary": "auto"}},
        )
    )

    wanted = {"type": "json_schema", "name": "thing", "schema": {"type": "object"}, "strict": True}
    assert body == {
        "model": "m",
        "input": [{"role": "user", "content": "hi"}],
        "store": False,
        "max_output_tokens": 9,
        "temperature": 0.5,
        "top_logprobs": 2,
        "include": ["message.output_text.logprobs"],
        "text": {"format": wanted, "verbosity": "low"},
        "reasoning": {"effort": "low", "summary": "auto"},
        "stream": True,
    }


@pytest.mark.parametrize(
    ("given", "items"),
    [
        (
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "see"},
                    {"type": "image_url", "image_url": {"url": "data:x", "detail": "low"}},
                    {"type": "image_url", "image_url": {"url": "data:y"}},
                    {"type": "file", "file": {"file_id": "f"}},
                    {"type": "input_text", "text": "as it is"},
                ],
            },
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "see"},
                        {"type": "input_image", "image_url": "data:x", "detail": "low"},
                        {"type": "input_image", "image_url": "data:y"},
                        {"type": "input_file", "file_id": "f"},
                        {"type": "input_text", "text": "as it is"},
                    ],
                }
            ],
        ),
        (
            {"role": "assistant", "content": [{"type": "text", "text": "said"}], "reasoning": "r"},
            [{"role": "assistant", "content": [{"type": "output_text", "text": "said"}]}],
        ),
        (
            {
                "role": "assistant",
                "content": "calling",
                "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": "{}"}}],
            },
            [
                {"role": "assistant", "content": "calling"},
                {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
            ],
        ),
        (
            {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "4"}]},
            [
                {
                    "type": "function_call_output",
                    "call_id": "c1",
                    "output": [{"type": "input_text", "text": "4"}],
                }
            ],
        ),
    ],
    ids=["parts", "assistant", "calls", "tool"],
)
def test_messages_become_items(given: dict[str, Any], items: list[dict[str, Any]]) -> None:
    """The spelling of chats is converted to that of this API."""
    assert DIALECT.encode(asked([given]))["input"] == items


def test_field_of_a_message_without_a_place_is_refused() -> None:
    """The error names the field and what to do; a null field is dropped."""
    DIALECT.encode(asked([{"role": "user", "content": "hi", "name": None}]))

    with pytest.raises(InvalidRequestError, match=r"'name'.*api: chat"):
        DIALECT.encode(asked([{"role": "user", "content": "hi", "name": "Ann"}]))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"role": "user", "content": 5}, "content is not a list: 5"),
        ({"role": "user", "content": ["hi"]}, "an item of content is not a mapping"),
        ({"role": "user", "content": [{"type": "file"}]}, r"content\[\].file is missing"),
        ({"role": "assistant", "tool_calls": {"id": "c1"}}, "tool_calls is not a list"),
        ({"role": "assistant", "tool_calls": [{}]}, r"tool_calls\[\].function is missing"),
    ],
)
def test_messages_of_another_form_are_refused(given: dict[str, Any], words: str) -> None:
    """The error names the message and the field."""
    with pytest.raises(InvalidRequestError, match=f"^message 1: {words}"):
        DIALECT.encode(asked([{"role": "user", "content": "hi"}, given]))


def test_content_may_be_any_kind_of_list_and_mapping() -> None:
    """A tuple of read-only mappings is sent like a list of dictionaries."""
    parts = (MappingProxyType({"type": "text", "text": "hi"}),)
    assert DIALECT.encode(asked([{"role": "user", "content": parts}]))["input"] == [
        {"role": "user", "content": [{"type": "input_text", "text": "hi"}]}
    ]


def test_tools_are_flattened_and_own_tools_stay() -> None:
    """``strict`` is always sent: its default is true here and false in chats."""
    function = {"type": "function", "function": {"name": "f", "parameters": {}}}
    choice = {"type": "function", "function": {"name": "f"}}

    body = DIALECT.encode(asked(tools=(function, {"type": "web_search"}), tool_choice=choice))

    flat = {"type": "function", "name": "f", "parameters": {}, "strict": False}
    assert body["tools"] == [flat, {"type": "web_search"}]
    assert body["tool_choice"] == {"type": "function", "name": "f"}


# ---- what is read


def test_reasoning_is_read_in_the_models_words_or_in_summary() -> None:
    """Summaries are joined by blank lines; a commentary is not an answer."""
    summary = [{"type": "summary_text", "text": "one"}, {"type": "summary_text", "text": "two"}]
    words = [{"type": "reasoning_text", "text": "raw"}]

    output = decoded(
        response(
            {"type": "reasoning", "summary": summary},
            {"type": "reasoning", "summary": summary, "content": words},
            message("Looking it up.", phase="commentary"),
            message("Four.", phase="final_answer"),
        )
    )

    assert output.reasoning == "one\n\ntwo\n\nraw\n\nLooking it up."
    assert output.outputs[0].text == "Four."


def test_usage_and_calls_are_read() -> None:
    """Cached and reasoning tokens; calls of functions and of free-form tools."""
    usage = {
        "input_tokens": 5,
        "input_tokens_details": {"cached_tokens": 4},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 8,
    }

    output = decoded(
        response(
            {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
            {"type": "custom_tool_call", "call_id": "b", "name": "g", "input": "free text"},
            usage=usage,
        )
    )

    assert output.tool_calls == (ToolCall("a", "f", "{}"), ToolCall("b", "g", "free text"))
    assert output.outputs[0].finish_reason == "tool_calls"
    found = output.usage
    assert found is not None
    assert (found.prompt_tokens, found.completion_tokens, found.total_tokens) == (5, 3, 8)
    assert (found.cached_tokens, found.reasoning_tokens) == (4, 2)


@pytest.mark.parametrize(
    ("reason", "finish"),
    [("max_output_tokens", "length"), ("content_filter", "content_filter"), (None, "incomplete")],
)
def test_incomplete_responses_say_why(reason: str | None, finish: str) -> None:
    """A cut answer never has the reason "stop", whole or streamed."""
    body = response(message("Ha"), status="incomplete", incomplete_details={"reason": reason})
    streamed = stream(
        {"type": "output_text.delta", "output_index": 0, "delta": "Ha"},
        {"type": "incomplete", "response": body},
    )

    assert decoded(body).outputs[0].finish_reason == finish
    assert read(streamed)[1].outputs[0].finish_reason == finish


@pytest.mark.parametrize(
    ("code", "kind", "retryable"),
    [
        ("server_error", InternalServerError, True),
        ("rate_limit_exceeded", RateLimitError, True),
        ("invalid_prompt", BadRequestError, False),
        ("image_too_large", BadRequestError, False),
    ],
)
def test_failed_responses_are_errors_with_their_cost(
    code: str, kind: type[Exception], retryable: bool
) -> None:
    """A failure comes with status 200, whole or as the end of a stream."""
    body = response(
        status="failed",
        error={"code": code, "message": "went wrong"},
        usage={"input_tokens": 5, "output_tokens": 0, "total_tokens": 5},
    )
    streamed = stream(
        {"type": "created", "response": response(status="in_progress")},
        {"type": "output_text.delta", "output_index": 0, "delta": "Half"},
        {"type": "failed", "response": body},
    )

    with pytest.raises(kind, match="went wrong") as whole:
        decoded(body)
    with pytest.raises(kind, match="went wrong") as failed:
        read(streamed)

    for error in (whole.value, failed.value):
        assert error.usage.total_tokens == 5  # type: ignore[attr-defined]
        assert error.retryable is retryable  # type: ignore[attr-defined]
    assert failed.value.partial.outputs[0].text == "Half"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "body",
    [
        response(status="queued"),
        response(status="cancelled"),
        response(output=None),
        response({"type": "message", "content": 7}),
        {"choices": []},
    ],
    ids=["queued", "cancelled", "no output", "odd content", "chat"],
)
def test_body_that_is_not_a_finished_response_is_an_error(body: dict[str, Any]) -> None:
    """The error quotes the body."""
    with pytest.raises(UnexpectedResponseError):
        decoded(body)


# ---- streams

EVENTS: list[dict[str, Any]] = [
    {"type": "created", "response": response(status="in_progress")},
    {"type": "output_item.added", "output_index": 0, "item": {"type": "reasoning"}},
    {"type": "reasoning_summary_part.added", "output_index": 0, "summary_index": 0},
    {"type": "reasoning_summary_text.delta", "output_index": 0, "delta": "one"},
    {"type": "reasoning_summary_part.added", "output_index": 0, "summary_index": 1},
    {"type": "reasoning_summary_text.delta", "output_index": 0, "delta": "two"},
    {
        "type": "output_item.added",
        "output_index": 1,
        "item": {"type": "message", "phase": "commentary"},
    },
    {"type": "output_text.delta", "output_index": 1, "delta": " Looking."},
    {"type": "output_item.added", "output_index": 2, "item": {"type": "message"}},
    {"type": "output_text.delta", "output_index": 2, "delta": "Grüße "},
    {"type": "output_text.delta", "output_index": 2, "delta": "😀"},
    {
        "type": "output_item.added",
        "output_index": 3,
        "item": {"type": "function_call", "call_id": "a", "name": "f", "arguments": ""},
    },
    {"type": "function_call_arguments.delta", "output_index": 3, "delta": '{"x":'},
    {"type": "function_call_arguments.delta", "output_index": 3, "delta": "1}"},
    {
        "type": "output_item.done",
        "output_index": 3,
        "item": {"type": "function_call", "call_id": "a", "name": "f", "arguments": '{"x":1}'},
    },
    {
        "type": "output_item.added",
        "output_index": 4,
        "item": {"type": "function_call", "call_id": "b", "name": "g", "arguments": ""},
    },
    {
        "type": "output_item.done",
        "output_index": 4,
        "item": {"type": "function_call", "call_id": "b", "name": "g", "arguments": "{}"},
    },
    {
        "type": "completed",
        "response": response(usage={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}),
    },
]
STREAM = stream(*EVENTS)


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_stream_joins_to_the_whole_wherever_it_is_cut(size: int) -> None:
    """Text, reasoning and calls, also a call whose arguments come only at its end."""
    deltas, output = read(STREAM, size)

    answer = output.outputs[0]
    assert answer.text == "".join(d.text for d in deltas) == "Grüße 😀"
    assert answer.reasoning == "".join(d.reasoning for d in deltas) == "one\n\ntwo Looking."
    assert answer.tool_calls == (ToolCall("a", "f", '{"x":1}'), ToolCall("b", "g", "{}"))
    assert (answer.finish_reason, output.finished, output.model) == ("tool_calls", True, "m-1")
    assert output.usage is not None
    assert deltas[-1].usage == output.usage


def _with_ids(event: dict[str, Any]) -> dict[str, Any]:
    """The event as llama.cpp sends it: with the id of the item instead of its index."""
    named = {key: value for key, value in event.items() if key != "output_index"}
    if (index := event.get("output_index")) is None:
        return named
    if "item" in event:
        return {**named, "item": {**event["item"], "id": f"item_{index}"}}
    return {**named, "item_id": f"item_{index}"}


def test_items_are_told_apart_by_their_ids_too() -> None:
    """A stream without output_index is read in the same way, also the calls in it."""
    _, output = read(stream(*map(_with_ids, EVENTS)))

    assert output.outputs == read(STREAM)[1].outputs


def test_call_without_index_and_id_is_an_error() -> None:
    """Nothing says to which call the arguments belong."""
    event = {"type": "function_call_arguments.delta", "delta": "{}"}

    with pytest.raises(UnexpectedResponseError, match="output_index is missing"):
        read(stream(EVENTS[0], event))


def test_stream_without_its_end_is_incomplete() -> None:
    """Every cut before the terminal event is noticed."""
    ends = [i for i in range(len(STREAM)) if STREAM.startswith(b"event: ", i)]
    for end in ends:
        with pytest.raises(StreamIncompleteError):
            read(STREAM[:end])


def test_error_event_is_raised_with_the_text_so_far() -> None:
    """The error has the code and message of the event."""
    data = stream(
        {"type": "output_text.delta", "output_index": 0, "delta": "Half"},
        {"type": "error", "code": "rate_limit_exceeded", "message": "slow down", "param": None},
    )

    with pytest.raises(RateLimitError, match="slow down") as caught:
        read(data)

    assert caught.value.code == "rate_limit_exceeded"
    assert caught.value.partial is not None
    assert caught.value.partial.outputs[0].text == "Half"


@pytest.mark.parametrize(
    "data",
    [b"data: nonsense\n\n", b"data: []\n\n", b'data: {"no": "type"}\n\n', b"<html>\n"],
)
def test_body_that_is_not_a_stream_is_quoted(data: bytes) -> None:
    """Another body in place of a stream is never an empty answer."""
    with pytest.raises(UnexpectedResponseError):
        read(data)
