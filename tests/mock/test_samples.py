"""The shapes of the mock's answers, compared with recorded answers of real servers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Api

SAMPLES = Path(__file__).parents[1] / "samples"

# Fields of vLLM that OpenAI does not have, or not on every route.
VLLM_ONLY = {
    "stop_reason", "token_ids", "routed_experts", "prompt_logprobs", "prompt_token_ids",
    "prompt_text", "kv_transfer_params", "ec_transfer_params", "metrics", "function_call",
    "audio", "reasoning", "service_tier",
}  # fmt: skip


def _body(name: str) -> Any:
    recorded = json.loads((SAMPLES / name).read_text(encoding="utf-8"))["response"]
    for key in ("json", "body"):
        if isinstance(recorded.get(key), dict):
            return recorded[key]
    return json.loads(recorded["body_raw"])


def _lines(name: str) -> list[Any]:
    text = (SAMPLES / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def _kinds(value: Any) -> Any:
    """The keys of a value and the types in it; the first item stands for a list."""
    if isinstance(value, dict):
        return {k: _kinds(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_kinds(value[0])] if value else []
    return type(value).__name__


CHAT = {"messages": [{"role": "user", "content": "Tell me."}]}


@pytest.mark.parametrize(
    ("sample", "path", "body"),
    [
        ("ollama/native_chat.json", "/api/chat", CHAT),
        ("ollama/native_generate.json", "/api/generate", {"prompt": "Tell me."}),
        ("ollama/native_chat_no_messages.json", "/api/chat", {}),
        (
            "ollama/native_chat_logprobs.json",
            "/api/chat",
            CHAT | {"logprobs": True, "top_logprobs": 2},
        ),
        ("ollama/native_chat_missing_model.json", "/api/chat", CHAT | {"model": "nope"}),
    ],
)
def test_whole_answers_have_the_shape_of_ollama(
    reference: Api, sample: str, path: str, body: dict[str, Any]
) -> None:
    """Keys and kinds are those of the recorded answer."""
    answer = reference.post(path, stream=False, **body).json()

    assert _kinds(answer) == _kinds(_body(sample))


def test_call_has_the_shape_of_ollama(reference: Api) -> None:
    """A tool call has the recorded call's keys and kinds."""
    function = {"name": "get_weather", "parameters": {"properties": {"city": {"type": "string"}}}}
    prompt = [{"role": "user", "content": "What is the weather in Paris?"}]
    tools = [{"type": "function", "function": function}]
    answer = reference.post("/api/chat", messages=prompt, tools=tools, stream=False).json()

    assert _kinds(answer) == _kinds(_body("ollama/native_chat_tools.json"))


@pytest.mark.parametrize(
    ("sample", "path", "body"),
    [
        ("ollama/native_chat_stream.ndjson", "/api/chat", CHAT),
        ("ollama/native_generate_stream.ndjson", "/api/generate", {"prompt": "Tell me."}),
    ],
)
def test_streams_have_the_shape_of_ollama(
    reference: Api, sample: str, path: str, body: dict[str, Any]
) -> None:
    """The first and the last line have the keys and kinds of the recorded stream's."""
    recorded = _lines(sample)
    answered = [json.loads(line) for line in reference.post(path, **body).text.splitlines()]

    assert _kinds(answered[0]) == _kinds(recorded[0])
    assert _kinds(answered[-1]) == _kinds(recorded[-1])


@pytest.mark.parametrize("path", ["/api/tags", "/api/version", "/api/ps"])
def test_model_routes_have_the_shape_of_ollama(reference: Api, path: str) -> None:
    """The descriptions of the model have the recorded keys and kinds."""
    sample = f"ollama/native_{path.removeprefix('/api/').replace('ps', 'ps_after')}.json"

    assert _kinds(reference.http.get(path).json()) == _kinds(_body(sample))


@pytest.mark.parametrize(
    ("sample", "path", "body"),
    [
        ("vllm/chat_plain.json", "/v1/chat/completions", CHAT),
        (
            "vllm/completions_logprobs.json",
            "/v1/completions",
            {"prompt": "Tell me.", "logprobs": 2, "max_tokens": 4},
        ),
        ("vllm/chat_bad_model_404.json", "/v1/chat/completions", CHAT | {"model": "nope"}),
    ],
)
def test_openai_answers_have_what_vllm_has(
    reference: Api, sample: str, path: str, body: dict[str, Any]
) -> None:
    """No key of vLLM's answer is missing, except vLLM's own additions."""
    missing = _missing(_body(sample), reference.post(path, **body).json())

    assert missing == set()


def _missing(recorded: Any, answered: Any) -> set[str]:
    if isinstance(recorded, list) and recorded and isinstance(answered, list):
        return _missing(recorded[0], answered[0])
    if not isinstance(recorded, dict) or not isinstance(answered, dict):
        return set()
    found = recorded.keys() - answered.keys() - VLLM_ONLY
    if "tokens" not in recorded and "top_logprobs" not in recorded:
        for key in recorded.keys() & answered.keys():
            found |= _missing(recorded[key], answered[key])
    return found
