"""What is sent in OpenAI's chat format, field by field."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import InvalidRequestError, SamplingParams
from llmengine.dialects.openai_chat import LLAMACPP_EXTRAS, VLLM_EXTRAS, OpenAIChat
from llmengine.types.request import ResponseFormat

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llmengine.types.request import ChatRequest

    Chat = Callable[..., ChatRequest]

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def _sent(request: ChatRequest, dialect: OpenAIChat | None = None) -> dict[str, Any]:
    """The fields of the body besides model and messages, after a round trip through JSON."""
    body = json.loads(json.dumps((dialect or OpenAIChat()).encode(request)))
    assert body.pop("model") == "m"
    assert body.pop("messages") == [dict(m) for m in request.messages]
    return dict(body)


def test_a_plain_request_says_nothing_but_model_and_messages(chat: Chat) -> None:
    """Unset parameters are left to the server."""
    assert _sent(chat()) == {}


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"n": 2}, {"n": 2}),
        ({"temperature": 0}, {"temperature": 0}),
        ({"top_p": 0.5}, {"top_p": 0.5}),
        ({"presence_penalty": 1.0}, {"presence_penalty": 1.0}),
        ({"frequency_penalty": -1.0}, {"frequency_penalty": -1.0}),
        ({"seed": 7}, {"seed": 7}),
        ({"stop": "x"}, {"stop": ["x"]}),
        ({"stop": ["x", "é"]}, {"stop": ["x", "é"]}),
        ({"max_tokens": 5}, {"max_tokens": 5}),
        ({"logprobs": 0}, {"logprobs": True}),
        ({"logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
    ],
)
def test_sampling_parameters_have_openais_names(
    given: Mapping[str, Any], sent: Mapping[str, Any], chat: Chat
) -> None:
    """Each sampling parameter of the format is sent, and nothing else with it."""
    assert _sent(chat(**given)) == sent


def test_biased_tokens_are_named_by_text(chat: Chat) -> None:
    """JSON has only text keys, and fast encoders do not convert numbers."""
    assert OpenAIChat().encode(chat(logit_bias={42: -100}))["logit_bias"] == {"42": -100}


def test_the_token_limit_can_have_its_newer_name(chat: Chat) -> None:
    """OpenAI's reasoning models refuse max_tokens."""
    dialect = OpenAIChat(max_tokens_field="max_completion_tokens")
    assert _sent(chat(max_tokens=5), dialect) == {"max_completion_tokens": 5}


EXTRAS = {
    "top_k": 5,
    "min_p": 0.1,
    "repetition_penalty": 1.2,
    "stop_token_ids": [7],
    "ignore_eos": True,
    "min_tokens": 3,
    "include_stop_str_in_output": True,
    "skip_special_tokens": False,
    "bad_words": ["x"],
    "structured_outputs": {"regex": "a+"},
    "prompt_logprobs": 1,
    "return_token_ids": True,
}


@pytest.mark.parametrize(("name", "value"), EXTRAS.items())
def test_what_only_vllm_knows_goes_to_vllm(name: str, value: Any, chat: Chat) -> None:
    """A vLLM field is sent to a server that is configured to know it."""
    assert _sent(chat(**{name: value}), OpenAIChat(extras=VLLM_EXTRAS)) == {name: value}


@pytest.mark.parametrize(("name", "value"), EXTRAS.items())
def test_unsupported_field_is_refused(name: str, value: Any, chat: Chat) -> None:
    """A field that would be dropped raises an error that names it and what to do."""
    with pytest.raises(InvalidRequestError, match=rf"'{name}'.*extra_body"):
        OpenAIChat().encode(chat(**{name: value}))


def test_field_of_vllms_own_object_is_refused(chat: Chat) -> None:
    """A field of a vllm.SamplingParams that no server takes is not dropped."""
    given = SimpleNamespace(temperature=1.0, allowed_token_ids=[1])
    request = replace(chat(), sampling=SamplingParams.of(given))
    with pytest.raises(InvalidRequestError, match="allowed_token_ids is"):
        OpenAIChat(extras=VLLM_EXTRAS).encode(request)


def test_values_that_ask_for_nothing_are_left_out(chat: Chat) -> None:
    """The defaults of vllm.SamplingParams can be sent to any server."""
    neutral = {
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "min_tokens": 0,
        "ignore_eos": False,
        "skip_special_tokens": True,
        "include_stop_str_in_output": False,
        "stop_token_ids": [],
        "bad_words": [],
    }
    assert _sent(chat(**neutral)) == {}
    assert _sent(chat(top_k=-1)) == {}


def test_prompt_logprobs_are_refused_for_streams(chat: Chat) -> None:
    """With such a stream vLLM answers 200 and leaves them out."""
    dialect = OpenAIChat(extras=VLLM_EXTRAS)
    with pytest.raises(InvalidRequestError, match=r"prompt_logprobs.*on a stream"):
        dialect.encode(chat(prompt_logprobs=0, stream=True))


def test_a_neutral_value_is_sent_where_it_can_be(chat: Chat) -> None:
    """The server's default may differ, so a value that the format has is sent."""
    dialect = OpenAIChat(extras=VLLM_EXTRAS)
    assert _sent(chat(repetition_penalty=1.0), dialect) == {"repetition_penalty": 1.0}


def test_a_server_may_have_its_own_name_for_a_field(chat: Chat) -> None:
    """llama.cpp calls the repetition penalty repeat_penalty."""
    dialect = OpenAIChat(extras=LLAMACPP_EXTRAS)
    assert _sent(chat(repetition_penalty=1.1), dialect) == {"repeat_penalty": 1.1}


def test_response_formats(chat: Chat) -> None:
    """Any JSON object, or one that fits a schema."""
    schema = {"type": "object"}
    assert _sent(chat(response_format=ResponseFormat())) == {
        "response_format": {"type": "json_object"}
    }
    wanted = ResponseFormat(schema, name="person", strict=False)
    assert _sent(chat(response_format=wanted)) == {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "person", "schema": schema, "strict": False},
        }
    }


def test_tools(chat: Chat) -> None:
    """Tools and the choice among them are sent as they are."""
    choice = {"type": "function", "function": {"name": "f"}}
    assert _sent(chat(tools=(TOOL,), tool_choice=choice)) == {
        "tools": [TOOL],
        "tool_choice": choice,
    }


@pytest.mark.parametrize(
    ("reasoning", "kwarg", "sent"),
    [
        (None, None, {}),
        (None, "enable_thinking", {}),
        ("low", None, {"reasoning_effort": "low"}),
        ("low", "enable_thinking", {"reasoning_effort": "low"}),
        (True, None, {"reasoning_effort": "medium"}),
        (False, None, {"reasoning_effort": "none"}),
        (True, "enable_thinking", {"chat_template_kwargs": {"enable_thinking": True}}),
        (False, "thinking", {"chat_template_kwargs": {"thinking": False}}),
    ],
)
def test_reasoning(
    reasoning: bool | str | None, kwarg: str | None, sent: Mapping[str, Any], chat: Chat
) -> None:
    """An effort is sent as it is, on and off in the form that the server takes."""
    assert _sent(chat(reasoning=reasoning), OpenAIChat(thinking_kwarg=kwarg)) == sent


def test_streams_ask_for_usage_by_default(chat: Chat) -> None:
    """Streams without include_usage have no token counts, but some servers refuse the field."""
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    assert _sent(chat(stream=True)) == asked
    assert _sent(chat(stream=True), OpenAIChat(stream_usage=False)) == {"stream": True}


def test_the_extra_body_has_the_last_word(chat: Chat) -> None:
    """Extra fields win; template variables and stream options are merged."""
    extra = {
        "temperature": 0.5,
        "user": "é",
        "chat_template_kwargs": {"tone": "x"},
        "stream_options": {"continuous_usage_stats": True},
    }
    request = chat(temperature=0, stream=True, reasoning=True, extra_body=extra)
    assert _sent(request, OpenAIChat(thinking_kwarg="enable_thinking")) == {
        "temperature": 0.5,
        "user": "é",
        "stream": True,
        "chat_template_kwargs": {"enable_thinking": True, "tone": "x"},
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }


def test_encoding_leaves_the_request_as_it_was(chat: Chat) -> None:
    """A request can be sent again: encoding changes nothing in it."""
    extra = {"chat_template_kwargs": {"a": 1}}
    request = chat(reasoning=True, extra_body=extra)
    dialect = OpenAIChat(thinking_kwarg="b")
    assert dialect.encode(request) == dialect.encode(request)
    assert extra == {"chat_template_kwargs": {"a": 1}}


TOOLS = (
    {"type": "function", "function": {"name": "a", "parameters": {}}},
    {"type": "function", "function": {"name": "b", "parameters": {}, "strict": False}},
    {"type": "web_search"},
)


@pytest.mark.parametrize(
    ("choice", "strict"),
    [
        (None, [None, False]),
        ("auto", [None, False]),
        ("none", [None, False]),
        ("required", [True, False]),
        ({"type": "function", "function": {"name": "a"}}, [True, False]),
        ({"type": "function", "function": {"name": "b"}}, [None, False]),
    ],
)
def test_tools_that_must_be_called_are_strict(choice: Any, strict: Any, chat: Chat) -> None:
    """Only the arguments of strict functions are constrained by vLLM; a tool's own value stays."""
    request = chat(tools=TOOLS, tool_choice=choice)
    sent = OpenAIChat(strict_tools=True).encode(request)["tools"]
    assert [t["function"].get("strict") for t in sent[:2]] == strict
    assert sent[2] == TOOLS[2]
    assert OpenAIChat().encode(request)["tools"] == list(TOOLS)
    assert "strict" not in TOOLS[0]["function"]


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_reasoning_of_earlier_answers_has_both_names(name: str, chat: Chat) -> None:
    """Versions of vLLM take one or the other; messages without reasoning stay as they are."""
    asked = {"role": "user", "content": "Hi"}
    said = {"role": "assistant", "content": "Ho", name: "hm"}
    request = chat((asked, said, asked))
    twins = OpenAIChat(twin_reasoning=True).encode(request)["messages"]
    assert twins == [asked, said | {"reasoning": "hm", "reasoning_content": "hm"}, asked]
    assert OpenAIChat().encode(request)["messages"] == [asked, said, asked]
