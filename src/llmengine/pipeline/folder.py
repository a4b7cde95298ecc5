"""The folder of one run: every file in it, and how each is written so that a kill leaves it whole.

Step files grow by one line a record. The others are replaced as a whole.
"""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from llmengine.config.documents import DocumentError, load_yaml, read_text
from llmengine.types.errors import ConfigError
from llmengine.types.secrets import scrub

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

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
