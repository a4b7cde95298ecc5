"""``--engine-mode=verify``: tests run on their recordings, and a live server is compared."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from llmengine.mock import MockServer, Script

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

_TESTS = """
    def test_chat(engine):
        text = engine.generate("Say hello.")[0].outputs[0].text
        assert engine.generate(f"Go on after: {text}")

    def test_stream(engine):
        assert "".join(delta.text for delta in engine.stream("Say hello."))
"""


def test_unchanged_and_changed_servers(
    pytester: pytest.Pytester, record: Callable[..., pytest.RunResult]
) -> None:
    """The tests get recorded answers; only a live answer that is as bad as the limit fails one."""
    pytester.makepyfile(test_it=_TESTS)
    record().assert_outcomes(passed=2)
    with MockServer() as server:
        aim = ("--engine=openai_compatible", f"--engine-url={server.base_url}")

        def verify(*options: str) -> pytest.RunResult:
            return pytester.runpytest_inprocess(*aim, "--engine-mode=verify", *options)

        same = verify()
        # The first answer is to the question of one token, which finds out what the server is.
        server.play(Script(replies=["token", *["other words"] * 3]))
        other = verify()
        server.play(Script(replies=["token", *["other words"] * 3]))
        strict = verify("--engine-fail-on=shape")
        server.play(Script(replies=["token", {"refusal": "No."}]))
        broken = verify("-k", "stream")

    same.assert_outcomes(passed=2)
    same.stdout.fnmatch_lines(["*recordings verified*", "3 exchanges: 3 volatile"])
    other.assert_outcomes(passed=2)
    other.stdout.fnmatch_lines(
        ["*test_chat.yaml: POST /v1/chat/completions: the live answer has *"]
    )
    strict.assert_outcomes(failed=2)
    broken.assert_outcomes(failed=1, deselected=1)
    broken.stdout.fnmatch_lines(
        [
            "*POST /v1/chat/completions: the live answer has another outcome",
            '*refusal: null became "No."',
            "*to record *test_stream.yaml again: pytest *--engine-mode=record*--rewrite",
        ]
    )


def test_it_needs_recordings(
    hello: pytest.Pytester, upstream: MockServer, error_line: Callable[[pytest.RunResult], str]
) -> None:
    """Without recordings, the run ends with one line that says how to make them."""
    result = hello.runpytest_inprocess(
        "--engine=openai_compatible", f"--engine-url={upstream.base_url}", "--engine-mode=verify"
    )
    assert "record" in error_line(result)


def test_played_cassettes_for_the_lint(
    pytester: pytest.Pytester, record: Callable[..., pytest.RunResult]
) -> None:
    """A replay writes what it has played, and whether all tests were run."""
    pytester.makepyfile(test_it=_TESTS)
    record()
    replay = ("--engine=openai_compatible", "--engine-played=played.json")

    pytester.runpytest_inprocess(*replay).assert_outcomes(passed=2)
    whole = json.loads((pytester.path / "played.json").read_text())
    pytester.runpytest_inprocess(*replay, "-k", "chat").assert_outcomes(passed=1, deselected=1)
    some = json.loads((pytester.path / "played.json").read_text())

    assert [path.rpartition("/")[2] for path in whole["played"]] == [
        "test_chat.yaml",
        "test_stream.yaml",
    ]
    assert (whole["whole_run"], some["whole_run"]) == (True, False)
