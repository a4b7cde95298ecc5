"""Checks of tools that count calls: wrong ones, strict schemas, and streams that equal wholes.

A model may be wrong once in ten calls, so one call shows little. What a server promises it keeps
in every call: valid JSON and known names, and the schema of a strict tool.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from llmengine.types.request import Capability
from pytest_llmengine.contract.outcomes import Unmeasured, expect, quote
from pytest_llmengine.contract.registry import EXPECTED, EXTENDED, QUIRK, check
from pytest_llmengine.contract.samples import (
    ASK_BOTH,
    ASK_TIME,
    ASK_WEATHER,
    ESCAPES,
    JSON,
    PING,
    ROUTE,
    TIME,
    WEATHER,
    WORD,
    function,
    named,
    object_of,
    saving,
)
from pytest_llmengine.contract.tool_answer import (
    ALL_CLASSES,
    INVALID_JSON,
    CallCount,
    ask,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmengine.contract.target import Target

rule = partial(check, group="tools.counted", tier=EXTENDED, since="2026-11-27")

NEEDS = {Capability.TOOLS}
STREAMED = {*NEEDS, Capability.STREAMING}
SPEC = "openai-openapi: ChatCompletionMessageToolCall.function.arguments"
STRICT_SPEC = "openai-openapi: FunctionObject.strict"


# ---- tools.rate: ten calls in each mode

CITIES = ["Rome", "Oslo", "Lima", "Cairo", "Delhi", "Quito", "Tokyo", "Berne", "Accra", "Paris"]
ASK_CITY = "What is the weather in {}? Call the tool."
ASK_CITY_AND_TIME = "What is the weather in {}, and what time is it in UTC? Call both tools."
FREE_WEATHER = function(
    "get_weather", "The weather of a city.", {"city": {"type": "string"}}, strict=False
)
CALLS_NEEDED = 3


class CallMode(NamedTuple):
    """A way to ask for calls, and the classes of wrong calls that the server rules out."""

    name: str
    what: str
    prompt: str
    tools: Sequence[JSON]
    params: JSON
    promised: Sequence[str]


MODES = (
    CallMode(
        "required", "required", ASK_CITY, (WEATHER, TIME), {"tool_choice": "required"}, ALL_CLASSES
    ),
    CallMode(
        "named", "named", ASK_CITY, (WEATHER, TIME), {"tool_choice": named(WEATHER)}, ALL_CLASSES
    ),
    CallMode("strict", "strict", ASK_CITY, (WEATHER, TIME), {"tool_choice": "auto"}, ALL_CLASSES),
    CallMode("auto", "free", ASK_CITY, (FREE_WEATHER,), {"tool_choice": "auto"}, ()),
    CallMode("parallel", "parallel", ASK_CITY_AND_TIME, (WEATHER, TIME), {}, ALL_CLASSES),
)


def _rate(target: Target, mode: CallMode, *, stream: bool) -> str:
    answers = []
    for seed, city in enumerate(CITIES):
        answer = ask(
            target,
            mode.prompt.format(city),
            *mode.tools,
            stream=stream,
            temperature=1,
            seed=seed,
            **mode.params,
        )
        by_the_model = not mode.promised and answer.has_broken_call
        if not answer.is_cut and not by_the_model:  # the token cap may have cut a call
            answer.expect_no_markup()
        expect(
            len({call.id for call in answer.calls}) == len(answer.calls),
            f"two calls of one answer have the same id: {[c.id for c in answer.calls]}",
        )
        answers.append(answer)
    if mode.name == "parallel" and not any(len(answer.calls) > 1 for answer in answers):
        raise Unmeasured("this model cannot show it: no answer has two calls")
    count = CallCount.of(answers, mode.tools)
    if not mode.promised and count.wrong[INVALID_JSON]:  # OpenAI's specification warns of this
        raise Unmeasured(
            f"a model may write {INVALID_JSON}: in {count.rate(INVALID_JSON)}, such as "
            f"{quote(count.example)}"
        )
    return count.expect_none(mode.promised, at_least=CALLS_NEEDED)


for _mode in MODES:
    for _stream in (False, True):
        _how = "streamed" if _stream else "whole"
        rule(
            f"tools.rate.{_mode.name}{'_stream' if _stream else ''}",
            level=EXPECTED,
            source=f"{STRICT_SPEC}; {SPEC}",
            needs=STREAMED if _stream else NEEDS,
            heavy=True,
            title=f"Ten {_how} answers with {_mode.what} calls hold none that the mode rules out.",
            breaks="An agent that calls tools all day meets a call that it cannot run.",
        )(partial(_rate, mode=_mode, stream=_stream))


# ---- tools.strict: what a strict schema forbids, though the prompt dictates it


class StrictFeature(NamedTuple):
    """A part of a strict schema, and arguments that it forbids."""

    name: str
    what: str
    schema: JSON
    forbidden: JSON
    more: JSON = {}  # noqa: RUF012 - never changed


COLOUR = {"type": "string", "enum": ["red", "blue"]}
WHOLE = {"type": "integer"}
FEATURES = (
    StrictFeature("enum", "a value outside the enum", COLOUR, {"value": "green"}),
    StrictFeature("integer", "a text for an integer", WHOLE, {"value": "seven"}),
    StrictFeature("boolean", "a text for a boolean", {"type": "boolean"}, {"value": "yes"}),
    StrictFeature(
        "additional", "a property that is not in the schema", WHOLE, {"value": 7, "unit": "m"}
    ),
    StrictFeature("required", "an object without the required property", WHOLE, {"unit": "m"}),
    StrictFeature(
        "nested",
        "a nested object of another form",
        object_of({"colour": COLOUR}),
        {"value": {"hue": "green"}},
    ),
    StrictFeature(
        "items",
        "items outside the enum",
        {"type": "array", "items": COLOUR, "maxItems": 2},
        {"value": ["green", "black"]},
    ),
    StrictFeature(
        "union",
        "a value that no member of a union allows",
        {"anyOf": [WHOLE, {"type": "null"}]},
        {"value": "seven"},
    ),
    StrictFeature(
        "reference",
        "a value that the referenced schema forbids",
        {"$ref": "#/$defs/colour"},
        {"value": "green"},
        {"$defs": {"colour": COLOUR}},
    ),
)
STRICT_ANSWERS = 4
STRICT_CALLS_NEEDED = 2


def _strict(target: Target, feature: StrictFeature) -> str:
    tool = function("set_value", "Sets a value.", {"value": feature.schema}, **feature.more)
    dictated = json.dumps(feature.forbidden)
    answers = [
        ask(
            target,
            f"Call set_value with these arguments: {dictated}",
            tool,
            stream=seed % 2 == 1,
            temperature=1,
            seed=seed,
            tool_choice="required",
        )
        for seed in range(STRICT_ANSWERS)
    ]
    return CallCount.of(answers, [tool]).expect_none(ALL_CLASSES, at_least=STRICT_CALLS_NEEDED)


for _feature in FEATURES:
    rule(
        f"tools.strict.{_feature.name}",
        level=EXPECTED,
        source=STRICT_SPEC,
        needs=NEEDS,
        title=f"A strict tool is never called with {_feature.what}, though the prompt dictates it.",
        breaks="Code that trusts a strict schema gets a value of another type or name.",
    )(partial(_strict, feature=_feature))


# ---- tools.stream_equals: the joined stream is the whole answer


class StreamScenario(NamedTuple):
    """A request that is sent twice at temperature 0: whole and as a stream."""

    name: str
    what: str
    prompt: str
    tools: Sequence[JSON]
    params: JSON
    calls: bool = True


REQUIRED_CALL = {"tool_choice": "required"}
AUTO = {"tool_choice": "auto"}
SCENARIOS = (
    StreamScenario("required", "a required call", ASK_WEATHER, (WEATHER,), REQUIRED_CALL),
    StreamScenario(
        "named", "a named call", ASK_TIME, (WEATHER, TIME), {"tool_choice": named(WEATHER)}
    ),
    StreamScenario("auto", "a call by auto", ASK_WEATHER, (WEATHER, TIME), AUTO),
    StreamScenario(
        "none", "a forbidden call", ASK_WEATHER, (WEATHER,), {"tool_choice": "none"}, False
    ),
    StreamScenario("text", "a text where tools are given", "Say hello.", (WEATHER,), AUTO, False),
    StreamScenario("parallel", "parallel calls", ASK_BOTH, (WEATHER, TIME), AUTO),
    StreamScenario(
        "nested", "nested arguments", "Plan a route over Lyon. Call the tool.", (ROUTE,), {}
    ),
    StreamScenario("empty", "empty arguments", "Ping the server. Call the tool.", (PING,), {}),
    StreamScenario(
        "unicode", "arguments outside ASCII", f"Save {WORD!r}. Call the tool.", (saving(WORD),), {}
    ),
    StreamScenario(
        "escapes", "escaped arguments", "Save the text. Call the tool.", (saving(ESCAPES),), {}
    ),
)


def _stream_equals(target: Target, scenario: StreamScenario) -> None:
    request = partial(ask, target, scenario.prompt, *scenario.tools, **scenario.params)
    whole, streamed = request(), request(stream=True)
    if scenario.calls and not whole.calls and not streamed.calls:
        raise Unmeasured(f"no tool call to compare; the model said {quote(whole.text)}")
    if whole.meaning != streamed.meaning and request().meaning != whole.meaning:
        raise Unmeasured("the server answers differently each time, also at temperature 0")
    for what, one, other in zip(
        ("calls", "text", "finish reason"), whole.meaning, streamed.meaning, strict=True
    ):
        expect(
            one == other,
            f"the {what} of the stream and of the whole differ: {quote(other)}, {quote(one)}",
        )


for _scenario in SCENARIOS:
    rule(
        f"tools.stream_equals.{_scenario.name}",
        level=QUIRK,
        source="vllm-project/vllm#58824; BerriAI/litellm#37792",
        needs=STREAMED,
        title=f"The stream of {_scenario.what} joins to the whole answer.",
        breaks="An agent works until its author turns streaming on.",
    )(partial(_stream_equals, scenario=_scenario))
