"""Ollama's own API: models, pulls, and ``chat`` and ``generate``, whole and as NDJSON."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from llmengine.mock.bodies import chat_request, ollama_chat_as_chat, ollama_generate_as_chat
from llmengine.mock.chat import top_logprobs
from llmengine.mock.json_fields import text
from llmengine.mock.logprobs import answer_logprobs
from llmengine.mock.model import generate as generate_answers
from llmengine.mock.service import tagged
from llmengine.mock.text import token_id, tokenize
from llmengine.mock.usage import TokenCounts
from llmengine.mock.wire import ApiError, Framing, JSONAnswer, StreamAnswer, TextAnswer, new_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmengine.mock.behaviour import JSON
    from llmengine.mock.json_fields import Body
    from llmengine.mock.model import GeneratedAnswer, GenerationRequest
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


def root(body: Body, service: Service) -> MockAnswer:
    """Return the text at Ollama's root, by which clients see whether the server is up."""
    return TextAnswer("Ollama is running")


def version(body: Body, service: Service) -> MockAnswer:
    """Return the version."""
    return JSONAnswer({"version": VERSION})


def tags(body: Body, service: Service) -> MockAnswer:
    """List the served models and all pulled ones, as if they were on disk."""
    details = {**_DETAILS, "context_length": service.context_length, "embedding_length": 384}
    fields = {"modified_at": timestamp(), "details": details, "capabilities": _CAPABILITIES}
    return JSONAnswer({"models": [_entry(tag) | fields for tag in service.tags]})


def running(body: Body, service: Service) -> MockAnswer:
    """List the served models, as if they were loaded into memory."""
    fields = {
        "details": _DETAILS,
        "expires_at": timestamp(),
        "size_vram": 0,
        "context_length": service.context_length,
    }
    return JSONAnswer({"models": [_entry(tagged(name)) | fields for name in service.models]})


def show(body: Body, service: Service) -> MockAnswer:
    """Describe the model."""
    return JSONAnswer(
        {
            "modelfile": f"FROM {tagged(service.model_name(body))}\n",
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
    """A hash of the model's name, in place of the digest of its weights."""
    return hashlib.sha256(tag.encode()).hexdigest()


MISSING = "no-such"  # the mock's registry has no models whose names start with this
_NO_MANIFEST = "pull model manifest: file does not exist"


def pull(body: Body, service: Service) -> MockAnswer:
    """Pull a model, which the server has from now on, and send the progress line by line.

    As in Ollama, a failure in a stream is a line of its own, after status 200. Without a stream a
    failure is a 500.
    """
    name = text(body.get("model"))
    streamed = body.get("stream") is not False
    if name.startswith(MISSING):
        if not streamed:
            raise ApiError(_NO_MANIFEST, status=500)
        return StreamAnswer(
            [{"status": "pulling manifest"}, {"error": _NO_MANIFEST}], Framing.NDJSON
        )
    service.pulled.add(name)
    lines = list(_progress(tagged(name)))
    return StreamAnswer(lines, Framing.NDJSON) if streamed else JSONAnswer(lines[-1])


def _progress(tag: str) -> Iterator[JSON]:
    digest = digest_of(tag)
    yield {"status": "pulling manifest"}
    layer = {"status": f"pulling {digest[:12]}", "digest": f"sha256:{digest}", "total": SIZE}
    yield layer
    yield layer | {"completed": SIZE // 2}
    yield layer | {"completed": SIZE}
    for status in ("verifying sha256 digest", "writing manifest", "success"):
        yield {"status": status}


# Ollama's word for OpenAI's reasons; any other scripted reason is sent as it is.
_DONE_REASONS = {"tool_calls": "stop", "content_filter": "stop"}
_NANOSECONDS_PER_TOKEN = 1_000_000
_ID_LENGTH = 8


def chat(body: Body, service: Service) -> MockAnswer:
    """Answer ``/api/chat``."""
    if not body.get("messages"):
        return _without_prompt(body, service, _content(is_chat=True))
    return _answer(body, ollama_chat_as_chat(body), service, is_chat=True)


def generate(body: Body, service: Service) -> MockAnswer:
    """Answer ``/api/generate``."""
    if not body.get("prompt"):
        return _without_prompt(body, service, _content(is_chat=False))
    return _answer(body, ollama_generate_as_chat(body), service, is_chat=False)


def _content(
    content: str = "", thinking: str = "", calls: list[JSON] | None = None, *, is_chat: bool
) -> JSON:
    """The fields with the content: ``message`` in a chat, else ``response`` and ``thinking``."""
    thought = {"thinking": thinking} if thinking else {}
    if not is_chat:
        return {"response": content, **thought}
    tool_calls = {"tool_calls": calls} if calls else {}
    return {"message": {"role": "assistant", "content": content, **thought, **tool_calls}}


def _without_prompt(body: Body, service: Service, empty: JSON) -> MockAnswer:
    """Without a prompt Ollama loads the model, or unloads it if ``keep_alive`` is 0."""
    reason = "unload" if body.get("keep_alive") == 0 else "load"
    end = {**_head(body, service), **empty, "done": True, "done_reason": reason}
    if body.get("stream") is False:
        return JSONAnswer(end)
    return StreamAnswer([end], Framing.NDJSON)


def _answer(body: Body, chat_body: Body, service: Service, *, is_chat: bool) -> MockAnswer:
    request = service.with_token_limit(chat_request(chat_body))
    answer = generate_answers(request, service.next_reply())[0]
    top = top_logprobs(chat_body)
    with_context = not is_chat and body.get("raw") is not True
    end = {
        "done": True,
        "done_reason": _DONE_REASONS.get(answer.finish, answer.finish),
        **({"context": _context(request, answer)} if with_context else {}),
        **_measures(request, answer),
    }
    head = _head(body, service)
    if body.get("stream") is False:
        thinking = "".join(answer.reasoning)
        whole = _content(answer.text, thinking, _tool_calls(answer), is_chat=is_chat)
        return JSONAnswer({**head, **whole, **end, **_logprobs(answer, top)})
    parts = [{**head, **part, "done": False} for part in _parts(answer, top, is_chat=is_chat)]
    last = {**head, **_content(is_chat=is_chat), **end}
    return StreamAnswer([*parts, last], Framing.NDJSON)


def _parts(answer: GeneratedAnswer, top: int | None, *, is_chat: bool) -> Iterator[JSON]:
    for token in answer.reasoning:
        yield _content(thinking=token, is_chat=is_chat)
    for index, token in enumerate(answer.tokens):
        yield _content(token, is_chat=is_chat) | _logprobs(answer, top, index, index + 1)
    for call in _tool_calls(answer):
        yield _content(calls=[call], is_chat=is_chat)


def _head(body: Body, service: Service) -> JSON:
    return {"model": service.model_name(body), "created_at": timestamp()}


def timestamp() -> str:
    """The current time in Ollama's format, with nanoseconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")


def _logprobs(
    answer: GeneratedAnswer, top: int | None, first: int = 0, last: int | None = None
) -> JSON:
    return {} if top is None else {"logprobs": answer_logprobs(answer, top, first, last)}


def _tool_calls(answer: GeneratedAnswer) -> list[JSON]:
    """The calls; none if the token limit cut the answer."""
    return [
        {
            "id": new_id("call_")[: len("call_") + _ID_LENGTH],
            "function": {"index": i, "name": c.name, "arguments": json.loads("".join(c.arguments))},
        }
        for i, c in enumerate(answer.calls)
        if answer.finish != "length"
    ]


def _context(request: GenerationRequest, answer: GeneratedAnswer) -> list[int]:
    """The token ids of the conversation."""
    tokens = (*tokenize("\n".join(turn.text for turn in request.turns)), *answer.tokens)
    return [token_id(token) for token in tokens]


def _measures(request: GenerationRequest, answer: GeneratedAnswer) -> JSON:
    """Token counts, and durations in nanoseconds, as if every token took the same time."""
    counts = TokenCounts.of(request.prompt_tokens, [answer])
    prompt = counts.prompt_tokens * _NANOSECONDS_PER_TOKEN
    generation = counts.completion_tokens * _NANOSECONDS_PER_TOKEN
    return {
        "total_duration": _NANOSECONDS_PER_TOKEN + prompt + generation,
        "load_duration": _NANOSECONDS_PER_TOKEN,
        "prompt_eval_count": counts.prompt_tokens,
        "prompt_eval_duration": prompt,
        "eval_count": counts.completion_tokens,
        "eval_duration": generation,
    }
