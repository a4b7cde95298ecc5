"""Mutants of chat.stream.sse_grammar and .utf8."""

from __future__ import annotations

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.hooks import replaced, sent
from pytest_llmengine.contract.mutants.registry import mutant

EMOJI = "🙂".encode()

mutant(
    "chat.stream.sse_grammar",
    Behaviour("a line of prose", wire=sent(lambda c: [b"please wait\n\n", *c])),
)
mutant(
    "chat.stream.sse_grammar",
    Behaviour("no blank line at the end", wire=sent(lambda c: [*c[:-1], c[-1].rstrip()])),
)
mutant(
    "chat.stream.utf8.valid_json_each",
    Behaviour("half the bytes of a character", wire=replaced(EMOJI, EMOJI[:2])),
)
mutant(
    "chat.stream.utf8.valid_json_each",
    Behaviour("half a pair of surrogates", wire=replaced(EMOJI, b"\\ud83d")),
)
mutant(
    "chat.stream.utf8.no_ufffd",
    Behaviour("a character lost", wire=replaced(EMOJI, "\ufffd\ufffd".encode())),
)
