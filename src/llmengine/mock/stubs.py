"""Replies by the content of requests: ``server.when(contains="weather").reply("Sunny.")``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from llmengine.mock.bodies import tool_name
from llmengine.mock.json_fields import items, mapping, text
from llmengine.mock.script import MockReply, as_reply, is_count, is_fault_or_function, shown
from llmengine.types.errors import InvalidFieldError

if TYPE_CHECKING:
    from llmengine.mock.behaviour import ReceivedRequest
    from llmengine.mock.script import AnyReply

Contents: TypeAlias = "str | re.Pattern[str] | Sequence[str | re.Pattern[str]]"


@dataclass(frozen=True, slots=True)
class RequestConditions:
    """What a request must be to match; the description of each field is in `MockServer.when`."""

    contains: Contents | None = None
    system: Contents | None = None
    json: Mapping[str, object] | None = None
    model: str | None = None
    tool: str | None = None
    path: str | None = None
    where: Callable[[ReceivedRequest], object] | None = None

    def __post_init__(self) -> None:
        for name, (wanted, fits) in _MATCHED.items():
            value = getattr(self, name)
            if value is not None and not fits(value):
                raise InvalidFieldError(f"when: {name} is {shown(value)}; give {wanted}")

    def matches(self, request: ReceivedRequest) -> bool:
        """Whether the request fits every condition."""
        body = mapping(request.json)
        return (
            (self.path is None or request.path == self.path)
            and (self.model is None or body.get("model") == self.model)
            and (self.tool is None or self.tool in offered_tools(body))
            and (self.json is None or _includes(body, self.json))
            and (self.contains is None or _contains(request.prompt, self.contains))
            and (self.system is None or _contains(request.system, self.system))
            and (self.where is None or bool(self.where(request)))
        )

    def __str__(self) -> str:
        given = ((name, getattr(self, name)) for name in _MATCHED)
        return ", ".join(f"{name}={shown(value)}" for name, value in given if value is not None)


def _are_contents(value: object) -> bool:
    parts = value if isinstance(value, tuple | list) else (value,)
    return bool(parts) and all(isinstance(p, re.Pattern) or _is_text(p) for p in parts)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


_CONTENTS = ("a text, a compiled pattern, or a list of them", _are_contents)
_MATCHED: Mapping[str, tuple[str, Callable[[object], bool]]] = {
    "contains": _CONTENTS,
    "system": _CONTENTS,
    "json": ("a dict of fields of the body", lambda value: isinstance(value, Mapping)),
    "model": ("the name of a model", _is_text),
    "tool": ("the name of a tool", _is_text),
    "path": ("a path such as '/v1/messages'", lambda value: str(value).startswith("/")),
    "where": ("a function that gets the request", callable),
}


def offered_tools(body: Mapping[str, object]) -> list[str]:
    """The names of the tools in a request, in the shape of any API."""
    tools = map(mapping, items(body.get("tools")))
    return [tool_name(tool) or text(tool.get("name")) for tool in tools]


def _contains(prompt: str, wanted: object) -> bool:
    if isinstance(wanted, tuple | list):
        return all(_contains(prompt, one) for one in wanted)
    if isinstance(wanted, re.Pattern):
        return wanted.search(prompt) is not None
    return str(wanted) in prompt


def _includes(value: object, wanted: object) -> bool:
    """Whether the value equals the wanted one; objects may have more fields than the wanted."""
    if isinstance(wanted, Mapping):
        return isinstance(value, Mapping) and all(
            name in value and _includes(value[name], inner) for name, inner in wanted.items()
        )
    if isinstance(wanted, list | tuple):
        return (
            isinstance(value, list)
            and len(value) == len(wanted)
            and all(map(_includes, value, wanted))
        )
    if isinstance(wanted, bool) or isinstance(value, bool):
        return type(value) is type(wanted) and value == wanted
    return bool(value == wanted)


class Stub:
    """The replies to the requests that match; `MockServer.when` makes it.

    ``call_count`` is the number of requests that it has answered.
    """

    def __init__(self, conditions: RequestConditions) -> None:
        self._conditions = conditions
        self._replies: tuple[AnyReply, ...] | None = None
        self._times: int | None = None
        self.optional = False
        self.is_for_embeddings = False
        self.call_count = 0

    def reply(self, *replies: AnyReply, times: int | None = None, optional: bool = False) -> Stub:
        """Set the replies, and return the stub.

        One reply answers any number of requests, and several answer one request each, in order.
        ``times`` is the number of requests that are answered, in which several replies are
        repeated. Without a reply, and where a reply is None, the mock gives its own answer.

        `MockServer.assert_as_scripted`, which the fixture ``mock_server`` calls, fails if a reply
        was not asked for; with ``optional`` it does not.
        """
        replies = tuple(one if is_fault_or_function(one) else as_reply(one) for one in replies)
        vectors = [isinstance(one, MockReply) and one.embedding is not None for one in replies]
        if any(vectors) and not all(vectors):
            raise InvalidFieldError("reply: give embeddings and other replies to a when each")
        if times is not None and not is_count(times, 1):
            raise InvalidFieldError(f"reply: times is {shown(times)}; give a whole number above 0")
        if not isinstance(optional, bool):
            raise InvalidFieldError(f"reply: optional is {shown(optional)}; give True or False")
        self._replies = replies or (None,)
        self._times = len(replies) if times is None and len(replies) > 1 else times
        self.optional = optional
        self.is_for_embeddings = any(vectors)
        return self

    def matches(self, request: ReceivedRequest) -> bool:
        """Whether the request fits the conditions, also if no reply is left."""
        return self._replies is not None and self._conditions.matches(request)

    @property
    def is_used_up(self) -> bool:
        """Whether no reply is left."""
        return self._times is not None and self.call_count >= self._times

    def next_reply(self) -> AnyReply:
        """The next reply."""
        replies = self._replies or (None,)
        self.call_count += 1
        return replies[(self.call_count - 1) % len(replies)]

    @property
    def problem(self) -> str | None:
        """What was not used, if anything."""
        if self._replies is None:
            return f"{self}: has no reply; call .reply(...) on it"
        if self.optional or self.is_used_up or (self._times is None and self.call_count):
            return None
        if not self.call_count:
            return f"{self}: was never asked for"
        return f"{self}: answered {self.call_count} of {self._times} requests"

    def __str__(self) -> str:
        return f"when({self._conditions})"
