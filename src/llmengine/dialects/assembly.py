"""Putting one streamed answer together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmengine.dialects.reasoning import ThinkSplitter, is_off, split_unopened
from llmengine.dialects.tool_calls import ToolCallJoiner
from llmengine.dialects.wire import cumulative
from llmengine.types.outputs import CompletionOutput, Delta

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from llmengine.types.outputs import Logprob


class AnswerParts:
    """What has arrived of one answer: pieces go in, deltas and at last the whole come out.

    ``asked`` is the request's ``reasoning``; where that is off, no text is taken for reasoning.
    """

    __slots__ = (
        "_asked",
        "_calls",
        "_logprobs",
        "_reasoning",
        "_splitter",
        "_text",
        "_token_ids",
        "finish_reason",
        "index",
        "refused",
        "stop_reason",
    )

    def __init__(self, index: int, asked: bool | str | None) -> None:
        self.index = index
        self.finish_reason: str | None = None
        self.refused = False
        self.stop_reason: int | str | None = None
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._logprobs: list[Logprob] = []
        self._token_ids: list[int] | None = None
        self._calls: ToolCallJoiner | None = None
        self._asked = asked
        self._splitter: ThinkSplitter | None = None if is_off(asked) else ThinkSplitter()

    @property
    def has_content(self) -> bool:
        """Whether anything that a model generated has arrived."""
        return bool(self._text or self._reasoning or self._calls or any(self._pending()))

    @property
    def called(self) -> bool:
        """Whether a tool call has begun."""
        return self._calls is not None

    def add(  # noqa: PLR0913 - the parts of one piece
        self,
        text: str,
        reasoning: str = "",
        calls: Iterable[Mapping[str, Any]] = (),
        logprobs: Sequence[Logprob] = (),
        finish_reason: str | None = None,
        *,
        token_ids: Sequence[int] | None = None,
    ) -> Delta | None:
        """Take in one piece; the delta that it completes, if any."""
        if self._splitter is not None:
            reasoning, text = self._split(
                self._splitter, text, reasoning, ended=finish_reason is not None
            )
        fragments = tuple([self._call(c) for c in calls])
        if self.finish_reason is not None:
            finish_reason = None  # some servers repeat it; the first one is told
        if finish_reason is not None:
            self.finish_reason = finish_reason
        elif not (text or reasoning or fragments or logprobs or token_ids):
            return None
        self._keep(text, reasoning, logprobs)
        if token_ids is not None:
            self._keep_ids(token_ids)
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
        """The delta of what was held back as a tag that did not come, if anything was."""
        reasoning, text = self._pending()
        self._splitter = None
        if not (text or reasoning):
            return None
        self._keep(text, reasoning, ())
        return Delta(text, self.index, reasoning)

    def output(self) -> CompletionOutput:
        """All that has arrived, what is held back included."""
        held_reasoning, held_text = self._pending()
        text = "".join(self._text) + held_text
        reasoning = ("".join(self._reasoning) + held_reasoning) or None
        if reasoning is None:
            reasoning, text = split_unopened(text, self._asked)
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
        """The (reasoning, text) of a piece; a server that parts the two itself is believed."""
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

    def _call(self, fragment: Mapping[str, Any]) -> Any:
        if self._calls is None:
            self._calls = ToolCallJoiner()
        return self._calls.feed(fragment)

    def _keep_ids(self, token_ids: Sequence[int]) -> None:
        if self._token_ids is None:
            self._token_ids = []
        self._token_ids.extend(token_ids)

    def _keep(self, text: str, reasoning: str, logprobs: Sequence[Logprob]) -> None:
        if text:
            self._text.append(text)
        if reasoning:
            self._reasoning.append(reasoning)
        if logprobs:
            self._logprobs.extend(logprobs)
