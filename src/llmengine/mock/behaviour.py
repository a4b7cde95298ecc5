"""How a mock server may differ from the reference: behaviours with hooks, faults and scripts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmengine.types.arguments import checked_fields
from llmengine.types.errors import InvalidFieldError

if TYPE_CHECKING:
    from collections.abc import Callable

JSON = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """One request that the mock server received; ``json`` is None if the body is not JSON.

    ``client`` is the port of the client; requests over the same connection have the same one.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    json: Any = None
    client: int = 0


@dataclass(slots=True)
class RawReply:
    """A reply just before it is sent, which the last hook of a behaviour may change.

    A body that is not streamed is one item of ``chunks``; a stream has one item per event. If
    ``cut`` is true, the server drops the connection after the chunks instead of ending the body.
    """

    status: int
    headers: dict[str, str]
    chunks: list[bytes]
    cut: bool = False


def _same_request(body: JSON, call: ReceivedRequest) -> JSON:
    return body


def _same_reply(body: JSON, call: ReceivedRequest) -> JSON:
    return body


def _same_events(events: list[JSON], call: ReceivedRequest) -> list[JSON]:
    return events


def _no_hook(call: ReceivedRequest) -> None:
    pass


def _same_wire(reply: RawReply, call: ReceivedRequest) -> RawReply:
    return reply


@checked_fields(InvalidFieldError)
@dataclass(frozen=True, slots=True)
class Behaviour:
    """One way in which the mock differs from the reference; the default has no differences.

    The hooks run in this order. All but the last two get a copy, which they may change and return:

    - ``request`` gets the decoded JSON body before it is validated. A hook that deletes a field
      imitates a server that silently ignores the field.
    - ``without_rules`` names validation rules of ``llmengine.mock.rules`` that are not applied.
    - ``reply`` gets the JSON body of a successful answer that is not streamed, ``events`` gets the
      JSON objects of a successful stream (without ``[DONE]``), and ``error`` gets the JSON body of
      a 4xx or 5xx.
    - ``wire`` gets the status, the headers and the byte chunks just before they are sent.
    - ``sent`` is called after the last byte, and ``left`` if the client went away before it.

    The server answers the ``disabled_routes`` with 404. An entry is a path such as
    ``/v1/embeddings``, or a method and a path such as ``GET /v1/models/{name:path}``, written as in
    ``llmengine.mock.app``. The start of the server raises ValueError for a rule or a route that
    does not exist. An exception in a hook becomes a 500, and the end of the server's ``with`` block
    raises it again.
    """

    name: str = "reference"
    without_rules: frozenset[str] = frozenset()
    request: Callable[[JSON, ReceivedRequest], JSON] = _same_request
    reply: Callable[[JSON, ReceivedRequest], JSON] = _same_reply
    events: Callable[[list[JSON], ReceivedRequest], list[JSON]] = _same_events
    error: Callable[[JSON, ReceivedRequest], JSON] = _same_reply
    wire: Callable[[RawReply, ReceivedRequest], RawReply] = _same_wire
    sent: Callable[[ReceivedRequest], object] = _no_hook
    left: Callable[[ReceivedRequest], object] = _no_hook
    disabled_routes: frozenset[str] = frozenset()


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

    def __post_init__(self) -> None:
        for name in ("status", "cut_after"):
            _check_number(name, getattr(self, name), int)
        for name in ("retry_after", "delay", "chunk_delay"):
            _check_number(name, getattr(self, name), (int, float))


def _check_number(name: str, value: object, types: type | tuple[type, ...]) -> None:
    if value is None or (isinstance(value, types) and not isinstance(value, bool)):
        return
    kind = "a whole number" if types is int else "a number"
    raise InvalidFieldError(f"Fault: {name} is {value!r}; it must be {kind}")


@checked_fields(InvalidFieldError)
@dataclass(slots=True)
class Script:
    """Replies and faults that the server uses in order, before it answers as the reference.

    ``replies`` are texts, or JSON objects that become the assistant's message: ``content``,
    ``refusal``, ``reasoning`` and ``tool_calls`` in OpenAI's shape. Each request that generates
    text uses one reply; a request that fails uses none. Each request uses one of the ``faults``;
    None means no fault. Both may be any iterable, even an endless one.
    """

    replies: Iterable[str | JSON] = field(default_factory=tuple)
    faults: Iterable[Fault | None] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        for name in ("replies", "faults"):
            given = getattr(self, name)
            # A text or a message is iterable too, but it is not a list of replies.
            if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
                raise InvalidFieldError(
                    f"Script: {name} is a {type(given).__name__}; give a list of {name}"
                )
