"""What vLLM gets for a call, and what is refused because it would be lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from llmengine import (
    ConfigError,
    EngineConfig,
    InvalidRequestError,
    SamplingParams,
    StructuredOutputError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine import Engine


def weather(city: str) -> str:
    """The weather in a city."""
    return city


def _params(stand_in: Any) -> Any:
    """The last parameters that vLLM got."""
    return stand_in.loaded[-1].llm_engine.params[-1]


def test_what_is_left_out_means_what_a_server_takes(engine: Engine, stand_in: Any) -> None:
    """The model's own defaults, and no token limit, although vLLM's default in a process is 16."""
    next(engine.stream("x"))
    assert (_params(stand_in).max_tokens, _params(stand_in).temperature) == (None, 0.6)


def test_what_is_given_reaches_vllm(engine: Engine, stand_in: Any) -> None:
    """Parameters have the same names, and token ids are always asked for."""
    given = SamplingParams(
        temperature=0, max_tokens=2, seed=7, stop="x", stop_token_ids=[3], logit_bias={5: 1.0}
    )
    engine.generate("x", given.merged(SamplingParams(return_token_ids=True)))
    params = _params(stand_in)
    assert (params.temperature, params.max_tokens, params.seed) == (0, 2, 7)
    assert (params.stop, params.stop_token_ids, params.logit_bias) == (["x"], [3], {5: 1.0})


def test_messages_stay_as_they_were_given(engine: Engine) -> None:
    """A copy of the conversation is changed, so it can be sent again."""
    function = {"name": "weather", "arguments": '{"city": "Lyon"}'}
    call = {"id": "c1", "type": "function", "function": function}
    told = [{"role": "assistant", "content": "", "tool_calls": [call]}]
    for _ in range(2):
        engine.generate(
            [[*told, {"role": "user", "content": "Now?"}]], SamplingParams(max_tokens=1)
        )
    assert told[0]["tool_calls"][0]["function"]["arguments"] == '{"city": "Lyon"}'


def test_vllms_own_parameters_are_taken_as_they_are(engine: Engine, stand_in: Any) -> None:
    """With their defaults and all fields, and left unchanged."""
    from vllm import SamplingParams as Native  # noqa: PLC0415 - the stand-in's

    native = Native(allowed_token_ids=[1, 2])
    engine.generate("x", native)
    params = _params(stand_in)
    assert (params.max_tokens, params.temperature) == (16, 1.0)
    assert params.allowed_token_ids == [1, 2]
    assert native == Native(allowed_token_ids=[1, 2])


@pytest.mark.parametrize(
    ("options", "constraint"),
    [
        ({"sampling_params": {"structured_outputs": {"regex": "a+"}}}, {"regex": "a+"}),
        ({"json_mode": True}, {"json_object": True}),
        ({"output_model": {"type": "integer"}}, {"json": {"type": "integer"}}),
    ],
)
def test_constraints_have_their_present_name(
    options: dict[str, Any], constraint: dict[str, Any], engine: Engine, stand_in: Any
) -> None:
    """Every kind of constraint becomes StructuredOutputsParams."""
    from vllm.sampling_params import StructuredOutputsParams  # noqa: PLC0415 - the stand-in's

    sampling = {"max_tokens": 2, **options.pop("sampling_params", {})}
    engine.results("x", sampling, **options)
    assert stand_in.loaded[-1].llm_engine.params[0].structured_outputs == StructuredOutputsParams(
        **constraint
    )


def test_a_schema_that_vllm_does_not_enforce_is_refused(engine: Engine) -> None:
    """What vLLM's server is known to ignore, vLLM in this process ignores too."""
    schema = {"allOf": [{"type": "object"}, {"required": ["a"]}]}
    (result,) = engine.results("x", {"max_tokens": 2, "structured_outputs": {"json": schema}})
    assert isinstance(result.error, StructuredOutputError)
    assert "does not enforce allOf" in str(result.error)


@pytest.mark.parametrize(
    ("reasoning", "variables"),
    [
        (True, {"enable_thinking": True}),
        (False, {"enable_thinking": False}),
        ("low", {"reasoning_effort": "low", "enable_thinking": True}),
        ("none", {"reasoning_effort": "none", "enable_thinking": False}),
    ],
)
def test_reasoning_is_a_variable_of_the_chat_template(
    reasoning: bool | str, variables: dict[str, Any], engine: Engine, stand_in: Any
) -> None:
    """It has the names that vLLM's server uses; extra_body wins."""
    engine.generate("x", {"max_tokens": 1}, reasoning=reasoning)
    extra = {"chat_template_kwargs": {"enable_thinking": 5}, "add_generation_prompt": False}
    engine.generate("x", {"max_tokens": 1}, reasoning=reasoning, extra_body=extra)
    first, second = stand_in.loaded[-1].rendered
    assert first == {"chat_template_kwargs": variables}
    assert second == {
        "chat_template_kwargs": variables | {"enable_thinking": 5},
        "add_generation_prompt": False,
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tools": [weather]}, "no tool_call_parser"),
        (
            {"extra_body": {"top_logprobs": 3}},
            "'top_logprobs', which is not an argument of LLM.chat",
        ),
    ],
)
def test_what_would_be_lost_is_refused(options: dict[str, Any], said: str, engine: Engine) -> None:
    """The call fails for that prompt, before vLLM works on it."""
    result = engine.results("x", **options)[0]
    assert isinstance(result.error, InvalidRequestError)
    assert said in str(result.error)


def test_tools_that_are_only_shown_need_no_parser(engine: Engine, stand_in: Any) -> None:
    """With tool_choice "none" the model sees the tools and calls none."""
    engine.generate("x", {"max_tokens": 1}, tools=[weather], tool_choice="none")
    (tool,) = stand_in.loaded[-1].rendered[-1]["tools"]
    assert tool["function"]["name"] == "weather"


def test_prompt_logprobs_do_not_come_in_a_stream(engine: Engine) -> None:
    """They are refused there, as by vLLM's server."""
    with pytest.raises(InvalidRequestError, match="use generate"):
        next(engine.stream("x", {"prompt_logprobs": 1}))


@pytest.mark.parametrize(
    "field",
    [
        {"endpoint": "http://127.0.0.1:8000"},
        {"api_key": "k"},
        {"headers": {"a": "b"}},
        {"transport": "httpx"},
        {"cold_start": 5.0},
    ],
)
def test_what_is_about_a_server_is_refused(field: dict[str, Any]) -> None:
    """The error of such a configuration names the backend to use."""
    config = EngineConfig(backend="vllm_local", model="m", **field)
    with pytest.raises(ConfigError, match=rf"{next(iter(field))}.*'vllm_api'"):
        _ = config.engine


def test_there_is_no_address(make_engine: Callable[..., Engine]) -> None:
    """The error says what to do instead of giving a client the address."""
    with pytest.raises(ConfigError, match=r"vllm serve.*'vllm_api'"):
        _ = make_engine().base_url
