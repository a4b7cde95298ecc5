"""The shipped profiles agree with the recordings of this project."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_llmengine.cli import main
from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.profile import load_profile, shipped_profiles
from pytest_llmengine.contract.registry import catalogue
from pytest_llmengine.recording.packed import recordings_in
from pytest_llmengine.short_names import MARKER_OF_BACKEND
from pytest_llmengine.targets import Mode, Settings, config_named, judge, open_session
from pytest_llmengine.targets.plan import packed_with_contract

CASSETTES = Path(__file__).parents[2] / "cassettes"
CONFIG = CASSETTES / "engines.yaml"
OTHER_VERSIONS = {"vllm-0.29.0"}  # than the one that the profile of their backend describes
ONLY_LIVE = "run it live to know"


def _marked(engine: str) -> object:
    """The engine as a parameter that has the marker of its backend, such as ``ollama``."""
    marker = MARKER_OF_BACKEND[config_named(engine, CONFIG, CASSETTES).backend]
    return pytest.param(engine, marks=getattr(pytest.mark, marker))


@pytest.mark.parametrize("engine", [*map(_marked, packed_with_contract(CASSETTES))])
def test_packed_recordings_agree_with_the_profile(engine: str, tmp_path: Path) -> None:
    """Each packed recording is replayed as a whole, because a test per rule would take minutes.

    A server without a profile has verdicts that are not accepted, but each of them is a verdict.
    A rule that has changed since is unrecorded. If most rules have, it is time to record again.
    """
    options = {
        "--engine": engine,
        "--config": CONFIG,
        "--mode": "replay",
        "--cassettes": CASSETTES,
        "--report": tmp_path / "report.json",
    }

    status = main(["verify", *(str(word) for option in options.items() for word in option)])

    has_profile = config_named(engine, CONFIG, CASSETTES).backend in shipped_profiles()
    assert status == (0 if has_profile and engine not in OTHER_VERSIONS else 1)
    recorded = {path.stem for path in recordings_in(CASSETTES / f"{engine}.zip")}
    checks = json.loads((tmp_path / "report.json").read_text("utf-8"))["checks"]
    outcomes = {c["id"]: c["outcome"] for c in checks if c["id"] in recorded}
    assert [id_ for id_, outcome in outcomes.items() if outcome == "error"] == []
    outdated = [id_ for id_, outcome in outcomes.items() if outcome == "unrecorded"]
    assert len(outdated) < len(outcomes) / 2


@pytest.mark.parametrize(
    "engines",
    [
        ["embedded"],
        ["vllm_api"],
        pytest.param(["ollama_api", "ollama_tools", "ollama_think"], marks=pytest.mark.ollama),
    ],
    ids=lambda engines: engines[0],
)
def test_every_deviation_is_seen_in_a_recording(engines: list[str]) -> None:
    """Every entry has a recording, except for those about connections, which a recorder hides."""
    deviant = {id_: catalogue()[id_] for id_ in load_profile(engines[0]).deviations}
    settings = Settings(
        engines=tuple(engines), mode=Mode.REPLAY, cassettes=CASSETTES, config=CONFIG
    )
    results = []
    for engine in engines:
        with open_session(engine, settings) as session:
            results += [judge(check, session) for check in deviant.values() if not check.missing]

    seen = {r.check.id for r in results if r.outcome is Outcome.DEVIATES or ONLY_LIVE in r.reason}
    assert sorted({r.check.id for r in results} - seen) == []
    assert len(seen) > 10
