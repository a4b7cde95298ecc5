"""Rules of what vLLM adds to OpenAI's API."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from llmengine.mock.constraints import given_kinds, literals, schema_of
from llmengine.mock.reading import integer, items
from llmengine.mock.rules.common import model_rules
from llmengine.mock.rules.kinds import Problem, Rule, either, required, typed, wrong_type
from llmengine.mock.rules.structured import schema_problem

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON
    from llmengine.mock.rules.kinds import Limits

_FIELD = "structured_outputs"


def _one_kind(body: JSON, limits: Limits) -> Problem | None:
    wanted = body.get(_FIELD)
    if wanted is None:
        return None
    if not isinstance(wanted, dict):
        return wrong_type(_FIELD, "an object", wanted)
    if len(kinds := given_kinds(wanted)) == 1:
        return None
    what = "multiple are specified" if kinds else "none are specified"
    return Problem(f"You must use one kind of structured outputs constraint but {what}.", _FIELD)


def _playable(body: JSON, limits: Limits) -> Problem | None:
    wanted = body.get(_FIELD)
    if not isinstance(wanted, dict) or not given_kinds(wanted):
        return None
    if "structural_tag" in wanted:
        return Problem("The mock does not play structural tags.", _FIELD)
    if isinstance(grammar := wanted.get("grammar"), str) and not literals(grammar):
        return Problem('The mock plays only grammars like root ::= "a" | "b".', _FIELD)
    if isinstance(pattern := wanted.get("regex"), str) and (wrong := _regex_problem(pattern)):
        return Problem(f"Grammar error: invalid regex {pattern!r}: {wrong}", _FIELD)
    if (schema := schema_of(wanted)) is None:
        return Problem("Invalid structured outputs constraint.", _FIELD)
    return schema_problem(schema, _FIELD)


def _regex_problem(pattern: str) -> str | None:
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        return str(error)
    return None


def _conversations(body: JSON, limits: Limits) -> Problem | None:
    listed = items(body.get("messages"))
    if not listed:
        return Problem("List should have at least 1 item after validation, not 0.", "messages")
    for place, messages in enumerate(listed):
        if not isinstance(messages, list) or not messages:
            return wrong_type(f"messages[{place}]", "an array", messages)
        for message in messages:
            if not isinstance(message, dict):
                return wrong_type(f"messages[{place}]", "an object", message)
    return None


def _text_or_messages(body: JSON, limits: Limits) -> Problem | None:
    if isinstance(body.get("prompt"), str) or isinstance(body.get("messages"), list):
        return None
    return Problem("Give either 'prompt' or 'messages'.", "prompt", "missing_required_parameter")


def _ids(body: JSON, limits: Limits) -> Problem | None:
    tokens = body.get("tokens")
    if isinstance(tokens, list) and all((integer(t) or 0) == t for t in tokens):
        return None
    return wrong_type("tokens", "an array", tokens)


def _only(field: str, allowed: Any) -> Rule:
    """A field that a batch of chats has no use for."""

    def find(body: JSON, limits: Limits) -> Problem | None:
        if body.get(field) in (None, allowed):
            return None
        return Problem(f"Batch chat completions do not support '{field}'.", field)

    return Rule(f"vllm.batch.{field}", find)


CONSTRAINT_RULES = (
    Rule("vllm.structured_outputs", _one_kind),
    Rule("vllm.structured_outputs.kind", _playable),
)
BATCH_RULES = (
    *model_rules("vllm.batch"),
    Rule(
        "vllm.batch.messages",
        either(required("messages"), typed(messages="an array"), _conversations),
    ),
    _only("n", 1),
    _only("stream", False),
    _only("tools", []),
)
TOKENIZE_RULES = (
    *model_rules("vllm.tokenize"),
    Rule("vllm.tokenize.prompt", _text_or_messages),
)
DETOKENIZE_RULES = (
    *model_rules("vllm.detokenize"),
    Rule("vllm.detokenize.tokens", _ids),
)
