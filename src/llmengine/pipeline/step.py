"""Steps, chains of steps, the records they run over, and their prompt templates.

Templates are Jinja in a sandbox, in which a missing name is an error and never an empty text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import BaseModel, ValidationError

from llmengine.types.errors import ConfigError, InvalidRequestError
from llmengine.types.file_names import file_name
from llmengine.types.sampling import SamplingParams

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    from jinja2 import Template

    from llmengine.types.request import Message


STEPS = "steps"  # the name of the answers of earlier steps in templates
RESERVED_IDS = frozenset({"inputs", "outputs"})  # names of files in the run's folder
_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One question asked of every record.

    ``engine`` is the name of an engine. The prompts are Jinja templates over the record's fields
    and ``steps``, the answers of earlier steps: for example ``{{ question }}`` and
    ``{{ steps.extract.summary }}``. ``input_model`` is a pydantic model that validates the fields
    first, so that templates see its types and defaults. ``output_model`` validates the answer;
    without it, the answer is the text. Raises ConfigError that names the step and the field.
    """

    id: str
    engine: str
    user_prompt: str
    system_prompt: str = ""
    input_model: type[BaseModel] | None = None
    output_model: type[BaseModel] | None = None
    sampling: SamplingParams = field(default_factory=SamplingParams)
    reasoning: bool | str | None = None

    def __post_init__(self) -> None:
        is_file_name = file_name(self.id) == self.id  # no Windows device, such as con
        if not _ID.fullmatch(self.id) or self.id in RESERVED_IDS or not is_file_name:
            msg = (
                f"step {self.id!r}: id: give a name of letters, digits and _ that templates can "
                f"say and a file can have, other than {' and '.join(sorted(RESERVED_IDS))}"
            )
            raise ConfigError(msg)
        for name in ("input_model", "output_model"):
            _check_model(getattr(self, name), f"step {self.id!r}: {name}")
        for name, source in self.templates.items():
            check(source, f"step {self.id!r}: {name}")

    @property
    def templates(self) -> dict[str, str]:
        """The prompt templates that are not empty, by field name."""
        named = {"system_prompt": self.system_prompt, "user_prompt": self.user_prompt}
        return {name: text for name, text in named.items() if text or name == "user_prompt"}

    def messages(
        self, record_id: str, fields: Mapping[str, Any], outputs: Mapping[str, Any]
    ) -> list[Message]:
        """The prompt for one record as chat messages.

        Raises InvalidRequestError that names the step, the field and the record.
        """
        names = {**fields, **self._validated(record_id, fields, outputs), STEPS: outputs}
        return [
            {
                "role": name.removesuffix("_prompt"),
                "content": fill(source, names, f"step {self.id!r}: {name}: record {record_id!r}"),
            }
            for name, source in self.templates.items()
        ]

    def _validated(
        self, record_id: str, fields: Mapping[str, Any], outputs: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The fields, validated by the input model; it gets ``steps`` too if it has that field."""
        model = self.input_model
        if model is None:
            return {}
        given = {**fields, STEPS: outputs} if STEPS in model.model_fields else fields
        try:
            return model.model_validate(given).model_dump(mode="json", by_alias=True)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or model.__name__
            msg = (
                f"step {self.id!r}: input_model: record {record_id!r} is no {model.__name__}: "
                f"{place}: {first['msg']}"
            )
            raise InvalidRequestError(msg) from error


def _check_model(model: object, where: str) -> None:
    if model is None or (isinstance(model, type) and issubclass(model, BaseModel)):
        return
    msg = f"{where}: {model!r} is no pydantic model class"
    raise ConfigError(msg)


@dataclass(frozen=True, slots=True)
class Chain:
    """A name and the steps that are run in order.

    Raises ConfigError that names the step and the field if an id is used twice, or if a template
    reads a step that does not come earlier or a field that the step's output model does not have.
    """

    name: str
    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(self.steps))
        if not self.steps:
            msg = f"chain {self.name!r}: steps: there are none; give at least one step"
            raise ConfigError(msg)
        earlier: dict[str, Step] = {}
        for step in self.steps:
            if step.id in earlier:
                msg = f"step {step.id!r}: id: an earlier step has it too; ids must differ"
                raise ConfigError(msg)
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
        msg = f"{where}: {STEPS}.{source} is no step before this one; {before}"
        raise ConfigError(msg)
    if not below:
        return
    model = earlier[source].output_model
    if model is None:
        msg = (
            f"{where}: {STEPS}.{source} is a text without fields, so it has no {below[0]!r}; "
            f"write {STEPS}.{source}, or give that step an output_model"
        )
        raise ConfigError(msg)
    known = _fields(model)
    if known is not None and below[0] not in known:
        msg = f"{where}: {STEPS}.{source} has no {below[0]!r}; it has {', '.join(known)}"
        raise ConfigError(msg)


def _fields(model: type[BaseModel]) -> list[str] | None:
    """The field names in the model's JSON; None if they depend on the answer."""
    schema = model.model_json_schema(mode="serialization")
    if schema.get("type") != "object" or schema.get("additionalProperties"):
        return None
    return list(schema.get("properties", ()))


@dataclass(frozen=True, slots=True)
class Record:
    """One input: its id, which is unique in a run, and its fields, which include the id."""

    id: str
    fields: Mapping[str, Any]


@dataclass(slots=True)
class RecordProgress:
    """The state of a record: the answers so far by step id, or the error that ended it."""

    record: Record
    outputs: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] | None = None


def to_records(items: Iterable[Mapping[str, Any]], source: str = "inputs") -> list[Record]:
    """Records from mappings; the id is the field ``id``, or the position in the list, from 1.

    Raises ConfigError that names `source` and the position.
    """
    records: dict[str, Record] = {}
    for place, item in enumerate(items, start=1):
        record = _record(item, place, f"{source}: record {place}")
        if record.id in records:
            msg = f"{source}: record {place}: id: {record.id!r} is taken by an earlier record"
            raise ConfigError(msg)
        records[record.id] = record
    if not records:
        msg = f"{source}: there are no records; give at least one"
        raise ConfigError(msg)
    return list(records.values())


def read_records(path: str | os.PathLike[str]) -> list[Record]:
    """The records of a file with one JSON object per line; empty lines are skipped.

    Raises ConfigError that names the file and the line.
    """
    return to_records((fields for _, fields in read_objects(path)), str(path))


def read_objects(path: str | os.PathLike[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The objects of such a file, each with its file and line as named in messages."""
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror or error}; give a file of JSON lines"
        raise ConfigError(msg) from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            where = f"{path}: line {number}"
            yield where, _parse(line, where)


def _parse(line: bytes, where: str) -> Mapping[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        msg = f"{where}: is no JSON: {error}"
        raise ConfigError(msg) from error
    if not isinstance(value, dict):
        msg = f"{where}: is no JSON object; write one a line"
        raise ConfigError(msg)
    return value


def _record(item: Any, place: int, where: str) -> Record:
    if not isinstance(item, dict):
        msg = f"{where}: is no mapping of field names to values"
        raise ConfigError(msg)
    given = item.get("id", place)
    if not isinstance(given, (str, int)) or isinstance(given, bool):
        msg = f"{where}: id: {given!r} is no string and no whole number"
        raise ConfigError(msg)
    if STEPS in item:
        msg = f"{where}: {STEPS}: is the name of earlier steps' answers in templates; rename it"
        raise ConfigError(msg)
    return Record(str(given), {"id": given, **item})


def check(source: str, where: str) -> None:
    """Raise ConfigError that names `where` and the line if the text is not a valid template."""
    try:
        _compiled(source)
    except TemplateSyntaxError as error:
        msg = f"{where}: line {error.lineno}: {error.message}"
        raise ConfigError(msg) from error
    except TemplateError as error:
        msg = f"{where}: {error}"
        raise ConfigError(msg) from error


def fill(source: str, names: Mapping[str, Any], where: str) -> str:
    """The text of the template with these names.

    Raises InvalidRequestError that begins with `where` and says which name is missing and which
    names exist, or what else went wrong.
    """
    try:
        return _compiled(source).render(names)
    except Exception as error:
        problem = error.message if isinstance(error, TemplateError) else str(error)
        known = f"; the names are {', '.join(names)}" if _is_unknown_name(problem) else ""
        msg = f"{where}: {problem}{known}"
        raise InvalidRequestError(msg) from error


def references(source: str, root: str) -> Iterator[tuple[str, ...]]:
    """Every dotted path below `root` in the template, such as ``("extract", "summary")``."""
    tree = _environment().parse(source)
    for node in tree.find_all((nodes.Getattr, nodes.Getitem)):
        path = _path(node)
        if path and path[0] == root:
            yield path[1:]


def _path(node: nodes.Node) -> tuple[str, ...]:
    """The names in a path of dots and constant keys; empty if part of the path is computed."""
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
def _environment() -> _Prompts:
    made = _Prompts(
        undefined=StrictUndefined,
        autoescape=False,
        finalize=_as_text,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.clear()  # else `{{ range }}` prints a function if no field has that name
    made.filters["tojson"] = _json  # Jinja's own filter is for HTML and escapes < and &
    return made


class _Prompts(ImmutableSandboxedEnvironment):
    """A sandbox in which a dot after a mapping always reads a key.

    So a field called ``items`` is not hidden by the method of that name.
    """

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, Mapping):
            return self.getitem(obj, attribute)
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if not isinstance(obj, Mapping):
            return super().getitem(obj, argument)
        if argument in obj:
            return obj[argument]
        hint = f"there is no {argument!r} among {', '.join(map(str, obj)) or 'nothing'}"
        return self.undefined(hint, obj=obj, name=argument)


def _as_text(value: Any) -> Any:
    """The text of a placeholder: JSON for values that Python would not print as a data format."""
    return _json(value) if value is None or isinstance(value, (bool, Mapping, list)) else value


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)
