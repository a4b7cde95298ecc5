"""One line of a step's file: what was asked of one record, and what became of it.

What a run used, summed over every request that its step files tell of.

The account of a run: when, with what, how it ended, and what became of every record.

The folder of one run: every file in it, and how each is written so that a kill leaves it whole.

Step files grow by one line a record. The others are replaced as a whole.
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

    from llmengine.config.engine import EngineConfig
    from llmengine.pipeline.step import Chain, RecordProgress, Step
    from llmengine.telemetry.usage import Money
    from llmengine.types.errors import LLMEngineError
    from llmengine.types.outputs import LLMOutput, Result
    from llmengine.types.request import Message


OutputRow = dict[str, Any]


def answered_row(step: Step, record_id: str, prompt: list[Message], result: Result) -> OutputRow:
    """The line of a record that was sent, answered or not; a failed one keeps its partial text."""
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
    """The line of a record whose prompt could not be made."""
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
    """What later steps see of an answered line: the parsed data, or the text."""
    return row["text"] if step.output_model is None else row["parsed"]


def error_of(error: LLMEngineError) -> dict[str, Any]:
    """An error as data: its class, its words, and the status if a server gave one."""
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


_TOKENS = tuple(field.name for field in fields(Usage))
_COUNTS = ("answered", "failed", "attempts", "without_usage")


def usage_of(steps: Mapping[str, Iterable[OutputRow]]) -> dict[str, Any]:
    """Counts of each step and of all.

    ``answered`` and ``failed`` count records by their last line; ``attempts`` and tokens count
    all lines, so that failures which a resumed run mended are paid for. ``without_usage`` counts
    lines that were sent and whose tokens no server told: where it is not 0, tokens are a lower
    bound. Tokens are None where nothing is known. ``cost`` is in ``currency``, and None where any
    part of it is unknown or in another currency.
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


_DISTRIBUTION = "pytest-llmengine"


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a run left: its folder, every record as `outputs.jsonl` has it, counts and usage."""

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
    """Writes the account of one run."""

    folder: RunFolder
    steps: tuple[str, ...]
    account: dict[str, Any]

    @classmethod
    def begin(cls, folder: RunFolder, chain: Chain, engines: Mapping[str, EngineConfig]) -> RunLog:
        """Note that a run began."""
        account = {"name": chain.name, **_with_what(chain, engines), "started": _now()}
        return cls._noted(folder, chain, account)

    @classmethod
    def go_on(cls, folder: RunFolder, chain: Chain, engines: Mapping[str, EngineConfig]) -> RunLog:
        """Note that a run goes on."""
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
        """Write the outputs, the usage and how it ended; a stop in the middle says by what."""
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


PIPELINE, INPUTS, OUTPUTS, USAGE, RUN = (
    "pipeline.yaml",
    "inputs.jsonl",
    "outputs.jsonl",
    "usage.json",
    "run.json",
)


class RunFolder:
    """The files of one run. Whatever is written is scrubbed of every known key."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, parent: str | os.PathLike[str], name: str) -> RunFolder:
        """A new folder named after the time, in UTC, and the chain."""
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
        """The folder of an earlier run; raises ConfigError if it is none."""
        folder = cls(Path(path))
        for name in (PIPELINE, INPUTS, RUN):
            if not (folder.path / name).is_file():
                msg = f"{path}: is no folder of a run: it has no {name}"
                raise ConfigError(msg)
        return folder

    # ---- whole files

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
        """What a JSON or YAML file of the run holds; raises ConfigError if it is broken."""
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
        """Add one line to a step's file; it is with the operating system when this returns."""
        with self._step(step_id).open("ab") as file:
            file.write(scrub(_line(row)).encode())

    def mend(self, step_id: str) -> None:
        """Take off a step's file a last line that a kill cut short."""
        path = self._step(step_id)
        data = path.read_bytes() if path.exists() else b""
        if data and not data.endswith(b"\n"):
            os.truncate(path, data.rfind(b"\n") + 1)

    def rows(self, step_id: str) -> Iterator[dict[str, Any]]:
        """The lines of a step's file; raises ConfigError that names one that is no JSON."""
        path = self._step(step_id)
        if not path.exists():
            return
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                yield _row(line, f"{path}: line {number}")

    def _step(self, step_id: str) -> Path:
        return self.path / f"{step_id}.jsonl"


class _Blocks(yaml.SafeDumper):
    """Writes texts of several lines as people do, so that prompts can be read."""


def _text(dumper: _Blocks, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Blocks.add_representer(str, _text)


def _line(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False) + "\n"
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which a model may write as an escape
        return json.dumps(value) + "\n"
    return text


def _row(line: bytes, where: str) -> dict[str, Any]:
    try:
        row: dict[str, Any] = json.loads(line)
    except ValueError as error:
        msg = f"{where}: is no JSON: {error}; mend the line, or start a new run"
        raise ConfigError(msg) from error
    return row
