"""Runs a check of the contract on a session, at the check's own cassette."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.runner import CheckResult, run_check
from pytest_llmengine.recording import CassetteError
from pytest_llmengine.recording.network import guarded
from pytest_llmengine.targets.errors import AlreadyRecorded
from pytest_llmengine.targets.settings import Mode

if TYPE_CHECKING:
    from pytest_llmengine.contract.profile import Profile
    from pytest_llmengine.contract.registry import Check
    from pytest_llmengine.targets.session import Session


def judge(check: Check, session: Session, profile: Profile | None = None) -> CheckResult:
    """The verdict of a check; ``profile`` takes the place of the session's own.

    A request that was not recorded is an error of the harness whatever the check made of the
    answer: a rule about error answers would pass on it. A check that is recorded already and not
    to be recorded again is unmeasured. In a replay no socket of this process leaves the machine.
    """
    guard = guarded() if session.mode is Mode.REPLAY else nullcontext()
    try:
        with guard, session.cassette(check.id) as tape:
            result = run_check(check, session.target, profile or session.profile)
    except AlreadyRecorded as there:
        return _without(check, Outcome.UNMEASURED, str(there))
    except CassetteError as error:
        return _without(check, Outcome.ERROR, str(error))
    if tape is None or not tape.misses:
        return result
    reason = "; ".join(tape.misses)
    return replace(result, outcome=Outcome.ERROR, reason=reason, accepted=False)


def _without(check: Check, outcome: Outcome, reason: str) -> CheckResult:
    accepted = outcome is Outcome.UNMEASURED
    return CheckResult(check, outcome, reason, exchanges=(), seconds=0.0, accepted=accepted)
