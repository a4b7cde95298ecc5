"""Runs a check of the contract on a session, at the check's own cassette."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.runner import CheckResult, not_run, run_check
from pytest_llmengine.recording import CassetteError, CassetteNotFoundError
from pytest_llmengine.recording.network import guarded
from pytest_llmengine.targets.settings import AlreadyRecorded, Mode

if TYPE_CHECKING:
    from pytest_llmengine.contract.profile import Profile
    from pytest_llmengine.contract.registry import Check
    from pytest_llmengine.targets.session import Session


_NOT_YET = (
    "there is no recording of it yet; where the engine is at hand: "
    "llmengine verify --engine {} --mode record --check {}"
)


def judge(check: Check, session: Session, profile: Profile | None = None) -> CheckResult:
    """The verdict of a check; ``profile`` takes the place of the session's own.

    A request that was not recorded is an error of the harness whatever the check made of the
    answer: a rule about error answers would pass on it. A check that is recorded already and not
    to be recorded again is unmeasured, and so is one whose client library is missing, or was not
    recorded in this release. A check of which the engine has no recording at all is unrecorded: a
    new rule can be added without every engine at hand. A check is not run once the session's budget
    is over. In a replay no socket of this process leaves the machine.
    """
    if check.missing:
        return not_run(check, Outcome.UNMEASURED, check.missing)
    if session.budget.over:
        return not_run(check, Outcome.NOT_RUN, session.budget.over)
    try:
        return _judged(check, session, profile or session.profile)
    except AlreadyRecorded as there:
        return not_run(check, Outcome.UNMEASURED, str(there))
    except CassetteNotFoundError as error:
        return _unrecorded(check, session, error)
    except CassetteError as error:
        return not_run(check, Outcome.ERROR, str(error))


def _unrecorded(check: Check, session: Session, error: CassetteNotFoundError) -> CheckResult:
    if check.package is not None:  # another release of the library may be recorded
        return not_run(check, Outcome.UNMEASURED, str(error))
    return not_run(check, Outcome.UNRECORDED, _NOT_YET.format(session.name, check.id))


def _judged(check: Check, session: Session, profile: Profile) -> CheckResult:
    guard = guarded() if session.mode is Mode.REPLAY else nullcontext()
    with guard, session.cassette(check.cassette) as tape:
        seconds = session.budget.begin()
        result = run_check(check, session.target, profile, seconds=seconds)
    session.budget.count(result.answered)
    if tape is None or not tape.misses:
        return result
    reason = "; ".join(tape.misses)
    return replace(
        result,
        outcome=Outcome.ERROR,
        reason=reason,
        accepted=False,
        observed=Outcome.ERROR,
        observed_reason=reason,
    )
