"""Translates the request bodies of every API of the mock to requests for its model.

The bodies of the responses API and of Ollama's own API are first translated to those of chat
completions. These functions accept any JSON, because validation rules may be switched off.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmengine.mock.json_fields import Body, integer, items, mapping, number, strings, text
from llmengine.mock.model import GenerationRequest, MockTool, Turn
from llmengine.mock.schema import schema_in
from llmengine.mock.text import SENTENCES, word

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmengine.mock.behaviour import JSON
    from llmengine.types.wire import JSONSchemaFormat, SystemMessage, UserMessage


_MAX_CHOICES = 128


def token_limit(value: object) -> int | None:
    """A token limit; None, for no limit, if the value is not a positive number."""
    limit = integer(value)
    return limit if limit is not None and limit > 0 else None


def choice_count(value: object) -> int:
    """The number of answers; a number out of range is replaced by the nearest valid one."""
    return min(max(integer(value) or 1, 1), _MAX_CHOICES)


# ---- chat completions

# The number of sentences of reasoning for each effort, and of prose for each verbosity.
_REASONING = {"low": 2, "medium": 4, "high": 6, "xhigh": 8, "max": 10}
_PROSE = {"low": 2, "high": 6}


def chat_request(body: Body) -> GenerationRequest:
    """The request in the body of a chat completion."""
    choice = body.get("tool_choice")
    allowed = mapping(mapping(choice).get("allowed_tools"))
    named = tool_name(choice)
    limit = integer(body.get("max_completion_tokens"))
    response_format = mapping(body.get("response_format"))
    constraint = mapping(body.get("structured_outputs"))
    turns = _chat_turns(body.get("messages"))
    schema = _response_format_schema(response_format) or constraint_schema(constraint)
    if schema is ANY_OBJECT:
        schema = _schema_in(turns) or ANY_OBJECT
    return GenerationRequest(
        turns=turns,
        temperature=number(body.get("temperature"), 1.0),
        top_p=number(body.get("top_p"), 1.0),
        seed=integer(body.get("seed")),
        max_tokens=token_limit(limit if limit is not None else body.get("max_tokens")),
        stop=strings(body.get("stop")),
        n=choice_count(body.get("n")),
        tools=_chat_tools(body.get("tools")),
        tool_choice=named or text(choice) or text(allowed.get("mode")) or "auto",
        named=bool(named),
        parallel=body.get("parallel_tool_calls") is not False,
        allowed=tuple(tool_name(t) for t in items(allowed.get("tools"))) if allowed else None,
        schema=schema,
        strict=_is_strict(response_format),
        plain=bool(constraint) and not constraint.keys() & {"json", "json_object"},
        reasoning=_REASONING.get(text(body.get("reasoning_effort")), 0),
        sentences=_PROSE.get(text(body.get("verbosity")), SENTENCES),
        logit_bias=mapping(body.get("logit_bias")),
        extra=_penalties(body),
    )


def _schema_in(turns: Sequence[Turn]) -> object:
    """The last schema in the prompts, which JSON mode follows; None if there is none."""
    prompts = (turn.text for turn in reversed(turns) if turn.role != "assistant")
    return next((schema for prompt in prompts if (schema := schema_in(prompt)[0])), None)


def _penalties(body: Body) -> str:
    """The penalties that are not 0, as a text on which the answer depends."""
    values = {k: number(body.get(k), 0.0) for k in ("frequency_penalty", "presence_penalty")}
    return "".join(f" {name} {value}" for name, value in values.items() if value)


def _chat_turns(messages: object) -> tuple[Turn, ...]:
    found = (m for m in items(messages) if isinstance(m, dict))
    return tuple(Turn(text(m.get("role")), _message_text(m)) for m in found)


def _message_text(message: Body) -> str:
    calls = (_call_text(mapping(c)) for c in items(message.get("tool_calls")))
    said = (_content_text(message.get("content")), text(message.get("refusal")), *calls)
    return "\n".join(t for t in said if t)


def _call_text(call: Body) -> str:
    function, custom = mapping(call.get("function")), mapping(call.get("custom"))
    value = function.get("arguments") if function else custom.get("input")
    return f"{tool_name(call)}({value if isinstance(value, str) else json.dumps(value)})"


def _content_text(content: object) -> str:
    """A message's content as one text: the string, or the texts of its parts joined."""
    if isinstance(content, str):
        return content
    parts = [mapping(part) for part in items(content)]
    return "".join(text(part.get("text")) or text(part.get("refusal")) for part in parts)


def tool_name(value: object) -> str:
    """The name in a tool, or in a tool_choice that names one; "" if there is none."""
    tool = mapping(value)
    return text(mapping(tool.get("function") or tool.get("custom")).get("name"))


def _chat_tools(tools: object) -> tuple[MockTool, ...]:
    return tuple(_chat_tool(mapping(t)) for t in items(tools) if tool_name(t))


def _chat_tool(tool: Body) -> MockTool:
    function, custom = mapping(tool.get("function")), mapping(tool.get("custom"))
    description = text((function or custom).get("description"))
    if function:
        strict = function.get("strict") is True
        parameters = mapping(function.get("parameters"))
        return MockTool(tool_name(tool), parameters, description, strict=strict)
    grammar = mapping(mapping(custom.get("format")).get("grammar"))
    pattern = text(grammar.get("definition")) if grammar.get("syntax") == "regex" else ""
    schema: JSON = {"type": "string"} | ({"pattern": f"^(?:{pattern})$"} if pattern else {})
    return MockTool(tool_name(tool), schema, description, custom=True)


# ---- schemas, and vLLM's `structured_outputs`

# The schema of JSON mode if the request gives none.
ANY_OBJECT: JSON = {
    "type": "object",
    "properties": {"answer": {"type": "string"}},
    "required": ["answer"],
}
_CONSTRAINTS = ("json", "regex", "choice", "grammar", "json_object", "structural_tag")
_LITERAL = re.compile(r'"((?:[^"\\]|\\.)*)"')
_CHOICE_OF_LITERALS = re.compile(
    rf"\s*root\s*::=\s*{_LITERAL.pattern}(?:\s*\|\s*{_LITERAL.pattern})*\s*"
)


def _response_format_schema(response_format: Body) -> object:
    """The schema that a response format asks for; None if it asks for none."""
    if response_format.get("type") == "json_object":
        return ANY_OBJECT
    if response_format.get("type") == "json_schema":
        return mapping(response_format.get("json_schema")).get("schema", ANY_OBJECT)
    return None


def _is_strict(response_format: Body) -> bool:
    """Whether every answer fits the schema; one of a response format may be a hint."""
    if response_format.get("type") != "json_schema":
        return True
    return mapping(response_format.get("json_schema")).get("strict") is True


def constraint_kinds(constraint: Body) -> list[str]:
    """The kinds of constraint that a request asks for in ``structured_outputs``."""
    return [kind for kind in _CONSTRAINTS if constraint.get(kind) is not None]


def constraint_schema(constraint: Body) -> object:
    """The schema that the answer must fit; None if the mock does not support the constraint."""
    if (schema := constraint.get("json")) is not None:
        return _from_json(schema) if isinstance(schema, str) else schema
    if constraint.get("json_object") is True:
        return ANY_OBJECT
    if pattern := text(constraint.get("regex")):
        return {"type": "string", "pattern": f"^(?:{pattern})$"}
    words = items(constraint.get("choice")) or literals(text(constraint.get("grammar")))
    return {"enum": words} if words else None


def literals(grammar: str) -> list[object]:
    """The texts of a grammar that is a choice of literals; empty for any other grammar."""
    if not _CHOICE_OF_LITERALS.fullmatch(grammar):
        return []
    return [_from_json(f'"{inner}"') or inner for inner in _LITERAL.findall(grammar)]


def _from_json(value: str) -> object:
    try:
        decoded: object = json.loads(value)
    except ValueError:
        return None
    return decoded


# ---- text completions and embeddings

_DEFAULT_TOKENS = 16  # OpenAI's default for max_tokens on this route
_DEFAULT_DIMENSIONS = 384
MAX_DIMENSIONS = 4096


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """A text completion: one request per prompt, and what to do with the answers.

    ``logprobs`` is the number of alternatives or None. Each request asks for ``best_of`` answers,
    and the first ``n`` are sent. ``generates`` is False if the token limit is 0.
    """

    requests: tuple[GenerationRequest, ...]
    n: int
    echo: bool
    logprobs: int | None
    generates: bool


def completion_request(body: Body) -> CompletionRequest:
    """The requests in the body of a text completion."""
    n = choice_count(body.get("n"))
    limit = integer(body.get("max_tokens"))
    logprobs = integer(body.get("logprobs"))
    return CompletionRequest(
        requests=tuple(_prompt_request(p, body, limit, n) for p in prompts(body.get("prompt"))),
        n=n,
        echo=body.get("echo") is True,
        logprobs=None if logprobs is None else max(0, logprobs),
        generates=limit != 0,
    )


def _prompt_request(prompt: str, body: Body, limit: int | None, n: int) -> GenerationRequest:
    return GenerationRequest(
        turns=(Turn("user", prompt),),
        temperature=number(body.get("temperature"), 1.0),
        top_p=number(body.get("top_p"), 1.0),
        seed=integer(body.get("seed")),
        max_tokens=_DEFAULT_TOKENS if limit is None or limit < 0 else limit,
        stop=strings(body.get("stop")),
        n=max(n, choice_count(body.get("best_of"))),
        logit_bias=mapping(body.get("logit_bias")),
        extra=text(body.get("suffix")) + _penalties(body),
        template=False,
    )


def prompts(value: object) -> list[str]:
    """Prompts or inputs as texts, given as a text, texts, token ids or lists of token ids."""
    if isinstance(value, str):
        return [value]
    parts = items(value)
    if parts and all(integer(p) is not None for p in parts):
        return [_detokenized(parts)]
    return [p if isinstance(p, str) else _detokenized(items(p)) for p in parts]


def _detokenized(ids: Sequence[object]) -> str:
    return " ".join(word(integer(i) or 0) for i in ids)


def dimension_count(value: object) -> int:
    """The number of dimensions of an embedding; a number out of range is replaced."""
    return min(max(integer(value) or _DEFAULT_DIMENSIONS, 1), MAX_DIMENSIONS)


# ---- the responses API

_CHOICES_WITHOUT_TOOLS = (None, "auto", "none")
_SAME_IN_CHAT = ("model", "temperature", "top_p", "parallel_tool_calls", "user", "metadata")


def responses_as_chat(body: Body, messages: Sequence[Body] | None = None) -> Body:
    """The body of the responses API as a chat body, with the input or with other messages."""
    chat = {k: body[k] for k in _SAME_IN_CHAT if k in body}
    if messages is None:
        messages = input_messages(body.get("input"))
    chat["messages"] = [*_system_message(body.get("instructions")), *messages]
    if body.get("max_output_tokens") is not None:
        chat["max_completion_tokens"] = body["max_output_tokens"]
    choice = body.get("tool_choice")
    if tools := _allowed_tools(body):
        chat["tools"] = [_responses_tool(t) for t in tools]
    if choice not in _CHOICES_WITHOUT_TOOLS or "tools" in chat:
        chat["tool_choice"] = _responses_tool_choice(choice)
    if verbosity := mapping(body.get("text")).get("verbosity"):
        chat["verbosity"] = verbosity
    if effort := mapping(body.get("reasoning")).get("effort"):
        chat["reasoning_effort"] = effort
    if text_format := mapping(body.get("text")).get("format"):
        chat["response_format"] = _responses_format(text_format)
    return chat


def _system_message(content: object) -> list[SystemMessage]:
    instructions = text(content)
    return [{"role": "system", "content": instructions}] if instructions else []


def input_messages(value: object) -> list[Body]:
    """The items of the input as chat messages; a string is one user message."""
    if isinstance(value, str):
        message: UserMessage = {"role": "user", "content": value}
        return [message]
    found = (_input_message(mapping(i)) for i in items(value))
    return [m for m in found if m is not None]


def _input_message(item: Body) -> Body | None:
    kind = item.get("type", "message")
    call_id = item.get("call_id")
    if kind == "message":
        return {"role": item.get("role"), "content": item.get("content")}
    if kind == "function_call":
        function = {"name": item.get("name"), "arguments": item.get("arguments")}
        call = {"id": call_id, "type": "function", "function": function}
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    if kind == "function_call_output":
        return {"role": "tool", "tool_call_id": call_id, "content": item.get("output")}
    return None


def _responses_tool(tool: object) -> object:
    if not isinstance(tool, dict) or tool.get("type") != "function":
        return tool
    return {"type": "function", "function": {k: v for k, v in tool.items() if k != "type"}}


def _allowed_tools(body: Body) -> list[object]:
    """The tools; with a ``tool_choice`` of allowed tools, only those that it names."""
    tools, choice = items(body.get("tools")), mapping(body.get("tool_choice"))
    if choice.get("type") != "allowed_tools":
        return tools
    allowed = [mapping(t).get("name") for t in items(choice.get("tools"))]
    return [t for t in tools if mapping(t).get("name") in allowed]


def _responses_tool_choice(choice: object) -> object:
    if not isinstance(choice, dict):
        return choice
    if choice.get("type") == "allowed_tools":
        return choice.get("mode")
    if choice.get("type") != "function":
        return choice
    return {"type": "function", "function": {"name": choice.get("name")}}


def _responses_format(text_format: object) -> object:
    if not isinstance(text_format, dict) or text_format.get("type") != "json_schema":
        return text_format
    if "schema" not in text_format:
        return {"type": "json_schema"}
    return {"type": "json_schema", "json_schema": text_format}


# ---- Ollama's own API

_OLLAMA_TEMPERATURE = 0.8
_OLLAMA_OPTIONS = {"temperature": "temperature", "seed": "seed", "num_predict": "max_tokens"}


def ollama_chat_as_chat(body: Body) -> Body:
    """The body of Ollama's ``/api/chat`` as a chat body."""
    messages = [_ollama_message(m) for m in items(body.get("messages")) if isinstance(m, dict)]
    return {"messages": messages, "tools": items(body.get("tools")), **_ollama_settings(body)}


def ollama_generate_as_chat(body: Body) -> Body:
    """The body of Ollama's ``/api/generate`` as a chat body: the system text, then the prompt."""
    system = _system_message(body.get("system"))
    prompt: UserMessage = {"role": "user", "content": text(body.get("prompt"))}
    return {"messages": [*system, prompt], **_ollama_settings(body)}


def _ollama_settings(body: Body) -> Body:
    options = mapping(body.get("options"))
    chat: JSON = {"temperature": _OLLAMA_TEMPERATURE, "stop": list(strings(options.get("stop")))}
    chat |= {ours: options[theirs] for theirs, ours in _OLLAMA_OPTIONS.items() if theirs in options}
    chat["reasoning_effort"] = _ollama_effort(body.get("think"))
    schema = ollama_schema(body.get("format"))
    if schema is not None:
        response_format: JSONSchemaFormat = {
            "type": "json_schema",
            "json_schema": {"name": "format", "schema": schema, "strict": True},
        }
        chat["response_format"] = response_format
    chat["logprobs"] = body.get("logprobs") is True
    chat["top_logprobs"] = integer(body.get("top_logprobs"))
    return chat


def _ollama_effort(think: object) -> str:
    return "medium" if think is True else text(think) or "none"


def ollama_schema(value: object) -> Body | None:
    """The schema for Ollama's ``format``, which is ``json`` or a schema; None for free text."""
    if value == "json":
        return ANY_OBJECT
    return value if isinstance(value, dict) and value else None


def _ollama_message(message: Body) -> JSON:
    """An Ollama message as a chat message; Ollama's calls have arguments as an object and no id."""
    calls = [
        _ollama_call(mapping(mapping(c).get("function"))) for c in items(message.get("tool_calls"))
    ]
    plain = {"role": message.get("role"), "content": message.get("content")}
    return {**plain, "tool_calls": calls} if calls else plain


def _ollama_call(function: Body) -> JSON:
    arguments = json.dumps(function.get("arguments"), ensure_ascii=False)
    return {"function": {"name": function.get("name"), "arguments": arguments}}
