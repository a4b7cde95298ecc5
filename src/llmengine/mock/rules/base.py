"""Rules for the fields of a request, common kinds of rules, and rules that several routes share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmengine.mock.json_fields import Body, is_number, items

if TYPE_CHECKING:
    from llmengine.mock.model import GenerationRequest


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """The limits against which requests are checked: the known models and the context."""

    models: frozenset[str]
    context_length: int


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a request, with the fields of OpenAI's error."""

    message: str
    param: str | None = None
    code: str | None = None
    status: int = 400


Finder = Callable[[Body, ModelLimits], Problem | None]


@dataclass(frozen=True, slots=True)
class Rule:
    """A named rule; ``find`` returns the problem or None, and must accept any JSON object."""

    name: str
    find: Finder


# ---- problems of one value

_TYPES: dict[str, Callable[[object], bool]] = {
    "a boolean": lambda v: isinstance(v, bool),
    "an integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "a number": is_number,
    "a string": lambda v: isinstance(v, str),
    "an array": lambda v: isinstance(v, list),
    "an object": lambda v: isinstance(v, dict),
}


def missing(field: str) -> Problem:
    """The problem of a required field that is missing or null."""
    return Problem(f"Missing required parameter: '{field}'.", field, "missing_required_parameter")


def wrong_type(field: str, expected: str, value: object) -> Problem:
    """The problem of a value with a wrong type."""
    message = f"Invalid type for '{field}': expected {expected}, but got {_type_name(value)}."
    return Problem(message, field, "invalid_type")


def _type_name(value: object) -> str:
    if value is None:
        return "null"
    return next(name for name, matches in _TYPES.items() if matches(value))


def check_type(field: str, kind: str, value: object) -> Problem | None:
    """The problem of a value that does not have the type, such as ``a number``."""
    return None if _TYPES[kind](value) else wrong_type(field, kind, value)


def check_one_of(field: str, value: object, allowed: Collection[str]) -> Problem | None:
    """The problem of a value that is not one of the allowed strings."""
    if isinstance(value, str) and value in allowed:
        return None
    names = ", ".join(f"'{a}'" for a in sorted(allowed))
    message = f"Invalid value: {value!r}. Supported values are: {names}."
    return Problem(message, field, "invalid_value")


def check_range(field: str, value: object, low: float, high: float | None = None) -> Problem | None:
    """The problem of a number outside the closed range; other values have none."""
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


# ---- common kinds of rules


def required(field: str) -> Finder:
    """The field must be present and not null."""

    def find(body: Body, limits: ModelLimits) -> Problem | None:
        return missing(field) if body.get(field) is None else None

    return find


def typed(**fields: str) -> Finder:
    """Each field, if it is present, must have its type, such as ``a number``."""

    def find(body: Body, limits: ModelLimits) -> Problem | None:
        given = ((f, kind, body[f]) for f, kind in fields.items() if body.get(f) is not None)
        return first_problem(check_type(*field) for field in given)

    return find


def within(field: str, low: float, high: float | None = None) -> Finder:
    """The field, if it is a number, must be in the closed range."""

    def find(body: Body, limits: ModelLimits) -> Problem | None:
        return check_range(field, body.get(field), low, high)

    return find


def one_of(field: str, allowed: Collection[str]) -> Finder:
    """The field, if it is a string, must be one of these."""

    def find(body: Body, limits: ModelLimits) -> Problem | None:
        value = body.get(field)
        return check_one_of(field, value, allowed) if isinstance(value, str) else None

    return find


def not_empty(field: str) -> Finder:
    """The field must not be an empty array."""

    def find(body: Body, limits: ModelLimits) -> Problem | None:
        if body.get(field) != []:
            return None
        message = f"Invalid '{field}': empty array. Expected an array with minimum length 1."
        return Problem(message, field, "empty_array")

    return find


def array_of_objects(field: str) -> Finder:
    """Each item of the array must be an object."""

    def find(body: Body, limits: ModelLimits) -> Problem | None:
        listed = enumerate(items(body.get(field)))
        return first_problem(
            check_type(f"{field}[{index}]", "an object", item) for index, item in listed
        )

    return find


def objects(body: Body, field: str) -> Iterable[tuple[str, Body]]:
    """The items of an array that are objects, each with its path; other rules refuse the rest."""
    listed = enumerate(items(body.get(field)))
    return ((f"{field}[{i}]", item) for i, item in listed if isinstance(item, dict))


def either(*finders: Finder) -> Finder:
    """Combine several finders into one; the first problem counts."""
    return lambda body, limits: first_problem(find(body, limits) for find in finders)


def first_problem(problems: Iterable[Problem | None]) -> Problem | None:
    """The first problem, or None if there is none."""
    return next((problem for problem in problems if problem is not None), None)


def fits_context(
    requests_of: Callable[[Body], Iterable[GenerationRequest]],
    param: str,
    *,
    with_completion: bool = True,
) -> Finder:
    """Each prompt must fit the context, together with the tokens that the request asks for."""

    def find(body: Body, limits: ModelLimits) -> Problem | None:
        return first_problem(
            context_problem(
                r.prompt_tokens, r.max_tokens if with_completion else None, limits, param
            )
            for r in requests_of(body)
        )

    return find


def context_problem(
    prompt: int, completion: int | None, limits: ModelLimits, param: str
) -> Problem | None:
    """The problem of a prompt that does not fit the context together with the completion."""
    total = prompt + (completion or 0)
    if total <= limits.context_length and prompt < limits.context_length:
        return None
    message = (
        f"This model's maximum context length is {limits.context_length} tokens. However, you "
        f"requested {total} tokens ({prompt} in the {param}, {completion or 0} in the completion). "
        f"Please reduce the length of the {param} or completion."
    )
    return Problem(message, param, "context_length_exceeded")


# ---- rules of several routes


def model_rules(group: str) -> tuple[Rule, ...]:
    """The request must name the model, and the model must be known."""
    return (
        Rule(f"{group}.model.required", either(required("model"), typed(model="a string"))),
        Rule("err.unknown_model", _unknown_model),
    )


def _unknown_model(body: Body, limits: ModelLimits) -> Problem | None:
    model = body.get("model")
    if not isinstance(model, str) or model in limits.models:
        return None
    message = f"The model `{model}` does not exist or you do not have access to it."
    return Problem(message, None, "model_not_found", 404)
