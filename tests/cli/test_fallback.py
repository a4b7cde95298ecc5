"""The command with an engines file that has a fallback."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Any

import pytest

from llmengine.mock import Fault, MockServer, Script

if TYPE_CHECKING:
    from pathlib import Path

ENGINES = """
- {name: safe, backend: fallback, engines: [laptop, spare]}
- {name: laptop, backend: mock, model: mock}
- {name: spare, backend: mock, model: mock}
"""


@pytest.fixture
def file(clean_folder: Path) -> Path:
    """The engines file."""
    path = clean_folder / "engines.yaml"
    path.write_text(ENGINES)
    return path


def test_list_shows_the_engines_of_a_fallback(llmengine: Any, file: Path) -> None:
    """They stand in place of an address."""
    ran = llmengine("engines", "list", "--config", file)

    assert ran.status == 0
    (row,) = (line for line in ran.out.splitlines() if line.startswith("safe"))
    assert row.split() == ["safe", "fallback", "laptop,", "spare", "-", "mock", "-"]


def test_check_asks_a_fallback(llmengine: Any, file: Path) -> None:
    """It answers if one of its engines does."""
    ran = llmengine("engines", "check", "safe", "--config", file)

    assert ran.status == 0
    assert ran.out.strip().endswith(": laptop, spare")


def test_check_makes_no_retries(llmengine: Any, file: Path) -> None:
    """As for other engines, the question is whether an engine answers now."""
    with MockServer(script=Script(faults=repeat(Fault(status=503)))) as down:
        fields = f"backend: openai_compatible, model: mock, endpoint: '{down.root_url}'"
        file.write_text(ENGINES.replace("backend: mock, model: mock", fields, 1))

        ran = llmengine("engines", "check", "safe", "--config", file)

    assert ran.status == 0
    assert len(down.calls) == 2  # the check asks twice


LINE = """{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions",
 "body": {"messages": [{"role": "user", "content": "Hi"}]}}"""


def test_batch_is_sent_to_a_fallback(llmengine: Any, file: Path) -> None:
    """A line that names no model gets that of the engine that is asked."""
    (file.parent / "in.jsonl").write_text(LINE.replace("\n", ""))

    ran = llmengine("batch", "in.jsonl", "-o", "out.jsonl", "--engine", "safe", "--config", file)

    assert ran.status == 0
    assert '"model":"mock"' in (file.parent / "out.jsonl").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("verify --model=x", "model: a fallback has none of its own; set it at its engines"),
        ("verify --mode=replay", "is a fallback and has no server; there is no mode replay"),
        ("batch i -o o --model=x", "model: a fallback has none of its own; set it at its engines"),
        ("batch engines.yaml -o o --hosted", "has no server of its own, and so no Batch API"),
        ("batch i -o o --concurrency=2", "max_concurrency: a fallback has none of its own; set"),
        ("engines warmup", "is a fallback and has no server; warm up its engines: laptop, spare"),
    ],
)
def test_what_a_fallback_does_not_have_is_one_clear_error(
    llmengine: Any, file: Path, arguments: str, message: str
) -> None:
    """It says what to do instead."""
    command = arguments.split()
    named = ["safe"] if command[0] == "engines" else ["--engine", "safe"]

    ran = llmengine(*command, *named, "--config", file)

    assert ran.status != 0
    assert message in ran.err
