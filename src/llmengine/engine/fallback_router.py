"""Which engine of a fallback gets a prompt, and after which errors and answers the next one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple

from llmengine.engine.call import internal_error
from llmengine.engine.health import ServerHealth
from llmengine.engine.hedge import HedgedCall, cancel_running, first_final, recent_times
from llmengine.telemetry.usage import total_cost, total_usage
from llmengine.transport.loop import background
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
from llmengine.types.results import Result

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from llmengine.backends.base import Backend
    from llmengine.engine.call import CallObserver
    from llmengine.engine.hedge import HedgePolicy, StreamChoice
    from llmengine.engine.results import ObservedJob
    from llmengine.engine.stream import StreamReader


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


def kinds_of_error(error: LLMEngineError) -> Iterator[ErrorKind | AnswerKind]:
    """The kinds of an error; none for an error after which no other engine is asked.

    An answer that does not fit an output model may also be empty, for example.
    """
    kind = next((kind for of, kind in _KINDS if isinstance(error, of)), None)
    if kind is not None:
        yield kind
    if isinstance(error, StructuredOutputError) and error.partial is not None:
        yield from kinds_of_answer(error.partial)


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
        self.times = recent_times()  # of whole answers
        self.first_times = recent_times()  # until the first content of streams

    def is_usable(self, now: float, *, if_paused: bool) -> bool:
        """Whether it should be asked: its server does not rest, and has not asked to wait."""
        if self.health.is_out and self.health.trial_in(now) > 0:
            return False
        limits = None if if_paused else self.backend.limits()
        if limits is None:
            return True
        # A server that goes on answering 429 gets one request at a time.
        return not limits.pause and not (limits.is_refusing and limits.in_flight)

    def is_idle(self) -> bool:
        """Whether the engine could send a request at once."""
        limits = self.backend.limits()
        if limits is None:
            return True
        most = min(limits.limit, self.backend.concurrency)
        return limits.in_flight < most and not limits.waiting and not limits.is_refusing


class EngineTurn(NamedTuple):
    """The engine that is asked, and whether this is the trial of its server."""

    member: Member
    trial: bool = False


class EngineOutcome(NamedTuple):
    """The result of one engine, and why the next one is asked; None if it is not."""

    member: Member
    result: Result
    reason: str | None


class StreamEnding(NamedTuple):
    """How the stream of one engine ended, and why the next one is asked; None if it is not."""

    member: Member
    error: LLMEngineError | None
    reason: str | None

    @property
    def result(self) -> None:
        """A stream has no result."""


class FallbackRouter:
    """Gives each prompt to one engine after another; used on the background loop only.

    ``kinds`` are the errors and answers after which the next engine is asked, and ``rejects`` are
    functions that reject answers. With ``hedge``, a prompt whose first engine takes long is given
    to a second one at the same time.
    """

    def __init__(
        self,
        backends: Sequence[Backend],
        kinds: frozenset[ErrorKind | AnswerKind],
        rejects: Sequence[Rejects],
        hedge: HedgePolicy | None = None,
        *,
        weighted: bool,
    ) -> None:
        self._members = [Member(place, backend) for place, backend in enumerate(backends)]
        self._kinds = kinds
        self._rejects = rejects
        self._hedge = hedge
        self._weighted = weighted

    async def result(self, make_jobs: Sequence[Callable[[], ObservedJob]]) -> Result:
        """The result of a prompt, for which each engine has a function that makes its job."""
        left, outcomes, lost = self._order(), list[EngineOutcome](), list[Result]()
        while left:
            async with self._turn(left) as turn:
                if self._hedge is not None and not outcomes:
                    new = await self._hedged(self._hedge, turn, left, make_jobs, lost)
                else:
                    new = [await self._ask(turn, make_jobs)]
            outcomes += new
            for outcome in new:
                if outcome.reason is None:
                    return combined(outcomes, lost, outcome.result)
        answered = [outcome.result for outcome in outcomes if outcome.result.ok]
        return combined(outcomes, lost, answered[-1] if answered else outcomes[-1].result)

    async def stream(
        self, readers: Sequence[StreamReader], choice: StreamChoice
    ) -> LLMEngineError | None:
        """Read the stream of one engine; the next one is asked only before the first content."""
        left, endings = self._order(), list[StreamEnding]()
        while left:
            async with self._turn(left) as turn:
                if self._hedge is not None and not endings:
                    new = await self._hedged_stream(self._hedge, turn, left, readers, choice)
                else:
                    new = [await self._read(turn, readers)]
            endings += new
            for ending in new:
                if ending.reason is None:
                    return finished(ending, endings, choice)
        answered = [ending for ending in endings if ending.error is None]
        return finished(answered[-1] if answered else endings[-1], endings, choice)

    async def _read(
        self,
        turn: EngineTurn,
        readers: Sequence[StreamReader],
        observer: CallObserver | None = None,
    ) -> StreamEnding:
        member, trial = turn
        reader, reason = readers[member.place], None
        with member.health.call(trial=trial):
            error = await reader.read(observer)
        member.health.note(error, trial=trial)
        if not reader.delivered:
            try:
                reason = self._reason(member, reader.output, error)
            except Exception as raised:  # noqa: BLE001 - it becomes the error of the stream
                error = _failed_check(raised, reader.output)
        return StreamEnding(member, error, reason)

    async def _hedged_stream(
        self,
        hedge: HedgePolicy,
        turn: EngineTurn,
        left: list[Member],
        readers: Sequence[StreamReader],
        choice: StreamChoice,
    ) -> list[StreamEnding]:
        """The endings of the first stream and, if it begins late, of a second one.

        The one that begins first is read to its end, and the other one is cancelled.
        """
        hedge.note_prompt()
        member = turn.member
        choice.begun = asyncio.get_running_loop().create_future()
        first = HedgedCall[StreamEnding](partial(self._read, turn, readers))
        calls = {member.place: first}
        try:
            if not await first.wait(hedge.delay(member.first_times), choice.begun):
                second = self._second(hedge, member, left)
                if second is not None:
                    read = partial(self._read, EngineTurn(second), readers)
                    calls[second.place] = HedgedCall[StreamEnding](read)
            endings = await first_final([*calls.values()], choice.begun)
            if choice.chosen is None:
                return endings
            member.first_times.append(first.seconds)
            chosen = calls.pop(choice.chosen)
            try:
                await cancel_running([*calls.values()])
                await asyncio.wait((chosen.task,))
            finally:
                await cancel_running([chosen])
            failed = [ending for ending in endings if ending.reason is not None]
            return [*failed, chosen.task.result()]
        finally:
            await cancel_running([*calls.values()])

    async def _ask(
        self,
        turn: EngineTurn,
        make_jobs: Sequence[Callable[[], ObservedJob]],
        observer: CallObserver | None = None,
    ) -> EngineOutcome:
        member, trial = turn
        with member.health.call(trial=trial):
            result = await make_jobs[member.place]()(observer)
        member.health.note(result.error, trial=trial)
        try:
            reason = self._reason(member, result.output, result.error)
        except Exception as raised:  # noqa: BLE001 - a bug at one prompt must not lose the batch
            error = _failed_check(raised, result.output)
            result, reason = replace(result, output=None, error=error), None
        return EngineOutcome(member, result, reason)

    async def _hedged(
        self,
        hedge: HedgePolicy,
        turn: EngineTurn,
        left: list[Member],
        make_jobs: Sequence[Callable[[], ObservedJob]],
        lost: list[Result],
    ) -> list[EngineOutcome]:
        """The outcomes at the first engine and, if it takes unusually long, at a second one.

        The first outcome after which no other engine is asked ends both; what the other call has
        spent is added to ``lost``.
        """
        hedge.note_prompt()
        member = turn.member
        first = HedgedCall[EngineOutcome](partial(self._ask, turn, make_jobs))
        calls = [first]
        try:
            if not await first.wait(hedge.delay(member.times)):
                second = self._second(hedge, member, left)
                if second is not None:
                    ask = partial(self._ask, EngineTurn(second), make_jobs)
                    calls.append(HedgedCall[EngineOutcome](ask))
            outcomes = await first_final(calls)
        finally:
            lost += await cancel_running(calls)
        answered = next((one.result.ok for one in outcomes if one.member is member), None)
        # The answer of a call that was cancelled would have taken longer than this.
        if answered is not False:
            member.times.append(first.seconds)
        return outcomes

    def _second(self, hedge: HedgePolicy, first: Member, left: list[Member]) -> Member | None:
        """The engine that is asked too; None if all are busy or the budget is spent."""
        now = asyncio.get_running_loop().time()
        free = (m for m in left if m.is_usable(now, if_paused=False) and m.is_idle())
        member = next((m for m in free if not m.health.is_out), None)
        if member is None or not hedge.take():
            return None
        left.remove(member)
        log.info("engine %r takes long, so %r is asked too", first.name, member.name)
        return member

    @asynccontextmanager
    async def _turn(self, left: list[Member]) -> AsyncIterator[EngineTurn]:
        """The turn of the engine that is asked next; it holds one of the engine's places.

        While the prompt waited for its place, the server may have failed at other prompts. Then
        the prompt goes to another engine.
        """
        loop = background()
        while True:
            member = self._next(left)
            async with loop.slots(member, member.backend.concurrency):
                if self._is_usable(member) or self._next(left) is member:
                    left.remove(member)
                    trial = member.health.trial_in(loop.loop.time()) <= 0
                    yield EngineTurn(member, trial=trial)
                    return

    def _next(self, left: list[Member]) -> Member:
        """The engine that is asked next.

        An engine whose server rests or has asked to wait comes after those that can answer.
        """
        return next(filter(self._is_usable, left), left[0])

    def _is_usable(self, member: Member) -> bool:
        now = asyncio.get_running_loop().time()
        return member.is_usable(now, if_paused="rate_limit" not in self._kinds)

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

    def _reason(
        self, member: Member, output: LLMOutput | None, error: LLMEngineError | None
    ) -> str | None:
        """Why the next engine is asked, which is logged; None if it is not."""
        reason = None
        if error is not None:
            if not self._kinds.isdisjoint(kinds_of_error(error)):
                reason = _label(error)
        elif output is not None:
            reason = self._objection(output)
        if reason is not None:
            log.info("engine %r: %s; another one is asked if one is left", member.name, reason)
        return reason

    def _objection(self, output: LLMOutput) -> str | None:
        """Why an answer is not accepted; None if it is."""
        for kind in kinds_of_answer(output):
            if kind in self._kinds:
                return f"the answer is not accepted ({kind})"
        for rejects in self._rejects:
            if rejects(output):
                return f"the answer is not accepted by {name_of(rejects)}"
        return None


def finished(
    final: StreamEnding, endings: Sequence[StreamEnding], choice: StreamChoice
) -> LLMEngineError | None:
    """The error of the stream that was the last one, or None; what it has sent is passed on."""
    if final.error is None:
        choice.sink(final.member.place).open()  # if it has no content
        return None
    earlier = [(e.member, e.error) for e in endings if e is not final and e.error is not None]
    _add_earlier(final.error, earlier)
    return final.error


def combined(outcomes: Sequence[EngineOutcome], lost: Sequence[Result], chosen: Result) -> Result:
    """The chosen result, with the sums of what all calls have spent."""
    results = [*(outcome.result for outcome in outcomes), *lost]
    if len(results) == 1:
        return chosen
    attempts = sum(result.attempts for result in results)
    if chosen.error is not None:
        tried = [(one.member, one.result.error) for one in outcomes if one.result is not chosen]
        earlier = [(member, error) for member, error in tried if error is not None]
        _add_earlier(chosen.error, earlier)
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


def _add_earlier(error: LLMEngineError, earlier: Sequence[tuple[Member, LLMEngineError]]) -> None:
    """Add the errors of the engines that failed before to the message and the notes."""
    if earlier and isinstance(error, CallError):
        listed = ", ".join(f"{member.name!r} ({_label(before)})" for member, before in earlier)
        error.advise(f"these engines failed before: {listed}")
    for member, before in earlier:
        error.add_note(f"engine {member.name!r}: {type(before).__name__}: {before}")


def _failed_check(raised: Exception, output: LLMOutput | None) -> CallError:
    """The error for a function of ``answers`` that has raised; it keeps the answer."""
    error = internal_error(raised)
    error.partial = output
    return error


def _label(error: LLMEngineError) -> str:
    return error.label if isinstance(error, CallError) else type(error).__name__
