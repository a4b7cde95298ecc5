"""Python functions in a chain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class ApplyNode:
    """A function of one item that returns a list of items."""

    def __init__(
        self,
        fn: Callable[[Any], list[Any]],
        *,
        id: str,  # noqa: A002 - Chainette's own name
        input_model: Any = None,
    ) -> None:
        self.fn = fn
        self.id = id
        self.input_model = input_model

    def execute(
        self, inputs: list[Any], histories: list[dict[str, Any]], writer: Any
    ) -> tuple[list[Any], list[dict[str, Any]]]:
        """Call the function with every item."""
        made = [
            (output, {**history, self.id: output})
            for item, history in zip(inputs, histories, strict=True)
            for output in self.fn(item)
        ]
        writer.write_step(self.id, [(h["row_id"], output) for output, h in made])
        return [output for output, _ in made], [history for _, history in made]
