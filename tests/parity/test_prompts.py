"""The prompt set, and prompt files of users."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from pytest_llmengine.parity import ParityError, ParityPrompt
from pytest_llmengine.parity.prompts import KINDS, built_in, digest_of, read_prompts, select

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_the_set_is_large_and_of_every_kind() -> None:
    """At least 200 prompts, at least 20 of each kind, and no conversation twice."""
    prompts = built_in()

    assert len(prompts) >= 200
    assert {kind: sum(p.kind == kind for p in prompts) >= 20 for kind in KINDS} == dict.fromkeys(
        KINDS, True
    )
    assert len({(json.dumps(p.messages), p.needs) for p in prompts}) == len(prompts)


def test_what_a_kind_promises_is_there() -> None:
    """JSON prompts have a schema, tool prompts have tools, and long ones are long."""
    for prompt in built_in():
        assert (prompt.schema is not None) == (prompt.kind == "json")
        assert bool(prompt.tools) == (prompt.kind == "tools")
        length = sum(len(message["content"]) for message in prompt.messages)
        assert (length > 600) == (prompt.kind == "long")


def test_users_prompts_are_read(tmp_path: Path) -> None:
    """A text, or messages with all other fields; blank lines are skipped."""
    file = tmp_path / "own.jsonl"
    file.write_text(
        '{"id": "a", "prompt": "Hi"}\n\n'
        '{"id": "b", "kind": "odd", "messages": [{"role": "user", "content": "Hi"}], '
        '"max_tokens": 3, "schema": {"type": "object"}}\n',
        encoding="utf-8",
    )

    first, second = read_prompts(file)

    assert first == ParityPrompt("a", "own", ({"role": "user", "content": "Hi"},), 64)
    assert (second.kind, second.max_tokens, second.schema) == ("odd", 3, {"type": "object"})


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "line 2: not JSON: Expecting property name"),
        ('{"prompt": "Hi"}', "line 2: id: Field required"),
        ('{"id": "b"}', "line 2: Value error, give either prompt (a text) or messages (a list)"),
        ('{"id": "b", "prompt": "Hi", "max_tokens": 0}', "line 2: max_tokens: Input should be"),
        ('{"id": "b", "prompt": "Hi", "max_token": 5}', "line 2: max_token: Extra inputs are not"),
        ('{"id": "b", "messages": []}', "line 2: prompt 0 is an empty list of messages"),
        ('{"id": "a", "prompt": "Hi"}', "the id 'a' is used twice"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, problem: str) -> None:
    """The error has the file, the line, the field and what is wrong with it."""
    file = tmp_path / "own.jsonl"
    file.write_text('{"id": "a", "prompt": "Hi"}\n' + line + "\n", encoding="utf-8")

    with pytest.raises(ParityError) as raised:
        read_prompts(file)

    assert str(file) in str(raised.value)
    assert problem in str(raised.value)


def test_a_file_without_prompts_is_refused(tmp_path: Path) -> None:
    """An empty file and a missing one have different errors."""
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n", encoding="utf-8")

    with pytest.raises(ParityError, match="the file has no prompts"):
        read_prompts(empty)
    with pytest.raises(ParityError, match="No such file"):
        read_prompts(tmp_path / "gone.jsonl")


def test_a_limit_takes_from_every_kind() -> None:
    """Twelve prompts of six kinds are two of each, in the order of the set."""
    prompts = built_in()

    chosen = select(prompts, limit=12)

    assert [p.kind for p in chosen] == [kind for kind in KINDS for _ in range(2)]
    assert chosen == [p for p in prompts if p in chosen]
    assert {p.kind for p in select(prompts, ["code", "long"])} == {"code", "long"}
    with pytest.raises(ParityError, match="no prompt has the kind 'cod'; the kinds are chat, long"):
        select(prompts, ["cod"])


@pytest.mark.parametrize(
    "change", [{"max_tokens": 9}, {"schema": {"type": "object"}}, {"messages": ()}]
)
def test_a_digest_changes_with_what_is_asked(
    prompt: Callable[..., ParityPrompt], change: dict[str, object]
) -> None:
    """Text, limit and schema count for a prompt's digest, and the order for the set's."""
    assert prompt().digest == prompt().digest
    assert prompt(**change).digest != prompt().digest
    assert digest_of([prompt(1), prompt(2)]) != digest_of([prompt(2), prompt(1)])
