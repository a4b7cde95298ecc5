"""One question that both sides are asked."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from llmengine.types.request import Message


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation to be continued by at most ``max_tokens`` tokens.

    ``kind`` is what reports group by. ``schema`` is a JSON schema that the answer is asked to fit;
    ``tools`` and ``tool_choice`` are in OpenAI's spelling.
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
        """Whether nothing but text is asked for."""
        return self.schema is None and not self.tools

    @property
    def needs(self) -> str:
        """What is asked for besides text, as one comparable string."""
        return _canonical([self.schema, self.tools, self.tool_choice])

    @property
    def digest(self) -> str:
        """A hash of all that the model is told, the token limit included."""
        asked = [self.messages, self.max_tokens, self.needs]
        return hashlib.sha256(_canonical(asked).encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """The prompt as a JSON object; what it does not ask for is left out."""
        row = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in row.items() if value not in (None, ())}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        """The prompt that `to_dict` wrote."""
        lists = {name: tuple(row.get(name, ())) for name in ("messages", "tools")}
        return cls(**{**row, **lists})


def digest_of(prompts: Iterable[Prompt]) -> str:
    """A hash of a whole set, in its order."""
    lines = "\n".join(f"{prompt.id} {prompt.digest}" for prompt in prompts)
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
