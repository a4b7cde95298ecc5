"""Checks of tools: the form of tool calls, their arguments, and their results in the history."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import (
    answered,
    choice,
    content,
    pick,
    tool_calls,
)
from pytest_llmengine.contract.facts import NAMED_CHOICE_DROPPED
from pytest_llmengine.contract.outcomes import (
    Ignored,
    Unmeasured,
    expect,
    quote,
)
from pytest_llmengine.contract.registry import (
    EXPECTED,
    EXTENDED,
    QUIRK,
    REQUIRED,
    SMOKE,
    check,
)
from pytest_llmengine.contract.samples import (
    ASK_BOTH,
    ASK_WEATHER,
    CALL_TOKENS,
    TIME,
    WEATHER,
    named,
    result,
    turn_with_calls,
)
from pytest_llmengine.contract.tool_answer import (
    ALL_CLASSES,
    CallCount,
    ask,
    ask_for_call,
)

if TYPE_CHECKING:
    from pytest_llmengine.contract.target import Target

rule = partial(check, group="tools")
new_rule = partial(rule, tier=EXTENDED, since="2026-11-27")

SPEC = "openai-openapi: ChatCompletionMessageToolCall"
FINISH = "vllm-project/vllm#25054: OpenAI's finish reasons as observed"
NEEDS = {Capability.TOOLS}
STREAMED = {*NEEDS, Capability.STREAMING}


@rule("tools.call.shape", level=REQUIRED, tier=SMOKE, source=f"{SPEC}.required", needs=NEEDS)
def call_shape(target: Target) -> None:
    """A tool call has an id, the type function, a name, and arguments as a string.

    The openai SDK's models have no call, and `json.loads` of the arguments raises.
    """
    reply = target.chat(
        ASK_WEATHER, tools=[WEATHER], tool_choice="required", max_tokens=CALL_TOKENS
    )
    body = answered(reply.success_or_refused())
    for call in tool_calls(body):
        expect(pick(call, str, "id"), f"the id is empty: {quote(call)}")
        expect(pick(call, str, "type") == "function", f"the type is {call['type']!r}")
        name = pick(call, str, "function", "name")
        expect(name == "get_weather", f"the name is {name!r}")
        pick(call, str, "function", "arguments")
    if not tool_calls(body):
        raise Unmeasured(f"no tool call to look at; the model said {quote(content(body))}")


@rule(
    "tools.call.arguments_json",
    level=EXPECTED,
    tier=EXTENDED,
    source="openai-openapi: ChatCompletionMessageToolCall.function.arguments",
    needs=NEEDS,
)
def arguments_json(target: Target) -> None:
    """The arguments of a strict tool are JSON that its schema allows.

    A program that passes the arguments to its function raises on a field that is not there.
    """
    answer = ask_for_call(target, ASK_WEATHER, WEATHER)
    CallCount.of([answer], [WEATHER]).expect_none(ALL_CLASSES, at_least=1)


@rule(
    "tools.finish_reason.auto_required",
    level=EXPECTED,
    tier=EXTENDED,
    source=FINISH,
    needs=NEEDS,
)
def finish_reason_required(target: Target) -> None:
    """A call that tool_choice required ends with the finish reason tool_calls.

    A loop that runs tools while the finish reason is tool_calls ends before the first one.
    """
    answer = ask_for_call(target, ASK_WEATHER, WEATHER)
    expect(answer.finish == "tool_calls", f"the finish reason is {answer.finish!r}")


@rule(
    "tools.finish_reason.named",
    level=EXPECTED,
    tier=EXTENDED,
    source=FINISH,
    needs=NEEDS,
)
def finish_reason_named(target: Target) -> None:
    """A call of the function that tool_choice names ends with the finish reason stop.

    A client that extracts data by a named function takes it for a call that it has to run.
    """
    answer = ask(target, ASK_WEATHER, WEATHER, TIME, tool_choice=named(TIME))
    if answer.names != ["get_time"]:
        raise Ignored(
            f"get_time was named, and the calls are {answer.names}", fact=NAMED_CHOICE_DROPPED
        )
    expect(answer.finish == "stop", f"the finish reason is {answer.finish!r}")


@rule(
    "tools.no_marker_leak",
    level=QUIRK,
    tier=EXTENDED,
    source="openai-openapi: ChatCompletionResponseMessage.content: a text for users",
    needs=NEEDS,
)
def no_marker_leak(target: Target) -> None:
    """The markup that a model writes around a tool call never shows in the content.

    Users see the markup of a call, and the call is not run.
    """
    answer = ask(target, ASK_WEATHER, WEATHER, tool_choice="auto")
    answer.expect_no_markup()
    answer.expect_call()


# ---- ids and results


@new_rule(
    "tools.ids.unique",
    level=EXPECTED,
    source=f"{SPEC}.id",
    needs=STREAMED,
)
def ids_unique(target: Target) -> None:
    """The ids of tool calls are not empty, and differ within an answer and between answers.

    An agent stores results by id, and the second result replaces the first.
    """
    answers = [
        ask(target, ASK_BOTH, WEATHER, TIME, tool_choice="required", stream=stream)
        for stream in (False, True, False)
    ]
    ids = [call.id for answer in answers for call in answer.calls]
    if len(ids) < 2:
        raise Unmeasured(f"{len(ids)} calls came, and two ids are needed to compare them")
    expect(all(ids), f"an id is empty: {ids}")
    expect(len(set(ids)) == len(ids), f"an id comes twice: {ids}")


TWO_CALLS = turn_with_calls(ASK_BOTH, (WEATHER, '{"city": "Paris"}'), (TIME, '{"zone": "UTC"}'))


@new_rule(
    "tools.results.any_order",
    level=EXPECTED,
    source="openai-openapi: ChatCompletionRequestToolMessage.tool_call_id",
    needs=NEEDS,
)
def results_any_order(target: Target) -> None:
    """The results of parallel calls are accepted in any order, since each names its call.

    An agent that runs tools at the same time sends the results as they come, and gets a 400.
    """
    results = [result(1, "It is sunny."), result(2, "It is noon.")]
    for turns in ([*TWO_CALLS, *results], [*TWO_CALLS, *reversed(results)]):
        reply = target.chat(turns, tools=[WEATHER, TIME], max_tokens=8)
        if turns[-1] == results[-1]:
            reply.expect_not_refused()
        choice(reply.success())


@rule(
    "tools.history_bad_json_args",
    level=EXPECTED,
    tier=EXTENDED,
    source=f"{SPEC}.function.arguments: the model does not always generate valid JSON",
    needs=NEEDS,
)
def history_bad_json_args(target: Target) -> None:
    """Arguments in the history that are not JSON give an answer or a clear 400, never a 500.

    One broken call ends the whole conversation, because each later request fails too.
    """
    choice(_after_call(target, '{"city": "Paris"}').success_or_refused())
    reply = _after_call(target, '{"city": "Par')
    if reply.status != 400:
        choice(reply.success())
    expect(reply.ok or reply.error_message, "a 400 without a message")


def _after_call(target: Target, arguments: str) -> Any:
    """The reply to a history that contains a call with these arguments."""
    turns = [*turn_with_calls(ASK_WEATHER, (WEATHER, arguments)), result(1, "It is sunny.")]
    return target.chat(turns, tools=[WEATHER], max_tokens=8)
