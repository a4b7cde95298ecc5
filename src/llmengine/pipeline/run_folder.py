"""The folder of one run: its files, the lines of its step files, its usage and its report.

A step file has one line per record and grows by appending. The other files are replaced as a
whole. Each file is written so that it stays readable if the process is killed.
"""

from __future__ import annotations

import json
import platform
import re
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import yaml

from llmengine.batch.jsonl import JSONLinesFile, repair, sole_writer
from llmengine.config.documents import DocumentError, load_yaml, read_text
from llmengine.dialects.fields import FieldError, count, mapping, number, required_text, text
from llmengine.pipeline.step import as_json
from llmengine.telemetry.usage import Spending
from llmengine.types.errors import CallError, ConfigError
from llmengine.types.outputs import Usage
from llmengine.types.secrets import scrub

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from llmengine.engine.engine import EngineConfig
    from llmengine.pipeline.step import Chain, RecordError, RecordProgress, Step
    from llmengine.types.errors import LLMEngineError
    from llmengine.types.request import Message
    from llmengine.types.results import Result


_DISTRIBUTION = "pytest-llmengine"
PIPELINE, INPUTS, OUTPUTS, USAGE, RUN = (
    "pipeline.yaml",
    "inputs.jsonl",
    "outputs.jsonl",
    "usage.json",
    "run.json",
)


class RunFolder:
    """The files of one run. Every known key is removed from all text that is written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, parent: str | os.PathLike[str], name: str) -> RunFolder:
        """A new folder, named after the time in UTC and the chain."""
        stem = f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ}-{re.sub(r'[^A-Za-z0-9._-]+', '-', name)}"
        number = 1
        while True:
            path = Path(parent) / (stem if number == 1 else f"{stem}-{number}")
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                number += 1
            else:
                return cls(path)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> RunFolder:
        """The folder of an earlier run; raises ConfigError if it is not one."""
        folder = cls(Path(path))
        for name in (PIPELINE, INPUTS, RUN):
            if not (folder.path / name).is_file():
                raise ConfigError(f"{path}: is not the folder of a run: it has no {name}")
        return folder

    def lock(self) -> AbstractContextManager[None]:
        """Hold the folder; raises ConfigError if another run is writing to it."""
        return sole_writer(self.path / RUN)

    # ---- files that are replaced as a whole

    def write_json(self, name: str, value: object) -> None:
        """Replace a JSON file."""
        self._replace(name, json.dumps(value, ensure_ascii=False, indent=2) + "\n")

    def write_lines(self, name: str, values: Iterable[object]) -> None:
        """Replace a file of JSON lines."""
        self._replace(name, "".join(map(_line, values)))

    def write_yaml(self, name: str, value: object) -> None:
        """Replace a YAML file."""
        content = yaml.dump(
            value, Dumper=_BlockDumper, sort_keys=False, allow_unicode=True, width=100
        )
        self._replace(name, content)

    def read(self, name: str) -> dict[str, object]:
        """The mapping in a JSON or YAML file of the run; raises ConfigError if it is broken."""
        path = self.path / name
        try:
            value = load_yaml(read_text(path))  # JSON is YAML
        except DocumentError as error:
            problem = str(error)
        else:
            if isinstance(value, dict):
                return value
            problem = "it does not hold a mapping"
        raise ConfigError(f"{path}: is broken: {problem}")

    def _replace(self, name: str, content: str) -> None:
        new = self.path / f".{name}.new"
        new.write_bytes(scrub(content).encode())
        new.replace(self.path / name)

    # ---- step files

    def step_file(self, step_id: str) -> JSONLinesFile:
        """The file of a step, open for appending."""
        return JSONLinesFile(self._step_path(step_id))

    def repair(self, step_id: str) -> None:
        """Remove the last line of a step's file if it is incomplete, because the run was killed.

        Raises ConfigError if that line was not written by a run.
        """
        path = self._step_path(step_id)
        if path.exists() and not repair(path, _ROW_START):
            raise ConfigError(f"{path}: its last line was not written by a run; remove the line")

    def rows(self, step_id: str) -> Iterator[StepRow]:
        """The lines of a step's file; raises ConfigError, which names a line that is not valid."""
        path = self._step_path(step_id)
        if not path.exists():
            return
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                yield StepRow.read(line, f"{path}: line {number}")

    def _step_path(self, step_id: str) -> Path:
        return self.path / f"{step_id}.jsonl"


class _BlockDumper(yaml.SafeDumper):
    """A YAML writer that uses block style for texts of several lines, so prompts are readable."""


def _represent_text(dumper: _BlockDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_BlockDumper.add_representer(str, _represent_text)


def _line(value: object) -> str:
    line = json.dumps(value, ensure_ascii=False) + "\n"
    try:
        line.encode()
    except UnicodeEncodeError:  # a lone surrogate, which a model may write as an escape
        return json.dumps(value) + "\n"
    return line


class StepError(TypedDict):
    """An error as data: its class, its message, and the HTTP status if there is one."""

    type: str
    message: str
    status: int | None


_ROW_START = b'{"id": "'


@dataclass(frozen=True, slots=True)
class StepRow:
    """One line of a step's file, with the keys of the file: the prompt and answer of a record."""

    id: str
    prompt: list[Message] | None = None
    text: str | None = None
    reasoning: str | None = None
    finish_reason: str | None = None
    parsed: object = None
    attempts: int = 0
    usage: Usage | None = None
    cost: float | None = 0.0
    currency: str | None = None
    schema_strategy: str | None = None
    model: str | None = None
    error: StepError | None = None

    @classmethod
    def of(cls, step: Step, record_id: str, prompt: list[Message], result: Result) -> StepRow:
        """The line of a record that was sent; if it failed, the partial text is kept."""
        error = result.error
        output = result.output or (error.partial if isinstance(error, CallError) else None)
        first = output.outputs[0] if output and output.outputs else None
        parsed = None
        if result.output is not None and step.output_model is not None:
            parsed = as_json(step.output_model, result.output.parsed)
        return cls(
            id=record_id,
            prompt=prompt,
            text=first.text if first else None,
            reasoning=first.reasoning if first else None,
            finish_reason=first.finish_reason if first else None,
            parsed=parsed,
            attempts=result.attempts,
            usage=result.usage,
            cost=result.cost,
            currency=result.currency,
            schema_strategy=output.schema_strategy if output else None,
            model=output.model if output else None,
            error=_error_data(error) if error else None,
        )

    @classmethod
    def not_sent(cls, record_id: str, error: LLMEngineError) -> StepRow:
        """The line of a record whose prompt could not be made."""
        return cls(id=record_id, error=_error_data(error))

    @classmethod
    def read(cls, line: bytes, where: str) -> StepRow:
        """The parts of a line that a resumed run needs; raises ConfigError if it is not valid."""
        try:
            row = json.loads(line)
        except ValueError as error:
            problem = f"is not JSON: {error}"
        else:
            try:
                return cls._read(row)
            except FieldError as error:
                problem = f"is not a line of a run: {error}"
        raise ConfigError(f"{where}: {problem}; correct the line, or start a new run")

    @classmethod
    def _read(cls, row: object) -> StepRow:
        if not isinstance(row, dict):
            raise FieldError("it is not a JSON object")
        usage, error = mapping(row, "usage"), mapping(row, "error")
        return cls(
            id=required_text(row, "id"),
            text=text(row, "text"),
            parsed=row.get("parsed"),
            attempts=count(row, "attempts") or 0,
            usage=Usage(*(count(usage, name) for name in Usage.__slots__)) if usage else None,
            cost=None if row.get("cost") is None else number(row, "cost"),
            currency=text(row, "currency"),
            error=None if error is None else _read_error(error),
        )

    def line(self) -> bytes:
        """The line as it is written, without any known key."""
        row = {f.name: getattr(self, f.name) for f in fields(self)}
        row["usage"] = asdict(self.usage) if self.usage else None
        return scrub(_line(row)).encode()

    def answer(self, step: Step) -> object:
        """The answer as later steps see it: the parsed data, or the text."""
        return self.text if step.output_model is None else self.parsed


def _error_data(error: LLMEngineError) -> StepError:
    return {
        "type": type(error).__name__,
        "message": str(error),
        "status": getattr(error, "status", None),
    }


def _read_error(error: Mapping[str, object]) -> StepError:
    return {
        "type": text(error, "type") or "",
        "message": text(error, "message") or "",
        "status": count(error, "status"),
    }


@dataclass(frozen=True, slots=True)
class _StepTotals:
    """The counts of one step, or of all, and what its requests used."""

    answered: int = 0
    failed: int = 0
    attempts: int = 0
    without_usage: int = 0
    spent: Spending = field(default_factory=Spending)

    def __add__(self, other: _StepTotals) -> _StepTotals:
        return _StepTotals(
            self.answered + other.answered,
            self.failed + other.failed,
            self.attempts + other.attempts,
            self.without_usage + other.without_usage,
            self.spent + other.spent,
        )

    def as_data(self) -> StepUsage:
        usage = self.spent.usage or Usage()
        return {
            "answered": self.answered,
            "failed": self.failed,
            "attempts": self.attempts,
            "without_usage": self.without_usage,
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "total_tokens": usage.total_tokens,
            "cached_tokens": usage.cached_tokens,
            "reasoning_tokens": usage.reasoning_tokens,
            "cost": self.spent.cost,
            "currency": self.spent.currency,
        }


class StepUsage(TypedDict):
    """The counts and the usage of one step, or of all steps.

    ``answered`` and ``failed`` count records by their last line. ``attempts`` and tokens count
    all lines, so they include failed lines that a resumed run has replaced. ``without_usage``
    counts lines that were sent but for which the server reported no tokens: if it is not 0, the
    tokens are a lower bound. Tokens are None if nothing is known. ``cost`` is in ``currency``; it
    is None if any part of it is unknown or in another currency.
    """

    answered: int
    failed: int
    attempts: int
    without_usage: int
    prompt_tokens: int | None
    completion_tokens: int | None
    total_tokens: int | None
    cached_tokens: int | None
    reasoning_tokens: int | None
    cost: float | None
    currency: str | None


class RunUsage(TypedDict):
    """The usage of each step by its id, and of all steps."""

    steps: dict[str, StepUsage]
    total: StepUsage


def usage_of(steps: Mapping[str, Iterable[StepRow]]) -> RunUsage:
    """The usage of all requests in the step files."""
    totals = {step: _totals(rows) for step, rows in steps.items()}
    return {
        "steps": {step: one.as_data() for step, one in totals.items()},
        "total": sum(totals.values(), _StepTotals()).as_data(),
    }


def _totals(rows: Iterable[StepRow]) -> _StepTotals:
    answered: dict[str, bool] = {}
    attempts, without_usage, spent = 0, 0, Spending()
    for row in rows:
        answered[row.id] = row.error is None
        attempts += row.attempts
        without_usage += bool(row.attempts) and row.usage is None
        spent += Spending(row.usage, row.cost, row.currency)
    ok = sum(answered.values())
    return _StepTotals(ok, len(answered) - ok, attempts, without_usage, spent)


class OutputRecord(TypedDict):
    """A line of ``outputs.jsonl``: the status of a record, and its answers by step id."""

    id: str
    status: str
    outputs: dict[str, Any]
    error: RecordError | None


@dataclass(frozen=True, slots=True)
class RunReport:
    """The result of a run: its folder, all records as in `outputs.jsonl`, counts and usage."""

    folder: Path
    records: list[OutputRecord]
    counts: dict[str, int]
    usage: RunUsage

    @property
    def exit_status(self) -> int:
        """0 if every record was answered, else 1."""
        return 0 if self.counts["answered"] == self.counts["records"] else 1


@dataclass(frozen=True, slots=True)
class RunLog:
    """Writes ``run.json`` and the outputs: when a run began and ended, with what, and how."""

    folder: RunFolder
    steps: tuple[str, ...]
    entry: dict[str, object]

    @classmethod
    def start(cls, folder: RunFolder, chain: Chain, engines: Mapping[str, EngineConfig]) -> RunLog:
        """Write that a run has begun."""
        entry = {"name": chain.name, **_environment(chain, engines), "started": _now()}
        return cls._running(folder, chain, entry)

    @classmethod
    def resume(cls, folder: RunFolder, chain: Chain, engines: Mapping[str, EngineConfig]) -> RunLog:
        """Write that a run is continued."""
        before = folder.read(RUN)
        earlier = before.get("resumed")
        resumed = [*(earlier if isinstance(earlier, list) else ()), _now()]
        entry = before | _environment(chain, engines) | {"resumed": resumed}
        return cls._running(folder, chain, entry)

    @classmethod
    def _running(cls, folder: RunFolder, chain: Chain, entry: dict[str, object]) -> RunLog:
        running = entry | {"status": "running", "ended": None, "exit_status": None}
        folder.write_json(RUN, running)
        return cls(folder, tuple(step.id for step in chain.steps), running)

    def end(
        self, records: list[RecordProgress], stopped_by: BaseException | None = None
    ) -> RunReport:
        """Write the outputs, the usage and how the run ended; if it was stopped, also by what."""
        outputs = [_output_record(progress, self.steps) for progress in records]
        counts = {"records": len(outputs)} | {
            status: sum(output["status"] == status for output in outputs)
            for status in ("answered", "failed", "pending")
        }
        usage = usage_of({step: self.folder.rows(step) for step in self.steps})
        report = RunReport(self.folder.path, outputs, counts, usage)
        stopped = f"{type(stopped_by).__name__}: {stopped_by}" if stopped_by is not None else None
        end = {
            "status": "finished" if stopped is None else "stopped",
            "stopped_by": stopped,
            "ended": _now(),
            "exit_status": report.exit_status if stopped is None else None,
            "counts": counts,
        }
        self.folder.write_lines(OUTPUTS, outputs)
        self.folder.write_json(USAGE, usage)
        self.folder.write_json(RUN, self.entry | end)
        return report


def _output_record(progress: RecordProgress, steps: tuple[str, ...]) -> OutputRecord:
    is_complete = all(step in progress.outputs for step in steps)
    return {
        "id": progress.record.id,
        "status": "failed" if progress.error else "answered" if is_complete else "pending",
        "outputs": progress.outputs,
        "error": progress.error,
    }


def _environment(chain: Chain, engines: Mapping[str, EngineConfig]) -> dict[str, object]:
    used = {step.engine: engines[step.engine] for step in chain.steps}
    return {
        "engines": {n: {"backend": c.backend, "model": c.model} for n, c in used.items()},
        "versions": {_DISTRIBUTION: _version(), "python": platform.python_version()},
    }


def _version() -> str:
    try:
        return metadata.version(_DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "from source, not installed"


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
