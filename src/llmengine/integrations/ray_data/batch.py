"""A batch in parts: what one actor asks together, and the file that keeps its answers meanwhile.

The file is a journal like the batch's own, so an answer is safe before its part is whole: a part
that Ray starts again, and a run after one that was killed, go on from there.

The class for ``Dataset.map``: asks one part of a batch on the actor that it lives on.

The one place that calls Ray: parts go out to a pool of actors and come back asked.

A batch file on many actors: Ray Data shares the work out, one output holds all answers.
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
from typing import TYPE_CHECKING, Any

from llmengine.batch.balancer import Endpoint
from llmengine.batch.journal import Journal, mend, sole_writer
from llmengine.batch.report import BatchCounter, BatchReport
from llmengine.batch.run import answer_all, check_run, length_of, no_progress, selected
from llmengine.config.engine import EngineConfig
from llmengine.integrations.ray_data.config import config_of
from llmengine.transport.loop import background
from llmengine.types.errors import ConfigError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from llmengine.batch.format import BatchRequest, BatchSource
    from llmengine.batch.report import Progress

    Config = EngineConfig | Mapping[str, Any]


# How long the actors of a killed run may take to notice that nobody waits for them.
_LAST_WORDS = 30.0


@dataclass(frozen=True, slots=True)
class Part:
    """Requests that one actor asks together; ``name`` is that of its file."""

    name: str
    requests: tuple[BatchRequest, ...]


@dataclass(frozen=True, slots=True)
class AskedPart:
    """A part at its end: the lines of its file, and what asking it has cost."""

    name: str
    lines: bytes
    progress: Progress
    errors: tuple[str, ...]


def parts_of(requests: Iterable[BatchRequest], size: int) -> Iterator[Part]:
    """The requests in parts of that size; no two runs have a name in common."""
    waiting, run = iter(requests), uuid.uuid4().hex[:8]
    number = 0
    while some := tuple(islice(waiting, size)):
        yield Part(f"{run}-{number:06}.jsonl", some)
        number += 1


def recover(folder: Path, journal: Journal, *, keep: bool) -> None:
    """Take in what a killed run has left in the folder; without `keep`, throw it away.

    Raises ConfigError for a file that is no journal, and for one that is still written to.
    """
    for file in sorted(folder.glob("*.jsonl")):
        with sole_writer(file, _LAST_WORDS):
            if keep:
                mend(file)
                with file.open("rb") as lines:
                    journal.take(lines, file)
        remove(file)


def remove(file: Path) -> None:
    """Take a part's file and its lock away, as far as they can be seen from here."""
    file.unlink(missing_ok=True)
    file.with_name(f"{file.name}.lock").unlink(missing_ok=True)


def tidy(folder: Path) -> None:
    """Take the folder away once it is empty; it may be no folder of this machine."""
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


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


def need_ray() -> None:
    """Raise ConfigError that says how to get Ray Data where it is not installed."""
    if find_spec("ray") is None or find_spec("pyarrow") is None:
        raise ConfigError("Ray Data is missing; run: pip install 'pytest-llmengine[ray]'")


def on_actors(
    parts: Iterable[Part], asker: Mapping[str, Any], actors: int, options: Mapping[str, Any]
) -> Iterator[AskedPart]:
    """The parts in the order in which the actors finish them.

    ``asker`` holds the arguments of PartAsker, ``options`` those of ``Dataset.map``.
    """
    import pyarrow as pa  # noqa: PLC0415 - optional
    import ray  # noqa: PLC0415 - optional

    # One block a part, put into Ray's store as it is read, so that no input is too long.
    blocks = [ray.put(pa.table({"part": [pickle.dumps(part)]})) for part in parts]
    if not blocks:
        return
    dataset = ray.data.from_arrow_refs(blocks).map(
        PartAsker,
        fn_constructor_kwargs=asker,
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
    **ray_options: Any,
) -> BatchReport:
    """`llmengine.run_batch` with the requests asked by that many actors of a Ray cluster.

    The requests travel in parts of ``rows_per_part``. An actor keeps the answers of its part in
    the folder ``parts`` ("<output>.parts" if left out) and hands them over when the part is whole;
    this process alone writes the output. If every node reaches that folder, a killed run
    loses nothing that was answered; else it loses the parts that were under way.

    ``ray_options`` are those of ``Dataset.map``, such as ``num_cpus`` and ``runtime_env``.
    ``on_progress`` is called after each part. Raises ConfigError for an engine with a key in its
    configuration or where Ray is missing, and what `llmengine.run_batch` raises.
    """
    need_ray()
    listed = [engines] if isinstance(engines, (EngineConfig, Mapping)) else engines
    configs = [config_of(config) for config in listed]
    path, folder = Path(output), Path(parts or f"{output}.parts").absolute()
    check_run(source, path, configs, resume=resume, only_failed=only_failed)
    tally = BatchCounter(length_of(source))
    with sole_writer(path), Journal(path, keep=resume) as journal:
        recover(folder, journal, keep=resume)
        chosen = selected(source, journal, tally, only_failed=only_failed)
        todo = parts_of((request for request in chosen if request is not None), rows_per_part)
        asker = {"configs": configs, "folder": str(folder)}
        for part in on_actors(todo, asker, actors, ray_options):
            journal.take(BytesIO(part.lines), folder / part.name)
            remove(folder / part.name)
            tally.elsewhere(part.progress, part.errors)
            (on_progress or no_progress)(tally.progress())
        tally.complete()
        tidy(folder)
    return BatchReport(path, tally.progress(), tuple(tally.errors))
