"""A stopped run is continued: nothing is lost, and only what was under way is sent twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import ConfigError, read_batch, run_batch
from llmengine.mock import Fault, Script

if TYPE_CHECKING:
    from pathlib import Path

    from llmengine import Engine
    from llmengine.mock import MockServer
    from tests.batch.conftest import Kit


def test_killed_run_is_picked_up(
    kit: Kit, engine: Engine, server: MockServer, source: Any, output: Path
) -> None:
    """After kill -9, exactly the requests that were sent and not yet written are sent again."""
    names = [f"r{i}" for i in range(300)]
    path = source(*map(kit.request, names))
    server.play(Script(faults=[Fault(delay=0.03)] * 10_000))
    command = [sys.executable, "-m", "pytest_llmengine.cli", "batch", str(path), "-o", str(output)]
    options = ["--url", server.root_url, "--model", "mock", "--concurrency", "8"]
    with subprocess.Popen([*command, *options]) as process:
        while not output.exists() or len(output.read_bytes().splitlines()) < 100:
            assert process.poll() is None
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
    server.play(Script())
    written = {line["custom_id"] for line in kit.read(output)}
    sent = set(kit.sent(server))
    assert 0 < len(sent - written) <= 8
    assert len(sent) < 300

    report = run_batch(path, output, engine)

    assert report.ok
    assert report.progress.earlier == len(written)
    assert Counter(line["custom_id"] for line in kit.read(output)) == Counter(names)
    assert {name for name, times in kit.sent(server).items() if times > 1} == sent - written
    assert kit.sent(server).total() == 300 + len(sent - written)


@pytest.mark.parametrize("kept", [0, 1, 10, 17, 60, -2])
def test_line_cut_by_the_kill_is_removed(
    kit: Kit, engine: Engine, server: MockServer, output: Path, kept: int
) -> None:
    """Wherever the last line was cut, its request is sent again and the others are not."""
    requests = [kit.request(name) for name in ("a", "b")]
    run_batch(requests, output, engine)
    first, second = output.read_bytes().splitlines(keepends=True)
    output.write_bytes(first + second[:kept])

    report = run_batch(requests, output, engine)

    assert report.ok
    assert sorted(line["custom_id"] for line in kit.read(output)) == ["a", "b"]
    assert len(server.calls) == 3


def test_whole_line_without_its_newline_is_an_answer(
    kit: Kit, engine: Engine, server: MockServer, output: Path
) -> None:
    """If only the newline was lost, it is written again, and nothing is sent."""
    run_batch([kit.request("a")], output, engine)
    whole = output.read_bytes()
    output.write_bytes(whole[:-1])

    run_batch([kit.request("a")], output, engine)

    assert output.read_bytes() == whole
    assert len(server.calls) == 1


def test_failures_are_asked_again_alone(
    kit: Kit, engine_at: Any, server: MockServer, output: Path
) -> None:
    """only_failed sends only what failed; each id then has one line, the last one."""
    requests = [kit.request(name) for name in ("a", "b", "c")]
    engine = engine_at(server.root_url, max_retries=0, max_concurrency=1)
    server.play(Script(faults=[None, Fault(status=500), Fault(status=503)]))
    run_batch(requests, output, engine)
    assert run_batch(requests, output, engine).progress.failed == 2
    assert len(server.calls) == 3

    server.play(Script(faults=[None, Fault(status=503)]))
    report = run_batch([*requests, kit.request("new")], output, engine, only_failed=True)

    assert kit.sent(server) == {"a": 1, "b": 2, "c": 2}
    lines = kit.read(output)
    assert [(line["custom_id"], line["error"] is None) for line in lines] == [
        ("a", True),
        ("b", True),
        ("c", False),
    ]
    assert (report.progress.answered, report.progress.failed, report.progress.unasked) == (2, 1, 1)
    assert not report.ok
    assert not list(output.parent.glob("*.new"))


def test_broken_answer_counts_as_failed_later_too(
    kit: Kit, engine: Engine, server: MockServer, output: Path
) -> None:
    """A 200 that was not a valid answer is a failure when the output is read again, too."""
    server.play(Script(faults=[Fault(malformed_json=True)] * (1 + engine.config.max_retries)))
    run_batch([kit.request("a")], output, engine)

    assert run_batch([kit.request("a")], output, engine).progress.failed == 1
    assert run_batch([kit.request("a")], output, engine, only_failed=True).ok


def test_corrected_line_replaces_its_error(
    kit: Kit, engine: Engine, source: Any, output: Path
) -> None:
    """A corrected line is sent, and its answer replaces its error."""
    run_batch(source(kit.request("a"), b"{oops"), output, engine)

    report = run_batch(source(kit.request("a"), kit.request("b")), output, engine)

    assert report.ok
    assert [line["custom_id"] for line in kit.read(output)] == ["a", "b"]


def test_without_resume_everything_is_sent_again(
    kit: Kit, engine: Engine, server: MockServer, output: Path
) -> None:
    """resume=False empties the output and sends everything."""
    for _ in range(2):
        run_batch([kit.request("a")], output, engine, resume=False)

    assert len(kit.read(output)) == 1
    assert len(server.calls) == 2


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b"my notes", "its last line"),
        (b"my notes\n", "line 1"),
        (b'{"custom_id": "a", "method": "POST"}\n', "line 1"),
        (b'{"id": "batch_req_1", "custom_id": "a", "respon', "its last line"),
    ],
)
def test_foreign_file_is_left_alone(
    kit: Kit, engine: Engine, server: MockServer, output: Path, content: bytes, where: str
) -> None:
    """A file that was not written by a batch is not changed."""
    output.write_bytes(content)

    with pytest.raises(ConfigError, match=f"out.jsonl: {where} is not the output of a batch"):
        run_batch([kit.request("a")], output, engine)

    assert output.read_bytes() == content
    assert not server.calls


def test_output_of_openai_is_continued(
    kit: Kit, engine: Engine, server: MockServer, output: Path
) -> None:
    """Requests that another service answered are not sent again; its refusals count as failed."""
    output.write_bytes(
        b'{"id": "batch_req_1", "custom_id": "a", "response": '
        b'{"status_code": 200, "request_id": "r", "body": {}}, "error": null}\n'
        b'{"id": "batch_req_2", "custom_id": "b", "response": '
        b'{"status_code": 400, "request_id": "r", "body": {}}, "error": null}\n'
    )

    report = run_batch([kit.request(name) for name in "abc"], output, engine)

    assert kit.sent(server) == {"c": 1}
    assert (report.progress.answered, report.progress.failed) == (2, 1)


def test_second_run_on_one_output_is_refused(
    kit: Kit, engine: Engine, server: MockServer, output: Path
) -> None:
    """While one run writes, another ends at once with an error."""
    refused: list[str] = []

    def meanwhile(_: object) -> None:
        with pytest.raises(ConfigError) as error:
            run_batch([kit.request("b")], output, engine)
        refused.append(str(error.value))

    run_batch([kit.request("a")], output, engine, on_progress=meanwhile)
    run_batch([kit.request("b")], output, engine)

    assert "out.jsonl: another run is writing to it" in refused[0]
    assert kit.sent(server) == {"a": 1, "b": 1}


def test_only_failed_needs_an_output(kit: Kit, engine: Engine, output: Path) -> None:
    """only_failed needs the output of an earlier run."""
    with pytest.raises(ConfigError, match="no such output"):
        run_batch([kit.request("a")], output, engine, only_failed=True)
    with pytest.raises(ConfigError, match="only_failed"):
        run_batch([kit.request("a")], output, engine, only_failed=True, resume=False)


def test_interrupt_leaves_a_whole_file(
    kit: Kit, engine: Engine, server: MockServer, output: Path
) -> None:
    """The answers before Ctrl-C are written, and the rest is sent by the next run."""

    def stop(progress: Any) -> None:
        if progress.done >= 5:
            raise KeyboardInterrupt

    requests = [kit.request(f"r{i}") for i in range(200)]
    with pytest.raises(KeyboardInterrupt):
        run_batch(requests, output, engine, on_progress=stop)
    assert len(kit.read(output)) == 5

    assert run_batch(requests, output, engine).ok
    assert len(kit.read(output)) == 200


def test_reading_in_order_shows_what_is_missing(kit: Kit, engine: Engine, output: Path) -> None:
    """read_batch follows the source; a line without an answer yet is None."""
    run_batch([kit.request(name) for name in ("c", "a")], output, engine)

    lines = list(read_batch(output, [kit.request(name) for name in ("a", "b", "c")]))

    assert [line and kit.text(line) for line in lines] == ["a", None, "c"]
