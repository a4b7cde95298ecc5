"""Requests and replies of a mock server, and how it may differ from the reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmengine.mock.json_fields import last_text, mapping, system_text
from llmengine.types.arguments import checked_fields
from llmengine.types.errors import InvalidFieldError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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

    @property
    def prompt(self) -> str:
        """The text of the last message, of the prompt or of the input; "" if there is none."""
        return last_text(mapping(self.json))

    @property
    def system(self) -> str:
        """The text of the system prompt; "" if there is none."""
        return system_text(mapping(self.json))


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
