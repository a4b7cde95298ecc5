"""Parts of a prompt that differ in each run, and do not keep it from its recorded answer."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmengine.recording import RecordServer, ReplayServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.recording.conftest import Ask, RawUpstream, Whole


def _prompt(text: str, **others: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], **others}


@pytest.fixture
def answers(upstream: RawUpstream, whole: Whole, path: Path, ask: Ask) -> Callable[..., Any]:
    """Records bodies, answered with their numbers, and returns the answers to others."""

    def run(recorded: list[Any], asked: list[Any], **options: Any) -> list[str | int]:
        with RecordServer(upstream.url) as recorder, recorder.cassette(path):
            for number, body in enumerate(recorded):
                upstream.will_send(whole(str(number).encode()))
                ask(recorder.root_url, body)
        with ReplayServer(**options) as player, player.cassette(path):
            replies = [ask(player.root_url, body) for body in asked]
        return [one.text if one.is_success else one.status_code for one in replies]

    return run


@pytest.mark.parametrize(
    ("name", "recorded", "same", "other"),
    [
        (
            "dates",
            "It is 2026-11-21T10:00:00.123456+01:00, or 9:30 PM.",
            ["It is 2027-01-02, or 10:00:01Z.", "It is Sat, 21 Nov 2026 10:00:00 GMT, or 09:00."],
            ["It was 2026-11-21, or 9:30 PM.", "It is version 1.2.3, or 9:30 PM."],
        ),
        (
            "dates",
            "Today is Saturday, November 21, 2026",
            ["Today is 3rd of May 2027", "Today is Sun Nov 22 10:00:00 2026", "Today is 5/6/27"],
            ["Today is Saturday", "Today is 10.0.0.12"],
        ),
        (
            "uuids",
            "Run 123e4567-e89b-12d3-a456-426614174000",
            ["Run 00112233445566778899aabbccddeeff", "Run 0F0F0F0F-0F0F-4F0F-8F0F-0F0F0F0F0F0F"],
            ["Run 123e4567", "Walk 123e4567-e89b-12d3-a456-426614174000"],
        ),
        ("numbers", "1,000.5 of gpt4o", ["7 of gpt4o", "2e6 of gpt4o"], ["7 of gpt5o", "of gpt4o"]),
    ],
)
def test_known_normalizers(
    answers: Callable[..., Any], name: str, recorded: str, same: list[str], other: list[str]
) -> None:
    """Each takes what it names for equal, and nothing else."""
    asked = [_prompt(text) for text in (*same, *other)]

    got = answers([_prompt(recorded)], asked, normalize=name, repeats=True)

    assert got == ["0"] * len(same) + [501] * len(other)


def test_what_is_normalized(answers: Callable[..., Any]) -> None:
    """Every string in the body, but no number, no name of a member and not the model."""
    model = {"model": "m-2026-11-21"}
    tool = {"name": "f", "description": "It is 10:00", "parameters": {"n": 1}}
    later = tool | {"description": "It is 11:00"}

    got = answers(
        [_prompt("At 10:00", tools=[tool]) | model],
        [
            _prompt("At 11:00", tools=[later]) | {"model": "m-2026-11-22"},
            _prompt("At 11:00", tools=[later | {"parameters": {"n": 2}}]) | model,
            _prompt("At 11:00", tools=[later]) | model,
        ],
        normalize=["dates", "uuids", "numbers"],
    )

    assert got == [501, 501, "0"]


def test_exact_request_first(answers: Callable[..., Any]) -> None:
    """Of several recorded requests that match, the one that is the same in every part is played."""
    first, second, third = (_prompt(f"At 1{n}:00") for n in range(3))

    got = answers([first, second], [second, third, first], normalize="dates")

    assert got == ["1", "0", 501]


def test_own_functions(answers: Callable[..., Any], tmp_path: Path, monkeypatch: Any) -> None:
    """A project gives its own functions, or their names; they apply one after the other."""
    (tmp_path / "own_matching.py").write_text(
        "def normalize_names(text): return text.replace('Bob', 'NAME')\n"
        "def same_user(new, recorded): return b'u1' in new.body\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    normalize = [lambda text: text.replace("Ada", "Bob"), "own_matching:normalize_names", "dates"]
    asked = [_prompt("Bob at 11:00", user="u1"), _prompt("Eve at 11:00", user="u1")]

    got = answers(
        [_prompt("Ada at 10:00", user="u1")],
        [*asked, _prompt("Bob at 11:00", user="u2")],
        normalize=normalize,
        ignore_paths=["$.user"],
        match_on=["body", "own_matching:same_user"],
    )

    assert got == ["0", 501, 501]
    sys.modules.pop("own_matching")


def test_difference_without_what_is_normalized(
    upstream: RawUpstream, whole: Whole, path: Path, ask: Ask
) -> None:
    """The message shows only why no recording matched."""
    upstream.will_send(whole(b"{}"))
    with RecordServer(upstream.url) as recorder, recorder.cassette(path):
        ask(recorder.root_url, _prompt("At 10:00: hi"))
    with ReplayServer(normalize="dates") as player, player.cassette(path) as cassette:
        ask(player.root_url, _prompt("At 11:00: bye"))
    assert (
        '-      "content": "At <time>: hi",\n+      "content": "At <time>: bye",'
        in (cassette.unhandled[0])
    )


def test_normalizer_without_a_text(
    upstream: RawUpstream, whole: Whole, path: Path, ask: Ask
) -> None:
    """A function that returns something else is named, and the request is not handled."""
    upstream.will_send(whole(b"{}"))
    with RecordServer(upstream.url) as recorder, recorder.cassette(path):
        ask(recorder.root_url, _prompt("hi"))

    def broken(text: str) -> Any:
        return json.loads("null") if text == "bye" else text

    with ReplayServer(normalize=broken) as player, player.cassette(path) as cassette:
        assert ask(player.root_url, _prompt("bye")).status_code == 500
    assert "broken" in cassette.unhandled[0]
    assert "returned None; return a str" in cassette.unhandled[0]
