"""The class for ``Dataset.map_batches``: sends each row's prompt, adds the answer as columns.

Ray Data passes a batch as a ``pyarrow.Table``, as a ``pandas.DataFrame`` or as a mapping from
columns to arrays ("numpy"). All three are read and extended without importing pandas or numpy.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from llmengine.engine.options import CallOptions
from llmengine.integrations.ray_data.config import engine_of
from llmengine.pipeline import step
from llmengine.structured.schema import shape_of
from llmengine.types.errors import (
    CallError,
    ConfigError,
    InvalidRequestError,
    StructuredOutputError,
)
from llmengine.types.outputs import Usage
from llmengine.types.request import Prompt, to_messages
from llmengine.types.results import Result
from llmengine.types.sampling import SamplingParams

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Iterator

    from llmengine.engine.options import Options
    from llmengine.integrations.ray_data.config import EngineSpec
    from llmengine.types.outputs import LLMOutput


# A pyarrow.Table, a pandas.DataFrame or a mapping from columns to arrays.
DataBatch = Any
DataRow = dict[str, Any]
PromptOf = Callable[[DataRow], Prompt]
Batch = TypeVar("Batch")


class EngineMapper:
    """Sends the prompt of each row; ``map_batches`` makes one instance per actor, with one engine.

    ``engine`` is an EngineConfig, a mapping of its fields, or a name. A name is looked up in
    ``engines_file`` on the actor or, without a file, among the engines that the actor's environment
    variables describe. It must not hold a key: ``api_key_env`` names the actor's variable that
    holds the key.

    ``prompt`` is the name of the column with the prompt, a string or a list of messages ("prompt"
    by default), or a function of the row. ``template`` is a Jinja template that is filled with the
    row, instead of ``prompt``. ``sampling_params`` are for all rows; the mapping in a row's
    ``sampling_column`` overrides them. The names of the new columns start with ``prefix``. The
    other options are the fields of CallOptions.

    Raises ConfigError or InvalidRequestError if something is wrong for all rows.
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
        self._builder = RequestBuilder(prompt, template, sampling, sampling_column)
        self._options = options
        self._column_types = {
            f"{prefix}{name}": arrow_type for name, arrow_type in COLUMN_TYPES.items()
        }

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch in its own type and order, with the columns of the answers.

        The columns ``error`` and ``error_message`` of a row say why it failed. Raises ConfigError
        if a column is missing or if a new column already exists.
        """
        check_columns(batch, self._builder.columns, self._column_types)
        results = self._results(list(self._builder.of(batch)))
        values = columns_of(results, self._model).values()
        columns = dict(zip(self._column_types, values, strict=True))
        extended: Batch = with_columns(batch, columns, self._column_types)
        return extended

    def _results(self, requests: list[RowRequest | InvalidRequestError]) -> list[Result]:
        """One result per row, in order; invalid requests are not sent."""
        valid = [request for request in requests if isinstance(request, RowRequest)]
        prompts = [request.prompt for request in valid]
        sampling = [request.sampling for request in valid]
        results = iter(self._engine.results(prompts, sampling, **self._options))
        return [
            next(results)
            if isinstance(request, RowRequest)
            else Result(error=request, attempts=0, cost=0.0)
            for request in requests
        ]


# ---- the requests of the rows


@dataclass(frozen=True, slots=True)
class RowRequest:
    """The request of one row."""

    prompt: Prompt
    sampling: SamplingParams


class RequestBuilder:
    """Turns rows into requests.

    ``prompt`` is the column of the prompt or a function of the row. ``template`` is a text that is
    filled with the row, instead of ``prompt``. ``sampling`` is for every row; the mapping in a
    row's ``sampling_column`` overrides it. Raises ConfigError for an invalid template.
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

    def of(self, batch: DataBatch) -> Iterator[RowRequest | InvalidRequestError]:
        """Yield the request of each row in a batch, or the reason why the row has none."""
        for index, row in enumerate(rows_of(batch, None if self._whole_rows else self.columns)):
            try:
                prompt = self._prompt_of(row)
                to_messages(prompt, index=index)
                yield RowRequest(prompt, self._sampling_of(row))
            except InvalidRequestError as error:
                yield error

    def _sampling_of(self, row: DataRow) -> SamplingParams:
        own = row[self._sampling_column] if self._sampling_column else None
        sampling = self._sampling.merged(SamplingParams.of(own))
        if (sampling.n or 1) > 1:
            raise InvalidRequestError(
                f"n is {sampling.n}, but a row can hold only one answer; repeat the row instead"
            )
        return sampling


def _reader(prompt: str | PromptOf | None, template: str | None) -> tuple[PromptOf, str | None]:
    """The function for a row's prompt, and the only column that it reads; None for all columns."""
    if template is not None and prompt is not None:
        raise ConfigError("prompt and template are both given; give one of them")
    if template is not None:
        step.check(template, "template")
        return partial(_filled, template), None
    if callable(prompt):
        return partial(_called, prompt), None
    column = "prompt" if prompt is None else prompt
    return itemgetter(column), column


def _filled(template: str, row: DataRow) -> Prompt:
    return step.fill(template, row, "template")


def _called(prompt_of: PromptOf, row: DataRow) -> Prompt:
    try:
        return prompt_of(row)
    except Exception as error:
        raise InvalidRequestError(f"prompt: {type(error).__name__}: {error}") from error


# ---- the columns of the answers

# The new columns with Arrow's names of their types; all except `attempts` may be null.
COLUMN_TYPES = {
    "text": "string",
    "parsed": "string",
    "reasoning": "string",
    "tool_calls": "string",
    "finish_reason": "string",
    "prompt_tokens": "int64",
    "completion_tokens": "int64",
    "total_tokens": "int64",
    "attempts": "int64",
    "error": "string",
    "error_message": "string",
}


def columns_of(results: Sequence[Result], output_model: object) -> dict[str, list[object]]:
    """The columns of `COLUMN_TYPES`, with one flat, typed value per result, failed ones too."""
    rows = [_row(result, output_model) for result in results]
    return {name: [row[name] for row in rows] for name in COLUMN_TYPES}


def _row(result: Result, output_model: object) -> dict[str, object]:
    parsed, error = None, result.error
    if result.output is not None and output_model is not None:
        try:
            parsed = _as_json(result.output.parsed, output_model)
        except Exception as raised:  # noqa: BLE001 - an error in a model's own serializer must not end the job
            error = _not_serializable(raised, result.output)
    usage = result.usage or Usage()
    return {
        **_answer_columns(
            result.output or (error.partial if isinstance(error, CallError) else None)
        ),
        "parsed": parsed,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "attempts": result.attempts,
        "error": type(error).__name__ if error else None,
        "error_message": str(error) if error else None,
    }


def _answer_columns(output: LLMOutput | None) -> dict[str, object]:
    first = output.outputs[0] if output and output.outputs else None
    calls = [asdict(call) for call in first.tool_calls] if first else []
    return {
        "text": first.text if first else None,
        "reasoning": first.reasoning if first else None,
        "tool_calls": json.dumps(calls, ensure_ascii=False) if calls else None,
        "finish_reason": first.finish_reason if first else None,
    }


def _as_json(parsed: object, output_model: object) -> str:
    return shape_of(output_model).adapter.dump_json(parsed, by_alias=True).decode()


def _not_serializable(raised: Exception, output: LLMOutput) -> CallError:
    return StructuredOutputError(
        f"the answer fits output_model, but it cannot be written as JSON: {raised}", partial=output
    )


# ---- batches in the formats of Ray Data


def rows_of(batch: DataBatch, names: Collection[str] | None = None) -> list[DataRow]:
    """The rows of a batch as plain Python values, with all columns or only the named ones."""
    part = batch if names is None else _selected(batch, list(names))
    if isinstance(part, Mapping):
        listed = [dict(zip(part, row, strict=True)) for row in zip(*part.values(), strict=True)]
    elif _is_table(part):
        listed = part.to_pylist()
    else:
        listed = part.to_dict("records")
    return [{name: plain(value) for name, value in row.items()} for row in listed]


def with_columns(
    batch: DataBatch, columns: Mapping[str, list[object]], types: Mapping[str, str]
) -> DataBatch:
    """The batch in its own type with more columns; the present columns do not change.

    ``types`` are Arrow's names of the columns' types. They are used only for a table. Without them
    a column that is null in all rows of a block would have another type in that block.
    """
    if isinstance(batch, Mapping):
        return {**batch, **columns}
    return _append(batch, columns, types) if _is_table(batch) else batch.assign(**columns)


def check_columns(batch: DataBatch, required: Collection[str], new: Collection[str]) -> None:
    """Raise ConfigError if a required column is missing or a new column already exists."""
    known = column_names(batch)
    if missing := [name for name in required if name not in known]:
        raise ConfigError(
            f"the rows have no column {missing[0]!r}; their columns are {', '.join(known)}"
        )
    if taken := [name for name in new if name in known]:
        raise ConfigError(
            f"the rows already have a column {taken[0]!r}, which the answer would replace; "
            "rename it, or give the mapper a prefix for the columns of the answer"
        )


def column_names(batch: DataBatch) -> list[str]:
    """The names of the columns."""
    if isinstance(batch, Mapping):
        return list(batch)
    if _is_table(batch):
        return list(batch.column_names)
    if hasattr(batch, "assign"):
        return list(batch.columns)
    raise ConfigError(
        f"a batch is a {type(batch).__name__}; give map_batches batch_format 'pyarrow', "
        "'pandas' or 'numpy'"
    )


def plain(value: Any) -> Any:
    """A value of Arrow or numpy as a plain Python value.

    Arrow gives every struct in a column the keys of all structs. Null keys are dropped, because
    the original value did not have them, and servers refuse a message with a null ``name``.
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [plain(inner) for inner in value]
    return value


def _is_table(batch: DataBatch) -> bool:
    return hasattr(batch, "to_pylist")


def _selected(batch: DataBatch, names: list[str]) -> DataBatch:
    if isinstance(batch, Mapping):
        return {name: batch[name] for name in names}
    return batch.select(names) if _is_table(batch) else batch[names]


def _append(
    table: DataBatch, columns: Mapping[str, list[object]], types: Mapping[str, str]
) -> DataBatch:
    import pyarrow as pa  # noqa: PLC0415 - installed if there is a table

    for name, values in columns.items():
        arrow_type = pa.type_for_alias(types[name])
        table = table.append_column(name, pa.array(values, arrow_type))
    return table
