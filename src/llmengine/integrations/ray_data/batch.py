"""Runs a batch file on many Ray actors and writes all answers to one output.

The batch is split into parts. Each actor keeps the answers of its part in a file of its own, a
journal like the batch's own, so every answer is safe before its part is complete. A part that Ray
starts again, and a run after a killed one, continue from these files.
"""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from llmengine.batch.hosted_state import refuse_under_way
from llmengine.batch.journal import Journal, repair_output
from llmengine.batch.jsonl import sole_writer
from llmengine.batch.report import BatchCounter, BatchReport
from llmengine.batch.run import (
    check_run,
    length_of,
    make_sender,
    no_progress,
    selected,
    send_and_record,
)
from llmengine.engine.engine import EngineConfig
from llmengine.integrations.ray_data.config import config_of
from llmengine.types.errors import ConfigError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from llmengine.batch.format import BatchRequest, BatchSource
    from llmengine.batch.report import Progress

    Config = EngineConfig | Mapping[str, object]


# Seconds that the actors of a killed run may need to notice that their driver has ended.
_ACTOR_EXIT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Part:
    """Requests that one actor sends together; ``name`` is the name of the part's file."""

    name: str
    requests: tuple[BatchRequest, ...]


@dataclass(frozen=True, slots=True)
class AnsweredPart:
    """A finished part: the lines of its file, and the counts and errors of its requests."""

    name: str
    lines: bytes
    progress: Progress
    errors: tuple[str, ...]


def parts_of(requests: Iterable[BatchRequest], size: int) -> Iterator[Part]:
    """Split the requests into parts of that size; the names of parts differ in every run."""
    remaining, run = iter(requests), uuid.uuid4().hex[:8]
    number = 0
    while chunk := tuple(islice(remaining, size)):
        yield Part(f"{run}-{number:06}.jsonl", chunk)
        number += 1


def recover(folder: Path, journal: Journal, *, keep: bool) -> None:
    """Read the answers that a killed run left in the folder; without `keep`, delete them.

    Raises ConfigError for a file that is not a journal, and for one that is still in use.
    """
    for file in sorted(folder.glob("*.jsonl")):
        with sole_writer(file, _ACTOR_EXIT_SECONDS):
            if keep:
                repair_output(file)
                with file.open("rb") as lines:
                    journal.add_lines(lines, file)
        remove(file)


def remove(file: Path) -> None:
    """Remove a part's file and its lock, if this machine can see them."""
    file.unlink(missing_ok=True)
    file.with_name(f"{file.name}.lock").unlink(missing_ok=True)


def tidy(folder: Path) -> None:
    """Remove the folder if it is empty and exists on this machine."""
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


class PartRunner:
    """The class for ``Dataset.map``: turns a row with a pickled Part into one with an AnsweredPart.

    Ray makes one instance per actor, which sends the requests of its parts.
    """

    def __init__(self, configs: Sequence[EngineConfig], folder: str) -> None:
        self._sender = make_sender([config_of(config).engine for config in configs])
        self._folder = Path(folder)

    def __call__(self, row: dict[str, bytes]) -> dict[str, bytes]:
        """Send the requests that have no answer in the part's file yet."""
        part: Part = pickle.loads(row["part"])  # nosec B301  # noqa: S301 - from our own driver
        self._folder.mkdir(parents=True, exist_ok=True)
        return {"part": pickle.dumps(self._run(part))}

    def _run(self, part: Part) -> AnsweredPart:
        file = self._folder / part.name
        counter = BatchCounter(len(part.requests))
        with sole_writer(file):
            with Journal(file, keep=True) as journal:
                missing = _missing(part, journal, counter)
                send_and_record(missing, self._sender, journal, counter, no_progress)
            lines = file.read_bytes()
        return AnsweredPart(part.name, lines, counter.progress(), tuple(counter.errors))


def _missing(part: Part, journal: Journal, counter: BatchCounter) -> Iterator[BatchRequest | None]:
    for request in part.requests:
        ok = journal.ok(request)
        if ok is not None:
            counter.count_unknown(ok=ok)
        yield request if ok is None else None


def require_ray() -> None:
    """Raise ConfigError that says how to install Ray Data if it is not installed."""
    if find_spec("ray") is None or find_spec("pyarrow") is None:
        raise ConfigError("Ray Data is not installed; run: pip install 'pytest-llmengine[ray]'")


def on_actors(
    parts: Iterable[Part], runner: Mapping[str, object], actors: int, options: Mapping[str, object]
) -> Iterator[AnsweredPart]:
    """Run the parts on a pool of actors; yield them in the order in which they are finished.

    ``runner`` holds the arguments of PartRunner, ``options`` those of ``Dataset.map``. Ray is used
    only in this function.
    """
    import pyarrow as pa  # noqa: PLC0415 - optional
    import ray  # noqa: PLC0415 - optional

    # Each part is one block, put into Ray's store when it is read, so the input may be long.
    blocks = [ray.put(pa.table({"part": [pickle.dumps(part)]})) for part in parts]
    if not blocks:
        return
    dataset = ray.data.from_arrow_refs(blocks).map(
        PartRunner,
        fn_constructor_kwargs=runner,
        compute=ray.data.ActorPoolStrategy(size=min(actors, len(blocks))),
        **options,
    )
    for row in dataset.iter_rows():
        yield pickle.loads(row["part"])  # nosec B301  # noqa: S301 - from our own actors


ROWS_PER_PART = 512


def run_batch(  # noqa: PLR0913 - one batch's settings
    source: BatchSource,
    output: str | os.PathLike[str],
    engines: Config | Sequence[Config],
    *,
    actors: int,
    rows_per_part: int = ROWS_PER_PART,
    parts: str | os.PathLike[str] | None = None,
    resume: bool = True,
    only_failed: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    **ray_options: object,
) -> BatchReport:
    """Like `llmengine.run_batch`, but many actors of a Ray cluster send the requests.

    The requests are sent in parts of ``rows_per_part``. An actor keeps the answers of its part in
    the folder ``parts`` ("<output>.parts" by default) and returns them when the part is complete.
    Only this process writes the output. If every node can reach that folder, a killed run loses
    no answers; otherwise it loses the parts that were not complete.

    ``ray_options`` are those of ``Dataset.map``, such as ``num_cpus`` and ``runtime_env``.
    ``on_progress`` is called after each part. Raises ConfigError if the configuration of
    an engine holds a key or if Ray is not installed, and the errors of `llmengine.run_batch`.
    """
    require_ray()
    listed = [engines] if isinstance(engines, (EngineConfig, Mapping)) else engines
    configs = [config_of(config) for config in listed]
    path, folder = Path(output), Path(parts or f"{output}.parts").absolute()
    check_run(source, path, configs, resume=resume, only_failed=only_failed)
    counter = BatchCounter(length_of(source))
    with sole_writer(path):
        refuse_under_way(path)
        with Journal(path, keep=resume) as journal:
            recover(folder, journal, keep=resume)
            chosen = selected(source, journal, counter, only_failed=only_failed)
            todo = parts_of((request for request in chosen if request is not None), rows_per_part)
            runner = {"configs": configs, "folder": str(folder)}
            for part in on_actors(todo, runner, actors, ray_options):
                journal.add_lines(BytesIO(part.lines), folder / part.name)
                remove(folder / part.name)
                counter.count_part(part.progress, part.errors)
                (on_progress or no_progress)(counter.progress())
            counter.complete()
            tidy(folder)
    return BatchReport(path, counter.progress(), tuple(counter.errors))
