"""The state of the responses API: stored responses, runs in background, and conversations."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON
    from llmengine.mock.json_fields import Body

T = TypeVar("T")

MOST_STORED = 1000


class BoundedStore(OrderedDict[str, T]):
    """At most `MOST_STORED` values by their id; a new value replaces the oldest one."""

    def __setitem__(self, key: str, value: T) -> None:
        super().__setitem__(key, value)
        if len(self) > MOST_STORED:
            self.popitem(last=False)


@dataclass(slots=True)
class StoredResponse:
    """A response, its input items, and the conversation up to and with its output.

    ``waiting`` are the states that a response in background has yet to go through. Each retrieval
    is one step, so that what a client sees does not depend on a clock.
    """

    body: JSON
    input: list[JSON]
    conversation: list[Body]
    waiting: list[str] = field(default_factory=list)
    streamed: bool = False

    @property
    def current(self) -> JSON:
        """The response in its present state."""
        return pending(self.body, self.waiting[0]) if self.waiting else self.body

    def advance(self) -> None:
        """Go on to the next state."""
        self.waiting = self.waiting[1:]

    def cancel(self) -> None:
        """Cancel the response if it has not ended."""
        if self.waiting:
            self.body = pending(self.body, "cancelled")
            self.waiting = []


@dataclass(slots=True)
class StoredConversation:
    """A conversation, and its messages so far."""

    body: JSON
    messages: list[Body]


def pending(response: JSON, status: str) -> JSON:
    """The response in a state before the end, without output and usage."""
    started = {key: value for key, value in response.items() if key != "usage"}
    empty: JSON = {"output": [], "incomplete_details": None, "completed_at": None}
    return {**started, "status": status, **empty}
