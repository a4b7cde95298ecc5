"""Hosted batches: the server answers a file of requests by OpenAI's Batch API."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import ConfigError, NotFoundError, read_batch, run_batch, run_hosted_batch
from llmengine.batch import hosted_api, hosted_shards
from llmengine.mock import BatchSchedule, Behaviour, Fault, ManualClock, MockServer, Script
from llmengine.telemetry import meter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from llmengine import Engine
    from llmengine.mock import RawReply, ReceivedRequest
    from tests.batch.conftest import Kit

POLL = 0.001


def run(source: Any, output: Path, engine: Engine, **options: Any) -> Any:
    """A hosted run that does not wait long."""
    return run_hosted_batch(source, output, engine, poll_seconds=POLL, **options)


def posts(server: MockServer, path: str) -> int:
    """How often something was posted to a path."""
    return sum(call.method == "POST" and call.path == path for call in server.calls)


def test_answers_are_in_the_ordinary_output(
    kit: Kit, engine: Engine, server: MockServer, output: Path
) -> None:
    """Each answer is matched by its id, and a run without hosting has nothing left to do."""
    embedding = kit.request("e", url="/v1/embeddings", body={"input": "Hi"})
    nameless = kit.request("n")
    del nameless["body"]["model"]
    requests = [kit.request(name) for name in "abc"] + [embedding, nameless, {"custom_id": "x"}]

    report = run(requests, output, engine)

    progress = report.progress
    assert (progress.answered, progress.failed, progress.total) == (5, 1, 6)
    assert [batch.status for batch in report.batches] == ["completed"] * 2  # one for each route
    assert report.errors == ("line 6 (x): method is None; a request is a 'POST'",)
    assert progress.usage is not None
    assert progress.cost is None
    first, *_, embedded, last, bad = read_batch(output, requests)
    assert [kit.text(line) for line in (first, last) if line] == ["a", "n"]
    assert embedded is not None
    assert embedded["response"]["body"]["data"]
    assert bad is not None
    assert list(first or {}) == ["id", "custom_id", "response", "error"]
    assert not list(output.parent.glob("*.hosted"))
    assert run_batch(requests, output, engine).progress.attempts == 0


def test_body_is_the_text_of_the_server(
    kit: Kit, engine_at: Any, output: Path, tmp_path: Path
) -> None:
    """Numbers, the order of keys and spaces in a body stay as they were sent."""
    body = '{"choices": [{"finish_reason":"stop","message":{"content":"ü"}}], "x": 1.50e+2}'

    def wire(reply: RawReply, call: ReceivedRequest) -> RawReply:
        if call.path.endswith("/content"):
            line = f'{{"response": {{"body": {body} ,"status_code":200}}, "custom_id" : "a"}}'
            reply.chunks = [line.encode()]
        return reply

    with MockServer(behaviour=Behaviour(wire=wire)) as server:
        report = run([kit.request("a")], output, engine_at(server.root_url))

    assert report.ok
    assert f'"body":{body}}}' in output.read_text("utf-8")


def test_states_are_polled_until_the_end(kit: Kit, engine_at: Any, output: Path) -> None:
    """Progress shows each state; without a wait, the next run reads the answers."""
    clock, states = ManualClock(), []

    def on_progress(batches: Any) -> None:
        states.append(batches[0].status)
        clock.advance(50)

    with MockServer(clock=clock, batches=BatchSchedule(seconds=100)) as server:
        engine = engine_at(server.root_url)
        requests = [kit.request("a"), kit.request("b")]
        started = run(requests, output, engine, wait=False)
        assert (started.ok, started.is_complete, started.progress.answered) == (False, False, 0)
        with pytest.raises(ConfigError, match="hosted batches that are not finished"):
            run_batch(requests, output, engine)
        with pytest.raises(ConfigError, match="before the output is emptied"):
            run(requests, output, engine, resume=False)
        with MockServer() as other, pytest.raises(ConfigError, match="are on http"):
            run(requests, output, engine_at(other.root_url))
        report = run(requests, output, engine, on_progress=on_progress)

        assert report.ok
        assert report.is_complete
        assert states == ["validating", "in_progress", "completed"]
        assert posts(server, "/v1/batches") == 1


def test_lines_are_split_into_batches(
    kit: Kit, engine: Engine, server: MockServer, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch has a limited number of lines."""
    monkeypatch.setattr(hosted_shards, "MOST_LINES", 2)
    requests = [kit.request(name) for name in "abcde"]

    report = run(requests, output, engine)

    assert report.ok
    assert [batch.total for batch in report.batches] == [2, 2, 1]
    assert Counter(line["custom_id"] for line in kit.read(output)) == Counter("abcde")


def test_inputs_of_embeddings_are_limited_too(
    kit: Kit, engine: Engine, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch has a limited number of inputs in all its lines; one line is never split."""
    monkeypatch.setattr(hosted_shards, "MOST_INPUTS", 4)
    inputs = [["a", "b"], ["c", "d"], "e", ["f"] * 5]
    url = "/v1/embeddings"

    report = run(
        [kit.request(str(n), url=url, body={"input": given}) for n, given in enumerate(inputs)],
        output,
        engine,
    )

    assert report.ok
    assert [batch.total for batch in report.batches] == [2, 1, 1]


def test_errors_of_lines_are_failed_lines(
    kit: Kit, engine: Engine, server: MockServer, output: Path
) -> None:
    """A line of the error file has the server's error; only_failed sends it in a new batch."""
    server.when(contains="b").reply(Fault(status=503), "b")
    server.when().reply("Hi.")
    requests = [kit.request("a"), kit.request("b")]

    failed = run(requests, output, engine)
    mended = run(requests, output, engine, only_failed=True)

    assert (failed.progress.answered, failed.progress.failed) == (1, 1)
    assert "overloaded" in failed.errors[0]
    assert mended.ok
    assert mended.progress.earlier == 1
    assert posts(server, "/v1/batches") == 2


@pytest.mark.parametrize(
    ("schedule", "answered", "code"),
    [
        (BatchSchedule(expires_after=2), 2, "batch_expired"),
        (BatchSchedule(failure="Enqueued token limit reached."), 0, "batch_failed"),
    ],
)
def test_a_batch_that_is_not_completed(
    kit: Kit,
    engine: Engine,
    server: MockServer,
    output: Path,
    schedule: BatchSchedule,
    answered: int,
    code: str,
) -> None:
    """The answers by then count, the other lines fail with the reason, and can be sent again."""
    requests = [kit.request(name) for name in "abcd"]
    server.schedule_batches(schedule)

    report = run(requests, output, engine)

    assert report.progress.answered == answered
    assert {line["error"]["code"] for line in kit.read(output) if line["error"]} == {code}
    assert report.batches[0].status in report.errors[0]
    assert (schedule.failure or "") in report.errors[0]
    server.schedule_batches(BatchSchedule())
    assert run(requests, output, engine, only_failed=True).ok


def test_cancelled_batches_keep_their_answers(kit: Kit, engine_at: Any, output: Path) -> None:
    """What was answered before is kept; the rest failed."""
    clock = ManualClock()
    with MockServer(clock=clock, batches=BatchSchedule(seconds=100)) as server:
        engine = engine_at(server.root_url)
        requests = [kit.request(name) for name in "abcd"]
        with pytest.raises(ConfigError, match="no hosted batches"):
            run(requests, output, engine, cancel=True)
        run(requests, output, engine, wait=False)
        clock.advance(50)
        report = run(requests, output, engine, cancel=True, on_progress=lambda _: clock.advance(25))

    assert report.batches[0].status == "cancelled"
    assert (report.progress.answered, report.progress.failed) == (2, 2)


def test_server_without_the_api(kit: Kit, engine_at: Any, output: Path) -> None:
    """One error says what is missing; nothing is left that would stop an ordinary run."""
    for route in ("/v1/files", "/v1/batches"):
        with MockServer(behaviour=Behaviour(disabled_routes=frozenset({route}))) as server:
            engine = engine_at(server.root_url)
            with pytest.raises(ConfigError, match=rf"no Batch API \(POST {route}: HTTP 404"):
                run([kit.request("a")], output, engine)
            assert run_batch([kit.request(route)], output, engine).ok


def test_openai_backend_and_a_configured_price(
    kit: Kit, engine_at: Any, server: MockServer, output: Path
) -> None:
    """The backend `openai` gives its address and key; a configured price gives the cost.

    The tokens are also in the totals of the engine.
    """
    price = {"input": 1.0, "output": 1.0}
    engine = engine_at(server.root_url, backend="openai", price=price)

    before = meter.snapshot()

    report = run([kit.request("a")], output, engine)

    usage = report.progress.usage
    assert report.ok
    assert report.progress.cost == pytest.approx(usage.total_tokens / 1e6)
    (totals,) = (meter.snapshot() - before).engines.values()
    assert (totals.calls, totals.usage, totals.cost) == (1, usage, report.progress.cost)


@pytest.mark.parametrize("hidden", ["input_file_id", "metadata"])
def test_failures_of_the_api_are_retried_and_create_no_second_batch(
    kit: Kit, engine_at: Any, output: Path, hidden: str
) -> None:
    """If the answer to a creation is lost, the batch is found in the server's list."""

    def reply(body: Any, call: ReceivedRequest) -> Any:
        for batch in body["data"] if call.method == "GET" and "data" in body else ():
            del batch[hidden]
        return body

    upload = [Fault(status=503), None]
    creation = [Fault(split_at=1, cut_after=1), Fault(status=500), None]
    polls = [Fault(status=500)] * 4
    script = Script(faults=[*upload, *creation, *polls])
    with MockServer(script=script, behaviour=Behaviour(reply=reply)) as server:
        report = run([kit.request("a")], output, engine_at(server.root_url))

        assert report.ok
        assert posts(server, "/v1/files") == 2
        assert posts(server, "/v1/batches") == 1


def test_a_batch_that_is_gone_says_what_to_do(kit: Kit, engine_at: Any, output: Path) -> None:
    """The state has to be removed by hand, because the requests may have been paid for."""
    with MockServer(batches=BatchSchedule(seconds=1000)) as server:
        run([kit.request("a")], output, engine_at(server.root_url), wait=False)
        port = int(server.root_url.rpartition(":")[2])
    with MockServer(port=port) as server, pytest.raises(NotFoundError, match=r"remove .*hosted"):
        run([kit.request("a")], output, engine_at(server.root_url))


def test_a_file_that_was_changed_says_what_to_do(
    kit: Kit, engine: Engine, server: MockServer, output: Path
) -> None:
    """Without the lines that were sent, the answers cannot be matched."""
    server.schedule_batches(BatchSchedule(seconds=1000))
    run([kit.request("a")], output, engine, wait=False)
    (sent,) = output.parent.glob("*.hosted/batch-1.jsonl")
    for content in (b"", b"oops\n"):
        sent.write_bytes(content)
        with pytest.raises(ConfigError, match=r"changed after it was sent.* remove .*hosted"):
            run([kit.request("a")], output, engine)
    state = sent.with_name("state.jsonl")
    state.write_bytes(b"oops\n")
    with pytest.raises(ConfigError, match=r"not the state of hosted batches; .* remove .*hosted"):
        run([kit.request("a")], output, engine)


def test_a_source_that_fails_leaves_nothing_behind(
    kit: Kit, engine: Engine, server: MockServer, output: Path
) -> None:
    """Nothing was sent then, so no run has to be continued."""

    def source() -> Iterator[Any]:
        yield kit.request("a")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(source(), output, engine)

    assert not list(output.parent.glob("*.hosted"))
    assert not server.calls


def test_a_run_killed_at_any_step_is_continued(
    kit: Kit, engine_at: Callable[..., Engine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each request, the files are what a kill there would leave; all of them can be continued.

    The server has done what the request asks for, and the client has not heard of it.
    """
    monkeypatch.setattr(hosted_shards, "MOST_LINES", 2)
    monkeypatch.setattr(hosted_api, "PAGE_SIZE", 1)
    work, copies = tmp_path / "work", tmp_path / "copies"
    work.mkdir()
    requests = [kit.request(name) for name in "abc"]
    steps: list[str] = []

    def copy(reply: RawReply, call: ReceivedRequest) -> RawReply:
        if work.exists():
            shutil.copytree(work, copies / str(len(steps)))
            steps.append(f"{call.method} {call.path.split('/')[2]}")
        return reply

    with MockServer(behaviour=Behaviour(wire=copy)) as server:
        engine = engine_at(server.root_url)
        assert run(requests, work / "out.jsonl", engine).ok
        first, second, _ = (work / "out.jsonl").read_bytes().splitlines(keepends=True)
        shutil.rmtree(work)
        assert steps == ["POST files", "POST batches"] * 2 + ["GET batches", "GET files"] * 2
        created = posts(server, "/v1/batches")
        # A kill may also come while the answers of the first batch or a step are written.
        shutil.copytree(copies / "5", copies / "8")
        (copies / "8" / "out.jsonl").write_bytes(first + second[:30])
        shutil.copytree(copies / "4", copies / "9")
        with (copies / "9" / "out.jsonl.hosted" / "state.jsonl").open("r+b") as state:
            state.truncate(state.seek(-7, 2))
        for number, step in enumerate([*steps, "output", "state"]):
            output = copies / str(number) / "out.jsonl"
            report = run(requests, output, engine)

            assert report.ok, step
            assert Counter(line["custom_id"] for line in kit.read(output)) == Counter("abc"), step
            assert not list(output.parent.glob("*.hosted")), step
            if step == "output":
                assert report.progress.earlier == 1
        # At the first upload, no batch exists. Later ones exist already, and are found.
        sent = [
            json.loads(call.body)["input_file_id"]
            for call in server.calls
            if call.method == "POST" and call.path == "/v1/batches"
        ]
        assert max(Counter(sent).values()) == 1
        assert len(sent) == created + 2 + 1 + 1 + 0
