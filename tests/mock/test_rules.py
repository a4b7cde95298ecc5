"""The table of rules: each refuses its invalid input, and accepts it if it is switched off."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from llmengine.mock import Behaviour
from llmengine.mock import rules as table
from llmengine.mock import specification as spec
from llmengine.mock.rules.fields import PLAYED, PLAYED_VALUES

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Api

CHAT, COMP, EMB, RESP = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
)
MSG = "/v1/messages"
BATCH, TOK, DETOK = "/v1/chat/completions/batch", "/tokenize", "/detokenize"
GOOD: dict[str, dict[str, Any]] = {
    CHAT: {"model": "mock", "messages": [{"role": "user", "content": "Hi"}]},
    COMP: {"model": "mock", "prompt": "Hi"},
    EMB: {"model": "mock", "input": "Hi"},
    RESP: {"model": "mock", "input": "Hi"},
    MSG: {"model": "mock", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]},
    BATCH: {"model": "mock", "messages": [[{"role": "user", "content": "Hi"}]]},
    TOK: {"model": "mock", "prompt": "Hi"},
    DETOK: {"model": "mock", "tokens": [1]},
    "/api/chat": {"model": "mock", "messages": [{"role": "user", "content": "Hi"}]},
    "/api/generate": {"model": "mock", "prompt": "Hi"},
    "/api/embed": {"model": "mock", "input": "Hi"},
}
LONG = "word " * 9000
CALL = {"name": "f", "arguments": "{}"}
PIXEL = "data:image/png;base64,aGk="
TOOL = {"type": "function", "function": {"name": "f"}}
FLAT = {"type": "function", "name": "f"}
GONE = {"type": "function", "function": {"name": "gone"}}
CUSTOM = {"type": "custom", "custom": {"name": "g"}}
LARK = {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: A"}}
ALLOWED = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [TOOL]}}


def _user(content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]}


def _assistant(call: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "assistant", "content": None, "tool_calls": [call]}]}


def _format(**wanted: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": wanted}}


def _held(**wanted: Any) -> dict[str, Any]:
    return {"structured_outputs": wanted}


# A valid value of the wrong type for each field, and values that are wrong with it alone.
_MESSAGE_TYPES = {
    "max_tokens": 9.5,
    "metadata": "u",
    "output_config": "x",
    "service_tier": 5,
    "stop_sequences": "x",
    "stream": "yes",
    "temperature": "hot",
    "thinking": True,
    "tools": {},
    "top_k": "x",
    "top_p": "x",
}
NAMED = {"name": "f", "input_schema": {"type": "object"}}
CALL = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "a"}


def _tools(**more: Any) -> dict[str, Any]:
    return {"tools": [NAMED], **more}


# The rules of the Messages API without their first word, and what is wrong.
MESSAGES: list[tuple[str, dict[str, Any]]] = [
    ("model.required", {"model": ...}),
    ("unknown_field", {"top_n": 5}),
    ("max_tokens.required", {"max_tokens": ...}),
    ("max_tokens.range", {"max_tokens": 0}),
    ("messages.required", {"messages": ...}),
    ("messages.type", {"messages": ["Hi"]}),
    ("messages.min1", {"messages": []}),
    ("roles.unknown", {"messages": [{"role": "tool", "content": "Hi"}]}),
    ("content.type", {"messages": [{"role": "user", "content": None}]}),
    ("content.unknown_block", {"messages": [{"role": "user", "content": [{"type": "image"}]}]}),
    ("content.block_fields", {"messages": [{"role": "user", "content": [{"type": "text"}]}]}),
    ("content.empty", {"messages": [{"role": "user", "content": ""}]}),
    ("content.empty", {"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]}),
    ("system.type", {"system": 5}),
    ("system.type", {"system": [{"type": "image"}]}),
    ("tool_result.orphan", {"messages": [{"role": "user", "content": [RESULT]}]}),
    ("tool_use.unanswered", {"messages": [{"role": "assistant", "content": [CALL]}]}),
    *((f"wrong_type.{field}", {field: value}) for field, value in _MESSAGE_TYPES.items()),
    ("wrong_type.tool_choice", _tools(tool_choice="any")),
    ("thinking.type", {"thinking": {"type": "on"}}),
    ("thinking.budget", {"thinking": {"type": "enabled", "budget_tokens": 1024}}),
    ("thinking.budget", {"thinking": {"type": "enabled"}}),
    ("output_config.values", {"output_config": {"effort": "minimal"}}),
    ("output_config.values", {"output_config": {"format": {"type": "json_object"}}}),
    ("tools.type", {"tools": [{**NAMED, "type": "web_search_20250305"}]}),
    ("tools.name", {"tools": [{**NAMED, "name": "a b"}]}),
    ("tools.input_schema", {"tools": [{"name": "f"}]}),
    ("tool_choice.unknown_type", _tools(tool_choice={"type": "required"})),
    ("tool_choice.without_tools", {"tool_choice": {"type": "any"}}),
    ("tool_choice.unknown_tool", _tools(tool_choice={"type": "tool", "name": "gone"})),
    ("stop_sequences.strings", {"stop_sequences": [5]}),
    ("temperature.range", {"temperature": 1.5}),
    ("top_p.range", {"top_p": 1.5}),
    ("top_k.range", {"top_k": -1}),
    ("metadata.user_id", {"metadata": {"user_id": 5}}),
    ("service_tier", {"service_tier": "flex"}),
]


def _text(**wanted: Any) -> dict[str, Any]:
    return {"text": {"format": {"type": "json_schema", "name": "x", **wanted}}}


# (rule, route, what is wrong); a field set to ... is left out.
BAD: list[tuple[str, str, dict[str, Any]]] = [
    ("chat.model.required", CHAT, {"model": ...}),
    ("chat.model.required", CHAT, {"model": 5}),
    ("err.unknown_model", CHAT, {"model": "nope"}),
    ("err.unknown_model", EMB, {"model": "nope"}),
    ("chat.messages.required", CHAT, {"messages": ...}),
    ("chat.messages.type", CHAT, {"messages": "Hi"}),
    ("chat.messages.type", CHAT, {"messages": ["Hi"]}),
    ("chat.messages.min1", CHAT, {"messages": []}),
    ("chat.roles.unknown", CHAT, {"messages": [{"role": "wizard", "content": "x"}]}),
    ("chat.roles.unknown", CHAT, {"messages": [{"content": "x"}]}),
    ("chat.content.null_user", CHAT, _user(None)),
    ("chat.content.null_user", CHAT, {"messages": [{"role": "assistant"}]}),
    ("chat.content.type", CHAT, _user(5)),
    ("chat.content.parts", CHAT, _user([{"type": "text", "text": 5}])),
    ("chat.content.parts", CHAT, _user(["text"])),
    ("chat.messages.fields", CHAT, {"messages": [{"role": "user", "content": "x", "name": 5}]}),
    ("chat.messages.fields", CHAT, _assistant({"type": "function", "function": CALL})),
    ("chat.messages.fields", CHAT, _assistant({"id": "a", "type": "odd", "function": CALL})),
    ("chat.wrong_type", CHAT, {"temperature": "hot"}),
    ("chat.wrong_type", CHAT, {"n": 1.5}),
    ("chat.wrong_type", CHAT, {"stream": "yes"}),
    ("chat.wrong_type", CHAT, {"seed": True}),
    ("chat.temperature.range", CHAT, {"temperature": 2.1}),
    ("chat.temperature.range", CHAT, {"temperature": -1}),
    ("chat.top_p.range", CHAT, {"top_p": 1.1}),
    ("chat.penalties.range", CHAT, {"presence_penalty": 3}),
    ("chat.penalties.range", CHAT, {"frequency_penalty": -3}),
    ("chat.n.range", CHAT, {"n": 0}),
    ("chat.n.range", CHAT, {"n": 129}),
    ("chat.stop.nonstring", CHAT, {"stop": [1]}),
    ("chat.stop.nonstring", CHAT, {"stop": 1}),
    ("chat.stop.max4", CHAT, {"stop": list("abcde")}),
    ("chat.logit_bias.range", CHAT, {"logit_bias": {"1": 101}}),
    ("chat.logit_bias.range", CHAT, {"logit_bias": {"1": "x"}}),
    ("chat.stream_options.without_stream", CHAT, {"stream_options": {"include_usage": True}}),
    ("chat.max_tokens.zero_negative", CHAT, {"max_tokens": 0}),
    ("chat.max_tokens.zero_negative", CHAT, {"max_completion_tokens": -5}),
    ("chat.reasoning_effort", CHAT, {"reasoning_effort": "gigantic"}),
    ("logprobs.top.requires_logprobs", CHAT, {"top_logprobs": 2}),
    ("logprobs.top.max20", CHAT, {"logprobs": True, "top_logprobs": 21}),
    ("chat.tools.empty_array", CHAT, {"tools": []}),
    ("tools.shape", CHAT, {"tools": [{"type": "odd"}]}),
    ("tools.shape", CHAT, {"tools": ["f"]}),
    ("tools.shape", CHAT, {"tools": [CUSTOM | {"custom": {"name": "f", "format": 5}}]}),
    ("tools.shape", CHAT, {"tools": [CUSTOM | {"custom": {"name": "f", "format": LARK}}]}),
    ("tools.name", CHAT, {"tools": [{"type": "function", "function": {"name": "a b"}}]}),
    ("tools.name", CHAT, {"tools": [{"type": "function", "function": {}}]}),
    (
        "tools.parameters",
        CHAT,
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": 5}}}]},
    ),
    ("tools.choice.invalid_value", CHAT, {"tools": [TOOL], "tool_choice": "maybe"}),
    (
        "tools.choice.invalid_value",
        CHAT,
        {"tools": [TOOL], "tool_choice": ALLOWED | {"allowed_tools": {}}},
    ),
    ("tools.choice.named_unknown", CHAT, {"tools": [CUSTOM], "tool_choice": ALLOWED}),
    ("tools.choice.without_tools", CHAT, {"tool_choice": "required"}),
    ("tools.choice.named_unknown", CHAT, {"tools": [TOOL], "tool_choice": GONE}),
    ("tools.parallel.without_tools", CHAT, {"parallel_tool_calls": True}),
    ("struct.type.unknown", CHAT, {"response_format": {"type": "yaml"}}),
    ("struct.json_schema.missing", CHAT, {"response_format": {"type": "json_schema"}}),
    ("struct.json_schema.name", CHAT, _format(schema={})),
    ("struct.schema.invalid", CHAT, _format(name="x", schema={"type": "strin"})),
    ("struct.schema.unsupported", CHAT, _format(name="x", schema=False)),
    ("struct.json_object.word", CHAT, {"response_format": {"type": "json_object"}}),
    ("err.context_overflow", CHAT, _user(LONG)),
    ("err.context_overflow", CHAT, {"max_tokens": 100_000}),
    (
        "chat.tool_result.orphan",
        CHAT,
        {"messages": [{"role": "tool", "content": "x", "tool_call_id": "a"}]},
    ),
    ("chat.fields", CHAT, {"verbosity": "loud"}),
    ("chat.fields", CHAT, {"service_tier": "gold"}),
    ("chat.fields", CHAT, {"metadata": {"purpose": 5}}),
    ("chat.fields", CHAT, {"safety_identifier": "x" * 65}),
    ("chat.fields", CHAT, {"prompt_cache_options": {"mode": "sometimes"}}),
    ("chat.fields", CHAT, {"stream": True, "stream_options": {"include_usage": "yes"}}),
    ("chat.not_played", CHAT, {"audio": {"voice": "alloy", "format": "wav"}}),
    ("chat.not_played", CHAT, {"modalities": ["text", "audio"]}),
    ("chat.not_played", CHAT, {"moderation": {"model": "omni-moderation-latest"}}),
    ("chat.not_played", CHAT, {"prediction": {"type": "content", "content": "Hi"}}),
    ("chat.not_played", CHAT, {"web_search_options": {}}),
    ("chat.not_played", CHAT, {"functions": [{"name": "f"}]}),
    ("chat.not_played", CHAT, {"function_call": "auto"}),
    ("chat.not_played", CHAT, _user([{"type": "image_url", "image_url": {"url": PIXEL}}])),
    ("chat.not_played", CHAT, _user([{"type": "file", "file": {"file_id": "f"}}])),
    ("comp.model.required", COMP, {"model": ...}),
    ("comp.missing_prompt", COMP, {"prompt": ...}),
    ("comp.prompt.type", COMP, {"prompt": ["a", 5]}),
    ("comp.prompt.type", COMP, {"prompt": {"a": 1}}),
    ("comp.prompt.min1", COMP, {"prompt": []}),
    ("comp.wrong_type", COMP, {"echo": "yes"}),
    ("comp.temperature.range", COMP, {"temperature": 3}),
    ("comp.top_p.range", COMP, {"top_p": -1}),
    ("comp.penalties.range", COMP, {"presence_penalty": 3}),
    ("comp.n.range", COMP, {"n": 0}),
    ("comp.stop.nonstring", COMP, {"stop": [None]}),
    ("comp.stop.max4", COMP, {"stop": list("abcde")}),
    ("comp.logit_bias.range", COMP, {"logit_bias": {"1": -101}}),
    ("comp.stream_options.without_stream", COMP, {"stream_options": {}}),
    ("comp.max_tokens.negative", COMP, {"max_tokens": -1}),
    ("comp.logprobs.max5", COMP, {"logprobs": 6}),
    ("comp.best_of.range", COMP, {"best_of": 1, "n": 2}),
    ("comp.best_of.range", COMP, {"best_of": 21}),
    ("comp.best_of.stream", COMP, {"best_of": 2, "stream": True}),
    ("comp.fields", COMP, {"stream": True, "stream_options": {"include_usage": "yes"}}),
    ("err.context_overflow", COMP, {"prompt": LONG}),
    ("emb.model.required", EMB, {"model": ...}),
    ("emb.input.required", EMB, {"input": ...}),
    ("emb.empty_input", EMB, {"input": ""}),
    ("emb.empty_input", EMB, {"input": []}),
    ("emb.empty_input", EMB, {"input": ["a", ""]}),
    ("emb.input.type", EMB, {"input": {"a": 1}}),
    ("emb.input.type", EMB, {"input": ["a", 1]}),
    ("emb.input.max2048", EMB, {"input": ["a"] * 2049, "dimensions": 1}),
    ("emb.wrong_type", EMB, {"dimensions": "3"}),
    ("emb.encoding_format", EMB, {"encoding_format": "hex"}),
    ("emb.dimensions.range", EMB, {"dimensions": 0}),
    ("err.context_overflow", EMB, {"input": ["a", LONG]}),
    ("resp.model.required", RESP, {"model": ...}),
    ("resp.input.required", RESP, {"input": ...}),
    ("resp.input.type", RESP, {"input": 5}),
    ("resp.input.items", RESP, {"input": [{"role": "wizard", "content": "x"}]}),
    ("resp.input.items", RESP, {"input": [{"type": "odd"}]}),
    ("resp.input.items", RESP, {"input": [{"role": "user", "content": 5}]}),
    ("resp.wrong_type", RESP, {"store": "yes"}),
    ("resp.wrong_type", RESP, {"conversation": 5}),
    ("resp.wrong_type", RESP, {"conversation": {}}),
    ("resp.temperature.range", RESP, {"temperature": 3}),
    ("resp.top_p.range", RESP, {"top_p": 3}),
    ("resp.max_output_tokens.range", RESP, {"max_output_tokens": 0}),
    ("resp.top_logprobs.max20", RESP, {"top_logprobs": 21}),
    ("resp.reasoning.effort", RESP, {"reasoning": {"effort": "gigantic"}}),
    ("resp.not_played", RESP, {"reasoning": {"generate_summary": "auto"}}),
    ("resp.fields", RESP, {"safety_identifier": "x" * 65}),
    ("resp.not_played", RESP, {"include": ["web_search_call.results"]}),
    ("resp.not_played", RESP, {"input": [{"role": "user", "content": [{"type": "input_image"}]}]}),
    ("resp.previous_response_id.unknown", RESP, {"previous_response_id": "resp_gone"}),
    ("resp.conversation.unknown", RESP, {"conversation": "conv_gone"}),
    ("resp.conversation.unknown", RESP, {"conversation": {"id": "conv_gone"}}),
    ("resp.invalid.truncation", RESP, {"truncation": "sometimes"}),
    ("resp.invalid.service_tier", RESP, {"service_tier": "first"}),
    ("resp.invalid.cache_retention", RESP, {"prompt_cache_retention": "forever"}),
    ("resp.invalid.verbosity", RESP, {"text": {"verbosity": "endless"}}),
    ("resp.invalid.summary", RESP, {"reasoning": {"summary": "endless"}}),
    ("resp.invalid.metadata", RESP, {"metadata": {"n": 1}}),
    ("resp.invalid.metadata", RESP, {"metadata": dict.fromkeys(map(str, range(17)), "v")}),
    ("resp.invalid.prompt", RESP, {"prompt": {"id": "pmpt_gone"}}),
    ("resp.invalid.prompt", RESP, {"prompt": {}}),
    ("resp.invalid.stream_options", RESP, {"stream_options": {"include_obfuscation": True}}),
    ("resp.background.store", RESP, {"background": True, "store": False}),
    ("resp.context_management", RESP, {"context_management": [{"type": "compaction"}]}),
    ("resp.moderation", RESP, {"moderation": {"model": "omni-moderation-latest"}}),
    ("resp.tools.shape", RESP, {"tools": [{"type": "odd"}]}),
    ("resp.tools.name", RESP, {"tools": [{"type": "function", "name": "a b"}]}),
    ("resp.tools.parameters", RESP, {"tools": [FLAT | {"parameters": {"type": 5}}]}),
    ("resp.tools.choice.invalid_value", RESP, {"tools": [FLAT], "tool_choice": "maybe"}),
    ("resp.tools.choice.without_tools", RESP, {"tool_choice": "required"}),
    (
        "resp.tools.choice.named_unknown",
        RESP,
        {"tools": [FLAT], "tool_choice": FLAT | {"name": "gone"}},
    ),
    ("resp.struct.type.unknown", RESP, {"text": {"format": {"type": "yaml"}}}),
    ("resp.struct.json_schema.missing", RESP, _text()),
    ("resp.struct.json_schema.name", RESP, _text(schema={}, name="a b")),
    ("resp.struct.schema.invalid", RESP, _text(schema={"type": "strin"})),
    ("resp.struct.schema.unsupported", RESP, _text(schema=False)),
    ("resp.struct.json_object.word", RESP, {"text": {"format": {"type": "json_object"}}}),
    ("err.context_overflow", RESP, {"input": LONG}),
    ("vllm.structured_outputs", CHAT, _held()),
    ("vllm.structured_outputs", CHAT, _held(regex="a", choice=["b"])),
    ("vllm.structured_outputs", CHAT, {"structured_outputs": "a"}),
    ("vllm.structured_outputs.kind", CHAT, _held(choice=[])),
    ("vllm.structured_outputs.kind", CHAT, _held(regex="([")),
    ("vllm.structured_outputs.kind", CHAT, _held(grammar="root ::= [a-z]+")),
    ("vllm.structured_outputs.kind", CHAT, _held(structural_tag="{}")),
    ("vllm.structured_outputs.kind", CHAT, _held(json={"type": "strin"})),
    ("vllm.batch.model.required", BATCH, {"model": ...}),
    ("vllm.batch.messages", BATCH, {"messages": []}),
    ("vllm.batch.messages", BATCH, {"messages": [{"role": "user", "content": "Hi"}]}),
    ("vllm.batch.messages", BATCH, {"messages": [["Hi"]]}),
    ("vllm.batch.n", BATCH, {"n": 2}),
    ("vllm.batch.stream", BATCH, {"stream": True}),
    ("vllm.batch.tools", BATCH, {"tools": [TOOL]}),
    ("vllm.tokenize.model.required", TOK, {"model": ...}),
    ("vllm.tokenize.prompt", TOK, {"prompt": ...}),
    ("vllm.detokenize.model.required", DETOK, {"model": ...}),
    ("vllm.detokenize.tokens", DETOK, {"tokens": ["a"]}),
    ("ollama.model.required", "/api/chat", {"model": ...}),
    ("ollama.unknown_model", "/api/chat", {"model": "nope"}),
    ("ollama.wrong_type", "/api/chat", {"messages": "Hi"}),
    ("ollama.roles.unknown", "/api/chat", {"messages": [{"role": "wizard"}]}),
    ("ollama.format", "/api/generate", {"format": "xml"}),
    ("ollama.format.schema", "/api/generate", {"format": {"type": "strin"}}),
    ("ollama.options.type", "/api/generate", {"options": {"seed": "x"}}),
    ("ollama.think", "/api/chat", {"think": "bogus"}),
    ("ollama.input", "/api/embed", {"input": [3]}),
    ("ollama.keep_alive", "/api/chat", {"keep_alive": "banana"}),
    ("ollama.tools.shape", "/api/chat", {"tools": [5]}),
    ("ollama.tools.name", "/api/chat", {"tools": [{"type": "function", "function": {}}]}),
    (
        "ollama.tools.parameters",
        "/api/chat",
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": 5}}]},
    ),
    ("err.context_overflow", "/api/generate", {"prompt": LONG}),
    ("err.context_overflow", MSG, _user(LONG)),
    ("err.unknown_model", MSG, {"model": "nope"}),
    *((f"messages.{rule}", MSG, wrong) for rule, wrong in MESSAGES),
]
# Requests that Ollama refuses with a 500.
REFUSED_AS_500 = {"ollama.format", "ollama.options.type"}
# Rules whose input other rules refuse too, with those rules.
TOGETHER: list[tuple[str, set[str], str, dict[str, Any]]] = [
    (
        "chat.tool_result.tool_call_id",
        {"chat.tool_result.orphan"},
        CHAT,
        {"messages": [{"role": "tool", "content": "x"}]},
    ),
    ("chat.content.parts", {"chat.not_played"}, CHAT, _user([{"type": "odd"}])),
    ("chat.content.parts", {"chat.not_played"}, CHAT, _user([{"type": "image_url"}])),
    ("resp.invalid.include", {"resp.not_played"}, RESP, {"include": ["everything"]}),
    (
        "resp.conversation.exclusive",
        {"resp.conversation.unknown", "resp.previous_response_id.unknown"},
        RESP,
        {"conversation": "conv_gone", "previous_response_id": "resp_gone"},
    ),
]


_WITHOUT_VERSION = {"content-type": "application/json", "anthropic-version": ""}


def _body(route: str, wrong: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in (GOOD[route] | wrong).items() if v is not ...}


@pytest.mark.parametrize(("rule", "route", "wrong"), BAD)
def test_rule_refuses_and_can_be_switched_off(
    start: Callable[..., Api], reference: Api, rule: str, route: str, wrong: dict[str, Any]
) -> None:
    """The invalid input is refused with the rule, and is a 200 without it and with all others."""
    lenient = start(behaviour=Behaviour(without_rules=frozenset({rule})))
    body = _body(route, wrong)

    refused = reference.http.post(route, json=body).status_code
    assert refused == 500 if rule in REFUSED_AS_500 else 400 <= refused < 500
    assert lenient.http.post(route, json=body).status_code == 200


@pytest.mark.parametrize(("rule", "others", "route", "wrong"), TOGETHER)
def test_rule_behind_another_one(
    start: Callable[..., Api], rule: str, others: set[str], route: str, wrong: dict[str, Any]
) -> None:
    """If several rules refuse the same input, it is accepted if both are switched off."""
    first = start(behaviour=Behaviour(without_rules=frozenset(others)))
    both = start(behaviour=Behaviour(without_rules=frozenset({*others, rule})))

    assert first.http.post(route, json=_body(route, wrong)).status_code == 400
    assert both.http.post(route, json=_body(route, wrong)).status_code == 200


@pytest.mark.parametrize(
    ("rule", "method", "path", "content", "headers"),
    [
        ("err.not_found_path", "GET", "/v1/nothing", b"", {}),
        ("err.method", "GET", CHAT, b"", {}),
        ("err.wrong_content_type", "POST", COMP, b'{"model":"mock","prompt":"x"}', {}),
        ("err.malformed_json", "POST", CHAT, b"{", {"content-type": "application/json"}),
        ("err.nonobject_body", "POST", CHAT, b"[]", {"content-type": "application/json"}),
        ("messages.version", "POST", MSG, json.dumps(GOOD[MSG]).encode(), _WITHOUT_VERSION),
        ("models.retrieve.unknown", "GET", "/v1/models/nope", b"", {}),
        ("resp.get.unknown", "GET", "/v1/responses/nope", b"", {}),
        ("auth.missing", "GET", "/v1/models", b"", {}),
        ("auth.bad", "GET", "/v1/models", b"", {"authorization": "Bearer nope"}),
        ("auth.models_protected", "GET", "/v1/models", b"", {}),
    ],
)
def test_rule_on_more_than_the_body(
    start: Callable[..., Api],
    rule: str,
    method: str,
    path: str,
    content: bytes,
    headers: dict[str, str],
) -> None:
    """The rules on key, path, method, type and syntax can be switched off too."""
    key = "secret-key" if rule.startswith("auth.") else None
    request = {"content": content, "headers": headers}
    strict = start(api_key=key)
    lenient = start(api_key=key, behaviour=Behaviour(without_rules=frozenset({rule})))

    assert 400 <= strict.http.request(method, path, **request).status_code < 500
    assert lenient.http.request(method, path, **request).status_code == 200


def test_every_rule_is_tried() -> None:
    """The tables above contain every rule."""
    tried = {row[0] for row in [*BAD, *TOGETHER]}

    assert tried | set(table.OTHER_RULES) == set(table.names())


@pytest.mark.parametrize("field", ["reasoning_effort", "service_tier", "verbosity"])
def test_every_value_of_an_enum_is_accepted(reference: Api, field: str) -> None:
    """Each value that OpenAI's specification has is valid."""
    values = spec.enum(f"CreateChatCompletionRequest.{field}")
    answers = [reference.http.post(CHAT, json=_body(CHAT, {field: v})) for v in values]

    assert {answer.status_code for answer in answers} == {200}
    assert len(values) > 2


@pytest.mark.parametrize("schema", PLAYED)
def test_the_table_of_what_is_played_names_fields_of_the_specification(schema: str) -> None:
    """Each field and each path in the tables of the mock exists."""
    for path in [*PLAYED[schema].split(), *PLAYED_VALUES.get(schema, {})]:
        assert spec.at(f"{schema}.{path}")


@pytest.mark.parametrize(
    ("wrong", "message", "param", "code"),
    [
        (
            {"verbosity": "loud"},
            "Invalid value: 'loud'. Supported values are: 'high', 'low', 'medium'.",
            "verbosity",
            "invalid_value",
        ),
        (
            {"temperature": 3},
            "Invalid 'temperature': integer out of range. Expected a value <= 2, but got 3.",
            "temperature",
            "integer_above_max_value",
        ),
        (
            {"metadata": {"a": 5}},
            "Invalid type for 'metadata.a': expected a string, but got an integer.",
            "metadata.a",
            "invalid_type",
        ),
        (
            {"stop": list("abcde")},
            (
                "Invalid 'stop': array too long. Expected an array with maximum length 4, but got "
                "an array with length 5 instead."
            ),
            "stop",
            "array_above_max_length",
        ),
        (
            {"audio": {"format": "wav"}},
            "Missing required parameter: 'audio.voice'.",
            "audio.voice",
            "missing_required_parameter",
        ),
        (
            {"audio": {"format": "wav", "voice": "alloy"}},
            "Unsupported parameter: 'audio' is not supported with this model.",
            "audio",
            "unsupported_parameter",
        ),
        (
            _user([{"type": "image_url", "image_url": {"url": PIXEL}}]),
            "Invalid content type. image_url is only supported by certain models.",
            "messages[0].content[0].type",
            None,
        ),
    ],
)
def test_the_refusal_is_worded_as_openais(
    reference: Api, wrong: dict[str, Any], message: str, param: str, code: str | None
) -> None:
    """The error of a rule from the specification names the field, the limit and the code."""
    error = reference.http.post(CHAT, json=_body(CHAT, wrong)).json()["error"]

    assert (error["message"], error["param"], error["code"]) == (message, param, code)


@pytest.mark.parametrize("route", GOOD)
def test_good_bodies_break_no_rule(reference: Api, route: str) -> None:
    """The bodies that the tables change are valid before the change."""
    assert reference.http.post(route, json=GOOD[route]).status_code == 200


def test_unknown_rule_is_an_error_of_the_caller(start: Callable[..., Api]) -> None:
    """To switch off a rule that does not exist is an error."""
    with pytest.raises(ValueError, match=r"chat\.typo"):
        start(behaviour=Behaviour(without_rules=frozenset({"chat.typo"})))
