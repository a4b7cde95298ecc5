"""Any bytes give a well-formed answer or an error of this library, however they are split."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from fuzz.promises import (
    DIALECTS,
    JUNK,
    REQUESTS,
    check_cuts,
    check_failure,
    junk_text,
    places,
    replaced,
    streamed,
    whole,
)
from fuzz.seeds import Answer, real_answers
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core import from_json

from llmengine.dialects.common import ThinkSplitter, split_think, split_unopened
from llmengine.dialects.errors import retry_after
from llmengine.dialects.framing import NDJSONDecoder, SSEDecoder

# The examples are the same in every run; tools/fuzz looks for others.
settings.register_profile("answers", derandomize=True, deadline=None, max_examples=150)
exhaustive = settings(settings.get_profile("answers"))
brief = settings(settings.get_profile("answers"), max_examples=40)

WHOLE = [answer for answer in real_answers() if not answer.is_streamed]
STREAMED = [answer for answer in real_answers() if answer.is_streamed]

dialects = st.sampled_from(list(DIALECTS.values()))
requests = st.sampled_from(REQUESTS)
cuts = st.lists(st.integers(0, 5000), max_size=20)
any_json = st.recursive(
    st.sampled_from([j for j in JUNK if not isinstance(j, list | dict)]) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("choices", "message", "delta", "content", "finish_reason", "index", "usage"),
                    *("tool_calls", "function", "arguments", "name", "id", "model", "error"),
                    *("type", "text", "output", "status", "response", "item", "done", "logprobs"),
                    *("content_block", "stop_reason", "input", "partial_json", "thinking"),
                    *("output_index", "detail", "loc", "msg", "code", "refusal", "reasoning"),
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)
lines = st.sampled_from(
    [
        *(b"data: ", b"data:", b"data", b"event: x", b": ping", b"\xef\xbb\xbf", b"{", b"}"),
        *(b"[DONE]", b'{"choices":[{"delta":{"content":"<think>a"}}]}', b'{"done":true}'),
        *(b'{"choices":[{"delta":{},"finish_reason":"stop"}]}', b"\xff", b" ", b"<html>"),
        *(b'{"type":"response.completed","response":{}}', b"\r", b"\n", b"\r\n", b"\n\n"),
        b'{"message":{"content":"a"},"done":true}',
        b'data: {"type":"message_start","message":{"id":"m"}}',
        b'data: {"type":"content_block_start","index":0,"content_block":{"type":"tool_use"}}',
        b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"}}',
        b'data: {"type":"message_stop"}',
    ]
)


@pytest.mark.parametrize("answer", STREAMED, ids=lambda a: a.source)
def test_a_recorded_stream_is_read_alike_however_it_is_cut(answer: Answer) -> None:
    """Whole, byte by byte and in larger pieces, the result is the same."""
    dialect, request, size = DIALECTS[answer.dialect], REQUESTS[0], len(answer.body)
    for step in (1, 3, 64):
        check_cuts(dialect, request, answer.body, range(0, size, step))


@pytest.mark.parametrize("answer", STREAMED[::8], ids=lambda a: a.source)
@brief
@given(data=st.data())
def test_a_recorded_stream_is_read_alike_at_any_cuts(answer: Answer, data: st.DataObject) -> None:
    """A few splits anywhere."""
    places = st.lists(st.integers(0, len(answer.body)), min_size=1, max_size=8)
    check_cuts(DIALECTS[answer.dialect], REQUESTS[0], answer.body, data.draw(places))


@exhaustive
@given(dialects, requests, st.binary(max_size=200), cuts)
def test_any_bytes(dialect: Any, request: Any, body: bytes, at: list[int]) -> None:
    """A body of any bytes, whole, streamed and with an error status."""
    whole(dialect, request, body)
    check_cuts(dialect, request, body, at)
    check_failure(500, {}, body)


@exhaustive
@given(dialects, requests, any_json, cuts)
def test_any_json(dialect: Any, request: Any, value: Any, at: list[int]) -> None:
    """Any JSON in place of an answer, an event, a line or an error."""
    body = junk_text(value).encode()
    whole(dialect, request, body)
    check_cuts(dialect, request, b"data: " + body + b"\n\ndata: [DONE]\n\n", at)
    check_cuts(dialect, request, body + b"\n" + body, at)
    check_failure(400, {}, body)


@exhaustive
@given(dialects, requests, st.lists(lines, max_size=12), cuts)
def test_any_lines(dialect: Any, request: Any, parts: list[bytes], at: list[int]) -> None:
    """The lines of streams in any order."""
    check_cuts(dialect, request, b"".join(parts), at)


def _mutated(value: Any, data: st.DataObject) -> Any:
    for _ in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from(places(value)))
        value = replaced(value, path, data.draw(st.sampled_from(JUNK)))
    return value


@exhaustive
@given(st.sampled_from(WHOLE), requests, st.data())
def test_a_real_answer_with_junk_in_it(answer: Answer, request: Any, data: st.DataObject) -> None:
    """Any value of a recorded answer is replaced by one of another type."""
    body = junk_text(_mutated(from_json(answer.body), data)).encode()
    for dialect in DIALECTS.values():
        whole(dialect, request, body)


@exhaustive
@given(st.sampled_from(STREAMED), requests, cuts, st.data())
def test_a_real_stream_with_junk_in_it(
    answer: Answer, request: Any, at: list[int], data: st.DataObject
) -> None:
    """Values of recorded events are replaced, and events are left out, doubled or moved."""
    events = answer.body.split(b"\n")
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(events) - 1))
        head, brace, rest = events[place].partition(b"{")
        if brace and not head.startswith(b":"):
            value = _mutated(from_json(b"{" + rest), data)
            events[place] = head + junk_text(value).encode()
        else:
            events.insert(place, data.draw(st.sampled_from(events)))
    kept = events[data.draw(st.integers(0, 3)) : data.draw(st.integers(1, len(events)))]
    end = data.draw(st.sampled_from([b"\n", b"\r\n", b"\r"]))
    check_cuts(DIALECTS[answer.dialect], request, end.join(kept), at)


@exhaustive
@given(st.sampled_from(STREAMED), st.data())
def test_a_real_stream_that_is_cut_is_never_whole_too_early(
    answer: Answer, data: st.DataObject
) -> None:
    """If a cut stream gives a whole answer, it has everything."""
    dialect, request = DIALECTS[answer.dialect], REQUESTS[0]
    end = data.draw(st.integers(0, len(answer.body)))
    part = streamed(dialect, request, [answer.body[:end]])
    full = streamed(dialect, request, [answer.body])
    if part.error is None and full.output is not None and part.output is not None:
        assert part.output.outputs == full.output.outputs
    elif full.output is not None and part.error is not None and part.error.partial is not None:
        for answered in part.error.partial.outputs:
            texts = [o.text for o in full.output.outputs if o.index == answered.index]
            assert any(text.startswith(answered.text) for text in texts) or not answered.text


# ---- the parts of the decoders


@exhaustive
@given(st.lists(lines, max_size=12).map(b"".join) | st.binary(max_size=60), cuts)
def test_framing_does_not_depend_on_the_cuts(body: bytes, at: list[int]) -> None:
    """Events and lines are the same, and so is a stray line."""
    bounds = [0, *sorted(min(place, len(body)) for place in at), len(body)]
    pieces = [body[a:b] for a, b in itertools.pairwise(bounds)]
    for make in (SSEDecoder, NDJSONDecoder):
        once, cut = make(), make()
        expected = [*once.feed(body), *once.finish()]
        assert [e for piece in pieces for e in cut.feed(piece)] + cut.finish() == expected
        assert getattr(once, "stray", None) == getattr(cut, "stray", None)


tags = st.sampled_from(["<", ">", "/", "think", "<think>", "</think>", " ", "\n", "a", "<th", "`"])


@exhaustive
@given(st.lists(tags, max_size=10).map("".join), st.lists(st.integers(0, 60), max_size=5))
def test_reasoning_does_not_depend_on_the_cuts(text: str, at: list[int]) -> None:
    """Any mixture of fragments of tags gives the same; only tags and blanks are dropped."""
    bounds = [0, *sorted(min(place, len(text)) for place in at), len(text)]
    splitter = ThinkSplitter()
    parts = [splitter.feed(text[a:b]) for a, b in itertools.pairwise(bounds)]
    parts.append(splitter.finish())
    thought, said = "".join(t for t, _ in parts), "".join(s for _, s in parts)
    parted = (thought, said) if thought else split_unopened(said)
    assert parted == split_think(text)
    kept = (parted[0] or "") + parted[1]
    assert len(kept) >= len("".join(text.split())) - len("<think></think>")


@exhaustive
@given(st.text(max_size=40) | st.sampled_from(["Mon, 01 Jan 0001 00:00:00 GMT", "1e999", "nan"]))
def test_any_retry_after(value: str) -> None:
    """A wait that can be read, or None."""
    for name in ("retry-after", "retry-after-ms"):
        wait = retry_after({name: value, "date": value})
        assert wait is None or wait >= 0
