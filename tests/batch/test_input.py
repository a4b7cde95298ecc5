"""Invalid inputs: a wrong line fails alone, an ambiguous id stops the batch."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import ConfigError, InvalidRequestError, run_batch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from llmengine import Engine
    from llmengine.mock import MockServer
    from tests.batch.conftest import Kit

BAD_LINES: list[Any] = [
    (b"{oops", "not JSON"),
    (b'{"custom_id": "x", "body": {"temperature": NaN}}', "NaN is not a JSON number"),
    (b"[" * 100_000, "not JSON"),
    (b"[1]", "not a JSON object"),
    (b"\xff\xfe", "not JSON"),
    (b"{}", "custom_id is missing"),
    ({"custom_id": "x"}, "method is None"),
    ({"custom_id": "x", "method": "POST", "url": "/v1/nonsense"}, "url is '/v1/nonsense'; known"),
    ({"custom_id": "x", "method": "POST", "url": "/v1/completions"}, "body is missing"),
]


@pytest.mark.parametrize(("line", "problem"), BAD_LINES, ids=range(len(BAD_LINES)))
def test_bad_line_fails_alone(
    kit: Kit, engine: Engine, source: Any, output: Path, line: Any, problem: str
) -> None:
    """It becomes an error with its line number; the lines around it are answered."""
    path = source(kit.request("a"), b"", line, kit.request("b"))

    report = run_batch(path, output, engine)

    lines = {item["custom_id"]: item for item in kit.read(output)}
    assert (report.progress.answered, report.progress.failed) == (2, 1)
    assert {kit.text(lines["a"]), kit.text(lines["b"])} == {"a", "b"}
    (bad,) = (item for item in lines.values() if item["error"])
    assert bad["error"]["code"] == "invalid_line"
    assert bad["error"]["llmengine"]["line"] == 3
    assert problem in bad["error"]["message"]
    assert report.errors[0].startswith("line 3")


def test_stream_is_refused(kit: Kit, engine: Engine, server: MockServer, output: Path) -> None:
    """The format has no streamed answers, so the request is not sent."""
    request = kit.request("a")
    request["body"]["stream"] = True

    report = run_batch([request], output, engine)

    assert report.errors == (
        "line 1 (a): body.stream is set, but a batch cannot stream answers; leave it out",
    )
    assert not server.calls


def test_duplicate_id_stops_before_anything_is_asked(
    kit: Kit, engine: Engine, server: MockServer, source: Any, output: Path
) -> None:
    """One error names the file and both lines; no output is created."""
    path = source(kit.request("a"), kit.request("b"), kit.request("a"))

    with pytest.raises(InvalidRequestError, match=r"in.jsonl, line 3: custom_id 'a' .* by line 1"):
        run_batch(path, output, engine)

    assert not server.calls
    assert not output.exists()


def test_long_id_stops_before_anything_is_asked(
    kit: Kit, engine: Engine, source: Any, output: Path
) -> None:
    """64 characters are fine, 65 are not."""
    report = run_batch([kit.request("é" * 64)], output, engine)

    assert report.ok
    with pytest.raises(InvalidRequestError, match=r"in.jsonl, line 1: .* has 65 characters"):
        run_batch(source(kit.request("é" * 65)), output, engine)


def test_duplicate_id_of_a_stream_loses_nothing(kit: Kit, engine: Engine, output: Path) -> None:
    """The id is found when the request is drawn; the answers to earlier requests are written."""
    requests = (kit.request(name) for name in ["a", "b", "c", "a", "d"])

    with pytest.raises(InvalidRequestError, match="the requests, line 4: custom_id 'a'"):
        run_batch(requests, output, engine)

    assert {line["custom_id"] for line in kit.read(output)} == {"a", "b", "c"}


def test_source_is_drawn_as_there_is_room(
    kit: Kit, engine_at: Any, server: MockServer, output: Path
) -> None:
    """At most as many requests as the concurrency are drawn ahead, however long the source is."""
    drawn = 0
    ahead: list[int] = []

    def requests() -> Iterator[dict[str, Any]]:
        nonlocal drawn
        while drawn < 300:
            drawn += 1
            yield kit.request(f"r{drawn}")

    run_batch(
        requests(),
        output,
        engine_at(server.root_url, max_concurrency=4),
        on_progress=lambda progress: ahead.append(drawn - progress.done),
    )

    assert len(kit.read(output)) == 300
    assert max(ahead) <= 4


def test_file_of_another_editor(kit: Kit, engine: Engine, output: Path, tmp_path: Path) -> None:
    """A byte order mark, DOS line ends and a missing last newline change nothing."""
    path = tmp_path / "dos.jsonl"
    lines = [json.dumps(kit.request(name)) for name in "ab"]
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())

    assert run_batch(path, output, engine).progress.answered == 2


def test_empty_input_is_complete(engine: Engine, source: Any, output: Path) -> None:
    """A batch without requests is complete."""
    report = run_batch(source(), output, engine)

    assert report.ok
    assert output.read_bytes() == b""


def test_input_is_never_overwritten(kit: Kit, engine: Engine, source: Any) -> None:
    """The input is refused as the output, also under another name."""
    path = source(kit.request("a"))
    link = path.with_name("link.jsonl")
    link.symlink_to(path)

    with pytest.raises(ConfigError, match="over the input"):
        run_batch(path, link, engine, resume=False)

    assert kit.read(path) == [kit.request("a")]
