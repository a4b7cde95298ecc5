"""Ollama's own API: models, pulling a model, and chat and generate, whole and as NDJSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from llmengine.mock.bodies import chat_as_chat, chat_ask, generate_as_chat
from llmengine.mock.chat import chat_entries, top_logprobs
from llmengine.mock.json_fields import text
from llmengine.mock.model import answer
from llmengine.mock.service import tagged
from llmengine.mock.text import token_id, tokenize
from llmengine.mock.wire import ApiError, Framing, Plain, Stream, Whole, new_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmengine.mock.behaviour import JSON
    from llmengine.mock.model import GenerationRequest, Said
    from llmengine.mock.service import Service
    from llmengine.mock.wire import MockAnswer


# Newer than every version that clients require for a feature.
VERSION = "0.99.0-mock"
SIZE = 1_000_000  # bytes
_CAPABILITIES = ["completion", "tools", "thinking", "vision"]
_DETAILS: JSON = {
    "parent_model": "",
    "format": "gguf",
    "family": "mock",
    "families": ["mock"],
    "parameter_size": "1M",
    "quantization_level": "Q4_0",
}


def root(body: JSON, service: Service) -> MockAnswer:
    """The text at Ollama's root; clients request it to see whether the server is up."""
    return Plain("Ollama is running")


def version(body: JSON, service: Service) -> MockAnswer:
    """Return the version."""
    return Whole({"version": VERSION})


def tags(body: JSON, service: Service) -> MockAnswer:
    """List the model and all pulled models as stored on disk."""
    details = {**_DETAILS, "context_length": service.context_length, "embedding_length": 384}
    stored = {"modified_at": timestamp(), "details": details, "capabilities": _CAPABILITIES}
    return Whole({"models": [_entry(tag) | stored for tag in service.tags]})


def running(body: JSON, service: Service) -> MockAnswer:
    """List the model as loaded into memory."""
    loaded = {
        **_entry(service.tag),
        "details": _DETAILS,
        "expires_at": timestamp(),
        "size_vram": 0,
        "context_length": service.context_length,
    }
    return Whole({"models": [loaded]})


def show(body: JSON, service: Service) -> MockAnswer:
    """Describe the model."""
    return Whole(
        {
            "modelfile": f"FROM {service.tag}\n",
            "parameters": f"num_ctx {service.context_length}",
            "template": "{{ .Prompt }}",
            "details": _DETAILS,
            "model_info": {
                "general.architecture": "mock",
                "mock.context_length": service.context_length,
                "mock.embedding_length": 384,
            },
            "capabilities": _CAPABILITIES,
            "modified_at": timestamp(),
        }
    )


def _entry(tag: str) -> JSON:
    return {"name": tag, "model": tag, "size": SIZE, "digest": digest_of(tag)}


def digest_of(tag: str) -> str:
    """A hash, made of the model's name, in place of the digest of its weights."""
    return hashlib.sha256(tag.encode()).hexdigest()


MISSING = "no-such"  # models whose names start with this are not in the mock's registry
_NOT_THERE = "pull model manifest: file does not exist"


def pull(body: JSON, service: Service) -> MockAnswer:
    """Pull a model, which is served from now on; the progress is sent line by line.

    As in Ollama, a failure in a stream is a line of its own, after status 200. Without a stream a
    failure is a 500.
    """
    name = text(body.get("model"))
    streamed = body.get("stream") is not False
    if name.startswith(MISSING):
        if not streamed:
            raise ApiError(_NOT_THERE, status=500)
        return Stream([{"status": "pulling manifest"}, {"error": _NOT_THERE}], Framing.NDJSON)
    service.pulled.add(name)
    lines = list(_progress(tagged(name)))
    return Stream(lines, Framing.NDJSON) if streamed else Whole(lines[-1])


def _progress(tag: str) -> Iterator[JSON]:
    digest = digest_of(tag)
    yield {"status": "pulling manifest"}
    layer = {"status": f"pulling {digest[:12]}", "digest": f"sha256:{digest}", "total": SIZE}
    yield layer
    yield layer | {"completed": SIZE // 2}
    yield layer | {"completed": SIZE}
    for status in ("verifying sha256 digest", "writing manifest", "success"):
        yield {"status": status}


_Piece = Callable[..., "JSON"]
_NANOSECONDS_A_TOKEN = 1_000_000
_ID_LENGTH = 8


def chat(body: JSON, service: Service) -> MockAnswer:
    """Answer ``/api/chat``."""
    if not body.get("messages"):
        return _nothing_asked(body, service, _message())
    asked = chat_as_chat(body)
    ask = service.fitted(chat_ask(asked))
    said = answer(ask, service.next_reply())[0]
    return _answer(body, service, (ask, said, top_logprobs(asked)), _message, {})


def generate(body: JSON, service: Service) -> MockAnswer:
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


def _context(ask: GenerationRequest, said: Said) -> list[int]:
    return [token_id(t) for t in (*tokenize("\n".join(x.text for x in ask.turns)), *said.tokens)]


def _nothing_asked(body: JSON, service: Service, empty: JSON) -> MockAnswer:
    """Without a prompt Ollama loads the model, or unloads it if ``keep_alive`` is 0."""
    reason = "unload" if body.get("keep_alive") == 0 else "load"
    return _sent(body, [{**_head(body, service), **empty, "done": True, "done_reason": reason}])


def _answer(
    body: JSON,
    service: Service,
    generated: tuple[GenerationRequest, Said, int | None],
    piece: _Piece,
    context: JSON,
) -> MockAnswer:
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


def _sent(body: JSON, objects: list[JSON]) -> MockAnswer:
    if body.get("stream") is False:
        return Whole(objects[-1])
    return Stream(objects, Framing.NDJSON)


def _head(body: JSON, service: Service) -> JSON:
    return {"model": service.echo(body), "created_at": timestamp()}


def timestamp() -> str:
    """The current time in Ollama's format, with nanoseconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")


def _logprobs(tokens: tuple[str, ...], top: int | None, place: int) -> JSON:
    return {} if top is None else {"logprobs": chat_entries(tokens, top, place)}


def _calls(said: Said) -> list[JSON]:
    """The complete calls; a call that the token limit cut is left out."""
    return [
        {
            "id": new_id("call_")[: len("call_") + _ID_LENGTH],
            "function": {"index": i, "name": c.name, "arguments": json.loads("".join(c.arguments))},
        }
        for i, c in enumerate(said.calls)
        if said.finish != "length"
    ]


def _measures(ask: GenerationRequest, said: Said) -> JSON:
    """Token counts, and durations in nanoseconds as if every token took the same time."""
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
