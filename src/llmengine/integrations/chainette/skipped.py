"""Items that a chain skips: they are dropped at the step that failed, and are reported."""

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
    from collections.abc import Callable, Iterator

    from llmengine.types.errors import LLMEngineError

FILE = "skipped.jsonl"


class SkippedItemsWarning(UserWarning):
    """A chain skipped items."""


@dataclass(frozen=True, slots=True)
class SkippedItem:
    """An item that a step could not answer; ``row_id`` is its place among the chain's inputs."""

    row_id: int | None
    step_id: str
    engine_name: str
    error: LLMEngineError

    def __str__(self) -> str:
        """Say which item was skipped, at which step, and why."""
        return f"row {self.row_id} at step {self.step_id!r}: {self._reason}"

    def as_data(self) -> dict[str, Any]:
        """The entry for this item in the file of skipped items."""
        return {
            "row_id": self.row_id,
            "step": self.step_id,
            "engine": self.engine_name,
            "error": self._reason,
        }

    @property
    def _reason(self) -> str:
        return f"{type(self.error).__name__}: {self.error}"


# The engine's failures in the step that runs now, by the item's place in its batch.
_failures: ContextVar[dict[int, tuple[str, LLMEngineError]] | None] = ContextVar(
    "failures", default=None
)
_collected: ContextVar[list[SkippedItem] | None] = ContextVar("collected", default=None)


def note_failure(place: int, engine_name: str, error: LLMEngineError) -> None:
    """Note that an item in the batch of the current step has no answer."""
    if (failures := _failures.get()) is not None:
        failures[place] = (engine_name, error)


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
    from chainette.core.chain import Chain  # noqa: PLC0415 - Chainette is optional
    from chainette.core.step import Step  # noqa: PLC0415

    if not hasattr(Step.execute, "__wrapped__"):
        Step.execute = _without_failed(Step.execute)
        Chain.run = _with_report(Chain.run)


class _Answered(list[Any]):
    """A list of outputs that is true even if it is empty.

    Chainette's executor keeps the inputs of a batch if the list of outputs is false.
    """

    def __bool__(self) -> bool:
        return True


def _without_failed(execute: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(execute)
    def wrapper(step: Any, inputs: Any, item_histories: Any, *args: Any, **options: Any) -> Any:
        failures: dict[int, tuple[str, LLMEngineError]] = {}
        token = _failures.set(failures)
        try:
            outputs, histories = execute(step, inputs, item_histories, *args, **options)
        finally:
            _failures.reset(token)
        if not failures:
            return outputs, histories
        collected = _collected.get()
        for place, (engine_name, error) in failures.items():
            item = SkippedItem(item_histories[place].get("row_id"), step.id, engine_name, error)
            if collected is not None:
                collected.append(item)
        kept = [h for place, h in enumerate(histories) if place not in failures]
        return _Answered(outputs), kept

    return wrapper


def _with_report(run: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(run)
    def wrapper(chain: Any, inputs: Any, **options: Any) -> Any:
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


def _folder(options: dict[str, Any]) -> Path | None:
    """The folder that the chain writes to: its argument, or the folder of its writer."""
    root = getattr(options.get("writer"), "root", options.get("output_dir"))
    return None if root is None else Path(root)


def _report(chain: str, items: list[SkippedItem], total: int, folder: Path | None) -> None:
    rows = len({item.row_id for item in items})
    where = ""
    if folder is not None:
        lines = (json.dumps(item.as_data(), ensure_ascii=False) + "\n" for item in items)
        (folder / FILE).write_text("".join(lines), "utf-8")
        where = f"; every one is in {folder / FILE}"
    warnings.warn(
        f"chain {chain!r} skipped {rows} of {total} items, the first is {items[0]}{where}",
        SkippedItemsWarning,
        stacklevel=3,
    )
