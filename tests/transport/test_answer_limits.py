"""No answer is read beyond the configured limits, in any encoding or framing."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import zlib
from typing import Any

import pytest

from llmengine import (
    AnswerLimits,
    AnswerTooLargeError,
    APITimeoutError,
    CallError,
    EngineConfig,
    UnexpectedResponseError,
    load_engines,
    run_batch,
)
from llmengine.transport.loop import background

SMALL = AnswerLimits(wire_bytes=300_000, body_bytes=300_000, events=500, event_bytes=100_000)
BOMB = 64 * 2**20


def endless(begin: bytes, more: bytes, gone: threading.Event, kind: str = "json") -> Any:
    """A handler that sends without end, and an event that is set when the client has hung up."""

    def handler(_: Any, connection: Any) -> None:
        types = {"json": "application/json", "sse": "text/event-stream"}
        connection.head(
            200, {"Content-Type": types.get(kind, kind), "Transfer-Encoding": "chunked"}
        )
        try:
            connection.chunk(begin)
            while True:
                connection.chunk(more)
        except OSError:
            gone.set()
            raise

    return handler


def test_endless_body_is_given_up(sent: Any) -> None:
    """The error names the limit, and the connection is closed."""
    gone = threading.Event()
    engine, _ = sent(endless(b'{"a": "', b"a" * 5000, gone), limits=SMALL)

    (result,) = engine.results("hi")

    assert type(result.error) is AnswerTooLargeError
    assert "more than 300,000 bytes (limits.wire_bytes)" in str(result.error)
    assert gone.wait(30)


def test_endless_stream_is_given_up(sent: Any, chunk: Any) -> None:
    """The error keeps the text that came."""
    gone = threading.Event()
    comment = b": keep-alive" + b" " * 5000 + b"\n\n"
    first = b"data: " + _json(chunk("Half")) + b"\n\n"
    engine, _ = sent(endless(first, comment, gone, "sse"), limits=SMALL)

    with pytest.raises(AnswerTooLargeError, match=r"limits\.wire_bytes") as caught:
        list(engine.stream("hi"))

    assert caught.value.partial.outputs[0].text == "Half"
    assert gone.wait(30)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "raw"])
def test_bomb_is_given_up_before_it_is_unpacked(sent: Any, encoding: str) -> None:
    """The limit holds for the unpacked size, not only for the sent one."""
    body = _packed(b"0" * BOMB, encoding)
    sends = "deflate" if encoding == "raw" else encoding
    engine, server = sent(
        lambda _, c: c.reply(body, headers={"Content-Encoding": sends}), limits=SMALL
    )

    (result,) = engine.results("hi")

    assert len(body) < 100_000
    assert type(result.error) is AnswerTooLargeError
    assert "limits.body_bytes" in str(result.error)
    assert server.requests[0].headers["accept-encoding"] == "gzip, deflate"


def test_others_get_their_turn_while_a_bomb_is_unpacked(sent: Any) -> None:
    """Between two pieces of 64 KiB the loop runs its other tasks."""
    body = gzip.compress(b"0" * BOMB)
    engine, _ = sent(lambda _, c: c.reply(body, headers={"Content-Encoding": "gzip"}))
    turns = 0

    async def other_work() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    working = background().submit(other_work())
    try:
        engine.results("hi")
    finally:
        working.cancel()

    assert turns > BOMB // 2**16


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "raw", "members", "mislabelled"])
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_packed_answers_are_read(
    sent: Any, chat: Any, chunk: Any, encoding: str, size: int
) -> None:
    """Whole and streamed, split anywhere, and in every spelling of the encoding."""
    sends = "deflate" if encoding in {"deflate", "raw"} else "gzip"
    whole = _packed(_json(chat("Hello")), encoding)
    events = [b"data: " + _json(c) + b"\n\n" for c in (chunk("Hel"), chunk("lo"))]
    stream = _packed(
        b"".join([*events, b"data: " + _json(chunk(finish="stop")) + b"\n\n"]), encoding
    )

    def handler(request: Any, connection: Any) -> None:
        streamed = request.json.get("stream")
        body = stream if streamed else whole
        kind = "text/event-stream" if streamed else "application/json"
        connection.head(
            200,
            {"Content-Type": kind, "Content-Encoding": sends, "Transfer-Encoding": "chunked"},
        )
        for place in range(0, len(body), size):
            connection.chunk(body[place : place + size])
        connection.chunk(b"")

    engine, _ = sent(handler)

    assert engine.generate("hi")[0].outputs[0].text == "Hello"
    assert "".join(d.text for d in engine.stream("hi")) == "Hello"


@pytest.mark.parametrize("harm", [lambda b: b[:-9], lambda b: b[:20] + b"\xff" * 9 + b[29:]])
def test_packed_answer_that_is_cut_or_damaged(sent: Any, chat: Any, harm: Any) -> None:
    """Half of it is never taken for the whole."""
    body = harm(gzip.compress(_json(chat("Hello"))))
    engine, _ = sent(lambda _, c: c.reply(body, headers={"Content-Encoding": "gzip"}))

    (result,) = engine.results("hi")

    assert type(result.error) is UnexpectedResponseError
    assert result.error.cut
    assert "gzip data" in str(result.error)


def test_encoding_that_was_not_asked_for(sent: Any) -> None:
    """The error names it, and the body is not read."""
    engine, _ = sent(lambda _, c: c.reply(b"?", headers={"Content-Encoding": "br"}))

    (result,) = engine.results("hi")

    assert type(result.error) is UnexpectedResponseError
    assert "Content-Encoding 'br'" in str(result.error)


def test_events_of_a_stream_are_counted(sent: Any) -> None:
    """A million empty events end the stream, not the process."""
    gone = threading.Event()
    event = b'data: {"choices": []}\n\n'
    engine, _ = sent(
        endless(event, event * 10, gone, "sse"), limits=AnswerLimits(wire_bytes=None, events=500)
    )

    with pytest.raises(AnswerTooLargeError, match=r"more than 500 events \(limits\.events\)"):
        list(engine.stream("hi"))

    assert gone.wait(30)


@pytest.mark.parametrize("begin", [b'data: {"a": "', b": ping", b"data: 1\ndata: "])
@pytest.mark.parametrize("more", [b"a" * 1000, b"data: 1\n" * 100])
def test_event_without_end(sent: Any, begin: bytes, more: bytes) -> None:
    """Neither a line nor an event of many lines grows without limit."""
    gone = threading.Event()
    limits = AnswerLimits(wire_bytes=None, body_bytes=None, events=None, event_bytes=100_000)
    engine, _ = sent(endless(begin, more, gone, "sse"), limits=limits)

    with pytest.raises(AnswerTooLargeError, match=r"limits\.event_bytes"):
        list(engine.stream("hi"))

    assert gone.wait(30)


def test_events_cut_anywhere_are_not_taken_for_a_long_one(sent: Any, chunk: Any) -> None:
    """A stream that comes byte by byte is read like one that comes at once."""
    words = [f"w{n} " for n in range(60)]
    body = b"".join(b"data: " + _json(chunk(w)) + b"\r\n\r\n" for w in words)
    body += b"data: " + _json(chunk(finish="stop")) + b"\r\n\r\n"

    def handler(_: Any, connection: Any) -> None:
        connection.start_sse()
        for byte in body:
            connection.chunk(bytes([byte]))
        connection.chunk(b"")

    engine, _ = sent(handler, limits=AnswerLimits(event_bytes=400, events=70))

    assert "".join(d.text for d in engine.stream("hi")) == "".join(words)


def test_lines_of_ollama_are_events(raw_server: Any) -> None:
    """Newline-delimited JSON has the same limits."""
    gone = threading.Event()
    line = b'{"message": {"content": ""}, "done": false}\n'

    def asked(more: bytes, limits: AnswerLimits) -> Any:
        server = raw_server(endless(line, more, gone, "application/x-ndjson"))
        config = EngineConfig(
            backend="ollama_api", model="m", endpoint=server.url, limits=limits, max_retries=0
        )
        return config.engine

    with pytest.raises(AnswerTooLargeError, match=r"limits\.events"):
        list(asked(line * 10, AnswerLimits(events=500)).stream("hi"))
    with pytest.raises(AnswerTooLargeError, match=r"limits\.event_bytes"):
        list(asked(b"a" * 1000, AnswerLimits(event_bytes=50_000)).stream("hi"))


def test_json_that_takes_long_to_read_is_not_read(sent: Any, tmp_path: Any) -> None:
    """Two million empty objects are refused unread, also in a batch file."""
    body = b'{"choices": [' + b"{}," * 2_000_000 + b"{}]}"
    engine, server = sent(lambda _, c: c.reply(body))
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {}}

    (result,) = engine.results("hi")
    report = run_batch([line], tmp_path / "out.jsonl", engine)

    assert type(result.error) is AnswerTooLargeError
    assert "more than 2,000,000 values (limits.json_values)" in str(result.error)
    assert "limits.json_values" in report.errors[0]
    assert len(server.requests) == 2


def test_large_answer_within_the_limits_is_read(sent: Any, chat: Any) -> None:
    """A long text is fine."""
    text = "word, " * 500_000
    engine, _ = sent(lambda _, c: c.reply(chat(text)))

    assert engine.generate("hi")[0].outputs[0].text == text


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_deep_json_is_a_call_error(sent: Any, chunk: Any, opening: bytes) -> None:
    """Whole and in an event."""

    def handler(request: Any, connection: Any) -> None:
        body = opening * 100_000
        if request.json.get("stream"):
            connection.start_sse()
            connection.chunk(b"data: " + body + b"\n\n")
            connection.chunk(b"")
        else:
            connection.reply(body)

    engine, _ = sent(handler)

    assert isinstance(engine.results("hi")[0].error, UnexpectedResponseError)
    with pytest.raises(CallError):
        list(engine.stream("hi"))


SHALLOW = AnswerLimits(json_depth=20)


def _nested(levels: int) -> Any:
    """Arrays and objects in each other, that many levels deep."""
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


@pytest.mark.parametrize(("levels", "limits"), [(19, SHALLOW), (150, AnswerLimits())])
def test_json_within_its_depth_is_read(sent: Any, chat: Any, levels: int, limits: Any) -> None:
    """The answer itself is one more level."""
    engine, _ = sent(lambda _, c: c.reply(chat() | {"more": _nested(levels)}), limits=limits)

    assert engine.results("hi")[0].ok


def test_depth_of_json_is_configured(sent: Any, chat: Any) -> None:
    """A body with one level more than the limit is refused, and the limit is named."""
    engine, _ = sent(lambda _, c: c.reply(chat() | {"more": _nested(20)}), limits=SHALLOW)

    (result,) = engine.results("hi")

    assert type(result.error) is AnswerTooLargeError
    assert "more than 20 nested levels of JSON (limits.json_depth)" in str(result.error)


@pytest.mark.parametrize("text", ["[" * 5000, '\\"{' * 5000, "[{(" * 5000 + '"]'])
def test_brackets_in_a_text_do_not_count_as_depth(
    sent: Any, chat: Any, chunk: Any, text: str
) -> None:
    """Whole and streamed, in events that come in pieces."""
    body = b"".join(b"data: " + _json(c) + b"\n\n" for c in (chunk(text), chunk(finish="stop")))

    def handler(request: Any, connection: Any) -> None:
        if not request.json.get("stream"):
            connection.reply(chat(text))
            return
        connection.start_sse()
        for place in range(0, len(body), 999):
            connection.chunk(body[place : place + 999])
        connection.chunk(b"")

    engine, _ = sent(handler, limits=SHALLOW)

    assert engine.generate("hi")[0].outputs[0].text == text
    assert "".join(d.text for d in engine.stream("hi")) == text


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_depth_of_events_is_configured(sent: Any, chunk: Any, size: int) -> None:
    """Wherever the event is cut, and also if its JSON comes in several lines."""
    deep = _json(chunk("!") | {"more": _nested(20)}).replace(b'"more": ', b'"more":\ndata: ')
    body = b": [[[ \n\ndata: " + _json(chunk("Half")) + b"\n\ndata: " + deep + b"\n\n"

    def handler(_: Any, connection: Any) -> None:
        connection.start_sse()
        for place in range(0, len(body), size):
            connection.chunk(body[place : place + size])
        connection.chunk(b"")

    engine, _ = sent(handler, limits=SHALLOW)

    with pytest.raises(AnswerTooLargeError, match=r"limits\.json_depth"):
        list(engine.stream("hi"))


def test_depth_of_ollamas_lines_is_configured(raw_server: Any) -> None:
    """Each line is JSON of its own."""
    line = {"message": {"content": "Hi"}, "done": False}
    lines = _json(line) + b"\n" + _json(line | {"more": _nested(20)}) + b"\n"
    kind = {"Content-Type": "application/x-ndjson"}
    server = raw_server(lambda _, c: c.reply(lines, headers=kind))
    config = {"backend": "ollama_api", "model": "m", "endpoint": server.url, "limits": SHALLOW}

    with pytest.raises(AnswerTooLargeError, match=r"limits\.json_depth"):
        list(EngineConfig(**config).engine.stream("hi"))


@pytest.mark.parametrize(
    "headers", [{"X-Long": "a" * 500_000}, {f"X-{n}": "a" * 99 for n in range(9999)}]
)
def test_giant_headers_are_a_call_error(sent: Any, headers: Any, chat: Any) -> None:
    """The HTTP clients limit them, and their error becomes one of this library."""
    engine, _ = sent(lambda _, c: c.reply(chat(), headers=headers))

    (result,) = engine.results("hi")

    assert isinstance(result.error, CallError)


def test_other_requests_are_limited(raw_server: Any) -> None:
    """The limits hold for requests for facts about the server too."""
    gone = threading.Event()
    server = raw_server(endless(b'{"data": "', b"a" * 5000, gone))
    config = EngineConfig(backend="vllm_api", model="m", endpoint=server.url, limits=SMALL)

    with pytest.raises(AnswerTooLargeError):
        config.engine.fingerprint()
    with pytest.raises(AnswerTooLargeError):
        config.engine.tokenize("hi")

    assert gone.wait(30)


def test_total_clock_ends_a_stream_that_is_never_waited_for(
    sent: Any, clock: Any, chunk: Any, in_thread: Any, wait_until: Any
) -> None:
    """For a slow reader the next bytes are always there, so that no timer would fire."""
    gone = threading.Event()
    event = b"data: " + _json(chunk("more ")) + b"\n\n"
    engine, _ = sent(
        endless(event, event * 50, gone, "sse"), timeout={"connect": None, "total": 20}
    )
    read: list[Any] = []

    def slowly() -> None:
        for delta in engine.stream("hi"):
            read.append(delta)
            if len(read) < 300:
                clock.advance(0.1)

    error = in_thread(slowly).exception(60)

    assert isinstance(error, APITimeoutError)
    assert error.clock == "total"
    assert len(error.partial.outputs[0].text) < 5 * 1_000_000
    assert gone.wait(30)


# ---- configuration


def test_limits_come_from_a_file(tmp_path: Any) -> None:
    """The limits are a mapping; a missing one keeps its default."""
    file = tmp_path / "engines.yaml"
    file.write_text(
        "- {name: a, backend: mock, model: m, limits: {body_bytes: 1000, events: null}}", "utf-8"
    )

    limits = load_engines(file)["a"].limits

    assert limits == AnswerLimits(body_bytes=1000, events=None)
    assert limits.wire_bytes == 64 * 2**20


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"size": 1}, "unknown limit 'size'; the limits are wire_bytes, body_bytes"),
        ({"events": 0}, "limit 'events' is 0; give a whole number above 0"),
        ({"events": 1.5}, "limit 'events' is 1.5"),
        (1000, "limits are a mapping such as {body_bytes: 1000000}, not 1000"),
    ],
)
def test_invalid_limits(given: object, said: str) -> None:
    """One line says what is wrong."""
    with pytest.raises(ValueError, match=said.replace("{", r"\{")):
        EngineConfig(backend="mock", model="m", limits=given)


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _packed(body: bytes, encoding: str) -> bytes:
    if encoding == "raw":
        packer = zlib.compressobj(wbits=-15)
        return packer.compress(body) + packer.flush()
    if encoding == "members":
        return gzip.compress(body[:20]) + gzip.compress(body[20:])
    if encoding == "mislabelled":
        return body
    return zlib.compress(body) if encoding == "deflate" else gzip.compress(body)
