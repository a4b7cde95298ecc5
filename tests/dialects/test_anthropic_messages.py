"""Anthropic's Messages API: what is sent for chat messages, and how its answers are read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import (
    BadRequestError,
    InternalServerError,
    InvalidRequestError,
    RateLimitError,
    StreamIncompleteError,
    ToolCall,
    UnexpectedResponseError,
    Usage,
)
from llmengine.dialects.anthropic_messages import AnthropicMessages
from llmengine.types.request import ResponseFormat

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine import Delta, LLMOutput

DIALECT = AnthropicMessages()
HI = {"role": "user", "content": "Hi"}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
TEXT = {"type": "text", "text": "Hi"}


def message(*blocks: dict[str, Any], **fields: Any) -> bytes:
    """The body of a message with those blocks."""
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m-1"}
    usage = {"input_tokens": 3, "output_tokens": 2}
    body = head | {"content": list(blocks), "stop_reason": "end_turn", "usage": usage} | fields
    return json.dumps(body).encode()


def streamed(chat: Any, *events: dict[str, Any]) -> tuple[list[Delta], LLMOutput]:
    """The deltas and the answer of a stream with those events, which are read byte by byte."""
    decoder = DIALECT.decoder(chat(stream=True))
    body = b"".join(
        f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events
    )
    return [d for at in range(len(body)) for d in decoder.feed(body[at : at + 1])], decoder.finish()


START = {
    "type": "message_start",
    "message": {"id": "msg_1", "model": "m-1", "usage": {"input_tokens": 3, "output_tokens": 1}},
}
STOP = {"type": "message_stop"}


def start(index: int, **block: Any) -> dict[str, Any]:
    """The start of a block."""
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int, kind: str, **fields: Any) -> dict[str, Any]:
    """A delta of a block."""
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}}


def stop(index: int) -> dict[str, Any]:
    """The end of a block."""
    return {"type": "content_block_stop", "index": index}


def ended(reason: str, sequence: str | None = None, tokens: int = 2) -> dict[str, Any]:
    """The event with the stop_reason."""
    changed = {"stop_reason": reason, "stop_sequence": sequence}
    return {"type": "message_delta", "delta": changed, "usage": {"output_tokens": tokens}}


# ---- requests


@pytest.mark.parametrize(
    ("messages", "fields"),
    [
        ([HI], {"messages": [HI]}),
        (
            [{"role": "system", "content": "Be brief."}, HI],
            {"system": "Be brief.", "messages": [HI]},
        ),
        (
            [{"role": "developer", "content": "A"}, {"role": "system", "content": "B"}, HI],
            {"system": "A\n\nB", "messages": [HI]},
        ),
        (
            [{"role": "system", "content": [TEXT, TEXT | {"cache_control": {}}]}, HI],
            {"system": [TEXT, TEXT | {"cache_control": {}}], "messages": [HI]},
        ),
        ([HI, HI], {"messages": [HI, HI]}),
        (
            [HI, {"role": "system", "content": "Now in French."}],
            {"messages": [HI, {"role": "system", "content": "Now in French."}]},
        ),
        (
            [
                HI,
                {
                    "role": "assistant",
                    "content": "",
                    "reasoning": "Hm.",
                    "tool_calls": [CALL, CALL],
                },
                {"role": "tool", "tool_call_id": "c1", "content": "one"},
                {"role": "tool", "tool_call_id": "c2", "content": [TEXT, TEXT]},
                HI,
            ],
            {
                "messages": [
                    HI,
                    {
                        "role": "assistant",
                        "content": [
                            {"type": "thinking", "thinking": "Hm.", "signature": ""},
                            {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}},
                            {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}},
                        ],
                    },
                    {
                        "role": "user",
                        "content": [
                            {"type": "tool_result", "tool_use_id": "c1", "content": "one"},
                            {"type": "tool_result", "tool_use_id": "c2", "content": [TEXT, TEXT]},
                        ],
                    },
                    HI,
                ]
            },
        ),
        (
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                        {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}},
                        {**TEXT, "cache_control": {"type": "ephemeral"}},
                    ],
                }
            ],
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "image",
                                "source": {
                                    "type": "base64",
                                    "media_type": "image/png",
                                    "data": "AAAA",
                                },
                            },
                            {
                                "type": "image",
                                "source": {"type": "url", "url": "https://a.example/b.png"},
                            },
                            {**TEXT, "cache_control": {"type": "ephemeral"}},
                        ],
                    }
                ]
            },
        ),
    ],
)
def test_messages_become_system_and_turns(
    chat: Any, messages: list[Any], fields: dict[str, Any]
) -> None:
    """Nothing of the messages is lost, and the results of calls are in one message."""
    body = DIALECT.encode(chat(messages))

    assert {key: body[key] for key in ("system", "messages") if key in body} == fields
    assert body["max_tokens"] == 4096


@pytest.mark.parametrize(
    ("part", "problem"),
    [
        ({"content": [{"type": "input_audio"}]}, "message 0: .* no part of 'input_audio'"),
        ({"role": "tool", "content": "x"}, "message 0: tool_call_id is missing"),
        ({"content": 5}, "message 0: content is not a list"),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]},
            "message 0: the arguments of the call of 'f'",
        ),
    ],
)
def test_part_without_a_block_is_refused(chat: Any, part: dict[str, Any], problem: str) -> None:
    """The error names the message and the part, and nothing is sent."""
    with pytest.raises(InvalidRequestError, match=problem):
        DIALECT.encode(chat([HI | part]))


def test_sampling_has_anthropics_names(chat: Any) -> None:
    """A parameter without a field is refused, and one without an effect is left out."""
    body = DIALECT.encode(chat(max_tokens=5, temperature=0, top_p=0.5, top_k=3, stop=["a"], n=1))

    assert {k: body[k] for k in body if k not in {"model", "messages"}} == {
        "max_tokens": 5,
        "temperature": 0,
        "top_p": 0.5,
        "top_k": 3,
        "stop_sequences": ["a"],
    }
    assert "top_k" not in DIALECT.encode(chat(top_k=0))
    with pytest.raises(InvalidRequestError, match="'seed' is 1, but Anthropic's Messages API"):
        DIALECT.encode(chat(seed=1))


@pytest.mark.parametrize(
    ("choice", "written"),
    [
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ({"type": "function", "function": {"name": "f"}}, {"type": "tool", "name": "f"}),
        (
            {"type": "auto", "disable_parallel_tool_use": True},
            {"type": "auto", "disable_parallel_tool_use": True},
        ),
    ],
)
def test_tools_and_tool_choice_are_translated(chat: Any, choice: Any, written: Any) -> None:
    """The schema of a tool is its input_schema, and a choice in Anthropic's form is kept."""
    function = {"name": "f", "description": "Does f.", "parameters": {"type": "object"}}
    tools = ({"type": "function", "function": function}, {"type": "web_search_20250305"})
    body = DIALECT.encode(chat(tools=tools, tool_choice=choice))

    assert body["tool_choice"] == written
    assert body["tools"] == [
        {"name": "f", "description": "Does f.", "input_schema": {"type": "object"}},
        {"type": "web_search_20250305"},
    ]


def test_allowed_tools_are_refused(chat: Any) -> None:
    """The API has no such choice."""
    with pytest.raises(InvalidRequestError, match="allowed_tools"):
        DIALECT.encode(chat(tool_choice={"type": "allowed_tools"}))


@pytest.mark.parametrize(
    ("reasoning", "fields"),
    [
        (True, {"thinking": {"type": "enabled", "budget_tokens": 2048}}),
        (False, {"thinking": {"type": "disabled"}}),
        ("none", {"thinking": {"type": "disabled"}}),
        ("low", {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}),
    ],
)
def test_reasoning_becomes_thinking(chat: Any, reasoning: Any, fields: dict[str, Any]) -> None:
    """A switch sets a budget of half the limit, and an effort leaves the budget to the model."""
    body = DIALECT.encode(chat(reasoning=reasoning))

    assert {key: body[key] for key in ("thinking", "output_config") if key in body} == fields


def test_schema_and_extra_body_share_output_config(chat: Any) -> None:
    """An extra field is merged into the object that holds the schema."""
    request = chat(
        response_format=ResponseFormat({"type": "object"}),
        extra_body={"output_config": {"effort": "low"}, "metadata": {"user_id": "u"}},
    )

    body = DIALECT.encode(request)

    schema = {"type": "json_schema", "schema": {"type": "object"}}
    assert body["output_config"] == {"format": schema, "effort": "low"}
    assert body["metadata"] == {"user_id": "u"}


# ---- answers


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("stop_sequence", "stop"),
        ("refusal", "refusal"),
        ("pause_turn", "pause_turn"),
    ],
)
def test_stop_reason_becomes_a_finish_reason(chat: Any, reason: str, finish: str) -> None:
    """Whole and streamed, in the terms of chat completions."""
    whole = DIALECT.decode(message(TEXT, stop_reason=reason), chat())
    _, answer = streamed(
        chat, START, start(0, type="text", text=""), delta(0, "text_delta", text="Hi"), stop(0),
        ended(reason), STOP,
    )  # fmt: skip

    assert whole.outputs == answer.outputs
    assert whole.outputs[0].finish_reason == finish


def test_blocks_of_an_answer_are_read(chat: Any) -> None:
    """Thinking is the reasoning, and blocks of unknown types hold no answer."""
    call = {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}}
    blocks = [
        {"type": "thinking", "thinking": "Hm.", "signature": "s"},
        {"type": "redacted_thinking", "data": "x"},
        TEXT,
        {"type": "hologram"},
        call,
    ]
    usage = {
        "input_tokens": 3,
        "cache_creation_input_tokens": 5,
        "cache_read_input_tokens": 7,
        "output_tokens": 2,
        "output_tokens_details": {"thinking_tokens": 1},
    }

    output = DIALECT.decode(message(*blocks, stop_reason="tool_use", usage=usage), chat())

    (answer,) = output.outputs
    assert (output.request_id, output.model) == ("msg_1", "m-1")
    assert (answer.reasoning, answer.text, answer.finish_reason) == ("Hm.", "Hi", "tool_calls")
    assert answer.tool_calls == (ToolCall("t1", "f", '{"a":1}'),)
    assert output.usage == Usage(15, 2, 17, 7, 1)


def test_stop_sequence_is_the_stop_reason(chat: Any) -> None:
    """It is where vLLM's own format has it."""
    body = message(TEXT, stop_reason="stop_sequence", stop_sequence="!")

    assert DIALECT.decode(body, chat()).outputs[0].stop_reason == "!"


def test_stream_joins_blocks_by_their_index(chat: Any) -> None:
    """Pings and unknown types are ignored, and a call without deltas has its first input."""
    deltas, output = streamed(
        chat,
        START,
        {"type": "ping"},
        start(0, type="thinking", thinking="", signature=""),
        delta(0, "thinking_delta", thinking="Hm."),
        delta(0, "signature_delta", signature="s"),
        stop(0),
        {"type": "hologram", "index": 0},
        start(1, type="text", text=""),
        delta(1, "text_delta", text="Hi"),
        delta(1, "hologram_delta", data="x"),
        stop(1),
        start(2, type="tool_use", id="t1", name="f", input={}),
        delta(2, "input_json_delta", partial_json=""),
        delta(2, "input_json_delta", partial_json='{"a":'),
        delta(2, "input_json_delta", partial_json=" 1}"),
        stop(2),
        start(3, type="tool_use", id="t2", name="g", input={}),
        stop(3),
        ended("tool_use", tokens=9),
        STOP,
    )

    (answer,) = output.outputs
    assert (answer.reasoning, answer.text, answer.finish_reason) == ("Hm.", "Hi", "tool_calls")
    assert answer.tool_calls == (ToolCall("t1", "f", '{"a": 1}'), ToolCall("t2", "g", "{}"))
    assert output.usage == Usage(3, 9, 12)
    assert [d.usage for d in deltas if d.usage] == [output.usage]


@pytest.mark.parametrize(
    ("kind", "error", "status"),
    [
        ("overloaded_error", InternalServerError, 529),
        ("rate_limit_error", RateLimitError, 429),
        ("invalid_request_error", BadRequestError, 400),
        ("api_error", InternalServerError, 500),
    ],
)
def test_error_event_has_the_status_of_its_type(
    chat: Any, kind: str, error: type[Exception], status: int
) -> None:
    """The error keeps the text that had arrived."""
    failed = {"type": "error", "error": {"type": kind, "message": "no"}}

    with pytest.raises(error) as caught:
        streamed(chat, START, start(0, type="text", text="Half"), failed)

    assert caught.value.status == status
    assert caught.value.type == kind
    assert caught.value.partial.outputs[0].text == "Half"


@pytest.mark.parametrize("events", [[ended("end_turn")], [STOP], []])
def test_stream_without_a_reason_or_an_end_is_incomplete(chat: Any, events: list[Any]) -> None:
    """Both are needed, because either may be missing after a crash."""
    with pytest.raises(StreamIncompleteError) as caught:
        streamed(chat, START, start(0, type="text", text="Half"), stop(0), *events)

    assert caught.value.partial.outputs[0].text == "Half"


@pytest.mark.parametrize("stop_reason", [None, "error", "abort"])
def test_message_that_has_not_ended_is_an_error(chat: Any, stop_reason: str | None) -> None:
    """The error holds the text."""
    with pytest.raises((UnexpectedResponseError, InternalServerError)) as caught:
        DIALECT.decode(message(TEXT, stop_reason=stop_reason), chat())

    assert caught.value.partial.outputs[0].text == "Hi"
    assert not caught.value.partial.finished


@pytest.mark.parametrize(
    ("name", "prompt_tokens"),
    [("ollama/anthropic_messages.json", 12), ("llamacpp/messages.json", 33)],
)
def test_message_of_a_real_server_is_read(
    sample: Callable[[str], Any], chat: Any, name: str, prompt_tokens: int
) -> None:
    """llama.cpp counts the tokens of its cache apart, and Ollama leaves stop_sequence out."""
    output = DIALECT.decode(sample(name).body, chat())

    assert output.outputs[0].text
    assert output.outputs[0].finish_reason == "length"
    assert output.usage == Usage(
        prompt_tokens, 12, prompt_tokens + 12, output.usage.cached_tokens, None
    )
