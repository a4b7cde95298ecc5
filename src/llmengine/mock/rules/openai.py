"""Rules for text completions, embeddings and the responses API."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from llmengine.mock import specification as spec
from llmengine.mock.bodies import (
    MAX_DIMENSIONS,
    completion_request,
    prompts,
    responses_as_chat,
)
from llmengine.mock.json_fields import integer, items, mapping
from llmengine.mock.rules.base import (
    Finder,
    Problem,
    Rule,
    check_one_of,
    context_problem,
    first_problem,
    fits_context,
    model_rules,
    not_empty,
    one_of,
    required,
    within,
    wrong_type,
)
from llmengine.mock.rules.chat import STRUCTURED_RULES, TOOL_RULES
from llmengine.mock.rules.fields import (
    COMPLETION,
    EMBEDDING,
    RESPONSE,
    not_played,
    sampling_rules,
    types_of,
    value_rules,
    values_of,
)
from llmengine.mock.text import count

if TYPE_CHECKING:
    from llmengine.mock.json_fields import Body
    from llmengine.mock.rules.base import ModelLimits


def _is_text_or_tokens(value: object) -> bool:
    """Whether a prompt or an input has one of the four forms that OpenAI accepts."""
    if isinstance(value, str) or _is_tokens(value):
        return True
    if not isinstance(value, list):
        return False
    return all(isinstance(v, str) for v in value) or all(map(_is_tokens, value))


def _is_tokens(value: object) -> bool:
    if not isinstance(value, list):
        return False
    return all((i := integer(v)) is not None and i >= 0 for v in value)


# ---- text completions

_PROMPTS = "a string, an array of strings, an array of tokens, or an array of token arrays"


def _prompt_type(body: Body, limits: ModelLimits) -> Problem | None:
    prompt = body.get("prompt")
    if prompt is None or _is_text_or_tokens(prompt):
        return None
    return wrong_type("prompt", _PROMPTS, prompt)


def _best_of(body: Body, limits: ModelLimits) -> Problem | None:
    best_of = integer(body.get("best_of"))
    if best_of is not None and best_of < (integer(body.get("n")) or 1):
        return Problem("You requested that the server return more choices than best_of.", "best_of")
    return within("best_of", 1, 20)(body, limits)


def _best_of_stream(body: Body, limits: ModelLimits) -> Problem | None:
    if body.get("stream") is not True or (integer(body.get("best_of")) or 1) <= 1:
        return None
    return Problem("Results cannot be streamed with 'best_of' greater than 1.", "best_of")


COMPLETION_RULES = (
    *model_rules("comp"),
    Rule("comp.missing_prompt", required("prompt")),
    Rule("comp.prompt.type", _prompt_type),
    Rule("comp.prompt.min1", not_empty("prompt")),
    Rule("comp.wrong_type", types_of(COMPLETION, without="model prompt stop")),
    *sampling_rules("comp", COMPLETION),
    *value_rules(
        COMPLETION, {"comp.max_tokens.negative": "max_tokens", "comp.logprobs.max5": "logprobs"}
    ),
    Rule("comp.best_of.range", _best_of),
    Rule("comp.best_of.stream", _best_of_stream),
    Rule("comp.fields", values_of(COMPLETION, only="echo seed stream stream_options suffix user")),
    Rule(
        "err.context_overflow",
        fits_context(lambda body: completion_request(body).requests, "prompt"),
    ),
)


# ---- embeddings

_MAX_INPUTS = 2048


def _empty_input(body: Body, limits: ModelLimits) -> Problem | None:
    value = body.get("input")
    if value not in ("", []) and not any(v in ("", []) for v in items(value)):
        return None
    return Problem("Invalid 'input': input cannot be an empty string or array.", "input")


def _input_type(body: Body, limits: ModelLimits) -> Problem | None:
    value = body.get("input")
    if value is None or _is_text_or_tokens(value):
        return None
    return wrong_type("input", "strings or arrays of tokens", value)


def _too_many_inputs(body: Body, limits: ModelLimits) -> Problem | None:
    inputs = len(prompts(body.get("input")))
    if inputs <= _MAX_INPUTS:
        return None
    message = f"Invalid 'input': maximum array length is {_MAX_INPUTS}, but got {inputs}."
    return Problem(message, "input", "array_above_max_length")


def _embedding_overflow(body: Body, limits: ModelLimits) -> Problem | None:
    texts = prompts(body.get("input"))
    return first_problem(context_problem(count(text), None, limits, "input") for text in texts)


EMBEDDING_RULES = (
    *model_rules("emb"),
    Rule("emb.input.required", required("input")),
    Rule("emb.empty_input", _empty_input),
    Rule("emb.input.type", _input_type),
    Rule("emb.input.max2048", _too_many_inputs),
    Rule("emb.wrong_type", types_of(EMBEDDING, without="model input")),
    Rule("emb.encoding_format", values_of(EMBEDDING, only="encoding_format")),
    Rule("emb.dimensions.range", within("dimensions", 1, MAX_DIMENSIONS)),
    Rule("err.context_overflow", _embedding_overflow),
)


# ---- the responses API

_ITEMS = frozenset(
    {"message", "function_call", "function_call_output", "reasoning", "item_reference"}
)
_ROLES = frozenset({"system", "developer", "user", "assistant"})
# Names of fields in messages of chat rules, and their names in the responses API.
_RENAMED = (
    ("response_format.json_schema.", "text.format."),
    ("response_format.json_schema", "text.format.schema"),
    ("response_format", "text.format"),
    (".function", ""),
    ("messages", "input"),
)


def _responses_input(body: Body, limits: ModelLimits) -> Problem | None:
    given = body.get("input")
    if given is None or isinstance(given, str | list):
        return None
    return wrong_type("input", "a string or an array of objects", given)


def _input_items(body: Body, limits: ModelLimits) -> Problem | None:
    listed = enumerate(items(body.get("input")))
    return first_problem(_item_problem(f"input[{index}]", item) for index, item in listed)


def _item_problem(field: str, item: object) -> Problem | None:
    if not isinstance(item, dict):
        return wrong_type(field, "an object", item)
    kind = item.get("type", "message")
    problem = check_one_of(f"{field}.type", kind, _ITEMS)
    if problem or kind != "message":
        return problem
    if problem := check_one_of(f"{field}.role", item.get("role"), _ROLES):
        return problem
    if not isinstance(item.get("content"), str | list):
        return wrong_type(f"{field}.content", "a string or an array", item.get("content"))
    return None


def _translated(find: Finder) -> Finder:
    """Apply a chat rule to the translated body, and name the field of the responses API."""

    def find_translated(body: Body, limits: ModelLimits) -> Problem | None:
        problem = find(responses_as_chat(body), limits)
        if problem is None or problem.param is None:
            return problem
        param, message = problem.param, problem.message
        for chat, responses in _RENAMED:
            param, message = param.replace(chat, responses), message.replace(chat, responses)
        return replace(problem, param=param, message=message)

    return find_translated


# In the responses API an empty list of tools is the same as no list, and `parallel_tool_calls`
# needs no tools.
_ONLY_IN_CHAT = frozenset({"chat.tools.empty_array", "tools.parallel.without_tools"})
_SHARED = tuple(r for r in (*TOOL_RULES, *STRUCTURED_RULES) if r.name not in _ONLY_IN_CHAT)

# Fields whose values have rules of their own; some are in the file of the responses API.
_WITH_RULES = """
background context_management conversation include input max_output_tokens metadata model moderation
prompt prompt_cache_retention reasoning service_tier stream_options temperature text tool_choice
tools top_logprobs top_p truncation
"""


def _effort(body: Body, limits: ModelLimits) -> Problem | None:
    effort = {"reasoning.effort": mapping(body.get("reasoning")).get("effort")}
    return one_of("reasoning.effort", spec.enum("ReasoningEffort"))(effort, limits)


RESPONSE_RULES = (
    *model_rules("resp"),
    Rule("resp.input.required", required("input")),
    Rule("resp.input.type", _responses_input),
    Rule("resp.input.items", _input_items),
    Rule("resp.wrong_type", types_of(RESPONSE, without="model input tool_choice")),
    *value_rules(
        RESPONSE,
        {
            "resp.temperature.range": "temperature",
            "resp.top_p.range": "top_p",
            "resp.max_output_tokens.range": "max_output_tokens",
            "resp.top_logprobs.max20": "top_logprobs",
        },
    ),
    Rule("resp.reasoning.effort", _effort),
    Rule("resp.fields", values_of(RESPONSE, without=_WITH_RULES)),
    Rule("resp.not_played", not_played(RESPONSE)),
    *(Rule(f"resp.{r.name}", _translated(r.find)) for r in _SHARED),
)
