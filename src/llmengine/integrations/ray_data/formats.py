"""The three shapes in which Ray Data hands over a batch, read and added to without importing any.

They are a ``pyarrow.Table``, a ``pandas.DataFrame`` and a mapping of columns to arrays ("numpy").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmengine.types.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection

Row = dict[str, Any]


def rows_of(batch: Any, names: Collection[str] | None = None) -> list[Row]:
    """The rows of a batch in plain Python values: all columns, or those that are named."""
    part = batch if names is None else _selected(batch, list(names))
    if isinstance(part, Mapping):
        listed = [dict(zip(part, row, strict=True)) for row in zip(*part.values(), strict=True)]
    elif _is_table(part):
        listed = part.to_pylist()
    else:
        listed = part.to_dict("records")
    return [{name: plain(value) for name, value in row.items()} for row in listed]


def with_columns(batch: Any, columns: Mapping[str, list[Any]], kinds: Mapping[str, str]) -> Any:
    """The batch with more columns, in its own shape; what it had stays as it was.

    ``kinds`` are Arrow's names of their types. Only a table can be told them: without, a column
    that is null in one block has another type there than elsewhere.
    """
    if isinstance(batch, Mapping):
        return {**batch, **columns}
    return _append(batch, columns, kinds) if _is_table(batch) else batch.assign(**columns)


def check_columns(batch: Any, wanted: Collection[str], free: Collection[str]) -> None:
    """Raise ConfigError if a wanted column is missing or one that must be free is there."""
    known = names_of(batch)
    if missing := [name for name in wanted if name not in known]:
        raise ConfigError(
            f"the rows have no column {missing[0]!r}; their columns are {', '.join(known)}"
        )
    if taken := [name for name in free if name in known]:
        raise ConfigError(
            f"the rows have a column {taken[0]!r} already, which the answer would go over; "
            "rename it, or give the mapper a prefix for the columns of the answer"
        )


def names_of(batch: Any) -> list[str]:
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
    """A value of Arrow or numpy as Python's own.

    Arrow gives each struct of a column the keys of all of them, so a key that is null in one was
    not there: a null ``name`` in a message is more than servers take.
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [plain(inner) for inner in value]
    return value


def _is_table(batch: Any) -> bool:
    return hasattr(batch, "to_pylist")


def _selected(batch: Any, names: list[str]) -> Any:
    if isinstance(batch, Mapping):
        return {name: batch[name] for name in names}
    return batch.select(names) if _is_table(batch) else batch[names]


def _append(table: Any, columns: Mapping[str, list[Any]], kinds: Mapping[str, str]) -> Any:
    import pyarrow as pa  # noqa: PLC0415 - whoever has tables has it

    for name, values in columns.items():
        kind = pa.type_for_alias(kinds[name])
        table = table.append_column(name, pa.array(values, kind))
    return table
