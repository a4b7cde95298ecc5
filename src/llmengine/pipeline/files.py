"""Pipelines as data: read from a YAML file, and written to a run's folder without keys.

In a file, a model is a Python class, a JSON schema, or a short list of fields.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from llmengine.engine.fallback import FallbackConfig
from llmengine.engine.files import load_engines, parse_engines, read_yaml
from llmengine.pipeline.inline_schema import complete_schema
from llmengine.pipeline.step import Chain, Step, read_records, to_records
from llmengine.types.errors import ConfigError
from llmengine.types.sampling import SamplingParams
from llmengine.types.secrets import MASK

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    from pydantic_core import ErrorDetails

    from llmengine.engine.engine import EngineConfig
    from llmengine.pipeline.step import Model, Record


# The fields of an engine that affect its answers. The others, such as the address and the time
# limits, may be different when a run is resumed.
_FIELDS_OF_ANSWERS = ("backend", "model", "sampling", "reasoning", "extra_body")
_FIELDS_OF_FALLBACKS = ("order", "errors", "answers")


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The content of a pipeline file: the chain, the engines by name, and the inputs."""

    source: Path
    chain: Chain
    engines: Mapping[str, EngineConfig]
    inputs: str | list[object] | None

    def records(self) -> list[Record]:
        """The inputs that the file names or contains; raises ConfigError if it has none."""
        if self.inputs is None:
            raise ConfigError(
                f"{self.source}: inputs: is missing; name a file of JSON lines, or give a list"
            )
        if isinstance(self.inputs, str):
            return read_records(self.source.parent / self.inputs)
        return to_records(self.inputs, f"{self.source}: inputs")

    def with_engines(self, engines: Mapping[str, EngineConfig]) -> Pipeline:
        """A copy with these engines added; they replace engines of the same name."""
        return replace(self, engines={**self.engines, **engines})

    def on(self, config: EngineConfig) -> Pipeline:
        """A copy in which every step uses this one engine."""
        steps = tuple(replace(step, engine=config.name) for step in self.chain.steps)
        return replace(self, chain=replace(self.chain, steps=steps)).with_engines(
            {config.name: config}
        )


def load_pipeline(path: str | os.PathLike[str]) -> Pipeline:
    """The pipeline of a YAML file.

    The file has ``engines`` (a list as in an engines file, or the path of one), ``models`` (by
    name), ``steps``, ``chain`` (the ids of the steps in order; by default all steps as they are
    listed) and ``inputs`` (a path, or a list). Paths are relative to the file. Raises
    ConfigError, which names the file, the step and the field.
    """
    source = Path(path)
    data = _read(source)
    models = {n: model_of(n, s, f"{source}: models: {n}") for n, s in data.models.items()}
    steps = {entry.id: _step(entry, models, source) for entry in data.steps}
    if len(steps) < len(data.steps):
        raise ConfigError(f"{source}: steps: two steps have the same id")
    order = list(steps) if data.chain is None else data.chain
    if unknown := [name for name in order if name not in steps]:
        raise ConfigError(
            f"{source}: chain: {unknown[0]!r} is not a step; the steps are {', '.join(steps)}"
        )
    with _naming(source):
        chain = Chain(data.name or source.stem, tuple(steps[name] for name in order))
    return Pipeline(source, chain, _engines(data.engines, source), data.inputs)


def is_chainette_chain(data: object) -> bool:
    """Whether the steps are names or lists of names, as in a Chainette chain."""
    steps = data.get("steps") if isinstance(data, dict) else None
    if not isinstance(steps, list) or not steps:
        return False
    return all(isinstance(step, (str, list)) for step in steps)


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


class _StepEntry(_Entry):
    id: str
    engine: str
    user_prompt: str
    system_prompt: str = ""
    input_model: object = None
    output_model: object = None
    sampling: Annotated[SamplingParams, BeforeValidator(SamplingParams.of)] = SamplingParams()
    reasoning: bool | str | None = None


class _File(_Entry):
    name: str = ""
    engines: str | list[object] = Field(default_factory=list)
    models: dict[str, object] = Field(default_factory=dict)
    steps: list[_StepEntry]
    chain: list[str] | None = None
    inputs: str | list[object] | None = None


def _engines(entries: str | list[object], source: Path) -> dict[str, EngineConfig]:
    if isinstance(entries, str):
        return load_engines(source.parent / entries)
    return parse_engines(entries, str(source))


def _read(source: Path) -> _File:
    data = read_yaml(source, "a pipeline")
    if not isinstance(data, dict):
        raise ConfigError(f"{source}: a pipeline is a mapping with engines, steps and inputs")
    if is_chainette_chain(data):
        raise ConfigError(
            f"{source}: steps: are names of Python objects, as in a Chainette chain; run it by "
            "`llmengine run-yaml` in an environment where Chainette is installed too"
        )
    try:
        return _File.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(_problem(source, data.get("steps"), e) for e in error.errors())
        raise ConfigError(problems) from error


def _problem(source: Path, steps: object, error: ErrorDetails) -> str:
    """One problem of a file as text, with the step's id instead of its number if possible."""
    location = list(error["loc"])
    where = str(source)
    if len(location) > 1 and location[0] == "steps" and isinstance(steps, list):
        number = int(location[1])
        where += f": step {_step_name(steps[number], number)}"
        location = location[2:]
    messages = {"missing": "is missing", "extra_forbidden": "is not a field here"}
    message = messages.get(error["type"], error["msg"].removeprefix("Value error, "))
    return ": ".join(filter(None, [where, ".".join(map(str, location)), message]))


def _step_name(entry: object, place: int) -> str:
    return repr(entry["id"]) if isinstance(entry, dict) and "id" in entry else str(place + 1)


def _step(entry: _StepEntry, models: Mapping[str, Model], source: Path) -> Step:
    where = f"{source}: step {entry.id!r}"
    input_model = _model(entry.input_model, models, f"{where}: input_model")
    output_model = _model(entry.output_model, models, f"{where}: output_model")
    with _naming(source):
        return Step(
            id=entry.id,
            engine=entry.engine,
            user_prompt=entry.user_prompt,
            system_prompt=entry.system_prompt,
            input_model=input_model,
            output_model=output_model,
            sampling=entry.sampling,
            reasoning=entry.reasoning,
        )


def _model(spec: object, models: Mapping[str, Model], where: str) -> Model | None:
    if spec is None:
        return None
    if isinstance(spec, str) and spec in models:
        return models[spec]
    if isinstance(spec, str) and ":" not in spec:
        known = f"those of this file are {', '.join(models)}" if models else "this file has none"
        raise ConfigError(
            f"{where}: there is no model {spec!r}; {known}, others are package.module:Class"
        )
    return model_of("Answer", spec, where)


@contextmanager
def _naming(source: Path) -> Iterator[None]:
    """Add the file's name at the start of the errors that steps and chains raise."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error


def model_of(name: str, spec: object, where: str) -> Model:
    """The model for ``package.module:Class``, ``{schema: ...}`` or ``{fields: ...}``.

    Raises ConfigError, whose message begins with `where`.
    """
    if isinstance(spec, str):
        return _imported(spec, where)
    if isinstance(spec, dict) and set(spec) == {"schema"}:
        return complete_schema(name, spec["schema"], where)
    if isinstance(spec, dict) and set(spec) == {"fields"}:
        return complete_schema(name, _schema_of_fields(spec["fields"], where), where)
    raise ConfigError(
        f"{where}: give the name of a model, package.module:Class, "
        "{schema: ...} with a JSON schema, or {fields: ...}"
    )


def spec_of(model: Model) -> object:
    """The model as it stands in a file: an importable class by its path, others by their schema."""
    if not isinstance(model, type):
        return {"schema": dict(model)}
    if "<locals>" in model.__qualname__:
        return {"schema": model.model_json_schema()}
    return f"{model.__module__}:{model.__qualname__}"


def _schema_of_fields(fields: object, where: str) -> Mapping[str, object]:
    """The JSON schema of an object with these fields and no others.

    Each field is a type, a list of allowed values, or a schema. A field whose name ends in ``?``
    may be left out.
    """
    if not isinstance(fields, dict) or not fields:
        raise ConfigError(
            f"{where}: fields: give a mapping of names to types, such as {{summary: string}}"
        )
    if wrong := [name for name in fields if not isinstance(name, str)]:
        raise ConfigError(f"{where}: fields: {wrong[0]!r} is not a string; put the name in quotes")
    return {
        "type": "object",
        "properties": {name.removesuffix("?"): _field_schema(f) for name, f in fields.items()},
        "required": [name for name in fields if not name.endswith("?")],
    }


def _field_schema(field: object) -> object:
    if isinstance(field, str):
        return {"type": field}
    return {"enum": field} if isinstance(field, list) else field


def _imported(spec: str, where: str) -> type[BaseModel]:
    module, colon, path = spec.partition(":")
    if not colon or not module or not path:
        raise ConfigError(
            f"{where}: {spec!r} is not a model of this file, and not package.module:Class"
        )
    try:
        model: object = import_module(module)
        for name in path.split("."):
            model = getattr(model, name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{where}: {spec!r} cannot be imported: {error}") from error
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise ConfigError(f"{where}: {spec!r} is not a pydantic model class")
    return model


def as_data(chain: Chain, engines: Mapping[str, EngineConfig], inputs: str) -> dict[str, object]:
    """The pipeline in the format of its file, with all references resolved and without secrets."""
    used = dict.fromkeys(step.engine for step in chain.steps)
    return {
        "name": chain.name,
        "engines": [_engine_data(engines[name]) for name in used],
        "steps": [_step_data(step) for step in chain.steps],
        "inputs": inputs,
    }


def check_same(before: Mapping[str, object], now: Mapping[str, object], where: str) -> None:
    """Raise ConfigError, which names the first difference that can change an answer."""
    for part, key in (("steps", "id"), ("engines", "name")):
        old, new = _by_name(before, part, key), _by_name(now, part, key)
        if list(old) != list(new):
            raise ConfigError(
                f"{where}: {part}: the run has {', '.join(old)}, and the pipeline has "
                f"{', '.join(new)}; start a new run"
            )
        for name, entry in old.items():
            _check_entry(entry, new[name], f"{where}: {part.removesuffix('s')} {name!r}")


def _check_entry(old: Mapping[str, object], new: Mapping[str, object], where: str) -> None:
    for field in dict.fromkeys([*old, *new]):
        if old.get(field) != new.get(field):
            raise ConfigError(f"{where}: {field}: is not what the run began with; start a new run")


def _by_name(data: Mapping[str, object], part: str, key: str) -> dict[str, dict[str, object]]:
    """The steps or the engines by name, with the fields that can change an answer."""
    entries = data.get(part)
    if not isinstance(entries, list) or not all(isinstance(e, dict) and key in e for e in entries):
        raise ConfigError(f"the run's pipeline.yaml is broken: {part}: each needs its {key}")
    if part == "steps":
        return {entry[key]: entry for entry in entries}
    return {entry[key]: _fields_of_answers(entry) for entry in entries}


def _fields_of_answers(entry: Mapping[str, object]) -> dict[str, object]:
    fields = [*_FIELDS_OF_ANSWERS, *_FIELDS_OF_FALLBACKS]
    kept = {name: entry[name] for name in fields if name in entry}
    engines = entry.get("engines")
    if isinstance(engines, list):
        kept["engines"] = [_fields_of_answers(one) for one in engines if isinstance(one, dict)]
    return kept


def _step_data(step: Step) -> dict[str, object]:
    models = {"input_model": step.input_model, "output_model": step.output_model}
    data: dict[str, object] = {"id": step.id, "engine": step.engine, **step.templates}
    data |= {name: spec_of(model) for name, model in models.items() if model is not None}
    if step.reasoning is not None:
        data["reasoning"] = step.reasoning
    given = step.sampling.given()
    if given:
        data["sampling"] = {k: list(v) if isinstance(v, tuple) else v for k, v in given.items()}
    return data


def _engine_data(config: EngineConfig) -> dict[str, object]:
    apart = {"api_key", "engines"} | ({"model"} if isinstance(config, FallbackConfig) else set())
    data = config.model_dump(mode="json", exclude_defaults=True, exclude=apart)
    if isinstance(config, FallbackConfig):
        data["engines"] = [_engine_data(one) for one in config.engines]
    if config.headers:
        data["headers"] = dict.fromkeys(config.headers, MASK)
    if config.endpoint:
        data["endpoint"] = _without_password(config.endpoint)
    return {"name": config.name, "backend": config.backend} | data


def _without_password(endpoint: str) -> str:
    parts = urlsplit(endpoint)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))
