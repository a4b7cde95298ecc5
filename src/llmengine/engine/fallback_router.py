"""Which engine of a fallback gets a prompt, and after which errors and answers the next one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from llmengine.engine.call import internal_error
from llmengine.engine.health import ServerHealth
from llmengine.telemetry.usage import total_cost, total_usage
from llmengine.types.errors import (
    AnswerTooLargeError,
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    CallError,
    ContextLengthError,
    InternalServerError,
    InvalidRequestError,
    LLMEngineError,
    NotFoundError,
    NotMockedError,
    QuotaError,
    RateLimitError,
    RefusedError,
    StreamIncompleteError,
    StructuredOutputError,
    TruncatedError,
    UnexpectedResponseError,
)
from llmengine.types.outputs import LLMOutput

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from llmengine.backends.base import Backend
    from llmengine.engine.results import Job
    from llmengine.engine.stream import StreamReader
    from llmengine.types.results import Result


log = logging.getLogger("llmengine")

ErrorKind = Literal[
    "connection",
    "timeout",
    "rate_limit",
    "quota",
    "server",
    "response",
    "context_length",
    "bad_request",
    "authentication",
    "not_found",
]
AnswerKind = Literal["refusal", "length", "schema", "empty"]
Rejects = Callable[[LLMOutput], bool]

# The kinds of errors. The first class that fits counts; None never asks the next engine.
_KINDS: tuple[tuple[type[LLMEngineError], ErrorKind | AnswerKind | None], ...] = (
    (NotMockedError, None),
    (APIConnectionError, "connection"),
    (APITimeoutError, "timeout"),
    (QuotaError, "quota"),
    (RateLimitError, "rate_limit"),
    (InternalServerError, "server"),
    (UnexpectedResponseError, "response"),
    (AnswerTooLargeError, "response"),
    (StreamIncompleteError, "response"),
    (ContextLengthError, "context_length"),
    (BadRequestError, "bad_request"),
    (InvalidRequestError, "bad_request"),
    (AuthenticationError, "authentication"),
    (NotFoundError, "not_found"),
    (RefusedError, "refusal"),
    (TruncatedError, "length"),
    (StructuredOutputError, "schema"),
)
_FINISH_REASONS: dict[str | None, AnswerKind] = {
    "content_filter": "refusal",
    "refusal": "refusal",
    "length": "length",
}


def kind_of_error(error: LLMEngineError) -> ErrorKind | AnswerKind | None:
    """The kind of an error; None for an error after which no other engine is asked."""
    return next((kind for of, kind in _KINDS if isinstance(error, of)), None)


def kinds_of_answer(output: LLMOutput) -> Iterator[AnswerKind]:
    """What may be wrong with an answer; a fallback names the kinds that it does not accept."""
    for one in output.outputs:
        if one.finish_reason in _FINISH_REASONS:
            yield _FINISH_REASONS[one.finish_reason]
        if not (one.text.strip() or one.tool_calls):
            yield "empty"


def name_of(rejects: Rejects) -> str:
    """The name of a function that rejects answers."""
    return getattr(rejects, "__name__", type(rejects).__name__)


class Member:
    """One engine of a fallback, with the health of its server."""

    def __init__(self, place: int, backend: Backend) -> None:
        self.place = place
        self.backend = backend
        self.name = backend.config.name
        self.weight = backend.config.weight
        self.health = ServerHealth(self.name)
        self.credit = 0.0  # by which the weighted order is found

    def is_usable(self, now: float, *, if_paused: bool) -> bool:
        """Whether it should be asked: its server does not rest, and has not asked to wait."""
        if self.health.is_out and self.health.trial_in(now) > 0:
            return False
        limits = None if if_paused else self.backend.limits()
        if limits is None:
            return True
        # A server that goes on answering 429 gets one request at a time.
        return not limits.pause and not (limits.is_refusing and limits.in_flight)


class FallbackRouter:
    """Gives each prompt to one engine after another; used on the background loop only.

    ``rejects`` are the functions that reject answers.
    """

    def __init__(
        self,
        backends: Sequence[Backend],
        kinds: frozenset[ErrorKind | AnswerKind],
        rejects: Sequence[Rejects],
        *,
        weighted: bool,
    ) -> None:
        self._members = [Member(place, backend) for place, backend in enumerate(backends)]
        self._kinds = kinds
        self._rejects = rejects
        self._weighted = weighted

    async def result(self, make_jobs: Sequence[Callable[[], Job]]) -> Result:
        """The result of a prompt, for which each engine has a function that makes its job."""
        tried: list[tuple[Member, Result]] = []
        for member, trial in self._attempts():
            with member.health.call(trial=trial):
                result = await make_jobs[member.place]()()
            member.health.note(result.error, trial=trial)
            tried.append((member, result))
            try:
                reason = self._reason(result)
            except Exception as error:  # noqa: BLE001 - a bug at one prompt must not lose the batch
                failed = internal_error(error)
                failed.partial = result.output
                return combined(tried, replace(result, output=None, error=failed))
            if reason is None:
                return combined(tried, result)
            log.info("engine %r: %s, so the next engine is asked", member.name, reason)
        answered = [result for _, result in tried if result.ok]
        return combined(tried, answered[-1] if answered else tried[-1][1])

    async def stream(self, readers: Sequence[StreamReader]) -> LLMEngineError | None:
        """Read the stream of one engine; the next one is asked only before the first content."""
        failed: list[tuple[Member, LLMEngineError]] = []
        for member, trial in self._attempts():
            reader = readers[member.place]
            with member.health.call(trial=trial):
                error = await reader.read()
            member.health.note(error, trial=trial)
            if error is None:
                return None
            failed.append((member, error))
            if reader.delivered or kind_of_error(error) not in self._kinds:
                break
            log.info("engine %r: %s, so the next engine is asked", member.name, _label(error))
        return _with_earlier(failed)

    def _attempts(self) -> Iterator[tuple[Member, bool]]:
        """The engines in the order in which they are asked; and whether it is a trial.

        An engine whose server rests or has asked to wait comes after those that can answer.
        """
        loop, if_paused = asyncio.get_running_loop(), "rate_limit" not in self._kinds
        left = self._order()
        while left:
            now = loop.time()
            usable = (m for m in left if m.is_usable(now, if_paused=if_paused))
            member = next(usable, left[0])
            left.remove(member)
            yield member, member.health.trial_in(now) <= 0

    def _order(self) -> list[Member]:
        """The order for the next prompt.

        The weighted order is that of nginx's smooth round robin, which spreads the turns of each
        engine evenly and needs no chance.
        """
        if not self._weighted:
            return [*self._members]
        for member in self._members:
            member.credit += member.weight
        first = max(self._members, key=lambda member: member.credit)
        first.credit -= sum(member.weight for member in self._members)
        return [first, *(member for member in self._members if member is not first)]

    def _reason(self, result: Result) -> str | None:
        """Why the next engine is asked after this result; None if it is not."""
        if result.error is not None:
            return _label(result.error) if kind_of_error(result.error) in self._kinds else None
        output = result.unwrap()
        for kind in kinds_of_answer(output):
            if kind in self._kinds:
                return f"the answer is not accepted ({kind})"
        for rejects in self._rejects:
            if rejects(output):
                return f"the answer is not accepted by {name_of(rejects)}"
        return None


def combined(tried: Sequence[tuple[Member, Result]], chosen: Result) -> Result:
    """The chosen result, with the sums of the attempts and the spending of all of them."""
    if len(tried) == 1:
        return chosen
    results = [result for _, result in tried]
    attempts = sum(result.attempts for result in results)
    if chosen.error is not None:
        errors = [(member, result.error) for member, result in tried if result.error is not None]
        _with_earlier(errors)
        if isinstance(chosen.error, CallError):
            chosen.error.attempts = attempts
    cost, currency = total_cost((result.cost, result.currency) for result in results)
    return replace(
        chosen,
        attempts=attempts,
        usage=total_usage(result.usage for result in results),
        cost=cost,
        currency=currency,
        uncounted=sum(result.uncounted for result in results),
    )


def _with_earlier(failed: Sequence[tuple[Member, LLMEngineError]]) -> LLMEngineError:
    """The last error; the errors of the engines that were asked before are in its notes."""
    *earlier, (_, error) = failed
    if earlier and isinstance(error, CallError):
        listed = ", ".join(f"{member.name!r} ({_label(before)})" for member, before in earlier)
        error.advise(f"these engines failed before: {listed}")
    for member, before in earlier:
        error.add_note(f"engine {member.name!r}: {type(before).__name__}: {before}")
    return error


def _label(error: LLMEngineError) -> str:
    return error.label if isinstance(error, CallError) else type(error).__name__
