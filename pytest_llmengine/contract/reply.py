"""What a server sent back, as bytes in the order and at the time they came."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, NoReturn

import httpx

from pytest_llmengine.contract.outcomes import Fail, Refused
from pytest_llmengine.contract.quote import quote

_TO_ANYTHING = frozenset(
    {httpx.codes.UNAUTHORIZED, httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_MANY_REQUESTS}
)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes as one read delivered them, `at` seconds after the request was sent."""

    at: float
    data: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: status, headers, and the body as whole and as it arrived.

    ``cut`` says that the connection broke before the body had ended. ``port`` is this side's port
    of the connection, so two replies with the same one shared it.
    """

    method: str
    path: str
    status: int
    headers: httpx.Headers = field(repr=False)
    chunks: tuple[Chunk, ...] = field(repr=False)  # a server may send the key back
    cut: bool = False
    port: int = 0

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join(c.data for c in self.chunks)

    @property
    def text(self) -> str:
        """The whole body as text, wrong bytes marked."""
        return self.body.decode("utf-8", "replace")

    @property
    def content_type(self) -> str:
        """The media type, without parameters, in lower case."""
        return str(self.headers.get("content-type", "")).split(";")[0].strip().lower()

    def json(self) -> Any:
        """The body as JSON; a body that is none fails the check."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise Fail(f"{self._name}: {self._what} is not JSON: {quote(self.text)}") from None

    def object(self) -> dict[str, Any]:
        """The body as a JSON object; anything else fails the check."""
        value = self.json()
        if not isinstance(value, dict):
            raise Fail(f"{self._name}: the body is not a JSON object: {quote(self.text)}")
        return value

    def success(self) -> dict[str, Any]:
        """The JSON object of a 200; anything else fails the check."""
        if self.status != httpx.codes.OK:
            self._not_ok()
        return self.object()

    def success_or_refused(self) -> dict[str, Any]:
        """The JSON object of a 200; a clear 4xx or 501 ends the check as refused."""
        if self.is_refusal:
            raise Refused(f"{self._name}: {self.status} {self.error_message}")
        return self.success()

    @property
    def is_refusal(self) -> bool:
        """Whether the server said no to what was asked, in words."""
        return refuses(self.status) and bool(self.error_message)

    @property
    def error_message(self) -> str:
        """The words of an error, whatever the envelope; "" when there are none."""
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            return ""
        while isinstance(value, dict | list):
            value = _next_inside(value)
        return value if isinstance(value, str) else ""

    @property
    def events(self) -> list[Event]:
        """The server-sent events of the body, comments left out."""
        return list(parse_events(self.body))

    def objects(self) -> list[dict[str, Any]]:
        """The JSON objects of a stream in order, ``[DONE]`` left out.

        A status other than 200 fails the check, and so do an event that is not a JSON object, a
        stream without events, and a connection that broke.
        """
        if self.status != httpx.codes.OK:
            self._not_ok()
        if self.cut:
            raise Fail(f"{self._name}: the connection broke in mid-stream")
        found = [self._event_object(e) for e in self.events if e.data != "[DONE]"]
        if not found:
            raise Fail(f"{self._name}: a stream without events: {quote(self.text)}")
        return found

    def objects_or_refused(self) -> list[dict[str, Any]]:
        """The JSON objects of a stream; a clear 4xx or 501 ends the check as refused."""
        if self.is_refusal:
            raise Refused(f"{self._name}: {self.status} {self.error_message}")
        return self.objects()

    def _event_object(self, event: Event) -> dict[str, Any]:
        try:
            value = json.loads(event.data)
        except (ValueError, RecursionError):
            raise Fail(f"{self._name}: an event is not JSON: {quote(event.data)}") from None
        if not isinstance(value, dict):
            raise Fail(f"{self._name}: an event is not a JSON object: {quote(event.data)}")
        return value

    @property
    def _name(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def _what(self) -> str:
        """The body by its coding, if the server used one: "identity" was asked for."""
        coding = str(self.headers.get("content-encoding", "")).strip().lower()
        asked_for = coding in {"", "identity"}
        return "the body" if asked_for else f"the body, in {quote(coding)} that was not asked for,"

    def _not_ok(self) -> NoReturn:
        raise Fail(f"{self._name}: {self.status} instead of 200: {quote(self.text)}")


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event."""

    data: str
    name: str = ""


def refuses(status: int) -> bool:
    """Whether a status says no to what was asked: a 4xx or 501.

    A 401, 408 or 429 says no to the client, whatever it asks.
    """
    refused = 400 <= status < 500 or status == httpx.codes.NOT_IMPLEMENTED
    return refused and status not in _TO_ANYTHING


def parse_events(body: bytes) -> list[Event]:
    """Server-sent events by the WHATWG grammar: CRLF, LF or CR, comments, several data lines.

    Other than in a browser, a last event that lacks its blank line is kept, so that only the
    check on the grammar itself fails for it.
    """
    events: list[Event] = []
    data: list[str] = []
    name = ""
    text = body.decode("utf-8", "replace").removeprefix("\ufeff")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    for line in [*text.split("\n"), ""]:
        if not line:
            if data:
                events.append(Event("\n".join(data), name))
            data, name = [], ""
            continue
        key, _, value = line.partition(":")
        if key == "data":
            data.append(value.removeprefix(" "))
        elif key == "event":
            name = value.removeprefix(" ")
    return events


def _next_inside(value: Any) -> Any:
    """One step from an error envelope to its words; FastAPI's is a list of objects with msg."""
    if isinstance(value, list):
        return value[0] if value else None
    return next((value[k] for k in ("error", "message", "detail", "msg") if k in value), None)
