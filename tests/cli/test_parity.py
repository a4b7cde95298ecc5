"""`llmengine parity`: exit statuses, files and mistakes of users."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from llmengine.mock import Behaviour, MockServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PROMPTS = (
    '{"id": "a", "prompt": "Hi", "max_tokens": 4}\n{"id": "b", "prompt": "Bye", "kind": "x"}\n'
)


def _shout(body: dict[str, Any], call: Any) -> dict[str, Any]:
    for choice in body.get("choices", ()):
        choice["message"]["content"] = choice["message"]["content"].upper()
        if "token_ids" in choice:
            choice["token_ids"] = [n + 1 for n in choice["token_ids"]]
    return body


@pytest.fixture
def server(clean_folder: Path) -> Iterator[MockServer]:
    """A server, and a file of prompts in the current folder."""
    (clean_folder / "prompts.jsonl").write_text(PROMPTS, encoding="utf-8")
    with MockServer() as server:
        yield server


def against(url: str, *more: object) -> list[object]:
    """The arguments that take a candidate at an address."""
    return ["--candidate", "vllm_api", "--candidate-url", url, "--rounds", 0, *more]


def of(server: MockServer, *more: object) -> list[object]:
    """The command with a baseline at a server."""
    aim = ["parity", "--baseline", "vllm_api", "--baseline-url", server.base_url]
    return [*aim, "--prompts", "prompts.jsonl", *more]


def test_equal_is_0(llmengine: Callable[..., Any], server: MockServer, tmp_path: Path) -> None:
    """A server is equal to itself; reports are written in every requested form."""
    reports = [tmp_path / f"report.{ending}" for ending in ("json", "md", "html")]
    arguments = [part for path in reports for part in ("--report", path)]

    ran = llmengine(*of(server, *against(server.base_url, *arguments)))

    assert ran.status == 0, ran.err
    assert "equal within noise: 2 prompts compared" in ran.out
    assert json.loads(reports[0].read_text("utf-8"))["verdict"] == "equal within noise"
    assert all(path.stat().st_size > 500 for path in reports)


def test_diverging_is_1(llmengine: Callable[..., Any], server: MockServer) -> None:
    """Other answers each time are not chance, since the baseline always answers the same."""
    with MockServer(behaviour=Behaviour(reply=_shout)) as other:
        ran = llmengine(*of(server, *against(other.base_url)))

    assert ran.status == 1
    assert "diverges: text: 2 of 2, p = " in ran.out


def test_a_mismatch_is_2(llmengine: Callable[..., Any], server: MockServer) -> None:
    """A stated fact counts; if the mismatch is allowed, the answers are compared."""
    facts = ["--baseline-fact", "dtype=float32", "--candidate-fact", "dtype=bfloat16"]

    ran = llmengine(*of(server, *against(server.base_url, *facts)))
    allowed = llmengine(*of(server, *against(server.base_url, *facts, "--allow", "dtype")))

    assert ran.status == 2
    assert "mismatch of dtype (float32 / bfloat16" in ran.out
    assert allowed.status == 0


def test_a_baseline_is_saved_and_used(
    llmengine: Callable[..., Any], server: MockServer, tmp_path: Path
) -> None:
    """A saved baseline judges a candidate, and is a candidate itself, without a server."""
    file = tmp_path / "saved.jsonl.gz"
    saved = llmengine(*of(server, "--save", file))

    live = llmengine("parity", "--baseline", file, *against(server.base_url))
    alone = llmengine("parity", "--baseline", file, "--candidate", file, "--kind", "x")

    assert (saved.status, live.status, alone.status) == (0, 0, 0), live.err
    assert saved.out == f"2 prompts, 0 failed; saved in {file}\n"
    assert "1 prompts compared" in alone.out


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--baseline", "mock"], "nothing to compare with: give --candidate, or --save FILE"),
        (["--baseline", "mock", "--candidate", "nope"], "unknown engine 'nope'"),
        (["--baseline", "gone.jsonl", "--candidate", "mock"], "gone.jsonl"),
        (["--baseline", "mock", "--candidate", "mock", "--allow", "luck"], "causes are model,"),
        (["--baseline", "mock", "--candidate", "mock", "--report", "r.txt"], "must end in .json"),
        (["--baseline", "mock", "--candidate", "mock", "--save", "s.txt"], "must end in .jsonl"),
        (["--baseline", "mock", "--candidate", "mock", "--kind", "odd"], "no prompt has the kind"),
        (["--baseline", "mock", "--candidate", "mock", "--baseline-fact", "x=1"], "names are"),
        (["--candidate", "mock"], "Missing option '--baseline'"),
        (["--baseline", "mock", "--candidate-passes", "4"], "give the candidate fewer passes"),
    ],
)
def test_mistake_of_a_user_is_one_line(
    llmengine: Callable[..., Any], clean_folder: Path, arguments: list[str], problem: str
) -> None:
    """Status 2, and a line that says what is wrong and what to do."""
    assert clean_folder.is_dir()

    ran = llmengine("parity", *arguments)

    assert ran.status == 2
    assert problem in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (["--prompts", "prompts.jsonl"], "contains its prompts and their token limits"),
        (["--max-tokens", 4], "contains its prompts and their token limits"),
        (["--baseline-url", "http://127.0.0.1:9"], "leave out its URL, model and facts"),
    ],
)
def test_a_saved_side_is_asked_nothing_else(
    llmengine: Callable[..., Any], server: MockServer, more: list[object], problem: str
) -> None:
    """An option that needs a server is refused for a file, not dropped."""
    llmengine(*of(server, "--save", "saved.jsonl"))

    ran = llmengine("parity", "--baseline", "saved.jsonl", *against(server.base_url), *more)

    assert ran.status == 2
    assert problem in ran.err
