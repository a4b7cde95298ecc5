"""The class for ``Dataset.map_batches``: one engine on each actor, rows in and rows out."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, Unpack

from llmengine.engine.options import CallOptions
from llmengine.integrations.ray_data.answers import KINDS, columns_of
from llmengine.integrations.ray_data.configured import engine_of
from llmengine.integrations.ray_data.formats import check_columns, with_columns
from llmengine.integrations.ray_data.questions import Question, Questions
from llmengine.structured.schema import shape_of
from llmengine.types.outputs import Result
from llmengine.types.sampling import SamplingParams

if TYPE_CHECKING:
    import os

    from llmengine.engine.options import Options
    from llmengine.integrations.ray_data.configured import EngineSpec
    from llmengine.integrations.ray_data.questions import PromptOf
    from llmengine.types.errors import InvalidRequestError

Batch = TypeVar("Batch")


class EngineMapper:
    """Asks the prompt of each row; a callable class that ``map_batches`` makes on each actor.

    ``engine`` is an EngineConfig, a mapping of its fields, or a name: of ``engines_file`` as the
    actor finds it, else one that the actor's environment describes. No key may be in it:
    ``api_key_env`` names the variable that holds it on the actor.

    ``prompt`` is the column of the prompt (a string, or a list of messages; "prompt" if left out)
    or a function of the row; ``template`` is a Jinja text filled with the row, instead.
    ``sampling_params`` hold for all rows, and the mapping in a row's ``sampling_column`` goes over
    them. ``prefix`` begins the names of the new columns. The other options are the fields of
    CallOptions.

    Raises ConfigError or InvalidRequestError for what is wrong with all rows alike.
    """

    def __init__(  # noqa: PLR0913 - one mapper's settings
        self,
        engine: EngineSpec,
        *,
        engines_file: str | os.PathLike[str] | None = None,
        prompt: str | PromptOf | None = None,
        template: str | None = None,
        sampling_params: object = None,
        sampling_column: str | None = None,
        prefix: str = "",
        **options: Unpack[Options],
    ) -> None:
        CallOptions(**options)
        self._model = options.get("output_model")
        if self._model is not None:
            shape_of(self._model)
        self._engine = engine_of(engine, engines_file)
        sampling = self._engine.config.sampling.merged(SamplingParams.of(sampling_params))
        self._questions = Questions(prompt, template, sampling, sampling_column)
        self._options = options
        self._kinds = {f"{prefix}{name}": kind for name, kind in KINDS.items()}

    def __call__(self, batch: Batch) -> Batch:
        """The batch in its own shape and order, with the columns of the answers.

        A row that failed says why in ``error`` and ``error_message``. Raises ConfigError if a
        column is missing or taken.
        """
        check_columns(batch, self._questions.columns, self._kinds)
        results = self._results(list(self._questions.of(batch)))
        values = columns_of(results, self._model).values()
        columns = dict(zip(self._kinds, values, strict=True))
        answered: Batch = with_columns(batch, columns, self._kinds)
        return answered

    def _results(self, questions: list[Question | InvalidRequestError]) -> list[Result]:
        """One result a question, in order; only those that can be asked are."""
        asked = [question for question in questions if isinstance(question, Question)]
        prompts = [question.prompt for question in asked]
        sampling = [question.sampling for question in asked]
        results = iter(self._engine.results(prompts, sampling, **self._options))
        return [
            next(results) if isinstance(question, Question) else _unasked(question)
            for question in questions
        ]


def _unasked(error: InvalidRequestError) -> Result:
    return Result(error=error, attempts=0, cost=0.0)
