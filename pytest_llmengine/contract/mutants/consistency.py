"""Mutants of consistency."""

from __future__ import annotations

from pytest_llmengine.contract.mutants.hooks import mutated
from pytest_llmengine.contract.mutants.registry import mutant

CHAT, COMPLETIONS, RESPONSES = "POST /chat/completions", "POST /completions", "POST /responses"
EMBEDDINGS, MODEL = "POST /embeddings", "GET /models/{name}"

# The rule; the kind of answer, the kind of event and the path; and what is done to the value.
_BROKEN = (
    ("chat.usage_adds_up", CHAT, "", "usage.completion_tokens_details.audio_tokens", "negative"),
    ("chat.stream.usage_adds_up", f"{CHAT} stream", "usage", "usage.total_tokens", "one more"),
    ("comp.usage_adds_up", COMPLETIONS, "", "usage.completion_tokens", "one less"),
    (
        "comp.stream.usage_adds_up",
        f"{COMPLETIONS} stream",
        "usage",
        "usage.prompt_tokens",
        "one more",
    ),
    ("resp.usage_adds_up", RESPONSES, "", "usage.output_tokens", "a thousand times"),
    (
        "resp.stream.usage_adds_up",
        f"{RESPONSES} stream",
        "response.incomplete",
        "response.usage.total_tokens",
        "one more",
    ),
    ("emb.usage_adds_up", EMBEDDINGS, "", "usage.total_tokens", "one more"),
    ("chat.created_now", CHAT, "", "created", "a thousand times"),
    ("comp.created_now", COMPLETIONS, "", "created", "negative"),
    ("resp.created_now", RESPONSES, "", "created_at", "negative"),
    ("comp.model_echo", COMPLETIONS, "", "model", "another"),
    ("emb.model_echo", EMBEDDINGS, "", "model", "another"),
    ("comp.id_unique", COMPLETIONS, "", "id", "another"),
    ("models.retrieve_equals_list", MODEL, "", "owned_by", "another"),
    ("models.retrieve_equals_list", "GET /models", "", "data", "the first twice"),
    ("chat.stream.same_head", f"{CHAT} stream", "usage", "id", "another"),
    ("chat.stream.same_head", f"{CHAT} stream", "tool", "created", "a thousand times"),
    ("comp.stream.same_head", f"{COMPLETIONS} stream", "finish", "model", "twice"),
    ("chat.stream.equals_whole.text", CHAT, "", "choices.[].message.content", "with a marker"),
    ("chat.stream.equals_whole.text", f"{CHAT} stream", "text", "", "first event twice"),
    ("chat.stream.equals_whole.text", f"{CHAT} stream", "usage", "", "last event twice"),
    (
        "chat.stream.equals_whole.logprobs",
        f"{CHAT} stream",
        "text",
        "choices.[].logprobs.content",
        "empty",
    ),
    ("chat.stream.equals_whole.call", f"{CHAT} stream", "tool", "", "every event dropped"),
    ("comp.stream.equals_whole", f"{COMPLETIONS} stream", "text", "", "last event dropped"),
    ("comp.stream.equals_whole", COMPLETIONS, "", "choices.[].text", "cut in the middle"),
    ("comp.logprobs.aligned", COMPLETIONS, "", "choices.[].logprobs.text_offset", "reversed"),
    (
        "comp.logprobs.aligned",
        COMPLETIONS,
        "",
        "choices.[].logprobs.token_logprobs",
        "without the last",
    ),
    (
        "logprobs.alternatives",
        CHAT,
        "",
        "choices.[].logprobs.content.[].top_logprobs.[].bytes",
        "reversed",
    ),
    (
        "logprobs.alternatives",
        CHAT,
        "",
        "choices.[].logprobs.content.[].top_logprobs",
        "without the first",
    ),
    ("err.param_named", "error", "", "error.param", "another"),
)
for _name, _kind, _part, _path, _operator in _BROKEN:
    mutant(_name, mutated(_kind, _part, _path, _operator))
