"""vLLM's additions to OpenAI's API: token ids, the tokenizer, constraints, batches of chats."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Api

PROMPT = "Count from 1 to 5."
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def test_tokens_go_there_and_back(reference: Api) -> None:
    """The ids of a text are counted, and detokenize gives the text."""
    told = reference.post("/tokenize", prompt="Hello, big world", return_token_strs=True).json()
    assert told["count"] == len(told["tokens"]) == len(told["token_strs"])
    assert told["max_model_len"] == 8192
    back = reference.post("/detokenize", tokens=told["tokens"]).json()
    assert back == {"prompt": "Hello, big world"}


@pytest.mark.parametrize("tools", [[], [WEATHER]])
def test_a_chat_is_tokenized_as_it_is_counted(reference: Api, tools: list[Any]) -> None:
    """The ids of messages are those that a chat reports, and as many as in its usage."""
    more = {"tools": tools} if tools else {}
    body = reference.chat(PROMPT, return_token_ids=True, max_tokens=2, **more).json()
    messages = [{"role": "user", "content": PROMPT}]
    told = reference.post("/tokenize", messages=messages, **more).json()
    assert told["tokens"] == body["prompt_token_ids"]
    assert told["count"] == body["usage"]["prompt_tokens"]
    assert told["token_strs"] is None


def test_ids_of_an_answer_are_its_tokens(reference: Api) -> None:
    """There are as many ids as tokens, and detokenize gives the answer's text."""
    body = reference.chat(PROMPT, return_token_ids=True).json()
    (choice,) = body["choices"]
    assert len(choice["token_ids"]) == body["usage"]["completion_tokens"]
    back = reference.post("/detokenize", tokens=choice["token_ids"]).json()["prompt"]
    assert back == choice["message"]["content"]


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"reasoning_effort": "low"},
        {"tools": [WEATHER], "tool_choice": "required"},
        {"n": 2, "seed": 1},
    ],
)
def test_a_stream_has_the_ids_of_the_whole(reference: Api, params: dict[str, Any]) -> None:
    """Reasoning, text and calls have their ids; the first chunk has those of the prompt."""
    params = {"temperature": 0, "return_token_ids": True} | params
    whole = reference.chat(PROMPT, **params).json()
    first, *others = reference.chunks(PROMPT, **params)
    assert first["prompt_token_ids"] == whole["prompt_token_ids"]
    streamed: dict[int, list[int]] = {}
    for chunk in others:
        assert "prompt_token_ids" not in chunk
        for choice in chunk["choices"]:
            streamed.setdefault(choice["index"], []).extend(choice.get("token_ids", ()))
    assert list(streamed.values()) == [c["token_ids"] for c in whole["choices"]]


def test_ids_are_given_when_they_are_asked_for(reference: Api) -> None:
    """Answers have token ids only if the request asks for them."""
    assert "prompt_token_ids" not in reference.chat(PROMPT).json()
    assert "token_ids" not in reference.said(PROMPT)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("constraint", "pattern"),
    [
        ({"choice": ["yes", "no"]}, "yes|no"),
        ({"regex": r"\d{4}-\d{2}"}, r"\d{4}-\d{2}"),
        ({"grammar": 'root ::= "left" | "right"'}, "left|right"),
    ],
)
def test_an_answer_fits_its_constraint(
    reference: Api, constraint: Any, pattern: str, *, stream: bool
) -> None:
    """A choice, a regular expression and a grammar give plain text, not JSON."""
    if stream:
        chunks = reference.chunks(structured_outputs=constraint)
        said = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks)
    else:
        said = reference.text(structured_outputs=constraint)
    assert re.fullmatch(pattern, said)


@pytest.mark.parametrize("as_text", [True, False])
def test_a_schema_can_be_given_as_text_too(reference: Api, *, as_text: bool) -> None:
    """A JSON schema may be an object or a text, as in vLLM."""
    schema = {"type": "object", "properties": {"a": {"const": 7}}, "required": ["a"]}
    given = json.dumps(schema) if as_text else schema
    assert json.loads(reference.text(structured_outputs={"json": given})) == {"a": 7}


def test_a_batch_answers_every_conversation(reference: Api) -> None:
    """Each conversation has one choice, as if it were alone, and there is one usage for all."""
    prompts = ["Repeat exactly: one", "Repeat exactly: two or three"]
    chats = [[{"role": "user", "content": p}] for p in prompts]
    body = reference.post("/v1/chat/completions/batch", messages=chats).json()
    alone = [reference.chat(p).json() for p in prompts]
    assert [c["index"] for c in body["choices"]] == [0, 1]
    assert [c["message"]["content"] for c in body["choices"]] == ["one", "two or three"]
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert body["usage"][name] == sum(a["usage"][name] for a in alone)
