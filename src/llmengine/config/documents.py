"""Bounded readers for YAML, JSON, TOML, gzip and zip files, with one error for all problems.

A file may come from an untrusted source. A few bytes of gzip can become gigabytes, a few YAML
aliases can become billions of values, and the parsers raise errors of many types.
"""

from __future__ import annotations

import gzip
import json
import re
import tomllib
import zlib
from io import BytesIO
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile, ZipFile

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MAX_BYTES = 64 * 1024 * 1024
MAX_VALUES = 4_000_000
_SMALL_YAML = 1024 * 1024  # fewer characters cannot hold too many values without aliases
_YAML_VALUE = 4  # a value takes four times as much memory in YAML as in JSON

# Text in a message of PyYAML that is quoted from the file, such as an alias or a tag. A single
# character, the name of a token or a standard tag of YAML does not match.
_QUOTED = re.compile(r"'(?!<[a-z ]+>'|\\.'|tag:yaml)[^'\s]{2,}'|\"[^\"]{2,}\"")

_YamlEvents: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class DocumentError(ValueError):
    """The content of a file is invalid; the message does not name the file."""


def read_text(path: Path) -> str:
    """The text of a file.

    Raises DocumentError if it is too large or not UTF-8, and OSError if it cannot be read.
    """
    return _text(read_bytes(path))


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises DocumentError if it is too large, and OSError if it cannot be read.
    """
    with path.open("rb") as file:
        return _bounded(file.read(MAX_BYTES + 1), "the file")


def unzip(data: bytes) -> str:
    """The text in the content of a gzip file; the decompressed size is bounded as well."""
    try:
        with gzip.GzipFile(fileobj=BytesIO(data)) as file:
            return _text(_bounded(file.read(MAX_BYTES + 1), "the decompressed file"))
    except (OSError, EOFError, zlib.error) as error:
        raise DocumentError(f"not gzip: {error}") from error


def read_json_lines(path: Path) -> list[Any]:
    """The values of a file of JSON Lines, which is decompressed if its name ends in ``.gz``.

    Raises OSError, or DocumentError if it is too large or not such a file.
    """
    text = unzip(read_bytes(path)) if path.suffix == ".gz" else read_text(path)
    check_values(text)
    return [load_json(line) for line in text.splitlines()]


def read_zipped(archive: ZipFile, name: str) -> str:
    """The text of one file in a zip archive.

    Raises KeyError if there is no such file, DocumentError if it is too large or cannot be read.
    """
    try:
        with archive.open(name) as file:
            return _text(_bounded(file.read(MAX_BYTES + 1), "the decompressed file"))
    except (BadZipFile, EOFError, NotImplementedError, RuntimeError, zlib.error) as error:
        raise DocumentError(f"not a file in a zip archive that can be read: {error}") from error


def load_json(text: str) -> Any:
    """The value in a JSON text."""
    check_values(text)
    return _parsed("JSON", json.loads, text)


def load_toml(text: str) -> dict[str, Any]:
    """The table in a TOML text."""
    check_values(text)
    table: dict[str, Any] = _parsed("TOML", tomllib.loads, text)
    return table


def load_yaml(text: str, load: Callable[[str], Any] = yaml.safe_load) -> Any:
    """The value in a YAML text; a value that aliases repeat is counted each time."""
    if len(text) > _SMALL_YAML or "&" in text:
        _parsed("valid YAML", _check_yaml, text)
    return _parsed("valid YAML", load, text)


def check_values(text: str) -> None:
    """Raise DocumentError for JSON or TOML that may hold too many values.

    Each value except the first one follows one of the characters that are counted here.
    """
    if sum(text.count(sign) for sign in ",[{=") > MAX_VALUES:
        raise DocumentError(f"it holds more than {MAX_VALUES:,} values")


def _check_yaml(text: str) -> None:
    """Count the values as if every alias were written out, without creating them."""
    sizes: dict[str | None, int | None] = {}  # None while the anchored value has not ended
    open_values: list[tuple[str | None, int]] = []
    total = 0
    for event in _events(text):
        if isinstance(event, yaml.AliasEvent):
            size = sizes.get(event.anchor, 0)
            if size is None:
                raise DocumentError(f"the alias *{event.anchor} is used inside its own value")
            total += size
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, start = open_values.pop()
            if anchor:
                sizes[anchor] = total - start
        elif isinstance(event, yaml.NodeEvent):
            total += 1
            if isinstance(event, yaml.CollectionStartEvent):
                open_values.append((event.anchor, total - 1))
            if event.anchor:
                sizes[event.anchor] = 1 if isinstance(event, yaml.ScalarEvent) else None
        if total > MAX_VALUES // _YAML_VALUE:
            raise DocumentError(f"it holds more than {MAX_VALUES // _YAML_VALUE:,} values")


def _events(text: str) -> Iterator[Any]:
    return yaml.parse(text, Loader=_YamlEvents)


def _parsed(what: str, parse: Callable[[str], Any], text: str) -> Any:
    try:
        return parse(text)
    except DocumentError:
        raise
    except RecursionError:
        problem = f"not {what} that can be read: it is nested too deeply"
    except yaml.MarkedYAMLError as error:
        problem = f"not valid YAML: {_yaml_problem(error)}"
    except Exception as error:  # noqa: BLE001 - PyYAML's constructors raise errors of any type
        problem = f"not {what}: {_masked(' '.join(str(error).split()))}"
    # Raised without the parser's error as its cause, because that error holds the file's keys.
    raise DocumentError(problem)


def _yaml_problem(error: yaml.MarkedYAMLError) -> str:
    """What is wrong and where, without PyYAML's quote from the file, which may hold a key."""
    reason = ", ".join(filter(None, (error.context, error.problem))) or "cannot be parsed"
    words = _masked(reason)
    mark = error.problem_mark or error.context_mark
    return words if mark is None else f"{words} (line {mark.line + 1}, column {mark.column + 1})"


def _masked(message: str) -> str:
    return _QUOTED.sub("'...'", message)


def _bounded(data: bytes, what: str) -> bytes:
    if len(data) > MAX_BYTES:
        raise DocumentError(f"{what} has more than {MAX_BYTES:,} bytes")
    return data


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise DocumentError(f"not text in UTF-8: {error}") from error
