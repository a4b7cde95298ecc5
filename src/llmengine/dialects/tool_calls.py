"""Joining the fragments of streamed tool calls, also where servers number them wrongly."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from llmengine.dialects.fields import count, json_text, mapping, text
from llmengine.types.outputs import ToolCall, ToolCallDelta

if TYPE_CHECKING:
    from collections.abc import Mapping

_PATH = "tool_calls[]."


@dataclass(slots=True)
class _Open:
    """A call of which fragments may still come; ``wire_index`` is the server's number for it."""

    place: int
    wire_index: int | None
    id: str | None = None
    name: str | None = None
    arguments: list[str] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Whether its arguments are a whole JSON document, so that nothing can be added to it."""
        try:
            from_json("".join(self.arguments))
        except ValueError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class _Fragment:
    """A piece of a call as the wire has it; None where it says nothing."""

    id: str | None
    index: int | None
    name: str | None
    arguments: str


class ToolCallJoiner:
    """Fragments to calls: by id where there is one, else by index, else to the last call.

    An id that was not seen yet begins a new call, whatever its index: Ollama gives several calls
    the index 0, or none. So does a second name under one index or one id.
    """

    __slots__ = ("_calls",)

    def __init__(self) -> None:
        self._calls: list[_Open] = []

    def feed(self, fragment: Mapping[str, Any]) -> ToolCallDelta:
        """One fragment as the wire has it, with the index replaced by the call's place.

        Raises FieldError for a field of another type.
        """
        function = mapping(fragment, "function", _PATH) or {}
        piece = _Fragment(
            text(fragment, "id", _PATH) or None,
            count(fragment, "index", _PATH),
            text(function, "name", f"{_PATH}function.") or None,
            json_text(function, "arguments", f"{_PATH}function."),
        )
        call = self._find(piece)
        is_new = call is None
        if call is None:
            call = _Open(len(self._calls), piece.index)
            self._calls.append(call)
        call.id = call.id or piece.id
        call.name = call.name or piece.name
        call.arguments.append(piece.arguments)
        return ToolCallDelta(
            call.place,
            call.id if is_new else None,
            call.name if is_new else None,
            piece.arguments,
        )

    def joined(self) -> tuple[ToolCall, ...]:
        """The calls as far as they have come, in the order in which they began."""
        return tuple(
            [ToolCall(c.id or "", c.name or "", "".join(c.arguments)) for c in self._calls]
        )

    def _find(self, piece: _Fragment) -> _Open | None:
        """The call that a fragment continues, or None if it begins one."""
        if piece.id is not None:
            return self._by_id(piece.id, piece)
        if piece.index is not None:
            call = self._at(piece.index)
            return None if call is None or _begins_another(piece, call) else call
        return self._calls[-1] if self._calls and piece.name is None else None

    def _by_id(self, call_id: str, piece: _Fragment) -> _Open | None:
        call = next((c for c in reversed(self._calls) if c.id == call_id), None)
        if call is not None:
            # Some servers give every call of an answer the same id.
            other_index = piece.index is not None and piece.index != call.wire_index
            return None if other_index and piece.name is not None else call
        # The id of a call may come after its name.
        begun = None if piece.index is None or piece.name is not None else self._at(piece.index)
        return begun if begun is not None and begun.id is None else None

    def _at(self, index: int) -> _Open | None:
        return next((c for c in reversed(self._calls) if c.wire_index == index), None)


def _begins_another(piece: _Fragment, call: _Open) -> bool:
    """Whether a fragment without an id, under the index of a call, is of another call."""
    if piece.name is None or call.name is None:
        return False
    # Some servers repeat the name on every fragment of one call.
    return piece.name != call.name or (bool(piece.arguments) and call.is_whole)
