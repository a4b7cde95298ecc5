"""Hosted batches on servers that refuse, break off, or differ from OpenAI's."""

from __future__ import annotations

import json
from itertools import repeat
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import pytest

from llmengine import ConfigError, run_batch, run_hosted_batch
from llmengine.batch.format import BatchRequest, read_entry
from llmengine.batch.hosted_answers import HostedAnswers
from llmengine.batch.hosted_batch import HostedBatch
from llmengine.batch.hosted_shards import ShardWriters
from llmengine.mock import BatchSchedule, Behaviour, Fault, ManualClock, MockServer, Script
from llmengine.types.errors import (
    APIConnectionError,
    AuthenticationError,
    BadRequestError,
    CallError,
    InternalServerError,
    RateLimitError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from llmengine import Engine
    from llmengine.mock import RawReply, ReceivedRequest
    from tests.batch.conftest import Kit

POLL = 0.001
UPLOAD, CREATION, LOOK, DOWNLOAD = range(4)  # the requests of a run with one batch


def run(source: Any, output: Path, engine: Engine, **options: Any) -> Any:
    """A hosted run that does not wait long."""
    return run_hosted_batch(source, output, engine, poll_seconds=POLL, **options)


def batches(server: MockServer) -> int:
    """How many batches the server has."""
    with urlopen(f"{server.base_url}/batches") as answer:
        return len(json.load(answer)["data"])


def with_states(states: Iterable[str], **changes: Any) -> Behaviour:
    """A behaviour that shows batches in these states, one per answer, and then as they are."""
    left = iter(states)

    def reply(body: Any, call: ReceivedRequest) -> Any:
        if body.get("object") == "batch":
            body |= {"status": next(left, body["status"])} | changes
        return body

    return Behaviour(reply=reply)


@pytest.mark.parametrize("retries", [0, 1])
@pytest.mark.parametrize(
    ("step", "fault"),
    [
        (UPLOAD, Fault(status=503)),
        (UPLOAD, Fault(cut_after=0)),
        (CREATION, Fault(status=503)),
        (CREATION, Fault(split_at=1, cut_after=1)),
        (LOOK, Fault(status=429)),
        (LOOK, Fault(cut_after=0)),
        (LOOK, Fault(delay=0.4)),
        (DOWNLOAD, Fault(status=429)),
        (DOWNLOAD, Fault(split_at=100, cut_after=3)),
    ],
)
def test_a_passing_failure_costs_no_second_batch(
    kit: Kit, engine_at: Any, output: Path, step: int, fault: Fault, retries: int
) -> None:
    """A look or a download is made again; an upload or a creation is, if retries are allowed."""
    requests = [kit.request(name) for name in "ab"]
    with MockServer(script=Script(faults=[None] * step + [fault])) as server:
        timeout = {"total": 0.3} if fault.delay else None
        engine = engine_at(server.root_url, max_retries=retries, timeout=timeout)
        if step < LOOK and not retries:
            with pytest.raises((APIConnectionError, InternalServerError)):
                run(requests, output, engine)
        report = run(requests, output, engine)

        assert report.ok
        assert (report.progress.attempts, report.progress.earlier) == (2, 0)
        assert batches(server) == 1
    assert not list(output.parent.glob("*.hosted"))


@pytest.mark.parametrize(
    ("step", "status", "error", "message"),
    [
        (UPLOAD, 401, AuthenticationError, "HTTP 401"),
        (UPLOAD, 413, BadRequestError, r"the file has \d+ bytes; raise the limit of the server"),
        (UPLOAD, 429, RateLimitError, "HTTP 429"),
        (UPLOAD, 501, ConfigError, r"no Batch API \(POST /v1/files: HTTP 501"),
        (CREATION, 401, AuthenticationError, "HTTP 401"),
        (CREATION, 429, RateLimitError, "HTTP 429"),
    ],
)
def test_refusal_before_a_batch_exists_leaves_nothing_behind(
    kit: Kit, engine_at: Any, output: Path, step: int, status: int, error: Any, message: str
) -> None:
    """Then an ordinary run is allowed, because nothing would be paid for twice."""
    script = Script(faults=[None] * step + [Fault(status=status)])
    with MockServer(script=script) as server:
        engine = engine_at(server.root_url, max_retries=0)
        with pytest.raises(error, match=message):
            run([kit.request("a")], output, engine)

        assert not list(output.parent.glob("*.hosted"))
        assert run_batch([kit.request("a")], output, engine).ok
        assert batches(server) == 0


@pytest.mark.parametrize(
    "before",
    [
        [None] * LOOK,
        [None] * DOWNLOAD,
        [None, Fault(split_at=1, cut_after=1)],  # the batch is looked for then
    ],
)
def test_refusal_of_a_key_later_says_how_to_continue(
    kit: Kit, engine_at: Any, output: Path, before: list[Fault | None]
) -> None:
    """The batch goes on, so the state is kept."""
    with MockServer(script=Script(faults=[*before, Fault(status=401)])) as server:
        engine = engine_at(server.root_url)
        with pytest.raises(AuthenticationError, match="the same command again continues"):
            run([kit.request("a")], output, engine)

        assert run([kit.request("a")], output, engine).ok
        assert batches(server) == 1


def test_server_that_is_gone_ends_the_wait(kit: Kit, engine_at: Any, output: Path) -> None:
    """A limited number of looks fails in a row; a later run continues."""
    with MockServer(script=Script(faults=[None, None, *[Fault(status=500)] * 20])) as server:
        engine = engine_at(server.root_url, max_retries=0)
        with pytest.raises(InternalServerError, match="the batches go on"):
            run([kit.request("a")], output, engine)

        assert len(server.calls) == 22
        assert run([kit.request("a")], output, engine).ok


def test_unknown_state_is_waited_for_with_a_bound(
    kit: Kit, engine_at: Any, output: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One error names the state; a later run goes on, and reads the answers when it changes."""
    clock, schedule = ManualClock(), BatchSchedule(seconds=100)
    behaviour = with_states(["Queued"] * 22)
    with MockServer(behaviour=behaviour, clock=clock, batches=schedule) as server:
        engine = engine_at(server.root_url)
        with pytest.raises(CallError, match=r"is 'queued', and 20 looks saw no change.* remove"):
            run([kit.request("a")], output, engine)
        assert caplog.text.count("is 'queued'") == 1
        assert len(server.calls) == 22
        started = run([kit.request("a")], output, engine, wait=False)
        assert (started.batches[0].status, started.is_complete) == ("queued", False)
        clock.advance(100)
        assert run([kit.request("a")], output, engine).ok
        assert batches(server) == 1


def test_unknown_state_with_all_results_is_an_end(kit: Kit, engine_at: Any, output: Path) -> None:
    """A batch whose lines are all counted and that has a file of results has ended."""
    with MockServer(behaviour=with_states(repeat("Succeeded"))) as server:
        report = run([kit.request("a")], output, engine_at(server.root_url))

    assert report.ok
    assert report.batches[0].status == "succeeded"
    assert report.errors == (f"batch {report.batches[0].id}: succeeded",)


def test_reason_of_a_failure_may_be_a_text(kit: Kit, engine_at: Any, output: Path) -> None:
    """Novita has a text where OpenAI has a list of errors."""
    behaviour = with_states(repeat("FAILED"), errors="no money", output_file_id="")
    with MockServer(behaviour=behaviour) as server:
        report = run([kit.request("a")], output, engine_at(server.root_url))

    assert "failed: no money" in report.errors[0]
    assert report.progress.failed == 1


def test_batch_waits_for_its_file(kit: Kit, engine_at: Any, output: Path) -> None:
    """Azure refuses a batch while the uploaded file is being prepared."""
    looks: list[str] = []

    def reply(body: Any, call: ReceivedRequest) -> Any:
        looks.append(call.path.split("/")[2])
        if body.get("object") == "file" and len(looks) < 3:
            body["status"] = "pending"
        return body

    with MockServer(behaviour=Behaviour(reply=reply)) as server:
        assert run([kit.request("a")], output, engine_at(server.root_url)).ok

    assert looks == ["files", "files", "files", "batches", "batches"]


def test_batch_that_ends_before_it_is_cancelled(kit: Kit, engine_at: Any, output: Path) -> None:
    """The cancellation is refused then, which is not an error, and the answers are read."""
    with MockServer(behaviour=with_states(["in_progress"] * 3)) as server:
        engine = engine_at(server.root_url)
        run([kit.request("a")], output, engine, wait=False)
        report = run([kit.request("a")], output, engine, cancel=True)

        assert report.ok
        assert any(call.path.endswith("/cancel") for call in server.calls)


def test_results_that_cannot_be_used_are_reported(kit: Kit, engine_at: Any, output: Path) -> None:
    """The first ones are quoted with their place, and the others are counted."""
    lines = [
        b'{"custom_id": "a", "response": {"body": {}}}',
        b'{"custom_id": "b", "response": null, "error": null}',
        b'{"custom_id": "c", "response": {"status_code": 200, "body": "' + b"x" * 4000 + b'"}}',
        '{"custom_id": "d", "response": {}}\n'.encode("utf-16-be"),
        b"[" * 2_999,
        b'{"custom_id": "z"}',
        *[b'{"custom_id": "a"}'] * 4,
    ]

    def wire(reply: RawReply, call: ReceivedRequest) -> RawReply:
        if call.path.endswith("/content"):
            reply.chunks = [b"\n\n".join(lines)]
        return reply

    with MockServer(behaviour=Behaviour(wire=wire)) as server:
        engine = engine_at(server.root_url, limits={"body_bytes": 3000})
        report = run([kit.request(name) for name in "abcd"], output, engine)

    assert report.progress.failed == 4
    *quoted, counted = report.errors[:6]
    assert "line 5 of file-" in quoted[0]
    assert "more than 3,000 bytes (limits.body_bytes)" in quoted[0]
    assert "it is not the result of a request: " in quoted[1]
    assert "it is not the result of a request: [[" in quoted[2]
    assert "custom_id 'z' is not one of this batch" in quoted[3]
    assert "custom_id 'a' has a line already" in quoted[4]
    assert "3 more lines cannot be used" in counted
    by_id = {line["custom_id"]: line["error"]["message"] for line in kit.read(output)}
    assert "a result without response.status_code" in by_id["a"]
    assert by_id["b"] == "the result has no response and no error"
    assert "has no result for this request" in by_id["c"]
    assert "has no result for this request" in by_id["d"]


def test_only_a_configured_price_counts(kit: Kit, engine_at: Any, tmp_path: Path) -> None:
    """The listed price of a model is not the price of its batches."""
    pytest.importorskip("genai_prices")
    answer = {
        "choices": [{"finish_reason": "stop", "message": {"content": "Hi"}}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10},
    }
    result = {"custom_id": "a", "response": {"status_code": 200, "body": answer}}
    request = read_entry(kit.request("a"), 1)
    assert isinstance(request, BatchRequest)
    results = tmp_path / "results.jsonl"
    results.write_text(json.dumps(result))

    def cost(**fields: Any) -> float | None:
        engine = engine_at("https://api.openai.com", model="gpt-4o-mini", api_key="k", **fields)
        assert engine.backend.tariff is not None  # else this test could not fail
        with ShardWriters(tmp_path) as writers:
            writers.add(request, "gpt-4o-mini")
        answers = HostedAnswers(writers.shards[0], HostedBatch("b", "completed"), engine)
        ((_, answered),) = answers.read(results, "file-1")
        assert answered.error is None
        return answered.spent.cost

    assert cost() is None
    assert cost(price={"gpu_hour": 1.0}) is None
    assert cost(price={"input": 1.0, "output": 1.0}) == pytest.approx(1e-5)
