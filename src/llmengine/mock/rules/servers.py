"""Rules for Ollama's own API, in its words, and for vLLM's additions to OpenAI's API."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from llmengine.mock.bodies import (
    chat_as_chat,
    chat_ask,
    generate_as_chat,
    given_kinds,
    literals,
    ollama_schema,
    schema_of,
)
from llmengine.mock.json_fields import integer, is_number, items, mapping
from llmengine.mock.rules.base import (
    Finder,
    Problem,
    Rule,
    context_problem,
    either,
    model_rules,
    required,
    typed,
    wrong_type,
)
from llmengine.mock.rules.chat import TOOL_RULES, schema_problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine.mock.behaviour import JSON
    from llmengine.mock.rules.base import ModelLimits


_AS_IF_IT_FAILED = 500  # Ollama's status for some invalid requests
_EFFORTS = ("high", "medium", "low", "max")
_ROLES = ("system", "user", "assistant", "tool")
_DURATION = re.compile(r"-?(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+|0")
_NUMBERS = ("temperature", "top_p", "min_p", "repeat_penalty")
_INTEGERS = ("num_predict", "seed", "num_ctx", "top_k")


def _model(body: JSON, limits: ModelLimits) -> Problem | None:
    return None if body.get("model") else Problem("model is required")


def _unknown_model(body: JSON, limits: ModelLimits) -> Problem | None:
    model = body.get("model")
    if not isinstance(model, str) or model in limits.models:
        return None
    return Problem(f"model '{model}' not found", status=404)


def _role(body: JSON, limits: ModelLimits) -> Problem | None:
    for message in items(body.get("messages")):
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            return Problem("invalid role, must be one of [system user assistant tool]")
    return None


def _format(body: JSON, limits: ModelLimits) -> Problem | None:
    given = body.get("format")
    if given in (None, "", "json") or isinstance(given, dict):
        return None
    said = json.dumps(given)
    message = f'invalid format: {said}; expected "json" or a valid JSON Schema object'
    return Problem(message, status=_AS_IF_IT_FAILED)


def _schema(body: JSON, limits: ModelLimits) -> Problem | None:
    schema = ollama_schema(body.get("format"))
    problem = None if schema is None else schema_problem(schema, "format")
    return Problem(f"invalid JSON schema in format: {problem.message}") if problem else None


def _options(body: JSON, limits: ModelLimits) -> Problem | None:
    options = mapping(body.get("options"))
    for names, kind, fits in (
        (_NUMBERS, "float32", is_number),
        (_INTEGERS, "integer", lambda v: is_number(v) and int(v) == v),
    ):
        for name in names:
            if name in options and not fits(options[name]):
                message = f'option "{name}" must be of type {kind}'
                return Problem(message, status=_AS_IF_IT_FAILED)
    return None


def _think(body: JSON, limits: ModelLimits) -> Problem | None:
    think = body.get("think")
    if think is None or isinstance(think, bool) or think in _EFFORTS:
        return None
    names = ", ".join(f'"{e}"' for e in _EFFORTS)
    return Problem(f"invalid think value: {json.dumps(think)} (must be {names}, true, or false)")


def _keep_alive(body: JSON, limits: ModelLimits) -> Problem | None:
    given = body.get("keep_alive")
    if not isinstance(given, str) or _DURATION.fullmatch(given):
        return None
    return Problem(f'time: invalid duration "{given}"')


def _overflow(as_chat: Callable[[JSON], JSON]) -> Finder:
    def find(body: JSON, limits: ModelLimits) -> Problem | None:
        ask = chat_ask(as_chat(body))
        return context_problem(ask.prompt_tokens, None, limits, "prompt")

    return find


def _types(**fields: Any) -> Rule:
    return Rule(
        "ollama.wrong_type",
        typed(model="a string", stream="a boolean", options="an object", **fields),
    )


_REQUIRED = Rule("ollama.model.required", _model)
MODEL = (_REQUIRED, Rule("ollama.unknown_model", _unknown_model))
_SHARED = (
    Rule("ollama.format", _format),
    Rule("ollama.format.schema", _schema),
    Rule("ollama.options.type", _options),
    Rule("ollama.think", _think),
    Rule("ollama.keep_alive", _keep_alive),
)
_OF_TOOLS = frozenset({"tools.shape", "tools.name", "tools.parameters"})

OLLAMA_CHAT = (
    *MODEL,
    _types(messages="an array", tools="an array"),
    Rule("ollama.roles.unknown", _role),
    *_SHARED,
    *(Rule(f"ollama.{r.name}", r.find) for r in TOOL_RULES if r.name in _OF_TOOLS),
    Rule("err.context_overflow", _overflow(chat_as_chat)),
)
OLLAMA_GENERATE = (
    *MODEL,
    _types(prompt="a string", system="a string", raw="a boolean"),
    *_SHARED,
    Rule("err.context_overflow", _overflow(generate_as_chat)),
)
OLLAMA_SHOW = MODEL
OLLAMA_PULL = (_REQUIRED, Rule("ollama.wrong_type", typed(model="a string", stream="a boolean")))


_FIELD = "structured_outputs"


def _one_kind(body: JSON, limits: ModelLimits) -> Problem | None:
    wanted = body.get(_FIELD)
    if wanted is None:
        return None
    if not isinstance(wanted, dict):
        return wrong_type(_FIELD, "an object", wanted)
    if len(kinds := given_kinds(wanted)) == 1:
        return None
    what = "multiple are specified" if kinds else "none are specified"
    return Problem(f"You must use one kind of structured outputs constraint but {what}.", _FIELD)


def _playable(body: JSON, limits: ModelLimits) -> Problem | None:
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


def _conversations(body: JSON, limits: ModelLimits) -> Problem | None:
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


def _text_or_messages(body: JSON, limits: ModelLimits) -> Problem | None:
    if isinstance(body.get("prompt"), str) or isinstance(body.get("messages"), list):
        return None
    return Problem("Give either 'prompt' or 'messages'.", "prompt", "missing_required_parameter")


def _ids(body: JSON, limits: ModelLimits) -> Problem | None:
    tokens = body.get("tokens")
    if isinstance(tokens, list) and all((integer(t) or 0) == t for t in tokens):
        return None
    return wrong_type("tokens", "an array", tokens)


def _only(field: str, allowed: Any) -> Rule:
    """The field may only have this value, because a batch of chats does not support it."""

    def find(body: JSON, limits: ModelLimits) -> Problem | None:
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
