"""The mock's model: requests, the words and tool calls of its answers, and answers as tokens.

Nothing here depends on a wire format. The model follows the few instructions that checks rely on,
and otherwise writes prose. Arguments of tools, and values for a schema, are made of words in the
conversation.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from zlib import crc32

from llmengine.mock.schema import SchemaError, check_schema, instance
from llmengine.mock.text import count, prose, tokenize, word

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def _header(role: str) -> tuple[str, str, str]:
    """The tokens of the chat template before a turn."""
    return "<|", role, "|>"


@dataclass(frozen=True, slots=True)
class MockTool:
    """A function that the model may call, with the JSON schema of its arguments."""

    name: str
    parameters: Mapping[str, Any]
    description: str = ""


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A request to the model with everything that changes its answer.

    ``schema`` is the JSON schema that the text must fit. With ``plain`` the text is not JSON but a
    string that must fit the schema. ``tool_choice`` is ``none``, ``auto`` or ``required``;
    with ``named`` it is the name of a tool. ``template`` says whether a chat template adds tokens
    of its own to the prompt. ``extra`` is anything else on which the answer depends.
    """

    turns: tuple[Turn, ...]
    temperature: float = 1.0
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    n: int = 1
    tools: tuple[MockTool, ...] = ()
    tool_choice: str = "auto"
    named: bool = False
    parallel: bool = True
    schema: Any = None
    plain: bool = False
    reasoning: bool = False
    logit_bias: Mapping[str, Any] = field(default_factory=dict)
    extra: str = ""
    template: bool = True

    @property
    def pieces(self) -> tuple[str, ...]:
        """The tokens of the conversation, of the tools and of the chat template."""
        if not self.template:
            return tuple(token for turn in self.turns for token in tokenize(turn.text))
        tools = (
            p for t in self.tools for s in (t.name, json.dumps(t.parameters)) for p in tokenize(s)
        )
        turns = (p for t in self.turns for p in (*_header(t.role), *tokenize(t.text)))
        return (*tools, *turns, *_header("assistant"))

    @property
    def prompt_tokens(self) -> int:
        """The number of tokens in the prompt."""
        return len(self.pieces)

    def fingerprint(self, index: int) -> str:
        """All that the answer depends on; seed and index count only above temperature 0."""
        chance = (self.seed, index) if self.temperature > 0 else ()
        turns = [(t.role, t.text) for t in self.turns]
        return json.dumps([turns, chance, self.logit_bias, self.extra])


_REPEAT = re.compile(r"\b(?:repeat|echo)\b[^:\n]{0,80}:\s*(.+)", re.IGNORECASE | re.DOTALL)
_SAY_WORD = re.compile(
    r"\b(?:answer|reply|respond|say|write)\b[^.:\n]{0,40}\bword\b[:\s]+[\"'`*]*([\w-]+)",
    re.IGNORECASE,
)
_COUNT = re.compile(r"\bcount (?:from )?(\d{1,4}) to (\d{1,4})", re.IGNORECASE)
_QUESTION = re.compile(r"\bwhat(?:'s| is| was) (?:my|the|your) ([\w ]{1,40}?)\s*\?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Turn:
    """One message, as text."""

    role: str
    text: str


def reply_to(turns: Sequence[Turn], seed: str) -> str:
    """The answer that a conversation asks for, or prose made with the seed."""
    return obeyed(turns) or prose(seed)


def obeyed(turns: Sequence[Turn]) -> str | None:
    """The answer that the instructions in the conversation dictate, or None if there are none."""
    orders = [t.text for t in turns if t.role in {"system", "developer"}]
    for order in reversed(orders):
        if said := _SAY_WORD.search(order):
            return said[1]
    if not turns:
        return None
    last = turns[-1]
    if last.role == "tool":
        return f"The tool answered: {last.text}"
    question = next((t.text for t in reversed(turns) if t.role == "user"), last.text)
    return _literal(question) or _remembered(question, turns)


def _literal(prompt: str) -> str | None:
    if said := _REPEAT.search(prompt) or _SAY_WORD.search(prompt):
        return said[1].strip()
    if span := _COUNT.search(prompt):
        return ", ".join(str(n) for n in range(int(span[1]), int(span[2]) + 1))
    return None


def _remembered(prompt: str, turns: Sequence[Turn]) -> str | None:
    asked = _QUESTION.search(prompt)
    if asked is None:
        return None
    told = re.compile(rf"\b{re.escape(asked[1])}\s+is\s+[\"'`*]*([^\s.,;!?\"'`*]+)", re.IGNORECASE)
    for turn in reversed(turns):
        if fact := told.search(turn.text):
            return f"The {asked[1]} is {fact[1]}."
    return None


_WORD = re.compile(r"[a-z]{3,}")
_QUOTED = re.compile(r"(?<!\w)[\"“'`]([^\"”'`\n]{1,80})[\"”'`](?!\w)")
_NAME = re.compile(r"(?<=[\w,;:] )([A-ZÀ-ÖØ-Þ][\w-]+)")
_FILLER = frozenset({"and", "for", "the", "get", "with", "from", "this", "that", "what", "all"})


def wanted_calls(ask: GenerationRequest, fingerprint: str) -> list[tuple[str, str]]:
    """Names and JSON arguments of the tool calls; empty if the answer is text."""
    words = hints(ask.turns)
    return [
        (tool.name, _arguments(tool, words[place:] + words[:place], fingerprint))
        for place, tool in enumerate(_chosen(ask))
    ]


def _chosen(ask: GenerationRequest) -> list[MockTool]:
    named = [t for t in ask.tools if ask.named and t.name == ask.tool_choice]
    if named or not ask.tools or ask.tool_choice == "none":
        return named[:1]
    prompt = _prompt(ask.turns)
    relevant = [t for t in ask.tools if _words(f"{t.name} {t.description}") & _words(prompt)]
    if not relevant and ask.tool_choice != "required":
        return []
    if ask.tool_choice != "required" and obeyed(ask.turns) is not None:
        return []
    chosen = relevant or list(ask.tools[:1])
    if not ask.parallel or " and " not in prompt:
        return chosen[:1]
    return chosen if len(chosen) > 1 else chosen * 2


def _prompt(turns: Sequence[Turn]) -> str:
    return next((t.text for t in reversed(turns) if t.role == "user"), "")


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower())) - _FILLER


def hints(turns: Sequence[Turn]) -> list[str]:
    """The texts that the prompt quotes, or the names in it; they become strings of an answer."""
    prompt = _prompt(turns)
    return _QUOTED.findall(prompt) or _NAME.findall(prompt)


def _arguments(tool: MockTool, words: Sequence[str], fingerprint: str) -> str:
    schema = {"type": "object", **tool.parameters}
    return _fitting(schema, words, fingerprint) or "{}"


def fitting_json(schema: Any, turns: Sequence[Turn], fingerprint: str) -> str | None:
    """JSON that fits the schema; None if the schema is invalid or no value fits it."""
    return _fitting(schema, hints(turns), fingerprint)


def _fitting(schema: Any, words: Sequence[str], fingerprint: str) -> str | None:
    try:
        check_schema(schema)
        value = instance(schema, words, seed=crc32(fingerprint.encode()))
    except SchemaError:
        return None
    return json.dumps(value, ensure_ascii=False)


_TOKENS_OF_ONE_FORCED_WORD = 32
_FORCING_BIAS = 100


@dataclass(frozen=True, slots=True)
class SaidCall:
    """One tool call; the arguments are JSON text, split into tokens."""

    name: str
    arguments: tuple[str, ...]

    @property
    def pieces(self) -> tuple[str, ...]:
        """The tokens of the whole call."""
        return (*tokenize(self.name), *self.arguments)


@dataclass(frozen=True, slots=True)
class Said:
    """One answer as tokens. ``finish`` is ``stop``, ``length`` or ``tool_calls``."""

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
        """All generated tokens, including reasoning and calls."""
        calls = (token for call in self.calls for token in call.pieces)
        return (*self.reasoning, *self.tokens, *calls)

    @property
    def completion_tokens(self) -> int:
        """The number of generated tokens."""
        return len(self.pieces)


def answer(ask: GenerationRequest, scripted: Any = None) -> list[Said]:
    """The ``n`` answers to a request; a scripted reply replaces the model's own."""
    return [_cut(_whole(ask, index, scripted), ask) for index in range(max(1, ask.n))]


def _whole(ask: GenerationRequest, index: int, scripted: Any) -> Said:
    if scripted is not None:
        return _from_script(scripted)
    fingerprint = ask.fingerprint(index)
    thought = tuple(tokenize(prose(f"think {fingerprint}"))) if ask.reasoning else ()
    if chosen := wanted_calls(ask, fingerprint):
        calls = tuple(SaidCall(name, tuple(tokenize(text))) for name, text in chosen)
        # OpenAI's finish reason is "stop" if the request named the tool.
        return Said(reasoning=thought, calls=calls, finish="stop" if ask.named else "tool_calls")
    return Said(tokens=tuple(tokenize(_text(ask, fingerprint))), reasoning=thought)


def _text(ask: GenerationRequest, fingerprint: str) -> str:
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


def _cut(said: Said, ask: GenerationRequest) -> Said:
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
