"""Shards: the input files of hosted batches, each with the requests of one batch."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmengine.batch.format import BatchRequest, read_entry
from llmengine.batch.request import encode_body
from llmengine.batch.validation import input_count
from llmengine.types.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedWriter, TextIOWrapper
    from pathlib import Path
    from typing import Self

# The limits of one batch. OpenAI takes 50,000 requests, as many inputs of embeddings, and 200 MB.
# The file is held in memory while it is uploaded, so it is smaller here.
MOST_LINES = 50_000
MOST_INPUTS = 50_000
MOST_BYTES = 16 * 2**20


@dataclass(slots=True)
class Shard:
    """The requests of one batch, which have the same route and the same model.

    ``file`` is the id of the uploaded input. ``asked`` says that the server was asked to create
    the batch, and ``batch`` is the id of the batch. ``merged`` says that all its answers are in
    the output.
    """

    number: int
    url: str
    folder: Path
    file: str | None = None
    asked: bool = False
    batch: str | None = None
    merged: bool = False

    @property
    def path(self) -> Path:
        """The input file, as it is uploaded."""
        return self.folder / f"batch-{self.number}.jsonl"

    @property
    def numbers(self) -> Path:
        """The file with the line numbers that the requests have in the user's input."""
        return self.folder / f"batch-{self.number}.lines"

    def requests(self) -> Iterator[BatchRequest]:
        """The requests, in the order of the file."""
        try:
            with self.path.open("rb") as lines, self.numbers.open(encoding="ascii") as numbers:
                for raw, number in zip(lines, numbers, strict=True):
                    yield self.read(raw, int(number))
        except (OSError, ValueError) as error:
            raise self._changed(str(error)) from None

    def read(self, raw: bytes, number: int) -> BatchRequest:
        """The request in a line of the file; ``number`` is its line in the user's input."""
        entry = read_entry(raw, number)
        if not isinstance(entry, BatchRequest):
            raise self._changed(entry.problem)
        return entry

    def _changed(self, problem: str) -> ConfigError:
        return ConfigError(
            f"{self.path}: {problem}; the file was changed after it was sent, so the answers "
            f"cannot be read; restore it, or remove {self.folder}"
        )


class ShardWriters:
    """Writes requests into the files of shards: one shard per route and model, until it is full."""

    def __init__(self, folder: Path) -> None:
        self.shards: list[Shard] = []
        self._folder = folder
        self._open: dict[tuple[str, str], _ShardWriter] = {}
        self._files = ExitStack()

    def add(self, request: BatchRequest, model: str) -> None:
        """Write one request, with the model if it does not name one."""
        head = {"custom_id": request.custom_id, "method": "POST", "url": request.url}
        body = encode_body(request, model)
        raw = b'%b, "body":%b}\n' % (json.dumps(head)[:-1].encode(), body)
        inputs = input_count(request)
        key = request.url, str(request.body.get("model", model))
        writer = self._open.get(key)
        if writer is None or not writer.has_room(raw, inputs):
            if writer is not None:
                writer.close()
            shard = Shard(len(self.shards) + 1, request.url, self._folder)
            self.shards.append(shard)
            writer = self._open[key] = self._files.enter_context(_ShardWriter(shard))
        writer.write(raw, request.line, inputs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._files.close()


class _ShardWriter:
    """The open files of one shard."""

    def __init__(self, shard: Shard) -> None:
        self._file: BufferedWriter = shard.path.open("wb")
        self._numbers: TextIOWrapper = shard.numbers.open("w", encoding="ascii")
        self._lines = self._bytes = self._inputs = 0

    def has_room(self, raw: bytes, inputs: int) -> bool:
        """Whether the batch may have this line too."""
        return (
            self._lines < MOST_LINES
            and self._bytes + len(raw) <= MOST_BYTES
            and self._inputs + inputs <= MOST_INPUTS
        )

    def write(self, raw: bytes, line: int, inputs: int) -> None:
        """Append a line, and its number in the user's input."""
        self._file.write(raw)
        self._numbers.write(f"{line}\n")
        self._lines += 1
        self._bytes += len(raw)
        self._inputs += inputs

    def close(self) -> None:
        """Sync the files to the disk and close them."""
        for file in (self._file, self._numbers):
            if not file.closed:
                file.flush()
                os.fsync(file.fileno())
                file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
