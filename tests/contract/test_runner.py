"""The outcome of a check, without a profile and with one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from llmengine import Capability
from pytest_llmengine.contract import Lenient, Refused, Target, Unmeasured
from pytest_llmengine.contract.outcomes import Fail, Ignored, Outcome, kind_of, quote
from pytest_llmengine.contract.profile import Deviation, Profile
from pytest_llmengine.contract.registry import Check, Level, Tier
from pytest_llmengine.contract.runner import CheckResult, run_check

if TYPE_CHECKING:
    from collections.abc import Iterator

NOWHERE = "http://127.0.0.1:9/v1"
NEEDS_TOOLS = frozenset({Capability.TOOLS})


@pytest.fixture
def target() -> Iterator[Target]:
    """A target at which no server answers."""
    with Target(NOWHERE, "none") as target:
        yield target


def _ending_in(error: Exception | None, needs: frozenset[Capability] = frozenset()) -> Check:
    def rule(target: Target) -> None:
        """A rule."""
        if error is not None:
            raise error

    return Check("a.rule", rule, Level.REQUIRED, Tier.CORE, "a test", needs)


def _known(outcome: Outcome) -> Profile:
    deviation = Deviation("a.rule", outcome, "engine 1.0", "it never did")
    return Profile("engine", deviations={"a.rule": deviation})


def _run(target: Target, error: Exception | None, profile: Profile) -> CheckResult:
    return run_check(_ending_in(error), target, profile)


@pytest.mark.parametrize(
    ("error", "outcome", "failed"),
    [
        (None, Outcome.PASS, False),
        (Fail("no"), Outcome.FAIL, True),
        (Ignored("no"), Outcome.IGNORED, True),
        (Refused("no"), Outcome.REFUSED, True),
        (Lenient("no"), Outcome.LENIENT, False),
        (Unmeasured("no"), Outcome.UNMEASURED, False),
    ],
)
def test_a_verdict_is_the_outcome(
    target: Target, error: Exception | None, outcome: Outcome, failed: bool
) -> None:
    """The result has the outcome with which the check ended, and says whether the run failed."""
    result = _run(target, error, Profile("engine"))
    assert (result.outcome, result.failed) == (outcome, failed)
    assert result.reason == ("" if error is None else "no")


def test_a_check_that_breaks_is_an_error(target: Target) -> None:
    """An exception of the check's own code is an error, never a failed rule."""
    result = _run(target, KeyError("choices"), Profile("engine"))
    assert result.outcome is Outcome.ERROR
    assert "KeyError" in result.reason
    assert result.failed


def test_a_server_that_is_not_there_is_an_error(target: Target) -> None:
    """If no server answers, no rule is broken."""

    def rule(target: Target) -> None:
        """A rule."""
        target.chat()

    row = Check("a.rule", rule, Level.REQUIRED, Tier.CORE, "a test")
    result = run_check(row, target, Profile("engine"))
    assert result.outcome is Outcome.ERROR
    assert NOWHERE in result.reason


@pytest.mark.parametrize(
    ("claims", "failed"), [(NEEDS_TOOLS, True), (frozenset(), False)], ids=["claimed", "not"]
)
def test_a_refusal_is_fair_without_the_capability(
    target: Target, claims: frozenset[Capability], failed: bool
) -> None:
    """A refusal of what the engine does not claim does not fail the run."""
    check = _ending_in(Refused("no tools"), NEEDS_TOOLS)
    result = run_check(check, target, Profile("engine", capabilities=claims))
    assert (result.outcome, result.failed) == (Outcome.REFUSED, failed)


@pytest.mark.parametrize("error", [Fail("n is 1"), Ignored("n is 1"), Refused("n is 1")])
def test_a_known_deviation_deviates(target: Target, error: Fail | Ignored | Refused) -> None:
    """A deviation of the profile does not fail the run; the result has it and what was seen."""
    result = _run(target, error, _known(error.outcome))
    assert (result.outcome, result.failed) == (Outcome.DEVIATES, False)
    for part in ("it never did", "engine 1.0", "n is 1"):
        assert part in result.reason


def test_a_deviation_that_is_gone_fails(target: Target) -> None:
    """The result says to remove the entry from the profile."""
    result = _run(target, None, _known(Outcome.IGNORED))
    assert (result.outcome, result.failed) == (Outcome.FAIL, True)
    assert "is gone; remove it" in result.reason
    assert "engine 1.0" in result.reason


def test_a_deviation_that_depends_on_the_server_may_be_gone(target: Target) -> None:
    """If another flag or template fixes it, it passes there, and is still accepted elsewhere."""
    deviation = Deviation("a.rule", Outcome.FAIL, "engine 1.0", "no id", depends_on="--ids")
    profile = Profile("engine", deviations={"a.rule": deviation})
    assert _run(target, None, profile).outcome is Outcome.PASS
    assert _run(target, Fail("no"), profile).outcome is Outcome.DEVIATES


@pytest.mark.parametrize("error", [Fail("now it crashes"), Unmeasured("no clock")])
def test_another_outcome_than_the_known_one_stands(
    target: Target, error: Fail | Unmeasured
) -> None:
    """A deviation allows only the outcome that it names."""
    result = _run(target, error, _known(Outcome.IGNORED))
    assert result.outcome is error.outcome
    assert str(error) in result.reason
    assert "expects ignored" in result.reason


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (f"the text is {quote('one')}", f"the text is {quote('two “quoted” words')}"),
        (f"the text is {'one'!r}", f"the text is {chr(34) + 'two'!r}"),
        ("5 tokens came in 0.25 s", "12 tokens came in 1,000.5 s"),
        ("indexes [0, 0]", "indexes [0, 1, 1]"),
        ("the  answer\nis late", "the answer is late"),
    ],
)
def test_one_way_to_break_a_rule_is_one_kind(first: str, second: str) -> None:
    """The server's words, numbers and lists do not matter for the kind of a reason."""
    assert kind_of(first) == kind_of(second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a bad role: 500 instead of 400", "a bad role: 404 instead of 400"),
        ("the text goes on", "the text is empty"),
        ("the server's text and the client's", "the server's words and the client's"),
    ],
)
def test_other_ways_to_break_a_rule_are_other_kinds(first: str, second: str) -> None:
    """Another status and other words are another kind."""
    assert kind_of(first) != kind_of(second)


def test_an_accepted_deviation_does_not_cover_another_way(target: Target) -> None:
    """If the profile knows the kind of a deviation, the rule must be broken in that way."""
    seen = Fail("POST /x: 500 instead of 400: “boom”")
    deviation = Deviation(
        "a.rule", Outcome.FAIL, "engine 1.0", "it crashes", kind=kind_of(str(seen))
    )
    profile = Profile("engine", deviations={"a.rule": deviation})
    again = Fail("POST /x: 500 instead of 400: “bang”")
    assert _run(target, again, profile).outcome is Outcome.DEVIATES
    result = _run(target, Fail("POST /x: 404 instead of 400: “boom”"), profile)
    assert result.outcome is Outcome.FAIL
    assert "knows another way" in result.reason
