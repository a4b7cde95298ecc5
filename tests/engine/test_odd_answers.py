"""For answers with values of a wrong type, one prompt fails alone and a stream ends."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import (
    CallError,
    Engine,
    EngineConfig,
    InternalServerError,
    LLMEngineError,
    SamplingParams,
    UnexpectedResponseError,
    run_batch,
)
from llmengine.backends.openai_compatible import OpenAICompatible

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Raw JSON, since json.dumps cannot write all of them.
BROKEN_COUNTS = ['"5"', "[5]", "-1", "1e400", "true", "5.5", "{}", "9" * 400, "NaN"]
PROMPTS = ["a", "odd", "b"]


def _usage(count: str) -> str:
    return f'{{"prompt_tokens": 3, "completion_tokens": {count}, "total_tokens": 5}}'


def _whole(text: str, count: str) -> bytes:
    message = json.dumps({"role": "assistant", "content": text})
    choice = f'{{"index": 0, "message": {message}, "finish_reason": "stop"}}'
    return f'{{"id": "c", "model": "m", "choices": [{choice}], "usage": {_usage(count)}}}'.encode()


@pytest.fixture
def counting(engine_for: Any) -> Callable[[str], Any]:
    """Makes an engine whose server repeats the prompt; "odd" gets that token count."""

    def make(count: str) -> Any:
        def handler(request: Any, connection: Any) -> None:
            text = request.json["messages"][-1]["content"]
            told = count if text == "odd" else "2"
            if not request.json.get("stream"):
                connection.reply(_whole(text, told))
                return
            connection.start_sse()
            delta = {"index": 0, "delta": {"content": text}, "finish_reason": "stop"}
            connection.sse({"choices": [delta]})
            connection.sse(f'data: {{"choices": [], "usage": {_usage(told)}}}', ...)
            connection.chunk(b"")

        return engine_for(handler)[0]

    return make


@pytest.mark.parametrize("count", BROKEN_COUNTS)
def test_an_answer_with_a_broken_usage_is_kept(
    counting: Any, count: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its usage is unknown, one warning says so, and the other answers keep theirs."""
    engine = counting(count)
    with caplog.at_level(logging.WARNING, "llmengine"):
        results = engine.results(PROMPTS)
        again = list(engine.iter_results(PROMPTS))

    for listed in (results, again):
        assert [r.unwrap().outputs[0].text for r in listed] == PROMPTS
        assert [r.usage and r.usage.total_tokens for r in listed] == [5, None, 5]
        assert [r.uncounted for r in listed] == [0, 1, 0]
    (problem,) = results[1].unwrap().warnings
    assert problem.startswith("usage.completion_tokens is not a ")
    assert [r for r in caplog.records if "usage.completion_tokens" in r.getMessage()] == [
        r for r in caplog.records if r.levelno == logging.WARNING
    ]
    assert len(caplog.records) == 1


@pytest.mark.parametrize("count", BROKEN_COUNTS)
def test_a_stream_with_a_broken_usage_ends(counting: Any, count: str) -> None:
    """All of its text comes, without usage."""
    engine = counting(count)

    deltas = list(engine.stream("odd"))

    async def read() -> list[Any]:
        return [delta async for delta in engine.astream("odd")]

    for listed in (deltas, asyncio.run(read())):
        assert [d.text for d in listed] == ["odd"]
        assert [d.usage for d in listed] == [None]


@pytest.mark.parametrize("count", BROKEN_COUNTS)
def test_a_batch_file_keeps_an_answer_with_a_broken_usage(
    counting: Any, count: str, tmp_path: Path
) -> None:
    """The line is answered, and its usage is not counted."""
    body = {"messages": [{"role": "user", "content": "odd"}]}
    line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": body}

    report = run_batch([line], tmp_path / "out.jsonl", counting(count))

    assert report.progress.failed == 0
    assert (tmp_path / "out.jsonl").read_text("utf-8").count('"content"') == 1


ODD_MESSAGES = [
    '{"content": 5}',
    '{"content": ["a"]}',
    '{"content": [{"type": [], "text": "a"}]}',
    '{"content": {"a": 1}}',
    '{"content": "a", "tool_calls": [null]}',
    '{"content": "a", "tool_calls": 5}',
    '{"content": "a", "tool_calls": [{"id": 5, "function": {"name": "f"}}]}',
    '{"content": "a", "tool_calls": [{"function": {"name": "f", "arguments": 5}}]}',
    '{"content": "a", "tool_calls": [{"function": {"name": ["f"]}}]}',
    '{"content": "a", "reasoning": 5}',
    '{"content": null, "refusal": 5}',
    "[]",
    "5",
    '"a"',
]


@pytest.mark.parametrize("message", ODD_MESSAGES)
def test_an_answer_that_cannot_be_read_is_one_prompts_failure(
    engine_for: Any, chat: Any, message: str
) -> None:
    """A CallError names the field, whole and streamed; the other prompts are answered."""

    def handler(request: Any, connection: Any) -> None:
        text = request.json["messages"][-1]["content"]
        if request.json.get("stream"):
            connection.start_sse()
            connection.sse(f'data: {{"choices": [{{"index": 0, "delta": {message}}}]}}', ...)
            connection.chunk(b"")
        elif text == "odd":
            choice = f'{{"index": 0, "message": {message}, "finish_reason": "stop"}}'
            connection.reply(f'{{"choices": [{choice}]}}'.encode())
        else:
            connection.reply(chat(text))

    engine, server = engine_for(handler)

    results = engine.results(PROMPTS)
    with pytest.raises(UnexpectedResponseError, match=r"choices\[\]\.(message|delta)|tool_calls"):
        list(engine.stream("odd"))

    assert [r.ok for r in results] == [True, False, True]
    assert isinstance(results[1].error, UnexpectedResponseError)
    assert "choices[].message" in str(results[1].error)
    assert len(server.requests) == 4


class _Faulty(OpenAICompatible):
    """A backend with a bug in its dialect that shows for one prompt."""

    name = "faulty"

    class _Dialect:
        path = "/chat/completions"
        stream_type = "text/event-stream"

        def encode(self, request: Any) -> dict[str, Any]:
            return {"stream": request.stream, "messages": list(request.messages)}

        def decode(self, body: bytes, request: Any) -> Any:
            if request.prompt == "odd":
                raise ExceptionGroup("several", [TypeError("a bug")])
            return OpenAICompatible.dialect.decode(body, request)

        def decoder(self, _request: Any) -> Any:
            raise TypeError("a bug")

    dialect: Any = _Dialect()


def test_a_bug_in_a_backend_is_one_prompts_failure(raw_server: Any, chat: Any) -> None:
    """A call raises only errors of this library, and a stream ends."""
    server = raw_server(lambda _, connection: connection.reply(chat("a")))
    engine = Engine(EngineConfig(backend="faulty", model="m", endpoint=server.url), _Faulty)

    results = engine.results(PROMPTS)
    with pytest.raises(UnexpectedResponseError, match="TypeError: a bug"):
        list(engine.stream("odd"))

    assert [r.ok for r in results] == [True, False, True]
    assert isinstance(results[1].error, UnexpectedResponseError)
    assert isinstance(results[1].error.__cause__, ExceptionGroup)
    assert [r.ok for r in engine.iter_results(PROMPTS)] == [True, False, True]


# ---- failures with the form of answers


def _choices(*choices: dict[str, Any], **fields: Any) -> dict[str, Any]:
    whole = {"index": 0, "message": {"content": "Half"}, "finish_reason": "stop"}
    return {"choices": [whole | choice for choice in choices], **fields}


FAILURES: dict[str, tuple[dict[str, Any], type[CallError], str]] = {
    "finish_reason error": (_choices({"finish_reason": "error"}), InternalServerError, "'error'"),
    "finish_reason abort": (_choices({"finish_reason": "abort"}), InternalServerError, "'abort'"),
    "an error beside the choices": (
        _choices({}, error={"message": "boom", "code": 502}),
        InternalServerError,
        "boom",
    ),
    "an error in a choice": (_choices({"error": {"message": "boom"}}), InternalServerError, "boom"),
    "no finish_reason": (_choices({"finish_reason": None}), UnexpectedResponseError, "may be cut"),
    "an empty finish_reason": (_choices({"finish_reason": ""}), UnexpectedResponseError, "cut"),
}


@pytest.mark.parametrize(("body", "kind", "words"), FAILURES.values(), ids=list(FAILURES))
def test_a_failure_is_not_an_answer(
    engine_for: Any, body: dict[str, Any], kind: type[CallError], words: str
) -> None:
    """The call fails, and its error keeps what came."""
    engine, _ = engine_for(lambda _, connection: connection.reply(body), max_retries=0)

    (result,) = engine.results("hi")

    assert type(result.error) is kind
    assert words in str(result.error)
    assert result.error.partial.outputs[0].text == "Half"
    assert not result.error.partial.finished


@pytest.mark.parametrize("name", list(FAILURES)[:4])
def test_a_failure_in_a_stream_is_not_an_answer(engine_for: Any, name: str) -> None:
    """The stream fails, and its error holds what came."""
    body, kind, words = FAILURES[name]

    def handler(_: Any, connection: Any) -> None:
        connection.start_sse()
        connection.sse({"choices": [{"index": 0, "delta": {"content": "Half"}}]})
        last = {k: v for k, v in body["choices"][0].items() if k != "message"}
        connection.sse({**body, "choices": [last | {"delta": {}}]}, ...)
        connection.chunk(b"")

    engine, _ = engine_for(handler, max_retries=0)

    with pytest.raises(kind, match=words) as failed:
        list(engine.stream("hi"))

    assert failed.value.partial.outputs[0].text == "Half"
    assert not failed.value.partial.finished


def test_fewer_answers_than_asked_for_is_an_error(engine_for: Any, chat: Any) -> None:
    """The one answer is kept. The request is not sent again, since the server ignores n."""

    def handler(request: Any, connection: Any) -> None:
        if not request.json.get("stream"):
            connection.reply(chat("One"))
            return
        connection.start_sse()
        connection.sse({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}, ...)
        connection.chunk(b"")

    engine, server = engine_for(handler)

    (result,) = engine.results("hi", SamplingParams(n=3))

    with pytest.raises(UnexpectedResponseError, match="asked for 3 answers"):
        list(engine.stream("hi", SamplingParams(n=3)))
    assert isinstance(result.error, UnexpectedResponseError)
    assert "asked for 3 answers (sampling parameter 'n'), but the server sent 1" in str(
        result.error
    )
    assert [o.text for o in result.error.partial.outputs] == ["One"]
    assert len(server.requests) == 2


BATCH_FAILURES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "null": ("/v1/chat/completions", {}, {"choices": [None]}),
    "no message": ("/v1/chat/completions", {}, {"choices": [{"finish_reason": "stop"}]}),
    "error": ("/v1/chat/completions", {}, _choices({"finish_reason": "error"})),
    "beside": ("/v1/chat/completions", {}, _choices({}, error={"message": "boom"})),
    "no reason": ("/v1/chat/completions", {}, _choices({"finish_reason": None})),
    "too few": ("/v1/chat/completions", {"n": 2}, _choices({})),
    "completions null": ("/v1/completions", {}, {"choices": [None]}),
    "completions too few": (
        "/v1/completions",
        {"prompt": ["a", "b"]},
        {"choices": [{"text": "a", "finish_reason": "stop"}]},
    ),
    "embeddings null": ("/v1/embeddings", {"input": "a"}, {"data": [None]}),
    "embeddings too few": ("/v1/embeddings", {"input": ["a", "b"]}, {"data": [{"index": 0}]}),
    "responses failed": ("/v1/responses", {}, {"status": "failed", "output": [{}]}),
    "responses cut": ("/v1/responses", {}, {"status": "in_progress", "output": [{}]}),
}


@pytest.mark.parametrize(("url", "asked", "body"), BATCH_FAILURES.values(), ids=BATCH_FAILURES)
def test_a_failure_is_not_an_answer_in_a_batch_file(
    engine_for: Any, tmp_path: Path, url: str, asked: dict[str, Any], body: dict[str, Any]
) -> None:
    """The line fails, and keeps the body of the server."""
    engine, _ = engine_for(lambda _, connection: connection.reply(body), max_retries=0)
    line = {"custom_id": "1", "method": "POST", "url": url, "body": asked}

    report = run_batch([line], tmp_path / "out.jsonl", engine)

    (written,) = [json.loads(li) for li in (tmp_path / "out.jsonl").read_bytes().splitlines()]
    assert report.progress.failed == 1
    assert written["error"]["code"] in {"internal_server_error", "unexpected_response_error"}
    assert written["response"]["body"] == body


def test_every_error_is_a_call_error(engine_for: Any) -> None:
    """It is one for an error body with values of odd types."""
    odd = {"detail": [{"loc": 5, "msg": 7}, 3, None], "status_code": [], "error": None}
    engine, _ = engine_for(lambda _, connection: connection.reply(odd, status=422))

    (result,) = engine.results("hi")

    assert isinstance(result.error, LLMEngineError)
    assert "5: 7; 3; null" in str(result.error)


# ---- streams with another end than ``[DONE]``


def _streamed(body: bytes) -> Any:
    """A handler that streams those bytes and ends the body."""

    def handler(_: Any, connection: Any) -> None:
        connection.start_sse()
        connection.chunk(body)
        connection.chunk(b"")

    return handler


USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
END = {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}]}
ENDS: dict[str, list[dict[str, Any]]] = {
    "in the last chunk": [{**END, "usage": USAGE}],  # as transformers serve does
    "in a chunk of its own": [END, {"choices": [], "usage": USAGE}],
}


@pytest.mark.parametrize("blank_line", [b"\n\n", b""], ids=["whole", "without its blank line"])
@pytest.mark.parametrize("chunks", ENDS.values(), ids=list(ENDS))
def test_usage_of_a_stream_without_done(
    engine_for: Any, chunks: list[dict[str, Any]], blank_line: bytes
) -> None:
    """A finish_reason is an end; the reader gets what the last event has."""
    body = b"\n\n".join(b"data: " + json.dumps(c).encode() for c in chunks) + blank_line
    engine, _ = engine_for(_streamed(body))

    deltas = list(engine.stream("hi"))

    assert "".join(d.text for d in deltas) == "Hi"
    assert [d.usage.total_tokens for d in deltas if d.usage] == [5]


@pytest.mark.parametrize(
    "body",
    [b"", b"data: oops\n\n", b"<html>", b'data: {"error": "x"}\n\n'],
    ids=["empty", "oops", "page", "error"],
)
def test_the_partial_of_a_stream_always_has_an_answer(engine_for: Any, body: bytes) -> None:
    """It is empty if nothing came, so that a reader need not check first."""
    engine, _ = engine_for(_streamed(body), max_retries=0)

    with pytest.raises(CallError) as failed:
        list(engine.stream("hi"))

    assert [o.text for o in failed.value.partial.outputs] == [""]
    assert failed.value.partial.reasoning is None
