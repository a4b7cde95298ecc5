"""Rules of embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.mock.completions_body import prompts
from llmengine.mock.embeddings import MAX_DIMENSIONS
from llmengine.mock.reading import items
from llmengine.mock.rules.common import context_problem, model_rules
from llmengine.mock.rules.completions import fits_no_form
from llmengine.mock.rules.kinds import Problem, Rule, one_of, required, typed, within, wrong_type
from llmengine.mock.text import count

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON
    from llmengine.mock.rules.kinds import Limits

_MAX_INPUTS = 2048


def _empty(body: JSON, limits: Limits) -> Problem | None:
    value = body.get("input")
    if value not in ("", []) and not any(v in ("", []) for v in items(value)):
        return None
    return Problem("Invalid 'input': input cannot be an empty string or array.", "input")


def _type(body: JSON, limits: Limits) -> Problem | None:
    value = body.get("input")
    if value is None or not fits_no_form(value):
        return None
    return wrong_type("input", "strings or arrays of tokens", value)


def _too_many(body: JSON, limits: Limits) -> Problem | None:
    inputs = len(prompts(body.get("input")))
    if inputs <= _MAX_INPUTS:
        return None
    message = f"Invalid 'input': maximum array length is {_MAX_INPUTS}, but got {inputs}."
    return Problem(message, "input", "array_above_max_length")


def _overflow(body: JSON, limits: Limits) -> Problem | None:
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
    Rule("err.context_overflow", _overflow),
)
