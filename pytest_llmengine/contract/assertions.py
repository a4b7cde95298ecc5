"""Assertions and helpers that checks share: JSON fields, rejections, errors, chat, stop, responses.

A check for invalid input says something only if the server answers the same request without that
input. `control` and `expect_rejected` make sure of this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_llmengine.contract.facts import REFUSED_IN_STREAM, STOP_DROPPED, either
from pytest_llmengine.contract.outcomes import (
    Refused,
    Unmeasured,
    expect,
    expect_effect,
    fail,
    quote,
)

if TYPE_CHECKING:
    from pytest_llmengine.contract.reply import Reply
    from pytest_llmengine.contract.target import Target


T = TypeVar("T")

_NAMES: dict[type, str] = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "a boolean",
    list: "a list",
    dict: "an object",
}


def pick(value: object, kind: type[T], *path: str | int) -> T:
    """The value at a path, such as ``pick(body, str, "choices", 0, "message", "role")``.

    If it is missing or has a wrong type, the check fails with a message that says so.

    A boolean does not count as a number; an integer counts as a float.
    """
    for depth, step in enumerate(path):
        value = _step(value, step, _spell(path[: depth + 1]))
    if not _is(value, kind):
        fail(f"{_spell(path)} is not {_NAMES[kind]}: {quote(value)}")
    return value  # type: ignore[return-value] # _is has checked the type


def objects(value: object, *path: str | int) -> list[dict[str, Any]]:
    """The list of objects at a path."""
    return [pick(item, dict) for item in pick(value, list, *path)]


def missing(value: dict[str, Any], *keys: str) -> list[str]:
    """The keys that the object does not have; a key whose value is null is not missing."""
    return [key for key in keys if key not in value]


def _step(value: object, step: str | int, where: str) -> object:
    if isinstance(step, int):
        if not isinstance(value, list) or len(value) <= step:
            fail(f"{where} is missing: {quote(value)}")
        return value[step]
    if not isinstance(value, dict) or step not in value:
        fail(f"{where} is missing: {quote(value)}")
    return value[step]


def _is(value: object, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _spell(path: tuple[str | int, ...]) -> str:
    spelled = "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in path)
    return spelled.lstrip(".") or "the value"


def rejected(reply: Reply, what: str, *, fact: str = "") -> None:
    """Expect a 400 or 422 with a message; after a 200 the check ends as ignored.

    A 422 refuses the request in words as well; ``err.status`` is the one rule about the status. An
    error in a stream that has begun with a 200 fails. ``fact`` is the cause of a 200; rules that
    say the same of ``what`` have one cause without it.
    """
    reply.expect_judged()
    in_stream = f"{what} was refused in a stream with the status 200: {quote(reply.stream_error)}"
    expect(not reply.stream_error, in_stream, fact=REFUSED_IN_STREAM)
    expect_effect(
        not reply.ok,
        f"{what} was accepted with 200: {quote(reply.text)}",
        fact=fact or f"{what} is accepted",
    )
    expect(
        reply.status in {400, 422},
        f"{what}: {reply.status} instead of 400: {quote(reply.text)}",
        fact=reply.cause,
    )
    expect(reply.error_message, f"{what}: a {reply.status} without a message: {quote(reply.text)}")


def control(target: Target, **params: Any) -> None:
    """Expect an answer to a valid request, so that a refusal of the next one has a meaning."""
    full_text(target.chat(max_tokens=1, **params).success())


def expect_rejected(target: Target, name: str, *values: Any, fact: str = "") -> None:
    """Expect a 400 for each value of a parameter, and an answer without the parameter."""
    control(target)
    for value in values:
        what = f"{name}={value!r}"
        cause = either(fact or f"{what} is accepted", f"{name} is dropped")
        rejected(target.chat(**{"max_tokens": 1, name: value}), what, fact=cause)


NO_MESSAGES = "a request without messages"
NO_JSON = "a body that is not JSON"


def provoke(target: Target) -> dict[str, Reply]:
    """Cause two errors of the chat route, after a valid request was answered.

    The keys of the result say what caused each error. If one of the requests is answered with a
    200, the check ends as ignored. A 5xx is left out, because other rules are about it; with
    nothing else the check ends as unmeasured. Unknown paths are not among the requests: a web
    framework may answer them before the API sees the request.
    """
    control(target)
    replies = {
        NO_MESSAGES: target.chat(messages=...),
        NO_JSON: target.post("/chat/completions", raw=b'{"model": '),
    }
    for what, reply in replies.items():
        answered = f"{what} was answered with 200: {quote(reply.text)}"
        expect_effect(not reply.ok, answered, fact=f"{what} is accepted")
        expect(400 <= reply.status < 600, f"{what}: {reply.status}: {quote(reply.text)}")
    refusals = {what: reply for what, reply in replies.items() if reply.status < 500}
    if not refusals:
        raise Unmeasured("bad requests are answered with a 5xx, which other rules are about")
    return refusals


def envelope(reply: Reply, what: str) -> dict[str, Any]:
    """The object under "error"; the check fails if the body has none."""
    body = reply.object()
    where = "" if reply.path == "/chat/completions" else f"{reply.path}: "
    lost = f"{what}: no error object: {quote(body)}"
    expect("error" in body, lost, fact=f"{where}error is missing")
    error = body["error"]
    if isinstance(error, str):
        fail(f"{what}: error is a text: {quote(error)}", fact="error is a string")
    return pick(body, dict, "error")


REASONING_FIELDS = ("reasoning", "reasoning_content")
CALL_MARKUP = (
    "<tool_call",
    "</tool_call",
    "<|tool_call",
    "[TOOL_CALLS]",
    "<function=",
    "<|python_",
)


def choice(body: dict[str, Any]) -> dict[str, Any]:
    """The first choice."""
    return pick(body, dict, "choices", 0)


def message(body: dict[str, Any]) -> dict[str, Any]:
    """The first choice's message."""
    return pick(body, dict, "choices", 0, "message")


def content(body: dict[str, Any]) -> str:
    """The first choice's text; "" for null, which is valid beside a tool call."""
    if message(body).get("content", "") is None:
        return ""
    return pick(body, str, "choices", 0, "message", "content")


def tool_calls(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The first choice's tool calls; empty if the key is absent or null."""
    if message(body).get("tool_calls") is None:
        return []
    return objects(body, "choices", 0, "message", "tool_calls")


def called_names(body: dict[str, Any]) -> list[str]:
    """The names of the functions that the first choice calls."""
    return [pick(call, str, "function", "name") for call in tool_calls(body)]


def reasoning(body: dict[str, Any]) -> str:
    """The first choice's reasoning, under either name; "" if there is none."""
    fields = message(body)
    found = [fields[name] for name in REASONING_FIELDS if isinstance(fields.get(name), str)]
    return found[0] if found else ""


def full_text(body: dict[str, Any]) -> str:
    """The whole text of the first choice: its reasoning, then its content."""
    return reasoning(body) + content(body)


def usage(body: dict[str, Any], name: str) -> int:
    """A token count of the usage; unmeasured if the body has no usage, which is optional."""
    if body.get("usage") is None:
        raise Unmeasured("the answer has no usage")
    return pick(body, int, "usage", name)


def effect(body: dict[str, Any]) -> tuple[str, int | None]:
    """What changes if the model sees other messages: the whole text and the prompt's tokens."""
    has_usage = body.get("usage") is not None
    return full_text(body), usage(body, "prompt_tokens") if has_usage else None


def answered(body: dict[str, Any]) -> dict[str, Any]:
    """The body; unmeasured if the token cap cut the model's reasoning or tool call."""
    if choice(body).get("finish_reason") == "length":
        if reasoning(body) and not content(body):
            raise Unmeasured("the model was still reasoning when the token cap came")
        if content(body).startswith(CALL_MARKUP):
            raise Unmeasured(f"the token cap cut a tool call: {content(body)!r}")
    return body


def need_text(text: str) -> str:
    """The text; unmeasured if it is empty, because a model may say nothing or only think."""
    if not text.strip():
        raise Unmeasured("this model cannot show it: its answer has no text")
    return text


def need_cut(text: str, limit: int, count: object = None) -> None:
    """End as unmeasured if an answer is shorter than its token limit.

    `count` is the number of tokens in the usage. Without it, a single word counts as shorter.
    """
    short = count < limit if isinstance(count, int) else len(text.split()) < 2
    if short:
        raise Unmeasured(f"this model cannot show it: its whole answer is {quote(text)}")


Chunks = list[dict[str, Any]]


def stream_chat(target: Target, prompt: str = "Say hello.", **params: Any) -> Chunks:
    """The chunks of a streamed answer; after a clear refusal the check ends as refused."""
    return chunks_of(target.chat(prompt, stream=True, **params))


def chunks_of(reply: Reply) -> Chunks:
    """The chunks of a stream; the check fails if one of them holds an error."""
    chunks = reply.objects_or_refused()
    for chunk in chunks:
        if chunk.get("error"):
            fail(f"an error in mid-stream: {quote(chunk['error'])}")
        pick(chunk, list, "choices")
    return chunks


def choices(chunks: Chunks, index: int = 0) -> Chunks:
    """Every entry of ``choices`` with that index, in the order of arrival."""
    found = [c for chunk in chunks for c in objects(chunk, "choices") if c.get("index") == index]
    if not found:
        fail(f"no chunk has a choice of index {index}: {quote(chunks[0])}")
    return found


def deltas(chunks: Chunks, index: int = 0) -> Chunks:
    """Every delta of one choice, in order."""
    return [pick(entry, dict, "delta") for entry in choices(chunks, index)]


def text(chunks: Chunks, index: int = 0) -> str:
    """The text of one choice, joined."""
    parts = [d["content"] for d in deltas(chunks, index) if d.get("content") is not None]
    return "".join(pick(part, str) for part in parts)


def finish_reasons(chunks: Chunks, index: int = 0) -> list[str]:
    """The finish reasons of one choice that are not null."""
    found = [entry.get("finish_reason") for entry in choices(chunks, index)]
    return [pick(reason, str) for reason in found if reason is not None]


def fragments(chunks: Chunks) -> Chunks:
    """The fragments of tool calls in the first choice, in order."""
    return [
        fragment
        for delta in deltas(chunks)
        if delta.get("tool_calls") is not None
        for fragment in objects(delta, "tool_calls")
    ]


def arguments_by_index(chunks: Chunks) -> dict[int, str]:
    """The joined arguments of each tool call, by the call's index."""
    joined: dict[int, str] = {}
    for fragment in fragments(chunks):
        index = pick(fragment, int, "index")
        part = pick(fragment, dict, "function").get("arguments") or ""
        joined[index] = joined.get(index, "") + pick(part, str)
    return joined


PROMPT = "Write a sentence about the sea."
_CAP = 24
_MIN_WORDS = 4


@dataclass(frozen=True, slots=True)
class Stopping:
    """An answer, and a word from its middle that does not occur earlier.

    The words of an answer are not known in advance, so the word is taken from a first answer.
    """

    answer: str
    word: str

    @property
    def before(self) -> str:
        """The part of the answer before the word."""
        return self.answer[: self.answer.index(self.word)]

    def stop(
        self, target: Target, stop: str | list[str], *, may_keep: bool = False
    ) -> dict[str, Any]:
        """Ask again with stop sequences that contain the word; expect the text before it.

        With ``may_keep``, the text may also end with the word, for rules about other things.
        The check fails if the text ends with the word, ends as ignored if the text goes on after
        it, and as unmeasured if the text is a different one.
        """
        body = target.chat(PROMPT, max_tokens=_CAP, stop=stop).success()
        text = content(body)
        if may_keep and text == self.before + self.word:
            return body
        expect(
            text != self.before + self.word,
            f"stop={quote(stop)}: the text ends there, and keeps the stop sequence: {text!r}",
            fact="the stop sequence is kept in the text",
        )
        kept = text.rstrip() == f"{self.before}{self.word}".rstrip()
        expect(not kept, f"stop={quote(stop)}: the text ends with the stop sequence: {text!r}")
        dropped = f"stop={quote(stop)}, yet the text is {text!r}"
        expect_effect(self.word not in text, dropped, fact=STOP_DROPPED)
        if not self.answer.startswith(text.rstrip()):
            raise Unmeasured("the server answers differently each time, also at temperature 0")
        expect(
            text.rstrip() == self.before.rstrip(),
            f"stop={quote(stop)}: the text is {text!r} instead of {self.before!r}",
        )
        return body


def find_stop(target: Target) -> Stopping:
    """Get a plain answer and a word at which to stop it; unmeasured if the answer is too short."""
    return stopping_in(content(answered(target.chat(PROMPT, max_tokens=_CAP).success())))


def stopping_in(answer: str) -> Stopping:
    """A word at which to stop an answer; unmeasured if the answer is too short."""
    words = answer.split()
    for word in words[2:]:
        if len(words) >= _MIN_WORDS and answer[: answer.index(word)].split():
            return Stopping(answer, word)
    raise Unmeasured(f"the answer is too short to stop in its middle: {answer!r}")


Events = list[dict[str, Any]]

LONG = "Write a long story about the sea."  # the answer does not fit in sixteen tokens
TERMINAL = ("response.completed", "response.incomplete", "response.failed")
NO_RESPONSES = "there is no /responses"
NO_ROUTE = frozenset({404, 405, 501})
_NAMES_OF_STATE = frozenset({"previous_response_id", "conversation", "prompt"})  # may be unknown


def create_response(target: Target, given: object = "Say hello.", **params: Any) -> Reply:
    """POST a request for a response: temperature 0 and 16 tokens unless `params` say otherwise.

    A parameter set to ``...`` is left out of the body. The check ends as refused if the server
    does not have the route.
    """
    body = {
        "model": target.model,
        "input": given,
        "temperature": 0,
        "max_output_tokens": 16,
    } | params
    reply = target.post("/responses", {k: v for k, v in body.items() if v is not ...})
    if reply.status in NO_ROUTE and not params.keys() & _NAMES_OF_STATE:
        raise Refused(f"POST /responses: {reply.status} {quote(reply.text)}", fact=NO_RESPONSES)
    return reply


def respond(target: Target, given: object = "Say hello.", **params: Any) -> dict[str, Any]:
    """Get a response; after a clear refusal the check ends as refused."""
    return response_of(create_response(target, given, **params))


def response_of(reply: Reply) -> dict[str, Any]:
    """The response in a reply; after a clear refusal the check ends as refused."""
    body = reply.success_or_refused()
    expect(isinstance(body.get("output"), list), f"no output: {quote(body)}", fact="no output")
    return body


def stream_response(target: Target, given: object = "Say hello.", **params: Any) -> Events:
    """The events of a streamed response; after a clear refusal the check ends as refused."""
    return events_of(create_response(target, given, **{"stream": True, **params}))


def events_of(reply: Reply) -> Events:
    """The events of a streamed response; after a clear refusal the check ends as refused."""
    events = reply.objects_or_refused()
    for event in events:
        pick(event, str, "type")
    return events


def items(body: dict[str, Any], kind: str) -> Events:
    """The output items of one type, such as ``message`` or ``function_call``."""
    return [item for item in objects(body, "output") if item.get("type") == kind]


def output_text(body: dict[str, Any]) -> str:
    """The text of the output messages, joined."""
    parts = [part for item in items(body, "message") for part in objects(item, "content")]
    return "".join(pick(p, str, "text") for p in parts if p.get("type") == "output_text")


def answered_response(body: dict[str, Any]) -> dict[str, Any]:
    """The response; unmeasured if the token cap came before any text or call."""
    if body.get("status") == "incomplete" and not items(body, "function_call"):
        need_text(output_text(body))
    return body


def of_type(events: Events, *types: str) -> Events:
    """The events of these types; the check fails if there are none."""
    found = [event for event in events if event.get("type") in types]
    if not found:
        seen = ", ".join(dict.fromkeys(str(event.get("type")) for event in events))
        fail(f"no event of type {' or '.join(types)}; there are {seen}")
    return found
