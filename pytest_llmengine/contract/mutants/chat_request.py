"""Mutants of chat.request."""

from __future__ import annotations

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.hooks import events, forgets, messages, put, rule_off, taking
from pytest_llmengine.contract.mutants.registry import mutant

REJECTIONS = (
    "chat.messages.min1",
    "chat.messages.required",
    "chat.model.required",
    "chat.roles.unknown",
    "chat.content.null_user",
    "chat.max_tokens.zero_negative",
    "chat.temperature.range",
    "chat.top_p.range",
    "chat.penalties.range",
    "chat.stop.max4",
    "chat.stop.nonstring",
    "chat.n.range",
    "chat.stream_options.without_stream",
    "chat.wrong_type",
    "chat.reasoning_effort",
)

for name in REJECTIONS:
    rule_off(name)
    mutant(name, Behaviour("refused without a word", error=put("", "error", "message")))

mutant(
    "chat.penalties.range",
    Behaviour("penalties dropped", request=forgets("frequency_penalty", "presence_penalty")),
)
mutant(
    "chat.roles.unknown",
    Behaviour(
        "a message of an unknown role is dropped",
        request=messages(lambda found: [m for m in found if m["role"] != "wizard"]),
        without_rules=frozenset({"chat.messages.min1"}),
    ),
)

_NO_LIMIT = forgets("max_tokens", "stop")
_LONG = 10  # chunks

# Where a cap below 1 means no limit, a stream goes on until the client leaves.
mutant(
    "chat.max_tokens.zero_negative",
    Behaviour(
        "a max_tokens of -5 means no limit",
        without_rules=frozenset({"chat.max_tokens.zero_negative"}),
        request=lambda body, call: _NO_LIMIT(body, call) if body.get("max_tokens") == -5 else body,
        events=events(lambda found: found * 2000 if len(found) > _LONG else found),
    ),
)

# The values at the ends of a range are valid.
for name, field, good, taken_for in (
    ("chat.temperature.range", "temperature", 2, 3),
    ("chat.top_p.range", "top_p", 0, -1),
    ("chat.penalties.range", "presence_penalty", -2, -3),
    ("chat.penalties.range", "presence_penalty", 2, 3),
    ("chat.stop.max4", "stop", ["@1", "@2", "@3", "@4"], ["@"] * 5),
    ("chat.n.range", "n", 1, 0),
):
    mutant(name, Behaviour(f"{field}={good} refused", request=taking(taken_for, good, field)))
