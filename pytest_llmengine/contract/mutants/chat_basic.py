"""Mutants of chat.basic."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.hooks import answering, body, ignoring, put, without
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON, ReceivedRequest

CHOICE = ("choices", 0)
MESSAGE = (*CHOICE, "message")
FINISH = (*CHOICE, "finish_reason")


def _has_unknown_field(call: ReceivedRequest) -> bool:
    return isinstance(call.json, dict) and "llmengine_unknown_field" in call.json


def _half_a_character(body: JSON, call: ReceivedRequest) -> JSON:
    for choice in body.get("choices", []):
        choice["message"]["content"] += "\ufffd"
    return body


for field in ("id", "object", "created", "model", "choices"):
    mutant("chat.basic.required_fields", Behaviour(f"no {field}", reply=without(field)))

mutant(
    "chat.basic.object_const", Behaviour("a chunk", reply=put("chat.completion.chunk", "object"))
)

mutant("chat.basic.id_unique", Behaviour("one id for all", reply=put("chatcmpl-1", "id")))
mutant("chat.basic.id_unique", Behaviour("an empty id", reply=put("", "id")))
drawn = random.Random(3)  # nosec B311  # noqa: S311 - repeatable on purpose
mutant(
    "chat.basic.id_unique",
    Behaviour(
        "draws from 999",
        reply=body(lambda value: value.update(id=f"chatcmpl-{drawn.randrange(999)}")),
    ),
)

numbers = itertools.count(1)
mutant(
    "chat.basic.id_not_counted",
    Behaviour("counts", reply=body(lambda value: value.update(id=f"chatcmpl-{next(numbers)}"))),
)

mutant(
    "chat.basic.created_unix_int",
    Behaviour("created in words", reply=put("2026-11-21T00:00:00Z", "created")),
)
mutant(
    "chat.basic.created_unix_int",
    Behaviour("created in milliseconds", reply=put(1_795_296_764_000, "created")),
)

mutant("chat.basic.model_echo", Behaviour("a file name", reply=put("model.gguf", "model")))

for field in ("index", "message", "finish_reason", "logprobs"):
    mutant("chat.choice.required", Behaviour(f"no {field}", reply=without(*CHOICE, field)))

for field in ("role", "content", "refusal"):
    mutant("chat.message.required", Behaviour(f"no {field}", reply=without(*MESSAGE, field)))

mutant("chat.message.content_nullable", Behaviour("a list", reply=put(["Hi"], *MESSAGE, "content")))
mutant("chat.message.content_nullable", Behaviour("no text", reply=without(*MESSAGE, "content")))
mutant("chat.message.content_nullable", Behaviour("a bot", reply=put("bot", *MESSAGE, "role")))

mutant("chat.finish_reason.enum", Behaviour("abort", reply=put("abort", *FINISH)))
mutant("chat.finish_reason.enum", Behaviour("null", reply=put(None, *FINISH)))
mutant("chat.finish_reason.length", Behaviour("always stop", reply=put("stop", *FINISH)))
mutant("chat.finish_reason.stop_seq", Behaviour("always length", reply=put("length", *FINISH)))
mutant("chat.finish_reason.stop_seq", Behaviour("stop ignored", request=ignoring("stop")))

mutant("chat.system_fingerprint", Behaviour("null", reply=put(None, "system_fingerprint")))

mutant(
    "chat.unknown_field.tolerated",
    Behaviour("unknown fields are fatal", wire=answering(500, {}, when=_has_unknown_field)),
)
mutant(
    "chat.unknown_field.tolerated",
    Behaviour("refused without a word", wire=answering(400, {}, when=_has_unknown_field)),
)

mutant("chat.nonstream.utf8.cap", Behaviour("half a character", reply=_half_a_character))
