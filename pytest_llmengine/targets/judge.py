"""Run one check of the contract on a session, with the check's own cassette."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.runner import CheckResult, not_run, run_check
from pytest_llmengine.recording import CassetteError, CassetteNotFoundError
from pytest_llmengine.recording.network import guarded
from pytest_llmengine.targets.settings import AlreadyRecorded, Mode, TargetError

if TYPE_CHECKING:
    from pytest_llmengine.contract.profile import Profile
    from pytest_llmengine.contract.registry import Check
    from pytest_llmengine.contract.target import Target
    from pytest_llmengine.targets.session import Session


_NOT_YET = (
    "there is no recording of it yet; to make one, run: "
    "llmengine verify --engine {}{} --mode record --check {}"
)
# One text for all checks of an engine, so that reports print it once.
_NOT_PACKED = "there is no recording of it in {} yet; unpack the file to record it"
_EARLIER = (
    "its recording in {} is of an earlier form of the rule, which sent other requests; unpack the "
    "file to record it again"
)


def judge(
    check: Check, session: Session, profile: Profile | None = None, *, target: Target | None = None
) -> CheckResult:
    """The verdict of a check; ``profile`` and ``target`` replace those of the session.

    - If a request was not recorded, the verdict is ``error``, whatever the check concluded:
      a rule about error answers would pass on the replayer's own error. If the recordings are
      packed, the check is unrecorded instead: they are kept as they were made, often of a server
      that is not at hand, and the rule has changed since.
    - If the check is already recorded and must not be recorded again, it is unmeasured. So is a
      check whose client library is missing, or was not recorded in the installed release.
    - If the engine has no recording of the check, it is unrecorded. So a new rule can be added
      without access to every engine.
    - If the session's budget is used up, the check is not run.

    During a replay, this process can connect to no other machine.
    """
    if check.missing:
        return not_run(check, Outcome.UNMEASURED, check.missing)
    if session.budget.over:
        return not_run(check, Outcome.NOT_RUN, session.budget.over)
    try:
        return _judged(check, session, profile or session.profile, target or session.target)
    except AlreadyRecorded as there:
        return not_run(check, Outcome.UNMEASURED, str(there))
    except CassetteNotFoundError as error:
        return _unrecorded(check, session, error)
    except (CassetteError, TargetError) as error:
        return not_run(check, Outcome.ERROR, str(error))


def _unrecorded(check: Check, session: Session, error: CassetteNotFoundError) -> CheckResult:
    if check.recordings:  # a recording of another release of the client library may exist
        return not_run(check, Outcome.UNMEASURED, str(error))
    if session.packed is not None:
        return not_run(check, Outcome.UNRECORDED, _NOT_PACKED.format(session.packed))
    rules = f" --rules {check.own_file}" if check.own_file else ""
    return not_run(check, Outcome.UNRECORDED, _NOT_YET.format(session.name, rules, check.id))


def _judged(check: Check, session: Session, profile: Profile, target: Target) -> CheckResult:
    guard = guarded() if session.mode is Mode.REPLAY else nullcontext()
    with guard, session.cassette(check.cassette) as tape:
        seconds = session.budget.begin()
        result = run_check(check, target, profile, seconds=seconds)
    session.budget.count(result.answered)
    if tape is None or not tape.unhandled:
        return result
    if session.packed is not None and len(tape.unhandled) == tape.unrecorded:
        return not_run(check, Outcome.UNRECORDED, _EARLIER.format(session.packed))
    reason = "; ".join(tape.unhandled)
    return replace(
        result,
        outcome=Outcome.ERROR,
        reason=reason,
        accepted=False,
        observed=Outcome.ERROR,
        observed_reason=reason,
    )
