"""The state of hosted batches: what was sent and what came back, in a folder beside the output.

The folder ``OUT.hosted`` has the input file of each batch, and ``state.jsonl`` with one line per
step. A line is synced to the disk before the next step begins, so a run that was killed is
continued after its last complete step. The folder is removed when all answers are in the output.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING
from uuid import uuid4

from llmengine.batch.hosted_shards import Shard, ShardWriters
from llmengine.batch.jsonl import JSONLinesFile, json_object, repair
from llmengine.types.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from llmengine.batch.format import BatchRequest

_START = b'{"'


class HostedState:
    """The hosted batches of one output, which only the sole writer of the output may use.

    ``run`` is an id of these batches, and ``server`` is the address of their server.
    """

    def __init__(self, output: Path) -> None:
        self.folder = hosted_folder(output)
        self.run = uuid4().hex
        self.server = ""
        self.shards: list[Shard] = []
        self._path = self.folder / "state.jsonl"
        if self._path.exists():
            self._load()

    @property
    def is_under_way(self) -> bool:
        """Whether the server was asked to create a batch, so that its requests may be paid for."""
        return any(shard.asked for shard in self.shards)

    @property
    def unmerged(self) -> list[Shard]:
        """The shards whose answers are not in the output yet."""
        return [shard for shard in self.shards if not shard.merged]

    @property
    def results(self) -> Path:
        """The file into which the results of a batch are downloaded."""
        return self.folder / "results.jsonl"

    def plan(self, requests: Iterable[BatchRequest | None], model: str, server: str) -> None:
        """Write the requests into the input files of new batches; nothing is sent."""
        self.remove()
        self.folder.mkdir()
        with ShardWriters(self.folder) as writers:
            for request in requests:
                if request is not None:
                    writers.add(request, model)
        self.server = server
        self.shards = writers.shards
        urls = [shard.url for shard in self.shards]
        self._append({"run": self.run, "server": server, "urls": urls})

    def note_file(self, shard: Shard, file: str) -> None:
        """Note that the input of a shard was uploaded."""
        shard.file = file
        self._append({"shard": shard.number, "file": file})

    def note_asked(self, shard: Shard) -> None:
        """Note that the server is about to be asked to create the batch."""
        shard.asked = True
        self._append({"shard": shard.number, "asked": True})

    def note_refused(self, shard: Shard) -> None:
        """Note that the server did not create the batch; its input is uploaded again next time."""
        shard.file, shard.asked = None, False
        self._append({"shard": shard.number, "refused": True})

    def note_batch(self, shard: Shard, batch: str) -> None:
        """Note that the batch exists."""
        shard.batch = batch
        self._append({"shard": shard.number, "batch": batch})

    def note_merged(self, shard: Shard) -> None:
        """Note that the answers are in the output; the input file is not needed any more."""
        shard.merged = True
        self._append({"shard": shard.number, "merged": True})
        for path in (shard.path, shard.numbers, self.results):
            path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the folder, with all files in it."""
        if self.folder.exists():
            # The state goes first: without it, what is left of the folder means nothing.
            self._path.unlink(missing_ok=True)
            shutil.rmtree(self.folder)
        self.shards = []

    def _append(self, record: Mapping[str, object]) -> None:
        with JSONLinesFile(self._path) as file:  # synced when it is closed
            file.append(json.dumps(record).encode() + b"\n")

    def _load(self) -> None:
        if not repair(self._path, _START):
            raise self._unreadable()
        for number, raw in enumerate(self._path.read_bytes().splitlines()):
            record = json_object(raw)
            try:
                if record is None:
                    raise self._unreadable()
                if number == 0:
                    self._read_plan(record)
                else:
                    self._read_step(record)
            except (KeyError, IndexError, TypeError, ValueError):
                raise self._unreadable() from None

    def _read_plan(self, record: dict[str, object]) -> None:
        urls = record["urls"]
        if not isinstance(urls, list):
            raise self._unreadable()
        self.run, self.server = str(record["run"]), str(record["server"])
        self.shards = [Shard(n, str(url), self.folder) for n, url in enumerate(urls, start=1)]

    def _read_step(self, record: dict[str, object]) -> None:
        shard = self.shards[int(str(record["shard"])) - 1]
        if "file" in record:
            shard.file = str(record["file"])
        elif "batch" in record:
            shard.batch = str(record["batch"])
        elif record.get("merged"):
            shard.merged = True
        elif record.get("refused"):
            shard.file, shard.asked = None, False
        else:
            shard.asked = True

    def _unreadable(self) -> ConfigError:
        return ConfigError(
            f"{self._path}: this is not the state of hosted batches; "
            f"restore it, or remove {self.folder} to give up the batches in it"
        )


def refuse_under_way(output: Path) -> None:
    """Raise ConfigError if an output has hosted batches, whose requests would be paid twice."""
    if HostedState(output).is_under_way:
        raise ConfigError(
            f"{output}: it has hosted batches that are not finished; continue them with --hosted "
            "(run_hosted_batch), or cancel them with --hosted --cancel"
        )


def hosted_folder(output: Path) -> Path:
    """The folder with the state of the hosted batches of an output."""
    real = output.resolve()
    return real.with_name(f"{real.name}.hosted")
