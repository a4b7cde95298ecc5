"""One request of a batch: how it is sent, its line in the output, and its trace.

A request is sent as it is. If an endpoint fails, it is moved to another one or retried, so that it
is never lost. An output line is exactly as OpenAI writes it:
``{"id", "custom_id", "response": {"status_code", "request_id", "body"}, "error"}``. ``body`` is
the server's own text, inserted unchanged. ``error`` is null or ``{"code", "message"}``, with one
key of this library, ``llmengine``: the line of the input, the attempts made, and the tokens used.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from pydantic_core import from_json

from llmengine.batch.validation import refuse_what_is_not_whole, usage_of
from llmengine.dialects.common import read_object
from llmengine.dialects.errors import header
from llmengine.dialects.openai_chat import decode
from llmengine.engine.call import internal_error
from llmengine.telemetry.usage import total_cost
from llmengine.transport.policies import with_retries
from llmengine.types.errors import CallError, InvalidRequestError, detached
from llmengine.types.request import ChatRequest, ResponseFormat, to_messages
from llmengine.types.sampling import SamplingParams
from llmengine.types.secrets import scrub

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmengine.batch.balancer import Balancer, Endpoint
    from llmengine.batch.format import BadLine, BatchRequest
    from llmengine.engine.call import Call, CallUsage
    from llmengine.engine.engine import Engine
    from llmengine.transport.base import HTTPReply, HTTPRequest
    from llmengine.types.outputs import LLMOutput, Usage
    from llmengine.types.results import Result


_CHAT = "/v1/chat/completions"
# The sampling parameters for which the tracing conventions have attributes.
_SAMPLING = (
    "temperature",
    "top_p",
    "max_tokens",
    "frequency_penalty",
    "presence_penalty",
    "seed",
    "stop",
    "n",
)
EXTRA = "llmengine"
START = b'{"id":"batch_req_'
_WORD_START = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_OK = 200
# Clocks that run out before anything is sent, so that another endpoint may be asked.
_NOT_SENT = frozenset({"cold_start", "wait"})


@dataclass(slots=True)
class BatchAnswer:
    """The outcome of one request: ``error`` is None only if the answer is complete.

    ``reply`` is the server's answer or refusal to the last attempt, if there was any; ``engine``
    is the engine that was asked last. ``attempts`` counts all requests that were sent. ``usage``
    and ``cost`` (in ``currency``) are sums over all of them; the cost is None if any part of it
    is unknown.
    """

    attempts: int = 0
    reply: HTTPReply | None = None
    engine: Engine | None = None
    usage: Usage | None = None
    error: CallError | None = None
    cost: float | None = 0.0
    currency: str | None = None

    def pay(self, result: Result) -> None:
        """Add the usage and the cost of one attempt."""
        if result.usage is not None:
            self.usage = result.usage if self.usage is None else self.usage + result.usage
        both = [(self.cost, self.currency), (result.cost, result.currency)]
        self.cost, self.currency = total_cost(both)


class BatchSender:
    """Sends requests to any of the engines; used on the background loop only."""

    def __init__(self, balancer: Balancer, engines: Sequence[Engine]) -> None:
        self._balancer = balancer
        self._retries = max(e.config.max_retries for e in engines)
        self._first_wait = max(e.config.retry_wait for e in engines)
        self._patience = max(e.backend.clocks.patience for e in engines)

    async def ask(self, request: BatchRequest) -> BatchAnswer:
        """The outcome of the request; only cancellation is raised."""
        answer = BatchAnswer()
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

    async def _round(self, request: BatchRequest, answer: BatchAnswer) -> None:
        """Ask one endpoint after another until one answers; each at most once.

        Moving to another endpoint needs no wait and does not count as a retry, so no result is lost
        when a server dies.
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
        # The next round starts as soon as any of the endpoints may be asked again.
        raise min(failures.values(), key=lambda error: error.retry_after or 0.0)


async def _attempt(endpoint: Endpoint, request: BatchRequest, answer: BatchAnswer) -> None:
    engine = answer.engine = endpoint.engine
    call = endpoint.call(request.url)
    outgoing = call.connection.chat(_body(request, engine.model))
    async with call.slots:
        asked = None if call.tracing is None else traced(request, engine.model)
        with call.usage(asked) as tally:
            once = partial(_send, call, outgoing, answer, tally)
            try:
                reply = await call.connection.in_turn(once, queued=True)()
                data = read_object(reply.body)
                tally.answered(usage_of(data))
                refuse_what_is_not_whole(data, request, reply.body)
            except CallError as error:
                answer.pay(tally.close(error=error))
                raise
            answer.pay(tally.close(output_of(reply.body, asked) if asked else None))


async def _send(
    call: Call, outgoing: HTTPRequest, answer: BatchAnswer, tally: CallUsage
) -> HTTPReply:
    answer.attempts += 1
    answer.reply = None
    tally.attempt()
    try:
        answer.reply = reply = await call.connection.send(outgoing)
        if reply.status != _OK:
            raise call.connection.refusal(reply.status, reply.headers, reply.body)
    except CallError as error:
        tally.failed(error)
        raise
    return reply


def _body(request: BatchRequest, model: str) -> bytes:
    named = "model" in request.body or not model
    body = request.body if named else {"model": model, **request.body}
    return json.dumps(body, separators=(",", ":")).encode()


def answer_record(request: BatchRequest, answer: BatchAnswer) -> bytes:
    """The output line for a request that was asked, whether it was answered or failed."""
    error = None
    if answer.error is not None:
        usage = asdict(answer.usage) if answer.usage is not None else None
        extra = {"line": request.line, "attempts": answer.attempts, "usage": usage}
        error = _error(_code(answer.error), str(answer.error), extra)
    return _record(request.custom_id, _response(answer), error)


def bad_line_record(entry: BadLine) -> bytes:
    """The output line for an input line that is not a valid request."""
    extra = {"line": entry.line, "attempts": 0, "usage": None}
    return _record(entry.custom_id, "null", _error("invalid_line", entry.problem, extra))


def _record(custom_id: str | None, response: str, error: dict[str, Any] | None) -> bytes:
    text = (
        f'{START.decode()}{uuid4().hex}","custom_id":{_json(custom_id)},'
        f'"response":{response},"error":{_json(error)}}}'
    )
    return scrub(text).encode() + b"\n"


def _response(answer: BatchAnswer) -> str:
    reply = answer.reply
    if reply is None:
        return "null"
    status, request_id = reply.status, _json(header(reply.headers, "x-request-id"))
    return f'{{"status_code":{status},"request_id":{request_id},"body":{_answer_body(reply)}}}'


def _answer_body(reply: HTTPReply) -> str:
    """The body unchanged but on one line if it is JSON; else its text as a JSON string."""
    try:
        from_json(reply.body)
    except ValueError:
        return _json(reply.body.decode("utf-8", "replace"))
    # In JSON, a line break can only be whitespace between values.
    return reply.body.decode().replace("\r", " ").replace("\n", " ").strip()


def _error(code: str, message: str, extra: dict[str, Any]) -> dict[str, Any]:
    return {"code": code, "message": message, EXTRA: extra}


def _code(error: Exception) -> str:
    """The server's own error code, else the name of the exception in the same spelling."""
    said = error.code if isinstance(error, CallError) else None
    return said or _WORD_START.sub("_", type(error).__name__).lower()


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def traced(request: BatchRequest, model: str) -> ChatRequest | None:
    """A chat line as a ChatRequest, for its span; None for other routes, which have no spans.

    Nothing is checked, since the server reports what is wrong with a line. Faulty fields are left
    out here.
    """
    if request.url != _CHAT:
        return None
    body = request.body
    messages: Any = body.get("messages")
    shape = body.get("response_format")
    try:
        said, sampling = to_messages(messages), _sampling(body)
    except InvalidRequestError:
        said, sampling = (), SamplingParams()
    return ChatRequest(
        model=str(body.get("model", model)),
        prompt=messages,
        messages=said,
        sampling=sampling,
        response_format=ResponseFormat() if shape else None,
        tools=tuple(body.get("tools") or ()),
    )


def _sampling(body: dict[str, Any]) -> SamplingParams:
    return SamplingParams(**{name: body[name] for name in _SAMPLING if name in body})


def output_of(body: bytes, request: ChatRequest) -> LLMOutput | None:
    """The answer, for the span; None if it cannot be read. The batch keeps it in any case."""
    try:
        return decode(body, request)
    except CallError:
        return None
