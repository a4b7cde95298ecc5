"""Unknown arguments and values that are not prompts cause errors that say what is meant."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import InvalidRequestError, SamplingParams, UnknownArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine import Engine


async def _all(items: Any) -> list[Any]:
    return [item async for item in items]


CALLS: dict[str, Callable[..., Any]] = {
    "generate": lambda engine, prompts, **o: engine.generate(prompts, **o),
    "agenerate": lambda engine, prompts, **o: asyncio.run(engine.agenerate(prompts, **o)),
    "results": lambda engine, prompts, **o: engine.results(prompts, **o),
    "aresults": lambda engine, prompts, **o: asyncio.run(engine.aresults(prompts, **o)),
    "iter_results": lambda engine, prompts, **o: list(engine.iter_results(prompts, **o)),
    "aiter_results": lambda engine, prompts, **o: asyncio.run(
        _all(engine.aiter_results(prompts, **o))
    ),
    "stream": lambda engine, prompts, **o: list(engine.stream(prompts, **o)),
    "astream": lambda engine, prompts, **o: asyncio.run(_all(engine.astream(prompts, **o))),
}


@pytest.fixture
def engine(engine_for: Any, chat: Any) -> Engine:
    """An engine that answers everything."""
    made: Engine = engine_for(lambda _, c: c.reply(chat()))[0]
    return made


@pytest.mark.parametrize("call", CALLS)
def test_sampling_parameter_in_the_wrong_place(call: str, engine: Engine) -> None:
    """Every kind of call says where ``max_tokens`` belongs."""
    with pytest.raises(UnknownArgumentError) as caught:
        CALLS[call](engine, "Hi", max_tokens=5, stop=["x"])

    assert str(caught.value) == (
        "a call has no argument 'max_tokens', 'stop'; "
        "sampling parameters go into SamplingParams(max_tokens=5, stop=['x'])"
    )
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize(
    ("argument", "advice"),
    [
        ({"output_mode": int}, "did you mean 'output_model'?"),
        ({"reponse_format": {}}, "known are output_model, tools, "),
        ({"response_format": {}}, "give an output_model"),
        ({"sampling": SamplingParams()}, "'sampling_params'"),
        ({"timeout": 5}, "it belongs to the engine: EngineConfig(timeout=...)"),
        ({"stream": True}, "call stream() or astream()"),
    ],
)
def test_unknown_argument_says_what_is_meant(
    argument: dict[str, Any], advice: str, engine: Engine
) -> None:
    """The error suggests a similar name, or translates one of another library, or lists all."""
    with pytest.raises(UnknownArgumentError, match="a call has no argument") as caught:
        engine.generate("Hi", **argument)

    assert advice in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("option", "wanted"),
    [
        ({"tools": 5}, "'tools' is 5; it must be a list of tools"),
        ({"extra_body": [1]}, "'extra_body' is [1]; it must be a mapping"),
        ({"json_schema": "x"}, "'json_schema' is 'x'; it must be a mapping"),
        ({"reasoning": 0.5}, "'reasoning' is 0.5; it must be a bool or an effort"),
        ({"tool_choice": 5}, "'tool_choice' is 5; it must be a string or a mapping"),
    ],
)
def test_option_of_a_wrong_type(option: dict[str, Any], wanted: str, engine: Engine) -> None:
    """The error names the option, and nothing is sent."""
    with pytest.raises(InvalidRequestError) as caught:
        engine.results("Hi", **option)

    assert wanted in str(caught.value)


@pytest.mark.parametrize("call", ["generate", "results", "iter_results", "aiter_results"])
@pytest.mark.parametrize("prompts", [None, 5, b"Hi", {"role": "user", "content": "Hi"}])
def test_value_that_is_not_a_list_of_prompts(call: str, prompts: Any, engine: Engine) -> None:
    """For example, the keys of one message are not taken for prompts."""
    with pytest.raises(InvalidRequestError, match=r"^prompts is .*; give a string, a list of"):
        CALLS[call](engine, prompts)


@pytest.mark.parametrize("call", ["results", "iter_results", "aiter_results"])
@pytest.mark.parametrize("prompts", ["Hello", [{"role": "user", "content": "Hello"}]])
def test_one_prompt_is_one_prompt_for_every_call(call: str, prompts: Any, engine: Engine) -> None:
    """A string is not split into letters, nor a conversation into messages."""
    (result,) = CALLS[call](engine, prompts)

    assert result.unwrap().prompt == prompts


@pytest.mark.parametrize("window", [0, -1, "5", True])
def test_window_is_a_count(window: Any, engine: Engine) -> None:
    """A window of 0 is an error instead of the default."""
    with pytest.raises(
        InvalidRequestError, match=r"window is .*; it must be a whole number from 1"
    ):
        list(engine.iter_results(["Hi"], window=window))
