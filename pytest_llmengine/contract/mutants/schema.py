"""Mutants of schema."""

from __future__ import annotations

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.hooks import body, mutated
from pytest_llmengine.contract.mutants.registry import mutant

CHAT, COMPLETIONS, RESPONSES = "POST /chat/completions", "POST /completions", "POST /responses"

# The rule; the kind of answer, the kind of event and the path; and what is done to the value.
_BROKEN = (
    ("chat", CHAT, "", "choices.[].message.refusal", "dropped"),
    ("chat", CHAT, "", "choices.[].logprobs.content.[].top_logprobs.[].bytes", "as text"),
    ("chat", CHAT, "", "", "first key twice"),
    ("chat.stream", f"{CHAT} stream", "text", "choices.[].finish_reason", "dropped"),
    ("chat.stream", f"{CHAT} stream", "first", "model", "dropped"),
    ("chat.stream", f"{CHAT} stream", "tool", "choices.[].delta.tool_calls.[].index", "as text"),
    ("comp", COMPLETIONS, "", "choices.[].finish_reason", "null"),
    ("comp", COMPLETIONS, "", "usage.completion_tokens_details", "as list"),
    ("comp.stream", f"{COMPLETIONS} stream", "text", "choices.[].logprobs", "dropped"),
    ("resp", RESPONSES, "", "output.[].content.[].annotations", "dropped"),
    ("resp", RESPONSES, "", "status", "another"),
    ("resp.stream", f"{RESPONSES} stream", "response.output_text.done", "logprobs", "dropped"),
    ("resp.stream", f"{RESPONSES} stream", "response.in_progress", "response.tools", "null"),
    ("chat.state", "GET /chat/completions/{completion_id}", "", "id", "empty"),
    ("chat.state", "GET /chat/completions/{completion_id}", "", "model", "twice"),
    (
        "chat.state",
        "GET /chat/completions/{completion_id}",
        "",
        "choices.[].index",
        "one more",
    ),
    ("chat.state", "DELETE /chat/completions/{completion_id}", "", "deleted", "dropped"),
    ("chat.state", "DELETE /chat/completions/{completion_id}", "", "", "first key twice"),
    ("resp.state", "GET /responses/{response_id}", "", "output.[].role", "dropped"),
    ("resp.state", "GET /responses/{response_id}/input_items", "", "first_id", "another"),
    ("resp.state", "POST /responses/{response_id}/cancel", "", "temperature", "one more"),
    ("emb", "POST /embeddings", "", "usage.total_tokens", "as number"),
    ("models", "GET /models", "", "data.[].owned_by", "null"),
    ("models", "GET /models/{name}", "", "created", "as text"),
    ("err", "error", "", "error.param", "as list"),
)
for _name, _kind, _part, _path, _operator in _BROKEN:
    mutant(f"{_name}.schema", mutated(_kind, _part, _path, _operator))
mutant(
    "resp.state.schema",
    Behaviour("nothing stored", request=body(lambda request: request.update(store=False))),
)

_NULL = (
    ("chat", CHAT, "", "system_fingerprint"),
    ("chat.stream", f"{CHAT} stream", "text", "system_fingerprint"),
    ("comp", COMPLETIONS, "", "usage.prompt_tokens_details"),
    ("comp.stream", f"{COMPLETIONS} stream", "text", "system_fingerprint"),
    ("resp", RESPONSES, "", "status"),
    ("resp.stream", f"{RESPONSES} stream", "response.created", "response.status"),
)
for _name, _kind, _part, _path in _NULL:
    mutant(f"{_name}.schema_nulls", mutated(_kind, _part, _path, "null"))
