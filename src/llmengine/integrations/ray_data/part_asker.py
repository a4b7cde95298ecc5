"""The class for ``Dataset.map``: asks one part of a batch on the actor that it lives on."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING

from llmengine.batch.balancer import Endpoint
from llmengine.batch.journal import Journal, sole_writer
from llmengine.batch.report import BatchCounter
from llmengine.batch.run import answer_all, no_progress
from llmengine.integrations.ray_data.configured import config_of
from llmengine.integrations.ray_data.parts import AskedPart
from llmengine.transport.loop import background

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from llmengine.batch.format import BatchRequest
    from llmengine.config.engine import EngineConfig
    from llmengine.integrations.ray_data.parts import Part


class PartAsker:
    """Rows of one pickled Part each, to rows of one pickled AskedPart each."""

    def __init__(self, configs: Sequence[EngineConfig], folder: str) -> None:
        self._endpoints = [Endpoint(config_of(c).engine, background()) for c in configs]
        self._folder = Path(folder)

    def __call__(self, row: dict[str, bytes]) -> dict[str, bytes]:
        """Ask what the part's file does not hold yet."""
        part: Part = pickle.loads(row["part"])  # nosec B301  # noqa: S301 - our own driver
        self._folder.mkdir(parents=True, exist_ok=True)
        return {"part": pickle.dumps(self._ask(part))}

    def _ask(self, part: Part) -> AskedPart:
        file = self._folder / part.name
        tally = BatchCounter(len(part.requests))
        with sole_writer(file):
            with Journal(file, keep=True) as journal:
                missing = _missing(part, journal, tally)
                answer_all(missing, self._endpoints, journal, tally, no_progress)
            lines = file.read_bytes()
        return AskedPart(part.name, lines, tally.progress(), tuple(tally.errors))


def _missing(part: Part, journal: Journal, tally: BatchCounter) -> Iterator[BatchRequest | None]:
    for request in part.requests:
        ok = journal.ok(request)
        if ok is not None:
            tally.again(ok=ok)
        yield request if ok is None else None
