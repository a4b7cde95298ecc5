"""What a rule is, common kinds of rules, and the rules that several routes share."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmengine.mock.json_fields import is_number

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """The model's properties against which requests are checked."""

    models: frozenset[str]
    context_length: int


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a request, with the fields of OpenAI's error."""

    message: str
    param: str | None = None
    code: str | None = None
    status: int = 400


Finder = Callable[["JSON", ModelLimits], Problem | None]


@dataclass(frozen=True, slots=True)
class Rule:
    """A named rule; ``find`` returns the problem or None, and must accept any JSON object."""

    name: str
    find: Finder


def required(field: str) -> Finder:
    """The field must be present and not null."""

    def find(body: JSON, limits: ModelLimits) -> Problem | None:
        if body.get(field) is not None:
            return None
        return Problem(
            f"Missing required parameter: '{field}'.", field, "missing_required_parameter"
        )

    return find


_TYPES: dict[str, Callable[[Any], bool]] = {
    "a boolean": lambda v: isinstance(v, bool),
    "an integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "a number": is_number,
    "a string": lambda v: isinstance(v, str),
    "an array": lambda v: isinstance(v, list),
    "an object": lambda v: isinstance(v, dict),
}


def typed(**fields: str) -> Finder:
    """Each field, if present, must have its type, such as ``a number``."""

    def find(body: JSON, limits: ModelLimits) -> Problem | None:
        for field, kind in fields.items():
            value = body.get(field)
            if value is not None and not _TYPES[kind](value):
                return wrong_type(field, kind, value)
        return None

    return find


def wrong_type(field: str, expected: str, value: Any) -> Problem:
    """The problem of a value with a wrong type."""
    message = f"Invalid type for '{field}': expected {expected}, but got {described(value)}."
    return Problem(message, field, "invalid_type")


def described(value: Any) -> str:
    """A JSON value's type in words."""
    if value is None:
        return "null"
    return next(kind for kind, fits in _TYPES.items() if fits(value))


def within(field: str, low: float, high: float | None = None) -> Finder:
    """The field, if it is a number, must be in the closed range."""

    def find(body: JSON, limits: ModelLimits) -> Problem | None:
        value = body.get(field)
        if not isinstance(value, int | float) or isinstance(value, bool):
            return None
        kind = "integer" if isinstance(value, int) else "decimal"
        if value < low:
            bound, code = f"a value >= {low:g}", f"{kind}_below_min_value"
        elif high is not None and value > high:
            bound, code = f"a value <= {high:g}", f"{kind}_above_max_value"
        else:
            return None
        message = f"Invalid '{field}': {kind} out of range. Expected {bound}, but got {value}."
        return Problem(message, field, code)

    return find


def one_of(field: str, allowed: Collection[str]) -> Finder:
    """The field, if it is a string, must be one of these."""

    def find(body: JSON, limits: ModelLimits) -> Problem | None:
        value = body.get(field)
        if not isinstance(value, str) or value in allowed:
            return None
        return unknown_value(field, value, allowed)

    return find


def unknown_value(field: str, value: Any, allowed: Collection[str]) -> Problem:
    """The problem of a value that is not one of the allowed ones."""
    names = ", ".join(f"'{a}'" for a in sorted(allowed))
    message = f"Invalid value: {value!r}. Supported values are: {names}."
    return Problem(message, field, "invalid_value")


def either(*finders: Finder) -> Finder:
    """Combine several finders into one; the first problem counts."""

    def find(body: JSON, limits: ModelLimits) -> Problem | None:
        return next((p for f in finders if (p := f(body, limits)) is not None), None)

    return find


_MAX_STOPS = 4
_MAX_BIAS = 100


def model_rules(group: str) -> tuple[Rule, ...]:
    """The request must name the model, and the model must be known."""
    return (
        Rule(f"{group}.model.required", either(required("model"), typed(model="a string"))),
        Rule("err.unknown_model", _unknown_model),
    )


def _unknown_model(body: JSON, limits: ModelLimits) -> Problem | None:
    model = body.get("model")
    if not isinstance(model, str) or model in limits.models:
        return None
    message = f"The model `{model}` does not exist or you do not have access to it."
    return Problem(message, None, "model_not_found", 404)


def sampling_rules(group: str) -> tuple[Rule, ...]:
    """Ranges of the sampling parameters of chat and text completions."""
    penalties = either(within("presence_penalty", -2, 2), within("frequency_penalty", -2, 2))
    return (
        Rule(f"{group}.temperature.range", within("temperature", 0, 2)),
        Rule(f"{group}.top_p.range", within("top_p", 0, 1)),
        Rule(f"{group}.penalties.range", penalties),
        Rule(f"{group}.n.range", within("n", 1, 128)),
        Rule(f"{group}.stop.nonstring", _stop_nonstring),
        Rule(f"{group}.stop.max4", _stop_too_many),
        Rule(f"{group}.logit_bias.range", _logit_bias),
        Rule(f"{group}.stream_options.without_stream", _stream_options),
    )


def _stop_nonstring(body: JSON, limits: ModelLimits) -> Problem | None:
    stop = body.get("stop")
    listed = stop if isinstance(stop, list) else [stop]
    if stop is None or all(isinstance(s, str) for s in listed):
        return None
    return Problem("Invalid type for 'stop': expected strings.", "stop", "invalid_type")


def _stop_too_many(body: JSON, limits: ModelLimits) -> Problem | None:
    stop = body.get("stop")
    if not isinstance(stop, list) or len(stop) <= _MAX_STOPS:
        return None
    message = (
        f"Invalid 'stop': array too long. Expected an array with maximum length {_MAX_STOPS}, "
        f"but got an array with length {len(stop)} instead."
    )
    return Problem(message, "stop", "array_above_max_length")


def _logit_bias(body: JSON, limits: ModelLimits) -> Problem | None:
    bias = body.get("logit_bias")
    if not isinstance(bias, dict):
        return None
    for token, value in bias.items():
        field = f"logit_bias.{token}"
        if problem := typed(**{field: "a number"})({field: value}, limits):
            return problem
        if problem := within(field, -_MAX_BIAS, _MAX_BIAS)({field: value}, limits):
            return problem
    return None


def _stream_options(body: JSON, limits: ModelLimits) -> Problem | None:
    if body.get("stream_options") is None or body.get("stream") is True:
        return None
    message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
    return Problem(message, "stream_options", None)


def context_problem(
    prompt: int, wanted: int | None, limits: ModelLimits, param: str
) -> Problem | None:
    """The problem of a prompt that does not fit the context together with the wanted tokens."""
    total = prompt + (wanted or 0)
    if total <= limits.context_length and prompt < limits.context_length:
        return None
    message = (
        f"This model's maximum context length is {limits.context_length} tokens. However, you "
        f"requested {total} tokens ({prompt} in the {param}, {wanted or 0} in the completion). "
        f"Please reduce the length of the {param} or completion."
    )
    return Problem(message, param, "context_length_exceeded")
