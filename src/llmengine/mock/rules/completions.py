"""Rules of text completions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmengine.mock.completions_body import completion
from llmengine.mock.reading import integer
from llmengine.mock.rules.common import context_problem, model_rules, sampling_rules
from llmengine.mock.rules.kinds import Problem, Rule, required, typed, within, wrong_type

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON
    from llmengine.mock.rules.kinds import Limits

_FORMS = "a string, an array of strings, an array of tokens, or an array of token arrays"


def is_tokens(value: Any) -> bool:
    """Whether the value is a list of token ids."""
    if not isinstance(value, list):
        return False
    return all((i := integer(v)) is not None and i >= 0 for v in value)


def fits_no_form(value: Any) -> bool:
    """Whether a prompt or an input is in none of the four forms that OpenAI takes."""
    if isinstance(value, str) or is_tokens(value):
        return False
    if not isinstance(value, list):
        return True
    return not (all(isinstance(v, str) for v in value) or all(map(is_tokens, value)))


def _prompt_type(body: JSON, limits: Limits) -> Problem | None:
    prompt = body.get("prompt")
    if prompt is None or not fits_no_form(prompt):
        return None
    return wrong_type("prompt", _FORMS, prompt)


def _prompt_empty(body: JSON, limits: Limits) -> Problem | None:
    if body.get("prompt") != []:
        return None
    message = "Invalid 'prompt': empty array. Expected an array with minimum length 1."
    return Problem(message, "prompt", "empty_array")


def _best_of(body: JSON, limits: Limits) -> Problem | None:
    best = integer(body.get("best_of"))
    if best is None:
        return None
    if best < (integer(body.get("n")) or 1):
        return Problem("You requested that the server return more choices than best_of.", "best_of")
    return within("best_of", 1, 20)(body, limits)


def _best_of_stream(body: JSON, limits: Limits) -> Problem | None:
    if body.get("stream") is not True or (integer(body.get("best_of")) or 1) <= 1:
        return None
    return Problem("Results cannot be streamed with 'best_of' greater than 1.", "best_of")


def _overflow(body: JSON, limits: Limits) -> Problem | None:
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
    Rule("err.context_overflow", _overflow),
)
