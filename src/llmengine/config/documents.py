"""YAML, JSON and TOML of files: what is read is bounded, and all that is wrong is one error.

A file may come from a stranger. A few bytes of gzip become gigabytes, a few aliases billions of
values, and parsers raise errors of many kinds.
"""

from __future__ import annotations

import gzip
import json
import re
import tomllib
import zlib
from io import BytesIO
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MAX_BYTES = 64 * 1024 * 1024
MAX_VALUES = 4_000_000
_PLAIN_YAML = 1024 * 1024  # characters that cannot hold too many values, unless they are repeated
_YAML_VALUE = 4  # a value of YAML takes so much more memory than one of JSON

# What a message of PyYAML quotes of the file (an alias, a tag), but not a character, a token or
# a tag of YAML's own.
_QUOTED = re.compile(r"'(?!<[a-z ]+>'|\\.'|tag:yaml)[^'\s]{2,}'|\"[^\"]{2,}\"")

_YamlEvents: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class DocumentError(ValueError):
    """A file's content is not what it should be; the message does not name the file."""


def read_text(path: Path) -> str:
    """The text of a file; raises DocumentError if it is too large or not UTF-8, and OSError."""
    return _text(read_bytes(path))


def read_bytes(path: Path) -> bytes:
    """The content of a file; raises DocumentError if it is too large, and OSError."""
    with path.open("rb") as file:
        return _bounded(file.read(MAX_BYTES + 1), "the file")


def unzip(data: bytes) -> str:
    """The text of a gzip file's content, which is bounded as well."""
    try:
        with gzip.GzipFile(fileobj=BytesIO(data)) as file:
            return _text(_bounded(file.read(MAX_BYTES + 1), "what it holds"))
    except (OSError, EOFError, zlib.error) as error:
        raise DocumentError(f"not gzip: {error}") from error


def load_json(text: str) -> Any:
    """The value of JSON text."""
    check_values(text)
    return _parsed("JSON", json.loads, text)


def load_toml(text: str) -> dict[str, Any]:
    """The table of TOML text."""
    check_values(text)
    table: dict[str, Any] = _parsed("TOML", tomllib.loads, text)
    return table


def load_yaml(text: str, load: Callable[[str], Any] = yaml.safe_load) -> Any:
    """The value of YAML text; one that repeats values by aliases is counted as written out."""
    if len(text) > _PLAIN_YAML or "&" in text:
        _parsed("valid YAML", _check_yaml, text)
    return _parsed("valid YAML", load, text)


def check_values(text: str) -> None:
    """Raise DocumentError for JSON or TOML that may hold too many values.

    Each value but the first stands behind one of these characters.
    """
    if sum(text.count(sign) for sign in ",[{=") > MAX_VALUES:
        raise DocumentError(f"it holds more than {MAX_VALUES:,} values")


def _check_yaml(text: str) -> None:
    """Count the values with every alias written out, without making any of them."""
    sizes: dict[str | None, int | None] = {}  # None while the anchored value has not ended
    open_values: list[tuple[str | None, int]] = []
    total = 0
    for event in _events(text):
        if isinstance(event, yaml.AliasEvent):
            size = sizes.get(event.anchor, 0)
            if size is None:
                raise DocumentError(f"the alias *{event.anchor} stands inside its own value")
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
        problem = f"not valid YAML: {_without_the_line(error)}"
    except Exception as error:  # noqa: BLE001 - PyYAML's constructors raise whatever comes to them
        problem = f"not {what}: {_masked(' '.join(str(error).split()))}"
    # Not from the parser's error, which holds the file, and so the keys in it.
    raise DocumentError(problem)


def _without_the_line(error: yaml.MarkedYAMLError) -> str:
    """What is wrong and where; PyYAML also quotes the file, which may hold a key."""
    said = ", ".join(filter(None, (error.context, error.problem))) or "cannot be parsed"
    words = _masked(said)
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
