"""The state of one mock server: its model, behaviour, script, tokens and stored responses."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import asynccontextmanager, nullcontext
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
    from collections.abc import AsyncIterator, Iterable, Iterator, Sequence

    from llmengine.mock.behaviour import JSON, ReceivedRequest
    from llmengine.mock.json_fields import Body
    from llmengine.mock.model import GenerationRequest


# OpenAI caches prompts of at least so many tokens, in blocks of so many.
_CACHED_FROM = 1024
_CACHED_BLOCK = 128


@dataclass(slots=True)
class Service:
    """One served model, its behaviour, and the requests that it received.

    ``key`` is the bearer token that requests must carry, or None. ``crashes`` are the errors of the
    mock itself and of hooks. ``responses`` and ``conversations`` are those that the responses API
    has stored, and ``completions`` the stored chat completions. ``pulled`` are the names of the
    models that clients have pulled through Ollama's API. ``slots`` is the number of answers that
    are written at once, or None for any number; more requests wait. ``writing`` is the number of
    answers that are being written.
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
    completions: BoundedStore[Body] = field(default_factory=BoundedStore)
    _tokens: dict[int, str] = field(default_factory=dict)
    pulled: set[str] = field(default_factory=set)
    _prompts: deque[Sequence[str]] = field(default_factory=lambda: deque(maxlen=8), init=False)
    slots: int | None = None
    writing: int = field(default=0, init=False)
    _free: asyncio.Semaphore | None = field(default=None, init=False)
    _replies: Iterator[str | JSON] = field(default=iter(()))
    _faults: Iterator[Fault | None] = field(default=iter(()))

    def __post_init__(self) -> None:
        self.key = Secret(self.key) if self.key else None
        self._free = asyncio.Semaphore(self.slots) if self.slots else None

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

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for a free slot, and occupy it."""
        async with self._free or nullcontext():
            self.writing += 1
            try:
                yield
            finally:
                self.writing -= 1

    def token_ids(self, pieces: Iterable[str]) -> list[int]:
        """The ids of tokens; the service remembers them for `text_of`."""
        known = [(token_id(piece), piece) for piece in pieces]
        self._tokens.update(known)
        return [number for number, _ in known]

    def text_of(self, token_ids: Iterable[int]) -> str:
        """The text of token ids; an unknown id becomes a word of the vocabulary."""
        return "".join(self._tokens.get(number) or word(number) for number in token_ids)

    def cached_tokens(self, pieces: Sequence[str]) -> int:
        """How many tokens of a prompt are in the cache of long prompts, where the prompt is put."""
        if len(pieces) < _CACHED_FROM:
            return 0
        shared = max((_shared(pieces, known) for known in self._prompts), default=0)
        self._prompts.append(tuple(pieces))
        return shared // _CACHED_BLOCK * _CACHED_BLOCK if shared >= _CACHED_FROM else 0

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


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    """The number of tokens that two prompts have in common at their start."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def tagged(name: str) -> str:
    """A model's name as Ollama lists it; the default tag is ``latest``."""
    return name if ":" in name else f"{name}:latest"
