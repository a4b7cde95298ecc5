"""A batch file on many actors: Ray Data shares the work out, one output holds all answers."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmengine.batch.journal import Journal, sole_writer
from llmengine.batch.report import BatchCounter, BatchReport
from llmengine.batch.run import check_run, length_of, no_progress, selected
from llmengine.config.engine import EngineConfig
from llmengine.integrations.ray_data.cluster import need_ray, on_actors
from llmengine.integrations.ray_data.configured import config_of
from llmengine.integrations.ray_data.parts import parts_of, recover, remove, tidy

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from llmengine.batch.format import BatchSource
    from llmengine.batch.report import Progress

    Config = EngineConfig | Mapping[str, Any]

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
