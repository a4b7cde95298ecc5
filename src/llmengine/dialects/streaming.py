"""Assembly of one streamed answer from its text, reasoning and tool call fragments."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic_core import from_json

from llmengine.dialects.common import ThinkSplitter, cumulative, is_off, split_unopened
from llmengine.dialects.fields import count, json_text, mapping, text
from llmengine.types.outputs import CompletionOutput, Delta, ToolCall, ToolCallDelta

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llmengine.types.outputs import Logprob


class AnswerParts:
    """The parts of one answer that have arrived: takes in pieces, returns deltas and the output.

    ``requested`` is the ``reasoning`` of the request. If it is off, no text is taken for reasoning.
    """

    __slots__ = (
        "_calls",
        "_logprobs",
        "_reasoning",
        "_requested",
        "_splitter",
        "_text",
        "_token_ids",
        "finish_reason",
        "index",
        "refused",
        "stop_reason",
    )

    def __init__(self, index: int, requested: bool | str | None) -> None:
        self.index = index
        self.finish_reason: str | None = None
        self.refused = False
        self.stop_reason: int | str | None = None
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._logprobs: list[Logprob] = []
        self._token_ids: list[int] | None = None
        self._calls: ToolCallJoiner | None = None
        self._requested = requested
        self._splitter: ThinkSplitter | None = None if is_off(requested) else ThinkSplitter()

    @property
    def has_content(self) -> bool:
        """Whether any content that the model generated has arrived."""
        return bool(self._text or self._reasoning or self._calls or any(self._pending()))

    @property
    def called(self) -> bool:
        """Whether a tool call has begun."""
        return self._calls is not None

    def add_text(self, text: str) -> Delta | None:
        """`add` for a piece that is a text and nothing else."""
        if self._splitter is not None:
            return self.add(text)
        if not text:
            return None
        self._text.append(text)
        return Delta(text, self.index)

    def add(  # noqa: PLR0913 - the parts of one piece
        self,
        text: str,
        reasoning: str = "",
        calls: Sequence[Mapping[str, object]] = (),
        logprobs: Sequence[Logprob] = (),
        finish_reason: str | None = None,
        *,
        token_ids: Sequence[int] | None = None,
    ) -> Delta | None:
        """Take in one piece and return the delta that it completes, if any."""
        if self._splitter is not None:
            reasoning, text = self._split(
                self._splitter, text, reasoning, ended=finish_reason is not None
            )
        fragments = self._fragments(calls) if calls else ()
        if self.finish_reason is not None:
            finish_reason = None  # some servers repeat it; only the first one is reported
        if finish_reason is not None:
            self.finish_reason = finish_reason
        elif not (text or reasoning or fragments or logprobs or token_ids):
            return None
        self._append(text, reasoning, logprobs)
        if token_ids is not None:
            if self._token_ids is None:
                self._token_ids = []
            self._token_ids.extend(token_ids)
        return Delta(
            text,
            self.index,
            reasoning,
            fragments,
            tuple(logprobs),
            finish_reason,
            token_ids=tuple(token_ids or ()),
        )

    def end(self) -> Delta | None:
        """The delta of text that was held back as the possible start of a tag, if any was."""
        reasoning, text = self._pending()
        self._splitter = None
        if not (text or reasoning):
            return None
        self._append(text, reasoning, ())
        return Delta(text, self.index, reasoning)

    def output(self) -> CompletionOutput:
        """All that has arrived, including text that is still held back."""
        held_reasoning, held_text = self._pending()
        text = "".join(self._text) + held_text
        reasoning = ("".join(self._reasoning) + held_reasoning) or None
        if reasoning is None:
            reasoning, text = split_unopened(text, self._requested)
        tokens = tuple(self._logprobs) or None
        return CompletionOutput(
            self.index,
            text,
            None if self._token_ids is None else tuple(self._token_ids),
            cumulative(tokens),
            tokens,
            self.finish_reason,
            self.stop_reason,
            reasoning,
            self._calls.joined() if self._calls else (),
        )

    def _pending(self) -> tuple[str, str]:
        return self._splitter.pending if self._splitter is not None else ("", "")

    def _split(
        self, splitter: ThinkSplitter, text: str, reasoning: str, *, ended: bool
    ) -> tuple[str, str]:
        """The (reasoning, text) of a piece.

        Once the server sends reasoning in a field of its own, its text is not searched for tags.
        """
        if reasoning:
            held_reasoning, held_text = splitter.finish()
            self._splitter = None
            return held_reasoning + reasoning, held_text + text
        reasoning, answer = splitter.feed(text)
        if ended:
            late_reasoning, late_answer = splitter.finish()
            reasoning, answer = reasoning + late_reasoning, answer + late_answer
        if ended or splitter.passes_through:
            self._splitter = None
        return reasoning, answer

    def _fragments(self, calls: Sequence[Mapping[str, object]]) -> tuple[ToolCallDelta, ...]:
        if self._calls is None:
            self._calls = ToolCallJoiner()
        return tuple([self._calls.feed(call) for call in calls])

    def _append(self, text: str, reasoning: str, logprobs: Sequence[Logprob]) -> None:
        if text:
            self._text.append(text)
        if reasoning:
            self._reasoning.append(reasoning)
        if logprobs:
            self._logprobs.extend(logprobs)


_PATH = "tool_calls[]."


@dataclass(slots=True)
class _OpenCall:
    """A call that may still get fragments; ``wire_index`` is the server's number for it."""

    place: int
    wire_index: int | None
    id: str | None = None
    name: str | None = None
    arguments: list[str] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Whether the arguments are a complete JSON document, so that no fragment can follow."""
        try:
            from_json("".join(self.arguments))
        except ValueError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class _Fragment:
    """A piece of a call as the server sent it; a field that it left out is None."""

    id: str | None
    index: int | None
    name: str | None
    arguments: str


class ToolCallJoiner:
    """Joins fragments to tool calls, also if the server numbers the calls wrongly.

    A fragment belongs to the call with its id. Without an id it belongs to the call with its
    index, and without an index to the last call.

    An id that was not seen before begins a new call, whatever its index is, because Ollama gives
    several calls the index 0 or no index. A second name under one index or one id begins a new
    call too.
    """

    __slots__ = ("_calls",)

    def __init__(self) -> None:
        self._calls: list[_OpenCall] = []

    def feed(self, fragment: Mapping[str, object]) -> ToolCallDelta:
        """Take in one fragment and return its delta, with the call's position as index.

        Raises FieldError for a field of a wrong type.
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
            call = _OpenCall(len(self._calls), piece.index)
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
        """The calls as far as they have arrived, in the order in which they began."""
        return tuple(
            [ToolCall(c.id or "", c.name or "", "".join(c.arguments)) for c in self._calls]
        )

    def _find(self, piece: _Fragment) -> _OpenCall | None:
        """The call that a fragment continues, or None if it begins one."""
        if piece.id is not None:
            return self._by_id(piece.id, piece)
        if piece.index is not None:
            call = self._at(piece.index)
            return None if call is None or _begins_another(piece, call) else call
        return self._calls[-1] if self._calls and piece.name is None else None

    def _by_id(self, call_id: str, piece: _Fragment) -> _OpenCall | None:
        call = next((c for c in reversed(self._calls) if c.id == call_id), None)
        if call is not None:
            # Some servers give every call of an answer the same id.
            other_index = piece.index is not None and piece.index != call.wire_index
            return None if other_index and piece.name is not None else call
        # Some servers send the id of a call after its name.
        begun = None if piece.index is None or piece.name is not None else self._at(piece.index)
        return begun if begun is not None and begun.id is None else None

    def _at(self, index: int) -> _OpenCall | None:
        return next((c for c in reversed(self._calls) if c.wire_index == index), None)


def _begins_another(piece: _Fragment, call: _OpenCall) -> bool:
    """Whether a fragment without an id begins another call although it has the index of `call`."""
    if piece.name is None or call.name is None:
        return False
    # Some servers repeat the name on every fragment of one call.
    return piece.name != call.name or (bool(piece.arguments) and call.is_whole)
