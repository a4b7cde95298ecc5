"""Steps, chains of steps, the records that they run over, and the templates of prompts.

Templates are Jinja templates in a sandbox. A missing name is an error and never an empty text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import BaseModel, ValidationError

from llmengine.pipeline.inline_schema import complete_schema
from llmengine.structured.schema import resolved, shape_of, with_defaults
from llmengine.types.errors import ConfigError, InvalidRequestError
from llmengine.types.file_names import file_name
from llmengine.types.sampling import SamplingParams

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Iterable, Iterator

    from jinja2 import Template

    from llmengine.types.request import Message


Model = type[BaseModel] | Mapping[str, object]  # a pydantic class, or a JSON schema

STEPS = "steps"  # the name of the answers of earlier steps in templates
RESERVED_IDS = frozenset({"inputs", "outputs"})  # names of files in the run's folder
_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One question that is asked about every record.

    ``engine`` is the name of an engine. The prompts are Jinja templates over the record's fields
    and ``steps``, the answers of earlier steps: for example ``{{ question }}`` and
    ``{{ steps.extract.summary }}``. ``input_model`` validates the fields first, so that templates
    see its types and defaults. ``output_model`` validates the answer; without it, the answer is
    the text. Both are pydantic classes or JSON schemas as in a pipeline file. Raises ConfigError,
    which names the step and the field.
    """

    id: str
    engine: str
    user_prompt: str
    system_prompt: str = ""
    input_model: Model | None = None
    output_model: Model | None = None
    sampling: SamplingParams = field(default_factory=SamplingParams)
    reasoning: bool | str | None = None

    def __post_init__(self) -> None:
        is_file_name = file_name(self.id) == self.id  # no Windows device, such as con
        if not _ID.fullmatch(self.id) or self.id in RESERVED_IDS or not is_file_name:
            msg = (
                f"step {self.id!r}: id: give a name of letters, digits and _ that templates and "
                f"file names can have, other than {' and '.join(sorted(RESERVED_IDS))}"
            )
            raise ConfigError(msg)
        for name in ("input_model", "output_model"):
            model = _checked_model(getattr(self, name), f"step {self.id!r}: {name}")
            object.__setattr__(self, name, model)
        for name, source in self.templates.items():
            check_template(source, f"step {self.id!r}: {name}")

    @property
    def templates(self) -> dict[str, str]:
        """The prompt templates that are not empty, by field name."""
        named = {"system_prompt": self.system_prompt, "user_prompt": self.user_prompt}
        return {name: text for name, text in named.items() if text or name == "user_prompt"}

    def messages(
        self, record_id: str, fields: Mapping[str, object], outputs: Mapping[str, object]
    ) -> list[Message]:
        """The prompt for one record as chat messages.

        Raises InvalidRequestError, which names the step, the field and the record.
        """
        names = {**fields, **self._validated(record_id, fields, outputs), STEPS: outputs}
        return [
            {
                "role": name.removesuffix("_prompt"),
                "content": fill_template(
                    source, names, f"step {self.id!r}: {name}: record {record_id!r}"
                ),
            }
            for name, source in self.templates.items()
        ]

    def _validated(
        self, record_id: str, fields: Mapping[str, object], outputs: Mapping[str, object]
    ) -> Mapping[str, object]:
        """The fields, validated by the input model; it gets ``steps`` too if it has that field."""
        model = self.input_model
        if model is None:
            return {}
        given = {**fields, STEPS: outputs} if STEPS in _property_names(model) else fields
        try:
            if isinstance(model, type):
                values = as_json(model, model.model_validate(given))
            else:
                values = as_json(model, shape_of(model).adapter.validate_python(given))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            problem = first["msg"].removeprefix("Value error, ")
            name = model.__name__ if isinstance(model, type) else model["title"]
            msg = (
                f"step {self.id!r}: input_model: record {record_id!r} is not a valid {name}: "
                f"{place or name}: {problem}"
            )
            raise InvalidRequestError(msg) from error
        return values if isinstance(values, Mapping) else {}


def _checked_model(model: object, where: str) -> Model | None:
    if model is None or (isinstance(model, type) and issubclass(model, BaseModel)):
        return model
    if isinstance(model, Mapping):
        return complete_schema("Answer", dict(model), where)
    raise ConfigError(f"{where}: {model!r} is not a pydantic model class or a JSON schema")


def as_json(model: Model, value: object) -> object:
    """A value that the model has validated, as JSON values with the model's defaults."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    return value if isinstance(model, type) else with_defaults(value, model)


def _property_names(model: Model) -> Collection[str]:
    return model.model_fields if isinstance(model, type) else _properties(model)


@dataclass(frozen=True, slots=True)
class Chain:
    """A name and the steps, which are run in order.

    Raises ConfigError, which names the step and the field, if two steps have the same id, or if a
    template reads a step that does not come earlier or a field that its output model lacks.
    """

    name: str
    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(self.steps))
        if not self.steps:
            raise ConfigError(f"chain {self.name!r}: steps: there are none; give at least one step")
        earlier: dict[str, Step] = {}
        for step in self.steps:
            if step.id in earlier:
                raise ConfigError(f"step {step.id!r}: id: an earlier step has the same id")
            _check_references(step, earlier)
            earlier[step.id] = step


def _check_references(step: Step, earlier: dict[str, Step]) -> None:
    for name, source in step.templates.items():
        for path in references(source, STEPS):
            _check_reference(path, earlier, f"step {step.id!r}: {name}")


def _check_reference(path: tuple[str, ...], earlier: dict[str, Step], where: str) -> None:
    source, *below = path
    if source not in earlier:
        before = f"those before it are {', '.join(earlier)}" if earlier else "it is the first step"
        raise ConfigError(f"{where}: {STEPS}.{source} is not a step before this one; {before}")
    if not below:
        return
    model = earlier[source].output_model
    if model is None:
        raise ConfigError(
            f"{where}: {STEPS}.{source} is a text without fields, so it has no {below[0]!r}; "
            f"write {STEPS}.{source}, or give that step an output_model"
        )
    known = _answer_fields(model)
    if known is not None and below[0] not in known:
        raise ConfigError(
            f"{where}: {STEPS}.{source} has no {below[0]!r}; it has {', '.join(known)}"
        )


def _answer_fields(model: Model) -> list[str] | None:
    """The field names in the model's JSON; None if they depend on the answer."""
    if isinstance(model, type):
        schema = model.model_json_schema(mode="serialization")
    else:
        schema = dict(resolved(model, model))
    if schema.get("type") != "object" or schema.get("additionalProperties"):
        return None
    return list(_properties(schema))


def _properties(schema: Mapping[str, object]) -> Mapping[str, object]:
    properties = resolved(schema, schema).get("properties")
    return properties if isinstance(properties, Mapping) else {}


@dataclass(frozen=True, slots=True)
class Record:
    """One input: its id, which is unique in a run, and its fields, which include the id."""

    id: str
    fields: Mapping[str, object]


class RecordError(TypedDict):
    """The error that ended a record: its step, its class, its message and its HTTP status."""

    step: str
    type: str
    message: str
    status: int | None


@dataclass(slots=True)
class RecordProgress:
    """The state of a record: the answers so far by step id, or the error that ended it."""

    record: Record
    outputs: dict[str, object] = field(default_factory=dict)
    error: RecordError | None = None


def to_records(items: Iterable[object], source: str = "inputs") -> list[Record]:
    """Records from mappings; the id is the field ``id``, or the position in the list, from 1.

    Raises ConfigError, which names `source` and the position.
    """
    records: dict[str, Record] = {}
    for place, item in enumerate(items, start=1):
        record = _record(item, place, f"{source}: record {place}")
        if record.id in records:
            raise ConfigError(
                f"{source}: record {place}: id: an earlier record has the same id, {record.id!r}"
            )
        records[record.id] = record
    if not records:
        raise ConfigError(f"{source}: there are no records; give at least one")
    return list(records.values())


def read_records(path: str | os.PathLike[str]) -> list[Record]:
    """The records of a file with one JSON object per line; empty lines are skipped.

    Raises ConfigError, which names the file and the line.
    """
    return to_records((fields for _, fields in read_objects(path)), str(path))


def read_objects(path: str | os.PathLike[str]) -> Iterator[tuple[str, Mapping[str, object]]]:
    """The objects in a file of JSON lines, each with its file and line as named in messages."""
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror or error}; give a file of JSON lines"
        ) from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            where = f"{path}: line {number}"
            yield where, _parse(line, where)


def _parse(line: bytes, where: str) -> Mapping[str, object]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise ConfigError(f"{where}: is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: is not a JSON object; write one per line")
    return value


def _record(item: object, place: int, where: str) -> Record:
    if not isinstance(item, dict):
        raise ConfigError(f"{where}: is not a mapping of field names to values")
    given = item.get("id", place)
    if not isinstance(given, (str, int)) or isinstance(given, bool):
        raise ConfigError(f"{where}: id: {given!r} is not a string or a whole number")
    if STEPS in item:
        raise ConfigError(
            f"{where}: {STEPS}: is the name of earlier steps' answers in templates; rename it"
        )
    return Record(str(given), {"id": given, **item})


def check_template(source: str, where: str) -> None:
    """Raise ConfigError, which names `where` and the line, if the template is not valid."""
    try:
        _compiled(source)
    except TemplateSyntaxError as error:
        raise ConfigError(f"{where}: line {error.lineno}: {error.message}") from error
    except TemplateError as error:
        raise ConfigError(f"{where}: {error}") from error


def fill_template(source: str, names: Mapping[str, object], where: str) -> str:
    """The text of the template with these names.

    Raises InvalidRequestError, which begins with `where` and says which name is missing and which
    names exist, or what else went wrong.
    """
    try:
        return _compiled(source).render(names)
    except Exception as error:
        problem = error.message if isinstance(error, TemplateError) else str(error)
        known = f"; the names are {', '.join(names)}" if _is_unknown_name(problem) else ""
        raise InvalidRequestError(f"{where}: {problem}{known}") from error


def references(source: str, root: str) -> Iterator[tuple[str, ...]]:
    """Every dotted path below `root` in the template, such as ``("extract", "summary")``."""
    tree = _environment().parse(source)
    for node in tree.find_all((nodes.Getattr, nodes.Getitem)):
        path = _path(node)
        if path and path[0] == root:
            yield path[1:]


def _path(node: nodes.Node) -> tuple[str, ...]:
    """The names in a path of dots and constant keys; empty if a part of the path is computed."""
    if isinstance(node, nodes.Name):
        return (node.name,)
    if isinstance(node, nodes.Getattr):
        before, key = _path(node.node), node.attr
    elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
        before, key = _path(node.node), str(node.arg.value)
    else:
        return ()
    return (*before, key) if before else ()


def _is_unknown_name(problem: str | None) -> bool:
    return bool(problem) and str(problem).endswith(" is undefined")


@lru_cache(maxsize=256)
def _compiled(source: str) -> Template:
    return _environment().from_string(source)


@lru_cache(maxsize=1)
def _environment() -> _TemplateEnvironment:
    environment = _TemplateEnvironment(
        undefined=StrictUndefined,
        autoescape=False,
        finalize=_as_text,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.clear()  # else `{{ range }}` prints a function if no field has that name
    environment.filters["tojson"] = _json  # Jinja's own filter is for HTML and escapes < and &
    return environment


class _TemplateEnvironment(ImmutableSandboxedEnvironment):
    """A sandbox in which a dot after a mapping always reads a key.

    So a field called ``items`` is not hidden by the method of that name.
    """

    def getattr(self, obj: object, attribute: str) -> object:
        if isinstance(obj, Mapping):
            return self.getitem(obj, attribute)
        return super().getattr(obj, attribute)

    def getitem(self, obj: object, argument: object) -> object:
        if not isinstance(obj, Mapping):
            return super().getitem(obj, argument)
        if argument in obj:
            return obj[argument]
        hint = f"there is no {argument!r}; the keys are {', '.join(map(str, obj)) or 'none'}"
        return self.undefined(hint, obj=obj, name=str(argument))


def _as_text(value: object) -> object:
    """The text of a placeholder: JSON for values that Python would not print as a data format."""
    return _json(value) if value is None or isinstance(value, (bool, Mapping, list)) else value


def _json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)
