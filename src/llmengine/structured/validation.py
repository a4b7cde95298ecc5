"""Validation of structured answers: the JSON in them, loops of whitespace, and the output model.

An answer that does not fit the output model is never returned; an error is raised instead.
"""

from __future__ import annotations

import re
from dataclasses import replace
from json import JSONDecoder
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_core import from_json, to_json

from llmengine.structured.strict import without_added_nulls
from llmengine.structured.tools import demanded_tools
from llmengine.types.errors import (
    RefusedError,
    StructuredOutputError,
    TruncatedError,
    WhitespaceLoopError,
)

if TYPE_CHECKING:
    from llmengine.structured.ladder import SchemaStep
    from llmengine.structured.schema import Shape
    from llmengine.types.outputs import CompletionOutput, LLMOutput
    from llmengine.types.request import ChatRequest


_REASONING_END = "</think>"
_FENCE = re.compile(r"```[\w-]*[ \t]*\r?\n(.*?)```", re.DOTALL)
_OPENING = re.compile(r"[\[{]")
_MAX_TRIES = 100  # prose may hold any number of brackets
_decoder = JSONDecoder()


def first_json(text: str) -> str:
    """The text of the first complete JSON value in an answer, which may also hold other text.

    If the whole text is JSON, it is returned whole. Otherwise the text before a closing
    ``</think>`` is reasoning and is ignored. The first object or array is returned, first from
    fenced blocks and then from the rest of the text; numbers and strings may be prose. If there is
    none, the text is returned as it is.
    """
    whole = text.strip()  # a string in it may contain the tag
    text = text.rpartition(_REASONING_END)[2].strip()
    for candidate in (whole, text):
        if _end_of_value(candidate, 0) == len(candidate):
            return candidate
    for part in (*_FENCE.findall(text), text):
        found = _first_in(part)
        if found is not None:
            return found
    return text


def _first_in(text: str) -> str | None:
    for tries, opening in enumerate(_OPENING.finditer(text)):
        if tries == _MAX_TRIES:
            break
        end = _end_of_value(text, opening.start())
        if end is not None:
            return text[opening.start() : end]
    return None


def _end_of_value(text: str, start: int) -> int | None:
    try:
        return _decoder.raw_decode(text, start)[1]
    except (ValueError, RecursionError):
        return None


LONGEST = 64
"""The largest number of whitespace characters in a row that count as formatting of JSON.

That is about a line break and an indentation of sixteen levels with four blanks each. Strings do
not count.
"""

_BLANKS = " \t\r\n"


class WhitespaceWatch:
    """Reads an answer as it arrives and notices a loop of blanks and line breaks.

    Some models get into such a loop, because a JSON grammar allows any amount of whitespace. Blanks
    inside strings count as text.
    """

    __slots__ = ("_escaped", "_in_string", "_run")

    def __init__(self) -> None:
        self._run = 0
        self._in_string = False
        self._escaped = False

    def loops(self, piece: str) -> bool:
        """Read a piece; return whether more than LONGEST blanks in a row have arrived."""
        for character in piece:
            if self._in_string:
                self._string(character)
            elif character in _BLANKS:
                self._run += 1
                if self._run > LONGEST:
                    return True
            else:
                self._run = 0
                self._in_string = character == '"'
        return False

    def _string(self, character: str) -> None:
        if self._escaped:
            self._escaped = False
        elif character == "\\":
            self._escaped = True
        elif character == '"':
            self._in_string = False


def ends_in_loop(text: str) -> bool:
    """Whether an answer that was cut ends with more than LONGEST blanks."""
    return len(text) - len(text.rstrip(_BLANKS)) > LONGEST


_MAX_QUOTED = 200


def fitted(output: LLMOutput, shape: Shape, step: SchemaStep, *, strict: bool) -> LLMOutput:
    """The output with ``schema_strategy`` set, and with ``parsed`` set on each of its answers.

    ``strict`` says that the schema was sent in OpenAI's strict dialect. Raises
    WhitespaceLoopError or TruncatedError if an answer was cut, and StructuredOutputError if it
    does not fit; all hold the output as ``partial``.
    """
    output = replace(output, schema_strategy=step)
    undo_nulls = strict and step == "json_schema"
    outputs = tuple(
        replace(a, parsed=_parsed(a, _text(a, step), shape, output, undo_nulls=undo_nulls))
        for a in output.outputs
    )
    return replace(output, outputs=outputs)


def _text(answer: CompletionOutput, step: SchemaStep) -> str:
    """The part of the answer that must be JSON: all of it, if the server got the schema."""
    return answer.text if step == "json_schema" else first_json(answer.text)


def _parsed(
    answer: CompletionOutput, text: str, shape: Shape, output: LLMOutput, *, undo_nulls: bool
) -> Any:
    if answer.finish_reason == "length" and text.strip()[-1:].isdigit():
        raise _cut(answer, shape, output)  # for example, 12 may be the beginning of 123
    try:
        return shape.adapter.validate_json(_without_nulls(text, shape) if undo_nulls else text)
    except ValueError as error:  # from pydantic, or from text that is not JSON
        raise _invalid_answer(answer, shape, output, _problem(error)) from error


def _without_nulls(text: str, shape: Shape) -> str | bytes:
    value = from_json(text)
    cleaned = without_added_nulls(value, shape.schema)
    return text if cleaned == value else to_json(cleaned)  # otherwise the text stays as it is


def _problem(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return f"the answer: Invalid JSON: {error}"
    first = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "the answer"
    return f"{where}: {first['msg']}"


def _invalid_answer(
    answer: CompletionOutput, shape: Shape, output: LLMOutput, problem: str
) -> StructuredOutputError:
    """The error for an answer that does not fit, because it is cut, empty or wrong."""
    if answer.finish_reason == "length":
        return _cut(answer, shape, output)
    if not answer.text.strip():
        msg = f"the answer is empty{_reasoning_note(answer)}"
        return StructuredOutputError(msg, partial=output)
    msg = (
        f"the answer is not a valid {shape.name}: {problem}; it reads {answer.text[:_MAX_QUOTED]!r}"
    )
    return StructuredOutputError(msg, partial=output)


def _cut(answer: CompletionOutput, shape: Shape, output: LLMOutput) -> TruncatedError:
    if ends_in_loop(answer.text):
        return whitespace_loop(output)
    if answer.reasoning and not answer.text.strip():
        msg = f"the answer is empty{_reasoning_note(answer)}, up to the token limit"
        return TruncatedError(f"{msg}; raise max_tokens or lower the reasoning", partial=output)
    msg = f"the answer was cut by the token limit before it was a whole {shape.name}"
    return TruncatedError(f"{msg}; raise max_tokens", partial=output)


def _reasoning_note(answer: CompletionOutput) -> str:
    if not answer.reasoning:
        return ""
    return f", all that was generated is reasoning ({len(answer.reasoning)} characters)"


def whitespace_loop(partial: LLMOutput) -> WhitespaceLoopError:
    """The error for an answer that went on with only whitespace."""
    msg = (
        f"the answer continues with only whitespace (more than {LONGEST} characters in a row); "
        "more max_tokens would not help: forbid free whitespace on the server (vLLM: "
        "disable_any_whitespace) or set structured: prompt"
    )
    return WhitespaceLoopError(msg, partial=partial)


def refuse_calls(output: LLMOutput) -> None:
    """Raise StructuredOutputError for an answer that calls tools and has no text."""
    if any(a.tool_calls and not a.text.strip() for a in output.outputs):
        msg = (
            "the model called tools instead of answering; the calls are in .partial.tool_calls: "
            "answer them, or leave the tools out of the call with the output_model"
        )
        raise StructuredOutputError(msg, partial=output)


def refuse_refusal(output: LLMOutput) -> None:
    """Raise RefusedError for an answer that the model refused or a content filter stopped."""
    for answer in output.outputs:
        if answer.finish_reason == "refusal":
            raise RefusedError(f"the model refuses: {answer.text[:_MAX_QUOTED]!r}", partial=output)
        if answer.finish_reason == "content_filter":
            msg = f"the content filter stopped the answer after {answer.text[:_MAX_QUOTED]!r}"
            raise RefusedError(msg, partial=output)


def refuse_uncalled(output: LLMOutput, request: ChatRequest) -> None:
    """Raise StructuredOutputError for an answer without the tool call that ``tool_choice`` demands.

    It is a RefusedError if the model refused, and a TruncatedError if the answer was cut before
    the call. Some servers accept ``tool_choice`` and ignore it, so each answer is checked.
    """
    names = demanded_tools(request)
    if names is None:
        return
    refuse_refusal(output)
    for answer in output.outputs:
        if not answer.tool_calls:
            raise _uncalled(answer, request, output)
        for call in answer.tool_calls:
            if names and call.name not in names:
                msg = (
                    f"the answer calls {call.name!r}, and tool_choice allows only "
                    f"{', '.join(sorted(names))}; the calls are in .partial.tool_calls"
                )
                raise StructuredOutputError(msg, partial=output)


def _uncalled(
    answer: CompletionOutput, request: ChatRequest, output: LLMOutput
) -> StructuredOutputError:
    if answer.finish_reason == "length":
        msg = "the answer was cut by the token limit before it called a tool; raise max_tokens"
        return TruncatedError(msg, partial=output)
    msg = (
        f"tool_choice is {request.tool_choice!r}, and the answer calls no tool: the server or the "
        f"model ignores it; the answer reads {answer.text[:_MAX_QUOTED]!r}"
    )
    return StructuredOutputError(msg, partial=output)
