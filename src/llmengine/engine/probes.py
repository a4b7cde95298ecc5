"""Finding out, once a server, whether it enforces the schemas that it takes."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from pydantic_core import to_json

from llmengine.structured.probe import BUDGETS, judged, question
from llmengine.structured.verdicts import Server, Verdict, learn, verdict_on
from llmengine.values.capabilities import Capability
from llmengine.values.errors import BadRequestError, CallError

if TYPE_CHECKING:
    from llmengine.engine.calls import Call
    from llmengine.engine.tally import Tally
    from llmengine.structured.ladder import Step
    from llmengine.transport.background import Background
    from llmengine.values.outputs import LLMOutput
    from llmengine.values.request import ChatRequest

log = logging.getLogger("llmengine")

_SHOWN = 100

# Probes under way; a loop that has ended, or that a fork left behind, takes its own along.
_running: WeakKeyDictionary[Background, dict[Server, asyncio.Task[Verdict | None]]] = (
    WeakKeyDictionary()
)


def server_of(call: Call, request: ChatRequest) -> Server:
    """What a verdict on this call's server is kept under."""
    extra = to_json(call.engine.config.extra_body).decode()
    return Server(call.url, request.model, request.reasoning, extra)


async def first_step(call: Call, server: Server) -> Step:
    """The step that the ladder starts with: the configured one, or what the probe found."""
    engine = call.engine
    if engine.config.structured != "auto":
        return engine.config.structured
    if Capability.JSON_SCHEMA not in engine.capabilities:
        return "json_object" if Capability.JSON_OBJECT in engine.capabilities else "prompt"
    if engine.trusts_schema:
        return "json_schema"
    verdict = verdict_on(server) or await _shared_probe(call, server)
    # Without a verdict the schema is sent as well: the answer is validated in any case.
    return verdict.first if verdict is not None else "json_schema"


async def _shared_probe(call: Call, server: Server) -> Verdict | None:
    """The verdict of the one probe of that server that is under way; the first caller starts it."""
    running = _running.setdefault(call.loop, {})
    task = running.get(server)
    if task is None:
        task = running[server] = asyncio.create_task(_probe(call, server))
        task.add_done_callback(lambda _: running.pop(server, None))
    return await asyncio.shield(task)


async def _probe(call: Call, server: Server) -> Verdict | None:
    """The verdict, kept from now on; None if the server could not be asked."""
    with call.tally(_question(call, server, BUDGETS[0])) as tally:
        try:
            enforced, reason = await _examine(call, server, tally)
        except CallError as error:
            tally.close(error=error)
            log.info("engine %r: no probe of schemas: %s", call.engine.name, error.label)
            return None
        tally.close()
    first: Step = "json_object" if enforced is False else "json_schema"
    verdict = Verdict(first, enforced, reason, tally.attempts, tally.usage)
    learn(server, verdict)
    _tell(call.engine.name, server, verdict)
    return verdict


async def _examine(call: Call, server: Server, tally: Tally) -> tuple[bool | None, str]:
    """Whether schemas are enforced (None: not to be seen) and what shows it.

    Raises CallError if the server could not be asked.
    """
    for budget in BUDGETS:
        try:
            output = await _ask(call, server, tally, budget)
        except BadRequestError as refusal:
            return await _compare(call, server, tally, refusal)
        judgement = judged(output)
        if judgement == "enforced":
            return True, "it enforces JSON schemas"
        if judgement == "ignored":
            text = output.outputs[0].text[:_SHOWN]
            return False, f"it takes a JSON schema and does not enforce it: {text!r}"
    return None, f"the probe was not answered within {BUDGETS[-1]} tokens"


async def _compare(
    call: Call, server: Server, tally: Tally, refusal: BadRequestError
) -> tuple[bool | None, str]:
    """What a refused probe means, by the same request without the schema."""
    try:
        await _ask(call, server, tally, BUDGETS[0], with_schema=False)
    except BadRequestError:
        return None, f"it refuses the probe, with and without a schema: {refusal}"
    return False, f"it refuses JSON schemas: {refusal}"


async def _ask(
    call: Call, server: Server, tally: Tally, max_tokens: int, *, with_schema: bool = True
) -> LLMOutput:
    asked = _question(call, server, max_tokens, with_schema=with_schema)
    return await call.exchange(asked, tally, max_retries=0)


def _question(
    call: Call, server: Server, max_tokens: int, *, with_schema: bool = True
) -> ChatRequest:
    return question(
        server.model,
        server.reasoning,
        call.engine.config.extra_body,
        max_tokens=max_tokens,
        with_schema=with_schema,
    )


def _tell(engine: str, server: Server, verdict: Verdict) -> None:
    """One line a server: a warning unless all is as it should be."""
    log.log(
        logging.INFO if verdict.enforced else logging.WARNING,
        "engine %r: %s with model %r: %s; structured output starts with %s "
        "(probe: %d requests, %s tokens)",
        engine,
        server.url,
        server.model,
        verdict.reason,
        verdict.first,
        verdict.requests,
        (verdict.usage and verdict.usage.total_tokens) or "unknown",
    )
