"""One request of a batch: how it is sent, its line in the output, and its trace.

A request is sent as it is. If an endpoint fails, the request is moved to another one or retried, so
that it is never lost. An output line has the keys that OpenAI writes:
``{"id", "custom_id", "response": {"status_code", "request_id", "body"}, "error"}``. ``body`` is
the server's own text, inserted unchanged. ``error`` is null or ``{"code", "message"}``, with one
key of this library, ``llmengine``: the line of the input, the attempts made, and the tokens used.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

from pydantic_core import from_json

from llmengine.batch.balancer import Balancer
from llmengine.batch.validation import refuse_incomplete, usage_of
from llmengine.dialects.common import read_object
from llmengine.dialects.errors import header
from llmengine.dialects.openai_chat import decode
from llmengine.engine.call import internal_error
from llmengine.telemetry.usage import Spending
from llmengine.transport.policies import with_retries
from llmengine.transport.rates import RequestSize
from llmengine.types.errors import CallError, InvalidRequestError, detached
from llmengine.types.request import ChatRequest, ResponseFormat, to_messages
from llmengine.types.results import Result
from llmengine.types.sampling import SamplingParams
from llmengine.types.secrets import scrub

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llmengine.batch.balancer import Endpoint
    from llmengine.batch.format import BadLine, BatchRequest
    from llmengine.engine.call import Call, CallObserver, CallUsage
    from llmengine.engine.engine import Engine
    from llmengine.engine.fallback import FallbackEngine
    from llmengine.transport.base import HTTPReply, HTTPRequest
    from llmengine.transport.limiter import Permit
    from llmengine.types.outputs import LLMOutput


# Made once, because ``json.dumps`` makes an encoder for each value with such separators.
_json = json.JSONEncoder(separators=(",", ":")).encode
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
# The time limits that end before anything is sent, so that another endpoint may get the request.
_NOT_SENT = frozenset({"cold_start", "wait"})


@dataclass(slots=True)
class BatchAnswer:
    """The outcome of one request: ``error`` is None only if the answer is complete.

    ``reply`` is the server's answer or refusal to the last attempt, if there was any, and
    ``is_json`` says that its body is known to be JSON. ``engine`` is the engine that got the last
    request. ``attempts`` counts all requests that were sent, and ``spent`` is the sum of what they
    used.
    """

    attempts: int = 0
    reply: HTTPReply | None = None
    is_json: bool = False
    engine: Engine | None = None
    error: CallError | None = None
    spent: Spending = field(default_factory=Spending)

    def add_spending(self, result: Result) -> None:
        """Add the usage and the cost of one attempt."""
        self.spent += Spending(result.usage, result.cost, result.currency)


class BatchSender:
    """Sends requests to any of the endpoints; used on the background loop only."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        engines = [endpoint.engine for endpoint in endpoints]
        self.endpoints = endpoints
        self._balancer = Balancer(endpoints)
        self._retries = max(e.config.max_retries for e in engines)
        self._first_wait = max(e.config.retry_wait for e in engines)
        self._patience = max(e.backend.clocks.patience for e in engines)

    async def send(self, request: BatchRequest) -> BatchAnswer:
        """The outcome of the request; only cancellation is raised."""
        answer = BatchAnswer()
        try:
            await with_retries(
                lambda: self._try_endpoints(request, answer),
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

    async def _try_endpoints(self, request: BatchRequest, answer: BatchAnswer) -> None:
        """Send the request to one endpoint after another until one answers; to each at most once.

        Moving to another endpoint needs no wait and does not count as a retry, so no result is
        lost when a server dies.
        """
        failures: dict[Endpoint, CallError] = {}
        while (picked := self._balancer.pick(failures)) is not None:
            endpoint, trial = picked
            try:
                with endpoint.attempt(trial=trial):
                    return await _attempt(endpoint, request, answer)
            except CallError as error:
                if not error.retryable and error.clock not in _NOT_SENT:
                    raise
                failures[endpoint] = error
        # The next retry is made as soon as any of the endpoints may get a request again.
        raise min(failures.values(), key=lambda error: error.retry_after or 0.0)


class FallbackSender:
    """Sends requests to the engines of a fallback in turn; used on the background loop only.

    Requests are not hedged, because the time of one line does not matter.
    """

    def __init__(self, fallback: FallbackEngine, endpoints: Sequence[Endpoint]) -> None:
        self.endpoints = endpoints
        self._router = fallback.backend.new_router()
        self._senders = [BatchSender([endpoint]) for endpoint in endpoints]
        self._judges_answers = bool(fallback.config.answers)

    async def send(self, request: BatchRequest) -> BatchAnswer:
        """The outcome of the request; only cancellation is raised."""
        answers: dict[str | None, BatchAnswer] = {}

        async def ask(place: int, _observer: CallObserver | None = None) -> Result:
            engine = self.endpoints[place].engine
            answer = answers[engine.name] = await self._senders[place].send(request)
            return Result(
                self._read(request, answer, engine.model),
                answer.error,
                answer.attempts,
                answer.spent.usage,
                answer.spent.cost,
                currency=answer.spent.currency,
                engine=engine.name,
            )

        places = range(len(self._senders))
        result = await self._router.result([partial(partial, ask, place) for place in places])
        answer = answers[result.engine]
        assert result.error is None or isinstance(result.error, CallError)
        answer.error, answer.attempts = result.error, result.attempts
        answer.spent = Spending(result.usage, result.cost, result.currency)
        return answer

    def _read(self, request: BatchRequest, answer: BatchAnswer, model: str) -> LLMOutput | None:
        """The answer to a chat, if not every answer is accepted."""
        if not self._judges_answers or answer.error is not None or answer.reply is None:
            return None
        chat = chat_request(request, model)
        return None if chat is None else chat_output(answer.reply.body, chat)


async def _attempt(endpoint: Endpoint, request: BatchRequest, answer: BatchAnswer) -> None:
    engine = answer.engine = endpoint.engine
    call = endpoint.call(request.url)
    outgoing = call.connection.chat(encode_body(request, engine.model))
    async with call.slots:
        chat = None if call.tracing is None else chat_request(request, engine.model)
        with call.usage(chat) as usage:
            send = partial(_send, call, outgoing, answer, usage)
            try:
                size = RequestSize(len(outgoing.body), _max_tokens(request))
                reply, data = await call.connection.in_turn(send, queued=True, size=size)()
                refuse_incomplete(data, request, reply.body)
            except CallError as error:
                answer.add_spending(usage.close(error=error))
                raise
            answer.add_spending(usage.close(chat_output(reply.body, chat) if chat else None))


async def _send(
    call: Call, outgoing: HTTPRequest, answer: BatchAnswer, usage: CallUsage, permit: Permit
) -> tuple[HTTPReply, dict[str, object]]:
    """The answer, and the JSON object in it."""
    answer.attempts += 1
    answer.reply, answer.is_json = None, False
    usage.attempt()
    try:
        answer.reply = reply = await call.connection.send(outgoing, permit)
        if reply.status != _OK:
            raise call.connection.refusal(reply.status, reply.headers, reply.body)
    except CallError as error:
        usage.failed(error)
        raise
    data = read_object(reply.body)
    answer.is_json = True
    used = usage_of(data)
    usage.answered(used)
    permit.count(used)
    return reply, data


def _max_tokens(request: BatchRequest) -> int | None:
    """The longest answer that the request allows, on any route; None if it does not say."""
    names = ("max_tokens", "max_completion_tokens", "max_output_tokens")
    return next((most for n in names if isinstance(most := request.body.get(n), int)), None)


def encode_body(request: BatchRequest, model: str) -> bytes:
    """The body of a request as it is sent: with the model, if it does not name one."""
    has_model = "model" in request.body or not model
    body = request.body if has_model else {"model": model, **request.body}
    return _json(body).encode()


def answer_record(request: BatchRequest, answer: BatchAnswer) -> bytes:
    """The output line for a request that was sent, whether it was answered or failed."""
    error = None
    if answer.error is not None:
        usage = None if answer.spent.usage is None else asdict(answer.spent.usage)
        extra = {"line": request.line, "attempts": answer.attempts, "usage": usage}
        error = _error(_code(answer.error), str(answer.error), extra)
    return _record(request.custom_id, _response(answer), error)


def bad_line_record(entry: BadLine) -> bytes:
    """The output line for an input line that is not a valid request."""
    extra = {"line": entry.line, "attempts": 0, "usage": None}
    return _record(entry.custom_id, "null", _error("invalid_line", entry.problem, extra))


def _record(custom_id: str | None, response: str, error: dict[str, object] | None) -> bytes:
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
    body = _one_line(reply.body) if answer.is_json else _answer_body(reply.body)
    return f'{{"status_code":{status},"request_id":{request_id},"body":{body}}}'


def _answer_body(body: bytes) -> str:
    """The body unchanged but on one line if it is JSON; else its text as a JSON string."""
    try:
        from_json(body)
    except ValueError:
        return _json(body.decode("utf-8", "replace"))
    return _one_line(body)


def _one_line(body: bytes) -> str:
    # In JSON, a line break can only be whitespace between values.
    return body.decode().replace("\r", " ").replace("\n", " ").strip()


def _error(code: str, message: str, extra: Mapping[str, object]) -> dict[str, object]:
    return {"code": code, "message": message, EXTRA: extra}


def _code(error: Exception) -> str:
    """The server's own error code, else the name of the exception in snake case."""
    code = error.code if isinstance(error, CallError) else None
    return code or _WORD_START.sub("_", type(error).__name__).lower()


def chat_request(request: BatchRequest, model: str) -> ChatRequest | None:
    """A chat line as a ChatRequest, for its span; None for other routes, which have no spans.

    Nothing is checked, because the server reports what is wrong with a line. Invalid fields are
    left out here.
    """
    if request.url != _CHAT:
        return None
    body = request.body
    prompt, tools = body.get("messages"), body.get("tools")
    try:
        messages = to_messages(prompt) if isinstance(prompt, (str, list)) else ()
        sampling = SamplingParams.of({name: body[name] for name in _SAMPLING if name in body})
    except InvalidRequestError:
        messages, sampling = (), SamplingParams()
    return ChatRequest(
        model=str(body.get("model", model)),
        prompt=prompt,
        messages=messages,
        sampling=sampling,
        response_format=ResponseFormat() if body.get("response_format") else None,
        tools=tuple(tools) if isinstance(tools, list) else (),
    )


def chat_output(body: bytes, request: ChatRequest) -> LLMOutput | None:
    """The answer, for the span; None if it cannot be read. The batch keeps it in any case."""
    try:
        return decode(body, request)
    except CallError:
        return None
