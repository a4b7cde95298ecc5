"""Streams of OpenAI's chat format that are not recorded: faults and odd servers."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import (
    ContextLengthError,
    Delta,
    InternalServerError,
    LLMOutput,
    RateLimitError,
    StreamIncompleteError,
    ToolCall,
    UnexpectedResponseError,
    Usage,
)
from llmengine.dialects.openai_chat import OpenAIChat
from llmengine.types.outputs import ToolCallDelta

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine.types.request import ChatRequest

    Chat = Callable[..., ChatRequest]

DONE = b"data: [DONE]\n\n"


def _event(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def _chunk(delta: Any = None, finish: str | None = None, index: int = 0, **fields: Any) -> bytes:
    choice = {"index": index, "delta": delta or {}, "finish_reason": finish}
    return _event({"id": "c-1", "model": "m", "choices": [choice], **fields})


def _text(text: str, finish: str | None = None, index: int = 0) -> bytes:
    return _chunk({"content": text}, finish, index)


def _read(request: ChatRequest, *pieces: bytes, **switches: Any) -> tuple[list[Delta], LLMOutput]:
    decoder = OpenAIChat(**switches).decoder(request)
    deltas = [delta for piece in pieces for delta in decoder.feed(piece)]
    return deltas, decoder.finish()


def _partial(error: Any) -> LLMOutput:
    assert isinstance(error.partial, LLMOutput)
    return error.partial


def test_reasoning_fields(chat: Chat) -> None:
    """Both names of the reasoning field are read, apart from the text."""
    deltas, output = _read(
        chat(),
        _chunk({"role": "assistant", "content": ""}),
        _chunk({"reasoning": "a"}),
        _chunk({"reasoning_content": "b", "content": None}),
        _text("c", "stop"),
        DONE,
    )
    assert [(d.reasoning, d.text) for d in deltas] == [("a", ""), ("b", ""), ("", "c")]
    assert (output.reasoning, output.outputs[0].text) == ("ab", "c")


def test_think_tags_over_chunks(chat: Chat) -> None:
    """A tag in pieces is never in the text, and a "<" that begins no tag is kept."""
    pieces = ["<th", "ink>1 <", " 2</", "think", ">\n", "\nx <", "b"]
    deltas, output = _read(chat(), *map(_text, pieces), _chunk(finish="stop"), DONE)
    assert "".join(d.text for d in deltas) == output.outputs[0].text == "x <b"
    assert "".join(d.reasoning for d in deltas) == output.reasoning == "1 < 2"


def test_a_closing_tag_alone_parts_the_whole_answer(chat: Chat) -> None:
    """The deltas were delivered before the tag came; the answer at the end is right."""
    deltas, output = _read(chat(), _text("hm"), _text("</think>\n\nHi"), _text(".", "stop"), DONE)
    assert "".join(d.text for d in deltas) == "hm</think>\n\nHi."
    assert (output.reasoning, output.outputs[0].text) == ("hm", "Hi.")


def test_thinking_parts_in_a_stream(chat: Chat) -> None:
    """Mistral's deltas hold lists of parts."""
    thought = {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "a"}]}]}
    deltas, output = _read(chat(), _chunk(thought), _text("b", "stop"), DONE)
    assert [(d.reasoning, d.text) for d in deltas] == [("a", ""), ("", "b")]
    assert (output.reasoning, output.outputs[0].text) == ("a", "b")


def test_text_held_back_comes_with_the_end(chat: Chat) -> None:
    """An answer that ends in half a tag keeps it, in the deltas too."""
    deltas, output = _read(chat(), _text("<thi"), _chunk(finish="length"), DONE)
    assert deltas == [Delta("<thi", finish_reason="length")]
    assert output.outputs[0].text == "<thi"


def test_blanks_before_a_reasoning_field_are_text(chat: Chat) -> None:
    """Text held back as a possible tag is delivered if the server separates reasoning itself."""
    _, output = _read(chat(), _text("\n"), _chunk({"reasoning": "a"}), _text("<think>", "stop"))
    assert (output.reasoning, output.outputs[0].text) == ("a", "\n<think>")


def test_tool_calls_with_one_index_are_separated_by_id(chat: Chat) -> None:
    """Ollama gives every call the index 0, and sends each call whole."""
    calls = [
        {"id": f"call_{c}", "index": 0, "function": {"name": "f", "arguments": f'{{"a":"{c}"}}'}}
        for c in "xy"
    ]
    deltas, output = _read(
        chat(), _chunk({"tool_calls": calls[:1]}), _chunk({"tool_calls": calls[1:]}, "tool_calls")
    )
    assert output.tool_calls == (
        ToolCall("call_x", "f", '{"a":"x"}'),
        ToolCall("call_y", "f", '{"a":"y"}'),
    )
    assert [d.tool_calls[0].index for d in deltas] == [0, 1]


def test_tool_calls_without_an_index(chat: Chat) -> None:
    """A fragment without id and index belongs to the last call; a name begins another."""
    calls: list[dict[str, Any]] = [
        {"id": "x", "function": {"name": "f", "arguments": "{"}},
        {"function": {"arguments": "}"}},
        {"function": {"name": "g", "arguments": "[]"}},
    ]
    _, output = _read(
        chat(), *(_chunk({"tool_calls": [c]}) for c in calls), _chunk(finish="tool_calls")
    )
    assert output.tool_calls == (ToolCall("x", "f", "{}"), ToolCall("", "g", "[]"))


@pytest.mark.parametrize(
    ("fragments", "calls"),
    [
        # No ids: a second name under one index is a second call.
        (
            [(None, 0, "f", "{}"), (None, 0, "g", "[]")],
            [("", "f", "{}"), ("", "g", "[]")],
        ),
        # No ids and one name: nothing is added to a whole call.
        (
            [(None, 0, "f", '{"a":1}'), (None, 0, "f", '{"a":2}')],
            [("", "f", '{"a":1}'), ("", "f", '{"a":2}')],
        ),
        # The name on every fragment of one call.
        ([("x", 0, "f", '{"a"'), (None, 0, "f", ":1}")], [("x", "f", '{"a":1}')]),
        # One id for two calls.
        (
            [("x", 0, "f", "{}"), ("x", 1, "g", "[]"), (None, 1, None, " ")],
            [("x", "f", "{}"), ("x", "g", "[] ")],
        ),
        # The id after the name.
        ([(None, 0, "f", ""), ("x", 0, None, "{}")], [("x", "f", "{}")]),
        # Two ids under one index, each in pieces.
        (
            [
                ("x", 0, "f", ""),
                (None, 0, None, "{}"),
                ("y", 0, "g", ""),
                (None, 0, None, "[]"),
            ],
            [("x", "f", "{}"), ("y", "g", "[]")],
        ),
        # Arguments as an object.
        ([("x", 0, "f", {"a": 1})], [("x", "f", '{"a":1}')]),
    ],
)
def test_calls_are_separated_however_they_are_numbered(
    fragments: list[tuple[Any, ...]], calls: list[tuple[str, str, str]], chat: Chat
) -> None:
    """Two calls are never joined into one, and one is never split in two."""
    pieces = [
        {"id": i, "index": n, "function": {"name": name, "arguments": arguments}}
        for i, n, name, arguments in fragments
    ]
    deltas, output = _read(
        chat(), *(_chunk({"tool_calls": [p]}) for p in pieces), _chunk(finish="tool_calls"), DONE
    )

    assert output.tool_calls == tuple([ToolCall(*call) for call in calls])
    for place, (_, _, arguments) in enumerate(calls):
        own = [c for d in deltas for c in d.tool_calls if c.index == place]
        assert "".join(c.arguments for c in own) == arguments


def test_interleaved_tool_calls(chat: Chat) -> None:
    """Fragments join by index; id and name come on the first fragment only."""
    fragments: list[dict[str, Any]] = [
        {"index": 0, "id": "x", "function": {"name": "f"}},
        {"index": 1, "id": "y", "function": {"name": "g", "arguments": ""}},
        {"index": 0, "id": "x", "function": {"name": "f", "arguments": "{"}},
        {"index": 1, "function": {"arguments": "[]"}},
        {"index": 0, "function": {"arguments": "}"}},
    ]
    deltas, output = _read(
        chat(), *(_chunk({"tool_calls": [f]}) for f in fragments), _chunk(finish="tool_calls")
    )
    assert output.tool_calls == (ToolCall("x", "f", "{}"), ToolCall("y", "g", "[]"))
    assert [d.tool_calls[0] for d in deltas if d.tool_calls] == [
        ToolCallDelta(0, "x", "f"),
        ToolCallDelta(1, "y", "g"),
        ToolCallDelta(0, arguments="{"),
        ToolCallDelta(1, arguments="[]"),
        ToolCallDelta(0, arguments="}"),
    ]


def test_several_answers_at_once(chat: Chat) -> None:
    """Choices have their index, and come back in its order."""
    _, output = _read(
        chat(n=2), _text("b", index=1), _text("a"), _text("B", "stop", 1), _text("A", "length")
    )
    assert [(o.index, o.text, o.finish_reason) for o in output.outputs] == [
        (0, "aA", "length"),
        (1, "bB", "stop"),
    ]


def test_a_token_may_come_before_its_text(chat: Chat) -> None:
    """A server that holds text back for a stop string has sent the token already."""
    held = {"index": 0, "delta": {}, "token_ids": [5]}
    deltas, output = _read(chat(), _event({"choices": [held]}), _text("a", "stop"))
    assert deltas[0] == Delta(token_ids=(5,))
    assert not deltas[0].has_content
    assert output.outputs[0].token_ids == (5,)


def test_missing_token_ids_are_unknown(chat: Chat) -> None:
    """An answer without ids has None, which differs from an answer without tokens."""
    _, output = _read(chat(), _text("a", "stop"))
    assert (output.prompt_token_ids, output.outputs[0].token_ids) == (None, None)


def test_token_ids_and_the_stop_reason(chat: Chat) -> None:
    """The additions of vLLM are joined: token ids of prompt and answer, and the stop reason."""
    first = {"index": 0, "delta": {"content": "a"}, "token_ids": [5, 6]}
    last = {"index": 0, "delta": {}, "token_ids": [7], "finish_reason": "stop", "stop_reason": 7}
    deltas, output = _read(
        chat(),
        _event({"choices": [first], "prompt_token_ids": [1, 2]}),
        _event({"choices": [last]}),
    )
    assert [d.prompt_token_ids for d in deltas] == [(1, 2), None, None]
    assert [d.token_ids for d in deltas] == [(), (5, 6), (7,)]
    assert output.prompt_token_ids == (1, 2)
    assert output.outputs[0].token_ids == (5, 6, 7)
    assert output.outputs[0].stop_reason == 7


def test_nothing_counts_after_done(chat: Chat) -> None:
    """Data after ``[DONE]`` is not read, also a second ``[DONE]``."""
    deltas, output = _read(chat(), _text("a", "stop"), DONE + b"data: oops\n\n" + DONE)
    assert [d.text for d in deltas] == [output.outputs[0].text] == ["a"]


def test_usage_on_every_chunk_is_one_delta(chat: Chat) -> None:
    """The counts are updated and come once, in the last delta."""
    counts = [{"prompt_tokens": 1, "completion_tokens": c, "total_tokens": 1 + c} for c in (1, 2)]
    deltas, output = _read(
        chat(),
        _chunk({"content": "a"}, usage=counts[0]),
        _chunk({"content": "b"}, "stop", usage=counts[1]),
        DONE,
    )
    assert output.usage == Usage(1, 2, 3)
    assert [d.usage for d in deltas] == [None, None, Usage(1, 2, 3)]


def test_comments_and_empty_chunks_give_no_delta(chat: Chat) -> None:
    """Keep-alives and the chunk that has only a role are not content."""
    decoder = OpenAIChat().decoder(chat())
    assert decoder.feed(b": keep-alive\n\n") == []
    assert decoder.feed(_chunk({"role": "assistant", "content": ""})) == []
    assert decoder.feed(_event({"choices": [], "usage": None})) == []


def test_an_error_in_the_stream_keeps_what_came(chat: Chat) -> None:
    """A vLLM that dies sends an error event and then ``[DONE]``."""
    death = {"error": {"message": "EngineCore died", "type": "InternalServerError", "code": 500}}
    with pytest.raises(InternalServerError, match="EngineCore died") as failed:
        _read(chat(), _text("Hel") + _text("lo") + _event(death) + DONE)
    assert failed.value.status == 500
    assert _partial(failed.value).outputs[0].text == "Hello"
    assert not _partial(failed.value).finished


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        ({"message": "slow down", "code": 429}, RateLimitError, 429),
        ({"message": "slow down", "code": "429"}, RateLimitError, 429),
        ({"message": "too long", "code": "context_length_exceeded"}, ContextLengthError, 500),
        ({"message": "boom"}, InternalServerError, 500),
        ("boom", InternalServerError, 500),
    ],
)
def test_kinds_of_errors_in_the_stream(
    error: Any, kind: type[Exception], status: int, chat: Chat
) -> None:
    """The code decides, since the status is 200 already."""
    with pytest.raises(kind) as failed:
        _read(chat(), _event({"error": error}))
    assert type(failed.value) is kind
    assert getattr(failed.value, "status", None) == status


@pytest.mark.parametrize(
    "event",
    [
        b"data: {not json}\n\n",
        b"data: [1]\n\n",
        b"data: \xff\n\n",
        b"data: {}\n\n",
        b'data: {"choices": 5}\n\n',
        b'data: {"choices": [{"delta": {"content": 5}}]}\n\n',
        b'data: {"choices": [{"delta": 5}]}\n\n',
    ],
)
def test_event_that_is_not_a_chunk_keeps_the_text(event: bytes, chat: Chat) -> None:
    """The error quotes the event and holds the text so far."""
    with pytest.raises(UnexpectedResponseError) as failed:
        _read(chat(), _text("Hel"), event)
    assert _partial(failed.value).outputs[0].text == "Hel"


def test_done_without_a_finish_reason_is_incomplete(chat: Chat) -> None:
    """A vLLM that died sends ``[DONE]`` too."""
    with pytest.raises(StreamIncompleteError) as failed:
        _read(chat(), _text("Hel"), DONE)
    assert _partial(failed.value).outputs[0].text == "Hel"
    assert failed.value.retryable


def test_a_server_that_gives_no_finish_reason_can_be_trusted(chat: Chat) -> None:
    """If a server ends with null, ``[DONE]`` after content completes the answer."""
    deltas, output = _read(chat(), _text("Hel"), _text("<"), DONE, done_completes=True)
    assert output.finished
    assert output.outputs[0].text == "".join(d.text for d in deltas) == "Hel<"


@pytest.mark.parametrize("end", [[], [_chunk({"role": "assistant", "content": ""}), DONE], [DONE]])
def test_trust_needs_content_and_done(end: list[bytes], chat: Chat) -> None:
    """Without content or without ``[DONE]`` the answer is incomplete."""
    content = [] if end else [_text("Hel")]
    with pytest.raises(StreamIncompleteError):
        _read(chat(), *content, *end, done_completes=True)


def test_the_death_of_ollamas_runner_is_incomplete(chat: Chat) -> None:
    """A last chunk with an empty model, no reason and no ``[DONE]`` is not an end."""
    last = {"id": "c-1", "model": "", "choices": [{"index": 0, "delta": {"content": ""}}]}
    with pytest.raises(StreamIncompleteError) as failed:
        _read(chat(), _text("Hel"), _event(last), done_completes=True)
    assert _partial(failed.value).model == "m"


def test_an_answer_that_never_began_is_missed(chat: Chat) -> None:
    """One of two answers is missing; after ``[DONE]`` the server ignores n."""
    with pytest.raises(StreamIncompleteError):
        _read(chat(n=2), _text("a", "stop"))
    with pytest.raises(UnexpectedResponseError, match=r"asked for 2 answers .* sent 1;") as few:
        _read(chat(n=2), _text("a", "stop"), DONE)
    assert not few.value.retryable
    assert _partial(few.value).outputs[0].text == "a"


def test_one_of_two_answers_that_is_cut_is_incomplete(chat: Chat) -> None:
    """Every answer needs its own end."""
    with pytest.raises(StreamIncompleteError):
        _read(chat(n=2), _text("a", "stop"), _text("b", index=1), DONE)


def test_the_last_event_may_lack_its_blank_line(chat: Chat) -> None:
    """A complete answer is not dropped because of a line end."""
    _, output = _read(chat(), _text("a"), _text("b", "stop").rstrip())
    assert output.outputs[0].text == "ab"
    _, output = _read(chat(), _text("a"), DONE.rstrip(), done_completes=True)
    assert output.finished


@pytest.mark.parametrize("body", [b"<html>\n<h1>502</h1>", b'{"choices": []}', b"oops"])
def test_body_that_is_not_an_event_stream_is_quoted(body: bytes, chat: Chat) -> None:
    """The error names a page or a JSON body in place of a stream."""
    with pytest.raises(UnexpectedResponseError, match="not an event stream: ") as failed:
        _read(chat(), body)
    assert body.decode().splitlines()[0] in str(failed.value)


def test_an_empty_body_is_incomplete(chat: Chat) -> None:
    """A stream without events has no end."""
    with pytest.raises(StreamIncompleteError):
        _read(chat())


def test_a_stream_error_survives_pickling(chat: Chat) -> None:
    """Errors cross processes with their partial text and usage."""
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    with pytest.raises(StreamIncompleteError) as failed:
        _read(chat(), _chunk({"content": "Hel"}, usage=usage))
    copy = pickle.loads(pickle.dumps(failed.value))
    assert copy.partial == failed.value.partial
    assert copy.usage == Usage(1, 1, 2)
    assert str(copy) == str(failed.value)
