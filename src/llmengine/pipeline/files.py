"""Pipelines as data: read from a YAML file, and stored in a run's folder without keys.

A file names a model as a Python class, a JSON schema, or a short list of fields.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from llmengine.engine.files import load_engines, parse_engines, read_yaml
from llmengine.pipeline.schema_models import INLINE_MODULE, model_of_schema
from llmengine.pipeline.step import Chain, Step, read_records, to_records
from llmengine.types.errors import ConfigError
from llmengine.types.sampling import SamplingParams
from llmengine.types.secrets import MASK

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    from llmengine.engine.engine import EngineConfig
    from llmengine.pipeline.step import Record


# The fields of an engine that affect its answers. The others (address, time limits, other limits)
# may be different when a run is resumed.
_ANSWERING = ("backend", "model", "sampling", "reasoning", "extra_body")


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The content of a pipeline file: the chain, the engines by name, and the inputs."""

    source: Path
    chain: Chain
    engines: Mapping[str, EngineConfig]
    inputs: str | list[Any] | None

    def records(self) -> list[Record]:
        """The inputs that the file names or contains; raises ConfigError if it has none."""
        if self.inputs is None:
            msg = f"{self.source}: inputs: is missing; name a file of JSON lines, or give a list"
            raise ConfigError(msg)
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
    ConfigError that names the file, the step and the field.
    """
    source = Path(path)
    data = _parsed(source)
    models = {n: model_of(n, s, f"{source}: models: {n}") for n, s in data.models.items()}
    steps = {entry.id: _step(entry, models, source) for entry in data.steps}
    if len(steps) < len(data.steps):
        msg = f"{source}: steps: two have the same id; ids must differ"
        raise ConfigError(msg)
    order = list(steps) if data.chain is None else data.chain
    if unknown := [name for name in order if name not in steps]:
        msg = f"{source}: chain: {unknown[0]!r} is no step; the steps are {', '.join(steps)}"
        raise ConfigError(msg)
    with _named(source):
        chain = Chain(data.name or source.stem, tuple(steps[name] for name in order))
    return Pipeline(source, chain, _engines(data.engines, source), data.inputs)


def names_objects(data: Any) -> bool:
    """Whether the steps are names or lists of names, as in a chain file of Chainette."""
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
    input_model: Any = None
    output_model: Any = None
    sampling: Annotated[SamplingParams, BeforeValidator(SamplingParams.of)] = SamplingParams()
    reasoning: bool | str | None = None


class _File(_Entry):
    name: str = ""
    engines: str | list[Any] = Field(default_factory=list)
    models: dict[str, Any] = Field(default_factory=dict)
    steps: list[_StepEntry]
    chain: list[str] | None = None
    inputs: str | list[Any] | None = None


def _engines(entries: str | list[Any], source: Path) -> dict[str, EngineConfig]:
    if isinstance(entries, str):
        return load_engines(source.parent / entries)
    return parse_engines(entries, str(source))


def _parsed(source: Path) -> _File:
    data = read_yaml(source, "a pipeline")
    if not isinstance(data, dict):
        msg = f"{source}: a pipeline is a mapping with engines, steps and inputs"
        raise ConfigError(msg)
    if names_objects(data):
        msg = (
            f"{source}: steps: are names of Python objects, as in a chain of Chainette; run it by "
            "`llmengine run-yaml`, where Chainette is installed too"
        )
        raise ConfigError(msg)
    try:
        return _File.model_validate(data)
    except ValidationError as error:
        raise ConfigError("; ".join(_problem(source, data, e) for e in error.errors())) from error


def _problem(source: Path, data: dict[str, Any], error: Any) -> str:
    """One problem of a file as text, with the step's id instead of its number if possible."""
    loc = list(error["loc"])
    where = str(source)
    if len(loc) > 1 and loc[0] == "steps":
        where += f": step {_step_name(data['steps'][loc[1]], loc[1])}"
        loc = loc[2:]
    words = {"missing": "is missing", "extra_forbidden": "is not a field here"}
    said = words.get(error["type"], str(error["msg"]).removeprefix("Value error, "))
    return ": ".join([where, ".".join(map(str, loc)), said] if loc else [where, said])


def _step_name(entry: Any, place: int) -> str:
    return repr(entry["id"]) if isinstance(entry, dict) and "id" in entry else str(place + 1)


def _step(entry: _StepEntry, models: Mapping[str, type[BaseModel]], source: Path) -> Step:
    chosen: dict[str, Any] = {
        name: _model(getattr(entry, name), models, f"{source}: step {entry.id!r}: {name}")
        for name in ("input_model", "output_model")
    }
    rest = {name: getattr(entry, name) for name in type(entry).model_fields if name not in chosen}
    with _named(source):
        return Step(**rest, **chosen)


def _model(spec: Any, models: Mapping[str, type[BaseModel]], where: str) -> type[BaseModel] | None:
    if spec is None:
        return None
    if isinstance(spec, str) and spec in models:
        return models[spec]
    if isinstance(spec, str) and ":" not in spec:
        known = f"those of this file are {', '.join(models)}" if models else "this file has none"
        msg = f"{where}: there is no model {spec!r}; {known}, others are package.module:Class"
        raise ConfigError(msg)
    return model_of("Answer", spec, where)


@contextmanager
def _named(source: Path) -> Iterator[None]:
    """Add the file's name at the start of the errors that steps and chains raise."""
    try:
        yield
    except ConfigError as error:
        msg = f"{source}: {error}"
        raise ConfigError(msg) from error


def model_of(name: str, spec: Any, where: str) -> type[BaseModel]:
    """The model for ``package.module:Class``, ``{schema: ...}`` or ``{fields: ...}``.

    Raises ConfigError whose message begins with `where`.
    """
    if isinstance(spec, str):
        return _imported(spec, where)
    if isinstance(spec, dict) and set(spec) == {"schema"}:
        return model_of_schema(name, spec["schema"], where)
    if isinstance(spec, dict) and set(spec) == {"fields"}:
        return model_of_schema(name, _schema_of_fields(spec["fields"], where), where)
    msg = (
        f"{where}: give the name of a model, package.module:Class, "
        "{schema: ...} with a JSON schema, or {fields: ...}"
    )
    raise ConfigError(msg)


def spec_of(model: type[BaseModel]) -> Any:
    """The model as a file names it: an importable class by its path, others by their schema."""
    if model.__module__ == INLINE_MODULE or "<locals>" in model.__qualname__:
        return {"schema": model.model_json_schema()}
    return f"{model.__module__}:{model.__qualname__}"


def _schema_of_fields(fields: Any, where: str) -> Mapping[str, Any]:
    """The JSON schema of a closed object with these fields.

    Each field is a type, a list of allowed values, or a schema. A field whose name ends in ``?``
    may be left out.
    """
    if not isinstance(fields, dict) or not fields:
        msg = f"{where}: fields: give a mapping of names to types, such as {{summary: string}}"
        raise ConfigError(msg)
    if odd := [name for name in fields if not isinstance(name, str)]:
        msg = f"{where}: fields: {odd[0]!r} is no string; put the name in quotes"
        raise ConfigError(msg)
    return {
        "type": "object",
        "properties": {name.removesuffix("?"): _fragment(f) for name, f in fields.items()},
        "required": [name for name in fields if not name.endswith("?")],
    }


def _fragment(field: Any) -> Any:
    if isinstance(field, str):
        return {"type": field}
    return {"enum": field} if isinstance(field, list) else field


def _imported(spec: str, where: str) -> type[BaseModel]:
    module, colon, path = spec.partition(":")
    if not colon or not module or not path:
        msg = f"{where}: {spec!r} is no model of this file, and no package.module:Class"
        raise ConfigError(msg)
    try:
        found: Any = import_module(module)
        for name in path.split("."):
            found = getattr(found, name)
    except (ImportError, AttributeError, ValueError) as error:
        msg = f"{where}: {spec!r} cannot be imported: {error}"
        raise ConfigError(msg) from error
    if not (isinstance(found, type) and issubclass(found, BaseModel)):
        msg = f"{where}: {spec!r} is no pydantic model class"
        raise ConfigError(msg)
    return found


def as_data(chain: Chain, engines: Mapping[str, EngineConfig], inputs: str) -> dict[str, Any]:
    """The pipeline in the format of its file, with all references resolved and without secrets."""
    used = dict.fromkeys(step.engine for step in chain.steps)
    return {
        "name": chain.name,
        "engines": [_engine(engines[name]) for name in used],
        "steps": [_step_as_run(step) for step in chain.steps],
        "inputs": inputs,
    }


def check_same(before: Any, now: Any, where: str) -> None:
    """Raise ConfigError that names the first difference if the two could answer differently."""
    for part in ("steps", "engines"):
        old, new = _by_name(before, part), _by_name(now, part)
        if list(old) != list(new):
            msg = (
                f"{where}: {part}: the run has {', '.join(old)}, and the pipeline has "
                f"{', '.join(new)}; start a new run"
            )
            raise ConfigError(msg)
        for name, entry in old.items():
            _check_entry(entry, new[name], f"{where}: {part.removesuffix('s')} {name!r}")


def _check_entry(old: Mapping[str, Any], new: Mapping[str, Any], where: str) -> None:
    for field in dict.fromkeys([*old, *new]):
        if old.get(field) != new.get(field):
            msg = f"{where}: {field}: is not what the run began with; start a new run"
            raise ConfigError(msg)


def _by_name(data: Any, part: str) -> dict[str, dict[str, Any]]:
    try:
        if part == "steps":
            return {step["id"]: step for step in data[part]}
        return {e["name"]: {k: e[k] for k in _ANSWERING if k in e} for e in data[part]}
    except (KeyError, TypeError) as error:
        msg = f"the run's pipeline.yaml is broken: {part}: {error}"
        raise ConfigError(msg) from error


def _step_as_run(step: Step) -> dict[str, Any]:
    models = {
        name: spec_of(model)
        for name in ("input_model", "output_model")
        if (model := getattr(step, name)) is not None
    }
    rest: dict[str, Any] = {"reasoning": step.reasoning} if step.reasoning is not None else {}
    sampling = {k: list(v) if isinstance(v, tuple) else v for k, v in step.sampling.given().items()}
    if sampling:
        rest["sampling"] = sampling
    return {"id": step.id, "engine": step.engine, **step.templates, **models, **rest}


def _engine(config: EngineConfig) -> dict[str, Any]:
    data = config.model_dump(mode="json", exclude_defaults=True, exclude={"api_key"})
    if config.headers:
        data["headers"] = dict.fromkeys(config.headers, MASK)
    if config.endpoint:
        data["endpoint"] = _without_password(config.endpoint)
    return {"name": config.name} | data


def _without_password(endpoint: str) -> str:
    parts = urlsplit(endpoint)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))
