"""The mock's model: requests, and the text and tool calls that it answers, as tokens.

Nothing here depends on a wire format. The model follows the few instructions on which checks of the
contract rely, and otherwise writes prose. Arguments of tools and values for a schema are made of
words in the conversation.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from itertools import accumulate, takewhile
from typing import TYPE_CHECKING
from zlib import crc32

from llmengine.mock.schema import (
    SchemaError,
    check_schema,
    fits,
    in_schema_order,
    instance,
    schema_in,
)
from llmengine.mock.text import SENTENCES, count, prose, tokenize, word

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llmengine.mock.json_fields import Body
    from llmengine.mock.script import MockReply, ScriptedToken


@dataclass(frozen=True, slots=True)
class Turn:
    """One message, as text."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class MockTool:
    """A tool that the model may call, with the JSON schema of its arguments.

    The arguments of a ``strict`` tool fit the schema in every case. The input of a ``custom`` tool
    is a text, for which ``parameters`` is a schema too.
    """

    name: str
    parameters: Body
    description: str = ""
    strict: bool = False
    custom: bool = False

    @property
    def texts(self) -> tuple[str, ...]:
        """What the prompt says of the tool."""
        return self.name, self.description, json.dumps(self.parameters)


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A request to the model, with everything that changes its answer.

    ``schema`` is the JSON schema that the text must fit; if it is not ``strict``, JSON that the
    conversation dictates need not fit it. With ``plain`` the text is not JSON but a string that
    must fit the schema. ``tool_choice`` is ``none``, ``auto`` or ``required``, or, with
    ``named``, the name of a tool; only the ``allowed`` tools are called, or all if it is None.
    ``reasoning`` and ``sentences`` are the lengths of the reasoning and of prose, in sentences.
    ``template`` says whether a chat template adds tokens of its own to the prompt. ``extra`` is
    anything else on which the answer depends.
    """

    turns: tuple[Turn, ...]
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    n: int = 1
    tools: tuple[MockTool, ...] = ()
    tool_choice: str = "auto"
    named: bool = False
    parallel: bool = True
    allowed: tuple[str, ...] | None = None
    schema: object = None
    strict: bool = True
    plain: bool = False
    reasoning: int = 0
    sentences: int = SENTENCES
    logit_bias: Body = field(default_factory=dict)
    extra: str = ""
    template: bool = True

    @property
    def pieces(self) -> tuple[str, ...]:
        """The tokens of the conversation, of the tools and of the chat template."""
        if not self.template:
            return tuple(token for turn in self.turns for token in tokenize(turn.text))
        tools = (p for t in self.tools for s in t.texts for p in tokenize(s))
        turns = (p for t in self.turns for p in (*_header(t.role), *tokenize(t.text)))
        return (*tools, *turns, *_header("assistant"))

    @property
    def prompt_tokens(self) -> int:
        """The number of tokens in the prompt."""
        return len(self.pieces)

    def fingerprint(self, index: int) -> str:
        """All that the answer depends on; seed and index count only if it depends on chance."""
        by_chance = self.temperature > _COLD and self.top_p > _TOP_TOKEN_ALONE
        chance = (self.seed, index) if by_chance else ()
        turns = [(t.role, t.text) for t in self.turns]
        return json.dumps([turns, chance, self.logit_bias, self.extra])


_COLD = 0.05  # a temperature that leaves only the most likely token
_TOP_TOKEN_ALONE = 0.01  # a top_p that leaves only the most likely token


def _header(role: str) -> tuple[str, str, str]:
    """The tokens of the chat template before a turn."""
    return "<|", role, "|>"


@dataclass(frozen=True, slots=True)
class GeneratedToolCall:
    """One tool call; the arguments are JSON text, or the input of a custom tool, as tokens."""

    name: str
    arguments: tuple[str, ...]
    custom: bool = False

    @property
    def pieces(self) -> tuple[str, ...]:
        """The tokens of the whole call."""
        return (*tokenize(self.name), *self.arguments)


@dataclass(frozen=True, slots=True)
class GeneratedAnswer:
    """One answer as tokens. ``finish`` is ``stop``, ``length`` or ``tool_calls``, or scripted.

    ``stopped_by`` is the stop sequence that ended the answer, if one did. ``usage`` are the counts
    of tokens that are scripted, and ``logprobs`` the tokens with scripted log-probabilities.
    """

    tokens: tuple[str, ...] = ()
    reasoning: tuple[str, ...] = ()
    calls: tuple[GeneratedToolCall, ...] = ()
    refusal: str | None = None
    finish: str = "stop"
    stopped_by: str | None = None
    usage: Mapping[str, int] = field(default_factory=dict)
    logprobs: tuple[ScriptedToken, ...] = ()

    @property
    def text(self) -> str:
        """The answer's text."""
        return "".join(self.tokens)

    @property
    def pieces(self) -> tuple[str, ...]:
        """All generated tokens, including those of the reasoning and of the calls."""
        calls = (token for call in self.calls for token in call.pieces)
        return (*self.reasoning, *self.tokens, *calls)

    @property
    def completion_tokens(self) -> int:
        """The number of generated tokens."""
        return len(self.pieces)

    @property
    def has_content(self) -> bool:
        """Whether the answer has a text, even an empty one, besides tool calls or a refusal."""
        return self.refusal is None and (bool(self.tokens) or not self.calls)


def generate(
    request: GenerationRequest, scripted: MockReply | None = None
) -> list[GeneratedAnswer]:
    """The ``n`` answers to a request; a scripted reply replaces the model's own."""
    if scripted is None:
        own = (_answer(request, index) for index in range(max(1, request.n)))
        return [_limited(answer, request) for answer in own]
    answer = _limited(_scripted(scripted), request)
    if scripted.finish_reason is not None:
        answer = replace(answer, finish=scripted.finish_reason)
    return [answer] * max(1, request.n)


_FORCING_BIAS = 100
_TOKENS_OF_A_FORCED_WORD = 32


def _answer(request: GenerationRequest, index: int) -> GeneratedAnswer:
    fingerprint = request.fingerprint(index)
    thought = tuple(tokenize(prose(f"think {fingerprint}", request.reasoning)))
    if tools := _called_tools(request):
        calls = _tool_calls(tools, request, fingerprint)
        # OpenAI's finish reason is "stop" if the request named the tool.
        finish = "stop" if request.named else "tool_calls"
        return GeneratedAnswer(reasoning=thought, calls=calls, finish=finish)
    return GeneratedAnswer(tokens=tuple(tokenize(_text(request, fingerprint))), reasoning=thought)


def _text(request: GenerationRequest, fingerprint: str) -> str:
    if request.schema is not None:
        fitting = _dictated_json(request)
        if fitting is None:
            fitting = _fitting_json(request.schema, _hints(request.turns), fingerprint)
        if fitting is not None:
            value = json.loads(fitting) if request.plain else None
            return value if isinstance(value, str) else fitting
    instructed = _instructed_answer(request.turns)
    forced = [k for k, v in request.logit_bias.items() if v == _FORCING_BIAS and k.isdecimal()]
    if forced and instructed is None:
        return " ".join([word(int(forced[0]))] * _TOKENS_OF_A_FORCED_WORD)
    return instructed or prose(fingerprint, request.sentences)


def _scripted(reply: MockReply) -> GeneratedAnswer:
    calls = tuple(
        GeneratedToolCall(call.name, tuple(tokenize(call.arguments)), call.custom)
        for call in reply.calls
    )
    return GeneratedAnswer(
        tokens=reply.pieces,
        reasoning=tuple(tokenize(reply.reasoning)),
        calls=calls,
        refusal=reply.refusal,
        finish="tool_calls" if calls else "stop",
        usage=reply.usage or {},
        logprobs=reply.tokens,
    )


def _limited(answer: GeneratedAnswer, request: GenerationRequest) -> GeneratedAnswer:
    """The answer up to the token limit and the first stop sequence."""
    if request.max_tokens is not None:
        answer = _up_to(request.max_tokens, answer)
    stops = [(found, s) for s in request.stop if s and (found := answer.text.find(s)) >= 0]
    if not stops:
        return answer
    end, sequence = min(stops)
    return replace(
        answer, tokens=_first(end, answer.tokens), calls=(), finish="stop", stopped_by=sequence
    )


def _first(length: int, tokens: Sequence[str]) -> tuple[str, ...]:
    """The tokens of the first so many characters; the last one may be cut."""
    starts = accumulate(map(len, tokens), initial=0)
    cut = (token[: max(0, length - start)] for token, start in zip(tokens, starts, strict=False))
    return tuple(takewhile(bool, cut))


def _up_to(limit: int, answer: GeneratedAnswer) -> GeneratedAnswer:
    if answer.completion_tokens < limit:
        return answer
    reasoning = answer.reasoning[:limit]
    limit -= len(reasoning)
    tokens = answer.tokens[:limit]
    limit -= len(tokens)
    calls = []
    for call in answer.calls:
        limit -= count(call.name)
        if limit <= 0:
            break
        calls.append(replace(call, arguments=call.arguments[:limit]))
        limit -= len(calls[-1].arguments)
    return replace(answer, reasoning=reasoning, tokens=tokens, calls=tuple(calls), finish="length")


# ---- instructions in the conversation

_REPEAT = re.compile(r"\b(?:repeat|echo)\b[^:\n]{0,80}:\s*(.+)", re.IGNORECASE | re.DOTALL)
_SAY_WORD = re.compile(
    r"\b(?:answer|reply|respond|say|write)\b[^.:\n]{0,40}\bword\b[:\s]+[\"'`*]*([\w-]+)",
    re.IGNORECASE,
)
_COUNT = re.compile(r"\bcount (?:from )?(\d{1,4}) to (\d{1,4})", re.IGNORECASE)
_QUESTION = re.compile(r"\bwhat(?:'s| is| was) (?:my|the|your) ([\w ]{1,40}?)\s*\?", re.IGNORECASE)


def _instructed_answer(turns: Sequence[Turn]) -> str | None:
    """The answer that the instructions in the conversation dictate; None if there are none."""
    for turn in reversed(turns):
        if turn.role in {"system", "developer"} and (match := _SAY_WORD.search(turn.text)):
            return match[1]
    if not turns:
        return None
    last = turns[-1]
    if last.role == "tool":
        return f"The tool answered: {last.text}"
    prompt = next((t.text for t in reversed(turns) if t.role == "user"), last.text)
    return _dictated(prompt) or _recalled(prompt, turns)


def _dictated(prompt: str) -> str | None:
    if match := _REPEAT.search(prompt) or _SAY_WORD.search(prompt):
        return match[1].strip()
    if match := _COUNT.search(prompt):
        return ", ".join(str(n) for n in range(int(match[1]), int(match[2]) + 1))
    return None


def _recalled(prompt: str, turns: Sequence[Turn]) -> str | None:
    """The answer to a question such as "What is my name?", from an earlier turn."""
    question = _QUESTION.search(prompt)
    if question is None:
        return None
    subject = question[1]
    statement = re.compile(
        rf"\b{re.escape(subject)}\s+is\s+[\"'`*]*([^\s.,;!?\"'`*]+)", re.IGNORECASE
    )
    for turn in reversed(turns):
        if fact := statement.search(turn.text):
            return f"The {subject} is {fact[1]}."
    return None


# ---- tool calls, and JSON that fits a schema

_WORD = re.compile(r"[a-z]{3,}")
_QUOTED = re.compile(r"(?<!\w)[\"“'`]([^\"”'`\n]{1,80})[\"”'`](?!\w)")
_NAME = re.compile(r"(?<=[\w,;:] )([A-ZÀ-ÖØ-Þ][\w-]+)")
_NUMBER = re.compile(r"(?<![\w.,/:-])-?\d{1,15}(?:\.\d{1,9})?(?![\w/:-]|[.,]\d)")
_FILLER = frozenset({"and", "for", "the", "get", "with", "from", "this", "that", "what", "all"})


def _called_tools(request: GenerationRequest) -> list[MockTool]:
    """The tools to call, in order; empty if the answer is text."""
    named = [t for t in request.tools if request.named and t.name == request.tool_choice]
    allowed = [t for t in request.tools if request.allowed is None or t.name in request.allowed]
    if named or not allowed or request.tool_choice == "none":
        return named[:1]
    prompt = _last_prompt(request.turns)
    relevant = [t for t in allowed if _words(f"{t.name} {t.description}") & _words(prompt)]
    if not relevant and request.tool_choice != "required":
        return []
    if request.tool_choice != "required" and _instructed_answer(request.turns) is not None:
        return []
    tools = relevant or allowed[:1]
    if not request.parallel or " and " not in prompt:
        return tools[:1]
    return tools if len(tools) > 1 else tools * 2


def _tool_calls(
    tools: Sequence[MockTool], request: GenerationRequest, fingerprint: str
) -> tuple[GeneratedToolCall, ...]:
    hints = _hints(request.turns)
    numbers = _numbers(request.turns)
    calls = []
    for index, tool in enumerate(tools):
        # Each call starts with another hint and number, so that the calls differ.
        words = hints[index:] + hints[:index]
        amounts = numbers[index:] + numbers[:index]
        arguments = _arguments(tool, request, words, amounts, fingerprint)
        calls.append(GeneratedToolCall(tool.name, tuple(tokenize(arguments)), tool.custom))
    return tuple(calls)


_ARGUMENTS = re.compile(r"\bwith (?:the|these) arguments:?\s*(\{.*\})", re.DOTALL)


def _arguments(
    tool: MockTool,
    request: GenerationRequest,
    hints: Sequence[str],
    numbers: Sequence[float],
    fingerprint: str,
) -> str:
    """The arguments that the prompt dictates, if the tool allows them; else made of its words."""
    if tool.custom:
        made = _fitting_json({"type": "string", **tool.parameters}, hints, fingerprint)
        return str(json.loads(made)) if made else ""
    schema = {"type": "object", **tool.parameters}
    dictated = _ARGUMENTS.search(_last_prompt(request.turns))
    if dictated and _may_be_called_with(dictated[1], schema, strict=tool.strict):
        return dictated[1]
    return _fitting_json(schema, hints, fingerprint, numbers) or "{}"


def _may_be_called_with(arguments: str, schema: Body, *, strict: bool) -> bool:
    """Whether the text is JSON, which has to fit the schema of a strict tool."""
    from jsonschema.validators import Draft202012Validator  # noqa: PLC0415 - used by few answers

    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        return False
    return not strict or Draft202012Validator(schema).is_valid(value)


def _last_prompt(turns: Sequence[Turn]) -> str:
    return next((t.text for t in reversed(turns) if t.role == "user"), "")


def _words(sentence: str) -> set[str]:
    return set(_WORD.findall(sentence.lower())) - _FILLER


def _hints(turns: Sequence[Turn]) -> list[str]:
    """The texts that the prompt quotes, or else the names in it; an answer's strings use them."""
    _, prompt = schema_in(_last_prompt(turns))
    return _QUOTED.findall(prompt) or _NAME.findall(prompt)


def _numbers(turns: Sequence[Turn]) -> list[float]:
    """The numbers in the prompt, which become arguments of tools."""
    found = _NUMBER.findall(_last_prompt(turns))
    return [float(number) if "." in number else int(number) for number in found]


def _dictated_json(request: GenerationRequest) -> str | None:
    """The JSON that the conversation dictates, if it fits the schema or need not fit it."""
    try:
        value = json.loads(_instructed_answer(request.turns) or "")
        check_schema(request.schema)
        if fits(request.schema, value):
            value = in_schema_order(request.schema, value)
        elif request.strict:
            return None
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError):  # SchemaError is a ValueError
        return None


def _fitting_json(
    schema: object, words: Sequence[str], fingerprint: str, numbers: Sequence[float] = ()
) -> str | None:
    """JSON that fits the schema; None if the schema is invalid or no value fits it."""
    try:
        check_schema(schema)
        value = instance(schema, words, crc32(fingerprint.encode()), numbers)
    except SchemaError:
        return None
    return json.dumps(value, ensure_ascii=False)
