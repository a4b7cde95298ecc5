"""Invalid values in every field: no 5xx with the rules, and an answer without all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from llmengine.mock import Behaviour
from llmengine.mock import rules as table

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Api

USER = [{"role": "user", "content": "What is the weather in Paris?"}]
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {}}}
CALL = {"name": "get_weather", "input": {"city": "Paris"}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}

# A body for each route that has every field, so that each can be replaced by a wrong value.
FULL: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "model": "mock",
        "messages": [
            *USER,
            {"role": "assistant", "content": None, "tool_calls": [{"id": "a", **TOOL}]},
            {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "x"}]},
        ],
        "temperature": 1,
        "n": 2,
        "seed": 3,
        "stop": ["zz"],
        "max_tokens": 9,
        "max_completion_tokens": 9,
        "logprobs": True,
        "top_logprobs": 2,
        "logit_bias": {"5": 1},
        "stream": False,
        "tools": [TOOL],
        "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
        "parallel_tool_calls": True,
        "response_format": FORMAT,
        "reasoning_effort": "low",
        "return_token_ids": True,
        "structured_outputs": {"choice": ["a", "b"]},
    },
    "/v1/chat/completions/batch": {
        "model": "mock",
        "messages": [USER, USER],
        "structured_outputs": {"regex": "[ab]+"},
        "return_token_ids": True,
        "max_tokens": 9,
        "n": 1,
    },
    "/v1/messages": {
        "model": "mock",
        "max_tokens": 2048,
        "system": [{"type": "text", "text": "Be brief."}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "The weather?"}]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "a", **CALL}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a"}]},
        ],
        "temperature": 1,
        "top_p": 0.5,
        "top_k": 3,
        "stop_sequences": ["zz"],
        "stream": False,
        "tools": [{"name": "get_weather", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "tool", "name": "get_weather"},
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
        "metadata": {"user_id": "u"},
        "service_tier": "auto",
    },
    "/v1/messages/count_tokens": {"model": "mock", "messages": USER, "system": "Be brief."},
    "/tokenize": {"model": "mock", "messages": USER, "return_token_strs": True},
    "/detokenize": {"model": "mock", "tokens": [1, 2]},
    "/v1/completions": {
        "model": "mock",
        "prompt": ["a", "b"],
        "n": 1,
        "best_of": 1,
        "echo": True,
        "logprobs": 2,
        "max_tokens": 4,
        "suffix": "x",
        "stop": "zz",
        "stream": False,
    },
    "/v1/embeddings": {
        "model": "mock",
        "input": ["a"],
        "dimensions": 4,
        "encoding_format": "float",
    },
    "/v1/responses": {
        "model": "mock",
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "x"}]}],
        "instructions": "x",
        "max_output_tokens": 9,
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}],
        "tool_choice": {"type": "function", "name": "f"},
        "text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}}},
        "reasoning": {"effort": "low"},
        "include": ["message.output_text.logprobs"],
        "top_logprobs": 2,
        "metadata": {"a": "b"},
        "store": False,
    },
    "/api/chat": {
        "model": "mock",
        "messages": [{"role": "user", "content": "x", "tool_calls": [TOOL]}],
        "options": {"temperature": 1, "seed": 1, "num_predict": 9, "stop": ["zz"]},
        "format": {"type": "object"},
        "tools": [TOOL],
        "think": True,
        "keep_alive": "5m",
        "logprobs": True,
        "top_logprobs": 1,
        "stream": False,
    },
    "/api/generate": {"model": "mock", "prompt": "x", "system": "y", "raw": True, "stream": False},
}
JUNK: list[Any] = [None, -1, 10**400, "\U0001f600", [], [None, {}], {"type": 1}]


def _spoilt(value: Any) -> list[Any]:
    """Copies of the value, each with one invalid value, at every depth."""
    if isinstance(value, dict):
        return [{**value, k: j} for k, v in value.items() for j in [*JUNK, *_spoilt(v)]]
    if isinstance(value, list):
        junk = ((i, j) for i, v in enumerate(value) for j in [*JUNK, *_spoilt(v)])
        return [[*value[:i], j, *value[i + 1 :]] for i, j in junk]
    return []


def _worst(api: Api, route: str) -> dict[int, Any]:
    """One invalid body for each status in the answers to them."""
    return {api.http.post(route, json=b).status_code: b for b in _spoilt(FULL[route])}


@pytest.mark.parametrize("route", FULL)
def test_junk_is_never_the_servers_fault(reference: Api, route: str) -> None:
    """Whatever is in a field, the answer is a 200 or a 4xx, and for Ollama's own API also a 500."""
    statuses = _worst(reference, route)
    refused = {200, 400, 404, 500} if route.startswith("/api/") else {200, 400, 404}

    assert {s: b for s, b in statuses.items() if s not in refused} == {}
    assert {200, 400} <= statuses.keys()


@pytest.mark.parametrize("route", FULL)
def test_junk_is_answered_without_rules(start: Callable[..., Api], route: str) -> None:
    """With every rule switched off, every body is answered."""
    lenient = start(behaviour=Behaviour(without_rules=frozenset(table.names())))

    assert _worst(lenient, route).keys() == {200}
