"""Second verdicts: the rules of a report, run again on the exchanges in it.

The exchanges of a check are played by the replayer, in their order. A report does not keep
everything: a long body is cut, and arrival times, repeated headers and bytes that are not UTF-8 are
missing. Where that may matter, there is no second verdict.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from vcr.request import Request as VcrRequest

from pytest_llmengine.contract.limits import Limits
from pytest_llmengine.contract.outcomes import CUT, Outcome
from pytest_llmengine.contract.profile import DEVIANT, Profile
from pytest_llmengine.contract.registry import catalogue
from pytest_llmengine.contract.runner import run_check
from pytest_llmengine.contract.target import Target
from pytest_llmengine.recording import (
    CassetteError,
    Provenance,
    RecordCassette,
    RecordingConfig,
    ReplayServer,
)
from pytest_llmengine.recording.cassette import RecordedAnswer
from pytest_llmengine.recording.chunks import Timeline

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_llmengine.contract.registry import Check
    from pytest_llmengine.reports.model import CheckRecord, ContractReport

_ORIGIN = "http://127.0.0.1"
_LIMITS = Limits(answer=20, check=60)
_VERDICTS = frozenset({Outcome.PASS, Outcome.LENIENT, *DEVIANT})


@dataclass(frozen=True, slots=True)
class SecondVerdict:
    """The outcome of a rule on the exchanges of a report; None with the reason if there is none."""

    record: CheckRecord
    outcome: Outcome | None
    reason: str

    @property
    def agrees(self) -> bool:
        """Whether the verdict of the report is the same; also True if there is no second one."""
        return self.outcome in {None, self.record.observed}


def second_verdicts(report: ContractReport) -> Iterator[SecondVerdict]:
    """Run each rule of the report that has a verdict other than a pass on its exchanges."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        server = stack.enter_context(ReplayServer())
        target = stack.enter_context(
            Target(
                server.root_url,
                report.header.model,
                clock=False,
                direct=False,
                limits=_LIMITS,
                sleep=_no_pause,
            )
        )
        known = catalogue()
        for place, record in enumerate(report.checks):
            if record.observed not in {*DEVIANT, Outcome.LENIENT}:
                continue
            check = known.get(record.id)
            missing = _missing(check, record) if check else "this version does not have the rule"
            if check is None or missing:
                yield SecondVerdict(record, None, missing)
            else:
                yield _judge_again(check, record, server, target, folder / f"{place}.yaml")


def _judge_again(
    check: Check, record: CheckRecord, server: ReplayServer, target: Target, path: Path
) -> SecondVerdict:
    """Run the rule on the exchanges of its record, which are written to the path."""
    try:
        _write(record, path)
        with server.cassette(path) as cassette:
            result = run_check(check, target, Profile("none"))
    except (CassetteError, ValueError):
        return SecondVerdict(record, None, "its exchanges are not HTTP that can be played")
    if cassette.unhandled:
        return SecondVerdict(record, None, "not all of its exchanges are in the report")
    if result.observed not in _VERDICTS:
        return SecondVerdict(record, None, "the exchanges are not enough for this rule")
    return SecondVerdict(record, result.observed, result.observed_reason)


def _no_pause(seconds: float) -> None:
    """Do not wait: the replayer does not limit the rate."""


def _missing(check: Check, record: CheckRecord) -> str:
    """What a second verdict would need and the report does not have; "" if nothing is missing."""
    if check.driver is not None:
        return "the rule drives a client library"
    if check.timing:
        return "the rule is about arrival times"
    for exchange in record.exchanges:
        if exchange["status"] is None:
            return "a request was not answered"
        bodies = (exchange["request_body"], exchange["response_body"])
        if any(CUT.search(body) for body in bodies):
            return "a body is cut"
        if any("\ufffd" in body for body in bodies):
            return "a body is not UTF-8"
    return "" if record.exchanges else "it has no exchange"


def _write(record: CheckRecord, path: Path) -> None:
    """Write the exchanges of a check as a recording."""
    recording = RecordCassette(path, Provenance(), RecordingConfig())
    for exchange in record.exchanges:
        request = VcrRequest(
            exchange["method"],
            _ORIGIN + exchange["path"],
            exchange["request_body"].encode("utf-8", "surrogatepass"),
            {},
        )
        recording.put(recording.begin(), request, _answer(exchange))
    recording.write()


def _answer(exchange: Mapping[str, Any]) -> RecordedAnswer:
    """The answer of an exchange; each event of a stream is a chunk of its own."""
    body = exchange["response_body"].encode("utf-8", "surrogatepass")
    headers = tuple((k.lower(), v) for k, v in exchange["response_headers"].items())
    whole = Timeline.whole(body)
    if "text/event-stream" in dict(headers).get("content-type", ""):
        ends = [end + 2 for end in range(len(body)) if body.startswith(b"\n\n", end)]
        whole = whole.rechunked(body, tuple(ends))
    return RecordedAnswer(exchange["status"], "", headers, body, whole)
