"""Checks of refusal.prose: values that the prose of the specification rules out are refused.

The schemas do not say so, and therefore the tables of `refusal_values` do not have these values.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import objects, rejected
from pytest_llmengine.contract.facts import (
    BEST_OF_NOT_COUNTED,
    FORMAT_DROPPED,
    TOOLS_DROPPED,
    either,
)
from pytest_llmengine.contract.outcomes import Lenient
from pytest_llmengine.contract.registry import EXPECTED, EXTENDED, check
from pytest_llmengine.contract.samples import COLOUR_SCHEMA, WEATHER, constrained_to

if TYPE_CHECKING:
    from pytest_llmengine.contract.target import Target

JSON = dict[str, Any]
BAD_NAME = "a name with spaces!"


def _renamed_format() -> JSON:
    wanted = constrained_to(COLOUR_SCHEMA)
    return {**wanted, "json_schema": {**wanted["json_schema"], "name": BAD_NAME}}


class RuledOut(NamedTuple):
    """A valid body, and the change that the prose rules out.

    A server that drops a field, as in the fact ``dropped``, does not see the change. A server that
    answers a ``harmless`` change does all that was asked, so it is lenient.
    """

    title: str
    what: str
    path: str
    valid: JSON
    change: JSON
    needs: Capability
    source: str
    breaks: str
    dropped: str
    harmless: bool = False


CHAT: JSON = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 2}
COMPLETION: JSON = {"prompt": "Hello", "max_tokens": 2, "temperature": 1, "best_of": 2}
TABLE = {
    "tools.name.invalid": RuledOut(
        "A function whose name has a space is refused.",
        f"a function with the name {BAD_NAME!r}",
        "/chat/completions",
        {**CHAT, "tools": [WEATHER]},
        {"tools": [{**WEATHER, "function": {**WEATHER["function"], "name": BAD_NAME}}]},
        Capability.TOOLS,
        "openai-openapi: FunctionObject.name",
        "A program whose tools have such names works here and is refused by OpenAI.",
        TOOLS_DROPPED,
        harmless=True,
    ),
    "struct.name.invalid": RuledOut(
        "A schema whose name has a space is refused.",
        f"a schema with the name {BAD_NAME!r}",
        "/chat/completions",
        {**CHAT, "response_format": constrained_to(COLOUR_SCHEMA)},
        {"response_format": _renamed_format()},
        Capability.JSON_SCHEMA,
        "openai-openapi: ResponseFormatJsonSchema: json_schema.name",
        "A program whose schemas have such names works here and is refused by OpenAI.",
        FORMAT_DROPPED,
        harmless=True,
    ),
    "comp.best_of.range": RuledOut(
        "A best_of below n is refused.",
        "best_of=2 with n=3",
        "/completions",
        COMPLETION,
        {"n": 3},
        Capability.COMPLETIONS,
        "openai-openapi: CreateCompletionRequest.best_of",
        "A client that asked for n answers gets fewer, and no error.",
        BEST_OF_NOT_COUNTED,
    ),
    "comp.best_of.stream": RuledOut(
        "A best_of above 1 in a stream is refused.",
        "best_of=2 in a stream",
        "/completions",
        COMPLETION,
        {"stream": True},
        Capability.COMPLETIONS,
        "openai-openapi: CreateCompletionRequest.best_of: results cannot be streamed",
        "The stream has an answer that is not the best one.",
        BEST_OF_NOT_COUNTED,
    ),
}


def _is_refused(row: RuledOut, target: Target) -> None:
    valid = {"model": target.model, **row.valid}
    objects(target.post(row.path, valid).success_or_refused(), "choices")
    fact = either(f"{row.what} is accepted", row.dropped)
    reply = target.post(row.path, valid | row.change)
    if row.harmless and reply.ok:
        objects(reply.success(), "choices")
        raise Lenient(f"{row.what} was accepted", fact=fact)
    rejected(reply, row.what, fact=fact)


for _id, _row in TABLE.items():
    check(
        _id,
        level=EXPECTED,
        tier=EXTENDED,
        source=_row.source,
        needs={_row.needs},
        group="refusal.prose",
        title=_row.title,
        breaks=_row.breaks,
        since="2026-11-27",
    )(partial(_is_refused, _row))
