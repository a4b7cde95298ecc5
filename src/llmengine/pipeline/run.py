"""Run a chain over records, step by step, and write everything that was done to a folder."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmengine.pipeline.files import as_data, check_same
from llmengine.pipeline.run_folder import INPUTS, PIPELINE, RunFolder, RunLog, RunReport, StepRow
from llmengine.pipeline.step import RecordProgress, read_records
from llmengine.types.errors import ConfigError, InvalidRequestError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from llmengine.engine.engine import Engine, EngineConfig
    from llmengine.pipeline.step import Chain, Record, Step
    from llmengine.types.request import Message

    OnStep = Callable[["StepProgress"], object]


log = logging.getLogger("llmengine")


@dataclass(frozen=True, slots=True)
class StepProgress:
    """The progress of a step: ``done`` of ``total`` records; ``failed`` of the done ones failed."""

    step: str
    total: int
    done: int = 0
    failed: int = 0


def _ignore_progress(progress: StepProgress) -> None:
    pass


def run(
    chain: Chain,
    records: Sequence[Record],
    engines: Mapping[str, EngineConfig],
    *,
    out: str | os.PathLike[str] = "runs",
    watch: OnStep = _ignore_progress,
) -> RunReport:
    """Run every step for every record, and write a new folder below `out`.

    If a record fails at a step, its error is recorded and the other records go on. `watch` is
    called with the progress of each step, at its start and after every record. Raises ConfigError
    before anything is sent if an engine is missing or cannot be used.
    """
    opened = open_engines(chain, engines)
    folder = RunFolder.create(out, chain.name)
    with folder.lock():
        folder.write_yaml(PIPELINE, as_data(chain, engines, INPUTS))
        folder.write_lines(INPUTS, [record.fields for record in records])
        run_log = RunLog.start(folder, chain, engines)
        progress = [RecordProgress(record) for record in records]
        return _run_steps(run_log, chain, opened, progress, watch)


def resume(
    path: str | os.PathLike[str],
    chain: Chain,
    engines: Mapping[str, EngineConfig],
    *,
    watch: OnStep = _ignore_progress,
) -> RunReport:
    """Continue the run in the folder: send everything that has no answer yet, also what failed.

    Raises ConfigError if the folder is not the folder of a run, if another run is writing to it,
    or if the chain, or an engine's settings that affect its answers, differ from those at the
    start of the run.
    """
    folder = RunFolder.open(path)
    check_same(folder.read(PIPELINE), as_data(chain, engines, INPUTS), str(path))
    opened = open_engines(chain, engines)
    with folder.lock():
        records = read_records(folder.path / INPUTS)
        progress = {record.id: RecordProgress(record) for record in records}
        for step in chain.steps:
            folder.repair(step.id)
            for row in folder.rows(step.id):
                if row.error is None and row.id in progress:
                    progress[row.id].outputs[step.id] = row.answer(step)
        run_log = RunLog.resume(folder, chain, engines)
        return _run_steps(run_log, chain, opened, list(progress.values()), watch)


def open_engines(chain: Chain, engines: Mapping[str, EngineConfig]) -> dict[str, Engine]:
    """The engines that the steps name; raises ConfigError, which names the step."""
    for step in chain.steps:
        if step.engine not in engines:
            known = ", ".join(engines) or "none"
            raise ConfigError(
                f"step {step.id!r}: engine: {step.engine!r} is unknown; known are {known}"
            )
        if (engines[step.engine].sampling.merged(step.sampling).n or 1) > 1:
            raise ConfigError(
                f"step {step.id!r}: sampling: n: a step takes one answer per record; leave n out"
            )
    return {step.engine: engines[step.engine].engine for step in chain.steps}


def _run_steps(
    run_log: RunLog,
    chain: Chain,
    engines: Mapping[str, Engine],
    records: list[RecordProgress],
    watch: OnStep,
) -> RunReport:
    try:
        for step in chain.steps:
            _run_step(run_log.folder, step, engines[step.engine], records, watch)
    except BaseException as error:
        run_log.end(records, stopped_by=error)
        raise
    return run_log.end(records)


def _run_step(
    folder: RunFolder, step: Step, engine: Engine, records: list[RecordProgress], watch: OnStep
) -> None:
    todo = [p for p in records if p.error is None and step.id not in p.outputs]
    watch(StepProgress(step.id, len(todo)))
    if not todo:
        return
    failed = 0
    with folder.step_file(step.id) as file:
        for done, (progress, row) in enumerate(_rows(step, engine, todo), start=1):
            file.append(row.line())
            if row.error is None:
                progress.outputs[step.id] = row.answer(step)
            else:
                progress.error = {"step": step.id, **row.error}
                failed += 1
            watch(StepProgress(step.id, len(todo), done, failed))
    log.info("step %s: %d of %d records answered", step.id, len(todo) - failed, len(todo))


def _rows(
    step: Step, engine: Engine, todo: list[RecordProgress]
) -> Iterator[tuple[RecordProgress, StepRow]]:
    """The line of each record: first of those that can be sent, then of the others.

    Records are sent through the engine's bounded window. Each line is written as soon as its
    answer and the answers before it have arrived, so no line waits for a whole batch.
    """
    sent: deque[tuple[RecordProgress, list[Message]]] = deque()
    not_sent: list[tuple[RecordProgress, StepRow]] = []

    def prompts() -> Iterator[list[Message]]:
        for progress in todo:
            record = progress.record
            try:
                prompt = step.messages(record.id, record.fields, progress.outputs)
            except InvalidRequestError as error:
                not_sent.append((progress, StepRow.not_sent(record.id, error)))
            else:
                sent.append((progress, prompt))
                yield prompt

    for result in engine.iter_results(
        prompts(),
        step.sampling,
        output_model=step.output_model,
        reasoning=step.reasoning,
        step_id=step.id,
    ):
        progress, prompt = sent.popleft()
        yield progress, StepRow.of(step, progress.record.id, prompt, result)
    yield from not_sent
