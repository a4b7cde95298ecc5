"""The shipped profiles agree with the recordings of this project."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.profile import load_profile
from pytest_llmengine.contract.registry import catalogue
from pytest_llmengine.targets import Mode, Settings, judge, open_session

CASSETTES = Path(__file__).parents[2] / "cassettes"
ONLY_LIVE = "run it live to know"


@pytest.mark.parametrize("engine", ["embedded", "vllm_api"])
def test_every_deviation_is_seen_in_a_recording(engine: str) -> None:
    """Every entry has a recording, except for those about connections, which a recorder hides."""
    deviant = [catalogue()[id_] for id_ in load_profile(engine).deviations]
    settings = Settings(engines=(engine,), mode=Mode.REPLAY, cassettes=CASSETTES)

    with open_session(engine, settings) as session:
        results = [judge(check, session) for check in deviant if not check.missing]

    seen = [r for r in results if r.outcome is Outcome.DEVIATES or ONLY_LIVE in r.reason]
    assert [r.check.id for r in results if r not in seen] == []
    assert len(seen) > 10
