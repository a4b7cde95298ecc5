"""The check of a live server by a reference, with a reference that exists only as numbers."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from llmengine.mock import MockServer
from pytest_llmengine.cli import main
from pytest_llmengine.drift import DriftError, DriftVerdict, save
from pytest_llmengine.drift.live import check
from pytest_llmengine.drift.reference_check import check_by_reference, loaded, record_reference
from pytest_llmengine.drift.token_scores import AnswerScore
from pytest_llmengine.targets import Mode, Settings, open_session

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pytest_llmengine.targets import Session


class _Reference:
    """Gives every answer the same score, and remembers the seeds of those that it judges."""

    def __init__(self) -> None:
        self.margin = 0.0
        self.seeds: list[int] = []

    def prompt_tokens(self, prompt: str) -> int:
        return len(prompt.split())

    def answers(
        self, prompts: Sequence[str], seed: int, max_tokens: int, load: int
    ) -> list[tuple[int, ...]]:
        return [tuple(range(max_tokens))] * len(prompts)

    def scores(
        self, prompts: Sequence[str], seed: int, answers: Sequence[tuple[int, ...]]
    ) -> list[AnswerScore]:
        self.seeds.append(seed)
        score = AnswerScore(
            tokens=16,
            margin=self.margin,
            logprob=-1.0,
            surprise=0.0,
            agreed=16,
            by_chance=4.0,
        )
        return [score] * len(answers)


@contextmanager
def _opened(server: MockServer, backend: str = "vllm_api") -> Iterator[Session]:
    settings = Settings(engines=(backend,), url=server.base_url, mode=Mode.LIVE)
    with open_session(backend, settings) as session:
        yield session


def test_a_server_is_judged_under_its_seeds() -> None:
    """Each round is sent with a seed of its own, under which the reference judges it."""
    with MockServer() as server, _opened(server) as session:
        reference = _Reference()
        baseline = record_reference(session, reference)
        known = len(reference.seeds)
        before = len(server.calls)
        report = check_by_reference(session, reference, baseline)
        sent = [call.json for call in list(server.calls)[before:] if "seed" in (call.json or {})]
    assert report.verdict is DriftVerdict.SAME
    assert report.requests == len(sent) == 100
    assert {body["seed"] for body in sent} == set(reference.seeds[known + 1 :])
    assert len(set(reference.seeds)) == known + 10
    assert {(body["temperature"], body["max_tokens"]) for body in sent} == {(1.0, 16)}


def test_margins_of_a_server_are_found() -> None:
    """A server whose tokens the reference would not choose has changed."""
    with MockServer() as server, _opened(server) as session:
        reference = _Reference()
        baseline = record_reference(session, reference)
        reference.margin = 0.01
        report = check_by_reference(session, reference, baseline)
    assert report.verdict is DriftVerdict.CHANGED
    assert "margins" in report.reason


def test_only_in_process_vllm_is_a_reference() -> None:
    """A server cannot judge another one."""
    with (
        MockServer() as server,
        _opened(server) as session,
        pytest.raises(DriftError, match="must be in-process vLLM"),
        loaded(session),
    ):
        pass


def test_answers_that_were_not_judged_are_refused() -> None:
    """They would look like those of a server that no longer shows what the baseline shows."""
    with MockServer() as server, _opened(server) as session:
        baseline = record_reference(session, _Reference())
        with pytest.raises(DriftError, match="must be judged by a reference"):
            check(session, baseline)


def test_a_check_needs_a_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file of a reference has no server of its own, so the command says what to give."""
    with MockServer() as server, _opened(server) as session:
        baseline = record_reference(session, _Reference())
    facts = replace(baseline.facts, name="reference", backend="vllm_local")
    save(replace(baseline, facts=facts), tmp_path / "reference.jsonl.gz")

    status = main(["drift", "check", str(tmp_path / "reference.jsonl.gz")])

    assert status == 2
    assert "give the server to check" in capsys.readouterr().err
