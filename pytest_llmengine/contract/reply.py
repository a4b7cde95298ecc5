"""The reply to a raw HTTP request: its body as text, JSON or events, and what its status means."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, NoReturn

import httpx

from pytest_llmengine.contract.facts import AND, OR
from pytest_llmengine.contract.outcomes import Fail, NoVerdict, Refused, kind_of, quote

_OF_THE_CLIENT = frozenset(
    {
        httpx.codes.UNAUTHORIZED,
        httpx.codes.FORBIDDEN,
        httpx.codes.REQUEST_TIMEOUT,
        httpx.codes.TOO_MANY_REQUESTS,
    }
)
_PLURAL = re.compile(r"(# (?:\w+ )?\w+)s(?=:)")  # "2 validation errors:" and "1 validation error:"
_OF_THE_ROUTE = frozenset({httpx.codes.NOT_FOUND, httpx.codes.METHOD_NOT_ALLOWED})
_SEVERAL = 4  # words; shorter messages, such as "Internal server error", have many causes


@dataclass(frozen=True, slots=True)
class Chunk:
    """The bytes of one read, `at` seconds after the request was sent."""

    at: float
    data: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply: status, headers, and the body in the chunks in which it arrived.

    ``cut`` says that the connection broke before the end of the body. ``port`` is the local port of
    the connection, so two replies with the same port came over the same connection. ``left`` says
    that the client closed the connection before the end; the status is 0 if none had come by then.
    ``number`` is the number of the exchange in its check.
    """

    method: str
    path: str
    status: int
    headers: httpx.Headers = field(repr=False)
    chunks: tuple[Chunk, ...] = field(repr=False)  # a server may repeat the key
    cut: bool = False
    port: int = 0
    left: bool = False
    number: int = 0

    @property
    def ok(self) -> bool:
        """Whether the status is 200."""
        return self.status == httpx.codes.OK

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join(c.data for c in self.chunks)

    @property
    def text(self) -> str:
        """The whole body as text, with invalid bytes replaced."""
        return self.body.decode("utf-8", "replace")

    @property
    def content_type(self) -> str:
        """The media type, without parameters, in lower case."""
        return str(self.headers.get("content-type", "")).split(";")[0].strip().lower()

    def json(self) -> Any:
        """The body as JSON; the check fails if it is not JSON."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise self._fail(f"{self._what} is not JSON", self.text) from None

    def object(self) -> dict[str, Any]:
        """The body as a JSON object; the check fails if it is not one."""
        value = self.json()
        if not isinstance(value, dict):
            raise self._fail("the body is not a JSON object", self.text)
        return value

    def success(self) -> dict[str, Any]:
        """The JSON object of a 200; the check fails for anything else."""
        if not self.ok:
            self._not_ok()
        return self.object()

    def success_or_refused(self) -> dict[str, Any]:
        """The JSON object of a 200; after a clear 4xx or 501 the check ends as refused."""
        self.expect_not_refused()
        return self.success()

    def expect_not_refused(self) -> None:
        """End the check as refused after a clear 4xx or 501."""
        if self.is_refusal:
            raise Refused(
                f"{self._name}: {self.status} {quote(self.error_message)}", fact=self.cause
            )

    def expect_judged(self) -> None:
        """End the check without a verdict if the client was refused, and not the request."""
        if self.status in _OF_THE_CLIENT:
            raise NoVerdict(
                f"{self._name}: {self.status} {quote(self.text)}; this refuses the client and says "
                "nothing about the rule"
            )

    @property
    def is_refusal(self) -> bool:
        """Whether the server refused the request with a message."""
        return refuses(self.status) and bool(self.error_message)

    @property
    def cause(self) -> str:
        """The fact of a status other than 200: replies of a route with one message have one.

        Routes share the fact of a message of several words, but not that of a 404 or 405, which is
        about the route. What a message repeats of the request, such as an object, does not count.
        There is no fact, but "", for a 5xx without a message, because it may have any cause.
        """
        message = kind_of(self.error_message).partition("{")[0].strip()
        message = message.replace(AND, ", ").replace(OR, ", ")  # it is one cause
        message = _PLURAL.sub(r"\1", message)
        if self.status >= httpx.codes.INTERNAL_SERVER_ERROR and not message:
            return ""
        is_shared = len(message.split()) >= _SEVERAL and self.status not in _OF_THE_ROUTE
        return f"{'' if is_shared else f'{self._name}: '}{self.status} {message}".rstrip()

    @property
    def error_message(self) -> str:
        """The message of an error in any known envelope; "" if there is none."""
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            return ""
        while isinstance(value, dict | list):
            value = _next_inside(value)
        return value if isinstance(value, str) else ""

    @property
    def events(self) -> list[Event]:
        """The server-sent events of the body, without comments."""
        return list(parse_events(self.body))

    @property
    def stream_error(self) -> str:
        """The first event of a stream that holds an error, or ""."""
        return next((e.data for e in self.events if _holds_error(e.data)), "") if self.ok else ""

    def objects(self) -> list[dict[str, Any]]:
        """The JSON objects of a stream in order, without ``[DONE]``.

        The check fails for a status other than 200, an event that is not a JSON object, a stream
        without events, and a broken connection.
        """
        if not self.ok:
            self._not_ok()
        if self.cut:
            raise self._fail("the connection broke in mid-stream")
        found = [self._event_object(e) for e in self.events if e.data != "[DONE]"]
        if not found:
            raise self._fail("a stream without events", self.text)
        return found

    def objects_or_refused(self) -> list[dict[str, Any]]:
        """The JSON objects of a stream; after a clear 4xx or 501 the check ends as refused."""
        self.expect_not_refused()
        return self.objects()

    def _event_object(self, event: Event) -> dict[str, Any]:
        try:
            value = json.loads(event.data)
        except (ValueError, RecursionError):
            raise self._fail("an event is not JSON", event.data) from None
        if not isinstance(value, dict):
            raise self._fail("an event is not a JSON object", event.data)
        return value

    @property
    def _name(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def _what(self) -> str:
        """The body's name in messages, with its coding, although "identity" was requested."""
        coding = str(self.headers.get("content-encoding", "")).strip().lower()
        asked_for = coding in {"", "identity"}
        return "the body" if asked_for else f"the body, in {quote(coding)} that was not asked for,"

    def _not_ok(self) -> NoReturn:
        self.expect_judged()
        reason = f"{self._name}: {self.status} instead of 200: {quote(self.text)}"
        raise Fail(reason, fact=self.cause)

    def _fail(self, what: str, text: str | None = None) -> Fail:
        """A failure whose cause is the same for each reply that is broken in this way."""
        shown = "" if text is None else f": {quote(text)}"
        return Fail(f"{self._name}: {what}{shown}", fact=f"{self._name}: {what}")


def _holds_error(event: str) -> bool:
    try:
        value = json.loads(event)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and bool(value.get("error"))


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event."""

    data: str
    name: str = ""


def refuses(status: int) -> bool:
    """Whether a status refuses the request itself: a 4xx or 501.

    A 401, 403, 408 or 429 does not count, because it refuses the client and not the request.
    """
    refused = 400 <= status < 500 or status == httpx.codes.NOT_IMPLEMENTED
    return refused and status not in _OF_THE_CLIENT


def parse_events(body: bytes) -> list[Event]:
    """Parse server-sent events by the WHATWG grammar: all line ends, comments, several data lines.

    Unlike in a browser, a last event without its blank line is kept, so that only the check of the
    grammar fails for it.
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
    """One step from an error envelope to its message; FastAPI has a list of objects with msg."""
    if isinstance(value, list):
        return value[0] if value else None
    return next((value[k] for k in ("error", "message", "detail", "msg") if k in value), None)
