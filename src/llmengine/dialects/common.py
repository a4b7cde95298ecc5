"""What the chat formats share when they build requests and read answers.

The file holds the functions that turn sampling parameters into fields of a request body, and the
readers and errors for parts of an answer that several formats have in common, such as reasoning
between ``<think>`` tags.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import Enum, auto
from typing import TYPE_CHECKING

from pydantic_core import from_json

from llmengine.dialects.fields import (
    FieldError,
    label,
    number,
    objects,
    quote,
    read_usage,
    required_mapping,
    required_text,
    text,
    whole_numbers,
    wrong,
)
from llmengine.types.errors import (
    InvalidRequestError,
    StreamIncompleteError,
    UnexpectedResponseError,
)
from llmengine.types.outputs import LLMOutput, Logprob
from llmengine.types.sampling import SamplingParams, is_neutral, refuse_native_only

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmengine.dialects.fields import UsageFields
    from llmengine.types.outputs import CompletionOutput
    from llmengine.types.request import ChatRequest


def with_extra(
    body: dict[str, object], extra: Mapping[str, object], merged: frozenset[str]
) -> dict[str, object]:
    """`body`, updated in place with the fields of `extra`.

    A field of `extra` replaces the field of the same name. If its name is in `merged` and both
    values are objects, the two objects are merged instead.
    """
    for name, value in extra.items():
        ours = body.get(name)
        if name in merged and isinstance(ours, dict) and isinstance(value, Mapping):
            body[name] = ours | dict(value)
        else:
            body[name] = value
    return body


def sampling_fields(
    sampling: SamplingParams,
    names: Mapping[str, str],
    format_name: str,
    advice: str = "leave it out, or put this server's own field for it into extra_body",
) -> dict[str, object]:
    """The sampling parameters that are set, under the wire names in `names`.

    Raises InvalidRequestError for a parameter that has no wire name, unless its value has no
    effect. The message ends with ``advice``.
    """
    refuse_native_only(sampling)
    fields: dict[str, object] = {}
    for name, value in sampling.given().items():
        wire_name = names.get(name)
        if wire_name is not None:
            fields[wire_name] = list(value) if isinstance(value, tuple) else value
        elif not is_neutral(name, value):
            msg = (
                f"sampling parameter {name!r} is {value!r}, but {format_name} has no field for "
                f"it; {advice}"
            )
            raise InvalidRequestError(msg)
    return fields


_OK = 200
_ENTRY = "logprobs[]."
_PROMPT_ENTRY = "prompt_logprobs[]."
_LONGEST_ID = 16  # digits of a token's number
_HTML_START = 256  # bytes within which a page begins, and within which it ends
_TOO_DEEP = "recursion limit"  # part of the parser's message for JSON with more than 200 levels


def read_object(body: bytes) -> dict[str, object]:
    """The JSON object in a successful body; anything else is an UnexpectedResponseError."""
    try:
        value = from_json(body)
    except ValueError as error:
        raise unexpected(_json_problem(body, str(error)), body) from None
    if not isinstance(value, dict):
        raise unexpected("the answer is not a JSON object", body)
    return value


def unexpected(problem: str, body: bytes) -> UnexpectedResponseError:
    """The error for a successful answer that has this problem; its message quotes the body.

    A body that is not valid JSON counts as cut. A body that is valid JSON has arrived whole, and so
    has a whole HTML page: the server at this address is not a model's, so a retry would not help.
    """
    quoted, page = quote(body), is_html_page(body)
    cut = not page and not _is_json(body)
    error = UnexpectedResponseError(f"{problem}: {quoted}", status=_OK, body=quoted, cut=cut)
    if page:
        error.advise(HTML_ADVICE)
    return error


HTML_ADVICE = (
    "a web page and not a model's API is at this address, such as the login page of a proxy: check "
    "the engine's endpoint; OpenAI-style ones end in /v1"
)


def is_html_page(body: bytes) -> bool:
    """Whether a body is a whole page of HTML."""
    start, end = body[:_HTML_START].lstrip().lower(), body[-_HTML_START:].rstrip().lower()
    return start.startswith((b"<!doctype html", b"<html")) and end.endswith(b"</html>")


def _json_problem(body: bytes, message: str) -> str:
    """What is wrong with a body, by the message of the JSON parser."""
    if not body.strip():
        return "the answer is empty"
    if message.startswith("EOF"):
        return "the answer is cut: its JSON has no end"
    if _TOO_DEEP in message:
        return "the answer is JSON that is nested too deeply to be read"
    return "the answer is not JSON"


def _is_json(body: bytes) -> bool:
    try:
        from_json(body)
    except ValueError as error:
        return _TOO_DEEP in str(error)
    return True


def not_read(problem: str, error: FieldError, body: bytes) -> UnexpectedResponseError:
    """The error for an answer with a field that cannot be read; its message names the field."""
    return unexpected(f"{problem}, because {error}", body)


def answer_of(
    data: Mapping[str, object],
    request: ChatRequest,
    outputs: tuple[CompletionOutput, ...],
    usage: UsageFields,
    *,
    finished: bool = True,
) -> LLMOutput:
    """The outputs of an answer, with its id, its model and its usage."""
    warnings: dict[str, str] = {}
    counts = data.get("usage") if usage.where else data
    return LLMOutput(
        label(data, "id", warnings) or request.request_id,
        request.prompt,
        outputs,
        finished,
        usage=read_usage(counts, usage, warnings),
        model=label(data, "model", warnings),
        warnings=tuple(warnings.values()),
    )


_TEXT_FIELDS = {"text": "text", "output_text": "text", "refusal": "refusal"}


def reasoning_and_text(message: Mapping[str, object], path: str) -> tuple[str, str]:
    """The reasoning and the text of a message or a delta; each is empty if there is none.

    The text is a string, a list of parts, or a refusal instead of both. vLLM sends the reasoning
    as ``reasoning``; older versions of vLLM and other servers send it as ``reasoning_content``.
    Mistral sends parts of type ``thinking``, which hold text parts. Raises FieldError for any
    other part, because it would be lost.
    """
    reasoning = ""
    if "reasoning" in message or "reasoning_content" in message:
        names = ("reasoning", "reasoning_content")
        reasoning = next((t for name in names if (t := text(message, name, path))), "")
    content = message.get("content")
    if isinstance(content, str):
        return reasoning, content
    if content is None:
        return reasoning, text(message, "refusal", path) or ""
    where = f"{path}content"
    parts = objects(message, "content", path)
    thinking = [part for part in parts if part.get("type") == "thinking"]
    if not reasoning:
        reasoning = "".join([_thinking(part, f"{where}.") for part in thinking])
    answer = [_part_text(part, where) for part in parts if part.get("type") != "thinking"]
    return reasoning, "".join(answer)


def _thinking(part: Mapping[str, object], path: str) -> str:
    if isinstance(part.get("thinking"), list):
        where = f"{path}thinking"
        return "".join([_part_text(inner, where) for inner in objects(part, "thinking", path)])
    return required_text(part, "thinking", path)


def _part_text(part: Mapping[str, object], where: str) -> str:
    kind = required_text(part, "type", f"an item of {where}.")
    if kind not in _TEXT_FIELDS:
        raise FieldError(
            f"a part of {where} has the type {quote(kind)!r}, which llmengine cannot read"
        )
    return required_text(part, _TEXT_FIELDS[kind], f"{where}.")


def logprobs(data: Mapping[str, object], key: str, path: str) -> tuple[Logprob, ...]:
    """Log-probabilities of tokens.

    Some servers leave ``bytes`` and ``top_logprobs`` out, or set them to null.
    """
    return tuple([_logprob(entry) for entry in objects(data, key, path)])


def _logprob(entry: Mapping[str, object]) -> Logprob:
    top = entry.get("top_logprobs")
    return Logprob(
        required_text(entry, "token", _ENTRY),
        number(entry, "logprob", _ENTRY),
        whole_numbers(entry, "bytes", _ENTRY),
        logprobs(entry, "top_logprobs", _ENTRY) if top else (),
    )


def prompt_logprobs(
    data: Mapping[str, object],
) -> tuple[dict[int, Logprob] | None, ...] | None:
    """Log-probabilities of the prompt from vLLM: one mapping per token, None for the first."""
    value = data.get("prompt_logprobs")
    if value is None:
        return None
    if not isinstance(value, list):
        raise wrong("prompt_logprobs", "a list", value)
    return tuple([None if place is None else _by_token_id(place) for place in value])


def _by_token_id(place: object) -> dict[int, Logprob]:
    if not isinstance(place, dict):
        raise wrong("an item of prompt_logprobs", "an object", place)
    return {
        _token_id(token): Logprob(
            text(entry, "decoded_token", _PROMPT_ENTRY) or "",
            number(entry, "logprob", _PROMPT_ENTRY),
        )
        for token in place
        for entry in [required_mapping(place, token, _PROMPT_ENTRY)]
    }


def _token_id(token: str) -> int:
    if token.isascii() and token.isdecimal() and len(token) <= _LONGEST_ID:
        return int(token)
    raise wrong("a key of prompt_logprobs", "a token id", token)


def cumulative(tokens: Sequence[Logprob] | None) -> float | None:
    """Sum of the log-probabilities of the chosen tokens; None if the server gave none."""
    return sum([t.logprob for t in tokens]) if tokens else None


def incomplete(partial: LLMOutput) -> StreamIncompleteError:
    """The error for a stream that ended too early; it holds what had arrived."""
    length = sum(len(o.text) for o in partial.outputs)
    message = (
        f"the stream ended without its terminal event, after {length} characters of text; "
        "the part that arrived is in .partial"
    )
    return StreamIncompleteError(message, status=_OK, partial=partial)


def unfinished(output: LLMOutput, body: bytes) -> UnexpectedResponseError:
    """The error for an answer that was not streamed and has no finish_reason."""
    return _with_partial("the answer has no finish_reason, so it may be cut", output, body)


def too_few(output: LLMOutput, request: ChatRequest, body: bytes) -> UnexpectedResponseError:
    """The error for a response with fewer answers than the request asked for (``n``)."""
    problem = (
        f"the request asked for {request.sampling.n} answers (sampling parameter 'n'), but the "
        f"server sent {len(output.outputs)}; if it ignores n, send the prompt several times"
    )
    return _with_partial(problem, output, body)


def _with_partial(problem: str, output: LLMOutput, body: bytes) -> UnexpectedResponseError:
    quoted = quote(body)
    message = f"{problem} (the part that arrived is in .partial): {quoted}"
    partial = replace(output, finished=False)
    return UnexpectedResponseError(message, status=_OK, body=quoted, partial=partial)


_OPEN = "<think>"
_CLOSE = "</think>"
_QUOTES = ("`", "'", '"', "\u201c", "\u201d", "\u2018", "\u2019", "\u00ab", "\u00bb")
_FENCE = "```"
# More blanks than this count as text, so that a model that loops on whitespace is noticed early.
_MAX_BLANKS = 16


class _Where(Enum):
    START = auto()
    THINKING = auto()
    AFTER = auto()
    TEXT = auto()


class ThinkSplitter:
    """Splits text that comes in pieces into reasoning (``<think>...</think>``) and answer.

    Only a tag at the start of the text counts; a few blanks may stand before it. If the closing
    tag is missing, all that follows is reasoning. Whitespace before the opening tag and after the
    closing tag is dropped. The text that is held back is never longer than those blanks and one
    unfinished tag.
    """

    __slots__ = ("_held", "_where")

    def __init__(self) -> None:
        self._where = _Where.START
        self._held = ""

    @property
    def passes_through(self) -> bool:
        """Whether all that follows is answer, so that `feed` need not be called any more."""
        return self._where is _Where.TEXT

    @property
    def pending(self) -> tuple[str, str]:
        """The text that is held back, as (reasoning, text), if nothing more follows."""
        if self._where is _Where.THINKING:
            return self._held, ""
        return "", self._held

    def feed(self, piece: str) -> tuple[str, str]:
        """The (reasoning, text) that is certain once `piece` has arrived."""
        if self._where is _Where.TEXT:
            return "", piece
        piece = self._held + piece
        self._held = ""
        if self._where is _Where.START:
            return self._open(piece)
        if self._where is _Where.THINKING:
            return self._think(piece)
        return "", self._answer(piece)

    def finish(self) -> tuple[str, str]:
        """The (reasoning, text) that was held back; the text has ended."""
        rest = self.pending
        self._held = ""
        return rest

    def _open(self, piece: str) -> tuple[str, str]:
        """Look for the opening tag at the start of the text."""
        start = piece.lstrip()
        near = len(piece) - len(start) <= _MAX_BLANKS
        if near and start.startswith(_OPEN):
            self._where = _Where.THINKING
            return self._think(start[len(_OPEN) :])
        if near and _OPEN.startswith(start):
            self._held = piece
            return "", ""
        self._where = _Where.TEXT
        return "", piece

    def _think(self, piece: str) -> tuple[str, str]:
        """Look for the closing tag and hold back what may be its beginning."""
        reasoning, tag, after = piece.partition(_CLOSE)
        if tag:
            self._where = _Where.AFTER
            return reasoning, self._answer(after)
        keep = _tag_begun(piece)
        self._held = piece[len(piece) - keep :]
        return piece[: len(piece) - keep], ""

    def _answer(self, piece: str) -> str:
        """The answer without the whitespace between the closing tag and the answer."""
        text = piece.lstrip()
        if text:
            self._where = _Where.TEXT
        return text


def _tag_begun(piece: str) -> int:
    """Length of the longest suffix of `piece` that may begin a closing tag."""
    at = piece.rfind("<", -len(_CLOSE) + 1)
    return len(piece) - at if at >= 0 and _CLOSE.startswith(piece[at:]) else 0


def is_off(reasoning: bool | str | None) -> bool:
    """Whether a request turns reasoning off; OpenAI's value for that is "none"."""
    return reasoning is False or reasoning == "none"


def split_think(text: str, requested: bool | str | None = None) -> tuple[str | None, str]:
    """The (reasoning, answer) of a whole text; reasoning is None if there is none.

    ``requested`` is the ``reasoning`` of the request. If it is off, the whole text is the answer.
    """
    # Most texts have no "<", and the search for one character is many times as fast.
    if "<" not in text or (_CLOSE not in text and _OPEN not in text):
        return None, text
    if is_off(requested):
        return None, text
    if _OPEN not in text:
        return split_unopened(text, requested)
    splitter = ThinkSplitter()
    reasoning, answer = splitter.feed(text)
    more_reasoning, more_answer = splitter.finish()
    reasoning, answer = reasoning + more_reasoning, answer + more_answer
    return (reasoning, answer) if reasoning else split_unopened(answer, requested)


def split_unopened(text: str, requested: bool | str | None = None) -> tuple[str | None, str]:
    """The (reasoning, answer) of a text that has a closing tag but no opening tag.

    The chat templates of DeepSeek R1 and others put the opening tag into the prompt. A stream
    that is read piece by piece cannot know this before the closing tag arrives.

    A text that only mentions the tag is not split. A tag in quotes never counts. A tag inside of
    a line or a code block counts only if the request asked for reasoning, because models end the
    line after the closing tag.
    """
    if is_off(requested):
        return None, text
    at = text.find(_CLOSE)
    while at >= 0 and not _ends_reasoning(text, at, requested=requested is not None):
        at = text.find(_CLOSE, at + len(_CLOSE))
    if at < 0 or _OPEN in text[:at]:
        return None, text
    return text[:at] or None, text[at + len(_CLOSE) :].lstrip()


def _ends_reasoning(text: str, at: int, *, requested: bool) -> bool:
    """Whether the closing tag at that position ends reasoning and is not part of the answer."""
    before, after = text[at - 1 : at], text[at + len(_CLOSE) :]
    if before in _QUOTES and after.startswith(_QUOTES):
        return False
    if requested or not before:
        return True
    ends_line = not after.partition("\n")[0].strip()
    return ends_line and text.count(_FENCE, 0, at) % 2 == 0
