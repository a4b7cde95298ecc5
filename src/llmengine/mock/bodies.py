"""Translates the request bodies of every API of the mock to requests for its model.

The bodies of the responses API and of Ollama's own API are first translated to those of chat
completions. These functions accept any JSON, because validation rules may be switched off.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmengine.mock.json_fields import integer, items, mapping, number, strings, text
from llmengine.mock.model import GenerationRequest, MockTool, Turn
from llmengine.mock.text import word

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON


# The schema of JSON mode if the request gives none.
ANY_OBJECT: JSON = {
    "type": "object",
    "properties": {"answer": {"type": "string"}},
    "required": ["answer"],
}
# The kinds of constraint in vLLM's `structured_outputs`.
KINDS = ("json", "regex", "choice", "grammar", "json_object", "structural_tag")
_LITERAL = re.compile(r'"((?:[^"\\]|\\.)*)"')
_OF_LITERALS = re.compile(rf"\s*root\s*::=\s*{_LITERAL.pattern}(?:\s*\|\s*{_LITERAL.pattern})*\s*")


def given_kinds(wanted: JSON) -> list[str]:
    """The kinds of constraint that a request asks for."""
    return [kind for kind in KINDS if wanted.get(kind) is not None]


def schema_of(wanted: JSON) -> Any:
    """The schema that the answer must fit; None if there is none or the mock cannot play it."""
    if (schema := wanted.get("json")) is not None:
        return _parsed(schema) if isinstance(schema, str) else schema
    if wanted.get("json_object") is True:
        return ANY_OBJECT
    if pattern := text(wanted.get("regex")):
        return {"type": "string", "pattern": f"^(?:{pattern})$"}
    words = items(wanted.get("choice")) or literals(text(wanted.get("grammar")))
    return {"enum": words} if words else None


def is_plain(wanted: JSON) -> bool:
    """Whether the answer is plain text and not JSON."""
    return not mapping(wanted).keys() & {"json", "json_object"}


def literals(grammar: str) -> list[str]:
    """The texts of a grammar that is a choice of literals, the only kind that the mock plays."""
    if not _OF_LITERALS.fullmatch(grammar):
        return []
    return [_parsed(f'"{found}"') or found for found in _LITERAL.findall(grammar)]


def _parsed(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return None


_MAX_CHOICES = 128
_QUIET = frozenset({"", "none", "minimal"})


def chat_ask(body: JSON) -> GenerationRequest:
    """The request in the body of a chat completion."""
    choice = body.get("tool_choice")
    named = text(mapping(mapping(choice).get("function")).get("name"))
    limit = integer(body.get("max_completion_tokens"))
    constraint = mapping(body.get("structured_outputs"))
    return GenerationRequest(
        turns=chat_turns(body.get("messages")),
        temperature=number(body.get("temperature"), 1.0),
        seed=integer(body.get("seed")),
        max_tokens=positive(limit if limit is not None else body.get("max_tokens")),
        stop=strings(body.get("stop")),
        n=choices(body.get("n")),
        tools=chat_tools(body.get("tools")),
        tool_choice=named or text(choice) or "auto",
        named=bool(named),
        parallel=body.get("parallel_tool_calls") is not False,
        schema=wanted_schema(mapping(body.get("response_format"))) or schema_of(constraint),
        plain=bool(constraint) and is_plain(constraint),
        reasoning=text(body.get("reasoning_effort")) not in _QUIET,
        logit_bias=mapping(body.get("logit_bias")),
    )


def positive(value: Any) -> int | None:
    """A token limit; None, for no limit, if the value is not a positive number."""
    limit = integer(value)
    return limit if limit is not None and limit > 0 else None


def choices(value: Any) -> int:
    """The number of answers; a number out of range is replaced by the nearest valid one."""
    return min(max(integer(value) or 1, 1), _MAX_CHOICES)


def chat_turns(messages: Any) -> tuple[Turn, ...]:
    """The messages as text."""
    found = (m for m in items(messages) if isinstance(m, dict))
    return tuple(Turn(text(m.get("role")), _message_text(m)) for m in found)


def _message_text(message: JSON) -> str:
    said = content_text(message.get("content"))
    functions = (mapping(mapping(c).get("function")) for c in items(message.get("tool_calls")))
    calls = (f"{text(f.get('name'))}({_arguments(f.get('arguments'))})" for f in functions)
    return "\n".join(t for t in (said, *calls) if t)


def _arguments(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def content_text(content: Any) -> str:
    """A message's content as one text: a string, or its text parts joined."""
    if isinstance(content, str):
        return content
    return "".join(text(mapping(p).get("text")) for p in items(content))


def chat_tools(tools: Any) -> tuple[MockTool, ...]:
    """The functions that the model may call."""
    functions = (mapping(mapping(t).get("function")) for t in items(tools))
    return tuple(tool(f) for f in functions if text(f.get("name")))


def tool(function: JSON) -> MockTool:
    """Read a function in the form that OpenAI and Ollama use."""
    parameters = mapping(function.get("parameters"))
    return MockTool(function["name"], parameters, text(function.get("description")))


def wanted_schema(wanted: JSON) -> Any:
    """The schema that a response format asks for, or None."""
    if wanted.get("type") == "json_object":
        return ANY_OBJECT
    if wanted.get("type") == "json_schema":
        return mapping(wanted.get("json_schema")).get("schema", ANY_OBJECT)
    return None


_DEFAULT_TOKENS = 16  # OpenAI's default for max_tokens on this route


@dataclass(frozen=True, slots=True)
class Completion:
    """A text completion: one request per prompt, and how to show the answers.

    ``logprobs`` is the number of alternatives or None. Each request asks for ``best_of`` answers
    and the first ``n`` are shown. ``generates`` is False if the token limit is 0.
    """

    asks: tuple[GenerationRequest, ...]
    n: int
    echo: bool
    logprobs: int | None
    generates: bool


def completion(body: JSON) -> Completion:
    """The requests in the body of a text completion."""
    n = choices(body.get("n"))
    limit = integer(body.get("max_tokens"))
    logprobs = integer(body.get("logprobs"))
    return Completion(
        asks=tuple(_ask(p, body, limit, n) for p in prompts(body.get("prompt"))),
        n=n,
        echo=body.get("echo") is True,
        logprobs=None if logprobs is None else max(0, logprobs),
        generates=limit != 0,
    )


def _ask(prompt: str, body: JSON, limit: int | None, n: int) -> GenerationRequest:
    return GenerationRequest(
        turns=(Turn("user", prompt),),
        temperature=number(body.get("temperature"), 1.0),
        seed=integer(body.get("seed")),
        max_tokens=_DEFAULT_TOKENS if limit is None or limit < 0 else limit,
        stop=strings(body.get("stop")),
        n=max(n, choices(body.get("best_of"))),
        logit_bias=mapping(body.get("logit_bias")),
        extra=text(body.get("suffix")),
        template=False,
    )


def prompts(value: Any) -> list[str]:
    """Prompts or inputs as texts, given as a text, texts, token ids or lists of token ids."""
    if isinstance(value, str):
        return [value]
    parts = items(value)
    if parts and all(integer(p) is not None for p in parts):
        return [_detokenized(parts)]
    return [p if isinstance(p, str) else _detokenized(items(p)) for p in parts]


def _detokenized(ids: list[Any]) -> str:
    return " ".join(word(integer(i) or 0) for i in ids)


_CHOICES_WITHOUT_TOOLS = (None, "auto", "none")
_SAME = ("model", "temperature", "top_p", "parallel_tool_calls", "user", "metadata")


def as_chat(body: JSON, history: list[JSON] | None = None) -> JSON:
    """The body of the responses API as a chat body, after the messages of an earlier response."""
    chat: JSON = {k: body[k] for k in _SAME if k in body}
    chat["messages"] = [*_instructions(body), *(history or ()), *messages(body.get("input"))]
    if body.get("max_output_tokens") is not None:
        chat["max_completion_tokens"] = body["max_output_tokens"]
    if body.get("tools"):
        chat["tools"] = [_tool(t) for t in items(body["tools"])]
    if body.get("tool_choice") not in _CHOICES_WITHOUT_TOOLS or "tools" in chat:
        chat["tool_choice"] = _tool_choice(body.get("tool_choice"))
    if effort := mapping(body.get("reasoning")).get("effort"):
        chat["reasoning_effort"] = effort
    if wanted := mapping(body.get("text")).get("format"):
        chat["response_format"] = _response_format(wanted)
    return chat


def _instructions(body: JSON) -> list[JSON]:
    given = text(body.get("instructions"))
    return [{"role": "system", "content": given}] if given else []


def messages(given: Any) -> list[JSON]:
    """The items of the input as chat messages; a string is one user message."""
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    found = (_message(mapping(i)) for i in items(given))
    return [m for m in found if m is not None]


def _message(item: JSON) -> JSON | None:
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


def _tool(tool: Any) -> Any:
    if not isinstance(tool, dict) or tool.get("type") != "function":
        return tool
    return {"type": "function", "function": {k: v for k, v in tool.items() if k != "type"}}


def _tool_choice(choice: Any) -> Any:
    if not isinstance(choice, dict) or choice.get("type") != "function":
        return choice
    return {"type": "function", "function": {"name": choice.get("name")}}


def _response_format(wanted: Any) -> Any:
    if not isinstance(wanted, dict) or wanted.get("type") != "json_schema":
        return wanted
    if "schema" not in wanted:
        return {"type": "json_schema"}
    return {"type": "json_schema", "json_schema": wanted}


_DEFAULT_TEMPERATURE = 0.8
_OPTIONS = {"temperature": "temperature", "seed": "seed", "num_predict": "max_tokens"}


def chat_as_chat(body: JSON) -> JSON:
    """The body of Ollama's ``/api/chat`` as a chat body."""
    return {
        "messages": [
            _ollama_message(m) for m in items(body.get("messages")) if isinstance(m, dict)
        ],
        "tools": items(body.get("tools")),
        **_shared(body),
    }


def generate_as_chat(body: JSON) -> JSON:
    """The body of Ollama's ``/api/generate`` as a chat body: the system text, then the prompt."""
    system, prompt = text(body.get("system")), text(body.get("prompt"))
    before = [{"role": "system", "content": system}] if system else []
    return {"messages": [*before, {"role": "user", "content": prompt}], **_shared(body)}


def _shared(body: JSON) -> JSON:
    options = mapping(body.get("options"))
    asked: JSON = {"temperature": _DEFAULT_TEMPERATURE, "stop": list(strings(options.get("stop")))}
    asked |= {chat: options[own] for own, chat in _OPTIONS.items() if own in options}
    asked["reasoning_effort"] = _effort(body.get("think"))
    schema = ollama_schema(body.get("format"))
    if schema is not None:
        wanted = {"name": "format", "schema": schema}
        asked["response_format"] = {"type": "json_schema", "json_schema": wanted}
    asked["logprobs"] = body.get("logprobs") is True
    asked["top_logprobs"] = integer(body.get("top_logprobs"))
    return asked


def _effort(think: Any) -> str:
    if think is True:
        return "medium"
    return text(think) or "none"


def ollama_schema(given: Any) -> Any:
    """The schema for Ollama's ``format``, which is ``json`` or a schema; None for free text."""
    if given == "json":
        return ANY_OBJECT
    return given if isinstance(given, dict) and given else None


def _ollama_message(message: JSON) -> JSON:
    """An Ollama message as a chat message; Ollama's calls have arguments as an object and no id."""
    calls = [_call(mapping(mapping(c).get("function"))) for c in items(message.get("tool_calls"))]
    plain = {"role": message.get("role"), "content": message.get("content")}
    return {**plain, "tool_calls": calls} if calls else plain


def _call(function: JSON) -> JSON:
    arguments = json.dumps(function.get("arguments"), ensure_ascii=False)
    return {"function": {"name": function.get("name"), "arguments": arguments}}
