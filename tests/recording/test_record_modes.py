"""What happens to a cassette that exists: vcrpy's record modes, and the age of a recording."""

from __future__ import annotations

import datetime as dt
import json
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmengine.recording import (
    CassetteExpiredError,
    CassetteExpiredWarning,
    CassetteNotFoundError,
    Provenance,
    RecordServer,
    ReplayServer,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.recording.conftest import Ask, Kept, RawUpstream, Whole

OLD, NEW = {"n": 1}, {"n": 2}


@pytest.fixture
def run(upstream: RawUpstream, whole: Whole, path: Path, ask: Ask) -> Callable[..., Any]:
    """Sends bodies through a recorder, and returns the answers and what was not handled."""

    def send(answers: list[str], *bodies: Any, **options: Any) -> tuple[list[str], list[str]]:
        for text in answers:
            upstream.will_send(whole(text.encode()))
        with (
            RecordServer(f"{upstream.url}/prefix", **options) as recorder,
            recorder.cassette(path) as cassette,
        ):
            got = [ask(recorder.root_url, body) for body in bodies]
        texts = [one.text if one.is_success else str(one.status_code) for one in got]
        return texts, cassette.unhandled

    return send


def test_all(run: Callable[..., Any], kept: Kept, path: Path) -> None:
    """Every request is recorded, and the earlier exchanges are gone."""
    run(["old"], OLD)
    assert run(["new"], NEW, record_mode="all") == (["new"], [])
    assert [json.loads(one["request"]["body"]) for one in kept(path)] == [{"n": 2}]


def test_once(run: Callable[..., Any], upstream: RawUpstream, path: Path) -> None:
    """A missing cassette is recorded; one that exists is only played."""
    assert run(["old"], OLD, record_mode="once") == (["old"], [])
    before = path.read_bytes()

    answers, unhandled = run([], OLD, NEW, record_mode="once")

    assert answers == ["old", "501"]
    assert "has no answer in" in unhandled[0]
    assert (path.read_bytes(), len(upstream.requests)) == (before, 1)


def test_new_episodes(
    run: Callable[..., Any], upstream: RawUpstream, kept: Kept, path: Path, ask: Ask
) -> None:
    """What is recorded is played, and only the rest is sent to the server and added."""
    run(["old"], OLD, record_mode="new_episodes")
    before = kept(path)

    assert run(["new"], NEW, OLD, record_mode="new_episodes") == (["new", "old"], [])

    assert len(upstream.requests) == 2
    assert kept(path)[:1] == before
    assert [json.loads(one["request"]["body"]) for one in kept(path)] == [{"n": 1}, {"n": 2}]
    with ReplayServer() as player, player.cassette(path):
        assert [ask(player.root_url, body).text for body in (NEW, OLD)] == ["new", "old"]
    written = path.read_bytes()
    run([], OLD, record_mode="new_episodes")
    assert path.read_bytes() == written


def test_none(run: Callable[..., Any], upstream: RawUpstream, path: Path) -> None:
    """Nothing is recorded, and a cassette that is missing is an error."""
    with pytest.raises(CassetteNotFoundError, match="no cassette at"):
        run([], record_mode="none")
    run(["old"], OLD)
    assert run([], OLD, NEW, record_mode="none")[0] == ["old", "501"]
    assert len(upstream.requests) == 1


def test_function_for_the_provenance(upstream: RawUpstream, whole: Whole, tmp_path: Path) -> None:
    """It is called only if a cassette is recorded that does not exist yet."""
    calls = []

    def who() -> Provenance:
        calls.append(1)
        return Provenance("Ollama")

    path = tmp_path / "one.yaml"
    with RecordServer(upstream.url, who, record_mode="new_episodes") as recorder:
        for expected in (1, 1):
            with recorder.cassette(path) as cassette:
                assert cassette.provenance.engine == "Ollama"
            assert len(calls) == expected


RECORDED = dt.date(2026, 11, 21)


@pytest.mark.parametrize(("days", "is_old"), [(30, False), (31, True)])
def test_max_age(run: Callable[..., Any], path: Path, days: int, is_old: bool) -> None:
    """A cassette that is older than so many days is a warning or an error that says what to do."""
    run(["old"], OLD, today=lambda: RECORDED)
    options: Any = {
        "max_age": 30,
        "today": lambda: RECORDED + dt.timedelta(days=days),
    }
    said = (
        f"{path} was recorded on 2026-11-21, {days} days ago, and max_age is 30 days; "
        "record it again"
    )
    with ReplayServer(**options, expired="fail") as strict:
        if is_old:
            with pytest.raises(CassetteExpiredError) as error, strict.cassette(path):
                pass
            assert str(error.value) == said
        else:
            with strict.cassette(path):
                pass
    with warnings.catch_warnings(record=True) as caught, ReplayServer(**options) as player:
        warnings.simplefilter("always")
        with player.cassette(path):
            pass
    assert [(one.category, str(one.message)) for one in caught] == (
        [(CassetteExpiredWarning, said)] if is_old else []
    )


def test_unknown_age(run: Callable[..., Any], path: Path) -> None:
    """A cassette without a date is not taken for a new one."""
    run(["old"], OLD)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if "recorded_at" not in line))
    with (
        ReplayServer(max_age=30, expired="fail") as player,
        pytest.raises(CassetteExpiredError, match="has no date, so its age is not known"),
        player.cassette(path),
    ):
        pass
