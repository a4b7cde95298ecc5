"""A pipeline from a YAML file."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from llmengine.config.files import load_engines, parse_engines, read_yaml
from llmengine.pipeline.chain import Chain
from llmengine.pipeline.models import model_of
from llmengine.pipeline.records import read_records, to_records
from llmengine.pipeline.step import Step
from llmengine.types.errors import ConfigError
from llmengine.types.sampling import SamplingParams

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    from llmengine.config.engine import EngineConfig
    from llmengine.pipeline.records import Record


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


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What a file says: the chain, the engines by name, and where its inputs are."""

    source: Path
    chain: Chain
    engines: Mapping[str, EngineConfig]
    inputs: str | list[Any] | None

    def records(self) -> list[Record]:
        """The inputs that the file names or holds; raises ConfigError if it does neither."""
        if self.inputs is None:
            msg = f"{self.source}: inputs: is missing; name a file of JSON lines, or give a list"
            raise ConfigError(msg)
        if isinstance(self.inputs, str):
            return read_records(self.source.parent / self.inputs)
        return to_records(self.inputs, f"{self.source}: inputs")

    def with_engines(self, engines: Mapping[str, EngineConfig]) -> Pipeline:
        """The same, with these engines in place of those of the same name, or beside them."""
        return replace(self, engines={**self.engines, **engines})

    def on(self, config: EngineConfig) -> Pipeline:
        """The same, with every step on this one engine."""
        steps = tuple(replace(step, engine=config.name) for step in self.chain.steps)
        return replace(self, chain=replace(self.chain, steps=steps)).with_engines(
            {config.name: config}
        )


def load_pipeline(path: str | os.PathLike[str]) -> Pipeline:
    """The pipeline of a YAML file.

    The file has ``engines`` (a list as in an engines file, or the path of one), ``models`` (by
    name), ``steps``, ``chain`` (the ids of the steps in order; all as they are listed, if it is
    left out) and ``inputs`` (a path, or a list). Paths are relative to the file. Raises
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
    """Whether the steps of a file are names, or lists of names: a chain of Chainette."""
    steps = data.get("steps") if isinstance(data, dict) else None
    if not isinstance(steps, list) or not steps:
        return False
    return all(isinstance(step, (str, list)) for step in steps)


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
    """One problem of a file, with the step's id where its number would say little."""
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
    """Put the file's name in front of what steps and chains find wrong."""
    try:
        yield
    except ConfigError as error:
        msg = f"{source}: {error}"
        raise ConfigError(msg) from error
