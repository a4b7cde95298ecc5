"""From a row to what is asked for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from llmengine.integrations.ray_data.formats import Row, rows_of
from llmengine.pipeline import step
from llmengine.types.errors import ConfigError, InvalidRequestError
from llmengine.types.request import Prompt, to_messages
from llmengine.types.sampling import SamplingParams

if TYPE_CHECKING:
    from collections.abc import Iterator

PromptOf = Callable[[Row], Prompt]


@dataclass(frozen=True, slots=True)
class Question:
    """What one row asks."""

    prompt: Prompt
    sampling: SamplingParams


class Questions:
    """How rows become questions.

    ``prompt`` is the column of the prompt or a function of the row, ``template`` a text that the
    row fills, instead of either. ``sampling`` holds for every row; what the row's mapping in
    ``sampling_column`` says goes over it. Raises ConfigError for a template that is none.
    """

    def __init__(
        self,
        prompt: str | PromptOf | None,
        template: str | None,
        sampling: SamplingParams,
        sampling_column: str | None,
    ) -> None:
        self._prompt_of, column = _reader(prompt, template)
        self._whole_rows = column is None
        self._sampling = sampling
        self._sampling_column = sampling_column
        self.columns = [name for name in (column, sampling_column) if name is not None]

    def of(self, batch: Any) -> Iterator[Question | InvalidRequestError]:
        """The question of each row of a batch, or why it has none."""
        for place, row in enumerate(rows_of(batch, None if self._whole_rows else self.columns)):
            try:
                prompt = self._prompt_of(row)
                to_messages(prompt, index=place)
                yield Question(prompt, self._sampling_of(row))
            except InvalidRequestError as error:
                yield error

    def _sampling_of(self, row: Row) -> SamplingParams:
        own = row[self._sampling_column] if self._sampling_column else None
        sampling = self._sampling.merged(SamplingParams.of(own))
        if (sampling.n or 1) > 1:
            raise InvalidRequestError(
                f"n is {sampling.n}, and a row has room for one answer; repeat the row instead"
            )
        return sampling


def _reader(prompt: str | PromptOf | None, template: str | None) -> tuple[PromptOf, str | None]:
    """What makes the prompt of a row, and the one column that it reads; None: it wants them all."""
    if template is not None and prompt is not None:
        raise ConfigError("prompt and template both say what is asked; give one of them")
    if template is not None:
        step.check(template, "template")
        return partial(_filled, template), None
    if callable(prompt):
        return partial(_called, prompt), None
    column = "prompt" if prompt is None else prompt
    return itemgetter(column), column


def _filled(template: str, row: Row) -> Prompt:
    return step.fill(template, row, "template")


def _called(prompt_of: PromptOf, row: Row) -> Prompt:
    try:
        return prompt_of(row)
    except Exception as error:
        raise InvalidRequestError(f"prompt: {type(error).__name__}: {error}") from error
