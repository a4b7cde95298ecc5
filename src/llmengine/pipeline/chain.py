"""Steps in order, each of which may read what those before it answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmengine.pipeline.step import STEPS
from llmengine.pipeline.templates import references
from llmengine.types.errors import ConfigError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from llmengine.pipeline.step import Step


@dataclass(frozen=True, slots=True)
class Chain:
    """Named steps in order.

    Raises ConfigError that names the step and the field if an id comes twice, or a template reads
    a step that does not come before it or a field that the step's output model does not have.
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
    """The names in the model's JSON; None where only an answer can tell."""
    schema = model.model_json_schema(mode="serialization")
    if schema.get("type") != "object" or schema.get("additionalProperties"):
        return None
    return list(schema.get("properties", ()))
