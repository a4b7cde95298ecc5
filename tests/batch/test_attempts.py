"""Every fifth call of a server fails: each prompt has its own result, and each call is counted.

Ten thousand prompts, through every call style, are in `tests/faults/test_ten_thousand.py`.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from llmengine import read_batch, run_batch
from llmengine.mock import Fault, Script

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from llmengine import Engine
    from llmengine.mock import MockServer
    from tests.batch.conftest import Kit

COUNT = 1_000
RETRIES = 2
NAMES = [f"p{i}" for i in range(COUNT)]

ANSWERED = {"content_type", "delay", None}
FATAL = {"403"}
FAULTS: dict[str, Fault] = {
    "403": Fault(status=403),
    "429": Fault(status=429, retry_after=0.001),
    "500": Fault(status=500),
    "503": Fault(status=503),
    "dropped": Fault(cut_after=0),
    "cut": Fault(cut_after=1, split_at=40),
    "malformed": Fault(malformed_json=True),
    "content_type": Fault(content_type="text/html"),
    "delay": Fault(delay=0.002),
}


def _scripted() -> list[str | None]:
    """The fault of each call, in the order of arrival: one in five, the same in every run."""
    chance = random.Random(2026)
    kinds = list(FAULTS)
    return [chance.choice(kinds) if chance.random() < 0.2 else None for _ in range(COUNT * 3)]


@pytest.fixture
def faulty(server: MockServer, engine_at: Callable[..., Engine]) -> Engine:
    """An engine at a server of which every fifth call fails."""
    server.play(Script(faults=(None if k is None else FAULTS[k] for k in _scripted())))
    return engine_at(server.root_url, max_retries=RETRIES)


def _fates(kit: Kit, server: MockServer) -> dict[str, list[str | None]]:
    """What the server did to each prompt, call by call."""
    fates: dict[str, list[str | None]] = {}
    for call, fault in zip(server.calls, _scripted(), strict=False):
        fates.setdefault(kit.name(call), []).append(fault)
    return fates


def _is_over(fate: list[str | None]) -> bool:
    """Whether the retry rules end after these calls, and not before."""
    *before, last = fate
    ended = last in ANSWERED or last in FATAL or len(fate) == RETRIES + 1
    return ended and not (ANSWERED | FATAL) & set(before)


@pytest.mark.parametrize("method", ["results", "iter_results"])
def test_engine_loses_nothing(kit: Kit, server: MockServer, faulty: Engine, method: str) -> None:
    """Each result is that of its own prompt, in order, with the attempts that the server saw."""
    prompts = [f"Repeat this: {name}" for name in NAMES]

    results = list(getattr(faulty, method)(prompts))

    fates = _fates(kit, server)
    assert len(results) == COUNT
    for name, result in zip(NAMES, results, strict=True):
        assert result.attempts == len(fates[name])
        assert _is_over(fates[name])
        assert result.ok is (fates[name][-1] in ANSWERED)
        assert not result.ok or result.unwrap().outputs[0].text == name
    assert sum(result.attempts for result in results) == len(server.calls)
    assert set(FAULTS) < {fault for fate in fates.values() for fault in fate}


def test_batch_loses_nothing(kit: Kit, server: MockServer, faulty: Engine, output: Path) -> None:
    """The output has one line per request, answered or failed; the report counts every call."""
    requests = [kit.request(name) for name in NAMES]

    report = run_batch(requests, output, faulty)

    fates = _fates(kit, server)
    assert report.progress.attempts == len(server.calls)
    assert Counter(line["custom_id"] for line in kit.read(output)) == Counter(NAMES)
    for name, line in zip(NAMES, read_batch(output, requests), strict=True):
        assert line is not None
        assert line["custom_id"] == name
        assert _is_over(fates[name])
        if fates[name][-1] in ANSWERED:
            assert line["error"] is None
            assert kit.text(line) == name
        else:
            assert line["error"]["llmengine"]["attempts"] == len(fates[name])
