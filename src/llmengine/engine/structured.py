"""Structured output of one call, which is requested step by step until an answer fits.

The steps form a ladder; see `llmengine.structured.ladder.SchemaStep`. A probe finds out, once per
server, whether the server enforces the constraints that it accepts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic_core import from_json, to_json

from llmengine.structured.enforcement import (
    BUDGETS,
    Enforcement,
    Server,
    judgement_of,
    probe_request,
)
from llmengine.structured.features import features_of
from llmengine.structured.ladder import (
    RejectedAnswer,
    interrupted,
    no_fitting_answer,
    possible_step,
    request_at,
    step_after_answer,
    step_after_refusal,
)
from llmengine.structured.schema import broken_features, shape_of
from llmengine.structured.validation import fitted, refuse_calls, refuse_refusal
from llmengine.types.errors import (
    BadRequestError,
    CallError,
    ContextLengthError,
    InternalServerError,
    StructuredOutputError,
    TruncatedError,
)
from llmengine.types.request import Capability

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from llmengine.engine.call import Call, CallUsage
    from llmengine.structured.enforcement import Field
    from llmengine.structured.ladder import SchemaStep
    from llmengine.types.outputs import LLMOutput
    from llmengine.types.request import ChatRequest

    Send = Callable[[ChatRequest, int | None], Awaitable[LLMOutput]]


log = logging.getLogger("llmengine")
_MAX_QUOTED = 100
_CRASH_STATUS = 500
_CRASH_RETRIES = 2  # retries of a probe that was answered with 500
_ADVICE = "say it in the prompt too, leave it out of the schema, or use a server that enforces it"
_CONSTRAINT_NAMES: dict[Field, tuple[str, str]] = {
    "response_format": ("JSON schemas", "a JSON schema"),
    "structured_outputs": ("structured_outputs", "structured_outputs"),
}


async def generate_structured(call: Call, request: ChatRequest, usage: CallUsage) -> LLMOutput:
    """The answer that fits the output model, from the first step that gives one.

    Raises TruncatedError at once for an answer that was cut, since the next one would be cut too,
    and RefusedError at once if the model refuses to answer. At the end of the ladder, raises
    StructuredOutputError, which lists all steps that were tried.
    """

    async def send(step_request: ChatRequest, max_retries: int | None) -> LLMOutput:
        return await call.exchange(step_request, usage, max_retries)

    structured = StructuredCall(call, request)
    rejected: list[RejectedAnswer] = []
    step: SchemaStep | None = await structured.first_step()
    while step is not None:
        step, output = await structured.ask(step, send, rejected)
        refuse_refusal(output)
        refuse_calls(output)
        try:
            return structured.fitted(output, step)
        except TruncatedError:
            raise
        except StructuredOutputError as error:
            rejected.append(RejectedAnswer(step, error))
            structured.learn_from(error, step)
        step = step_after_answer(step, structured.shape, partly=structured.partly)
    failed = no_fitting_answer(rejected, structured.shape)
    structured.advise(failed)
    raise failed


async def stream_structured(call: Call, request: ChatRequest, send: Send) -> LLMOutput:
    """The streamed answer, validated.

    Deltas that were delivered cannot be taken back, so the next lower step is tried only if the
    server refuses the request. Raises StructuredOutputError for an answer that does not fit.
    """
    structured = StructuredCall(call, request)
    step, output = await structured.ask(await structured.first_step(), send, [])
    refuse_refusal(output)
    refuse_calls(output)
    try:
        return structured.fitted(output, step)
    except TruncatedError:
        raise
    except StructuredOutputError as error:
        structured.learn_from(error, step)
        structured.advise(error)
        raise


class StructuredCall:
    """The steps of one prompt at one server.

    ``partly`` says that the server is known to ignore a feature that the schema uses.
    """

    def __init__(self, call: Call, request: ChatRequest) -> None:
        self._call = call
        self._request = request
        self._server = server_of(call, request)
        self._strict = call.backend.schema_dialect == "openai_strict"
        self.shape = shape_of(request.output_model)
        self._ignored: frozenset[str] = frozenset()
        self._learn(call.backend.ignored_features)
        self.partly = bool(self._ignored)

    async def first_step(self) -> SchemaStep:
        """The step to begin with."""
        return possible_step(await first_step(self._call, self._server), self.shape)

    async def ask(
        self, step: SchemaStep, send: Send, rejected: list[RejectedAnswer]
    ) -> tuple[SchemaStep, LLMOutput]:
        """The answer at that step, or at the first lower step that the server accepts.

        If the server fails on a format (llama-cpp-python answers 500 to every schema), each lower
        format is tried once. If the server fails on that too, the format is not the cause.
        """
        refused: dict[SchemaStep, CallError] = {}
        crashed: CallError | None = None
        while True:
            step = self._accepted_step(step)
            last = rejected[-1] if rejected else None
            step_request = request_at(
                step, self._request, self.shape, last, strict=self._strict, partly=self.partly
            )
            try:
                output = await send(step_request, None if crashed is None else 0)
            except CallError as error:
                failed = error
            else:
                # The server accepts the rest of the request, so it was the format that it refused.
                self._remember(refused, step)
                return step, output
            lower = step_after_refusal(step, self.shape)
            crashes = may_crash_at_format(failed)
            if crashed is not None and (crashes or failed.retryable):
                raise interrupted(crashed, step, rejected, self.shape)
            if lower is None or not (crashes or _may_refuse_format(failed)):
                raise interrupted(failed, step, rejected, self.shape)
            crashed = crashed or (failed if crashes else None)
            refused[step] = failed
            step = lower

    def learn_from(self, error: StructuredOutputError, step: SchemaStep) -> None:
        """Remember the features that the answers break although the server got the schema."""
        if step == "json_schema" and not self._strict and error.partial is not None:
            for answer in error.partial.outputs:
                self._learn(broken_features(answer.text, self.shape.schema))

    def advise(self, error: StructuredOutputError) -> None:
        """Add to the error what the server is known to ignore, and what the user can do."""
        if self._ignored:
            error.advise(f"{self._server.url} does not enforce {_listed(self._ignored)}: {_ADVICE}")

    def _learn(self, features: frozenset[str]) -> None:
        """Remember features that the server ignores; warn once of each that the schema uses."""
        enforcement = self._call.backend.enforcement
        new = enforcement.learn_ignored(self._server, features & self.shape.features)
        self._ignored = enforcement.ignored(self._server) & self.shape.features
        if new:
            log.warning(
                "engine %r: %s with model %r accepts JSON schemas but does not enforce %s; such "
                "schemas are in the system message too, and every answer is validated: %s",
                self._call.config.name,
                self._server.url,
                self._server.model,
                _listed(new),
                _ADVICE,
            )

    def fitted(self, output: LLMOutput, step: SchemaStep) -> LLMOutput:
        """The output, validated; raises StructuredOutputError if it does not fit the model."""
        return fitted(output, self.shape, step, strict=self._strict)

    def _accepted_step(self, step: SchemaStep) -> SchemaStep:
        """The step, or the first lower step that the server is not known to refuse."""
        lower: SchemaStep | None = step
        while lower is not None and self._call.backend.enforcement.refuses(
            self._server, lower, self.shape
        ):
            step, lower = lower, step_after_refusal(lower, self.shape)
        return lower or step

    def _remember(self, refused: dict[SchemaStep, CallError], accepted: SchemaStep) -> None:
        for step, error in refused.items():
            if may_crash_at_format(error) and error.attempts == 1:
                continue  # one failure may have any cause
            if self._call.backend.enforcement.learn_refusal(self._server, step, self.shape):
                log.warning(
                    "engine %r: %s refuses %s for %s, so %s is used: %s",
                    self._call.config.name,
                    self._server.url,
                    step,
                    self.shape.name,
                    accepted,
                    error.label,
                )
                log.debug("the refusal: %s", error)


def _listed(features: frozenset[str]) -> str:
    return ", ".join(sorted(features))


def _may_refuse_format(error: CallError) -> bool:
    """Whether the server may accept the same prompt in another format."""
    if error.final or isinstance(error, ContextLengthError):
        return False
    return isinstance(error, BadRequestError)


def server_of(call: Call, request: ChatRequest, field: Field = "response_format") -> Server:
    """The key under which the verdict on this call's server is kept."""
    extra = to_json(call.config.extra_body).decode()
    return Server(call.connection.urls.chat, request.model, field, request.reasoning, extra)


async def require_enforcement(call: Call, request: ChatRequest) -> None:
    """Raise StructuredOutputError if the server would ignore the ``structured_outputs``.

    An answer does not show whether a regex or a grammar was enforced. So the server is probed once,
    unless the backend trusts its server or the configuration names a step. A schema must not use a
    feature that the server is known to ignore.
    """
    if call.config.structured != "auto":
        return
    _refuse_ignored(call, request)
    if call.backend.trusts_schema:
        return
    server = server_of(call, request, "structured_outputs")
    verdict = call.backend.enforcement.verdict_on(server) or await _shared_probe(call, server)
    if verdict is not None and verdict.enforced is False:
        raise StructuredOutputError(
            f"engine {call.config.name!r}: {server.url}: {verdict.reason}; give an output_model, "
            "which is validated, or use vLLM"
        )


def _refuse_ignored(call: Call, request: ChatRequest) -> None:
    """Raise StructuredOutputError for a schema with a feature that the server ignores."""
    schema = (request.sampling.structured_outputs or {}).get("json")
    if isinstance(schema, str):
        try:
            schema = from_json(schema)
        except ValueError:
            return  # the server says what is wrong with it
    if not isinstance(schema, Mapping):
        return
    server = server_of(call, request)
    known = call.backend.ignored_features | call.backend.enforcement.ignored(server)
    if ignored := features_of(schema) & known:
        raise StructuredOutputError(
            f"engine {call.config.name!r}: {server.url} accepts JSON schemas but does not enforce "
            f"{_listed(ignored)}; give an output_model, which is validated, or leave it out"
        )


async def first_step(call: Call, server: Server) -> SchemaStep:
    """The first step of the ladder: the configured step, or the step that the probe found."""
    backend = call.backend
    if call.config.structured != "auto":
        return call.config.structured
    if Capability.JSON_SCHEMA not in backend.capabilities:
        return "json_object" if Capability.JSON_OBJECT in backend.capabilities else "prompt"
    if backend.trusts_schema:
        return "json_schema"
    verdict = backend.enforcement.verdict_on(server) or await _shared_probe(call, server)
    # Without a verdict the schema is sent too, since the answer is validated in any case.
    return verdict.first if verdict is not None else "json_schema"


async def _shared_probe(call: Call, server: Server) -> Enforcement | None:
    """The verdict of the probe of that server, which only the first caller starts."""
    running = call.backend.enforcement.probes.setdefault(call.connection.loop, {})
    task = running.get(server)
    if task is None:
        task = running[server] = asyncio.create_task(_probe(call, server))
        task.add_done_callback(lambda _: running.pop(server, None))
    return await asyncio.shield(task)


async def _probe(call: Call, server: Server) -> Enforcement | None:
    """The verdict, which is also cached; None if the server could not be probed."""
    with call.usage(_probe_request(call, server, BUDGETS[0], server.field)) as usage:
        try:
            enforced, reason = await _examine(call, server, usage)
        except CallError as error:
            usage.close(error=error)
            log.info(
                "engine %r: could not probe %s: %s", call.config.name, server.field, error.label
            )
            return None
        usage.close()
    first: SchemaStep = "json_object" if enforced is False else "json_schema"
    verdict = Enforcement(first, enforced, reason, usage.attempts, usage.usage)
    call.backend.enforcement.learn(server, verdict)
    _log_verdict(call.config.name, server, verdict)
    return verdict


async def _examine(call: Call, server: Server, usage: CallUsage) -> tuple[bool | None, str]:
    """Whether the constraint is enforced, or None if that is unknown; and the reason.

    Raises CallError if the server could not be probed.
    """
    many, one = _CONSTRAINT_NAMES[server.field]
    for budget in BUDGETS:
        try:
            output = await _send_probe(call, server, usage, budget)
        except BadRequestError as refusal:
            return await _judge_refusal(call, server, usage, refusal)
        except InternalServerError as crash:
            if not may_crash_at_format(crash):
                raise
            answer = await _after_crash(call, server, usage, budget)
            if answer is None:
                return False, f"it fails on {many}: {crash}"
            output = answer
        judgement = judgement_of(output)
        if judgement == "enforced":
            return True, f"it enforces {many}"
        if judgement == "ignored":
            text = output.outputs[0].text[:_MAX_QUOTED]
            return False, f"it accepts {one} but does not enforce it: {text!r}"
    return None, f"the probe was not answered within {BUDGETS[-1]} tokens"


async def _judge_refusal(
    call: Call, server: Server, usage: CallUsage, refusal: BadRequestError
) -> tuple[bool | None, str]:
    """What a refused probe means, which the same request without the constraint shows."""
    many, one = _CONSTRAINT_NAMES[server.field]
    try:
        await call.exchange(_probe_request(call, server, BUDGETS[0], None), usage, max_retries=0)
    except BadRequestError:
        return None, f"it refuses the probe, with and without {one}: {refusal}"
    return False, f"it refuses {many}: {refusal}"


async def _after_crash(
    call: Call, server: Server, usage: CallUsage, max_tokens: int
) -> LLMOutput | None:
    """The answer after a 500; None if the server fails only with the constraint.

    Raises the CallError if the server fails without the constraint too.
    """
    await call.exchange(_probe_request(call, server, max_tokens, None), usage, max_retries=0)
    try:
        return await _send_probe(call, server, usage, max_tokens, max_retries=_CRASH_RETRIES)
    except InternalServerError:
        return None


def may_crash_at_format(error: CallError) -> bool:
    """Whether the failure may be a server's answer to a format that it does not support.

    A gateway's 502 and 504, and a busy server's 503, do not depend on the request.
    """
    return (
        isinstance(error, InternalServerError) and error.status == _CRASH_STATUS and not error.final
    )


async def _send_probe(
    call: Call, server: Server, usage: CallUsage, max_tokens: int, max_retries: int = 0
) -> LLMOutput:
    step_request = _probe_request(call, server, max_tokens, server.field)
    return await call.exchange(step_request, usage, max_retries=max_retries)


def _probe_request(call: Call, server: Server, max_tokens: int, field: Field | None) -> ChatRequest:
    return probe_request(
        server.model,
        server.reasoning,
        call.config.extra_body,
        max_tokens=max_tokens,
        field=field,
    )


def _log_verdict(engine: str, server: Server, verdict: Enforcement) -> None:
    """Log one line per server: a warning unless the constraint is enforced."""
    log.log(
        logging.INFO if verdict.enforced else logging.WARNING,
        "engine %r: %s with model %r: %s%s (probe: %d requests, %s tokens)",
        engine,
        server.url,
        server.model,
        verdict.reason,
        f"; structured output starts with {verdict.first}"
        if server.field == "response_format"
        else "",
        verdict.requests,
        (verdict.usage and verdict.usage.total_tokens) or "unknown",
    )
