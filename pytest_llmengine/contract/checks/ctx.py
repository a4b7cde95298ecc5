"""Checks of ctx: how long the context is, and what happens at its end."""

from __future__ import annotations

import json
import re
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_llmengine.contract.assertions import control, rejected, usage
from pytest_llmengine.contract.outcomes import Unmeasured, expect, expect_effect
from pytest_llmengine.contract.registry import EXPECTED, EXTENDED, QUIRK, check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmengine.contract.reply import Reply
    from pytest_llmengine.contract.target import Target

rule = partial(check, group="ctx", tier=EXTENDED, since="2026-11-27", heavy=True)

LONGEST = 33_000  # tokens; a longer prompt is too much for one check
PROBE = 300  # tokens of the prompt that tells how fast the server reads
SLOWER = 1.5  # how much longer a token of a long prompt takes than one of a short prompt
KEYS = ("n_ctx", "max_model_len", "context_length", "context_window", "max_context_length")
PLACES = ("/props", "/api/ps", "/get_server_info")
SENTENCE = re.compile(
    r"(?:context (?:length|size|window)\D{0,40}|n_ctx\D{0,5})(\d{3,8})", re.IGNORECASE
)


@rule(
    "ctx.stated",
    level=QUIRK,
    source="OpenAI docs: guides/error-codes; vllm 0.32.0: vllm/entrypoints/openai/protocol.py",
    breaks="A client cannot know how long a prompt may be, so it cannot shorten one in time.",
)
def stated(target: Target) -> None:
    """The server says how many tokens its context has: in a list, or when a prompt is too long."""
    control(target)
    expect(_context(target), "neither a list nor an error says how long the context is")


@rule(
    "ctx.boundary",
    level=EXPECTED,
    source="OpenAI docs: guides/error-codes; ollama/ollama#4967",
    breaks="A prompt that fits is refused, or the end of one that does not fit is lost.",
)
def boundary(target: Target) -> None:
    """A prompt that fills the context up to one token is answered, and one more is refused."""
    control(target)
    size = _context(target)
    if not size:
        raise Unmeasured("the server does not say how long its context is")
    if size > LONGEST:
        raise Unmeasured(f"a prompt of {size} tokens is too long for a check")
    _need_speed(target, size)
    fits = _prompt(target, size - 1)
    read = usage(target.chat(fits, max_tokens=1).success(), "prompt_tokens")
    expect_effect(read == size - 1, f"of a prompt of {size - 1} tokens {read} were read")
    reply = target.chat(f"{fits} a", max_tokens=1)
    if reply.ok and usage(reply.success(), "prompt_tokens") >= size:
        raise Unmeasured(f"the context is longer than the {size} tokens that the server states")
    rejected(reply, f"a prompt of all {size} tokens")


def _need_speed(target: Target, tokens: int) -> None:
    """End the check as unmeasured if so many tokens would take half the time of an answer.

    Only live: a recorder must record the same requests on each machine.
    """
    if not (target.clock and target.direct):
        return
    few, more = (_seconds(target, words) for words in (30, 30 + PROBE))
    seconds = (more - few) / PROBE * tokens * SLOWER
    if seconds > target.limits.answer / 2:
        raise Unmeasured(
            f"a prompt of {tokens} tokens would take the server about {seconds:.0f} s, "
            "which is too long for a check"
        )


def _seconds(target: Target, words: int) -> float:
    start = time.monotonic()
    _tokens(target, words)
    return time.monotonic() - start


def _prompt(target: Target, tokens: int) -> str:
    """A prompt that has so many tokens with its template; a word more is a token more."""
    few, more = (_tokens(target, words) for words in (10, 30))
    if more - few != 20:
        raise Unmeasured(f"20 words more are {more - few} tokens more, and not 20")
    return " ".join(["a"] * (tokens - few + 10))


def _tokens(target: Target, words: int) -> int:
    return usage(target.chat(" ".join(["a"] * words), max_tokens=1).success(), "prompt_tokens")


def _context(target: Target) -> int:
    """The number of tokens that the server says; 0 if it says none."""
    if found := _number(target.get("/models"), target.model):
        return found
    for path in PLACES:
        if found := _number(target.get(path, root=True), target.model):
            return found
    reply = target.chat("a " * 200_000, max_tokens=1)
    stated = SENTENCE.search(reply.error_message)
    return _number(reply) or int(stated[1] if stated else 0)


def _number(reply: Reply, model: str = "") -> int:
    """The number under one of the known keys in a reply, first in the object of the model."""
    try:
        values = list(_objects(json.loads(reply.body)))
    except (ValueError, RecursionError):
        return 0
    values.sort(key=lambda value: model not in {value.get("id"), value.get("model")})
    numbers = (value[key] for value in values for key in KEYS if key in value)
    return next((n for n in numbers if type(n) is int and n > 0), 0)


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """All objects in a JSON value, from the outside to the inside."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    for inner in value if isinstance(value, list) else ():
        yield from _objects(inner)
