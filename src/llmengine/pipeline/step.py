"""One question asked of every record."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from llmengine.pipeline import templates
from llmengine.types.errors import ConfigError, InvalidRequestError
from llmengine.types.file_names import file_name
from llmengine.types.sampling import SamplingParams

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmengine.types.request import Message

STEPS = "steps"  # the name under which templates find what earlier steps answered
RESERVED_IDS = frozenset({"inputs", "outputs"})  # files of the run's folder
_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One question asked of every record.

    ``engine`` is the name of an engine. The prompts are Jinja templates over the record's fields
    and ``steps``, what earlier steps answered: ``{{ question }}``, ``{{ steps.extract.summary }}``.
    ``input_model`` (pydantic) is what the fields are validated with first, so that templates see
    its types and defaults. ``output_model`` is what the answer is validated with; without one the
    answer is its text. Raises ConfigError that names the step and the field.
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
        is_file_name = file_name(self.id) == self.id  # not of a device of Windows, such as con
        if not _ID.fullmatch(self.id) or self.id in RESERVED_IDS or not is_file_name:
            msg = (
                f"step {self.id!r}: id: give a name of letters, digits and _ that templates can "
                f"say and a file can have, other than {' and '.join(sorted(RESERVED_IDS))}"
            )
            raise ConfigError(msg)
        for name in ("input_model", "output_model"):
            _check_model(getattr(self, name), f"step {self.id!r}: {name}")
        for name, source in self.templates.items():
            templates.check(source, f"step {self.id!r}: {name}")

    @property
    def templates(self) -> dict[str, str]:
        """The prompt templates that are not empty, by the field that holds them."""
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
                "content": templates.fill(
                    source, names, f"step {self.id!r}: {name}: record {record_id!r}"
                ),
            }
            for name, source in self.templates.items()
        ]

    def _validated(
        self, record_id: str, fields: Mapping[str, Any], outputs: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The record as the input model sees it; a model with a field ``steps`` sees them too."""
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
