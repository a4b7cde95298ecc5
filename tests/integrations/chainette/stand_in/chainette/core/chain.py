"""Nodes in order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from chainette.core.step import Step


class _Writer:
    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def write_step(self, step_id: str, outputs: list[tuple[int, Any]]) -> None:
        """Append the answers of one batch."""
        folder = self.root / step_id
        folder.mkdir(exist_ok=True)
        with (folder / "0.jsonl").open("a", encoding="utf-8") as file:
            for row_id, output in outputs:
                file.write(json.dumps(output.model_dump(mode="json") | {"row_id": row_id}) + "\n")


class Chain:
    """Steps and functions, run over items in batches."""

    def __init__(self, *, name: str, steps: list[Any], batch_size: int = 1) -> None:
        self.name = name
        self.steps = steps
        self.batch_size = batch_size

    def run(self, inputs: list[Any], *, output_dir: str | Path) -> None:
        """Run every node over all items, and keep an item whose whole batch was skipped."""
        writer = _Writer(Path(output_dir))
        histories = [{"chain_input": item, "row_id": row} for row, item in enumerate(inputs)]
        for node in self.steps:
            if not isinstance(node, Step):
                inputs, histories = node.execute(inputs, histories, writer)
                continue
            went_on: list[tuple[list[Any], list[dict[str, Any]]]] = []
            for start in range(0, len(inputs), self.batch_size):
                batch = slice(start, start + self.batch_size)
                outputs, after = node.execute(inputs[batch], histories[batch], writer)
                went_on.append((outputs, after) if outputs else (inputs[batch], histories[batch]))
            inputs = [item for items, _ in went_on for item in items]
            histories = [history for _, after in went_on for history in after]
