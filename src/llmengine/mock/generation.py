"""Answers in tokens, free of any wire format."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from llmengine.mock.answers import obeyed, reply_to
from llmengine.mock.calls import fitting_json, wanted_calls
from llmengine.mock.text import count, prose, tokenize, word

if TYPE_CHECKING:
    from llmengine.mock.ask import Ask

_TOKENS_OF_ONE_FORCED_WORD = 32
_FORCING_BIAS = 100


@dataclass(frozen=True, slots=True)
class SaidCall:
    """One tool call; the arguments' JSON text comes in tokens."""

    name: str
    arguments: tuple[str, ...]

    @property
    def pieces(self) -> tuple[str, ...]:
        """The tokens of the whole call."""
        return (*tokenize(self.name), *self.arguments)


@dataclass(frozen=True, slots=True)
class Said:
    """One answer in tokens. ``finish`` is ``stop``, ``length`` or ``tool_calls``."""

    tokens: tuple[str, ...] = ()
    reasoning: tuple[str, ...] = ()
    calls: tuple[SaidCall, ...] = ()
    refusal: str | None = None
    finish: str = "stop"

    @property
    def text(self) -> str:
        """The answer's text."""
        return "".join(self.tokens)

    @property
    def pieces(self) -> tuple[str, ...]:
        """Every token that was generated, reasoning and calls included."""
        calls = (token for call in self.calls for token in call.pieces)
        return (*self.reasoning, *self.tokens, *calls)

    @property
    def completion_tokens(self) -> int:
        """How many tokens were generated."""
        return len(self.pieces)


def answer(ask: Ask, scripted: Any = None) -> list[Said]:
    """The ``n`` answers to a question; a scripted one takes the place of what would be said."""
    return [_cut(_whole(ask, index, scripted), ask) for index in range(max(1, ask.n))]


def _whole(ask: Ask, index: int, scripted: Any) -> Said:
    if scripted is not None:
        return _from_script(scripted)
    fingerprint = ask.fingerprint(index)
    thought = tuple(tokenize(prose(f"think {fingerprint}"))) if ask.reasoning else ()
    if chosen := wanted_calls(ask, fingerprint):
        calls = tuple(SaidCall(name, tuple(tokenize(text))) for name, text in chosen)
        # OpenAI says "stop" where the request named the tool: the model had no choice to report.
        return Said(reasoning=thought, calls=calls, finish="stop" if ask.named else "tool_calls")
    return Said(tokens=tuple(tokenize(_text(ask, fingerprint))), reasoning=thought)


def _text(ask: Ask, fingerprint: str) -> str:
    if ask.schema is not None and (fitting := fitting_json(ask.schema, ask.turns, fingerprint)):
        value = json.loads(fitting) if ask.plain else None
        return value if isinstance(value, str) else fitting
    forced = [k for k, v in ask.logit_bias.items() if v == _FORCING_BIAS and k.isdecimal()]
    if forced and obeyed(ask.turns) is None:
        return " ".join([word(int(forced[0]))] * _TOKENS_OF_ONE_FORCED_WORD)
    return reply_to(ask.turns, fingerprint)


_SCRIPT_KEYS = frozenset(
    {"role", "content", "refusal", "reasoning", "reasoning_content", "tool_calls"}
)


def _from_script(scripted: Any) -> Said:
    if isinstance(scripted, str):
        return Said(tokens=tuple(tokenize(scripted)))
    if unknown := scripted.keys() - _SCRIPT_KEYS:
        known = ", ".join(sorted(_SCRIPT_KEYS))
        raise ValueError(f"a scripted message has {known}, but not {', '.join(sorted(unknown))}")
    thought = scripted.get("reasoning") or scripted.get("reasoning_content") or ""
    functions = [c["function"] for c in scripted.get("tool_calls") or ()]
    calls = tuple(SaidCall(f["name"], tuple(tokenize(f["arguments"]))) for f in functions)
    return Said(
        tokens=tuple(tokenize(scripted.get("content") or "")),
        reasoning=tuple(tokenize(thought)),
        calls=calls,
        refusal=scripted.get("refusal"),
        finish="tool_calls" if calls else "stop",
    )


def _cut(said: Said, ask: Ask) -> Said:
    """The answer up to the token limit and the first stop sequence."""
    capped = said if ask.max_tokens is None else _capped(said, ask.max_tokens)
    places = [p for s in ask.stop if s and (p := capped.text.find(s)) >= 0]
    if not places:
        return capped
    kept = tuple(tokenize(capped.text[: min(places)]))
    return replace(capped, tokens=kept, calls=(), finish="stop")


def _capped(said: Said, limit: int) -> Said:
    if said.completion_tokens < limit:
        return said
    reasoning = said.reasoning[:limit]
    limit -= len(reasoning)
    tokens = said.tokens[:limit]
    limit -= len(tokens)
    calls = []
    for call in said.calls:
        limit -= count(call.name)
        if limit <= 0:
            break
        calls.append(replace(call, arguments=call.arguments[:limit]))
        limit -= len(calls[-1].arguments)
    return replace(said, reasoning=reasoning, tokens=tokens, calls=tuple(calls), finish="length")
