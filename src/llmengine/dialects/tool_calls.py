"""Joining the fragments of streamed tool calls, also where servers number them wrongly."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmengine.values.outputs import ToolCall, ToolCallDelta

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(slots=True)
class _Open:
    """A call of which fragments may still come; ``wire_index`` is the server's number for it."""

    place: int
    wire_index: int | None
    id: str | None = None
    name: str | None = None
    arguments: list[str] = field(default_factory=list)


class ToolCallJoiner:
    """Fragments to calls: by id where there is one, else by index, else to the last call.

    An id that was not seen yet begins a new call, whatever its index: Ollama gives several calls
    the index 0, or none.
    """

    __slots__ = ("_calls",)

    def __init__(self) -> None:
        self._calls: list[_Open] = []

    def feed(self, fragment: Mapping[str, Any]) -> ToolCallDelta:
        """One fragment as the wire has it, with the index replaced by the call's place."""
        function = fragment.get("function") or {}
        name = function.get("name") or None
        call = self._find(fragment.get("id") or None, fragment.get("index"), name)
        is_new = call is None
        if call is None:
            call = _Open(len(self._calls), fragment.get("index"))
            self._calls.append(call)
        call.id = call.id or fragment.get("id") or None
        call.name = call.name or name
        arguments = function.get("arguments") or ""
        call.arguments.append(arguments)
        return ToolCallDelta(
            call.place, call.id if is_new else None, name if is_new else None, arguments
        )

    def joined(self) -> tuple[ToolCall, ...]:
        """The calls as far as they have come, in the order in which they began."""
        return tuple(
            [ToolCall(c.id or "", c.name or "", "".join(c.arguments)) for c in self._calls]
        )

    def _find(self, call_id: str | None, index: int | None, name: str | None) -> _Open | None:
        """The call that a fragment goes on with, or None if it begins one."""
        if call_id is not None:
            return next((c for c in self._calls if c.id == call_id), None)
        if index is not None:
            return next((c for c in reversed(self._calls) if c.wire_index == index), None)
        return self._calls[-1] if self._calls and name is None else None
