"""Ollama's own API: chat and generate, whole and as NDJSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from llmengine.mock.chat import top_logprobs
from llmengine.mock.chat_body import chat_ask
from llmengine.mock.generation import answer
from llmengine.mock.logprobs import chat_entries
from llmengine.mock.ollama_body import chat_as_chat, generate_as_chat
from llmengine.mock.replies import Framing, Stream, Whole, new_id
from llmengine.mock.text import token_id, tokenize

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmengine.mock.ask import Ask
    from llmengine.mock.behaviour import JSON
    from llmengine.mock.generation import Said
    from llmengine.mock.replies import Answer
    from llmengine.mock.service import Service

_Piece = Callable[..., "JSON"]
_NANOSECONDS_A_TOKEN = 1_000_000
_ID_LENGTH = 8


def chat(body: JSON, service: Service) -> Answer:
    """Answer ``/api/chat``."""
    if not body.get("messages"):
        return _nothing_asked(body, service, _message())
    asked = chat_as_chat(body)
    ask = service.fitted(chat_ask(asked))
    said = answer(ask, service.next_reply())[0]
    return _answer(body, service, (ask, said, top_logprobs(asked)), _message, {})


def generate(body: JSON, service: Service) -> Answer:
    """Answer ``/api/generate``."""
    if not body.get("prompt"):
        return _nothing_asked(body, service, _response())
    asked = generate_as_chat(body)
    ask = service.fitted(chat_ask(asked))
    said = answer(ask, service.next_reply())[0]
    context = {} if body.get("raw") is True else {"context": _context(ask, said)}
    return _answer(body, service, (ask, said, top_logprobs(asked)), _response, context)


def _message(content: str = "", thinking: str = "", calls: list[JSON] | None = None) -> JSON:
    message: JSON = {"role": "assistant", "content": content}
    if thinking:
        message["thinking"] = thinking
    if calls:
        message["tool_calls"] = calls
    return {"message": message}


def _response(content: str = "", thinking: str = "", calls: list[JSON] | None = None) -> JSON:
    return {"response": content} | ({"thinking": thinking} if thinking else {})


def _context(ask: Ask, said: Said) -> list[int]:
    return [token_id(t) for t in (*tokenize("\n".join(x.text for x in ask.turns)), *said.tokens)]


def _nothing_asked(body: JSON, service: Service, empty: JSON) -> Answer:
    """Without a prompt Ollama loads the model, or unloads it where it is to be kept for no time."""
    reason = "unload" if body.get("keep_alive") == 0 else "load"
    return _sent(body, [{**_head(body, service), **empty, "done": True, "done_reason": reason}])


def _answer(
    body: JSON,
    service: Service,
    generated: tuple[Ask, Said, int | None],
    piece: _Piece,
    context: JSON,
) -> Answer:
    ask, said, top = generated
    end = {
        "done": True,
        "done_reason": "length" if said.finish == "length" else "stop",
        **context,
        **_measures(ask, said),
    }
    head = _head(body, service)
    if body.get("stream") is False:
        whole = piece(said.text, "".join(said.reasoning), _calls(said))
        return Whole({**head, **whole, **end, **_logprobs(said.tokens, top, 0)})
    parts = _parts(said, top, piece)
    return _sent(body, [*({**head, **p, "done": False} for p in parts), {**head, **piece(), **end}])


def _parts(said: Said, top: int | None, piece: _Piece) -> Iterator[JSON]:
    for token in said.reasoning:
        yield piece("", token)
    for place, token in enumerate(said.tokens):
        yield piece(token) | _logprobs((token,), top, place)
    for call in _calls(said):
        yield piece("", "", [call])


def _sent(body: JSON, objects: list[JSON]) -> Answer:
    if body.get("stream") is False:
        return Whole(objects[-1])
    return Stream(objects, Framing.NDJSON)


def _head(body: JSON, service: Service) -> JSON:
    return {"model": service.echo(body), "created_at": timestamp()}


def timestamp() -> str:
    """Now, to the nanosecond, as Ollama writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")


def _logprobs(tokens: tuple[str, ...], top: int | None, place: int) -> JSON:
    return {} if top is None else {"logprobs": chat_entries(tokens, top, place)}


def _calls(said: Said) -> list[JSON]:
    """Whole calls: one that the token limit cut has no arguments to show."""
    return [
        {
            "id": new_id("call_")[: len("call_") + _ID_LENGTH],
            "function": {"index": i, "name": c.name, "arguments": json.loads("".join(c.arguments))},
        }
        for i, c in enumerate(said.calls)
        if said.finish != "length"
    ]


def _measures(ask: Ask, said: Said) -> JSON:
    """Token counts, and durations in nanoseconds as a machine of even speed would take."""
    prompt = ask.prompt_tokens * _NANOSECONDS_A_TOKEN
    generation = said.completion_tokens * _NANOSECONDS_A_TOKEN
    return {
        "total_duration": _NANOSECONDS_A_TOKEN + prompt + generation,
        "load_duration": _NANOSECONDS_A_TOKEN,
        "prompt_eval_count": ask.prompt_tokens,
        "prompt_eval_duration": prompt,
        "eval_count": said.completion_tokens,
        "eval_duration": generation,
    }
