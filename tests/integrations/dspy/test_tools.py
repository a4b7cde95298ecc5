"""Native tool calls: DSPy passes the tools, and reads the calls in the answer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from llmengine.integrations.dspy import Generation, to_lm
from llmengine.mock import Behaviour, MockServer, Script

if TYPE_CHECKING:
    from llmengine import EngineConfig


def lookup(query: str) -> str:
    """Look something up."""
    return f"{query} is blue"


@pytest.fixture
def choose(modern: Any, generation: Generation) -> Any:
    """A predictor that chooses tools."""
    if generation is Generation.FORWARD:
        pytest.importorskip("mcp", reason="litellm wants it for tools; run: nox -s dspy-3.1.2")
    fields = {
        "question": (str, modern.InputField()),
        "tools": (list[modern.Tool], modern.InputField()),
        "calls": (modern.ToolCalls, modern.OutputField()),
    }
    return modern.Predict(modern.Signature(fields, "Choose the tools that help."))


def test_tools_are_sent_and_calls_are_read(
    modern: Any, choose: Any, config: EngineConfig, server: MockServer
) -> None:
    """The server gets a function, and DSPy gets a call with its arguments."""
    said = {"id": "c1", "function": {"name": "lookup", "arguments": json.dumps({"query": "sky"})}}
    server.play(Script(replies=[{"tool_calls": [said]}]))
    adapter = modern.ChatAdapter(use_native_function_calling=True)

    with modern.context(lm=to_lm(config), adapter=adapter):
        prediction = choose(question="What colour has the sky?", tools=[modern.Tool(lookup)])

    (call,) = prediction.calls.tool_calls
    assert (call.name, call.args) == ("lookup", {"query": "sky"})
    (sent,) = server.calls[0].json["tools"]
    assert sent["function"]["name"] == "lookup"
    assert sent["function"]["description"] == "Look something up."


def test_tools_stay_in_the_prompt_where_the_server_has_none(
    modern: Any, choose: Any, server: MockServer, aim: Any
) -> None:
    """Tools are not sent to an engine that does not support them."""
    said = '[[ ## calls ## ]]\n{"tool_calls": [{"name": "lookup", "args": {"query": "sky"}}]}'
    server.play(Script(replies=[f"{said}\n\n[[ ## completed ## ]]"]))
    adapter = modern.ChatAdapter(use_native_function_calling=True)

    with modern.context(lm=to_lm(aim(server, backend="embedded")), adapter=adapter):
        prediction = choose(question="What colour has the sky?", tools=[modern.Tool(lookup)])

    assert prediction.calls.tool_calls[0].args == {"query": "sky"}
    assert "tools" not in server.calls[0].json


def test_a_conversation_with_tools_is_sent_as_it_is(newest: Any, aim: Any) -> None:
    """Calls, results, images and system messages are sent in OpenAI's format."""
    lm15 = newest.lm15
    takes_images = Behaviour(without_rules=frozenset({"chat.not_played"}))
    with MockServer(behaviour=takes_images, script=Script(replies=["blue"])) as server:
        lm = to_lm(aim(server))
        request = lm15.Request(
            model=lm.model,
            system="Be brief.",
            messages=(
                lm15.Message.user([lm15.TextPart("Sky?"), lm15.ImagePart(url="http://host/a.png")]),
                lm15.Message.assistant([lm15.ToolCallPart("c1", "lookup", {"query": "sky"})]),
                lm15.Message.tool("c1", "sky is blue"),
            ),
            tools=(lm15.FunctionTool("lookup", "Look something up."),),
            config=lm15.Config(
                tool_choice=lm15.ToolChoice(mode="required", allowed=("lookup",), parallel=False),
                stop=("###",),
                seed=7,
                reasoning=lm15.Reasoning(effort="low"),
            ),
        )

        assert lm(request).message.text == "blue"

    sent = server.calls[0].json
    system, user, assistant, tool = sent["messages"]
    assert system == {"role": "system", "content": "Be brief."}
    assert [part["type"] for part in user["content"]] == ["text", "image_url"]
    assert assistant["tool_calls"][0]["function"] == {
        "name": "lookup",
        "arguments": '{"query": "sky"}',
    }
    assert tool == {"role": "tool", "tool_call_id": "c1", "content": "sky is blue"}
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "lookup"}}
    assert (sent["parallel_tool_calls"], sent["seed"]) == (False, 7)
    assert (sent["stop"], sent["reasoning_effort"]) == (["###"], "low")


def test_what_chat_completions_cannot_say_is_refused(newest: Any, config: EngineConfig) -> None:
    """A sound or a built-in tool is an error of DSPy's own, and nothing is sent."""
    lm15 = newest.lm15
    lm = to_lm(config)
    sound = lm15.Message.user([lm15.AudioPart(data="aGk=")])
    asked = [
        lm15.Request(model=lm.model, messages=(sound,)),
        lm15.Request(
            model=lm.model,
            messages=(lm15.Message.user("Hi"),),
            tools=(lm15.BuiltinTool("web_search"),),
        ),
    ]

    for request in asked:
        with pytest.raises(
            newest.utils.exceptions.LMUnsupportedFeatureError, match="do not support"
        ):
            lm(request)
