"""Parts of a batch, run without Ray by the class that Ray uses on its actors."""

from __future__ import annotations

import pickle
import sys
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import ConfigError, EngineConfig
from llmengine.batch.format import BatchRequest
from llmengine.batch.journal import Journal
from llmengine.integrations.ray_data import run_batch
from llmengine.integrations.ray_data.batch import Part, PartRunner, parts_of, recover
from llmengine.mock import Fault, Script

if TYPE_CHECKING:
    from pathlib import Path

    from llmengine.integrations.ray_data.batch import AnsweredPart
    from llmengine.mock import MockServer

URL = "/v1/chat/completions"


def _request(line: int) -> BatchRequest:
    body = {"messages": [{"role": "user", "content": f"Repeat this: r{line}"}]}
    return BatchRequest(line, f"r{line}", URL, body)


def _part(count: int) -> Part:
    return Part("run-0.jsonl", tuple(_request(line) for line in range(1, count + 1)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of the actors' answers; the first actor makes it."""
    return tmp_path / "out.jsonl.parts"


@pytest.fixture
def runner(config: dict[str, Any], folder: Path) -> PartRunner:
    """The object on an actor."""
    return PartRunner([EngineConfig(**config)], str(folder))


def _ask(runner: PartRunner, part: Part) -> AnsweredPart:
    asked: AnsweredPart = pickle.loads(runner({"part": pickle.dumps(part)})["part"])
    return asked


def test_requests_are_cut_into_parts() -> None:
    """Every request is in one part, in order, and no two parts of any run have the same file."""
    twice = [list(parts_of(map(_request, range(5)), 2)) for _ in range(2)]

    assert [[r.line for r in part.requests] for part in twice[0]] == [[0, 1], [2, 3], [4]]
    assert len({part.name for run in twice for part in run}) == 6


def test_part_is_asked_and_handed_over(
    server: MockServer, runner: PartRunner, folder: Path
) -> None:
    """The lines are those of the part's file, and the failure names its line of the input."""
    server.play(Script(faults=[Fault(status=403)]))

    asked = _ask(runner, _part(1))

    assert asked.lines == (folder / "run-0.jsonl").read_bytes()
    assert b'"line":1' in asked.lines
    assert (asked.progress.answered, asked.progress.failed, asked.progress.attempts) == (0, 1, 1)
    assert asked.errors[0].startswith("line 1 (r1): ")


def test_part_that_is_started_again_goes_on(server: MockServer, runner: PartRunner) -> None:
    """Requests that the dead actor has answered are not sent again; their cost is unknown."""
    _ask(runner, _part(3))

    asked = _ask(runner, _part(5))

    assert len(server.calls) == 5
    assert asked.lines.count(b"\n") == 5
    assert (asked.progress.answered, asked.progress.attempts) == (5, 2)
    assert asked.progress.cost is None


def test_left_parts_are_taken_in(runner: PartRunner, folder: Path, tmp_path: Path) -> None:
    """A killed run's answers go into the output, without the line that it did not finish."""
    _ask(runner, _part(3))
    file = folder / "run-0.jsonl"
    file.write_bytes(file.read_bytes()[:-20])

    with Journal(tmp_path / "out.jsonl", keep=True) as journal:
        recover(folder, journal, keep=True)

    assert (tmp_path / "out.jsonl").read_bytes().count(b"\n") == 2
    assert list(folder.iterdir()) == []


def test_new_start_throws_left_parts_away(runner: PartRunner, folder: Path, tmp_path: Path) -> None:
    """A new start does not use the answers of the old run."""
    _ask(runner, _part(3))

    with Journal(tmp_path / "out.jsonl", keep=False) as journal:
        recover(folder, journal, keep=False)

    assert (tmp_path / "out.jsonl").read_bytes() == b""
    assert list(folder.iterdir()) == []


def test_foreign_file_among_the_parts_is_named(folder: Path, tmp_path: Path) -> None:
    """A file that is not an actor's is an error, and it stays."""
    folder.mkdir()
    (folder / "notes.jsonl").write_text('{"mine": 1}\n', "utf-8")

    with (
        Journal(tmp_path / "out.jsonl", keep=True) as journal,
        pytest.raises(ConfigError, match=r"notes.jsonl: line 1 is not the output of a batch"),
    ):
        recover(folder, journal, keep=True)

    assert (folder / "notes.jsonl").exists()


def test_batch_without_ray_says_how_to_get_it(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error has the command, and nothing is read or written before it."""
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "ray", raising=False)

    with pytest.raises(ConfigError, match=r"pip install 'pytest-llmengine\[ray\]'"):
        run_batch([], tmp_path / "out.jsonl", config, actors=2)

    assert not (tmp_path / "out.jsonl").exists()
