"""DSPy's programs over an engine; the text is the same for every DSPy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from llmengine.integrations.dspy import Generation, to_lm
from llmengine.mock import Script

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine import EngineConfig
    from llmengine.mock import MockServer


def test_predict_asks_the_server_once(
    dspy: Any, config: EngineConfig, server: MockServer, answering: Callable[..., None]
) -> None:
    """The answer's field has the server's text."""
    answering({"answer": "Paris"})

    with dspy.settings.context(lm=to_lm(config)):
        prediction = dspy.Predict("question -> answer")(question="The capital of France?")

    assert prediction.answer == "Paris"
    assert [call.path for call in server.calls] == ["/v1/chat/completions"]
    assert "The capital of France?" in str(server.calls[0].json["messages"])


@pytest.mark.parametrize("source", ["config", "engine", "worker"])
def test_a_language_model_is_made_of_any_of_them(
    dspy: Any, config: EngineConfig, answering: Callable[..., None], source: str
) -> None:
    """DSPy can use a configuration, its engine and a worker in the same way."""
    from llmengine import OpenAICompatibleWorker  # noqa: PLC0415 - one of three

    made = {
        "config": lambda: config,
        "engine": lambda: config.engine,
        "worker": lambda: OpenAICompatibleWorker(str(config.endpoint), config.model),
    }
    answering({"answer": "Paris"})

    with dspy.settings.context(lm=to_lm(made[source]())):
        assert dspy.Predict("question -> answer")(question="Where?").answer == "Paris"


def test_chain_of_thought_gives_both_fields(
    dspy: Any, config: EngineConfig, answering: Callable[..., None], generation: Generation
) -> None:
    """The reasoning comes before the answer; 2.4 calls it a rationale."""
    name = "rationale" if generation is Generation.LEGACY else "reasoning"
    answering({name: "It is known.", "answer": "Paris"})

    with dspy.settings.context(lm=to_lm(config)):
        prediction = dspy.ChainOfThought("question -> answer")(question="Where?")

    assert prediction[name] == "It is known."
    assert prediction.answer == "Paris"


def test_react_calls_the_tool_and_answers(
    dspy: Any, config: EngineConfig, server: MockServer, generation: Generation
) -> None:
    """The tool gets the model's arguments, and the model gets the tool's result."""
    script, tools, asked = _react(dspy, generation)
    server.play(Script(replies=script))

    with dspy.settings.context(lm=to_lm(config)):
        prediction = dspy.ReAct("question -> answer", tools=tools, max_iters=3)(question="Sky?")

    assert prediction.answer == "blue"
    assert asked == ["sky"]
    assert "looked up: sky is blue" in str(server.calls[-1].json["messages"])


def _react(dspy: Any, generation: Generation) -> tuple[list[str], list[Any], list[str]]:
    """The model's answers, the tools, and the queries that the tools get."""
    asked: list[str] = []

    def lookup(query: str) -> str:
        """Look something up."""
        asked.append(query)
        return f"looked up: {query} is blue"

    if generation is Generation.LEGACY:
        lines = ["I look it up.\nAction 1: lookup[sky]", "I know it.\nAction 2: Finish[blue]"]
        return lines, [_LegacyTool(dspy, lookup)], asked
    steps = [("I look it up.", "lookup", '{"query": "sky"}'), ("I know it.", "finish", "{}")]
    turns = [
        f"[[ ## next_thought ## ]]\n{thought}\n\n[[ ## next_tool_name ## ]]\n{name}\n\n"
        f"[[ ## next_tool_args ## ]]\n{args}\n\n[[ ## completed ## ]]"
        for thought, name, args in steps
    ]
    end = "[[ ## reasoning ## ]]\nSeen.\n\n[[ ## answer ## ]]\nblue\n\n[[ ## completed ## ]]"
    return [*turns, end], [lookup], asked


class _LegacyTool:
    """A tool for ReAct of 2.4: a retriever with a name, an input and a description."""

    name, input_variable, desc = "lookup", "query", "looks something up"

    def __init__(self, dspy: Any, function: Callable[[str], str]) -> None:
        self._dspy, self._function = dspy, function

    def __call__(self, query: str) -> Any:
        return self._dspy.Prediction(passages=[self._function(query)])


def test_several_answers_come_of_one_question(
    dspy: Any, config: EngineConfig, server: MockServer, answering: Callable[..., None]
) -> None:
    """``n`` gives so many completions; DSPy raises the temperature for it."""
    answering({"answer": "Paris"}, {"answer": "Paris"})

    with dspy.settings.context(lm=to_lm(config)):
        prediction = dspy.Predict("question -> answer", n=2)(question="Where?")

    assert len(prediction.completions.answer) == 2
    assert {call.json["temperature"] for call in server.calls} == {0.7}


def test_a_server_without_n_is_asked_as_often(
    dspy: Any, aim: Callable[..., EngineConfig], server: MockServer, answering: Callable[..., None]
) -> None:
    """Ollama has no ``n``, so each completion is a request."""
    answering({"answer": "Paris"}, {"answer": "Rome"})
    ollama = aim(server, backend="ollama_api", endpoint=server.root_url)

    with dspy.settings.context(lm=to_lm(ollama)):
        prediction = dspy.Predict("question -> answer", n=2)(question="Where?")

    assert sorted(prediction.completions.answer) == ["Paris", "Rome"]
    assert [call.path for call in server.calls] == ["/api/chat"] * 2


def test_answers_are_in_the_history(
    dspy: Any, config: EngineConfig, answering: Callable[..., None], capsys: Any
) -> None:
    """inspect_history shows the prompt and the answer."""
    answering({"answer": "Paris"})
    lm = to_lm(config)

    with dspy.settings.context(lm=lm):
        dspy.Predict("question -> answer")(question="The capital of France?")
    lm.inspect_history(n=1)

    shown = capsys.readouterr().out
    assert "The capital of France?" in shown
    assert "Paris" in shown


def test_settings_of_the_model_reach_the_server(
    dspy: Any, config: EngineConfig, server: MockServer, answering: Callable[..., None]
) -> None:
    """The LM's own arguments are sent, and those of a call override them."""
    answering({"answer": "a"}, {"answer": "b"})
    predict = dspy.Predict("question -> answer", max_tokens=90)

    with dspy.settings.context(lm=to_lm(config, temperature=0.3, max_tokens=70, top_p=0.9)):
        predict(question="One?")
        predict(question="Two?", config={"temperature": 0.5})

    first, second = (call.json for call in server.calls)
    assert (first["temperature"], first["max_tokens"], first["top_p"]) == (0.3, 90, 0.9)
    assert second["temperature"] == 0.5


def test_an_unknown_argument_is_refused(dspy: Any, config: EngineConfig) -> None:
    """An unknown parameter is an error that names it."""
    lm = to_lm(config)

    with pytest.raises(Exception, match="temprature"):
        lm("Hello", temprature=0.1)


def test_usage_is_tracked(
    modern: Any, config: EngineConfig, answering: Callable[..., None], server: MockServer
) -> None:
    """DSPy's own tracker has the server's counts, once."""
    answering({"answer": "Paris"})

    with modern.context(lm=to_lm(config), track_usage=True):
        prediction = modern.Predict("question -> answer")(question="Where?")

    (usage,) = prediction.get_lm_usage().values()
    sent = len(server.calls)
    assert sent == 1
    assert usage["prompt_tokens"] > 100
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_logprobs_reach_the_program(
    modern: Any, config: EngineConfig, answering: Callable[..., None]
) -> None:
    """Each token has its log-probability and its alternatives, in OpenAI's format."""
    answering({"answer": "Paris"})

    with modern.context(lm=to_lm(config, logprobs=True, top_logprobs=2)):
        prediction = modern.Predict("question -> answer")(question="Where?")

    first = prediction.logprobs["content"][0]
    assert first["logprob"] <= 0.0
    assert len(first["top_logprobs"]) == 2
