"""Answers against OpenAI's specification: each place at which a body breaks its schema."""

from __future__ import annotations

import copy
import json
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from jsonschema import Draft202012Validator

from llmengine.mock import specification

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from jsonschema import ValidationError

_NAMES = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}


@dataclass(frozen=True, slots=True, order=True)
class Violation:
    """One way in which a body breaks its schema; items of a list have the path ``[]``.

    ``is_null`` says that the value is null, and that the schema allows to leave it out. ``event``
    is the type of the event, if events have types.
    """

    path: str
    problem: str
    is_null: bool = False
    event: str = ""

    def __str__(self) -> str:
        return f"{self.path or 'the body'} {self.problem}"


def told(violations: Iterable[Violation]) -> list[str]:
    """The violations as text; one that is in events of several types is told once."""
    events: dict[str, set[str]] = {}
    for one in violations:
        events.setdefault(str(one), set()).add(one.event)
    return [
        f"{problem} in {'/'.join(kinds)}" if len(kinds) < _FEW and any(kinds) else problem
        for problem, kinds in sorted((text, sorted(kinds)) for text, kinds in events.items())
    ]


_FEW = 3


# The specification has no schema for chunks of completions, which are like whole answers but this.
_ALLOWED = {"POST /completions": {Violation("choices[].finish_reason", "is null")}}


def whole_violations(operation: str, body: object) -> set[Violation]:
    """How the whole answer of an operation, such as ``POST /responses``, breaks its schema."""
    return _violations(_validator(operation, streamed=False), body)


def event_violations(operation: str, event: Mapping[str, object]) -> set[Violation]:
    """How an event of an operation's stream breaks its schema."""
    forms = _event_forms(operation)
    if not forms:
        found = _violations(_validator(operation, streamed=True), event)
        return found - _ALLOWED.get(operation, set())
    kind = event.get("type")
    if not isinstance(kind, str) or kind not in forms:
        return {Violation("type", "has an unknown value")}
    return {replace(one, event=kind) for one in _violations(forms[kind], event)}


def error_violations(body: object) -> set[Violation]:
    """How the body of an error breaks its schema."""
    return _violations(_error_validator(), body)


def repeated_keys(text: str) -> set[Violation]:
    """The keys that an object of this JSON text has more than once; readers keep one value."""
    found: set[Violation] = set()

    def read(pairs: list[tuple[str, object]]) -> dict[str, object]:
        body = dict(pairs)
        found.update(
            Violation(key, "is there twice")
            for key, n in Counter(k for k, _ in pairs).items()
            if n > 1
        )
        return body

    with suppress(ValueError, RecursionError):
        json.loads(text, object_pairs_hook=read)
    return found


@cache
def _validator(operation: str, *, streamed: bool) -> Draft202012Validator:
    schema = specification.event_schema(operation) if streamed else {}
    schema = schema or specification.response_schema(operation)
    return Draft202012Validator(specification.self_contained(schema))


@cache
def _event_forms(operation: str) -> dict[str, Draft202012Validator]:
    """The schema of each event by its type, for a stream whose events have types."""
    union = cast("dict[str, Any]", specification.resolved(specification.event_schema(operation)))
    forms = [cast("dict[str, Any]", specification.resolved(one)) for one in union.get("anyOf", ())]
    return {
        kind: Draft202012Validator(specification.self_contained(form))
        for form in forms
        for kind in form["properties"]["type"]["enum"]
    }


@cache
def _error_validator() -> Draft202012Validator:
    return Draft202012Validator(specification.json_schema("ErrorResponse"))


def _violations(validator: Draft202012Validator, body: object) -> set[Violation]:
    """The violations; a null is left out if the body is valid there without it."""
    errors = list(_causes(validator.iter_errors(body)))
    nulls = [e for e in errors if e.instance is None and e.absolute_path]
    rest = copy.deepcopy(body)
    for error in nulls:
        _remove(rest, list(error.absolute_path))
    needed = set(map(_violation, _causes(validator.iter_errors(rest)))) if nulls else set()
    found = {_violation(e) for e in errors if e not in nulls}
    for error in nulls:
        one = _violation(error)
        required = Violation(one.path, "is missing") in needed
        found.add(Violation(one.path, one.problem, is_null=not required))
    return found


def _causes(errors: Iterable[ValidationError]) -> Iterator[ValidationError]:
    """The errors; of a union, those of the form that fits best."""
    for error in errors:
        branch = _closest(error)
        if branch:
            yield from _causes(branch)
        else:
            yield error


def _closest(error: ValidationError) -> list[ValidationError]:
    """The errors of the form of a union that a value fits best; none if it fits none at all."""
    forms: dict[Any, list[ValidationError]] = {}
    for inner in error.context or ():
        forms.setdefault(inner.schema_path[0], []).append(inner)
    fitting = [form for form in forms.values() if not any(map(_is_another_form, form))]
    return min(fitting, key=len, default=[])


def _is_another_form(error: ValidationError) -> bool:
    """Whether a value is not meant to have this form: its own type, or its ``type``, differs."""
    path = list(error.relative_path)
    return (not path and error.validator in {"type", "enum"}) or path in (["type"], ["object"])


def _violation(error: ValidationError) -> Violation:
    path = "".join("[]" if isinstance(step, int) else f".{step}" for step in error.absolute_path)
    if error.validator == "required":
        missing = json.loads(error.message.partition(" is a required")[0].replace("'", '"'))
        return Violation(f"{path}.{missing}".lstrip("."), "is missing")
    return Violation(path.lstrip("."), _problem(error))


def _problem(error: ValidationError) -> str:
    value = error.instance
    if value is None:
        return "is null"
    if error.validator == "enum":
        return "has an unknown value"
    return f"is {_NAMES.get(type(value), 'a number')}"


def _remove(body: Any, path: list[Any]) -> None:
    for step in path[:-1]:
        body = body[step]
    if isinstance(body, dict):
        body.pop(path[-1], None)
