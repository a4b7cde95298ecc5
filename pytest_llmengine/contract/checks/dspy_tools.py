"""Checks of dspy.tools: agents that call Python functions, natively and in DSPy's own format."""

from __future__ import annotations

from functools import partial
from types import GenericAlias
from typing import TYPE_CHECKING, Any

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import CALL_MARKUP
from pytest_llmengine.contract.dspy_driver import DSPyDriver, repeat_question, with_demos
from pytest_llmengine.contract.outcomes import Unmeasured, expect, fail, quote
from pytest_llmengine.contract.registry import CORE, EXTENDED, QUIRK, check
from pytest_llmengine.contract.samples import ASK_WEATHER

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_llmengine.contract.dspy_driver import DSPyAnswer, Programs

_SUNNY = "It is sunny in"
_DEMO_CITIES = ("Lyon", "Nice", "Brest")

rule = partial(check, group="dspy.tools", level=QUIRK, driver=DSPyDriver)


def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"{_SUNNY} {city}."


@rule(
    "dspy.tools.native",
    tier=CORE,
    source="dspy 3.4.1: dspy/adapters/types/tool.py",
    needs={Capability.TOOLS},
)
def native(driver: DSPyDriver) -> None:
    """A program with a ToolCalls field gets the call that the model made, with its arguments.

    DSPy programs with native tools get no call.
    """
    with driver.programs("tools") as programs:
        program = programs.dspy.Predict(_calling(programs.dspy))
        tools = [programs.dspy.Tool(get_weather)]
        result = _run_calling(programs, lambda: program(question=ASK_WEATHER, tools=tools))
    call = result.calls.tool_calls[0]
    expect(call.name == "get_weather", f"the name is {call.name!r}")
    expect(isinstance(call.args.get("city"), str), f"the arguments are {quote(call.args)}")


def _calling(dspy: Any) -> Any:
    """A signature with tools as input and tool calls as output."""
    fields = {
        "question": (str, dspy.InputField()),
        "tools": (GenericAlias(list, dspy.Tool), dspy.InputField()),
        "calls": (dspy.ToolCalls, dspy.OutputField()),
    }
    return dspy.Signature(fields, "Answer by a tool.")


def _run_calling(programs: Programs, program: Callable[[], Any]) -> Any:
    """The program's result; unmeasured if the model made no call."""
    try:
        result = programs.run(program)
    except Unmeasured:
        _expect_call(programs.answers[0])
        fail(f"DSPy cannot read the call {quote(programs.answers[0].tool_calls[0])}")
    _expect_call(programs.answers[0])
    return result


def _expect_call(answer: DSPyAnswer) -> None:
    if answer.tool_calls[0]:
        return
    text = answer.texts[0]
    if answer.cut:
        raise Unmeasured(f"the token cap cut the answer: {quote(text)}")
    leaked = [marker for marker in CALL_MARKUP if marker in text]
    expect(not leaked, f"a call came as text: {quote(text)}")
    raise Unmeasured(f"no tool call to look at; the model said {quote(text)}")


@rule("dspy.tools.react", tier=EXTENDED, source="dspy 3.4.1: dspy/predict/react.py")
def react(driver: DSPyDriver) -> None:
    """A ReAct agent gets through a turn that calls a tool and one that reads what it said.

    DSPy agents cannot call tools.
    """
    with driver.programs() as programs:
        agent = programs.dspy.ReAct("question -> answer", tools=[get_weather], max_iters=1)
        with_demos(agent.react, *map(_step, _DEMO_CITIES), trajectory="")
        with_demos(agent.extract.predict, *map(_end, _DEMO_CITIES), trajectory="")
        question = repeat_question(**_step("Paris"), **_end("Paris"))
        result = programs.run(lambda: agent(question=question))
    observation = result.trajectory.get("observation_0", "no tool")
    if not observation.startswith(_SUNNY):
        raise Unmeasured(
            f"the model called no tool, or wrongly; the agent saw {quote(observation)}"
        )
    expect(
        isinstance(result.answer, str) and result.answer, f"the answer is {quote(result.answer)}"
    )


def _step(city: str) -> dict[str, Any]:
    call = {"next_tool_name": "get_weather", "next_tool_args": {"city": city}}
    return {"next_thought": "I look.", **call}


def _end(city: str) -> dict[str, Any]:
    return {"reasoning": "The tool says so.", "answer": f"{_SUNNY} {city}."}
