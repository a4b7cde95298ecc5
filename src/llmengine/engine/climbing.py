"""Driving the ladder of structured output: asking step by step until an answer fits."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from llmengine.engine.probes import first_step, may_crash_at_format, server_of
from llmengine.structured.enforcement import learn_refusal, refuses
from llmengine.structured.ladder import (
    Misfit,
    after_misfit,
    after_refusal,
    broken_off,
    exhausted,
    possible,
    request_at,
)
from llmengine.structured.schema import shape_of
from llmengine.structured.validation import fitted, refuse_calls, refuse_refusal
from llmengine.types.errors import (
    BadRequestError,
    CallError,
    ContextLengthError,
    StructuredOutputError,
    TruncatedError,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from llmengine.engine.calls import Call
    from llmengine.engine.tally import Tally
    from llmengine.structured.ladder import SchemaStep
    from llmengine.types.outputs import LLMOutput
    from llmengine.types.request import ChatRequest

    # Sends a request, in as many attempts as the retries allow.
    Send = Callable[[ChatRequest, int | None], Awaitable[LLMOutput]]

log = logging.getLogger("llmengine")


async def climb(call: Call, request: ChatRequest, tally: Tally) -> LLMOutput:
    """The answer that fits the output model, from the first step that gives one.

    Raises TruncatedError at once for an answer that was cut, since the next would be too,
    RefusedError at once for one that the model declines to give, and StructuredOutputError with
    all that was tried at the end of the ladder.
    """

    async def send(asked: ChatRequest, max_retries: int | None) -> LLMOutput:
        return await call.exchange(asked, tally, max_retries)

    climber = Climber(call, request)
    misfits: list[Misfit] = []
    step: SchemaStep | None = await climber.first_step()
    while step is not None:
        step, output = await climber.ask(step, send, misfits)
        refuse_refusal(output)
        refuse_calls(output)
        try:
            return climber.fitted(output, step)
        except TruncatedError:
            raise
        except StructuredOutputError as error:
            misfits.append(Misfit(step, error))
        step = after_misfit(step, climber.shape)
    raise exhausted(misfits, climber.shape)


async def climb_stream(call: Call, request: ChatRequest, send: Send) -> LLMOutput:
    """The streamed answer, validated.

    What was delivered cannot be taken back, so only a request that the server does not take is
    followed by one a step below. Raises StructuredOutputError for an answer that does not fit.
    """
    climber = Climber(call, request)
    step, output = await climber.ask(await climber.first_step(), send, [])
    refuse_refusal(output)
    refuse_calls(output)
    return climber.fitted(output, step)


class Climber:
    """One prompt on the ladder at one server."""

    def __init__(self, call: Call, request: ChatRequest) -> None:
        self._call = call
        self._request = request
        self._server = server_of(call, request)
        self._strict = call.engine.schema_dialect == "openai_strict"
        self.shape = shape_of(request.output_model)

    async def first_step(self) -> SchemaStep:
        """Where to begin."""
        return possible(await first_step(self._call, self._server), self.shape)

    async def ask(
        self, step: SchemaStep, send: Send, misfits: list[Misfit]
    ) -> tuple[SchemaStep, LLMOutput]:
        """The answer at that step, or at the first one below that the server takes.

        A server that fails at a format (llama-cpp-python: 500 for every schema) is asked once for
        each format below; if it fails there too, it is the server and not the format.
        """
        refused: dict[SchemaStep, CallError] = {}
        crashed: CallError | None = None
        while True:
            step = self._taken(step)
            last = misfits[-1] if misfits else None
            asked = request_at(step, self._request, self.shape, last, strict=self._strict)
            try:
                output = await send(asked, None if crashed is None else 0)
            except CallError as error:
                failed = error
            else:
                # Only now is it known that the format was refused, and not all the rest.
                self._remember(refused, step)
                return step, output
            lower = after_refusal(step, self.shape)
            crashes = may_crash_at_format(failed)
            if crashed is not None and (crashes or failed.retryable):
                raise broken_off(crashed, step, misfits, self.shape)
            if lower is None or not (crashes or _may_refuse_format(failed)):
                raise broken_off(failed, step, misfits, self.shape)
            crashed = crashed or (failed if crashes else None)
            refused[step] = failed
            step = lower

    def fitted(self, output: LLMOutput, step: SchemaStep) -> LLMOutput:
        """The output, held against the output model; StructuredOutputError if it does not fit."""
        return fitted(output, self.shape, step, strict=self._strict)

    def _taken(self, step: SchemaStep) -> SchemaStep:
        """The step, or the first below it that the server is not known to refuse."""
        lower: SchemaStep | None = step
        while lower is not None and refuses(self._server, lower, self.shape):
            step, lower = lower, after_refusal(lower, self.shape)
        return lower or step

    def _remember(self, refused: dict[SchemaStep, CallError], taken: SchemaStep) -> None:
        for step, error in refused.items():
            if may_crash_at_format(error) and error.attempts == 1:
                continue  # one crash may have had any cause
            if learn_refusal(self._server, step, self.shape):
                log.warning(
                    "engine %r: %s refuses %s for %s, so %s is used: %s",
                    self._call.engine.name,
                    self._server.url,
                    step,
                    self.shape.name,
                    taken,
                    error.label,
                )
                log.debug("it says: %s", error)


def _may_refuse_format(error: CallError) -> bool:
    """Whether the same question in another format may be taken."""
    if error.final or isinstance(error, ContextLengthError):
        return False
    return isinstance(error, BadRequestError)
