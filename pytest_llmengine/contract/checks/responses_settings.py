"""Checks of resp.echo and resp.invalid: settings are repeated, and bad ones are refused."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import create_response, respond
from pytest_llmengine.contract.facts import (
    EFFORT_ACCEPTED,
    OBFUSCATION_DROPPED,
    OPTIONS_ALONE,
    UNKNOWN_TOOL,
    either,
    fields_dropped,
    lost_from,
)
from pytest_llmengine.contract.outcomes import Ignored, Unmeasured, fail, quote
from pytest_llmengine.contract.registry import EXPECTED, EXTENDED, OPTIONAL, REQUIRED, check
from pytest_llmengine.contract.response_assertions import (
    MODES,
    WEATHER_TOOL,
    answer,
    mode,
    turned_down,
)
from pytest_llmengine.contract.samples import COLOUR_SCHEMA, JSON

if TYPE_CHECKING:
    from pytest_llmengine.contract.reply import Reply
    from pytest_llmengine.contract.target import Target

NEEDS = {Capability.RESPONSES}
SINCE = "2026-11-27"
_SPEC = "openai-openapi: Response"
# The settings that the schema of a response requires; a response may leave out the others.
_REQUIRED = {
    "instructions",
    "metadata",
    "parallel_tool_calls",
    "temperature",
    "tool_choice",
    "tools",
    "top_p",
}


class Echo(NamedTuple):
    """A setting and its value, which is not the default; ``more`` is sent with it.

    ``only_sign`` says that nothing else shows whether the server has read the setting.
    """

    value: object
    only_sign: bool = False
    more: JSON | None = None


_FORMAT = {"type": "json_schema", "name": "colour", "strict": True, "schema": COLOUR_SCHEMA}
ECHOES: dict[str, Echo] = {
    "instructions": Echo("Be brief."),
    "max_output_tokens": Echo(17),
    "max_tool_calls": Echo(3, only_sign=True),
    "metadata": Echo({"purpose": "contract"}, only_sign=True),
    "parallel_tool_calls": Echo(value=False, more={"tools": [WEATHER_TOOL]}),
    "prompt_cache_key": Echo("contract", only_sign=True),
    "prompt_cache_options": Echo({"mode": "explicit"}, only_sign=True),
    "prompt_cache_retention": Echo("24h", only_sign=True),
    "reasoning": Echo({"effort": "low"}),
    "safety_identifier": Echo("contract", only_sign=True),
    "service_tier": Echo("default", only_sign=True),
    "temperature": Echo(0.5),
    "text": Echo({"format": _FORMAT, "verbosity": "low"}),
    "tool_choice": Echo("none", more={"tools": [WEATHER_TOOL]}),
    "tools": Echo([WEATHER_TOOL], more={"tool_choice": "none"}),
    "top_logprobs": Echo(2, more={"include": ["message.output_text.logprobs"]}),
    "top_p": Echo(0.5, more={"temperature": 1}),  # it has no meaning without sampling
    "truncation": Echo("auto"),
    "user": Echo("contract", only_sign=True),
}


def _echo(name: str, echo: Echo, target: Target) -> None:
    for stream in MODES:
        body = answer(target, stream=stream, **{name: echo.value, **(echo.more or {})})
        if name not in body:
            if name in _REQUIRED:
                fail(f"the response has no {name}", fact=lost_from("response", [name]))
            raise Unmeasured(f"the response has no {name}, so it does not show what was read")
        if repeats(body[name], echo.value):
            continue
        what = f"{mode(stream)}: {name}={quote(echo.value)}"
        said = f"the response says {quote(body[name])}"
        if echo.only_sign:
            raise Ignored(f"{what} was accepted, and {said}", fact=f"{name} is dropped")
        fail(f"{what} was asked for, and {said}")


def repeats(given: object, wanted: object) -> bool:
    """Whether a value is the wanted one; objects may have more keys, because defaults are added."""
    if isinstance(wanted, dict):
        return isinstance(given, dict) and all(
            key in given and repeats(given[key], value) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(given, list)
            and len(given) == len(wanted)
            and all(map(repeats, given, wanted))
        )
    return isinstance(given, bool) is isinstance(wanted, bool) and given == wanted


for _name, _row in ECHOES.items():
    check(
        f"resp.echo.{_name}",
        group="responses.settings",
        title=f"A response repeats the setting {_name} of its request, whole and streamed.",
        breaks=f"A client that reads {_name} of a response sees a setting that was not asked for.",
        level=REQUIRED if _name in _REQUIRED else EXPECTED,
        tier=EXTENDED,
        source=f"{_SPEC}.{_name}",
        since=SINCE,
        needs=NEEDS,
    )(partial(_echo, _name, _row))


# ---- settings with a value that OpenAI refuses


class Invalid(NamedTuple):
    """A value of a field that must be refused, and what it is; 404 is for names that are unknown.

    ``more`` is sent with it.
    """

    field: str
    value: object
    what: str
    status: int = 400
    more: JSON | None = None

    @property
    def params(self) -> JSON:
        """The parameters of the request."""
        name, _, inner = self.field.partition(".")
        return {name: {inner: self.value} if inner else self.value, **(self.more or {})}


_UNKNOWN_TOOL = {"type": "function", "name": "contract_unknown"}
INVALID = {
    "conversation": Invalid("conversation", "conv_unknown", "an unknown conversation", 404),
    "previous_response_id": Invalid(
        "previous_response_id", "resp_unknown", "an unknown previous response", 404
    ),
    "prompt": Invalid("prompt", {"id": "pmpt_unknown"}, "an unknown prompt", 404),
    "context_management": Invalid("context_management", [], "an empty context management"),
    "moderation": Invalid("moderation", {}, "a moderation without a model"),
    "include": Invalid("include", ["everything"], "an unknown thing to include"),
    "metadata": Invalid("metadata", {"n": 1}, "metadata with a number"),
    "service_tier": Invalid("service_tier", "first", "an unknown service tier"),
    "truncation": Invalid("truncation", "sometimes", "an unknown truncation"),
    "cache_retention": Invalid("prompt_cache_retention", "forever", "an unknown cache retention"),
    "effort": Invalid("reasoning.effort", "gigantic", "an unknown effort"),
    "summary": Invalid("reasoning.summary", "endless", "an unknown summary"),
    "verbosity": Invalid("text.verbosity", "endless", "an unknown verbosity"),
    "format": Invalid("text.format", {"type": "yaml"}, "an unknown format"),
    "tool_choice": Invalid(
        "tool_choice", _UNKNOWN_TOOL, "a choice of no known tool", more={"tools": [WEATHER_TOOL]}
    ),
}


def _refuses(row: Invalid, target: Target) -> None:
    respond(target)
    for stream in MODES:
        reply = create_response(target, stream=stream, **row.params)
        what = f"{mode(stream)}: {row.what}"
        turned_down(reply, what, row.status, fact=_cause_of_200(row, reply, stream=stream))


def _cause_of_200(row: Invalid, reply: Reply, *, stream: bool) -> str:
    """Why a bad value was accepted: a response that does not name its field shows that."""
    name = row.field.partition(".")[0]
    if name == "tool_choice":
        return UNKNOWN_TOOL
    unknown = reply.ok and not stream and name not in reply.object()
    shown = fields_dropped("/responses") if unknown else f"{row.what} is accepted"
    of_chat = [EFFORT_ACCEPTED] if row.field == "reasoning.effort" else []
    return either(*of_chat, shown, f"{row.field} is dropped")


for _name, _invalid in INVALID.items():
    check(
        f"resp.invalid.{_name}",
        group="responses.settings",
        title=f"A request with {_invalid.what} is refused, whole and streamed.",
        breaks="A client with a typo or an unsupported setting gets an answer without it.",
        level=OPTIONAL if _invalid.status == 404 else REQUIRED,
        tier=EXTENDED,
        source=f"openai-openapi: CreateResponse.{_invalid.field}",
        since=SINCE,
        needs=NEEDS,
    )(partial(_refuses, _invalid))


@check(
    "resp.invalid.item_reference",
    group="responses.settings",
    level=OPTIONAL,
    tier=EXTENDED,
    source="openai-openapi: ItemReferenceParam",
    since=SINCE,
    needs=NEEDS,
    breaks="The model answers without the items that the client refers to.",
)
def unknown_item_reference(target: Target) -> None:
    """A request with a reference to an unknown item is refused, whole and streamed."""
    respond(target)
    reference = {"type": "item_reference", "id": "msg_unknown"}
    given = [{"role": "user", "content": "Hi"}, reference]
    for stream in MODES:
        body = {"model": target.model, "input": given, "max_output_tokens": 16, "stream": stream}
        what = f"{mode(stream)}: a reference to an unknown item"
        reply = target.post("/responses", body)
        turned_down(reply, what, 404, fact="item_reference items are dropped")


@check(
    "resp.invalid.stream_options",
    group="responses.settings",
    level=EXPECTED,
    tier=EXTENDED,
    source="openai-openapi: CreateResponse.stream_options",
    since=SINCE,
    needs=NEEDS,
    breaks="A client that forgot to stream does not learn that its options are not used.",
)
def stream_options_without_stream(target: Target) -> None:
    """stream_options without stream is refused."""
    respond(target)
    reply = create_response(target, stream_options={"include_obfuscation": True})
    cause = either(OPTIONS_ALONE, OBFUSCATION_DROPPED)
    turned_down(reply, "stream_options without stream", fact=cause)
