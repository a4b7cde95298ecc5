"""Checks of chat.stream.tool: the fragments of a streamed tool call."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import (
    Chunks,
    arguments_by_index,
    finish_reasons,
    fragments,
    pick,
    stream_chat,
    text,
)
from pytest_llmengine.contract.facts import STRICT_DROPPED
from pytest_llmengine.contract.outcomes import Unmeasured, expect, expect_effect, fail, quote
from pytest_llmengine.contract.registry import CORE, EXPECTED, EXTENDED, REQUIRED, check
from pytest_llmengine.contract.samples import (
    ASK_BOTH,
    ASK_WEATHER,
    CALL_TOKENS,
    JSON,
    TIME,
    WEATHER,
)

if TYPE_CHECKING:
    from pytest_llmengine.contract.target import Target

rule = partial(check, group="chat.stream.tools")

SPEC = "openai-openapi: ChatCompletionMessageToolCallChunk"
NEEDS = {Capability.STREAMING, Capability.TOOLS}


@rule("chat.stream.tool.index_int", level=REQUIRED, tier=CORE, source=f"{SPEC}.index", needs=NEEDS)
def index_int(target: Target) -> None:
    """Every fragment of a tool call has an integer index.

    The openai SDK joins fragments by index, and fails without one.
    """
    for fragment in fragments(_called(target, ASK_WEATHER, WEATHER)):
        pick(fragment, int, "index")


@rule(
    "chat.stream.tool.first_has_id_name",
    level=EXPECTED,
    tier=EXTENDED,
    source="OpenAI docs: guides/function-calling: observed, id and name come in the first fragment",
    needs=NEEDS,
)
def first_has_id_name(target: Target) -> None:
    """The first fragment of a tool call has its id, type and name, and later ones no new id.

    A client that joins fragments makes a second call of a new id, or one without a name.
    """
    first, *later = fragments(_called(target, ASK_WEATHER, WEATHER))
    expect(pick(first, str, "id"), f"the first fragment's id is empty: {quote(first)}")
    expect(pick(first, str, "type") == "function", f"the type is {first['type']!r}")
    name = pick(first, str, "function", "name")
    expect(name == "get_weather", f"the name is {name!r}")
    others = {f.get("id") for f in later if f.get("index") == first.get("index")}
    expect(others <= {None, "", first["id"]}, f"one call has several ids: {quote(list(others))}")


@rule(
    "chat.stream.tool.args_concat_json",
    level=EXPECTED,
    tier=EXTENDED,
    source="openai-openapi: ChatCompletionMessageToolCallChunk.function.arguments",
    needs=NEEDS,
)
def args_concat_json(target: Target) -> None:
    """The fragments of the arguments join to the JSON object that the schema asks for.

    `json.loads` of the joined arguments raises at the end of the stream.
    """
    for joined in arguments_by_index(_called(target, ASK_WEATHER, WEATHER)).values():
        try:
            value = json.loads(joined)
        except (ValueError, RecursionError):
            fail(f"the joined arguments are not JSON: {joined!r}")
        expect_effect(
            value == {"city": "Paris"}, f"strict was accepted: {quote(joined)}", fact=STRICT_DROPPED
        )


@rule(
    "chat.stream.tool.parallel_index",
    level=EXPECTED,
    tier=EXTENDED,
    source=f"{SPEC}.index; BerriAI/litellm#37792",
    needs=NEEDS,
)
def parallel_index(target: Target) -> None:
    """Several calls in one answer have several indexes, each with one id.

    The arguments of two calls are joined to one text that is not JSON.
    """
    chunks = _called(target, ASK_BOTH, WEATHER, TIME)
    calls = {(f.get("index"), f["id"]) for f in fragments(chunks) if f.get("id")}
    if len(calls) < 2:
        raise Unmeasured("the model made one call where two were asked for")
    indexes = sorted(pick({"index": index}, int, "index") for index, _ in calls)
    expect(indexes == list(range(len(calls))), f"{len(calls)} calls have the indexes {indexes}")


@rule(
    "chat.stream.tool.finish_reason",
    level=EXPECTED,
    tier=EXTENDED,
    source="vllm-project/vllm#25054: OpenAI observed, required and auto end with tool_calls",
    needs=NEEDS,
)
def finish_reason(target: Target) -> None:
    """A stream with a tool call ends with the finish reason tool_calls.

    A loop that runs tools while the finish reason is tool_calls ends before the first one.
    """
    reasons = finish_reasons(_called(target, ASK_WEATHER, WEATHER))
    expect(reasons == ["tool_calls"], f"the finish reasons are {reasons}")


def _called(target: Target, prompt: str, *tools: JSON) -> Chunks:
    """A stream with a required tool call; unmeasured if there is no call."""
    chunks = stream_chat(
        target, prompt, tools=list(tools), tool_choice="required", max_tokens=CALL_TOKENS
    )
    if not fragments(chunks):
        raise Unmeasured(f"no tool call to look at; the model said {text(chunks)!r}")
    return chunks
