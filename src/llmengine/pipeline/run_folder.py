"""The folder of one run: its files, the lines of its step files, its usage and its report.

A step file has one line per record and grows by appending. The other files are replaced as a
whole. Each file is written so that it stays readable if the process is killed.
"""

from __future__ import annotations

import json
import os
import platform
import re
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from llmengine.config.documents import DocumentError, load_yaml, read_text
from llmengine.telemetry.usage import total_cost
from llmengine.types.errors import CallError, ConfigError
from llmengine.types.outputs import Usage
from llmengine.types.secrets import scrub

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from llmengine.engine.engine import EngineConfig
    from llmengine.pipeline.step import Chain, RecordProgress, Step
    from llmengine.telemetry.usage import Money
    from llmengine.types.errors import LLMEngineError
    from llmengine.types.outputs import LLMOutput
    from llmengine.types.request import Message
    from llmengine.types.results import Result


OutputRow = dict[str, Any]
_TOKENS = tuple(field.name for field in fields(Usage))
_COUNTS = ("answered", "failed", "attempts", "without_usage")
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
                msg = f"{path}: is no folder of a run: it has no {name}"
                raise ConfigError(msg)
        return folder

    # ---- files that are replaced as a whole

    def write_json(self, name: str, value: Any) -> None:
        """Replace a JSON file."""
        self._replace(name, json.dumps(value, ensure_ascii=False, indent=2) + "\n")

    def write_lines(self, name: str, values: Iterable[Any]) -> None:
        """Replace a file of JSON lines."""
        self._replace(name, "".join(map(_line, values)))

    def write_yaml(self, name: str, value: Any) -> None:
        """Replace a YAML file."""
        text = yaml.dump(value, Dumper=_Blocks, sort_keys=False, allow_unicode=True, width=100)
        self._replace(name, text)

    def read(self, name: str) -> Any:
        """The content of a JSON or YAML file of the run; raises ConfigError if it is broken."""
        path = self.path / name
        try:
            return load_yaml(read_text(path))  # JSON is YAML
        except DocumentError as error:
            problem = str(error)
        raise ConfigError(f"{path}: is broken: {problem}")

    def _replace(self, name: str, text: str) -> None:
        beside = self.path / f".{name}.new"
        beside.write_bytes(scrub(text).encode())
        beside.replace(self.path / name)

    # ---- step files

    def append(self, step_id: str, row: Any) -> None:
        """Add one line to a step's file; on return, the operating system has it."""
        with self._step(step_id).open("ab") as file:
            file.write(scrub(_line(row)).encode())

    def mend(self, step_id: str) -> None:
        """Remove the last line of a step's file if it is incomplete, because the run was killed."""
        path = self._step(step_id)
        data = path.read_bytes() if path.exists() else b""
        if data and not data.endswith(b"\n"):
            os.truncate(path, data.rfind(b"\n") + 1)

    def rows(self, step_id: str) -> Iterator[dict[str, Any]]:
        """The lines of a step's file; raises ConfigError that names a line that is not JSON."""
        path = self._step(step_id)
        if not path.exists():
            return
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                yield _row(line, f"{path}: line {number}")

    def _step(self, step_id: str) -> Path:
        return self.path / f"{step_id}.jsonl"


class _Blocks(yaml.SafeDumper):
    """A YAML writer that uses block style for texts of several lines, so prompts are readable."""


def _text(dumper: _Blocks, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Blocks.add_representer(str, _text)


def _line(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False) + "\n"
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which a model may write as an escape
        return json.dumps(value) + "\n"
    return text


def _row(line: bytes, where: str) -> dict[str, Any]:
    try:
        row: dict[str, Any] = json.loads(line)
    except ValueError as error:
        msg = f"{where}: is no JSON: {error}; mend the line, or start a new run"
        raise ConfigError(msg) from error
    return row


def answered_row(step: Step, record_id: str, prompt: list[Message], result: Result) -> OutputRow:
    """The line of a record that was sent; if it failed, the partial text is kept."""
    error = result.error
    output = result.output or (error.partial if isinstance(error, CallError) else None)
    return {
        "id": record_id,
        "prompt": prompt,
        **_said(output),
        "parsed": _parsed(step, result),
        "attempts": result.attempts,
        "usage": asdict(result.usage) if result.usage else None,
        "cost": result.cost,
        "currency": result.currency,
        "schema_strategy": output.schema_strategy if output else None,
        "model": output.model if output else None,
        "error": error_of(error) if error else None,
    }


def unsent_row(record_id: str, error: LLMEngineError) -> OutputRow:
    """The line of a record that was not sent, because its prompt could not be made."""
    return {
        "id": record_id,
        "prompt": None,
        **_said(None),
        "parsed": None,
        "attempts": 0,
        "usage": None,
        "cost": 0.0,
        "currency": None,
        "schema_strategy": None,
        "model": None,
        "error": error_of(error),
    }


def answer_of(step: Step, row: OutputRow) -> Any:
    """The answer in a line, as later steps see it: the parsed data, or the text."""
    return row["text"] if step.output_model is None else row["parsed"]


def error_of(error: LLMEngineError) -> dict[str, Any]:
    """An error as data: its class, its message, and the HTTP status if there is one."""
    return {
        "type": type(error).__name__,
        "message": str(error),
        "status": getattr(error, "status", None),
    }


def _said(output: LLMOutput | None) -> OutputRow:
    first = output.outputs[0] if output and output.outputs else None
    return {
        "text": first.text if first else None,
        "reasoning": first.reasoning if first else None,
        "finish_reason": first.finish_reason if first else None,
    }


def _parsed(step: Step, result: Result) -> Any:
    if result.output is None or step.output_model is None:
        return None
    return result.output.parsed.model_dump(mode="json", by_alias=True)


def usage_of(steps: Mapping[str, Iterable[OutputRow]]) -> dict[str, Any]:
    """The counts of each step and the totals, over all requests in the step files.

    ``answered`` and ``failed`` count records by their last line. ``attempts`` and tokens count
    all lines, so they include failed lines that a resumed run has replaced. ``without_usage``
    counts lines that were sent but for which the server reported no tokens: if it is not 0, the
    tokens are a lower bound. Tokens are None if nothing is known. ``cost`` is in ``currency``; it
    is None if any part of it is unknown or in another currency.
    """
    counted = {step: _count(rows) for step, rows in steps.items()}
    return {"steps": counted, "total": _total(list(counted.values()))}


def _count(rows: Iterable[OutputRow]) -> dict[str, Any]:
    ended: dict[str, bool] = {}
    counts: dict[str, Any] = dict.fromkeys(_COUNTS, 0) | dict.fromkeys(_TOKENS)
    money: Money = (0.0, None)
    for row in rows:
        money = total_cost([money, (row.get("cost"), row.get("currency"))])
        ended[row["id"]] = row["error"] is None
        counts["attempts"] += row["attempts"]
        counts["without_usage"] += bool(row["attempts"]) and not row["usage"]
        for name in _TOKENS:
            counts[name] = _sum([counts[name], (row["usage"] or {}).get(name)])
    counts["cost"], counts["currency"] = money
    counts["answered"] = sum(ended.values())
    counts["failed"] = len(ended) - counts["answered"]
    return counts


def _total(counts: list[dict[str, Any]]) -> dict[str, Any]:
    summed = {name: sum(count[name] for count in counts) for name in _COUNTS}
    tokens = {name: _sum(count[name] for count in counts) for name in _TOKENS}
    cost, currency = total_cost((count["cost"], count["currency"]) for count in counts)
    return summed | tokens | {"cost": cost, "currency": currency}


def _sum(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


@dataclass(frozen=True, slots=True)
class RunReport:
    """The result of a run: its folder, all records as in `outputs.jsonl`, counts and usage."""

    folder: Path
    records: list[dict[str, Any]]
    counts: dict[str, int]
    usage: dict[str, Any]

    @property
    def exit_status(self) -> int:
        """0 if every record was answered, else 1."""
        return 0 if self.counts["answered"] == self.counts["records"] else 1


@dataclass(frozen=True, slots=True)
class RunLog:
    """Writes ``run.json`` and the outputs: when a run began and ended, with what, and how."""

    folder: RunFolder
    steps: tuple[str, ...]
    account: dict[str, Any]

    @classmethod
    def begin(cls, folder: RunFolder, chain: Chain, engines: Mapping[str, EngineConfig]) -> RunLog:
        """Write that a run has begun."""
        account = {"name": chain.name, **_with_what(chain, engines), "started": _now()}
        return cls._noted(folder, chain, account)

    @classmethod
    def go_on(cls, folder: RunFolder, chain: Chain, engines: Mapping[str, EngineConfig]) -> RunLog:
        """Write that a run is continued."""
        before = folder.read(RUN)
        resumed = [*before.get("resumed", ()), _now()]
        account = before | _with_what(chain, engines) | {"resumed": resumed}
        return cls._noted(folder, chain, account)

    @classmethod
    def _noted(cls, folder: RunFolder, chain: Chain, account: dict[str, Any]) -> RunLog:
        running = account | {"status": "running", "ended": None, "exit_status": None}
        folder.write_json(RUN, running)
        return cls(folder, tuple(step.id for step in chain.steps), running)

    def end(
        self, records: list[RecordProgress], stopped_by: BaseException | None = None
    ) -> RunReport:
        """Write the outputs, the usage and how the run ended; if it was stopped, also by what."""
        rows = [_ended(progress, self.steps) for progress in records]
        counts = {"records": len(rows)} | {
            status: sum(row["status"] == status for row in rows)
            for status in ("answered", "failed", "pending")
        }
        usage = usage_of({step: self.folder.rows(step) for step in self.steps})
        report = RunReport(self.folder.path, rows, counts, usage)
        stopped = f"{type(stopped_by).__name__}: {stopped_by}" if stopped_by is not None else None
        end = {
            "status": "finished" if stopped is None else "stopped",
            "stopped_by": stopped,
            "ended": _now(),
            "exit_status": report.exit_status if stopped is None else None,
            "counts": counts,
        }
        self.folder.write_lines(OUTPUTS, rows)
        self.folder.write_json(USAGE, usage)
        self.folder.write_json(RUN, self.account | end)
        return report


def _ended(progress: RecordProgress, steps: tuple[str, ...]) -> dict[str, Any]:
    whole = all(step in progress.outputs for step in steps)
    status = "failed" if progress.error else "answered" if whole else "pending"
    return {
        "id": progress.record.id,
        "status": status,
        "outputs": progress.outputs,
        "error": progress.error,
    }


def _with_what(chain: Chain, engines: Mapping[str, EngineConfig]) -> dict[str, Any]:
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
