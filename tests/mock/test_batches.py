"""The mock's Batch API, as the official SDK sees it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import openai
import pytest

from llmengine.mock import BatchSchedule, Fault, ManualClock, MockServer
from llmengine.types.errors import InvalidFieldError

if TYPE_CHECKING:
    from collections.abc import Iterator

URL = "/v1/chat/completions"


@pytest.fixture
def clock() -> ManualClock:
    """The clock of the server."""
    return ManualClock()


@pytest.fixture
def server(clock: ManualClock) -> Iterator[MockServer]:
    """A server whose batches take 100 seconds."""
    with MockServer(batches=BatchSchedule(seconds=100), clock=clock) as server:
        yield server


@pytest.fixture
def client(server: MockServer) -> Iterator[openai.OpenAI]:
    """The SDK's client, which checks the form of every answer."""
    settings: dict[str, Any] = {"max_retries": 0, "_strict_response_validation": True}
    with openai.OpenAI(base_url=server.base_url, api_key="k", **settings) as client:
        yield client


def line(name: str, **changes: Any) -> dict[str, Any]:
    """A line of an input, whose answer is its own custom_id."""
    body = {"model": "mock", "messages": [{"role": "user", "content": f"Repeat this: {name}"}]}
    return {"custom_id": name, "method": "POST", "url": URL, "body": body} | changes


def create(client: openai.OpenAI, *lines: Any) -> Any:
    """A batch of these lines."""
    content = "\n".join(map(json.dumps, lines)).encode()
    file = client.files.create(file=("in.jsonl", content), purpose="batch")
    assert client.files.retrieve(file.id).bytes == len(content)
    assert client.files.content(file.id).content == content
    metadata = {"run": "1"}
    return client.batches.create(
        input_file_id=file.id, endpoint=URL, completion_window="24h", metadata=metadata
    )


def rows(client: openai.OpenAI, file: str) -> list[dict[str, Any]]:
    """The lines of a file."""
    return [json.loads(raw) for raw in client.files.content(file).content.splitlines()]


def test_life_of_a_batch(client: openai.OpenAI, clock: ManualClock) -> None:
    """A batch goes through its states, and has the answers in a file, not in their order."""
    batch = create(client, *(line(name) for name in ("a", "ü\u2028", "c", "d")))
    states = [batch.status]
    for seconds in (0, 25, 25, 25, 25):
        clock.advance(seconds)
        batch = client.batches.retrieve(batch.id)
        states.append(batch.status)

    twice = ["validating", "validating", "in_progress", "in_progress"]
    assert states == [*twice, "finalizing", "completed"]
    assert batch.metadata == {"run": "1"}
    assert (batch.request_counts.completed, batch.request_counts.total) == (4, 4)
    found = rows(client, batch.output_file_id)
    assert [row["custom_id"] for row in found] == ["d", "c", "ü\u2028", "a"]
    assert found[3]["response"]["body"]["choices"][0]["message"]["content"] == "a"
    assert batch.error_file_id is None


def test_errors_have_a_file_of_their_own(
    client: openai.OpenAI, server: MockServer, clock: ManualClock
) -> None:
    """A refused line, and a line that a stub lets fail, are in the error file."""
    server.when(contains="b").reply(Fault(status=503))
    server.when().reply("Hi.")
    unknown = line("c") | {"body": {"model": "other", "messages": [{"role": "user"}]}}
    mixed = create(client, line("a"), unknown)
    batch = create(client, line("a"), line("b"))
    clock.advance(100)

    mixed = client.batches.retrieve(mixed.id)
    assert (mixed.status, mixed.errors.data[0].code) == ("failed", "mismatched_model")
    batch = client.batches.retrieve(batch.id)
    assert [row["custom_id"] for row in rows(client, batch.output_file_id)] == ["a"]
    (failed,) = rows(client, batch.error_file_id)
    assert (failed["custom_id"], failed["response"]["status_code"]) == ("b", 503)
    assert batch.request_counts.failed == 1


def test_a_batch_may_expire_fail_or_be_cancelled(
    client: openai.OpenAI, server: MockServer, clock: ManualClock
) -> None:
    """The answers by then are kept; the lines of an expired batch are errors."""
    lines = [line(name) for name in "abcd"]
    cancelled = create(client, *lines)
    clock.advance(50)
    assert client.batches.cancel(cancelled.id).status == "cancelling"
    server.schedule_batches(BatchSchedule(expires_after=1))
    expired = client.batches.retrieve(create(client, *lines).id)
    server.schedule_batches(BatchSchedule(failure="too many tokens"))
    failed = client.batches.retrieve(create(client, *lines).id)
    clock.advance(25)

    cancelled = client.batches.retrieve(cancelled.id)
    assert cancelled.status == "cancelled"
    assert len(rows(client, cancelled.output_file_id)) == 2
    assert expired.status == "expired"
    assert [row["error"]["code"] for row in rows(client, expired.error_file_id)] == [
        "batch_expired"
    ] * 3
    assert (failed.status, failed.errors.data[0].message) == ("failed", "too many tokens")
    newest = [batch.id for batch in client.batches.list(limit=2)]
    assert newest == [failed.id, expired.id, cancelled.id]


def test_what_is_not_there_is_refused(client: openai.OpenAI) -> None:
    """An unknown file, batch or endpoint has an error of its own."""
    with pytest.raises(openai.NotFoundError):
        client.batches.retrieve("batch_x")
    with pytest.raises(openai.NotFoundError):
        client.files.content("file-x")
    with pytest.raises(openai.BadRequestError, match="Supported values"):
        client.batches.create(input_file_id="x", endpoint="/v1/x", completion_window="24h")  # type: ignore[arg-type]
    with pytest.raises(InvalidFieldError, match="seconds is -1"):
        BatchSchedule(seconds=-1)
