"""Rules for Ollama's own API, with its messages, and for vLLM's additions to OpenAI's API."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from llmengine.mock.bodies import (
    chat_request,
    constraint_kinds,
    constraint_schema,
    literals,
    ollama_chat_as_chat,
    ollama_generate_as_chat,
    ollama_schema,
)
from llmengine.mock.json_fields import integer, is_number, items, mapping
from llmengine.mock.rules.base import (
    Problem,
    Rule,
    either,
    fits_context,
    model_rules,
    required,
    typed,
    wrong_type,
)
from llmengine.mock.rules.chat import TOOL_RULES, schema_problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine.mock.json_fields import Body
    from llmengine.mock.rules.base import ModelLimits


_SERVER_ERROR = 500  # Ollama's status for some invalid requests
_EFFORTS = ("high", "medium", "low", "max")
_ROLES = ("system", "user", "assistant", "tool")
_DURATION = re.compile(r"-?(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+|0")
_NUMBERS = ("temperature", "top_p", "min_p", "repeat_penalty")
_INTEGERS = ("num_predict", "seed", "num_ctx", "top_k")


def _model(body: Body, limits: ModelLimits) -> Problem | None:
    return None if body.get("model") else Problem("model is required")


def _unknown_model(body: Body, limits: ModelLimits) -> Problem | None:
    model = body.get("model")
    if not isinstance(model, str) or model in limits.models:
        return None
    return Problem(f"model '{model}' not found", status=404)


def _role(body: Body, limits: ModelLimits) -> Problem | None:
    for message in items(body.get("messages")):
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            return Problem("invalid role, must be one of [system user assistant tool]")
    return None


def _format(body: Body, limits: ModelLimits) -> Problem | None:
    value = body.get("format")
    if value in (None, "", "json") or isinstance(value, dict):
        return None
    message = f'invalid format: {json.dumps(value)}; expected "json" or a valid JSON Schema object'
    return Problem(message, status=_SERVER_ERROR)


def _schema(body: Body, limits: ModelLimits) -> Problem | None:
    schema = ollama_schema(body.get("format"))
    problem = None if schema is None else schema_problem(schema, "format")
    return Problem(f"invalid JSON schema in format: {problem.message}") if problem else None


def _input(body: Body, limits: ModelLimits) -> Problem | None:
    value = body.get("input")
    parts = value if isinstance(value, list) else [value]
    if value is None or all(isinstance(part, str) for part in parts):
        return None
    return Problem("invalid input type")


def _options(body: Body, limits: ModelLimits) -> Problem | None:
    options = mapping(body.get("options"))
    wrong = [(name, "float32") for name in _NUMBERS if not is_number(options.get(name, 0))]
    wrong += [(name, "integer") for name in _INTEGERS if not _is_whole(options.get(name, 0))]
    for name, kind in wrong:
        return Problem(f'option "{name}" must be of type {kind}', status=_SERVER_ERROR)
    return None


def _is_whole(value: object) -> bool:
    if isinstance(value, float):
        return value.is_integer()
    return isinstance(value, int) and not isinstance(value, bool)


def _think(body: Body, limits: ModelLimits) -> Problem | None:
    think = body.get("think")
    if think is None or isinstance(think, bool) or think in _EFFORTS:
        return None
    names = ", ".join(f'"{e}"' for e in _EFFORTS)
    return Problem(f"invalid think value: {json.dumps(think)} (must be {names}, true, or false)")


def _keep_alive(body: Body, limits: ModelLimits) -> Problem | None:
    value = body.get("keep_alive")
    if not isinstance(value, str) or _DURATION.fullmatch(value):
        return None
    return Problem(f'time: invalid duration "{value}"')


def _overflow(as_chat: Callable[[Body], Body]) -> Rule:
    """The prompt must fit the context; the wanted completion does not count."""
    find = fits_context(lambda body: [chat_request(as_chat(body))], "prompt", with_completion=False)
    return Rule("err.context_overflow", find)


def _types(**fields: str) -> Rule:
    return Rule(
        "ollama.wrong_type",
        typed(model="a string", stream="a boolean", options="an object", **fields),
    )


_REQUIRED = Rule("ollama.model.required", _model)
_MODEL = (_REQUIRED, Rule("ollama.unknown_model", _unknown_model))
_SETTINGS = (
    Rule("ollama.format", _format),
    Rule("ollama.format.schema", _schema),
    Rule("ollama.options.type", _options),
    Rule("ollama.think", _think),
    Rule("ollama.keep_alive", _keep_alive),
)
_TOOL_RULES_OF_OLLAMA = frozenset({"tools.shape", "tools.name", "tools.parameters"})

OLLAMA_CHAT = (
    *_MODEL,
    _types(messages="an array", tools="an array"),
    Rule("ollama.roles.unknown", _role),
    *_SETTINGS,
    *(Rule(f"ollama.{r.name}", r.find) for r in TOOL_RULES if r.name in _TOOL_RULES_OF_OLLAMA),
    _overflow(ollama_chat_as_chat),
)
OLLAMA_GENERATE = (
    *_MODEL,
    _types(prompt="a string", system="a string", raw="a boolean"),
    *_SETTINGS,
    _overflow(ollama_generate_as_chat),
)
OLLAMA_EMBED = (
    *_MODEL,
    _types(dimensions="an integer", truncate="a boolean"),
    Rule("ollama.input", _input),
)
OLLAMA_EMBEDDINGS = (*_MODEL, _types(prompt="a string"))
OLLAMA_SHOW = _MODEL
OLLAMA_PULL = (_REQUIRED, Rule("ollama.wrong_type", typed(model="a string", stream="a boolean")))


_FIELD = "structured_outputs"


def _one_kind(body: Body, limits: ModelLimits) -> Problem | None:
    constraint = body.get(_FIELD)
    if constraint is None:
        return None
    if not isinstance(constraint, dict):
        return wrong_type(_FIELD, "an object", constraint)
    if len(kinds := constraint_kinds(constraint)) == 1:
        return None
    what = "multiple are specified" if kinds else "none are specified"
    return Problem(f"You must use one kind of structured outputs constraint but {what}.", _FIELD)


def _supported(body: Body, limits: ModelLimits) -> Problem | None:
    constraint = body.get(_FIELD)
    if not isinstance(constraint, dict) or not constraint_kinds(constraint):
        return None
    if "structural_tag" in constraint:
        return Problem("The mock does not support structural tags.", _FIELD)
    if isinstance(grammar := constraint.get("grammar"), str) and not literals(grammar):
        return Problem('The mock supports only grammars like root ::= "a" | "b".', _FIELD)
    if isinstance(pattern := constraint.get("regex"), str) and (wrong := _regex_problem(pattern)):
        return Problem(f"Grammar error: invalid regex {pattern!r}: {wrong}", _FIELD)
    if (schema := constraint_schema(constraint)) is None:
        return Problem("Invalid structured outputs constraint.", _FIELD)
    return schema_problem(schema, _FIELD)


def _regex_problem(pattern: str) -> str | None:
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        return str(error)
    return None


def _conversations(body: Body, limits: ModelLimits) -> Problem | None:
    listed = items(body.get("messages"))
    if not listed:
        return Problem("List should have at least 1 item after validation, not 0.", "messages")
    for index, messages in enumerate(listed):
        if not isinstance(messages, list) or not messages:
            return wrong_type(f"messages[{index}]", "an array", messages)
        for message in messages:
            if not isinstance(message, dict):
                return wrong_type(f"messages[{index}]", "an object", message)
    return None


def _text_or_messages(body: Body, limits: ModelLimits) -> Problem | None:
    if isinstance(body.get("prompt"), str) or isinstance(body.get("messages"), list):
        return None
    return Problem("Give either 'prompt' or 'messages'.", "prompt", "missing_required_parameter")


def _ids(body: Body, limits: ModelLimits) -> Problem | None:
    tokens = body.get("tokens")
    if isinstance(tokens, list) and all((integer(t) or 0) == t for t in tokens):
        return None
    return wrong_type("tokens", "an array", tokens)


def _unsupported(field: str, default: object) -> Rule:
    """The field may only have its default, because a batch of chats does not support it."""

    def find(body: Body, limits: ModelLimits) -> Problem | None:
        if body.get(field) in (None, default):
            return None
        return Problem(f"Batch chat completions do not support '{field}'.", field)

    return Rule(f"vllm.batch.{field}", find)


CONSTRAINT_RULES = (
    Rule("vllm.structured_outputs", _one_kind),
    Rule("vllm.structured_outputs.kind", _supported),
)
BATCH_RULES = (
    *model_rules("vllm.batch"),
    Rule(
        "vllm.batch.messages",
        either(required("messages"), typed(messages="an array"), _conversations),
    ),
    _unsupported("n", 1),
    _unsupported("stream", False),
    _unsupported("tools", []),
)
TOKENIZE_RULES = (
    *model_rules("vllm.tokenize"),
    Rule("vllm.tokenize.prompt", _text_or_messages),
)
DETOKENIZE_RULES = (
    *model_rules("vllm.detokenize"),
    Rule("vllm.detokenize.tokens", _ids),
)
