"""One request of a batch: sent as it is, moved to another endpoint or retried, never lost."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from llmengine.batch.tracing import output_of, traced
from llmengine.batch.validation import refuse_what_is_not_whole, usage_of
from llmengine.dialects.common import read_object
from llmengine.engine.call import internal_error, patience_of
from llmengine.telemetry.usage import total_cost
from llmengine.transport.policies import with_retries
from llmengine.types.errors import CallError, detached

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmengine.batch.balance import Balancer, Endpoint
    from llmengine.batch.lines import BatchRequest
    from llmengine.engine.call import Call, CallUsage
    from llmengine.engine.engine import Engine
    from llmengine.transport.base import HTTPReply, Outgoing
    from llmengine.types.outputs import Result, Usage

_OK = 200
# Clocks that run out before anything is sent, so that another endpoint may be asked.
_NOT_SENT = frozenset({"cold_start", "wait"})


@dataclass(slots=True)
class Answer:
    """What became of one request: ``error`` is None only for an answer that is whole.

    ``reply`` is what the last attempt brought, answer or refusal, if anything; ``engine`` is who
    was asked last. ``attempts`` counts all requests that were sent; ``usage`` and ``cost`` (in
    ``currency``) are of all of them, the cost None where any part of it is unknown.
    """

    attempts: int = 0
    reply: HTTPReply | None = None
    engine: Engine | None = None
    usage: Usage | None = None
    error: CallError | None = None
    cost: float | None = 0.0
    currency: str | None = None

    def pay(self, result: Result) -> None:
        """Add what was spent at one endpoint."""
        if result.usage is not None:
            self.usage = result.usage if self.usage is None else self.usage + result.usage
        both = [(self.cost, self.currency), (result.cost, result.currency)]
        self.cost, self.currency = total_cost(both)


class Asker:
    """Asks any of the engines; lives on the background loop."""

    def __init__(self, balancer: Balancer, engines: Sequence[Engine]) -> None:
        self._balancer = balancer
        self._retries = max(e.config.max_retries for e in engines)
        self._first_wait = max(e.config.retry_wait for e in engines)
        self._patience = max(patience_of(e) for e in engines)

    async def ask(self, request: BatchRequest) -> Answer:
        """The request's answer; only cancellation is raised."""
        answer = Answer()
        try:
            await with_retries(
                lambda: self._round(request, answer),
                self._retries,
                self._first_wait,
                self._patience,
            )
        except CallError as error:
            error.attempts = answer.attempts
            answer.error = detached(error)
        except Exception as error:  # noqa: BLE001 - one request's bug must not lose the batch
            answer.error = internal_error(error)
        return answer

    async def _round(self, request: BatchRequest, answer: Answer) -> None:
        """Ask one endpoint after another until one answers; each at most once.

        Moving on costs no wait and none of the retries, so a server that dies costs no result.
        """
        failures: dict[Endpoint, CallError] = {}
        while (turn := self._balancer.pick(failures)) is not None:
            endpoint, trial = turn
            try:
                with endpoint.attempt(trial=trial):
                    return await _attempt(endpoint, request, answer)
            except CallError as error:
                if not error.retryable and error.clock not in _NOT_SENT:
                    raise
                failures[endpoint] = error
        # The soonest that any of them may be asked again decides about the next round.
        raise min(failures.values(), key=lambda error: error.retry_after or 0.0)


async def _attempt(endpoint: Endpoint, request: BatchRequest, answer: Answer) -> None:
    engine = answer.engine = endpoint.engine
    call = endpoint.call(request.url)
    outgoing = call.raw(_body(request, engine.model))
    async with call.slots:
        asked = None if call.tracing is None else traced(request, engine.model)
        with call.tally(asked) as tally:
            once = partial(_send, call, outgoing, answer, tally)
            try:
                reply = await call.when_awake(once, queued=True)()
                data = read_object(reply.body)
                tally.answered(usage_of(data))
                refuse_what_is_not_whole(data, request, reply.body)
            except CallError as error:
                answer.pay(tally.close(error=error))
                raise
            answer.pay(tally.close(output_of(reply.body, asked) if asked else None))


async def _send(call: Call, outgoing: Outgoing, answer: Answer, tally: CallUsage) -> HTTPReply:
    answer.attempts += 1
    answer.reply = None
    tally.attempt()
    try:
        answer.reply = reply = await call.send(outgoing)
        if reply.status != _OK:
            raise call.refusal(reply.status, reply.headers, reply.body)
    except CallError as error:
        tally.failed(error)
        raise
    return reply


def _body(request: BatchRequest, model: str) -> bytes:
    named = "model" in request.body or not model
    body = request.body if named else {"model": model, **request.body}
    return json.dumps(body, separators=(",", ":")).encode()
