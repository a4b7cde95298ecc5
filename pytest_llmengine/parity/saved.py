"""A side in a file: JSON Lines, a head and one line a prompt, compressed if the name ends in .gz.

The file holds its prompts and its noise floor too, so that another machine can ask a candidate the
same and judge it.
"""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

from llmengine.config.documents import check_values, load_json, read_bytes, read_text, unzip
from pytest_llmengine.parity.answer import Answer
from pytest_llmengine.parity.errors import ParityError
from pytest_llmengine.parity.facts import Facts
from pytest_llmengine.parity.noise import Variation
from pytest_llmengine.parity.prompt import Prompt, digest_of
from pytest_llmengine.parity.side import Side

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORMAT = "llmengine-parity"
VERSION = 1
ENDINGS = (".jsonl", ".jsonl.gz")


def is_saved(name: str) -> bool:
    """Whether a side's name is that of a file."""
    return name.endswith(ENDINGS)


def check_path(path: Path) -> None:
    """Raise ParityError unless a side can be saved there: ask before the run, not after."""
    if not is_saved(path.name):
        raise ParityError(f"file {path}: the name must end in {' or '.join(ENDINGS)}")
    if not path.parent.is_dir():
        raise ParityError(f"file {path}: there is no directory {path.parent}; make it first")


def save(side: Side, path: Path) -> None:
    """Write a side to a file; the same side gives the same bytes."""
    check_path(path)
    data = "".join(f"{_line(row)}\n" for row in _rows(side)).encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def load(path: Path) -> Side:
    """The side in a file.

    Raises ParityError if the file is not there, is not one of these, is of a later version, or has
    been changed since it was written.
    """
    try:
        text = unzip(read_bytes(path)) if path.suffix == ".gz" else read_text(path)
        check_values(text)
        head, *rows = [load_json(line) for line in text.splitlines()]
    except OSError as error:
        raise ParityError(f"saved side {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise ParityError(f"saved side {path}: {error}") from error
    _check_head(head, path)
    try:
        side = _side(head, rows, path)
        digest, saved = side.digest, head["prompts"]["digest"]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ParityError(f"saved side {path}: {type(error).__name__}: {error}") from error
    if digest != saved:
        raise ParityError(f"saved side {path}: its prompts are not those that were saved in it")
    return side


def _rows(side: Side) -> Iterator[dict[str, Any]]:
    yield {
        "format": FORMAT,
        "version": VERSION,
        "name": side.name,
        "date": side.date,
        "tool_version": side.tool_version,
        "facts": side.facts.to_dict(),
        "batch": side.batch,
        "prompts": {"count": len(side.prompts), "digest": digest_of(side.prompts)},
        "noise": [variation.to_dict() for variation in side.noise],
    }
    for prompt, answer in zip(side.prompts, side.answers, strict=True):
        yield {"prompt": prompt.to_dict(), "answer": answer.to_dict()}


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, separators=(",", ":"))


def _check_head(head: Any, path: Path) -> None:
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise ParityError(
            f"saved side {path}: this is no file that `llmengine parity --save` wrote"
        )
    if head.get("version") != VERSION:
        raise ParityError(
            f"saved side {path}: format version {head.get('version')}, and this package reads "
            f"{VERSION}; update pytest-llmengine, or save it anew"
        )


def _side(head: dict[str, Any], rows: list[dict[str, Any]], path: Path) -> Side:
    return Side(
        name=head["name"],
        facts=Facts.from_dict(head["facts"]),
        prompts=tuple(Prompt.from_dict(row["prompt"]) for row in rows),
        answers=tuple(Answer.from_dict(row["answer"]) for row in rows),
        noise=tuple(Variation.from_dict(row) for row in head["noise"]),
        batch=head["batch"],
        date=head["date"],
        tool_version=head["tool_version"],
        source=path.name,
    )
