"""Completions as rules about effects see them: whole or streamed, of chat or of text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_llmengine.contract.assertions import REASONING_FIELDS, chunks_of, objects, pick
from pytest_llmengine.contract.outcomes import Unmeasured, expect

if TYPE_CHECKING:
    from pytest_llmengine.contract.target import Target


Params = Mapping[str, Any]

PROMPT = "Write one sentence about the sea."
START = "Once upon a time"
CAP = 12


@dataclass(slots=True)
class Observed:
    """One choice; ``logprobs`` has one value per part of a stream.

    ``calls`` are the names and arguments of the tool calls, and ``names`` the names alone.
    """

    reasoning: str = ""
    content: str = ""
    calls: str = ""
    names: list[str] = field(default_factory=list)
    finish_reason: str | None = None
    logprobs: list[Any] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All that the choice says, with the names and arguments of tool calls."""
        return self.reasoning + self.content + self.calls


@dataclass(frozen=True, slots=True)
class Observation:
    """What came for one request, whole or streamed.

    ``choices`` are in the order of their indexes.
    """

    choices: list[Observed]
    indexes: list[int]
    usage: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """All that the first choice says."""
        return self.choices[0].text

    def need_content(self) -> None:
        """End as unmeasured if a choice is nothing but reasoning."""
        if any(c.reasoning and not c.content + c.calls for c in self.choices):
            raise Unmeasured("the model was still reasoning when the token cap came")

    def tokens(self, name: str) -> int | None:
        """A count of the usage; None if the answer has none, which the schema allows."""
        return pick(self.usage, int, name) if name in self.usage else None


Way = Callable[..., Observation]
"""Sends one request with these parameters to a target; one that is ``...`` is left out."""


@dataclass(frozen=True, slots=True)
class Asker:
    """A target, and the way in which it is asked."""

    target: Target
    way: Way

    def __call__(self, **params: Any) -> Observation:
        """Send one request."""
        return self.way(self.target, **params)


def chat(target: Target, prompt: Any = PROMPT, **params: Any) -> Observation:
    """A whole chat completion."""
    reply = target.chat(prompt, **{"max_tokens": CAP, **params})
    return _observed([reply.success_or_refused()], "message")


def chat_stream(target: Target, prompt: Any = PROMPT, **params: Any) -> Observation:
    """A streamed chat completion."""
    options = {"include_usage": True, **params.pop("stream_options", {})}
    sent = {"max_tokens": CAP, "stream": True, "stream_options": options, **params}
    return _observed(chunks_of(target.chat(prompt, **sent)), "delta")


def completion(target: Target, **params: Any) -> Observation:
    """A whole text completion."""
    return _observed([_complete(target, params).success_or_refused()], None)


def completion_stream(target: Target, **params: Any) -> Observation:
    """A streamed text completion."""
    sent = {"stream": True, "stream_options": {"include_usage": True}, **params}
    return _observed(_complete(target, sent).objects_or_refused(), None)


def _complete(target: Target, params: Params) -> Any:
    plain = {"model": target.model, "prompt": START, "max_tokens": CAP, "temperature": 0}
    body = {**plain, **params}
    return target.post("/completions", {k: v for k, v in body.items() if v is not ...})


def _observed(parts: list[dict[str, Any]], key: str | None) -> Observation:
    """Join the parts of an answer; the key is where a choice has its message or delta."""
    found: dict[int, Observed] = {}
    usage: Mapping[str, Any] = {}
    indexes: list[int] = []
    for part in parts:
        usage = part.get("usage") or usage
        for entry in objects(part, "choices"):
            indexes.append(index := pick(entry, int, "index"))
            one = found.setdefault(index, Observed())
            said = pick(entry, dict, key) if key else {"content": entry.get("text")}
            one.reasoning += "".join(str(said[f]) for f in REASONING_FIELDS if said.get(f))
            one.content += pick(said.get("content") or "", str)
            for function in _functions(said):
                one.names += [str(function["name"])] if function.get("name") else []
                said_of = (str(function.get(k) or "") for k in ("name", "arguments"))
                one.calls += "".join("".join(said_of).split())  # white space in JSON is free
            one.finish_reason = entry.get("finish_reason") or one.finish_reason
            one.logprobs += [entry["logprobs"]] if entry.get("logprobs") else []
    expect(found, "the answer has no choices")
    return Observation([found[i] for i in sorted(found)], indexes, usage)


def _functions(said: Params) -> list[dict[str, Any]]:
    """The functions of the tool calls of a message, or of their fragments in a delta."""
    calls = objects(said, "tool_calls") if said.get("tool_calls") else []
    return [pick(call, dict, "function") for call in calls]
