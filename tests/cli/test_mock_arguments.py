"""Faults and replies in the arguments of `llmengine mock serve`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from llmengine import ConfigError
from llmengine.mock import Chaos, Fault
from pytest_llmengine.cli.mock_arguments import parse_chaos, parse_fault, read_replies

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("status=503,retry_after=0.5", Fault(status=503, retry_after=0.5)),
        ("delay=2", Fault(delay=2.0)),
        ("cut_after=0", Fault(cut_after=0)),
        ("malformed_json", Fault(malformed_json=True)),
        ("drop_keepalive=true, delay=1", Fault(drop_keepalive=True, delay=1.0)),
        ("content_type=text/html", Fault(content_type="text/html")),
        ("split_at=1", Fault(split_at=1)),
        ("split_at=3+7", Fault(split_at=(3, 7))),
        ("none", None),
    ],
)
def test_fault_is_read(text: str, fault: Fault | None) -> None:
    """Every kind of fault can be written, and several in one."""
    assert parse_fault(text) == fault


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("statsu=503", "unknown fault 'statsu'; the faults are status, retry_after, "),
        ("status=often", "status=often is not a value of status, which is int"),
        ("status", "status=true is not a value of status"),
        ("malformed_json=maybe", "malformed_json=maybe is not a value"),
        ("", "unknown fault ''"),
    ],
)
def test_wrong_fault_names_the_field(text: str, said: str) -> None:
    """An unknown fault or an invalid value is named."""
    with pytest.raises(ConfigError, match=said):
        parse_fault(text)


def test_replies_are_texts_or_messages(tmp_path: Path) -> None:
    """There is one JSON value per line; blank lines do not count."""
    path = tmp_path / "replies.jsonl"
    path.write_text('"Hi."\n\n{"content": null, "tool_calls": []}\n', encoding="utf-8")
    assert read_replies(path) == (["Hi.", {"content": None, "tool_calls": []}], [])


def test_replies_by_content(tmp_path: Path) -> None:
    """A line with conditions has one reply or several."""
    path = tmp_path / "replies.jsonl"
    path.write_text(
        '{"when": {"contains": ["a", "b"]}, "reply": "x"}\n"Hi."\n'
        '{"when": {"tool": "add"}, "replies": [{"finish_reason": "length"}, null]}\n',
        encoding="utf-8",
    )
    in_order, by_content = read_replies(path)
    assert in_order == ["Hi."]
    assert [(stub.when, stub.replies) for stub in by_content] == [
        ({"contains": ["a", "b"]}, ["x"]),
        ({"tool": "add"}, [{"finish_reason": "length"}, None]),
    ]


def test_chaos_is_read() -> None:
    """Probabilities are numbers, and several statuses are joined by a plus."""
    chaos = parse_chaos("status=0.1, statuses=429+529,slow=0.2,slow_seconds=3")
    assert chaos == Chaos(status=0.1, statuses=(429, 529), slow=0.2, slow_seconds=3.0)
    assert parse_chaos("") == Chaos()


@pytest.mark.parametrize(
    "line",
    [
        "Hi.",
        "[1]",
        "3",
        '{"contents": "x"}',
        '{"when": {"where": "x"}, "reply": "x"}',
        '{"when": "x", "reply": "x"}',
        '{"when": {"contains": ""}, "reply": "x"}',
        '{"when": {}, "reply": 5}',
        '{"when": {}, "answer": "x"}',
    ],
)
def test_wrong_reply_names_file_and_line(tmp_path: Path, line: str) -> None:
    """The error has the file and the line number."""
    path = tmp_path / "replies.jsonl"
    path.write_text(f'"Hi."\n{line}\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"replies\.jsonl:2: "):
        read_replies(path)
