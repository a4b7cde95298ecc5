"""The state of one mock server: its models, behaviour, script, load and stored responses."""

from __future__ import annotations

import sys
import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from llmengine.mock.batch_store import BatchSchedule, StoredBatch, StoredFile
from llmengine.mock.behaviour import Behaviour, ReceivedRequest
from llmengine.mock.clock import RealClock
from llmengine.mock.expectations import Expectations
from llmengine.mock.json_fields import text
from llmengine.mock.load import Load, LoadSimulator, SlotQueue
from llmengine.mock.request_log import RequestLog
from llmengine.mock.response_store import BoundedStore, StoredConversation, StoredResponse
from llmengine.mock.rules import ModelLimits
from llmengine.mock.text import token_id, word
from llmengine.mock.wire import fault_error
from llmengine.types.secrets import Secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from llmengine.mock.clock import MockClock
    from llmengine.mock.json_fields import Body
    from llmengine.mock.model import GenerationRequest
    from llmengine.mock.script import MockReply


# OpenAI caches prompts of at least so many tokens, in blocks of so many.
_CACHED_FROM = 1024
_CACHED_BLOCK = 128


_NO_REQUEST = ReceivedRequest("", "", "", {}, b"")


@dataclass(slots=True)
class Service:
    """The served models, their behaviour, and the requests that were received.

    ``key`` is the bearer token that requests must carry, or None. ``crashes`` are the errors of the
    mock itself and of hooks. ``responses`` and ``conversations`` are those that the responses API
    has stored, and ``completions`` the stored chat completions. ``files`` and ``batches`` are those
    of the Batch API, and ``batch_schedule`` is how new batches go on. ``pulled`` are the names of
    the models that clients have pulled through Ollama's API. ``received`` is the request that is
    being answered; there is one at a time, because making an answer does not wait.
    """

    models: tuple[str, ...] = ("mock",)
    key: str | None = None
    context_length: int = 8192
    behaviour: Behaviour = field(default_factory=Behaviour)
    calls: RequestLog = field(default_factory=RequestLog)
    received: ReceivedRequest = field(default=_NO_REQUEST, init=False)
    crashes: list[Exception] = field(default_factory=list)
    started: int = field(default_factory=lambda: int(time.time()))
    responses: BoundedStore[StoredResponse] = field(default_factory=BoundedStore)
    conversations: BoundedStore[StoredConversation] = field(default_factory=BoundedStore)
    completions: BoundedStore[Body] = field(default_factory=BoundedStore)
    files: BoundedStore[StoredFile] = field(default_factory=BoundedStore)
    batches: BoundedStore[StoredBatch] = field(default_factory=BoundedStore)
    batch_schedule: BatchSchedule = field(default_factory=BatchSchedule)
    _tokens: dict[int, str] = field(default_factory=dict)
    pulled: set[str] = field(default_factory=set)
    _prompts: deque[Sequence[str]] = field(default_factory=lambda: deque(maxlen=8), init=False)
    expectations: Expectations = field(default_factory=Expectations)
    clock: MockClock = field(default_factory=RealClock)
    simulator: LoadSimulator = field(default_factory=lambda: LoadSimulator(Load()))
    slots: SlotQueue = field(default_factory=SlotQueue)

    def __post_init__(self) -> None:
        self.key = Secret(self.key) if self.key else None

    def next_reply(self, body: Body | None = None) -> MockReply | None:
        """The scripted reply to the request that is being answered; None for the mock's own.

        If a request has several prompts, `body` is the body of a request with one of them.
        """
        request = self.received
        return self.expectations.reply_to(replace(request, json=body) if body else request)

    def embedding_for(self, text: str, body: Body) -> Sequence[float] | None:
        """The scripted vector for one text of a request; None for the mock's own."""
        request = replace(self.received, json={**body, "input": text})
        return self.expectations.embedding_for(request)

    def simulate(self, load: Load) -> None:
        """Behave from now on like a server under this load."""
        self.simulator = LoadSimulator(load)
        self.slots.size = load.slots

    def admit(self, call: ReceivedRequest) -> None:
        """Raise ApiError if a request has to wait for a slot, and the queue is full."""
        load = self.simulator.load
        if call.method != "POST" or load.queue is None or not self.slots.is_full:
            return
        if self.slots.waiting >= load.queue:
            raise fault_error(429, load.retry_after)

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
        self._prompts.append(tuple(map(sys.intern, pieces)))  # most tokens occur often
        return shared // _CACHED_BLOCK * _CACHED_BLOCK if shared >= _CACHED_FROM else 0

    @property
    def limits(self) -> ModelLimits:
        """The limits against which requests are checked."""
        return ModelLimits(frozenset([*self.model_names, *self.tags]), self.context_length)

    @property
    def model(self) -> str:
        """The first model, which answers requests that name none."""
        return self.models[0]

    @property
    def model_names(self) -> list[str]:
        """The served models, and then those that were pulled."""
        return list(dict.fromkeys([*self.models, *sorted(self.pulled)]))

    @property
    def tags(self) -> list[str]:
        """The names of all models in Ollama's API."""
        return list(dict.fromkeys(map(tagged, self.model_names)))

    def model_name(self, body: Body) -> str:
        """The model's name for an answer: the name in the request, or else the first model."""
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
