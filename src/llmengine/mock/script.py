"""What a mock server is told to answer: replies, faults, and scripts of both.

All of it is checked when it is made, so that a mistake is an error of the test that makes it.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, TypeAlias

from llmengine.mock.json_fields import is_number, mapping
from llmengine.mock.text import tokenize
from llmengine.types.arguments import checked_fields, suggestion
from llmengine.types.errors import InvalidFieldError

if TYPE_CHECKING:
    from llmengine.mock.behaviour import ReceivedRequest


_MOST_SHOWN = 100


def shown(value: object) -> str:
    """The value as it is shown in a message: its representation, cut if it is long."""
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 3]}..."


def _fault_advice(unknown: Mapping[str, object]) -> str | None:
    name, value = next(iter(unknown.items()))
    return f"write status={value!r}" if name in {"code", "status_code"} else None


@checked_fields(InvalidFieldError, _fault_advice)
@dataclass(frozen=True, slots=True)
class Fault:
    """A failure that the server simulates.

    - ``status``: answer with this error status, and ``retry_after`` seconds in its header.
    - ``delay``, ``chunk_delay``: wait so many seconds before the first byte, and between chunks.
    - ``cut_after``: drop the connection after so many chunks of a stream, or of a body that
      ``split_at`` splits; 0 drops it before any byte.
    - ``stall_after``: send so many chunks, and then nothing until the client goes away.
    - ``malformed_json``: send a body that is not JSON.
    - ``content_type``: send this content type.
    - ``drop_keepalive``: close the connection after the answer without a header that says so.
    - ``split_at``: split the body's bytes into other chunks; one number is the size of a chunk,
      several numbers are positions.
    """

    status: int | None = None
    retry_after: float | None = None
    delay: float = 0.0
    chunk_delay: float = 0.0
    cut_after: int | None = None
    malformed_json: bool = False
    content_type: str | None = None
    drop_keepalive: bool = False
    split_at: int | tuple[int, ...] | None = None
    stall_after: int | None = None

    def __post_init__(self) -> None:
        for name, (wanted, fits) in _FAULT_FIELDS.items():
            value = getattr(self, name)
            if value is not None and not fits(value):
                raise InvalidFieldError(f"Fault: {name} is {shown(value)}; it must be {wanted}")
        if self.retry_after is not None and self.status is None:
            raise InvalidFieldError("Fault: retry_after has no effect without a status; give both")


def is_count(value: object, least: int = 0) -> bool:
    """Whether the value is a whole number that is not below the least one."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_duration(value: object) -> bool:
    """Whether the value is a number of seconds."""
    return is_number(value) and value >= 0  # type: ignore[operator]


def _is_error_status(value: object) -> bool:
    return is_count(value, 400) and value <= 599  # type: ignore[operator]


def _is_split(value: object) -> bool:
    positions = value if isinstance(value, tuple | list) else (value,)
    return bool(positions) and all(is_count(position, 1) for position in positions)


_SECONDS = ("a number of seconds", is_duration)
_COUNT = ("a whole number that is not negative", is_count)
_FLAG = ("True or False", lambda value: isinstance(value, bool))
_FAULT_FIELDS: Mapping[str, tuple[str, Callable[[object], bool]]] = {
    "status": ("a whole number from 400 to 599", _is_error_status),
    "retry_after": _SECONDS,
    "delay": _SECONDS,
    "chunk_delay": _SECONDS,
    "cut_after": _COUNT,
    "stall_after": _COUNT,
    "malformed_json": _FLAG,
    "content_type": ("a text", lambda value: isinstance(value, str)),
    "drop_keepalive": _FLAG,
    "split_at": ("a whole number above 0, or several in a tuple", _is_split),
}

NO_FAULT = Fault()


@dataclass(frozen=True, slots=True)
class ScriptedCall:
    """A tool call of a scripted reply; the arguments are JSON text, or a custom tool's input."""

    name: str
    arguments: str
    custom: bool = False


@dataclass(frozen=True, slots=True)
class ScriptedToken:
    """A token of a scripted reply, its log-probability, and its alternatives with theirs."""

    text: str
    logprob: float
    alternatives: tuple[tuple[str, float], ...] = ()


@checked_fields(InvalidFieldError)
@dataclass(frozen=True, slots=True)
class MockReply:
    """One reply, which every route sends in the form of its own API, whole or streamed.

    - ``content``, ``reasoning`` and ``refusal`` are texts. A content that is a dict or a list is
      sent as JSON.
    - ``tool_calls`` are objects such as ``{"name": "add", "arguments": {"a": 1, "b": 2}}``, or
      calls in OpenAI's shape. Arguments may also be given as JSON text.
    - ``finish_reason`` is sent instead of the reason that follows from the reply, also if the
      request's token limit or a stop sequence cuts the reply. Where the API has another word for
      one of OpenAI's reasons, that word is sent.
    - ``usage`` may have ``prompt_tokens``, ``completion_tokens``, ``cached_tokens`` and
      ``reasoning_tokens``; the server counts those that are left out.
    - ``logprobs`` are the tokens of the content in OpenAI's shape, such as
      ``[{"token": "Yes", "logprob": -0.1, "top_logprobs": [{"token": "No", "logprob": -2.4}]}]``.
      They are sent if the request asks for log-probabilities.
    - ``embedding`` is the vector of every text that a request for embeddings sends; it is only for
      `MockServer.when`, and has no other field beside it.
    - ``fault`` is simulated while the reply is sent.
    """

    content: str | Mapping[str, object] | Sequence[object] = ""
    reasoning: str = ""
    refusal: str | None = None
    tool_calls: Sequence[Mapping[str, object]] = ()
    finish_reason: str | None = None
    usage: Mapping[str, int] | None = None
    logprobs: Sequence[Mapping[str, object]] | None = None
    embedding: Sequence[float] | None = None
    fault: Fault | None = None

    def __post_init__(self) -> None:
        _require("content", self.content, (str, Mapping, list), "give a text")
        _require("reasoning", self.reasoning, str, "give a text")
        for name in ("refusal", "finish_reason"):
            _require(name, getattr(self, name), str, "give a text or None", optional=True)
        _require("fault", self.fault, Fault, "give a Fault or None", optional=True)
        _require("usage", self.usage, Mapping, "give a dict of numbers or None", optional=True)
        for name, value in (self.usage or {}).items():
            if name not in USAGE_FIELDS:
                raise InvalidFieldError(
                    f"reply: usage has no field {name!r}; {suggestion(name, USAGE_FIELDS)}"
                )
            if not is_count(value):
                raise InvalidFieldError(f"reply: {name} is {shown(value)}; give a whole number")
        joined = "".join(token.text for token in self.tokens)
        if self.logprobs is not None and joined != self.text:
            raise InvalidFieldError(
                f"reply: the tokens of logprobs join to {shown(joined)}, which is not the content "
                f"{shown(self.text)}"
            )
        if self.embedding is not None:
            self._check_embedding()
        _ = self.calls  # raises for a wrong call

    def _check_embedding(self) -> None:
        if not _is_vector(self.embedding):
            raise InvalidFieldError(
                f"reply: embedding is {shown(self.embedding)}; give a list of numbers"
            )
        if any(getattr(self, f.name) != f.default for f in fields(self) if f.name != "embedding"):
            raise InvalidFieldError("reply: an embedding has no other field beside it")

    @property
    def text(self) -> str:
        """The content as text."""
        if isinstance(self.content, str):
            return self.content
        return json.dumps(self.content, ensure_ascii=False)

    @property
    def calls(self) -> tuple[ScriptedCall, ...]:
        """The tool calls."""
        return tuple(map(_call, _listed("tool_calls", self.tool_calls)))

    @property
    def tokens(self) -> tuple[ScriptedToken, ...]:
        """The tokens of ``logprobs``; empty without them."""
        return tuple(map(_token, _listed("logprobs", self.logprobs or ())))

    @property
    def pieces(self) -> tuple[str, ...]:
        """The content as tokens: those of ``logprobs``, or else those of the mock's tokenizer."""
        return tuple(token.text for token in self.tokens) or tuple(tokenize(self.text))


USAGE_FIELDS = ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens")


def _is_vector(value: object) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(map(is_number, value))


def _require(
    name: str, value: object, kind: type | tuple[type, ...], advice: str, *, optional: bool = False
) -> None:
    if not isinstance(value, kind) and not (optional and value is None):
        raise InvalidFieldError(f"reply: {name} is {shown(value)}; {advice}")


def _listed(name: str, value: object) -> Sequence[Mapping[str, object]]:
    if isinstance(value, list | tuple) and all(isinstance(item, Mapping) for item in value):
        return value
    raise InvalidFieldError(f"reply: {name} is {shown(value)}; give a list of objects")


def _call(call: Mapping[str, object]) -> ScriptedCall:
    custom = mapping(call.get("custom"))
    given = custom or mapping(call.get("function")) or call
    name, arguments = given.get("name"), given.get("input" if custom else "arguments")
    if isinstance(arguments, Mapping):
        arguments = json.dumps(arguments, ensure_ascii=False)
    for field_name, value in (("name", name), ("arguments", arguments)):
        if not isinstance(value, str):
            raise InvalidFieldError(
                f"reply: {field_name} of a tool call is {shown(value)}; give a call such as "
                '{"name": "get_weather", "arguments": {"city": "Paris"}}'
            )
    return ScriptedCall(str(name), str(arguments), custom=bool(custom))


def _token(entry: Mapping[str, object]) -> ScriptedToken:
    others = _listed("top_logprobs", entry.get("top_logprobs") or ())
    return ScriptedToken(*_pair(entry), tuple(map(_pair, others)))


def _pair(entry: Mapping[str, object]) -> tuple[str, float]:
    text, logprob = entry.get("token"), entry.get("logprob")
    if not isinstance(text, str) or not is_number(logprob) or logprob > 0:  # type: ignore[operator]
        raise InvalidFieldError(
            f"reply: {shown(dict(entry))} in logprobs; give a token such as "
            '{"token": "Yes", "logprob": -0.1}'
        )
    return text, float(logprob)  # type: ignore[arg-type]


# What may be given as a reply. None is the answer that the mock gives without a script, and a
# fault alone disturbs that answer. A function gets the request, and returns one of the others.
PlainReply: TypeAlias = "str | Mapping[str, object] | MockReply | Fault | None"
ReplyFunction: TypeAlias = "Callable[[ReceivedRequest], PlainReply]"
AnyReply: TypeAlias = "PlainReply | ReplyFunction"

_REPLY_FIELDS = tuple(f.name for f in fields(MockReply))
# Fields of OpenAI's message that say nothing, or the same under another name.
_MESSAGE_FIELDS = {"role": None, "annotations": None, "reasoning_content": "reasoning"}


def as_reply(given: object) -> MockReply | None:
    """The reply that was given in one of its forms; raises InvalidFieldError for anything else."""
    if given is None or isinstance(given, MockReply):
        return given
    if isinstance(given, str):
        return MockReply(given)
    if not isinstance(given, Mapping):
        raise InvalidFieldError(
            f"a reply is {shown(given)}; give a text, a message, a MockReply, a Fault, or a "
            "function of the request"
        )
    values: dict[str, object] = {}
    for name, value in given.items():
        known = _MESSAGE_FIELDS.get(name, name)
        if known is not None and known not in _REPLY_FIELDS:
            raise InvalidFieldError(
                f"a reply has no field {name!r}; {suggestion(str(name), _REPLY_FIELDS)}"
            )
        if known is not None and value is not None:
            values[known] = value
    return MockReply(**values)  # type: ignore[arg-type]


def is_fault_or_function(given: object) -> bool:
    """Whether this is given in place of a reply; raises InvalidFieldError for an async function."""
    if inspect.iscoroutinefunction(given):
        raise InvalidFieldError(
            f"a reply is the async function {given.__name__}; give a plain function, which must "
            "not wait"
        )
    return isinstance(given, Fault) or callable(given)


def check_reply(given: object) -> None:
    """Raise InvalidFieldError if this is not a reply, a fault, or a function that makes them."""
    if not is_fault_or_function(given):
        as_reply(given)


@checked_fields(InvalidFieldError)
@dataclass(slots=True)
class Script:
    """Replies and faults that the server uses in order, before it answers as the reference.

    ``replies`` are texts, `MockReply`, or JSON objects with its fields or those of OpenAI's
    message; or functions that get the request and return one of these. Each request that generates
    text uses one reply; a request that fails uses none. Each request uses one of the ``faults``;
    None means no fault. Both may be any iterable, even an endless one; lists are checked at once,
    and the items of other iterables when they are used.

    `MockServer.assert_as_scripted`, which the fixture ``mock_server`` calls, fails if a reply of a
    list is left, or if a request came after the last reply. With ``optional`` it does not.
    """

    replies: Iterable[AnyReply] = field(default_factory=tuple)
    faults: Iterable[Fault | None] = field(default_factory=tuple)
    optional: bool = False

    def __post_init__(self) -> None:
        for name in ("replies", "faults"):
            given = getattr(self, name)
            # A text or a message is iterable too, but it is not a list of replies.
            if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
                raise InvalidFieldError(
                    f"Script: {name} is a {type(given).__name__}; give a list of {name}"
                )
        if not isinstance(self.optional, bool):
            raise InvalidFieldError(f"Script: optional is {self.optional!r}; give True or False")
        if isinstance(self.replies, Sequence):
            for given in self.replies:
                reply = None if is_fault_or_function(given) else as_reply(given)
                if reply is not None and reply.embedding is not None:
                    raise InvalidFieldError("Script: an embedding is chosen by content; use when")
        if isinstance(self.faults, Sequence):
            for fault in self.faults:
                check_fault(fault)


def check_fault(given: object) -> None:
    """Raise InvalidFieldError if this is neither a Fault nor None."""
    if given is not None and not isinstance(given, Fault):
        raise InvalidFieldError(
            f"Script: a fault is {shown(given)}; give a Fault, or None for no fault"
        )
