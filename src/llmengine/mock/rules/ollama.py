"""Rules of Ollama's own API, in its words."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from llmengine.mock.chat_body import chat_ask
from llmengine.mock.ollama_body import chat_as_chat, generate_as_chat, wanted_schema
from llmengine.mock.reading import is_number, items, mapping
from llmengine.mock.rules.common import context_problem
from llmengine.mock.rules.kinds import Finder, Problem, Rule, typed
from llmengine.mock.rules.structured import schema_problem
from llmengine.mock.rules.tools import TOOL_RULES

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine.mock.behaviour import JSON
    from llmengine.mock.rules.kinds import Limits

_AS_IF_IT_FAILED = 500  # what Ollama answers to some requests that are wrong
_EFFORTS = ("high", "medium", "low", "max")
_ROLES = ("system", "user", "assistant", "tool")
_DURATION = re.compile(r"-?(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+|0")
_NUMBERS = ("temperature", "top_p", "min_p", "repeat_penalty")
_INTEGERS = ("num_predict", "seed", "num_ctx", "top_k")


def _model(body: JSON, limits: Limits) -> Problem | None:
    return None if body.get("model") else Problem("model is required")


def _unknown_model(body: JSON, limits: Limits) -> Problem | None:
    model = body.get("model")
    if not isinstance(model, str) or model in limits.models:
        return None
    return Problem(f"model '{model}' not found", status=404)


def _role(body: JSON, limits: Limits) -> Problem | None:
    for message in items(body.get("messages")):
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            return Problem("invalid role, must be one of [system user assistant tool]")
    return None


def _format(body: JSON, limits: Limits) -> Problem | None:
    given = body.get("format")
    if given in (None, "", "json") or isinstance(given, dict):
        return None
    said = json.dumps(given)
    message = f'invalid format: {said}; expected "json" or a valid JSON Schema object'
    return Problem(message, status=_AS_IF_IT_FAILED)


def _schema(body: JSON, limits: Limits) -> Problem | None:
    schema = wanted_schema(body.get("format"))
    problem = None if schema is None else schema_problem(schema, "format")
    return Problem(f"invalid JSON schema in format: {problem.message}") if problem else None


def _options(body: JSON, limits: Limits) -> Problem | None:
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


def _think(body: JSON, limits: Limits) -> Problem | None:
    think = body.get("think")
    if think is None or isinstance(think, bool) or think in _EFFORTS:
        return None
    names = ", ".join(f'"{e}"' for e in _EFFORTS)
    return Problem(f"invalid think value: {json.dumps(think)} (must be {names}, true, or false)")


def _keep_alive(body: JSON, limits: Limits) -> Problem | None:
    given = body.get("keep_alive")
    if not isinstance(given, str) or _DURATION.fullmatch(given):
        return None
    return Problem(f'time: invalid duration "{given}"')


def _overflow(as_chat: Callable[[JSON], JSON]) -> Finder:
    def find(body: JSON, limits: Limits) -> Problem | None:
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
