"""Prompts that both sides are sent: the built-in set, and files of prompts in JSON Lines."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files
from itertools import zip_longest
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from llmengine.config.documents import DocumentError, check_values, load_json, read_text
from llmengine.types.errors import InvalidRequestError, LLMEngineError
from llmengine.types.request import to_messages

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from llmengine.types.request import Message


class ParityError(LLMEngineError):
    """The two sides cannot be compared; the message says why and what to do, in one line."""


@dataclass(frozen=True, slots=True)
class ParityPrompt:
    """A conversation that both sides continue by at most ``max_tokens`` tokens.

    Reports group prompts by ``kind``. ``schema`` is a JSON schema for the answer. ``tools`` and
    ``tool_choice`` have OpenAI's format.
    """

    id: str
    kind: str
    messages: tuple[Message, ...]
    max_tokens: int
    schema: Mapping[str, Any] | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: str | Mapping[str, Any] | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the prompt asks for text only, without a schema and without tools."""
        return self.schema is None and not self.tools

    @property
    def needs(self) -> str:
        """The schema and the tools as one string, which is equal if they are."""
        return _canonical([self.schema, self.tools, self.tool_choice])

    @property
    def digest(self) -> str:
        """A hash of everything that is sent for this prompt, including the token limit."""
        request = [self.messages, self.max_tokens, self.needs]
        return hashlib.sha256(_canonical(request).encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """The prompt as a JSON object; empty fields are left out."""
        row = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in row.items() if value not in (None, ())}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        """The prompt that `to_dict` wrote."""
        lists = {name: tuple(row.get(name, ())) for name in ("messages", "tools")}
        return cls(**{**row, **lists})


def digest_of(prompts: Iterable[ParityPrompt]) -> str:
    """A hash of a set of prompts, which depends on their order."""
    lines = "\n".join(f"{prompt.id} {prompt.digest}" for prompt in prompts)
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


KINDS = ("chat", "long", "multilingual", "code", "json", "tools")
"""The kinds of the built-in prompts, one file each."""

_MAX_TOKENS = 64


class _Line(BaseModel):
    """One line of a prompt file: ``prompt`` for one user message, or ``messages``."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    id: Annotated[str, Field(min_length=1)]
    kind: str = "own"
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    max_tokens: int = Field(default=_MAX_TOKENS, ge=1)
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")
    tools: list[dict[str, Any]] = Field(default_factory=list)
    tool_choice: str | dict[str, Any] | None = None

    @model_validator(mode="after")
    def _check_conversation(self) -> _Line:
        if (self.prompt is None) == (self.messages is None):
            msg = "give either prompt (a text) or messages (a list), not both or neither"
            raise ValueError(msg)
        return self

    def prompt_value(self) -> ParityPrompt:
        """The line as a prompt."""
        conversation = self.messages if self.prompt is None else self.prompt
        assert conversation is not None
        return ParityPrompt(
            self.id,
            self.kind,
            to_messages(conversation),
            self.max_tokens,
            self.json_schema,
            tuple(self.tools),
            self.tool_choice,
        )


def built_in() -> list[ParityPrompt]:
    """The built-in prompts, kind by kind."""
    folder = files("pytest_llmengine.parity").joinpath("prompts")
    found = []
    for kind in KINDS:
        name = f"{kind}.jsonl"
        found += _read(folder.joinpath(name).read_text("utf-8"), name)
    return found


def read_prompts(path: Path) -> list[ParityPrompt]:
    """The prompts of a file of JSON Lines.

    Raises ParityError that names the file, the line and the field if a line is not a prompt.
    """
    try:
        text = read_text(path)
        check_values(text)
    except OSError as error:
        raise ParityError(f"prompts {path}: {error.strerror}") from error
    except DocumentError as error:
        raise ParityError(f"prompts {path}: {error}") from error
    prompts = _read(text, str(path))
    if not prompts:
        raise ParityError(
            f"prompts {path}: the file has no prompts; write one JSON object per line"
        )
    return prompts


def select(
    prompts: Sequence[ParityPrompt], kinds: Sequence[str] = (), limit: int | None = None
) -> list[ParityPrompt]:
    """The prompts of these kinds, at most `limit` of them, spread evenly over the kinds.

    Raises ParityError for a kind that no prompt has.
    """
    by_kind: dict[str, list[ParityPrompt]] = {}
    for prompt in prompts:
        by_kind.setdefault(prompt.kind, []).append(prompt)
    for kind in kinds:
        if kind not in by_kind:
            raise ParityError(
                f"no prompt has the kind {kind!r}; the kinds are {', '.join(by_kind)}"
            )
    chosen = [by_kind[kind] for kind in kinds] if kinds else list(by_kind.values())
    turns = [prompt for turn in zip_longest(*chosen) for prompt in turn if prompt is not None]
    kept = {prompt.id for prompt in turns[:limit]}
    return [prompt for prompt in prompts if prompt.id in kept]


def _read(text: str, name: str) -> list[ParityPrompt]:
    prompts = list(_read_lines(text.splitlines(), name))
    _check_ids(prompts, name)
    return prompts


def _read_lines(lines: Iterable[str], name: str) -> Iterator[ParityPrompt]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield _Line.model_validate(load_json(line)).prompt_value()
            except (ValueError, InvalidRequestError) as error:
                raise ParityError(f"prompts {name}, line {number}: {_problem(error)}") from error


def _problem(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]


def _check_ids(prompts: Iterable[ParityPrompt], name: str) -> None:
    seen: set[str] = set()
    for prompt in prompts:
        if prompt.id in seen:
            raise ParityError(f"prompts {name}: the id {prompt.id!r} is used twice")
        seen.add(prompt.id)
