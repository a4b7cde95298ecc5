"""A side in a file: complete, the same bytes each time, with clear errors."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pytest_llmengine.parity import ParityError, Side, load, save

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_llmengine.parity import ParityPrompt
    from pytest_llmengine.parity.answers import ParityAnswer


@pytest.fixture
def full(
    prompt: Callable[..., ParityPrompt],
    answer: Callable[..., ParityAnswer],
    side: Callable[..., Side],
) -> Side:
    """A side with everything that a file can have."""
    tool = {"type": "function", "function": {"name": "f"}}
    prompts = [
        prompt(1, schema={"type": "object"}),
        prompt(2, tools=(tool,), tool_choice="required"),
        prompt(3),
    ]
    answers = [
        answer('{"é": 1}', 1, valid=True, parsed={"é": 1}),
        answer(number=2, tool_calls=(("f", "{}"),), reasoning="hm"),
        answer(number=3, error="BadRequestError: no"),
    ]
    again = [[answer("other", 1, valid=False), *answers[1:]], answers]
    facts = {"engine": "vLLM", "options": {"a": 1}, "overrides": {"seed": 1}, "stated": ("dtype",)}
    return side(answers, prompts, again, **facts)


@pytest.mark.parametrize("name", ["side.jsonl", "side.jsonl.gz"])
def test_what_is_saved_is_read_back(full: Side, tmp_path: Path, name: str) -> None:
    """Prompts, facts and the answers of all passes survive, compressed or not."""
    file = tmp_path / name

    save(full, file)

    assert load(file) == replace(full, source=name)


def test_the_same_side_gives_the_same_bytes(full: Side, tmp_path: Path) -> None:
    """A file that is saved again does not change in version control."""
    one, other = tmp_path / "one.jsonl.gz", tmp_path / "other.jsonl.gz"
    save(full, one)

    save(load(one), other)

    assert one.read_bytes() == other.read_bytes()
    assert one.read_bytes()[4:8] == bytes(4)  # no time in the header of the archive


def test_a_part_of_a_side_has_all_passes_of_that_part(full: Side) -> None:
    """Prompts, answers and groups are selected alike, in the requested order."""
    part = full.only(["p3", "p1", "unknown"])

    assert [p.id for p in part.prompts] == [a.id for a in part.answers] == ["p3", "p1"]
    assert part.groups == (2, 0)
    assert [a.text for a in part.answers_to(1)] == ['{"é": 1}', "other", '{"é": 1}']


def _other_version(text: str) -> str:
    return text.replace('"version":2', '"version":3', 1)


def _other_prompt(text: str) -> str:
    return text.replace("Question 2?", "Question two?")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (_other_version, "format version 3, and this package reads 1 and 2"),
        (_other_prompt, "its prompts were changed after it was saved"),
        (lambda text: text[: len(text) // 2], "saved side"),
        (
            lambda _: '{"id": "a", "prompt": "Hi"}\n',
            "not a file that `llmengine parity --save` wrote",
        ),
        (lambda _: "", "saved side"),
        (lambda text: text.replace('"again"', '"agains"'), "KeyError: 'again'"),
    ],
)
def test_a_file_that_is_wrong_says_so(
    full: Side, tmp_path: Path, change: Callable[[str], str], problem: str
) -> None:
    """The error has the file and what is wrong with it."""
    file = tmp_path / "side.jsonl"
    save(full, file)
    file.write_text(change(file.read_text("utf-8")), encoding="utf-8")

    with pytest.raises(ParityError) as raised:
        load(file)

    assert str(file) in str(raised.value)
    assert problem in str(raised.value)


def test_a_cut_archive_says_so(full: Side, tmp_path: Path) -> None:
    """Half an archive is an error, not half a side."""
    file = tmp_path / "side.jsonl.gz"
    save(full, file)
    file.write_bytes(file.read_bytes()[:200])

    with pytest.raises(ParityError, match="end-of-stream"):
        load(file)


def test_a_wrong_name_is_refused_before_the_run(full: Side, tmp_path: Path) -> None:
    """The suffix and the folder are checked."""
    with pytest.raises(ParityError, match=r"must end in \.jsonl or \.jsonl\.gz"):
        save(full, tmp_path / "side.json")
    with pytest.raises(ParityError, match="there is no directory"):
        save(full, tmp_path / "gone" / "side.jsonl")


def test_a_file_is_lines_of_json(full: Side, tmp_path: Path) -> None:
    """A header and one line per prompt, which other tools can read."""
    file = tmp_path / "side.jsonl.gz"
    save(full, file)

    head, *rows = map(json.loads, gzip.decompress(file.read_bytes()).decode().splitlines())

    assert (head["format"], head["version"], head["prompts"]["count"]) == ("llmengine-parity", 2, 3)
    assert [row["prompt"]["id"] for row in rows] == ["p1", "p2", "p3"]
    assert rows[0]["answer"]["text"] == '{"é": 1}'
    changed, equal = rows[0]["again"]  # of a further answer, what differs from the first
    assert (changed["text"], changed["parsed"], equal) == ("other", None, {})


def test_a_file_of_version_1_says_what_it_does_not_hold(recorded: Path) -> None:
    """Further answers are known as equal to the first or not, without log-probabilities."""
    side = load(recorded / "dtype.jsonl.gz")

    assert side.passes == 4
    assert "a file of version 1" in side.notes[0]
    further = [answer for place in range(24) for answer in side.answers_to(place)[1:]]
    assert all(answer.tokens is None for answer in further)
    assert {answer.text for answer in further} <= {
        *(answer.text for answer in side.answers),
        *(f"an answer of pass {n} that a file of version 1 does not hold" for n in (2, 3, 4)),
    }
