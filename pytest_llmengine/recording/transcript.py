"""The transcript of a recorded exchange: who said what, how it ended, and how long it took.

It is read from the formats of chat completions, completions, responses, messages (Anthropic),
Ollama, embeddings and lists of models. Recordings may hold anything, so nothing here raises an
error: what is not understood is shown as it is.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from pytest_llmengine.recording.answer_value import (
    answer_value,
    events_of,
    is_stream,
    parsed,
    timed_events,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_llmengine.recording.cassette import RecordedAnswer
    from pytest_llmengine.recording.cassette_file import RecordedExchange

    PartKind = Literal[
        "text", "reasoning", "refusal", "tool_call", "error", "embedding", "model", "body"
    ]


@dataclass(frozen=True, slots=True)
class PromptTurn:
    """What one side said before the answer: a message, with the role of its author."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class AnswerPart:
    """A part of an answer; ``name`` is the name of the tool that it calls."""

    kind: PartKind
    text: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class StreamTiming:
    """When the parts of an answer arrived, in ms after the request was sent.

    ``head`` is None if there was no answer at all. ``first_content`` is the first event of a stream
    that holds text, reasoning or a tool call. ``longest_pause`` is between two chunks.
    """

    head: int | None
    first_content: int | None
    last: int
    chunks: int
    events: int
    longest_pause: int


@dataclass(frozen=True, slots=True)
class Transcript:
    """One exchange in the form in which people read it."""

    number: int
    title: str
    model: str
    turns: tuple[PromptTurn, ...]
    tools: tuple[str, ...]
    status: int
    streamed: bool
    parts: tuple[AnswerPart, ...]
    finish_reasons: tuple[str, ...]
    tokens_in: int | None
    tokens_out: int | None
    cut: str | None
    timing: StreamTiming

    @classmethod
    def of(cls, exchange: RecordedExchange) -> Transcript:
        """The transcript of an exchange."""
        sent, answer = parsed(exchange.request.body or b""), exchange.answer
        body = sent if isinstance(sent, dict) else {}
        read = AnswerContent.of(answer)
        return cls(
            exchange.number,
            exchange.title,
            _text(body.get("model")),
            tuple(_turns(body) if body else _raw_turn(sent)),
            tuple(_tool_names(body)),
            answer.status,
            is_stream(answer),
            read.parts,
            read.finish_reasons,
            read.tokens_in,
            read.tokens_out,
            answer.cut,
            _timing(answer),
        )

    def to_dict(self) -> dict[str, Any]:
        """The transcript as plain values, for JSON."""
        return asdict(self)


# ---- what was asked


def _turns(body: dict[str, Any]) -> Iterator[PromptTurn]:
    """The messages of a request, in whatever field its format has them."""
    for name in ("system", "instructions"):
        if body.get(name):
            yield PromptTurn("system", _text(body[name]))
    messages = body.get("messages")
    for message in messages if isinstance(messages, list) else ():
        yield from _message(message)
    given = body.get("input")
    if isinstance(given, list) and all(isinstance(item, dict) for item in given):
        for item in given:
            yield from _message(item)
    elif given is not None:
        yield PromptTurn("user", _text(given))
    if body.get("prompt") is not None:
        yield PromptTurn("user", _text(body["prompt"]))


def _message(message: Any) -> Iterator[PromptTurn]:
    if not isinstance(message, dict):
        yield PromptTurn("user", _text(message))
        return
    role = _text(message.get("role") or message.get("type") or "user")
    content = message.get("content", message.get("output"))
    if content:
        yield PromptTurn(role, _text(content))
    for call in _calls(message):
        yield PromptTurn(role, f"calls {call.name}({call.text})")
    if message.get("type") == "function_call":
        yield PromptTurn(
            "assistant", f"calls {message.get('name')}({_text(message.get('arguments'))})"
        )


def _raw_turn(sent: Any) -> Iterator[PromptTurn]:
    if sent:
        yield PromptTurn("body", _text(sent))


def _tool_names(body: dict[str, Any]) -> Iterator[str]:
    tools = body.get("tools")
    for tool in tools if isinstance(tools, list) else ():
        inner = tool.get("function", tool) if isinstance(tool, dict) else {}
        if isinstance(inner, dict) and (name := inner.get("name") or inner.get("type")):
            yield _text(name)


def _text(value: Any) -> str:
    """A text of any of the forms that the formats have: a text, or a list of parts with texts."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, dict) for part in value):
        return "\n".join(filter(None, map(_part_text, value)))
    return json.dumps(value, ensure_ascii=False)


def _part_text(part: dict[str, Any]) -> str:
    for name in ("text", "thinking", "refusal", "content"):
        if isinstance(part.get(name), str):
            return str(part[name])
    return f"[{part.get('type', 'part')}]"


# ---- what was answered


@dataclass(frozen=True, slots=True)
class AnswerContent:
    """What an answer holds: its parts, why it ended, and the tokens that were counted."""

    parts: tuple[AnswerPart, ...]
    finish_reasons: tuple[str, ...] = ()
    tokens_in: int | None = None
    tokens_out: int | None = None

    @classmethod
    def of(cls, answer: RecordedAnswer) -> AnswerContent:
        """The content of an answer in any of the formats."""
        value = answer_value(answer)
        objects = value["events"] if is_stream(answer) else [value]
        return _content([one for one in objects if one != "[DONE]"])

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of the parts in their order, with the names of tools, each once."""
        named = (f"{part.kind} {part.name}".rstrip() for part in self.parts)
        return tuple(dict.fromkeys(named))


def _content(objects: list[Any]) -> AnswerContent:
    whole = [_whole(one) for one in objects]
    # The last event of a stream of responses has the whole answer, which the ones before it repeat.
    if any(isinstance(one, dict) and one.get("output") for one in whole):
        whole = whole[-1:]
    parts = [part for one in whole for part in _parts(one)]
    reasons = [reason for one in whole for reason in _reasons(one)]
    tokens_in, tokens_out = _usage(whole)
    return AnswerContent(_joined(parts), tuple(reasons), tokens_in, tokens_out)


def _whole(event: Any) -> Any:
    """The answer that an event carries, or the event itself."""
    if isinstance(event, dict):
        for name in ("response", "message"):
            if isinstance(event.get(name), dict) and "type" in event:
                return event[name]
    return event


def _joined(parts: Iterable[AnswerPart]) -> tuple[AnswerPart, ...]:
    """The parts without empty ones; the arguments of a call may come after its name."""
    result: list[AnswerPart] = []
    for part in parts:
        last = result[-1] if result else None
        if part.kind == "tool_call" and not part.name and last and last.kind == part.kind:
            result[-1] = replace(last, text=last.text.removeprefix("{}") + part.text)
        elif part.text or part.kind == "tool_call":
            result.append(part)
    return tuple(result)


def _parts(value: Any) -> Iterator[AnswerPart]:
    if not isinstance(value, dict):
        yield AnswerPart("body", _text(value))
        return
    known = list(_known_parts(value))
    yield from known
    if not known and not _FORMATS & value.keys():
        yield AnswerPart("body", json.dumps(value, ensure_ascii=False))


# An object with one of these is an answer, or an event of a stream, even if it has no content.
_FORMATS = frozenset({"choices", "content", "data", "done", "message", "models", "output", "type"})


def _known_parts(value: dict[str, Any]) -> Iterator[AnswerPart]:
    if value.get("error"):
        yield AnswerPart("error", _error(value["error"]))
    for choice in _objects(value.get("choices")):
        yield from _spoken(_dict(choice.get("message") or choice.get("delta")) or choice)
    if isinstance(value.get("message"), dict):
        yield from _spoken(value["message"])
    if isinstance(value.get("response"), str):  # Ollama's /api/generate
        yield AnswerPart("text", value["response"])
    for item in _objects(value.get("output")):
        yield from _item(item)
    for block in _objects(value.get("content")):
        yield from _item(block)
    for name in ("content_block", "delta"):
        if isinstance(value.get(name), dict):
            yield from _item(value[name])
    yield from _listed(value)


def _spoken(message: dict[str, Any]) -> Iterator[AnswerPart]:
    reasoning = message.get("reasoning") or message.get("reasoning_content")
    yield AnswerPart("reasoning", _text(reasoning or message.get("thinking")))
    yield AnswerPart("text", _text(message.get("content")) or _text(message.get("text")))
    yield AnswerPart("refusal", _text(message.get("refusal")))
    yield from _calls(message)


def _calls(message: dict[str, Any]) -> Iterator[AnswerPart]:
    for call in _objects(message.get("tool_calls")):
        function = _dict(call.get("function")) or call
        arguments, name = _text(function.get("arguments")), _text(function.get("name"))
        yield AnswerPart("tool_call", arguments, name)


def _item(item: dict[str, Any]) -> Iterator[AnswerPart]:
    """The parts of an item of a response or a block of a message, which says what it is."""
    kind = item.get("type")
    if kind == "message":
        for part in _objects(item.get("content")):
            yield from _item(part)
    elif kind == "refusal":
        yield AnswerPart("refusal", _text(item.get("refusal")))
    elif kind in {"function_call", "tool_use"}:
        given = item.get("arguments", item.get("input"))
        yield AnswerPart("tool_call", _text(given), _text(item.get("name")))
    elif kind in {"reasoning", "thinking", "thinking_delta"}:
        said = item.get("summary") or item.get("content") or item.get("thinking")
        yield AnswerPart("reasoning", _text(said))
    elif kind == "input_json_delta":
        yield AnswerPart("tool_call", _text(item.get("partial_json")))
    else:
        yield AnswerPart("text", _text(item.get("text")))


def _listed(value: dict[str, Any]) -> Iterator[AnswerPart]:
    """Embeddings by their number of dimensions, and models by their names."""
    for item in _objects(value.get("data") or value.get("models")):
        if "embedding" in item:
            vector = item["embedding"]
            size = f"{len(vector)} numbers" if isinstance(vector, list) else "base64"
            yield AnswerPart("embedding", size)
        elif "id" in item or "name" in item:
            yield AnswerPart("model", _text(item.get("id") or item.get("name")))


def _error(error: Any) -> str:
    if not isinstance(error, dict):
        return _text(error)
    facts = [error.get(name) for name in ("type", "code")]
    kind = "/".join(dict.fromkeys(str(fact) for fact in facts if fact))
    return f"{kind}: {_text(error.get('message'))}" if kind else _text(error.get("message"))


def _reasons(value: Any) -> Iterator[str]:
    """Why an answer ended, under the name that its format has for it."""
    if not isinstance(value, dict):
        return
    for choice in _objects(value.get("choices")):
        if choice.get("finish_reason"):
            yield _text(choice["finish_reason"])
    details = _dict(value.get("incomplete_details"))
    delta = _dict(value.get("delta"))
    ended = value.get("status") if "output" in value else None
    given = (value.get("done_reason"), value.get("stop_reason"), delta.get("stop_reason"))
    for reason in (*given, details.get("reason") or ended):
        if isinstance(reason, str):
            yield reason


_IN = ("prompt_tokens", "input_tokens", "prompt_eval_count")
_OUT = ("completion_tokens", "output_tokens", "eval_count")


def _usage(objects: Iterable[Any]) -> tuple[int | None, int | None]:
    """The tokens that were counted; the last count of a stream is the total."""
    tokens_in = tokens_out = None
    for value in objects:
        if isinstance(value, dict):
            usage = _dict(value.get("usage")) or value
            tokens_in = _count(usage, _IN, tokens_in)
            tokens_out = _count(usage, _OUT, tokens_out)
    return tokens_in, tokens_out


def _count(usage: dict[str, Any], names: Iterable[str], before: int | None) -> int | None:
    return next((usage[name] for name in names if isinstance(usage.get(name), int)), before)


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


# ---- how long it took


def _timing(answer: RecordedAnswer) -> StreamTiming:
    line = answer.timeline
    pauses = (after - before for before, after in zip(line.at_ms, line.at_ms[1:], strict=False))
    first = None
    if is_stream(answer):
        first = next((at for event, at in timed_events(answer) if _has_content(event)), None)
    return StreamTiming(
        line.head_ms,
        first,
        line.at_ms[-1] if line.at_ms else line.head_ms or 0,
        len(line.sizes),
        len(events_of(answer)) if is_stream(answer) else 0,
        max(pauses, default=0),
    )


def _has_content(event: bytes) -> bool:
    kinds = {part.kind for part in _content([parsed(event)]).parts if event != b"[DONE]"}
    return bool(kinds & {"text", "reasoning", "refusal", "tool_call"})
