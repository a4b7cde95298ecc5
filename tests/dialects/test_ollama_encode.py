"""What is sent in Ollama's native chat format."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import InvalidRequestError
from llmengine.dialects.ollama import OllamaChat, OllamaOpenAIChat
from llmengine.types.request import ResponseFormat

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llmengine.dialects.base import Dialect
    from llmengine.types.request import ChatRequest

    Chat = Callable[..., ChatRequest]

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def _sent(request: ChatRequest) -> dict[str, Any]:
    """The fields besides the model, after a round trip through JSON."""
    body = json.loads(json.dumps(OllamaChat().encode(request)))
    assert body.pop("model") == "m"
    return dict(body)


def _fields(request: ChatRequest) -> dict[str, Any]:
    """The fields besides model and messages."""
    body = _sent(request)
    del body["messages"]
    return {name: value for name, value in body.items() if name not in {"truncate", "shift"}}


def _messages(request: ChatRequest) -> list[dict[str, Any]]:
    return list(_sent(request)["messages"])


def test_the_prompt_is_to_stay_whole(chat: Chat) -> None:
    """By default Ollama would cut a long prompt, so ``truncate`` is false unless set."""
    sent = _sent(chat())
    assert (sent["truncate"], sent["shift"]) == (False, False)

    accepted = _sent(chat(extra_body={"truncate": True}))
    assert accepted["truncate"] is True
    assert "shift" not in accepted, "an answer that is too long would still be refused"


@pytest.mark.parametrize("stream", [True, False])
def test_streaming_is_always_sent(stream: bool, chat: Chat) -> None:
    """By default Ollama would stream."""
    assert _fields(chat(stream=stream)) == {"stream": stream}


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({"temperature": 0}, {"temperature": 0}),
        ({"top_p": 0.5}, {"top_p": 0.5}),
        ({"top_k": 5}, {"top_k": 5}),
        ({"min_p": 0.1}, {"min_p": 0.1}),
        ({"seed": 7}, {"seed": 7}),
        ({"stop": "x"}, {"stop": ["x"]}),
        ({"max_tokens": 5}, {"num_predict": 5}),
        ({"repetition_penalty": 1.2}, {"repeat_penalty": 1.2}),
        ({"presence_penalty": 1.0}, {"presence_penalty": 1.0}),
        ({"frequency_penalty": 1.0}, {"frequency_penalty": 1.0}),
    ],
)
def test_sampling_parameters_become_options(
    given: Mapping[str, Any], options: Mapping[str, Any], chat: Chat
) -> None:
    """Each has Ollama's name, under ``options``."""
    assert _fields(chat(**given)) == {"stream": False, "options": options}


@pytest.mark.parametrize(
    ("count", "sent"), [(0, {"logprobs": True}), (2, {"logprobs": True, "top_logprobs": 2})]
)
def test_logprobs(count: int, sent: Mapping[str, Any], chat: Chat) -> None:
    """Log-probabilities are asked for beside the options."""
    assert _fields(chat(logprobs=count)) == {"stream": False, **sent}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stop_token_ids", [7]),
        ("ignore_eos", True),
        ("min_tokens", 3),
        ("prompt_logprobs", 1),
        ("include_stop_str_in_output", True),
        ("skip_special_tokens", False),
        ("bad_words", ["x"]),
        ("structured_outputs", {"regex": "a"}),
    ],
)
def test_unsupported_field_is_refused(name: str, value: Any, chat: Chat) -> None:
    """A field that would be dropped raises an error that names it and what to do."""
    with pytest.raises(InvalidRequestError, match=rf"'{name}'.*extra_body"):
        OllamaChat().encode(chat(**{name: value}))


@pytest.mark.parametrize(
    ("dialect", "field", "value", "advice"),
    [
        (OllamaChat(), "n", 2, "send the prompt several times"),
        (OllamaChat(), "logit_bias", {"1": 5.0}, "leave it out"),
        (OllamaChat(), "max_tokens", 5, "num_predict in options"),
        (OllamaChat(), "num_ctx", 8192, "put it into options"),
        (OllamaChat(), "tool_choice", "required", "leave it out"),
        (OllamaOpenAIChat(), "n", 2, "send the prompt several times"),
        (OllamaOpenAIChat(), "logit_bias", {"1": 5.0}, "leave it out"),
        (OllamaOpenAIChat(), "tool_choice", "required", "leave it out"),
        (OllamaOpenAIChat(), "max_completion_tokens", 5, "max_tokens"),
        (OllamaOpenAIChat(), "options", {"num_ctx": 8192}, "endpoint without /v1"),
        (OllamaOpenAIChat(), "keep_alive", "5m", "endpoint without /v1"),
    ],
)
def test_fields_that_ollama_ignores_are_refused(
    dialect: Dialect, field: str, value: Any, advice: str, chat: Chat
) -> None:
    """The error names the field that would be ignored, and what to do instead."""
    with pytest.raises(InvalidRequestError, match=rf"^{field} is .* ignores {field}; .*{advice}"):
        dialect.encode(chat(extra_body={field: value}))


@pytest.mark.parametrize("dialect", [OllamaChat(), OllamaOpenAIChat()])
@pytest.mark.parametrize(("field", "value"), [("n", 2), ("logit_bias", {1: 5.0})])
def test_sampling_parameters_that_ollama_ignores_are_refused(
    dialect: Dialect, field: str, value: Any, chat: Chat
) -> None:
    """Both APIs refuse them, except for a neutral value."""
    with pytest.raises(InvalidRequestError, match=f"^{field} is .* ignores {field}"):
        dialect.encode(chat(**{field: value}))

    assert dialect.encode(chat(n=1, logit_bias={}))


@pytest.mark.parametrize(
    ("choice", "offered"), [(None, True), ("auto", True), ("none", False), ("required", None)]
)
def test_tool_choice_at_v1(choice: str | None, offered: bool | None, chat: Chat) -> None:
    """Ollama's /v1 ignores tool_choice, so it is applied or refused as on /api/chat."""
    request = chat(tools=(TOOL,), tool_choice=choice)
    if offered is None:
        with pytest.raises(InvalidRequestError, match="tool_choice is 'required'"):
            OllamaOpenAIChat().encode(request)
    else:
        body = OllamaOpenAIChat().encode(request)
        assert ("tools" in body, "tool_choice" in body) == (offered, False)


def test_values_that_ask_for_nothing_are_left_out(chat: Chat) -> None:
    """One answer and no biased tokens are Ollama's defaults."""
    assert _fields(chat(n=1, logit_bias={}, ignore_eos=False)) == {"stream": False}


def test_formats(chat: Chat) -> None:
    """Any JSON is a word, a schema is itself."""
    schema = {"type": "object"}
    assert _fields(chat(response_format=ResponseFormat()))["format"] == "json"
    assert _fields(chat(response_format=ResponseFormat(schema)))["format"] == schema


@pytest.mark.parametrize(
    ("reasoning", "think"), [(True, True), (False, False), ("low", "low"), ("none", False)]
)
def test_reasoning(reasoning: bool | str, think: bool | str, chat: Chat) -> None:
    """Reasoning is ``think``, on, off or an effort."""
    assert _fields(chat(reasoning=reasoning))["think"] == think


@pytest.mark.parametrize("choice", [None, "auto"])
def test_tools_are_offered(choice: str | None, chat: Chat) -> None:
    """Tools are sent as they are; by default the model chooses."""
    assert _fields(chat(tools=(TOOL,), tool_choice=choice)) == {"stream": False, "tools": [TOOL]}


def test_no_tool_is_called_that_is_not_offered(chat: Chat) -> None:
    """Ollama has no ``tool_choice: none``; leaving the tools out does the same."""
    assert _fields(chat(tools=(TOOL,), tool_choice="none")) == {"stream": False}


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "f"}}])
def test_a_forced_tool_is_refused(choice: Any, chat: Chat) -> None:
    """Ollama would silently ignore it."""
    with pytest.raises(InvalidRequestError, match="tool_choice"):
        OllamaChat().encode(chat(tools=(TOOL,), tool_choice=choice))


def test_the_extra_body_joins_the_options(chat: Chat) -> None:
    """num_ctx is merged into the options, and wins over a sampling parameter."""
    extra = {"options": {"num_ctx": 8192, "seed": 2}, "keep_alive": "5m"}
    assert _fields(chat(temperature=0, seed=1, extra_body=extra)) == {
        "stream": False,
        "options": {"temperature": 0, "num_ctx": 8192, "seed": 2},
        "keep_alive": "5m",
    }
    assert extra == {"options": {"num_ctx": 8192, "seed": 2}, "keep_alive": "5m"}


def test_content_parts_become_text_and_images(chat: Chat) -> None:
    """Texts are joined by line feeds; inline images are sent apart, without their header."""
    parts = [
        {"type": "text", "text": "What is"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBOR"}},
        {"type": "image_url", "image_url": "data:image/jpeg;base64,/9j"},
        {"type": "text", "text": "thïs?"},
    ]
    assert _messages(chat([{"role": "user", "content": parts}])) == [
        {"role": "user", "content": "What is\nthïs?", "images": ["iVBOR", "/9j"]}
    ]


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}, "base64"),
        ({"type": "image_url", "image_url": {"url": "data:text/plain,abc"}}, "base64"),
        ({"type": "input_audio", "input_audio": {}}, "input_audio"),
        ("text", 'not a mapping: "text"'),
    ],
)
def test_parts_that_ollama_cannot_take_are_refused(part: Any, words: str, chat: Chat) -> None:
    """The error names the message and what can be given instead."""
    messages = [{"role": "user", "content": "a"}, {"role": "user", "content": [part]}]
    with pytest.raises(InvalidRequestError, match=f"message 1: .*{words}"):
        OllamaChat().encode(chat(messages))


def test_content_of_another_type_is_refused(chat: Chat) -> None:
    """A number is not content."""
    with pytest.raises(InvalidRequestError, match="message 0: content is not a list: 5"):
        OllamaChat().encode(chat([{"role": "user", "content": 5}]))


@pytest.mark.parametrize("name", ["n", "logit_bias"])
def test_extra_body_is_checked_next_to_the_sampling_parameters(name: str, chat: Chat) -> None:
    """``extra_body`` may not have an ignored field under a sampling name either."""
    with pytest.raises(InvalidRequestError, match=f"^{name} is .* ignores {name}"):
        OllamaChat().encode(chat(extra_body={name: {"1": 2}}))


def test_a_call_without_a_function_is_refused(chat: Chat) -> None:
    """The error names the message and the field."""
    history = [{"role": "assistant", "content": "", "tool_calls": [{"id": "c1"}]}]
    with pytest.raises(
        InvalidRequestError, match=r"^message 0: tool_calls\[\].function is missing"
    ):
        OllamaChat().encode(chat(history))


def test_a_history_with_tools(chat: Chat) -> None:
    """Arguments become objects, and a result names the tool of its call's id."""
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": "é"}'}}
    history = [
        {"role": "developer", "content": "Be brief."},
        {"role": "assistant", "content": None, "reasoning": "hm", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "21"},
        {"role": "tool", "tool_call_id": "c2", "name": "g", "content": "22"},
    ]
    assert _messages(chat(history)) == [
        {"role": "system", "content": "Be brief."},
        {
            "role": "assistant",
            "content": "",
            "thinking": "hm",
            "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": {"a": "é"}}}],
        },
        {"role": "tool", "content": "21", "tool_call_id": "c1", "tool_name": "f"},
        {"role": "tool", "content": "22", "tool_call_id": "c2", "name": "g", "tool_name": "g"},
    ]
    assert call["function"] == {"name": "f", "arguments": '{"a": "é"}'}


@pytest.mark.parametrize("arguments", ["{", "[1]", '"x"'])
def test_arguments_that_are_not_an_object_are_refused(arguments: str, chat: Chat) -> None:
    """Ollama takes only objects, so broken JSON of a model is an error before sending."""
    call = {"id": "c1", "function": {"name": "f", "arguments": arguments}}
    with pytest.raises(InvalidRequestError, match="message 0: the arguments of the call of 'f'"):
        OllamaChat().encode(chat([{"role": "assistant", "tool_calls": [call]}]))
