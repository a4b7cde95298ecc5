"""What one mock server knows and remembers."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from llmengine.mock.behaviour import Behaviour, Fault, Script
from llmengine.mock.json_fields import text
from llmengine.mock.rules import ModelLimits
from llmengine.mock.text import token_id, word
from llmengine.types.errors import InvalidFieldError
from llmengine.types.secrets import Secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from llmengine.mock.behaviour import JSON, Call
    from llmengine.mock.model import GenerationRequest


@dataclass(slots=True)
class Service:
    """One served model, how it behaves, and what it saw.

    ``key`` is the bearer token that requests must bring, or None. ``responses`` are the stored
    ones of the responses API, with the conversation that led to them. ``pulled`` are the names of
    further models that clients had Ollama's API pull.
    """

    model: str = "mock"
    key: str | None = None
    context_length: int = 8192
    behaviour: Behaviour = field(default_factory=Behaviour)
    calls: list[Call] = field(default_factory=list)
    crashes: list[Exception] = field(default_factory=list)
    started: int = field(default_factory=lambda: int(time.time()))
    responses: dict[str, Any] = field(default_factory=dict)
    _tokens: dict[int, str] = field(default_factory=dict)
    pulled: set[str] = field(default_factory=set)
    _replies: Iterator[str | JSON] = field(default=iter(()))
    _faults: Iterator[Fault | None] = field(default=iter(()))

    def __post_init__(self) -> None:
        self.key = Secret(self.key) if self.key else None

    def play(self, script: Script) -> None:
        """Follow this script from now on."""
        self._replies = iter(script.replies)
        self._faults = iter(script.faults)

    def next_reply(self) -> str | JSON | None:
        """The next scripted answer, or None past the end."""
        reply = next(self._replies, None)
        if reply is not None and not isinstance(reply, (str, dict)):
            raise InvalidFieldError(
                f"Script: a reply is {reply!r}; give a text, or a message as a dictionary"
            )
        return reply

    def next_fault(self) -> Fault | None:
        """The fault to play on this call, or None."""
        fault = next(self._faults, None)
        if fault is not None and not isinstance(fault, Fault):
            raise InvalidFieldError(f"Script: a fault is {fault!r}; give a Fault, or None for none")
        return fault

    def token_ids(self, pieces: Iterable[str]) -> list[int]:
        """The ids of tokens, which the service then knows by them."""
        known = [(token_id(piece), piece) for piece in pieces]
        self._tokens.update(known)
        return [number for number, _ in known]

    def text_of(self, token_ids: Iterable[int]) -> str:
        """The text of ids that were given out; for any other, a word that stands for it."""
        return "".join(self._tokens.get(number) or word(number) for number in token_ids)

    @property
    def limits(self) -> ModelLimits:
        """What requests are held against."""
        return ModelLimits(frozenset([self.model, *self.pulled, *self.tags]), self.context_length)

    @property
    def tag(self) -> str:
        """The model's name as Ollama spells it, with a tag."""
        return tagged(self.model)

    @property
    def tags(self) -> list[str]:
        """The models that Ollama's API has, the pulled ones last."""
        return list(dict.fromkeys([self.tag, *sorted(map(tagged, self.pulled))]))

    def echo(self, body: JSON) -> str:
        """The model that an answer names: the one asked for."""
        return text(body.get("model")) or self.model

    def fitted(self, ask: GenerationRequest) -> GenerationRequest:
        """The question with what the context leaves as its token limit, unless it has its own."""
        left = max(1, self.context_length - ask.prompt_tokens)
        return replace(ask, max_tokens=ask.max_tokens or left)


def tagged(name: str) -> str:
    """A model's name as Ollama lists it: without a tag it is the latest."""
    return name if ":" in name else f"{name}:latest"
