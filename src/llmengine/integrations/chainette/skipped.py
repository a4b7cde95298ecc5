"""Items that a chain skips: they are dropped at the step that failed, and reported."""

from __future__ import annotations

import functools
import json
import warnings
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from chainette import Chain, Step

    from llmengine.types.errors import LLMEngineError

    History = Mapping[str, Any]

FILE = "skipped.jsonl"


class SkippedItemsWarning(UserWarning):
    """A chain skipped items."""


@dataclass(frozen=True, slots=True)
class SkippedItem:
    """An item that a step could not answer; ``row_id`` is its index among the chain's inputs."""

    row_id: int | None
    step_id: str
    engine_name: str
    error: LLMEngineError

    def __str__(self) -> str:
        """Say which item was skipped, at which step, and why."""
        return f"row {self.row_id} at step {self.step_id!r}: {self._reason}"

    def as_data(self) -> dict[str, object]:
        """The entry of this item in the file of skipped items."""
        return {
            "row_id": self.row_id,
            "step": self.step_id,
            "engine": self.engine_name,
            "error": self._reason,
        }

    @property
    def _reason(self) -> str:
        return f"{type(self.error).__name__}: {self.error}"


# The engine's failures in the step that runs now, by the index of the item in its batch.
_failures: ContextVar[dict[int, tuple[str, LLMEngineError]] | None] = ContextVar(
    "failures", default=None
)
_collected: ContextVar[list[SkippedItem] | None] = ContextVar("collected", default=None)


def note_failure(index: int, engine_name: str, error: LLMEngineError) -> None:
    """Record that an item in the batch of the current step has no answer."""
    if (failures := _failures.get()) is not None:
        failures[index] = (engine_name, error)


@contextmanager
def collect_skipped() -> Iterator[list[SkippedItem]]:
    """Collect the items that chains skip while this block runs."""
    items: list[SkippedItem] = []
    outer = _collected.get()
    token = _collected.set(items)
    try:
        yield items
    finally:
        _collected.reset(token)
        if outer is not None:
            outer.extend(items)


def drop_skipped_items() -> None:
    """Make Chainette's steps drop the items that they skip, and its chains report them.

    Chainette itself drops only the answer and keeps the item's history. The next step then raises,
    because its template misses a name or because the numbers of inputs and histories differ.
    """
    from chainette.core import chain, step  # noqa: PLC0415 - Chainette is optional

    if not hasattr(step.Step.execute, "__wrapped__"):
        step.Step.execute = _without_failed(step.Step.execute)
        chain.Chain.run = _with_report(chain.Chain.run)


class _Outputs(list[object]):
    """A list of outputs that is true even if it is empty.

    Chainette's executor keeps the inputs of a batch if the list of outputs is false.
    """

    def __bool__(self) -> bool:
        return True


def _without_failed(execute: Callable[..., Any]) -> Callable[..., object]:
    @functools.wraps(execute)
    def wrapper(
        step: Step,
        inputs: object,
        item_histories: Sequence[History],
        *args: object,
        **options: object,
    ) -> tuple[object, object]:
        failures: dict[int, tuple[str, LLMEngineError]] = {}
        token = _failures.set(failures)
        try:
            outputs, histories = execute(step, inputs, item_histories, *args, **options)
        finally:
            _failures.reset(token)
        if not failures:
            return outputs, histories
        collected = _collected.get()
        for index, (engine_name, error) in failures.items():
            item = SkippedItem(item_histories[index].get("row_id"), step.id, engine_name, error)
            if collected is not None:
                collected.append(item)
        answered = [h for index, h in enumerate(histories) if index not in failures]
        return _Outputs(outputs), answered

    return wrapper


def _with_report(run: Callable[..., object]) -> Callable[..., object]:
    @functools.wraps(run)
    def wrapper(chain: Chain, inputs: Sequence[object], **options: object) -> object:
        folder = _folder(options)
        if folder is not None:
            (folder / FILE).unlink(missing_ok=True)  # left by an earlier run in the same folder
        with collect_skipped() as items:
            try:
                return run(chain, inputs, **options)
            finally:
                if items:
                    _report(chain.name, items, len(inputs), folder)

    return wrapper


def _folder(options: Mapping[str, object]) -> Path | None:
    """The folder that the chain writes to: its argument, or the folder of its writer."""
    root = getattr(options.get("writer"), "root", options.get("output_dir"))
    return None if root is None else Path(str(root))


def _report(chain: str, items: list[SkippedItem], total: int, folder: Path | None) -> None:
    rows = len({item.row_id for item in items})
    file = ""
    if folder is not None:
        lines = (json.dumps(item.as_data(), ensure_ascii=False) + "\n" for item in items)
        (folder / FILE).write_text("".join(lines), "utf-8")
        file = f"; {folder / FILE} lists all of them"
    warnings.warn(
        f"chain {chain!r} skipped {rows} of {total} items, the first is {items[0]}{file}",
        SkippedItemsWarning,
        stacklevel=3,
    )
