"""Rules for text completions, embeddings and the responses API."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llmengine.mock.bodies import as_chat, chat_ask, completion, prompts
from llmengine.mock.embeddings import MAX_DIMENSIONS
from llmengine.mock.json_fields import integer, items, mapping
from llmengine.mock.rules.base import (
    Finder,
    Problem,
    Rule,
    context_problem,
    model_rules,
    one_of,
    required,
    sampling_rules,
    typed,
    unknown_value,
    within,
    wrong_type,
)
from llmengine.mock.rules.chat import EFFORTS, STRUCTURED_RULES, TOOL_RULES
from llmengine.mock.text import count

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON
    from llmengine.mock.rules.base import ModelLimits


_FORMS = "a string, an array of strings, an array of tokens, or an array of token arrays"


def is_tokens(value: Any) -> bool:
    """Whether the value is a list of token ids."""
    if not isinstance(value, list):
        return False
    return all((i := integer(v)) is not None and i >= 0 for v in value)


def fits_no_form(value: Any) -> bool:
    """Whether a prompt or an input has none of the four forms that OpenAI accepts."""
    if isinstance(value, str) or is_tokens(value):
        return False
    if not isinstance(value, list):
        return True
    return not (all(isinstance(v, str) for v in value) or all(map(is_tokens, value)))


def _prompt_type(body: JSON, limits: ModelLimits) -> Problem | None:
    prompt = body.get("prompt")
    if prompt is None or not fits_no_form(prompt):
        return None
    return wrong_type("prompt", _FORMS, prompt)


def _prompt_empty(body: JSON, limits: ModelLimits) -> Problem | None:
    if body.get("prompt") != []:
        return None
    message = "Invalid 'prompt': empty array. Expected an array with minimum length 1."
    return Problem(message, "prompt", "empty_array")


def _best_of(body: JSON, limits: ModelLimits) -> Problem | None:
    best = integer(body.get("best_of"))
    if best is None:
        return None
    if best < (integer(body.get("n")) or 1):
        return Problem("You requested that the server return more choices than best_of.", "best_of")
    return within("best_of", 1, 20)(body, limits)


def _best_of_stream(body: JSON, limits: ModelLimits) -> Problem | None:
    if body.get("stream") is not True or (integer(body.get("best_of")) or 1) <= 1:
        return None
    return Problem("Results cannot be streamed with 'best_of' greater than 1.", "best_of")


def _completion_overflow(body: JSON, limits: ModelLimits) -> Problem | None:
    for ask in completion(body).asks:
        if problem := context_problem(ask.prompt_tokens, ask.max_tokens, limits, "prompt"):
            return problem
    return None


COMPLETION_RULES = (
    *model_rules("comp"),
    Rule("comp.missing_prompt", required("prompt")),
    Rule("comp.prompt.type", _prompt_type),
    Rule("comp.prompt.min1", _prompt_empty),
    Rule(
        "comp.wrong_type",
        typed(
            temperature="a number",
            top_p="a number",
            n="an integer",
            best_of="an integer",
            stream="a boolean",
            stream_options="an object",
            max_tokens="an integer",
            presence_penalty="a number",
            frequency_penalty="a number",
            logit_bias="an object",
            logprobs="an integer",
            echo="a boolean",
            seed="an integer",
            suffix="a string",
            user="a string",
        ),
    ),
    *sampling_rules("comp"),
    Rule("comp.max_tokens.negative", within("max_tokens", 0)),
    Rule("comp.logprobs.max5", within("logprobs", 0, 5)),
    Rule("comp.best_of.range", _best_of),
    Rule("comp.best_of.stream", _best_of_stream),
    Rule("err.context_overflow", _completion_overflow),
)


_MAX_INPUTS = 2048


def _empty(body: JSON, limits: ModelLimits) -> Problem | None:
    value = body.get("input")
    if value not in ("", []) and not any(v in ("", []) for v in items(value)):
        return None
    return Problem("Invalid 'input': input cannot be an empty string or array.", "input")


def _type(body: JSON, limits: ModelLimits) -> Problem | None:
    value = body.get("input")
    if value is None or not fits_no_form(value):
        return None
    return wrong_type("input", "strings or arrays of tokens", value)


def _too_many(body: JSON, limits: ModelLimits) -> Problem | None:
    inputs = len(prompts(body.get("input")))
    if inputs <= _MAX_INPUTS:
        return None
    message = f"Invalid 'input': maximum array length is {_MAX_INPUTS}, but got {inputs}."
    return Problem(message, "input", "array_above_max_length")


def _embedding_overflow(body: JSON, limits: ModelLimits) -> Problem | None:
    for text in prompts(body.get("input")):
        if problem := context_problem(count(text), None, limits, "input"):
            return problem
    return None


EMBEDDING_RULES = (
    *model_rules("emb"),
    Rule("emb.input.required", required("input")),
    Rule("emb.empty_input", _empty),
    Rule("emb.input.type", _type),
    Rule("emb.input.max2048", _too_many),
    Rule(
        "emb.wrong_type",
        typed(dimensions="an integer", encoding_format="a string", user="a string"),
    ),
    Rule("emb.encoding_format", one_of("encoding_format", {"float", "base64"})),
    Rule("emb.dimensions.range", within("dimensions", 1, MAX_DIMENSIONS)),
    Rule("err.context_overflow", _embedding_overflow),
)


_ITEMS = frozenset(
    {"message", "function_call", "function_call_output", "reasoning", "item_reference"}
)
_ROLES = frozenset({"system", "developer", "user", "assistant"})
_RENAMED = (
    ("response_format.json_schema.", "text.format."),
    ("response_format.json_schema", "text.format.schema"),
    ("response_format", "text.format"),
    (".function", ""),
    ("messages", "input"),
)


def _input(body: JSON, limits: ModelLimits) -> Problem | None:
    given = body.get("input")
    if given is None or isinstance(given, str | list):
        return None
    return wrong_type("input", "a string or an array of objects", given)


def _items(body: JSON, limits: ModelLimits) -> Problem | None:
    for place, item in enumerate(items(body.get("input"))):
        if problem := _item(f"input[{place}]", item):
            return problem
    return None


def _item(field: str, item: Any) -> Problem | None:
    if not isinstance(item, dict):
        return wrong_type(field, "an object", item)
    kind = item.get("type", "message")
    if not isinstance(kind, str) or kind not in _ITEMS:
        return unknown_value(f"{field}.type", kind, _ITEMS)
    if kind != "message":
        return None
    role = item.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        return unknown_value(f"{field}.role", role, _ROLES)
    if not isinstance(item.get("content"), str | list):
        return wrong_type(f"{field}.content", "a string or an array", item.get("content"))
    return None


def _effort(body: JSON, limits: ModelLimits) -> Problem | None:
    asked = {"reasoning.effort": mapping(body.get("reasoning")).get("effort")}
    return one_of("reasoning.effort", EFFORTS)(asked, limits)


def _response_overflow(body: JSON, limits: ModelLimits) -> Problem | None:
    ask = chat_ask(as_chat(body))
    return context_problem(ask.prompt_tokens, ask.max_tokens, limits, "input")


def _translated(find: Finder) -> Finder:
    """Apply a chat rule to the translated body, and name the field of the responses API."""

    def found(body: JSON, limits: ModelLimits) -> Problem | None:
        problem = find(as_chat(body), limits)
        if problem is None or problem.param is None:
            return problem
        param, message = problem.param, problem.message
        for chat, here in _RENAMED:
            param, message = param.replace(chat, here), message.replace(chat, here)
        return replace(problem, param=param, message=message)

    return found


# In the responses API an empty list of tools is the same as none, and the choice has a default.
_NOT_HERE = frozenset({"chat.tools.empty_array", "tools.parallel.without_tools"})
_SHARED = tuple(r for r in (*TOOL_RULES, *STRUCTURED_RULES) if r.name not in _NOT_HERE)

RESPONSE_RULES = (
    *model_rules("resp"),
    Rule("resp.input.required", required("input")),
    Rule("resp.input.type", _input),
    Rule("resp.input.items", _items),
    Rule(
        "resp.wrong_type",
        typed(
            temperature="a number",
            top_p="a number",
            max_output_tokens="an integer",
            stream="a boolean",
            store="a boolean",
            instructions="a string",
            previous_response_id="a string",
            tools="an array",
            parallel_tool_calls="a boolean",
            text="an object",
            reasoning="an object",
            metadata="an object",
            top_logprobs="an integer",
            include="an array",
            user="a string",
        ),
    ),
    Rule("resp.temperature.range", within("temperature", 0, 2)),
    Rule("resp.top_p.range", within("top_p", 0, 1)),
    Rule("resp.max_output_tokens.range", within("max_output_tokens", 1)),
    Rule("resp.top_logprobs.max20", within("top_logprobs", 0, 20)),
    Rule("resp.reasoning.effort", _effort),
    *(Rule(f"resp.{r.name}", _translated(r.find)) for r in _SHARED),
    Rule("err.context_overflow", _response_overflow),
)
