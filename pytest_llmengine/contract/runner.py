"""Runs checks on a target and turns the end of a check function into a verdict."""

from __future__ import annotations

import traceback
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from llmengine.types.secrets import scrub
from pytest_llmengine.contract.jobs import within
from pytest_llmengine.contract.outcomes import CheckEnded, Outcome, kind_of

if TYPE_CHECKING:
    from pytest_llmengine.contract.driver import Driver
    from pytest_llmengine.contract.profile import Deviation, Profile
    from pytest_llmengine.contract.registry import Check, CheckFunction
    from pytest_llmengine.contract.target import HTTPExchange, Target


ALWAYS_ACCEPTED = frozenset({Outcome.PASS, Outcome.LENIENT, Outcome.DEVIATES, Outcome.UNMEASURED})
"""The outcomes that never make a run fail."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The verdict of one check, with its reason and its HTTP exchanges.

    ``answered`` says whether the server answered any of its requests; None if it sent none.
    ``observed`` and ``observed_reason`` are the verdict before the profile was applied. ``fact`` is
    the cause of the verdict, which other checks may have too; "" if it has no name.
    """

    check: Check
    outcome: Outcome
    reason: str
    exchanges: tuple[HTTPExchange, ...]
    seconds: float
    accepted: bool
    observed: Outcome
    observed_reason: str
    answered: bool | None = None
    fact: str = ""

    @property
    def failed(self) -> bool:
        """Whether this check makes the run end with a failing status."""
        return not self.accepted


def run_check(
    check: Check, target: Target, profile: Profile, *, seconds: float | None = None
) -> CheckResult:
    """Run one check on a target and apply the known deviations of the profile.

    The check may take `seconds`; the default is in the target's limits.
    """
    if check.missing:
        return not_run(check, Outcome.UNMEASURED, check.missing)
    target.begin(timing=check.timing, seconds=seconds)
    observed, observed_reason, fact = _observe(check, target)
    outcome, reason = observed, scrub(observed_reason)
    deviation = profile.deviation(check.id)
    if deviation is not None:
        outcome, reason = _judge(outcome, reason, deviation, profile)
    claimed = check.needs <= profile.capabilities
    accepted = outcome in ALWAYS_ACCEPTED or (outcome is Outcome.REFUSED and not claimed)
    return CheckResult(
        check,
        outcome,
        reason,
        target.exchanges,
        target.seconds,
        accepted,
        observed,
        scrub(observed_reason),
        target.answered,
        scrub(fact),
    )


def not_run(check: Check, outcome: Outcome, reason: str) -> CheckResult:
    """The result of a check that was not run; accepted if it is unmeasured or unrecorded."""
    accepted = outcome in {Outcome.UNMEASURED, Outcome.UNRECORDED}
    return CheckResult(check, outcome, reason, (), 0.0, accepted, outcome, reason)


def _observe(check: Check, target: Target) -> tuple[Outcome, str, str]:
    """The outcome, its reason, and the name of its cause."""
    try:
        target.expect_awake()
        if check.driver is None:
            counts = check.run(target)
        else:  # a client library has its own time-outs
            counts = within(target.may_take, partial(_drive, check.run, check.driver, target))
    except CheckEnded as verdict:
        return verdict.outcome, str(verdict), verdict.fact
    except Exception as error:  # noqa: BLE001 - other errors in a check are errors of its author
        if reason := _assertion(check, error):
            return Outcome.FAIL, reason, ""
        return Outcome.ERROR, f"the check itself broke: {type(error).__name__}: {error}", ""
    return Outcome.PASS, counts if isinstance(counts, str) else "", ""


def _assertion(check: Check, error: Exception) -> str:
    """The message of an ``assert`` in the file of a user's rule; "" for any other error."""
    if check.own_file is None or not isinstance(error, AssertionError):
        return ""
    line = traceback.extract_tb(error.__traceback__)[-1]
    if line.filename != check.own_file:  # an assertion of a library is not one of the rule
        return ""
    return str(error).partition("\n")[0] or line.line or "an assertion failed"


def _drive(run: CheckFunction, driver: type[Driver], target: Target) -> object:
    with closing(driver(target)) as made:
        return run(made)


def _judge(
    outcome: Outcome, reason: str, deviation: Deviation, profile: Profile
) -> tuple[Outcome, str]:
    if outcome is deviation.outcome and deviation.kind not in {"", kind_of(reason)}:
        return outcome, (
            f"{reason} (the profile of {profile.engine} knows another way in which the rule is "
            f"broken: {deviation.kind})"
        )
    if outcome is deviation.outcome:
        known = f"{outcome} as known of {deviation.version}"
        return Outcome.DEVIATES, f"{deviation.reason} ({known}; seen: {reason})"
    if outcome in {Outcome.PASS, Outcome.LENIENT} and deviation.depends_on:
        return outcome, reason
    if outcome in {Outcome.PASS, Outcome.LENIENT}:
        gone = f"{deviation.outcome}, seen on {deviation.version}: {deviation.reason}"
        return Outcome.FAIL, (
            f"the deviation of {profile.engine} ({gone}) is gone; remove it from the profile: "
            f"`llmengine contract profile {profile.engine}` prints the shipped one, and `llmengine "
            "verify --profile FILE --write-profile FILE` updates a copy of it"
        )
    return outcome, f"{reason} (the profile of {profile.engine} expects {deviation.outcome})"
