"""The output: OpenAI's four keys, the server's own body, and errors with their requests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import Price, run_batch
from llmengine.mock import Fault, Script

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from llmengine import Engine
    from llmengine.mock import MockServer
    from tests.batch.conftest import Kit


def test_answered_line_has_openais_shape(kit: Kit, engine: Engine, output: Path) -> None:
    """Nothing is added to an answered line, and nothing is missing."""
    report = run_batch([kit.request("a")], output, engine)

    (line,) = kit.read(output)
    assert report.ok
    assert list(line) == ["id", "custom_id", "response", "error"]
    assert list(line["response"]) == ["status_code", "request_id", "body"]
    assert line["id"].startswith("batch_req_")
    assert line["response"]["request_id"].startswith("req_")
    assert (line["custom_id"], line["response"]["status_code"], line["error"]) == ("a", 200, None)
    assert kit.text(line) == "a"


def test_body_is_kept_as_it_came(
    kit: Kit, engine_at: Any, raw_server: Callable[[Any], Any], output: Path
) -> None:
    """The spelling of numbers, the order of keys, unknown fields and escapes are not changed."""
    body = b'{"x_new": 1.50,\r\n "choices": [{"z": 1e-05, "a": "\\u00e9\\n\xc3\xa9"}]\n}'
    server = raw_server(lambda _, connection: connection.reply(body))

    run_batch([kit.request("a")], output, engine_at(server.url))

    assert b'"body":{"x_new": 1.50,   "choices": [{"z": 1e-05, "a": "\\u00e9\\n' in (
        output.read_bytes()
    )
    assert kit.read(output)[0]["response"]["body"] == json.loads(body)


def test_request_is_sent_as_it_is(
    kit: Kit, engine_at: Any, raw_server: Callable[[Any], Any], chat: Any, output: Path
) -> None:
    """The values of the body are not changed; the engine adds its model if the line has none."""
    server = raw_server(lambda _, connection: connection.reply(chat()))
    body = {"messages": [], "n": 1.5, "odd": {"é": [None, "\ud83d"]}}
    engine = engine_at(server.url, sampling={"temperature": 0.5}, extra_body={"x": 1})

    named = kit.request("a", body=body | {"model": "theirs"})
    run_batch([named, kit.request("b", body=body)], output, engine)

    first, second = sorted(server.requests, key=lambda r: r.json["model"])
    assert second.json == body | {"model": "theirs"}
    assert first.json == body | {"model": "mock"}
    assert first.path == "/v1/chat/completions"


@pytest.mark.parametrize(
    ("url", "body"),
    [
        ("/v1/completions", {"model": "mock", "prompt": "Hi"}),
        ("/v1/embeddings", {"model": "mock", "input": "Hi"}),
        ("/v1/responses", {"model": "mock", "input": "Hi"}),
    ],
)
def test_other_routes_of_the_format(
    kit: Kit, engine: Engine, server: MockServer, output: Path, url: str, body: Any
) -> None:
    """All routes of OpenAI's batches are sent, and their tokens are counted."""
    report = run_batch([kit.request("a", url=url, body=body)], output, engine)

    assert report.ok
    assert report.progress.usage.total_tokens > 0
    assert server.calls[0].path == url


def test_refusal_keeps_the_servers_response(kit: Kit, engine: Engine, output: Path) -> None:
    """A refused request has the server's response, and an error with the usage."""
    report = run_batch([kit.request("a", body={"model": "mock"})], output, engine)

    (line,) = kit.read(output)
    assert not report.ok
    assert line["response"]["status_code"] == 400
    assert line["response"]["body"]["error"]["type"] == "invalid_request_error"
    assert set(line["error"]) == {"code", "message", "llmengine"}
    assert line["error"]["llmengine"] == {"line": 1, "attempts": 1, "usage": None}
    assert report.errors[0].startswith("line 1 (a): HTTP 400")


@pytest.mark.parametrize(
    ("fault", "code", "status", "attempts"),
    [
        (Fault(status=503), "internal_server_error", 503, 3),
        (Fault(status=429), "rate_limit_exceeded", 429, 3),
        (Fault(status=403), "authentication_error", 403, 1),
        (Fault(cut_after=0), "api_connection_error", None, 3),
        (Fault(malformed_json=True), "unexpected_response_error", 200, 3),
    ],
)
def test_each_failure_has_its_code(
    kit: Kit,
    engine_at: Any,
    server: MockServer,
    output: Path,
    fault: Fault,
    code: str,
    status: int | None,
    attempts: int,
) -> None:
    """The code is the server's if it has one, else the name of the error."""
    server.play(Script(faults=[fault] * 9))

    report = run_batch([kit.request("a")], output, engine_at(server.root_url, max_retries=2))

    (line,) = kit.read(output)
    assert line["error"]["code"] == code
    assert (line["response"] or {}).get("status_code") == status
    assert line["error"]["llmengine"]["attempts"] == attempts == len(server.calls)
    assert report.progress.failed == 1


def test_response_is_that_of_the_last_attempt(
    kit: Kit, engine_at: Any, server: MockServer, output: Path
) -> None:
    """A refusal is not the response if the connection broke at a later attempt."""
    server.play(Script(faults=[Fault(status=503), Fault(cut_after=0)]))

    run_batch([kit.request("a")], output, engine_at(server.root_url, max_retries=1))

    (line,) = kit.read(output)
    assert line["error"]["code"] == "api_connection_error"
    assert line["response"] is None


def test_page_instead_of_json_is_kept_as_text(
    kit: Kit, engine_at: Any, raw_server: Callable[[Any], Any], output: Path
) -> None:
    """The HTML of a gateway is in the output as a JSON string."""
    server = raw_server(lambda _, c: c.reply(b"<title>no\nbackend</title>", status=404))

    run_batch([kit.request("a")], output, engine_at(server.url))

    assert kit.read(output)[0]["response"]["body"] == "<title>no\nbackend</title>"


def test_success_without_an_answer_is_a_failure(
    kit: Kit, engine_at: Any, raw_server: Callable[[Any], Any], output: Path
) -> None:
    """A 200 with an error in it is a failure; its tokens are counted."""
    body = {"error": {"message": "busy"}, "usage": {"total_tokens": 7}}
    server = raw_server(lambda _, connection: connection.reply(body))

    report = run_batch([kit.request("a")], output, engine_at(server.url, max_retries=0))

    (line,) = kit.read(output)
    assert line["error"]["code"] == "internal_server_error"
    assert line["error"]["llmengine"]["usage"]["total_tokens"] == 7
    assert report.progress.usage.total_tokens == 7


def test_key_never_reaches_the_output(
    kit: Kit, engine_at: Any, raw_server: Callable[[Any], Any], chat: Any, output: Path
) -> None:
    """A key that the server repeats is not written to the output."""
    server = raw_server(lambda r, c: c.reply(chat(r.headers["authorization"])))

    run_batch([kit.request("a")], output, engine_at(server.url, api_key="sk-very-secret"))

    assert kit.text(kit.read(output)[0]) == "Bearer [redacted]"


def test_unknown_price_is_none_and_a_known_one_is_summed(
    kit: Kit, server: MockServer, engine: Engine, output: Path
) -> None:
    """A cost with an unknown part is None, never a smaller number and never 0."""
    requests = [kit.request(name) for name in "abc"]
    price = Price(input=1_000_000, output=1_000_000, currency="EUR")
    priced = engine.config.model_copy(update={"price": price}).engine

    whole = run_batch(requests, output, priced)
    server.play(Script(faults=[Fault(cut_after=0)]))
    partly = run_batch(requests, output, priced, resume=False)
    never = run_batch(requests, output, engine, resume=False)

    assert whole.progress.usage is not None
    assert whole.progress.cost == whole.progress.usage.total_tokens
    assert whole.progress.currency == "EUR"
    assert partly.ok
    assert partly.progress.cost is None
    assert never.progress.cost is None
