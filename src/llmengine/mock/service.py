"""The state of one mock server: its model, behaviour, script, tokens and stored responses."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour, Fault, Script
from llmengine.mock.json_fields import text
from llmengine.mock.response_store import BoundedStore, StoredConversation, StoredResponse
from llmengine.mock.rules import ModelLimits
from llmengine.mock.text import token_id, word
from llmengine.types.errors import InvalidFieldError
from llmengine.types.secrets import Secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from llmengine.mock.behaviour import JSON, ReceivedRequest
    from llmengine.mock.json_fields import Body
    from llmengine.mock.model import GenerationRequest


@dataclass(slots=True)
class Service:
    """One served model, its behaviour, and the requests that it received.

    ``key`` is the bearer token that requests must carry, or None. ``crashes`` are the errors of the
    mock itself and of hooks. ``responses`` and ``conversations`` are those that the responses API
    has stored. ``pulled`` are the names of the models that clients have pulled through Ollama's
    API.
    """

    model: str = "mock"
    key: str | None = None
    context_length: int = 8192
    behaviour: Behaviour = field(default_factory=Behaviour)
    calls: list[ReceivedRequest] = field(default_factory=list)
    crashes: list[Exception] = field(default_factory=list)
    started: int = field(default_factory=lambda: int(time.time()))
    responses: BoundedStore[StoredResponse] = field(default_factory=BoundedStore)
    conversations: BoundedStore[StoredConversation] = field(default_factory=BoundedStore)
    _tokens: dict[int, str] = field(default_factory=dict)
    pulled: set[str] = field(default_factory=set)
    _replies: Iterator[str | JSON] = field(default=iter(()))
    _faults: Iterator[Fault | None] = field(default=iter(()))

    def __post_init__(self) -> None:
        self.key = Secret(self.key) if self.key else None

    def play(self, script: Script) -> None:
        """Use this script from now on."""
        self._replies = iter(script.replies)
        self._faults = iter(script.faults)

    def next_reply(self) -> str | JSON | None:
        """The next reply of the script, or None after the last one."""
        reply = next(self._replies, None)
        if reply is not None and not isinstance(reply, (str, dict)):
            raise InvalidFieldError(
                f"Script: a reply is {reply!r}; give a text, or a message as a dictionary"
            )
        return reply

    def next_fault(self) -> Fault | None:
        """The fault for this request, or None."""
        fault = next(self._faults, None)
        if fault is not None and not isinstance(fault, Fault):
            raise InvalidFieldError(
                f"Script: a fault is {fault!r}; give a Fault, or None for no fault"
            )
        return fault

    def token_ids(self, pieces: Iterable[str]) -> list[int]:
        """The ids of tokens; the service remembers them for `text_of`."""
        known = [(token_id(piece), piece) for piece in pieces]
        self._tokens.update(known)
        return [number for number, _ in known]

    def text_of(self, token_ids: Iterable[int]) -> str:
        """The text of token ids; an unknown id becomes a word of the vocabulary."""
        return "".join(self._tokens.get(number) or word(number) for number in token_ids)

    @property
    def limits(self) -> ModelLimits:
        """The limits against which requests are checked."""
        return ModelLimits(frozenset([self.model, *self.pulled, *self.tags]), self.context_length)

    @property
    def tag(self) -> str:
        """The model's name in Ollama's form, with a tag."""
        return tagged(self.model)

    @property
    def tags(self) -> list[str]:
        """The names of the models in Ollama's API, those that were pulled last."""
        return list(dict.fromkeys([self.tag, *sorted(map(tagged, self.pulled))]))

    def model_name(self, body: Body) -> str:
        """The model's name for an answer: the name in the request, or else the served model."""
        return text(body.get("model")) or self.model

    def with_token_limit(self, request: GenerationRequest) -> GenerationRequest:
        """The request; if it has no token limit, the limit is the rest of the context."""
        left = max(1, self.context_length - request.prompt_tokens)
        return replace(request, max_tokens=request.max_tokens or left)


def tagged(name: str) -> str:
    """A model's name as Ollama lists it; the default tag is ``latest``."""
    return name if ":" in name else f"{name}:latest"
