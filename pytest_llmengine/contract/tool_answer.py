"""Answers with tool calls, whole or streamed, and how many of their calls are wrong."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from jsonschema.validators import Draft202012Validator

from pytest_llmengine.contract.assertions import (
    CALL_MARKUP,
    REASONING_FIELDS,
    choice,
    chunks_of,
    content,
    deltas,
    finish_reasons,
    fragments,
    need_text,
    pick,
    text,
    tool_calls,
)
from pytest_llmengine.contract.facts import (
    CALL_LOST,
    MARKUP,
    PARALLEL_DROPPED,
    STRICT_DROPPED,
    TEXT_BEFORE_CALL,
)
from pytest_llmengine.contract.outcomes import (
    Ignored,
    Unmeasured,
    expect,
    expect_effect,
    fail,
    quote,
)
from pytest_llmengine.contract.samples import CALL_TOKENS, JSON

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_llmengine.contract.reply import Reply
    from pytest_llmengine.contract.target import Target


_CALL_IN_TEXT = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class CalledFunction:
    """One call: the name of the function, and its arguments as text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolAnswer:
    """The calls, the text and the finish reason of an answer, whole or joined from a stream."""

    calls: tuple[CalledFunction, ...]
    text: str
    finish: str | None
    prompt_tokens: int | None
    reasons: bool

    @property
    def names(self) -> list[str]:
        """The names of the functions that are called."""
        return [call.name for call in self.calls]

    @property
    def meaning(self) -> tuple[object, ...]:
        """What has to be the same when the request is streamed: all but the ids."""
        return [(c.name, _value(c.arguments)) for c in self.calls], self.text, self.finish

    @property
    def is_cut(self) -> bool:
        """Whether the token cap ended the answer."""
        return self.finish == "length"

    @property
    def arguments(self) -> Any:
        """The arguments of the first call; unmeasured without a call, and fails without JSON."""
        self.expect_call()
        value = _value(self.calls[0].arguments)
        if self.is_cut and value == self.calls[0].arguments:
            raise Unmeasured(f"the token cap cut a tool call: {quote(value)}")
        expect(
            value != self.calls[0].arguments,
            f"the arguments are not JSON: {quote(value)}",
            fact=f"calls have {INVALID_JSON}",
        )
        return value

    @property
    def has_broken_call(self) -> bool:
        """Whether the text holds a call that is not JSON, which no server can read."""
        return any(_value(call) == call for call in _CALL_IN_TEXT.findall(self.text))

    def expect_call(self) -> None:
        """End the check as unmeasured if there is no call to look at; fail if it was lost."""
        self.expect_no_lost_call()
        if not self.calls:
            raise Unmeasured(f"no tool call to look at; the model said {quote(self.text)}")

    def expect_no_lost_call(self) -> None:
        """Fail if the finish reason says that a tool is called, and there is no call."""
        expect(
            self.calls or self.finish != "tool_calls",
            f"the finish reason is tool_calls, and there is no call: {quote(self.text)}",
            fact=CALL_LOST,
        )

    def expect_no_markup(self) -> None:
        """Fail if the text holds the markup that the model writes around a call."""
        expect_no_markup(self.text, is_cut=self.is_cut)


def ask(
    target: Target, prompt: str | list[JSON], *tools: JSON, stream: bool = False, **params: Any
) -> ToolAnswer:
    """Ask with tools; refused after a clear refusal, unmeasured if only reasoning came."""
    wanted: JSON = {"tools": list(tools), "max_tokens": CALL_TOKENS, **params}
    if stream:
        wanted |= {"stream": True, "stream_options": {"include_usage": True}}
    reply = target.chat(prompt, **wanted)
    answer = _streamed(reply) if stream else _whole(reply.success_or_refused())
    if answer.is_cut and answer.reasons and not answer.text and not answer.calls:
        raise Unmeasured("the model was still reasoning when the token cap came")
    return answer


def ask_for_call(target: Target, prompt: str, tool: JSON) -> ToolAnswer:
    """An answer with a required call; unmeasured if there is none."""
    answer = ask(target, prompt, tool, tool_choice="required")
    answer.expect_call()
    return answer


def expect_no_markup(text: str, *, is_cut: bool) -> None:
    """Fail if a text holds the markup of a call; unmeasured if the token cap cut the call."""
    leaked = [marker for marker in CALL_MARKUP if marker in text]
    if leaked and is_cut:
        raise Unmeasured(f"the token cap cut a tool call: {quote(text)}")
    expect(not leaked, f"the markup of a call is in the text: {quote(text)}", fact=MARKUP)


def reaches_limit(body: JSON, limit: int) -> bool:
    """Whether the usage of a response or a message counts as many output tokens as the limit.

    Some servers say of an answer that the limit has cut that it ended by itself.
    """
    usage = body.get("usage")
    given = usage.get("output_tokens") if isinstance(usage, dict) else None
    return isinstance(given, int) and given >= limit


def judge_missing_call(what: str, text: str, *, is_cut: bool, fact: str) -> NoReturn:
    """Judge an answer without a call, though tool_choice asks for one.

    It fails if the token cap ended the text, since a call that is required comes before any text.
    It ends as ignored, for this cause, after a whole text, and as unmeasured without a text.
    """
    if is_cut:
        expect_no_markup(text, is_cut=True)
    need_text(text)
    if is_cut:
        fail(
            f"{what} was accepted, and text came instead of a call until the token cap: "
            f"{quote(text)}",
            fact=TEXT_BEFORE_CALL,
        )
    raise Ignored(f"{what} was accepted, and a text came: {quote(text)}", fact=fact)


_PARALLEL_TRIES = 8
_PARALLEL_SHOWN = 2


class ParallelRequest(Protocol):
    """Sends the request of one attempt, and returns the names of the functions that are called."""

    def __call__(self, attempt: int, *, parallel: bool) -> list[str]:
        """Send it with parallel calls allowed or not."""


def expect_one_call(names: ParallelRequest) -> None:
    """Expect one call without parallel calls, in attempts where several come with them.

    Attempts differ by their chance, since a model may make one call in the likeliest answer. The
    check ends as unmeasured if none of them has several calls.
    """
    made: list[int] = []
    shown = 0
    while shown < _PARALLEL_SHOWN and len(made) < _PARALLEL_TRIES:
        attempt = len(made)
        made.append(len(names(attempt, parallel=True)))
        if made[-1] < 2:
            continue
        one = names(attempt, parallel=False)
        expect_effect(
            len(one) < 2,
            f"parallel_tool_calls false was accepted and {one} were called",
            fact=PARALLEL_DROPPED,
        )
        shown += 1
    if not shown:
        raise Unmeasured(f"this model cannot show it: its answers have {made} calls, and not two")


def seeded(attempt: int) -> JSON:
    """The seed and the temperature of an attempt; the first one has the likeliest answer."""
    return {"seed": attempt, "temperature": min(attempt, 1)}


def _whole(body: JSON) -> ToolAnswer:
    calls = [_call(call) for call in tool_calls(body)]
    message = pick(body, dict, "choices", 0, "message")
    return ToolAnswer(
        tuple(calls),
        content(body),
        choice(body).get("finish_reason"),
        _prompt_tokens([body]),
        _reasons([message]),
    )


def _call(call: JSON) -> CalledFunction:
    name, arguments = (pick(call, str, "function", key) for key in ("name", "arguments"))
    return CalledFunction(str(call.get("id") or ""), name, arguments)


_EMPTY = {"name": "", "arguments": ""}


def _streamed(reply: Reply) -> ToolAnswer:
    chunks = chunks_of(reply)
    joined: dict[int, JSON] = {}
    for fragment in fragments(chunks):
        call = joined.setdefault(pick(fragment, int, "index"), {"function": dict(_EMPTY)})
        call["id"] = call.get("id") or fragment.get("id")
        for key in _EMPTY:
            part = (fragment.get("function") or {}).get(key) or ""
            call["function"][key] += pick({key: part}, str, key)
    calls = [_call(joined[index]) for index in sorted(joined)]
    ends = finish_reasons(chunks)
    return ToolAnswer(
        tuple(calls),
        text(chunks),
        ends[-1] if ends else None,
        _prompt_tokens(chunks),
        _reasons(deltas(chunks)),
    )


def _prompt_tokens(parts: Iterable[JSON]) -> int | None:
    found = [p["usage"].get("prompt_tokens") for p in parts if isinstance(p.get("usage"), dict)]
    return found[-1] if found and isinstance(found[-1], int) else None


def _reasons(parts: Iterable[JSON]) -> bool:
    return any(part.get(name) for part in parts for name in REASONING_FIELDS)


def _value(arguments: str) -> object:
    """The arguments as JSON, so that spaces between them do not count; the text if they are not."""
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments


# ---- counting

INVALID_JSON = "invalid JSON"
UNKNOWN_NAME = "unknown name"
WRONG_SCHEMA = "schema mismatch"
ALL_CLASSES = (INVALID_JSON, UNKNOWN_NAME, WRONG_SCHEMA)


def fault_of(call: CalledFunction, tools: Sequence[JSON]) -> str:
    """The class of what is wrong with a call; "" if nothing is."""
    try:
        value = json.loads(call.arguments)
    except (ValueError, RecursionError):
        return INVALID_JSON
    schemas = [t["function"]["parameters"] for t in tools if t["function"]["name"] == call.name]
    if not schemas:
        return UNKNOWN_NAME
    return "" if Draft202012Validator(schemas[0]).is_valid(value) else WRONG_SCHEMA


@dataclass(frozen=True, slots=True)
class CallCount:
    """How many calls came, and how many of them are wrong, by class."""

    calls: int
    wrong: Counter[str]
    example: str

    @classmethod
    def of(cls, answers: Iterable[ToolAnswer], tools: Sequence[JSON]) -> CallCount:
        """Count the calls of these answers, but for one that the token cap may have cut."""
        calls = [call for a in answers for call in (a.calls[:-1] if a.is_cut else a.calls)]
        faults = [(fault_of(call, tools), call) for call in calls]
        bad = [f"{call.name}({call.arguments})" for fault, call in faults if fault]
        return cls(len(calls), Counter(f for f, _ in faults if f), bad[0] if bad else "")

    def rate(self, name: str) -> str:
        """The number of calls of a class with its interval, such as "0 of 10 calls (0% to 28%)"."""
        wrong = self.wrong[name]
        low, high = wilson(wrong, self.calls)
        return f"{wrong} of {self.calls} calls ({low:.0%} to {high:.0%})"

    def expect_none(self, promised: Sequence[str], *, at_least: int) -> str:
        """Expect no wrong call of the promised classes; return the counts.

        A schema that a strict tool does not keep was ignored; the other classes are failures.
        Unmeasured if fewer than `at_least` calls came.
        """
        if self.calls < at_least:
            raise Unmeasured(f"{self.calls} whole calls came, and at least {at_least} are needed")
        for name in promised:
            reason = f"{name} in {self.rate(name)}, such as {quote(self.example)}"
            if name == WRONG_SCHEMA:
                expect_effect(
                    not self.wrong[name], f"strict was accepted: {reason}", fact=STRICT_DROPPED
                )
            elif self.wrong[name]:
                fail(reason, fact=f"calls have {name}")
        return "; ".join(f"{name} in {self.rate(name)}" for name in ALL_CLASSES)


_Z = 1.96  # of a normal distribution, for 95%


def wilson(hits: int, total: int) -> tuple[float, float]:
    """The 95% confidence interval of a rate after `hits` of `total`, by Wilson's formula."""
    if not total:
        return 0.0, 1.0
    rate, spread = hits / total, _Z * _Z / total
    middle = rate + spread / 2
    half = _Z * sqrt(rate * (1 - rate) / total + spread / (4 * total))
    low, high = (middle - half) / (1 + spread), (middle + half) / (1 + spread)
    return max(0.0, low), min(1.0, high)
