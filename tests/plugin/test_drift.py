"""The fixture ``drift_baseline``: a test fails unless the engine answers as it did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from llmengine.mock import Behaviour, MockServer
from pytest_llmengine.drift import DriftPrompt, DriftTier, Probe, RoundKind, save
from pytest_llmengine.drift.live import Effort, record
from pytest_llmengine.drift.measure import SAMPLING
from pytest_llmengine.targets import Mode, Settings, open_session

if TYPE_CHECKING:
    from collections.abc import Callable

PROBE = Probe(
    tier=DriftTier.LOGPROBS,
    sampling=SAMPLING,
    prompts=(DriftPrompt(text="amber harbour"), DriftPrompt(text="quiet river")),
    loads=(2,),
)
TESTS = """
def test_provider(drift_baseline):
    assert drift_baseline("base.jsonl.gz").verdict == "same"

def test_again(drift_baseline):
    drift_baseline("base.jsonl.gz")
"""


def _shout(body: dict[str, Any], call: Any) -> dict[str, Any]:
    for choice in body.get("choices", ()):
        choice["message"]["content"] = choice["message"]["content"].upper()
    return body


@pytest.fixture
def run(pytester: pytest.Pytester, upstream: MockServer) -> Callable[..., pytest.RunResult]:
    """Runs tests that hold a server to a file."""
    pytester.makepyfile(TESTS)
    settings = Settings(engines=("vllm_api",), url=upstream.base_url, mode=Mode.LIVE)
    with open_session("vllm_api", settings) as session:
        effort = Effort(2, {RoundKind.FIRST: 3})
        save(record(session, PROBE, effort=effort), pytester.path / "base.jsonl.gz")

    def run(server: MockServer, *args: str) -> pytest.RunResult:
        aim = "--engine=vllm_api", f"--engine-url={server.base_url}"
        return pytester.runpytest_inprocess(*aim, "-p", "no:cacheprovider", *args)

    return run


def test_the_same_server_passes(run: Callable[..., pytest.RunResult], upstream: MockServer) -> None:
    """Both tests share one check, and the summary has one line."""
    before = len(upstream.calls)
    result = run(upstream)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        ["*= LLM engine drift =*", "vllm_api and base.jsonl.gz: same, no evidence of a change*"]
    )
    asked = [
        call for call in upstream.calls[before:] if call.prompt in {"amber harbour", "quiet river"}
    ]
    assert len(asked) == 20


def test_a_change_fails_with_its_report(run: Callable[..., pytest.RunResult]) -> None:
    """Without frames of the plugin."""
    with MockServer(behaviour=Behaviour(reply=_shout)) as other:
        result = run(other)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        ["false-alarm rate 0.01 for all rows together*", "changed: the text is not what its*"]
    )
    result.stdout.no_fnmatch_line("*Traceback*")


def test_recorded_answers_are_not_checked(
    run: Callable[..., pytest.RunResult], upstream: MockServer
) -> None:
    """The test is skipped, and the summary says so."""
    result = run(upstream, "--engine-mode=record", "-rs")
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(
        ["*vllm_api and base.jsonl.gz: not checked, the answers of vllm_api are not live*"]
    )


def test_a_file_that_is_missing(
    run: Callable[..., pytest.RunResult], pytester: pytest.Pytester, upstream: MockServer
) -> None:
    """One line that names it."""
    (pytester.path / "base.jsonl.gz").unlink()
    result = run(upstream)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines("*base.jsonl.gz: No such file or directory*")
